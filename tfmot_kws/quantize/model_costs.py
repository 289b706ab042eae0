# SPDX-License-Identifier: Apache-2.0
"""What the widths of a quantized model cost, and how they are settled within its budget."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize import budget, device_facts, layers, learned_widths
from tfmot_kws.quantize.activation_bits import LearnedActivations
from tfmot_kws.quantize.costs import LEAST_PLACES, Layer, cost_of
from tfmot_kws.quantize.dynamic.layers import DynamicKernel
from tfmot_kws.quantize.recurrent import QuantizedRecurrent
from tfmot_kws.quantize.recurrent_math import GATES
from tfmot_kws.quantize.waveform import QuantizedWaveform

_LEARN = (layers.QuantizedKernel, QuantizedRecurrent, DynamicKernel)
_FIXED = (QuantizedWaveform,)
_FLOAT_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_FLOAT_BITS = 32


def learning(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that learn the width of their weights, settled or not."""
    return [layer for layer in _weighted(model) if getattr(layer, "learned_width", None) is not None]


def _weighted(model) -> list[keras.layers.Layer]:
    """Layers with kernels, in the order in which they run, float depthwise ones of dynamic quantization too."""
    found = list({id(layer): layer for layer in model._flatten_layers()}.values())
    dynamic = any(isinstance(layer, DynamicKernel) for layer in found)
    kinds = (*_LEARN, *_FIXED, *(_FLOAT_DEPTHWISE if dynamic else ()))
    return [layer for layer in found if isinstance(layer, kinds)]


def calls_of(model: keras.Model) -> dict[int, list]:
    """By the id of a layer, the nodes at which functional models of ``model`` call it, in the order of the calls."""
    found: dict[int, list] = {}
    for one in model._flatten_layers():
        by_depth = getattr(one, "_nodes_by_depth", None) or {}
        for depth in sorted(by_depth, reverse=True):
            for node in by_depth[depth]:
                found.setdefault(id(node.layer), []).append(node)
    return found


def costs_of(model: keras.Model) -> budget.Costs:
    """The costs of a model's widths against its budget.

    Raises:
      ValueError: no layer learns its width, the budget cannot be met, or a cost of a layer is not known.
    """
    learned = learning(model)
    if not learned:
        raise ValueError(
            f"model {model.name!r}: no layer learns its width; kws_scheme(bits='learned', budget=...) does"
        )
    allowed, calls = learned[0].bits.learned, calls_of(model)
    for layer in learned:
        layer.learned_width.uses = len(calls[id(layer)]) * (2 if isinstance(layer, QuantizedRecurrent) else 1)
    counted = allowed.instructions is not None or allowed.target in LEAST_PLACES
    steps = device_facts.places_of_step(model) if allowed.streaming and counted else {}
    weighted = [layer for layer in _weighted(model) if id(layer) in calls]
    return budget.Costs([_facts(layer, calls[id(layer)], steps) for layer in weighted], allowed)


