# SPDX-License-Identifier: Apache-2.0
"""Instructions and estimated cycles per multiply-accumulate of the packed dense kernels, on emulated cores.

    python -m benchmarks.arm_kernels [--cores cortex-a53,cortex-m4]

Whole kernel runs are counted under QEMU: preparation of the input, sums, requantization and all. Beside them, compiled
and counted in the same run, a float32 loop and an int8 loop of the usual kind. Cycles are llvm-mca's, weighted by how
often each instruction ran. A wrong output of any kernel ends the benchmark.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import tempfile

from benchmarks import common, cycles, emulation

SIZES = ((640, 128), (256, 256), (512, 128), (128, 128))
SHOWN = (256, 256)
LAYOUTS = ("any", "aarch64-i8mm", "cortex-m4")
"""Targets of the layouts, by number."""

_CLANG_A64 = ("clang-22", "--target=aarch64-linux-gnu", "-march=armv8-a")
_CLANG_A32 = ("clang-22", "--target=arm-linux-gnueabihf", "-march=armv7-a", "-mfpu=neon-vfpv4", "-mfloat-abi=hard")
_CLANG_M55 = ("clang-22", "--target=thumbv8.1m.main-none-eabihf", "-mcpu=cortex-m55", "-mfloat-abi=hard",
              "-isystem", "/usr/include/newlib")  # fmt: skip
COMPILERS = {
    "cortex-a53": _CLANG_A64, "cortex-a76": _CLANG_A64, "armv8-i8mm": _CLANG_A64, "cortex-a7": _CLANG_A32,
    "cortex-m55": _CLANG_M55,
}  # fmt: skip
"""Where clang's code is the shorter one; the core's own gcc elsewhere, and where clang is not installed."""

LOOP_FLAGS = {"cortex-a76": ("-march=armv8.2-a+dotprod",), "armv8-i8mm": ("-march=armv8.2-a+dotprod",)}
"""The int8 loop uses what the core has; packed kernels choose while they run."""

PEERS = {
    "cortex-m4": (("CMSIS-NN s8, per channel", 8, 2.10), ("CMSIS-NN s4", 4, 4.12)),
    "cortex-m7": (("CMSIS-NN s8, per channel", 8, 2.10), ("CMSIS-NN s4", 4, 4.12)),
    "cortex-m55": (("CMSIS-NN s8, per channel (clang)", 8, 0.209), ("CMSIS-NN s4 (clang)", 4, 0.394)),
    "cortex-a53": (("XNNPACK int8", 8, 0.299), ("XNNPACK int4, float in and out", 4, 0.597),
                   ("XNNPACK float32", 32, 0.479)),
    "cortex-a76": (("XNNPACK int8", 8, 0.142), ("KleidiAI int4", 4, 0.205), ("KleidiAI int2", 2, 0.303),
                   ("XNNPACK float32", 32, 0.479)),
    "armv8-i8mm": (("XNNPACK int8", 8, 0.126), ("XNNPACK float32", 32, 0.479)),
}  # fmt: skip
"""Other libraries at 256 x 256, batch 1, counted once in the same way (name, bits, instructions a MAC)."""

COLUMNS = (
    ("core", "core", ""), ("kernel", "kernel", ""), ("target", "packed for", ""), ("bits", "bits", "d"),
    ("batch", "batch", "d"), *((f"{i}x{o}", f"{i} x {o}", ".3f") for i, o in SIZES),
    ("cycles", "cycles a MAC, 256 x 256", ".3f"), ("code", "code bytes", ",d"),
)  # fmt: skip


def measure(core: emulation.Core, folder: pathlib.Path) -> tuple[list[dict], str]:
    """One row for each kernel, layout, width and batch; and how the int8 loop multiplies."""
    compiler = COMPILERS.get(core.name, core.compiler)
    if not shutil.which(compiler[0]):
        compiler = core.compiler
    arm = emulation.ROOT / "benchmarks" / "arm"
    loops = folder / "loops.o"
    flags = (*compiler, *LOOP_FLAGS.get(core.name, ()))
    command = [*flags, "-std=gnu99", "-O3", "-c", str(arm / "loops.c"), f"-I{emulation.KERNELS}", "-o", str(loops)]
    subprocess.run(command, check=True)
    program = emulation.build(core, [arm / "bench.c"], folder, ("-O2",), compiler=compiler, objects=[loops])
    counts = folder / "counts.txt"
    plugin = f"{emulation.counter(folder)},out={counts}"
    said = emulation.run(core, program, plugin).splitlines()
    regions = [int(line.split()[2]) for line in counts.read_text().splitlines()]
    kind = said.pop().partition(": ")[2]
    if len(said) != len(regions):
        raise SystemExit(f"{core.name}: {len(regions)} counts for {len(said)} lines")
    code = code_sizes(program)
    rows: dict[tuple, dict] = {}
    for number, (line, count) in enumerate(zip(said, regions)):
        name, layout, bits, inputs, outputs, batch = line.split()
        key = (name, layout, bits, batch)
        row = rows.setdefault(
            key,
            {"core": core.name, "kernel": name.removeprefix("kws_packed_dense_"), "target": LAYOUTS[int(layout)],
             "bits": int(bits), "batch": int(batch), "code": code.get((name, int(bits)))},
        )  # fmt: skip
        macs = int(inputs) * int(outputs) * int(batch)
        row[f"{inputs}x{outputs}"] = count / macs
        if (int(inputs), int(outputs)) == SHOWN:
            row["region"], row["macs"] = number, macs
    for row in rows.values():
        if cycles.known(core.name) and row["kernel"] != "c":
            pcs = folder / "pcs.txt"
            emulation.run(core, program, f"{plugin},pcs={pcs},region={row['region']}")
            row["cycles"] = cycles.estimate(core.name, program, pcs) / row["macs"]
        del row["region"], row["macs"]
    return list(rows.values()), kind


def code_sizes(program: pathlib.Path) -> dict[tuple[str, int], int]:
    """(kernel, bits) -> bytes of code that only this kernel and width need, by the names of functions."""
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", default=",".join(name for name in emulation.CORES if name != "host"))
    parser.add_argument("--name", default="arm_kernels", help="results/NAME.json")
    args = parser.parse_args()
    rows, notes = [], []
    for name in args.cores.split(","):
        core = emulation.CORES[name]
        if core.missing_tools():
            raise SystemExit(f"{name}: missing {', '.join(core.missing_tools())}; run scripts/install_debian_tools.sh")
        with tempfile.TemporaryDirectory() as folder:
            found, kind = measure(core, pathlib.Path(folder))
        rows += found
        notes.append(f"{name}: the int8 loop uses {kind}.")
        for row in found:
            figures = " ".join(f"{row[f'{i}x{o}']:.3f}" for i, o in SIZES)
            print(f"{name:12} {row['kernel']:10} {row['target']:12} {row['bits']:2} bits, batch {row['batch']}: "
                  f"{figures}  cycles {row.get('cycles', float('nan')):.3f}", flush=True)  # fmt: skip
        for peer, bits, figure in PEERS.get(name, ()):
            rows.append({"core": name, "kernel": peer, "target": "", "bits": bits, "batch": 1, "256x256": figure})
    title = "Instructions per multiply-accumulate of a dense layer (inputs x outputs), counted under QEMU"
    print(common.write(args.name, title, COLUMNS, rows, notes))


if __name__ == "__main__":
    main()
