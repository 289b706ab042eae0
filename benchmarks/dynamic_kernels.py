# SPDX-License-Identifier: Apache-2.0
"""Instructions per multiply-accumulate of dense layers of dynamic quantization, on emulated cores, and where they go.

    python -m benchmarks.dynamic_kernels [--cores cortex-a53,cortex-m4]

Whole layers are counted under QEMU, from floats to floats: the row's range and codes, sums, outputs and their function.
Layers with 39 outputs are linear, the others end with a sigmoid, as in the low-rank models that the sizes are from.
Wrong outputs end the benchmark.
"""

from __future__ import annotations

import argparse
import bisect
import pathlib
import subprocess
import tempfile

from benchmarks import arm_kernels, common, emulation

CORES = ("cortex-a53", "cortex-a76", "cortex-m4", "cortex-m55")
SIZES = ((620, 39), (39, 128), (128, 39), (256, 256))
PARTS = {
    "row": ("quantize_place", "kws_quantize", "kws_see", "begin_row"),
    "outputs": ("finish_tile", "finish_rows", "finish_four", "finish", "kws_activate", "kws_exp_of_minus"),
    "driver": ("kws_run_dynamic", "finish_tiles", "memcpy", "memset", "kws_places"),
}
"""Functions, or how their names begin, of each part; the rest are sums."""

COLUMNS = (
    ("core", "core", ""), ("kernel", "kernel", ""), ("bits", "bits", "d"), ("size", "inputs x outputs", ""),
    ("macs", "instructions a MAC", ".3f"), ("sums", "of them sums", ".3f"), ("row", "quantizing the row", ".3f"),
    ("outputs", "outputs", ".3f"), ("driver", "the rest", ".3f"), ("all", "instructions", ",d"),
)  # fmt: skip


def part_of(function: str) -> str:
    """The part that a function belongs to; compilers add ".constprop.0" and the like."""
    name = function.partition(".")[0]
    for part, names in PARTS.items():
        if name in names or any(n not in ("finish", "memcpy") and name.startswith(n + "_") for n in names):
            return part
    return "sums"


def by_part(nm: str, program: pathlib.Path, counts: pathlib.Path) -> dict[str, int]:
    """Instructions of a region in each part, from the counter's "ADDRESS COUNT" lines."""
    out = subprocess.run([nm, "--defined-only", str(program)], capture_output=True, text=True, check=True).stdout
    found = [line.split() for line in out.splitlines() if len(line.split()) == 3]
    symbols = sorted((int(a, 16) & ~1, name) for a, kind, name in found if kind in "tTwW" and name[0] != "$")
    starts = [address for address, _ in symbols]
    parts = dict.fromkeys(("sums", *PARTS), 0)
    for line in counts.read_text().splitlines():
        address, count = line.split()
        parts[part_of(symbols[bisect.bisect_right(starts, int(address, 16)) - 1][1])] += int(count)
    return parts


def measure(core: emulation.Core, folder: pathlib.Path) -> list[dict]:
    """One row for each width and size."""
    compiler = arm_kernels.COMPILERS.get(core.name, core.compiler)
    program = emulation.build(
        core, [emulation.ROOT / "benchmarks" / "arm" / "bench_dynamic.c"], folder, ("-O2",), compiler=compiler
    )
    counts, pcs = folder / "counts.txt", folder / "pcs.txt"
    plugin = f"{emulation.counter(folder)},out={counts}"
    said = emulation.run(core, program, plugin).splitlines()
    regions = [int(line.split()[2]) for line in counts.read_text().splitlines()]
    if len(said) != len(regions):
        raise SystemExit(f"{core.name}: {len(regions)} counts for {len(said)} lines")
    nm = core.compiler[0].removesuffix("gcc") + "nm"
    rows = []
    for number, (line, count) in enumerate(zip(said, regions)):
        name, bits, inputs, outputs, *_ = line.split()
        emulation.run(core, program, f"{plugin},pcs={pcs},region={number}")
        macs = int(inputs) * int(outputs)
        parts = {part: ran / macs for part, ran in by_part(nm, program, pcs).items()}
        rows.append(
            {"core": core.name, "kernel": name.removeprefix("kws_dynamic_dense_"), "bits": int(bits),
             "size": f"{inputs} x {outputs}", "macs": count / macs, **parts, "all": count}
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", default=",".join(CORES))
    parser.add_argument("--name", default="dynamic_kernels", help="results/NAME.json; empty: print only")
    args = parser.parse_args()
    names = args.cores.split(",")
    emulation.require_tools(arm_kernels.tools_of(names))
    rows = []
    for name in names:
        core = emulation.CORES[name]
        with tempfile.TemporaryDirectory() as folder:
            found = measure(core, pathlib.Path(folder))
        rows += found
        for row in found:
            figures = " ".join(f"{part} {row[part]:6.3f}" for part in ("macs", "sums", "row", "outputs", "driver"))
            print(
                f"{name:11} {row['kernel']:8} {row['bits']:2} bits {row['size']:9}: {figures} {row['all']:8}",
                flush=True,
            )
    if args.name:
        title = "Instructions per multiply-accumulate of dense layers of dynamic quantization, counted under QEMU"
        notes = ["Layers with 39 outputs are linear, the others end with a sigmoid; inputs have 8 bits, or 16 with "
                 "weights of 16 bits.", arm_kernels.compilers_of(names)]  # fmt: skip
        print(common.write(args.name, title, COLUMNS, rows, notes))


if __name__ == "__main__":
    main()
