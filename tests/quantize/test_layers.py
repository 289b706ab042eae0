"""Every supported layer, from Keras through both stages to the integer graph."""

import numpy as np
import pytest
from quantization_helpers import features, shake, trained, worst_lsb

from tfmot_kws.keras import keras
from tfmot_kws.models.time_layers import TimeWindow

pytestmark = pytest.mark.slow

L = keras.layers


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape, name="x"), *layers])


def functional(shape, make):
    x = keras.Input(shape, name="x")
    return keras.Model(x, make(x))


def residual(x):
    a = L.Conv1D(6, 3, padding="same", name="a")(x)
    b = L.Dense(6, name="b")(x)
    return L.ReLU()(L.Add(name="sum")([a, b]))


def gate(x):
    a = L.Conv1D(6, 3, padding="causal", activation="relu")(x)
    s = L.Reshape((1, 6))(L.Dense(6, activation="sigmoid")(L.GlobalAveragePooling1D()(a)))
    return L.Multiply(name="gate")([a, s])


def three_sums(x):
    parts = [L.Dense(5, activation=f, name=f)(x) for f in ("relu", "tanh", "sigmoid")]
    return L.Add(name="sum")(parts)


def shared(x):
    dense = L.Dense(8, activation="relu", name="shared")
    return L.Dense(3)(L.Concatenate()([dense(x), dense(L.Dense(7, activation="tanh")(x))]))


def shared_norm(x):
    norm = L.BatchNormalization()
    return L.Concatenate()([norm(L.Dense(4)(x)), norm(L.Dense(4)(x))])


