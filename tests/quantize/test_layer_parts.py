"""What becomes of layers that are frozen, start at zero or are pruned; and what eight bits of gain and bias cost."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import features, shake, worst_lsb

import tfmot_kws
from tfmot_kws.keras import keras
from tfmot_kws.quantize.layer_bits import LayerBits

L = keras.layers


def spotter() -> keras.Model:
    x = keras.Input((8, 4), name="x")
    y = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv1D(6, 3, name="conv")(x)))
    return keras.Model(x, L.Dense(3, name="head")(L.GlobalAveragePooling1D(name="mean")(y)))


SCHEMES = {
    "kws": tfmot_kws.kws_scheme(4),
    "kws 8": tfmot_kws.kws_scheme(8),
    "kws 1": tfmot_kws.kws_scheme(1),
    "dynamic": tfmot_kws.dynamic_scheme(bits=8),
    "dynamic tanh": tfmot_kws.dynamic_scheme(bits=4, weights="tanh"),
}


@pytest.mark.parametrize("name", ["kws", "dynamic"])
def test_frozen_layers_stay_frozen(name: str) -> None:
    """Also through a copy by config; their batch normalization runs on its moving statistics and moves nothing."""
    model, x = shake(spotter()), features((8, 4))
    for layer in model.layers[:-1]:
        layer.trainable = False
    quantized = tfmot_kws.quantize_apply(model, SCHEMES[name])
    for found in (quantized, keras.models.clone_model(quantized)):
        assert {v.name.split("/")[0] for v in found.trainable_weights} == {"head"}
    kept = quantized.get_layer("conv").moving_mean.numpy()
    np.testing.assert_allclose(quantized(x, training=True), quantized(x, training=False), atol=1e-5)
    np.testing.assert_array_equal(quantized.get_layer("conv").moving_mean.numpy(), kept)


@pytest.mark.parametrize("frozen, free", [("conv", "norm"), ("norm", "conv")])
def test_half_of_a_folded_layer_is_frozen(frozen: str, free: str) -> None:
    model, x = shake(spotter()), features((8, 4))
    model.get_layer(frozen).trainable = False
    conv = tfmot_kws.quantize_apply(model).get_layer("conv")
    trained = {v.name.split("/")[-1].split(":")[0] for v in conv.trainable_weights} - {"range_offset"}
    assert trained == {"conv": {"kernel", "gain", "bias"}, "norm": {"gamma", "beta"}}[free]
    before = conv.moving_mean.numpy()
    conv([tf.constant(x), tf.constant(1.0)], training=True)
    assert np.array_equal(conv.moving_mean.numpy(), before) == (frozen == "norm")


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [("conv",), ("norm",), ("conv", "norm")])
@pytest.mark.parametrize("whole", [True, False], ids=["model", "layer"])
def test_frozen_layers_are_freed_as_in_keras(frozen: tuple[str, ...], whole: bool) -> None:
    """Set on the model or the layer, ``trainable`` counts for the layers that were folded into one, too."""
    model = shake(spotter())
    for name in frozen:
        model.get_layer(name).trainable = False
    quantized = tfmot_kws.quantize_apply(model)
    free = tfmot_kws.quantize_apply(shake(spotter())).get_layer("conv")
    conv = quantized.get_layer("conv")
    assert len(conv.trainable_weights) < len(free.trainable_weights)
    assert len(conv.weights) == len({id(v) for v in conv.weights}) == len(free.weights)
    (quantized if whole else conv).trainable = False
    assert not conv.trainable_weights
    (quantized if whole else conv).trainable = True
    assert [v.name for v in conv.trainable_weights] == [v.name for v in free.trainable_weights]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["half.keras", "half.h5", "half"])
def test_half_frozen_layers_are_saved_as_they_are(form: str, tmp_path: pathlib.Path) -> None:
    model = shake(spotter())
    model.get_layer("conv").trainable = False
    quantized = tfmot_kws.quantize_apply(model)
    quantized.save(tmp_path / form)
    again = tfmot_kws.load_model(tmp_path / form)
    assert again.get_layer("conv").frozen == ("kernel",)
    names, kept = ([v.name.split("/")[-1] for v in m.trainable_weights] for m in (quantized, again))
    assert kept == names
    for one, other in zip(again.weights, quantized.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("start", [0.0, 1e-5, 1e-3])
def test_a_head_that_starts_near_zero_learns(name: str, start: float) -> None:
    """Nothing to begin with, then as far as a float head gets in a few steps of Adam."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    x = (rng.random((120, 6)) + 3 * np.eye(3, 6)[labels]).astype(np.float32)
    inputs = keras.Input((6,), name="x")
    model = keras.Model(
        inputs, L.Dense(3, kernel_initializer=keras.initializers.RandomNormal(0, start, seed=1))(inputs)
    )
    quantized = tfmot_kws.quantize_apply(model, SCHEMES[name])
    assert np.abs(quantized(x).numpy()).max() < 0.25  # one bit has no zero

    def loss():
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, quantized(x, training=True)))

    optimizer = keras.optimizers.legacy.Adam(0.05)
    first = float(loss())
    for _ in range(16):
        optimizer.minimize(loss, quantized.trainable_variables)
    assert float(loss()) < 0.7 * first


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zeros_are_kept(bits: int) -> None:
    model = shake(spotter())
    kernel = model.get_layer("conv").kernel
    zeros = np.abs(kernel.numpy()) < np.quantile(np.abs(kernel.numpy()), 0.6)
    kernel.assign(np.where(zeros, 0, kernel.numpy()))
    x = features((8, 4))
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits, keep_zeros=True))
    conv, optimizer = quantized.get_layer("conv"), keras.optimizers.legacy.Adam(0.1)
    others = conv.kernel.numpy()[~zeros]
    for stage in (1, 2):
        tfmot_kws.set_stage(quantized, stage)
        for _ in range(2):
            optimizer.minimize(lambda: tf.reduce_sum(quantized(x, training=True) ** 2), quantized.trainable_variables)
        assert (conv.integers(0.1).codes[zeros] == 2 ** (bits - 1)).all()
    assert (conv.kernel.numpy()[~zeros] != others).all()


