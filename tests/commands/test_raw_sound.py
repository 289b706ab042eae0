"""Networks that hear samples, through every command: the same words from Keras, from files and from C."""

from __future__ import annotations

import pathlib
import subprocess

import numpy as np
import pytest
import soundfile
import speech_files
from command_line import error, run
from spotter_files import speech

from tfmot_kws.commands import listen
from tfmot_kws.commands.parts import sidecar, spotter

THRESHOLD = -0.1
MAIN = """
#include <stdio.h>
#include "kws_listener.h"
static void heard(void* context, int32_t keyword, uint32_t ms) {
  (void)context;
  printf("%u %s %.2f\\n", (unsigned)ms, kws_listener_word(keyword), kws_listener_score(keyword));
}
int main(void) {
  static int16_t samples[700];
  uint16_t values[1] = {0};
  size_t count, take = 1;
  const kws_front_end_settings s = kws_listener_front_end();
  FILE* file = fopen("sound.bin", "rb");
  if (!kws_listener_begin() || !s.raw || s.micro || s.sample_rate != 16000) return 1;
  if (kws_listener_values(values, heard, NULL)) return 2;
  for (; (count = fread(samples, 2, take, file)) > 0; take = take % 700 + 1)
    if (!kws_listener_samples(samples, count, heard, NULL)) return 3;
  return 0;
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
    """Words, a float model, a quantized one, a clip's and a stream's .tflite, and a sound."""
    folder = tmp_path_factory.mktemp("raw")
    words = speech_files.make_words(folder / "words")
    common = ("--data", words, "--cache", folder / "cache", "--copies", 1, "--batch-size", 16)
    small = ("--keywords", "low,high", "--epochs", 2, "--width", 8, "--backend", "raw")
    run("train", *common, "--out", folder / "float.keras", *small)
    stages = ("--stage1-epochs", 1, "--stage2-epochs", 1)
    run("quantize", "--model", folder / "float.keras", *common, *stages, "--out", folder / "q.keras")
    run("export", "--model", folder / "q.keras", "--out", folder / "clip.tflite")
    run("export", "--model", folder / "q.keras", "--out", folder / "stream.tflite", "--streaming", "internal")
    soundfile.write(folder / "speech.wav", speech(8.0), 16000, subtype="PCM_16")
    return folder


@pytest.mark.slow
def test_every_kind_of_file_says_the_same(made: pathlib.Path) -> None:
    about = sidecar.read(made / "stream.tflite")
    assert about.frontend.backend == "raw" and about.frontend.mel_bins == 320
    shown = [
        run("evaluate", "--model", made / name, "--data", made / "words", "--cache", made / "cache").stdout
        for name in ("q.keras", "clip.tflite")
    ]
    said = [[line for line in text.splitlines() if "accuracy" in line][-1].split(" on ")[0] for text in shown]
    assert said[0].split("accuracy")[-1] == said[1].split("accuracy")[-1]
    table = run("inspect", made / "stream.tflite").stdout
    assert "Waveform" in table and "raw sound, rows of 20 ms at 16000 Hz" in table
    assert "the network hears samples of 16 bits" in (made / "stream.md").read_text()


@pytest.mark.slow
def test_firmware_hears_samples(made: pathlib.Path, tmp_path: pathlib.Path, require_tool) -> None:
    """C on this computer, fed by pieces of 1, 2, ... samples: the words of ``listen``, at the same times."""
    require_tool("cmake")
    ear = spotter.open_spotter(made / "stream.tflite", threshold=THRESHOLD)
    lines = [listen.line(found).split() for found in ear.step(speech(8.0))]
    assert len(lines) > 2
    run(
        "firmware",
        "--model",
        made / "stream.tflite",
        "--threshold",
        THRESHOLD,
        "--package",
        "cmake",
        "--out",
        tmp_path / "spotter",
    )
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C)\nadd_subdirectory(spotter)\nadd_executable(app main.c)\n"
        "target_link_libraries(app PRIVATE kws_spotter)\n"
    )
    speech(8.0).astype("<i2").tofile(tmp_path / "sound.bin")
    for command in (["cmake", "-S", tmp_path, "-B", tmp_path / "build"], ["cmake", "--build", tmp_path / "build"]):
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    done = subprocess.run([tmp_path / "build" / "app"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert [line.split()[1:] for line in done.stdout.splitlines()] == [line[1:] for line in lines]


@pytest.mark.slow
def test_streams_of_any_pieces_say_the_same(made: pathlib.Path) -> None:
    ear = spotter.open_spotter(made / "stream.tflite", threshold=THRESHOLD)
    whole = ear.outputs(speech(3.0))
    ear.reset()
    pieces = [ear.outputs(part) for part in np.split(speech(3.0), [1, 77, 78, 20000])]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.slow
def test_what_takes_features_refuses(made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    said = error("export", "--model", made / "q.keras", "--out", tmp_path / "x.tflite", "--ops", "builtin")
    assert "no stock op makes features of samples" in said
    said = error("export", "--model", made / "q.keras", "--out", tmp_path / "x.tflite", "--for", "esphome")
    assert not (tmp_path / "x.tflite").exists() and said
    common = ("--data", made / "words", "--out", tmp_path / "x.keras")
    said = error("quantize", "--model", made / "float.keras", *common, "--dynamic", 4)
    assert "hears samples, whose filters no dynamic kernel computes" in said
    said = error("low-rank", *common, "--backend", "raw")
    assert "--backend raw: the low-rank spotter stacks mel features" in said
    said = error(
        "firmware", "--model", made / "stream.tflite", "--threshold", THRESHOLD, "--package", "arduino", "--out", out
    )
    assert "takes samples" in said and not out.exists()
