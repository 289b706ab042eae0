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
import subprocess
import tempfile
from collections.abc import Callable, Iterable

from benchmarks import common, cycles, emulation

SIZES = ((640, 128), (256, 256), (512, 128), (128, 128))
SHOWN = (256, 256)
LAYOUTS = ("any", "aarch64-i8mm", "cortex-m4", "cortex-a53")
"""Targets of the layouts, by number."""

_CLANG_A64 = (emulation.CLANG, "--target=aarch64-linux-gnu", "-march=armv8-a")
_CLANG_A32 = (emulation.CLANG, "--target=arm-linux-gnueabihf", "-march=armv7-a", "-mfpu=neon-vfpv4", "-mfloat-abi=hard")
_CLANG_M55 = (emulation.CLANG, "--target=thumbv8.1m.main-none-eabihf", "-mcpu=cortex-m55", "-mfloat-abi=hard",
              "-isystem", "/usr/include/newlib", "-fomit-frame-pointer")  # fmt: skip
"""The vector kernels need every register, of which clang 19 keeps one for a frame pointer on bare metal."""
COMPILERS = {
    "cortex-a53": _CLANG_A64, "cortex-a76": _CLANG_A64, "armv8-i8mm": _CLANG_A64, "cortex-a7": _CLANG_A32,
    "cortex-m55": _CLANG_M55,
}  # fmt: skip
"""Where clang's code is the shorter one; the core's own gcc elsewhere."""

LOOP_FLAGS = {
    "x86-64": ("-mavx2", "-mfma"),
    "cortex-a76": ("-march=armv8.2-a+dotprod",),
    "armv8-i8mm": ("-march=armv8.2-a+dotprod",),
}
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
"""Other libraries' kernels of October 2026 at 256 x 256, batch 1: compiled and counted under QEMU in the same way, once
and outside this repository, which carries none of their code (name, bits, instructions a MAC)."""

_STORED = (0, 1, 2, 4, 4, 5, 8, 8, 8)
"""Widths as the layout for Cortex-M4 stores them."""

COLUMNS = (
    ("core", "core", ""), ("kernel", "kernel", ""), ("target", "packed for", ""), ("bits", "bits", "d"),
    ("batch", "batch", "d"), *((f"{i}x{o}", f"{i} x {o}", ".3f") for i, o in SIZES),
    ("zero_point", "256 x 256, zero point -128", ".3f"), ("cycles", "cycles a MAC, 256 x 256", ".3f"),
    ("code", "code bytes", ",d"),
)  # fmt: skip


OURS = ("c", "avx2", "neon", "tables", "dotprod", "i8mm", "dsp_rows", "dsp", "mve")
SHORT_COLUMNS = (
    ("core", "core", ""), ("kernel", "kernel", ""), ("batch", "batch", "d"),
    *((f"b{bits}", f"{bits} bit{'s' if bits > 1 else ''}", ".3f") for bits in (1, 2, 3, 4, 5, 6, 7, 8)),
    ("b32", "float32", ".3f"),
)  # fmt: skip


def tools_of(cores: Iterable[str]) -> set[str]:
    """Programs that benchmarks on these cores need; the counter of instructions is this machine's gcc's."""
    tools = {tool for name in cores for tool in emulation.CORES[name].tools}
    return tools | {COMPILERS[name][0] for name in cores if name in COMPILERS} | {"gcc"}


def compilers_of(cores: Iterable[str]) -> str:
    """A note: which compiler made the code for each core."""
    made: dict[str, list[str]] = {}
    for name in cores:
        made.setdefault(COMPILERS.get(name, emulation.CORES[name].compiler)[0], []).append(name)
    return "Compiled by " + "; ".join(f"{emulation.version(c)} for {', '.join(n)}" for c, n in made.items()) + "."


