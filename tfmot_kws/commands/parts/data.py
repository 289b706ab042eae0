# SPDX-License-Identifier: Apache-2.0
"""From a folder to features, as the commands do it: which words are keywords, which split is held out, the cache."""

from __future__ import annotations

import collections
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tfmot_kws.data import corpus, datasets
from tfmot_kws.data.task import SILENCE, UNKNOWN
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment

MAX_KEYWORDS = 10
AUGMENT = augment.AugmentConfig(
    gain_db=(-6.0, 6.0), speed=(0.92, 1.08), snr_db=(5.0, 25.0), noise_probability=0.5, reverb_probability=0.15
)
"""Augmentation of recordings for models of this size; stronger ranges made them miss more."""

LONG_SECONDS = 60.0
_COMPOUND_LETTERS = 5
_NEGATIVE_KINDS = ("negatives", "negative", "confusable", "other")


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/tfmot-kws``, or ``~/.cache/tfmot-kws``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfmot-kws"


def words_of(text: str | None) -> tuple[str, ...] | None:
    """("a", "b") of "a,b"; None of nothing."""
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text else None


def eval_splits(clips: corpus.Corpus) -> tuple[str, ...]:
    """The held-out splits: test where there is one, else dev.

    Raises:
        ValueError: there is neither.
    """
    found = {clip.split for clip in clips if not clip.is_stream}
    for name in ("test", "dev"):
        if name in found:
            return (name,)
    raise ValueError(
        "no clips are held out: every clip is in split 'train'. Give some speakers split dev or test in the manifest, "
        "or record more speakers (folders are split by speaker)"
    )


def pick_keywords(clips: corpus.Corpus, splits: Sequence[str]) -> tuple[str, ...]:
    """The words of kind "wake", else those with the most clips, at most 10; only words of all the splits.

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
        raise ValueError(f"no word has clips in each of {', '.join(splits)}; name some by --keywords")
    return tuple(sorted(chosen))


def without_compounds(clips: corpus.Corpus, keywords: Sequence[str]) -> corpus.Corpus:
    """Leaves out words that end with a keyword ("heycomputer" of "computer"): neither it nor anything else."""
    long = tuple(word for word in keywords if len(word) >= _COMPOUND_LETTERS)
    return clips.filter(lambda clip: clip.word in keywords or not clip.word.endswith(long))


def make_task(
    clips: corpus.Corpus, keywords: Sequence[str], clip_seconds: float = 1.0, context_seconds: float = 0.0
) -> datasets.TaskConfig:
    """The task of telling these keywords apart, with a class for other words and one for noise where there are any.

    Raises:
        ValueError: a keyword has no clips.
    """
    words = clips.words()
    missing = [word for word in keywords if word not in words]
    if missing:
        known = ", ".join(list(words)[:30])
        raise ValueError(f"keywords {', '.join(missing)}: no such word here; found {known}")
    others = [c for c in clips if c.word not in keywords and not c.is_stream]
    return datasets.TaskConfig(
        tuple(keywords),
        clip_seconds=clip_seconds,
        context_seconds=context_seconds,
        unknown=any(not c.is_noise for c in others) or len(keywords) == 1,
        silence=any(c.is_noise for c in others),
    )


def other_class(task: datasets.TaskConfig) -> str:
    """The class of sound that is no keyword.

    Raises:
        ValueError: the task has none.
    """
    for name in (UNKNOWN, SILENCE):
        if name in task.classes:
            return name
    raise ValueError("the recordings have no other words and no noise, so there is no class for what is no keyword")


def keyword_classes(task: datasets.TaskConfig) -> tuple[int, ...]:
    """Places of the keywords among the classes."""
    return tuple(task.classes.index(word) for word in task.keywords)


def speak_confusables(
    keywords: Sequence[str], words: Sequence[str], cache: Path, seed: int, progress=None
) -> corpus.Corpus:
    """Synthetic clips of the keywords and of words like them, in all voices; kept in the cache."""
    from tfmot_kws.data import synthetic

    spoken = corpus.Corpus(())
    for keyword in keywords:
        like = tuple(word for word in words if word not in keywords)
        name = hashlib.sha256(repr((keyword, like, seed)).encode()).hexdigest()[:16]
        made = synthetic.synthesize(
            cache / f"confusables-{name}", keyword, like, clips=1000, seed=seed, progress=progress
        )
        spoken = spoken + made.filter(lambda clip: clip.split == "train" and not clip.is_noise)
    return spoken


def read_long(folder: Path, rate: int, progress=None) -> list:
    """All sound of a folder, short files joined to stretches of a minute: float32 [samples] each.

    Raises:
        ValueError: there is no folder or no sound in it.
    """
    import numpy as np

    from tfmot_kws.sound import files as audio

    if not folder.is_dir():
        raise ValueError(f"--mine {folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in audio.EXTENSIONS)
    stretches, parts = [], []
    for index, path in enumerate(files):
        try:
            parts.append(audio.read(path, rate))
        except audio.AudioError:
            continue
        finally:
            if progress is not None:
                progress(index + 1, len(files))
        if sum(map(len, parts)) >= LONG_SECONDS * rate:
            stretches.append(np.concatenate(parts))
            parts = []
    if parts:
        stretches.append(np.concatenate(parts))
    if not stretches:
        raise ValueError(f"--mine {folder}: no sound in it ({len(files)} files)")
    return stretches


def training_features(
    clips: corpus.Corpus,
    task: datasets.TaskConfig,
    frontend: features.FrontendConfig,
    copies: int,
    seed: int,
    cache: Path | None,
    progress=None,
) -> datasets.FeatureSet:
    """The training split, each clip in ``copies`` augmented versions with the corpus's own noise; 0: as it is."""
    noise = clips if any(clip.is_noise and clip.split == "train" for clip in clips) else None
    ranges = AUGMENT if copies else None
    return datasets.load_features(
        clips, "train", task, frontend, ranges, max(copies, 1), seed, cache, noise, progress=progress
    )


def held_out_features(
    clips: corpus.Corpus,
    splits: Sequence[str],
    task: datasets.TaskConfig,
    frontend: features.FrontendConfig,
    cache: Path | None,
    progress=None,
) -> datasets.FeatureSet:
    """Clips of the splits as they are, joined."""
    import numpy as np

    parts = [
        datasets.load_features(clips, split, task, frontend, cache_dir=cache, progress=progress) for split in splits
    ]
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *(len(part.paths) for part in parts)])
    counts = collections.Counter()
    for part in parts:
        counts.update(part.report.examples)
    report = datasets.LoadReport(
        sum(part.report.files for part in parts),
        {name: counts[name] for name in task.classes},
        tuple(dict.fromkeys(problem for part in parts for problem in part.report.problems)),
        all(part.report.cached for part in parts),
    )
    return datasets.FeatureSet(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        task.classes,
        report,
        np.concatenate([part.source + first[i] for i, part in enumerate(parts)]),
        tuple(path for part in parts for path in part.paths),
        np.concatenate([part.places for part in parts]),
    )
