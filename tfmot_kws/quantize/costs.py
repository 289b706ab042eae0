# SPDX-License-Identifier: Apache-2.0
"""What layers cost on a device: a table from a cost and a kind of layer to a function of sizes and widths.

The idea is PLiNIO's (github.com/eml-eda/plinio): a cost knows layers by their sizes alone, so that whatever chooses
widths, or layers, uses the same table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tfmot_kws.quantize import instruction_table

WIDTHS = range(1, 9)
_VECTOR = 16
"""Inputs of a block of packed weights."""
_ROWS_8 = {bits: (8, 16 * bits) for bits in WIDTHS}
BLOCKS: Mapping[str, Mapping[int, tuple[int, int]]] = MappingProxyType(
    {
        "any": _ROWS_8,
        "aarch64-i8mm": {bits: (16, 32 * bits) for bits in WIDTHS},
        "cortex-m4": {
            1: (8, 16), 2: (4, 16), 3: (4, 32), 4: (4, 32), 5: (6, 64), 6: (4, 64), 7: (4, 64), 8: (4, 64),
        },
        "cortex-a53": {**_ROWS_8, 1: (32, 64)},
    }
)  # fmt: skip
"""Output rows and bytes of 16 inputs of packed weights, by target and width, see ``tflite_export/packed/packing.py``;
a test holds them together."""
LEAST_PLACES: Mapping[str, int] = MappingProxyType({"aarch64-i8mm": 4})
"""Places from which on a target's own blocks are written; with fewer, those of "any"."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """What costs are computed from.

    Attributes:
        name: of the layer.
        outputs, inputs: of a row of weights; of a depthwise kernel its channels and taps, of a recurrent layer its
            gates times units, and its channels and units together; of an activation its elements, and 1.
        kind: "dense" (convolutions too), "waveform" (filters over samples), "depthwise", "recurrent", "dynamic" (a
            dense layer or convolution that quantizes its inputs as it runs), "float depthwise" or "activation".
        bits: the width, where it is fixed; None where it is learned.
        places: rows of inputs that a run multiplies: the places of a convolution's window, 1 of a dense layer.
        function: "linear" or "sigmoid", what a dynamic layer ends with; ReLU counts as linear, tanh as a sigmoid.
        parts: (outputs, inputs) of matrices that are packed one by one; of one matrix nothing needs to be said.
        least: the least width that can be learned.
    """

    name: str
    outputs: int
    inputs: int
    kind: str = "dense"
    bits: int | None = None
    places: int = 1
    function: str = "linear"
    parts: tuple[tuple[int, int], ...] = ()
    least: int = 1

    @property
    def weights(self) -> int:
        """How many."""
        return self.outputs * self.inputs


@dataclasses.dataclass(frozen=True)
class Device:
    """What the file is for.

    Attributes:
        target: that ``tflite_export.convert`` packs it for.
        core: whose instructions are counted; None where they are not.
    """

    target: str = "any"
    core: str | None = None


ANY = Device()
CostFunction = Callable[[Layer, int, Device], float]


def packed_bytes(outputs: int, inputs: int, bits: int, target: str = "any") -> int:
    """Bytes of one packed matrix of weights: what ``tflite_export`` writes."""
    rows, size = BLOCKS[target][bits]
    if target == "aarch64-i8mm":  # its blocks have 8 inputs; so may the last one
        return -(-outputs // rows) * -(-2 * inputs // _VECTOR) * size // 2
    return -(-outputs // rows) * -(-inputs // _VECTOR) * size


def _target_of(layer: Layer, target: str) -> str:
    """What a layer's weights are packed for; a recurrent layer multiplies row by row."""
    places = 1 if layer.kind == "recurrent" else layer.places
    return target if places >= LEAST_PLACES.get(target, 1) else "any"


def _packed(layer: Layer, bits: int, device: Device) -> int:
    parts = layer.parts or ((layer.outputs, layer.inputs),)
    target = _target_of(layer, device.target)
    return sum(packed_bytes(outputs, inputs, bits, target) for outputs, inputs in parts)


