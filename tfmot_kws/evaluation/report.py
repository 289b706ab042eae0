# SPDX-License-Identifier: Apache-2.0
"""Pictures and the HTML page of a run, from plain values only."""

from __future__ import annotations

import base64
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmot_kws import atomic
from tfmot_kws.evaluation import det, det_plot

PACKAGES = ("tensorflow", "tf_keras", "tensorflow-model-optimization", "ai-edge-litert", "tflite-micro", "numpy")
_INK, _FAINT, _BLUE, _ORANGE = "#333333", "#999999", "#1f5fa8", "#d1581b"


def machine() -> dict[str, Any]:
    """What this runs on: processor, cores, memory, system, Python and versions of packages."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (OSError, ValueError, AttributeError):
        return None


def plot_curves(
    curves: Mapping[str, det.DetCurve], path: str | os.PathLike, frr: float, title: str = "", base: str = ""
) -> Path:
    """DET curves of several models, marked where each misses at most the share ``frr`` (0..1) of the keywords.

    base: the curve whose operating point that is, named beside the line; empty where it is a number of one's own.
    """
    label = f"operating point of {base}" if base else ""
    return det_plot.plot_det(curves, path, mark_frr=frr, mark_label=label, title=title)


_PANELS = {
    "accuracy": ("accuracy (higher is better)", _BLUE),
    "missed": ("missed keywords (lower is better)", _ORANGE),
}


def plot_sizes(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike,
    panels: Sequence[str] = ("accuracy", "missed"),
    caption: str = "",
) -> Path:
    """Accuracy and misses over the size of the file.

    Args:
        rows: ``model``, ``file_bytes``, ``accuracy`` and ``missed`` (0..1) of each; where there are
            ``accuracy_interval`` and ``missed_interval`` (lowest, highest), they are drawn as bars.
        path: ``.png``, ``.svg`` or ``.pdf``; equal rows make equal files. An .svg carries the misses as text.
        panels: which of the two to draw, from left to right.
        caption: below the picture: what was measured, and what the bars are.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.2 * len(panels), 7.0), 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, key in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        _size_panel(axes, rows, key)
    if caption:
        figure.supxlabel(caption, fontsize=8.5, color="#666666")
    kind = Path(path).suffix[1:].lower()
    numbers = "; ".join(f"{row['model']} {row['file_bytes']} {row['missed']:.4f}" for row in rows)
    metadata = {"Date": None, "Description": numbers} if kind == "svg" else None
    with atomic.replacing(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "tfmot_kws"}):
        figure.savefig(temporary, format=kind, metadata=metadata)
    return Path(path)


def _size_panel(axes, rows: Sequence[Mapping[str, Any]], key: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    title, color = _PANELS[key]
    sizes = [row["file_bytes"] / 1024 for row in rows]
    values = [100 * row[key] for row in rows]
    bounds = [[100 * bound for bound in row.get(f"{key}_interval", (row[key], row[key]))] for row in rows]
    axes.plot(sizes, values, "-", color=color, linewidth=1.2, alpha=0.35, zorder=2)
    for x, value, (low, high) in zip(sizes, values, bounds):
        below, above = max(value - low, 0.0), max(high - value, 0.0)
        axes.errorbar(x, value, [[below], [above]], fmt="o", color=color, markersize=8, markeredgecolor="white",
                      elinewidth=1.6, capsize=4, zorder=3)  # fmt: skip
    for row, x, y, (_, high) in zip(rows, sizes, values, bounds):
        place, text = (x, max(high, y)), f"{row['model']}\n{y:.1f} %"
        axes.annotate(text, place, xytext=(0, 6), textcoords="offset points", ha="center", fontsize=9, color=_INK)
    lowest, highest = min(low for low, _ in bounds), max(high for _, high in bounds)
    room = max(highest - lowest, 2.0)
    axes.set_ylim(0.0 if key == "missed" else lowest - 0.15 * room, highest + 0.3 * room)
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xlabel("file size in KiB", color=_INK)
    axes.set_title(title, fontsize=10, color=_INK)
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, length=3, color=_FAINT)
    for name, side in axes.spines.items():
        side.set_visible(name in ("left", "bottom"))
        side.set_color(_FAINT)


_SHAPES = {
    "o": "M8 2a6 6 0 1 0 .01 0z",
    "D": "M8 1l7 7-7 7-7-7z",
    "X": "M4 1l4 4 4-4 3 3-4 4 4 4-3 3-4-4-4 4-3-3 4-4-4-4z",
    "v": "M1 2h14L8 15z",
}
"""Markers of the pictures as paths in a square of 16."""


def _cell(value: Any, spec: str = "") -> str:
    if value is None:
        return "–"
    return format(value, spec) if spec else str(value)


def write_html(result: Mapping[str, Any], folder: str | os.PathLike) -> Path:
    """``report.html`` in ``folder``: one page with the pictures of that folder inside, nothing loaded from elsewhere.

    Args:
        result: what ``metrics.json`` holds.
        folder: holds ``det.png`` and ``size_accuracy.png`` (left out where missing).
    """
    folder = Path(folder)
    pictures = {}
    for name in ("det.png", "size_accuracy.png"):
        if (folder / name).is_file():
            encoded = base64.b64encode((folder / name).read_bytes()).decode()
            pictures[name.removesuffix(".png")] = f"data:image/png;base64,{encoded}"
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.suffix != ".json")
    listed = [(p.name, p.stat().st_size) for p in files if p.name != "report.html"]
    page = _environment().get_template("report.html.j2").render(r=result, pictures=pictures, files=listed)
    return atomic.write_text(folder / "report.html", page)


def write_streams_html(page: Mapping[str, Any], path: str | os.PathLike) -> Path:
    """The page of an evaluation on long recordings; everything is in it, nothing is loaded from elsewhere.

    Args:
        page: ``title``, ``about``, ``headline``, ``columns``, ``rows``, ``notes``, ``curve`` (a picture's address or
            None), ``compared_columns``, ``compared``, ``left_out`` (sentences); ``streams``, each with ``name``,
            ``note`` and ``moments``, each with ``title``, ``lines``, ``picture`` and ``sound`` (an address or None).
        path: the file.
    """
    from tfmot_kws.evaluation import moment_plot

    kinds = {one: (color, _SHAPES[moment_plot.MARKERS[one]]) for one, color in moment_plot.COLORS.items()}
    marks = [(kind, *look) for kind, look in kinds.items()]
    fixed = {"marks": marks, "left": moment_plot.LEFT, "right": moment_plot.RIGHT}
    return atomic.write_text(path, _environment().get_template("streams.html.j2").render(p={**page, **fixed}))


def _environment():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfmot_kws.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = _cell
    return environment
