# SPDX-License-Identifier: Apache-2.0
"""What commands add to ``data.prepare``: the cache, words of an option, spoken confusables, long sound."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tfmot_kws.data import corpus, datasets
from tfmot_kws.data.task import SILENCE, UNKNOWN

LONG_SECONDS = 60.0


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/tfmot-kws``, or ``~/.cache/tfmot-kws``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfmot-kws"


def words_of(text: str | None) -> tuple[str, ...] | None:
    """("a", "b") of "a,b"; None of nothing."""
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text else None


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
