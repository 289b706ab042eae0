"""Draws the pictures of README and docs from results: ``python -m benchmarks.readme_picture``."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import common
from tfmot_kws.evaluation import det_plot, report
from tfmot_kws.evaluation.stream_results import StreamCurve

STREAMS = pathlib.Path(__file__).resolve().parents[1] / "docs" / "images" / "wake_word.svg"
PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "images" / "size.svg"


def caption(result: Mapping[str, Any]) -> str:
    """What was measured, and what the bars are."""
    data, base = result["data"], result["rows"][0]
    return (
        f"{', '.join(data['keywords'])}, {data['source']}: {data['held_out_keywords']} keywords held out; every model "
        f"accepts at most {base['fdr']:.1%} of other sounds.\nBars: 95 % binomial (Wilson) intervals."
    )


def draw(results: pathlib.Path, picture: pathlib.Path) -> pathlib.Path:
    """Size against misses; the same results make the same file."""
    result = json.loads((results / "demo.json").read_text(encoding="utf-8"))
    picture.parent.mkdir(parents=True, exist_ok=True)
    return report.plot_sizes(result["rows"], picture, ("missed",), caption(result))


def draw_streams(results: pathlib.Path, picture: pathlib.Path) -> pathlib.Path | None:
    """Misses over false accepts an hour of results/wake_word.json, its first seed and its peers; None without it."""
    path = results / "wake_word.json"
    if not path.is_file():
        return None
    curves = {}
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        found = row["seeds"][0] if "seeds" in row else row
        rate, missed = np.asarray(found["curve"], np.float64).T
        hours, targets = found["curve_hours"], found["targets"]
        hits, false = np.rint((1.0 - missed) * targets), np.rint(rate * hours)
        curves[row["model"]] = StreamCurve(np.arange(len(hits)), hits, false, targets, hours)
    return det_plot.plot_streams(curves, picture, mark_fa_per_hour=0.5, band=False)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=pathlib.Path, default=common.RESULTS)
    parser.add_argument("--out", type=pathlib.Path, default=PICTURE)
    options = parser.parse_args(arguments)
    draw(options.results, options.out)
    draw_streams(options.results, STREAMS)


if __name__ == "__main__":
    main()
