# SPDX-License-Identifier: Apache-2.0
"""Quantized filters over samples: what ``quantize_apply`` puts in the place of ``SincConv`` and ``WaveformConv``.

Samples have 16 bits. Filters are quantized as all weights are, on the grid that tanh is cut into; sinc filters have no
free weights, so that theta is what tanh makes their values of. One rounding behind the logarithm, the gain and bias of
a batch normalization included.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.frontend.waveform import SincConv, WaveformConv, WaveformLayer
from tfmot_kws.quantize import waveform_math
from tfmot_kws.quantize.layers import QuantizedAffine
from tfmot_kws.quantize.ops import QuantizedOp
from tfmot_kws.quantize.output_grid import FixedGrid, quantize_steps
from tfmot_kws.quantize.quantizers import (
    codes,
    grid_constants,
    kernel_of,
    levels,
    straight_through,
    theta_of,
)

_STEEPEST = 0.97  # a free filter starts no nearer to 1, where tanh is too flat to learn
_LARGEST = 1.0 - 2.0**-20  # of a sinc filter, whose largest value is 1: tanh has no such theta
_ONE = 2.0**waveform_math.LOG_BITS
_MOST_LEVELS = 2**16 - 1
"""Sum of a filter's levels: times the largest sample it fits 32 bits, and float32 holds both bytes' sums exactly."""
_MOST_SAMPLES = 65535
"""Of a frame, and from frame to frame: two bytes of an op's options."""
_MOST_FLOOR = 2**31 - 1


class QuantizeSamples(QuantizedOp):
    """Sound of full scale 1 -> (steps, scale) of 16 bits: the input of filters over samples.

    With eight bits, quiet speech would be silence.
    """

    def _make_grid(self):
        return FixedGrid(16, signed=True)

    def call(self, x, training=None):
        """float [batch, ...] -> (steps, scale)."""
        grid = self.output_grid.grid()
        return self._emit(x, quantize_steps(x, grid), grid, training)

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        return [tuple(input_shape), ()]


class QuantizedWaveform(QuantizedAffine):
    """Filters over samples, magnitude, mean, logarithm, batch normalization: one op of a device.

    Args:
      source: config of the float layer, with its class: {"class_name": "SincConv", "config": {...}}.
      **kwargs: as for ``QuantizedAffine``.

    Raises:
      ValueError: sizes that no device takes; the message names the layer.
    """

    learned_width = None

    def __init__(self, source: dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.source = source
        kind = {"SincConv": SincConv, "WaveformConv": WaveformConv}[source["class_name"]]
        self.filters: WaveformLayer = kind.from_config({**source["config"], "name": "filters"})
        self.filters.trainable = "kernel" not in self.frozen
        self._check_sizes()

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "source": self.source}

    def _check_sizes(self) -> None:
        own = self.filters
        a, b, _ = grid_constants(self.weight_bits, self.weight_grid)
        most = _MOST_LEVELS // (a * (2**self.weight_bits - 1) - b)
        for what, found, limit, way in (
            ("taps", own.taps, most, f" at {self.weight_bits} bits, so that sums fit 32 bits; take fewer of either"),
            ("samples of a frame", own.span, _MOST_SAMPLES, "; take fewer taps, or a smaller average or stride"),
            ("samples of a hop", own.hop, _MOST_SAMPLES, "; take a smaller average or stride"),
            ("steps of its floor", self.floor_steps(), _MOST_FLOOR, "; take a smaller floor"),
        ):
            if found > limit:
                raise ValueError(f"layer {self.name!r}: {found:,} {what}, a device takes at most {limit:,}{way}")

    @property
    def weight_bits(self) -> int:
        """Width of the filters."""
        return self.bits.bits

    @property
    def weight_grid(self) -> str:
        """Grid of the filters."""
        return self.bits.grid

    def _build_kernel(self, shape) -> int:
        with tf.name_scope("filters"):
            self.filters.build(shape)
        return self.filters.filters

    def _channels(self) -> int:
        return self.filters.filters

    def _theta(self) -> tf.Tensor:
        if isinstance(self.filters, WaveformConv):
            return theta_of(self.filters.kernel, tf.ones((self.filters.filters,)), self.weight_bits)
        return tf.atanh(tf.clip_by_value(self.filters.filter_kernel(), -_LARGEST, _LARGEST))

    def _codes(self) -> np.ndarray:
        return codes(self._theta(), self.weight_bits, self.weight_grid).numpy().astype(np.uint8)

    def floor_steps(self) -> int:
        """The floor in steps of a frame's sum, as the device adds it: 1 at least."""
        unit = grid_constants(self.weight_bits, self.weight_grid)[2] * waveform_math.SAMPLE_SCALE
        return max(1, math.floor(self.filters.floor * self.filters.average / unit + 0.5))

    def _accumulate(self, steps):
        """Levels of the logarithm: whole steps of 2^-15 in stage 2, real values in stage 1."""
        second = self.stage > 1.5
        samples = tf.where(second, steps, steps * (1.0 / waveform_math.SAMPLE_SCALE))
        # In two halves, whose sums float32 holds exactly; the device multiplies bytes as well.
        high = tf.floor(samples * 2.0**-8)
        kernel = levels(self._theta(), self.weight_bits, self.weight_grid)[:, None]
        halves = [tf.nn.conv1d(half, kernel, self.filters.stride, "VALID") for half in (high, samples - high * 2.0**8)]
        floor = float(self.floor_steps())
        total = self.filters.magnitudes(halves[0] * 2.0**8 + halves[1])
        real = tf.math.log1p(total * (1.0 / floor)) * (1.0 / math.log(2.0))
        wide = [tf.cast(tf.round(tf.stop_gradient(half)), tf.float64) for half in halves]
        exact = self.filters.magnitudes(wide[0] * 2.0**8 + wide[1])
        exact = waveform_math.level_steps(exact, tf.constant(floor, tf.float64))
        return tf.where(second, straight_through(real * _ONE, tf.cast(exact, tf.float32)), real)

    def load_float(self, layer: WaveformLayer) -> None:
        """Starts from the filters of a float layer."""
        if isinstance(layer, WaveformConv):
            squashed = np.clip(layer.filter_kernel().numpy(), -_STEEPEST, _STEEPEST)
            self.filters.kernel.assign(kernel_of(np.arctanh(squashed), self.weight_bits))
        else:
            self.filters.set_weights(layer.get_weights())

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        return [self.filters.compute_output_shape(input_shape[0]), ()]


def quantized_form(layer: WaveformLayer, name: str, **common: Any) -> QuantizedWaveform:
    """The quantized layer, without the float layer's weights."""
    config = {key: value for key, value in layer.get_config().items() if key not in ("name", "trainable", "dtype")}
    return QuantizedWaveform({"class_name": type(layer).__name__, "config": config}, name=name, **common)
