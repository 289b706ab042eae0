"""Shapes that layers tell: those of what they compute, so that a new model needs no tracing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmot_kws.frontend.waveform import SincConv, WaveformConv
from tfmot_kws.keras import keras
from tfmot_kws.models import time_layers
from tfmot_kws.quantize import layers, ops, recurrent, waveform
from tfmot_kws.quantize.dynamic import layers as dynamic

BITS = {"bits": 4}


def convolution(kind, size, strides, padding, dilation, **more):
    return kind(kernel_size=size, strides=strides, padding=padding, dilation_rate=dilation, bits=BITS, **more)


def window(padding, size=3, stride=2, dilation=1):
    return time_layers.TimeWindow(size, stride, dilation, padding)


STATIC = {
    "affine": (lambda: layers.QuantizedAffine(batch_norm={}), [(5, 3)]),
    "dense": (lambda: layers.QuantizedDense(4, bits=BITS), [(5, 3)]),
    **{
        f"conv {padding} {stride} {dilation}": (
            lambda p=padding, s=stride, d=dilation: convolution(layers.QuantizedConv, (3,), (s,), p, (d,), filters=2),
            [(11, 3)],
        )
        for padding in ("valid", "same", "causal")
        for stride, dilation in ((1, 1), (3, 1), (1, 2))
    },
    "conv 2d": (lambda: convolution(layers.QuantizedConv, (3, 2), (2, 1), "same", (1, 1), filters=2), [(9, 7, 3)]),
    "depthwise": (
        lambda: convolution(layers.QuantizedDepthwise, (3,), (2,), "causal", (1,), depth_multiplier=2),
        [(9, 3)],
    ),
    "function": (lambda: ops.QuantizedFunction("tanh"), [(5, 3)]),
    "softmax": (ops.QuantizedSoftmax, [(5, 3)]),
    "sum": (ops.QuantizedMerge, [(5, 3), (5, 3)]),
    "sum that spreads": (ops.QuantizedMerge, [(1, 3), (5, 1)]),
    "sum of two ranks": (lambda: ops.QuantizedMerge("multiply"), [(3,), (5, 3)]),
    "sum of two other ranks": (ops.QuantizedMerge, [(4, 5, 3), (5, 1)]),
    "concatenate": (lambda: ops.QuantizedConcatenate(axis=1), [(5, 3), (2, 3)]),
    "pool": (lambda: ops.QuantizedAveragePool(1, (3,), (2,), "same"), [(8, 3)]),
    "pool 2d": (lambda: ops.QuantizedAveragePool(2, (3, 2), (2, 2), "valid"), [(8, 5, 3)]),
    "pool all": (lambda: ops.QuantizedAveragePool(2), [(8, 5, 3)]),
    "pool all, keep": (lambda: ops.QuantizedAveragePool(2, keepdims=True), [(8, 5, 3)]),
    "dequantize": (ops.Dequantize, [(5, 3)]),
    "recurrent": (lambda: recurrent.QuantizedRecurrent(4, "gru", True, bits=BITS), [(5, 3)]),
    "recurrent, last row": (lambda: recurrent.QuantizedRecurrent(4, bits=BITS), [(5, 3)]),
    "waveform": (lambda: waveform.quantized_form(SincConv(3, 9, 4, 2), "sinc", bits=BITS), [(31, 1)]),
}
REAL = {
    "input": (ops.QuantizeInput, (5, 3)),
    "dynamic dense": (lambda: dynamic.DynamicDense(4, bits=BITS), (5, 3)),
    "dynamic conv": (lambda: convolution(dynamic.DynamicConv, (3,), (2,), "causal", (1,), filters=2), (9, 3)),
    "dynamic conv 2d": (
        lambda: convolution(dynamic.DynamicConv, (3, 2), (2, 1), "valid", (1, 1), filters=2),
        (9, 7, 3),
    ),
    **{f"window {padding}": (lambda p=padding: window(p), (9, 3)) for padding in ("valid", "causal")},
    "window dilated": (lambda: window("valid", dilation=3), (9, 3)),
    "causal conv": (lambda: time_layers.CausalConv1D(2, 3, strides=2), (9, 3)),
    "causal depthwise": (lambda: time_layers.CausalDepthwiseConv1D(3, strides=2, depth_multiplier=2), (9, 3)),
    "mean over time": (lambda: time_layers.TimeAveragePooling1D(3, 2), (9, 3)),
    "largest over time": (lambda: time_layers.TimeMaxPooling1D(3, 2), (9, 3)),
    "sinc": (lambda: SincConv(3, 9, 4, 2), (31, 1)),
    "samples": (lambda: WaveformConv(3, 9, 4, 1), (31, 1)),
    "samples from a device": (waveform.QuantizeSamples, (31, 1)),
}


def check(layer, symbolic, rng: np.random.Generator, unknown: bool = False) -> None:
    """The layer's outputs in a new model have the shapes and types that it computes."""
    made = tf.nest.flatten(layer(symbolic))
    sizes = [[n or 7 for n in x.shape[1:]] for x in tf.nest.flatten(symbolic)]
    values = [tf.constant(rng.random([2, *n] if n or unknown else []), tf.float32) for n in sizes]
    values = [v if x.shape.rank else tf.constant(0.1) for v, x in zip(values, tf.nest.flatten(symbolic))]
    computed = tf.nest.flatten(layer(tf.nest.pack_sequence_as(symbolic, values)))
    assert len(made) == len(computed)
    for told, real in zip(made, computed):
        assert told.dtype == real.dtype and told.shape.rank == real.shape.rank
        if told.shape.rank:
            assert told.shape[0] is None
            if not unknown:
                assert tuple(told.shape[1:]) == tuple(real.shape[1:])
        assert told.shape.is_compatible_with(real.shape)


def pairs(shapes):
    """Symbolic (steps, scale) of each shape."""
    entries = [ops.QuantizeInput()(keras.Input(shape)) for shape in shapes]
    return [tensor for entry in entries for tensor in entry]


@pytest.mark.parametrize("name", STATIC)
def test_of_integers(name: str, rng: np.random.Generator) -> None:
    make, shapes = STATIC[name]
    check(make(), pairs(shapes), rng)


@pytest.mark.parametrize("name", REAL)
def test_of_real_values(name: str, rng: np.random.Generator) -> None:
    make, shape = REAL[name]
    check(make(), keras.Input(shape), rng)


@pytest.mark.parametrize("name", ["dense", "function", "sum", "concatenate", "pool all", "conv same 1 1"])
def test_clips_of_any_length(name: str, rng: np.random.Generator) -> None:
    make, shapes = STATIC[name]
    check(make(), pairs([(None, *shape[1:]) for shape in shapes]), rng, unknown=True)


def test_call_is_the_layers_own_again() -> None:
    layer = time_layers.TimeWindow(3)
    layer(keras.Input((9, 3)))
    assert "call" not in vars(layer)
    assert layer(np.zeros((1, 9, 3), np.float32)).shape == (1, 7, 9)


def test_call_is_the_layers_own_again_after_a_mistake() -> None:
    layer = time_layers.TimeWindow(30)
    with pytest.raises(ValueError, match="a window spans 30 frames"):
        layer(keras.Input((9, 3)))
    assert "call" not in vars(layer)
