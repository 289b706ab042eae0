"""What turns a layer's sums into its outputs, as the graph has it."""

from __future__ import annotations

from tflite_export import ir
from tfmot_kws.quantize.layers import LayerIntegers


def requantization_of(integers: LayerIntegers, y: ir.Quantization) -> ir.Requantization:
    """Constants of a layer, for an output of that quantization."""
    return ir.Requantization(
        gain=integers.gain,
        bias=integers.bias,
        multiplier=integers.multiplier,
        bias_shift=integers.bias_shift,
        shift=integers.shift,
        activation_min=integers.steps_min + y.zero_point,
        activation_max=integers.steps_max + y.zero_point,
    )
