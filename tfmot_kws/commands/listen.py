# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws listen``."""

from __future__ import annotations

import contextlib
import math
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import rich.console
import rich.live
import rich.table
import rich.text

from tflite_export.runtimes import interpreter
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import spotter, wake_word
from tfmot_kws.sound import stream as audio_stream

_BAR = 40


def run(
    model: pathlib.Path,
    wav: pathlib.Path | None,
    threshold: str | float | None,
    smooth: float | None,
    refractory: float | None,
    runtime: str | None,
) -> None:
    """Prints detections as they come, and on a terminal a view that moves."""
    console = consoles.stdout()
    runtime = runtime or interpreter.default_runtime()
    listener = wake_word.WakeWord(model, threshold, smooth, refractory, runtime)
    ear = listener.spotter
    if threshold is None:
        console.print(
            f"--threshold {ear.config.thresholds[0]:g}: where a keyword is likelier than all else; choose one by "
            "'tfmot-kws evaluate --streams'"
        )
    elif str(threshold).endswith(".json"):
        limits = ", ".join(f"{word} {limit:g}" for word, limit in zip(ear.keywords, ear.config.thresholds))
        console.print(f"thresholds of {threshold}: {limits}", markup=False)
    count, seconds = 0, 0.0
    with _view(console, ear) as show, contextlib.suppress(KeyboardInterrupt):
        for block in _blocks(wav, ear.frontend.sample_rate):
            seconds += len(block) / ear.frontend.sample_rate
            for heard in listener.feed(block):
                count += 1
                console.print(line(heard), markup=False)
            show(seconds)
    console.print(f"{count} detection{'s' * (count != 1)} in {seconds:.1f} s of sound")
    console.print(str(listener.usage), markup=False)


def line(heard: spotter.Heard) -> str:
    """A detection as it is printed, here and by a firmware."""
    return f"{_clock(heard.seconds)}  {heard.keyword}  {heard.score:.2f}"


def _blocks(wav: pathlib.Path | None, rate: int) -> Iterator[np.ndarray]:
    if wav is None:
        return audio_stream.read_microphone(rate)
    if str(wav) == "-":
        return audio_stream.read_pipe(sys.stdin.buffer, rate)
    if wav.is_dir():
        raise IsADirectoryError(f"--wav {wav}: is a folder; name a file")
    if wav.exists() and not wav.is_file():  # a named pipe, or the shell's <(...)
        return _of_pipe(wav, rate)
    if not wav.is_file():
        raise FileNotFoundError(f"--wav {wav}: no such file")
    return audio_stream.read_file(wav, rate)


def _of_pipe(path: pathlib.Path, rate: int) -> Iterator[np.ndarray]:
    with path.open("rb") as pipe:
        yield from audio_stream.read_pipe(pipe, rate)


def _clock(seconds: float) -> str:
    """12:34:56.78 of seconds; hours only where there are any."""
    minutes, rest = divmod(round(seconds * 100), 6000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest / 100:05.2f}" if hours else f"{minutes:02d}:{rest / 100:05.2f}"


@contextlib.contextmanager
def _view(console: rich.console.Console, ear: spotter.Spotter) -> Iterator[Callable[[float], None]]:
    """Scores and thresholds below the detections, on a terminal; elsewhere nothing."""
    if not console.is_terminal:
        yield lambda seconds: None
        return
    with rich.live.Live(console=console, transient=True, refresh_per_second=10) as live:
        yield lambda seconds: live.update(picture(ear, seconds))


def picture(ear: spotter.Spotter, seconds: float) -> rich.table.Table:
    """A line for each keyword: its score as a bar, and where the threshold lies."""
    table = rich.table.Table.grid(padding=(0, 1))
    low, high = (0.0, 1.0) if ear.config.mode == "value" else _range(ear)
    for index, word in enumerate(ear.keywords):
        limit = ear.config.thresholds[index]
        score = None if ear.scores is None else float(ear.scores[index])
        bar = rich.text.Text()
        mark = min(_BAR - 1, max(0, round(_BAR * (limit - low) / (high - low))))
        filled = 0 if score is None else round(_BAR * (min(max(score, low), high) - low) / (high - low))
        for i in range(_BAR):
            style = "bold green" if score is not None and score >= limit else "cyan"
            bar.append("│" if i == mark else "█" if i < filled else "·", "bold" if i == mark else style)
        table.add_row(rich.text.Text(word, "bold"), bar, "waiting" if score is None else f"{score:6.2f}")
    table.add_row(_clock(seconds), rich.text.Text("Ctrl-C ends", "dim"))
    return table


def _range(ear: spotter.Spotter) -> tuple[float, float]:
    """Margins that the bars show: twice the threshold and at least a few units to both sides."""
    reach = max(4.0, 2.0 * max(abs(t) for t in ear.config.thresholds if math.isfinite(t)))
    return -reach, reach
