# SPDX-License-Identifier: Apache-2.0
"""What all parts of a graph are made of: tensors, windows and packed weights. ``graph`` has the ops."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

Grid = Literal["mid-rise", "mid-tread"]
INT8_MIN, INT8_MAX = -128, 127
INT16_MIN, INT16_MAX = -32768, 32767
MAX_SHIFT = 62


class GraphError(ValueError):
    """An integer graph breaks one of its own rules; the message names the op or tensor."""


def require(condition: bool, where: str, message: str) -> None:
    """GraphError unless the condition holds; ``where`` names the op or tensor."""
    if not condition:
        raise GraphError(f"{where}: {message}")


@dataclasses.dataclass(frozen=True)
class Quantization:
    """``real = scale * (q - zero_point)``; scale is a positive float32, zero_point an int8."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        good = np.isfinite(self.scale) and self.scale > 0 and float(np.float32(self.scale)) == self.scale
        require(bool(good), "quantization", f"scale must be a positive float32, found {self.scale!r}")
        require(
            INT8_MIN <= self.zero_point <= INT8_MAX,
            "quantization",
            f"zero_point must lie in -128..127, found {self.zero_point}",
        )


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An int8 activation tensor, or one of float32 where ``quantization`` is None; ``shape`` without the batch axis.

    wide: int16 instead, as samples of sound are; around zero.
    """

    name: str
    shape: tuple[int, ...]
    quantization: Quantization | None
    wide: bool = False

    def __post_init__(self) -> None:
        around_zero = self.quantization is not None and self.quantization.zero_point == 0
        require(
            not self.wide or around_zero, f"tensor {self.name!r}", "int16 needs a quantization whose zero point is 0"
        )
        require(
            all(isinstance(d, int) and d >= 1 for d in self.shape),
            f"tensor {self.name!r}",
            f"every axis needs a fixed size of at least 1, found {self.shape}",
        )

    @property
    def size(self) -> int:
        """Elements of one sample."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def dtype(self) -> np.dtype:
        """numpy type of an element."""
        return np.dtype(np.float32 if self.quantization is None else np.int16 if self.wide else np.int8)

    @property
    def bytes(self) -> int:
        """Bytes of one sample."""
        return self.size * self.dtype.itemsize

    @property
    def zero(self) -> int:
        """What stands for the real value zero."""
        return 0 if self.quantization is None else self.quantization.zero_point


