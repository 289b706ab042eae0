"""Pictures of streams: what is drawn, read from the SVG."""

from __future__ import annotations

import pathlib
import re

import matplotlib
import numpy as np
import pytest

from tfmot_kws.evaluation import det_plot
from tfmot_kws.evaluation.stream_results import Result, StreamCurve

CURVE = StreamCurve(np.arange(5.0), np.array([50, 48, 45, 30, 0]), np.array([40, 8, 2, 0, 0]), 50, 5.0)
POOR = StreamCurve(np.arange(3.0), np.array([40, 20, 0]), np.array([30, 3, 0]), 50, 5.0)


def drawn(path: pathlib.Path, curves=None, **options) -> str:
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text
        return det_plot.plot_streams(curves or {"ours": CURVE, "theirs": POOR}, path, **options).read_text()


def test_each_curve_has_its_band_its_point_and_its_numbers(tmp_path) -> None:
    svg = drawn(tmp_path / "a.svg", mark_fa_per_hour=0.5)
    assert "ours: 10 % missed (4.3–21), 0.4 FA/h (0.048–1.4)" in svg
    assert "theirs: 100 % missed (93–100), 0 FA/h (0–0.74)" in svg and "0: no false accept in 5 h" in svg
    assert svg.count('id="FillBetweenPolyCollection_') == 2 or svg.count('id="PolyCollection_') == 2
    bars = svg.count('id="LineCollection_')
    assert bars == 4  # two bars at each point
    plain = drawn(tmp_path / "b.svg", band=False)
    assert "PolyCollection_" not in plain and 'id="LineCollection_' not in plain and "missed (" not in plain


def test_the_point_is_what_the_detector_did(tmp_path) -> None:
    chosen = Result(50, 47, 5, 5.0, np.zeros(47))
    svg = drawn(tmp_path / "a.svg", chosen={"ours": chosen})
    assert "ours: 6 % missed (2.1–16), 1 FA/h (0.32–2.3)" in svg
    assert ">theirs<" in svg and svg.count('id="LineCollection_') == 2
    with pytest.raises(ValueError, match="chosen .'nobody'. have no curve"):
        drawn(tmp_path / "b.svg", chosen={"nobody": chosen})


@pytest.mark.parametrize(
    ("hours", "decades"), [(200.0, ["0.01", "0.1", "1", "10"]), (5.0, ["1", "10"]), (0.1, ["100"])]
)
def test_the_axis_reaches_from_none_to_ten_an_hour_or_ten_in_all(tmp_path, hours: float, decades: list[str]) -> None:
    curve = StreamCurve(CURVE.thresholds, CURVE.hits, CURVE.false_accepts, 50, hours)
    svg = drawn(tmp_path / "a.svg", {"ours": curve})
    ticks = svg[svg.index('id="matplotlib.axis_1"') : svg.index('id="matplotlib.axis_2"')]
    assert re.findall(r"<text[^>]*>([\d.]+)</text>", ticks)[: len(decades) + 1] == ["0", *decades]
