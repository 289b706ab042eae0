# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws evaluate --report``: the curve, and picture and sound of what was missed or false."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmot_kws.commands.parts import stream_numbers
from tfmot_kws.commands.parts.console import Advance
from tfmot_kws.commands.parts.evaluate_streams import Measured, Options, Recording
from tfmot_kws.evaluation import detector, moment_plot, moments, report
from tfmot_kws.evaluation.stream_results import FALSE_ACCEPT, Stream, StreamEvaluation
from tfmot_kws.sound import embedded

SOUND_BYTES = 10_000_000
"""Of all sounds in a page together."""


def write(
    path: pathlib.Path,
    title: str,
    name: str,
    measured: Measured,
    options: Options,
    others: Mapping[str, StreamEvaluation],
    advance: Advance,
    sound_bytes: int = SOUND_BYTES,
    limits: Sequence[str] = (),
) -> pathlib.Path:
    """Writes the page.

    Args:
        path: an .html file.
        title: of the page.
        name: of the model, beside the names of the others.
        measured: what was found.
        options: what was asked for.
        others: what models of ``--compare`` did, by name.
        advance: told of the pictures drawn.
        sound_bytes: of sound at most; stretches behind that have a picture only, and the page says so.
        limits: what else to know about the model, in sentences.
    """
    evaluation = measured.evaluation
    recordings = {one.name: one for one in measured.sound.recordings}
    lengths = {one.name: len(one.samples) / measured.sound.rate for one in measured.sound.recordings}
    chosen = moments.choose(evaluation, lengths)
    total = sum(map(len, chosen.moments.values()))
    streams, spent, silent, done = [], 0, 0, 0
    for stream, found in chosen.moments.items():
        heard = _heard(measured, stream)
        shown = []
        for moment in found:
            sound, media = _sound(recordings[stream], moment, measured.sound.rate)
            fits = spent + len(sound) <= sound_bytes
            spent, silent = spent + len(sound) * fits, silent + (not fits)
            picture = embedded.data_uri(moment_plot.draw(heard, moment), "image/png")
            address = embedded.data_uri(sound, media) if fits else None
            shown.append({**_text(recordings[stream], moment, heard), "picture": picture, "sound": address})
            done += 1
            advance(done, total)
        streams.append({"name": stream, "note": _note(measured, stream, found), "moments": shown})
    page = {
        "title": title,
        "about": _about(measured, options),
        "headline": _headline(evaluation),
        "columns": stream_numbers.COLUMNS,
        "rows": stream_numbers.rows(evaluation),
        "notes": [*stream_numbers.notes(measured, options), *limits],
        "curve": _curve(measured, name, options, others),
        "compared_columns": stream_numbers.COMPARED_COLUMNS,
        "compared": stream_numbers.compared_rows(name, evaluation, others) if others else [],
        "streams": streams,
        "left_out": _left_out(chosen, silent, sound_bytes),
    }
    return report.write_streams_html(page, path)


def _heard(measured: Measured, name: str) -> moment_plot.Heard:
    number = [one.name for one in measured.streams].index(name)
    stream: Stream = measured.streams[number]
    evaluation, frontend = measured.evaluation, measured.frontend
    config = evaluation.config
    sums = detector.moving_sums(detector.scores(config, stream.outputs), config.smooth)
    return moment_plot.Heard(
        features=measured.heard[number],
        frame_seconds=frontend.hop / frontend.sample_rate,
        first_frame=frontend.window / 2 / frontend.sample_rate,
        times=np.asarray(stream.times)[config.smooth - 1 :][: len(sums)],
        scores=sums * (config.scale / config.smooth),
        thresholds=dict(zip(evaluation.words, config.thresholds)),
        targets=[target for target in stream.targets if target.word in evaluation.words],
        events=[event for event in evaluation.events if event.stream == name],
        misses=[miss for miss in evaluation.misses if miss.stream == name],
    )


def _sound(recording: Recording, moment: moments.Moment, rate: int) -> tuple[bytes, str]:
    return embedded.encode(recording.samples[round(moment.start * rate) : round(moment.end * rate)], rate)


