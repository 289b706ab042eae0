"""From a Keras model of dynamic quantization to files: what Keras says, the graph, sizes, layers between, streams."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import quick

import tflite_export
import tfmot_kws
from tflite_export import from_keras, ir
from tflite_export.reference import run as reference
from tflite_export.streaming.graph import StreamError
from tfmot_kws.commands.parts import measure
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.models import time_layers as streaming

pytestmark = pytest.mark.slow

L = keras.layers
SCHEMES = (
    {"bits": 16}, {"bits": 8}, {"bits": "4-8"}, {"bits": 4}, {"bits": 5, "input_bits": 6}, {"bits": {"linear_*": 3}},
    {"bits": 8, "weights": "tanh"}, {"bits": 4, "weights": "tanh"}, {"bits": 1, "weights": "tanh"},
)  # fmt: skip


@pytest.fixture(scope="module")
def spotter() -> keras.Model:
    """Random weights of a trained model's size."""
    keras.utils.set_random_seed(0)
    return models.svd_50k(frames=36)


def features(batch: int, model: keras.Model, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 2, (batch, *model.input_shape[1:])).astype(np.float32)


def predicted(model: keras.Model, x):
    """What ``model.predict`` gives, in a graph too, but not rewritten by AutoGraph, which takes far longer."""
    run = tf.function(lambda v: model(v, training=False), autograph=False)
    return tf.nest.map_structure(lambda y: y.numpy(), run(x))


def apart(model: keras.Model, x: np.ndarray) -> tuple[float, float]:
    """Largest distance between Keras and the reference, and the deviation of the outputs."""
    graph = from_keras.to_graph(model)
    expected = predicted(model, x)
    found = reference.run(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    return float(np.abs(found - expected).max()), float(expected.std())


@pytest.mark.parametrize("options", SCHEMES, ids=str)
def test_reference_says_what_keras_says(options: dict, spotter: keras.Model) -> None:
    """But where a value lies next to the edge of a code: few do, and then a row differs by a step of an input."""
    model = tfmot_kws.quantize_apply(spotter, tfmot_kws.dynamic_scheme(**options))
    x = features(64, spotter)
    graph = from_keras.to_graph(model)
    expected = predicted(model, x)
    found = reference.run(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    distance = np.abs(found - expected).max(axis=1) / expected.std()
    assert np.median(distance) < 1e-3
    assert distance.max() < 0.05


def test_naive_widths_are_as_near_to_float_as_they_are_wide(spotter: keras.Model) -> None:
    x = features(64, spotter)
    plain = predicted(spotter, x)
    errors = []
    for bits in (16, 8, 4):
        model = tfmot_kws.quantize_apply(spotter, tfmot_kws.dynamic_scheme(bits=bits))
        errors.append(np.abs(predicted(model, x) - plain).max() / plain.std())
    assert errors[0] < 1e-3 and errors[0] < errors[1] < 0.1 and errors[1] < errors[2]


@pytest.mark.parametrize(("bits", "most"), [(16, 0.53), (8, 0.29), ("4-8", 0.26), (4, 0.16)])
def test_file_size(bits: int | str, most: float) -> None:
    model = models.svd_50k()
    small = tflite_export.convert(tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(bits=bits)))
    assert len(small) <= most * len(measure.float_tflite(model))


def test_layers_between(rng: np.random.Generator) -> None:
    """Everything that a model may have between dense layers, trained for a step so that statistics are not trivial."""
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((24, 10), name="features")
    x = L.Conv1D(12, 3, padding="same", use_bias=False, name="conv")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(6.0, name="relu6")(x)
    x = L.BatchNormalization(name="affine")(x)
    y = L.DepthwiseConv1D(3, padding="same", activation="tanh", name="depthwise")(x)
    x = L.Add(name="add")([x, y])
    x = L.Multiply(name="multiply")([x, y])
    x = L.Concatenate(name="join")([x, y])
    x = L.MaxPooling1D(2, name="most")(x)
    x = L.SeparableConv1D(8, 3, name="separable")(x)
    x = streaming.TimeWindow(3, 2, name="window")(x)
    x = L.Dense(9, activation="sigmoid", name="dense")(x)
    x = L.Dropout(0.5, name="dropout")(x)
    x = L.AveragePooling1D(2, name="average")(x)
    x = L.Permute((2, 1), name="permute")(x)
    x = L.Reshape((6, 3), name="reshape")(x)
    x = L.GlobalAveragePooling1D(name="mean")(x)
    x = L.Dense(4, name="logits")(x)
    model = keras.Model(inputs, L.Softmax(name="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    data = features(64, model)
    quick(model).fit(data, rng.integers(0, 4, 64), verbose=0)
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(bits=8))
    distance, spread = apart(quantized, data)
    assert distance < 0.02 * spread
    flatbuffer = tflite_export.convert(quantized)
    graph = from_keras.to_graph(quantized)
    expected = reference.run(graph, {"features": data})[graph.outputs[0]]
    np.testing.assert_array_equal(tflite_export.Interpreter(flatbuffer, "tflite").run(data), expected)


def test_pictures(rng: np.random.Generator) -> None:
    keras.utils.set_random_seed(2)
    x = inputs = keras.Input((9, 11, 3), name="features")
    x = L.Conv2D(8, (3, 2), (2, 1), padding="same", activation="relu", name="conv")(x)
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.Conv2D(6, 1, name="pointwise")(x)
    x = L.MaxPooling2D(2, name="most")(x)
    x = L.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(inputs, L.Dense(3, activation="tanh", name="out")(x))
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(bits=8))
    distance, spread = apart(quantized, features(32, model))
    assert distance < 0.02 * spread


def test_two_inputs_and_outputs() -> None:
    a, b = keras.Input((5,), name="a"), keras.Input((7,), name="b")
    x = L.Concatenate(name="join")([L.Dense(6, name="first")(a), L.Dense(6, name="second")(b)])
    model = keras.Model([a, b], [L.Dense(2, name="left")(x), L.Dense(3, name="right")(x)])
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(bits=8))
    data = {
        name: np.random.default_rng(i).normal(size=(8, n)).astype(np.float32)
        for i, (name, n) in enumerate((("a", 5), ("b", 7)))
    }
    expected = predicted(quantized, data)
    found = tflite_export.Interpreter(tflite_export.convert(quantized), "tflite").run([data["a"], data["b"]])
    for one, other in zip(found, expected):
        assert np.abs(one - other).max() < 0.02 * other.std()


