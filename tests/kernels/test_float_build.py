"""Builds of the float code: nothing is fused, whatever the compiler; and firmware without floats."""

from __future__ import annotations

import pathlib
import re
import subprocess

import pytest

from benchmarks import emulation
from tflite_export.kernels import build_list

FUSED = re.compile(r"\t(fn?m(?:add|sub)|fml[as]|vfn?m[as]\w*(?:\.\w+)*)\s")
"""Fused multiply-adds of Arm (fmadd, fmla, vfma.f32 ...) and x86 (vfmadd213ss ...)."""
ARM64 = ("-march=armv8-a", "-O3")
M4 = ("-mthumb", "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-O3")
M55 = ("-mthumb", "-mcpu=cortex-m55", "-mfloat-abi=hard", "-O3")
A7 = ("-march=armv7-a", "-mfpu=neon-vfpv4", "-mfloat-abi=hard", "-O3")
CLANG_M55 = ("--target=thumbv8.1m.main-none-eabihf", "-isystem", "/usr/include/newlib", *M55)
BUILDS = {
    "gcc-aarch64": ("aarch64-linux-gnu-gcc", *ARM64),
    "gcc-armv7": ("arm-linux-gnueabihf-gcc", *A7),
    "gcc-cortex-m4": ("arm-none-eabi-gcc", *M4),
    "gcc-cortex-m55": ("arm-none-eabi-gcc", *M55),
    "gcc-fma": ("gcc", "-march=x86-64", "-mavx2", "-mfma", "-O3"),
    "clang-aarch64": (emulation.CLANG, "--target=aarch64-linux-gnu", *ARM64),
    "clang-cortex-m55": (emulation.CLANG, *CLANG_M55),
    "clang-fma": (emulation.CLANG, "-march=x86-64", "-mavx2", "-mfma", "-O3"),
}


def disassembly(objdump: str, path: pathlib.Path) -> str:
    return subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    ).stdout


def objdump_of(build: str) -> str:
    cores = {"aarch64": "aarch64-linux-gnu-", "armv7": "arm-linux-gnueabihf-", "cortex": "arm-none-eabi-"}
    return next((prefix for core, prefix in cores.items() if core in build), "") + "objdump"


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("source", ["dense/dynamic.c", "ops/float_ops.c"])
def test_nothing_is_fused(build: str, source: str, require_tool, tmp_path: pathlib.Path) -> None:
    objdump = objdump_of(build)
    require_tool(BUILDS[build][0])
    require_tool(objdump)
    made = tmp_path / "made.o"
    command = [
        *BUILDS[build],
        "-std=gnu99",
        *emulation.WARNINGS,
        "-c",
        str(emulation.KERNELS / source),
        "-o",
        str(made),
    ]
    subprocess.run(command, check=True)
    text = disassembly(objdump, made)
    assert re.search(r"\tv?mul|\tfmul", text), "floats are multiplied here"
    assert not FUSED.findall(text)


def test_a_fused_one_would_be_seen(require_tool, tmp_path: pathlib.Path) -> None:
    """Without the pragma, these flags fuse."""
    require_tool("aarch64-linux-gnu-gcc")
    source = tmp_path / "fused.c"
    source.write_text("float f(float a, float b, float c) { return a * b + c; }\n")
    subprocess.run(
        [*BUILDS["gcc-aarch64"], "-std=gnu99", "-c", str(source), "-o", str(tmp_path / "made.o")], check=True
    )
    assert FUSED.findall(disassembly("aarch64-linux-gnu-objdump", tmp_path / "made.o"))


def test_nothing_is_fused_in_cpp(require_tool, tmp_path: pathlib.Path) -> None:
    """The functions, in a C++ program."""
    require_tool("g++")
    source = tmp_path / "activate.cc"
    source.write_text('#include "kernels/dense/float_math.h"\nfloat f(float y, int k) { return kws_activate(y, k); }\n')
    made = tmp_path / "made.o"
    command = ["g++", "-std=gnu++17", "-O3", "-mavx2", "-mfma", *emulation.include_flags(), "-c", str(source)]
    subprocess.run([*command, "-o", str(made)], check=True)
    text = disassembly("objdump", made)
    assert "mulss" in text and not FUSED.findall(text)


def test_fast_math_is_refused(require_tool, tmp_path: pathlib.Path) -> None:
    require_tool("gcc")
    command = [
        "gcc",
        "-ffast-math",
        "-c",
        str(emulation.KERNELS / "dense" / "dynamic.c"),
        "-o",
        str(tmp_path / "made.o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "build the kernels without it" in done.stderr


@pytest.mark.parametrize("compiler", [("gcc",), ("arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m0plus")])
def test_a_build_without_dynamic_mode(compiler: tuple[str, ...], require_tool, tmp_path: pathlib.Path) -> None:
    """-DKWS_DYNAMIC=0 builds, and has no float arithmetic: not even the compiler's library for it."""
    require_tool(compiler[0])
    sources = [str(build_list.PACKAGE / name) for name in build_list.KERNEL_SOURCES]
    command = [*compiler, "-std=gnu99", "-O2", *emulation.WARNINGS, "-DKWS_DYNAMIC=0", "-c", *sources]
    subprocess.run(command, check=True, cwd=tmp_path)
    nm = compiler[0].removesuffix("gcc") + "nm"
    for path in tmp_path.glob("*.o"):
        names = subprocess.run([nm, str(path)], capture_output=True, text=True, check=True).stdout
        assert not re.findall(r"kws_dynamic\w*|kws_float\w*|__aeabi_f(?:add|mul|div|sub)", names), path.name