def _facts(layer, calls: list, steps: Mapping[str, int]) -> Layer:
    outputs, weights, kind, parts = _sizes(layer)
    places = steps.get(layer.name) or sum(_places(layer, node) for node in calls)
    fixed = _FLOAT_BITS if kind == "float depthwise" else layer.bits.bits if layer.learned_width is None else None
    activation = getattr(layer, "activation", "linear")
    function = "sigmoid" if kind == "dynamic" and activation in ("sigmoid", "tanh") else "linear"
    return Layer(layer.name, outputs, weights // outputs, kind, fixed, places, function, parts)


def _sizes(layer) -> tuple[int, int, str, tuple[tuple[int, int], ...]]:
    """Outputs, weights, kind, and the matrices of a layer of several."""
    if isinstance(layer, QuantizedRecurrent):
        units, rows = layer.units, layer.units * GATES[layer.cell]
        channels = int(layer.kernel_part.kernel.shape[0])
        # A GRU that resets ahead of the product multiplies two gates and the third apart.
        halves = ((2 * units, units), (units, units)) if layer.cell == "gru" else ((rows, units),)
        return rows, rows * (channels + units), "recurrent", ((rows, channels), *halves)
    if isinstance(layer, _FLOAT_DEPTHWISE):
        shape = layer.depthwise_kernel.shape
        return int(shape[-2] * shape[-1]), int(np.prod(shape)), "float depthwise", ()
    if isinstance(layer, QuantizedWaveform):
        return layer.filters.filters, layer.filters.filters * layer.filters.taps, "waveform", ()
    weights = int(np.prod(layer.kernel.shape))
    if isinstance(layer, layers.QuantizedDepthwise):
        return int(layer.gain.shape[0]), weights, "depthwise", ()
    return int(layer.kernel.shape[-1]), weights, "dynamic" if isinstance(layer, DynamicKernel) else "dense", ()


def _places(layer, node) -> int:
    """Rows of inputs that a call multiplies for one clip."""
    shape = tf.nest.flatten(node.outputs)[0].shape[1:-1]
    if isinstance(layer, QuantizedRecurrent):
        shape = tf.nest.flatten(node.keras_inputs)[0].shape[1:-1]
    if isinstance(layer, QuantizedWaveform):
        shape = (*shape, layer.filters.average)
    if None in shape:
        raise ValueError(
            f"layer {layer.name!r}: shape {tuple(shape)} is not fixed, so what a run costs is not known; give "
            "keras.Input a fixed shape"
        )
    return int(np.prod(shape, dtype=np.int64))


def budgets_of(model: keras.Model) -> dict[str, str]:
    """What a run of training depends on beside its weights, for its record: limits of widths that are learned."""
    learned = learning(model)
    averages = {
        bits.average
        for layer in model._flatten_layers()
        if isinstance(bits := _activation_bits(layer), LearnedActivations)
    }
    found = {"budget": learned[0].bits.learned.named()} if learned else {}
    return found | ({"average_activation_bits": str(max(averages))} if averages else {})


def _activation_bits(layer):
    return getattr(layer, "activation_bits", getattr(getattr(layer, "bits", None), "activation_bits", None))


def check_fixed(model: keras.Model, allowed: budget.Budget) -> None:
    """ValueError where a model needs more of something than is allowed that no width changes: RAM, operations, ..."""
    limits = allowed.fixed_limits
    for name in ("macs", "parameters"):
        if name in limits:
            steps = device_facts.places_of_step(model) if allowed.streaming and name == "macs" else {}
            calls = calls_of(model)
            layers = [_facts(layer, calls[id(layer)], steps) for layer in _weighted(model) if id(layer) in calls]
            needed = sum(cost_of(name, layer, 8) for layer in layers)
            if needed > limits[name]:
                what = "multiply-accumulates" if name == "macs" else name
                raise ValueError(
                    f"budget: at most {limits[name]:,} {what}, but the layers with weights have {needed:,.0f}, "
                    "whatever the widths; allow more, or take a smaller model"
                )
    if allowed.ram is None:
        return
    needed = device_facts.ram_bytes(model, allowed.streaming)
    if needed > allowed.ram:
        run = "a step of a stream" if allowed.streaming else "a clip"
        way = "" if allowed.streaming else ", run it as a stream (Budget(streaming=True))"
        raise ValueError(
            f"budget: at most {allowed.ram:,} bytes of RAM, but the activations of {run} take {needed:,}, whatever the "
            f"widths; allow more{way}, or take a smaller model"
        )


def settle(model: keras.Model, costs: budget.Costs | None = None) -> dict[str, int]:
    """Whole widths within the budget, as near to what was learned as can be; they stay.

    Args:
      model: with layers that learn their width, or without any.
      costs: ``costs_of(model)``, where it is known.

    Returns:
      Widths by layer; of layers that were settled before, what they have.
    """
    return learned_widths.settle(learning(model), lambda widths: (costs or costs_of(model)).whole(widths))
