# SPDX-License-Identifier: Apache-2.0
"""What a model learns beside its weights, as numbers by name: ranges, scales, widths and what they cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize import activation_costs, budget, model_costs
from tfmot_kws.quantize.layer_parts import TanhKernel
from tfmot_kws.quantize.output_grid import OutputGrid
from tfmot_kws.quantize.recurrent import GateKernel, QuantizedRecurrent


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers of a model and of models in it, each once."""
    return list({id(layer): layer for layer in model._flatten_layers()}.values())


def ranges(model: keras.Model) -> dict[str, float]:
    """The ranges of activations as they stand, in real units.

    Args:
        model: quantized by a ``kws_scheme``, or float.

    Returns:
        ``ranges/LAYER/low`` and ``ranges/LAYER/high``, the ends of what the layer's output can be, and
        ``scales/LAYER/output``, what one of its steps is worth. Layers that have seen no data have none, nor have those
        whose range is fixed.
    """
    found = {}
    for layer in layers_of(model):
        grid = getattr(layer, "output_grid", None)
        if not isinstance(grid, OutputGrid) or not grid.tracked:
            continue
        now = grid.grid()
        scale = float(now.scale.numpy())
        found[f"ranges/{layer.name}/low"] = scale * float(now.low.numpy())
        found[f"ranges/{layer.name}/high"] = scale * float(now.high.numpy())
        found[f"scales/{layer.name}/output"] = scale
    return found


def weight_scales(model: keras.Model) -> dict[str, np.ndarray]:
    """What a step of the weights is worth in each output of each layer.

    Args:
        model: quantized, or float.

    Returns:
        ``scales/LAYER/weights``: float32 [outputs]; of both kernels of a recurrent layer ``scales/LAYER/kernel`` and
        ``scales/LAYER/recurrent``.
    """
    found = {}
    for layer in layers_of(model):
        if isinstance(layer, QuantizedRecurrent):
            for part in (layer.kernel_part, layer.recurrent_part):
                found[f"scales/{layer.name}/{part.name}"] = part.weight_scales
        elif isinstance(layer, TanhKernel) and not isinstance(layer, GateKernel):
            found[f"scales/{layer.name}/weights"] = layer.weight_scales
    return found


class Widths:
    """The widths that a model learns, and what they cost against its budget.

    Args:
        model: quantized, or float, which learns none.
    """

    def __init__(self, model: keras.Model) -> None:
        self._kinds = [
            (name, costs.learning(model), costs.costs_of(model))
            for name, costs in (("widths", model_costs), ("activation_widths", activation_costs))
            if costs.learning(model)
        ]

    def values(self) -> dict[str, float]:
        """The widths and costs as they stand.

        Returns:
            ``widths/LAYER`` and ``activation_widths/LAYER``, the real width that is learned (1..8), or the whole one
            once it stays; ``budget/COST``, what they cost in the units of ``Budget``, and ``budget/COST_share``, which
            share of its limit that is.
        """
        return {name: value for kind in self._kinds for name, value in _of_kind(*kind)}


def _of_kind(name: str, learned: list, costs: budget.Costs) -> Iterator[tuple[str, float]]:
    widths = {
        one.name: float(one.weight_bits) if one.learned_width.settled else one.learned_width.width for one in learned
    }
    yield from ((f"{name}/{layer}", width) for layer, width in widths.items())
    for cost, value in costs.of(widths).items():
        share = value / costs.limits[cost]
        # A mean width is counted as the sum of all bits.
        yield f"budget/{cost}", share * getattr(costs.budget, cost) if cost.startswith("average") else value
        yield f"budget/{cost}_share", share
