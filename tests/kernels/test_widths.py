"""KWS_WIDTHS leaves the code of other widths out of every instruction set's file."""

from __future__ import annotations

import pathlib
import platform
import re
import subprocess

import kept
import pytest

from benchmarks import emulation

FILES = {
    "dense_c": ("cortex-m3", r"(?:sums|lanes)_of_(\d)"),
    "dense_dsp": ("cortex-m4", r"(?:rows|dots)_(\d)"),
    "dense_mve": ("cortex-m55", r"dots_of_(\d)"),
    "dense_neon": ("cortex-a53", r"kws_run_(\d)"),
    "dense_dotprod": ("cortex-a53", r"kws_sum_(\d)"),
    "dense_i8mm": ("cortex-a53", r"kws_sum_(\d)"),
    "dense_tables": ("cortex-a53", "kws_packed_dense_(tables)"),
}
if platform.machine() == "x86_64":  # the host's compiler makes code for it
    FILES |= {f"dense_{isa}": ("x86-64", r"kws_run_(\d)") for isa in ("avx2", "avxvnni", "avx512vnni")}
"""A core that compiles it, and how its functions for one width are called."""
STORED = {3: 4}
"""A width that the layout for the DSP extension stores in a wider one."""


def measured(file: str, made: pathlib.Path) -> tuple[int, set[str]]:
    """Bytes of code and constants of a file's object, and the widths that its functions are named for."""
    core, pattern = FILES[file]
    tools = {"cortex-a53": "aarch64-linux-gnu-", "x86-64": ""}.get(core, "arm-none-eabi-")
    size = subprocess.run([f"{tools}size", str(made)], capture_output=True, text=True, check=True).stdout
    names = subprocess.run([f"{tools}nm", str(made)], capture_output=True, text=True, check=True).stdout
    found = re.findall(rf" [tT] {pattern}(?:\.\w+)*$", names, re.MULTILINE)
    return int(size.splitlines()[1].split()[0]), set(found)


@pytest.mark.parametrize("file", FILES)
def test_one_width_is_all_that_is_there(file: str, tmp_path: pathlib.Path, require_tool, kernel_objects) -> None:
    core = emulation.CORES[FILES[file][0]]
    require_tool(core.compiler[0])
    (made,) = [path for path in kernel_objects(core) if path.stem == file]
    whole, widths = measured(file, made)
    bits = 4 if file != "dense_dsp" else 3
    flags = (*kept.flags_of(core), f"-DKWS_WIDTHS=(1<<{bits})")
    (made,) = emulation.compile_kernels(core, tmp_path, flags, names=[f"kernels/dense/isa/{file}.c"])
    size, left = measured(file, made)
    if file == "dense_tables":  # for one bit alone
        assert whole > 500 and widths == {"tables"} and (size, left) == (0, set())
        return
    assert widths == set("12345678")
    assert left <= {str(bits), str(STORED.get(bits, bits))}
    assert 0 < size < 0.6 * whole, (size, whole)
