"""Models as people write them: taken, equal to the float model, exported, and bit for bit on every runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from models_as_written import KINDS, LAYERS, SHAPE, Louder, chain
from quantization_helpers import features, same_everywhere, shake

import tflite_export
import tfmot_kws
from tflite_export import StreamInterpreter, from_keras
from tfmot_kws.keras import AsWritten, keras, tfmot
from tfmot_kws.quantize.plain import layers as plain
from tfmot_kws.quantize.plain import tensor_ops, unfold
from tfmot_kws.quantize.supported import SUPPORTED
from tfmot_kws.quantize.unsupported import UnsupportedLayerError
from tfmot_kws.training import stages

L = keras.layers


def scaled_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@functools.cache
def made(name: str) -> tuple[np.ndarray, keras.Model, np.ndarray]:
    """(what the float model gives, the quantized one in stage 2, features)."""
    model = KINDS[name]()
    statistics = [v for layer in model.layers if isinstance(layer, L.Normalization) for v in layer.weights]
    kept = [v.numpy() for v in statistics]
    shake(model)
    for v, value in zip(statistics, kept):
        v.assign(value)
    x = features(tuple(model.input_shape[1:]) if getattr(model, "_is_graph_network", False) else SHAPE, clips=16)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)  # batch normalizations take the statistics of these features, as training would give them
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8))
    wanted = model(x, training=False).numpy()
    assert scaled_error(quantized(x).numpy(), wanted) < 0.05  # stage 1: nothing but weights is rounded
    plain_output = unfold.plain_model(model, SUPPORTED).model(x, training=False)
    np.testing.assert_allclose(plain_output, wanted, rtol=1e-4, atol=1e-4)
    stages.calibrate(quantized, x)
    return wanted, quantized, x


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_runtime_gives_what_keras_was_evaluated_with(name: str, require_module) -> None:
    require_module("ai_edge_litert.interpreter"), require_module("tflite_micro.python.tflite_micro.runtime")
    wanted, quantized, x = made(name)
    assert scaled_error(quantized(x, training=False).numpy(), wanted) < 0.15
    assert len(np.unique(same_everywhere(quantized, x))) > 4


STREAMED = ("x + y", "slices", "mean of channels", "minimum, maximum", "Cropping1D", "MixConv", "nested")


@pytest.mark.parametrize("name", STREAMED)
def test_streams_give_the_clip_models_numbers(name: str) -> None:
    _, quantized, x = made(name)
    expected = tflite_export.Interpreter(tflite_export.convert(quantized), "reference").run(x[:1])[0]
    stream = StreamInterpreter(tflite_export.convert(quantized, streaming="internal"), "tflite")
    rows = np.concatenate(
        [stream.step(x[0][:5]), stream.step(x[0][5:]), stream.step(np.zeros_like(x[0][: stream.hop]))]
    )
    np.testing.assert_array_equal(rows[:1], expected[None])


def test_a_scale_costs_no_op() -> None:
    graph = from_keras.to_graph(made("Rescaling")[1])
    assert [type(op).__name__ for op in graph.ops] == ["MaxPool", "PackedDense", "Reshape", "PackedDense"]


def test_noise_ahead_of_the_model_is_there_in_training_and_not_on_the_device() -> None:
    _, quantized, x = made("noise")
    assert np.abs(quantized(x, training=True) - quantized(x, training=False)).max() > 0.01
    kinds = [type(op).__name__ for op in from_keras.to_graph(quantized).ops]
    assert kinds == ["PackedDense", "Reshape", "PackedDense"]


@pytest.mark.parametrize("config", [None, {"name": "mask"}])
def test_a_training_layer_that_has_no_copy_is_shared(config: dict | None) -> None:
    """Keras has no configuration for an argument that is no plain value, or a class gives one that it does not take."""

    class Masks(AsWritten, L.Layer):
        def __init__(self, share: Callable[[], float], **kwargs) -> None:
            super().__init__(**kwargs)
            self.share = share

        def call(self, x, training=None):
            return x * self.share() if training else x

    if config is not None:
        Masks.get_config = lambda self: config
    mask = Masks(lambda: 0.5, name="mask")
    quantized = tfmot_kws.quantize_apply(chain(lambda: mask, lambda: L.Dense(4))())
    assert any(getattr(layer, "layer", None) is mask for layer in quantized.layers)
    x = features(SHAPE, clips=4)
    np.testing.assert_allclose(quantized(x, training=True), quantized(0.5 * x, training=False), atol=1e-5)


@pytest.mark.parametrize("name", ["own augmentation", "arithmetic", "minimum, maximum", "slices"])
def test_models_can_be_saved(name: str, tmp_path) -> None:
    _, quantized, x = made(name)
    quantized.save(tmp_path / "model.keras")
    with keras.utils.custom_object_scope({"Louder": Louder}):
        loaded = tfmot_kws.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), quantized(x))


@pytest.mark.parametrize("name", ["nested", "Stream", "own activation", "subclassed"])
def test_the_float_model_is_left_as_it_is(name: str) -> None:
    model = KINDS[name]()
    calls = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    weights = [w.copy() for w in model.get_weights()]
    tfmot_kws.quantize_apply(model)
    assert calls == [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    for before, after in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(before, after)


def test_plain_models_hold_known_layers_only() -> None:
    for name in ("slices", "arithmetic", "nested", "own augmentation", "PReLU"):
        flat = unfold.plain_model(KINDS[name](), SUPPORTED)
        assert not flat.refusals and {type(v) for v in flat.model.layers} <= {*SUPPORTED, L.InputLayer}


def test_a_plain_model_is_taken_as_it_is() -> None:
    model = keras.Sequential([keras.Input(SHAPE), L.Conv1D(3, 3), L.ReLU(), L.Flatten(), L.Dense(2)])
    assert unfold.plain_model(model, SUPPORTED).model is model


def test_shared_parts_share_their_weights_and_frozen_ones_stay_frozen() -> None:
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, name="dense")], name="inner")
    inner.trainable = False
    x = keras.Input((4,))
    flat = unfold.plain_model(keras.Model(x, L.Dense(2)(tf.nn.relu(inner(inner(x))))), SUPPORTED).model
    assert len([layer for layer in flat.layers if isinstance(layer, L.Dense)]) == 2
    assert not flat.get_layer("dense").trainable


def test_widths_of_annotated_layers_inside_of_nested_models_do_not_get_lost() -> None:
    annotated = tfmot.quantization.keras.quantize_annotate_layer(L.Dense(3), tfmot_kws.KwsQuantizeConfig(bits=2))
    inner = keras.Sequential([keras.Input((4,)), annotated], name="inner")
    with pytest.raises(
        UnsupportedLayerError, match=r"\(QuantizeAnnotate\) cannot be quantized: annotate layers of the"
    ):
        tfmot_kws.quantize_apply(keras.Sequential([keras.Input((4,)), inner, L.Dense(2)]))


def test_a_call_that_looks_at_more_than_its_tensors_is_refused() -> None:
    class Counting(L.Layer):
        calls = 0.0

        def call(self, x):
            self.calls += 1.0
            return x * self.calls

    with pytest.raises(
        UnsupportedLayerError, match=r"'odd' \(Counting\) with a call that gives other numbers than the"
    ):
        tfmot_kws.quantize_apply(chain(lambda: Counting(name="odd"))())


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: tf.pad(x, [[0, 0], [2, 0], [0, 0]], "REFLECT"), "mode='REFLECT'.*pad with zeros"),
        (lambda x: x[::2], "slice .* of axis 0"),
        (lambda x: x[:, ::-1], "in order"),
        (lambda x: tf.cast(x > 0.0, tf.float32), "tf.nn.relu, LeakyReLU, .*which choose by size"),
        (lambda x: x**-3, "the power -3.0 .*above zero"),
        (lambda x: x * 0.0, "a factor must be a number other than zero"),
        (lambda x: x * np.ones((12, 4), np.float32) * np.arange(12, dtype=np.float32)[:, None], "of the last axis"),
        (lambda x: tf.reduce_mean(x, 0), "behind the batch"),
        (lambda x: tf.image.resize(x[..., None], (4, 4)), "ahead of the model"),
        (lambda x: tf.matmul(x, x, transpose_b=True), "weights are constants"),
        (lambda x: x ** np.float32([2, 1, 1, 1]), "a power that is no number"),
        (lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32), "float32 -> int32"),
    ],
)
def test_functions_without_a_layer_are_refused(function, message: str) -> None:
    x = keras.Input(SHAPE)
    with pytest.raises(UnsupportedLayerError, match=message):
        tfmot_kws.quantize_apply(keras.Model(x, L.Dense(2)(function(x))))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_dilated_functions_of_weights_stay_dilated(padding: str) -> None:
    """TensorFlow's old and new functions name strides and dilations otherwise."""
    weights = np.random.default_rng(0).normal(size=(3, 1, 4, 1)).astype(np.float32)
    x, value = keras.Input((12, 1, 4)), features((12, 1, 4), clips=2)
    y = tf.compat.v1.nn.depthwise_conv2d(x, weights, (1, 1, 1, 1), padding, rate=(2, 1))
    y = keras.backend.depthwise_conv2d(y, tf.constant(weights), padding=padding.lower(), dilation_rate=(2, 1))
    model = keras.Model(x, y)
    np.testing.assert_allclose(unfold.plain_model(model, SUPPORTED).model(value), model(value), 1e-4, 1e-5)


