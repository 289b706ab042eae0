# SPDX-License-Identifier: Apache-2.0
"""Steers learned widths into their budget while stage 1 trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize import model_costs
from tfmot_kws.quantize.learned_widths import BITS_A_STEP

_LOOKS = 80
"""At the widths, or one a batch where there are fewer batches."""
_LEARNING_SHARE = 0.7
"""Of stage 1; after it the widths stay and the weights settle into them."""
_TIGHT_SHARE = 0.7
"""Of that: the time in which what is allowed falls from what 8 bits cost to the budget."""
_REACH = 14.0
"""Bits that a width can move in that time: twice what it may have to."""
_FIRST_PRICE = 1e-3
_LARGEST_PRICE = 1e9
"""Where widths do not follow, the price would go on rising until it is no number."""
_GAIN = 4.0
"""How fast the price follows: by so many e-folds a look, for each time over or under."""
_HYSTERESIS = 0.6
"""A layer takes another whole width when the learned one is so far from the one that it has."""


def batches_of_an_epoch(params: Mapping[str, Any] | None) -> int:
    """How many there are.

    Args:
      params: of a callback, as Keras gives them.

    Raises:
      ValueError: it is not known.
    """
    steps = (params or {}).get("steps")
    if not steps:
        raise ValueError("learned widths need to know how many batches an epoch has: fit(steps_per_epoch=...)")
    return int(steps)


class WidthSteering:
    """Raises the price of bits while they cost more than is allowed, and lowers it while they cost less.

    The price is the multiplier of the constraint (dual ascent on its logarithm). What is allowed falls step by step to
    the budget, so that layers that need their bits have time to show it.

    Args:
      model: with layers that learn their width.
      total: batches of stage 1.
    """

    SHARE, GAIN = _LEARNING_SHARE, _GAIN

    def __init__(self, model: keras.Model, total: int) -> None:
        self._model = model
        self._layers, self.costs = self._find()
        self._steps = max(1, math.floor(total * self.SHARE))
        self._start = self.costs.fullest(dict.fromkeys(self.costs.names, 8.0))
        self._price = float(self._layers[0].learned_width.multiplier.numpy())
        if not self._price:  # else it is a run that is taken up again
            self._begin()
        self.history: list[tuple[float, dict[str, float]]] = []
        """Of each look: the share of the budget that is used, and the widths."""

    def _find(self):
        return model_costs.learning(self._model), model_costs.costs_of(self._model)

    def _settle(self) -> None:
        model_costs.settle(self._model, self.costs)

    def _begin(self) -> None:
        needed = _REACH / (self._steps * _TIGHT_SHARE * max(self._rate(), 1e-9))
        for layer in self._layers:
            layer.learned_width.set_speed(max(BITS_A_STEP, needed))
        self._set_price(_FIRST_PRICE)

    def _rate(self) -> float:
        """The learning rate of the step that comes; ``optimizer.learning_rate`` is that of the last one."""
        optimizer = self._model.optimizer
        schedule = getattr(optimizer, "_learning_rate", None)
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            return float(schedule(optimizer.iterations))
        return float(optimizer.learning_rate)

    def _set_price(self, price: float) -> None:
        self._price = float(np.float32(price))  # as it is saved
        for layer in self._layers:
            layer.learned_width.multiplier.assign(self._price)

    def widths(self) -> dict[str, float]:
        """Learned widths by layer."""
        return {layer.name: layer.learned_width.width for layer in self._layers}

    def whole_widths(self) -> dict[str, int]:
        """Whole widths by layer, which the model computes with."""
        return {layer.name: layer.weight_bits for layer in self._layers}

    @property
    def settled(self) -> bool:
        """Whether all widths stay."""
        return all(layer.learned_width.settled for layer in self._layers)

    def said(self) -> str:
        """A line of how far it is: each cost against its limit, and the width of each layer."""
        widths = self.whole_widths() if self.settled else self.widths()
        parts = ", ".join(f"{name} {width:.3g}" for name, width in widths.items())
        return f"{self.costs.summary(widths)}; bits: {parts}"

    def after_batch(self, number: int) -> None:
        """Looks at the widths after so many batches of their stage (from 1)."""
        if self.settled:
            return
        if number >= self._steps:
            self._settle()
            return
        if number % max(1, self._steps // _LOOKS):
            return
        widths = self.widths()
        share = min(1.0, number / (self._steps * _TIGHT_SHARE))
        allowed = self._start + share * (min(1.0, self._start) - self._start)
        used = self.costs.fullest(widths)
        self.history.append((used, widths))
        price = self._price * math.exp(self.GAIN * max(-0.5, min(0.5, used / allowed - 1.0)))
        self._set_price(min(price, _LARGEST_PRICE))
        slopes = self.costs.slopes(widths)
        for layer in self._layers:
            layer.learned_width.set_price(self._price * slopes[layer.name])
            if abs(layer.learned_width.width - layer.weight_bits) > _HYSTERESIS:
                layer.take_width(round(layer.learned_width.width))