def measure(core: emulation.Core, folder: pathlib.Path) -> tuple[list[dict], str]:
    """One row for each kernel, layout, width and batch; and how the int8 loop multiplies."""
    compiler = COMPILERS.get(core.name, core.compiler)
    arm = emulation.ROOT / "benchmarks" / "arm"
    loops = folder / "loops.o"
    flags = (*compiler, *LOOP_FLAGS.get(core.name, ()))
    command = [*flags, "-std=gnu99", "-O3", "-c", str(arm / "loops.c"), *emulation.include_flags()]
    command += ["-o", str(loops)]
    subprocess.run(command, check=True)
    program = emulation.build(core, [arm / "bench.c"], folder, ("-O2",), compiler=compiler, objects=[loops])
    counts = folder / "counts.txt"
    plugin = f"{emulation.counter(folder)},out={counts}"
    said = emulation.run(core, program, plugin).splitlines()
    regions = [int(line.split()[2]) for line in counts.read_text().splitlines()]
    kind = said.pop().partition(": ")[2]
    if len(said) != len(regions):
        raise SystemExit(f"{core.name}: {len(regions)} counts for {len(said)} lines")
    code = code_sizes(core, folder)
    rows: dict[tuple, dict] = {}
    for number, (line, count) in enumerate(zip(said, regions)):
        name, layout, bits, zero_point, inputs, outputs, batch = line.split()
        key = (name, layout, bits, batch)
        row = rows.setdefault(
            key,
            {"core": core.name, "kernel": name.removeprefix("kws_packed_dense_"), "target": LAYOUTS[int(layout)],
             "bits": int(bits), "batch": int(batch), "code": code(name, int(bits))},
        )  # fmt: skip
        macs = int(inputs) * int(outputs) * int(batch)
        if zero_point != "0":
            row["zero_point"] = count / macs
            continue
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


def code_sizes(core: emulation.Core, folder: pathlib.Path) -> Callable[[str, int], int | None]:
    """(kernel, bits) -> bytes of code that this kernel needs for one width: the width's function and all shared ones.

    Functions of one width have names that end with the width; those of the 16-bit lanes, with the width as stored.
    """
    nm = core.compiler[0].removesuffix("gcc") + "nm"

    def size(name: str, bits: int) -> int | None:
        kernel = name.removeprefix("kws_packed_dense_")
        path = folder / f"dense_{kernel.removesuffix('_rows')}.o"
        if not path.exists():
            return None
        out = subprocess.run([nm, "-S", "--defined-only", str(path)], capture_output=True, text=True, check=True).stdout
        sizes = {
            line.split()[3]: int(line.split()[1], 16)
            for line in out.splitlines()
            if line.split()[2:3] in (["t"], ["T"])
        }
        width = _STORED[bits] if kernel == "dsp" else bits
        total = 0
        for function, size_of in sizes.items():
            head, _, last = function.rpartition("_")
            own = last == str(width) and head.startswith("rows") == (kernel == "dsp_rows")
            total += size_of if own or not last.isdigit() else 0
        return total

    return size


def short_table(rows: list[dict]) -> list[dict]:
    """One row for each core and kernel at 256 x 256, a column for each width."""
    table: dict[tuple, dict] = {}
    for row in rows:
        fast = row["kernel"] not in ("c", "ref") or row["core"] in ("cortex-m0plus", "cortex-m3")
        if not fast or (row["batch"] == 4 and row["kernel"] != "i8mm"):
            continue
        loop = f"{row['kernel']} loop" if row["kernel"] in ("float32", "int8") else row["kernel"]
        packed = f"ours, {row['kernel']}" + (f", for {row['target']}" if row["target"] != "any" else "")
        name = packed if row["kernel"] in OURS else loop
        key = (row["core"], name, row["batch"])
        entry = table.setdefault(key, {"core": row["core"], "kernel": name, "batch": row["batch"]})
        entry[f"b{row['bits']}"] = row["256x256"]
    return list(table.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", default=",".join(emulation.emulated()))
    parser.add_argument("--name", default="arm_kernels", help="results/NAME.json")
    args = parser.parse_args()
    names = args.cores.split(",")
    emulation.require_tools([*tools_of(names), *cycles.TOOLS])
    rows, notes = [], [compilers_of(names)]
    for name in names:
        core = emulation.CORES[name]
        with tempfile.TemporaryDirectory() as folder:
            found, kind = measure(core, pathlib.Path(folder))
        rows += found
        notes.append(f"{name}: the int8 loop uses {kind}.")
        for row in found:
            keys = [*(f"{i}x{o}" for i, o in SIZES), "zero_point", "cycles"]
            figures = " ".join(f"{row.get(key, float('nan')):6.3f}" for key in keys)
            kernel = f"{row['kernel']:10} {row['target']:12} {row['bits']:2} bits, batch {row['batch']}"
            print(f"{name:13} {kernel}: {figures} {row['code'] or 0:5} bytes", flush=True)
        for peer, bits, figure in PEERS.get(name, ()):
            rows.append({"core": name, "kernel": peer, "target": "", "bits": bits, "batch": 1, "256x256": figure})
    title = "Instructions per multiply-accumulate of a dense layer (inputs x outputs), counted under QEMU"
    print(common.write(args.name, title, COLUMNS, rows, notes))
    if args.name == "arm_kernels":
        title = "Instructions per multiply-accumulate, dense layer of 256 x 256, by bits of a weight"
        print(common.write("arm_kernels_256", title, SHORT_COLUMNS, short_table(rows), notes))


if __name__ == "__main__":
    main()