def _tight(layer: Layer, bits: int, device: Device) -> int:
    """Weights of dynamic quantization have no block of inputs to fill."""
    return -(-layer.outputs // 8) * layer.inputs * bits if bits <= 8 else 2 * layer.weights


def _weight_bits(layer: Layer, bits: int, device: Device) -> int:
    return layer.weights * bits


def _macs(layer: Layer, bits: int, device: Device) -> int:
    return layer.places * layer.weights


def _parameters(layer: Layer, bits: int, device: Device) -> int:
    return layer.weights + layer.outputs


def _dense_instructions(layer: Layer, bits: int, device: Device) -> float:
    op = layer.kind
    target = "any" if op == "dynamic" else _target_of(layer, device.target)
    shape = (layer.outputs, layer.inputs, layer.places)
    return instruction_table.dense(device.core, op, target, bits, layer.function, shape, BLOCKS[target][bits][0])


def _depthwise_instructions(layer: Layer, bits: int, device: Device) -> float:
    return instruction_table.depthwise(device.core, layer.kind, layer.outputs, layer.inputs, layer.places)


_KINDS = ("dense", "waveform", "depthwise", "recurrent", "dynamic", "float depthwise")
COSTS: Mapping[str, Mapping[str, CostFunction]] = MappingProxyType(
    {
        "flash": {
            "dense": _packed,
            "waveform": _packed,
            "recurrent": _packed,
            "dynamic": _tight,
            "depthwise": lambda layer, bits, device: layer.weights,
            "float depthwise": lambda layer, bits, device: 4 * layer.weights,
        },
        "average_bits": dict.fromkeys(("dense", "waveform", "depthwise", "recurrent", "dynamic"), _weight_bits),
        "average_activation_bits": {"activation": _weight_bits},
        "macs": dict.fromkeys(_KINDS, _macs),
        "parameters": dict.fromkeys(_KINDS, _parameters),
        "instructions": {
            "dense": _dense_instructions,
            "dynamic": _dense_instructions,
            "depthwise": _depthwise_instructions,
            "float depthwise": _depthwise_instructions,
        },
    }
)
"""Cost -> kind of layer -> function of the layer, a whole width and the device.

flash: bytes of packed weights. average_bits, average_activation_bits: bits of all weights, or of all elements of an
activation; a budget divides them by how many there are. macs: multiply-accumulates of a run. parameters: weights, and
a bias for each output. instructions: of a run of the layer on a core.
"""


def cost_of(cost: str, layer: Layer, bits: int, device: Device = ANY) -> float:
    """What a layer costs at a whole width.

    Args:
        cost: a key of ``COSTS``.
        layer: its sizes.
        bits: of a weight or of an activation, 1..8.
        device: what it runs on.

    Raises:
        ValueError: a cost or a kind that the table does not have, or a core or target without counts.
    """
    if cost not in COSTS:
        raise ValueError(f"cost {cost!r} is not known; there are {', '.join(COSTS)}")
    if layer.kind not in COSTS[cost]:
        raise ValueError(
            f"layer {layer.name!r}: what a {layer.kind} layer costs in {cost} is not known; leave that limit out, or "
            f"take the layer out (there are {', '.join(COSTS[cost])})"
        )
    return COSTS[cost][layer.kind](layer, bits, device)


def flash_bytes(layer: Layer, bits: int, target: str = "any") -> int:
    """Bytes of the packed weights of a layer: what ``tflite_export`` writes for that target."""
    return int(cost_of("flash", layer, bits, Device(target)))


def weight_bits(layer: Layer, bits: int) -> int:
    """Bits of the weights of a layer, nothing else counted."""
    return int(cost_of("average_bits", layer, bits))


def macs(layer: Layer) -> int:
    """Multiply-accumulates of a run."""
    return int(cost_of("macs", layer, 8))


def parameters(layer: Layer) -> int:
    """Weights, and a bias for each output."""
    return int(cost_of("parameters", layer, 8))


def instructions(layer: Layer, bits: int, core: str, target: str = "any") -> float:
    """Instructions of a run of a layer on a core, as ``instruction_table`` models what was counted.

    Raises:
        ValueError: nothing was counted on that core, or of such a layer.
    """
    return cost_of("instructions", layer, bits, Device(target, core))
