# SPDX-License-Identifier: Apache-2.0
"""Weights of few bits in 8-bit containers, as Zeng et al. 2022 ran them with NEON, against packed ones.

    python -m benchmarks.containers

Reads ``results/arm_kernels.json`` and ``results/sizes.json``: run ``benchmarks.arm_kernels`` and ``benchmarks.sizes``
first. The paper claims up to 3 times less CPU than float32 and over 4 times less memory.
"""

from __future__ import annotations

import json

from benchmarks import common

CORE = "cortex-a53"
COLUMNS = (
    ("weights", "weights", ""), ("instructions", "instructions a MAC, A53, 256 x 256", ".3f"),
    ("cpu", "CPU: times less than float32", ".2f"), ("bytes", "250K model, file bytes", ",d"),
    ("memory", "memory: times less than float32", ".2f"),
)  # fmt: skip


def rows() -> list[dict]:
    """Float, containers and packed weights; raises SystemExit where a result is missing."""
    try:
        kernels = json.loads((common.RESULTS / "arm_kernels.json").read_text())["rows"]
        sizes = json.loads((common.RESULTS / "sizes.json").read_text())["rows"]
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename} is missing: run benchmarks.arm_kernels and benchmarks.sizes") from None
    here = [r for r in kernels if r["core"] == CORE and r["batch"] == 1]

    def cost(kernel: str, bits: int) -> float:
        return min(r["256x256"] for r in here if r["kernel"] == kernel and r["bits"] == bits)

    spotter = {int(r["bits"].split()[0]): r for r in sizes if r["model"].startswith("250K")}
    float_cost, float_bytes = cost("float32", 32), spotter[8]["float_bytes"]
    table = [("float32", float_cost, float_bytes)]
    table += [(f"{bits} bits in 8-bit containers", cost("int8", 8), spotter[bits]["builtin"]) for bits in (8, 5, 4)]
    for bits in range(8, 0, -1):
        name = f"{bits} bit{'s' if bits > 1 else ''}, packed (ours)"
        table.append((name, cost("neon", bits), spotter[bits]["bytes"]))
    return [
        {
            "weights": name,
            "instructions": instructions,
            "cpu": float_cost / instructions,
            "bytes": size,
            "memory": float_bytes / size,
        }
        for name, instructions, size in table
    ]


def main() -> None:
    """The command."""
    table = rows()
    for row in table:
        print(row)
    notes = [
        "float32 and containers: the plain NEON loops of benchmarks/arm/loops.c. XNNPACK's float32 takes 0.479 and its "
        "int8 0.299 instructions a MAC on the same core."
    ]
    common.write("containers", "8-bit containers and packed weights on Cortex-A53", COLUMNS, table, notes)


if __name__ == "__main__":
    main()
