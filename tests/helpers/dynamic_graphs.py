"""Whole graphs of dynamic quantization for tests; ``dynamic_cases`` has single ops."""

from __future__ import annotations

import dataclasses

import dynamic_cases
import numpy as np
from dynamic_cases import WIDTHS

from tflite_export import ir

__all__ = ["WIDTHS", "between", "dense", "f32", "feed", "floats", "single", "spotter", "weights"]


def f32(value: float) -> float:
    """The nearest float32 as a Python float."""
    return float(np.float32(value))


def floats(name: str, *shape: int) -> ir.Tensor:
    """A float tensor."""
    return ir.Tensor(name, shape, None)


def weights(rng: np.random.Generator, outputs: int, inputs: int, bits: int, grid: str) -> ir.ColumnWeights:
    """Random codes; linear ones of 8 bits use 1..255, as training makes them."""
    made = dynamic_cases.weights(rng, outputs, inputs, bits, grid)
    if grid != "linear" or bits != 8:
        return made
    return dataclasses.replace(made, codes=np.maximum(made.codes, 1), zeros=np.maximum(made.zeros, 1))


def dense(
    rng: np.random.Generator,
    x: str,
    y: str,
    outputs: int,
    inputs: int,
    bits: int = 8,
    input_bits: int | None = None,
    grid: str = "linear",
    bias: bool = True,
    function: str = "linear",
    window: ir.Window | None = None,
) -> ir.DynamicDense:
    """A layer whose outputs are mostly between -3 and 3 for inputs around 1."""
    made = weights(rng, outputs, inputs, bits, grid)
    reach = np.abs(made.levels).max() * np.sqrt(inputs) * 32767
    steps = rng.integers(-32767, 32768, (2, outputs)).astype(np.int16)
    bits_of_input = input_bits or (16 if bits == 16 else 8)
    bias_unit = f32(1 / 32767) if bias else 0.0
    return ir.DynamicDense(
        y, x, y, made, bits_of_input, steps[0], f32(4 / reach), steps[1] if bias else None, bias_unit, function,
        window,
    )  # fmt: skip


def single(op: ir.Op, *shapes: tuple[int, ...]) -> ir.Graph:
    """A graph of one op with inputs of those shapes, called as the op calls them."""
    tensors = {name: floats(name, *shape) for name, shape in zip(ir.op_inputs(op), shapes)}
    shape = ir.Graph._output_shape(_Shapes(), op, list(tensors.values()), None)
    tensors[op.output] = floats(op.output, *shape)
    return ir.Graph(tensors, (op,), tuple(ir.op_inputs(op)), (op.output,))


class _Shapes:
    """Stands for a graph where only shapes are asked for."""

    def __getattr__(self, name: str):
        return getattr(ir.Graph, name).__get__(self)


def spotter(
    rng: np.random.Generator,
    bits: int,
    input_bits: int | None,
    grid: str = "linear",
    frames: int = 40,
    mean: bool = True,
) -> ir.Graph:
    """The shape of ``models.svd_50k``, of random weights; its rows, or their mean."""
    rows = frames - 30
    tensors, ops = {"x": floats("x", frames, 20)}, []
    previous, inputs = "x", 620
    for i in range(1, 4):
        window = ir.Window((31, 1)) if i == 1 else None
        ops.append(dense(rng, previous, f"linear_{i}", 39, inputs, bits, input_bits, grid, False, "linear", window))
        ops.append(dense(rng, f"linear_{i}", f"sigmoid_{i}", 128, 39, bits, input_bits, grid, True, "sigmoid"))
        tensors |= {f"linear_{i}": floats(f"linear_{i}", rows, 39), f"sigmoid_{i}": floats(f"sigmoid_{i}", rows, 128)}
        previous, inputs = f"sigmoid_{i}", 128
    ops.append(dense(rng, previous, "logits", 2, 128, bits, input_bits, grid))
    tensors["logits"] = floats("logits", rows, 2)
    if not mean:
        return ir.Graph(tensors, tuple(ops), ("x",), ("logits",))
    ops.append(ir.FloatAverage("mean", "logits", "mean", ir.Window((rows, 1))))
    ops.append(ir.Reshape("posteriors", "mean", "posteriors"))
    tensors |= {"mean": floats("mean", 1, 2), "posteriors": floats("posteriors", 2)}
    return ir.Graph(tensors, tuple(ops), ("x",), ("posteriors",))


def between(rng: np.random.Generator) -> ir.Graph:
    """Every float op between two dense layers, and the ops that move data."""
    t = {"x": floats("x", 12, 6)}
    ops: list[ir.Op] = []

    def add(op: ir.Op, *shape: int) -> None:
        ops.append(op)
        t[op.output] = floats(op.output, *shape)

    add(ir.Pad("pad", "x", "pad", ((1, 2), (0, 0))), 15, 6)
    add(dense(rng, "pad", "dense", 8, 18, 4, 8, "mid-rise", window=ir.Window((3, 1), (2, 1))), 7, 8)
    kernel = rng.normal(size=(3, 16)).astype(np.float32)
    window = ir.Window((3, 1), padding=(1, 1, 0, 0))
    bias = rng.normal(size=16).astype(np.float32)
    add(ir.FloatDepthwise("depthwise", "dense", "depthwise", kernel, bias, "relu", window), 7, 16)
    affine = rng.normal(size=(1, 16)).astype(np.float32)
    add(ir.FloatDepthwise("affine", "depthwise", "affine", affine, bias, "tanh"), 7, 16)
    add(ir.FloatFunction("relu6", "depthwise", "relu6", "relu6"), 7, 16)
    add(ir.FloatAdd("add", ("affine", "relu6"), "add", "relu"), 7, 16)
    add(ir.FloatMultiply("multiply", ("add", "affine"), "multiply"), 7, 16)
    add(ir.Concatenate("join", ("add", "multiply"), "join", 1), 7, 32)
    add(ir.MaxPool("most", "join", "most", ir.Window((2, 1), (2, 1))), 3, 32)
    add(ir.FloatAverage("average", "most", "average", ir.Window((3, 1))), 1, 32)
    add(ir.Slice("slice", "most", "slice", 1, 3, 1), 2, 32)
    add(ir.Transpose("turned", "slice", "turned", (1, 0)), 32, 2)
    add(ir.Reshape("flat", "average", "flat"), 32)
    add(dense(rng, "flat", "logits", 5, 32, 8, 8, "linear"), 5)
    add(ir.FloatSoftmax("softmax", "logits", "softmax"), 5)
    return ir.Graph(t, tuple(ops), ("x",), ("softmax", "turned"))


def feed(rng: np.random.Generator, graph: ir.Graph, batch: int) -> dict[str, np.ndarray]:
    """Random inputs."""
    shapes = {name: graph.tensors[name].shape for name in graph.inputs}
    return {name: rng.normal(size=(batch, *shape)).astype(np.float32) for name, shape in shapes.items()}
