# SPDX-License-Identifier: Apache-2.0
"""Long sound without the phrase, ``--negatives``: most of it is trained on, some is for the choice and for the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfmot_kws.commands.parts.phrase.gather import RATE
from tfmot_kws.commands.parts.phrase.render import Progress
from tfmot_kws.data import long_features, splits
from tfmot_kws.frontend import features
from tfmot_kws.sound import files as audio
from tfmot_kws.sound.problems import Problem

_SECONDS = 60.0
"""Short files are joined to stretches of this length."""
_SHARD = 60
"""Stretches of a shard."""
_GROUPS = 10
"""So many folders below the one that is named are taken for speakers, or programmes: none is in two splits."""


def files_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split, by path: eight of ten for training, one each for the choice and the test.

    Raises:
        ValueError: a folder has fewer than three sound files.
    """
    found: dict[str, list[Path]] = {name: [] for name in splits.SPLITS}
    for folder in folders:
        files = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix.lower() in audio.EXTENSIONS and not path.name.startswith(".")
        ]
        if len(files) < 3:
            raise ValueError(
                f"--negatives {folder}: {len(files)} sound files ({', '.join(audio.EXTENSIONS)}); at least 3 are "
                "needed, one of them for the choice and one for the test"
            )
        names = {path: _group(path.relative_to(folder)) for path in files}
        if len(set(names.values())) < _GROUPS:
            names = {path: path.relative_to(folder).as_posix() for path in files}
        split_of = splits.in_shares({"": sorted(set(names.values()))})
        for path in files:
            found[split_of[names[path]]].append(path)
    return found


def _group(path: Path) -> str:
    return path.parts[-3] if len(path.parts) > 2 else path.parts[0] if len(path.parts) > 1 else path.name


def stretches(files: Sequence[Path], problems: list[Problem], progress: Progress = None) -> Iterator[np.ndarray]:
    """Sound of files, joined to stretches of a minute or more, float32 [samples]; adds what cannot be read."""
    parts: list[np.ndarray] = []
    for number, path in enumerate(files, 1):
        try:
            parts.append(audio.read(path, RATE))
        except audio.AudioError as error:
            problems.append(Problem(error.path, error.problem, error.detail))
        if progress is not None:
            progress(number, len(files))
        if sum(map(len, parts)) >= _SECONDS * RATE:
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)


def training(
    folder: Path, files: Sequence[Path], frontend: features.FrontendConfig, progress: Progress
) -> tuple[list[Path], list[Problem]]:
    """Features in folders of about an hour each, and what cannot be read."""
    problems: list[Problem] = []
    paths: list[Path] = []
    waiting: list[tuple[np.ndarray, tuple]] = []

    def write() -> None:
        paths.append(folder / f"{len(paths):04}")
        long_features.write(paths[-1], long_features.of_sound(waiting, frontend))
        waiting.clear()

    for sound in stretches(files, problems, progress):
        waiting.append((sound, ()))
        if len(waiting) == _SHARD:
            write()
    if waiting:
        write()
    return paths, problems


def streams(folder: Path, files: Sequence[Path], prefix: str, hours: float) -> tuple[list[str], list[Problem]]:
    """Writes sound as ``PREFIX_0000.flac`` and on, so many hours at most; names, and what cannot be read."""
    problems: list[Problem] = []
    names: list[str] = []
    left = hours * 3600.0 * RATE
    for sound in stretches(files, problems):
        if left <= 0:
            break
        names.append(f"{prefix}_{len(names):04}")
        audio.write(folder / f"{names[-1]}.flac", sound[: int(left)], RATE)
        left -= len(sound)
    return names, problems
