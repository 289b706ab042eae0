# SPDX-License-Identifier: Apache-2.0
"""How many instructions a layer takes on a core: a model of counts under QEMU, one set of factors for each kernel.

``instructions.json`` has the factors. ``scripts/make_instruction_table.py`` fits them to what
``benchmarks/layer_instructions.py`` counted of whole layers; ``tests/quantize/test_instruction_table.py`` holds them to
every count. Kernels work through blocks of rows and of 16 inputs, so the terms are blocks, their product, and what is
left over at their ends.
"""

from __future__ import annotations

import functools
import importlib.resources
import json

import numpy as np

_INPUTS, _TILE, _LANES = 16, 8, 8
"""Inputs of a block; rows of a tile; channels that depthwise kernels take at once, at the least."""
DENSE_TERMS = (
    "places", "row blocks", "input blocks", "blocks", "rows left over", "any rows left over", "any inputs left over",
    "row blocks with inputs left over", "odd row blocks", "their blocks", "inputs", "rows of a last tile", "once",
)  # fmt: skip
DEPTHWISE_TERMS = (
    "places", "channel blocks", "their taps", "channels left over", "their taps", "eights of them",
    "channels of layers with few", "their taps", "once",
)  # fmt: skip


def dense_terms(outputs: int, inputs: int, places: int, rows: int) -> np.ndarray:
    """What the factors of a dense layer are multiplied with, float64 [terms].

    Args:
        outputs, inputs: of the layer.
        places: rows of inputs that are multiplied in a run.
        rows: of a block of packed weights.
    """
    over, odd = outputs % rows, -(-outputs // rows) % 2
    tall, wide = -(-outputs // rows), -(-inputs // _INPUTS)
    ragged = float(inputs % _INPUTS > 0)
    last = over % _TILE if rows > _TILE else 0  # which are finished one by one
    place = (1, tall, wide, tall * wide, over, float(over > 0), ragged, tall * ragged, odd, odd * wide, inputs, last)
    return np.array([*(places * term for term in place), 1.0])


def split_places(places: int, inputs: int, at_once: int) -> tuple[int, int]:
    """How often a kernel takes ``at_once`` places together, and how many stay alone.

    Rows of inputs are taken together where they lie, which those that do not fill blocks do not.
    """
    return divmod(places, at_once) if inputs % _INPUTS == 0 or at_once == 1 else (0, places)


def depthwise_terms(channels: int, taps: int, places: int) -> np.ndarray:
    """What the factors of a depthwise layer are multiplied with, float64 [terms].

    Kernels with vectors take eight channels at least; where a layer has fewer, they are summed one by one.
    """
    few = channels if channels < _LANES else 0
    full, over = divmod(channels - few, _INPUTS)
    place = (1, full, full * taps, over, over * taps, -(-over // _LANES), few, few * taps)
    return np.array([*(places * term for term in place), 1.0])


@functools.cache
def _table() -> dict[tuple[str, str, str, int, str], tuple[np.ndarray, int, np.ndarray]]:
    """(core, op, target, bits, function) -> factors, places that the kernel takes at once, factors of one alone."""
    text = importlib.resources.files("tfmot_kws.quantize").joinpath("instructions.json").read_text(encoding="utf-8")
    return {
        (row["core"], row["op"], row["target"], row["bits"], row["function"]): (
            np.array(row["factors"]), row["at_once"], np.array(row["alone"] or row["factors"]),
        )
        for row in json.loads(text)["rows"]
    }  # fmt: skip


def cores() -> tuple[str, ...]:
    """Cores that layers were counted on."""
    return tuple(dict.fromkeys(key[0] for key in _table()))


def targets_of(core: str) -> tuple[str, ...]:
    """Targets of ``tflite_export.convert`` whose files a core has fast kernels for.

    Raises:
        ValueError: a core that nothing was counted on; the message has all others.
    """
    if core not in cores():
        raise ValueError(f"core={core!r}: no instructions were counted there; there are {', '.join(cores())}")
    return tuple(dict.fromkeys(key[2] for key in _table() if key[0] == core))


def dense(core: str, op: str, target: str, bits: int, function: str, shape: tuple[int, int, int], rows: int) -> float:
    """Instructions of a run of a dense layer or a convolution.

    Args:
        core: one of ``cores()``.
        op: "dense" or "dynamic".
        target: that the file is packed for.
        bits: of a weight, 1..8.
        function: "linear" (ReLU and ReLU6 too) or "sigmoid".
        shape: outputs, inputs and places.
        rows: of a block of packed weights.

    Raises:
        ValueError: a core that nothing was counted on, or none of its kernels reads such a file.
    """
    if target not in targets_of(core):
        raise ValueError(
            f"target={target!r}: {core} has no fast kernel for such files; it has for {', '.join(targets_of(core))}"
        )
    key = (core, op, target, bits, function)
    factors, at_once, alone = _table()[key if key in _table() else (core, op, "any", bits, function)]
    outputs, inputs, places = shape
    together, single = split_places(places, inputs, at_once)
    found = factors @ dense_terms(outputs, inputs, together, rows)
    if at_once > 1:
        found += alone[:-1] @ dense_terms(outputs, inputs, single, rows)[:-1]
    return float(found)


def depthwise(core: str, op: str, channels: int, taps: int, places: int) -> float:
    """Instructions of a run of a depthwise convolution; ``op`` is "depthwise" or "float depthwise".

    Raises:
        ValueError: a core that nothing was counted on.
    """
    targets_of(core)
    factors, _, _ = _table()[core, op, "any", 8, "linear"]
    return float(factors @ depthwise_terms(channels, taps, places))
