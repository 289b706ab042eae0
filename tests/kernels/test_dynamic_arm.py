"""Dynamic quantization on every core, under QEMU, and here under sanitizers: the bits of the numpy reference."""

from __future__ import annotations

import pathlib

import dynamic_cases as dg
import kept
import numpy as np
import pytest
from kernel_cases import EXPECTED, check, take_cases

from benchmarks import emulation
from tflite_export import ir

KERNELS = {
    "host": {"c", "avx2"} if "avx2" in EXPECTED["host"] else {"c", "neon"},
    "cortex-a53": {"c", "neon"},
    "cortex-a76": {"c", "neon", "dotprod"},
    "armv8-i8mm": {"c", "neon", "dotprod"},
    "cortex-a7": {"c", "neon"},
    "cortex-m0plus": {"c"},
    "cortex-m3": {"c"},
    "cortex-m4": {"c", "dsp"},
    "cortex-m7": {"c", "dsp"},
    "cortex-m33": {"c", "dsp"},
    "cortex-m55": {"c", "mve"},
}
"""Kernels that a core must have beside the reference."""
INPUTS = (1, 3, 8, 15, 16, 17, 31, 32, 33, 39, 48, 63, 64, 65, 127, 128, 129)
F = np.float32
Case = tuple[ir.Graph, dict[str, np.ndarray]]


def dense_cases(rng: np.random.Generator, sizes: int) -> list[Case]:
    """``sizes`` random sizes for each width and grid, the largest sums, long rows and windows."""
    out = []
    for bits, grid in dg.WIDTHS:
        for _ in range(sizes):
            n, codes = int(rng.choice(INPUTS)), int(rng.choice(dg.input_bits(bits)))
            graph = dg.dense(rng, (n,), int(rng.choice([1, 2, 7, 8, 9, 16, 17, 24, 31])), bits, codes, grid)
            out.append((graph, {"x0": dg.rows(rng, (int(rng.choice([1, 2])), n))}))
        for corner in ("least", "most", "alternating"):
            for n in (64, 71, 1040, 2064):
                graph = dg.dense(rng, (n,), 9, bits, dg.input_bits(bits)[-1], grid, None, corner, "linear")
                x = np.ones((2, n), F)
                x[0, 0], x[1, 1:] = -1, -1
                out.append((graph, {"x0": x}))
        for window in (ir.Window((3, 1)), ir.Window((3, 1), (2, 1), (2, 1), (1, 2, 0, 0))):
            shape = (9, int(rng.choice([5, 16, 32])))
            graph = dg.dense(rng, shape, 9, bits, dg.input_bits(bits)[-1], grid, window)
            out.append((graph, {"x0": dg.rows(rng, (2, *shape))}))
        picture = ir.Window((2, 3), (1, 2), (1, 1), (1, 0, 1, 1))
        graph = dg.dense(rng, (4, 5, 3), 10, bits, dg.input_bits(bits)[-1], grid, picture)
        out.append((graph, {"x0": dg.rows(rng, (1, 4, 5, 3))}))
    w = dg.weights(rng, 3, 32767, 16, "linear", "least")
    w.codes[1], w.zeros[1] = 65535, 0
    w.codes[2, ::2], w.zeros[2] = 65535, 32768
    op = ir.DynamicDense("d", "x0", "y", w, 16, np.array([1, 2, 3], np.int16), 2.0**-20)
    x = np.ones((2, 32767), F)
    x[0, 0], x[1, 1:] = -1, -1
    out.append((dg.single(op, (32767,)), {"x0": x}))
    for kind in dg.HARD:
        for bits, grid in ((4, "linear"), (16, "linear"), (7, "mid-tread")):
            for function in ir.FUNCTIONS:
                unit = float(rng.choice([2.0**-20, 2.0**-39, 2.0**-60, 2.0**-140]))
                n, codes = int(rng.choice([5, 37, 64])), dg.input_bits(bits)[-1]
                graph = dg.dense(rng, (n,), 13, bits, codes, grid, function=function, unit=unit)
                out.append((graph, {"x0": dg.rows(rng, (2, n), kind)}))
    return out


def other_cases(rng: np.random.Generator) -> list[Case]:
    """The other ops on floats."""
    out = []
    x = dg.samples()[::11]
    for function in ir.FUNCTIONS:
        out.append((dg.single(ir.FloatFunction("f", "x0", "y", function), x.shape), {"x0": x[None]}))
    for n in (1, 2, 12, 35):
        graph = dg.single(ir.FloatSoftmax("s", "x0", "y"), (3, n))
        out.append((graph, {"x0": (rng.normal(size=(2, 3, n)) * 5).astype(F)}))
    picture = ir.Window((2, 3), (1, 2), (1, 1), (1, 0, 1, 1))
    for window in (ir.Window((3, 1)), ir.Window((3, 1), (2, 1), (2, 1), (1, 2, 0, 0)), picture):
        for channels in (1, 4, 7):
            shape = (4, 5, channels) if window is picture else (9, channels)
            kernel = rng.normal(size=(window.taps, 2 * channels)).astype(F)
            bias = rng.normal(size=2 * channels).astype(F)
            function = str(rng.choice(ir.FUNCTIONS))
            ops = [
                ir.FloatDepthwise("d", "x0", "y", kernel, bias, function, window),
                ir.FloatAverage("p", "x0", "y", window),
            ]
            if window.dilation[0] > 1:  # the others are TensorFlow Lite's own
                ops.append(ir.MaxPool("p", "x0", "y", window))
            out += [(dg.single(op, shape), {"x0": dg.rows(rng, (2, *shape), "normal")}) for op in ops]
    for op_type in (ir.FloatAdd, ir.FloatMultiply):
        for function in ir.FUNCTIONS:
            graph = dg.single(op_type("p", ("x0", "x1"), "y", function), (3, 7), (3, 7))
            out.append((graph, {f"x{i}": dg.rows(rng, (2, 3, 7)) for i in range(2)}))
    return out


def all_cases(rng: np.random.Generator, sizes: int) -> list[Case]:
    return dense_cases(rng, sizes) + other_cases(rng)


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(
    name: str, require_tool, kernel_objects, tmp_path_factory: pytest.TempPathFactory, tmp_path: pathlib.Path
) -> None:
    core = emulation.CORES[name]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    count = take_cases(tmp_path_factory, tmp_path, "dynamic-cases", lambda rng: all_cases(rng, 14))
    ran = check(core, tmp_path, count, kept.flags_of(core), kernel_objects(core))
    assert {f"kws_dynamic_dense_{kernel}" for kernel in KERNELS[name] | {"ref"}} <= set(ran)
    dense = ran["kws_dynamic_dense_ref"]
    assert all(ran[f"kws_dynamic_dense_{kernel}"] == dense for kernel in KERNELS[name])
    assert count == dense + sum(times for kernel, times in ran.items() if "_float_" in kernel)
