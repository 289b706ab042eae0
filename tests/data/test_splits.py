# SPDX-License-Identifier: Apache-2.0
"""Who speaks and which clips are held out: rules, shares, notes, and what is refused before training."""

from __future__ import annotations

import collections
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmot_kws.data import corpus, datasets, prepare, splits
from tfmot_kws.sound import problems


def lay(root: Path, *names: str) -> Path:
    """Files without sound: a corpus is names and labels."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def numbered(word: str, count: int, pattern: str = "{word}_{i:03d}.wav") -> list[str]:
    return [f"{word}/{pattern.format(word=word, i=i)}" for i in range(count)]


def by_word(clips: corpus.Corpus) -> dict[str, collections.Counter]:
    found: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for clip in clips:
        found[clip.word][clip.split] += 1
    return found


@pytest.mark.parametrize(
    "pattern", ["{word}_{i:03d}.wav", "{i}.wav", "rec-{i}.flac", "x_{word}_{i}.ogg", "a_b_{i}.wav"]
)
def test_ordinary_names_are_shared_out_word_by_word(tmp_path, pattern) -> None:
    lay(tmp_path, *numbered("alexa", 40, pattern), *numbered("hey", 20, pattern), *numbered("noise", 10, pattern))
    clips = datasets.open_corpus(tmp_path)
    found = by_word(clips)
    assert found["alexa"] == {"train": 32, "dev": 4, "test": 4}
    assert found["hey"] == {"train": 16, "dev": 2, "test": 2}
    assert found["noise"] == {"train": 8, "dev": 1, "test": 1}
    (note,) = clips.notes
    assert "60 clips (alexa, hey)" in note and "one by one" in note and "voices" in note and "--speakers" in note
    assert f"note: {note}" in clips.summary() and "60 clips of unknown speakers" in clips.summary()
    assert {clip.speaker for clip in clips} == {""}
    assert repr(clips) == "<Corpus: 3 words, 70 clips, 0 speakers, 60 clips of unknown speakers, 0 left out>"
    again, _ = datasets.prepare(clips, ("alexa", "hey"))
    assert again.notes == clips.notes and (clips + again).notes == clips.notes
    assert datasets.open_corpus(tmp_path) == clips


@pytest.mark.parametrize(
    ("rule", "pattern", "noted"),
    [
        ("auto", "{word}/{who}/{i}.wav", False),
        ("folder", "{word}/{who}/session/{i}.wav", False),
        ("prefix", "{word}/{who}_{i}.wav", False),
        (r"-([a-z]+)\.wav$", "{word}/{i}-{who}.wav", False),
        ("auto", "{word}/{who}_nohash_{i}.wav", False),
        ("auto", "{word}/clips/{who}_{i}.wav", True),  # one folder is a level, not a person
    ],
)
def test_a_speaker_has_one_split(tmp_path, rule, pattern, noted) -> None:
    people = [f"{name}{letter}" for name in ("anna", "ben", "cleo", "dan") for letter in "abcde"]
    lay(tmp_path, *(pattern.format(word=w, who=who, i=i) for w in ("yes", "no") for who in people for i in range(2)))
    clips = datasets.open_corpus(tmp_path, rule)
    assert len(clips) == 80 and bool(clips.notes) == noted
    assert set(clips.words()) == {"yes", "no"}
    if noted:
        return
    assert {clip.speaker for clip in clips} == set(people)
    splits_of = {who: {clip.split for clip in clips if clip.speaker == who} for who in people}
    assert all(len(found) == 1 for found in splits_of.values())
    if "nohash" in pattern:
        assert all(found == {datasets.hash_split(who)} for who, found in splits_of.items())
    else:
        assert all(count == {"train": 32, "dev": 4, "test": 4} for count in by_word(clips).values())


def test_clip_splits_one_by_one_whatever_the_names_say(tmp_path) -> None:
    lay(tmp_path, *numbered("yes", 10, "anna_nohash_{i}.wav"))
    assert set(by_word(datasets.open_corpus(tmp_path))["yes"]) == {datasets.hash_split("anna")}
    clips = datasets.open_corpus(tmp_path, "clip")
    assert by_word(clips)["yes"] == {"train": 8, "dev": 1, "test": 1} and clips.notes


def test_a_corpus_named_as_speech_commands_keeps_its_splits_when_files_are_added(tmp_path) -> None:
    lay(tmp_path, *numbered("yes", 30, "{i:08x}_nohash_0.wav"), *numbered("_background_noise_", 6, "hum{i}.wav"))
    before = {clip.path: clip.split for clip in datasets.open_corpus(tmp_path)}
    assert all(split == datasets.hash_split(path) for path, split in before.items())
    lay(tmp_path, *numbered("alexa", 10))
    after = datasets.open_corpus(tmp_path)
    assert {clip.path: clip.split for clip in after if clip.word != "alexa"} == before
    assert by_word(after)["alexa"] == {"train": 8, "dev": 1, "test": 1}
    assert "10 clips (alexa)" in after.notes[0]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (
            "voices",
            "speakers='voices': must be one of auto, folder, prefix, clip, or a regular expression with a group",
        ),
        ("(", "regular expression"),
        ("(a)(b)", "regular expression"),
        ("folder", "names nobody for 1 of 1 files, the first is yes/_1.wav"),
        ("prefix", "names nobody for 1 of 1 files"),
        ("([A-Z]+)", "names nobody for 1 of 1 files"),
    ],
)
def test_rules_that_do_not_suit(tmp_path, rule, wanted) -> None:
    lay(tmp_path, "yes/_1.wav", "noise/x.wav")
    with pytest.raises(ValueError) as caught:
        datasets.open_corpus(tmp_path, rule)
    assert wanted in str(caught.value)


def test_folders_that_are_splits_are_no_words_and_no_speakers(tmp_path) -> None:
    lay(tmp_path / "a", "train/yes/1.wav", "test/yes/2.wav")
    with pytest.raises(ValueError, match=r"its folders test, train are splits.*manifest\.csv"):
        datasets.open_corpus(tmp_path / "a")
    lay(tmp_path / "b", "yes/Training/1.wav", "yes/anna/2.wav")
    with pytest.raises(ValueError, match=r"'Training' inside a word is no speaker.*manifest\.csv"):
        datasets.open_corpus(tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("path,word\na.wav,gr\u00f6\u00dfe\n".encode("latin-1"), "no CSV file in UTF-8"),
        ("path,word\na.wav,yes\n".encode("utf-16"), "no CSV file in UTF-8"),
        (b"path,word\na\0.wav,yes\n", "zeros in it"),
        (b"path,word\nmissing.wav,yes\n", r"no usable row \(1 left out; the first is .*missing\.wav: no such file"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path, content, wanted) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"m\.csv: .*{wanted}"):
        datasets.open_corpus(tmp_path / "m.csv")


def test_a_manifest_keeps_its_splits_unless_a_rule_is_named(tmp_path) -> None:
    names = numbered("alexa", 20) + numbered("hey", 20)
    lay(tmp_path, *names)
    rows = "".join(f"{name},{name.split('/')[0]}\n" for name in names)
    (tmp_path / "manifest.csv").write_text(f"path,word\n{rows}")
    clips = datasets.open_corpus(tmp_path)
    assert all(clip.split == datasets.hash_split(clip.path) for clip in clips) and "40 clips" in clips.notes[0]
    shared = datasets.open_corpus(tmp_path, "clip")
    assert all(found == {"train": 16, "dev": 2, "test": 2} for found in by_word(shared).values())
    (tmp_path / "manifest.csv").write_text(f"path,word,speaker,split\n{rows.replace(chr(10), ',anna,' + chr(10))}")
    named = datasets.open_corpus(tmp_path)
    assert {clip.split for clip in named} == {datasets.hash_split("anna")} and not named.notes
    alone = datasets.open_corpus(tmp_path, "clip")
    assert by_word(alone)["hey"] == {"train": 16, "dev": 2, "test": 2} and alone.notes
    (tmp_path / "manifest.csv").write_text("path,word\nalexa/alexa_001.wav,alexa\nhey/hey_001.wav,hey\n")
    assert [clip.speaker for clip in datasets.open_corpus(tmp_path, "prefix")] == ["alexa", "hey"]


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 60).map(range), min_size=1),
    st.sampled_from([(10, 10), (20, 0), (0, 20), (0, 0), (50, 50), (0, 100), (100, 0), (33.3, 33.3)]),
)
def test_every_word_has_its_share_of_names_of_its_own(words, shares) -> None:
    dev, test = shares
    names = {word: [f"{word}/{i}" for i in found] for word, found in words.items()}
    chosen = splits.in_shares(names, dev, test)
    assert set(chosen) == {name for found in names.values() for name in found}
    for found in names.values():
        count = collections.Counter(chosen[name] for name in found)
        assert abs(count["test"] - len(found) * test / 100) <= 1 and abs(count["dev"] - len(found) * dev / 100) <= 1
        assert not (dev == 0 and count["dev"]) and not (test == 0 and count["test"])
        if len(found) >= 3 and dev + test < 100:
            assert count["train"] and bool(count["dev"]) == bool(dev) and bool(count["test"]) == bool(test)


def test_shares_follow_from_the_names_alone() -> None:
    names = [f"yes/{i}.wav" for i in range(30)]
    chosen = splits.in_shares({"yes": names})
    assert splits.in_shares({"yes": names[::-1]}) == chosen
    ranked = sorted(names, key=lambda name: hashlib.sha1(name.encode()).hexdigest())
    assert [chosen[name] for name in ranked] == ["test"] * 3 + ["dev"] * 3 + ["train"] * 24
    with pytest.raises(ValueError, match="dev_percent=60"):
        splits.in_shares({"yes": names}, 60, 50)


def test_words_with_speakers_of_their_own_are_all_held_out() -> None:
    names = {"alexa": [f"a{i}" for i in range(4)], "hey": [f"a{i}" for i in range(2)] + [f"h{i}" for i in range(30)]}
    chosen = splits.in_shares(names)
    for found in names.values():
        assert {chosen[name] for name in found} == {"train", "dev", "test"}


def test_a_keyword_without_clips_in_a_split_is_refused(tmp_path) -> None:
    lay(tmp_path, *numbered("alexa", 10), "hey/hey_1.wav", *numbered("other", 10))
    clips = datasets.open_corpus(tmp_path)
    with pytest.raises(ValueError, match=r"keyword hey: no clips in split test \(train 1, dev 0, test 0; 1 clip\)"):
        datasets.prepare(clips, ("alexa", "hey"))
    with pytest.raises(ValueError, match=r"keyword alexa: no clips in split train .*--speakers clip"):
        prepare.check_splits(clips.filter(lambda c: c.split != "train"), ("alexa",), ("train", "test"))
    with pytest.raises(ValueError, match="keywords bed: no such word"):
        prepare.check_splits(clips, ("bed",), ("train",))
    by_prefix = datasets.open_corpus(tmp_path, "prefix")
    with pytest.raises(ValueError, match=r"no clips of alexa are held out|keyword alexa: no clips .* by 1 speaker"):
        datasets.prepare(by_prefix, ("alexa",))


def test_a_keyword_whose_files_cannot_be_read_is_refused() -> None:
    broken = problems.Problem("d/hey/1.wav", "unreadable", "no sound")
    report = datasets.LoadReport(4, {"alexa": 3, "hey": 0}, (broken,))
    loaded = datasets.FeatureSet(
        np.zeros((3, 49, 40), np.float32),
        np.zeros(3, np.int32),
        ("alexa", "hey"),
        report,
        np.zeros(3, np.int32),
        ("a",),
    )
    assert repr(loaded) == "<FeatureSet: 3 examples of [49, 40], classes alexa, hey>"
    prepare.check_examples(loaded, ("alexa",), "train")
    with pytest.raises(ValueError, match="keyword alexa: there is nothing else in train to tell it from"):
        prepare.check_others(loaded, ("alexa",), "train")
    with pytest.raises(ValueError, match=r"keyword hey: none of its clips in train .* d/hey/1\.wav: unreadable"):
        prepare.check_examples(loaded, ("alexa", "hey"), "train")


def test_noise_alone_holds_nothing_out(tmp_path) -> None:
    noise = corpus.Clip("n.wav", "noise", split="test", kind="noise")
    word = corpus.Clip("a.wav", "yes", split="train")
    with pytest.raises(ValueError, match="no clips are held out"):
        prepare.eval_splits(datasets.Corpus((noise, word)))
    other = corpus.Clip("b.wav", "no", split="test")
    dev = corpus.Clip("c.wav", "yes", split="dev")
    assert prepare.eval_splits(datasets.Corpus((noise, word, other, dev))) == ("test",)
    assert prepare.eval_splits(datasets.Corpus((noise, word, other, dev)), ("yes",)) == ("dev",)
