# SPDX-License-Identifier: Apache-2.0
"""Pictures of widths that are learned: what is drawn, read from the SVG."""

from __future__ import annotations

import pathlib

import matplotlib
import pytest

from tfmot_kws.evaluation import width_plot

EPOCHS = [0.25, 0.5, 0.75, 1.0]
USED = {"flash": [2.0, 1.4, 1.1, 0.98], "instructions": [0.9, 0.95, 0.96, 0.97]}
WIDTHS = {"conv": [8.0, 6.0, 5.0, 4.2], "logits": [8.0, 7.9, 7.8, 7.8]}
PASSED = [(1.4, 0.3), (1.1, 0.35), (0.98, 0.5), (0.97, 0.6)]


def drawn(path: pathlib.Path, **options) -> str:
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text
        return width_plot.plot_widths(EPOCHS, USED, WIDTHS, path, **options).read_text()


def test_each_limit_and_each_layer_has_its_line(tmp_path) -> None:
    svg = drawn(tmp_path / "a.svg", front=PASSED[:3], passed=PASSED, title="spotter")
    for text in ("flash", "instructions", "conv", "logits", "budget", "Pareto front", "passed", "spotter", "bits"):
        assert f">{text}<" in svg
    plain = drawn(tmp_path / "b.svg")
    assert "Pareto front" not in plain and ">conv<" in plain
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.svg", "b.svg"]


def test_what_cannot_be_drawn_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="no looks given"):
        width_plot.plot_widths([], {"flash": []}, {"conv": []}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="'conv' has another length"):
        width_plot.plot_widths([0.5], {"flash": [1.0]}, {"conv": []}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="cannot draw '.jpg'"):
        drawn(tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())
