"""Gates and cells of recurrent layers inside a TensorFlow graph: the device's integers forward, real gradients back.

The twin of ``tflite_export/reference/recurrent.py``. Values are real numbers in float32; in stage 2 they are whole
multiples of powers of two, which float32 holds exactly, so that no scale need travel with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfmot_kws.quantize.quantizers import straight_through

SCALE = 2.0**-11
"""What one int16 step of a pre-activation, or of an LSTM's cell state, is worth."""
_GATE = 2.0**-15
_TABLE = np.floor(2.0**15 * np.tanh(np.arange(257) / 32.0) + 0.5).astype(np.float32)

GATES = {"lstm": 4, "gru": 3, "gru_reset_after": 3, "simple": 1}
"""Gates of each kind of cell, in Keras' order: i, f, c, o; z, r, h."""

Product = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How values become integers: not at all in stage 1.

    second: whether this is stage 2 (scalar tensor). one: steps of the value 1 of the output.
    """

    second: tf.Tensor
    one: float

    def keep(self, real: tf.Tensor, exact: tf.Tensor) -> tf.Tensor:
        """``exact`` in stage 2, else ``real``; the gradient of ``real``."""
        return straight_through(real, tf.where(self.second, exact, real))

    def placed(self, real: tf.Tensor, exact: tf.Tensor, scale: float) -> tf.Tensor:
        """float64 ``exact`` rounded to the scale; ``real``'s gradient."""
        steps = tf.floor(tf.stop_gradient(exact) * (1.0 / scale) + 0.5)
        return self.keep(real, tf.cast(steps * scale, tf.float32))

    def narrow(self, x: tf.Tensor, scale: float) -> tf.Tensor:
        """What int16 holds of it, in stage 2; values beyond have no gradient then."""
        return tf.where(self.second, tf.clip_by_value(x, -(2.0**15) * scale, (2.0**15 - 1.0) * scale), x)

    def tanh(self, x: tf.Tensor) -> tf.Tensor:
        """By the table."""
        return self.keep(tf.tanh(x), _tanh_steps(tf.stop_gradient(x) * 2.0**12) * _GATE)

    def sigmoid(self, x: tf.Tensor) -> tf.Tensor:
        """By the table."""
        steps = tf.floor((2.0**15 + _tanh_steps(tf.stop_gradient(x) * 2.0**11) + 1.0) * 0.5)
        return self.keep(tf.sigmoid(x), steps * _GATE)

    def output(self, real: tf.Tensor, exact: tf.Tensor) -> tf.Tensor:
        """On the output's grid. The end of the grid, one step below 1, cuts no gradient: tanh does that."""
        steps = tf.floor(tf.stop_gradient(exact) * self.one + 0.5)
        steps = tf.clip_by_value(steps, -self.one, self.one - 1.0)
        return self.keep(real, tf.cast(steps / self.one, tf.float32))


def _tanh_steps(x: tf.Tensor) -> tf.Tensor:
    """``2^15 tanh(x / 2^12)`` of whole numbers, by the table and straight lines between its entries."""
    size = tf.minimum(tf.abs(tf.round(x)), 2.0**15)
    place = tf.minimum(tf.floor(size * 2.0**-7), 255.0)
    index = tf.cast(place, tf.int32)
    low, high = tf.gather(_TABLE, index), tf.gather(_TABLE, index + 1)
    return tf.sign(x) * (low + tf.floor(((high - low) * (size - place * 2.0**7) + 64.0) * 2.0**-7))


def _wide(*values: tf.Tensor) -> list[tf.Tensor]:
    return [tf.cast(tf.stop_gradient(v), tf.float64) for v in values]


def step(
    cell: str, rounding: Rounding, row: tf.Tensor, h: tf.Tensor, c: tf.Tensor, product: Product, of_reset: Product
):
    """(h, c) behind a row.

    Args:
      cell: a key of ``GATES``.
      rounding: of the stage.
      row: [batch, gates * units] pre-activations of the row's product with the kernel.
      h: [batch, units], the last output.
      c: [batch, units], an LSTM's cell or a GRU's state.
      product: pre-activations of the recurrent kernel, of an output.
      of_reset: the same, of the last gate alone, of an output that was reset.
    """
    if cell == "simple":
        y = rounding.tanh(rounding.narrow(row + product(h), SCALE))
        return rounding.output(y, y), c
    if cell == "lstm":
        return _lstm(rounding, row, h, c, product)
    units = h.shape[-1]
    if cell == "gru_reset_after":
        whole = product(h)
        gates, last = whole[:, : 2 * units], whole[:, 2 * units :]
    else:
        gates, last = product(h), None
    update, reset = tf.split(rounding.sigmoid(rounding.narrow(row[:, : 2 * units] + gates, SCALE)), 2, -1)
    if last is not None:
        wide_reset, wide_last = _wide(reset, last)
        more = rounding.narrow(rounding.placed(reset * last, wide_reset * wide_last, SCALE), SCALE)
    else:
        wide_reset, wide_c = _wide(reset, c)
        more = of_reset(rounding.output(reset * c, wide_reset * wide_c))
    candidate = rounding.tanh(rounding.narrow(row[:, 2 * units :] + more, SCALE))
    z, before, new = _wide(update, c, candidate)
    real = update * c + (1.0 - update) * candidate
    c = rounding.placed(real, z * before + (1.0 - z) * new, _GATE)
    c = rounding.keep(c, tf.clip_by_value(c, -1.0, 1.0 - _GATE))  # a state of 1 is no int16, and no end either
    return rounding.output(c, c), c


def _lstm(rounding: Rounding, row: tf.Tensor, h: tf.Tensor, c: tf.Tensor, product: Product):
    z_i, z_f, z_g, z_o = tf.split(rounding.narrow(row + product(h), SCALE), 4, -1)
    i, f, g, o = rounding.sigmoid(z_i), rounding.sigmoid(z_f), rounding.tanh(z_g), rounding.sigmoid(z_o)
    wide_i, wide_f, wide_g, wide_c = _wide(i, f, g, c)
    c = rounding.placed(f * c + i * g, wide_f * wide_c + wide_i * wide_g, SCALE)
    c = rounding.narrow(c, SCALE)
    t = rounding.tanh(c)
    wide_o, wide_t = _wide(o, t)
    return rounding.output(o * t, wide_o * wide_t), c
