# SPDX-License-Identifier: Apache-2.0
"""Noise and music, ``--noises``: what is mixed behind everything that is said, other files in each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfmot_kws.commands.parts.phrase.gather import RATE, first_readable, sound_files
from tfmot_kws.data import splits
from tfmot_kws.sound import files as audio
from tfmot_kws.sound import stream
from tfmot_kws.sound.problems import Problem

_BLOCK_SECONDS = 10.0
_LEAST = 3
_LEAST_SECONDS = 10.0
"""Of each file, where there is so much: less is no noise that a scene could lie in."""


def look(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split: eight of ten for training, one each for the choice and the test.

    Raises:
        ValueError: a folder has fewer than three sound files, or none that can be read.
    """
    found: dict[str, list[Path]] = {name: [] for name in splits.SPLITS}
    for folder in folders:
        files = sound_files(folder)
        if len(files) < _LEAST:
            raise ValueError(
                f"--noises {folder}: {len(files)} sound files ({', '.join(audio.EXTENSIONS)}); at least {_LEAST} are "
                "needed, one of them for the choice and one for the test"
            )
        first_readable(files, f"--noises {folder}")
        names = {path: path.relative_to(folder).as_posix() for path in files}
        split_of = splits.in_shares({"": sorted(names.values())})
        for path in files:
            found[split_of[names[path]]].append(path)
    return found


def read(
    files: Mapping[str, Sequence[Path]], hours: float
) -> tuple[dict[str, tuple[np.ndarray, ...]], tuple[Problem, ...]]:
    """The beginnings of the files, so long that a split has no more than so many hours, int16, and what is left out."""
    found, problems = {}, []
    for split, paths in files.items():
        seconds = max(_LEAST_SECONDS, hours * 3600.0 / max(len(paths), 1))
        sounds = []
        for path in paths:
            try:
                sound = _beginning(path, seconds)
            except audio.AudioError as error:
                problems.append(Problem(error.path, error.problem, error.detail))
                continue
            if np.any(sound):
                sounds.append(sound)
            else:
                problems.append(Problem(str(path), "silent", "nothing is heard in it"))
        found[split] = tuple(sounds)
    return found, tuple(problems)


def _beginning(path: Path, seconds: float) -> np.ndarray:
    size, parts = round(seconds * RATE), []
    for block in stream.read_file(path, RATE, _BLOCK_SECONDS):
        parts.append(block)
        if sum(map(len, parts)) >= size:
            break
    sound = np.concatenate(parts)[:size] if parts else np.zeros(0, np.float32)
    return np.rint(np.clip(sound, -1.0, 1.0) * 32767.0).astype(np.int16)
