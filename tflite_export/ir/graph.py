"""The integer graph: plain dataclasses that check themselves.

This is the waist of the project. Left of it is TensorFlow, right of it are integers. Everything here is numpy
and the standard library, so a graph can be made, read and run where no TensorFlow is installed.

Shapes never include the batch axis. A tensor's real value is ``scale * (q - zero_point)`` with ``q`` an int8. A graph
of dynamic quantization has float32 tensors instead, and integers only inside its dense layers (``ir.floats``).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export.ir.floats import (
    DynamicDense,
    FloatAdd,
    FloatAverage,
    FloatDepthwise,
    FloatFunction,
    FloatMultiply,
    FloatSoftmax,
)
from tflite_export.ir.recurrent import Recurrent
from tflite_export.ir.types import (
    INT8_MAX,
    INT8_MIN,
    MAX_SHIFT,
    Quantization,
    Requantization,
    Tensor,
    Weights,
    Window,
)
from tflite_export.ir.types import require as _require
from tflite_export.ir.waveform import Waveform

MAX_HISTORY = 65534


@dataclasses.dataclass(frozen=True)
class PackedDense:
    """Dense layer over the last axis (window None), or a convolution: a dense over each window.

    Input [..., channels] or, with a window, [time, channels] or [height, width, channels].
    """

    name: str
    input: str
    output: str
    weights: Weights
    requantization: Requantization
    window: Window | None = None


@dataclasses.dataclass(frozen=True)
class Depthwise:
    """Per-channel convolution, or a per-channel affine map of the last axis where window is None.

    levels: int8 [taps, outputs]; output channel o reads input channel ``o // (outputs // channels)``.
    """

    name: str
    input: str
    output: str
    levels: np.ndarray
    requantization: Requantization
    window: Window | None = None

    def __post_init__(self) -> None:
        _require(
            self.levels.ndim == 2 and self.levels.dtype == np.int8,
            self.name,
            f"levels must be int8 [taps, outputs], found {self.levels.dtype} {self.levels.shape}",
        )


@dataclasses.dataclass(frozen=True)
class Lookup:
    """Any function of one value: ``y = table[q + 128]``; table int8 [256].

    ``function`` (a name such as "relu" or "tanh") and its ``alpha`` say what the table was made of, for exports that
    have no table op; "linear" is a change of quantization, "" is unknown.
    """

    name: str
    input: str
    output: str
    table: np.ndarray
    function: str = ""
    alpha: float = 0.0

    def __post_init__(self) -> None:
        _require(self.table.shape == (256,) and self.table.dtype == np.int8, self.name, "table must be int8 [256]")


@dataclasses.dataclass(frozen=True)
class Softmax:
    """Over the last axis; ``table[d] ~ 2^15 exp(-scale d)`` uint16 [256], d = max(q) - q.

    Output quantization is fixed: scale 1/256, zero_point -128.
    """

    name: str
    input: str
    output: str
    table: np.ndarray

    def __post_init__(self) -> None:
        good = self.table.shape == (256,) and self.table.dtype == np.uint16
        _require(
            good and 1 <= int(self.table[0]) and int(self.table.max()) <= 1 << 15,
            self.name,
            "table must be uint16 [256] with values up to 2^15 and a first value of at least 1",
        )


@dataclasses.dataclass(frozen=True)
class Add:
    """``y = clip(zero_point + round((x0 - z0) * m0 + (x1 - z1) * m1 >> shift))``, numpy broadcasting."""

    name: str
    inputs: tuple[str, str]
    output: str
    multipliers: tuple[int, int]
    shift: int
    activation_min: int = INT8_MIN
    activation_max: int = INT8_MAX


@dataclasses.dataclass(frozen=True)
class Multiply:
    """``y = clip(zero_point + round((x0 - z0) * (x1 - z1) * multiplier >> shift))``, numpy broadcasting."""

    name: str
    inputs: tuple[str, str]
    output: str
    multiplier: int
    shift: int
    activation_min: int = INT8_MIN
    activation_max: int = INT8_MAX


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """Mean over the window's places that lie inside the picture, times ``multiplier / 2^shift``.

    ``y = clip(zero_point + floor((2 * sum * multiplier + count * 2^shift) / (count * 2^(shift + 1))))``
    """

    name: str
    input: str
    output: str
    window: Window
    multiplier: int
    shift: int


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Maximum over the window's places that lie inside the picture; quantization unchanged."""

    name: str
    input: str
    output: str
    window: Window


@dataclasses.dataclass(frozen=True)
class Concatenate:
    """Joins along ``axis`` (0 is the first axis after the batch); all share one quantization."""

    name: str
    inputs: tuple[str, ...]
    output: str
    axis: int


@dataclasses.dataclass(frozen=True)
class Reshape:
    """New shape, same order of elements."""

    name: str
    input: str
    output: str


