"""Dynamic quantization: layers against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from dynamic_numpy import F, near, numpy_outputs, numpy_windows
from quantization_helpers import features, shake

import tfmot_kws
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize.dynamic import quantizers as dq
from tfmot_kws.quantize.dynamic.layers import DynamicDense
from tfmot_kws.quantize.layer_bits import DynamicBits

pytestmark = pytest.mark.slow

L = keras.layers
INF, NAN = F("inf"), F("nan")
annotate = tfmot.quantization.keras.quantize_annotate_layer
INPUTS = (2, 3, 4, 5, 6, 7, 8, 16)
WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 16)


# -- layers ----------------------------------------------------------------------------------------------------------

WIDTHS = [(b, i, "linear") for b in range(1, 9) for i in ((2, 8), (5, 8))[b % 2]] + [(16, 16, "linear")]
WIDTHS += [(b, 8, "tanh") for b in range(1, 9)] + [(3, 2, "tanh")]


@pytest.mark.parametrize("bits, input_bits, weights", WIDTHS)
def test_dense_is_the_definition(bits: int, input_bits: int, weights: str, rng: np.random.Generator) -> None:
    activation = ("linear", "relu", "relu6", "sigmoid", "tanh")[(bits + input_bits) % 5]
    norm = {"momentum": 0.9, "epsilon": 1e-3, "center": True, "scale": True} if bits % 2 else None
    options = {"use_bias": bits % 3 > 0, "batch_norm": norm, "activation": activation}
    layer = DynamicDense(7, bits=DynamicBits(bits, input_bits, weights), **options)
    x = (features((4, 9), 5) * 10 ** rng.uniform(-2, 2, (5, 4, 1))).astype(F)
    layer.build(x.shape)
    shake(layer, int(rng.integers(99)))
    found = layer.integers()
    assert found.codes.dtype == np.uint16 and found.codes.shape == (9, 7) and found.codes.max() < 2**bits
    assert (found.zeros is None) == (weights == "tanh") and found.gain.dtype == np.int16
    assert (found.bias is None) == (norm is None and not layer.use_bias)
    expected = numpy_outputs(layer, found, x.reshape(-1, 9)).reshape(5, 4, 7)
    near(layer(x), expected)
    if bits in (3, 8, 16):  # one arithmetic, eager and in a graph
        graph = tf.function(lambda v: layer(v, training=False), autograph=False)
        np.testing.assert_array_equal(graph(x), layer(x))


CONVOLUTIONS = [
    ((9, 3), (3,), (1,), "same", (1,)),
    ((9, 3), (4,), (3,), "same", (1,)),
    ((9, 3), (3,), (2,), "causal", (1,)),
    ((9, 3), (3,), (1,), "causal", (2,)),
    ((9, 3), (1,), (1,), "valid", (1,)),
    ((9, 3), (1,), (2,), "valid", (1,)),
    ((9, 3), (2,), (1,), "valid", (3,)),
    ((7, 6, 2), (3, 2), (1, 1), "same", (1, 1)),
    ((7, 6, 2), (3, 3), (2, 1), "valid", (1, 1)),
    ((7, 6, 2), (4, 1), (2, 2), "same", (1, 1)),
    ((7, 6, 2), (2, 3), (1, 1), "same", (2, 1)),
    ((7, 6, 2), (1, 1), (1, 1), "same", (1, 1)),
]


@pytest.mark.parametrize("shape, size, strides, padding, dilation", CONVOLUTIONS)
def test_convolution_is_the_definition(shape, size, strides, padding, dilation, rng: np.random.Generator) -> None:
    kind = L.Conv1D if len(size) == 1 else L.Conv2D
    x = features(shape, 3) + F(1)  # never zero at the edges, where padding widens a row's range
    plain = kind(5, size, strides, padding, dilation_rate=dilation, name="conv")
    model = shake(keras.Sequential([keras.Input(shape), plain]))
    layer = tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(8)).get_layer("conv")
    rows = numpy_windows(x, layer)
    y = layer(x)
    assert y.shape == plain.compute_output_shape(x.shape) == layer.compute_output_shape(x.shape)
    near(y, numpy_outputs(layer, layer.integers(), rows.reshape(-1, rows.shape[-1])).reshape(y.shape))
    np.testing.assert_allclose(y, plain(x), atol=0.08)
    wide = tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(16))
    np.testing.assert_allclose(wide(x), plain(x), atol=4e-4)
    with tf.GradientTape(persistent=True) as tape:
        v = tf.constant(x)
        tape.watch(v)
        new, old = wide(v), plain(v)
    np.testing.assert_allclose(tape.gradient(new, v), tape.gradient(old, v), atol=1e-3)


def test_infinities_pass_as_on_a_device() -> None:
    layer = DynamicDense(2, bits=DynamicBits(8), activation="relu")
    x = np.array([[INF, -INF, 1], [NAN, 1, 2], [NAN, NAN, NAN]], F)
    layer.build(x.shape)
    y = layer(x).numpy()
    assert not np.isnan(y).any() and (y[2] == 0).all()


def test_sums_are_exact_where_float32_is_not(rng: np.random.Generator) -> None:
    x = rng.uniform(0, 1, (2, 2000)).astype(F)
    levels = rng.integers(200, 256, (2000, 3)).astype(F)
    rows = [v.numpy() for v in dq.row_codes(tf.constant(x), 8)]
    exact = rows[0].astype(np.int64) @ levels.astype(np.int64)
    assert exact.min() > 2**24
    expected = rows[2] * exact.astype(F) + rows[1] * levels.sum(axis=0)
    np.testing.assert_array_equal(dq.row_product(tf.constant(x), tf.constant(levels), 8, 255), expected)


@pytest.mark.parametrize("bits", range(1, 9))
def test_gains_are_the_same_in_a_graph_and_out_of_it(bits: int) -> None:
    """Graph optimizers reorder factors; five layers show it in one of six cases where that matters."""
    for number in range(5):
        layer = DynamicDense(7, bits=DynamicBits(bits, 8, "tanh"), use_bias=True)
        layer.build((5, 9))
        shake(layer, number)

        def vectors(layer: DynamicDense = layer) -> list[tf.Tensor]:
            return list(layer._vectors(*layer._gain_and_bias(tf.zeros((1, 7)), 1.0, False)))

        for eager, graph in zip(vectors(), tf.function(vectors, autograph=False)()):
            np.testing.assert_array_equal(eager, graph)
