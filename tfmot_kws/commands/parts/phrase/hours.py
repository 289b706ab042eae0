# SPDX-License-Identifier: Apache-2.0
"""Long sound without the phrase, ``--negatives``: most of it is trained on, some is for the choice and for the test."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfmot_kws.commands.parts.phrase.gather import RATE, first_readable, sound_files
from tfmot_kws.commands.parts.phrase.render import Progress
from tfmot_kws.data import long_features, negatives, spectrograms, splits
from tfmot_kws.data.long_features import LongFeatures
from tfmot_kws.frontend import features
from tfmot_kws.sound import files as audio
from tfmot_kws.sound import stream
from tfmot_kws.sound.problems import Problem

_BLOCK_SECONDS = 10.0
_GROUPS = 10
"""So many folders below the one that is named are taken for speakers, or programmes: none is in two splits."""
_LEAST = 3


@dataclasses.dataclass(frozen=True)
class Found:
    """What is in the folders.

    Attributes:
        files: sound of each split.
        ready: folders of features to train on.
    """

    files: dict[str, list[Path]]
    ready: tuple[Path, ...] = ()


def look(folders: Sequence[Path], frontend: features.FrontendConfig) -> Found:
    """The sound of each split, eight of ten files for training, one each for the choice and the test; ready features.

    Raises:
        ValueError: a folder has fewer than three sound files and no features, none of its files can be read, or
            features are of another front end.
    """
    files: dict[str, list[Path]] = {name: [] for name in splits.SPLITS}
    ready: list[Path] = []
    for folder in folders:
        if (folder / long_features.ABOUT).is_file() and (folder / long_features.FEATURES).is_file():
            ready.append(folder)
            continue
        parts = spectrograms.of_split(folder, "training")
        ready += parts
        here = sound_files(folder)
        if len(here) < _LEAST and not parts:
            raise ValueError(
                f"--negatives {folder}: {len(here)} sound files ({', '.join(audio.EXTENSIONS)}); at least {_LEAST} are "
                "needed, one of them for the choice and one for the test; or features (folders *_mmap)"
            )
        if here:
            first_readable(here, f"--negatives {folder}")
        names = {path: _group(path.relative_to(folder)) for path in here}
        if len(set(names.values())) < _GROUPS:
            names = {path: path.relative_to(folder).as_posix() for path in here}
        split_of = splits.in_shares({"": sorted(set(names.values()))})
        for path in here:
            files[split_of[names[path]]].append(path)
    found = Found(files, tuple(ready))
    if ready:
        negatives.gather(ready, frontend, "")  # nothing is made of them: they are opened, or refused
    return found


def _group(path: Path) -> str:
    return path.parts[-3] if len(path.parts) > 2 else path.parts[0] if len(path.parts) > 1 else path.name


def training(
    found: Found, frontend: features.FrontendConfig, cache: Path, progress: Progress
) -> tuple[tuple[LongFeatures, ...], tuple[Problem, ...]]:
    """Features to train on, and what cannot be read; those that are in the cache are only opened."""
    folders = [*found.files["train"], *found.ready]
    if not folders:
        return (), ()
    made = negatives.gather(folders, frontend, cache, progress=progress)
    return made.sounds, made.problems


def streams(folder: Path, files: Sequence[Path], prefix: str, hours: float) -> tuple[list[str], list[Problem]]:
    """Writes sound as ``PREFIX_0000.flac`` and on, a minute or more each, so many hours at most.

    Returns:
        Names without extension, and what cannot be read.
    """
    problems: list[Problem] = []
    names: list[str] = []
    for sound in _stretches(files, round(hours * 3600.0 * RATE), problems):
        names.append(f"{prefix}_{len(names):04}")
        audio.write(folder / f"{names[-1]}.flac", sound, RATE)
    return names, problems


def _stretches(files: Sequence[Path], left: int, problems: list[Problem]) -> Iterator[np.ndarray]:
    """Sound of files one after another, float32 [samples], a minute each, so many samples at most."""
    size = round(negatives.STRETCH_SECONDS * RATE)
    waiting: list[np.ndarray] = []
    for path in files:
        try:
            for block in stream.read_file(path, RATE, _BLOCK_SECONDS):
                waiting.append(block[:left])
                left -= len(waiting[-1])
                if left <= 0 or sum(map(len, waiting)) >= size:
                    yield np.concatenate(waiting)
                    waiting = []
                if left <= 0:
                    return
        except audio.AudioError as error:
            problems.append(Problem(error.path, error.problem, error.detail))
    if waiting:
        yield np.concatenate(waiting)
