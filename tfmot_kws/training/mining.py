# SPDX-License-Identifier: Apache-2.0
"""Hard negatives: the stretches of long sound without keywords that a model takes for a keyword most.

A model that has seen clips only meets far more on a stream: parts of words, pauses, noise. What it falls for there is
found by running it, and taught to it as other sound. Knows no model; imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.frontend import features

_BATCH = 256


@dataclasses.dataclass(frozen=True)
class MineConfig:
    """What is taken.

    Attributes:
        per_hour: at most so many examples of an hour of sound, those with the highest scores.
        hop: frames from one window that is looked at to the next.
        spacing: seconds between two examples, at least.
        floor: log-odds below which nothing is taken; -4 is a posterior of 0.018.

    Raises:
        ValueError: an option is outside of what is allowed; the message names it.
    """

    per_hour: int = 600
    hop: int = 2
    spacing: float = 0.5
    floor: float = -4.0

    def __post_init__(self) -> None:
        if self.per_hour < 1:
            raise ValueError(f"MineConfig.per_hour={self.per_hour!r}: must be 1 or more")
        if self.hop < 1:
            raise ValueError(f"MineConfig.hop={self.hop!r}: must be 1 frame or more")
        if not 0.0 <= self.spacing <= 3600.0:
            raise ValueError(f"MineConfig.spacing={self.spacing!r}: must be between 0 and 3600 seconds")


@dataclasses.dataclass(frozen=True)
class Mined:
    """What was found.

    Attributes:
        x: float32 [examples, frames, mel], hardest first.
        scores: float64 [examples], log-odds of the likeliest keyword.
        hours: of sound that was heard.
    """

    x: np.ndarray
    scores: np.ndarray
    hours: float


def mine(
    function: Callable[[np.ndarray], np.ndarray],
    recordings: Iterable[np.ndarray],
    frontend: features.FrontendConfig,
    frames: int,
    keywords: Sequence[int],
    config: MineConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Mined:
    """Runs a model over sound without keywords and takes what it falls for.

    Args:
        function: float32 [batch, frames, mel] -> logits [batch, classes].
        recordings: float32 or int16 [samples] each, at the front end's rate, none with a keyword in it.
        frontend: of the model.
        frames: of a clip.
        keywords: classes that are keywords.
        config: what is taken; its defaults where None.
        progress: called with (recordings done, recordings in all) where their number is known.

    Raises:
        ValueError: no recording is as long as a clip.
    """
    config = config or MineConfig()
    total = len(recordings) if isinstance(recordings, Sequence) else 0
    spacing = round(config.spacing * frontend.sample_rate / frontend.hop)
    found: list[tuple[float, np.ndarray]] = []
    samples, windows_seen = 0, 0
    for number, audio in enumerate(recordings):
        samples += len(audio)
        x = features.extract(frontend, audio)
        starts = np.arange(0, len(x) - frames + 1, config.hop)
        windows_seen += len(starts)
        if len(starts):
            scores = _scores(function, x, starts, frames, keywords)
            for index in _peaks(scores, starts, spacing, config.floor):
                found.append((float(scores[index]), x[starts[index] : starts[index] + frames]))
        if progress is not None:
            progress(number + 1, total)
    if not windows_seen:
        raise ValueError(f"mine: no recording is as long as a clip of {frames} frames; join short files first")
    hours = samples / frontend.sample_rate / 3600.0
    found.sort(key=lambda item: -item[0])
    found = found[: max(1, round(config.per_hour * hours))]
    shape = (frames, frontend.mel_bins)
    x = np.stack([item[1] for item in found]) if found else np.zeros((0, *shape), np.float32)
    return Mined(x, np.array([item[0] for item in found]), hours)


def _scores(function, x: np.ndarray, starts: np.ndarray, frames: int, keywords: Sequence[int]) -> np.ndarray:
    """Log-odds of the likeliest keyword of each window."""
    parts = []
    for first in range(0, len(starts), _BATCH):
        batch = np.stack([x[s : s + frames] for s in starts[first : first + _BATCH]])
        parts.append(evaluate.log_odds(np.asarray(function(batch)))[:, list(keywords)].max(axis=1))
    return np.concatenate(parts)


def _peaks(scores: np.ndarray, starts: np.ndarray, spacing: int, floor: float) -> list[int]:
    """Places of the highest scores, none nearer than ``spacing`` frames to a higher one."""
    chosen: list[int] = []
    free = scores >= floor
    for index in np.argsort(-scores, kind="stable"):
        if free[index]:
            chosen.append(int(index))
            free &= np.abs(starts - starts[index]) >= max(spacing, 1)
    return chosen
