"""TimeWindow against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfmot_kws.keras import keras
from tfmot_kws.streaming import TimeWindow


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
