"""Integer arithmetic of the exported model, defined once.

``kernels/core/requantize.h`` is the C twin and ``tfmot_kws/quantize/integer_math.py`` the one that training runs; tests
hold all three together. Every rounding is "half up": ``floor(x + 1/2)``.
"""

from __future__ import annotations

import numpy as np

from tflite_export import ir


def rounding_shift(total: np.ndarray, shift: int) -> np.ndarray:
    """``floor(total / 2^shift + 1/2)`` of int64 values, 1 <= shift <= 62."""
    total = np.asarray(total, np.int64)
    return (total + (np.int64(1) << np.int64(shift - 1))) >> np.int64(shift)


def saturate(value: np.ndarray, low: int = ir.INT8_MIN, high: int = ir.INT8_MAX) -> np.ndarray:
    """Clips to ``low..high`` and narrows to int8."""
    return np.clip(value, low, high).astype(np.int8)


def requantize(acc: np.ndarray, rq: ir.Requantization, zero_point: int) -> np.ndarray:
    """int8 outputs from int32 accumulators [..., outputs]."""
    total = acc.astype(np.int64) * (rq.gain.astype(np.int64) * rq.multiplier)
    total = total + (rq.bias.astype(np.int64) << np.int64(rq.bias_shift))
    return saturate(zero_point + rounding_shift(total, rq.shift), rq.activation_min, rq.activation_max)


def rounded_mean(total: np.ndarray, count: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """``floor(total * multiplier / (count * 2^shift) + 1/2)``, exact; the mean of nothing is zero."""
    count = np.maximum(count.astype(np.int64), 1)
    numerator = 2 * total.astype(np.int64) * multiplier + (count << np.int64(shift))
    return numerator // (count << np.int64(shift + 1))


def softmax(q: np.ndarray, table: np.ndarray) -> np.ndarray:
    """int8 posteriors (scale 1/256, zero point -128) of int8 logits along the last axis.

    With ``e = table[max(q) - q]``: ``y = min(127, floor(256 e / sum(e) + 1/2) - 128)``.
    """
    q = q.astype(np.int64)
    e = table.astype(np.int64)[q.max(axis=-1, keepdims=True) - q]
    total = e.sum(axis=-1, keepdims=True)
    return saturate((512 * e + total) // (2 * total) - 128)


def quantize(real: np.ndarray, quantization: ir.Quantization, dtype: np.dtype | type = np.int8) -> np.ndarray:
    """int8 or int16 of real values: ``clip(zero_point + floor(real / scale + 1/2))``, division in float32."""
    steps = np.floor(np.asarray(real, np.float32) / np.float32(quantization.scale) + np.float32(0.5))
    steps = np.nan_to_num(steps, nan=0.0, posinf=1e6, neginf=-1e6)
    ends = np.iinfo(dtype)
    return np.clip(quantization.zero_point + steps, ends.min, ends.max).astype(dtype)


def dequantize(q: np.ndarray, quantization: ir.Quantization) -> np.ndarray:
    """float32 ``scale * (q - zero_point)``."""
    return np.float32(quantization.scale) * (q.astype(np.float32) - np.float32(quantization.zero_point))
