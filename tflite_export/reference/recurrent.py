"""Recurrent layers in integers, defined once: tables, gates and cells.

``kernels/ops/recurrent.c`` is the C twin and ``tfmot_kws/quantize/recurrent_math.py`` the one that training runs; tests
hold all three together. Numbers and what one step of each is worth:

=============================== ======= ========
pre-activations, an LSTM's cell int16   2^-11
gates, tanh                     int32   2^-15
a GRU's state                   int16   2^-15
output, what is multiplied next int8    1 / one
=============================== ======= ========
"""

from __future__ import annotations

import numpy as np

from tflite_export import ir
from tflite_export.ir.recurrent import STATE_HEAD, output_one
from tflite_export.reference.arithmetic import rounding_shift, saturate

INT16_MIN, INT16_MAX = -(1 << 15), (1 << 15) - 1
TANH_TABLE = np.floor(2.0**15 * np.tanh(np.arange(257) / 32.0) + 0.5).astype(np.int64)
"""``round(2^15 tanh(i / 32))``, i = 0 .. 256: the half of tanh that tables need, for tanh is odd."""


def tanh(x: np.ndarray) -> np.ndarray:
    """2^15 tanh(x / 2^12) of whole numbers: the table, with straight lines between its entries; -2^15 .. 2^15."""
    size = np.minimum(np.abs(x), 1 << 15)
    place = np.minimum(size >> 7, 255)
    low, part = TANH_TABLE[place], size - (place << 7)
    value = low + (((TANH_TABLE[place + 1] - low) * part + 64) >> 7)
    return np.where(x < 0, -value, value)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """2^15 sigmoid(x / 2^11): ``(1 + tanh(x / 2)) / 2``; 0 .. 2^15."""
    return ((1 << 15) + tanh(x) + 1) >> 1


def pre_activation(acc: np.ndarray, rq: ir.Requantization) -> np.ndarray:
    """int16 steps (as int64) of accumulators [..., gates * units]: one rounding, saturated."""
    total = acc.astype(np.int64) * (rq.gain.astype(np.int64) * rq.multiplier)
    total = total + (rq.bias.astype(np.int64) << np.int64(rq.bias_shift))
    return narrow(rounding_shift(total, rq.shift))


def narrow(x: np.ndarray) -> np.ndarray:
    """Clipped to int16."""
    return np.clip(x, INT16_MIN, INT16_MAX)


def step(op: ir.Recurrent, one: int, row: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, c) behind a row.

    Args:
      op: the layer.
      one: steps of the value 1 of its output.
      row: int64 pre-activations [batch, gates * units] of the row's product with the kernel.
      h: int64 [batch, units], the last output.
      c: int64 [batch, units], an LSTM's cell or a GRU's state.
    """
    recurrent = _products(op.recurrent, h)
    if op.cell == "simple":
        z = narrow(row + pre_activation(recurrent, op.recurrent_requantization))
        return _output(tanh(2 * z) * one, 15, one), c
    if op.cell == "lstm":
        z = narrow(row + pre_activation(recurrent, op.recurrent_requantization))
        i, f, g, o = np.split(z, 4, axis=-1)
        c = narrow(rounding_shift(sigmoid(f) * c * 16 + sigmoid(i) * tanh(2 * g), 19))
        return _output(sigmoid(o) * tanh(2 * c) * one, 30, one), c
    units = op.units
    product = pre_activation(recurrent, op.recurrent_requantization)
    gates = sigmoid(narrow(row[:, : 2 * units] + product[:, : 2 * units]))
    update, reset = np.split(gates, 2, axis=-1)
    if op.cell == "gru_reset_after":
        more = narrow(rounding_shift(reset * product[:, 2 * units :], 15))
    else:
        kept = _output(reset * c * one, 30, one)
        more = pre_activation(_products(op.recurrent, kept), op.recurrent_requantization)[:, 2 * units :]
    candidate = tanh(2 * narrow(row[:, 2 * units :] + more))
    c = narrow(rounding_shift(update * c + ((1 << 15) - update) * candidate, 15))
    return _output(c * one, 15, one), c


def _products(weights: ir.Weights, x: np.ndarray) -> np.ndarray:
    # float64 products and sums of these integers are exact (below 2^53) and far faster than integer matmul
    return np.matmul(x.astype(np.float64), weights.levels.T.astype(np.float64)).astype(np.int64)


def _output(value: np.ndarray, shift: int, one: int) -> np.ndarray:
    return np.clip(rounding_shift(value, shift), -one, one - 1)


def to_bytes(state: State) -> np.ndarray:
    """int8 [batch, bytes] of a state, as files and kernels have it: rows skipped, h, c."""
    h, c, skipped = state
    head = np.full((len(h), 1), skipped).astype("<u2").view(np.int8)
    return np.concatenate([head, h.astype(np.int8), np.ascontiguousarray(c.astype("<i2")).view(np.int8)], axis=1)


def from_bytes(data: np.ndarray, units: int) -> State:
    """The state of such bytes [1, bytes]."""
    data = np.ascontiguousarray(data)
    end = STATE_HEAD + units
    skipped = int(np.ascontiguousarray(data[:1, :STATE_HEAD]).view("<u2")[0, 0])
    c = np.ascontiguousarray(data[:, end:]).view("<i2")
    return data[:, STATE_HEAD:end].astype(np.int64), c.astype(np.int64), skipped


State = tuple[np.ndarray, np.ndarray, int]
"""h, c and how many rows were skipped."""


def run(
    op: ir.Recurrent, x: np.ndarray, zero_point: int, y: ir.Tensor, state: State | None = None
) -> tuple[np.ndarray, State]:
    """int8 output [batch, time, units] or [batch, units] of int8 rows [batch, time, channels], and the state behind.

    Args:
      op: the layer.
      x: rows.
      zero_point: of x.
      y: the output's tensor.
      state: from the last call; zeros where None.
    """
    batch, one = len(x), output_one(y)
    zeros = np.zeros((batch, op.units), np.int64)
    h, c, skipped = state if state is not None else (zeros, zeros, 0)
    rows = pre_activation(_products(op.kernel, x.astype(np.int64) - zero_point), op.kernel_requantization)
    outputs = []
    for at in range(x.shape[1]):
        if skipped < op.skip:
            skipped += 1
        else:
            h, c = step(op, one, rows[:, at], h, c)
        outputs.append(h)
    out = np.stack(outputs, axis=1) if op.sequences else h
    return saturate(out), (h, c, skipped)
