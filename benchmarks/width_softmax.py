# SPDX-License-Identifier: Apache-2.0
"""The other way to learn a width, to compare with: a softmax over all of them, as in mixed-precision search.

The weights of a layer are the mean of their roundings to 1 to 8 bits, weighed by a softmax over eight numbers that are
learned (EdMIPS, arXiv 2004.05795; PLiNIO's mixed precision). What is priced is the mean width. Where widths settle, the
steering of ``tfmot_kws`` makes whole ones of the means; from then on layers compute as with any learned width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize import layer_parts, quantizers
from tfmot_kws.quantize.learned_widths import LearnedWidth

_WIDTHS = np.arange(1, 9)
_FIRST = 0.7
"""Numbers of a width less than the one of a bit more, at the start: 8 bits have half of the weight."""


@tf.custom_gradient
def _priced(levels: tf.Tensor, mean: tf.Tensor, price: tf.Tensor):
    """Levels as they are; a bit of the mean width costs the price."""
    return tf.identity(levels), lambda upstream: (upstream, price, None)


class SoftmaxWidth(LearnedWidth):
    """Eight numbers in the place of one; otherwise as ``LearnedWidth``."""

    def __init__(self, layer: keras.layers.Layer, bits: int, least: int = 1, name: str = ""):
        super().__init__(layer, bits, least, name)
        start = _FIRST * (_WIDTHS - 8.0) / float(self._speed.numpy())
        self._numbers = layer.add_weight(
            name=f"{name}width_numbers", shape=(8,), initializer=keras.initializers.Constant(start), dtype=tf.float32
        )

    def _shares(self) -> tf.Tensor:
        return tf.nn.softmax(self._numbers * self._speed)

    @property
    def width(self) -> float:
        """The mean width; the whole one where it is settled."""
        return float(self.bits) if self.settled else float(np.sum(self._shares().numpy() * _WIDTHS))

    def set_price(self, price: float) -> None:
        """What a bit of the mean costs, in units of the loss."""
        self._price.assign(price / self.uses)

    def set_speed(self, speed: float) -> None:
        """How many times the learning rate the numbers move a step, under Adam."""
        self._numbers.assign(self._numbers * self._speed / speed)
        self._speed.assign(speed)

    def settle(self) -> None:
        """The width is the whole one from now on."""
        self._free.assign(0.0)
        self._price.assign(0.0)

    def levels(self, theta: tf.Tensor) -> tf.Tensor:
        """The mean of the roundings in levels of the whole width; its own levels where it is settled."""
        shares = self._shares()
        step = tf.cast(self.step(), tf.float32)
        mixed = tf.add_n([
            shares[bits - 1] * quantizers.levels(theta, bits, "auto")
            * (quantizers.grid_constants(bits, quantizers.resolve_grid("auto", bits))[2] / step)
            for bits in range(1, 9)
        ])  # fmt: skip
        mean = tf.reduce_sum(shares * tf.constant(_WIDTHS, tf.float32))
        return self._free * _priced(mixed, mean, self._price) + (1.0 - self._free) * super().levels(theta)


@contextlib.contextmanager
def instead() -> Iterator[None]:
    """Layers that are made within learn their widths so."""
    with mock.patch.object(layer_parts, "LearnedWidth", SoftmaxWidth):
        yield


unchanged = contextlib.nullcontext
"""For where a choice is made: layers learn as they do."""
