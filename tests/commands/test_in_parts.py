# SPDX-License-Identifier: Apache-2.0
"""``evaluate --streams`` in groups: the same numbers, whoever works and however often it is broken off."""

from __future__ import annotations

import json
import pathlib
import shutil

import kept
import numpy as np
import pytest
import soundfile
from command_line import error, run
from spotter_files import speech, write_spotter

from tfmot_kws.commands.parts import evaluate_in_parts

pytestmark = pytest.mark.slow

LABELS = """stream,event,word,start,end,speaker
one,keyword,low,2,2.5,ann
one,keyword,high,4,4.4,ben
one,keyword,low,8,8.5,ben
two,keyword,high,3,3.5,ann
two,keyword,low,5,5.5,cleo
three,none,,,,
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("parts")
    shutil.copytree(kept.once(tmp_path_factory, "spotter", write_spotter), folder, dirs_exist_ok=True)
    (folder / "said").mkdir()
    for number, name in enumerate(("one", "two", "three")):
        soundfile.write(folder / "said" / f"{name}.wav", np.roll(speech(10.0 + number), 4000 * number), 16000)
    (folder / "said" / "streams_labels.csv").write_text(LABELS)
    (folder / "radio").mkdir()
    for number in range(5):
        soundfile.write(folder / "radio" / f"{number}.flac", np.roll(speech(25.0), -7000 * number), 16000)
    (folder / "radio" / "broken.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture(autouse=True)
def short_groups(monkeypatch) -> None:
    monkeypatch.setattr(evaluate_in_parts, "GROUP_SECONDS", 30.0)


def numbers(folder, *options) -> dict:
    out = folder / "numbers.json"
    out.unlink(missing_ok=True)
    sounds = ("--streams", folder / "said", "--negatives", folder / "radio")
    run("evaluate", "--model", folder / "stream.tflite", *sounds, "--json", out, *options)
    found = json.loads(out.read_text())["streams"]
    found.pop("times_real_time")
    return found


@pytest.mark.parametrize("options", [("--fa-per-hour", 900), ("--threshold", 1.0, "--scores", "margin")])
def test_numbers_are_those_of_one_go(folder, tmp_path, options) -> None:
    plain = numbers(folder, *options)
    assert plain["all"]["targets"] == 5 and plain["events"]
    assert numbers(folder, *options, "--work", tmp_path / "work") == plain


def test_several_workers(folder) -> None:
    assert numbers(folder, "--workers", 2) == numbers(folder)


def test_what_was_found_stays_found(folder, tmp_path, monkeypatch) -> None:
    """Killed at any step, the same command goes on; another threshold needs no model."""
    plain, work = numbers(folder, "--fa-per-hour", 100), tmp_path / "work"
    calls = []
    real = evaluate_in_parts._outputs

    def fragile(job) -> None:
        if len(calls) == 2:
            raise OSError("no space left on device")
        calls.append(job.file)
        real(job)

    monkeypatch.setattr(evaluate_in_parts, "_outputs", fragile)
    sounds = ("--streams", folder / "said", "--negatives", folder / "radio")
    said = error("evaluate", "--model", folder / "stream.tflite", *sounds, "--work", work)
    assert "no space left on device" in said and len(list(work.glob("model-*"))) == 2
    monkeypatch.setattr(evaluate_in_parts, "_outputs", lambda job: (calls.append(job.file), real(job)))
    assert numbers(folder, "--fa-per-hour", 100, "--work", work) == plain
    assert len(calls) == len(set(calls)) > 2
    calls.clear()
    assert numbers(folder, "--fa-per-hour", 700, "--work", work) == numbers(folder, "--fa-per-hour", 700)
    assert not calls
    path = folder / "said" / "three.wav"
    soundfile.write(path, speech(12.0), 16000)  # another recording is heard anew, and no other
    assert numbers(folder, "--fa-per-hour", 100, "--work", work)["seconds"] == plain["seconds"]
    assert len(calls) == 1


def test_an_address_keeps_what_was_found(folder) -> None:
    assert numbers(folder, "--work", "ram://found/here") == numbers(folder)


def test_what_is_refused(folder, tmp_path) -> None:
    model, sounds = ("--model", folder / "stream.tflite"), ("--streams", folder / "said")
    for option in (("--report", tmp_path / "x.html"), ("--compare", folder / "clip.tflite")):
        said = error("evaluate", *model, *sounds, "--work", tmp_path, *option)
        assert f"{option[0]}: draws from sound in memory; leave --workers, --beam and --work out" in said
    assert "go with --streams or --negatives" in error("evaluate", *model, "--data", folder, "--workers", 2)
    assert "option of Beam 'x': must begin with --" in error("evaluate", *model, *sounds, "--beam", "x")
    (folder / "said" / "one.wav").rename(tmp_path / "one.wav")
    try:
        soundfile.write(folder / "said" / "one.wav", speech(3.0), 16000)
        assert "a word of one ends at 8.5 s" in error("evaluate", *model, *sounds, "--work", tmp_path / "w")
    finally:
        shutil.move(tmp_path / "one.wav", folder / "said" / "one.wav")
