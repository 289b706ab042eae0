# SPDX-License-Identifier: Apache-2.0
"""From recordings to what is trained and measured, by the same choices in the shell and in Python.

``prepare`` says what is to be told apart, ``training_features`` and ``held_out_features`` make the arrays; the commands
call them with the same defaults.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Sequence

import numpy as np

from tfmot_kws.data import corpus, feature_set
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment

MAX_KEYWORDS = 10
AUGMENT = augment.AugmentConfig(
    gain_db=(-6.0, 6.0), speed=(0.92, 1.08), snr_db=(5.0, 25.0), noise_probability=0.5, reverb_probability=0.15
)
"""Augmentation of recordings for models of this size; stronger ranges made them miss more."""

_COMPOUND_LETTERS = 5
_NEGATIVE_KINDS = ("negatives", "negative", "confusable", "other")


def eval_splits(clips: corpus.Corpus, keywords: Sequence[str] | None = None) -> tuple[str, ...]:
    """The held-out splits: test where there is one, else dev.

    Args:
        clips: from ``datasets.open_corpus``; noise and streams do not count.
        keywords: whose clips count; None for those of all words.

    Raises:
        ValueError: there is neither.
    """
    found = {
        clip.split
        for clip in clips
        if not clip.is_stream and not clip.is_noise and (keywords is None or clip.word in keywords)
    }
    for name in ("test", "dev"):
        if name in found:
            return (name,)
    whose = "" if keywords is None else f" of {', '.join(keywords)}"
    raise ValueError(
        f"no clips{whose} are held out: every clip is in split 'train'. Give some speakers split dev or test in a "
        "manifest.csv, record more speakers, or split clips one by one (--speakers clip)"
    )


def check_splits(clips: corpus.Corpus, keywords: Sequence[str], splits: Sequence[str]) -> None:
    """Whether every keyword has clips in every split that it is needed in.

    Args:
        clips: those that take part.
        keywords: each of which must have clips.
        splits: in each of these, ``("train", "test")`` say.

    Raises:
        ValueError: a keyword has none in one of them; the message says what there is and what to do.
    """
    for word in keywords:
        here = [clip for clip in clips if clip.word == word and not clip.is_stream]
        if not here:
            known = ", ".join(list(clips.words())[:30])
            raise ValueError(f"keywords {word}: no such word here; found {known}")
        counts = collections.Counter(clip.split for clip in here)
        missing = [split for split in splits if not counts[split]]
        if missing:
            speakers = {clip.speaker for clip in here if clip.speaker}
            by = f" by {len(speakers)} speaker{'s' * (len(speakers) != 1)}" if speakers else ""
            count = f"{len(here)} clip{'s' * (len(here) != 1)}"
            shown = ", ".join(f"{split} {counts[split]}" for split in corpus.SPLITS)
            raise ValueError(
                f"keyword {word}: no clips in split {missing[0]} ({shown}; {count}{by}). Record more speakers, name "
                "splits in a manifest.csv or the lists, or split clips one by one (--speakers clip)"
            )


def check_examples(features: feature_set.FeatureSet, keywords: Sequence[str], split: str) -> None:
    """Whether every keyword has examples once its files were read.

    Args:
        features: of one split.
        keywords: each of which must have examples.
        split: its name, for the message.

    Raises:
        ValueError: all files of a keyword were left out; the message has the first of them.
    """
    for word in keywords:
        if not features.report.examples.get(word):
            here = [item for item in features.report.dropped() if os.path.dirname(item.path).endswith(word)]
            first = (here or [*features.report.dropped()])[:1]
            why = f"; the first file that was left out is {first[0].path}: {first[0].problem}" if first else ""
            raise ValueError(f"keyword {word}: none of its clips in {split} can be used{why}")


def check_others(features: feature_set.FeatureSet, keywords: Sequence[str], split: str) -> None:
    """Whether there is something to tell a keyword from, before a model is trained in vain.

    Raises:
        ValueError: all examples of the split are of one class.
    """
    if sum(bool(count) for count in features.report.examples.values()) < 2:
        raise ValueError(
            f"keyword {', '.join(keywords)}: there is nothing else in {split} to tell it from; add recordings of other "
            "words or of noise (folders of their own), in every split"
        )


def pick_keywords(clips: corpus.Corpus, splits: Sequence[str]) -> tuple[str, ...]:
    """The words of kind "wake", else those with the most clips, at most 10.

    Args:
        clips: from ``datasets.open_corpus``.
        splits: in each of which a word must have clips.

    Raises:
        ValueError: no word is in all of them.
    """
    counts: collections.Counter[str] = collections.Counter()
    places, wake = collections.defaultdict(set), set()
    for clip in clips:
        if clip.is_noise or clip.is_stream or clip.kind in _NEGATIVE_KINDS:
            continue
        counts[clip.word] += 1
        places[clip.word].add(clip.split)
        if clip.kind == "wake":
            wake.add(clip.word)
    usable = [word for word, _ in counts.most_common() if places[word] >= set(splits)]
    chosen = [word for word in usable if word in wake] or usable[:MAX_KEYWORDS]
    if not chosen:
        raise ValueError(
            f"no word has clips in each of {', '.join(splits)}: record more speakers, name splits in a "
            "manifest.csv, or split clips one by one (--speakers clip)"
        )
    return tuple(sorted(chosen))


def without_compounds(clips: corpus.Corpus, keywords: Sequence[str]) -> corpus.Corpus:
    """Leaves out words that end with a keyword ("heycomputer" of "computer"): neither it nor anything else."""
    long = tuple(word for word in keywords if len(word) >= _COMPOUND_LETTERS)
    return clips.filter(lambda clip: clip.word in keywords or not clip.word.endswith(long))


def make_task(
    clips: corpus.Corpus, keywords: Sequence[str], clip_seconds: float = 1.0, context_seconds: float = 0.0
) -> TaskConfig:
    """The task of telling these keywords apart, with a class for other words and one for noise where there are any.

    Args:
        clips: those that take part.
        keywords: in the order of their classes.
        clip_seconds: length of an example in seconds.
        context_seconds: sound that the front end hears ahead of an example, in seconds.

    Raises:
        ValueError: a keyword has no clips.
    """
    words = clips.words()
    missing = [word for word in keywords if word not in words]
    if missing:
        known = ", ".join(list(words)[:30])
        raise ValueError(f"keywords {', '.join(missing)}: no such word here; found {known}")
    others = [c for c in clips if c.word not in keywords and not c.is_stream]
    return TaskConfig(
        tuple(keywords),
        clip_seconds=clip_seconds,
        context_seconds=context_seconds,
        unknown=any(not c.is_noise for c in others) or len(keywords) == 1,
        silence=any(c.is_noise for c in others),
    )


def prepare(
    clips: corpus.Corpus,
    keywords: Sequence[str] | None = None,
    clip_seconds: float = 1.0,
    context_seconds: float = 0.0,
) -> tuple[corpus.Corpus, TaskConfig]:
    """What ``tfmot-kws train`` makes of recordings: the clips that take part, and the task.

    The task has a class for other words and one for noise where the recordings have any, so that no class is empty.

    Args:
        clips: from ``datasets.open_corpus``.
        keywords: words to spot; None picks those of kind "wake", else the most frequent, at most 10.
        clip_seconds: length of an example in seconds.
        context_seconds: sound that the front end hears ahead of an example, in seconds.

    Returns:
        The clips without compounds of the keywords, and the task.

    Raises:
        ValueError: no clips are held out, or a keyword has no clips to train or to test on; the message says which.
    """
    words = tuple(keywords) if keywords is not None else pick_keywords(clips, ("train", *eval_splits(clips)))
    clips = without_compounds(clips, words)
    task = make_task(clips, words, clip_seconds, context_seconds)
    check_splits(clips, words, ("train", *eval_splits(clips, words)))
    return clips, task


def training_features(
    clips: corpus.Corpus,
    task: TaskConfig,
    frontend: features.FrontendConfig | None = None,
    copies: int = 3,
    seed: int = 0,
    cache: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> feature_set.FeatureSet:
    """Features of the training split, augmented, with the corpus's own noise mixed in.

    Args:
        clips: all splits; noise is taken from the training split.
        task: classes and length of an example.
        frontend: how sound becomes features; None is ``FrontendConfig()``.
        copies: augmented versions of each clip; 0 takes the clips as they are.
        seed: of cuts and augmentation.
        cache: folder that keeps features; None keeps none.
        progress: called with (files done, files in all).

    Raises:
        ValueError: the split has no clips, or none is usable.
    """
    frontend = frontend or features.FrontendConfig()
    noise = clips if any(clip.is_noise and clip.split == "train" for clip in clips) else None
    ranges = AUGMENT if copies else None
    return feature_set.load_features(
        clips, "train", task, frontend, ranges, max(copies, 1), seed, cache, noise, progress=progress
    )


def held_out_features(
    clips: corpus.Corpus,
    task: TaskConfig,
    frontend: features.FrontendConfig | None = None,
    splits: Sequence[str] | None = None,
    cache: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> feature_set.FeatureSet:
    """Features of the held-out clips as they are, without augmentation; those of several splits are joined.

    Args:
        clips: all splits.
        task: classes and length of an example.
        frontend: how sound becomes features; None is ``FrontendConfig()``.
        splits: which; None takes ``test``, or ``dev`` where there is no test.
        cache: folder that keeps features; None keeps none.
        progress: called with (files done, files in all).

    Raises:
        ValueError: no clips are held out, or none is usable.
    """
    frontend = frontend or features.FrontendConfig()
    splits = eval_splits(clips, task.keywords) if splits is None else splits
    parts = [
        feature_set.load_features(clips, split, task, frontend, cache_dir=cache, progress=progress) for split in splits
    ]
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *(len(part.paths) for part in parts)])
    counts = collections.Counter()
    for part in parts:
        counts.update(part.report.examples)
    report = feature_set.LoadReport(
        sum(part.report.files for part in parts),
        {name: counts[name] for name in task.classes},
        tuple(dict.fromkeys(problem for part in parts for problem in part.report.problems)),
        all(part.report.cached for part in parts),
    )
    return feature_set.FeatureSet(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        task.classes,
        report,
        np.concatenate([part.source + first[i] for i, part in enumerate(parts)]),
        tuple(path for part in parts for path in part.paths),
        np.concatenate([part.places for part in parts]),
    )
