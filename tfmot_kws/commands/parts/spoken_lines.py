# SPDX-License-Identifier: Apache-2.0
"""What voices are to say of a phrase, and how often: the phrase itself, what sounds like it, and talk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmot_kws.data import confusables, pronouncing, spoken, wording

_WORDS = 60
"""Different negatives that are looked for, at most."""
_SEEN = 4
"""Times as many are looked at where the nearest of them are left out."""
_MOST_WORDS = 7
CLEAR = 1.0
"""``least_distance`` of what is trained on: words nearer than about one phone ("he nova") are told from the phrase by
nobody who says it quickly, and a model that is trained against them learns to miss the phrase."""

Lines = list[tuple[spoken.Line, int]]
"""What is said, and how many clips of it."""


def of_phrase(
    phrase: str,
    count: int,
    negatives: int,
    spellings: Sequence[str] = (),
    words: Sequence[str] = (),
    dictionary: pronouncing.Dictionary | None = None,
    least_distance: float = 0.0,
) -> Lines:
    """A phrase in all its spellings, and what is taken for it.

    Args:
        phrase: what is said; its words are what it is called.
        count: clips of the phrase.
        negatives: clips of what is none.
        spellings: other ways to write what is said as the phrase; by the first, words like it are found.
        words: what is said as negatives; found by sound where there are none.
        dictionary: of pronunciations; CMU's where None.
        least_distance: from the phrase, see ``confusables.Confusable``; what is nearer is not said.

    Raises:
        UnknownWordError: a word that the dictionary does not know.
        ValueError: a text without a word.
        ImportError: the dictionary is not installed.
    """
    ways, name = [phrase, *spellings], wording.name_of(phrase)
    lines = [(spoken.Line(way, name, spoken.WAKE), n) for way, n in zip(ways, shares(count, len(ways)))]
    if not negatives:
        return lines
    if words:
        others = [spoken.Line(word, wording.name_of(word), "confusable") for word in words]
    else:
        sound = spellings[0] if spellings else None
        wanted = min(negatives, _WORDS)
        found = confusables.near(
            phrase, wanted if not least_distance else _SEEN * wanted, dictionary, sounds_like=sound
        )
        far = [one for one in found if one.distance >= least_distance]
        sentences = [one for one in far if one.kind == "sentence"][: wanted // 5]
        far = [one for one in far if one.kind != "sentence"][: wanted - len(sentences)] + sentences
        others = [spoken.Line(one.text, one.word, one.kind) for one in far]
    return lines + (list(zip(others, shares(negatives, len(others)))) if others else [])


def of_chatter(phrase: str, count: int, seed: int, dictionary: pronouncing.Dictionary) -> Lines:
    """Sentences of three to seven random words, each said once: where there are no recordings, they stand for talk."""
    rng = np.random.default_rng([seed, 11])
    own = wording.words_of(phrase)
    words = confusables.others([phrase, *own], _MOST_WORDS * max(count, 1), seed, dictionary)
    texts = [
        " ".join(words[i] for i in rng.integers(len(words), size=rng.integers(3, _MOST_WORDS + 1)))
        for _ in range(count)
    ]
    return [(spoken.Line(text, text, "sentence"), 1) for text in texts]


def shares(count: int, parts: int) -> list[int]:
    """A count in equal parts, the first ones larger."""
    return [count // parts + (i < count % parts) for i in range(parts)]
