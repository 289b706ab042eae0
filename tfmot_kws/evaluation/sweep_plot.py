# SPDX-License-Identifier: Apache-2.0
"""A picture of a sweep: what each trial came to against its size."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from tfmot_kws import atomic
from tfmot_kws.evaluation.det_plot import COLORS, FORMATS

_MARKERS = "osD^vPX*"


@dataclasses.dataclass(frozen=True)
class Point:
    """A trial.

    Attributes:
        size: bytes.
        value: what trials are judged by.
        kind: trials of one kind have one colour, such as "4 bits"; empty where there is one kind only.
        label: written beside it, such as its number.
    """

    size: float
    value: float
    kind: str = ""
    label: str = ""


def front(points: Sequence[Point], lower: bool) -> list[Point]:
    """Those that no other beats in both size and value, the smallest first.

    Args:
        points: of a sweep.
        lower: whether less of the value is better.
    """
    sign, found = (1.0 if lower else -1.0), []
    for point in sorted(points, key=lambda p: (p.size, sign * p.value)):
        if not found or sign * point.value < sign * found[-1].value:
            found.append(point)
    return found


def plot_sweep(
    points: Sequence[Point],
    path: str | os.PathLike,
    *,
    best: Point,
    lower: bool = True,
    size_label: str = "bytes",
    value_label: str = "",
    title: str = "",
) -> Path:
    """Draws the value of each trial against its size, and the Pareto front.

    Args:
        points: trials that have results.
        path: ``.png``, ``.svg`` or ``.pdf``; no partial file is ever seen.
        best: one of the points; it is marked.
        lower: whether less of the value is better.
        size_label: below the picture.
        value_label: beside it.
        title: above it.

    Returns:
        The path.

    Raises:
        ValueError: no points, or another extension.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    path = Path(path)
    if not points:
        raise ValueError("plot_sweep: no trials with results")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: cannot draw {path.suffix!r}; use one of {FORMATS}")
    figure = Figure(figsize=(7.0, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = front(points, lower)
    axes.plot(
        [p.size for p in steps], [p.value for p in steps], drawstyle="steps-post", color="#999999", linewidth=1.2,
        label="Pareto front",
    )  # fmt: skip
    for number, kind in enumerate(dict.fromkeys(p.kind for p in points)):
        own = [p for p in points if p.kind == kind]
        axes.plot(
            [p.size for p in own], [p.value for p in own], _MARKERS[number % len(_MARKERS)], markersize=6,
            color=COLORS[number % len(COLORS)], label=kind or "trials",
        )  # fmt: skip
    axes.plot([best.size], [best.value], "o", markersize=13, fillstyle="none", color="#222222", label="best")
    for point in points:
        axes.annotate(
            point.label, (point.size, point.value), textcoords="offset points", xytext=(6, 5), fontsize=7,
            color="#444444",
        )  # fmt: skip
    sizes = [p.size for p in points]
    if max(sizes) > 4 * min(sizes):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        ticks = [m * 10**n for n in range(10) for m in (1, 2, 5) if min(sizes) <= m * 10**n <= max(sizes)]
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel(size_label)
    axes.set_ylabel(value_label)
    axes.margins(0.08)
    axes.tick_params(labelsize=8, length=3, color="#999999")
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_color("#999999")
    axes.legend(fontsize=8, framealpha=0.95, edgecolor="#cccccc")
    if title:
        axes.set_title(title, fontsize=11)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), bbox_inches="tight", pad_inches=0.1)
    return path
