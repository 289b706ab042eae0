# SPDX-License-Identifier: Apache-2.0
"""Corpora and their splits."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from corpus_files import make_folder, tone, write
from hypothesis import given
from hypothesis import strategies as st

from tfmot_kws.data import corpus, datasets
from tfmot_kws.frontend import features

FRONTEND = features.FrontendConfig(mel_bins=20)
TASK = datasets.TaskConfig(("yes", "no"))


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


def _published_rule(filename: str, validation: float, testing: float) -> str:
    """The rule as the Speech Commands paper states it, in its own words."""
    largest = 2**27 - 1
    name = re.sub(r"_nohash_.*$", "", Path(filename).name)
    hashed = int(hashlib.sha1(name.encode()).hexdigest(), 16)
    percentage = (hashed % (largest + 1)) * (100.0 / largest)
    if percentage < validation:
        return "dev"
    return "test" if percentage < validation + testing else "train"


@given(st.text("0123456789abcdef", min_size=1, max_size=8), st.integers(0, 9), st.floats(0, 50), st.floats(0, 50))
def test_hash_rule(speaker, take, dev, test):
    name = f"{speaker}_nohash_{take}.wav"
    assert datasets.hash_split(name, dev, test) == _published_rule(name, dev, test)
    assert datasets.hash_split(f"some/where/{name}", dev, test) == datasets.hash_split(speaker, dev, test)


def test_hash_rule_gives_the_shares_asked_for():
    splits = [datasets.hash_split(f"speaker{i}", 20, 10) for i in range(4000)]
    assert splits.count("dev") / 4000 == pytest.approx(0.2, abs=0.03)
    assert splits.count("test") / 4000 == pytest.approx(0.1, abs=0.03)
    with pytest.raises(ValueError, match="dev_percent=60"):
        datasets.hash_split("a", 60, 50)


def test_folder_of_words(folder):
    corpus = datasets.from_folder(folder)
    assert corpus.words() == {"_background_noise_": 4, "maybe": 12, "no": 12, "yes": 12}
    for clip in corpus:
        assert clip.is_noise == (clip.word == "_background_noise_")
        if not clip.is_noise:
            assert clip.speaker == Path(clip.path).name.split("_nohash_")[0]
            assert clip.split == datasets.hash_split(clip.speaker)
    assert "40 clips" in corpus.summary() and "maybe" in corpus.summary()
    assert len(corpus.filter(words=["yes", "no"])) == 24
    assert len(corpus.filter(kinds=["noise"])) == 4
    assert len(corpus.filter(lambda clip: clip.speaker.endswith("3"))) == 3
    assert len(corpus + corpus) == 80
    assert datasets.open_corpus(folder) == corpus


def test_lists_of_the_archive_win(folder):
    (folder / "validation_list.txt").write_text("yes/00000000_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("no/00000001_nohash_0.flac\nyes/00000002_nohash_0.wav\n")
    corpus = datasets.open_corpus(folder).filter(words=["yes", "no", "maybe"])
    listed = {f"{clip.word}/{Path(clip.path).name}": clip.split for clip in corpus if clip.split != "train"}
    assert listed == {
        "yes/00000000_nohash_0.wav": "dev",
        "no/00000001_nohash_0.flac": "test",
        "yes/00000002_nohash_0.wav": "test",
    }


def test_manifest(tmp_path):
    for name in "abcde":
        write(tmp_path / f"{name}.wav", tone(1))
    (tmp_path / "manifest.csv").write_text(
        "path,word,speaker,kind,split,word_start,word_end,licence\n"
        'a.wav,yes,anna,wake,train,0.25,0.75,"CC BY, 4.0"\n'
        "b.wav,no,ben,commands,validation,,,CC0\n"
        "c.wav,,,noise,dev,,,CC0\n"
        "d.wav,maybe,dora,,,,,CC0\n"
        "e.wav,yes,eve,wake,train,0.9,0.1,CC0\n"
        "missing.wav,yes,eve,wake,train,,,CC0\n"
        "a.wav,yes,eve,wake,nonsense,,,CC0\n"
    )
    corpus = datasets.open_corpus(tmp_path)
    assert corpus == datasets.open_corpus(tmp_path / "manifest.csv")
    first, second, third, fourth = corpus.clips
    assert (first.start, first.end, first.kind, first.split) == (0.25, 0.75, "wake", "train")
    assert (second.split, second.start) == ("dev", None)
    assert third.is_noise and third.word == "noise"
    assert fourth.split == datasets.hash_split("dora")
    assert [Path(item.path).name for item in corpus.skipped] == ["e.wav", "missing.wav", "a.wav"]
    assert "start < end" in corpus.skipped[0].detail and "nonsense" in corpus.skipped[2].detail


def test_unusable_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        datasets.open_corpus(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no sound found"):
        datasets.open_corpus(tmp_path)
    (tmp_path / "m.csv").write_text("file,word\n")
    with pytest.raises(ValueError, match=r"\['path'\] missing"):
        datasets.open_corpus(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("path,word\nx.wav,yes\n")
    with pytest.raises(ValueError, match="no usable row"):
        datasets.open_corpus(tmp_path / "m.csv")


def test_unknown_and_empty_splits(folder):
    corpus = datasets.from_folder(folder, 0, 0)
    assert len(corpus.split("training")) == 40
    with pytest.raises(ValueError, match="split 'dev': no clips"):
        corpus.split("dev")
    with pytest.raises(ValueError, match="split 'evening'"):
        corpus.split("evening")


def test_nobody_is_trained_on_whom_another_corpus_holds_out():
    """By rank of the splits; noise and clips of nobody stay, and within one corpus its own splits hold."""

    def made(*rows: tuple[str, str, str]) -> corpus.Corpus:
        return corpus.Corpus(tuple(corpus.Clip(f"{s}{n}", w, s, p) for n, (w, s, p) in enumerate(rows)))

    one = made(
        ("yes", "a", "train"), ("yes", "a", "dev"), ("no", "b", "train"), ("no", "", "train"), ("no", "c", "test")
    )
    other = made(("up", "a", "train"), ("up", "b", "dev"), ("up", "c", "dev"), ("up", "d", "train"))
    noise = corpus.Corpus((corpus.Clip("n", "noise", "b", "train", kind="noise"),))
    joined = corpus.join_apart([one, other, noise])
    kept = [(clip.word, clip.speaker, clip.split) for clip in joined]
    assert kept == [
        ("yes", "a", "train"), ("yes", "a", "dev"), ("no", "", "train"), ("no", "c", "test"),
        ("up", "b", "dev"), ("up", "d", "train"), ("noise", "b", "train"),
    ]  # fmt: skip
    assert joined.notes == ("3 clips are left out: another of the corpora holds their speakers out",)
    assert corpus.join_apart([one]).clips == one.clips and not corpus.join_apart([one]).notes
