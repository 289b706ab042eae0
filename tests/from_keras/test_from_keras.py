"""From a trained Keras model to the integer graph: what is refused, names, windows, and every runtime."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import features, shake, trained, worst_lsb

import tflite_export
from tflite_export import from_keras, ir
from tflite_export.packed import reader as tflite_reader
from tflite_export.reference import run as reference
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.models.time_layers import TimeWindow
from tfmot_kws.quantize import apply
from tfmot_kws.training import stages as train

L = keras.layers
annotate = tfmot.quantization.keras.quantize_annotate_layer


def dense(shape: tuple = (6,)) -> keras.Model:
    return keras.Sequential([keras.Input(shape, name="x"), L.Dense(3, name="dense")], name="little")


def ready(model: keras.Model, *shapes: tuple[int, ...]) -> keras.Model:
    """Quantized, with tracked ranges, in stage 2, without training."""
    quantized = apply.quantize_apply(shake(model))
    xs = [features(shape, clips=4) for shape in shapes]
    train.calibrate(quantized, xs[0] if len(xs) == 1 else [[xs]])
    return quantized


def refuses(model: object, message: str) -> None:
    with pytest.raises(from_keras.ExportError, match=message):
        tflite_export.convert(model)


@pytest.mark.tf221
def test_stage_1_is_refused() -> None:
    model = apply.quantize_apply(dense())
    message = r"model 'little' is in stage 1: train it with TwoStageSchedule, or enter stage 2 by .*calibrate"
    refuses(model, message)
    train.calibrate(model, features((6,)))
    assert tflite_export.convert(model)
    train.set_stage(model, 1)
    refuses(model, message)


def test_untracked_ranges_are_refused() -> None:
    model = ready(dense(), (6,))
    for name in ("_least", "_largest"):
        getattr(model.get_layer("dense").output_grid, name).assign(0.0)
    refuses(model, "layer 'dense' has seen no data")
    model.get_layer("dense").output_grid._largest.assign(np.nan)
    refuses(model, "layer 'dense' gave NaN or infinity while ranges were tracked")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    model = ready(dense(), (6,))
    weight = model.get_layer("dense").trainable_weights[0]
    weight.assign(np.where(np.arange(weight.numpy().size).reshape(weight.shape) == 1, value, weight.numpy()))
    refuses(model, r"layer 'dense': its '\w+' holds NaN or infinity")


def test_other_things_are_refused() -> None:
    refuses("model", "convert needs a quantized tf_keras model, found builtins.str")
    refuses(dense(), "model 'little' has no quantized layers: call tfmot_kws.quantize_apply first, then train the")
    with pytest.raises(ValueError, match="ops must be 'packed' or 'builtin', found 'other'"):
        tflite_export.convert(dense(), ops="other")


def test_unfixed_shape_is_refused() -> None:
    """Before training; where layers stay in float, which is no model to export anyway, by the converter."""
    x = keras.Input((None, 4), name="x")
    y = L.Conv1D(3, 2, name="conv")(x)
    model = keras.Model(x, annotate(L.GlobalAveragePooling1D())(y))
    model = apply.quantize_apply(tfmot.quantization.keras.quantize_annotate_model(keras.Model(x, model.output)))
    train.calibrate(model, features((9, 4)))
    refuses(model, r"layer 'x': shape \(None, 4\) is not fixed; give keras.Input a fixed shape")


def float_first() -> keras.Model:
    layers = [L.Dense(4, activation="gelu", name="free"), annotate(L.Dense(3, name="last"))]
    return keras.Sequential([keras.Input((6,), name="x"), *layers])


def float_last() -> keras.Model:
    layers = [annotate(L.Dense(4, name="first")), L.Dense(3, activation="gelu", name="free")]
    return keras.Sequential([keras.Input((6,), name="x"), *layers])


def float_between() -> keras.Model:
    layers = [annotate(L.Dense(4, name="a")), L.Lambda(tf.abs, name="free"), annotate(L.Dense(3, name="b"))]
    return keras.Sequential([keras.Input((6,), name="x"), *layers])


def float_beside() -> keras.Model:
    x = keras.Input((6,), name="x")
    return keras.Model(x, [annotate(L.Dense(3, name="a"))(x), L.Dense(3, name="free")(x)])


@pytest.mark.parametrize("make", [float_first, float_last, float_between, float_beside])
@pytest.mark.slow
def test_float_layers_are_refused_by_name(make) -> None:
    model = apply.quantize_apply(make())
    train.calibrate(model, features((6,)))
    refuses(model, r"layer 'free' \(\w+\) is in float.*: quantize it \(annotate it, or call quantize_apply on a plain")


def test_a_model_around_a_quantized_one() -> None:
    x = keras.Input((6,), name="x")
    inner = apply.quantize_apply(keras.Model(x, L.Dense(3)(x), name="spotter"))
    train.calibrate(inner, features((6,)))
    message = r"model 'outer' holds model 'spotter': export that one by itself, convert\(model.get_layer\('spotter'\)\)"
    refuses(keras.Sequential([inner, L.Softmax()], name="outer"), message)


def test_an_input_that_nothing_quantized_reads() -> None:
    a, b = keras.Input((6,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], [annotate(L.Dense(3, name="dense"))(a), b])
    quantized = apply.quantize_apply(model)
    train.calibrate(quantized, [[[features((6,)), features((3,))]]])
    refuses(quantized, "(input 'b' is read by no quantized layer: quantize the layers that read it)")


def test_an_input_that_is_an_output() -> None:
    x = keras.Input((6,), name="x")
    refuses(ready(keras.Model(x, [L.Dense(3)(x), x]), (6,)), "output of layer 'x' is in float: .* or cut it off")


def graph_of(model: keras.Model) -> ir.Graph:
    return tflite_reader.read(tflite_export.convert(model))


@pytest.mark.tf221
@pytest.mark.slow
def test_names_are_unique() -> None:
    """A layer that is called several times, and layers whose parts take names that others have."""
    x = keras.Input((9, 4), name="x")
    shared = L.Dense(4, activation="relu", name="shared")
    y = L.SeparableConv1D(5, 3, name="pair")(shared(shared(shared(x))))
    y = L.Dense(5, activation="sigmoid", name="pair_depthwise_2")(y)
    pooled = L.GlobalMaxPooling1D(keepdims=True, name="pool")(y)
    model = ready(keras.Model(x, L.Flatten(name="pool_max")(pooled)), (9, 4))
    graph = from_keras.to_graph(model)
    outputs = [op.output for op in graph.ops]
    assert Counter(outputs).most_common(1)[0][1] == 1 and set(outputs) | {"x"} == set(graph.tensors)
    assert {"shared", "shared_2", "shared_3"} < set(outputs)
    assert worst_lsb(model, features((9, 4))) < 1e-3


@pytest.mark.slow
def test_shared_layers_share_their_weights() -> None:
    """A shared layer has one output grid and two inputs: its codes are the same, its requantization is not."""
    x = keras.Input((6,), name="x")
    shared = L.Dense(6, name="shared")
    model = ready(keras.Model(x, L.Dense(2)(shared(L.ReLU()(shared(x))))), (6,))
    graph = from_keras.to_graph(model)
    first, second = (op for op in graph.ops if op.name.startswith("shared"))
    np.testing.assert_array_equal(first.weights.codes, second.weights.codes)
    assert graph.tensors[first.output].quantization == graph.tensors[second.output].quantization
    assert first.requantization.multiplier != second.requantization.multiplier
    assert worst_lsb(model, features((6,))) < 1e-3


@pytest.mark.tf221
@pytest.mark.parametrize("padding", ["valid", "causal"])
@pytest.mark.slow
def test_window_before_dense_becomes_its_window(padding: str) -> None:
    layers = [TimeWindow(3, 2, 2, padding, name="window"), L.Dense(4, name="dense")]
    model = ready(keras.Sequential([keras.Input((12, 5), name="x"), *layers]), (12, 5))
    graph = from_keras.to_graph(model)
    (op,) = graph.ops
    assert set(graph.tensors) == {"x", "dense"} and op.input == "x"
    assert op.window == ir.Window((3, 1), (2, 1), (2, 1), (4 if padding == "causal" else 0, 0, 0, 0))
    assert worst_lsb(model, features((12, 5))) < 1e-3


@pytest.mark.parametrize("padding", ["valid", "causal"])
@pytest.mark.slow
def test_window_before_anything_else_is_written_out(padding: str) -> None:
    x = keras.Input((12, 5), name="x")
    window = TimeWindow(3, 2, 2, padding, name="window")(x)
    model = ready(keras.Model(x, [L.Dense(4, name="dense")(window), L.Activation("tanh", name="t")(window)]), (12, 5))
    graph = from_keras.to_graph(model)
    kinds = Counter(type(op).__name__ for op in graph.ops)
    expected = {"Slice": 3, "Concatenate": 1, "Lookup": 1, "PackedDense": 1, "Pad": int(padding == "causal")}
    assert kinds == Counter(expected)
    assert worst_lsb(model, features((12, 5))) < 1e-3


def test_window_as_output_is_written_out() -> None:
    x = keras.Input((7, 3), name="x")
    model = ready(keras.Model(x, [TimeWindow(2, name="w")(x), L.Dense(2, name="d")(x)]), (7, 3))
    graph = from_keras.to_graph(model)
    assert graph.tensors[graph.outputs[0]].shape == (6, 6)
    assert worst_lsb(model, features((7, 3))) < 1e-3


def everything() -> keras.Model:
    x = keras.Input((12, 6), name="x")
    a = L.ReLU()(L.BatchNormalization()(L.Conv1D(8, 3, padding="same", name="conv")(x)))
    b = L.DepthwiseConv1D(3, padding="same", activation="relu", name="depthwise")(a)
    c = L.Add(name="sum")([a, b])
    c = L.Concatenate(name="join")([L.MaxPooling1D(2)(c), L.AveragePooling1D(2)(L.Dense(4, activation="tanh")(c))])
    d = L.GlobalAveragePooling1D()(L.Dense(7, activation="relu6")(c))
    return keras.Model(x, L.Dense(5, activation="softmax", name="word")(d), name="everything")


@pytest.fixture(scope="module")
def trained_model() -> keras.Model:
    return trained(shake(everything()), features((12, 6)), {"bits": 3})


@pytest.mark.tf221
@pytest.mark.parametrize("runtime", ["reference", "tflite", "litert", "tflm"])
def test_end_to_end(trained_model: keras.Model, runtime: str, require_module) -> None:
    """Keras and every runtime give the same float32 numbers, bit for bit."""
    modules = {"litert": "ai_edge_litert.interpreter", "tflm": "tflite_micro.python.tflite_micro.runtime"}
    if runtime in modules:
        require_module(modules[runtime])
    x = features((12, 6), clips=20, seed=5)
    expected = trained_model(x, training=False).numpy()
    found = tflite_export.Interpreter(tflite_export.convert(trained_model), runtime).run(x)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 20


def test_file_holds_the_graph(trained_model: keras.Model, rng: np.random.Generator) -> None:
    graph = from_keras.to_graph(trained_model)
    assert graph.inputs == ("x",) and graph.name == "everything"
    assert graph.tensors[graph.outputs[0]].quantization == ir.Quantization(1 / 256, -128)
    q = {"x": rng.integers(-128, 128, (3, 12, 6)).astype(np.int8)}
    found = reference.run(graph_of(trained_model), q)
    for name, value in reference.run(graph, q).items():
        np.testing.assert_array_equal(found[name], value)


def test_export_changes_nothing(trained_model: keras.Model) -> None:
    before = [w.copy() for w in trained_model.get_weights()]
    assert tflite_export.convert(trained_model) == tflite_export.convert(trained_model)
    for a, b in zip(before, trained_model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_outputs_keep_their_names() -> None:
    """Also where a layer took its activation in, or where there are several."""
    x = keras.Input((6,), name="x")
    hidden = L.ReLU(name="seen")(L.Dense(4, name="dense")(x))
    graph = from_keras.to_graph(ready(keras.Model(x, hidden), (6,)))
    assert graph.outputs == ("seen",) and graph.ops[-1].output == "seen"
    both = keras.Model(x, [hidden, L.Dense(3, name="scores")(hidden)])
    graph = from_keras.to_graph(ready(both, (6,)))
    assert graph.outputs == ("seen", "scores") and graph.ops[-1].input == "seen"
