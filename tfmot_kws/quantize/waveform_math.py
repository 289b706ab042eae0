# SPDX-License-Identifier: Apache-2.0
"""The logarithm of filters over samples inside a TensorFlow graph.

The twin of ``tflite_export/reference/waveform.py``.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmot_kws.quantize import integer_math

LOG_BITS = 15
"""Bits behind the point of a logarithm."""
SAMPLE_SCALE = 2.0**-15
"""What one step of a sample is worth."""
_TABLE = np.floor(2.0**LOG_BITS * np.log2(1.0 + np.arange(65) / 64) + 0.5)


def log2_steps(x: tf.Tensor) -> tf.Tensor:
    """``2^15 log2(x)`` of whole-number float64, by the device's table, as whole-number float64.

    Args:
        x: from 1 up to 2^53.
    """
    exponent = integer_math.floor_log2(x)
    # x = 2^exponent (1 + fraction / 2^22); further bits are cut off
    fraction = tf.floor((x * integer_math.exp2(-exponent) - 1.0) * 2.0**22)
    place = tf.floor(fraction * 2.0**-16)
    index = tf.cast(place, tf.int32)
    low, high = tf.gather(_TABLE, index), tf.gather(_TABLE, index + 1)
    between = tf.floor(((high - low) * (fraction - place * 2.0**16) + 2.0**15) * 2.0**-16)
    return tf.cast(exponent, tf.float64) * 2.0**LOG_BITS + low + between


def level_steps(total: tf.Tensor, floor: tf.Tensor) -> tf.Tensor:
    """``log2_steps(total + floor) - log2_steps(floor)``, of whole-number float64."""
    return log2_steps(total + floor) - log2_steps(floor)
