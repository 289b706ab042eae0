# SPDX-License-Identifier: Apache-2.0
"""Instructions of layers of many sizes and of every width, on emulated Arm cores: what a budget of instructions counts.

    python -m benchmarks.layer_instructions [--cores cortex-a53,cortex-m4]

Whole runs of the fastest kernel are counted under QEMU, of dense layers, of those of dynamic quantization (linear and
with a sigmoid) and of depthwise convolutions. Wrong outputs end the benchmark. ``scripts/make_instruction_table.py``
makes of the results what the package carries.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence

from benchmarks import arm_kernels, common, emulation

CORES = tuple(name for name in emulation.CORES if name not in ("host", "x86-64"))
DENSE = (
    *((i, o, 1) for i, o in (
        (8, 16), (10, 10), (16, 8), (16, 64), (24, 24), (27, 3), (33, 17), (40, 40), (40, 64), (48, 48), (64, 4),
        (64, 12), (64, 24), (80, 28), (100, 20), (120, 64), (128, 10), (128, 128), (192, 7), (200, 5), (240, 48),
        (256, 2), (256, 256), (320, 16), (400, 31), (640, 128),
    )),
    *((i, o, 4) for i, o in ((10, 10), (24, 24), (80, 28), (128, 128), (256, 96), (400, 31))),
    *((i, o, n) for n in (4, 16) for i, o in (
        (16, 64), (27, 3), (33, 17), (40, 40), (64, 12), (64, 24), (120, 64), (240, 48),
    )),
)  # fmt: skip
"""Inputs, outputs and places (rows of inputs in a run)."""
DEPTHWISE = (
    (3, 8, 1), (3, 64, 1), (9, 64, 1), (5, 17, 1), (10, 32, 1), (16, 128, 1), (4, 100, 2), (3, 64, 4), (9, 64, 4),
    (7, 24, 8), (3, 16, 16), (5, 40, 16), (3, 12, 1), (9, 20, 1), (3, 30, 4), (5, 7, 2), (2, 60, 1), (6, 4, 4),
    (11, 47, 2),
)  # fmt: skip
"""Taps, channels and places."""
FUNCTIONS = ("linear", "sigmoid")


def _cells(cells: Sequence[tuple[int, int, int]]) -> str:
    return "-DBENCH_CELLS=" + ",".join(f"{{{a},{b},{c}}}" for a, b, c in cells)


def _count(core: emulation.Core, source: str, cells, kernels: list[pathlib.Path], folder: pathlib.Path):
    """(words of a line, instructions) of each region of a program."""
    compiler = arm_kernels.COMPILERS.get(core.name, core.compiler)
    path = emulation.ROOT / "benchmarks" / "arm" / source
    flags = ("-O2", _cells(cells))
    program = emulation.build(core, [path], folder, flags, compiler=compiler, kernel_objects=kernels)
    return [(line.split(), count) for line, count in emulation.counted(core, program, folder)]


def measure(core: emulation.Core, folder: pathlib.Path) -> list[dict]:
    """One row for each op, target, width and function: instructions by "INPUTSxOUTPUTSxPLACES"."""
    compiler = arm_kernels.COMPILERS.get(core.name, core.compiler)
    kernels = emulation.compile_kernels(core, folder, ("-O2",), compiler=compiler)
    rows: dict[tuple, dict] = {}

    def add(kernel: str, key: tuple, cell: Sequence[str], count: int) -> None:
        op, target, bits, function = key
        row = {"core": core.name, "op": op, "target": target, "bits": bits, "function": function, "kernel": kernel}
        rows.setdefault(key, {**row, "cells": {}})["cells"]["x".join(cell)] = count

    for words, count in _count(core, "bench.c", DENSE, kernels, folder):
        name, layout, bits, _, *cell = words
        add(name, ("dense", arm_kernels.LAYOUTS[int(layout)], int(bits), "linear"), cell, count)
    for words, count in _count(core, "bench_dynamic.c", DENSE, kernels, folder):
        name, bits, inputs, outputs, function, places = words
        function = FUNCTIONS[int(function != "0")]
        add(name, ("dynamic", "any", int(bits), function), (inputs, outputs, places), count)
    for words, count in _count(core, "bench_depthwise.c", DEPTHWISE, kernels, folder):
        name, floats, *cell = words
        add(name, (("depthwise", "float depthwise")[int(floats)], "any", 8, "linear"), cell, count)
    return list(rows.values())


def write(rows: list[dict], notes: list[str]) -> pathlib.Path:
    """``results/layer_instructions.json``, a row a line: there are many."""
    path = common.RESULTS / "layer_instructions.json"
    title = "Instructions of whole layers (inputs x outputs x places; depthwise: taps x channels x places) under QEMU"
    head = json.dumps({"title": title, "notes": notes}, indent=1).removesuffix("\n}")
    body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    handle, temporary = tempfile.mkstemp(dir=common.RESULTS, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f'{head},\n "rows": [\n{body}\n]\n}}\n')
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", default=",".join(CORES), help="with fewer than all, nothing is written")
    args = parser.parse_args()
    names = args.cores.split(",")
    emulation.require_tools(arm_kernels.tools_of(names))
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(emulation.CORES[name], pathlib.Path(folder))
        print(f"{name}: {sum(len(row['cells']) for row in rows if row['core'] == name)} runs", flush=True)
    if set(names) == set(CORES):
        print(write(rows, [arm_kernels.compilers_of(names)]))
    else:
        for row in rows:
            print(row)


if __name__ == "__main__":
    main()
