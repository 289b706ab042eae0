# SPDX-License-Identifier: Apache-2.0
"""Widths of activations that are learned, from the scheme through fit to the exported file and its stream."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tensorflow as tf
from quick_fit import flat_clips, quick_fit, two_layers

import tflite_export
import tfmot_kws
from tflite_export.from_keras import ExportError
from tfmot_kws.data import feature_set
from tfmot_kws.keras import keras
from tfmot_kws.quantize import activation_costs, quantizers
from tfmot_kws.quantize.activation_bits import LearnedActivations
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.output_grid import FixedGrid, OutputGrid
from tfmot_kws.training import activation_steering, recipes, stages

pytestmark = pytest.mark.slow

L = keras.layers
AVERAGE = 4.5


def spotter() -> keras.Model:
    """One of each kind of layer with a grid of its own; it can stream."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 8), name="features")
    x = tfmot_kws.CausalConv1D(8, 3, use_bias=False, name="conv")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    gate = L.Conv1D(8, 1, activation="sigmoid", name="gate")(x)
    x = L.Multiply(name="gated")([x, gate])
    x = L.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(inputs, L.Dense(3, name="logits")(x), name="spotter")


def clips(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 12, 8)).astype(np.float32)
    return x, (x.reshape(count, -1) @ rng.normal(size=(96, 3))).argmax(1)


def quantized(average: float = AVERAGE) -> keras.Model:
    limits = Budget(average_activation_bits=average)
    return tfmot_kws.quantize_apply(spotter(), tfmot_kws.kws_scheme(activation_bits="learned", budget=limits))


def fit(model: keras.Model, stage1: int, stage2: int, *callbacks: keras.callbacks.Callback) -> stages.TwoStageSchedule:
    schedule = stages.TwoStageSchedule(stage1)
    quick_fit(model, clips(), stage1 + stage2, 8, [schedule, *callbacks])
    return schedule


class Holder(L.Layer):
    pass


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_width_that_is_a_tensor_gives_the_grid_of_that_width(bits: int) -> None:
    for least in (0.0, -2.0):
        learned, fixed = OutputGrid(Holder(), LearnedActivations(4.0)), OutputGrid(Holder(), bits)
        learned.width.take(bits)
        for grid in (learned, fixed):
            grid.set_range(least, 3.0)
        assert learned.bits == bits and learned.quantization() == fixed.quantization()
        a, b = learned.grid(), fixed.grid()
        assert [float(v) for v in (a.scale, a.low, a.high)] == [float(v) for v in (b.scale, b.low, b.high)]
        learned = FixedGrid(LearnedActivations(4.0), least < 0, Holder())
        learned.width.take(bits)
        a, b = learned.grid(), FixedGrid(bits, least < 0).grid()
        assert [float(v) for v in (a.scale, a.low, a.high)] == [float(v) for v in (b.scale, b.low, b.high)]
        assert learned.quantization() == FixedGrid(bits, least < 0).quantization()


@pytest.mark.parametrize("least", [0.0, -2.0])
def test_the_gradient_of_a_width_is_that_of_the_rounding_error(least: float) -> None:
    """Checked against the difference of two widths: the error that a smaller step leaves, in the mean."""
    grid = OutputGrid(Holder(), LearnedActivations(4.0))
    grid.set_range(least, 3.0)
    grid.width.take(5)
    x = tf.constant(np.random.default_rng(0).uniform(least - 1, 4, 20000).astype(np.float32))
    pull = tf.constant(np.random.default_rng(1).normal(size=20000).astype(np.float32))
    for price, free in ((0.0, 1.0), (0.25, 1.0), (0.25, 0.0)):
        grid.width.set_price(price)
        grid.width._free.assign(free)
        with tf.GradientTape() as tape:
            now = grid.grid()
            placed = now.place(x, tf.floor(x / now.scale + 0.5))
            loss = tf.reduce_sum(pull * placed * now.scale)
        scale, low, high = (float(v) for v in (now.scale, now.low, now.high))
        inside = (x.numpy() / scale >= low - 0.5) & (x.numpy() / scale < high + 0.5)
        error = (placed.numpy() * scale - x.numpy()) * inside
        rate = np.log(2.0) * (high + 1.0) / high
        expected = free * (price - rate * float(np.sum(pull.numpy() * error)))
        speed = float(grid.width._speed.numpy())
        assert float(tape.gradient(loss, grid.width._width)) == pytest.approx(speed * expected, rel=1e-3, abs=1e-3)


