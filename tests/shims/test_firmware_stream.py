"""The streaming firmware on emulated boards says what the host's spotter says."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import shutil
import subprocess
import sys

import kept
import numpy as np
import pytest
import soundfile
from spotter_files import FRONTEND, TASK, speech, write_spotter

from benchmarks import emulation
from tflite_export import ir
from tflite_export.c import arrays as c_writer
from tflite_export.kernels import build_list
from tfmot_kws.commands import firmware, listen
from tfmot_kws.commands.parts import sidecar, spotter
from tfmot_kws.frontend import features

EXAMPLE = emulation.ROOT / "examples" / "firmware"
TFLM = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "tflm"
THRESHOLD = 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    made = kept.once(tmp_path_factory, "spotter", write_spotter)
    return shutil.copytree(made, tmp_path_factory.mktemp("spotter"), dirs_exist_ok=True)


def make(example: pathlib.Path, board: str, target: str, model: pathlib.Path, wav: pathlib.Path, *more: str) -> str:
    command = ["make", "-s", target, f"MODEL={model}", f"WAV={wav}", f"BOARD={board}", f"PYTHON={sys.executable}"]
    done = subprocess.run(
        [*command, f"THRESHOLD={THRESHOLD}", *more],
        cwd=example,
        env={**os.environ, "PYTHONPATH": str(emulation.ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def heard(folder: pathlib.Path, sound: np.ndarray) -> list[str]:
    """What ``tfmot-kws listen`` prints, and the last line."""
    ear = spotter.open_spotter(folder / "stream.tflite", threshold=THRESHOLD)
    lines = [listen.line(found) for found in ear.step(sound)]
    ear.reset()
    return [*lines, f"{len(lines)} detections in {len(ear.outputs(sound))} rows"]


@pytest.mark.parametrize("board", ["host", "m4", "m7", "m33", "m55"])
def test_prints_what_listen_prints(board: str, folder, example) -> None:
    run = functools.partial(make, example(board), board, "run-stream", folder / "stream.tflite")
    expected = heard(folder, speech())
    assert {"low", "high"} <= {line.split()[1] for line in expected}
    assert run(folder / "speech.wav").splitlines() == expected
    if board not in ("host", "m55"):
        return
    # cut in the middle of a frame, shorter than one window, and nothing at all
    for samples in (48077, 479, 0):
        sound = speech()[:samples]
        soundfile.write(folder / f"{samples}.wav", sound, 16000, subtype="PCM_16")
        assert run(folder / f"{samples}.wav").splitlines() == heard(folder, sound)


def test_another_rate(folder, example) -> None:
    import soxr

    example = example("host")
    sound = soxr.resample(speech().astype(np.float32) / 32768, 16000, 44100)
    soundfile.write(folder / "fast.wav", np.stack([sound, sound], 1), 44100, subtype="PCM_16")
    make(example, "host", "run-stream", folder / "stream.tflite", folder / "fast.wav")
    same, rate = soundfile.read(example / "build" / "host" / "stream" / "sound.wav", dtype="int16")
    assert rate == 16000
    printed = make(example, "host", "run-stream", folder / "stream.tflite", folder / "fast.wav")
    assert printed.splitlines() == heard(folder, same)


def with_gain(folder: pathlib.Path, pcan: bool) -> tuple[pathlib.Path, features.FrontendConfig]:
    """The spotter in a folder of its own, as if it was trained with the gain or without."""
    frontend = dataclasses.replace(FRONTEND, pcan=pcan)
    copy = folder / f"pcan_{pcan}"
    copy.mkdir(exist_ok=True)
    for name in ("stream.tflite", "speech.wav"):
        shutil.copy(folder / name, copy)
    sidecar.write(copy / "stream.tflite", sidecar.Sidecar("tflite", frontend, TASK))
    return copy, frontend


# The front end itself is the user's: a stand-in here, the library of a TFLM tree where there is one.
@pytest.mark.parametrize(("board", "pcan"), [("host", True), ("m4", False)])
def test_sound_on_the_board(board: str, pcan: bool, folder, example) -> None:
    """The board's front end is set up as the model's sidecar says."""
    example = example(board)
    folder, frontend = with_gain(folder, pcan)
    build = example / "build" / board / "stream"
    build.mkdir()
    sound = speech()[:50077]
    soundfile.write(folder / "part.wav", sound, 16000, subtype="PCM_16")
    name = "values.bin" if pcan else "values_without_pcan.bin"
    (build / name).write_bytes(features.raw_micro(frontend, sound).tobytes())
    options = (f"TFLM_DIR={TFLM / 'include'}", f"FRONTEND_LIB={TFLM / 'front_end.c'}")
    printed = make(example, board, "run-stream-audio", folder / "stream.tflite", folder / "part.wav", *options)
    assert printed.splitlines() == heard(folder, sound)


@pytest.mark.skipif(
    not (os.environ.get("TFLM_DIR") and os.environ.get("FRONTEND_LIB")),
    reason="set TFLM_DIR to your TensorFlow Lite Micro tree and FRONTEND_LIB to its front end's library for BOARD",
)
def test_sound_on_the_board_with_a_real_front_end(folder, example) -> None:
    """Every feature, and the detections, with the gain and without."""
    board = os.environ.get("BOARD", "host")
    example = example(board)
    options = [f"{name}={os.environ[name]}" for name in ("TFLM_DIR", "FRONTEND_LIB")]
    build = example / "build" / board / "stream"
    program = (example / "main_stream.c").read_bytes()
    for pcan in (True, False):
        part, _ = with_gain(folder, pcan)
        run = functools.partial(make, example, board, "run-stream-audio", part / "stream.tflite", part / "speech.wav")
        shutil.rmtree(build, ignore_errors=True)
        (example / "main_stream.c").write_bytes(program)
        assert run(*options).splitlines() == heard(part, speech())
        shutil.copy(TFLM / "dump_frames.c", example / "main_stream.c")
        run(*options)
        assert (build / "frames_made.bin").read_bytes() == (build / "frames.bin").read_bytes()


@pytest.mark.parametrize("program", ["main", "main_stream"])
def test_programs_of_tflm_compile(program: str, folder, tmp_path, require_tool) -> None:
    """Against the declarations that they need; README.md says how they are linked with a TFLM library."""
    model = folder / "stream.tflite"
    firmware.run(model, tmp_path, None, 0.2, 1.0)
    c_writer.write_c(model.read_bytes(), tmp_path)
    (tmp_path / "resolver.inc").write_text("\n".join(c_writer.op_resolver_lines(model.read_bytes())) + "\n")
    include = [f"-I{path}" for path in (tmp_path, TFLM / "include", build_list.PACKAGE, emulation.KERNELS / "include")]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-DTF_LITE_STATIC_MEMORY"]
    subprocess.run([require_tool("g++"), *flags, *include, str(EXAMPLE / f"{program}.cc")], check=True)


@pytest.mark.slow
def test_feature_table_is_what_the_host_computes(folder) -> None:
    ear = spotter.open_spotter(folder / "stream.tflite", runtime="reference")
    sound = speech(3.0)
    table = firmware.feature_table(ear)
    raw = features.raw_micro(FRONTEND, sound)
    assert raw.max() > len(table)
    assert np.array_equal(table[np.minimum(raw, len(table) - 1)], ear.frames(sound))
    for scale, zero_point in ((26 / 255, -128), (1.0, 0), (1e-3, 5)):
        ear.input = ir.Quantization(float(np.float32(scale)), zero_point)
        table = firmware.feature_table(ear)
        value = np.round(np.arange(1421) / 25.6 / scale) + zero_point
        assert np.abs(np.clip(value, -128, 127) - table[np.minimum(np.arange(1421), len(table) - 1)]).max() <= 1


def test_header_is_c_whatever_the_words(folder, tmp_path, require_tool) -> None:
    """Quotes, backslashes and letters of other languages; thresholds out of 32 bits; no table for other features."""
    words = ('say "hi"', "a\\b??/", "größe1")
    task = type(TASK)(words)
    ear = spotter.Spotter.__new__(spotter.Spotter)
    ear.__dict__ = dict(spotter.open_spotter(folder / "stream.tflite", runtime="reference").__dict__)
    ear.keywords = task.keywords
    ear.frontend = features.FrontendConfig(backend="lfbe")
    source = tmp_path / "words.c"
    source.write_text(
        '#include <stdio.h>\n#include "kws_spotter.h"\nint main(void) { (void)kws_spotter_detector; '
        "for (int i = 0; i < 3; ++i) puts(kws_spotter_words[i]); return kws_spotter_thresholds[0] < 0; }\n"
    )
    text = firmware.write_header(ear, tmp_path).read_text()
    assert "kws_spotter_features" not in text
    command = [require_tool("gcc"), "-std=c99", "-Wall", "-Wextra", "-Werror", *emulation.include_flags(), str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "words")], check=True)
    done = subprocess.run([str(tmp_path / "words")], capture_output=True)
    assert done.stdout.decode().splitlines() == list(words) and done.returncode == 0


@pytest.mark.slow  # the spotter is trained
def test_models_that_do_not_suit(folder, tmp_path) -> None:
    with pytest.raises(ValueError, match="no stream"):
        firmware.run(folder / "clip.tflite", tmp_path, None, 0.2, 1.0)
    assert sidecar.read(folder / "stream.tflite").frontend == FRONTEND
    assert not list(tmp_path.iterdir())
