"""Quantized recurrent layers of Keras as ops of the graph."""

from __future__ import annotations

import numpy as np

from tflite_export import ir
from tfmot_kws.quantize.layers import LayerIntegers
from tfmot_kws.quantize.recurrent import QuantizedRecurrent


def op_of(layer: QuantizedRecurrent, in_scale: float, x: str, y: str) -> ir.Recurrent:
    """The op of a layer.

    Args:
      layer: in stage 2.
      in_scale: of its input.
      x, y: names of its input and output.
    """
    kernel, recurrent = layer.integers(in_scale)
    parts = [part for v in (kernel, recurrent) for part in (_weights(layer, v), _requantization(v))]
    return ir.Recurrent(y, x, y, layer.cell, *parts, sequences=layer.sequences)


def _weights(layer: QuantizedRecurrent, v: LayerIntegers) -> ir.Weights:
    return ir.Weights(np.ascontiguousarray(v.codes.T), layer.weight_bits, layer.weight_grid)


def _requantization(v: LayerIntegers) -> ir.Requantization:
    return ir.Requantization(v.gain, v.bias, v.multiplier, v.bias_shift, v.shift)
