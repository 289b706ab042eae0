# SPDX-License-Identifier: Apache-2.0
"""Examples cut out of recordings, and augmented: the same whoever makes them, in whatever order.

Every example has its own random generator, seeded by the seed, its file and its copy number:
results depend neither on the order of work nor on the number of workers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfmot_kws.data.corpus import Clip
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment as augmentation
from tfmot_kws.sound import files as audio_files

_CLIPPED_SHARE = 0.01


def _rng(seed: int, path: str, copy: int, salt: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(path.encode()), copy, salt])


def _loudest(sound: np.ndarray, length: int) -> int:
    energy = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64))])
    return int(np.argmax(energy[length:] - energy[:-length]))


def _cut(sound: np.ndarray, first: int, length: int) -> np.ndarray:
    out = np.zeros(length, np.float32)
    low, high = max(first, 0), min(first + length, len(sound))
    if high > low:
        out[low - first : high - first] = sound[low:high]
    return out


def _windows(clip: Clip, sound: np.ndarray, task: TaskConfig, rate: int, rng: np.random.Generator | None) -> list[int]:
    """Where the examples in one recording begin, below 0 too; without ``rng`` always the same."""
    length = int(round(task.clip_seconds * rate))
    spare = len(sound) - length
    if clip.word not in task.keywords and spare > 0:
        count = min(task.windows, max(1, len(sound) // length))
        share = np.full(count, 0.5) if rng is None else rng.random(count)
        starts = ((np.arange(count) + share) * (spare + 1) / count).astype(int)
        return [int(first) for first in starts]
    if clip.start is not None and clip.end is not None:
        first_word, last_word = int(clip.start * rate), int(clip.end * rate)
        earliest, latest = last_word - length, first_word
        if earliest > latest:  # the word is longer than the window: keep its middle
            earliest = latest = (first_word + last_word - length) // 2
        low, high = min(0, spare), max(0, spare)
        earliest, latest = np.clip([earliest, latest], low, high)
        middle = (int(earliest) + int(latest)) // 2
        first = middle if rng is None else int(rng.integers(earliest, latest + 1))
    elif spare > 0:
        first = _loudest(sound, length)
    else:
        first = spare // 2 if rng is None or spare == 0 else int(rng.integers(spare, 1))
    return [int(first)]


def lead_samples(task: TaskConfig, frontend: features.FrontendConfig) -> int:
    """Samples of an example's context: whole hops."""
    return round(task.context_seconds * frontend.sample_rate / frontend.hop) * frontend.hop


def relative(path: str) -> str:
    """The last two parts of a path: the same wherever the corpus lies."""
    return "/".join(Path(path).parts[-2:])


class Maker:
    """Makes the examples of a recording.

    Args:
        task: classes and length of an example.
        frontend: what will hear them; its rate and hop count.
        augment: ranges of the augmentation; None changes nothing and cuts at fixed places.
        copies: augmented versions of every example.
        seed: of cuts and augmentation.
        noises: recordings to mix in, float32 at the front end's rate; none mixes white noise.

    Attributes:
        length: samples of an example.
        lead: samples of context ahead of it, whole hops.
    """

    def __init__(
        self,
        task: TaskConfig,
        frontend: features.FrontendConfig,
        augment: augmentation.AugmentConfig | None = None,
        copies: int = 1,
        seed: int = 0,
        noises: Sequence[np.ndarray] = (),
    ) -> None:
        self._task, self._augment, self._copies, self._seed = task, augment, copies, seed
        self._noises, self._rate = list(noises), frontend.sample_rate
        self.length, self.lead = int(round(task.clip_seconds * self._rate)), lead_samples(task, frontend)

    def __call__(self, clip: Clip) -> tuple[list[np.ndarray], list[tuple[float, float]], audio_files.Problem | None]:
        """Reads one recording.

        Returns:
            Its examples, float32 [lead + length] each; where each lies in the file (second at which it begins, file
            seconds per second of it); and a fault of the file, for which it was dropped or not.
        """
        task, rate, augment = self._task, self._rate, self._augment
        try:
            sound = audio_files.read(clip.path, rate, min_seconds=task.min_seconds)
        except audio_files.AudioError as error:
            return [], [], audio_files.Problem(clip.path, error.problem, error.detail)
        share = audio_files.clipped_share(sound)
        problem = None
        if share > _CLIPPED_SHARE:
            detail = f"{share:.1%} of the samples at full scale"
            problem = audio_files.Problem(clip.path, "clipped", detail, dropped=False)
        out, where = [], []
        for copy in range(self._copies):
            rng = _rng(self._seed, relative(clip.path), copy) if augment else None
            for first in _windows(clip, sound, task, rate, rng):
                window = _cut(sound, first, self.length)
                before = _cut(sound, first - self.lead, self.lead)
                motion = augmentation.Motion()
                if rng is not None:
                    motion = augmentation.draw_motion(rng, augment, rate)
                    out.append(augmentation.augment(window, rng, augment, self._noises, rate, before, motion))
                else:
                    out.append(np.concatenate([before, window]))
                begin, speed = motion.source(self.length)
                where.append(((first + begin) / rate, speed))
        return out, where, problem
