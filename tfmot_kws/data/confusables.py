# SPDX-License-Identifier: Apache-2.0
"""What a wake phrase is taken for: words that sound like it, parts of it, and both within sentences.

A spotter that never heard them in training answers to them. They are found by phones, in a pronouncing dictionary.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from tfmot_kws.data import pronouncing, wording
from tfmot_kws.data.pronouncing import Dictionary, Phones

KINDS = ("partial", "near", "sentence")
_NEIGHBOURS = 40
"""How many words are tried in the place of each word of the phrase."""
_SAME = 0.3
"""What is nearer than this cannot be told from the phrase by ear: it is a spelling of it, and no negative."""
_HEARD_AS = 1.5
"""Words of a few phones that are nearer than this differ by one or two like sounds."""
_SENTENCES = (
    "I think {} is a nice name.",
    "we talked about {} all day.",
    "did you say {} again?",
    "there is nothing like {}.",
    "please put {} on the list.",
    "they called it {}, I believe.",
    "when was {} on the radio?",
    "my sister likes {} a lot.",
)


@dataclasses.dataclass(frozen=True)
class Confusable:
    """Something that is not the phrase.

    Attributes:
        text: to be said.
        distance: of its phones to those of the phrase, see ``pronouncing.distances``; for a sentence that of its core.
        kind: ``"near"``: sounds like the phrase; ``"partial"``: a part of it, or its words in another order;
            ``"sentence"``: one of those within a sentence.
        word: what it is called; the text but for sentences, whose core it is.
    """

    text: str
    distance: float
    kind: str
    word: str


def spellings(phrase: str, count: int = 3, dictionary: Dictionary | None = None) -> list[str]:
    """Other spellings of a phrase, by words that are pronounced the same: ``hay nova``; the phrase itself is not in it.

    Proposals: a synthesizer that knows a word's other spelling says the same, one that does not may say something else.
    Listen before they are said as the phrase (``tfmot-kws say --spelling``). An unknown word has no others.

    Args:
        phrase: of one or more words.
        count: at most so many.
        dictionary: of pronunciations; CMU's where None.
    """
    dictionary = dictionary or pronouncing.load()
    words = wording.words_of(phrase)
    by_sound: dict[Phones, list[str]] = {}
    wanted = {dictionary.entries[word][0] for word in words if word in dictionary.entries}
    for other, sounds in dictionary.entries.items():
        if sounds[0] in wanted and other.isalpha():
            by_sound.setdefault(sounds[0], []).append(other)
    choices = [
        [word, *(o for o in by_sound.get(dictionary.entries.get(word, ((),))[0], []) if o != word)] for word in words
    ]
    found = (" ".join(chosen) for chosen in itertools.islice(itertools.product(*choices), 1, count + 1))
    return list(found)


def _partials(phrase: str, phones: Phones, dictionary: Dictionary) -> list[Confusable]:
    """Runs of the phrase's words, its words in another order, and words that are a beginning or an end of it."""
    words = wording.words_of(phrase)
    count = len(words)
    runs = [" ".join(words[a:b]) for a in range(count) for b in range(a + 1, count + 1) if b - a < count]
    turned = [" ".join(reversed(words)), f"{words[0]} {words[0]}"] if count > 1 else [f"{words[0]} {words[0]}"]
    inside: list[tuple[int, str]] = []
    for word, (sound, *_) in dictionary.entries.items():
        size = len(sound)
        if 2 <= size < len(phones) and word.isalpha() and len(word) > 1:
            if sound in (phones[:size], phones[-size:]):
                inside.append((-size, word))
    longest: dict[Phones, str] = {}  # one of those that sound the same, and none that sounds like a run
    spoken = {dictionary.of(run) for run in runs}
    for _, word in sorted(inside):
        if dictionary.entries[word][0] not in spoken:
            longest.setdefault(dictionary.entries[word][0], word)
    texts = dict.fromkeys([*runs, *turned, *itertools.islice(longest.values(), 6)])
    far = pronouncing.distances(phones, [dictionary.of(text) for text in texts])
    return [Confusable(text, round(float(d), 3), "partial", text) for text, d in zip(texts, far)]


def _near(phrase: str, phones: Phones, dictionary: Dictionary, count: int) -> list[Confusable]:
    """Words like the whole phrase, and the phrase with one or two of its words replaced, by turns; nearest first."""
    usable = [word for word in dictionary.entries if word.isalpha() and len(word) > 1]
    sounds = [dictionary.entries[word][0] for word in usable]

    def nearest(target: Phones, least: float, most: int) -> list[tuple[float, str]]:
        few = [i for i, sound in enumerate(sounds) if abs(len(sound) - len(target)) <= 2]
        far = pronouncing.distances(target, [sounds[i] for i in few])
        ranked = sorted((round(float(d), 3), usable[i]) for i, d in zip(few, far) if d >= least)
        one_each: dict[Phones, tuple[float, str]] = {}  # of words that sound the same, one is enough
        for d, word in ranked:
            one_each.setdefault(dictionary.entries[word][0], (d, word))
            if len(one_each) == most:
                break
        return list(one_each.values())

    sources = [nearest(phones, _SAME, count)]  # ranked each: whole words, then one place after another, then two
    words = wording.words_of(phrase)
    if len(words) > 1:
        choices = [nearest(dictionary.entries[word][0], _SAME, max(_NEIGHBOURS, count)) for word in words]
        for place, others in enumerate(choices):
            sources.append([(d, " ".join([*words[:place], other, *words[place + 1 :]])) for d, other in others])
        pairs = []
        for (i, first), (j, second) in itertools.combinations(list(enumerate(choices)), 2):
            for (d, one), (e, two) in itertools.product(first[:_NEIGHBOURS], second[:_NEIGHBOURS]):
                changed = list(words)
                changed[i], changed[j] = one, two
                pairs.append((round(d + e, 3), " ".join(changed)))
        sources.append(sorted(pairs))
    found: dict[str, float] = {}
    for turn in itertools.zip_longest(*sources):
        for distance, text in filter(None, turn):
            found.setdefault(text, distance)
    return [Confusable(text, distance, "near", text) for text, distance in found.items()]


