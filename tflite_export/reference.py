"""Runs an integer graph in numpy: the executable specification.

It multiplies integers by integers and never unpacks anything, so that a mistake in the packing cannot cancel
itself out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tflite_export import arithmetic, ir


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


def run_op(op: ir.Op, x: list[np.ndarray], graph: ir.Graph, state: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """One op on int8 arrays with a batch axis; returns int8. ``state`` holds the frames that rings keep, by output."""
    batch = len(x[0])
    z = [graph.tensors[name].quantization.zero_point for name in ir.op_inputs(op)]
    y = graph.tensors[op.output]
    zero_point = y.quantization.zero_point
    if isinstance(op, ir.PackedDense):
        out = arithmetic.requantize(_dense(op, x[0], z[0]), op.requantization, zero_point)
    elif isinstance(op, ir.Depthwise):
        out = arithmetic.requantize(_depthwise(op, x[0], z[0]), op.requantization, zero_point)
    elif isinstance(op, ir.Lookup):
        out = op.table[x[0].astype(np.int64) + 128]
    elif isinstance(op, ir.Softmax):
        out = arithmetic.softmax(x[0], op.table)
    elif isinstance(op, (ir.Add, ir.Multiply)):
        rank = max(v.ndim for v in x)
        n = [v.astype(np.int64).reshape(batch, *(1,) * (rank - v.ndim), *v.shape[1:]) - zi for v, zi in zip(x, z)]
        if isinstance(op, ir.Add):
            total = n[0] * op.multipliers[0] + n[1] * op.multipliers[1]
        else:
            total = n[0] * n[1] * op.multiplier
        rounded = zero_point + arithmetic.rounding_shift(total, op.shift)
        out = arithmetic.saturate(rounded, op.activation_min, op.activation_max)
    elif isinstance(op, ir.AveragePool):
        out = arithmetic.saturate(zero_point + _average(op, x[0], z[0]))
    elif isinstance(op, ir.MaxPool):
        out = windows(_pictures(x[0]), op.window, ir.INT8_MIN).max(axis=3)
    elif isinstance(op, ir.Concatenate):
        out = np.concatenate(x, axis=op.axis + 1)
    elif isinstance(op, ir.Transpose):
        out = np.transpose(x[0], (0, *(p + 1 for p in op.permutation)))
    elif isinstance(op, ir.Pad):
        out = np.pad(x[0], ((0, 0), *op.padding), constant_values=zero_point)
    elif isinstance(op, ir.Slice):
        out = x[0][:, op.begin : op.end : op.stride]
    elif isinstance(op, ir.Ring):
        shape = (batch, op.history, *x[0].shape[2:])
        kept = (state or {}).get(op.output, np.full(shape, zero_point, np.int8))
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
    state: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Runs the graph on int8 arrays [batch, ...] by input name; returns the outputs (or every tensor) by name.

    state: what the graph's rings keep from one call to the next: empty at first, changed here. Without it every call
    is a first one.

    Raises ir.GraphError where an input is missing or has another type or shape than the graph says.
    """
    values: dict[str, np.ndarray] = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if name not in feeds:
            raise ir.GraphError(f"input {name!r} is missing; the graph reads {', '.join(graph.inputs)}")
        x = np.asarray(feeds[name])
        if x.dtype != np.int8 or x.shape[1:] != tensor.shape:
            raise ir.GraphError(
                f"input {name!r}: needs int8 [batch, {', '.join(map(str, tensor.shape))}], found {x.dtype} {x.shape}"
            )
        values[name] = x
    for op in graph.ops:
        values[op.output] = run_op(op, [values[name] for name in ir.op_inputs(op)], graph, state)
    return values if all_tensors else {name: values[name] for name in graph.outputs}
