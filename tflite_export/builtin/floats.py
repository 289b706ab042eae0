# SPDX-License-Identifier: Apache-2.0
"""Ops of dynamic quantization as stock TFLite ops.

A dense layer becomes TFLite's hybrid FULLY_CONNECTED, which quantizes each row of float inputs to 8 bits as it runs and
multiplies integers. It knows weights of one scale and no zero point, so gains, biases and what a zero point adds are
float ops behind it:

    y = function(((codes - 128) x + (128 - zero) sum(x)) * gain + bias)

TFLite and LiteRT have hybrid kernels; TFLite Micro has none. Their rounding of a row is not that of ``reference``:
zero is among the values of a row there, and 0 gets a code of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tflite_export import ir
from tflite_export.builtin.pieces import WAY_OUT, Pieces

_FUSED = {"linear": "NONE", "relu": "RELU", "relu6": "RELU6"}
_FUNCTIONS = {"relu": "RELU", "relu6": "RELU6", "sigmoid": "LOGISTIC", "tanh": "TANH"}
_FULLY_CONNECTED_VERSION = 9


def write(writer: Pieces, op: ir.Op) -> None:
    """Adds one of ir.FLOAT_OPS; raises ir.GraphError where there is no stock op for it."""
    if isinstance(op, ir.DynamicDense):
        _dense(writer, op)
    elif isinstance(op, ir.FloatFunction):
        if op.function == "linear":
            raise ir.GraphError(f"{op.name}: a linear function changes nothing; leave it out")
        _function(writer, op.function, writer.as_plain(op.input), writer.output(op.output))
    elif isinstance(op, ir.FloatSoftmax):
        writer.emit("SOFTMAX", [writer.as_plain(op.input)], [writer.output(op.output)], "SoftmaxOptions", 1, beta=1.0)
    elif isinstance(op, ir.FloatDepthwise):
        _depthwise(writer, op)
    elif isinstance(op, ir.FloatAverage):
        _average(writer, op)
    else:
        builtin, options = ("ADD", "AddOptions") if isinstance(op, ir.FloatAdd) else ("MUL", "MulOptions")
        _pair(writer, op, builtin, options)


def _activation(writer: Pieces, op: ir.Op, name: str, shape: Sequence[int], make) -> None:
    """``make(output, fused activation)``, and the op's function behind it where no stock op fuses it."""
    if op.function in _FUSED:
        make(name, writer.activation(_FUSED[op.function]))
        return
    before = writer.model.add_activation(f"{op.name}/before_{op.function}", shape)
    make(before, writer.activation("NONE"))
    _function(writer, op.function, before, name)


def _function(writer: Pieces, function: str, source: int, target: int) -> None:
    writer.emit(_FUNCTIONS[function], [source], [target], version=1)


def _dense(writer: Pieces, op: ir.DynamicDense) -> None:
    weights = op.weights
    if weights.bits > 8 or op.input_bits != 8:
        raise ir.GraphError(
            f"{op.name}: stock hybrid kernels take 8-bit inputs and weights of up to 8 bits, found "
            f"{op.input_bits}-bit inputs and {weights.bits}-bit weights; {WAY_OUT}"
        )
    outputs, inputs = weights.codes.shape
    shape = writer.graph.tensors[op.output].shape
    levels = weights.levels
    fits = np.abs(levels).max() <= 127
    stored = levels if fits else weights.codes.astype(np.int64) - 128
    if stored.min() < -127:
        raise ir.GraphError(
            f"{op.name}: has the 8-bit code 0, int8 -128, which TFLite's hybrid kernel multiplies wrongly on x86; "
            "weights of dynamic_scheme never have it"
        )
    rows = _rows(writer, op)
    model = writer.model
    kernel = model.add_constant(f"{op.name}/weights", stored.astype(np.int8), scales=[1.0], zero_points=[0])
    total = model.add_activation(f"{op.name}/products", shape)
    fields = {
        "fusedActivationFunction": writer.activation("NONE"),
        "keepNumDims": len(shape) > 1,
        "asymmetricQuantizeInputs": True,
    }
    version = _FULLY_CONNECTED_VERSION
    writer.emit("FULLY_CONNECTED", [rows, kernel], [total], "FullyConnectedOptions", version, **fields)
    none = {"fusedActivationFunction": writer.activation("NONE")}
    if not fits:
        total = _add_row_sums(writer, op, rows, total, shape)
    gain = op.gain.astype(np.float32) * np.float32(op.gain_unit)
    gains = model.add_constant(f"{op.name}/gain", gain)
    to = writer.output(op.output)
    if op.bias is None:
        _activation(
            writer, op, to, shape,
            lambda y, fused: writer.emit("MUL", [total, gains], [y], "MulOptions", 1, fusedActivationFunction=fused),
        )  # fmt: skip
        return
    scaled = model.add_activation(f"{op.name}/scaled", shape)
    writer.emit("MUL", [total, gains], [scaled], "MulOptions", 1, **none)
    bias = model.add_constant(f"{op.name}/bias", op.bias.astype(np.float32) * np.float32(op.bias_unit))
    _activation(
        writer, op, to, shape,
        lambda y, fused: writer.emit("ADD", [scaled, bias], [y], "AddOptions", 1, fusedActivationFunction=fused),
    )  # fmt: skip


