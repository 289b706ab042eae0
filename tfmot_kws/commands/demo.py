# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws demo``."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import rich.console

from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts.console import Phases, table


def run(
    out: pathlib.Path,
    data: pathlib.Path | None,
    keywords: str | None,
    seed: int,
    fast: bool,
    speakers: str | None = None,
    raw: bool = False,
) -> None:
    """Runs the demo and prints its table."""
    if data is None and importlib.util.find_spec("espeakng_loader") is None:
        raise ImportError(
            "synthetic speech needs espeak-ng: pip install 'tfmot-kws[synthetic]' (GPL-3, runs in a process of its "
            "own), or give recordings of your own by --data FOLDER"
        )
    from tfmot_kws.commands.parts import demo

    console = consoles.stdout()
    config = demo.DemoConfig(out, data, data_files.words_of(keywords), seed, fast, speakers=speakers, raw=raw)
    phases = Phases(console, 6 + 2 * len(config.bits))
    show(console, demo.run(config, phases), out)


def show(console: rich.console.Console, result: Mapping[str, Any], out: pathlib.Path) -> None:
    """Prints what ``metrics.json`` of a demo holds.

    Raises:
        RuntimeError: the runtimes did not agree.
    """
    console.print()
    console.print(table(result["title"], result["columns"], result["rows"]))
    for note in result["notes"]:
        console.print(note, style="dim")
    lsb = max(a["keras_lsb"] for a in result["agreement"])
    same = min(a["keras_argmax"] for a in result["agreement"])
    clips = result["agreement"][0]["clips"]
    console.print(
        f"Keras: at most {lsb:g} LSB from the reference, same class for at least {same:.2%} of {clips} clips."
    )
    if not result["agrees"]:
        raise RuntimeError(f"runtimes do not agree with the integer reference; see {out / 'report.html'}")
    ran = [name for name in ("tflite", "litert", "tflm") if result["agreement"][0][f"same_{name}"]]
    console.print(f"Reference, {', '.join(ran)} agree bit for bit on every clip.", style="green")
    skipped = len(result["data"]["skipped"])
    if skipped:
        left_out = "1 file was" if skipped == 1 else f"{skipped} files were"
        console.print(f"{left_out} left out; the report lists them.", style="yellow")
    console.print(f"{result['seconds']:.0f} s. Report: {out / 'report.html'}")