def test_a_settled_model_computes_as_one_of_these_widths() -> None:
    """Learned widths change nothing but the grids: the same bits as a model that was made with them."""
    model = quantized()
    x = clips()[0]
    tfmot_kws.calibrate(model, x)
    bits = {one.name: one.weight_bits for one in activation_costs.learning(model)}
    plain = tfmot_kws.quantize_apply(spotter(), tfmot_kws.kws_scheme())
    for layer in plain.layers:
        if layer.name in bits:  # the input keeps 8
            layer.output_grid._bits = bits[layer.name]
    tfmot_kws.calibrate(plain, x)
    np.testing.assert_array_equal(model(x).numpy(), plain(x).numpy())
    assert tflite_export.convert(model) == tflite_export.convert(plain)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that was trained, its schedule, and what an onlooker saw at the end of each epoch."""
    model, path, seen = quantized(), tmp_path_factory.mktemp("best") / "best.keras", []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            said = ""
            if epoch == 4:  # in stage 2, while widths move
                with pytest.raises(ExportError) as caught:
                    tflite_export.convert(self.model)
                said = str(caught.value)
            seen.append((activation_costs.settled(self.model), path.exists(), said))

    best = stages.StageCheckpoint(path, monitor="loss", save_best_only=True)
    return model, fit(model, 3, 8, best, Look()), seen, path


def test_nothing_is_saved_or_exported_while_widths_move(trained) -> None:
    *_, seen, path = trained
    first = activation_steering.first_settled_epoch(3, 8)
    assert [(settled, exists) for settled, exists, _ in seen] == [(n >= first - 1, n >= first - 1) for n in range(11)]
    assert "activations of layers 'conv', 'gate', 'gate_sigmoid' still learn their widths" in seen[4][2]
    assert activation_costs.settled(tfmot_kws.load_model(path))


def test_widths_end_whole_at_their_mean(trained) -> None:
    model, schedule, *_ = trained
    costs = activation_costs.costs_of(model)
    widths = {one.name: one.weight_bits for one in activation_costs.learning(model)}
    assert set(widths) == {"conv", "gate", "gate_sigmoid", "gated", "mean", "logits"}
    assert costs.fullest(widths) <= 1.0 and activation_costs.settled(model)
    assert min(widths.values()) >= 2 and len(set(widths.values())) > 1
    assert model.get_layer("quantize_features").output_grid.bits == 8
    used = [share for share, _ in schedule._activations.history]
    assert used[0] > 1.5 and used[-1] < 1.3


def test_the_file_its_stream_and_a_saved_model_give_the_models_numbers(trained, tmp_path) -> None:
    model, *_ = trained
    x = clips(16)[0]
    expected = model(x).numpy()
    data = tflite_export.convert(model)
    got = tflite_export.Interpreter(data, "reference").run(x)
    scale = model.get_layer("logits").output_grid.quantization()[0]
    assert np.abs(got - expected).max() <= 1.001 * scale  # a table of a sigmoid: one step at most
    np.testing.assert_array_equal(tflite_export.Interpreter(data, "tflite").run(x), got)
    stream = tflite_export.StreamInterpreter(tflite_export.convert(model, streaming="internal"), "reference")
    rows = stream.step(x[0])
    np.testing.assert_array_equal(rows[-1], got[0])
    model.save(tmp_path / "m.keras")
    loaded = tfmot_kws.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x).numpy(), expected)
    assert tflite_export.convert(loaded) == data


class Stop(keras.callbacks.Callback):
    def __init__(self, epoch: int):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_goes_on_to_the_same_widths(tmp_path) -> None:
    x, y = flat_clips(32)
    x = x[:, :, None]  # as frames of one band
    report = feature_set.LoadReport(len(x), {})
    features = feature_set.FeatureSet(x, y, ("a", "b", "c"), report, np.zeros(len(x), np.int32), ("a.wav",))
    config = recipes.TrainConfig(batch_size=8, augment=None)
    limits = Budget(average_activation_bits=AVERAGE, average_bits=5)
    scheme = tfmot_kws.kws_scheme("learned", activation_bits="learned", budget=limits)

    inputs = keras.Input((16, 1), name="features")
    float_model = keras.Model(inputs, two_layers()(L.Flatten(name="flat")(inputs)), name="two_layers")

    def train(folder, callbacks=()):
        return recipes.train_quantized(float_model, scheme, features, config, 1, 4, callbacks, checkpoints=folder)

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", [Stop(1)])  # in stage 2, while widths move
    again = train(tmp_path / "stopped")
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_that_ends_too_early_is_warned_about_and_settled() -> None:
    limits = Budget(average_activation_bits=AVERAGE)
    model = tfmot_kws.quantize_apply(two_layers(), tfmot_kws.kws_scheme(activation_bits="learned", budget=limits))

    class End(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quick_fit(model, flat_clips(), 9, 8, [stages.TwoStageSchedule(1), End()])
    assert any("activations still learned their widths" in str(one.message) for one in caught)
    assert activation_costs.settled(model) and len(tflite_export.convert(model)) > 1000


@pytest.mark.parametrize("epochs", [1, 2, 3, 5])
def test_the_first_settled_epoch_ends_settled(epochs: int) -> None:
    steps = max(1, int(epochs * 10 * activation_steering.SHARE))
    assert (activation_steering.first_settled_epoch(0, epochs) + 1) * 10 >= steps


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"activation_bits": "learned"}, "needs budget=Budget\\(average_activation_bits=...\\)"),
        ({"activation_bits": "learned", "budget": Budget(flash=9)}, "needs budget=Budget\\(average_activation_bits"),
        ({"budget": Budget(average_activation_bits=3)}, "goes with activation_bits='learned', found activation_bits=8"),
        (
            {"activation_bits": "learned", "budget": Budget(average_activation_bits=3, flash=9)},
            "goes with bits='learned', found bits=4",
        ),
        ({"activation_bits": "many"}, "activation_bits: bits must be a whole number from 2 to 8, found 'many'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, says) -> None:
    with pytest.raises(ValueError, match=says):
        tfmot_kws.kws_scheme(**arguments)


def test_gradients_of_other_layers_stay() -> None:
    """A grid whose width is learned hands the gradient of its steps on as it is."""
    steps = tf.constant([1.0, 2.0, 3.0])
    zero, one = tf.constant(0.0), tf.constant(1.0)
    with tf.GradientTape() as tape:
        tape.watch(steps)
        found = quantizers.steps_of_width(steps, steps, zero, tf.constant(7.0), one, one, zero, one)
        loss = tf.reduce_sum(found * tf.constant([2.0, -1.0, 0.5]))
    np.testing.assert_array_equal(tape.gradient(loss, steps), [2.0, -1.0, 0.5])
