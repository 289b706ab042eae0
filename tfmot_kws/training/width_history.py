# SPDX-License-Identifier: Apache-2.0
"""What learned widths pass on their way into a budget: looks at them, and the Pareto front of cost and loss."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfmot_kws import atomic
from tfmot_kws.training.width_steering import WidthSteering

KINDS = ("weights", "activations")


@dataclasses.dataclass(frozen=True)
class Look:
    """Learned widths at some time.

    Attributes:
        kind: one of ``KINDS``: whose widths.
        epoch: epochs that were done, with the part of the running one.
        used: share of each limit that they use, 1 is all of it.
        widths: real, by layer.
    """

    kind: str
    epoch: float
    used: dict[str, float]
    widths: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Point:
    """A model that training passed.

    Attributes:
        kind: one of ``KINDS``: whose widths.
        epoch: epochs that were done.
        used: the largest share of a limit that its whole widths use; above 1 it does not meet the budget.
        loss: validation loss of the epoch, or its training loss where there is none.
        widths: whole ones, by layer.
    """

    kind: str
    epoch: int
    used: float
    loss: float
    widths: dict[str, int]


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points than which no other costs less or as much and has a lower or the same loss; the cheapest first.

    Of equal points the first stays. Points without a finite loss count nothing.
    """
    found: list[Point] = []
    for point in sorted((p for p in points if math.isfinite(p.loss)), key=lambda p: (p.used, p.loss, p.epoch)):
        if not found or point.loss < found[-1].loss:
            found.append(point)
    return found


class WidthHistory:
    """Looks and points of a run, whatever steers it; a run that is taken up again goes on with those before.

    Args:
        path: a JSON file that keeps them from epoch to epoch; None keeps nothing.
    """

    def __init__(self, path: str | os.PathLike | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.looks: list[Look] = []
        self.points: list[Point] = []
        self.said = ""
        """The last line about widths and what they use."""

    def begin(self, epoch: int) -> None:
        """Ahead of the first epoch of a run, counted from 0: takes up what epochs before it passed."""
        if self.path is None or not self.path.is_file() or not epoch:
            return
        kept = atomic.read_table(self.path, "remove it; the widths go on without it")
        self.looks = [Look(**one) for one in kept["looks"] if one["epoch"] <= epoch]
        self.points = [Point(**one) for one in kept["points"] if one["epoch"] <= epoch]

    def look(self, kind: str, epoch: float, steering: WidthSteering) -> None:
        """Takes down the last look of what steers them."""
        widths, costs = steering.history[-1][1], steering.costs
        used = {cost: value / costs.limits[cost] for cost, value in costs.of(widths).items()}
        self.looks.append(Look(kind, epoch, used, dict(widths)))

    def epoch_ended(self, kind: str, epoch: int, steering: WidthSteering, logs: Mapping[str, Any] | None) -> None:
        """Keeps the model of the epoch, counted from 0, as a point."""
        logs = logs or {}
        loss = float(logs.get("val_loss", logs.get("loss", math.nan)))
        widths = steering.whole_widths()
        self.points.append(Point(kind, epoch + 1, steering.costs.fullest(widths), loss, widths))
        self.said = steering.said()
        if self.path is not None:
            finite = [p for p in self.points if math.isfinite(p.loss)]
            table = {"looks": self.looks, "points": finite}
            atomic.write_json(self.path, {k: [dataclasses.asdict(one) for one in v] for k, v in table.items()})

    def front(self, kind: str = "weights") -> list[Point]:
        """The Pareto front of cost and loss of what was passed."""
        return pareto_front(point for point in self.points if point.kind == kind)
