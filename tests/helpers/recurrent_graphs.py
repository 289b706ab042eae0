"""Graphs of recurrent layers, and the same layers in floats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tflite_export import ir


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer as floats: kernel [channels, rows], recurrent [units, rows], biases [rows], and its graph.

    The floats are what the graph's integers stand for.
    """

    graph: ir.Graph
    kernel: np.ndarray
    recurrent: np.ndarray
    biases: tuple[np.ndarray, np.ndarray]

    @property
    def op(self) -> ir.Recurrent:
        """The layer."""
        return next(op for op in self.graph.ops if isinstance(op, ir.Recurrent))


def random_parts(
    rng: np.random.Generator,
    cell: str,
    units: int,
    sizes: Sequence[tuple[int, float]],
    bits: int,
    grid: ir.Grid,
    loud: float = 1.0,
) -> list:
    """Weights and requantization of both kernels, of typical sizes.

    sizes: inputs, and what a step of them is worth, of the kernel and of the recurrent kernel.
    """
    rows, parts = ir.CELLS[cell] * units, []
    for number, (inputs, in_scale) in enumerate(sizes):
        weights = ir.Weights(rng.integers(grid == "mid-tread", 1 << bits, (rows, inputs)).astype(np.uint8), bits, grid)
        gain = rng.integers(1 << 12, 1 << 14, rows).astype(np.int16)
        biased = number == 0 or cell == "gru_reset_after"
        bias = rng.integers(-900, 900, rows).astype(np.int16) if biased else np.zeros(rows, np.int16)
        factor = (
            loud * 2.0 / np.sqrt(inputs) / np.abs(weights.levels).max() / 2**14 * in_scale / ir.PRE_ACTIVATION_SCALE
        )
        shift = int(np.clip(28 - np.ceil(np.log2(factor)), 1, 46))
        parts += [weights, ir.Requantization(gain, bias, round(factor * 2**shift), shift, shift)]
    return parts


def random_case(
    cell: str,
    bits: int = 8,
    *,
    units: int = 5,
    channels: int = 6,
    time: int = 7,
    sequences: bool = True,
    zero_point: int = 0,
    output_bits: int = 8,
    grid: str | None = None,
    memory: float = 0.0,
    loud: float = 1.0,
    seed: int = 0,
    **fields: object,
) -> Case:
    """A layer of random weights and biases, input steps of 1/32.

    memory: is added to the bias of the gates that keep the state.
    loud: times what typical gains are.
    """
    scale, own = 1 / 32, 2.0 ** (1 - output_bits)
    grid = grid or ("mid-tread" if bits == 8 else "mid-rise")
    sizes = ((channels, scale), (units, own))
    parts = random_parts(np.random.default_rng(seed), cell, units, sizes, bits, grid, loud)
    keeps = {"lstm": slice(units, 2 * units), "simple": slice(0)}.get(cell, slice(units))
    parts[1].bias[keeps] += round(memory / ir.PRE_ACTIVATION_SCALE)
    floats = []
    for (weights, rq), (_, in_scale) in zip((parts[:2], parts[2:]), sizes):
        unit = rq.multiplier / 2**rq.shift * ir.PRE_ACTIVATION_SCALE / in_scale
        real = weights.levels * rq.gain[:, None].astype(np.float64) * unit
        floats.append((real, rq.bias * ir.PRE_ACTIVATION_SCALE))
    shape = (time, units) if sequences else (units,)
    tensors = {
        "x": ir.Tensor("x", (time, channels), ir.Quantization(scale, zero_point)),
        "y": ir.Tensor("y", shape, ir.Quantization(own, 0)),
    }
    op = ir.Recurrent("y", "x", "y", cell, *parts, sequences=sequences, **fields)
    graph = ir.Graph(tensors, (op,), ("x",), ("y",))
    return Case(graph, floats[0][0].T, floats[1][0].T, (floats[0][1], floats[1][1]))


def values(case: Case, batch: int = 2, seed: int = 1) -> np.ndarray:
    """int8 inputs [batch, time, channels]."""
    shape = (batch, *case.graph.tensors["x"].shape)
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def float_outputs(case: Case, x: np.ndarray, state_bits: int | None = None) -> np.ndarray:
    """float64 outputs [batch, time, units] of real inputs, by Keras' formulas.

    state_bits: rounds an LSTM's cell (-16 .. 16) or a GRU's state (-1 .. 1) to so many bits at each row.
    """
    op, h = case.op, np.zeros((len(x), case.op.units))
    c = h

    def rounded(value: np.ndarray, reach: float) -> np.ndarray:
        step = 2 * reach / 2**state_bits if state_bits else 0
        return np.round(value / step) * step if state_bits else value

    outputs = []
    for at in range(x.shape[1]):
        row = x[:, at] @ case.kernel + case.biases[0]
        product = h @ case.recurrent + case.biases[1]
        u = op.units
        if op.cell == "simple":
            h = np.tanh(row + product)
        elif op.cell == "lstm":
            i, f, g, o = np.split(row + product, 4, -1)
            c = rounded(_sigmoid(f) * c + _sigmoid(i) * np.tanh(g), 16.0)
            h = _sigmoid(o) * np.tanh(c)
        else:
            z, r = np.split(_sigmoid(row[:, : 2 * u] + product[:, : 2 * u]), 2, -1)
            if op.cell == "gru_reset_after":
                more = r * product[:, 2 * u :]
            else:
                more = (r * h) @ case.recurrent[:, 2 * u :]
            h = rounded(z * h + (1 - z) * np.tanh(row[:, 2 * u :] + more), 1.0)
        outputs.append(h)
    return np.stack(outputs, 1)
