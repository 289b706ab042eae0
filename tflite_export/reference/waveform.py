# SPDX-License-Identifier: Apache-2.0
"""From samples to features in integers, defined once.

``kernels/ops/waveform.c`` is the C twin and ``tfmot_kws/quantize/waveform_math.py`` the one that training runs; tests
hold all three together.
"""

from __future__ import annotations

import numpy as np

from tflite_export import ir
from tflite_export.reference.arithmetic import requantize

_STEPS = 64
LOG_TABLE = np.floor(2.0**ir.LOG_BITS * np.log2(1.0 + np.arange(_STEPS + 1) / _STEPS) + 0.5).astype(np.int64)
"""``round(2^15 log2(1 + i / 64))``, i = 0 .. 64."""


def log2(x: np.ndarray) -> np.ndarray:
    """2^15 log2(x) of whole numbers from 1 up to 2^53: the table, with straight lines between its entries.

    Off by at most 2 steps.
    """
    x = np.asarray(x, np.int64)
    exponent = np.frexp(x.astype(np.float64))[1].astype(np.int64) - 1
    # x = 2^exponent (1 + fraction / 2^22); further bits are cut off
    up, down = np.maximum(22 - exponent, 0), np.maximum(exponent - 22, 0)
    fraction = ((x << up) >> down) - (1 << 22)
    place, part = fraction >> 16, fraction & 0xFFFF
    low = LOG_TABLE[place]
    return (exponent << ir.LOG_BITS) + low + (((LOG_TABLE[place + 1] - low) * part + (1 << 15)) >> 16)


def levels(op: ir.Waveform, x: np.ndarray) -> np.ndarray:
    """int64 levels [batch, frames, filters] of int16 samples [batch, samples, 1]."""
    frames = (x.shape[1] - op.span) // op.hop + 1
    starts = np.arange(frames)[:, None] * op.hop + np.arange(op.average) * op.stride
    weights = op.weights.levels.astype(np.float64)
    total = np.zeros((len(x), frames, len(weights)), np.int64)
    for column in starts.T:  # a sum of each frame at a time, so that few windows lie in memory
        cut = x[:, column[:, None] + np.arange(op.taps), 0]
        # float64 products and sums of these integers are exact (below 2^53)
        total += np.abs(np.matmul(cut.astype(np.float64), weights.T).astype(np.int64))
    return log2(total + op.floor) - log2(op.floor)


def run(op: ir.Waveform, x: np.ndarray, zero_point: int) -> np.ndarray:
    """int8 features [batch, frames, filters] of int16 samples [batch, samples, 1]."""
    return requantize(levels(op, x), op.requantization, zero_point)
