"""Our ops through TFLM's registration, and the firmware example on emulated boards."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import export_graphs as eg
import numpy as np
import pytest
from kernel_cases import dense_case, write_cases

from benchmarks import emulation
from tflite_export.kernels import build_list
from tflite_export.packed import writer as tflite_writer

ROOT = pathlib.Path(__file__).resolve().parents[2]
TFLM = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "tflm"


@pytest.fixture(scope="module")
def objects(require_tool, kernel_objects) -> list[str]:
    require_tool("gcc")
    return [str(path) for path in kernel_objects(emulation.CORES["host"])]


def micro(require_tool, objects: list[str], folder: pathlib.Path, *flags: str) -> pathlib.Path:
    sources = [str(TFLM / "run_op.cc"), str(build_list.PACKAGE / "shims" / "tflm" / "micro_ops.cc")]
    include = [f"-I{TFLM / 'include'}", f"-I{build_list.PACKAGE}", f"-I{build_list.PACKAGE / 'kernels' / 'include'}"]
    program = folder / "run_op"
    warnings = ["-Wall", "-Wextra", "-Werror", "-DTF_LITE_STATIC_MEMORY"]
    command = [require_tool("g++"), "-std=c++17", "-O1", *warnings, *emulation.SANITIZE, *flags, *include, *sources]
    subprocess.run([*command, *objects, "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize("types", ["global", "namespace"])
def test_ops_by_registration(
    types: str, require_tool, objects: list[str], tmp_path: pathlib.Path, rng: np.random.Generator
) -> None:
    """With TFLM's types where they were until October 2026, and where they have been since."""
    program = micro(require_tool, objects, tmp_path, *(["-DTYPES_IN_NAMESPACE"] if types == "namespace" else []))
    cases = [dense_case(rng, (n,), 9, 4, "mid-rise", 2) for n in (16, 17, 64)]
    count = write_cases(tmp_path / "cases.bin", rng, cases)
    done = subprocess.run([str(program), str(tmp_path / "cases.bin")], capture_output=True, text=True)
    assert done.stdout == f"good {count}, 16 bytes an op, scratch asked for\n", done.stdout + done.stderr
    bad = subprocess.run([str(program), str(tmp_path / "cases.bin"), "broken"], capture_output=True, text=True)
    assert bad.returncode == 1
    assert "TfmotKwsPackedDense: options: bits out of 1..8 (found 9, wanted 8)" in bad.stdout
    bad = subprocess.run([str(program), str(tmp_path / "cases.bin"), "constant"], capture_output=True, text=True)
    assert bad.returncode == 1 and "the output is a constant" in bad.stdout


@pytest.mark.parametrize("types", [[], ["-DTYPES_IN_NAMESPACE"]], ids=["global", "namespace"])
def test_structs_of_another_library_are_refused(types: list[str], require_tool, tmp_path: pathlib.Path) -> None:
    """Without TF_LITE_STATIC_MEMORY, TFLM's headers describe a node that its library has not."""
    source = build_list.PACKAGE / "shims" / "tflm" / "micro_ops.cc"
    command = [require_tool("g++"), "-std=c++11", f"-I{TFLM / 'include'}", *types, "-c", str(source)]
    command += ["-o", str(tmp_path / "ops.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "compile all that includes them with -DTF_LITE_STATIC_MEMORY" in done.stderr
    for flag in ("-DTF_LITE_STATIC_MEMORY", "-DTFMOT_KWS_FULL_STRUCTS"):  # as most libraries are built, and as few are
        subprocess.run([*command, flag], check=True)


TFLM_DIR = os.environ.get("TFLM_DIR")


# No package index carries a TFLM tree, so CI has none: test_ops_by_registration() stands in for it there.
@pytest.mark.skipif(
    not TFLM_DIR, reason="set TFLM_DIR to your TensorFlow Lite Micro tree to compile the ops against it"
)
def test_compiles_against_a_real_tree(require_tool, tmp_path: pathlib.Path) -> None:
    source = build_list.PACKAGE / "shims" / "tflm" / "micro_ops.cc"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-fno-exceptions", "-fno-rtti", f"-I{TFLM_DIR}"]
    flags.append("-DTF_LITE_STATIC_MEMORY")
    subprocess.run([require_tool("g++"), *flags, "-c", str(source), "-o", str(tmp_path / "ops.o")], check=True)


@pytest.mark.parametrize("board", ["host", "m4", "m7", "m33", "m55"])
def test_example_prints_the_posteriors_of_the_reference(
    board: str, example, tmp_path: pathlib.Path, rng: np.random.Generator
) -> None:
    folder = example(board)
    (tmp_path / "kws.tflite").write_bytes(tflite_writer.write(eg.spotter(rng)))
    command = ["make", "-s", "run", f"MODEL={tmp_path / 'kws.tflite'}", f"BOARD={board}", f"PYTHON={sys.executable}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [line for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert printed == (folder / "build" / board / "expected.txt").read_text().splitlines()
    assert "arena " in done.stdout


def test_example_builds_again_what_changed(example, tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    """Another model whose file is older than the build, another width, another flag: never an earlier one's results."""
    folder = example("host")
    model, environment = tmp_path / "kws.tflite", {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*settings: str) -> tuple[list[str], str]:
        command = ["make", "run", f"MODEL={model}", f"PYTHON={sys.executable}", *settings]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 or settings, done.stdout + done.stderr
        printed = [line for line in done.stdout.splitlines() if line[:2].rstrip(":").isdigit()]
        return printed, done.stdout + done.stderr

    printed = []
    for bits in (4, 8):
        model.write_bytes(tflite_writer.write(eg.spotter(rng, bits)))
        os.utime(model, (1.6e9, 1.6e9))
        printed.append(run()[0])
        assert printed[-1] == (folder / "build" / "host" / "expected.txt").read_text().splitlines()
    assert printed[0] != printed[1]
    assert "gcc" not in run()[1]  # nothing changed
    assert "KWS_WIDTHS leaves out what this model needs (widths of weights" in run("WIDTHS=(1 << 4)")[1]
    assert "-DMINE" in run("EXTRA_FLAGS=-DMINE")[1]