@dataclasses.dataclass(frozen=True)
class Transpose:
    """``y.shape[i] = x.shape[permutation[i]]``, counted without the batch axis."""

    name: str
    input: str
    output: str
    permutation: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Pad:
    """Real zeros (the zero point) around; ``padding[i] = (before, after)`` of axis i."""

    name: str
    input: str
    output: str
    padding: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Slice:
    """``y = x[begin : end : stride]`` along ``axis``; 0 is the first axis after the batch (time).

    Time may run backwards, by a stride below zero; other axes do not.
    """

    name: str
    input: str
    output: str
    begin: int
    end: int
    stride: int
    axis: int = 0

    def __post_init__(self) -> None:
        _require(self.axis >= 0, self.name, f"axis out of range: {self.axis}")
        _require(self.stride > 0 or (self.axis == 0 and self.stride), self.name, f"stride {self.stride}")

    def places(self, shape: tuple[int, ...]) -> range:
        """The places that it takes of its axis, for an input of that shape."""
        return range(shape[self.axis])[self.begin : self.end : self.stride]


@dataclasses.dataclass(frozen=True)
class Ring:
    """Memory of a stream: ``y = [the last history frames before x, x]`` along the first axis, time.

    It keeps the last ``history`` frames of y for the next call; before the first call they are real zeros.
    """

    name: str
    input: str
    output: str
    history: int

    def __post_init__(self) -> None:
        _require(1 <= self.history <= MAX_HISTORY, self.name, f"history out of 1..{MAX_HISTORY}: {self.history}")


Op = (
    PackedDense
    | Depthwise
    | Lookup
    | Softmax
    | Add
    | Multiply
    | AveragePool
    | MaxPool
    | Concatenate
    | Reshape
    | Transpose
    | Pad
    | Slice
    | Ring
    | Recurrent
    | Waveform
    | DynamicDense
    | FloatFunction
    | FloatSoftmax
    | FloatDepthwise
    | FloatAdd
    | FloatMultiply
    | FloatAverage
)
FLOAT_OPS = (DynamicDense, FloatFunction, FloatSoftmax, FloatDepthwise, FloatAdd, FloatMultiply, FloatAverage)
"""Ops on float32 tensors; those of MOVES take both kinds, all others int8."""
MOVES = (Reshape, Transpose, Pad, Slice, MaxPool, Concatenate, Ring)


def op_inputs(op: Op) -> tuple[str, ...]:
    """Names of the tensors an op reads."""
    if isinstance(op, Recurrent) and op.state is not None:
        return (op.input, op.state)
    return op.inputs if hasattr(op, "inputs") else (op.input,)


def picture(shape: tuple[int, ...], where: str) -> tuple[int, int, int]:
    """(height, width, channels) of a [time, channels] or [height, width, channels] tensor."""
    _require(
        len(shape) in (2, 3), where, f"a window needs [time, channels] or [height, width, channels], found {shape}"
    )
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])


def windowed_shape(shape: tuple[int, ...], window: Window, channels: int, where: str) -> tuple[int, ...]:
    """Shape of the output of a windowed op."""
    height, width, _ = picture(shape, where)
    out = window.output_size(height, width)
    if len(shape) == 2:
        _require(window.size[1] == 1 and out[1] == 1, where, "a window over [time, channels] must be one wide")
        return (out[0], channels)
    return (*out, channels)


