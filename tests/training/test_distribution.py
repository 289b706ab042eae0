"""Mirrored training, XLA and mixed precision."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import features, quick, shake, worst_lsb

import tflite_export
import tfmot_kws
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.training import stages as train

pytestmark = pytest.mark.slow

L = keras.layers
HERE = pathlib.Path(__file__).resolve().parents[1] / "helpers"


@pytest.fixture(scope="module")
def mirrored() -> Callable[[int], dict]:
    """What training on two devices found: 0 without XLA, 1 with it, which is tried last and may end the process."""
    done = subprocess.run([sys.executable, str(HERE / "distribution.py")], cwd=HERE, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]

    def found(number: int) -> dict:
        assert len(lines) > number, done.stderr[-3000:]
        return json.loads(lines[number])

    return found


def check_two_stages(found: dict) -> None:
    assert found["replicas"] == 2 and found["agree"]
    assert found["stages"] == [1, 1, 2, 2]
    assert found["ranges"][:2] == [0, 0] and 0 != found["ranges"][2] != found["ranges"][3]
    assert found["quantized loss"][-1] < found["quantized loss"][0]
    assert found["lsb"] < 1e-3 and found["bytes"] > 0


@pytest.mark.tf221
def test_mirrored_strategy(mirrored) -> None:
    """Two replicas train both stages by fit, hold the same variables throughout, and the result exports."""
    check_two_stages(mirrored(0))


def test_mirrored_strategy_under_xla(mirrored) -> None:
    """Where TensorFlow can do both at once for a plain float model.

    TensorFlow 2.16 cannot on two logical CPUs: XLA finds the second replica's variables on another device. Then the
    quantized model must fail in the same way.
    """
    found = mirrored(1)
    if found["float"] == "runs":
        check_two_stages(found)
    else:
        assert found["quantized"] == found["float"]
        for name in ("float", "quantized"):
            assert "located in device" in found[f"{name} message"]


def everything() -> keras.Model:
    x = keras.Input((8, 4), name="x")
    a = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv1D(6, 3, padding="same", name="conv")(x)))
    b = L.Add(name="sum")([a, L.DepthwiseConv1D(3, padding="same", activation="relu", name="depthwise")(a)])
    c = L.GlobalAveragePooling1D(name="mean")(L.Concatenate(name="join")([a, L.Activation("tanh", name="tanh")(b)]))
    return keras.Model(x, L.Dense(3, activation="softmax", name="word")(c))


@pytest.mark.tf221
def test_xla() -> None:
    """``jit_compile=True`` trains both stages; what it leaves is what the export gives."""
    model = tfmot_kws.quantize_apply(shake(everything()), tfmot_kws.kws_scheme(3))
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=True)
    x, labels = features((8, 4), clips=64), np.arange(64) % 3
    codes = []

    def keep(*_) -> None:
        codes.append(np.concatenate([model.get_layer(name)._codes().ravel() for name in ("conv", "depthwise", "word")]))

    callbacks = [tfmot_kws.TwoStageSchedule(3), keras.callbacks.LambdaCallback(on_epoch_end=keep)]
    history = quick(model).fit(x, labels, batch_size=16, epochs=6, verbose=0, callbacks=callbacks).history["loss"]
    assert history[-1] < history[0] and train.get_stage(model) == 2
    assert (codes[2] != codes[0]).any() and (codes[5] != codes[2]).any()
    assert worst_lsb(model, x) < 1e-3
    compiled = tf.function(lambda v: model(v, training=False), jit_compile=True, autograph=False)
    found = tflite_export.Interpreter(tflite_export.convert(model)).run(x)
    np.testing.assert_array_equal(found, model(x))
    assert np.abs(compiled(x) - found).max() <= 1 / 256  # exp and tanh of XLA may differ in the last place


@pytest.fixture
def half_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.tf221
def test_mixed_precision(half_precision) -> None:
    """Under a global policy of float16, quantized layers compute in float32: float16 cannot hold their integers."""
    model = everything()
    assert model.get_layer("conv").compute_dtype == "float16"
    quantized = tfmot_kws.quantize_apply(shake(model), tfmot_kws.kws_scheme(3))
    for layer in quantized.layers[1:]:
        assert layer.compute_dtype == layer.dtype == "float32", layer.name
    assert quantized.output.dtype == tf.float32
    quantized.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(), run_eagerly=True)
    assert isinstance(quantized.optimizer, keras.mixed_precision.LossScaleOptimizer)
    x, labels = features((8, 4), clips=64), np.arange(64) % 3
    callbacks = [tfmot_kws.TwoStageSchedule(2)]
    history = quantized.fit(x, labels, batch_size=16, epochs=4, verbose=0, callbacks=callbacks).history["loss"]
    assert history[-1] < history[0]
    assert worst_lsb(quantized, x) < 1e-3


def test_mixed_precision_beside_float_layers(half_precision) -> None:
    """A layer left in float16 hands over to quantized ones and takes from them."""
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    layers = [annotate(L.Dense(5)), L.Dense(4, activation="gelu"), annotate(L.Dense(3))]
    quantized = tfmot_kws.quantize_apply(keras.Sequential([keras.Input((6,)), *layers]))
    x = features((6,))
    train.calibrate(quantized, x)
    y = quantized(x)
    assert y.dtype == tf.float32 and np.isfinite(y).all() and np.abs(y).max() > 0


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "float64"])
def test_weights_of_another_type_are_refused(policy: str) -> None:
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = everything()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    with pytest.raises(ValueError, match=f"holds {policy} weights; quantized training needs float32"):
        tfmot_kws.quantize_apply(model)


def test_bfloat16_beside_changes_no_bit() -> None:
    """Both stages under mixed_bfloat16 end with the integers of a training in float32."""
    found = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.mixed_precision.set_global_policy(policy)
        try:
            keras.backend.clear_session()  # names of layers count from one, and are in the file
            keras.utils.set_random_seed(0)
            quantized = tfmot_kws.quantize_apply(shake(everything()), tfmot_kws.kws_scheme(3))
            quantized.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy())
            x, labels = features((8, 4), clips=64), np.arange(64) % 3
            callbacks = [tfmot_kws.TwoStageSchedule(1)]
            quick(quantized).fit(x, labels, batch_size=16, epochs=2, verbose=0, callbacks=callbacks)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        found.append([tflite_export.convert(quantized), *quantized.get_weights()])
    assert found[0][0] == found[1][0]
    assert all(np.array_equal(a, b) for a, b in zip(*(one[1:] for one in found)))
