"""Gains and biases of the integer graph as the scales and int32 biases of stock TFLite layers."""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export import ir

_INT32_LIMIT = (1 << 31) - 1
_DEAD_ROW = 2.0**-8  # multiplier of a row that is only a bias: it then keeps 8 fraction bits


@dataclasses.dataclass(frozen=True)
class StockWeights:
    """levels int8 [outputs, inputs] in -127..127, bias int32 [outputs], scales float32 [outputs] of the levels."""

    levels: np.ndarray
    bias: np.ndarray
    scales: np.ndarray


def stock_weights(
    op: ir.PackedDense | ir.Depthwise, levels: np.ndarray, x: ir.Quantization, y: ir.Quantization
) -> StockWeights:
    """Folds the gain of each output into the scale of its weights and the bias into accumulator units.

    levels: int [outputs, inputs]; x, y: quantization of the op's input and output. A row with a negative gain changes
    sign. Raises ir.GraphError where levels do not fit int8 or a bias does not fit int32.
    """
    rq = op.requantization
    reach = max(ir.INT8_MAX - x.zero_point, x.zero_point - ir.INT8_MIN)
    bound = np.abs(levels.astype(np.int64)).sum(axis=1) * reach
    multiplier = rq.gain.astype(np.float64) * rq.multiplier * 2.0**-rq.shift
    bias_steps = rq.bias.astype(np.float64) * 2.0 ** (rq.bias_shift - rq.shift)
    # Weights that cannot move the output by a quarter of a step are as good as none (a gain of zero, above all).
    dead = np.abs(multiplier) * bound < 0.25
    levels = np.where(dead[:, None], 0, np.where(multiplier < 0, -1, 1)[:, None] * levels)
    bias_steps = np.where(dead, np.floor(bias_steps + 0.5), bias_steps)  # a constant is never left halfway
    multiplier, bound = np.where(dead, _DEAD_ROW, np.abs(multiplier)), np.where(dead, 0, bound)
    if levels.min() < -127 or levels.max() > 127:
        raise ir.GraphError(
            f"{op.name}: integer weights {levels.min()}..{levels.max()} do not fit stock int8 weights (-127..127); "
            'train it with grid="mid-tread", or export it with ops="packed"'
        )
    bias, limit = np.floor(bias_steps / multiplier + 0.5), _INT32_LIMIT - bound
    # A bias beyond int32 may be cut off only where the output is saturated anyway.
    lost = (np.abs(bias) > limit) & (multiplier * (limit - bound) < 512)
    if lost.any():
        raise ir.GraphError(
            f"{op.name}: the bias {bias_steps[lost][0]:.6g} of output {int(lost.argmax())} does not fit int32 at "
            f'{multiplier[lost][0]:.6g} a step; export it with ops="packed"'
        )
    scales = (multiplier * y.scale / x.scale).astype(np.float32)
    return StockWeights(levels.astype(np.int8), np.clip(bias, -limit, limit).astype(np.int32), scales)


def pack_int4(levels: np.ndarray) -> np.ndarray:
    """uint8: two values a byte, the first in the low half; a zero fills the last byte."""
    nibbles = (levels.reshape(-1) & 15).astype(np.uint8)
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    return nibbles[0::2] | nibbles[1::2] << 4
