# SPDX-License-Identifier: Apache-2.0
"""Steers widths of activations to their mean while stage 2, which quantizes activations, begins."""

from __future__ import annotations

import math

from tfmot_kws.quantize import activation_costs
from tfmot_kws.training.width_steering import WidthSteering

SHARE = 0.5
"""Of stage 2, in which widths move; in the rest everything settles into them, and the best epoch can be chosen."""

_GAIN = 1.0
"""Less than that of weights: stage 2 is short, and a price that shoots over it leaves Adam a memory of large gradients,
with which widths hardly move for the rest."""


def first_settled_epoch(stage1_epochs: int, stage2_epochs: int) -> int:
    """The first epoch (from 0) that ends with widths that stay."""
    return stage1_epochs + math.floor(SHARE * stage2_epochs)


class ActivationSteering(WidthSteering):
    """As ``WidthSteering``, of activations and in stage 2.

    Args:
      model: with activations that learn their width.
      total: batches of stage 2.
    """

    SHARE, GAIN = SHARE, _GAIN

    def _find(self):
        return activation_costs.learning(self._model), activation_costs.costs_of(self._model)

    def _settle(self) -> None:
        activation_costs.settle(self._model, self.costs)
