# SPDX-License-Identifier: Apache-2.0
"""Running means of weights."""

from __future__ import annotations

import numpy as np
import pytest

from tfmot_kws.keras import keras
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages
from tfmot_kws.training.averaging import RunningMean


def _model() -> keras.Model:
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def _move(model: keras.Model, rng: np.random.Generator) -> list[np.ndarray]:
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return [w.copy() for w in model.get_weights()]


@pytest.mark.parametrize("steps", [1, 4, 1000])
def test_is_the_mean_of_its_formula(steps, rng):
    model = _model()
    mean = RunningMean(model, steps)
    wanted = None
    for count in range(25):
        now = _move(model, rng)
        mean.add()
        decay = min(1.0 - 1.0 / steps, count / (9.0 + count))
        wanted = now if wanted is None else [decay * a + (1.0 - decay) * b for a, b in zip(wanted, now)]
    with mean.applied():
        for found, right in zip(model.get_weights(), wanted):
            np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)
    for found, own in zip(model.get_weights(), now):
        np.testing.assert_array_equal(found, own)


def test_own_weights_come_back_whatever_happens(rng):
    model = _model()
    mean = RunningMean(model, 10)
    own = _move(model, rng)
    with pytest.raises(KeyError), mean.applied():
        raise KeyError
    assert all(np.array_equal(a, b) for a, b in zip(own, model.get_weights()))


def test_begins_anew_and_goes_on(rng):
    model = _model()
    mean, other = RunningMean(model, 5), RunningMean(model, 5)
    for _ in range(6):
        _move(model, rng)
        mean.add()
    other.restore(mean.state())
    now = _move(model, rng)
    mean.add()
    other.add()
    assert all(np.array_equal(a, b) for a, b in zip(mean.state(), other.state()))
    mean.reset()
    with mean.applied():
        assert all(np.array_equal(a, b) for a, b in zip(now, model.get_weights()))


def test_stages_and_ranges_of_quantized_models_are_no_means(rng):
    """A stage is 1 or 2, a tracked range what has been seen; weights, offsets and statistics are averaged."""
    model = apply.quantize_apply(_model(), scheme.kws_scheme(bits=4))
    model(rng.normal(size=(32, 4)).astype("f"), training=True)
    mean = RunningMean(model, 1000)
    mean.add()
    before = {w.name: w.numpy() for w in model.weights}
    for _ in range(20):
        for weights in model.trainable_weights:
            weights.assign_add(np.ones(weights.shape, "f"))
        mean.add()
    model(100.0 * rng.normal(size=(32, 4)).astype("f"), training=True)
    stages.set_stage(model, 2)
    now = {w.name: w.numpy() for w in model.weights}
    with mean.applied():
        for weights in model.weights:
            kind = weights.name.split("/")[-1].split(":")[0]
            if kind in ("stage", "output_min", "output_max"):
                np.testing.assert_array_equal(weights.numpy(), now[weights.name])
        for weights in model.trainable_weights:
            at = weights.numpy() - before[weights.name]
            assert np.all(at > 0.5) and np.all(at < 19.5)
        assert stages.get_stage(model) == 2
