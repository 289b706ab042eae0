# SPDX-License-Identifier: Apache-2.0
"""From samples of sound to features in one op: filters, magnitude, mean over a hop, logarithm, int8."""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export.ir.types import Requantization, Tensor, Weights, Window, require

SAMPLE_SCALE = 2.0**-15
"""What one step of a sample is worth: full scale is 1."""
LOG_BITS = 15
"""Bits behind the point of a logarithm."""
MAX_FLOOR = (1 << 31) - 1


@dataclasses.dataclass(frozen=True)
class Waveform:
    """Samples int16 [samples, 1] -> features int8 [frames, filters].

    With the level ``w[c, k]`` of filter c and the sample ``x``, frame t is made of ``average`` sums, which begin
    ``stride`` samples apart, and moves on by ``hop = average * stride``:

        acc[i]  = sum over k of w[c, k] * x[t * hop + i * stride + k]        int32
        total   = sum over i of |acc[i]|                                     below 2^47
        level   = log2(total + floor) - log2(floor)                          whole steps of 2^-15, by a table
        y       = requantized ``level``, with a gain and a bias for each filter

    ``reference.waveform`` says what the table is. Silence has the level 0: ``floor`` is the loudness, in steps of
    ``total``, below which sound counts as none.

    Attributes:
      weights: levels [filters, taps].
      requantization: of levels, int32.
      stride: samples from one sum to the next.
      average: sums in a frame.
      floor: 1 .. 2^31 - 1.
    """

    name: str
    input: str
    output: str
    weights: Weights
    requantization: Requantization
    stride: int
    average: int
    floor: int

    def __post_init__(self) -> None:
        for name, value, most in (
            ("stride", self.stride, 65535), ("average", self.average, 65535), ("floor", self.floor, MAX_FLOOR),
            ("hop", self.stride * self.average, 65535), ("span", self.span, 65535),
        ):  # fmt: skip
            require(1 <= value <= most, self.name, f"{name} out of 1..{most}: {value}")
        filters = len(self.weights.codes)
        gains = len(self.requantization.gain)
        require(gains == filters, self.name, f"{gains} gains for {filters} filters")
        most = int(np.abs(self.weights.levels.astype(np.int64)).sum(axis=1).max()) << 15
        require(most < 1 << 31, self.name, "the 32-bit sums could overflow; take filters of fewer taps or fewer bits")
        # log2 of anything below 2^48, less that of a floor of at least 1
        self.requantization.check_range(48 << LOG_BITS, self.name)

    @property
    def taps(self) -> int:
        """Samples of a filter."""
        return self.weights.codes.shape[1]

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return self.stride * self.average

    @property
    def span(self) -> int:
        """Samples of a frame, from the first to the last."""
        return self.taps + (self.average - 1) * self.stride

    @property
    def window(self) -> Window:
        """What a frame covers of time."""
        return Window((self.span, 1), (self.hop, 1))

    def checked_shape(self, x: Tensor) -> tuple[int, ...]:
        """Shape of the output; GraphError where the input does not suit."""
        good = x.wide and len(x.shape) == 2 and x.shape[1] == 1
        require(good, self.name, f"needs int16 [samples, 1], found {x.dtype} {x.shape}")
        require(x.shape[0] >= self.span, self.name, f"a frame spans {self.span} samples, the clip has {x.shape[0]}")
        return ((x.shape[0] - self.span) // self.hop + 1, len(self.weights.codes))
