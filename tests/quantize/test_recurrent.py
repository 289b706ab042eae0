"""Recurrent layers: the device's integers in a TensorFlow graph, training in both stages, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import features, shake, trained, worst_lsb

import tflite_export
from tflite_export.reference import recurrent as reference
from tfmot_kws.keras import keras
from tfmot_kws.quantize import apply, recurrent_math, saving, scheme
from tfmot_kws.quantize.recurrent import QuantizedRecurrent
from tfmot_kws.quantize.unsupported import UnsupportedLayerError
from tfmot_kws.training import stages

pytestmark = pytest.mark.slow

L = keras.layers
LAYERS = {
    "lstm": lambda **more: L.LSTM(5, **more),
    "gru_reset_after": lambda **more: L.GRU(5, **more),
    "gru": lambda **more: L.GRU(5, reset_after=False, **more),
    "simple": lambda **more: L.SimpleRNN(5, **more),
}


def chain(*layers: L.Layer, shape: tuple[int, ...] = (9, 6)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


def test_tables_are_those_of_the_reference() -> None:
    x = np.arange(-(1 << 15), 1 << 15)
    rounding = recurrent_math.Rounding(tf.constant(True), 128.0)
    real = tf.constant(x * recurrent_math.SCALE, tf.float32)
    np.testing.assert_array_equal(rounding.tanh(real) * 2**15, reference.tanh(2 * x))
    np.testing.assert_array_equal(rounding.sigmoid(real) * 2**15, reference.sigmoid(x))


@pytest.mark.parametrize("cell", LAYERS)
def test_stage_1_of_8_bits_is_the_float_layer(cell: str) -> None:
    model = shake(chain(LAYERS[cell](return_sequences=True, name="memory")))
    x = features((9, 6), 4)
    quantized = apply.quantize_apply(model, scheme.kws_scheme(8))
    np.testing.assert_allclose(quantized(x), model(x), atol=0.04)
    layer = quantized.get_layer("memory")
    assert isinstance(layer, QuantizedRecurrent) and layer.cell == cell
    assert layer.count_params() - 1 == model.count_params() + 2 * 2 * 5 * recurrent_math.GATES[cell]  # gains, sizes


@pytest.mark.parametrize(
    ("cell", "bits"),
    [("lstm", 4), ("lstm", 1), ("gru_reset_after", 8), ("gru", 3), ("simple", 4)],
)
def test_trains_and_equals_the_device(cell: str, bits: int) -> None:
    """Both stages move every weight; the device gives the integers of stage 2, graph or eager."""
    last = bits != 4
    layer = LAYERS[cell](return_sequences=not last, use_bias=bits != 1, dropout=0.2, recurrent_dropout=0.1)
    model = shake(chain(L.Conv1D(4, 2, activation="relu"), layer, shape=(4, 3)))
    x = features((4, 3), 8)
    before = apply.quantize_apply(model, scheme.kws_scheme(bits)).layers[2].get_weights()
    quantized = trained(model, x, {"bits": bits, "activation_bits": 5 if bits == 1 else 8}, steps=1, learning_rate=0.1)
    part = quantized.layers[2]
    kernels = [w for w in part.trainable_weights if "kernel" in w.name]
    assert kernels and all((a != b).any() for a, b in zip(before[:2], part.get_weights()[:2]))
    assert worst_lsb(quantized, x) == 0
    if (cell, bits) == ("lstm", 4):
        graph = tf.function(lambda v: quantized(v, training=False), autograph=False)
        np.testing.assert_array_equal(graph(x), quantized(x, training=False))


def test_a_long_clip_learns_in_a_compiled_fit() -> None:
    """100 frames: whether the first of them was above zero."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.3, (64, 100, 2)).astype(np.float32)
    x[:, 0] = rng.choice([-2.0, 2.0], (64, 1))
    y = (x[:, 0, 0] > 0).astype(np.int32)
    model = chain(L.GRU(4, name="memory"), L.Dense(2), shape=(100, 2))
    quantized = apply.quantize_apply(model, scheme.kws_scheme(4))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    quantized.compile(keras.optimizers.Adam(0.02), loss)
    quantized.train_step = tf.autograph.experimental.do_not_convert(quantized.train_step)
    losses = quantized.fit(x, y, epochs=6, verbose=0, callbacks=[stages.TwoStageSchedule(3)]).history["loss"]
    assert stages.get_stage(quantized) == 2 and np.isfinite(losses).all()
    assert min(losses[3:]) < losses[0]


