"""The picture of a sweep: its front, and that it is drawn."""

from __future__ import annotations

import pytest

from tfmot_kws.evaluation.sweep_plot import Point, front, plot_sweep

POINTS = [Point(100, 0.5, "bits 2", "1"), Point(200, 0.2, "bits 4", "2"), Point(200, 0.3, "bits 4", "3")]
POINTS += [Point(900, 0.1, "bits 8", "4"), Point(400, 0.25, "bits 8", "5")]


def test_front() -> None:
    assert [p.label for p in front(POINTS, lower=True)] == ["1", "2", "4"]
    assert [p.label for p in front(POINTS, lower=False)] == ["1"]
    assert front([], True) == []


def test_is_drawn(tmp_path) -> None:
    path = plot_sweep(POINTS, tmp_path / "a.svg", best=POINTS[3], value_label="DET area", title="5 trials")
    text = path.read_text()
    assert "bits 8" in text or "<path" in text
    png = plot_sweep(POINTS[:1], tmp_path / "a.png", best=POINTS[0])
    assert png.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn(tmp_path) -> None:
    with pytest.raises(ValueError, match="no trials with results"):
        plot_sweep([], tmp_path / "a.png", best=POINTS[0])
    with pytest.raises(ValueError, match="cannot draw '.bmp'"):
        plot_sweep(POINTS, tmp_path / "a.bmp", best=POINTS[0])
    assert not list(tmp_path.iterdir())
