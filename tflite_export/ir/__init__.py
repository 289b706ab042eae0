"""The integer graph, the waist of the project: ``from tflite_export import ir`` gives all of its parts."""

from __future__ import annotations

from tflite_export.ir.floats import (
    FUNCTIONS,
    ColumnWeights,
    DynamicDense,
    FloatAdd,
    FloatAverage,
    FloatDepthwise,
    FloatFunction,
    FloatMultiply,
    FloatSoftmax,
    Function,
)
from tflite_export.ir.graph import (
    FLOAT_OPS,
    MAX_HISTORY,
    MOVES,
    Add,
    AveragePool,
    Concatenate,
    Depthwise,
    Graph,
    Lookup,
    MaxPool,
    Multiply,
    Op,
    PackedDense,
    Pad,
    Reshape,
    Ring,
    Slice,
    Softmax,
    Transpose,
    op_inputs,
    picture,
    windowed_shape,
)
from tflite_export.ir.recurrent import CELLS, PRE_ACTIVATION_SCALE, Recurrent
from tflite_export.ir.types import (
    INT8_MAX,
    INT8_MIN,
    INT16_MAX,
    INT16_MIN,
    MAX_SHIFT,
    GraphError,
    Grid,
    Quantization,
    Requantization,
    Tensor,
    Weights,
    Window,
)
from tflite_export.ir.waveform import LOG_BITS, SAMPLE_SCALE, Waveform

__all__ = [
    "CELLS", "FLOAT_OPS", "FUNCTIONS", "INT16_MAX", "INT16_MIN", "INT8_MAX", "INT8_MIN", "LOG_BITS", "MAX_HISTORY",
    "MAX_SHIFT", "MOVES", "PRE_ACTIVATION_SCALE", "SAMPLE_SCALE", "Add", "AveragePool", "ColumnWeights", "Concatenate",
    "Depthwise", "DynamicDense", "FloatAdd", "FloatAverage", "FloatDepthwise", "FloatFunction", "FloatMultiply",
    "FloatSoftmax", "Function", "Graph", "GraphError", "Grid", "Lookup", "MaxPool", "Multiply", "Op", "PackedDense",
    "Pad", "Quantization", "Recurrent", "Requantization", "Reshape", "Ring", "Slice", "Softmax", "Tensor", "Transpose",
    "Waveform", "Weights", "Window", "op_inputs", "picture", "windowed_shape",
]  # fmt: skip
