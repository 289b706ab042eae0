# SPDX-License-Identifier: Apache-2.0
"""Features of long sound, hours of it, on disk; windows of them are what a wake word is trained on.

A folder holds ``features.npy`` ([frames, mel], read as it is needed, not whole), ``pieces.npy`` (int64, first frame of
each recording and the number of all frames) and ``about.json`` with the front end and the words. Positions are ends of
windows: the frame behind the last one that a window of the model takes in.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tfmot_kws import atomic
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features

ABOUT, FEATURES, PIECES = "about.json", "features.npy", "pieces.npy"
"""Files of a folder."""
TYPES = {"micro": (np.uint16, np.float32), "lfbe": (np.float16, np.float32), "raw": (np.int16, np.float32)}
"""What features of each back end are stored as; uint16 are ``micro``'s integers, int16 samples."""
_NEAR = 1e-6
"""Frames: seconds like 0.3 are no exact sums of hops in floats, and are to fall on the frame that is meant."""


@dataclasses.dataclass(frozen=True)
class LabelWindow:
    """Which windows of a model hold a keyword, by where they end: the end of their last frame, in time. Ends count in.

    Attributes:
        before: seconds before the end of the word at which a window counts as holding it.
        after: seconds behind the end of the word until which it does. What follows a word tells it from longer ones.
        free_before: from the start of the word on until ``before``, nothing is asked of a window, except in the first
            so many seconds of the word, where it must not fire yet.
        free_after: seconds behind ``after`` in which nothing is asked.

    Raises:
        ValueError: a time is negative, or the window is empty.
    """

    before: float = 0.0
    after: float = 0.4
    free_before: float = 0.15
    free_after: float = 0.7

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0.0 <= getattr(self, field.name) <= 60.0:
                raise ValueError(
                    f"LabelWindow.{field.name}={getattr(self, field.name)!r}: must be between 0 and 60 seconds"
                )
        if self.before + self.after <= 0.0:
            raise ValueError("LabelWindow: before + after must be above 0")


@dataclasses.dataclass(frozen=True)
class LongFeatures:
    """Recordings one after another.

    Attributes:
        x: [frames, mel], uint16 (``micro``'s integers), float16 or float32; a memory map where it comes from disk.
        first: int64 [recordings + 1], first frame of each recording, and the number of all frames.
        targets: the words in each recording.
        frontend: what made them.

    Raises:
        ValueError: ``first`` and ``targets`` are of different numbers of recordings, or ``first`` ends elsewhere.
    """

    x: np.ndarray
    first: np.ndarray
    targets: tuple[tuple[Target, ...], ...]
    frontend: features.FrontendConfig

    def __post_init__(self) -> None:
        if len(self.first) != len(self.targets) + 1 or self.first[0] != 0 or self.first[-1] != len(self.x):
            raise ValueError(
                f"LongFeatures: {len(self.x)} frames, {len(self.targets)} recordings with targets and "
                f"{len(self.first)} places in first: expected one place more than recordings, from 0 to all frames"
            )

    @property
    def hours(self) -> float:
        """How long it is."""
        return len(self.x) * self.frontend.hop_ms / 3.6e6

    @property
    def scale(self) -> float:
        """What the stored numbers are multiplied by to be the features that a model takes."""
        units = {np.dtype(np.uint16): features.MICRO_SCALE, np.dtype(np.int16): features.SAMPLE_SCALE}
        return units.get(self.x.dtype, 1.0)

    def window_ends(self, frames: int) -> np.ndarray:
        """int64, all positions at which a window of ``frames`` frames of one recording can end, rising."""
        return np.concatenate(
            [np.arange(a + frames, b + 1) for a, b in zip(self.first[:-1], self.first[1:]) if b - a >= frames]
            or [np.zeros(0, np.int64)]
        ).astype(np.int64)

    def labels(self, words: Sequence[str], window: LabelWindow | None = None) -> np.ndarray:
        """int16 [frames + 1], of a window that ends at each position: 0 no word, k for ``words[k - 1]``, -1 not asked.

        Where windows of two words lie over each other, the word that ends later has them.

        Args:
            words: keywords; targets of other words are sound like any other.
            window: which windows hold a word.

        Raises:
            ValueError: ``words`` is one string, or the window is shorter than a hop and may hold no frame.
        """
        if isinstance(words, str):
            raise ValueError(f"labels: words={words!r}: must be a list of words, not one string")
        window, words = window or LabelWindow(), list(words)
        hop = self.frontend.hop_ms / 1000.0
        if window.before + window.after < hop - 1e-9:
            raise ValueError(
                f"LabelWindow: before + after = {window.before + window.after:g} seconds is less than a hop of the "
                f"front end, {hop:g}: make them longer, or some words have no window"
            )
        out = np.zeros(len(self.x) + 1, np.int16)
        for first, last, targets in zip(self.first[:-1], self.first[1:], self.targets):
            marks = sorted(((t, words.index(t.word) + 1) for t in targets if t.word in words), key=lambda m: m[0].end)
            for target, _ in marks:
                begin = min(target.start + window.free_before, target.end - window.before)
                out[self._ends_in(first, last, begin, target.end + window.after + window.free_after)] = -1
            for target, number in marks:
                out[self._ends_in(first, last, target.end - window.before, target.end + window.after)] = number
        return out

    def _ends_in(self, first: int, last: int, begin: float, end: float) -> slice:
        """Positions of windows of the recording [first, last) that end from ``begin`` to ``end``, in its seconds."""
        hop = self.frontend.hop_ms / 1000.0
        # A window that ends at position p has heard p - first hops, and what the last frame is longer than a hop.
        lead = (self.frontend.window_ms - self.frontend.hop_ms) / 1000.0
        # The position of its own first frame is the last one of the recording before: no window of this one ends there.
        low = max(first + math.ceil((begin - lead) / hop - _NEAR), first + 1)
        high = min(first + math.floor((end - lead) / hop + _NEAR), last) + 1
        return slice(int(low), int(max(low, high)))


