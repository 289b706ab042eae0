"""What runs on a device, where there is no TensorFlow: listening, looking, measuring, all but Keras models.

In an environment with TensorFlow, imports of it and of all else that the extra "train" brings are refused.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tfmot_kws import extras

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.device, pytest.mark.slow]

WITHOUT = """
import importlib.abc, sys
TRAINING = {training!r}
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in TRAINING:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in TRAINING else find(name, package)
"""
COMMAND = "from tfmot_kws import cli\nsys.argv[0] = 'tfmot-kws'\ncli.main()\n"
FILES = """
import pathlib
import numpy as np
import export_graphs as eg
import tflite_export
from tflite_export import ir
from tflite_export.streaming import graph as streaming
from tfmot_kws import audio
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend.features import FrontendConfig

rng = np.random.default_rng(0)
task = TaskConfig(("low", "high"))
maker = eg.Maker(rng)
frames = FrontendConfig().num_frames(16000)
x = maker.input(frames, 40)
x = maker.dense(x, 12, 4, window=ir.Window((5, 1), (3, 1)))
x = maker.dense(maker.reshape(x, maker.tensors[x].size), len(task.classes), 4)
graph = maker.graph(x)
pathlib.Path("clip.tflite").write_bytes(tflite_export.write(graph))
stream = streaming.to_stream(graph)
metadata = stream.schedule.to_metadata()
pathlib.Path("stream.tflite").write_bytes(tflite_export.write(stream.graph, metadata=metadata))
for name in ("clip", "stream"):
    sidecar.write(pathlib.Path(f"{name}.tflite"), sidecar.Sidecar("tflite", FrontendConfig(), task))
for word, pitch in (("low", 300), ("high", 2000), ("other", 900)):
    pathlib.Path("words", word).mkdir(parents=True)
    for i in range(10):
        t = np.arange(16000) / 16000
        wave = 0.3 * np.sin(2 * np.pi * pitch * (1 + i / 100) * t) + rng.normal(0, 0.01, 16000)
        audio.write(pathlib.Path("words", word, f"speaker{i}_nohash_0.wav"), wave.astype(np.float32))
audio.write("sound.wav", np.tile(wave, 6).astype(np.float32), 16000)
"""


def run(folder: pathlib.Path, code: str, *arguments: str, status: int = 0) -> str:
    training = sorted({*(name for name, extra in extras.EXTRAS.items() if extra == "train"), "keras", "tensorflow_io"})
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "helpers")))
    command = [sys.executable, "-c", WITHOUT.format(training=training) + code, *arguments]
    env = os.environ | {"PYTHONPATH": paths, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory, require_module) -> pathlib.Path:
    require_module("ai_edge_litert")
    folder = tmp_path_factory.mktemp("device")
    run(folder, FILES)
    return folder


def test_inspect(folder: pathlib.Path) -> None:
    said = run(folder, COMMAND, "inspect", "stream.tflite")
    assert "low, high" in said and "tflite_export" in said and "30/20 ms" in said


def test_listen(folder: pathlib.Path) -> None:
    assert "of sound" in run(folder, COMMAND, "listen", "--model", "stream.tflite", "--wav", "sound.wav")


def test_wake_word_in_a_program(folder: pathlib.Path) -> None:
    code = """
from tfmot_kws import WakeWord
ear = WakeWord("stream.tflite", threshold=-99)
ear.listen(lambda heard: print("heard", heard.keyword), "sound.wav")
print(ear.usage)
"""
    said = run(folder, code)
    assert "heard" in said and "of one core" in said and "kws_packed_dense" in said


def test_evaluate_on_clips_is_the_reference(folder: pathlib.Path) -> None:
    numbers = {}
    for runtime in ((), ("--runtime", "reference")):
        said = run(
            folder, COMMAND, "evaluate", "--model", "clip.tflite", "--data", "words", "--json", "n.json", *runtime
        )
        assert ("clip.tflite in reference" if runtime else "clip.tflite in litert") in said
        found = json.loads((folder / "n.json").read_text())
        found.pop("runtime")
        numbers[runtime] = found
    first, second = numbers.values()
    assert first == second and np.isfinite(first["accuracy"])


def test_evaluate_on_streams(folder: pathlib.Path) -> None:
    said = run(folder, COMMAND, "evaluate", "--model", "stream.tflite", "--negatives", "words")
    assert "stream.tflite in litert" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("evaluate", "--model", "m.keras", "--data", "words"), "tfmot-kws[train"),
        (("evaluate", "--model", "clip.tflite", "--data", "words", "--plot", "p.png"), "--plot needs matplotlib"),
        (("train", "--data", "words", "--keywords", "low", "--out", "f.keras"), "tfmot-kws[train"),
        (("listen", "--model", "stream.tflite", "--wav", "sound.wav", "--runtime", "tflite"), "pip install"),
    ],
)
def test_what_needs_more_says_so(folder: pathlib.Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "m.keras").write_bytes(b"")
    (folder / "m.keras.json").write_bytes((folder / "clip.tflite.json").read_bytes())
    said = run(folder, COMMAND, *arguments, status=1)
    assert message in said and "Traceback" not in said and len(said.strip().splitlines()) <= 2, said
    assert not (folder / "p.png").exists() and not (folder / "f.keras").exists()
