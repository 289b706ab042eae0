# SPDX-License-Identifier: Apache-2.0
"""What ``tfmot-kws evaluate`` says of a model on long recordings: the table, the picture, the numbers for JSON."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import rich.console

from tfmot_kws.commands.parts import intervals, results
from tfmot_kws.commands.parts.console import table
from tfmot_kws.commands.parts.evaluate_streams import Measured, Options, Recording
from tfmot_kws.evaluation import mlperf
from tfmot_kws.evaluation.stream_results import Result, StreamEvaluation

COLUMNS = (
    {"key": "word", "label": "keyword", "format": ""},
    {"key": "targets", "label": "said", "format": ",d"},
    {"key": "threshold", "label": "threshold", "format": ".3f"},
    {"key": "missed", "label": "missed\n(95 %)", "format": "", "justify": "right"},
    {"key": "false_accepts", "label": "FA", "format": ",d"},
    {"key": "rate", "label": "FA/h\n(95 %)", "format": "", "justify": "right"},
    {"key": "median", "label": "latency\ns", "format": ".2f"},
    {"key": "late", "label": "95 %\ns", "format": ".2f"},
)
COMPARED_COLUMNS = (
    {"key": "model", "label": "model", "format": ""},
    *(column for column in COLUMNS if column["key"] not in ("targets", "median", "late")),
)


def metrics(
    measured: Measured, options: Options, others: Mapping[str, StreamEvaluation] | None = None
) -> dict[str, Any]:
    """Plain values for JSON; shares are 0..1, times seconds. others: what models of ``--compare`` did, by name."""
    others = others or {}
    recordings = {recording.name: recording for recording in measured.sound.recordings}
    evaluation = measured.evaluation
    config = evaluation.config
    return {
        "recordings": [path.absolute().name for path in (options.streams, options.negatives) if path is not None],
        "seconds": measured.sound.seconds,
        "times_real_time": measured.sound.seconds / measured.spent,
        "detector": {
            "mode": config.mode,
            "keywords": dict(zip(evaluation.words, config.keywords)),
            "thresholds": dict(zip(evaluation.words, config.thresholds)),
            "sum_thresholds": dict(zip(evaluation.words, config.sum_thresholds)),
            "smooth_seconds": measured.chosen.smooth,
            "refractory_seconds": measured.chosen.refractory,
            "smooth_steps": config.smooth,
            "refractory_steps": config.refractory,
            "scale": config.scale,
            "zero_point": config.zero_point,
        },
        "fa_per_hour_wanted": None if options.threshold is not None else options.fa_per_hour,
        "tolerance": options.tolerance,
        **_found(evaluation),
        "mlperf_tiny": {
            **dataclasses.asdict(evaluation.mlperf),
            "passed": evaluation.mlperf.passed,
            "comparable": evaluation.mlperf.comparable,
        },
        "events": [
            {**dataclasses.asdict(one), **_where(recordings[one.stream], one.time)} for one in evaluation.events
        ],
        "misses": [
            {**dataclasses.asdict(one), **_where(recordings[one.stream], one.start)} for one in evaluation.misses
        ],
        "compared": {
            name: {
                "detector": {"mode": other.config.mode, "thresholds": dict(zip(other.words, other.config.thresholds))},
                **_found(other),
            }
            for name, other in others.items()
        },
    }


def _found(evaluation: StreamEvaluation) -> dict[str, Any]:
    return {
        "keywords": {word: _numbers(result) for word, result in evaluation.results.items()},
        "all": _numbers(evaluation.pooled),
        "curves": {
            word: {
                "thresholds": curve.thresholds.tolist(),
                "frr": curve.frr.tolist() if curve.targets else None,
                "frr_intervals": curve.frr_intervals().tolist() if curve.targets else None,
                "fa_per_hour": curve.fa_per_hour.tolist(),
            }
            for word, curve in evaluation.curves.items()
        },
    }


def _where(recording: Recording, time: float) -> dict[str, Any]:
    """The file that is heard; recordings of ``--negatives`` are several files joined."""
    path, seconds = recording.where(time)
    return {"file": path.name, "file_time": seconds}


def _numbers(result: Result) -> dict[str, Any]:
    return {
        "targets": result.targets,
        "hits": result.hits,
        "frr": result.frr,
        "frr_interval": result.frr_interval,
        "speakers": len(result.speaker_targets) or None,
        "false_accepts": result.false_accepts,
        "hours": result.hours,
        "fa_per_hour": result.fa_per_hour,
        "fa_per_hour_interval": result.fa_interval,
        "latency_median": result.latency(50.0),
        "latency_95": result.latency(95.0),
    }


def rate_text(result: Result) -> str:
    """False accepts an hour as they are reported: "0.5 FA/h (95 %: 0.2..1.1 in 5.0 h)"."""
    return intervals.rate(result.fa_per_hour, result.fa_interval, result.hours)


def rows(evaluation: StreamEvaluation) -> list[dict[str, Any]]:
    """A row of ``COLUMNS`` for each keyword, and one for all where there are several."""
    found = [
        {"word": word, "threshold": threshold, **_row(evaluation.results[word])}
        for word, threshold in zip(evaluation.words, evaluation.config.thresholds)
    ]
    return [*found, {"word": "all", "threshold": None, **_row(evaluation.pooled)}] if len(found) > 1 else found


def notes(measured: Measured, options: Options) -> list[str]:
    """What to know about the numbers, in sentences."""
    evaluation = measured.evaluation
    hours = evaluation.pooled.hours
    said = [
        f"{measured.sound.seconds / 3600.0:.2f} hours of sound, {hours:.2f} of them without keywords: one false accept "
        f"is {1.0 / hours:.{0 if hours < 0.1 else 2}f} an hour; {rate_text(evaluation.pooled)}",
        f"95 % intervals: false accepts by Garwood, misses {_method(measured)}"
        + ("; thresholds chosen on these recordings flatter both" if options.threshold is None else ""),
    ]
    if options.threshold is None and options.fa_per_hour * hours < 1.0:
        said.append(
            f"too little to tell {options.fa_per_hour:g} an hour: thresholds are those without any false accept; "
            "give more by --negatives"
        )
    return said


def _method(measured: Measured) -> str:
    """How the intervals of misses come about."""
    pooled = measured.evaluation.pooled
    people = len(pooled.speaker_targets)
    words = measured.evaluation.words
    targets = [t for one in measured.sound.recordings for t in one.targets if t.word in words]
    named = sum(bool(target.speaker) for target in targets)
    if people > 1:
        return f"by drawing {people} speakers again and again"
    if people == 1:
        return "by Wilson, of one speaker: others may be missed more often"
    if named:
        return (
            f"by Wilson, as if each word had a speaker of its own: {len(targets) - named} of {len(targets)} name none"
        )
    return "by Wilson, as if each word had a speaker of its own" if targets else "not known, as no word is to be found"


def show(
    console: rich.console.Console,
    title: str,
    name: str,
    measured: Measured,
    options: Options,
    others: Mapping[str, StreamEvaluation] | None = None,
) -> None:
    """Prints a table with a row per keyword and one for all, what to know about it, and a table of other models.

    title: above the table. name: of the model, beside the names of the others.
    """
    evaluation = measured.evaluation
    console.print(table(title, COLUMNS, rows(evaluation)))
    for note in notes(measured, options):
        console.print(note)
    if others:
        console.print(table("compared on the same sound", COMPARED_COLUMNS, compared_rows(name, evaluation, others)))
    if measured.sound.skipped:
        console.print(f"{len(measured.sound.skipped)} recordings of --negatives could not be read")
        results.show_left_out(console, measured.sound.skipped)
    counts = evaluation.mlperf
    if counts.targets:
        console.print(mlperf_line(counts))
    console.print(
        f"{measured.sound.seconds / measured.spent:,.0f} times faster than real time ({measured.spent:.1f} s for "
        "features, model and detector)"
    )


def mlperf_line(counts: mlperf.MlperfTiny) -> str:
    """The counts, and whether they pass where MLPerf Tiny's limits are made for such sound."""
    many = "recording" if counts.recordings == 1 else "recordings"
    said = (
        f"counted as MLPerf Tiny's streaming wakeword: {counts.false_positives} false positives, "
        f"{counts.false_negatives} false negatives of {counts.targets} targets in {counts.recordings} {many} of "
        f"{counts.seconds / 60:.1f} minutes"
    )
    limits = f"at most {mlperf.LIMIT} of each"
    if counts.comparable:
        return f"{said}: {'pass' if counts.passed else 'fail'} ({limits})"
    return (
        f"{said}; neither pass nor fail: its limits ({limits}) are for one recording of {mlperf.MINUTES} minutes with "
        f"{mlperf.TARGETS} targets"
    )


