"""Tensors of a model that is being rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Wire(NamedTuple):
    """A tensor of the new model: quantized (steps and scale) or float (scale None).

    ``bounds`` is the range of its values, 0..1 or -1..1, where that is known, as behind a sigmoid. Layers that cannot
    leave the range of their inputs keep it, so that no score is capped at what the clips of a calibration gave.
    """

    value: Any
    scale: Any = None
    bounds: tuple[int, int] | None = None


def pairs(wires: Sequence[Wire]) -> list:
    """Values and scales of quantized wires, one after another: what a layer of several inputs takes."""
    return [part for wire in wires for part in wire[:2]]