MODELS = {
    "dense": lambda: sequential((7,), L.Dense(5)),
    "dense one input one output": lambda: sequential((1,), L.Dense(1)),
    "dense over time": lambda: sequential((6, 7), L.Dense(5, activation="relu"), L.Dense(3, use_bias=False)),
    "dense norm relu": lambda: sequential((7,), L.Dense(9), L.BatchNormalization(), L.ReLU(), L.Dense(3)),
    "dense relu norm": lambda: sequential((7,), L.Dense(9, activation="relu"), L.BatchNormalization(), L.Dense(3)),
    "norm without scale and center": lambda: sequential(
        (7,), L.Dense(9), L.BatchNormalization(scale=False, center=False), L.Activation("relu"), L.Dense(3)
    ),
    "norm first": lambda: sequential((6, 7), L.BatchNormalization(), L.Dense(3)),
    "norm alone": lambda: sequential((6, 7), L.BatchNormalization()),
    "norm relu alone": lambda: sequential((6, 7), L.BatchNormalization(), L.ReLU(6)),
    **{
        f"conv1d {padding} stride {stride} dilation {dilation}": (
            lambda p=padding, s=stride, d=dilation: sequential(
                (13, 4), L.Conv1D(5, 3, strides=s, dilation_rate=d, padding=p), L.BatchNormalization(), L.ReLU()
            )
        )
        for padding in ("valid", "same", "causal")
        for stride, dilation in ((1, 1), (2, 1), (3, 1), (1, 2), (1, 4))
    },
    **{
        f"conv2d {padding} {strides} {dilation}": (
            lambda p=padding, s=strides, d=dilation: sequential(
                (9, 7, 3), L.Conv2D(4, (3, 2), strides=s, dilation_rate=d, padding=p, activation="relu"), L.Flatten()
            )
        )
        for padding in ("valid", "same")
        for strides, dilation in (((1, 1), (1, 1)), ((2, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 3)))
    },
    "depthwise1d": lambda: sequential((13, 4), L.DepthwiseConv1D(3, strides=2, padding="same"), L.ReLU()),
    "depthwise1d multiplier dilation": lambda: sequential(
        (13, 4), L.DepthwiseConv1D(3, depth_multiplier=2, dilation_rate=2), L.BatchNormalization()
    ),
    "depthwise2d": lambda: sequential((9, 7, 3), L.DepthwiseConv2D((3, 2), padding="same"), L.BatchNormalization()),
    "depthwise2d multiplier stride": lambda: sequential((9, 9, 3), L.DepthwiseConv2D(3, (2, 2), depth_multiplier=3)),
    "depthwise2d dilation": lambda: sequential((9, 9, 3), L.DepthwiseConv2D(3, dilation_rate=(2, 2), padding="same")),
    "separable1d": lambda: sequential((13, 4), L.SeparableConv1D(6, 3, strides=2, padding="same", activation="relu")),
    "separable2d": lambda: sequential(
        (9, 7, 3), L.SeparableConv2D(5, 3, depth_multiplier=2), L.BatchNormalization(), L.ReLU()
    ),
    "relu": lambda: sequential((7,), L.ReLU()),
    "relu6 alone": lambda: sequential((7,), L.Dense(9), L.Dense(30), L.ReLU(6)),
    "leaky relu": lambda: sequential((7,), L.Dense(9), L.LeakyReLU(0.1)),
    **{
        f"activation {name}": (lambda n=name: sequential((7,), L.Dense(9), L.Activation(n), L.Dense(4)))
        for name in ("relu", "sigmoid", "tanh", "softmax", "hard_sigmoid", "linear")
    },
    "softmax layer": lambda: sequential((5, 7), L.Dense(4), L.Softmax()),
    "dense softmax": lambda: sequential((7,), L.Dense(4, activation="softmax")),
    "max pool 1d": lambda: sequential((13, 4), L.MaxPooling1D(3, 2, padding="same"), L.Dense(3)),
    "max pool 2d": lambda: sequential((9, 7, 3), L.MaxPooling2D((2, 3)), L.Dense(3)),
    "average pool 1d": lambda: sequential((13, 4), L.AveragePooling1D(3, 2, padding="same"), L.Dense(3)),
    "average pool 1d valid": lambda: sequential((13, 4), L.AveragePooling1D(4)),
    "average pool 2d": lambda: sequential((9, 7, 3), L.AveragePooling2D((2, 3), padding="same"), L.Dense(3)),
    "global average 1d": lambda: sequential((13, 4), L.Dense(6, activation="relu"), L.GlobalAveragePooling1D()),
    "global average 2d": lambda: sequential((9, 7, 3), L.GlobalAveragePooling2D(keepdims=True), L.Dense(3)),
    "global max 1d": lambda: sequential((13, 4), L.Dense(6), L.GlobalMaxPooling1D(), L.Dense(2)),
    "global max 2d": lambda: sequential((9, 7, 3), L.GlobalMaxPooling2D(), L.Dense(2)),
    "flatten reshape permute": lambda: sequential(
        (6, 4), L.Dense(6), L.Permute((2, 1)), L.Reshape((4, 9)), L.Flatten(), L.Dense(3)
    ),
    "zero padding 1d": lambda: sequential((6, 4), L.ZeroPadding1D((2, 1)), L.Conv1D(5, 3)),
    "zero padding 2d": lambda: sequential((6, 5, 2), L.ZeroPadding2D(((2, 1), (0, 3))), L.Conv2D(5, 3)),
    "dropout": lambda: sequential((6, 4), L.Dropout(0.3), L.Dense(5), L.SpatialDropout1D(0.2), L.Flatten(), L.Dense(3)),
    "time window": lambda: sequential((12, 4), TimeWindow(3, 2), L.Dense(6), L.ReLU()),
    "time window causal": lambda: sequential((12, 4), TimeWindow(3, 1, 2, "causal"), L.Dense(6)),
    "time window alone": lambda: sequential((12, 4), TimeWindow(3, 2, 2, "causal"), L.ReLU()),
    "residual": lambda: functional((9, 6), residual),
    "gate": lambda: functional((9, 6), gate),
    "three sums": lambda: functional((7,), three_sums),
    "shared dense": lambda: functional((7,), shared),
    "shared norm": lambda: functional((7,), shared_norm),
    "concatenate axis 1": lambda: functional(
        (5, 4), lambda x: L.Concatenate(axis=1)([L.Dense(4, activation="relu")(x), L.Dense(4)(x), x])
    ),
    "one tensor in two outputs": lambda: functional((7,), lambda x: [L.Dense(3, name="p")(x), L.ReLU(name="q")(x)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_keras_equals_reference(name):
    model = shake(MODELS[name]())
    x = features(model.input_shape[1:])
    assert worst_lsb(trained(model, x), x) < 1e-3


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("grid", ["mid-rise", "mid-tread"])
def test_every_width(bits, grid):
    if bits == 1 and grid == "mid-tread":
        pytest.raises(ValueError, lambda: trained(MODELS["dense"](), features((7,)), {"bits": 1, "grid": grid}))
        return
    model = shake(
        sequential((12, 5), L.Conv1D(9, 3), L.BatchNormalization(), L.ReLU(), TimeWindow(2, 2), L.Dense(4, "tanh"))
    )
    x = features((12, 5))
    options = {"bits": bits, "grid": grid, "activation_bits": max(2, bits), "gain_bits": 9, "bias_bits": bits + 3}
    quantized = trained(model, x, options)
    assert worst_lsb(quantized, x) < 1e-3
    for layer in quantized.layers:
        if hasattr(layer, "kernel"):
            codes = np.unique(layer.integers(0.5).codes)
            assert codes.min() >= (grid == "mid-tread") and codes.max() < 2**bits


def test_several_inputs_and_outputs():
    a, b = keras.Input((6, 4), name="a"), keras.Input((3,), name="b")
    pooled = L.GlobalAveragePooling1D()(L.Conv1D(5, 3, activation="relu")(a))
    joined = L.Concatenate()([pooled, b])
    model = keras.Model([a, b], {"word": L.Dense(4, name="word")(joined), "vad": L.Dense(1, name="vad")(pooled)})
    x = [features((6, 4)), features((3,), seed=2)]
    quantized = trained(shake(model), x)
    assert set(quantized.output) == {"word", "vad"} and set(quantized.output_names) == {"word", "vad"}
    assert worst_lsb(quantized, x) < 1e-3
