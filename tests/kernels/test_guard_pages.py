"""Kernels touch nothing outside of their tensors: each ends or begins at memory that is a fault to touch.

Sanitizers see that on the host alone; here it is seen by the processor, for assembly and intrinsics of every kind.
"""

from __future__ import annotations

import pathlib

import pytest
from kernel_cases import DEPTHWISE, EXPECTED, RUNNER

from benchmarks import emulation

PROGRAM = RUNNER.with_name("run_guarded.c")
_DSP = (
    *("arm-linux-gnueabihf-gcc", "-mthumb", "-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard"),
    *("-U__ARM_ARCH_PROFILE", "-D__ARM_ARCH_PROFILE='M'"),
)
CORES = {
    "host": emulation.CORES["host"],
    "cortex-a53": emulation.CORES["cortex-a53"],
    "armv8-i8mm": emulation.CORES["armv8-i8mm"],
    "cortex-a7": emulation.CORES["cortex-a7"],
    # The instructions of a Cortex-M4 in a program under Linux, which has pages to guard.
    "cortex-m4": emulation.Core("dsp", _DSP, ("qemu-arm", "-cpu", "cortex-a7")),
    # On the board itself, by its memory protection unit: no program under Linux has these vectors.
    "cortex-m55": emulation.CORES["cortex-m55"],
}
OPS = {"host": 3000, "cortex-m55": 60}
"""How many ops; a thousand elsewhere. The board's program has no command line and takes its own number."""


def _run(core: emulation.Core, folder: pathlib.Path, count: int, objects: list[pathlib.Path], *flags: str) -> str:
    program = emulation.build(core, [PROGRAM], folder, ("-O2", *flags), kernel_objects=objects, link_flags=("-lm",))
    if core.board:
        return emulation.run(core, program)
    return emulation._run([*core.emulator, str(program), "0", str(count)], folder, 600)


@pytest.mark.parametrize("name", CORES)
def test_kernels_stay_inside_their_tensors(name: str, require_tool, kernel_objects, tmp_path: pathlib.Path) -> None:
    core = CORES[name]
    for tool in core.tools:
        require_tool(tool)
    objects = kernel_objects(core, ("-O2",))
    said = _run(core, tmp_path, OPS.get(name, 1000), objects)
    ran = {line.split()[0]: int(line.split()[1]) for line in said.splitlines()[:-1]}
    assert {f"kws_packed_dense_{kernel}" for kernel in EXPECTED[name] | {"ref"}} <= set(ran)
    assert {f"kws_depthwise_{kernel}" for kernel in DEPTHWISE[name] | {"ref"}} <= set(ran)
    assert {"kws_recurrent", "kws_recurrent_ref", "kws_waveform", "kws_waveform_ref"} <= set(ran)
    assert sum(ran.values()) > 60 and ", 0 wrong" in said.splitlines()[-1]


@pytest.mark.parametrize("name", ["host", "cortex-m55"])
def test_a_byte_too_far_is_seen(name: str, require_tool, kernel_objects, tmp_path: pathlib.Path) -> None:
    """The guards themselves: a kernel that reads one row too many, and one that writes one output too many."""
    core = CORES[name]
    for tool in core.tools:
        require_tool(tool)
    objects = kernel_objects(core, ("-O2",))
    for number, lie in enumerate(("READ_TOO_FAR", "WRITE_TOO_FAR")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(emulation.EmulationError, match="signal 11 in op|outside of a tensor: op|ended with 40"):
            _run(core, folder, 10, objects, f"-D{lie}")
