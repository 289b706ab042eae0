"""The firmware whose network keeps its state outside: the program itself, with a stand-in for what runs the network."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import command_line
import esphome_files
import kept
import numpy as np
import pytest
import soundfile
from spotter_files import speech

import tflite_export
from benchmarks import emulation
from tflite_export.c import inference as inference_writer
from tfmot_kws.commands import listen
from tfmot_kws.commands.parts import sidecar, spotter, thresholds

TFLM = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "tflm"
THRESHOLD = 0.1
COMPILERS = {
    "host": ["gcc"],
    "m55": ["arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m55", "-mfloat-abi=hard"],
}
ETHOS_U = "-DKWS_ETHOS_U -DKWS_ETHOS_U_BASE=0x48102000 -DKWS_ETHOS_U_HANDLER=EthosUHandler"


def _write(folder: pathlib.Path) -> None:
    """What the command wrote; the same stream in packed ops, which C runs to the bit, as C; a sound."""
    model = esphome_files.write(folder)
    options = ("--stream", "--c-array", "--threshold", THRESHOLD)
    command_line.run("npu", model, *options, "--out", folder / "npu")
    packed = tflite_export.convert(esphome_files.model(), streaming="external")
    (folder / "packed.tflite").write_bytes(packed)
    sidecar.write(folder / "packed.tflite", sidecar.read(folder / "npu" / "q_stream_stock.tflite"))
    inference_writer.write_inference(packed, folder / "packed")
    soundfile.write(folder / "speech.wav", speech(6.0), 16000, subtype="PCM_16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, require_package) -> pathlib.Path:
    require_package("ethosu", "'tfmot-kws[npu]'")
    made = kept.once(tmp_path_factory, "npu-firmware", _write)
    return shutil.copytree(made, tmp_path_factory.mktemp("npu"), dirs_exist_ok=True)


def heard(folder: pathlib.Path) -> list[str]:
    """What the host hears by the packed stream."""
    about = sidecar.read(folder / "packed.tflite")
    chosen = thresholds.choose(THRESHOLD, None, None, about.task.keywords)
    data = (folder / "packed.tflite").read_bytes()
    ear = spotter.Spotter(data, about, chosen.values, chosen.smooth, chosen.refractory, "reference")
    lines = [listen.line(found) for found in ear.step(speech(6.0))]
    ear.reset()
    return [*lines, f"{len(lines)} detections in {len(ear.outputs(speech(6.0)))} rows"]


@pytest.mark.parametrize(("board", "flags"), [("host", ""), ("m55", ETHOS_U)])
def test_prints_what_the_host_hears(
    board: str, flags: str, folder, example, require_tool, require_module, tmp_path
) -> None:
    """States go through the program's memory: the stand-in has inputs and outputs in the same bytes."""
    require_module("ai_edge_litert")  # which starts sooner than TensorFlow
    here = example(board)
    require_tool("g++" if board == "host" else "arm-none-eabi-g++")
    network = tmp_path / "network.o"
    include = [f"-I{folder / 'packed'}", *emulation.include_flags()]
    source = folder / "packed" / "kws_inference.c"
    compiler = [*COMPILERS[board], "-O2", "-std=gnu99", *include]
    subprocess.run([*compiler, "-c", str(source), "-o", str(network)], check=True)
    settings = {
        "MODEL": folder / "npu" / "q_stream_stock.tflite",
        "WAV": folder / "speech.wav",
        "BOARD": board,
        "PYTHON": sys.executable,
        "TFLM_DIR": TFLM / "include",
        "TFLM_LIB": f"{TFLM / 'interpreter.cc'} {network} -I{folder / 'packed'}",
        "TFLM_FLAGS": "-DTF_LITE_STATIC_MEMORY",
        "NPU_FLAGS": flags,
        "RUNTIME": "litert",
        "THRESHOLD": THRESHOLD,
    }
    command = ["make", "-s", "run-npu", *(f"{name}={value}" for name, value in settings.items())]
    environment = {**os.environ, "PYTHONPATH": str(emulation.ROOT)}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = heard(folder)
    assert len({line.split()[1] for line in expected}) > 1
    assert done.stdout.splitlines() == expected
    program = (here / "build" / board / "npu" / "npu.elf").read_bytes()
    for name, inside in (("q_stream_ethos-u55-128", bool(flags)), ("q_stream_stock", not flags)):
        assert ((folder / "npu" / f"{name}.tflite").read_bytes() in program) == inside


def test_the_order_of_tensors_is_that_of_the_packed_stream(folder) -> None:
    """Which is why one can stand in for the other."""
    packed = tflite_export.Interpreter((folder / "packed.tflite").read_bytes(), "reference")
    stock = tflite_export.Interpreter((folder / "npu" / "q_stream_stock.tflite").read_bytes(), "tflite")
    for ours, theirs in ((packed.inputs, stock.inputs), (packed.outputs, stock.outputs)):
        assert [t.name for t in ours] == [t.name for t in theirs] and len(ours) == 4
        assert all(np.array_equal(a.shape, b.shape) for a, b in zip(ours, theirs))
