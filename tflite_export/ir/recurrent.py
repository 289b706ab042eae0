"""Recurrent layers: LSTM, GRU and the simple recurrent layer, as one op that carries its state from row to row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tflite_export.ir.types import INT8_MAX, INT8_MIN, Requantization, Tensor, Weights, require

CELLS: dict[str, int] = {"lstm": 4, "gru": 3, "gru_reset_after": 3, "simple": 1}
"""Gates of each kind of cell, in Keras' order: i, f, c, o; z, r, h. Places from 1 are their numbers in a file."""
PRE_ACTIVATION_SCALE = 2.0**-11
"""What one step of a gate's int16 pre-activation is worth, and one of an LSTM's cell state: -16 .. 16."""
MAX_SKIP = 65534
STATE_HEAD = 2
"""Bytes of a state ahead of its numbers: the rows that were skipped."""


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """A recurrent layer over the first axis, time: [time, channels] -> [time, units], or [units] of the last row.

    The two products of a row are requantized to int16 steps of ``PRE_ACTIVATION_SCALE``, each with its own bias, and
    added; the gates are tables of int16, see ``reference.recurrent``. The output has zero point 0 and a scale of
    1/128, or of another power of two from 1/2 on where the layer has fewer bits.

    Attributes:
      cell: one of ``CELLS``. "gru" resets the state ahead of the product with its weights, "gru_reset_after" behind.
      kernel, recurrent: weights [gates * units, channels] and [gates * units, units], of one width and grid.
      kernel_requantization, recurrent_requantization: accumulators to pre-activations; activation ranges are unused.
      sequences: whether each row is an output, or the last one only.
      keeps: whether the state is kept for the next call (a stream); else each call begins with zeros.
      state: name of an input with the state as bytes, instead; the output is then flat, with the next state behind it.
      skip: first rows after a reset that are no rows of the stream yet: they leave the state at zero.
    """

    name: str
    input: str
    output: str
    cell: str
    kernel: Weights
    kernel_requantization: Requantization
    recurrent: Weights
    recurrent_requantization: Requantization
    sequences: bool = True
    keeps: bool = False
    skip: int = 0
    state: str | None = None

    def __post_init__(self) -> None:
        require(self.cell in CELLS, self.name, f"cell must be one of {', '.join(CELLS)}, found {self.cell!r}")
        rows, units = self.recurrent.codes.shape
        gates = CELLS[self.cell]
        require(rows == gates * units, self.name, f"{self.cell} of {units} units has {gates} gates, found {rows} rows")
        require(len(self.kernel.codes) == rows, self.name, f"{len(self.kernel.codes)} rows of weights and {rows}")
        same = (self.kernel.bits, self.kernel.grid) == (self.recurrent.bits, self.recurrent.grid)
        require(same, self.name, "kernel and recurrent kernel must have one width and grid")
        for rq in (self.kernel_requantization, self.recurrent_requantization):
            require(len(rq.gain) == rows, self.name, f"{len(rq.gain)} gains for {rows} rows of weights")
            whole = (rq.activation_min, rq.activation_max) == (INT8_MIN, INT8_MAX)
            require(whole, self.name, "pre-activations have no range of their own")
        require(0 <= self.skip <= MAX_SKIP, self.name, f"skip out of 0..{MAX_SKIP}: {self.skip}")
        stateful = self.keeps or self.state is not None
        require(stateful or not self.skip, self.name, "only a layer that keeps its state skips rows")
        require(not (self.keeps and self.state), self.name, "keeps its state or is given it, not both")

    @property
    def units(self) -> int:
        """Numbers of the state and of a row of the output."""
        return self.recurrent.codes.shape[1]

    @property
    def state_bytes(self) -> int:
        """Bytes of a state: rows skipped, the last output, and an int16 for each unit; zeros at first."""
        return STATE_HEAD + 3 * self.units

    def checked_shape(self, inputs: Sequence[Tensor], y: Tensor) -> tuple[int, ...]:
        """Shape of the output; GraphError where inputs, weights, ranges or the output's steps do not suit."""
        x = inputs[0]
        if self.state is not None:
            given = (inputs[1].shape, inputs[1].quantization)
            require(given == ((self.state_bytes,), y.quantization), self.name, f"a state should not be {given}")
        require(len(x.shape) == 2, self.name, f"needs [time, channels], found {x.shape}")
        channels = self.kernel.codes.shape[1]
        require(channels == x.shape[1], self.name, f"has {channels} weights a row for {x.shape[1]} channels")
        good = y.quantization is not None and y.quantization.zero_point == 0
        require(good and output_one(y) is not None, self.name, "output must be 2^-1 .. 2^-7 around zero")
        if x.quantization is not None:
            reach = max(INT8_MAX - x.quantization.zero_point, x.quantization.zero_point - INT8_MIN)
            _check_sums(self.kernel, self.kernel_requantization, reach, self.name)
            _check_sums(self.recurrent, self.recurrent_requantization, -INT8_MIN, self.name)
        if self.state is not None:
            return ((x.shape[0] if self.sequences else 1) * self.units + self.state_bytes,)
        return (x.shape[0], self.units) if self.sequences else (self.units,)


def output_one(y: Tensor) -> int | None:
    """Steps of the real value 1: 2 .. 128 for an output of 2 .. 8 bits; None for another scale."""
    one = round(1.0 / y.quantization.scale)
    return one if one in (2, 4, 8, 16, 32, 64, 128) and one * y.quantization.scale == 1.0 else None


def _check_sums(weights: Weights, rq: Requantization, reach: int, where: str) -> None:
    bound = int(np.abs(weights.levels.astype(np.int64)).sum(axis=1).max()) * reach
    require(bound < 1 << 31, where, "the 32-bit accumulator could overflow; the layer has too many inputs")
    rq.check_range(bound, where)
