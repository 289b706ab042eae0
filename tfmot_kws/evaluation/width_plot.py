# SPDX-License-Identifier: Apache-2.0
"""Pictures of learned widths: what they use of a budget, what each layer has, and the front that was passed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmot_kws import atomic
from tfmot_kws.evaluation.det_plot import COLORS, FORMATS, STYLES


def plot_widths(
    epochs: Sequence[float],
    used: Mapping[str, Sequence[float]],
    widths: Mapping[str, Sequence[float]],
    path: str | os.PathLike,
    *,
    front: Sequence[tuple[float, float]] = (),
    passed: Sequence[tuple[float, float]] = (),
    title: str = "",
) -> Path:
    """Draws the shares of a budget that are used, the width of each layer, and losses against cost.

    Args:
        epochs: when widths were looked at, epochs from the start of training.
        used: of each limit, the share that was used at each look; 1 is all of it.
        widths: of each layer, at each look.
        path: ``.png``, ``.svg`` or ``.pdf``; no partial file is ever seen.
        front: (share of the budget, loss) of the Pareto front, the cheapest first.
        passed: likewise, of all models that were passed.
        title: above the picture.

    Returns:
        The path.

    Raises:
        ValueError: no looks, series of other lengths, or another extension.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    wrong = [name for name, series in {**used, **widths}.items() if len(series) != len(epochs)]
    if not epochs or not used or not widths or wrong:
        raise ValueError(
            f"plot_widths: {f'{wrong[0]!r} has another length than epochs' if wrong else 'no looks given'}"
        )
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: cannot draw {path.suffix!r}; use one of {FORMATS}")
    figure = Figure(figsize=(7.0, 8.5 if passed else 6.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    top, middle, *rest = figure.subplots(3 if passed else 2, 1)
    top.axhline(100, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), label="budget")
    for axes, series, factor in ((top, used, 100.0), (middle, widths, 1.0)):
        for number, (name, values) in enumerate(series.items()):
            color, style = COLORS[number % len(COLORS)], STYLES[number // len(COLORS) % len(STYLES)]
            axes.plot(epochs, [factor * value for value in values], style, color=color, linewidth=1.6, label=name)
        axes.set_xlabel("epochs")
    top.set_ylim(bottom=0)
    top.set_ylabel("used (% of the budget)")
    middle.set_ylim(0.5, 8.5)
    middle.set_ylabel("bits")
    for axes in rest:
        axes.plot(
            [100 * cost for cost, _ in passed], [loss for _, loss in passed], ".", color="#999999", label="passed"
        )
        cost, loss = [100 * cost for cost, _ in front], [loss for _, loss in front]
        axes.plot(cost, loss, "o-", color=COLORS[1], linewidth=1.4, markersize=4, label="Pareto front")
        axes.axvline(100, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_xlabel("used (% of the budget)")
        axes.set_ylabel("loss")
    for axes in (top, middle, *rest):
        axes.tick_params(labelsize=8, length=3, color="#999999")
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_color("#999999")
        axes.legend(fontsize=7, framealpha=0.95, edgecolor="#cccccc", ncols=2)
    if title:
        top.set_title(title, fontsize=11)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), bbox_inches="tight", pad_inches=0.1)
    return path