def compared_rows(
    name: str, evaluation: StreamEvaluation, others: Mapping[str, StreamEvaluation]
) -> list[dict[str, Any]]:
    """Rows of ``COMPARED_COLUMNS``: the model and the others, keyword by keyword."""
    found = []
    for model, one in {name: evaluation, **others}.items():
        found += [{"model": model, **row} for row in rows(one)]
    return found


def _row(result: Result) -> dict[str, Any]:
    return {
        "targets": result.targets,
        "missed": None if result.frr is None else intervals.share(result.frr, result.frr_interval, "\n"),
        "false_accepts": result.false_accepts,
        "rate": intervals.with_ends(result.fa_per_hour, result.fa_interval, "\n"),
        "median": result.latency(50.0),
        "late": result.latency(95.0),
    }


def plot(
    measured: Measured,
    path: pathlib.Path,
    name: str,
    options: Options,
    others: Mapping[str, StreamEvaluation] | None = None,
    size: tuple[float, float] = (6.4, 5.0),
) -> bool:
    """Draws the curves; False where there is no target and so nothing to draw.

    Alone, a model has a curve for each keyword. Beside others each model has one, of all keywords at one threshold; its
    dot is where each keyword has its own, and may lie beside that curve where there are several.
    """
    from tfmot_kws.evaluation import det_plot

    evaluation = measured.evaluation
    if others:
        curves = {label: one.pooled_curve for label, one in {name: evaluation, **others}.items()}
        chosen = {label: one.pooled for label, one in {name: evaluation, **others}.items()}
    else:
        curves, chosen = dict(evaluation.curves), dict(evaluation.results)
    curves = {label: curve for label, curve in curves.items() if curve.targets}
    if not curves:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    det_plot.plot_streams(
        curves,
        path,
        title=name if not others else ", ".join(evaluation.words),
        mark_fa_per_hour=options.fa_per_hour if options.threshold is None or others else None,
        chosen={label: result for label, result in chosen.items() if label in curves},
        size=size,
    )
    return True
