# SPDX-License-Identifier: Apache-2.0
"""Learned widths, from the scheme through fit to the exported file."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tflite_export
import tfmot_kws
from tfmot_kws.data import feature_set
from tfmot_kws.keras import keras
from tfmot_kws.quantize import model_costs, quantizers
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.training import recipes, stages


def _float_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 8), name="features")
    x = keras.layers.Conv1D(16, 3, use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.DepthwiseConv1D(3, name="depthwise")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(24, activation="relu", name="dense")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def _clips(count: int = 256) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 12, 8)).astype(np.float32)
    return x, (x.reshape(count, -1) @ rng.normal(size=(96, 3))).argmax(1)


def _fit(model: keras.Model, stage1: int, stage2: int, callbacks=()) -> stages.TwoStageSchedule:
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(True))
    schedule = stages.TwoStageSchedule(stage1)
    x, y = _clips()
    model.fit(x, y, epochs=stage1 + stage2, batch_size=16, verbose=0, callbacks=[schedule, *callbacks])
    return schedule


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_width_that_is_a_tensor_gives_the_codes_of_that_width(bits):
    theta = tf.constant(np.random.default_rng(bits).normal(0, 1.5, 4000).astype(np.float32))
    grid = quantizers.resolve_grid("auto", bits)
    expected = quantizers.codes(theta, bits, grid)
    traced = tf.function(quantizers.codes_of_width)
    whole = tf.constant(float(bits))
    for found in (quantizers.codes_of_width(theta, whole), traced(theta, whole)):
        np.testing.assert_array_equal(found, expected)
    free = tf.constant(1.0)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        found = quantizers.levels_of_width(theta, tf.constant(3.0), whole, tf.constant(0.0), free)
    with tf.GradientTape() as other:
        other.watch(theta)
        expected = quantizers.levels(theta, bits, grid)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(tape.gradient(found, theta), other.gradient(expected, theta), rtol=1e-6)


def test_the_gradient_of_a_width_is_that_of_the_rounding_error():
    theta = tf.constant([0.3, -0.9, 1.7])
    pull = tf.constant([1.0, -2.0, 0.5])
    for free, price in ((1.0, 0.0), (1.0, 0.25), (0.0, 0.25)):
        width = tf.Variable(3.0)
        with tf.GradientTape() as tape:
            found = quantizers.levels_of_width(theta, width, tf.constant(3.0), tf.constant(price), tf.constant(free))
            loss = tf.reduce_sum(found * pull)
        a, b, step = quantizers.grid_constants(3, "mid-rise")
        error = found.numpy() - np.tanh(theta) / step
        expected = free * (price - np.log(2.0) * float(np.sum(pull.numpy() * error)))
        assert float(tape.gradient(loss, width)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.fixture(scope="module")
def trained():
    scheme = tfmot_kws.kws_scheme("learned", {"logits": 8}, budget=Budget(average_bits=3.2))
    model = tfmot_kws.quantize_apply(_float_model(), scheme)
    schedule = _fit(model, 8, 2)
    return model, schedule


def test_widths_end_whole_within_the_budget(trained):
    model, _ = trained
    costs = model_costs.costs_of(model)
    widths = {layer.name: layer.weight_bits for layer in model_costs.learning(model)}
    assert set(widths) == {"conv", "dense"} and costs.fullest(widths) <= 1.0
    assert model.get_layer("logits").weight_bits == 8 and model.get_layer("depthwise").weight_bits == 8
    assert all(layer.learned_width.settled for layer in model_costs.learning(model))
    assert stages.get_stage(model) == 2


def test_what_is_used_falls_to_the_budget(trained):
    _, schedule = trained
    used = [share for share, _ in schedule._steering.history]
    assert used[0] > 2.0 and used[-1] < 1.15


def test_the_file_has_these_widths_and_gives_the_models_numbers(trained, tmp_path):
    model, _ = trained
    widths = {layer.name: layer.weight_bits for layer in model_costs.learning(model)}
    data = tflite_export.convert(model)
    from tflite_export.packed import reader

    found = {op.output: op.weights.bits for op in reader.read(data).ops if hasattr(op, "weights")}
    assert found == {**widths, "logits": 8}
    x = _clips(32)[0]
    expected = model.predict(x, verbose=0)
    got = tflite_export.Interpreter(data, "reference").run(x)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    model.save(tmp_path / "m.keras")
    loaded = tfmot_kws.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    assert tflite_export.convert(loaded) == data


def test_a_run_that_was_stopped_goes_on_to_the_same_widths(tmp_path):
    x, y = _clips(64)
    report = feature_set.LoadReport(len(x), {})
    features = feature_set.FeatureSet(x, y, ("a", "b", "c"), report, np.zeros(len(x), np.int32), ("a.wav",))
    config = recipes.TrainConfig(batch_size=16, augment=None)
    scheme = tfmot_kws.kws_scheme("learned", budget=Budget(average_bits=4))

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                raise KeyboardInterrupt

    def train(folder, callbacks=()):
        return recipes.train_quantized(_float_model(), scheme, features, config, 2, 1, callbacks, checkpoints=folder)

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", [Stop()])
    again = train(tmp_path / "stopped")
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_calibration_alone_settles_widths_too():
    model = tfmot_kws.quantize_apply(_float_model(), tfmot_kws.kws_scheme("learned", budget=Budget(flash=2500)))
    assert {layer.weight_bits for layer in model_costs.learning(model)} == {8}
    tfmot_kws.calibrate(model, _clips(32)[0])
    widths = {layer.name: layer.weight_bits for layer in model_costs.learning(model)}
    assert model_costs.costs_of(model).fullest(widths) <= 1.0 and min(widths.values()) < 8
    assert len(tflite_export.convert(model)) > 2000


def test_another_width_starts_as_near_as_it_can():
    model = tfmot_kws.quantize_apply(_float_model(), tfmot_kws.kws_scheme("learned", budget=Budget(average_bits=4)))
    x = _clips(64)[0]
    before = model.predict(x, verbose=0)
    for layer in model_costs.learning(model):
        layer.take_width(5)
    fixed = tfmot_kws.quantize_apply(_float_model(), tfmot_kws.kws_scheme(5))
    np.testing.assert_allclose(model.predict(x, verbose=0), fixed.predict(x, verbose=0), atol=0.02 * np.ptp(before))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"bits": "learned"}, "needs budget=Budget"),
        ({"bits": 4, "budget": Budget(average_bits=4)}, "goes with bits='learned'"),
        ({"bits": "learned", "budget": Budget(average_bits=4), "grid": "mid-tread"}, "grid='auto'"),
        ({"bits": "learned", "budget": Budget(average_bits=4), "keep_zeros": True}, "keep_zeros=False"),
        ({"bits": "many"}, "whole number from 1 to 8"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        tfmot_kws.kws_scheme(**arguments)


def test_a_budget_that_cannot_be_met_is_refused_before_training():
    with pytest.raises(ValueError, match="but the least that learned widths come to is"):
        tfmot_kws.quantize_apply(_float_model(), tfmot_kws.kws_scheme("learned", budget=Budget(flash=300)))


def test_an_epoch_of_unknown_length_is_refused():
    model = tfmot_kws.quantize_apply(_float_model(), tfmot_kws.kws_scheme("learned", budget=Budget(average_bits=4)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    x, y = _clips(32)
    data = tf.data.Dataset.from_generator(
        lambda: iter([(x, y)]), output_signature=(tf.TensorSpec(x.shape), tf.TensorSpec(y.shape, tf.int64))
    )
    with pytest.raises(ValueError, match="how many batches an epoch has"):
        model.fit(data, epochs=2, verbose=0, callbacks=[stages.TwoStageSchedule(1)])
