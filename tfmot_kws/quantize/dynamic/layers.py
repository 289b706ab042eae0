"""Dense and convolution layers that quantize their inputs row by row while they run: floats in, floats out.

Weights lie on a grid of 1..8 or 16 bits; each row of inputs (a vector, or what a window shows, padding included) is
quantized by its own least and largest value. So there are no ranges to track, no calibration and no stages: a layer
computes quantized values from the first call on, and training goes on around them. See ``quantizers``.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize.dynamic.quantizers import (
    column_codes,
    column_grid,
    column_levels,
    column_levels_of_width,
    row_product,
)
from tfmot_kws.quantize.layer_bits import DynamicBits
from tfmot_kws.quantize.layer_parts import FoldedLayer, TanhKernel, Window
from tfmot_kws.quantize.output_grid import quantize_vector

# Comparisons, not tf.nn.relu: where a sum overflowed, a device's "y > 0 ? y : 0" makes 0 of NaN.
ACTIVATIONS = {
    "linear": lambda y: y,
    "relu": lambda y: tf.where(y > 0.0, y, 0.0),
    "relu6": lambda y: tf.where(y > 0.0, tf.where(y < 6.0, y, 6.0), 0.0),
    "sigmoid": tf.sigmoid,
    "tanh": tf.tanh,
}


@dataclasses.dataclass(frozen=True)
class DynamicIntegers:
    """What the device needs of a layer: numpy integers, by the very functions that the forward pass runs.

    Attributes:
      codes: uint16, in the kernel's shape.
      zeros: int32 [outputs], the code of weight 0; None for weights trained through tanh, whose levels are
        ``a * code - b`` (``quantizers.grid_constants``).
      gain, gain_unit: int16 [outputs] and what one of it is worth, a float32 number.
      bias, bias_unit: likewise; None and 0 where the layer has neither bias nor batch normalization.
    """

    codes: np.ndarray
    zeros: np.ndarray | None
    gain: np.ndarray
    gain_unit: float
    bias: np.ndarray | None
    bias_unit: float


class DynamicKernel(TanhKernel, FoldedLayer):
    """Base: the kernel as columns, rows times columns, gain, bias and activation.

    Args:
      bits: widths (``DynamicBits`` or its dict).
      activation: a key of ``ACTIVATIONS``.
    """

    BITS = DynamicBits
    ACTIVATIONS = tuple(ACTIVATIONS)

    def build(self, input_shape):
        """Makes the variables."""
        if input_shape[-1] is None:
            raise ValueError(f"layer {self.name!r}: the last axis of its input must be known, found {input_shape}")
        self._build_folded(self._build_kernel(tuple(input_shape)))
        super().build(input_shape)

    @property
    def _tanh(self) -> bool:
        return self.bits.weights == "tanh"

    def _build_kernel(self, shape):
        if self._tanh:
            return super()._build_kernel(shape)
        channels = self._add_kernel(shape)
        self.learned_width = self._make_width()
        return channels

    def _columns(self):
        """The kernel as [inputs of one output, outputs]."""
        return tf.reshape(self.kernel, (-1, self._channels()))

    def _channels(self):
        return self.kernel.shape[-1]

    def _levels(self):
        if self._tanh:
            return tf.reshape(super()._levels(), (-1, self._channels()))
        if self.learned_width is not None:
            return self.learned_width.of(column_levels_of_width, self._columns())
        return column_levels(self._columns(), self.bits.bits)

    def _grid(self):
        bits = self.bits.bits if self.learned_width is None else self.learned_width.whole
        return column_grid(self._columns(), bits)

    def _unit(self):
        return super()._unit() if self._tanh else self._grid().scale

    def _empty(self):
        """Whether each column holds zeros alone; False where no column can."""
        return tf.constant(False) if self._tanh else self._grid().unit <= 0.0

    def take_width(self, bits: int) -> None:
        """Computes with another whole width from now on.

        Args:
          bits: 1..8, of a layer whose width is learned.
        """
        if self._tanh:
            super().take_width(bits)  # whose kernel means another weight at another width
        else:
            self.learned_width.take(bits)

    def _rows(self, x):
        """The inputs of every output: [..., inputs of one output]."""
        return x

    def call(self, x, training=None):
        """float [batch, ..., channels] -> float32 [batch, ..., outputs]."""
        return self._forward(tf.cast(x, tf.float32), training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, x, training):
        training = keras.backend.learning_phase() if training is None else training
        rows = self._rows(x)
        levels = self._levels()
        flat = tf.reshape(rows, (-1, levels.shape[0]))
        y = row_product(flat, levels, self.bits.input_bits, 2**self.bits.bits - 1)
        real, shift = self._gain_and_bias(y, 1.0, training)
        gain, gain_unit, bias, bias_unit = self._vectors(real, shift)
        # All levels of an empty column are 0, whatever its gain; with the real one the kernel has a gradient.
        y = y * tf.where(self._empty(), real, gain * gain_unit)
        if bias is not None:
            y = y + bias * bias_unit
        y = tf.reshape(ACTIVATIONS[self.activation](y), tf.concat([tf.shape(rows)[:-1], [self._channels()]], 0))
        return tf.ensure_shape(y, self.compute_output_shape(x.shape))

    def _vectors(self, gain, bias):
        """Whole-number gain and its unit, bias (or None) and its unit."""
        # The gain of an empty column says nothing and must not widen the unit of the others.
        steps, unit = quantize_vector(tf.where(self._empty(), 0.0, gain), self.bits.gain_bits)
        if not self.use_bias and self.batch_norm is None:
            return steps, unit, None, tf.constant(0.0)
        return steps, unit, *quantize_vector(bias, self.bits.bias_bits)

    def integers(self) -> DynamicIntegers:
        """The device's integers, as the layer stands."""
        gain, gain_unit, bias, bias_unit = self._vectors(
            *self._gain_and_bias(tf.zeros((1, self._channels())), 1.0, False)
        )
        zeros = None
        if self._tanh:
            codes = super()._codes()
        else:
            grid = column_grid(self._columns(), self.weight_bits)
            codes = column_codes(self._columns(), self.weight_bits, grid).numpy()
            zeros = grid.zero.numpy().astype(np.int32)
        return DynamicIntegers(
            codes=codes.astype(np.uint16).reshape(self.kernel.shape),
            zeros=zeros,
            gain=gain.numpy().astype(np.int16),
            gain_unit=float(gain_unit.numpy()),
            bias=None if bias is None else bias.numpy().astype(np.int16),
            bias_unit=float(bias_unit.numpy()),
        )

    def load_float_kernel(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        """Starts from trained float weights of the original layer."""
        if self._tanh:
            super().load_float_kernel(weight, bias)
            return
        self.kernel.assign(weight)
        if bias is not None:
            self.bias.assign(bias)


class DynamicDense(DynamicKernel):
    """Dense over the last axis: each vector of it is a row.

    Args:
      units: outputs.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.supports_masking = True

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "units": self.units}

    def _kernel_shape(self, input_shape):
        return (input_shape[-1], self.units)

    def compute_output_shape(self, input_shape):
        """[..., units]."""
        return (*tuple(input_shape)[:-1], self.units)


class DynamicConv(Window, DynamicKernel):
    """Conv1D and Conv2D: the rank is the length of ``kernel_size``; each window is a row."""

    def _rows(self, x):
        if all(n == 1 for n in (*self.kernel_size, *self.strides)):
            return x
        x, padding = self._padded(x)
        picture = x if len(self.kernel_size) == 2 else x[:, None]  # one axis: a picture one row high
        one = (1,) * (3 - len(self.kernel_size))
        sizes, strides, rates = ((*one, *v, 1) for v in (self.kernel_size, self.strides, self.dilation_rate))
        windows = tf.image.extract_patches(picture, sizes, strides, rates, padding)
        return windows if len(self.kernel_size) == 2 else windows[:, 0]

    def compute_output_shape(self, input_shape):
        """[batch, positions..., filters]."""
        shape = tuple(input_shape)
        return (shape[0], *self._positions(shape[1:-1]), self.filters)