def join(parts: Sequence[LongFeatures]) -> LongFeatures:
    """Several as one, in memory.

    Raises:
        ValueError: none are given, or their front ends or types differ.
    """
    if not parts:
        raise ValueError("join: nothing given")
    if any(part.frontend != parts[0].frontend for part in parts):
        raise ValueError("features of long sound: made by different front ends; make them anew with one")
    if any(part.x.dtype != parts[0].x.dtype for part in parts):
        types = sorted({str(part.x.dtype) for part in parts})
        raise ValueError(f"features of long sound: stored as {' and '.join(types)}; make them anew in one way")
    starts = np.cumsum([0, *(len(part.x) for part in parts)])
    first = np.concatenate([*(part.first[:-1] + start for part, start in zip(parts, starts)), starts[-1:]])
    return LongFeatures(
        np.concatenate([part.x for part in parts]),
        first.astype(np.int64),
        tuple(targets for part in parts for targets in part.targets),
        parts[0].frontend,
    )


def of_sound(
    recordings: Iterable[tuple[np.ndarray, Sequence[Target]]], frontend: features.FrontendConfig
) -> LongFeatures:
    """Features of recordings in memory; each is heard from a reset of the front end on.

    Args:
        recordings: (samples int16 or float [n], the words in it).
        frontend: how sound becomes features.
    """
    parts, targets = [], []
    for samples, words in recordings:
        parts.append(features.compact(frontend, np.asarray(samples)))
        targets.append(tuple(words))
    x = np.concatenate(parts) if parts else np.zeros((0, frontend.mel_bins), TYPES[frontend.backend][0])
    first = np.cumsum([0, *(len(part) for part in parts)]).astype(np.int64)
    return LongFeatures(x, first, tuple(targets), frontend)


compact = features.compact
"""Features of a recording in 16 bits."""


def write(folder: str | os.PathLike, found: LongFeatures) -> Path:
    """Writes a folder that ``read`` opens; ``about.json`` comes last, so that half of a folder is none."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABOUT).unlink(missing_ok=True)
    for name, array in ((FEATURES, found.x), (PIECES, found.first)):
        with atomic.replacing(folder / name) as temporary, open(temporary, "wb") as stream:
            np.save(stream, array)
    return finish(folder, found.frontend, found.targets)


def finish(folder: str | os.PathLike, frontend: features.FrontendConfig, targets: Sequence[Sequence[Target]]) -> Path:
    """Writes ``about.json``, the last file of a folder whose features and pieces are there."""
    about = {
        "frontend": frontend.to_dict(),
        "targets": [[list(dataclasses.astuple(target)) for target in words] for words in targets],
    }
    atomic.write_json(Path(folder) / ABOUT, about)
    return Path(folder)


def read(folder: str | os.PathLike) -> LongFeatures:
    """Opens a folder of ``write``; the features stay on disk until they are used.

    Raises:
        ValueError: not such a folder, or its files do not agree.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        x = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
        first = np.load(folder / PIECES, allow_pickle=False)
        targets = tuple(tuple(_target(*entry) for entry in piece) for piece in about["targets"])
        frontend = features.FrontendConfig.from_dict(about["frontend"])
        shapes = x.shape, first.shape
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(f"{folder}: no features of long sound that can be read: {error}; make them anew") from error
    if x.ndim != 2 or x.shape[1] != frontend.mel_bins or x.dtype not in TYPES[frontend.backend]:
        wanted = " or ".join(np.dtype(kind).name for kind in TYPES[frontend.backend])
        raise ValueError(
            f"{folder / FEATURES}: found {x.dtype} {list(x.shape)}, expected {wanted} [frames, {frontend.mel_bins}] "
            f"of the front end {frontend.backend!r} in {ABOUT}; make them anew"
        )
    good = first.shape == (len(targets) + 1,) and first.dtype.kind in "iu"
    if not good or first[0] != 0 or first[-1] != len(x) or np.any(np.diff(first.astype(np.int64)) < 0):
        raise ValueError(
            f"{folder}: its files do not agree ({len(x)} frames, {len(targets)} recordings in {ABOUT}, "
            f"{shapes[1]} places in {PIECES}); make them anew"
        )
    return LongFeatures(x, first.astype(np.int64), targets, frontend)


def _target(word: str, start: float, end: float, speaker: str = "") -> Target:
    """Of ``about.json``."""
    if not isinstance(word, str) or not isinstance(speaker, str) or not 0.0 <= float(start) < float(end) < math.inf:
        raise ValueError(f"target {[word, start, end]}: expected a word and 0 <= start < end in seconds")
    return Target(word, float(start), float(end), speaker)
