# SPDX-License-Identifier: Apache-2.0
"""What learned widths may cost: a budget, tables from a layer and a width to a cost, and whole widths that meet it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

WIDTHS = range(1, 9)
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKmM]?)[bB]?\s*")
_UNITS = {"": 1, "k": 1000, "m": 1000000}
_TILE, _VECTOR = 8, 16
"""Rows and inputs of a block of packed weights, see ``tflite_export/packed/packing.py``; a test holds them together."""
_EXHAUSTIVE = 2**18
"""So many combinations of widths are all looked at; of more, the likely ones are."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """What a cost is computed from.

    Attributes:
        name: of the layer.
        outputs, inputs: of a row of weights.
        depthwise: whether each channel has weights of its own; they take a byte each, whatever their width.
        bits: the width, where it is fixed; None where it is learned.
    """

    name: str
    outputs: int
    inputs: int
    depthwise: bool = False
    bits: int | None = None

    @property
    def weights(self) -> int:
        """How many."""
        return self.outputs * self.inputs


def flash_bytes(layer: Layer, bits: int) -> int:
    """Bytes of the packed weights of a layer: what ``tflite_export`` writes for ``target="any"``."""
    if layer.depthwise:
        return layer.weights
    return -(-layer.outputs // _TILE) * -(-layer.inputs // _VECTOR) * _VECTOR * bits


def weight_bits(layer: Layer, bits: int) -> int:
    """Bits of the weights of a layer, nothing else counted."""
    return layer.weights * bits


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the weights of a model may cost at most; at least one of them.

    Attributes:
        flash: bytes of all packed weights, or text such as "12KB" (1 KB = 1000 bytes). The file has more
            for each layer (biases, gains, options), whatever the widths.
        average_bits: mean width over all weights, 1..8.

    Raises:
        ValueError: nothing is limited, or a limit is out of its range; the message names it.
    """

    flash: int | str | None = None
    average_bits: float | None = None

    def __post_init__(self) -> None:
        if self.flash is None and self.average_bits is None:
            raise ValueError("Budget: limits nothing; give flash='12KB' or average_bits=2.5")
        if self.flash is not None:
            object.__setattr__(self, "flash", parse_size(self.flash))
        if self.average_bits is not None and not 1.0 <= self.average_bits <= 8.0:
            raise ValueError(f"Budget.average_bits={self.average_bits!r}: must be between 1 and 8")

    def limits(self, layers: Sequence[Layer]) -> dict[str, float]:
        """What each cost that is limited may be at most, for a model of these layers."""
        found = {} if self.flash is None else {"flash": float(self.flash)}
        if self.average_bits is not None:
            found["average_bits"] = self.average_bits * sum(layer.weights for layer in layers)
        return found


