"""Runs a graph in numpy: the executable specification.

It multiplies integers by integers and never unpacks anything, so that a mistake in the packing cannot cancel
itself out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tflite_export import ir
from tflite_export.reference import arithmetic, float_arithmetic, recurrent, waveform


def _pictures(x: np.ndarray) -> np.ndarray:
    """[batch, time, channels] or [batch, height, width, channels] -> the latter."""
    return x[:, :, None, :] if x.ndim == 3 else x


def windows(x: np.ndarray, window: ir.Window, fill: int) -> np.ndarray:
    """[batch, h, w, c] -> [batch, out_h, out_w, taps, c]; places outside the picture hold ``fill``."""
    top, bottom, left, right = window.padding
    out_h, out_w = window.output_size(x.shape[1], x.shape[2])
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    taps = []
    for i in range(window.size[0]):
        for j in range(window.size[1]):
            rows = i * window.dilation[0] + np.arange(out_h) * window.stride[0]
            cols = j * window.dilation[1] + np.arange(out_w) * window.stride[1]
            taps.append(x[:, rows][:, :, cols])
    return np.stack(taps, axis=3)


def _dense(op: ir.PackedDense, x: np.ndarray, zero_point: int) -> np.ndarray:
    x = x.astype(np.int64) - zero_point
    if op.window:
        x = windows(_pictures(x), op.window, 0)
        x = x.reshape(*x.shape[:3], -1)
    # float64 products and sums of these integers are exact (below 2^53) and far faster than integer matmul
    return np.matmul(x.astype(np.float64), op.weights.levels.T.astype(np.float64)).astype(np.int64)


def _depthwise(op: ir.Depthwise, x: np.ndarray, zero_point: int) -> np.ndarray:
    x = np.repeat(x.astype(np.int64) - zero_point, op.levels.shape[1] // x.shape[-1], axis=-1)
    if op.window is None:
        return x * op.levels[0].astype(np.int64)
    return (windows(_pictures(x), op.window, 0) * op.levels.astype(np.int64)).sum(axis=3)


def _average(op: ir.AveragePool, x: np.ndarray, zero_point: int) -> np.ndarray:
    x = _pictures(x).astype(np.int64) - zero_point
    count = windows(np.ones_like(x[:1, :, :, :1]), op.window, 0).sum(axis=3)
    return arithmetic.rounded_mean(windows(x, op.window, 0).sum(axis=3), count, op.multiplier, op.shift)


def _dynamic_dense(op: ir.DynamicDense, x: np.ndarray) -> np.ndarray:
    if op.window:
        x = windows(_pictures(x), op.window, 0)
        x = x.reshape(*x.shape[:3], -1)
    f, levels = np.float32, op.weights.levels
    rows = float_arithmetic.quantize_rows(x, op.input_bits)
    total = _exact_products(rows.codes, levels).astype(f)
    s = rows.scale * total + rows.low * levels.sum(axis=1).astype(f)
    y = s * (op.gain.astype(f) * f(op.gain_unit))
    if op.bias is not None:
        y = y + op.bias.astype(f) * f(op.bias_unit)
    return float_arithmetic.activate(y, op.function)


def _exact_products(codes: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """int64 sums of codes [..., inputs] times levels [outputs, inputs], below 2^53, by float64 as in ``_dense``."""
    return np.matmul(codes.astype(np.float64), levels.T.astype(np.float64)).astype(np.int64)


def _float_depthwise(op: ir.FloatDepthwise, x: np.ndarray) -> np.ndarray:
    x = np.repeat(x, op.kernel.shape[1] // x.shape[-1], axis=-1)
    taps = x[..., None, :] if op.window is None else windows(_pictures(x), op.window, 0)
    total = np.zeros_like(taps[..., 0, :])
    for i, kernel in enumerate(op.kernel):
        total = total + taps[..., i, :] * kernel
    return float_arithmetic.activate(total + op.bias, op.function)


def _float_average(op: ir.FloatAverage, x: np.ndarray) -> np.ndarray:
    x = _pictures(x)
    count = windows(np.ones_like(x[:1, :, :, :1]), op.window, 0).sum(axis=3)
    taps = windows(x, op.window, 0)
    total = np.zeros_like(taps[..., 0, :])
    for i in range(taps.shape[3]):
        total = total + taps[..., i, :]
    return total / np.maximum(count, np.float32(1))


def _run_float_op(op: ir.Op, x: list[np.ndarray]) -> np.ndarray:
    if isinstance(op, ir.DynamicDense):
        return _dynamic_dense(op, x[0])
    if isinstance(op, ir.FloatFunction):
        return float_arithmetic.activate(x[0], op.function)
    if isinstance(op, ir.FloatSoftmax):
        return float_arithmetic.softmax(x[0])
    if isinstance(op, ir.FloatDepthwise):
        return _float_depthwise(op, x[0])
    if isinstance(op, ir.FloatAverage):
        return _float_average(op, x[0])
    a, b = _aligned(x)
    return float_arithmetic.activate(a + b if isinstance(op, ir.FloatAdd) else a * b, op.function)


def _aligned(x: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays of one rank, whose axes broadcast sample by sample."""
    rank = max(v.ndim for v in x)
    return [v.reshape(len(v), *(1,) * (rank - v.ndim), *v.shape[1:]) for v in x]


