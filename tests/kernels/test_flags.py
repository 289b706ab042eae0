"""Kernels compiled as other projects compile: canaries, instrumentation, any processor, no optimization."""

from __future__ import annotations

import pathlib
import runpy
import shutil

import numpy as np
import pytest
from kernel_cases import RUNNER, dense_case, write_cases

from benchmarks import emulation
from tflite_export.kernels import build_list

STUBS = RUNNER.with_name("instrumentation.c")
DSP, MVE = "kernels/dense/isa/dense_dsp.c", "kernels/dense/isa/dense_mve.c"
ARM64 = ("kernels/dense/isa/dense_dotprod.c", "kernels/dense/isa/dense_i8mm.c")
INSTRUMENTED = {
    "canaries": ("-fstack-protector-all",),
    "calls": ("-finstrument-functions",),
    "pg": ("-pg",),
    "arcs": ("-fprofile-arcs",),
    "coverage": ("-fsanitize-coverage=trace-pc",),
    "frames, no optimization": ("-O0", "-fno-omit-frame-pointer"),
}
"""What puts code of its own into every function."""


def _swap(
    core: emulation.Core,
    folder: pathlib.Path,
    name: str,
    flags: tuple[str, ...],
    kept_objects: list[pathlib.Path],
    kernels: pathlib.Path = emulation.KERNELS,
) -> list[pathlib.Path]:
    """The kernels' objects, one of them compiled again with flags of its own."""
    inner = folder / "swapped"
    inner.mkdir()
    (made,) = emulation.compile_kernels(core, inner, ("-O2", *flags), kernels, names=(name,))
    return [made, *(path for path in kept_objects if path.name != made.name)]


def _run(core: emulation.Core, folder: pathlib.Path, rng: np.random.Generator, objects: list[pathlib.Path]) -> str:
    chosen = [dense_case(rng, (n,), 9, bits, "mid-rise", 1) for bits in (1, 2, 3, 4, 5, 8) for n in (16, 90)]
    count = write_cases(folder / "cases.bin", rng, chosen)
    program = emulation.build(core, [RUNNER, STUBS], folder, kernel_objects=objects)
    said = emulation.run(core, program)
    assert said.splitlines()[-1] == f"done {count}"
    return said


@pytest.mark.parametrize("flags", INSTRUMENTED.values(), ids=INSTRUMENTED)
def test_instrumented_code_on_cortex_m4(
    flags: tuple[str, ...], require_tool, kernel_objects, tmp_path: pathlib.Path, rng: np.random.Generator
) -> None:
    """The loops in assembly own all registers: one instruction of anybody else's and every sum is wrong."""
    core = emulation.CORES["cortex-m4"]
    for tool in core.tools:
        require_tool(tool)
    said = _run(core, tmp_path, rng, _swap(core, tmp_path, DSP, flags, kernel_objects(core)))
    assert "kws_packed_dense_dsp " in said and "kws_packed_dense_dsp_rows " in said


def test_vector_kernels_without_optimization(
    require_tool, kernel_objects, tmp_path: pathlib.Path, rng: np.random.Generator
) -> None:
    core = emulation.CORES["cortex-m55"]
    for tool in core.tools:
        require_tool(tool)
    flags = ("-O0", "-fno-omit-frame-pointer")
    assert "kws_packed_dense_mve " in _run(core, tmp_path, rng, _swap(core, tmp_path, MVE, flags, kernel_objects(core)))


def test_the_self_test_finds_a_kernel_that_a_flag_broke(
    require_tool, kernel_objects, tmp_path: pathlib.Path, rng: np.random.Generator
) -> None:
    core = emulation.CORES["cortex-m4"]
    for tool in core.tools:
        require_tool(tool)
    kernels = tmp_path / "tree" / "kernels"
    shutil.copytree(emulation.KERNELS, kernels, ignore=shutil.ignore_patterns("__pycache__"))
    header = kernels / "dense" / "isa" / "dense_dsp.h"
    text = header.read_text()
    assert "#define ASSEMBLY_ONLY NO_CANARY " in text
    header.write_text(text.replace("#define ASSEMBLY_ONLY NO_CANARY ", "#define ASSEMBLY_ONLY "))
    objects = _swap(core, tmp_path, DSP, INSTRUMENTED["canaries"], kernel_objects(core), kernels)
    with pytest.raises(emulation.EmulationError, match="self-test: a kernel computes wrong numbers"):
        _run(core, tmp_path, rng, objects)


PROCESSORS = (
    *("-mcpu=cortex-a710", "-march=armv8.2-a+sve2"),  # Armv9, and less than what the kernels' own target says
    *("-mcpu=cortex-a55", "-mcpu=cortex-a76", "-mcpu=neoverse-n1", "-march=armv9-a", "-march=armv8-a+crypto"),
)


@pytest.mark.parametrize("flag", PROCESSORS)
def test_dot_products_are_compiled_for_any_processor(flag: str, require_tool, tmp_path: pathlib.Path) -> None:
    core = emulation.CORES["cortex-a53"]
    require_tool(core.compiler[0])
    one_width = ("-O1", "-DKWS_WIDTHS=(1 << 4)")  # which calls every function of arm_neon.h that the others do
    made = emulation.compile_kernels(core, tmp_path, one_width, compiler=(core.compiler[0], flag), names=ARM64)
    assert len(made) == 2


def test_the_vectors_of_the_self_test_are_the_references() -> None:
    """scripts/make_self_test.py writes what is there."""
    script = runpy.run_path(str(emulation.ROOT / "scripts" / "make_self_test.py"))
    assert script["TARGET"].read_text() == script["text"]()
    assert "kernels/core/self_test.c" in build_list.KERNEL_SOURCES
