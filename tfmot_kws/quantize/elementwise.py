"""Quantized layers of arithmetic with constants, and the larger or smaller of several tensors.

Like all quantized layers they pass pairs (steps, scale); see ``layers``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import AsWritten, keras
from tfmot_kws.quantize.layers import QuantizedAffine
from tfmot_kws.quantize.ops import QuantizedOp
from tfmot_kws.quantize.output_grid import quantize_steps


class QuantizedScale(AsWritten, keras.layers.Layer):
    """The same steps at another scale: a multiplication that costs the device nothing.

    Args:
      factor: a number above zero.
    """

    def __init__(self, factor: float, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.factor = float(factor)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "factor": self.factor}

    def call(self, inputs):
        """(steps, scale) -> (steps, scale)."""
        steps, scale = inputs
        return [tf.identity(steps), scale * tf.constant(self.factor)]

    def scaled(self, in_scale: float) -> float:
        """The scale behind the layer, float32 like the one that training computes."""
        return float(np.float32(in_scale) * np.float32(self.factor))

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        return [tuple(input_shape[0]), ()]


class QuantizedChannelAffine(QuantizedAffine):
    """``x * factor[c] + offset[c]`` over the last axis, with one rounding.

    Args:
      trains: which of the two vectors training moves: some of "factor", "offset".
    """

    def __init__(self, trains: tuple[str, ...] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.trains = tuple(trains)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "trains": list(self.trains)}

    def _build_folded(self, channels: int) -> None:
        self.factor = self._vector("factor", channels, "ones", "factor" in self.trains)
        self.offset = self._vector("offset", channels, "zeros", "offset" in self.trains)

    def _gain_and_bias(self, acc, in_scale, training):
        return self.factor * in_scale, tf.convert_to_tensor(self.offset)

    def _channels(self) -> int:
        return self.factor.shape[0]


class QuantizedExtreme(QuantizedOp):
    """The larger (or smaller) of tensors of one shape, on one grid: rounding is monotonous, so it comes last.

    Args:
      largest: whether the larger one counts.
    """

    def __init__(self, largest: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.largest = bool(largest)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "largest": self.largest}

    def call(self, inputs, training=None):
        """(steps, scale, steps, scale, ...) -> (steps, scale)."""
        return self._forward(inputs, training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, inputs, training):
        values = [steps * scale for steps, scale in zip(inputs[0::2], inputs[1::2])]
        real = values[0]
        for value in values[1:]:
            real = tf.maximum(real, value) if self.largest else tf.minimum(real, value)
        grid = self.output_grid.grid(tf.size(real[0]))
        return self._emit(real, quantize_steps(real, grid), grid, training)

    def table(self, in_scale: float, in_zero_point: int) -> np.ndarray:
        """Output steps for each int8 code -128..127 of one input, float [256]."""
        steps = tf.constant(np.arange(-128, 128) - in_zero_point, tf.float32)
        return quantize_steps(steps * tf.constant(in_scale), self.output_grid.grid()).numpy()
