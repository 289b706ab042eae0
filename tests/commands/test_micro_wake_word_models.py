"""microWakeWord's own models, which come with pymicro-wakeword: they open in ``evaluate`` and ``WakeWord``."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pytest
import soundfile
import typer.testing
from spotter_files import speech

import tfmot_kws
from tflite_export.flatbuffer import reader
from tfmot_kws import cli
from tfmot_kws.commands.parts import sidecar, stream_files
from tfmot_kws.frontend import features

NAMES = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
FRONTEND = features.FrontendConfig(hop_ms=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, require_module) -> pathlib.Path:
    models = pathlib.Path(require_module("pymicro_wakeword").__file__).parent / "models"
    folder = tmp_path_factory.mktemp("models")
    for name in NAMES:
        for suffix in (".tflite", ".json"):
            shutil.copy(models / f"{name}{suffix}", folder)
    return folder


def sigmoids(model: pathlib.Path) -> np.ndarray:
    """The different outputs of a model: a sigmoid of each int8 logit."""
    parsed = reader.parse(model.read_bytes())
    (op,) = [op for op in parsed.operators if op.name == "LOGISTIC"]
    logit = parsed.tensors[op.inputs[0]]
    real = logit.scales[0] * (np.arange(-128, 128) - logit.zero_points[0])
    return np.unique(np.clip(np.rint(256 / (1 + np.exp(-real))), 0, 255))


@pytest.mark.parametrize("name", NAMES)
def test_they_give_what_pymicro_wakeword_gets(folder, name: str, require_module) -> None:
    """For the same int8 features: it rounds them by the scale that a file states, ESPHome by its own.

    In TFLM, as on a device. Kernels of stock ops round in ways of their own (docs/builtin_rounding.md), which moves the
    logit by a step of its scale at most.
    """
    require_module("tflite_micro")
    module, sound = require_module("pymicro_wakeword"), speech(6.0)
    theirs = module.MicroWakeWord.from_config(folder / f"{name}.json")
    theirs._probabilities = type(theirs._probabilities)(maxlen=1)
    theirs.sliding_window_size = 1
    frames = list(module.MicroWakeWordFeatures().process_streaming(sound.tobytes()))
    found = [theirs.process_streaming_prob(frame) for frame in frames][2::3]
    stream = stream_files.open_stream((folder / f"{name}.tflite").read_bytes(), "tflm")
    fed = np.round(np.concatenate(frames).reshape(-1, 40) / theirs.input_scale - 128).astype(np.int8)
    ours = stream.step(fed)[:, 0]
    assert stream.hop == theirs.stride == 3 and (len(set(ours)) > 1 or name == "okay_nabu")
    levels = sigmoids(folder / f"{name}.tflite")
    places = [np.searchsorted(levels, values) for values in (np.rint(np.array(found) * 256), ours)]
    assert set(ours) <= set(levels) and np.abs(places[0] - places[1]).max() <= 1
    assert np.mean(places[0] == places[1]) > 0.9


def test_features_are_those_of_esphome(folder) -> None:
    stream = stream_files.open_stream((folder / "alexa.tflite").read_bytes(), "tflite")
    raw = np.arange(671)
    real = raw.astype(np.float32) * np.float32(features.MICRO_SCALE)
    expected = np.clip((256 * raw + 333) // 666 - 128, -128, 127)
    np.testing.assert_array_equal(stream.inputs[0].to_tensor(real), expected)


def test_the_manifest_stands_in_for_the_sidecar(folder) -> None:
    about = sidecar.read(folder / "okay_nabu.tflite")
    assert about.task.keywords == ("okay_nabu",) and about.frontend == FRONTEND
    assert tfmot_kws.WakeWord(folder / "okay_nabu.tflite", threshold=0.9).keywords == ("okay_nabu",)


def test_evaluate_and_listen_run_one(folder, tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", speech(), 16000, subtype="PCM_16")
    (tmp_path / "streams_labels.csv").write_text("stream,event,word,start,end\na,keyword,alexa,2,2.5\n")
    model = ("--model", folder / "alexa.tflite")
    for arguments in (
        ("evaluate", *model, "--streams", tmp_path / "a.wav", "--threshold", 0.9, "--json", tmp_path / "n.json"),
        ("listen", *model, "--wav", tmp_path / "a.wav", "--threshold", 0.9),
    ):
        done = typer.testing.CliRunner().invoke(cli.app, list(map(str, arguments)))
        assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    detector = json.loads((tmp_path / "n.json").read_text())["streams"]["detector"]
    assert detector["mode"] == "value" and detector["scale"] == 1 / 256 and detector["keywords"] == {"alexa": 0}


@pytest.mark.parametrize(
    "change, message",
    [({"version": 1}, "version 1"), ({"micro": {}}, "probability_cutoff"), ({"type": "loud"}, "type 'loud'")],
)
def test_a_manifest_that_is_none_is_named(folder, tmp_path, change, message: str) -> None:
    shutil.copy(folder / "alexa.tflite", tmp_path)
    value = json.loads((folder / "alexa.json").read_text()) | change
    (tmp_path / "alexa.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=f"alexa.json: no manifest .*{message}"):
        sidecar.read(tmp_path / "alexa.tflite")
