# SPDX-License-Identifier: Apache-2.0
"""What the widths of a model's activations come to, and how they are settled at the mean that is allowed."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize import activation_bits, budget, learned_widths, model_costs
from tfmot_kws.quantize.costs import Layer
from tfmot_kws.quantize.learned_widths import LearnedWidth


class Activation:
    """The output of a layer, as what steers widths and settles them sees the weights of one.

    Args:
      layer: with an output grid whose width is learned.
    """

    def __init__(self, layer: keras.layers.Layer) -> None:
        self.layer, self.name = layer, layer.name
        self.learned_width: LearnedWidth = layer.output_grid.width

    @property
    def weight_bits(self) -> int:
        """The whole width that stands."""
        return self.learned_width.bits

    def take_width(self, bits: int) -> None:
        """Computes with another whole width from now on; the range stays."""
        self.learned_width.take(bits)


def learning(model: keras.Model) -> list[Activation]:
    """The activations that learn their width, settled or not."""
    found = {id(layer): layer for layer in model._flatten_layers()}.values()
    return [Activation(layer) for layer in found if getattr(getattr(layer, "output_grid", None), "width", None)]


def settled(model: keras.Model) -> bool:
    """Whether no activation learns its width any more."""
    return all(one.learned_width.settled for one in learning(model))


def costs_of(model: keras.Model) -> budget.Costs:
    """The widths of a model's activations against the mean that is allowed.

    Raises:
      ValueError: no activation learns its width, or a shape is not fixed.
    """
    learned, calls = learning(model), model_costs.calls_of(model)
    if not learned:
        raise ValueError(
            f"model {model.name!r}: no activation learns its width; kws_scheme(activation_bits='learned', budget="
            "Budget(average_activation_bits=...)) lets those of layers that compute something learn"
        )
    layers = []
    for one in learned:
        shapes = [tf.nest.flatten(node.outputs)[0].shape[1:] for node in calls[id(one.layer)]]
        if any(None in shape for shape in shapes):
            raise ValueError(f"layer {one.name!r}: shape {shapes[0]} is not fixed; give keras.Input a fixed shape")
        one.learned_width.uses = len(shapes)
        elements = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)
        layers.append(Layer(one.name, elements, 1, "activation", least=activation_bits.LEAST))
    return budget.Costs(layers, budget.Budget(average_activation_bits=_average(learned[0].layer)))


def _average(layer: keras.layers.Layer) -> float:
    bits = layer.bits.activation_bits if hasattr(layer, "bits") else layer.activation_bits
    return bits.average


def settle(model: keras.Model, costs: budget.Costs | None = None) -> dict[str, int]:
    """Whole widths of the mean that is allowed, as near to what was learned as can be; they stay.

    Args:
      model: with activations that learn their width, or without any.
      costs: ``costs_of(model)``, where it is known.

    Returns:
      Widths by layer; of those that were settled before, what they have.
    """
    return learned_widths.settle(learning(model), lambda widths: (costs or costs_of(model)).whole(widths))