def near(
    phrase: str,
    count: int,
    dictionary: Dictionary | None = None,
    sounds_like: str | None = None,
    kinds: Sequence[str] = KINDS,
) -> list[Confusable]:
    """What the phrase may be taken for, by phones.

    A fifth at most are parts of the phrase, a fifth sentences. The rest sounds like it: like all of it, and like each
    of its words in the place of that word, by turns, nearest first. Nothing in it holds the sounds of the phrase, by
    any of the pronunciations that the dictionary has for it ("hey novas" of "hey nova"): a spotter is to answer there.

    Args:
        phrase: the wake phrase.
        count: how many; fewer come where the dictionary has no more.
        dictionary: of pronunciations; CMU's where None.
        sounds_like: the phrase in words that the dictionary knows, where it does not know all of the phrase.
        kinds: of ``KINDS``, those that are wanted.

    Returns:
        By kind, as in ``KINDS``; the same for the same arguments.

    Raises:
        ValueError: a word that the dictionary does not know, or a count or a kind that makes no sense.
        ImportError: the dictionary is not installed.
    """
    if count < 1 or not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"count={count!r}, kinds={tuple(kinds)!r}: must be 1 or more, and some of {KINDS}")
    dictionary = dictionary or pronouncing.load()
    said = sounds_like or phrase
    phones = dictionary.of(said)
    pronunciations = [
        tuple(phone for sound in sounds for phone in sound)
        for sounds in itertools.islice(
            itertools.product(*(dictionary.entries[word] for word in wording.words_of(said))), 32
        )
    ]
    whole = {" ".join(wording.words_of(text)) for text in (phrase, said)}

    def is_other(text: str) -> bool:
        """Whether it differs from the phrase by ear, and does not hold its sounds: a spotter must answer to those."""
        plain = " ".join(wording.words_of(text))
        if any(f" {taken} " in f" {plain} " for taken in whole):
            return False
        ways = itertools.islice(itertools.product(*(dictionary.entries[w] for w in plain.split())), 32)
        all_ways = [tuple(phone for sound in way for phone in sound) for way in ways]
        held = {way[i : i + len(one)] for one in pronunciations for way in all_ways for i in range(len(way))}
        if not held.isdisjoint(pronunciations):
            return False
        return all(pronouncing.distances(one, all_ways).min() >= _SAME for one in pronunciations)

    fifth = max(1, count // 5)
    parts = _partials(said, phones, dictionary) if "partial" in kinds or "sentence" in kinds else []
    parts = [part for part in parts if is_other(part.text)]
    chosen = [] if "partial" not in kinds else parts[: count if set(kinds) == {"partial"} else fifth]
    sentences = fifth if "sentence" in kinds and count > len(chosen) else 0
    wanted = count - len(chosen) - sentences
    sounding = _near(said, phones, dictionary, count)
    taken = {part.text for part in chosen}
    fitting = (c for c in sounding if c.text not in taken and is_other(c.text))
    others = list(itertools.islice(fitting, max(wanted, 1)))
    if "near" in kinds:
        chosen += others[:wanted]
    if "sentence" in kinds:
        sentences = count - len(chosen) if "near" not in kinds else sentences
        cores = [core for pair in itertools.zip_longest(parts, others) for core in pair if core]
        pairs = itertools.islice(itertools.product(range(len(_SENTENCES)), range(len(cores))), sentences)
        for shift, core in pairs:
            text = _SENTENCES[(shift + core) % len(_SENTENCES)].format(cores[core].text)
            chosen.append(Confusable(text, cores[core].distance, "sentence", cores[core].text))
    return chosen


def others(
    phrases: Sequence[str],
    count: int,
    seed: int = 0,
    dictionary: Dictionary | None = None,
    without: Sequence[str] = (),
) -> list[str]:
    """Words drawn from all of the dictionary: what a spotter of short words meets.

    A spotter that heard only some words beside its own takes others for them. These need not sound like anything.

    Args:
        phrases: what is to be spotted; words nearer than 1.5 to one of them (see ``pronouncing.distances``) are left
            out, because they may be heard as it. A phrase that the dictionary does not know only keeps out itself.
        count: how many; fewer come where the dictionary has no more.
        seed: of the draw.
        dictionary: of pronunciations; CMU's where None.
        without: words that must not come, whatever they sound like.

    Returns:
        Words of 3 to 10 letters and 2 to 8 phones, no two the same.
    """
    if count < 1:
        raise ValueError(f"count={count!r}: must be 1 or more")
    dictionary = dictionary or pronouncing.load()
    kept_out = {word.lower() for word in (*without, *phrases)}
    usable = sorted(
        word
        for word, (sound, *_) in dictionary.entries.items()
        if word.isalpha() and 3 <= len(word) <= 10 and 2 <= len(sound) <= 8 and word not in kept_out
    )
    drawn = [usable[i] for i in np.random.default_rng(seed).permutation(len(usable))]
    drawn = drawn[: count + count // 4 + 50]
    near = np.zeros(len(drawn), bool)
    for phrase in phrases:
        if all(word in dictionary.entries for word in wording.words_of(phrase)):
            sounds = [dictionary.entries[word][0] for word in drawn]
            near |= pronouncing.distances(dictionary.of(phrase), sounds) < _HEARD_AS
    return [word for word, taken in zip(drawn, near) if not taken][:count]
