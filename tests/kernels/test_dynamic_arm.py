"""Dynamic quantization on every core, under QEMU, and here under sanitizers: the bits of the numpy reference."""

from __future__ import annotations

import pathlib

import dynamic_cases
import kept
import pytest
from kernel_cases import EXPECTED, check, take_cases

from benchmarks import emulation

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


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(
    name: str, require_tool, kernel_objects, tmp_path_factory: pytest.TempPathFactory, tmp_path: pathlib.Path
) -> None:
    core = emulation.CORES[name]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    count = take_cases(tmp_path_factory, tmp_path, "dynamic-cases", lambda rng: dynamic_cases.all_cases(rng, 14))
    ran = check(core, tmp_path, count, kept.flags_of(core), kernel_objects(core))
    assert {f"kws_dynamic_dense_{kernel}" for kernel in KERNELS[name] | {"ref"}} <= set(ran)
    dense = ran["kws_dynamic_dense_ref"]
    assert all(ran[f"kws_dynamic_dense_{kernel}"] == dense for kernel in KERNELS[name])
    assert count == dense + sum(times for kernel, times in ran.items() if "_float_" in kernel)
