"""Keras 3 models and files: rebuilt as tf_keras, the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from quantization_helpers import features

import tfmot_kws
from tfmot_kws.keras import keras
from tfmot_kws.quantize.plain import keras3
from tfmot_kws.quantize.unsupported import UnsupportedLayerError


@pytest.fixture(scope="module")
def newer(require_module):
    return require_module("keras")


@pytest.fixture(scope="module")
def model(newer):
    layers, ops = newer.layers, newer.ops
    x = newer.Input((12, 4), name="x")
    y = layers.Conv2D(3, (3, 3), padding="same", activation="relu", kernel_regularizer=newer.regularizers.L2(1e-3))(
        ops.expand_dims(x, -1)
    )
    y = layers.Activation("silu", name="silu")(layers.BatchNormalization(name="norm")(y))
    y = layers.LeakyReLU(0.2)(layers.DepthwiseConv2D((3, 1))(y))
    y = layers.Dropout(0.2)(y * 2.0 + 1.0)[:, 2:]
    y = layers.TimeDistributed(layers.Dense(6, activation="hard_sigmoid"))(ops.reshape(y, (-1, 8, 12)))
    inner = newer.Sequential([newer.Input((6,)), layers.Dense(5), layers.Dense(3, "softmax")], name="inner")
    made = newer.Model(x, inner(ops.relu(ops.mean(y, axis=1))), name="spotter")
    rng = np.random.default_rng(0)
    made.set_weights([np.abs(w + rng.normal(0, 0.2, w.shape)).astype(w.dtype) for w in made.get_weights()])
    return made


def test_the_same_numbers(model) -> None:
    x = features((12, 4))
    rebuilt = keras3.rebuilt(model)
    assert isinstance(rebuilt, keras.Model) and keras3.is_model(model) and not keras3.is_model(rebuilt)
    np.testing.assert_allclose(rebuilt(x), np.asarray(model(x)), atol=1e-6)
    assert rebuilt.get_layer("conv2d").kernel_regularizer.l2 == np.float32(1e-3) or len(rebuilt.losses) == 1


@pytest.mark.parametrize("name", ["hard_sigmoid", "hard_silu", "silu", "leaky_relu", "gelu", "elu", "softsign"])
def test_activations_are_those_of_keras_3(name: str, newer) -> None:
    """By what they compute: some have the name of another function of tf_keras."""
    x = np.linspace(-4, 4, 60).reshape(10, 6).astype(np.float32)
    for layer in (newer.layers.Dense(5, activation=name), newer.layers.Activation(name)):
        made = newer.Sequential([newer.Input((6,)), layer])
        np.testing.assert_allclose(keras3.rebuilt(made)(x), np.asarray(made(x)), atol=1e-5)


def test_quantize_apply_takes_it(model) -> None:
    x = features((12, 4))
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8))
    np.testing.assert_allclose(quantized(x), np.asarray(model(x)), atol=0.05)


def test_files(model, newer, tmp_path) -> None:
    x, path = features((12, 4)), tmp_path / "model.keras"
    model.save(path)
    assert keras3.is_file(path)
    np.testing.assert_allclose(tfmot_kws.load_model(path)(x), np.asarray(model(x)), atol=1e-6)
    legacy = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    legacy.save(path)
    assert not keras3.is_file(path) and not keras3.is_file(tmp_path / "none.keras")
    assert tfmot_kws.load_model(path).count_params() == 8


def test_all_that_is_missing_is_named(newer) -> None:
    class Mine(newer.layers.Layer):
        def call(self, x):
            return x * 2

    x = newer.Input((12, 4))
    y = newer.ops.cumsum(Mine(name="mine")(newer.layers.Dense(3)(x)), axis=1)
    with pytest.raises(UnsupportedLayerError) as caught:
        tfmot_kws.quantize_apply(newer.Model(x, newer.layers.Dense(2)(y)))
    assert len(caught.value.problems) == 2
    assert "'mine' (Mine) with no namesake in tf_keras" in str(caught.value)
    assert "(Cumsum) with an operation of Keras 3 cannot" in str(caught.value)


def test_recurrent_layers(newer) -> None:
    kinds, x = newer.layers, features((6, 3), 8)
    for layer in (kinds.LSTM(3, return_sequences=True), kinds.GRU(4, dropout=0.1), kinds.RNN(kinds.SimpleRNNCell(3))):
        model = newer.Sequential([newer.Input((6, 3)), layer])
        quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8))
        np.testing.assert_allclose(quantized(x), np.asarray(model(x)), atol=0.04)
    for layer in (
        kinds.Bidirectional(kinds.GRU(2), name="bad"),
        kinds.RNN([kinds.GRUCell(2), kinds.GRUCell(2)], name="bad"),
    ):
        with pytest.raises(UnsupportedLayerError, match="layer 'bad'"):
            tfmot_kws.quantize_apply(newer.Sequential([newer.Input((6, 3)), layer]))


def test_layers_without_a_device_form_are_named(newer) -> None:
    model = newer.Sequential(
        [newer.Input((6, 3, 2)), newer.layers.ConvLSTM1D(4, 2, name="memory"), newer.layers.Dense(2)]
    )
    with pytest.raises(UnsupportedLayerError, match=r"layer 'memory' \(ConvLSTM1D\) cannot be quantized: no way yet"):
        tfmot_kws.quantize_apply(model)


def test_models_without_a_graph_are_refused(newer) -> None:
    class Own(newer.Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match="Keras 3 model 'own' .* shows no layers: write it with the functional API"):
        tfmot_kws.quantize_apply(Own(name="own"))
    with pytest.raises(TypeError, match="give a Sequential an Input"):
        tfmot_kws.quantize_apply(newer.Sequential([newer.layers.Dense(2)]))
