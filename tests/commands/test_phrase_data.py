# SPDX-License-Identifier: Apache-2.0
"""What ``tfmot-kws phrase`` is made from: recordings, rooms, noise and long sound; who and what is in which split."""

from __future__ import annotations

import corpus_files
import numpy as np
import pytest
import typer.testing

from tfmot_kws import cli
from tfmot_kws.commands.parts.phrase import gather, hours, plan
from tfmot_kws.data import corpus, long_features
from tfmot_kws.frontend import features


def _noise(seed: int, seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(16000 * seconds))).astype(np.float32)


def _error(*arguments: str) -> str:
    done = typer.testing.CliRunner().invoke(cli.app, ["phrase", *arguments], env={"COLUMNS": "400"})
    assert done.exit_code != 0, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize("option", ["--negatives", "--noises", "--own"])
def test_folders_without_sound_that_can_be_read_are_refused_before_work(option, tmp_path):
    for number in range(4):
        (tmp_path / "junk").mkdir(exist_ok=True)
        (tmp_path / "junk" / f"{number}.wav").write_text("x")
    said = _error("hey nova", "--voices", "espeak", option, str(tmp_path / "junk"), "--out", str(tmp_path / "out"))
    assert f"{option} {tmp_path / 'junk'}: " in said and "0.wav" in said and not (tmp_path / "out").exists()


def test_data_of_which_nothing_can_be_read_is_refused(tmp_path):
    word = corpus_files.write(tmp_path / "said.wav", corpus_files.tone(1))
    (tmp_path / "broken.wav").write_text("x")
    options = plan.Options("hey nova", tmp_path / "out", voices=("espeak",))
    said = corpus.Corpus(
        tuple(
            corpus.Clip(str(word), text, "a", split, kind=kind)
            for split in ("train", "dev", "test") for text, kind in (("hey nova", "wake"), ("lamp", "other"))
        )
    )  # fmt: skip
    broken = corpus.Corpus((corpus.Clip(str(tmp_path / "broken.wav"), "lamp", "b", "train"),))
    with pytest.raises(ValueError, match="--data: none of 1 clips can be read; the first is .*broken.wav: unreadable"):
        gather.gather(said, broken, corpus.Corpus(()), options)
    found = gather.gather(said, corpus.Corpus(()), corpus.Corpus(()), options)
    assert found["talk"] == 0
    lamp = corpus_files.write(tmp_path / "lamp.wav", corpus_files.tone(2))
    real = corpus.Corpus((corpus.Clip(str(lamp), "lamp", "b", "train"), *broken))
    found = gather.gather(said, real, corpus.Corpus(()), options)
    assert found["talk"] == 1 and "broken.wav" in found["problems"][0]


def test_no_measured_room_is_in_two_splits(tmp_path):
    for number in range(10):
        corpus_files.write(tmp_path / "rooms" / f"{number}.wav", np.exp(-np.arange(800 + number) / 99.0).astype("f4"))
    found = gather.impulses([tmp_path / "rooms"])
    lengths = {split: {len(room) for room in rooms} for split, rooms in found.items()}
    assert all(lengths.values()) and sum(map(len, lengths.values())) == 10 == len(set().union(*lengths.values()))
    corpus_files.write(tmp_path / "one" / "hall.wav", np.exp(-np.arange(800) / 99.0).astype("f4"))
    assert {split: len(rooms) for split, rooms in gather.impulses([tmp_path / "one"]).items()} == {
        "train": 1, "dev": 0, "test": 0,
    }  # fmt: skip


def test_a_corpus_is_split_in_three_by_speaker():
    def clips(*splits):
        return corpus.Corpus(tuple(corpus.Clip(f"{i}.wav", "a", f"s{i // 2}", s) for i, s in enumerate(splits)))

    for given in (("train",) * 8 + ("dev",) * 8, ("train",) * 8 + ("test",) * 8, ("train",) * 40):
        found, note = gather.split_in_three(clips(*given))
        assert {clip.split for clip in found} == {"train", "dev", "test"} and note
        speakers = {split: {c.speaker for c in found if c.split == split} for split in ("train", "dev", "test")}
        assert sum(map(len, speakers.values())) == len({c.speaker for c in found})
        if "dev" in given or "test" in given:
            assert [c.split == "train" for c in found] == [split == "train" for split in given]
    whole = clips("train", "train", "dev", "dev", "test", "test")
    assert gather.split_in_three(whole) == (whole, "")


def test_long_sound_is_shared_out_by_who_is_in_it(tmp_path):
    for speaker in range(12):
        for number in range(3):
            path = tmp_path / "long" / "clean" / f"{speaker}" / "chapter" / f"{number}.flac"
            corpus_files.write(path, _noise(number, 0.1))
    found = hours.look([tmp_path / "long"], features.FrontendConfig())
    people = {split: {path.parts[-3] for path in files} for split, files in found.files.items()}
    assert sum(map(len, people.values())) == 12 and all(people.values()) and not found.ready
    assert sum(map(len, found.files.values())) == 36


def test_features_that_are_ready_are_trained_on_or_refused_before_work(tmp_path):
    frontend = features.FrontendConfig(hop_ms=10)
    long_features.write(tmp_path / "f", long_features.of_sound([(_noise(0, 1.0), ())], frontend))
    found = hours.look([tmp_path / "f"], frontend)
    sounds, problems = hours.training(found, frontend, tmp_path / "cache", None)
    assert len(sounds) == 1 and not problems and not (tmp_path / "cache").exists()
    with pytest.raises(ValueError, match="hop_ms=10 .the model's: 20"):
        hours.look([tmp_path / "f"], features.FrontendConfig(hop_ms=20))


def test_clips_of_a_corpus_are_limited_in_hours(tmp_path):
    clips = [corpus.Clip(str(corpus_files.write(tmp_path / f"{n}.wav", _noise(n, 1.0))), "a") for n in range(8)]
    some = gather.limited(clips, 3.5 / 3600.0, 0)
    assert len(some) == 3 and some == [clip for clip in clips if clip in some]
    assert gather.limited(clips, 1.0, 0) == clips and gather.limited(clips, 3.5 / 3600.0, 0) == some


def test_words_of_a_corpus_that_are_the_phrase():
    assert gather.same_phrase("Hey_Nova", "hey nova") and gather.same_phrase("heynova", "hey nova")
    assert not gather.same_phrase("nova", "hey nova") and not gather.same_phrase("hey novas", "hey nova")
