"""The device's integer arithmetic inside a TensorFlow graph.

Every integer of the exported model stays below 2^53, so float64 holds it exactly; what is computed here equals
``tflite_export/reference/arithmetic.py`` to the last bit, in eager mode, in a graph and under XLA. Powers of two are
made from their bits because ``pow`` is not exact on every back end.
"""

from __future__ import annotations

import tensorflow as tf

_MANTISSA_BITS = 52
_EXPONENT_BIAS = 1023
_MULTIPLIER_EXPONENT = 15
MAX_SHIFT = 46


def _mantissa_bits() -> tf.Tensor:
    return tf.constant(_MANTISSA_BITS, tf.int64)


def exp2(k: tf.Tensor) -> tf.Tensor:
    """float64 ``2^k`` of whole numbers k in -1022..1023, exactly."""
    return tf.bitcast(tf.bitwise.left_shift(tf.cast(k, tf.int64) + _EXPONENT_BIAS, _mantissa_bits()), tf.float64)


def floor_log2(x: tf.Tensor) -> tf.Tensor:
    """int64 ``floor(log2(x))`` of positive normal numbers, exactly; -1023 for zero."""
    bits = tf.bitcast(tf.cast(x, tf.float64), tf.int64)
    return tf.bitwise.right_shift(bits, _mantissa_bits()) - _EXPONENT_BIAS


def round_half_up(x: tf.Tensor) -> tf.Tensor:
    """``floor(x + 1/2)``, the one rounding of the project."""
    return tf.floor(x + tf.constant(0.5, x.dtype))


def divide(x: tf.Tensor, whole: int | tf.Tensor) -> tf.Tensor:
    """``x / whole``, rounded once to float32; ``whole`` may be a tensor, a whole-number float64.

    TensorFlow's graph optimizer makes ``x * (1 / whole)`` of a division by a constant, which rounds twice; integers
    made in a graph would then differ from those made eagerly. In float64 the difference lies below float32's rounding:
    no quotient of a 24-bit number by an odd 16-bit one comes so near to the middle between two float32 numbers.
    """
    return tf.cast(tf.cast(x, tf.float64) / whole, tf.float32)


def fixed_point(real: tf.Tensor, most: tf.Tensor | int = MAX_SHIFT) -> tuple[tf.Tensor, tf.Tensor]:
    """Multiplier and shift with ``multiplier * 2^-shift ~ real``; multiplier has 16 bits, shift lies in 1..most.

    Where the shift ends at ``most``, the multiplier has fewer bits.

    Returns float64 multiplier and int64 shift (scalars, or of real's shape).
    """
    real = tf.cast(real, tf.float64)
    shift = tf.clip_by_value(_MULTIPLIER_EXPONENT - floor_log2(real), tf.constant(1, tf.int64), most)
    multiplier = tf.minimum(round_half_up(real * exp2(shift)), tf.constant(2.0**31 - 1, tf.float64))
    return multiplier, shift


def bias_exponent(largest: tf.Tensor, out_scale: tf.Tensor, bits: int) -> tf.Tensor:
    """The least e (int64) at which every bias fits ``bits`` signed bits in units of ``out_scale * 2^e``.

    Args:
      largest: the largest absolute bias, real units.
      out_scale: scale of the output tensor.
      bits: signed width of a stored bias.
    """
    limit = tf.constant(2.0 ** (bits - 1) - 1, tf.float64)
    return floor_log2(tf.cast(largest, tf.float64) / (tf.cast(out_scale, tf.float64) * limit)) + 1


def shift_limit(exponent: tf.Tensor) -> tf.Tensor:
    """The largest right shift of a layer that leaves room for the left shift of a bias of that exponent."""
    return MAX_SHIFT - tf.clip_by_value(exponent, tf.constant(0, tf.int64), MAX_SHIFT - 1)


def bias_shift(exponent: tf.Tensor, shift: tf.Tensor, bits: int) -> tf.Tensor:
    """Left shift f of the bias, whose unit is ``out_scale * 2^(f - shift)``.

    No smaller than 2^(4 - bits) output steps, 1/16 at 8 bits: finer units would hardly ever change an output, and
    kernels are faster where f is near the shift.

    Args:
      exponent: from ``bias_exponent``.
      shift: the layer's right shift, at most ``shift_limit(exponent)``.
      bits: signed width of a stored bias.
    """
    least = tf.maximum(shift - max(bits - 4, 0), tf.constant(0, tf.int64))
    return tf.clip_by_value(exponent + shift, least, MAX_SHIFT)


def requantize(
    acc: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor, multiplier: tf.Tensor, f: tf.Tensor, shift: tf.Tensor
) -> tf.Tensor:
    """Integer outputs before the zero point and the clipping, as float32.

    ``floor((acc * gain * multiplier + bias * 2^f + 2^(shift - 1)) / 2^shift)`` with whole-number float inputs.
    """
    acc = tf.cast(tf.round(acc), tf.float64)
    # Scaling by powers of two is exact, so it may be done per channel, ahead of the sum.
    unit = exp2(-shift)
    factor = tf.cast(gain, tf.float64) * multiplier * unit
    offset = tf.cast(bias, tf.float64) * exp2(f - shift) + tf.constant(0.5, tf.float64)
    return tf.cast(tf.floor(acc * factor + offset), tf.float32)


def rounded_mean(total: tf.Tensor, count: tf.Tensor, multiplier: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """``floor(total * multiplier / (count * 2^shift) + 1/2)`` as float32; exact for whole-number inputs."""
    total, count = tf.cast(tf.round(total), tf.float64), tf.cast(count, tf.float64)
    unit = exp2(shift)
    return tf.cast(tf.floor((2.0 * total * multiplier + count * unit) / (2.0 * count * unit)), tf.float32)
