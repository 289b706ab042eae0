# SPDX-License-Identifier: Apache-2.0
"""What learned widths may cost: a budget, the costs of a model's widths against it, and whole widths that meet it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmot_kws.quantize import instruction_table
from tfmot_kws.quantize.costs import BLOCKS, COSTS, WIDTHS, Device, Layer, cost_of

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKmM]?)[bB]?\s*")
_UNITS = {"": 1, "k": 1000, "m": 1000000}
FIXED = ("ram", "macs", "parameters")
"""Limits of a network as such, whatever its widths."""
OwnFunction = Callable[[Layer, int], float]


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a model may cost at most; at least one limit, and any number of them at once.

    Attributes:
        flash: bytes of all packed weights, or text such as "12KB" (1 KB = 1000 bytes). The file has more
            for each layer (biases, gains, options), whatever the widths.
        average_bits: mean width over all weights, 1..8.
        instructions: of a run of all layers with weights on ``core``, as they were counted under QEMU.
        core: with ``instructions``: "cortex-m4", "cortex-m55", "cortex-a53", ...
        ram: bytes of activations (and of what a stream keeps), or text such as "8KB". No width changes it: a model that
            needs more is refused before it is trained.
        macs: multiply-accumulates of all layers with weights, or text such as "7M"; of a step of a stream with
            ``streaming``. No width changes it, as with RAM: it is there for networks that are searched.
        parameters: weights and a bias for each output, or text such as "76K"; likewise.
        average_activation_bits: mean width over all elements of activations that are learned, 2..8. The device stores a
            byte for each, whatever its width, so that neither ``flash`` nor ``ram`` changes.
        target: that ``tflite_export.convert`` packs the file for; it decides how many bytes a width takes, and which
            kernels run.
        streaming: whether ``instructions``, ``ram`` and ``macs`` are those of a step of a stream, not of a whole clip.
        own: costs of your own, {name: (function, limit)}; ``function(layer, bits)`` gives what a ``Layer`` costs at a
            whole width, 1..8, and all layers' costs are added. A model whose widths are still learned saves the name
            under which ``keras.saving.register_keras_serializable`` knows the function.

    Raises:
        ValueError: nothing is limited, a limit is out of its range, or options do not go together; the message names
            it.
    """

    flash: int | str | None = None
    average_bits: float | None = None
    instructions: float | None = None
    core: str | None = None
    ram: int | str | None = None
    macs: int | str | None = None
    parameters: int | str | None = None
    average_activation_bits: float | None = None
    target: str = "any"
    streaming: bool = False
    own: Mapping[str, tuple[OwnFunction, float]] | Iterable[Any] = ()

    def __repr__(self) -> str:
        return self.named()

    def named(self) -> str:
        """The limits that are given; the same in every process, whatever functions costs of one's own are."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        if self.own:
            given["own"] = {name: limit for name, _, limit in self.own}
        return f"Budget({', '.join(f'{name}={value!r}' for name, value in given.items() if value != defaults[name])})"

    def __post_init__(self) -> None:
        object.__setattr__(self, "own", tuple(_own(entry) for entry in _entries(self.own)))
        if not self.limits_weights and not self.fixed_limits and self.average_activation_bits is None:
            raise ValueError("Budget: limits nothing; give flash='12KB' or average_bits=2.5")
        for name in ("flash", *FIXED):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, parse_size(getattr(self, name), name))
        for name, least in (("average_bits", 1), ("average_activation_bits", 2)):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and least <= value <= 8):
                raise ValueError(f"Budget.{name}={value!r}: must be between {least} and 8")
        if self.target not in BLOCKS:
            raise ValueError(f"Budget.target={self.target!r}: must be one of {', '.join(BLOCKS)}")
        self._check_core()
        if self.streaming and self.instructions is None and self.ram is None and self.macs is None:
            raise ValueError("Budget.streaming=True: goes with instructions, ram or macs; other limits are the same")

    def _check_core(self) -> None:
        if self.instructions is None:
            if self.core is not None:
                raise ValueError(f"Budget.core={self.core!r}: goes with instructions=..., which is not given")
            return
        if not (_is_number(self.instructions) and self.instructions > 0):
            raise ValueError(f"Budget.instructions={self.instructions!r}: must be a number above 0")
        if self.core is None:
            known = ", ".join(instruction_table.cores())
            raise ValueError(f"Budget.instructions={self.instructions}: needs core=..., one of {known}")
        targets = instruction_table.targets_of(self.core)
        if self.target not in targets:
            raise ValueError(
                f"Budget.target={self.target!r}: {self.core} has no fast kernel for such files; it has for "
                f"{', '.join(targets)}"
            )

    @property
    def limits_weights(self) -> bool:
        """Whether a limit depends on the widths of weights."""
        return bool(self.own) or not (self.flash is None and self.average_bits is None and self.instructions is None)

    @property
    def fixed_limits(self) -> dict[str, int]:
        """Limits that no width changes, by name."""
        found = {name: getattr(self, name) for name in FIXED}
        return {name: limit for name, limit in found.items() if limit is not None}

    @property
    def device(self) -> Device:
        """What costs are computed for."""
        return Device(self.target, self.core)

    def limits(self, layers: Sequence[Layer]) -> dict[str, float]:
        """What each cost that is limited may be at most: for weights of these layers, or for activations."""
        total = sum(layer.weights for layer in layers)
        if any(layer.kind == "activation" for layer in layers):
            most = self.average_activation_bits
            return {} if most is None else {"average_activation_bits": most * total}
        found = {} if self.flash is None else {"flash": float(self.flash)}
        if self.average_bits is not None:
            counted = sum(layer.weights for layer in layers if layer.kind in COSTS["average_bits"])
            found["average_bits"] = self.average_bits * counted
        if self.instructions is not None:
            found["instructions"] = float(self.instructions)
        return found | {name: limit for name, _, limit in self.own}

    def function(self, cost: str) -> Callable[[Layer, int], float]:
        """What a layer costs at a whole width.

        Raises:
            ValueError: a cost of one's own whose function is not known here, or gives no number.
        """
        for name, own, _ in self.own:
            if name == cost:
                return lambda layer, bits: _number_of(own, name, layer, bits)
        if cost != "average_bits":
            return lambda layer, bits: cost_of(cost, layer, bits, self.device)
        # Weights that stay in float are no part of the mean.
        return lambda layer, bits: cost_of(cost, layer, bits) if layer.kind in COSTS[cost] else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _entries(own: Any) -> Iterable[tuple[Any, Any, Any]]:
    if not isinstance(own, Mapping):
        return own
    wrong = [name for name, entry in own.items() if not isinstance(entry, (tuple, list)) or len(entry) != 2]
    if wrong:
        raise ValueError(f"Budget.own[{wrong[0]!r}]={own[wrong[0]]!r}: must be (function, limit)")
    return [(name, *entry) for name, entry in own.items()]


def _own(entry: Any) -> tuple[str, Any, float]:
    name, function, limit = entry
    if not isinstance(name, str) or not name or name in COSTS:
        raise ValueError(f"Budget.own: a cost cannot be called {name!r}; take a name other than {', '.join(COSTS)}")
    if not (callable(function) or function is None or isinstance(function, str)):
        raise ValueError(f"Budget.own[{name!r}]: must be (function, limit), found {function!r} for the function")
    if not (_is_number(limit) and math.isfinite(limit) and limit > 0):
        raise ValueError(f"Budget.own[{name!r}]: the limit must be a number above 0, found {limit!r}")
    return name, function, float(limit)


def _number_of(function: Any, name: str, layer: Layer, bits: int) -> float:
    if not callable(function):
        known = f"function {function!r}" if function else "a function that was not saved"
        raise ValueError(
            f"budget: {name!r} is computed by {known}, which is not known here: register it with "
            "keras.saving.register_keras_serializable before the model is loaded"
        )
    found = function(layer, bits)
    if not _is_number(found) or not math.isfinite(found) or found < 0:
        raise ValueError(
            f"budget: {name!r} of layer {layer.name!r} at {bits} bits is {found!r}; the function must give a number of "
            "at least 0"
        )
    return float(found)


def parse_size(size: int | str, name: str = "flash") -> int:
    """Bytes of 12000 or "12KB"; ValueError, which names the limit, where it is no size above 0."""
    match = _SIZE.fullmatch(str(size)) if not isinstance(size, bool) else None
    value = round(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if value < 1:
        what = "number of bytes" if name in ("flash", "ram") else "number"
        raise ValueError(f"Budget.{name}={size!r}: must be a {what} above 0, such as 12000 or '12K'")
    return value


def _convex_slopes(costs: np.ndarray) -> np.ndarray:
    """What each further bit costs on the lower convex envelope of costs [8]; float64 [7], never falling."""
    slopes, first = np.empty(7), 0
    while first < 7:
        chords = (costs[first + 1 :] - costs[first]) / np.arange(1, 8 - first)
        last = first + 1 + int(np.flatnonzero(chords == chords.min())[-1])
        slopes[first:last] = chords.min()
        first = last
    return slopes


class Costs:
    """The costs of a model's widths against its budget.

    Args:
        layers: of the model, or its activations; at least one learns its width.
        budget: what they may cost.

    Raises:
        ValueError: no widths meet the budget; the message says how much they cost at least.
    """

    def __init__(self, layers: Sequence[Layer], budget: Budget) -> None:
        self.layers, self.budget = tuple(layers), budget
        free = [layer for layer in layers if layer.bits is None]
        self.names = [layer.name for layer in free]
        self.least = np.array([layer.least for layer in free], int)
        self.limits = budget.limits(layers)
        functions = {cost: budget.function(cost) for cost in self.limits}
        self.fixed = {
            cost: sum(of(layer, layer.bits) for layer in layers if layer.bits is not None)
            for cost, of in functions.items()
        }
        self.tables = {
            cost: np.array([[of(layer, bits) for bits in WIDTHS] for layer in free], np.float64)
            for cost, of in functions.items()
        }
        """Of each cost: float64 [layers that learn, 8]."""
        self._slopes = {cost: np.stack([_convex_slopes(row) for row in table]) for cost, table in self.tables.items()}
        self._check()

    def _check(self) -> None:
        allowed = self._allowed()
        for cost, limit in self.limits.items():
            least = self.fixed[cost] + np.where(allowed, self.tables[cost], np.inf).min(axis=1).sum()
            if least > limit:
                raise ValueError(
                    f"budget: at most {self.said(cost, limit)}, but the least that learned widths come to is "
                    f"{self.said(cost, least)}; allow more, or take a smaller model"
                )
        if len(self.limits) > 1 and self._least_sum(np.zeros(allowed.shape)) is None:
            limits = ", ".join(self.said(cost, limit) for cost, limit in self.limits.items())
            raise ValueError(f"budget: no widths meet all limits at once: {limits}; allow more, or a smaller model")

    def _allowed(self) -> np.ndarray:
        return np.array(WIDTHS)[None] >= self.least[:, None]

    def said(self, cost: str, value: float) -> str:
        """A cost in words."""
        counted = [layer.weights for layer in self.layers if layer.kind in COSTS.get(cost, ())]
        if cost == "flash":
            return f"{value:,.0f} bytes of weights"
        if cost == "instructions":
            return f"{value:,.0f} instructions on {self.budget.core}"
        if cost in ("average_bits", "average_activation_bits"):
            return f"{value / sum(counted):.2f} bits {'a weight' if cost == 'average_bits' else 'an activation'}"
        return f"{value:.6g} of {cost!r}"

    def summary(self, widths: Mapping[str, float]) -> str:
        """Each cost of widths by name, and what share of its limit it is."""
        found = self.of(widths)
        parts = (f"{self.said(cost, value)} ({value / self.limits[cost]:.0%})" for cost, value in found.items())
        return ", ".join(parts) + " of the budget"

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
        """By name, what a bit more adds to the fullest of the limits, as a share of it.

        Of the lower convex envelope of a layer's costs: a bit that costs nothing, as from 6 to 8 in files for
        Cortex-M4, would else hold a width for ever, although fewer bits yet are cheaper.
        """
        found = self.of(widths)
        cost = max(found, key=lambda name: found[name] / self.limits[name])
        below = [min(max(math.floor(widths[name]), 1), 7) - 1 for name in self.names]
        return {
            name: float(self._slopes[cost][row, low]) / self.limits[cost]
            for row, (name, low) in enumerate(zip(self.names, below))
        }

    def mean_slopes(self, widths: Mapping[str, float]) -> dict[str, float]:
        """By name, how much a bit changes the fullest of the limits in the mean over all widths, as a share of it.

        A single bit may cost nothing, or less than nothing: files for Cortex-M4 hold 3 bits in 4, and 4 bits run
        faster than 3.
        """
        found = self.of(widths)
        cost = max(found, key=lambda name: found[name] / self.limits[name])
        steps = np.abs(np.diff(self.tables[cost], axis=1)).mean(axis=1) / self.limits[cost]
        return dict(zip(self.names, map(float, steps)))

    def whole(self, widths: Mapping[str, float]) -> dict[str, int]:
        """Whole widths that meet the budget, as good as they can be by what was learned.

        Rounding to b bits errs by 4^-b in the mean square. Where learned widths balance errors against costs, a layer
        whose bit costs ``slope`` has errors that count ``slope * 4^width``; the whole widths are those that make the
        sum of all errors, so weighed, the least within the budget: a knapsack with one of eight things for each layer.
        What is left of the budget then goes to the bits that still fit, those that take away the most error first.
        """
        slopes = self.mean_slopes(widths)
        least = min((slope for slope in slopes.values() if slope > 0), default=1.0)
        weights = np.array([max(slopes[name], 1e-3 * least) * 4.0 ** widths[name] for name in self.names])
        errors = weights[:, None] * 4.0 ** -np.arange(1, 9)[None]
        chosen = self._least_sum(errors)
        assert chosen is not None, "a budget that cannot be met was refused when it was made"
        return dict(zip(self.names, map(int, self._filled(chosen, errors))))

    def _used(self, chosen: np.ndarray) -> dict[str, float]:
        rows = np.arange(len(chosen))
        return {cost: self.fixed[cost] + float(table[rows, chosen - 1].sum()) for cost, table in self.tables.items()}

    def _fits(self, chosen: np.ndarray) -> bool:
        return all(used <= self.limits[cost] for cost, used in self._used(chosen).items())

    def _least_sum(self, errors: np.ndarray) -> np.ndarray | None:
        """Whole widths [layers] with the least sum of errors [layers, 8] within all limits; None where none fit."""
        from scipy import optimize

        count = len(errors)
        each = np.kron(np.eye(count), np.ones(8))
        shares = {cost: table.reshape(1, -1) / self.limits[cost] for cost, table in self.tables.items()}
        scale = max(errors.max(), 1e-300)
        for margin in (0.0, 1e-6):  # the solver's tolerance may step over a limit that is no whole number
            within = [
                optimize.LinearConstraint(share, -np.inf, 1.0 - self.fixed[cost] / self.limits[cost] - margin)
                for cost, share in shares.items()
            ]
            found = optimize.milp(
                errors.reshape(-1) / scale,
                integrality=np.ones(errors.size),
                bounds=optimize.Bounds(0, self._allowed().reshape(-1).astype(float)),
                constraints=[optimize.LinearConstraint(each, 1, 1), *within],
                options={"mip_rel_gap": 0.0},
            )
            if found.x is None:
                return None
            chosen = found.x.reshape(errors.shape).argmax(axis=1) + 1
            if self._fits(chosen):
                return chosen
        return None

    def _filled(self, chosen: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """More bits wherever they fit, those first that take away the most error."""
        chosen = chosen.copy()
        while True:
            better = []
            for row, bits in enumerate(chosen):
                for more in range(bits + 1, 9):
                    tried = chosen.copy()
                    tried[row] = more
                    if self._fits(tried):
                        better.append((errors[row, bits - 1] - errors[row, more - 1], row, more))
            if not better:
                return chosen
            _, row, more = max(better)
            chosen[row] = more