def _add_row_sums(writer: Pieces, op: ir.DynamicDense, rows: int, total: int, shape: tuple[int, ...]) -> int:
    """``total + sum(x) * (128 - zero)``: codes of 8 bits lie 128 too low in int8, whatever stands for zero."""
    model, none = writer.model, {"fusedActivationFunction": writer.activation("NONE")}
    sums = model.add_activation(f"{op.name}/row_sum", (*shape[:-1], 1))
    axis = writer.constant(f"{op.name}/last_axis", [len(shape)])
    writer.emit("SUM", [rows, axis], [sums], "ReducerOptions", 1, keepDims=True)
    factors = model.add_constant(f"{op.name}/zeros", (128 - op.weights.zeros).astype(np.float32))
    product, out = (model.add_activation(f"{op.name}/{part}", shape) for part in ("zero_term", "sum"))
    writer.emit("MUL", [sums, factors], [product], "MulOptions", 1, **none)
    writer.emit("ADD", [total, product], [out], "AddOptions", 1, **none)
    return out


def _rows(writer: Pieces, op: ir.DynamicDense) -> int:
    """A tensor whose last axis holds all that one output reads."""
    x, window = writer.graph.tensors[op.input], op.window
    source = writer.as_plain(op.input)
    if window is None:
        return source
    inputs = op.weights.codes.shape[1]
    if len(x.shape) != 2:
        raise ir.GraphError(f"{op.name}: hybrid kernels have no windows over height and width; {WAY_OUT}")
    before, after = window.padding[:2]
    time, channels = x.shape
    if before or after:
        time += before + after
        padded = writer.model.add_activation(f"{op.name}/padded", (time, channels))
        amounts = writer.constant(f"{op.name}/padding", [[0, 0], [before, after], [0, 0]])
        writer.emit("PAD", [source, amounts], [padded], "PadOptions", 1)
        source = padded
    places = writer.graph.tensors[op.output].shape[0]
    target = writer.model.add_activation(f"{op.name}/rows", (places, inputs))
    if places == 1 and window.dilation[0] == 1 and window.size[0] == time:
        writer.reshape(source, target, (1, inputs))
        return target
    taps = []
    for i in range(window.size[0]):
        begin = i * window.dilation[0]
        tap = writer.model.add_activation(f"{op.name}/tap{i}", (places, channels))
        taken = range(begin, begin + (places - 1) * window.stride[0] + 1, window.stride[0])
        writer.slice_axis(source, tap, f"{op.name}/tap{i}", taken, (time, channels))
        taps.append(tap)
    fields = {"axis": 2, "fusedActivationFunction": writer.activation("NONE")}
    writer.emit("CONCATENATION", taps, [target], "ConcatenationOptions", 1, **fields)
    return target


def _depthwise(writer: Pieces, op: ir.FloatDepthwise) -> None:
    window = op.window or ir.Window((1, 1))
    outputs, channels = op.kernel.shape[1], writer.graph.tensors[op.input].shape[-1]
    source, padding = writer.padded_picture(op, writer.as_picture(op.input), window)
    kernel = writer.model.add_constant(f"{op.name}/weights", op.kernel, shape=(1, *window.size, outputs))
    operands = [source, kernel, writer.model.add_constant(f"{op.name}/bias", op.bias)]
    fields = writer.window_fields(window, padding) | {"depthMultiplier": outputs // channels}

    def make(to: int, fused: int) -> None:
        options = fields | {"fusedActivationFunction": fused}
        writer.emit("DEPTHWISE_CONV_2D", operands, [to], "DepthwiseConv2DOptions", 2, **options)

    to = writer.output(op.output, True)
    _activation(writer, op, to, writer.picture_shape(op.output), make)


def _pair(writer: Pieces, op: ir.FloatAdd | ir.FloatMultiply, builtin: str, options: str) -> None:
    operands = writer.operands(op)

    def make(to: int, fused: int) -> None:
        writer.emit(builtin, operands, [to], options, 1, fusedActivationFunction=fused)

    _activation(writer, op, writer.output(op.output), writer.graph.tensors[op.output].shape, make)


def _average(writer: Pieces, op: ir.FloatAverage) -> None:
    height, width, _ = writer.picture_shape(op.input)
    padding = writer.stock_padding(op.window, height, width)
    if padding is None:
        raise ir.GraphError(f"{op.name}: the padding {op.window.padding} is neither SAME nor VALID; {WAY_OUT}")
    fields = writer.pool_fields(op, padding)
    source, to = writer.as_picture(op.input), writer.output(op.output, True)
    writer.emit("AVERAGE_POOL_2D", [source], [to], "Pool2DOptions", 1, **fields)
