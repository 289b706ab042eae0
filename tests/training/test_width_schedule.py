# SPDX-License-Identifier: Apache-2.0
"""Learned widths of dynamic quantization: low-rank pairs, convolutions and separable ones, up to the exported file."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from quick_fit import compiled, flat_clips, quick_fit, two_layers

import tflite_export
import tfmot_kws
from tflite_export.from_keras import ExportError
from tflite_export.packed import packing, reader
from tfmot_kws.keras import keras
from tfmot_kws.quantize import model_costs
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.dynamic import quantizers
from tfmot_kws.training import resumable, width_schedule

pytestmark = pytest.mark.slow

L = keras.layers


def spotter() -> keras.Model:
    """A convolution, a separable one, a low-rank pair and a layer that the pair stands before."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 8), name="features")
    x = L.Conv1D(16, 3, use_bias=False, name="conv")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    x = L.SeparableConv1D(12, 3, activation="sigmoid", name="separable")(x)
    x = L.Flatten(name="flat")(x)
    x = L.Dense(6, use_bias=False, name="thin")(x)
    x = L.Dense(24, activation="sigmoid", name="wide")(x)
    return keras.Model(inputs, L.Dense(3, name="logits")(x), name="spotter")


def clips(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 12, 8)).astype(np.float32)
    return x, (x.reshape(count, -1) @ rng.normal(size=(96, 3))).argmax(1)


def quantized(weights: str = "linear", **options) -> keras.Model:
    options = {"bits": "learned", "budget": Budget(average_bits=4), **options}
    return tfmot_kws.quantize_apply(spotter(), tfmot_kws.dynamic_scheme(weights=weights, **options))


def fit(model: keras.Model, epochs: int, *callbacks: keras.callbacks.Callback) -> None:
    quick_fit(model, clips(), epochs, 8, callbacks)


def widths_of(model: keras.Model) -> dict[str, int]:
    return {layer.name: layer.weight_bits for layer in model_costs.learning(model)}


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_width_that_is_a_tensor_gives_the_codes_of_that_width(bits: int) -> None:
    w = np.random.default_rng(bits).normal(size=(50, 7)).astype(np.float32)
    w[:, 3] = 0.0
    w[:, 4] = np.abs(w[:, 4])
    w = tf.constant(w)
    whole, zero, one = tf.constant(float(bits)), tf.constant(0.0), tf.constant(1.0)
    for traced in (lambda f: f, tf.function):
        found = traced(quantizers.column_grid)(w, whole)
        for a, b in zip(found, quantizers.column_grid(w, bits)):
            np.testing.assert_array_equal(a, b)
        levels = traced(quantizers.column_levels_of_width)(w, tf.constant(3.0), whole, zero, one)
        np.testing.assert_array_equal(levels, quantizers.column_levels(w, bits))


def test_the_gradient_of_a_width_is_that_of_the_rounding_error() -> None:
    rng = np.random.default_rng(0)
    w, pull = (tf.constant(rng.normal(size=(40, 5)).astype(np.float32)) for _ in range(2))
    for bits in (1, 4, 8):
        for free, price in ((1.0, 0.0), (1.0, 0.25), (0.0, 0.25)):
            width = tf.Variable(4.0)
            whole = tf.constant(float(bits))
            with tf.GradientTape() as tape:
                tape.watch(w)
                args = (tf.constant(price), tf.constant(free))
                found = quantizers.column_levels_of_width(w, width, whole, *args)
                loss = tf.reduce_sum(found * pull)
            d_w, d_width = tape.gradient(loss, (w, width))
            scale = quantizers.column_grid(w, bits).scale
            np.testing.assert_allclose(d_w, pull / scale, rtol=1e-6)
            error = float(tf.reduce_sum(pull * (found - w / scale)))
            rate = np.log(2.0) * 2**bits / (2**bits - 1 - (bits == 8))
            assert float(d_width) == pytest.approx(free * (price - rate * error), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("weights", ["linear", "tanh"])
def test_widths_end_whole_within_the_budget_and_in_the_file(weights: str, tmp_path) -> None:
    limits = Budget(average_bits=4, flash=2400)
    model = quantized(weights, bits={"logits": 8, "*": "learned"}, budget=limits)
    costs = model_costs.costs_of(model)
    kinds = {layer.name: layer.kind for layer in costs.layers}
    assert kinds.pop("separable_depthwise") == "float depthwise" and set(kinds.values()) == {"dynamic"}
    with pytest.raises(ExportError, match="weights of layers 'conv', 'separable', 'thin' still learn their widths"):
        tflite_export.convert(model)
    schedule = width_schedule.WidthSchedule(5)
    fit(model, 6, schedule)
    widths = widths_of(model)
    assert set(widths) == {"conv", "separable", "thin", "wide"} and costs.fullest(widths) <= 1.0
    used = [share for share, _ in schedule.steering.history]
    assert used[0] > 1.6 and used[-1] < 1.4
    x = clips(16)[0]
    expected = model(x).numpy()
    data = tflite_export.convert(model)
    ops = {op.output: op.weights for op in reader.read(data).ops if hasattr(op, "weights")}
    assert {name: weights.bits for name, weights in ops.items()} == {**widths, "logits": 8}
    packed = sum(packing.tight_size(*one.codes.shape, one.bits) for one in ops.values())
    assert costs.of(widths)["flash"] == packed + 4 * 16 * 3  # and the depthwise half in float
    np.testing.assert_allclose(tflite_export.Interpreter(data, "reference").run(x), expected, atol=1e-5)
    model.save(tmp_path / "m.keras")
    loaded = tfmot_kws.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x).numpy(), expected)
    assert tflite_export.convert(loaded) == data


