"""Draws the README's picture from results/demo.json: ``python -m benchmarks.readme_picture``."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import common
from tfmot_kws.evaluation import report

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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=pathlib.Path, default=common.RESULTS)
    parser.add_argument("--out", type=pathlib.Path, default=PICTURE)
    options = parser.parse_args(arguments)
    draw(options.results, options.out)


if __name__ == "__main__":
    main()
