# SPDX-License-Identifier: Apache-2.0
"""Quantized filters over samples of Keras as ops of the graph."""

from __future__ import annotations

import numpy as np

from tflite_export import ir
from tflite_export.from_keras.requantization import requantization_of
from tfmot_kws.quantize.waveform import QuantizedWaveform


def op_of(layer: QuantizedWaveform, x: ir.Tensor, y: ir.Quantization, out: str) -> ir.Waveform:
    """The op of a layer.

    Args:
      layer: in stage 2.
      x: its input, samples.
      y: quantization of its output.
      out: name of the op and its output.
    """
    integers = layer.integers(x.quantization.scale)
    weights = ir.Weights(np.ascontiguousarray(integers.codes.T), layer.weight_bits, layer.weight_grid)
    filters = layer.filters
    rq = requantization_of(integers, y)
    return ir.Waveform(out, x.name, out, weights, rq, filters.stride, filters.average, layer.floor_steps())
