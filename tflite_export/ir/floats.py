# SPDX-License-Identifier: Apache-2.0
"""Ops on float32 tensors: graphs of dynamic quantization, with integers inside of dense layers only."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from tflite_export.ir.types import Weights, Window, require

Function = Literal["linear", "relu", "relu6", "sigmoid", "tanh"]
FUNCTIONS = ("linear", "relu", "relu6", "sigmoid", "tanh")
"""Functions of one float; their places are their numbers in a file."""


@dataclasses.dataclass(frozen=True)
class ColumnWeights:
    """Weight codes of a dense layer of dynamic quantization.

    codes: uint16 [outputs, inputs], inputs as in ``Weights``. The integer weight is ``a * code - b[output]``: on
    the grids of ``Weights``, of 1..8 bits, or on the grid "linear", of 1..8 or 16 bits, where every output has a
    code of its own that stands for zero: a = 1, b = zeros.

    zeros: int32 [outputs], 0 .. 2^bits - 1, for the grid "linear"; else None.
    """

    codes: np.ndarray
    bits: int
    grid: Literal["mid-rise", "mid-tread", "linear"]
    zeros: np.ndarray | None = None

    def __post_init__(self) -> None:
        where = f"weights ({self.bits} bits, {self.grid})"
        require(self.grid in ("mid-rise", "mid-tread", "linear"), where, f"unknown grid {self.grid!r}")
        linear = self.grid == "linear"
        require(1 <= self.bits <= 8 or (linear and self.bits == 16), where, "bits must lie in 1..8, or be 16 (linear)")
        require(
            self.codes.ndim == 2 and self.codes.size > 0 and self.codes.dtype == np.uint16,
            where,
            f"codes must be uint16 [outputs, inputs], found {self.codes.dtype} {self.codes.shape}",
        )
        require(int(self.codes.max()) < 1 << self.bits, where, f"a code is {self.codes.max()}")
        require(linear == (self.zeros is not None), where, "the grid 'linear' has zeros, and no other")
        if linear:
            good = self.zeros.shape == self.codes.shape[:1] and self.zeros.dtype == np.int32
            good = good and 0 <= int(self.zeros.min()) and int(self.zeros.max()) < 1 << self.bits
            require(good, where, "zeros must be int32 [outputs] in 0 .. 2^bits - 1")
        else:
            Weights(self.codes.astype(np.uint8), self.bits, self.grid)

    @property
    def levels(self) -> np.ndarray:
        """int64 [outputs, inputs]: the integers that multiply the input's codes."""
        if self.grid == "linear":
            return self.codes.astype(np.int64) - self.zeros[:, None]
        return Weights(self.codes.astype(np.uint8), self.bits, self.grid).levels.astype(np.int64)


@dataclasses.dataclass(frozen=True)
class DynamicDense:
    """Dense layer, float in and out, that quantizes its inputs row by row as it runs; a row is what one output reads.

    With codes u, a lowest value and a scale of the row (``float_arithmetic.quantize_rows``), T = sum(level * u), exact,
    and W = sum(level), each step rounded to float32:

    ``y = function((scale * T + low * W) * (gain[c] * gain_unit) + bias[c] * bias_unit)``

    gain: int16 [outputs]; bias: int16 [outputs], or None; units: positive float32. input_bits: 2..8, or 16 with weights
    of 16 bits. Input and window as in ``PackedDense``; padding is the real value zero and part of its row.
    """

    name: str
    input: str
    output: str
    weights: ColumnWeights
    input_bits: int
    gain: np.ndarray
    gain_unit: float
    bias: np.ndarray | None = None
    bias_unit: float = 0.0
    function: Function = "linear"
    window: Window | None = None

    def __post_init__(self) -> None:
        outputs, inputs = self.weights.codes.shape
        wide = self.weights.bits == 16
        good = self.input_bits == 16 if wide else 2 <= self.input_bits <= 8
        require(good, self.name, f"{self.weights.bits}-bit weights with {self.input_bits}-bit inputs")
        for what, values in (("gain", self.gain), ("bias", self.bias)):
            if values is None and what == "bias":
                continue
            require(
                values.shape == (outputs,) and values.dtype == np.int16,
                self.name,
                f"{what} must be int16 [{outputs}], found {values.dtype} {values.shape}",
            )
        for what, unit in (("gain_unit", self.gain_unit), ("bias_unit", self.bias_unit)):
            good = np.isfinite(unit) and unit >= 0 and float(np.float32(unit)) == unit
            require(bool(good), self.name, f"{what} must be a float32 of at least 0, found {unit!r}")
        require(self.function in FUNCTIONS, self.name, f"unknown function {self.function!r}")
        if wide:
            require(inputs < 1 << 15, self.name, f"16 bits allow fewer than 32,768 inputs, found {inputs}")
        else:
            # the largest |level| is 2^bits - 1 on every grid
            bound = inputs * ((1 << self.weights.bits) - 1) * ((1 << self.input_bits) - 1)
            require(bound < 1 << 31, self.name, "the 32-bit accumulator could overflow; the layer has too many inputs")


@dataclasses.dataclass(frozen=True)
class FloatFunction:
    """``y = function(x)`` of each float32 value."""

    name: str
    input: str
    output: str
    function: Function


@dataclasses.dataclass(frozen=True)
class FloatSoftmax:
    """Softmax over the last axis, float32."""

    name: str
    input: str
    output: str


@dataclasses.dataclass(frozen=True)
class FloatDepthwise:
    """Per-channel convolution, or a per-channel affine map where window is None, in float32.

    kernel: float32 [taps, outputs], bias: float32 [outputs]; channels as in ``Depthwise``. A sum starts at 0 and
    adds tap after tap, the bias last.
    """

    name: str
    input: str
    output: str
    kernel: np.ndarray
    bias: np.ndarray
    function: Function = "linear"
    window: Window | None = None

    def __post_init__(self) -> None:
        require(
            self.kernel.ndim == 2 and self.kernel.dtype == np.float32 and self.bias.dtype == np.float32,
            self.name,
            f"kernel must be float32 [taps, outputs], found {self.kernel.dtype} {self.kernel.shape}",
        )
        finite = np.isfinite(self.kernel).all() and np.isfinite(self.bias).all()
        require(bool(finite), self.name, "kernel and bias must be finite")
        good = self.bias.shape == self.kernel.shape[1:]
        require(good, self.name, f"{len(self.bias)} biases for a kernel {self.kernel.shape}")
        require(self.function in FUNCTIONS, self.name, f"unknown function {self.function!r}")


@dataclasses.dataclass(frozen=True)
class FloatAdd:
    """``y = function(x0 + x1)`` in float32, numpy broadcasting."""

    name: str
    inputs: tuple[str, str]
    output: str
    function: Function = "linear"


@dataclasses.dataclass(frozen=True)
class FloatMultiply:
    """``y = function(x0 * x1)`` in float32, numpy broadcasting."""

    name: str
    inputs: tuple[str, str]
    output: str
    function: Function = "linear"


@dataclasses.dataclass(frozen=True)
class FloatAverage:
    """Mean over the window's places that lie inside the picture: their sum, first to last, divided by their number."""

    name: str
    input: str
    output: str
    window: Window
