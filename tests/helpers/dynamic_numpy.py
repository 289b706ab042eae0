"""The definition of dynamic quantization once more, in plain numpy: one row and one column at a time."""

from __future__ import annotations

import itertools

import numpy as np

from tfmot_kws.quantize import quantizers
from tfmot_kws.quantize.dynamic.layers import DynamicConv, DynamicIntegers, DynamicKernel

F = np.float32
BIG, TINY = F(2.0**126), F(2.0**-100)


def numpy_row(x: np.ndarray, bits: int) -> tuple[np.ndarray, np.float32, np.float32]:
    """(u, lo, scale) of one row float32 [inputs]."""
    limit, lo, hi = F(2**bits - 1), BIG, -BIG
    for v in x:
        lo = v if v < lo else lo
        hi = v if v > hi else hi
    lo, hi = max(lo, -BIG), min(hi, BIG)
    if lo > hi:
        lo = hi = F(0)
    span = F(hi - lo)
    inverse, scale = (F(0), F(0)) if span < TINY else (F(limit / span), F(span / limit))
    v = np.where(x >= lo, x, lo)
    v = np.where(v > hi, hi, v)
    return np.trunc((v - lo) * inverse + F(0.5)).astype(np.int64), lo, scale


def numpy_column(w: np.ndarray, bits: int) -> tuple[np.ndarray, int, np.float32]:
    """(codes, zero, scale) of one column float32 [inputs]."""
    low, high, least = min(w.min(), F(0)), max(w.max(), F(0)), 1 if bits == 8 else 0
    limit = 2**bits - 1
    scale = F(F(high - low) / F(limit - least)) if high != low else F(1)
    zero = least + int(np.clip(np.floor(-low / scale + F(0.5)), 0, limit - least))
    return np.clip(np.floor(w / scale + F(0.5)) + zero, least, limit).astype(np.int64), zero, scale


def numpy_levels(layer: DynamicKernel, found: DynamicIntegers) -> np.ndarray:
    """Levels [inputs of one output, outputs]."""
    codes = found.codes.reshape(-1, found.codes.shape[-1]).astype(np.int64)
    if found.zeros is not None:
        return codes - found.zeros
    a, b, _ = quantizers.grid_constants(layer.bits.bits, layer.bits.grid)
    return a * codes - b


def numpy_outputs(layer: DynamicKernel, found: DynamicIntegers, rows: np.ndarray) -> np.ndarray:
    """Outputs float32 [rows, outputs] of rows float32 [rows, inputs of one output]."""
    levels, made = numpy_levels(layer, found), []
    for row in rows:
        u, lo, scale = numpy_row(row, layer.bits.input_bits)
        s = scale * (u @ levels).astype(F) + lo * levels.sum(axis=0).astype(F)
        y = s * (found.gain.astype(F) * F(found.gain_unit))
        made.append(y if found.bias is None else y + found.bias.astype(F) * F(found.bias_unit))
    y = np.array(made, F)
    return {
        "linear": lambda: y,
        "relu": lambda: np.where(y > 0, y, 0),
        "relu6": lambda: np.minimum(np.where(y > 0, y, 0), 6),
        "sigmoid": lambda: 1 / (1 + np.exp(-y.astype(np.float64))),
        "tanh": lambda: np.tanh(y.astype(np.float64)),
    }[layer.activation]()


def numpy_windows(x: np.ndarray, layer: DynamicConv) -> np.ndarray:
    """[batch, positions..., inputs of one output] of x [batch, lengths..., channels]."""
    pads = layer.explicit_padding(x.shape[1:-1])
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate)]
    starts = [range(0, n - span + 1, s) for n, span, s in zip(x.shape[1:-1], spans, layer.strides)]
    shape = [len(r) for r in starts]
    rows = []
    for position in itertools.product(*starts):
        cut = tuple(slice(p, p + span, d) for p, span, d in zip(position, spans, layer.dilation_rate))
        rows.append(x[(slice(None), *cut)].reshape(len(x), -1))
    return np.stack(rows, 1).reshape(len(x), *shape, -1)


def near(found, expected) -> None:
    """Equal up to a few roundings of float32."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6 * max(1e-30, np.abs(expected).max()))