@pytest.mark.parametrize("layer", [L.BatchNormalization(), L.Dropout(0.5), L.GaussianNoise(0.1)])
def test_what_would_train_on_the_device_is_refused(layer: L.Layer) -> None:
    inner = keras.Sequential([keras.Input(SHAPE), L.Dense(4), layer])
    x = keras.Input(SHAPE)
    for y in (layer(L.Dense(4)(x), training=True), inner(x, training=True)):
        with pytest.raises(UnsupportedLayerError, match="training=True in its call cannot be quantized: take the arg"):
            tfmot_kws.quantize_apply(keras.Model(x, y))


def test_a_nested_model_that_is_told_not_to_train_keeps_its_statistics() -> None:
    """Transfer learning: ``base(x, training=False)`` with a base that is trainable."""
    inner = keras.Sequential(
        [keras.Input(SHAPE), L.Dense(4, name="dense"), L.BatchNormalization(), L.Dropout(0.5), L.GaussianNoise(9.0)]
    )
    x = keras.Input(SHAPE)
    quantized = tfmot_kws.quantize_apply(keras.Model(x, inner(x, training=False)))
    value = features(SHAPE, clips=4)
    np.testing.assert_array_equal(quantized(value, training=True), quantized(value, training=False))
    dense = quantized.get_layer("dense")
    assert {v.name.split("/")[-1] for v in dense.trainable_variables} >= {"gamma:0", "beta:0", "kernel:0"}
    np.testing.assert_array_equal(dense.moving_mean, 0.0)