@dataclasses.dataclass(frozen=True)
class Graph:
    """Ops in order of execution. Checks every name, shape and range when made."""

    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = "model"

    def __post_init__(self) -> None:
        _require(bool(self.inputs) and bool(self.outputs), "graph", "needs at least one input and one output")
        known = set(self.inputs)
        for key, tensor in self.tensors.items():
            _require(key == tensor.name, f"tensor {key!r}", f"is filed under another name than {tensor.name!r}")
        for op in self.ops:
            for name in op_inputs(op):
                _require(name in known, op.name, f"reads {name!r} before anything writes it")
            _require(op.output not in known, op.name, f"writes {op.output!r} a second time")
            known.add(op.output)
        for name in (*known, *self.outputs):
            _require(name in self.tensors and name in known, f"tensor {name!r}", "is missing or never written")
        for op in self.ops:
            self._check(op)

    def _check(self, op: Op) -> None:
        x = [self.tensors[name] for name in op_inputs(op)]
        y = self.tensors[op.output]
        expected = self._output_shape(op, x, y)
        _require(y.shape == expected, op.name, f"output {y.name!r} should have shape {expected}, found {y.shape}")
        if isinstance(op, MOVES):
            same = all((t.quantization, t.wide) == (y.quantization, y.wide) for t in x)
            _require(same, op.name, "moves data, so quantization must not change")
            _require(not (isinstance(op, MaxPool) and y.wide), op.name, "works on int8 or float32 tensors")
        elif isinstance(op, Waveform):
            _require(y.quantization is not None and not y.wide, op.name, "features are int8")
        else:
            floats = isinstance(op, FLOAT_OPS)
            good = all((t.quantization is None) == floats and not t.wide for t in (*x, y))
            _require(good, op.name, f"works on {'float32' if floats else 'int8'} tensors")
        if isinstance(op, Softmax):
            _require(y.quantization == Quantization(1 / 256, -128), op.name, "softmax output must be 1/256, -128")
        if isinstance(op, (Add, Multiply, AveragePool)):
            _require(1 <= op.shift <= MAX_SHIFT - 16, op.name, f"shift out of 1..{MAX_SHIFT - 16}: {op.shift}")
            ms = op.multipliers if isinstance(op, Add) else (op.multiplier,)
            _require(all(0 <= m < 1 << 31 for m in ms), op.name, f"multiplier out of 0..2^31-1: {ms}")
        if isinstance(op, AveragePool):
            most = max(510 * op.window.taps * op.multiplier, op.window.taps << (op.shift + 1))
            _require(most <= 1 << 62, op.name, "the 64-bit mean could overflow; the window or the shift is too large")

    def _output_shape(self, op: Op, x: list[Tensor], y: Tensor) -> tuple[int, ...]:
        shape = x[0].shape
        elementwise = (Lookup, Add, Multiply, FloatFunction, FloatAdd, FloatMultiply)
        any_rank = isinstance(op, (*elementwise, Reshape, Transpose, Pad))
        _require(any_rank or bool(shape), op.name, "needs an input with at least one axis besides the batch")
        if isinstance(op, (PackedDense, Depthwise)):
            return self._weighted_shape(op, x[0])
        if isinstance(op, Recurrent):
            return op.checked_shape(x, y)
        if isinstance(op, Waveform):
            return op.checked_shape(x[0])
        if isinstance(op, (DynamicDense, FloatDepthwise)):
            return self._float_weighted_shape(op, x[0])
        if isinstance(op, (Lookup, Softmax, FloatFunction, FloatSoftmax)):
            return shape
        if isinstance(op, (Add, Multiply, FloatAdd, FloatMultiply)):
            return tuple(int(d) for d in np.broadcast_shapes(shape, x[1].shape))
        if isinstance(op, (AveragePool, MaxPool, FloatAverage)):
            return windowed_shape(shape, op.window, shape[-1], op.name)
        if isinstance(op, Concatenate):
            rest = {t.shape[: op.axis] + t.shape[op.axis + 1 :] for t in x}
            _require(len(rest) == 1, op.name, f"shapes do not agree: {[t.shape for t in x]}")
            return shape[: op.axis] + (sum(t.shape[op.axis] for t in x),) + shape[op.axis + 1 :]
        if isinstance(op, Reshape):
            _require(x[0].size == y.size, op.name, f"cannot make {y.shape} of {shape}")
            return y.shape
        if isinstance(op, Transpose):
            _require(sorted(op.permutation) == list(range(len(shape))), op.name, f"not a permutation: {op.permutation}")
            return tuple(shape[i] for i in op.permutation)
        if isinstance(op, Pad):
            _require(len(op.padding) == len(shape), op.name, f"needs a padding for each of {len(shape)} axes")
            return tuple(d + a + b for d, (a, b) in zip(shape, op.padding))
        if isinstance(op, Ring):
            return (op.history + shape[0], *shape[1:])
        _require(op.axis < len(shape), op.name, f"slices axis {op.axis} of {shape}")
        return (*shape[: op.axis], len(op.places(shape)), *shape[op.axis + 1 :])

    def _float_weighted_shape(self, op: DynamicDense | FloatDepthwise, x: Tensor) -> tuple[int, ...]:
        outputs = self._outputs(op, x)
        return windowed_shape(x.shape, op.window, outputs, op.name) if op.window else (*x.shape[:-1], outputs)

    def _outputs(self, op: PackedDense | Depthwise | DynamicDense | FloatDepthwise, x: Tensor) -> int:
        """Outputs of a layer with weights, which must suit its input."""
        channels, taps = x.shape[-1], op.window.taps if op.window else 1
        if isinstance(op, (PackedDense, DynamicDense)):
            outputs, inputs = op.weights.codes.shape
            _require(inputs == taps * channels, op.name, f"has {inputs} weights a row for {taps} x {channels} inputs")
            return outputs
        shape = op.levels.shape if isinstance(op, Depthwise) else op.kernel.shape
        good = shape[0] == taps and shape[1] % channels == 0
        _require(good, op.name, f"levels {shape} do not suit {taps} taps and {channels} channels")
        return shape[1]

    def _weighted_shape(self, op: PackedDense | Depthwise, x: Tensor) -> tuple[int, ...]:
        outputs, dense = self._outputs(op, x), isinstance(op, PackedDense)
        _require(
            len(op.requantization.gain) == outputs,
            op.name,
            f"{len(op.requantization.gain)} gains for {outputs} outputs",
        )
        levels = op.weights.levels if dense else op.levels
        reach = max(INT8_MAX - x.quantization.zero_point, x.quantization.zero_point - INT8_MIN)
        bound = int(np.abs(levels.astype(np.int64)).sum(axis=1 if dense else 0).max()) * reach
        _require(bound < 1 << 31, op.name, "the 32-bit accumulator could overflow; the layer has too many inputs")
        op.requantization.check_range(bound, op.name)
        if op.window:
            return windowed_shape(x.shape, op.window, outputs, op.name)
        return (*x.shape[:-1], outputs)
