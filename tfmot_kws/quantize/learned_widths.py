# SPDX-License-Identifier: Apache-2.0
"""The width of a layer's weights as something that is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize import replicas
from tfmot_kws.quantize.quantizers import (
    check_bits,
    grid_constants,
    levels_of_width,
    of_width,
    resolve_grid,
    steps_of_width,
)

LEAST, MOST = 1, 8
BITS_A_STEP = 10.0
"""Adam moves a parameter by about the learning rate a step; a width by so many times that, or more in a short run."""


class LearnedWidth:
    """The variables of a width: one number that is learned, and the whole width that is computed with.

    The forward pass always computes with a whole width, the very integers of the device. ``width`` moves freely beside
    it, by the gradient of the rounding error (``quantizers.levels_of_width``) and by a price for each bit.

    Args:
      layer: gets the variables.
      bits: where the width starts.
      least: width, 1 of weights.
      name: of the variables, ahead of "width".

    Attributes:
      uses: how often a step of training computes levels of this width, each of which adds the price.
    """

    def __init__(self, layer: keras.layers.Layer, bits: int, least: int = LEAST, name: str = ""):
        def add(part: str, value: float, trainable: bool = False) -> tf.Variable:
            constant, full = keras.initializers.Constant(value), f"{name}{part}"
            return layer.add_weight(name=full, shape=(), initializer=constant, trainable=trainable, dtype=tf.float32)

        self.uses, self.least = 1, least
        self._width = add("width", bits / BITS_A_STEP, trainable=True)
        self._speed = add("width_speed", BITS_A_STEP)
        self.whole = add("width_whole", float(bits))
        self._price = add("width_price", 0.0)
        self._free = add("width_free", 1.0)
        self.multiplier = add("width_multiplier", 0.0)
        """The price of the whole budget, 0 before it is steered: saved with the model, so that a run can go on."""

    @property
    def bits(self) -> int:
        """The whole width."""
        return int(round(float(self.whole.numpy())))

    @property
    def width(self) -> float:
        """The learned width, within ``least``..8."""
        return min(max(float(self._width.numpy() * self._speed.numpy()), self.least), MOST)

    @property
    def settled(self) -> bool:
        """Whether the width is no longer learned."""
        return float(self._free.numpy()) == 0.0

    def set_price(self, price: float) -> None:
        """What a bit more costs, in units of the loss; a width beyond ``least``..8 comes back to it."""
        self._price.assign(price / self.uses)
        self._move(self.width)

    def set_speed(self, speed: float) -> None:
        """How many times the learning rate the width moves a step, under Adam."""
        width = self.width
        self._speed.assign(speed)
        self._move(width)

    def _move(self, width: float) -> None:
        self._width.assign(width / float(self._speed.numpy()))

    def take(self, bits: int) -> None:
        """Computes with that whole width; the layer has to start from it anew."""
        self.whole.assign(float(check_bits(bits, "width", self.least)))

    def settle(self) -> None:
        """The width is learned no longer, and is the whole one."""
        self._free.assign(0.0)
        self._price.assign(0.0)
        self._move(self.bits)

    def levels(self, theta: tf.Tensor) -> tf.Tensor:
        """Integer levels of theta, with gradients for theta and the width."""
        return self.of(levels_of_width, theta)

    def of(self, function: Callable[..., tf.Tensor], values: tf.Tensor) -> tf.Tensor:
        """``function(values, width, whole, price, free)``: ``levels_of_width``, or one like it."""
        return function(values, self._width * self._speed, self.whole, self._price_here(), self._free)

    def _price_here(self) -> tf.Tensor:
        """A replica's part of the price: gradients of all replicas are added up."""
        return self._price / replicas.count()

    def placed(self, steps: tf.Tensor, ratio: tf.Tensor, low: tf.Tensor, high: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        """Steps of an activation as they are, with a gradient for the width; see ``quantizers.steps_of_width``."""
        return steps_of_width(steps, ratio, low, high, self._width * self._speed, rate, self._price_here(), self._free)

    def step(self) -> tf.Tensor:
        """What half a level is worth, float64: ``grid_constants`` of the whole width."""
        return of_width(lambda bits: grid_constants(bits, resolve_grid("auto", bits))[2], self.whole, tf.float64)


def settle(learned: Sequence[Any], whole: Callable[[dict[str, float]], Mapping[str, int]]) -> dict[str, int]:
    """Makes widths whole; they stay.

    Args:
      learned: what has a ``name``, a ``learned_width``, ``weight_bits`` and ``take_width``: layers, or activations of
        layers.
      whole: whole widths by name, of those that were learned; asked only where one is not settled yet.

    Returns:
      Widths by name; of those that were settled before, what they have.
    """
    if any(not one.learned_width.settled for one in learned):
        widths = whole({one.name: one.learned_width.width for one in learned})
        for one in learned:
            one.take_width(widths[one.name])
            one.learned_width.settle()
    return {one.name: one.weight_bits for one in learned}
