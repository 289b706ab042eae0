"""What could be trained but not exported is refused by quantize_apply."""

from __future__ import annotations

import numpy as np
import pytest
from quantization_helpers import features

import tflite_export
import tfmot_kws
from tflite_export import from_keras
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize.unsupported import UnsupportedLayerError
from tfmot_kws.training import stages

L = keras.layers

REFUSED = {
    "axes": ((2, 2, 2, 2, 2, 4), lambda: L.Dense(3, name="bad"), "6 axes behind the batch.*use at most 5"),
    "moved axes": ((2, 2, 2, 2, 3), lambda: L.Permute((2, 1, 3, 4, 5), name="bad"), "5 axes.*use at most 4"),
    "Conv1D of pictures": ((3, 8, 4), lambda: L.Conv1D(4, 3, name="bad"), "3 axes behind the batch.*TimeDistributed"),
    "window": ((70000, 1), lambda: L.GlobalMaxPooling1D(name="bad"), r"\(70000,\).*at most 65535"),
    "constraint": ((8, 4), lambda: L.Dense(3, kernel_constraint="max_norm", name="bad"), "kernel_constraint=MaxNorm"),
    "bias constraint": ((8, 4), lambda: L.Dense(3, bias_constraint="non_neg", name="bad"), "bias_constraint=NonNeg"),
    "depthwise constraint": (
        (8, 4), lambda: L.DepthwiseConv1D(3, depthwise_constraint="unit_norm", name="bad"), "depthwise_constraint=Unit"
    ),
    "norm's constraint": ((8, 4), lambda: L.BatchNormalization(beta_constraint="non_neg", name="bad"), "beta_constr"),
    "norm's regularizer": ((8, 4), lambda: L.LayerNormalization(gamma_regularizer="l2", name="bad"), "take it away"),
    "slope's constraint": ((8, 4), lambda: L.PReLU(alpha_constraint="non_neg", name="bad"), "alpha_constraint=NonNeg"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_layers_without_a_device_form_are_refused_before_training(name: str) -> None:
    shape, make, message = REFUSED[name]
    with pytest.raises(UnsupportedLayerError, match=f"layer 'bad' .*{message}"):
        tfmot_kws.quantize_apply(keras.Sequential([keras.Input(shape), make()]))


def test_a_norm_that_is_taken_in_is_looked_at_too() -> None:
    layers = [L.Conv1D(3, 3), L.BatchNormalization(gamma_constraint="non_neg", name="bad"), L.ReLU()]
    with pytest.raises(UnsupportedLayerError, match="layer 'bad' .*gamma_constraint=NonNeg"):
        tfmot_kws.quantize_apply(keras.Sequential([keras.Input((8, 4)), *layers]))


def test_penalties_of_an_annotated_layers_values_are_refused() -> None:
    for layer in (L.Dense(3, activity_regularizer="l2", name="bad"), L.GRU(3, activity_regularizer="l2", name="bad")):
        annotated = tfmot.quantization.keras.quantize_annotate_layer(layer)
        with pytest.raises(UnsupportedLayerError, match="layer 'bad' .*put an ActivityRegularization"):
            tfmot_kws.quantize_apply(keras.Sequential([keras.Input((8, 4)), annotated]))


@pytest.mark.parametrize(
    "first",
    [
        lambda penalty: L.Dense(6, activation="relu", activity_regularizer=penalty),  # Edge Impulse's dense blocks
        lambda penalty: L.GRU(6, activity_regularizer=penalty),
    ],
)
def test_penalties_of_values_are_kept(first, tmp_path) -> None:
    first = first(keras.regularizers.L1(0.1))
    shape = (5, 3) if isinstance(first, L.GRU) else (5,)
    model = keras.Sequential([keras.Input(shape), first, L.Dense(2, activity_regularizer="l2")])
    x = features(shape, clips=8)
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8))
    quantized.save(tmp_path / "model.keras")
    for found in (quantized, tfmot_kws.load_model(tmp_path / "model.keras")):
        model(x, training=True), found(x, training=True)
        np.testing.assert_allclose(found.losses, model.losses, rtol=0.05)
    stages.calibrate(quantized, x)
    assert len(from_keras.to_graph(quantized).ops) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shape": ()}, r"input 'x': shape \(\) holds nothing"),
        ({"shape": (0, 4)}, r"input 'x': shape \(0, 4\) holds nothing"),
        ({"shape": (8, 4), "dtype": "int32"}, "input 'x' is int32: give keras.Input dtype='float32'"),
    ],
)
def test_inputs_that_no_device_has(options: dict, message: str) -> None:
    x = keras.Input(**options, name="x")
    with pytest.raises(ValueError, match=message):
        tfmot_kws.quantize_apply(keras.Model(x, L.ReLU()(x)))


def test_regularizers_of_vectors_are_kept(tmp_path) -> None:
    l2 = keras.regularizers.L2
    layers = [
        L.Conv1D(4, 3, bias_regularizer=l2(0.1), name="conv"),
        L.BatchNormalization(gamma_regularizer=l2(0.2), beta_regularizer=l2(0.3)),
        L.ReLU(),
    ]
    quantized = tfmot_kws.quantize_apply(keras.Sequential([keras.Input((8, 4)), *layers]))
    conv = quantized.get_layer("conv")
    for name, value in (("bias", 2.0), ("gamma", 3.0), ("beta", 4.0)):
        getattr(conv, name).assign(np.full(4, value))
    np.testing.assert_allclose(sum(quantized.losses), 0.1 * 4 * 4 + 0.2 * 4 * 9 + 0.3 * 4 * 16, rtol=1e-5)
    quantized.save(tmp_path / "model.keras")
    loaded = tfmot_kws.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(sum(loaded.losses), sum(quantized.losses), rtol=1e-6)


def test_many_tensors_are_joined_a_few_at_a_time(require_module) -> None:
    """TFLM joins ten at once."""
    require_module("tflite_micro.python.tflite_micro.runtime")
    x = keras.Input((4, 12))
    y = L.UpSampling1D(11)(L.Concatenate()([x[..., i : i + 1] for i in range(12)]))
    quantized = tfmot_kws.quantize_apply(keras.Model(x, L.Dense(2)(y)))
    v = features((4, 12), clips=4)
    stages.calibrate(quantized, v)
    most = max(len(getattr(op, "inputs", ())) for op in from_keras.to_graph(quantized).ops)
    assert most == 10
    file = tflite_export.convert(quantized)
    found = tflite_export.Interpreter(file, "tflm").run(v)
    np.testing.assert_array_equal(found, quantized(v, training=False))
