# SPDX-License-Identifier: Apache-2.0
"""Features of long sound, hours of it, on disk; windows of them are what a wake word is trained on.

A folder holds ``features.npy`` ([frames, mel], read as it is needed, not whole), ``pieces.npy`` (first frame of each
recording) and ``about.json`` with the front end and the words. Positions are ends of windows: the frame behind the
last one that a window of the model takes in.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tfmot_kws import atomic
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features

_ABOUT, _FEATURES, _PIECES = "about.json", "features.npy", "pieces.npy"


@dataclasses.dataclass(frozen=True)
class LabelWindow:
    """Which windows of a model hold a keyword, by where they end.

    Attributes:
        before: seconds before the end of the word at which a window counts as holding it.
        after: seconds behind the end of the word until which it does.
        free_before: from the start of the word on until ``before``, nothing is asked of a window, except in the first
            so many seconds of the word, where it must not fire yet.
        free_after: seconds behind ``after`` in which nothing is asked.

    Raises:
        ValueError: a time is negative, or the window is empty.
    """

    before: float = 0.04
    after: float = 0.2
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
        x: [frames, mel], uint16 (``micro``'s integers) or float16; a memory map where it comes from disk.
        first: int64 [recordings + 1], first frame of each recording, and the number of all frames.
        targets: the words in each recording.
        frontend: what made them.
    """

    x: np.ndarray
    first: np.ndarray
    targets: tuple[tuple[Target, ...], ...]
    frontend: features.FrontendConfig

    @property
    def hours(self) -> float:
        """How long it is."""
        return len(self.x) * self.frontend.hop_ms / 3.6e6

    @property
    def scale(self) -> float:
        """What the stored numbers are multiplied by to be the features that a model takes."""
        return features.MICRO_SCALE if self.x.dtype == np.uint16 else 1.0

    def window_ends(self, frames: int) -> np.ndarray:
        """int64, all positions at which a window of ``frames`` frames of one recording can end, rising."""
        return np.concatenate(
            [np.arange(a + frames, b + 1) for a, b in zip(self.first[:-1], self.first[1:]) if b - a >= frames]
            or [np.zeros(0, np.int64)]
        ).astype(np.int64)

    def labels(self, words: Sequence[str], window: LabelWindow | None = None) -> np.ndarray:
        """int16 [frames + 1], of a window that ends at each position: 0 no word, k for ``words[k - 1]``, -1 not asked.

        Args:
            words: keywords; targets of other words are sound like any other.
            window: which windows hold a word.
        """
        window = window or LabelWindow()
        second = 1000.0 / self.frontend.hop_ms
        lead = self.frontend.window_ms / 1000.0 - self.frontend.hop_ms / 1000.0
        out = np.zeros(len(self.x) + 1, np.int16)
        for first, last, targets in zip(self.first[:-1], self.first[1:], self.targets):

            def place(seconds: float) -> int:
                # A window that ends at position p has heard p hops and what the last frame is longer than a hop.
                return int(np.clip(first + round((seconds - lead) * second), first, last + 1))  # noqa: B023

            marks = [(t, words.index(t.word) + 1) for t in targets if t.word in words]
            for target, _ in marks:
                begin = min(target.start + window.free_before, target.end - window.before)
                out[place(begin) : place(target.end + window.after + window.free_after)] = -1
            for target, number in marks:
                out[place(target.end - window.before) : place(target.end + window.after) + 1] = number
        return out


def join(parts: Sequence[LongFeatures]) -> LongFeatures:
    """Several as one, in memory.

    Raises:
        ValueError: none are given, or their front ends differ.
    """
    if not parts:
        raise ValueError("join: nothing given")
    if any(part.frontend != parts[0].frontend for part in parts):
        raise ValueError("features of long sound: made by different front ends; make them anew with one")
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
        parts.append(compact(frontend, samples))
        targets.append(tuple(words))
    x = np.concatenate(parts) if parts else np.zeros((0, frontend.mel_bins), np.uint16)
    first = np.cumsum([0, *(len(part) for part in parts)]).astype(np.int64)
    return LongFeatures(x, first, tuple(targets), frontend)


def compact(frontend: features.FrontendConfig, samples: np.ndarray) -> np.ndarray:
    """Features of a recording in 16 bits, [frames, mel]: ``micro``'s integers as they are, others as float16."""
    if frontend.backend == "micro":
        return features.raw_micro(frontend, samples)
    return features.extract(frontend, samples).astype(np.float16)


def write(folder: str | os.PathLike, found: LongFeatures) -> Path:
    """Writes a folder that ``read`` opens; ``about.json`` comes last, so that half of a folder is none."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _ABOUT).unlink(missing_ok=True)
    for name, array in ((_FEATURES, found.x), (_PIECES, found.first)):
        with atomic.replacing(folder / name) as temporary, open(temporary, "wb") as stream:
            np.save(stream, array)
    about = {
        "frontend": found.frontend.to_dict(),
        "targets": [[[t.word, t.start, t.end] for t in targets] for targets in found.targets],
    }
    atomic.write_json(folder / _ABOUT, about)
    return folder


def read(folder: str | os.PathLike) -> LongFeatures:
    """Opens a folder of ``write``; the features stay on disk until they are used.

    Raises:
        ValueError: not such a folder, or its files do not agree.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        x = np.load(folder / _FEATURES, mmap_mode="r", allow_pickle=False)
        first = np.load(folder / _PIECES, allow_pickle=False)
        targets = tuple(tuple(Target(str(w), float(a), float(b)) for w, a, b in piece) for piece in about["targets"])
        frontend = features.FrontendConfig.from_dict(about["frontend"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: no features of long sound that can be read: {error}; make them anew") from error
    good = x.ndim == 2 and x.shape[1] == frontend.mel_bins and x.dtype in (np.uint16, np.float16)
    good = good and first.ndim == 1 and len(first) == len(targets) + 1 and first[0] == 0 and first[-1] == len(x)
    if not good or np.any(np.diff(first) < 0):
        raise ValueError(f"{folder}: its files do not agree; make them anew")
    return LongFeatures(x, first, targets, frontend)
