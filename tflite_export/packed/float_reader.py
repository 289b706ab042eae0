# SPDX-License-Identifier: Apache-2.0
"""Ops of dynamic quantization in a .tflite file, as ops of the graph: the inverse of what ``writer`` does."""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export import ir
from tflite_export.flatbuffer.reader import FormatError, Tensor
from tflite_export.packed import packing
from tflite_export.packed.op_options import GRIDS, Kind, Options

FLOAT32, UINT8 = 0, 3
CONSTANTS = {Kind.PACKED_DENSE: 2, Kind.DEPTHWISE: 2}
"""Constants that a kind reads besides activations; others read none."""


def read_op(o: Options, x: list[str], constants: list[Tensor], y: str) -> ir.Op:
    """The op with options ``o``, activations ``x`` and output ``y``; raises FormatError where they do not agree."""
    wanted = (2 if o.kind in (Kind.ADD, Kind.MULTIPLY) else 1, CONSTANTS.get(o.kind, 0))
    if (len(x), len(constants)) != wanted:
        raise FormatError(f"{y}: {o.kind.name} has {len(x)} activations and {len(constants)} constants")
    _check_used(o, y)
    function = ir.FUNCTIONS[o.function]
    if o.kind is Kind.PACKED_DENSE:
        return _dense(o, x[0], constants, y)
    if o.kind is Kind.DEPTHWISE:
        kernel, bias = (_floats(t, y) for t in constants)
        if kernel.size != o.inputs * o.outputs:
            raise FormatError(f"{y}: a kernel of {o.inputs} x {o.outputs} has {kernel.size} values")
        return ir.FloatDepthwise(y, x[0], y, kernel.reshape(o.inputs, o.outputs), bias, function, o.window)
    if o.kind is Kind.LOOKUP:
        return ir.FloatFunction(y, x[0], y, function)
    if o.kind is Kind.SOFTMAX:
        return ir.FloatSoftmax(y, x[0], y)
    if o.kind is Kind.ADD:
        return ir.FloatAdd(y, (x[0], x[1]), y, function)
    if o.kind is Kind.MULTIPLY:
        return ir.FloatMultiply(y, (x[0], x[1]), y, function)
    if o.kind is Kind.AVERAGE_POOL:
        return ir.FloatAverage(y, x[0], y, o.window)
    return ir.MaxPool(y, x[0], y, o.window)


def _check_used(o: Options, where: str) -> None:
    """Every field that the kind does not use must be as ``Options`` leaves it."""
    used = {"kind", "dynamic"}
    if o.kind is Kind.PACKED_DENSE:
        used |= {"bits", "grid", "gain_bytes", "bias_bytes", "sum_bytes", "units", "input_bits"}
    if o.kind in (Kind.PACKED_DENSE, Kind.DEPTHWISE):
        used |= {"outputs", "inputs"}
    if o.kind not in (Kind.SOFTMAX, Kind.AVERAGE_POOL, Kind.MAX_POOL):
        used |= {"function"}
    if o.kind in (Kind.PACKED_DENSE, Kind.DEPTHWISE, Kind.AVERAGE_POOL, Kind.MAX_POOL):
        used |= {"window"}
    for field in dataclasses.fields(o):
        if field.name not in used and getattr(o, field.name) != field.default:
            raise FormatError(f"{where}: {o.kind.name} does not use {field.name}, which is not 0; the file is damaged")
    if o.kind in (Kind.AVERAGE_POOL, Kind.MAX_POOL) and o.window is None:
        raise FormatError(f"{where}: {o.kind.name} must have a window; the file is damaged")


def _dense(o: Options, x: str, constants: list[Tensor], y: str) -> ir.DynamicDense:
    if o.gain_bytes not in (1, 2) or o.bias_bytes not in (0, 1, 2) or o.sum_bytes not in (2, 4):
        raise FormatError(
            f"{y}: gains, biases and sums of {o.gain_bytes}, {o.bias_bytes} and {o.sum_bytes} bytes, should be 1 or 2, "
            "0 to 2, and 2 or 4"
        )
    packed = _data(constants[0], UINT8, y)
    codes = packing.unpack_tight(packed, o.outputs, o.inputs, o.bits)
    if packing.pack_tight(codes, o.bits) != packed:
        raise FormatError(f"{y}: the weights have a spare bit set; the file is damaged")
    linear = GRIDS[o.grid] == "linear"
    zero_bytes = 0 if not linear else 2 if o.bits > 8 else 1
    data = _data(constants[1], UINT8, y)
    widths = (o.gain_bytes, o.bias_bytes, o.sum_bytes, zero_bytes)
    if len(data) != o.outputs * sum(widths):
        raise FormatError(f"{y}: channel parameters of {o.outputs} outputs have {len(data)} bytes")
    parts, start = [], 0
    for width in widths:
        parts.append(data[start : start + o.outputs * width])
        start += o.outputs * width
    zeros = np.frombuffer(parts[3], f"<u{zero_bytes}").astype(np.int32) if linear else None
    weights = ir.ColumnWeights(codes, o.bits, GRIDS[o.grid], zeros)
    if (np.frombuffer(parts[2], f"<i{o.sum_bytes}") != weights.levels.sum(axis=1)).any():
        raise FormatError(f"{y}: the sums of weights are not those of the weights; the file is damaged")
    gain = np.frombuffer(parts[0], f"<i{o.gain_bytes}").astype(np.int16)
    bias = np.frombuffer(parts[1], f"<i{o.bias_bytes}").astype(np.int16) if o.bias_bytes else None
    gain_unit, bias_unit = o.units
    return ir.DynamicDense(
        y, x, y, weights, o.input_bits, gain, gain_unit, bias, bias_unit, ir.FUNCTIONS[o.function], o.window
    )


def _floats(tensor: Tensor, where: str) -> np.ndarray:
    data = _data(tensor, FLOAT32, where)
    if len(data) % 4:
        raise FormatError(f"{where}: constant {tensor.name!r} of float32 has {len(data)} bytes")
    return np.frombuffer(data, "<f4")


def _data(tensor: Tensor, type_number: int, where: str) -> bytes:
    if tensor.type != type_number:
        raise FormatError(f"{where}: constant {tensor.name!r} has element type {tensor.type}, should be {type_number}")
    return tensor.data