def parse_size(size: int | str) -> int:
    """Bytes of 12000 or "12KB"; ValueError where it is no size above 0."""
    match = _SIZE.fullmatch(str(size)) if not isinstance(size, bool) else None
    value = round(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if value < 1:
        raise ValueError(f"Budget.flash={size!r}: must be a number of bytes above 0, such as 12000 or '12KB'")
    return value


_COSTS = {"flash": flash_bytes, "average_bits": weight_bits}


class Costs:
    """The costs of a model's widths against its budget.

    Args:
        layers: of the model; at least one learns its width.
        budget: what they may cost.

    Raises:
        ValueError: even the least widths cost more; the message says how much.
    """

    def __init__(self, layers: Sequence[Layer], budget: Budget) -> None:
        self.layers, self.budget = tuple(layers), budget
        self.names = [layer.name for layer in layers if layer.bits is None]
        self.limits = budget.limits(layers)
        free = [layer for layer in layers if layer.bits is None]
        self.fixed = {
            cost: sum(_COSTS[cost](layer, layer.bits) for layer in layers if layer.bits is not None)
            for cost in self.limits
        }
        self.tables = {
            cost: np.array([[_COSTS[cost](layer, bits) for bits in WIDTHS] for layer in free], np.float64)
            for cost in self.limits
        }
        """Of each cost: float64 [layers that learn, 8]."""
        self._check()

    def _check(self) -> None:
        for cost, limit in self.limits.items():
            least = self.fixed[cost] + self.tables[cost].min(axis=1).sum()
            if least > limit:
                raise ValueError(
                    f"budget: at most {self._said(cost, limit)}, but with 1 bit where widths are learned it is "
                    f"{self._said(cost, least)}; allow more, or a smaller model"
                )

    def _said(self, cost: str, value: float) -> str:
        if cost == "flash":
            return f"{value:,.0f} bytes of weights"
        return f"{value / sum(layer.weights for layer in self.layers):.2f} bits a weight"

    def of(self, widths: Mapping[str, float]) -> dict[str, float]:
        """Each cost of widths by name; of widths between whole ones, between their costs."""
        place = np.array([widths[name] for name in self.names]) - 1.0
        below = np.clip(np.floor(place), 0, 6).astype(int)
        rows = np.arange(len(self.names))
        return {
            cost: self.fixed[cost]
            + float(np.sum(table[rows, below] + (place - below) * (table[rows, below + 1] - table[rows, below])))
            for cost, table in self.tables.items()
        }

    def fullest(self, widths: Mapping[str, float]) -> float:
        """The largest share of a limit that widths use; above 1 they do not meet the budget."""
        return max(value / self.limits[cost] for cost, value in self.of(widths).items())

    def slopes(self, widths: Mapping[str, float]) -> dict[str, float]:
        """By name, what a bit more adds to the fullest of the limits, as a share of it."""
        found = self.of(widths)
        cost = max(found, key=lambda name: found[name] / self.limits[name])
        table = self.tables[cost]
        below = [min(max(math.floor(widths[name]), 1), 7) - 1 for name in self.names]
        return {
            name: float(table[row, low + 1] - table[row, low]) / self.limits[cost]
            for row, (name, low) in enumerate(zip(self.names, below))
        }

    def whole(self, widths: Mapping[str, float]) -> dict[str, int]:
        """Whole widths that meet the budget, as good as they can be by what was learned.

        Rounding to b bits errs by 4^-b in the mean square. Where learned widths balance errors against costs, a layer
        whose bit costs ``slope`` has errors that count ``slope * 4^width``; the whole widths are those that make the
        sum of all errors, so weighed, the least within the budget.
        """
        slopes = self.slopes(widths)
        least = min((slope for slope in slopes.values() if slope > 0), default=1.0)
        weights = np.array([max(slopes[name], 1e-3 * least) * 4.0 ** widths[name] for name in self.names])
        errors = weights[:, None] * 4.0 ** -np.arange(1, 9)[None]
        if 8 ** len(self.names) > _EXHAUSTIVE:
            return self._greedy(errors)
        places = np.indices((8,) * len(self.names)).reshape(len(self.names), -1)
        total = sum(row[place] for row, place in zip(errors, places))
        for cost, table in self.tables.items():
            used = self.fixed[cost] + sum(row[place] for row, place in zip(table, places))
            total = np.where(used <= self.limits[cost], total, np.inf)
        return dict(zip(self.names, (int(place) + 1 for place in places[:, total.argmin()])))

    def _greedy(self, errors: np.ndarray) -> dict[str, int]:
        """From 1 bit everywhere, always the bit that takes away the most error for its cost and still fits."""
        widths = np.ones(len(self.names), int)
        used = {cost: self.fixed[cost] + table[:, 0].sum() for cost, table in self.tables.items()}
        while True:
            best, row = 0.0, None
            for n, bits in enumerate(widths):
                if bits == 8:
                    continue
                more = {cost: table[n, bits] - table[n, bits - 1] for cost, table in self.tables.items()}
                if any(used[cost] + more[cost] > self.limits[cost] for cost in more):
                    continue
                share = max(more[cost] / self.limits[cost] for cost in more)
                gain = (errors[n, bits - 1] - errors[n, bits]) / max(share, 1e-9)
                if gain > best:
                    best, row = gain, n
            if row is None:
                return dict(zip(self.names, map(int, widths)))
            for cost, table in self.tables.items():
                used[cost] += table[row, widths[row]] - table[row, widths[row] - 1]
            widths[row] += 1