def test_own_layers_train_although_they_are_followed_as_they_infer() -> None:
    class Block(AsWritten, L.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.norm = L.BatchNormalization(momentum=0.5)

        def call(self, x, training=None):
            return self.norm(x, training=training)

    quantized = tfmot_kws.quantize_apply(chain(lambda: L.Dense(4), Block)())
    quantized(features(SHAPE), training=True)
    (norm,) = [layer for layer in quantized.layers if "norm" in layer.name or hasattr(layer, "moving_mean")]
    assert np.abs(norm.moving_mean).max() > 0.0


def test_own_layers_of_mixed_precision_are_followed() -> None:
    class Residual(AsWritten, L.Layer):
        def __init__(self, **kwargs) -> None:
            super().__init__(**kwargs)
            self.dense = L.Dense(4)

        def build(self, shape) -> None:
            self.shift = self.add_weight("shift", (4,), initializer="ones")

        def call(self, x, more):
            return tf.nn.relu(self.dense(x) + x * self.shift) - 0.5 * tf.cast(more, x.dtype)

    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        x = keras.Input(SHAPE)
        y = L.GaussianNoise(0.1)(Residual()(x, more=tf.tanh(x)))
        model = keras.Model(x, L.Dense(2, dtype="float32", activity_regularizer="l2")(y))
        quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8))
        value = features(SHAPE, clips=8)
        quantized(value, training=True)
        assert scaled_error(quantized(value).numpy(), model(value).numpy()) < 0.05
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_a_rule_that_gives_other_numbers_is_found(monkeypatch) -> None:
    """Whatever a rule overlooks: the model that is taken apart is compared with the one that was written."""
    monkeypatch.setitem(tensor_ops.RULES, "math.tanh", lambda walk, layer, arguments, shape: arguments["x"])
    x = keras.Input(SHAPE)
    model = keras.Model(x, L.Dense(2)(tf.tanh(tf.nn.relu(x))))
    with pytest.raises(UnsupportedLayerError, match=r"'tf.math.tanh\w*' .* does more than is known of its layers"):
        tfmot_kws.quantize_apply(model)


def test_what_stands_behind_a_refusal_does_not_hide_it() -> None:
    x = keras.Input(SHAPE)
    y = tf.broadcast_to(keras.activations.relu(x, threshold=0.5)[:, :1], tf.shape(x))
    with pytest.raises(UnsupportedLayerError) as error:
        tfmot_kws.quantize_apply(keras.Model(x, L.Dense(2)(y)))
    assert [line.split("'")[1].rstrip("_0123456789") for line in error.value.problems] == [
        "tf.math.greater", "tf.cast", "tf.broadcast_to",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: plain.Scale(0.0, name="s"), "layer 's': the factor must be a number above zero, found 0.0"),
        (lambda: plain.Function("cube", name="f"), "layer 'f': function must be one of .*found 'cube'"),
        (lambda: plain.SliceAxis(0, 1, 2, name="c"), r"layer 'c': no slice \[1:2:1\] of axis 0"),
    ],
)
def test_arguments_of_plain_layers(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["Rescaling", "Normalization of channels", "own augmentation", "Average"])
def test_dynamic_models_take_them_too(name: str) -> None:
    model, x = LAYERS[name](), features(SHAPE, clips=8)
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(8))
    assert scaled_error(quantized(x).numpy(), model(x).numpy()) < 0.1
    found = tflite_export.Interpreter(tflite_export.convert(quantized), "tflite").run(x)
    np.testing.assert_allclose(found, quantized(x), rtol=1e-2, atol=1e-2)
