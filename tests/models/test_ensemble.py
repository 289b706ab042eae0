# SPDX-License-Identifier: Apache-2.0
"""Several models as one: its numbers, its file, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import tflite_export
from tfmot_kws import kws_scheme, mean_of, mixed_net, quantize_apply
from tfmot_kws.keras import keras
from tfmot_kws.training import stages


def nets(count: int) -> list[keras.Model]:
    keras.utils.set_random_seed(3)
    return [mixed_net(2, mel_bins=6, filters=8, kernels=(3, 4)) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_mean_of_the_outputs(count: int) -> None:
    models = nets(count)
    x = np.random.default_rng(0).normal(size=(5, *models[0].input_shape[1:])).astype(np.float32)
    expected = np.mean([model(x).numpy() for model in models], axis=0)
    one = mean_of(models)
    assert one.count_params() == sum(model.count_params() for model in models)
    np.testing.assert_allclose(one(x).numpy(), expected, atol=1e-6)
    before = models[0].get_weights()
    one.set_weights([np.zeros_like(weight) for weight in one.get_weights()])
    assert all(np.array_equal(a, b) for a, b in zip(before, models[0].get_weights()))  # they were copied


def test_it_is_exported_and_streamed_with_the_numbers_of_keras() -> None:
    models = nets(3)
    x = np.random.default_rng(1).normal(size=(40, *models[0].input_shape[1:])).astype(np.float32)
    quantized = quantize_apply(mean_of(models), kws_scheme(bits=4))
    stages.calibrate(quantized, x)
    expected = quantized.predict(x, verbose=0)
    clip = tflite_export.Interpreter(tflite_export.convert(quantized), runtime="reference")
    np.testing.assert_array_equal(clip.run(x), expected)
    file = tflite_export.convert(quantized, streaming="internal")
    sound = np.random.default_rng(2).normal(size=(x.shape[1] + 12, x.shape[2])).astype(np.float32)
    heard = tflite_export.StreamInterpreter(file, "reference").step(sound)
    hop = quantized.get_layer("window_1").stride
    windows = np.stack([sound[at : at + x.shape[1]] for at in range(0, 13, hop)])
    np.testing.assert_array_equal(heard, quantized.predict(windows, verbose=0))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no models given"):
        mean_of([])
    other = mixed_net(3, mel_bins=6, filters=8, kernels=(3, 4))
    with pytest.raises(ValueError, match=r"model 1 \('mixed_net'\) takes \[.*\] and gives \[3\], model 0 .* \[2\]"):
        mean_of([*nets(1), other])
    x = keras.Input((4, 3))
    with pytest.raises(ValueError, match="model 0 .* has 1 inputs and 2 outputs; expected one of each"):
        mean_of([keras.Model(x, [x, keras.layers.Dense(2)(x)])])
