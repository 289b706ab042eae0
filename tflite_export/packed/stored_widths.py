# SPDX-License-Identifier: Apache-2.0
"""Weights stored in more bits than they were trained at, for speed: the same integers, so the same outputs.

Codes of 3, 5, 6 and 7 bits do not fill bytes evenly. Kernels spend instructions on putting them together, more than
they save by reading fewer bytes: ``benchmarks/results/arm_kernels.json`` counts them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export import ir

PREFERENCES = ("size", "speed")
FASTER: dict[int, int] = {3: 4, 5: 8, 6: 8, 7: 8}
"""Widths by the width that they are stored in for speed; others are as fast as they are."""


def check(prefer: str, ops: str) -> None:
    """Raises ValueError for another preference, or for one that stock ops, whose weights are int8, do not know."""
    if prefer not in PREFERENCES:
        raise ValueError(f"prefer must be {' or '.join(map(repr, PREFERENCES))}, found {prefer!r}")
    if prefer != "size" and ops == "builtin":
        raise ValueError(
            f"prefer={prefer!r}: stock ops store every weight in 8 bits; take ops='packed', or leave it out"
        )


def for_speed(graph: ir.Graph) -> ir.Graph:
    """The graph with weights of 3 bits in 4, and of 5, 6 and 7 in 8.

    Raises:
        tflite_export.ir.GraphError: a layer has too many inputs for sums of 8-bit weights; the message names it.
    """
    return dataclasses.replace(graph, ops=tuple(_op_for_speed(op) for op in graph.ops))


def _op_for_speed(op: ir.Op) -> ir.Op:
    if isinstance(op, (ir.PackedDense, ir.Waveform)):
        return dataclasses.replace(op, weights=widened(op.weights))
    if isinstance(op, ir.DynamicDense):
        return dataclasses.replace(op, weights=_columns_widened(op.weights))
    if isinstance(op, ir.Recurrent):
        return dataclasses.replace(op, kernel=widened(op.kernel), recurrent=widened(op.recurrent))
    return op


def widened(weights: ir.Weights) -> ir.Weights:
    """The same levels in codes of as many bits as FASTER says.

    Levels of 3 bits keep their grid. Those of 5 to 7 bits, at most 127, become codes of 8 bits whose grid has a zero:
    ``level = code - 128``.
    """
    bits = FASTER.get(weights.bits, weights.bits)
    if bits == weights.bits:
        return weights
    grid = weights.grid if bits < 8 else "mid-tread"
    empty = ir.Weights(np.ones((1, 1), np.uint8), bits, grid)
    codes = (weights.levels + empty.b) // empty.a
    return ir.Weights(codes.astype(np.uint8), bits, grid)


def _columns_widened(weights: ir.ColumnWeights) -> ir.ColumnWeights:
    """As ``widened``; codes of the linear grid and their zeros stay what they are."""
    bits = FASTER.get(weights.bits, weights.bits)
    if bits == weights.bits:
        return weights
    if weights.grid == "linear":
        return dataclasses.replace(weights, bits=bits)
    wide = widened(ir.Weights(weights.codes.astype(np.uint8), weights.bits, weights.grid))
    return ir.ColumnWeights(wide.codes.astype(np.uint16), wide.bits, wide.grid)
