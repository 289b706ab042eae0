# SPDX-License-Identifier: Apache-2.0
"""Features that a network makes of samples itself: filters, magnitude, mean over a hop, logarithm.

With the kernel ``w[c]`` of filter c, whose largest value is 1, and samples ``x`` of full scale 1, frame t is

    m[t, c] = mean over i < average of |sum over k of w[c, k] x[t hop + i stride + k]|,      hop = average * stride
    y[t, c] = log2(1 + m[t, c] / floor)

Silence is 0, and a step of 1 is 6 dB where sound is far above the floor. A ``BatchNormalization`` behind it normalizes
each filter, and costs nothing on a device. The layers are trained like any others; ``quantize_apply`` makes one op of a
layer and its normalization, on samples of 16 bits.

``SincConv`` has band-pass filters that learn two edges each, after Ravanelli and Bengio 2018 (arXiv 1808.00158);
``WaveformConv`` filters of any shape.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import AsWritten, keras

L = keras.layers
_LEAST_BAND = 0.05
"""kHz that a band is wide at least."""
_NOTHING = 1e-12


def mel_edges(filters: int, lower_hz: float, upper_hz: float) -> np.ndarray:
    """Edges of bands that lie side by side on the mel scale, ``2595 log10(1 + f / 700)``.

    Args:
        filters: bands.
        lower_hz, upper_hz: of the first and of the last one.

    Returns:
        float64 [filters + 1], Hz.
    """
    low, high = (2595.0 * math.log10(1.0 + f / 700.0) for f in (lower_hz, upper_hz))
    return 700.0 * (10.0 ** (np.linspace(low, high, filters + 1) / 2595.0) - 1.0)


def to_largest_1(kernel: tf.Tensor) -> tf.Tensor:
    """Filters [taps, filters], each divided by its largest magnitude."""
    return kernel / tf.maximum(tf.reduce_max(tf.abs(kernel), axis=0), _NOTHING)


class WaveformLayer(AsWritten, L.Layer):
    """Base: samples float [batch, samples, 1] -> features float [batch, frames, filters].

    Args:
        filters: features of a frame.
        taps: samples of a filter: 400 are 25 ms at 16 kHz.
        stride: samples from one sum to the next.
        average: sums whose magnitudes have one mean: ``stride * average`` samples, 10 ms as it is, are the hop from
            frame to frame.
        floor: magnitudes below count as silence.

    Raises:
        ValueError: a size out of its range; the message names layer and argument.
    """

    def __init__(
        self, filters: int = 40, taps: int = 400, stride: int = 80, average: int = 2, floor: float = 1e-3, **kwargs: Any
    ):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("taps", taps), ("stride", stride), ("average", average)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"layer {self.name!r}: {name} must be a whole number of at least 1, found {value!r}")
        if not 0.0 < floor < math.inf:
            raise ValueError(f"layer {self.name!r}: floor must be above 0, found {floor!r}")
        self.filters, self.taps, self.stride, self.average, self.floor = filters, taps, stride, average, float(floor)

    @property
    def span(self) -> int:
        """Samples of a frame, from the first to the last."""
        return self.taps + (self.average - 1) * self.stride

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return self.stride * self.average

    def filter_kernel(self) -> tf.Tensor:
        """float [taps, filters], -1 .. 1."""
        raise TypeError(f"{type(self).__name__} has no filters of its own")

    def build(self, input_shape) -> None:
        """Refuses what is no sound, and clips shorter than a frame."""
        shape = tuple(input_shape)
        if len(shape) != 3 or shape[2] != 1:
            raise ValueError(f"layer {self.name!r}: needs samples [batch, samples, 1], found shape {shape}")
        if shape[1] is not None and shape[1] < self.span:
            raise ValueError(f"layer {self.name!r}: a frame spans {self.span} samples but the clip has {shape[1]}")
        self.input_spec = L.InputSpec(ndim=3, axes={-1: 1})
        super().build(input_shape)

    def call(self, x):
        """float [batch, samples, 1], full scale 1 -> float [batch, frames, filters]."""
        total = self.magnitudes(tf.nn.conv1d(x, self.filter_kernel()[:, None], self.stride, "VALID"))
        return tf.math.log1p(total / (self.average * self.floor)) * (1.0 / math.log(2.0))

    def magnitudes(self, sums: tf.Tensor) -> tf.Tensor:
        """Sums of magnitudes of each frame [batch, frames, filters], of sums [batch, places, filters]."""
        size = tf.abs(sums)
        if self.average == 1:
            return size
        frames = size.shape[1] // self.average if size.shape[1] is not None else tf.shape(size)[1] // self.average
        size = tf.reshape(size[:, : frames * self.average], (-1, frames, self.average, self.filters))
        return tf.reduce_sum(size, axis=2)

    def compute_output_shape(self, input_shape):
        """[batch, frames, filters]."""
        batch, samples, _ = tuple(input_shape)
        frames = None if samples is None else (samples - self.span) // self.hop + 1
        return (batch, frames, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("filters", "taps", "stride", "average", "floor")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class SincConv(WaveformLayer):
    """Band-pass filters with two edges each: the difference of two low passes, in a Hamming window.

    Edges begin side by side on the mel scale and are learned; with ``trainable=False`` they stay there. They are kept
    in kHz, so that the usual learning rates move them by some Hz a step.

    Args:
        filters: features of a frame.
        taps: samples of a filter.
        stride: samples from one sum to the next.
        average: sums whose magnitudes have one mean.
        floor: magnitudes below count as silence.
        sample_rate: Hz.
        lower_hz: lower edge of the first band, where it begins.
        upper_hz: upper edge of the last band, where it begins.
        **kwargs: as for any layer.

    Raises:
        ValueError: a size out of its range, or edges that are not in order below half of the sample rate.
    """

    def __init__(
        self,
        filters: int = 40,
        taps: int = 400,
        stride: int = 80,
        average: int = 2,
        floor: float = 1e-3,
        sample_rate: int = 16000,
        lower_hz: float = 60.0,
        upper_hz: float = 7600.0,
        **kwargs: Any,
    ):
        super().__init__(filters, taps, stride, average, floor, **kwargs)
        if not 0.0 <= lower_hz < upper_hz <= sample_rate / 2:
            raise ValueError(
                f"layer {self.name!r}: edges must be in order and at most half of the sample rate, found lower_hz="
                f"{lower_hz!r}, upper_hz={upper_hz!r} at {sample_rate!r} Hz"
            )
        self.sample_rate, self.lower_hz, self.upper_hz = int(sample_rate), float(lower_hz), float(upper_hz)

    def build(self, input_shape) -> None:
        """Makes the edges."""
        edges = mel_edges(self.filters, self.lower_hz, self.upper_hz) / 1000.0
        for name, values in (("low_khz", edges[:-1]), ("band_khz", np.maximum(np.diff(edges) - _LEAST_BAND, 0.0))):
            start = keras.initializers.Constant(values.astype(np.float32))
            setattr(self, name, self.add_weight(name=name, shape=(self.filters,), initializer=start))
        super().build(input_shape)

    def edges_khz(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Lower and upper edges of the bands, float [filters] each; an edge beyond an end stays at it."""
        half = self.sample_rate / 2000.0
        low = tf.minimum(tf.abs(self.low_khz), half - _LEAST_BAND)
        return low, tf.minimum(low + _LEAST_BAND + tf.abs(self.band_khz), half)

    def filter_kernel(self) -> tf.Tensor:
        """float [taps, filters]: ``2 f2 sinc(2 f2 n) - 2 f1 sinc(2 f1 n)``, windowed, divided by its largest value.

        ``f1`` and ``f2`` are the edges as shares of the sample rate, n counts samples from the middle.
        """
        low, high = (edge * (1000.0 / self.sample_rate) for edge in self.edges_khz())
        n = tf.constant((np.arange(self.taps) - (self.taps - 1) / 2)[:, None], tf.float32)
        window = tf.constant(np.hamming(self.taps)[:, None] if self.taps > 1 else np.ones((1, 1)), tf.float32)
        passes = [2.0 * f * _sinc(2.0 * f * n) for f in (low, high)]
        return to_largest_1((passes[1] - passes[0]) * window)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        own = {"sample_rate": self.sample_rate, "lower_hz": self.lower_hz, "upper_hz": self.upper_hz}
        return {**super().get_config(), **own}