def _text(recording: Recording, moment: moments.Moment, heard: moment_plot.Heard) -> dict[str, Any]:
    """Where it is, and a line for each error in it."""
    path, start = recording.where(moment.start)
    lines = []
    for event in moment.false_accepts:
        limit = heard.thresholds[event.word]
        lines.append((event.time, f"false accept of {event.word} (score {event.score:.3g}, threshold {limit:.3g})"))
    for miss in moment.misses:
        best = "before the model had heard enough" if miss.score is None else f"best score {miss.score:.3g}"
        who = f", said by {miss.speaker}" if miss.speaker else ""
        limit = heard.thresholds[miss.word]
        lines.append((miss.start, f"{miss.word} missed{who} ({best}, threshold {limit:.3g})"))
    return {
        "title": f"{_clock(moment.start)} to {_clock(moment.end)}"
        + ("" if path.stem == recording.name else f"; {path.name} from {_clock(start)}"),
        "lines": [f"{_clock(time)}: {line}" for time, line in sorted(lines)],
    }


def _clock(seconds: float) -> str:
    """12.3 s, 1:02.3 or 1:00:02.3."""
    tenths = round(10 * seconds)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600 / 10
    if hours:
        return f"{hours}:{minutes:02d}:{rest:04.1f}"
    return f"{minutes}:{rest:04.1f}" if minutes else f"{rest:.1f} s"


def _note(measured: Measured, stream: str, found: tuple[moments.Moment, ...]) -> str:
    evaluation = measured.evaluation
    false = sum(e.stream == stream and e.outcome == FALSE_ACCEPT for e in evaluation.events)
    missed = sum(one.stream == stream for one in evaluation.misses)
    recording = next(one for one in measured.sound.recordings if one.name == stream)
    targets = sum(target.word in evaluation.words for target in recording.targets)
    shown = sum(len(one.false_accepts) + len(one.misses) for one in found)
    said = f"{missed} of {targets} words missed, " if targets else ""
    accepts = "1 false accept" if false == 1 else f"{false or 'no'} false accepts"
    length = len(recording.samples) / measured.sound.rate
    rest = f"; {shown} of these {missed + false} errors are shown" if shown < missed + false else ""
    return f"{said}{accepts} in {_clock(length)}{rest}"


def _about(measured: Measured, options: Options) -> str:
    names = [path.absolute().name for path in (options.streams, options.negatives) if path is not None]
    chosen = measured.chosen
    how = "thresholds chosen on these recordings" if options.threshold is None else "thresholds given beforehand"
    return (
        f"{' and '.join(names)}: {measured.sound.seconds / 3600.0:.2f} hours; {how}; {chosen.smooth:g} s averaged, "
        f"{chosen.refractory:g} s after a detection without another"
    )


def _headline(evaluation: StreamEvaluation) -> str:
    pooled = evaluation.pooled
    rate = stream_numbers.rate_text(pooled)
    if not pooled.targets:
        return rate
    low, high = pooled.frr_interval
    return f"{pooled.frr:.1%} missed (95 %: {100 * low:.1f}..{100 * high:.1f} of {pooled.targets} words), {rate}"


def _curve(measured: Measured, name: str, options: Options, others: Mapping[str, StreamEvaluation]) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "curve.png"
        if not stream_numbers.plot(measured, path, name, options, others, size=(5.0, 4.4)):
            return None
        return embedded.data_uri(path.read_bytes(), "image/png")


def _left_out(chosen: moments.Chosen, silent: int, sound_bytes: int) -> list[str]:
    lines = []
    if chosen.shown < chosen.errors:
        lines.append(
            f"Shown are {chosen.shown} of {chosen.errors} errors, in {len(chosen.moments)} of {chosen.streams} "
            f"recordings that have any: a page has at most {moments.MOMENTS} pictures of at most {moments.STREAMS} "
            "recordings. All are in the file of --json."
        )
    if silent:
        pictures = "1 picture has" if silent == 1 else f"{silent} pictures have"
        lines.append(f"{pictures} no sound: a page holds at most {sound_bytes / 1e6:g} MB of it.")
    return lines
