# SPDX-License-Identifier: Apache-2.0
"""Synthetic speech: repeatable to the byte, split by voice, not trivially easy."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfmot_kws.data import alignment, synthetic

WORDS = {"wake": "alexa", "confusables": ["alexis", "election"], "others": ["yes", "play music"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "a"
    seen = []
    corpus = synthetic.synthesize(folder, **WORDS, clips=120, seed=3, progress=lambda *step: seen.append(step))
    return folder, corpus, seen


def _files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_same_seed_same_bytes(made, tmp_path):
    folder, corpus, _ = made
    synthetic.synthesize(tmp_path / "b", **WORDS, clips=120, seed=3)
    assert _files(tmp_path / "b") == _files(folder)
    assert len(_files(folder)) == 120 + 2


def test_phones_are_where_they_are_heard(made, tmp_path):
    folder, corpus, _ = made
    synthetic.synthesize(tmp_path / "p", **WORDS, clips=120, seed=3, phones=True)
    sounds = {name: data for name, data in _files(folder).items() if name != "synthetic.json"}
    with_phones = _files(tmp_path / "p")
    assert all(with_phones[name] == data for name, data in sounds.items())
    assert set(with_phones) - set(sounds) == {"alignment.csv", "synthetic.json"}
    found = alignment.read(tmp_path / "p")
    apart, vowels = [], {"alexa": 3, "alexis": 3, "election": 3, "yes": 1, "play music": 3}
    for clip in corpus:
        phones = found[str(tmp_path / "p" / Path(clip.path).relative_to(folder))]
        sound, rate = soundfile.read(clip.path)
        if clip.is_noise:
            assert phones == (alignment.Segment(0.0, round(len(sound) / rate, 4), "sil"),)
            continue
        assert phones[0].start == pytest.approx(clip.start, abs=0.03) and phones[-1].end <= clip.end + 1e-3
        assert clip.end - phones[-1].end < 0.15  # echoes of some voices
        assert all(a.end == pytest.approx(b.start, abs=1e-3) for a, b in zip(phones, phones[1:]))
        assert sum(phone.label[0] in "a@EIOV3eu0Aio" for phone in phones) >= vowels[clip.word] - 1
        if clip.word in ("alexa", "alexis"):
            # Where espeak-ng says "s" there is a hiss, where it says "E" a voice: zero crossings tell.
            parts = {p.label: sound[int(p.start * rate) : int(p.end * rate)] for p in phones[:5]}
            crossings = {name: np.mean(np.diff(np.sign(part)) != 0) for name, part in parts.items()}
            apart.append(crossings["s"] > 1.5 * crossings["E"])
    assert len(apart) > 40 and np.mean(apart) > 0.8


def test_another_seed_gives_other_clips(made, tmp_path):
    other = synthetic.synthesize(tmp_path / "c", **WORDS, clips=40, seed=4)
    assert {clip.speaker for clip in other} != {clip.speaker for clip in made[1].clips[:40]}


def test_corpus_and_its_splits(made):
    _, corpus, seen = made
    words = corpus.words()
    assert sum(words.values()) == 120
    assert (words["alexa"], words["noise"]) == (36, 12)
    assert words["alexis"] + words["election"] == words["yes"] + words["play music"] == 36
    splits = {}
    for clip in corpus:
        splits.setdefault(clip.speaker, set()).add(clip.split)
    assert all(len(split) == 1 for split in splits.values())
    assert {clip.split for clip in corpus} == {"train", "dev", "test"}
    assert len(splits) > 60
    assert seen[-1] == (120, 120)


def test_clips_hold_words_of_about_a_second_in_noise(made):
    _, corpus, _ = made
    below, words = [], {}
    for clip in corpus:
        sound, rate = soundfile.read(clip.path)
        assert rate == 16000 and 16000 <= len(sound) < 40000 and sound.any()
        if clip.kind == "noise":
            assert clip.is_noise and clip.start is None
            continue
        assert 0 <= clip.start < clip.end <= len(sound) / rate + 1e-3
        first, last = int(clip.start * rate), int(clip.end * rate)
        outside = np.concatenate([sound[:first], sound[last:]])
        below.append(10 * np.log10(np.mean(sound[first:last] ** 2) / max(np.mean(outside**2), 1e-9)))
        words.setdefault(clip.word, []).append(clip.end - clip.start)
    assert 3 < np.median(below) < 30
    assert all(np.ptp(lengths) > 0.1 for lengths in words.values())


def test_made_folders_are_opened_again_and_others_left_alone(made, tmp_path):
    folder, corpus, _ = made
    before = _files(folder)
    assert synthetic.synthesize(folder, **WORDS, clips=120, seed=3) == corpus
    assert _files(folder) == before
    with pytest.raises(ValueError, match="was not made by this call"):
        synthetic.synthesize(folder, **WORDS, clips=120, seed=5)
    assert _files(folder) == before
    (tmp_path / "synthetic.json").write_text("{broken")
    with pytest.raises(ValueError, match="synthetic.json: is damaged .*; remove .*, and it is made again"):
        synthetic.synthesize(tmp_path, **WORDS, clips=120, seed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 5}, "clips=5"),
        ({"wake": " "}, "all are needed"),
        ({"others": []}, "0 others"),
        ({"wake": "yes"}, "must not be among"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        synthetic.synthesize(tmp_path / "x", **{**WORDS, **options})
    assert not list(tmp_path.iterdir())


def test_missing_extra_says_how_to_get_it(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "espeakng_loader" else found(name))
    with pytest.raises(ImportError, match=r"pip install 'tfmot-kws\[synthetic\]'"):
        synthetic.synthesize(tmp_path / "x", **WORDS)


def test_a_failing_speaker_leaves_nothing(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no voice today >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(RuntimeError, match="status 3: no voice today"):
        synthetic.synthesize(tmp_path / "out" / "x", **WORDS)
    assert not list((tmp_path / "out").iterdir())


def test_espeak_stays_in_its_own_process(made):
    assert "espeakng_loader" not in sys.modules
    with open("/proc/self/maps") as maps:
        assert "espeak" not in maps.read()


def test_pink_noise_falls_by_three_db_an_octave():
    noise = synthetic.pink_noise(1 << 16, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].mean() for k in range(8, 15)]
    np.testing.assert_allclose(-10 * np.diff(np.log10(octaves)), 3.0, atol=0.5)
    assert np.mean(noise**2) == pytest.approx(1.0, rel=1e-3)