def _sinc(x: tf.Tensor) -> tf.Tensor:
    """sin(pi x) / (pi x); 1 at 0, where its gradient is 0."""
    near = tf.abs(x) < 1e-6
    safe = tf.where(near, tf.ones_like(x), x) * math.pi
    return tf.where(near, tf.ones_like(x), tf.sin(safe) / safe)


class WaveformConv(WaveformLayer):
    """Filters of any shape: a kernel [taps, filters] that is learned, each filter divided by its largest value.

    Args:
        filters: features of a frame.
        taps: samples of a filter.
        stride: samples from one sum to the next.
        average: sums whose magnitudes have one mean.
        floor: magnitudes below count as silence.
        kernel_initializer: Keras' name or an initializer.
        kernel_regularizer: Keras' name or a regularizer.
        **kwargs: as for any layer.

    Raises:
        ValueError: a size out of its range.
    """

    def __init__(
        self,
        filters: int = 40,
        taps: int = 400,
        stride: int = 80,
        average: int = 2,
        floor: float = 1e-3,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(filters, taps, stride, average, floor, **kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape) -> None:
        """Makes the kernel."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.taps, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        super().build(input_shape)

    def filter_kernel(self) -> tf.Tensor:
        """float [taps, filters]."""
        return to_largest_1(self.kernel)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        own = {
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
        return {**super().get_config(), **own}
