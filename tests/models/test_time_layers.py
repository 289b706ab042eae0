"""TimeWindow against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmot_kws.keras import keras
from tfmot_kws.models.time_layers import (
    CausalConv1D,
    CausalDepthwiseConv1D,
    TimeAveragePooling1D,
    TimeMaxPooling1D,
    TimeWindow,
)


def by_hand(x: np.ndarray, size: int, stride: int, dilation: int, padding: str) -> np.ndarray:
    reach = (size - 1) * dilation
    rows = []
    start = -reach if padding == "causal" else 0
    while start + reach < x.shape[1]:
        taps = [start + i * dilation for i in range(size)]
        rows.append(np.concatenate([x[:, t] if t >= 0 else np.zeros_like(x[:, 0]) for t in taps], axis=-1))
        start += stride
    return np.stack(rows, axis=1)


cases = given(
    size=st.integers(1, 6),
    stride=st.integers(1, 5),
    dilation=st.integers(1, 4),
    padding=st.sampled_from(["valid", "causal"]),
    extra=st.integers(0, 9),
    features=st.integers(1, 3),
)


@pytest.mark.tf221
@cases
def test_equals_numpy(size: int, stride: int, dilation: int, padding: str, extra: int, features: int) -> None:
    frames = extra + (1 if padding == "causal" else (size - 1) * dilation + 1)
    x = np.arange(1, 2 * frames * features + 1, dtype=np.float32).reshape(2, frames, features)
    layer = TimeWindow(size, stride, dilation, padding)
    y = layer(x).numpy()
    np.testing.assert_array_equal(y, by_hand(x, size, stride, dilation, padding))
    assert layer.compute_output_shape(x.shape) == y.shape
    assert layer.windows(frames) == y.shape[1]
    copy = TimeWindow.from_config(layer.get_config())
    np.testing.assert_array_equal(copy(x), y)


def test_causal_window_ends_at_its_frame() -> None:
    x = np.arange(1.0, 7.0, dtype=np.float32).reshape(1, 6, 1)
    y = TimeWindow(3, stride=2, padding="causal")(x).numpy()[0]
    np.testing.assert_array_equal(y, [[0, 0, 1], [1, 2, 3], [3, 4, 5]])


@pytest.mark.tf221
def test_dense_after_a_window_is_a_convolution(rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, (2, 11, 4)).astype(np.float32)
    kernel = rng.normal(0, 1, (3, 4, 5)).astype(np.float32)
    dense = TimeWindow(3, 2)(x) @ tf.constant(kernel.reshape(12, 5))
    np.testing.assert_allclose(dense, tf.nn.conv1d(x, kernel, 2, "VALID"), atol=1e-5)


def test_unknown_length() -> None:
    x = keras.Input((None, 4))
    model = keras.Model(x, TimeWindow(3, 2, 2, "causal")(x))
    assert model.output_shape == (None, None, 12)
    clip = np.arange(36, dtype=np.float32).reshape(1, 9, 4)
    np.testing.assert_array_equal(model(clip), by_hand(clip, 3, 2, 2, "causal"))


def test_errors_name_the_layer() -> None:
    for name in ("size", "stride", "dilation"):
        for bad in (0, -1, 1.5, "2"):
            with pytest.raises(ValueError, match=f"layer 'w': {name} must be a whole number of at least 1, found"):
                TimeWindow(**{"size": 2, name: bad, "name": "w"})
    with pytest.raises(ValueError, match="layer 'w': padding must be 'valid' or 'causal', found 'same'"):
        TimeWindow(2, padding="same", name="w")
    with pytest.raises(ValueError, match="layer 'w': a window spans 7 frames but the clip has 6; use a smaller size"):
        TimeWindow(3, dilation=3, name="w")(np.zeros((1, 6, 2), np.float32))
    with pytest.raises(ValueError, match=r"layer 'w': needs \[batch, time, features\], found shape \(1, 6, 2, 1\)"):
        TimeWindow(3, name="w")(np.zeros((1, 6, 2, 1), np.float32))


LAYERS = {
    "window": lambda s, h, d, p: TimeWindow(s, h, d, p),
    "convolution": lambda s, h, d, p: CausalConv1D(
        4, s, p, strides=h, dilation_rate=d, activation="relu", bias_initializer="ones"
    ),
    "depthwise": lambda s, h, d, p: CausalDepthwiseConv1D(s, p, strides=h, dilation_rate=d, depth_multiplier=2),
    "mean": lambda s, h, d, p: TimeAveragePooling1D(s, h),
    "maximum": lambda s, h, d, p: TimeMaxPooling1D(s, h),
}


@pytest.mark.tf221
@settings(max_examples=40)
@pytest.mark.parametrize("kind", LAYERS)
@given(
    size=st.integers(1, 5),
    stride=st.integers(1, 6),
    dilation=st.integers(1, 3),
    padding=st.sampled_from(["valid", "causal"]),
    frames=st.integers(0, 30),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
@pytest.mark.slow
def test_steps_give_the_rows_of_the_clip(kind, size, stride, dilation, padding, frames, cuts) -> None:
    if kind in ("convolution", "depthwise") and stride > 1:
        dilation = 1  # Keras has not both at once
    layer = LAYERS[kind](size, stride, dilation, padding)
    x = np.random.default_rng(frames).normal(0, 1, (2, frames, 3)).astype(np.float32)
    layer.build((2, None, 3))
    state, rows = layer.reset(2, 3), []
    for part in np.split(x, sorted(min(c, frames) for c in cuts), axis=1):
        y, state = layer.step(part, state)
        rows.append(y.numpy())
    found = np.concatenate(rows, axis=1)
    least = 1 if layer.padding == "causal" else layer.span
    expected = layer(x).numpy() if frames >= least else np.zeros((2, 0, found.shape[2]))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert state.frames.shape[1] < layer.span + stride


def test_layers_come_back_from_their_configuration() -> None:
    x = np.random.default_rng(0).normal(0, 1, (1, 12, 3)).astype(np.float32)
    for make in LAYERS.values():
        layer = make(3, 2, 1, "causal")
        expected = layer(x)
        copy = type(layer).from_config(layer.get_config())
        copy.build((1, 12, 3))
        copy.set_weights(layer.get_weights())
        np.testing.assert_array_equal(copy(x), expected)
        assert copy.padding == layer.padding


def test_steps_refuse_what_does_not_suit() -> None:
    layer = CausalConv1D(4, 3, name="c")
    with pytest.raises(ValueError, match=r"layer 'c': has seen no frames; say reset\(batch, features=...\)"):
        layer.reset()
    layer.build((1, None, 3))
    with pytest.raises(ValueError, match=r"layer 'c': step needs \[1, frames, 3\], found shape \(1, 2, 4\)"):
        layer.step(np.zeros((1, 2, 4), np.float32), layer.reset())
    for make in (lambda: CausalConv1D(4, 3, "same", name="c"), lambda: CausalDepthwiseConv1D(3, "same", name="c")):
        with pytest.raises(ValueError, match="layer 'c': padding must be 'valid' or 'causal', found 'same'"):
            make()
