# SPDX-License-Identifier: Apache-2.0
"""A picture of a search: what was heard, the Pareto front, and the network that was chosen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tfmot_kws import atomic
from tfmot_kws.evaluation.det_plot import COLORS, FORMATS
from tfmot_kws.search.run import Candidate

_LABELS = {"flash": "bytes of weights", "macs": "multiply-accumulates", "ram": "bytes of RAM (estimate)"}


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, accuracy) those that no other beats in both, the cheapest first."""
    best: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((cost, accuracy))
    return best


def plot_search(
    looks: Sequence[Candidate],
    limits: dict[str, float],
    path: str | os.PathLike,
    candidates: Sequence[Candidate] = (),
    title: str = "",
) -> Path:
    """Draws accuracy against each cost that is limited, of networks with the weights that they share.

    Args:
      looks: heard while the search went on; later ones are darker.
      limits: of each cost.
      path: ``.png``, ``.svg`` or ``.pdf``; no partial file is ever seen.
      candidates: compared at last, the chosen one first.
      title: above the picture.

    Returns:
      The path.

    Raises:
      ValueError: nothing was heard, or another extension.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    path, later = Path(path), LinearSegmentedColormap.from_list("later", ["#d6e4f2", "#08306b"])
    if not looks:
        raise ValueError("plot_search: no networks were heard")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: cannot draw {path.suffix!r}; use one of {FORMATS}")
    figure = Figure(figsize=(4.6 * len(limits) + 0.6, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [one.epoch for one in looks]
    for axes, (name, limit) in zip(figure.subplots(1, len(limits), sharey=True, squeeze=False)[0], limits.items()):
        points = axes.scatter(
            [one.costs[name] for one in looks], [100 * one.accuracy for one in looks], c=epochs, s=14, cmap=later,
            vmin=0, vmax=max(epochs), label="heard",
        )  # fmt: skip
        both = [(one.costs[name], 100 * one.accuracy) for one in (*looks, *candidates)]
        axes.step(*zip(*front(both)), where="post", color="#777777", linewidth=1.2, label="Pareto front")
        if candidates:
            cost, accuracy = [one.costs[name] for one in candidates], [100 * one.accuracy for one in candidates]
            axes.scatter(cost[1:], accuracy[1:], s=18, color=COLORS[2], label="compared at last")
            axes.scatter(cost[:1], accuracy[:1], s=70, color=COLORS[1], marker="*", label="chosen", zorder=3)
        axes.axvline(limit, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), label="allowed")
        axes.set_xlabel(_LABELS.get(name, name))
        axes.tick_params(labelsize=8, length=3, color="#999999")
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_color("#999999")
    first = figure.axes[0]
    first.set_ylabel("accuracy with shared weights (%)")
    first.legend(fontsize=7, framealpha=0.95, edgecolor="#cccccc", loc="lower right")
    figure.colorbar(points, ax=figure.axes, label="epoch", pad=0.01, fraction=0.03).ax.tick_params(labelsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), bbox_inches="tight", pad_inches=0.1)
    return path
