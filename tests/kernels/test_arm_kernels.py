"""Every kernel of every core gives the reference's bits, under QEMU, and here under sanitizers."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import kept
import numpy as np
import pytest
from kernel_cases import (
    DEPTHWISE,
    EXPECTED,
    WIDTHS,
    cases,
    check,
    dense_case,
    depthwise_cases,
    recurrent_cases,
    take_cases,
    waveform_cases,
    write_cases,
)

from benchmarks import arm_kernels, emulation
from tflite_export.packed import packing


@pytest.fixture
def run_cases(
    require_tool, kernel_objects, tmp_path_factory: pytest.TempPathFactory, tmp_path: pathlib.Path
) -> Callable[..., tuple[int, dict[str, int]]]:
    """``run_cases(core, name, make)``: how many cases there are, and how many each kernel of the core ran."""

    def run(name: str, cases_name: str, make: Callable) -> tuple[int, dict[str, int]]:
        core = emulation.CORES[name]
        for tool in (core.compiler[0], *core.emulator[:1]):
            require_tool(tool)
        count = take_cases(tmp_path_factory, tmp_path, cases_name, make)
        return count, check(core, tmp_path, count, kept.flags_of(core), kernel_objects(core))

    return run


@pytest.mark.parametrize("name", EXPECTED)
def test_kernels(name: str, run_cases) -> None:
    count, ran = run_cases(name, "dense-cases", lambda rng: cases(rng, 20))
    assert {f"kws_packed_dense_{kernel}" for kernel in EXPECTED[name] | {"ref"}} <= set(ran)
    one_bit = ran.pop("kws_packed_dense_tables", count)
    assert one_bit >= count // (len(WIDTHS) * len(packing.TARGETS))
    least = count // len(packing.TARGETS)
    aligned = {kernel for kernel in ran if "_dsp" in kernel}  # for weights at addresses of words, here every fourth
    assert all(times >= (least // 6 if kernel in aligned else least) for kernel, times in ran.items())


@pytest.mark.parametrize("name", ["cortex-m55", "armv8-i8mm", "cortex-a7"])
def test_kernels_by_clang(name: str, require_tool, tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    """The code that benchmarks count, of each of clang's targets."""
    core, compiler = emulation.CORES[name], arm_kernels.COMPILERS[name]
    for tool in (*core.tools, compiler[0]):
        require_tool(tool)
    count = write_cases(tmp_path / "cases.bin", rng, cases(rng, 2))
    ran = check(core, tmp_path, count, ("-O2",), compiler=compiler)
    assert {f"kws_packed_dense_{kernel}" for kernel in EXPECTED[name] | {"ref"}} <= set(ran)


@pytest.mark.parametrize("name", EXPECTED)
def test_depthwise_kernels(name: str, run_cases) -> None:
    count, ran = run_cases(name, "depthwise-cases", depthwise_cases)
    assert ran == dict.fromkeys((f"kws_depthwise_{kernel}" for kernel in ("ref", *DEPTHWISE[name])), count)


@pytest.mark.parametrize("name", EXPECTED)
def test_recurrent_kernels(name: str, run_cases) -> None:
    """The dense kernels of a core, with outputs of 16 bits."""
    count, ran = run_cases(name, "recurrent-cases", recurrent_cases)
    assert ran == {"kws_recurrent_ref": count, "kws_recurrent": count}


@pytest.mark.parametrize("name", EXPECTED)
def test_waveform_kernels(name: str, run_cases) -> None:
    """The dense kernels of a core, on both bytes of samples."""
    count, ran = run_cases(name, "waveform-cases", waveform_cases)
    assert ran == {"kws_waveform_ref": count, "kws_waveform": count}


def test_a_build_with_one_width(require_tool, kernel_objects, tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    """KWS_WIDTHS leaves the other widths out, and says so where a model needs them."""
    core = emulation.CORES["cortex-m4"]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    chosen = [dense_case(rng, (n,), 9, 4, "mid-rise", 1) for n in (16, 33)]
    count = write_cases(tmp_path / "cases.bin", rng, chosen)
    check(core, tmp_path, count, ("-O2", "-DKWS_WIDTHS=(1 << 4)"))
    (whole,) = [path for path in kernel_objects(core) if path.name == "dense_dsp.o"]
    assert (tmp_path / "dense_dsp.o").stat().st_size < whole.stat().st_size / 2
    write_cases(tmp_path / "cases.bin", rng, [dense_case(rng, (16,), 9, 5, "mid-rise", 1)])
    with pytest.raises(emulation.EmulationError, match="of a width that this build leaves out"):
        emulation.run(core, tmp_path / "cortex-m4.elf")