@pytest.mark.parametrize("weights", ["linear", "tanh"])
def test_another_width_is_that_of_a_model_made_with_it(weights: str) -> None:
    model, x = quantized(weights), clips(16)[0]
    for layer in model_costs.learning(model):
        layer.take_width(5)
    fixed = quantized(weights, bits=5, input_bits=8, budget=None)
    close = 0.02 if weights == "tanh" else 0.0  # which starts from the width before
    np.testing.assert_allclose(model(x).numpy(), fixed(x).numpy(), atol=close)


def test_instructions_and_ram_of_a_dynamic_model_are_limited() -> None:
    model = quantized(budget=Budget(instructions=1e6, core="cortex-m4", ram="4KB"))
    costs = model_costs.costs_of(model)
    functions = {layer.name: layer.function for layer in costs.layers}
    assert functions["wide"] == "sigmoid" and functions["thin"] == "linear"
    assert 50_000 < costs.of(dict.fromkeys(costs.names, 8))["instructions"] < 300_000
    with pytest.raises(ValueError, match="at most 100 bytes of RAM"):
        quantized(budget=Budget(average_bits=4, ram=100))


def test_a_run_that_was_stopped_goes_on_to_the_same_widths(tmp_path) -> None:
    x, y = flat_clips(32)
    scheme = tfmot_kws.dynamic_scheme("learned", budget=Budget(average_bits=4))

    def train(folder, stop_at: int = 9) -> keras.Model:
        model = compiled(tfmot_kws.quantize_apply(two_layers(), scheme))

        class Stop(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if epoch == stop_at:
                    raise KeyboardInterrupt

        def data(first: int, last: int) -> tf.data.Dataset:
            def load(index, seed):
                return tf.gather(tf.constant(x), index), tf.gather(tf.constant(y), index)

            return resumable.batches(32, 8, 0, first, last, load)

        kept = resumable.Checkpoints(folder, {})
        resumable.fit(model, 4, 4, data, kept, [width_schedule.WidthSchedule(3), Stop()])
        return model

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", 1)
    again = train(tmp_path / "stopped")
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_shorter_than_the_learning_ends_whole() -> None:
    scheme = tfmot_kws.dynamic_scheme("learned", budget=Budget(average_bits=4))
    model = tfmot_kws.quantize_apply(two_layers(), scheme)
    quick_fit(model, flat_clips(), 1, 8, [width_schedule.WidthSchedule(9)])
    assert model_costs.costs_of(model).fullest(widths_of(model)) <= 1.0 and tflite_export.convert(model)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": None}, "bits='learned' needs budget=Budget"),
        ({"budget": Budget(ram=9)}, "that limits weights"),
        ({"bits": 4}, "goes with bits='learned', found bits=4"),
        ({"bits": "4-8"}, "goes with bits='learned', found bits='4-8'"),
        ({"weights": "tanh", "grid": "mid-rise"}, "goes with grid='auto', found grid='mid-rise'"),
        ({"budget": Budget(average_bits=4, average_activation_bits=4)}, "here activations are floats"),
        ({"budget": Budget(flash=300)}, "at most 300 bytes of weights, but the least"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, says) -> None:
    with pytest.raises(ValueError, match=says):
        quantized(**options)


def test_schedules_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="epochs must be a whole number of at least 1, found 0"):
        width_schedule.WidthSchedule(0)
    staged = tfmot_kws.quantize_apply(two_layers(), tfmot_kws.kws_scheme("learned", budget=Budget(average_bits=4)))
    with pytest.raises(ValueError, match="layer 'first' is that of a kws_scheme, which has stages: TwoStageSchedule"):
        quick_fit(staged, flat_clips(), 1, 8, [width_schedule.WidthSchedule(1)])
    with pytest.raises(ValueError, match="no layer learns its width"):
        fit(quantized(bits=4, budget=None), 1, width_schedule.WidthSchedule(1))
