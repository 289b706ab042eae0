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


def plot_curves(curves: Mapping[str, det.DetCurve], path: str | os.PathLike, frr: float, title: str = "") -> Path:
    """DET curves of several models, marked where each misses the share ``frr`` (0..1) of the keywords."""
    return det_plot.plot_det(curves, path, mark_frr=frr, title=title)


def plot_sizes(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> Path:
    """Accuracy and false detections over the size of the file.

    Args:
        rows: ``model``, ``file_bytes``, ``accuracy`` and ``fdr`` (0..1) of each.
        path: ``.png``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure = Figure(figsize=(8.4, 3.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("accuracy", "accuracy", _BLUE, "higher is better"),
        ("fdr", "false detections", _ORANGE, "lower is better"),
    )
    sizes = [row["file_bytes"] / 1024 for row in rows]
    for axes, (key, label, color, note) in zip(figure.subplots(1, 2), panels):
        values = [100 * row[key] for row in rows]
        axes.plot(sizes, values, "-", color=color, linewidth=1.2, alpha=0.45, zorder=2)
        axes.plot(sizes, values, "o", color=color, markersize=8, markeredgecolor="white", zorder=3)
        axes.set_ylim(*_limits(values, key == "fdr"))
        for row, x, y in zip(rows, sizes, values):
            axes.annotate(
                row["model"],
                (x, y),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=_INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8},
            )
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.set_xlabel("file size in KiB", color=_INK)
        axes.set_title(f"{label} ({note})", fontsize=10, color=_INK)
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9, length=3, color=_FAINT)
        for name, side in axes.spines.items():
            side.set_visible(name in ("left", "bottom"))
            side.set_color(_FAINT)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary)
    return Path(path)


def _limits(values: Sequence[float], from_zero: bool) -> tuple[float, float]:
    """Range of an axis in percent, wide enough that chance does not look like a difference."""
    low, high = min(values), max(values)
    room = max(high - low, 4.0)
    return (0.0, max(1.4 * high, 2.0)) if from_zero else (low - 0.4 * room, high + 0.4 * room)


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
    import jinja2

    folder = Path(folder)
    pictures = {}
    for name in ("det.png", "size_accuracy.png"):
        if (folder / name).is_file():
            encoded = base64.b64encode((folder / name).read_bytes()).decode()
            pictures[name.removesuffix(".png")] = f"data:image/png;base64,{encoded}"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfmot_kws.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = _cell
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.suffix != ".json")
    listed = [(p.name, p.stat().st_size) for p in files if p.name != "report.html"]
    page = environment.get_template("report.html.j2").render(r=result, pictures=pictures, files=listed)
    return atomic.write_text(folder / "report.html", page)
