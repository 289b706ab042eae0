# SPDX-License-Identifier: Apache-2.0
"""Instructions of features that a network makes of samples itself, a second of sound, on emulated Arm cores.

    python -m benchmarks.raw_sound [--cores cortex-a53,cortex-m4]

A frame of the fastest kernel is counted under QEMU, for filters of several lengths and of every width, and times the
frames of a second. Beside them stands the fixed-point mel front end of TensorFlow Lite Micro.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

from benchmarks import arm_kernels, common, emulation

CORES = ("cortex-m0plus", "cortex-m4", "cortex-m55", "cortex-a7", "cortex-a53", "cortex-a76", "armv8-i8mm")
FRAMES = 100
"""A second, 10 ms each."""
STRIDE = 80
CELLS = ((400, 40, 2), (400, 40, 1), (256, 40, 2), (160, 40, 2))
"""Taps, filters and sums of a frame at 16 kHz; a frame of one sum lies 10 ms from the next as well."""
MEL = {
    "cortex-m0plus": 18_976_790, "cortex-m4": 8_787_152, "cortex-m55": 8_578_675, "cortex-a7": 7_502_510,
    "cortex-a53": 6_203_666, "cortex-a76": 6_203_666,
}  # fmt: skip
"""Instructions of a second of sound of TFLM's front end (windows of 30 ms, 10 ms apart, 40 channels, with noise
reduction and gain), as pymicro-features 2.0.2 carries it: compiled with -O2 and counted in the same way, once and
outside this repository, which carries none of its code."""
COLUMNS = (
    ("core", "core", ""), ("what", "features of a frame", ""),
    *((f"b{bits}", f"{bits} bit{'s' if bits > 1 else ''}", ",.0f") for bits in range(1, 9)),
    ("fixed", "as it is", ",.0f"), ("mac", "a MAC at 8 bits", ".2f"),
)  # fmt: skip


def measure(core: emulation.Core, folder: pathlib.Path) -> list[dict]:
    """A row for each cell: instructions of a second at every width, in the layout that is shortest."""
    compiler = arm_kernels.COMPILERS.get(core.name, core.compiler)
    cells = ",".join(f"{{{taps},{filters},{sums}}}" for taps, filters, sums in CELLS)
    path = emulation.ROOT / "benchmarks" / "arm" / "bench_waveform.c"
    flags = ("-O2", f"-DBENCH_CELLS={cells}", f"-DBENCH_STRIDE={STRIDE}")
    program = emulation.build(core, [path], folder, flags, compiler=compiler)
    rows: dict[tuple[int, ...], dict] = {}
    for line, count in emulation.counted(core, program, folder):
        bits, _, *cell = map(int, line.split())
        taps, filters, sums = cell
        what = f"{filters} filters of {taps} samples, {sums} sum{'s' if sums > 1 else ''}"
        row = rows.setdefault(tuple(cell), {"core": core.name, "what": what, "fixed": None})
        row[f"b{bits}"] = min(row.get(f"b{bits}", 1 << 62), FRAMES * count)
        if bits == 8:
            row["mac"] = row["b8"] / (FRAMES * taps * filters * sums)
    return list(rows.values())


def main() -> None:
    """Counts and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", default=",".join(CORES), help="with fewer than all, nothing is written")
    args = parser.parse_args()
    names = args.cores.split(",")
    emulation.require_tools(arm_kernels.tools_of(names))
    rows: list[dict] = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(emulation.CORES[name], pathlib.Path(folder))
        if name in MEL:
            rows.append({"core": name, "what": "TFLM's mel front end, 40 channels", "fixed": MEL[name], "mac": None})
        print(name, flush=True)
    if set(names) != set(CORES):
        for row in rows:
            print(row)
        return
    notes = [
        f"Frames of 10 ms at 16 kHz, {FRAMES} a second; sums of a frame lie {STRIDE} samples apart. Under QEMU, "
        "all that kws_invoke() does, in the shortest of a width's layouts. Samples have 16 bits: a multiply-accumulate "
        "is two of 8 bits.",
        "TFLM's front end: windows of 30 ms, noise reduction and gain, from pymicro-features 2.0.2, -O2; compiled and "
        "counted once, outside this repository.",
        arm_kernels.compilers_of(names),
    ]
    print(common.write("raw_sound", "Features of raw sound, instructions a second", COLUMNS, rows, notes))


if __name__ == "__main__":
    main()