@dataclasses.dataclass(frozen=True)
class Window:
    """A sliding window over (height, width); time is the height of a [time, 1, channels] picture.

    ``padding`` is (top, bottom, left, right). Padded places hold the real value zero.
    """

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        values = (*self.size, *self.stride, *self.dilation)
        require(min(values) >= 1 and max(values) <= 65535, "window", f"size, stride, dilation out of 1..65535: {self}")
        require(min(self.padding) >= 0 and max(self.padding) <= 65535, "window", f"padding out of 0..65535: {self}")

    @property
    def taps(self) -> int:
        """Places under the window."""
        return self.size[0] * self.size[1]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Windows that fit down and across; raises GraphError where none does."""
        out = []
        for length, k, s, d, before, after in zip(
            (height, width), self.size, self.stride, self.dilation, self.padding[0::2], self.padding[1::2]
        ):
            room = length + before + after - ((k - 1) * d + 1)
            require(room >= 0, "window", f"{self} does not fit a picture of {height} x {width}")
            out.append(room // s + 1)
        return out[0], out[1]


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weight codes of one dense or convolution kernel.

    codes: uint8 [outputs, inputs], inputs in the order (window row, window column, channel).
    The integer weight is ``level = a * code - b``:

    ========= ============= ===== =========== ==========================
    grid      codes         a     b           levels
    ========= ============= ===== =========== ==========================
    mid-rise  0 .. 2^n - 1  2     2^n - 1     odd integers, no zero
    mid-tread 1 .. 2^n - 1  1     2^(n - 1)   -(2^(n-1) - 1) .. 2^(n-1) - 1
    ========= ============= ===== =========== ==========================
    """

    codes: np.ndarray
    bits: int
    grid: Grid

    def __post_init__(self) -> None:
        where = f"weights ({self.bits} bits, {self.grid})"
        require(self.grid in ("mid-rise", "mid-tread"), where, "grid must be 'mid-rise' or 'mid-tread'")
        require(1 <= self.bits <= 8, where, "bits must lie in 1..8")
        require(
            self.grid == "mid-rise" or self.bits >= 2, where, "mid-tread needs at least 2 bits (1 bit has only zero)"
        )
        require(
            self.codes.ndim == 2 and self.codes.size > 0,
            where,
            f"codes must be [outputs, inputs], found shape {self.codes.shape}",
        )
        require(self.codes.dtype == np.uint8, where, f"codes must be uint8, found {self.codes.dtype}")
        low = 0 if self.grid == "mid-rise" else 1
        require(
            int(self.codes.min()) >= low and int(self.codes.max()) < 1 << self.bits,
            where,
            f"codes must lie in {low}..{(1 << self.bits) - 1}, found {self.codes.min()}..{self.codes.max()}",
        )

    @property
    def a(self) -> int:
        """Factor of a code in its level."""
        return 2 if self.grid == "mid-rise" else 1

    @property
    def b(self) -> int:
        """What a level lacks to ``a * code``."""
        return (1 << self.bits) - 1 if self.grid == "mid-rise" else 1 << (self.bits - 1)

    @property
    def levels(self) -> np.ndarray:
        """int32 [outputs, inputs]: the integers that multiply the input."""
        return self.a * self.codes.astype(np.int32) - self.b


@dataclasses.dataclass(frozen=True)
class Requantization:
    """Turns accumulators into int8 with one rounding; see docs/numerics.md.

    ``total = acc * (gain[c] * multiplier) + (bias[c] << bias_shift)``
    ``y = clip(zero_point + ((total + (1 << (shift - 1))) >> shift), activation_min, activation_max)``

    gain, bias: int16 [outputs]; they are stored in one byte each where all values fit int8.
    """

    gain: np.ndarray
    bias: np.ndarray
    multiplier: int
    bias_shift: int
    shift: int
    activation_min: int = INT8_MIN
    activation_max: int = INT8_MAX

    def __post_init__(self) -> None:
        where = "requantization"
        for name in ("gain", "bias"):
            value = getattr(self, name)
            require(
                value.ndim == 1 and value.dtype == np.int16,
                where,
                f"{name} must be int16 [outputs], found {value.dtype} {value.shape}",
            )
        require(self.gain.shape == self.bias.shape, where, f"{len(self.gain)} gains but {len(self.bias)} biases")
        require(0 <= self.multiplier < 1 << 31, where, f"multiplier out of 0..2^31-1: {self.multiplier}")
        require(1 <= self.shift <= MAX_SHIFT, where, f"shift out of 1..{MAX_SHIFT}: {self.shift}")
        require(0 <= self.bias_shift <= MAX_SHIFT, where, f"bias_shift out of 0..{MAX_SHIFT}: {self.bias_shift}")
        require(
            INT8_MIN <= self.activation_min <= self.activation_max <= INT8_MAX,
            where,
            f"activation range {self.activation_min}..{self.activation_max} is not within -128..127",
        )

    def check_range(self, acc_bound: int, where: str) -> None:
        """Refuses constants whose 64-bit total could overflow for any |acc| <= acc_bound."""
        gain = int(np.abs(self.gain.astype(np.int64)).max(initial=0))
        bias = int(np.abs(self.bias.astype(np.int64)).max(initial=0))
        total = acc_bound * gain * self.multiplier + (bias << self.bias_shift) + (1 << (self.shift - 1))
        require(total < 1 << 63, where, "the 64-bit total could overflow; the output scale is too small for this layer")
