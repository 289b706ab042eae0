"""``evaluate --report`` and ``--compare``: what is on the page, what is left out, what is refused before any work."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import pathlib
import re
import shutil

import kept
import numpy as np
import pytest
import rich.console
import soundfile
from command_line import error, run
from spotter_files import write_spotter

from tfmot_kws.commands.parts import (
    card,
    evaluate_streams,
    intervals,
    sidecar,
    stream_numbers,
    stream_page,
    stream_runners,
)
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.commands.parts.evaluate_streams import Measured, Options
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.evaluation import moments

pytestmark = pytest.mark.slow

LABELS = """stream,event,word,start,end,speaker
speech,keyword,low,2,2.5,ann
speech,keyword,high,4,4.4,ben
speech,keyword,low,8,8.5,ben
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A spotter twice, a stream with labels, and two negatives that become one recording."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(kept.once(tmp_path_factory, "spotter", write_spotter), folder, dirs_exist_ok=True)
    (folder / "streams_labels.csv").write_text(LABELS)
    for end in (".tflite", ".tflite.json"):
        shutil.copy(folder / f"stream{end}", folder / f"other{end}")
    (folder / "radio").mkdir()
    for name in ("a.wav", "b.wav"):
        shutil.copy(folder / "speech.wav", folder / "radio" / name)
    return folder


@pytest.fixture(scope="module")
def options(folder) -> Options:
    return Options(folder / "speech.wav", folder / "radio", fa_per_hour=600.0)


@pytest.fixture(scope="module")
def measured(folder, options) -> Measured:
    model = folder / "stream.tflite"
    runner = stream_runners.open_runner(model, sidecar.read(model), "reference", options.hop)
    return evaluate_streams.measure(model, runner, options, Phases(rich.console.Console(file=io.StringIO())))


def written(path: pathlib.Path, measured: Measured, options: Options, **more) -> str:
    stream_page.write(path, "<a title>", "a.tflite", measured, options, {}, lambda *_: None, **more)
    return path.read_text()


def test_a_page_has_every_error_as_picture_and_sound(tmp_path, measured, options) -> None:
    page = written(tmp_path / "page.html", measured, options)
    evaluation = measured.evaluation
    errors = evaluation.pooled.false_accepts + len(evaluation.misses)
    assert errors > 3 and page.count("false accept of ") + page.count(" missed, said by ") >= errors  # once as alt text
    assert "&lt;a title&gt;" in page and "<a title>" not in page and "by drawing 2 speakers" in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses and all(address.startswith("data:") for address in addresses)  # nothing is loaded from elsewhere
    sounds = [address for address in addresses if address.startswith("data:audio/ogg")]
    assert len(sounds) == page.count("<audio") == page.count("image/png") - 1  # that one is the curve
    recordings = {one.name: one.samples for one in measured.sound.recordings}
    chosen = moments.choose(evaluation, {name: len(samples) / 16000 for name, samples in recordings.items()})
    stretches = [one for found in chosen.moments.values() for one in found]
    for one, address in zip(stretches, sounds, strict=True):
        sound, _ = soundfile.read(io.BytesIO(base64.b64decode(address.split(",")[1])))
        exact = recordings[one.stream][round(one.start * 16000) : round(one.end * 16000)]
        assert len(sound) == len(exact) and np.corrcoef(sound, exact)[0, 1] > 0.9


def test_negatives_are_named_by_their_files(tmp_path, measured, options) -> None:
    recording = next(one for one in measured.sound.recordings if one.name == "negatives 1")
    assert [(path.name, time) for path, time in map(recording.where, (0.0, 11.9, 12.0, 20.5))] == [
        ("a.wav", 0.0), ("a.wav", 11.9), ("b.wav", 0.0), ("b.wav", 8.5)
    ]  # fmt: skip
    page = written(tmp_path / "page.html", measured, options)
    assert "; a.wav from " in page and "; b.wav from " in page and "; speech.wav" not in page


@pytest.mark.parametrize(
    ("speakers", "said"),
    [
        (("ann", "ann", "ann"), "by Wilson, of one speaker"),
        (("ann", "", "ben"), "1 of 3 name none"),
        (("", "", ""), "as if each word had a speaker of its own; thresholds chosen on these recordings flatter both"),
    ],
)
def test_it_is_said_how_intervals_come_about(measured, options, speakers, said: str) -> None:
    first, *others = measured.sound.recordings
    targets = tuple(dataclasses.replace(one, speaker=who) for one, who in zip(first.targets, speakers, strict=True))
    sound = dataclasses.replace(measured.sound, recordings=(dataclasses.replace(first, targets=targets), *others))
    known = np.array([3] if speakers == ("ann",) * 3 else [], np.int64)
    pooled = dataclasses.replace(measured.evaluation.pooled, speaker_targets=known, speaker_hits=None)
    found = dataclasses.replace(measured.evaluation, pooled=pooled)
    notes = stream_numbers.notes(dataclasses.replace(measured, sound=sound, evaluation=found), options)
    assert said in notes[1]
    fixed = stream_numbers.notes(measured, dataclasses.replace(options, threshold="1"))
    assert "flatter" not in "".join(fixed) and "too little to tell" not in "".join(fixed)


