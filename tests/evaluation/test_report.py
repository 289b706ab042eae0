"""Pictures and the page, from plain values."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tfmot_kws.commands.parts import console
from tfmot_kws.evaluation import det, report

ROWS = [
    {
        "model": "float",
        "accuracy": 0.95,
        "fdr": 0.01,
        "missed": 0.05,
        "missed_interval": (0.03, 0.08),
        "file_bytes": 1_000_000,
    },
    {
        "model": "4 bits",
        "accuracy": 0.94,
        "fdr": 0.02,
        "missed": 0.06,
        "missed_interval": (0.04, 0.09),
        "file_bytes": 130_000,
    },
    {"model": "1 bit", "accuracy": 0.90, "fdr": 0.06, "missed": 0.0, "file_bytes": 40_000},
]
RESULT = {
    "title": "<yes> & no",
    "machine": {
        "processor": "A", "cores": 2, "memory_gib": None, "system": "Linux", "python": "3.11",
        "versions": {"numpy": "2"},
    },
    "columns": [
        {"key": "model", "label": "weights", "format": ""},
        {"key": "accuracy", "label": "accuracy", "format": ".1%"},
        {"key": "arena_bytes", "label": "arena", "format": ",d"},
    ],
    "rows": [{**row, "parameters": 9, "arena_bytes": None, "fdr_by_keyword": {"yes": row["fdr"]}} for row in ROWS],
    "notes": ["a note"],
    "agreement": [
        {
            "model": "4 bits", "clips": 10, "same_tflite": True, "same_litert": False, "same_tflm": None,
            "keras_lsb": 0.0, "keras_argmax": 1.0, "identical": False, "problems": {"tflm": "pip install it"},
        }
    ],
    "agrees": False,
    "data": {
        "source": "recordings", "clips": 1234, "classes": ["_unknown_", "yes"], "held_out_splits": ["dev"],
        "train_examples": {"_unknown_": 5, "yes": 6}, "held_out_examples": {"_unknown_": 7, "yes": 8},
        "skipped": [{"path": "a.wav", "problem": "unreadable", "detail": "<b>"}],
    },
    "frontend": {"backend": "micro", "mel_bins": 40, "window_ms": 30, "hop_ms": 20, "sample_rate": 16000},
    "options": {"seed": 0, "copies": 3, "epochs": {"float": 1, "stage1": 2, "stage2": 3}},
    "phases": {"features": 1.5},
    "seconds": 60.0,
}  # fmt: skip


def test_page_without_pictures(tmp_path) -> None:
    page = report.write_html(RESULT, tmp_path).read_text()
    assert "&lt;yes&gt; &amp; no" in page and "<b>" not in page
    assert "not installed" in page and "differs" in page and "Not all runtimes agree" in page
    assert "pip install it" in page and "1 file left out" in page and "–" in page
    assert "data:image" not in page


def test_page_with_everything_right(tmp_path, rng) -> None:
    result = copy.deepcopy(RESULT)
    result["agrees"], result["data"]["skipped"] = True, []
    curve = det.det_curve(rng.normal(size=200) + 2 * (np.arange(200) % 2), np.arange(200) % 2)
    report.plot_curves({"float": curve}, tmp_path / "det.png", 0.05)
    report.plot_sizes(ROWS, tmp_path / "size_accuracy.png")
    page = report.write_html(result, tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "bit for bit, on every clip" in page and "No file was left out" in page


def test_sizes_of_one_model_or_equal_ones(tmp_path) -> None:
    for rows in (ROWS[:1], [ROWS[0], ROWS[0]]):
        assert report.plot_sizes(rows, tmp_path / "one.png").stat().st_size > 5000


def test_machine() -> None:
    found = report.machine()
    assert found["cores"] >= 1 and found["processor"] and "numpy" in found["versions"]


@pytest.mark.parametrize(
    ("value", "spec", "text"), [(None, ".1%", "–"), (0.5, ".1%", "50.0%"), (1234, ",d", "1,234"), ("a", "", "a")]
)
def test_cells(value, spec, text) -> None:
    assert console.formatted(value, spec) == text


def test_plain_progress_lines(capsys) -> None:
    import io

    import rich.console

    text = io.StringIO()
    phases = console.Phases(rich.console.Console(file=text, width=200), 2)
    with phases.phase("first [part]") as advance:
        advance(1, 2)
        advance(2, 2)
    assert text.getvalue().splitlines()[0] == "[1/2] first [part] ..." and "first [part]" in phases.seconds


def test_bars_on_a_terminal() -> None:
    import io

    import rich.console

    text = io.StringIO()
    phases = console.Phases(rich.console.Console(file=text, width=120, force_terminal=True))
    with phases.phase("work") as advance:
        advance(1, 2)
    assert "work: " in text.getvalue()
