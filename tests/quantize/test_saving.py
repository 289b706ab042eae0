"""Saved models: the same bits in every format, in either stage, in this process and in another."""

from __future__ import annotations

import copy as copies
import dataclasses
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from quantization_helpers import features, shake

import tflite_export
import tfmot_kws
from tfmot_kws import saved_classes
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

pytestmark = pytest.mark.slow

L = keras.layers
HERE = pathlib.Path(__file__).resolve().parents[1] / "helpers"
OPTIONS = {"batch_size": 16, "verbose": 0, "shuffle": False}
FORMATS = {"keras": "model.keras", "h5": "model.h5", "saved_model": "model"}


def everything() -> keras.Model:
    """One of every kind of quantized layer."""
    x = keras.Input((12, 6), name="x")
    a = L.ReLU()(L.BatchNormalization()(L.Conv1D(6, 3, padding="same", name="conv")(x)))
    b = L.DepthwiseConv1D(3, padding="same", name="depthwise")(a)
    c = L.Concatenate()([L.BatchNormalization()(L.Add()([a, b])), L.LeakyReLU(0.1)(b)])
    d = L.GlobalAveragePooling1D()(tfmot_kws.TimeWindow(3, 2)(c))
    return keras.Model(x, L.Dense(4, activation="softmax", name="word")(d), name="everything")


def data() -> tuple[np.ndarray, np.ndarray]:
    return features((12, 6), clips=64), np.arange(64) % 4


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a model was when it was saved in every format."""

    folder: pathlib.Path
    outputs: np.ndarray
    weights: list[np.ndarray]
    layers: str
    tflite: bytes | None


def configs(model: keras.Model) -> str:
    return json.dumps([layer.get_config() for layer in model.layers], default=str)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[int, Saved]:
    """By stage: a compiled model that a fit has left."""
    made = {}
    model = apply.quantize_apply(shake(everything()), scheme.kws_scheme(3, {"word": 8, "conv": 1}))
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.run_eagerly = True
    for stage in (1, 2):
        model.fit(*data(), initial_epoch=stage - 1, epochs=stage, callbacks=[tfmot_kws.TwoStageSchedule(1)], **OPTIONS)
        folder = tmp_path_factory.mktemp(f"stage_{stage}")
        for kind, file in FORMATS.items():
            # without traces where that saves time; the default is used once
            options = {"save_traces": False} if kind == "saved_model" and stage == 1 else {}
            model.save(folder / file, **options)
        model.save_weights(folder / "model.weights.h5")
        model.save_weights(folder / "checkpoint")
        tflite = tflite_export.convert(model) if stage == 2 else None
        outputs = model(data()[0], training=False).numpy()
        made[stage] = Saved(folder, outputs, model.get_weights(), configs(model), tflite)
    return made


OTHER_PROCESS = """
import sys
import numpy as np
import tflite_export, tfmot_kws
from tfmot_kws.training import stages as train
x = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = tfmot_kws.load_model(path)
    np.save(f"{path}.npy", model(x, training=False).numpy())
    if train.get_stage(model) == 2:
        open(f"{path}.tflite", "wb").write(tflite_export.convert(model))
