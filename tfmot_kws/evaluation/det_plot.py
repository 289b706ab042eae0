# SPDX-License-Identifier: Apache-2.0
"""Pictures of DET curves: of clips on normal-deviate axes, of streams over false accepts per hour."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfmot_kws.evaluation.det import DetCurve
from tfmot_kws.evaluation.stream_results import Result, StreamCurve

_TICKS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
COLORS = ("#1f5fa8", "#d1581b", "#2a8a57", "#8a4fb0", "#b8860b", "#c2364a", "#3a8fa3", "#555555")
STYLES = ("-", "--", "-.", ":")
FORMATS = (".png", ".svg", ".pdf")


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"


def _short(rate: float) -> str:
    """A rate in percent, to three digits."""
    return _percent(float(f"{rate:.3g}"))


def plot_det(
    curves: Mapping[str, DetCurve],
    path: str | os.PathLike,
    *,
    title: str = "",
    mark_frr: float | None = None,
    mark_label: str = "",
    rates: tuple[float, float] | None = None,
) -> Path:
    """Draws miss rate over false detections, both on a normal-deviate scale.

    On these axes two classes with normally distributed scores give a straight line
    (Martin et al., "The DET curve in assessment of detection task performance", 1997). A rate
    of 0 cannot be shown on them: curves end at the border of the picture.

    Args:
        curves: name for the legend and curve; drawn in this order.
        path: ``.png``, ``.svg`` or ``.pdf``; no partial file is ever seen.
        title: above the picture.
        mark_frr: marks where each detector runs when it misses at most this share (0..1), as
            ``DetCurve.fdr_at_frr`` gives it, and names its false detection rate in the legend.
        mark_label: what that share is, for the legend; "5 % missed" where empty.
        rates: (lowest, highest) rate shown on both axes; None fits each axis to
            the number of clips.

    Returns:
        The path.

    Raises:
        ValueError: no curves, another extension, or rates outside 0 < lowest < highest < 1.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.special import ndtri

    path = Path(path)
    if not curves:
        raise ValueError("plot_det: no curves given")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: cannot draw {path.suffix!r}; use one of {FORMATS}")
    if rates is None:
        high = 0.6
        lowest = [_tick_below(min(1.0 / n for n in sizes)) for sizes in _sizes(curves)]
    else:
        high, lowest = rates[1], [rates[0], rates[0]]
    if not 0.0 < lowest[0] < high < 1.0:
        raise ValueError(f"rates={rates!r}: must be 0 < lowest < highest < 1")

    figure = Figure(figsize=(6.4, 6.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    tiny = 1e-9
    for number, (name, curve) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        style = STYLES[number // len(COLORS) % len(STYLES)]
        label = name
        if mark_frr is not None:
            far = curve.fdr_at_frr(mark_frr)
            missed = curve.frr[np.searchsorted(curve.thresholds, curve.threshold_at_frr(mark_frr))]
            point = np.clip([far, missed], lowest, high)
            label = f"{name} ({_short(far)} at {_short(mark_frr)} missed)"
            axes.plot(*ndtri(point), "o", color=color, markersize=7, markeredgecolor="white", zorder=4, clip_on=False)
        x, y = np.clip(curve.far, tiny, 1 - tiny), np.clip(curve.frr, tiny, 1 - tiny)
        axes.plot(ndtri(x), ndtri(y), style, color=color, linewidth=1.8, label=label, zorder=3)
    diagonal = ndtri([max(lowest), high])
    axes.plot(diagonal, diagonal, color="#bbbbbb", linewidth=0.8, zorder=1)
    if mark_frr is not None and lowest[1] < mark_frr < high:
        note = f"{mark_label}: {_short(mark_frr)} missed" if mark_label else f"{_short(mark_frr)} missed"
        axes.axhline(ndtri(mark_frr), color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1, label=note)
    for axis, limit, low in ((axes.xaxis, axes.set_xlim, lowest[0]), (axes.yaxis, axes.set_ylim, lowest[1])):
        ticks = [rate for rate in _TICKS if low <= rate <= high]
        axis.set_ticks(ndtri(ticks), [_percent(rate) for rate in ticks])
        limit(*ndtri([low, high]))
    axes.tick_params(labelsize=8, length=3, color="#999999")
    axes.tick_params(axis="x", labelrotation=45)
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_color("#999999")
    axes.set_aspect("equal")
    axes.set_xlabel("false detections (share of negatives accepted)")
    axes.set_ylabel("missed keywords (share of positives rejected)")
    if title:
        axes.set_title(title, fontsize=11)
    axes.legend(loc="upper right", fontsize=8, framealpha=0.95, edgecolor="#cccccc")
    _save(figure, path)
    return path


def plot_streams(
    curves: Mapping[str, StreamCurve],
    path: str | os.PathLike,
    *,
    title: str = "",
    mark_fa_per_hour: float | None = None,
    chosen: Mapping[str, Result] | None = None,
    band: bool = True,
    highest_fa_per_hour: float = 10.0,
    size: tuple[float, float] = (6.4, 5.0),
) -> Path:
    """Draws miss rate over false accepts per hour, the latter on a logarithmic scale.

    That scale has no 0: thresholds without a false accept are drawn at its left end, in a band of their own that is
    labelled 0 and says how long was heard. Around each curve lies the 95 % interval of its miss rate at each threshold.
    A dot is where a detector runs, and its bars are the 95 % intervals of both rates; the legend has them in numbers.

    Args:
        curves: name for the legend and curve, each with targets; drawn in this order. Several models compare where
            all were counted on the same recordings.
        path: ``.png``, ``.svg`` or ``.pdf``; no partial file is ever seen.
        title: above the picture.
        mark_fa_per_hour: marks where each detector runs when it may have so many false accepts an hour, as
            ``StreamCurve.index_at`` gives it.
        chosen: what each of the detectors named did at its threshold, marked instead.
        band: whether to draw the intervals around the curves.
        highest_fa_per_hour: end of the axis, above 0; it is moved so far that ten false accepts can be seen.
        size: width and height in inches; text keeps its size.

    Returns:
        The path.

    Raises:
        ValueError: no curves, a curve without targets, chosen ones without a curve, or another extension.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    chosen = dict(chosen or {})
    bare = [name for name, curve in curves.items() if not curve.targets]
    if not curves or bare:
        raise ValueError(f"plot_streams: {f'no targets of {bare}' if bare else 'no curves given'}")
    if not set(chosen) <= set(curves):
        raise ValueError(f"plot_streams: chosen {sorted(set(chosen) - set(curves))} have no curve")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: cannot draw {path.suffix!r}; use one of {FORMATS}")
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    hours = [curve.hours for curve in curves.values()]
    zero = min(0.5 / max(hours), (mark_fa_per_hour or math.inf) / 2.0)
    highest = max(highest_fa_per_hour, 20.0 * zero, 10.0 / min(hours))
    worst = 0.0
    for number, (name, curve) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        style = STYLES[number // len(COLORS) % len(STYLES)]
        accepts, label = np.maximum(curve.fa_per_hour, zero), name
        at = chosen.get(name)
        if at is None and mark_fa_per_hour is not None:
            at = curve.result_at(curve.index_at(mark_fa_per_hour))
        if at is not None:
            label = f"{name}: {_rates(at)}"
            _operating_point(axes, at, zero, color)
            worst = max(worst, at.frr_interval[1] / 1.25)
        axes.plot(accepts, 100 * curve.frr, style, color=color, linewidth=1.8, label=label, zorder=3)
        if band:
            low, high = 100 * curve.frr_intervals().T
            axes.fill_between(accepts, low, high, color=color, alpha=0.13, linewidth=0, zorder=2)
        shown = accepts <= highest
        worst = max(worst, float(np.min(curve.frr[shown], initial=1.0)), _shown_frr(curve, accepts))
    if mark_fa_per_hour:
        axes.axvline(mark_fa_per_hour, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    _zero_band(axes, zero, highest, hours)
    axes.set_ylim(0.0, min(102.0, 125.0 * worst + 10.0))
    axes.tick_params(labelsize=8, length=3, color="#999999", which="both")
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_color("#999999")
    axes.set_xlabel("false accepts per hour")
    axes.set_ylabel("missed keywords, %")
    if title:
        axes.set_title(title, fontsize=11)
    # Below the picture: beside its curves there is no room for names with their numbers.
    figure.legend(loc="outside lower left", fontsize=8, frameon=False)
    _save(figure, path)
    return path


def _rates(at: Result) -> str:
    """Both rates of a detector with their intervals, for the legend."""
    low, high = at.frr_interval
    fewest, most = at.fa_interval
    return (
        f"{_digits(100 * at.frr)} % missed ({_digits(100 * low)}–{_digits(100 * high)}), "
        f"{_digits(at.fa_per_hour)} FA/h ({_digits(fewest)}–{_digits(most)})"
    )


def _digits(value: float) -> str:
    """Two digits, or whole from 10 on."""
    return f"{value:.0f}" if value >= 9.95 or value < 1e-3 else f"{value:.2g}"


def _operating_point(axes, at: Result, zero: float, color: str) -> None:
    low, high = at.frr_interval
    fewest, most = at.fa_interval
    x, y = max(at.fa_per_hour, zero), 100 * at.frr
    axes.errorbar(
        x, y, [[max(y - 100 * low, 0.0)], [max(100 * high - y, 0.0)]], [[x - max(fewest, zero)], [max(most - x, 0.0)]],
        fmt="o", color=color, markersize=7, markeredgecolor="white", elinewidth=1.1, capsize=2.5, zorder=4,
    )  # fmt: skip


def _zero_band(axes, zero: float, highest: float, hours: Sequence[float]) -> None:
    """Ends of the axis, its ticks, and the band at the left end for 0, which a logarithmic axis does not have."""
    from matplotlib.ticker import NullFormatter

    edge = zero * 1.35
    decades = [10.0**power for power in range(-4, 4) if 1.5 * edge < 10.0**power <= highest]
    axes.set_xlim(zero / 1.35, highest)
    axes.set_xticks([zero, *decades], ["0", *(f"{value:g}" for value in decades)])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvspan(zero / 1.35, edge, color="#f0f0f0", zorder=0)
    longest = f"{max(hours):.3g} h" if max(hours) >= 1.0 else f"{60 * max(hours):.3g} minutes"
    heard = longest if max(hours) < 1.01 * min(hours) else f"up to {longest}"
    axes.text(
        1.2 * zero, 0.02, f"0: no false accept in {heard}", transform=axes.get_xaxis_transform(), rotation=90,
        ha="center", va="bottom", fontsize=7.5, color="#666666", zorder=2,
    )  # fmt: skip


def _shown_frr(curve: StreamCurve, accepts: np.ndarray) -> float:
    """Miss rate at the lowest threshold without a false accept: above it a curve only climbs to 1."""
    return float(curve.frr[np.argmin(accepts)])


def _sizes(curves: Mapping[str, DetCurve]) -> tuple[list[int], list[int]]:
    """Numbers of negatives and of positives, at least 10 each so that there is something to see."""
    negatives = [max(curve.negatives, 10) for curve in curves.values()]
    return negatives, [max(curve.positives, 10) for curve in curves.values()]


def _tick_below(rate: float) -> float:
    """The nearest tick below the smallest rate that can be seen."""
    return max((tick for tick in _TICKS if tick < rate), default=_TICKS[0])


def _save(figure, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    try:
        figure.savefig(temporary, format=path.suffix[1:].lower(), bbox_inches="tight", pad_inches=0.1)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
