"""The model card: what is known is in it, what is not is said, and ``evaluate`` fills in what it measures."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shutil

import kept
import pytest
import typer.testing
from spotter_files import FRONTEND, TASK, write_spotter

from tfmot_kws import cli
from tfmot_kws.commands.parts import card, sidecar

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
    assert "thresholds chosen on these recordings (margin" in text and "Curve of low:" in text
    assert "| low | " in text and "Not measured on long recordings" not in text and "Not measured on clips" in text
    run(*evaluate, "--threshold", folder / "n.json")
    again = card.path_of(model).read_text()
    assert "thresholds chosen before" in again and again.count("| keyword | threshold |") == 1


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