def test_a_new_head_of_zeros_is_not_pruned() -> None:
    model = spotter()
    head = model.layers[-1]
    head.kernel.assign(tf.zeros_like(head.kernel))
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(4, keep_zeros=True))
    kernel = quantized.get_layer(head.name).kernel
    optimizer = keras.optimizers.legacy.Adam(0.1)
    optimizer.minimize(lambda: tf.reduce_sum((quantized(features((8, 4)), training=True) - 1) ** 2), [kernel])
    assert (quantized.get_layer(head.name).integers(0.1).codes != 8).any()


def test_zeros_need_a_grid_that_has_one() -> None:
    assert LayerBits(4, keep_zeros=True).grid == "mid-tread" and LayerBits(4).grid == "mid-rise"
    for arguments, message in (
        ({"bits": 1}, "kws_scheme: keep_zeros=True needs 2 bits or more"),
        ({"bits": 4, "grid": "mid-rise"}, "kws_scheme: keep_zeros=True needs grid='mid-tread'"),
        ({"bits": 4, "layer_bits": {"a": 1}}, r"layer_bits\['a'\]: keep_zeros=True needs 2 bits or more"),
    ):
        with pytest.raises(ValueError, match=message):
            tfmot_kws.kws_scheme(keep_zeros=True, **arguments)


def offset_spotter() -> keras.Model:
    """Batch normalization of features far from zero, then channels of very different gains."""
    x = keras.Input((8, 4), name="x")
    y = L.Conv1D(12, 3, name="conv")(L.BatchNormalization(name="first")(x))
    y = L.ReLU()(L.BatchNormalization(name="norm")(y))
    model = shake(keras.Model(x, L.Dense(3, name="head")(L.Flatten()(y))))
    model.get_layer("first").moving_mean.assign([20, 21, 19, 20])
    model.get_layer("norm").gamma.assign(np.geomspace(0.05, 3, 12))
    return model


def test_eight_bits_of_gain_and_bias_are_enough() -> None:
    """A calibrated model is about as near to float as one with gains and biases of 16 bits throughout."""
    model, x = offset_spotter(), features((8, 4), clips=64) + 20
    wanted = model(x).numpy()
    errors = {}
    for name, options in {
        "default": {},
        "16": {"gain_bits": 16, "bias_bits": 16},
        "8": {"gain_bits": 8, "bias_bits": 8},
    }.items():
        quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8, **options))
        tfmot_kws.calibrate(quantized, x)
        errors[name] = np.sqrt(((quantized(x).numpy() - wanted) ** 2).mean() / wanted.var())
        if name == "default":
            assert worst_lsb(quantized, x) <= 1
            integers = quantized.get_layer("conv").integers(0.1)
            assert np.abs(integers.gain).max() <= 127 and np.abs(integers.bias).max() <= 127
    assert errors["default"] < 1.2 * errors["16"]
    assert errors["8"] > 1.5 * errors["default"]  # the batch normalization that stands alone


@pytest.mark.parametrize("bits", [4, 8])
def test_the_bias_of_a_layer_of_zeros_is_whole(bits: int) -> None:
    x = keras.Input((6,), name="x")
    bias = keras.initializers.Constant([0.5, -1.0, 2.0])
    model = keras.Model(x, L.Dense(3, kernel_initializer="zeros", bias_initializer=bias, activation="relu")(x))
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits))
    clips = features((6,))
    tfmot_kws.calibrate(quantized, clips)
    np.testing.assert_allclose(quantized(clips), np.tile([0.5, 0.0, 2.0], (len(clips), 1)), atol=0.05)
    assert worst_lsb(quantized, clips) == 0