"""


@pytest.mark.tf221
@pytest.mark.versions
def test_another_process_computes_the_same_bits(saved: dict[int, Saved], tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "x.npy", data()[0])
    paths = {stage: [entry.folder / file for file in FORMATS.values()] for stage, entry in saved.items()}
    command = [sys.executable, "-c", OTHER_PROCESS, tmp_path / "x.npy", *paths[1], *paths[2]]
    done = subprocess.run(list(map(str, command)), cwd=HERE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for stage, entry in saved.items():
        for path in paths[stage]:
            np.testing.assert_array_equal(np.load(f"{path}.npy"), entry.outputs, err_msg=str(path))
            if stage == 2:
                assert pathlib.Path(f"{path}.tflite").read_bytes() == entry.tflite, path


@pytest.mark.tf221
@pytest.mark.versions
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("stage", [1, 2])
def test_load_and_go_on(saved: dict[int, Saved], kind: str, stage: int) -> None:
    """The loaded model trains on from where the saved one was: its optimizer remembers, its stage changes.

    Only of a SavedModel, tf_keras takes up no new-style optimizer's state, whatever the model.
    """
    entry, (x, labels) = saved[stage], data()
    loaded = tfmot_kws.load_model(entry.folder / FORMATS[kind])
    assert train.get_stage(loaded) == stage and configs(loaded) == entry.layers
    np.testing.assert_array_equal(loaded(x, training=False), entry.outputs)
    for a, b in zip(loaded.get_weights(), entry.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    if stage == 2:
        assert tflite_export.convert(loaded) == entry.tflite
    steps = 0 if kind == "saved_model" else 4 * stage
    assert loaded.optimizer.iterations == steps
    codes = loaded.get_layer("word")._codes()
    loaded.run_eagerly = True
    history = loaded.fit(x, labels, initial_epoch=2, epochs=3, callbacks=[tfmot_kws.TwoStageSchedule(1)], **OPTIONS)
    assert train.get_stage(loaded) == 2 and loaded.optimizer.iterations == steps + 4
    assert np.isfinite(history.history["loss"]).all()
    assert (loaded.get_layer("word")._codes() != codes).any()
    assert tflite_export.convert(loaded) != entry.tflite


def test_quantize_scope_serves_keras_own_load_model(saved: dict[int, Saved]) -> None:
    for file in ("model.keras", "model.h5"):
        with tfmot_kws.quantize_scope():
            loaded = keras.models.load_model(saved[2].folder / file, compile=False)
        assert loaded.optimizer is None
        np.testing.assert_array_equal(loaded(data()[0]), saved[2].outputs)
    # Once a model was quantized or loaded here, Keras knows the layers without the scope too.
    np.testing.assert_array_equal(keras.models.load_model(saved[2].folder / "model.h5")(data()[0]), saved[2].outputs)


def test_weights_and_config_alone(saved: dict[int, Saved]) -> None:
    x, folder = data()[0], saved[2].folder
    model = apply.quantize_apply(everything(), scheme.kws_scheme(3, {"word": 8, "conv": 1}))
    model.load_weights(folder / "model.weights.h5")
    assert train.get_stage(model) == 2
    np.testing.assert_array_equal(model(x), saved[2].outputs)
    with tfmot_kws.quantize_scope():
        clone = keras.models.clone_model(model)
        again = keras.models.model_from_json(model.to_json())
    clone.load_weights(folder / "checkpoint").expect_partial()
    again.set_weights(saved[2].weights)
    for copy in (clone, again):
        np.testing.assert_array_equal(copy(x), saved[2].outputs)


def test_annotated_models_are_saved_too(tmp_path: pathlib.Path) -> None:
    config = tfmot_kws.KwsQuantizeConfig(2, grid="mid-tread")
    layer = tfmot.quantization.keras.quantize_annotate_layer(L.Dense(3, name="d"), config)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.save(tmp_path / "model.h5")
    loaded = apply.quantize_apply(tfmot_kws.load_model(tmp_path / "model.h5"))
    assert loaded.get_layer("d").bits == config.widths


class Killed(Exception):
    """Ends a fit as a killed process does: nothing runs after it."""


class Watch(keras.callbacks.Callback):
    """Notes (epoch, stage) at the begin of each epoch, and ends the process or the fit at one of them."""

    def __init__(self, kill_at: int, process: bool):
        super().__init__()
        self.kill_at, self.process, self.seen = kill_at, process, []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.seen.append((epoch, train.get_stage(self.model)))
        if epoch == self.kill_at:
            if self.process:
                os._exit(9)
            raise Killed


def fit_with_backup(folder: str | None, kill_at: int = -1, process: bool = False):
    """What a fit of six epochs saw, and the weights it ended with; it goes on from the backup in the folder."""
    x = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    keras.utils.set_random_seed(0)
    model = apply.quantize_apply(keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu"), L.Dense(3)]))
    model.compile("adam", "mse", run_eagerly=True)
    watch = Watch(kill_at, process)
    backup = [keras.callbacks.BackupAndRestore(folder)] if folder else []
    callbacks = [*backup, tfmot_kws.TwoStageSchedule(3), watch]
    model.fit(x, x[:, :3], epochs=6, verbose=0, shuffle=False, callbacks=callbacks)
    return watch.seen, model.get_weights()


def test_backup_and_restore(tmp_path: pathlib.Path) -> None:
    """A run killed in stage 1 and in stage 2 goes on in the right epoch and stage, and ends as an unbroken one."""
    backup = str(tmp_path / "backup")
    program = f"import test_saving; test_saving.fit_with_backup({backup!r}, kill_at=2, process=True)"
    path = os.pathsep.join(map(str, (pathlib.Path(__file__).parent, HERE, HERE.parents[1])))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr[-2000:]
    with pytest.raises(Killed):
        fit_with_backup(backup, kill_at=5)
    seen, resumed = fit_with_backup(backup)
    assert seen == [(5, 2)]
    everything_seen, unbroken = fit_with_backup(None)
    assert everything_seen == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]
    for a, b in zip(resumed, unbroken, strict=True):
        np.testing.assert_array_equal(a, b)


def test_copies_made_by_keras_itself(tmp_path) -> None:
    """deepcopy, pickle, clone_model and Keras's own load_model know the classes without a scope."""
    model, x = apply.quantize_apply(shake(everything())), data()[0]
    train.calibrate(model, x)
    model.save(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    made = [copies.deepcopy(model), pickle.loads(pickle.dumps(model)), clone]
    for other in (*made, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_array_equal(other(x), model(x))


@pytest.mark.parametrize(
    "first", ["tfmot_kws, tf_keras", "tf_keras, tfmot_kws", "tfmot_kws; from tensorflow import keras"]
)
def test_keras_itself_loads_in_a_process_that_only_imports_the_package(first: str, tmp_path: pathlib.Path) -> None:
    """No name of tfmot_kws has been used there: its classes are imported when a file names them."""
    model, x = apply.quantize_apply(shake(everything())), data()[0]
    train.calibrate(model, x)
    np.savez(tmp_path / "seen.npz", x=x, y=model(x))
    for kind, name in FORMATS.items():
        # Classes are found alike with traces, which take longest to write; another test reads a model with them.
        model.save(tmp_path / name, **({"save_traces": False} if kind == "saved_model" else {}))
    program = f"""
import {first}
import numpy as np, tf_keras
seen = np.load("seen.npz")
for name in {list(FORMATS.values())}:
    model = tf_keras.models.load_model(name)
    assert type(model.get_layer("conv")).__module__ == "tfmot_kws.quantize.layers", type(model.get_layer("conv"))
    np.testing.assert_array_equal(model(seen["x"]), seen["y"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_users_class_of_the_same_name_stays() -> None:
    class Scale(L.Layer):
        pass

    known = keras.utils.get_custom_objects()
    before = known["Scale"]
    try:
        known["Scale"] = Scale
        saved_classes.make_known_to(keras)
        assert known["Scale"] is Scale
    finally:
        known["Scale"] = before


def test_every_class_of_saved_models_is_there() -> None:
    for name, found in saved_classes.custom_objects().items():
        assert found.__name__ == name and hasattr(found, "from_config")