@pytest.mark.parametrize("name", ["internal", "external"])
def test_stream_of_a_keras_model(name: str) -> None:
    """20 frames behind and 10 ahead: a row for each frame once 31 were heard, the one judged 10 frames ago."""
    keras.utils.set_random_seed(3)
    clip = tfmot_kws.quantize_apply(models.svd_50k(), tfmot_kws.dynamic_scheme(bits=8))
    x = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)
    runner = tflite_export.StreamInterpreter(tflite_export.convert(clip, streaming=name), "tflite")
    rows = np.concatenate([runner.step(x[i : i + 9]) for i in range(0, 60, 9)])
    assert runner.receptive == 31 and runner.hop == 1 and len(rows) == 30
    graph = from_keras.to_graph(clip)
    windows = np.stack([x[i : i + 31] for i in range(30)])
    np.testing.assert_array_equal(rows.reshape(30, 2), reference.run(graph, {"features": windows})[graph.outputs[0]])


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
def test_rows_of_a_clip_model(scheme: str) -> None:
    """Without its mean over 20 rows, a model of 50 frames gives what it has for every 31 of them."""
    keras.utils.set_random_seed(3)
    model = models.svd_50k(frames=50)
    x = np.random.default_rng(0).normal(2, 1, (60, 20)).astype(np.float32)
    if scheme == "dynamic":
        clip = tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(bits=8))
    else:
        clip = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits=4))
        tfmot_kws.calibrate(clip, x[None, :50])
    runner = tflite_export.StreamInterpreter(tflite_export.convert(clip, streaming="internal", rows=True), "tflite")
    rows = runner.step(x)
    assert runner.receptive == 31 and runner.hop == 1 and rows.shape == (30, 2)
    whole = tflite_export.Interpreter(tflite_export.convert(clip), "reference").run(x[None, :50])
    assert np.abs(rows[:20].mean(axis=0) - whole[0]).max() < (1e-5 if scheme == "dynamic" else 0.05)
    flat = tfmot_kws.quantize_apply(models.svd_50k(frames=31), tfmot_kws.dynamic_scheme())
    with pytest.raises(StreamError, match="mean over all rows"):
        tflite_export.convert(flat, streaming="internal", rows=True)


def test_stock_ops_at_eight_bits(spotter: keras.Model) -> None:
    for options in ({"bits": 8}, {"bits": 8, "weights": "tanh"}, {"bits": 4, "weights": "tanh"}):
        model = tfmot_kws.quantize_apply(spotter, tfmot_kws.dynamic_scheme(**options))
        x = features(16, spotter)
        expected = predicted(model, x)
        flatbuffer = tflite_export.convert(model, ops="builtin")
        found = tflite_export.Interpreter(flatbuffer, "tflite").run(x)
        assert np.abs(found - expected).max() < 0.15 * expected.std()
    model = tfmot_kws.quantize_apply(spotter, tfmot_kws.dynamic_scheme(bits=4))
    with pytest.raises(ir.GraphError, match="4-bit inputs"):
        tflite_export.convert(model, ops="builtin")


def test_what_has_no_float_kernel_is_named() -> None:
    inputs = keras.Input((5,))
    model = keras.Model(inputs, L.Dense(3, activation="hard_sigmoid", name="dense")(inputs))
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme())
    with pytest.raises(from_keras.ExportError, match=r"hard_sigmoid.*float kernel"):
        tflite_export.convert(quantized)
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, L.LayerNormalization(name="layer_norm")(L.Dense(3, name="dense")(inputs)))
    with pytest.raises(ValueError, match="layer_norm"):
        tflite_export.convert(tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme()))