def test_what_is_cut_is_said(tmp_path, measured, options, monkeypatch) -> None:
    page = written(tmp_path / "silent.html", measured, options, sound_bytes=30_000)
    assert 0 < page.count("<audio") < page.count("image/png") - 1
    assert re.search(r"pictures? ha(s|ve) no sound: a page holds at most 0.03 MB", page)
    monkeypatch.setattr(stream_page.moments, "MOMENTS", 1)
    chosen = stream_page.moments.choose
    monkeypatch.setattr(stream_page.moments, "choose", lambda *given: chosen(*given, moments=1))
    page = written(tmp_path / "one.html", measured, options)
    assert page.count("<audio") == 1 and re.search(r"Shown are \d of \d errors, in 1 of 2 recordings", page)


def test_a_page_of_a_model_without_errors_or_targets(tmp_path, measured, options) -> None:
    right = dataclasses.replace(measured.evaluation, events=(), misses=())
    page = written(tmp_path / "right.html", dataclasses.replace(measured, evaluation=right), options)
    assert "Nothing: no word was missed" in page and "<audio" not in page
    none = dataclasses.replace(measured.evaluation.pooled, targets=0)
    curves = {word: dataclasses.replace(one, targets=0) for word, one in right.curves.items()}
    silent = dataclasses.replace(right, pooled=none, curves=curves)
    page = written(tmp_path / "silent.html", dataclasses.replace(measured, evaluation=silent), options)
    assert "Missed words against" not in page and "FA/h (95 %: " in page


def test_a_model_beside_itself_does_the_same(folder, tmp_path) -> None:
    model = ("--model", folder / "stream.tflite", "--runtime", "reference")
    sound = ("--streams", folder / "speech.wav", "--negatives", folder / "radio", "--fa-per-hour", 600)
    outputs = ("--report", tmp_path / "new" / "r.html", "--plot", tmp_path / "fa.svg", "--json", tmp_path / "n.json")
    shown = run("evaluate", *model, *sound, *outputs, "--compare", folder / "other.tflite").stdout
    assert "compared on the same sound" in shown and shown.count("other.tflite") >= 3
    found = json.loads((tmp_path / "n.json").read_text())["streams"]
    other = found["compared"]["other.tflite"]
    assert {key: found[key] for key in ("keywords", "all", "curves")} == {
        key: other[key] for key in ("keywords", "all", "curves")
    }
    assert found["all"]["speakers"] == 2 and len(found["misses"]) == 3 - found["all"]["hits"]
    rate = intervals.rate(found["all"]["fa_per_hour"], found["all"]["fa_per_hour_interval"], found["all"]["hours"])
    assert rate in " ".join(shown.split())
    page = (tmp_path / "new" / "r.html").read_text()
    assert "Compared on the same sound" in page and "may lie beside the curve" in page
    assert (tmp_path / "fa.svg").stat().st_size > 10_000
    assert "(95 %: " in card.streams_text({"runtime": "reference", "streams": found})
    for result in found["keywords"].values():  # numbers that were written before there were intervals
        del result["frr_interval"], result["fa_per_hour_interval"]
    assert "(95 %: " not in card.streams_text({"runtime": "reference", "streams": found})


def test_what_cannot_be_is_refused_before_any_work(folder, tmp_path) -> None:
    model, sound = ("--model", folder / "stream.tflite"), ("--streams", folder / "nowhere")
    evaluate = ("evaluate", *model, *sound)
    assert "--report page.txt: must end in .html" in error(*evaluate, "--report", "page.txt")
    for option in (("--report", "page.html"), ("--compare", folder / "other.tflite")):
        assert "--report, --compare: go with --streams" in error("evaluate", *model, "--data", folder, *option)
    about = sidecar.read(folder / "stream.tflite")
    shutil.copy(folder / "stream.tflite", tmp_path / "words.tflite")
    sidecar.write(tmp_path / "words.tflite", dataclasses.replace(about, task=TaskConfig(("low", "loud"))))
    shutil.copy(folder / "stream.tflite", tmp_path / "rate.tflite")
    sidecar.write(
        tmp_path / "rate.tflite",
        dataclasses.replace(about, frontend=dataclasses.replace(about.frontend, sample_rate=8000, upper_hz=3900.0)),
    )
    shutil.copy(folder / "clip.tflite", tmp_path / "long.tflite")
    sidecar.write(tmp_path / "long.tflite", about)
    for other, message in (
        (folder / "stream.tflite", "this model is given twice"),
        (folder / "speech.wav", "must end in .keras or .tflite"),
        (folder / "none.tflite", "no such model file"),
        (tmp_path / "words.tflite", "spots low, loud, and not high, which stream.tflite spots"),
        (tmp_path / "rate.tflite", "hears 8000 samples a second, stream.tflite 16000"),
        (tmp_path / "long.tflite", "its input is"),
    ):
        assert message in error(*evaluate, "--compare", other)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.5, "0.5"), (0.0484, "0.048"), (9.96, "10"), (112.4, "112"), (3.69, "3.7")]
)
def test_rates_are_short(value: float, text: str) -> None:
    assert intervals.digits(value) == text
    assert intervals.rate(0.5, (0.2, 1.1), 5.0) == "0.5 FA/h (95 %: 0.2..1.1 in 5.0 h)"
    assert intervals.rate(0.0, (0.0, 35.1), 0.105) == "0 FA/h (95 %: 0..35 in 6.3 minutes)"
