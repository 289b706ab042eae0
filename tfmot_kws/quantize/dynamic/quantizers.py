"""Dynamic quantization, as pure functions: columns of weights and rows of inputs by their own least and largest value.

Mishchenko et al. 2019 quantize "weight matrices column-wise, using each column's exact min-max range, and the layers'
inputs for every frame individually, using the exact min-max range of each input vector". A column holds the weights of
one output, a row all inputs of one output:

    w[:, c] ~ scale[c] * (code - zero[c])          x[r] ~ lo[r] + scale[r] * u

All arithmetic is float32, each operation rounded by itself. Gradients pass straight through: the backward pass takes
every quantized value for the value itself.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfmot_kws.quantize.integer_math import divide, round_half_up
from tfmot_kws.quantize.quantizers import of_width, straight_through

BIG = 2.0**126
"""Inputs are limited to this, so that no difference of two of them overflows."""
TINY = 2.0**-100
"""A row whose largest and least value differ by less counts as constant."""
_EXACT_IN_FLOAT32 = 2**24
_SMALLEST_NORMAL = 2.0**-126
_LN2 = 0.6931472


class Columns(NamedTuple):
    """The grid of each column, float32 [outputs].

    scale: one step in real units, 1 for a column of zeros. zero: the code of weight 0, a whole number.
    unit: as ``scale``, but 0 for a column of zeros: all its levels are 0, and a 1 there would make the step in which
    the gains of all columns are stored far too wide.
    """

    scale: tf.Tensor
    zero: tf.Tensor
    unit: tf.Tensor


class Rows(NamedTuple):
    """Quantized rows: codes u [..., inputs], whole numbers in 0..2^bits - 1, and lo and scale [..., 1]; all float32."""

    u: tf.Tensor
    lo: tf.Tensor
    scale: tf.Tensor

    def values(self) -> tf.Tensor:
        """What the codes stand for, ``lo + scale * u``."""
        return self.lo + self.scale * self.u


def lowest_code(bits: int) -> int:
    """The least code of a weight."""
    return 1 if bits == 8 else 0


def _steps(bits: int) -> int:
    """How many steps a column has: codes less one."""
    return 2**bits - 1 - lowest_code(bits)


def column_grid(w: tf.Tensor, bits: int | tf.Tensor) -> Columns:
    """Grids of weights float32 [inputs, outputs] for 1..8 or 16 bits; constants to the gradient.

    At 8 bits the lowest code is 1, not 0: without -128, codes less 128 are what TFLite's int8 weights are. ``bits`` may
    be a tensor, a whole-number float of 1..8.
    """
    w = tf.stop_gradient(tf.convert_to_tensor(w))
    low = tf.minimum(tf.reduce_min(w, axis=0), 0.0)
    high = tf.maximum(tf.reduce_max(w, axis=0), 0.0)
    if isinstance(bits, int):
        lowest, steps, most = float(lowest_code(bits)), _steps(bits), float(_steps(bits))
    else:
        lowest, steps, most = of_width(lowest_code, bits), of_width(_steps, bits, tf.float64), of_width(_steps, bits)
    step = divide(high - low, steps)
    empty = step < _SMALLEST_NORMAL  # TensorFlow takes subnormal numbers for zero, here or there
    scale = tf.where(empty, 1.0, step)
    zero = lowest + tf.clip_by_value(round_half_up(-low / scale), 0.0, most)
    return Columns(scale, zero, tf.where(empty, 0.0, step))


@tf.custom_gradient
def column_levels_of_width(w: tf.Tensor, width: tf.Tensor, whole: tf.Tensor, price: tf.Tensor, free: tf.Tensor):
    """``column_levels`` of a width that is learned.

    The range of a column is that of its weights, so that the step decides alone. Its gradient for the width is that of
    the rounding error, as in ``quantizers.levels_of_width``.

    Args:
      w: weights float32 [inputs, outputs].
      width: learned, real.
      whole: the width that is computed with, a whole-number float of 1..8.
      price: added to the gradient of ``width``, once a backward pass.
      free: 1.0, or 0.0 where the width is settled and gets no gradient.
    """
    grid = column_grid(w, whole)
    most = of_width(lambda bits: 2.0**bits - 1, whole)
    codes = tf.clip_by_value(round_half_up(w / grid.scale) + grid.zero, of_width(lowest_code, whole), most)
    found = codes - grid.zero

    def grad(upstream):
        rate = _LN2 * (most + 1.0) / of_width(_steps, whole)
        error = tf.reduce_sum(upstream * (found - w / grid.scale))
        return upstream / grid.scale, free * (price - rate * error), None, None, None

    return found, grad


def column_codes(w: tf.Tensor, bits: int, grid: Columns | None = None) -> tf.Tensor:
    """Codes of weights float32 [inputs, outputs], whole-number floats up to 2^bits - 1; without a gradient."""
    scale, zero, _ = grid or column_grid(w, bits)
    codes = round_half_up(tf.stop_gradient(w) / scale) + zero
    return tf.clip_by_value(codes, float(lowest_code(bits)), 2.0**bits - 1)


def column_levels(w: tf.Tensor, bits: int, grid: Columns | None = None) -> tf.Tensor:
    """``codes - zero``: whole-number floats [inputs, outputs] with the gradient of ``w / scale``.

    Times ``scale`` they are the quantized weights, with gradient 1.
    """
    grid = grid or column_grid(w, bits)
    return straight_through(w / grid.scale, column_codes(w, bits, grid) - grid.zero)


def row_codes(x: tf.Tensor, bits: int) -> Rows:
    """Codes of rows float32 [..., inputs] for 2..8 or 16 bits; without a gradient.

    NaN counts nothing in a row's range and is taken for its least value; infinities count as +-2^126. In a row that is
    constant up to 2^-100, all values are ``lo``; in one of NaN alone, 0.
    """
    x = tf.stop_gradient(tf.convert_to_tensor(x))
    missing = tf.math.is_nan(x)
    lo = tf.reduce_min(tf.where(missing, BIG, x), axis=-1, keepdims=True)
    hi = tf.reduce_max(tf.where(missing, -BIG, x), axis=-1, keepdims=True)
    lo, hi = tf.clip_by_value(lo, -BIG, BIG), tf.clip_by_value(hi, -BIG, BIG)
    nothing = lo > hi
    lo, hi = tf.where(nothing, 0.0, lo), tf.where(nothing, 0.0, hi)
    limit = 2**bits - 1
    span = hi - lo
    flat = span < TINY
    inverse = tf.where(flat, 0.0, float(limit) / tf.where(flat, 1.0, span))
    scale = tf.where(flat, 0.0, divide(span, limit))
    v = tf.where(x >= lo, x, lo)  # NaN too becomes lo
    return Rows(tf.floor((tf.minimum(v, hi) - lo) * inverse + 0.5), lo, scale)


def quantize_rows(x: tf.Tensor, bits: int) -> tf.Tensor:
    """Rows float32 [..., inputs] on their grids, ``lo + scale * u``, with gradient 1."""
    return straight_through(x, row_codes(x, bits).values())


def row_product(x: tf.Tensor, levels: tf.Tensor, input_bits: int, largest: int) -> tf.Tensor:
    """``quantize_rows(x) @ levels``, computed as a device does: integers, then ``scale * T + lo * W``.

    T = sum of level * u and W = sum of level are exact, then rounded to float32.

    Args:
      x: float32 [rows, inputs].
      levels: whole-number float32 [inputs, outputs].
      input_bits: width of u.
      largest: bound of a level's absolute value.

    Returns:
      float32 [rows, outputs], with the gradient of ``matmul(quantize_rows(x), levels)``.
    """

    @tf.custom_gradient
    def product(x, levels):
        rows = row_codes(x, input_bits)
        total = _whole_product(rows.u, levels, largest * (2**input_bits - 1))
        offset = tf.cast(tf.reduce_sum(tf.cast(levels, tf.float64), axis=0), tf.float32)

        def grad(upstream):
            return (
                tf.matmul(upstream, levels, transpose_b=True),
                tf.matmul(rows.values(), upstream, transpose_a=True),
            )

        return rows.scale * total + rows.lo * offset, grad

    return product(x, levels)


def _whole_product(u: tf.Tensor, levels: tf.Tensor, largest: int) -> tf.Tensor:
    """``u @ levels`` of whole numbers, rounded once to float32; no product of two of them exceeds ``largest``."""
    count = (_EXACT_IN_FLOAT32 - 1) // largest  # so many products float32 adds exactly
    if not count:
        return tf.cast(tf.matmul(tf.cast(u, tf.float64), tf.cast(levels, tf.float64)), tf.float32)
    inputs = int(levels.shape[0])
    if inputs <= count:
        return tf.matmul(u, levels)
    # A few float32 products are faster than one in float64.
    parts = [tf.matmul(u[:, i : i + count], levels[i : i + count]) for i in range(0, inputs, count)]
    return tf.cast(tf.add_n([tf.cast(part, tf.float64) for part in parts]), tf.float32)
