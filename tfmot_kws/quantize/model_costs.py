# SPDX-License-Identifier: Apache-2.0
"""What the widths of a quantized model cost, and how they are settled within its budget."""

from __future__ import annotations

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize import budget, layers
from tfmot_kws.quantize.layer_parts import TanhKernel


def learning(model: keras.Model) -> list[layers.QuantizedKernel]:
    """The layers that learn their width, settled or not."""
    return [layer for layer in _kernels(model) if layer.learned_width is not None]


def _kernels(model) -> list[layers.QuantizedKernel]:
    found = [layer for layer in model._flatten_layers() if isinstance(layer, layers.QuantizedKernel)]
    return list({id(layer): layer for layer in found}.values())


def costs_of(model: keras.Model) -> budget.Costs:
    """The costs of a model's widths against its budget.

    Raises:
      ValueError: no layer learns its width, or the budget cannot be met.
    """
    learned = learning(model)
    uncounted = [layer.name for layer in model.layers if _is_uncounted(layer)]
    if uncounted:
        raise ValueError(
            f"budget: what {', '.join(map(repr, uncounted))} costs is not known; widths can be learned in models whose "
            "weights are in dense layers and convolutions"
        )
    if not learned:
        raise ValueError(
            f"model {model.name!r}: no layer learns its width; kws_scheme(bits='learned', budget=...) does"
        )
    return budget.Costs([_facts(layer) for layer in _kernels(model)], learned[0].bits.learned)


def _is_uncounted(layer) -> bool:
    """Whether it has kernels inside that are none of dense layers or convolutions, as recurrent layers have."""
    inside = [one for one in layer._flatten_layers() if isinstance(one, TanhKernel)]
    return any(not isinstance(one, layers.QuantizedKernel) for one in inside)


def _facts(layer: layers.QuantizedKernel) -> budget.Layer:
    outputs, weights = int(layer.gain.shape[0]), int(np.prod(layer.kernel.shape))
    fixed = layer.bits.bits if layer.learned_width is None else None
    depthwise = isinstance(layer, layers.QuantizedDepthwise)
    return budget.Layer(layer.name, outputs, weights // outputs, depthwise, fixed)


def settle(model: keras.Model) -> dict[str, int]:
    """Whole widths within the budget, as near to what was learned as can be; they stay.

    Returns:
      Widths by layer; of layers that were settled before, what they have.
    """
    learned = learning(model)
    if any(not layer.learned_width.settled for layer in learned):
        widths = costs_of(model).whole({layer.name: layer.learned_width.width for layer in learned})
        for layer in learned:
            layer.take_width(widths[layer.name])
            layer.learned_width.settle()
    return {layer.name: layer.weight_bits for layer in learned}
