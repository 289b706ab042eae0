"""The demo from end to end on tiny recordings."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import pytest
import speech_files
import typer.testing

from tfmot_kws import cli
from tfmot_kws.commands.parts import demo

FILES = (
    "float.keras", "float.keras.json", "float.tflite", "kws_8bit.keras", "kws_4bit.keras", "kws_1bit.keras",
    "kws_8bit.tflite", "kws_4bit.tflite", "kws_1bit.tflite", "kws_4bit.tflite.json", "model_data.h", "model_data.cc",
    "det.png", "size_accuracy.png", "report.html", "metrics.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[pathlib.Path, str]:
    """The folder of a fast demo, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    words = speech_files.make_words(folder / "words")
    arguments = ["demo", "--fast", "--data", str(words), "--out", str(folder / "out"), "--keywords", "high,low"]
    done = typer.testing.CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return folder / "out", done.stdout


@pytest.mark.slow
def test_networks_that_hear_samples(tmp_path) -> None:
    """--raw: every runtime gives the reference's integers there too."""
    words = speech_files.make_words(tmp_path / "words")
    arguments = [
        "demo",
        "--fast",
        "--raw",
        "--data",
        str(words),
        "--out",
        str(tmp_path / "out"),
        "--keywords",
        "high,low",
    ]
    done = typer.testing.CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["agrees"] is True and found["frontend"]["backend"] == "raw" and found["options"]["raw"]
    assert max(entry["keras_lsb"] for entry in found["agreement"]) <= 1
    assert not [problem for entry in found["agreement"] for problem in entry["problems"].values()]


@pytest.fixture(scope="module")
def metrics(made) -> dict:
    return json.loads((made[0] / "metrics.json").read_text())


def test_every_file_is_there(made) -> None:
    missing = [name for name in FILES if not (made[0] / name).is_file()]
    assert not missing
    assert not [p for p in made[0].iterdir() if p.name.startswith(".")], "temporary files are left"


def test_metrics(metrics) -> None:
    assert metrics["version"] == 1 and metrics["data"]["keywords"] == ["high", "low"]
    assert [row["model"] for row in metrics["rows"]] == ["float", "8 bits", "4 bits", "1 bit"]
    for row in metrics["rows"]:
        assert {column["key"] for column in metrics["columns"]} <= set(row)
        assert 0.0 <= row["accuracy"] <= 1.0 and 0.0 <= row["fdr"] <= 1.0 and 0.0 <= row["det_area"] <= 1.0
    sizes = [row["file_bytes"] for row in metrics["rows"]]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0] / 8
    assert metrics["machine"]["cores"] >= 1 and metrics["seconds"] > 0
    assert metrics["options"]["epochs"]["float"] == 15 and metrics["options"]["fast"]


def test_runtimes_agree(metrics) -> None:
    assert metrics["agrees"] is True
    for entry in metrics["agreement"]:
        assert entry["clips"] > 0 and entry["same_tflite"] is True
        assert entry["same_tflm"] is (True if importlib.util.find_spec("tflite_micro") else None)
        assert entry["keras_lsb"] <= 1.0 and entry["keras_argmax"] >= 0.95


def test_damaged_files_are_reported(made, metrics) -> None:
    assert [pathlib.Path(p["path"]).name for p in metrics["data"]["skipped"]] == ["broken.wav"]
    assert "broken.wav" in (made[0] / "report.html").read_text()


def test_report_is_one_page(made) -> None:
    page = (made[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "bit for bit, on every clip" in page and "<td>4 bits</td>" in page
    assert "http://" not in page and "https://" not in page and "{{" not in page


def test_what_is_printed(made) -> None:
    printed = made[1]
    for text in (
        "float model",
        "8 bits",
        "4 bits",
        "1 bit",
        "agree bit for bit",
        "report.html",
        "1 file was left out",
    ):
        assert text in printed


def test_missing_espeak_is_said_at_once(monkeypatch, tmp_path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "espeakng_loader" else find(name))
    done = typer.testing.CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path / "out")])
    assert done.exit_code == 1 and "tfmot-kws[synthetic]" in done.stderr and "--data" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bits", [(), (0,), (9,), (4, 4)])
def test_bits_that_make_no_sense(bits, tmp_path) -> None:
    with pytest.raises(ValueError, match="bits="):
        demo.DemoConfig(tmp_path, bits=bits)


def test_many_examples_get_fewer_epochs(tmp_path) -> None:
    config = demo.DemoConfig(tmp_path, epochs=(30, 12, 6), batch_size=100)
    assert config.epochs_for(5000) == (30, 12, 6)
    assert config.epochs_for(24000) == (15, 6, 3)
    assert config.epochs_for(10**6) == (10, 4, 2)
