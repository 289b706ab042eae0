# SPDX-License-Identifier: Apache-2.0
"""Float arithmetic of dynamic quantization, defined once: float32, each operation rounded by itself.

``kernels/dense/float_math.h`` and ``kernels/dense/dynamic.c`` are the C twins. Because every step is one IEEE operation
in a given order, all processors that keep to IEEE 754 give the same bits; what they would each do better on their own
(fused multiply-add, another order of sums, the C library's exponential) is left out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export import ir

F = np.float32
FUNCTIONS = ir.FUNCTIONS

LARGEST = F(2.0**126)
"""Values beyond are taken for it, so that a row's span is finite."""
SMALLEST_SPAN = F(2.0**-100)
"""A row whose values lie closer together counts as constant: no step is a subnormal number."""

_LARGEST_EXPONENT = F(87.0)
_LOG2_E = F(1.44269504)
# ln 2 in two parts: the first has so few bits that n * _LN2_HIGH is exact for |n| < 128.
_LN2_HIGH, _LN2_LOW = F(0.693359375), F(-2.12194440e-4)
_TAYLOR = tuple(F(1.0 / f) for f in (720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class Rows:
    """Quantized rows: ``x ~ low + scale * codes``.

    codes: int64 [..., inputs] in 0..2^bits - 1; low, scale: float32 [..., 1].
    """

    codes: np.ndarray
    low: np.ndarray
    scale: np.ndarray


def quantize_rows(x: np.ndarray, bits: int) -> Rows:
    """Quantizes each row (last axis) of float32 values between its own least and largest value.

    After Mishchenko et al. 2019: the exact range of every input vector, found while the model runs. A NaN counts
    nothing for the range and becomes the least value; infinite values become ``LARGEST``.
    """
    x = np.asarray(x, F)
    steps = F(2**bits - 1)
    known = ~np.isnan(x)
    low = np.min(x, axis=-1, keepdims=True, initial=LARGEST, where=known)
    high = np.max(x, axis=-1, keepdims=True, initial=-LARGEST, where=known)
    low, high = np.maximum(low, -LARGEST), np.minimum(high, LARGEST)
    nothing = low > high
    low, high = np.where(nothing, F(0), low), np.where(nothing, F(0), high)
    span = high - low
    constant = span < SMALLEST_SPAN
    safe = np.where(constant, F(1), span)
    inverse, scale = np.where(constant, F(0), steps / safe), np.where(constant, F(0), safe / steps)
    value = np.where(x >= low, x, low)
    value = np.where(value > high, high, value)
    return Rows(np.trunc((value - low) * inverse + F(0.5)).astype(np.int64), low, scale)


def activate(y: np.ndarray, function: str) -> np.ndarray:
    """One of FUNCTIONS of float32 values."""
    if function == "relu":
        return np.where(y > 0, y, F(0))
    if function == "relu6":
        y = np.where(y > 0, y, F(0))
        return np.where(y < F(6), y, F(6))
    if function == "sigmoid":
        e = exp_of_minus(_magnitude(y))
        return np.where(y > 0, F(1), e) / (F(1) + e)
    if function == "tanh":
        half = _magnitude(y)
        e = exp_of_minus(half + half)
        value = (F(1) - e) / (F(1) + e)
        return np.where(y > 0, value, -value)
    return y


def _magnitude(y: np.ndarray) -> np.ndarray:
    """|y|; NaN gives 0."""
    return np.where(y > 0, y, np.where(y < 0, -y, F(0)))


def exp_of_minus(a: np.ndarray) -> np.ndarray:
    """exp(-a) of float32 a >= 0, relative error below 2.6e-7; from 87 on exp(-87).

    exp(-a) = 2^-n exp(r) with n = round(a / ln 2), and exp(r), |r| <= 0.35, by its Taylor polynomial of degree 6.
    """
    a = np.where(a < _LARGEST_EXPONENT, np.asarray(a, F), _LARGEST_EXPONENT)
    n = np.trunc(a * _LOG2_E + F(0.5))
    r = n * _LN2_HIGH - a
    r = r + n * _LN2_LOW
    p = np.full_like(r, _TAYLOR[0])
    for c in _TAYLOR[1:]:
        p = p * r + c
    return p * ((127 - n.astype(np.int32)) << 23).astype(np.int32).view(F)


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax over the last axis: exponentials of the distances to the largest value, summed from first to last."""
    e = exp_of_minus(x.max(axis=-1, keepdims=True) - x)
    total = np.zeros_like(e[..., :1])
    for i in range(e.shape[-1]):
        total = total + e[..., i : i + 1]
    return e / total
