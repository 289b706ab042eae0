# SPDX-License-Identifier: Apache-2.0
"""Models on longer sound: the numbers of their windows, whatever they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmot_kws.commands.parts import stream_runners
from tfmot_kws.keras import keras
from tfmot_kws.models import ensemble, spotters
from tfmot_kws.models.time_layers import CausalConv1D
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages
from tfmot_kws.training.over_time import SPARSER, Ear, OverTime

L = keras.layers
MEL = 6


def _spotter(frames: int, stride: int = 2, batch_norm: bool = True) -> keras.Model:
    parts = (spotters.WindowSpec(8, stride), spotters.WindowSpec(3))
    return spotters.build(spotters.ModelConfig(3, frames, MEL, 8, parts, 1, batch_norm))


def _mixed(frames: int | None = None) -> keras.Model:
    return spotters.mixed_net(3, frames, MEL, 8, (3, 4))


def _quantized(model: keras.Model, stage: int) -> keras.Model:
    made = apply.quantize_apply(model, scheme.kws_scheme(bits=3))
    _longer(made, np.random.default_rng(1))
    made(np.random.default_rng(0).uniform(0, 20, (8, *model.input_shape[1:])).astype("f"), training=True)
    stages.set_stage(made, stage)
    return made


def _of_layers(*layers: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((20, MEL))
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def _branches() -> keras.Model:
    inputs = keras.Input((20, MEL))
    one = L.Conv1D(4, 3, strides=2, activation="relu")(inputs)
    other = L.Conv1D(4, 3, strides=2)(inputs)
    return keras.Model(inputs, L.Dense(3)(L.GlobalMaxPooling1D()(L.Concatenate()([one, L.Add()([one, other])]))))


def _strides_that_differ() -> keras.Model:
    inputs = keras.Input((20, MEL))
    found = [L.GlobalMaxPooling1D()(L.Conv1D(4, 3, strides=n)(inputs)) for n in (1, 2)]
    return keras.Model(inputs, L.Dense(3)(L.Add()(found)))


AT_ONCE = {
    "spotter": (lambda: _spotter(12), 2),
    "spotter, mean of rows": (lambda: _spotter(19, 3), 3),
    "mixed_net": (_mixed, 2),
    "mixed_net, mean of rows": (lambda: _mixed(21), 2),
    "ds_cnn_stream": (lambda: spotters.ds_cnn_stream(3, 9, MEL, (8, 8), (3, 5)), 1),
    "svd": (lambda: spotters.svd_50k(3, 12, MEL, 9, 8, 4, 2), 1),
    "ensemble": (lambda: ensemble.mean_of([_mixed(), _mixed()]), 2),
    "branches": (_branches, 2),
    "dense behind rows": (lambda: _of_layers(L.Conv1D(4, 3, strides=3), L.Flatten(), L.Dense(3)), 3),
    "stage 1": (lambda: _quantized(_mixed(), 1), 2),
    "stage 2": (lambda: _quantized(_spotter(12), 2), 2),
    "quantized ensemble": (lambda: _quantized(ensemble.mean_of([_mixed(), _mixed()]), 2), 2),
}
BY_WINDOW = {
    "padded": lambda: _of_layers(L.Conv1D(4, 3, padding="same"), L.Flatten(), L.Dense(3)),
    "causal": lambda: _of_layers(CausalConv1D(4, 3), L.Flatten(), L.Dense(3)),
    "recurrent": lambda: _of_layers(L.GRU(4), L.Dense(3)),
    "norm behind rows": lambda: _of_layers(L.Flatten(), L.BatchNormalization(), L.Dense(3)),
    "norm over time": lambda: _of_layers(L.BatchNormalization(axis=1), L.Flatten(), L.Dense(3)),
    "strides that differ": _strides_that_differ,
    "no row of rows": lambda: _of_layers(L.Reshape((20 * MEL,)), L.Dense(3)),
}


def _windows(model: keras.Model, x: np.ndarray, hop: int) -> np.ndarray:
    frames = model.input_shape[1]
    return np.stack([model(x[:, at : at + frames]) for at in range(0, x.shape[1] - frames + 1, hop)], axis=1)


def _longer(model: keras.Model, rng: np.random.Generator) -> np.ndarray:
    for weights in model.weights:  # no batch norm that does nothing
        if "moving_variance" in weights.name:
            weights.assign(rng.uniform(0.01, 0.1, weights.shape))
    return rng.uniform(0, 20, (3, model.input_shape[1] + 13, MEL)).astype(np.float32)


@pytest.mark.parametrize("name", AT_ONCE)
def test_the_whole_has_the_numbers_of_its_windows(name, rng):
    make, hop = AT_ONCE[name]
    model = make()
    x = _longer(model, rng)
    found = OverTime(model)
    assert found.at_once and found.hop == hop
    wanted = _windows(model, x, hop)
    assert wanted.any()
    np.testing.assert_allclose(found(tf.constant(x)), wanted, rtol=1e-4, atol=1e-4)
    every = OverTime(model, 3 * hop)
    np.testing.assert_allclose(every(tf.constant(x)), wanted[:, ::3], rtol=1e-4, atol=1e-4)
    assert every.places(x.shape[1]) == wanted[:, ::3].shape[1]


@pytest.mark.parametrize("name", BY_WINDOW)
def test_other_models_are_run_on_each_window(name, rng):
    model = BY_WINDOW[name]()
    x = _longer(model, rng)
    found = OverTime(model, 2)
    assert not found.at_once and found.hop == 2
    np.testing.assert_allclose(found(tf.constant(x)), _windows(model, x, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mixed_net", "stage 1", "recurrent"])
def test_every_weight_learns_and_the_graph_stays(name, rng):
    """As in training: a gradient for each weight, means that move, and layers that still know their one output."""
    model = AT_ONCE[name][0]() if name in AT_ONCE else BY_WINDOW[name]()
    x = tf.constant(_longer(model, rng))
    before = [w.numpy() for w in model.non_trainable_weights if "moving_" in w.name]
    found = OverTime(model)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(found(x, training=True) ** 2)
    gradients = tape.gradient(value, model.trainable_variables)
    lacking = [w.name for w, g in zip(model.trainable_variables, gradients) if g is None]
    assert not lacking
    after = [w.numpy() for w in model.non_trainable_weights if "moving_" in w.name]
    assert len(before) == len(after) and all((a != b).any() for a, b in zip(before, after))
    assert all(len(layer.inbound_nodes) == 1 for layer in model.layers)


@pytest.mark.parametrize("frames", [0, 6, 7, 8, 300, 611])
@pytest.mark.parametrize("name", ["mixed_net", "recurrent"])
def test_recordings_of_any_length_are_heard_in_blocks_as_in_windows(name, frames, rng):
    """Values and times are those of a model that is run on window after window."""
    model = _mixed(None) if name == "mixed_net" else BY_WINDOW[name]()
    ear = Ear(model, 2, 0.02)
    assert (ear.reach > 0) == (name == "mixed_net") and ear.reach % (2 * SPARSER) == 0
    x = rng.uniform(0, 20, (frames, MEL)).astype(np.float32)
    found = stream_runners.InBlocks(ear)(x)
    wanted = stream_runners.SlidingWindows(model.predict_on_batch, model.input_shape[1], 2)(x)
    np.testing.assert_array_equal(found.frames, wanted.frames)
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-4, atol=1e-4)


def test_places_between_the_models_own_are_run_by_themselves(rng):
    """A teacher, say, that moves by other steps than what it teaches."""
    model = _spotter(14, 3)
    x = _longer(model, rng)
    found = OverTime(model, 2)
    assert not found.at_once and found.hop == 2
    np.testing.assert_allclose(found(tf.constant(x)), _windows(model, x, 2), rtol=1e-4, atol=1e-4)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="hop=0"):
        OverTime(_mixed(), 0)
    with pytest.raises(ValueError, match="takes 14 frames, found 11"):
        OverTime(_spotter(14, 3))(tf.zeros((1, 11, MEL)))