def run_op(op: ir.Op, x: list[np.ndarray], graph: ir.Graph, state: dict[str, Any] | None = None) -> np.ndarray:
    """One op on int8, int16 or float32 arrays with a batch axis; returns such an array.

    ``state`` holds the frames that rings keep and the states of recurrent layers, by output.
    """
    batch = len(x[0])
    z = [graph.tensors[name].zero for name in ir.op_inputs(op)]
    y = graph.tensors[op.output]
    zero_point = y.zero
    if isinstance(op, ir.FLOAT_OPS):
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):  # NaN and infinity are inputs too
            out = _run_float_op(op, x)
    elif isinstance(op, ir.PackedDense):
        out = arithmetic.requantize(_dense(op, x[0], z[0]), op.requantization, zero_point)
    elif isinstance(op, ir.Recurrent):
        kept = (state or {}).get(op.output) if op.keeps else None
        if op.state is not None:
            kept = recurrent.from_bytes(x[1], op.units)
        out, kept = recurrent.run(op, x[0], z[0], y, kept)
        if op.state is not None:
            out = np.concatenate([out.reshape(batch, -1), recurrent.to_bytes(kept)], axis=1)
        if state is not None and op.keeps:
            state[op.output] = kept
    elif isinstance(op, ir.Waveform):
        out = waveform.run(op, x[0], zero_point)
    elif isinstance(op, ir.Depthwise):
        out = arithmetic.requantize(_depthwise(op, x[0], z[0]), op.requantization, zero_point)
    elif isinstance(op, ir.Lookup):
        out = op.table[x[0].astype(np.int64) + 128]
    elif isinstance(op, ir.Softmax):
        out = arithmetic.softmax(x[0], op.table)
    elif isinstance(op, (ir.Add, ir.Multiply)):
        n = [v.astype(np.int64) - zi for v, zi in zip(_aligned(x), z)]
        if isinstance(op, ir.Add):
            total = n[0] * op.multipliers[0] + n[1] * op.multipliers[1]
        else:
            total = n[0] * n[1] * op.multiplier
        rounded = zero_point + arithmetic.rounding_shift(total, op.shift)
        out = arithmetic.saturate(rounded, op.activation_min, op.activation_max)
    elif isinstance(op, ir.AveragePool):
        out = arithmetic.saturate(zero_point + _average(op, x[0], z[0]))
    elif isinstance(op, ir.MaxPool):
        least = ir.INT8_MIN if y.quantization else np.float32(-np.inf)
        out = np.fmax.reduce(windows(_pictures(x[0]), op.window, least), axis=3, initial=least)
    elif isinstance(op, ir.Concatenate):
        out = np.concatenate(x, axis=op.axis + 1)
    elif isinstance(op, ir.Transpose):
        out = np.transpose(x[0], (0, *(p + 1 for p in op.permutation)))
    elif isinstance(op, ir.Pad):
        out = np.pad(x[0], ((0, 0), *op.padding), constant_values=zero_point)
    elif isinstance(op, ir.Slice):
        out = x[0][(*(slice(None),) * (op.axis + 1), slice(op.begin, op.end, op.stride))]
    elif isinstance(op, ir.Ring):
        shape = (batch, op.history, *x[0].shape[2:])
        kept = (state or {}).get(op.output, np.full(shape, zero_point, y.dtype))
        out = np.concatenate([kept, x[0]], axis=1)
        if state is not None:
            state[op.output] = out[:, -op.history :]
    else:
        out = x[0]
    return out.reshape(batch, *y.shape)


def run(
    graph: ir.Graph,
    feeds: Mapping[str, np.ndarray],
    all_tensors: bool = False,
    state: dict[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Runs the graph on arrays [batch, ...] by input name; returns the outputs (or every tensor) by name.

    Arrays have the type of their tensor, int8, int16 or float32.

    state: what the graph's rings and recurrent layers keep from one call to the next: empty at first, changed here.
    Without it every call is a first one.

    Raises ir.GraphError where an input is missing or has another type or shape than the graph says.
    """
    values: dict[str, np.ndarray] = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if name not in feeds:
            raise ir.GraphError(f"input {name!r} is missing; the graph reads {', '.join(graph.inputs)}")
        x = np.asarray(feeds[name])
        if x.dtype != tensor.dtype or x.shape[1:] != tensor.shape:
            raise ir.GraphError(
                f"input {name!r}: needs {tensor.dtype} [batch, {', '.join(map(str, tensor.shape))}], "
                f"found {x.dtype} {x.shape}"
            )
        values[name] = x
    for op in graph.ops:
        values[op.output] = run_op(op, [values[name] for name in ir.op_inputs(op)], graph, state)
    return values if all_tensors else {name: values[name] for name in graph.outputs}
