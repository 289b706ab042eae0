# SPDX-License-Identifier: Apache-2.0
"""Which tensors of a float model are samples of sound: what filters over samples read, back to the model's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfmot_kws.keras import keras
from tfmot_kws.quantize import supported
from tfmot_kws.quantize.plain.layers import TrainingOnly
from tfmot_kws.quantize.unsupported import UnsupportedLayerError


def _before(node: Any) -> Any:
    """The node that makes the first input of a node; None where there is no layer."""
    layer, index, _ = node.keras_inputs[0]._keras_history
    return layer._inbound_nodes[index]


def sound_of(nodes: Sequence[Any], readers: Mapping[int, Sequence[Any]]) -> set[int]:
    """Ids of the tensors that are samples.

    Args:
        nodes: of a functional model.
        readers: nodes by the id of a tensor that they read.

    Raises:
        UnsupportedLayerError: samples that another layer than filters reads: they have 16 bits, other tensors 8.
    """
    found: set[int] = set()
    for node in nodes:
        if type(node.layer) not in supported.WAVEFORM:
            continue
        while not node.is_input and _passes(node):
            found.add(id(node.keras_inputs[0]))
            node = _before(node)
    for key in found:
        for node in readers.get(key, ()):
            if not _passes(node):
                raise UnsupportedLayerError(
                    node.layer, "the samples that filters over sound read too",
                    "give it what the filters make of them, or an input of its own",
                )  # fmt: skip
    return found


def _passes(node: Any) -> bool:
    """Whether a layer takes samples as they are."""
    kinds = (*supported.WAVEFORM, *supported.SOUND_MOVERS, *supported.IDLE, TrainingOnly)
    return type(node.layer) in kinds


def check_sound(node: Any) -> None:
    """Refuses filters over anything but a model's input, moved at most.

    Args:
        node: of a functional model, a call of such filters.

    Raises:
        UnsupportedLayerError: it names the layer and what was found.
    """
    layer = node.layer
    source = _before(node)
    while not source.is_input and _passes(source) and type(source.layer) not in supported.WAVEFORM:
        source = _before(source)
    if not isinstance(source.layer, keras.layers.InputLayer):
        kind = type(source.layer).__name__
        raise UnsupportedLayerError(
            layer, f"the output of layer {source.layer.name!r} ({kind})",
            "let it read the model's input, samples of sound, or use Conv1D",
        )  # fmt: skip
