"""Takes what a demo left into the results: ``make demo``, then ``python -m benchmarks.demo runs/demo``.

``results/demo.json`` is the demo's ``metrics.json``; ``results/demo_console.json`` is what two commands print about it,
for the README: ``tfmot-kws demo`` at its end, and ``tfmot-kws inspect`` of the 4-bit file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Sequence

from benchmarks import common
from tfmot_kws import atomic
from tfmot_kws.commands import demo, inspect
from tfmot_kws.commands.parts import console as consoles

COLUMNS = 96
FILE = "kws_4bit.tflite"


def printed(command: Callable[[], None]) -> str:
    """What a command prints on a terminal of ``COLUMNS`` columns, without colours."""
    text = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(COLUMNS)
    try:
        with contextlib.redirect_stdout(text):
            command()
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines()) + "\n"


def shortened(text: str, notes: Sequence[str]) -> str:
    """What the demo prints at its end, without its notes (dots stand for them) and its time."""
    lines = text.splitlines()
    first = lines.index(notes[0]) if notes and notes[0] in lines else len(lines)
    kept = [line for line in lines[first:] if line not in notes and "Report:" not in line]
    return "\n".join([*lines[:first], "...", *kept]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="what tfmot-kws demo --out was given")
    parser.add_argument("--name", default="demo", help="of the files in results/")
    options = parser.parse_args(arguments)
    result = json.loads((options.folder / "metrics.json").read_text(encoding="utf-8"))
    place = pathlib.Path("runs/demo")
    shown = {
        "tfmot-kws demo": shortened(printed(lambda: demo.show(consoles.stdout(), result, place)), result["notes"]),
        f"tfmot-kws inspect {place / FILE}": printed(lambda: inspect.run(options.folder / FILE)),
    }
    atomic.write_json(common.RESULTS / f"{options.name}.json", result)
    atomic.write_json(common.RESULTS / f"{options.name}_console.json", shown)


if __name__ == "__main__":
    main()
