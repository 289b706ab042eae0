"""The model card: what is known is in it, what is not is said, and ``evaluate`` fills in what it measures."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil
import types

import kept
import pytest
import typer.testing
from spotter_files import FRONTEND, TASK, write_spotter

from tfmot_kws import cli
from tfmot_kws.commands.parts import card, sidecar
from tfmot_kws.commands.parts.phrase import finish, plan

OPTIONS = {
    "bits": 4,
    "layer_bits": {"logits": 8},
    "dynamic": None,
    "ops": "packed",
    "streaming": "internal",
    "data": [
        {"folder": "speech", "use": "training", "licences": {"CC-BY-4.0": 12, "MIT": 1}},
        {"folder": "mine", "use": "training while quantized", "licences": None},
    ],
}
METRICS = {"clips": 40, "accuracy": 0.925, "splits": ["test"], "frr": 0.05, "fdr": 0.0125}


@pytest.fixture
def model(tmp_path_factory, tmp_path) -> pathlib.Path:
    shutil.copytree(kept.once(tmp_path_factory, "spotter", write_spotter), tmp_path, dirs_exist_ok=True)
    (tmp_path / "streams_labels.csv").write_text("stream,event,word,start,end\nspeech,keyword,low,2,2.5\n")
    return tmp_path / "stream.tflite"


def run(*arguments, status: int = 0) -> str:
    done = typer.testing.CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return " ".join(done.output.split())


def test_it_says_what_is_known(model) -> None:
    text = card.write(model, sidecar.Sidecar("tflite", FRONTEND, TASK, OPTIONS, METRICS)).read_text()
    assert text.startswith("# stream\n\nA keyword spotter for **low**, **high**.")
    for part in (
        f"{model.stat().st_size:,} bytes",
        "trained at 4 bits, apart from logits 8",
        "stream, state internal; packed ops",
        "`speech`, training: CC-BY-4.0 (12 recordings); MIT (1 recordings)",
        "`mine`, training while quantized: no licences named",
        "the Keras model (not this file): accuracy 92.5% on 40 clips of test; 1.25% false detections where 5.0%",
        "Not measured on clips",
        "Not measured on long recordings: no threshold, no curve",
        "None was chosen",
    ):
        assert part in text, part


def test_what_is_not_known_is_said(model) -> None:
    text = card.write(model, sidecar.Sidecar("tflite", FRONTEND, dataclasses.replace(TASK, unknown=False))).read_text()
    assert "Not known: the model's files do not say what it was trained on." in text
    assert "When it was trained, the Keras model (not this file): not measured." in text
    assert "It was trained on no other words" in text and not re.search(r"\d%", text)


def test_evaluate_fills_in_what_it_measured(model) -> None:
    card.write(model, sidecar.read(model))
    folder = model.parent
    evaluate = ("evaluate", "--model", model, "--streams", folder / "speech.wav")
    assert "wrote the numbers into" in run(*evaluate, "--fa-per-hour", 2000, "--json", folder / "n.json")
    text = card.path_of(model).read_text()
    assert "thresholds chosen on these recordings (margin" in text
    assert "Curve of low, as if it were the only keyword:" in text
    assert "| low | " in text and "Not measured on long recordings" not in text and "Not measured on clips" in text
    run(*evaluate, "--threshold", folder / "n.json")
    again = card.path_of(model).read_text()
    assert "thresholds given beforehand" in again and again.count("| keyword | threshold |") == 1


def test_other_files_are_left_as_they_are(model) -> None:
    path = card.path_of(model)
    run("evaluate", "--model", model, "--negatives", model.parent / "speech.wav")
    assert not path.exists()  # only an export begins one
    path.write_text("# notes of mine")
    run("evaluate", "--model", model, "--negatives", model.parent / "speech.wav")
    assert path.read_text() == "# notes of mine"
    with pytest.raises(ValueError, match="no model card that was written here"):
        card.check(model)
    said = run("export", "--model", model.parent / "q.keras", "--out", model, status=1)
    assert "move it away" in said


def test_licences_come_from_a_manifest(tmp_path) -> None:
    words = tmp_path / "words"
    words.mkdir()
    assert card.data_of(words, "training") == {"folder": "words", "use": "training", "licences": None}
    (words / "manifest.csv").write_text("path,word,split,License\na,b,train,MIT\nb,b,train,MIT\nc,b,test,\n")
    assert card.data_of(words, "training")["licences"] == {"MIT": 2, "none named": 1}
    assert card.data_of(words / "manifest.csv", "x")["licences"] == {"MIT": 2, "none named": 1}


def test_a_card_with_a_threshold_takes_numbers_of_no_other(model) -> None:
    """``evaluate --threshold 0`` on a finished model: the card neither contradicts itself nor forgets its numbers."""
    folder = model.parent
    evaluate = ("evaluate", "--model", model, "--streams", folder / "speech.wav")
    run(*evaluate, "--fa-per-hour", 2000, "--json", folder / "n.json")
    detector = json.loads((folder / "n.json").read_text())["streams"]["detector"]
    values, window = detector["thresholds"], detector["smooth_steps"]
    card.write(model, sidecar.read(model), card.Threshold("- as chosen", values, window))
    same = ",".join(f"{word}={value}" for word, value in values.items())
    for other in (("--threshold", 0), ("--threshold", same, "--smooth", 0.1), ("--fa-per-hour", 0)):
        said = run(*evaluate, *other)
        assert "stream.md keeps its numbers of long recordings: these numbers are of threshold" in said, other
        assert f"evaluate with --threshold low={values['low']},high={values['high']}" in said
        assert "Not measured on long recordings" in card.path_of(model).read_text()
    assert "wrote the numbers into" in run(*evaluate, "--threshold", folder / "n.json")
    filled = card.path_of(model).read_text()
    assert f"| low | {values['low']:.4g} |" in filled and "thresholds given beforehand" in filled
    run(*evaluate, "--threshold", 0)
    assert card.path_of(model).read_text() == filled


def test_the_card_of_a_phrase_takes_what_was_measured_at_its_threshold(model) -> None:
    folder = model.parent
    for name in (plan.SELECTION, plan.STREAMS):
        (folder / name).mkdir(parents=True)
        shutil.copy(folder / "speech.wav", folder / name)
        shutil.copy(folder / "streams_labels.csv", folder / name)
    options = types.SimpleNamespace(
        word="low", device=None, own=None, work=folder, out=folder, fa_per_hour=500.0, file=lambda _: model
    )
    card.write(model, sidecar.read(model))
    found = finish.choose_threshold(options)
    text = card.path_of(model).read_text()
    assert f"- {found['threshold']:.4g}, chosen for 500 false accepts" in text and "Not measured on long" in text
    assert finish.test(options)["test"]["threshold"] == found["threshold"]
    filled = card.path_of(model).read_text()
    assert f"| low | {found['threshold']:.4g} |" in filled and "Not measured on long" not in filled
    run("evaluate", "--model", model, "--streams", folder / plan.STREAMS, "--threshold", 0)
    assert card.path_of(model).read_text() == filled


def test_words_do_not_end_the_mark_of_a_threshold(model) -> None:
    card.write(model, sidecar.read(model), card.Threshold("- as chosen", {"a-->b": 0.5}, 2))
    detector = {"thresholds": {"a-->b": 0.5}, "smooth_steps": 2, "smooth_seconds": 0.2}
    assert card.otherwise(model, {"streams": {"detector": detector}}) is None
    detector["thresholds"] = {"a-->b": 0.25}
    assert "are of threshold 0.25 over 2 outputs" in card.otherwise(model, {"streams": {"detector": detector}})


def _evaluation(hours: float, threshold: float) -> dict:
    """What ``evaluate --json`` writes of a word: false accepts fall from thousands to none, misses rise."""
    counts = [round(2000 * 0.8**i) for i in range(45)] + [0]
    thresholds = [i / 50 for i in range(46)]
    at = next(i for i, one in enumerate(thresholds) if one >= threshold)
    result = {"targets": 100, "frr": at / 100, "false_accepts": counts[at], "hours": hours}
    curve = {"thresholds": thresholds, "frr": [i / 100 for i in range(46)], "fa_per_hour": [c / hours for c in counts]}
    detector = {"mode": "value", "smooth_seconds": 0.2, "refractory_seconds": 1.0, "thresholds": {"low": threshold}}
    streams = {
        "recordings": ["a"], "seconds": 3600 * hours, "detector": detector, "fa_per_hour_wanted": None,
        "keywords": {"low": {**result, "fa_per_hour": counts[at] / hours}}, "curves": {"low": curve},
    }  # fmt: skip
    return {"runtime": "tflite", "streams": streams}


def _curve_rows(value: dict) -> list[list[str]]:
    table = card.streams_text(value).rpartition("|---|---:|---:|---:|\n")[2]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


def test_the_curve_shows_the_rates_among_which_people_choose() -> None:
    value = _evaluation(10.0, 0.7)
    rows = {row[0]: row[1:] for row in _curve_rows(value)}
    labels = [label for row in rows for label in row.split(", ")]
    assert sorted(labels) == sorted(["0", "0.1", "0.2", "0.5", "1", "2", "5", "10", "**this threshold**"])
    curve = value["streams"]["curves"]["low"]
    for label, (threshold, missed, rate) in rows.items():
        at = [f"{one:.4g}" for one in curve["thresholds"]].index(threshold)
        assert (missed, rate) == (f"{curve['frr'][at]:.1%}", f"{curve['fa_per_hour'][at]:.2f}")
        for allowed in (float(part) for part in label.split(", ") if not part.startswith("*")):
            assert curve["fa_per_hour"][at] <= allowed < curve["fa_per_hour"][at - 1]
    assert next(row for row in rows.items() if "**this threshold**" in row[0])[1][0] == "0.7"


def test_the_curve_shows_no_rate_that_so_few_hours_cannot_tell() -> None:
    labels = [label for row in _curve_rows(_evaluation(0.4, 0.3)) for label in row[0].split(", ")]
    assert sorted(labels) == sorted(["0", "5", "10", "**this threshold**"])
