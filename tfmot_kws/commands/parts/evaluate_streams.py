# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws evaluate --streams`` and ``--negatives``: a model and a detector on long recordings."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np
import rich.console

from tfmot_kws.commands.parts import results, sidecar, stream_runners, thresholds
from tfmot_kws.commands.parts.console import Advance, Phases, table
from tfmot_kws.data import stream_labels
from tfmot_kws.evaluation import detector
from tfmot_kws.evaluation import streams as stream_evaluate
from tfmot_kws.evaluation.detector import DetectorConfig
from tfmot_kws.evaluation.streams import Stream, StreamEvaluation
from tfmot_kws.frontend import features
from tfmot_kws.sound import files as audio
from tfmot_kws.sound.problems import Problem

JOINED_SECONDS = 60.0
"""Recordings without keywords are joined to streams of at least this length: a clip alone ends before a model of one
second and its smoothing have heard much of it."""
_TOGETHER = 16000 * 600
_COLUMNS = (
    {"key": "word", "label": "keyword", "format": ""},
    {"key": "targets", "label": "targets", "format": ",d"},
    {"key": "threshold", "label": "threshold", "format": ".3f"},
    {"key": "frr", "label": "missed", "format": ".1%"},
    {"key": "false_accepts", "label": "FA", "format": ",d"},
    {"key": "fa_per_hour", "label": "FA/h", "format": ".2f"},
    {"key": "median", "label": "latency s", "format": ".2f"},
    {"key": "late", "label": "95 % s", "format": ".2f"},
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command is asked for; the command's help says what each is.

    Raises:
        ValueError: an option is outside of what is allowed; the message names it.
    """

    streams: pathlib.Path | None
    negatives: pathlib.Path | None
    smooth: float | None = None
    refractory: float | None = None
    tolerance: float = 1.0
    fa_per_hour: float = 0.5
    threshold: str | None = None
    hop: int = 2
    scores: str = "auto"

    def __post_init__(self) -> None:
        for name in ("tolerance", "fa_per_hour"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} {value}: must be 0 or more")
        if self.scores not in ("auto", *detector.MODES):
            raise ValueError(f"--scores {self.scores}: must be one of auto, {', '.join(detector.MODES)}")
        if self.hop < 1:
            raise ValueError(f"--hop {self.hop}: must be 1 frame or more")


@dataclasses.dataclass(frozen=True)
class Recording:
    """Sound as the model hears it: a stream with its targets, or several recordings without any, joined."""

    name: str
    samples: np.ndarray
    targets: tuple[stream_labels.Target, ...] = ()


@dataclasses.dataclass(frozen=True)
class Measured:
    """A finished evaluation and how long its parts took; ``seconds`` are those of sound."""

    evaluation: StreamEvaluation
    chosen: thresholds.Chosen
    seconds: float
    spent: float
    skipped: tuple[Problem, ...]


def _read_streams(folder: pathlib.Path, rate: int, advance: Advance) -> list[Recording]:
    files = stream_labels.sounds(folder)
    path = stream_labels.find(folder)
    targets = stream_labels.of_files(files, stream_labels.read(path), path)
    recordings = []
    for index, (file, words) in enumerate(zip(files, targets)):
        samples = audio.read(file, rate)
        if words and words[-1].end > len(samples) / rate + 0.5:
            raise ValueError(
                f"{path}: a word of {file.stem} ends at {words[-1].end} s, {file} at {len(samples) / rate} s"
            )
        recordings.append(Recording(file.stem, samples, words))
        advance(index + 1, len(files))
    return recordings


def _read_negatives(folder: pathlib.Path, rate: int, advance: Advance) -> tuple[list[Recording], list[Problem]]:
    """Joined recordings, and the files that gave no sound."""
    files = stream_labels.sounds(folder)
    recordings, parts, skipped = [], [], []
    for index, file in enumerate(files):
        try:
            parts.append(audio.read(file, rate))
        except audio.AudioError as error:
            skipped.append(Problem(error.path, error.problem, error.detail))
        last = index + 1 == len(files)
        if parts and (last or sum(map(len, parts)) >= JOINED_SECONDS * rate):
            recordings.append(Recording(f"negatives {len(recordings) + 1}", np.concatenate(parts)))
            parts = []
        advance(index + 1, len(files))
    if not recordings:
        raise ValueError(
            f"--negatives {folder}: none of {len(files)} recordings can be read; the first is {skipped[0].path}: "
            f"{skipped[0].problem}: {skipped[0].detail}"
        )
    return recordings, skipped


def _features(recordings: list[Recording], frontend: features.FrontendConfig, advance: Advance) -> list[np.ndarray]:
    """float32 [frames, mel] of each. The front end looks back only, so silence behind a recording changes nothing."""
    lengths = [len(recording.samples) for recording in recordings]
    found: dict[int, np.ndarray] = {}
    for group in stream_runners.batches(lengths, _TOGETHER):
        padded = np.zeros((len(group), max(lengths[i] for i in group)), np.float32)
        for row, index in zip(padded, group):
            row[: lengths[index]] = recordings[index].samples
        for index, values in zip(group, features.extract(frontend, padded)):
            found[index] = values[: frontend.num_frames(lengths[index])]
        advance(len(found), len(recordings))
    return [found[index] for index in range(len(recordings))]


def measure(model: pathlib.Path, runtime: str, options: Options, phases: Phases) -> Measured:
    """Reads, runs and evaluates."""
    about = sidecar.read(model)
    words = about.task.keywords
    chosen = thresholds.choose(options.threshold, options.smooth, options.refractory, words)
    rate = about.frontend.sample_rate
    recordings, skipped = [], []
    if options.streams is not None:
        with phases.phase("streams") as advance:
            recordings += _read_streams(options.streams, rate, advance)
    if options.negatives is not None:
        with phases.phase("negatives") as advance:
            more, skipped = _read_negatives(options.negatives, rate, advance)
            recordings += more
    runner = stream_runners.open_runner(model, about, runtime, options.hop)
    start = time.perf_counter()
    with phases.phase("features") as advance:
        heard = _features(recordings, about.frontend, advance)
    outputs = []
    with phases.phase("model") as advance:
        for index, values in enumerate(heard):
            outputs.append(runner(values))
            advance(index + 1, len(heard))
    numbers, scale, zero_point = stream_runners.on_one_grid([out.values for out in outputs], runner.grid)
    mode = options.scores
    one = numbers[0].shape[1] == 1 and len(words) == 1  # a file that gives the probability of one keyword
    if mode == "auto" and one:
        mode = "value"
    elif mode == "auto":
        mode = "value" if stream_runners.are_posteriors(numbers, scale, zero_point) else "margin"
    chosen.check_mode(mode)
    step_seconds = runner.hop * about.frontend.hop_ms / 1000.0
    config = DetectorConfig.in_seconds(
        step_seconds,
        chosen.smooth,
        chosen.refractory,
        classes=1 if one else len(about.task.classes),
        keywords=(0,) if one else tuple(about.task.classes.index(word) for word in words),
        thresholds=0.0 if chosen.values is None else chosen.values,
        mode=mode,
        scale=scale,
        zero_point=zero_point,
    )
    streams = [
        Stream(recording.name, values, _known_at(out.frames, about.frontend), recording.targets)
        for recording, values, out in zip(recordings, numbers, outputs)
    ]
    with phases.phase("detector at every threshold") as advance:
        evaluation = stream_evaluate.evaluate(
            streams,
            config,
            words,
            step_seconds,
            tolerance=options.tolerance,
            fa_per_hour=options.fa_per_hour if options.threshold is None else None,
            progress=advance,
        )
    spent = time.perf_counter() - start
    return Measured(evaluation, chosen, sum(len(r.samples) for r in recordings) / rate, spent, tuple(skipped))


def _known_at(frames: np.ndarray, frontend: features.FrontendConfig) -> np.ndarray:
    """Seconds from the start of the sound to the end of the last of so many frames."""
    return (frontend.window + (frames - 1) * frontend.hop) / frontend.sample_rate


def metrics(measured: Measured, options: Options) -> dict[str, Any]:
    """Plain values for JSON; rates are shares 0..1, times seconds."""
    evaluation = measured.evaluation
    config = evaluation.config
    return {
        "recordings": [path.absolute().name for path in (options.streams, options.negatives) if path is not None],
        "seconds": measured.seconds,
        "times_real_time": measured.seconds / measured.spent,
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
        "keywords": {word: _numbers(result) for word, result in evaluation.results.items()},
        "all": _numbers(evaluation.pooled),
        "mlperf_tiny": {
            **dataclasses.asdict(evaluation.mlperf),
            "passed": evaluation.mlperf.passed,
            "comparable": evaluation.mlperf.comparable,
        },
        "curves": {
            word: {
                "thresholds": curve.thresholds.tolist(),
                "frr": curve.frr.tolist() if curve.targets else None,
                "fa_per_hour": curve.fa_per_hour.tolist(),
            }
            for word, curve in evaluation.curves.items()
        },
        "events": [dataclasses.asdict(event) for event in evaluation.events],
    }


def _numbers(result: stream_evaluate.Result) -> dict[str, Any]:
    return {
        "targets": result.targets,
        "hits": result.hits,
        "frr": result.frr,
        "false_accepts": result.false_accepts,
        "hours": result.hours,
        "fa_per_hour": result.fa_per_hour,
        "latency_median": result.latency(50.0),
        "latency_95": result.latency(95.0),
    }


def show(console: rich.console.Console, title: str, measured: Measured, options: Options) -> None:
    """Prints a table with a row per keyword and one for all, and what to know about it."""
    evaluation = measured.evaluation
    config = evaluation.config
    rows = [
        {"word": word, "threshold": threshold, **_row(evaluation.results[word])}
        for word, threshold in zip(evaluation.words, config.thresholds)
    ]
    if len(rows) > 1:
        rows.append({"word": "all", **_row(evaluation.pooled)})
    console.print(table(title, _COLUMNS, rows))
    hours = evaluation.pooled.hours
    console.print(
        f"{measured.seconds / 3600.0:.2f} hours of sound, {hours:.2f} of them without keywords: one false accept is "
        f"{1.0 / hours:.{0 if hours < 0.1 else 2}f} an hour"
    )
    if options.threshold is None and options.fa_per_hour * hours < 1.0:
        console.print(
            f"too little to tell {options.fa_per_hour:g} an hour: thresholds are those without any false accept; "
            "give more by --negatives"
        )
    if measured.skipped:
        console.print(f"{len(measured.skipped)} recordings of --negatives could not be read")
        results.show_left_out(console, measured.skipped)
    counts = evaluation.mlperf
    if counts.targets:
        verdict = "pass" if counts.passed else "fail"
        note = "" if counts.comparable else "; its own test is one recording of 20 minutes with 50 targets"
        console.print(
            f"MLPerf Tiny's streaming wakeword: {counts.false_positives} false positives, {counts.false_negatives} "
            f"false negatives of {counts.targets} targets in {counts.recordings} recordings, {verdict} "
            f"(8 of each){note}"
        )
    console.print(
        f"{measured.seconds / measured.spent:,.0f} times faster than real time ({measured.spent:.1f} s for features, "
        "model and detector)"
    )


def _row(result: stream_evaluate.Result) -> dict[str, Any]:
    return {
        "targets": result.targets,
        "frr": result.frr,
        "false_accepts": result.false_accepts,
        "fa_per_hour": result.fa_per_hour,
        "median": result.latency(50.0),
        "late": result.latency(95.0),
    }


def plot(measured: Measured, path: pathlib.Path, title: str, options: Options) -> bool:
    """Draws the curves; False where there is no target and so nothing to draw."""
    from tfmot_kws.evaluation import det_plot

    evaluation = measured.evaluation
    curves = {word: curve for word, curve in evaluation.curves.items() if curve.targets}
    if not curves:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = options.fa_per_hour if options.threshold is None else None
    det_plot.plot_streams(curves, path, title=title, mark_fa_per_hour=mark)
    return True
