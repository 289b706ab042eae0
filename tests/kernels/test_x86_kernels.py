"""Kernels for x86 processors that few machines have: run where they are, and anywhere on an emulated instruction."""

from __future__ import annotations

import pathlib
import platform

import dynamic_cases as dg
import export_graphs as eg
import kept
import numpy as np
import pytest
from kernel_cases import RUNNER, cases, processor_flags, take_cases

from benchmarks import emulation
from tflite_export import ir
from tflite_export.packed import op_options

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="kernels for x86-64")
EMULATED = RUNNER.with_name("dense_vnni_emulated.c")
REPLACED = {"cpu.o", "dense_avxvnni.o"}


def dynamic(rng: np.random.Generator) -> list[tuple[ir.Graph, dict[str, np.ndarray]]]:
    """Layers of every width and grid, whose inputs fill vectors and do not."""
    out = []
    for bits, grid in dg.WIDTHS:
        for n, outputs in ((1, 9), (16, 8), (33, 17), (80, 31)):
            graph = dg.dense(rng, (n,), outputs, bits, dg.input_bits(bits)[-1], grid)
            out.append((graph, {"x0": dg.rows(rng, (2, n))}))
    return out


@pytest.mark.parametrize(("flag", "name"), [("avx_vnni", "avxvnni"), ("avx512_vnni", "avx512vnni")])
def test_the_processor_runs_it(flag: str, name: str, rng: np.random.Generator) -> None:
    """All tests of kernels run what suits the processor: here it is among them."""
    if flag not in processor_flags():
        pytest.skip(f"this processor has no {flag}: the kernel's code runs on an emulated instruction alone")
    names = [kernel.name.decode() for kernel in eg.kernels(int(op_options.Kind.PACKED_DENSE))]
    assert {f"kws_packed_dense_{name}", f"kws_dynamic_dense_{name}"} <= set(names)
    for bits in range(1, 9):
        graph = eg.dense(rng, (100,), 19, bits)
        values = eg.feeds(rng, graph, 3)
        call = eg.call_of(graph, values)
        (kernel,) = (kernel for kernel in eg.kernels(call.kind) if kernel.name.decode() == f"kws_packed_dense_{name}")
        np.testing.assert_array_equal(call.run(kernel), eg.check_kernels(graph, values), strict=True)


@pytest.mark.parametrize(
    ("kernel", "name", "make"),
    [("packed", "dense-cases", lambda rng: cases(rng, 20)), ("dynamic", "vnni-dynamic-cases", dynamic)],
)
def test_vnni_on_an_emulated_instruction(
    kernel: str, name: str, make, kernel_objects, require_tool, tmp_path_factory, tmp_path: pathlib.Path
) -> None:
    core = emulation.CORES["host" if "avx2" in processor_flags() else "x86-64"]  # QEMU's has it
    for tool in core.tools:
        require_tool(tool)
    count = take_cases(tmp_path_factory, tmp_path, name, make)
    objects = [path for path in kernel_objects(core) if path.name not in REPLACED]
    assert len(objects) == len(kernel_objects(core)) - len(REPLACED)
    program = emulation.build(core, [RUNNER, EMULATED], tmp_path, kept.flags_of(core), kernel_objects=objects)
    lines = emulation.run(core, program).splitlines()
    assert lines[-1] == f"done {count}"
    ran = {name: (int(times), int(wrong)) for name, times, wrong in (line.split() for line in lines[:-1])}
    times, wrong = ran[f"kws_{kernel}_dense_avxvnni"]
    assert times > 60 and wrong == 0


@pytest.mark.parametrize(("bits", "inputs"), [(1, 1_200_000), (2, 400_000), (4, 400_016)])
def test_long_rows(bits: int, inputs: int) -> None:
    """The largest codes and inputs, more of them than sums of 32 bits have room for at once."""
    weights = ir.Weights(np.full((9, inputs), (1 << bits) - 1, np.uint8), bits, "mid-rise")
    rq = ir.Requantization(np.full(9, 100, np.int16), np.zeros(9, np.int16), 1 << 8, 8, 38)
    tensors = {name: ir.Tensor(name, (size,), ir.Quantization(1.0, 0)) for name, size in (("x0", inputs), ("y", 9))}
    graph = ir.Graph(tensors, (ir.PackedDense("dense", "x0", "y", weights, rq),), ("x0",), ("y",))
    eg.check_kernels(graph, {"x0": np.full((1, inputs), -128, np.int8)})
