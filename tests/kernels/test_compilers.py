"""Other compilers, other byte orders: no warning, and the reference's bits. scripts/compilers.py tries many more."""

from __future__ import annotations

import pathlib
import subprocess

import compilers
import kept
import pytest

from benchmarks import emulation
from tflite_export.kernels import build_list

TFLM = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "tflm" / "include"
RUNS = {
    # the oldest and the newest of the distribution; what is not optimized, and what is most
    "clang-14": (compilers.host("clang-14"), ("-O3", "-funsigned-char")),
    "clang-22": (compilers.host("clang-22"), ("-O1", "-std=c2x", "-fshort-enums")),
    "gcc-11": (compilers.host("gcc-11"), ("-O0",)),
    "gcc-12": (compilers.host("gcc-12"), ("-O1",)),
    # before version 16 clang has dot products in its assembler alone
    "clang-14 i8mm": (compilers.by_clang("clang-14", "armv8-i8mm"), ("-O1",)),
    # clang keeps a frame pointer for these, which the assembly has to leave alone
    "clang-14 m55": (compilers.by_clang("clang-14", "cortex-m55"), ("-Os",)),
    "clang-22 m4": (compilers.by_clang("clang-22", "cortex-m4"), ("-O2", "-fno-omit-frame-pointer")),
    "s390x": (compilers.by_gcc("s390x"), ("-O2",)),
    "mips": (compilers.by_gcc("mips"), ("-O2",)),
}
"""A build and its flags, whose programs are run: kernels and generated models."""
BUILDS = {
    "clang-22 m0plus": (compilers.by_clang("clang-22", "cortex-m0plus"), ("-Os",)),
    "clang-22 m55": (compilers.by_clang("clang-22", "cortex-m55"), ("-O2", "-fno-omit-frame-pointer")),
    "gcc m55": (compilers.by_gcc("cortex-m55"), ("-O1",)),
}
"""A build and its flags, which is only compiled; test_arm_kernels.py runs what these compilers make."""


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What the programs read, and generated C; made once."""
    return kept.once(tmp_path_factory, "compilers", compilers.prepare)


@pytest.mark.parametrize("name", RUNS)
def test_computes_the_reference_without_a_warning(
    name: str, made: pathlib.Path, require_tool, tmp_path: pathlib.Path
) -> None:
    build, flags = RUNS[name]
    for tool in build.tools:
        require_tool(tool)
    objects = compilers.compile_kernels(build, flags, tmp_path)
    compilers.compile_rest(build, flags, made, tmp_path)
    ran = compilers.run_cases(build, flags, objects, made, tmp_path)
    assert {"kws_packed_dense_ref", "kws_packed_dense_c", "kws_dynamic_dense_c", "kws_float_depthwise"} <= set(ran)
    if "i8mm" in name:
        assert {"kws_packed_dense_dotprod", "kws_packed_dense_i8mm", "kws_dynamic_dense_dotprod"} <= set(ran)
    compilers.run_models(build, flags, objects, made, tmp_path)


@pytest.mark.parametrize("name", BUILDS)
def test_compiles_without_a_warning(name: str, made: pathlib.Path, require_tool, tmp_path: pathlib.Path) -> None:
    build, flags = BUILDS[name]
    require_tool(build.compiler[0])
    require_tool(build.core.compiler[0])  # whose headers clang takes
    compilers.compile_kernels(build, flags, tmp_path)
    compilers.compile_rest(build, flags, made, tmp_path)


@pytest.mark.parametrize("standard", ["c++11", "c++17", "c++20"])
@pytest.mark.parametrize("compiler", ["g++", "clang++-14", "clang++-22"])
def test_headers_and_shims_in_cpp(
    compiler: str, standard: str, made: pathlib.Path, require_tool, tmp_path: pathlib.Path
) -> None:
    """What C++ programs include, and what is C++ itself."""
    require_tool(compiler)
    names = ("packed_kernels.h", "layers.h", "detector.h", "kws_listener.h", "kws_external.h", "kws_microfrontend.h")
    source = tmp_path / "program.cc"
    source.write_text("".join(f'#include "{name}"\n' for name in (*names, "kws_inference.h", "kws_spotter.h")))
    folders = (emulation.KERNELS / "include", build_list.PACKAGE / "c" / "listener", made / "listener", TFLM)
    include = [f"-I{folder}" for folder in folders]
    sources = [str(source), str(build_list.PACKAGE / "shims" / "tflm" / "micro_ops.cc")]
    command = [compiler, f"-std={standard}", *compilers.STRICT_CPP, *include, "-fsyntax-only", *sources]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize(
    ("compiler", "flags"), [("gcc", ("-m32", "-mfpmath=387", "-std=gnu99")), ("clang-14", ("-m32", "-march=i386"))]
)
def test_wider_floats_are_refused(compiler: str, flags: tuple[str, ...], require_tool, tmp_path: pathlib.Path) -> None:
    """The floating-point unit of old PCs has more bits than a float, and these do not round each result."""
    require_tool(compiler)
    source = tmp_path / "source.c"  # without headers, which such a compiler needs a package for
    (tmp_path / "packed_kernels.h").write_text("")
    lines = ["#define KWS_DYNAMIC 1", "#include <float.h>"]
    text = (emulation.KERNELS / "dense" / "float_math.h").read_text()
    start, end = text.index("#if KWS_DYNAMIC"), text.index("/* |y|")
    source.write_text("\n".join([*lines, text[start:end], "int x;\n"]))
    command = [compiler, *flags, "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "floats are computed too widely" in done.stderr


@pytest.mark.parametrize("flag", ["-Ofast", "-ffast-math", "-ffinite-math-only"])
@pytest.mark.parametrize("compiler", ["gcc", "clang-14", "clang-22"])
def test_a_part_of_fast_math_is_refused(compiler: str, flag: str, require_tool) -> None:
    """In builds that have floats; integers know nothing of it."""
    require_tool(compiler)
    command = [compiler, flag, "-fsyntax-only", str(emulation.KERNELS / "dense" / "dynamic.c")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "build the kernels without it" in done.stderr
    subprocess.run([*command, "-DKWS_DYNAMIC=0"], check=True, capture_output=True)
