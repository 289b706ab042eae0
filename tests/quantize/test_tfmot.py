"""Inside TensorFlow Model Optimization's own calls: our scheme in its quantize_apply, our config in its scheme."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import features, shake

import tfmot_kws
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize import quantizers

pytestmark = pytest.mark.slow

L = keras.layers
tfq = tfmot.quantization.keras


def spotter() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((9, 4), name="x"),
            L.Conv1D(6, 3, name="conv"),
            L.BatchNormalization(),
            L.ReLU(),
            L.GlobalAveragePooling1D(),
            L.Dense(3, name="logits"),
        ]
    )


@pytest.mark.tf221
@pytest.mark.versions
def test_our_scheme_in_their_quantize_apply() -> None:
    model, x = shake(spotter()), features((9, 4))
    rules = tfmot_kws.kws_scheme(3, {"logits": 6})
    with tfmot_kws.quantize_scope():
        theirs = tfq.quantize_apply(tfq.quantize_annotate_model(model), rules)
    ours = tfmot_kws.quantize_apply(model, rules)
    assert theirs.get_config() == ours.get_config()
    for a, b in zip(theirs.get_weights(), ours.get_weights()):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(theirs(x), ours(x))


def test_our_scheme_in_their_quantize_apply_without_our_scope() -> None:
    """Nothing of ours needs registering before a model of Keras' own layers."""
    model, x = shake(spotter()), features((9, 4))
    theirs = tfq.quantize_apply(tfq.quantize_annotate_model(model), tfmot_kws.kws_scheme(4))
    np.testing.assert_array_equal(theirs(x), tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(4))(x))


def test_config_round_trip() -> None:
    config = tfmot_kws.KwsQuantizeConfig(3, 7, 9, 12, "mid-tread")
    copy = tfmot_kws.KwsQuantizeConfig.from_config(config.get_config())
    assert copy == config and hash(copy) == hash(config) and config != tfmot_kws.KwsQuantizeConfig(3)
    with pytest.raises(ValueError, match="bits: bits must be a whole number from 1 to 8, found 9"):
        tfmot_kws.KwsQuantizeConfig(9)


@pytest.mark.tf221
@pytest.mark.versions
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("layer", ["dense", "conv", "depthwise"])
def test_our_config_in_their_scheme(bits: int, layer: str, tmp_path) -> None:
    """TFMOT's contract: quantized weights in the forward pass, gradients to kernel, gain and bias, saved and loaded."""
    config = tfmot_kws.KwsQuantizeConfig(bits)
    made = {
        "dense": lambda: L.Dense(5, name="mine"),
        "conv": lambda: L.Conv2D(5, 3, name="mine"),
        "depthwise": lambda: L.DepthwiseConv2D(3, name="mine"),
    }[layer]()
    shape = (7,) if layer == "dense" else (6, 6, 2)
    model = shake(keras.Sequential([keras.Input(shape), tfq.quantize_annotate_layer(made, config)]))
    before = (made.depthwise_kernel if layer == "depthwise" else made.kernel).numpy()
    with tfmot_kws.quantize_scope():
        quantized = tfq.quantize_apply(model)
        x = features(shape)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(quantized(x, training=True) ** 2)
        wrapper = quantized.layers[-1]
        names = ["kernel", "gain", "bias"]
        assert sorted(v.name.split("/")[-1].split(":")[0].split("_")[-1] for v in quantized.trainable_variables) == (
            sorted(names)
        )
        gradients = tape.gradient(loss, quantized.trainable_variables)
        assert all(g is not None and np.abs(g).max() > 0 for g in gradients)
        keras.optimizers.legacy.SGD(1e-2).apply_gradients(zip(gradients, quantized.trainable_variables))
        quantized.save(tmp_path / "model.h5")
        np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.h5")(x), quantized(x))
    used = wrapper.layer.depthwise_kernel if layer == "depthwise" else wrapper.layer.kernel
    gain = next(v for v in wrapper.weights if "gain" in v.name).numpy()
    per_channel = used.numpy().reshape(-1, len(gain))
    assert all(len(np.unique(column)) <= 2**bits for column in per_channel.T)
    if bits == 8:  # the start is the float weight; one step moves it a little
        assert np.abs(used - before).max() < 0.05


def test_quantizer_round_trip() -> None:
    quantizer = quantizers.TanhWeightQuantizer(3)
    assert quantizer.get_config() == {"bits": 3, "grid": "mid-rise"}
    assert quantizers.TanhWeightQuantizer.from_config(quantizer.get_config()).get_config() == quantizer.get_config()