def test_is_saved_and_called_twice(tmp_path) -> None:
    """One layer called twice is one set of weights; files of all formats hold stage and integers."""
    x = keras.Input((3, 4), name="x")
    memory = L.LSTM(4, return_sequences=True, kernel_regularizer="l2", recurrent_regularizer="l1", name="memory")
    model = shake(keras.Model(x, memory(memory(x))))
    quantized = apply.quantize_apply(model, scheme.kws_scheme(3, keep_zeros=True))
    values = features((3, 4), 4)
    stages.calibrate(quantized, values)
    assert len([v for v in quantized.layers if isinstance(v, QuantizedRecurrent)]) == 1
    assert len(quantized.losses) == 2
    file = tflite_export.convert(quantized)
    for name in ("a.keras", "a.h5"):
        quantized.save(tmp_path / name)
        again = saving.load_model(tmp_path / name)
        np.testing.assert_array_equal(again(values), quantized(values))
        assert tflite_export.convert(again) == file


def test_frozen_layers_do_not_train() -> None:
    model = chain(L.GRU(3, trainable=False, name="memory"), L.Dense(2))
    quantized = apply.quantize_apply(model)
    assert not quantized.get_layer("memory").trainable_weights


def test_zeros_are_kept() -> None:
    model = shake(chain(L.LSTM(4, name="memory"), shape=(3, 6)))
    cell = model.get_layer("memory").cell
    for weight in (cell.kernel, cell.recurrent_kernel):
        weight.assign(tf.where(tf.random.uniform(weight.shape, seed=1) < 0.5, 0.0, weight))
    quantized = trained(model, features((9, 6), 8)[:, :3], {"bits": 4, "keep_zeros": True})
    for part, weight in zip(quantized.get_layer("memory").integers(0.1), (cell.kernel, cell.recurrent_kernel)):
        zeros = weight.numpy() == 0
        assert zeros.any() and (part.codes[zeros] == 8).all()


def masked() -> keras.Model:
    x = keras.Input((6, 4))
    return keras.Model(x, L.LSTM(3, name="bad")(x, mask=x[:, :, 0] > 0))


def begun() -> keras.Model:
    x, h = keras.Input((6, 4)), keras.Input((3,))
    return keras.Model([x, h], L.GRU(3, name="bad")(x, initial_state=h))


REFUSED = {
    "activation": (lambda: chain(L.LSTM(3, activation="relu", name="bad")), "activation 'relu'.*use activation='tanh'"),
    "own function": (
        lambda: chain(L.LSTM(3, recurrent_activation=lambda v: v, name="bad")),
        "recurrent_activation '<lambda>'.*use recurrent_activation='sigmoid'",
    ),
    "no function": (lambda: chain(L.GRU(3, activation=None, name="bad")), "activation 'linear'"),
    "backwards": (lambda: chain(L.GRU(3, go_backwards=True, name="bad")), "go_backwards=True.*leave it out"),
    "return_state": (
        lambda: keras.Model(x := keras.Input((6, 4)), L.LSTM(3, return_state=True, name="bad")(x)[1]),
        "return_state=True.*read the last row",
    ),
    "stateful": (
        lambda: keras.Model(x := keras.Input((6, 4), batch_size=2), L.LSTM(3, stateful=True, name="bad")(x)),
        "stateful=True.*streaming",
    ),
    "constraint": (lambda: chain(L.LSTM(3, recurrent_constraint="max_norm", name="bad")), "recurrent_constraint"),
    "mask": (masked, "a mask or an initial state.*leave it out"),
    "initial state": (begun, "a mask or an initial state.*leave it out"),
    "cells": (lambda: chain(L.RNN([L.LSTMCell(3), L.LSTMCell(3)], name="bad")), "a cell of class StackedRNNCells"),
    "bidirectional": (
        lambda: chain(L.Bidirectional(L.LSTM(3), name="bad")),
        "no way yet.*a stack of causal convolutions",
    ),
    "convolutional": (lambda: chain(L.ConvLSTM1D(3, 2, name="bad"), shape=(6, 4, 2)), "no way yet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, says = REFUSED[name]
    with pytest.raises(UnsupportedLayerError, match=rf"'bad.* cannot be quantized.*{says}|'bad.*{says}"):
        apply.quantize_apply(make())


def test_an_unknown_cell_is_named() -> None:
    with pytest.raises(ValueError, match="layer 'mine': cell must be one of .*, found 'lstm2'"):
        QuantizedRecurrent(3, "lstm2", name="mine")


def test_cells() -> None:
    """RNN runs a cell over time."""
    x = keras.Input((6, 4), name="x")
    y = L.Concatenate()([L.RNN(L.GRUCell(3), name="a")(x), L.RNN(L.LSTMCell(2), name="b")(x)])
    model = shake(keras.Model(x, y))
    values = features((6, 4), 8)
    quantized = apply.quantize_apply(model, scheme.kws_scheme(8))
    np.testing.assert_allclose(quantized(values), model(values), atol=0.04)
    stages.calibrate(quantized, values)
    assert worst_lsb(quantized, values) == 0
