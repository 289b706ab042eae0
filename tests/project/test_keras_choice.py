"""``tf.keras`` before and after this package: which Keras it is, and what users are told. In processes of their own."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tfmot_kws import extras

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.versions, pytest.mark.tf221, pytest.mark.slow]

KERAS_3_FIRST = """
import warnings
import tensorflow as tf
model = tf.keras.Sequential([tf.keras.layers.Input((9, 4)), tf.keras.layers.Dense(3)])
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import tfmot_kws
(warning,) = [w for w in said if "tf.keras is Keras 3" in str(w.message)]
assert warning.filename == "<string>", warning.filename
import numpy as np
from tfmot_kws.keras import keras
x = np.ones((2, 9, 4), np.float32)
quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8))
assert isinstance(quantized, keras.Model) and not isinstance(model, keras.Model)
np.testing.assert_allclose(quantized(x), np.asarray(model(x)), atol=0.05)
"""
KERAS_AFTER = """
import tensorflow as tf
import tfmot_kws
model = tf.keras.Sequential([tf.keras.layers.Input((9, 4)), tf.keras.layers.Dense(3)])
small = tfmot_kws.quantize_apply(model)

import numpy as np

# A SavedModel with its traces, which AutoGraph rewrites too.
small.save("saved")
ones = np.ones((2, 9, 4), np.float32)
np.testing.assert_array_equal(tfmot_kws.load_model("saved")(ones), small(ones))
from tfmot_kws import audio

# Plain fit of Keras as it is, whose steps AutoGraph rewrites; the tests' own process leaves them alone.
L = tf.keras.layers
layers = [L.Conv1D(4, 3), L.BatchNormalization(), L.ReLU(), L.GRU(3, return_sequences=True), L.Flatten(), L.Dense(2)]
model = tfmot_kws.quantize_apply(tf.keras.Sequential([L.Input((9, 4)), *layers]))
model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
x, y = np.random.default_rng(0).normal(size=(16, 9, 4)).astype(np.float32), np.arange(16) % 2
fit = model.fit(x, y, epochs=2, verbose=0, validation_data=(x, y), callbacks=[tfmot_kws.TwoStageSchedule(1)])
assert np.isfinite(fit.history["val_loss"]).all() and model.predict(x, verbose=0).shape == (16, 2)
import tflite_export
assert len(tflite_export.convert(model)) > 1000

wave = np.sin(np.arange(8000) / 9).astype(np.float32) / 2
audio.write("tone.wav", wave, 8000)
assert len(audio.read("tone.wav", 16000)) == 16000
"""


def run(code: str, folder: pathlib.Path, *options: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_keras_3_in_use_already(tmp_path: pathlib.Path) -> None:
    run(KERAS_3_FIRST, tmp_path)


def test_keras_is_chosen_in_time_and_nothing_is_said(tmp_path: pathlib.Path) -> None:
    """tensorflow-io too is silent, whether its native libraries load or not."""
    done = run(KERAS_AFTER, tmp_path, "-W", "always::UserWarning")
    ours = [line for line in done.stderr.splitlines() if "tensorflow_io" in line or "tfmot_kws" in line]
    assert not ours, ours


@pytest.mark.parametrize("package", ["tensorflow", "tf_keras", "tensorflow_model_optimization"])
def test_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"tensorflow": "2.18.1"}

    def version(name: str) -> str:
        if name not in versions:
            raise extras.importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(extras.importlib.metadata, "version", version)
    missing = ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.python")
    assert "pip install 'tfmot-kws[train,tf218]', which leaves this TensorFlow as it is" in str(
        extras.explained(missing)
    )
    versions.clear()
    assert f"{package} is not installed" in str(extras.explained(missing))
    assert "pip install 'tfmot-kws[train]'" in str(extras.explained(missing))


@pytest.mark.parametrize("version", ["2.15.1", "2.22.0rc1", "3.0"])
def test_a_tensorflow_that_no_extra_goes_with_is_named(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib.metadata, "version", lambda name: version)
    said = extras.install("tf_keras")
    assert said == f"pip install 'tfmot-kws[train]', which replaces TensorFlow {version}: needed is 2.16 to 2.21"
    assert extras.install("sounddevice") == "pip install 'tfmot-kws[microphone]'"


def test_hints_name_extras_that_exist() -> None:
    text = (pathlib.Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    existing = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    assert set(extras.EXTRAS.values()) <= existing
    assert {f"tf{version.replace('.', '')}" for version in extras.TENSORFLOWS} == {
        name for name in existing if re.fullmatch(r"tf\d+", name)
    }


def test_other_errors_are_left_as_they_are() -> None:
    for error in (ImportError("cannot import name 'x'"), ModuleNotFoundError("No module named 'mine'", name="mine")):
        assert extras.explained(error) is error
