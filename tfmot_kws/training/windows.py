# SPDX-License-Identifier: Apache-2.0
"""Windows of long sound as training examples: drawn by where they end, balanced by hours, hard ones more often."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws.data.long_features import LabelWindow, LongFeatures
from tfmot_kws.training import recipes


@dataclasses.dataclass(frozen=True)
class WindowShares:
    """What a batch is made of.

    Attributes:
        keywords: share of windows that hold a keyword.
        hard: share of windows that an earlier model took for one, once there are any.

    The rest is drawn from all hours without a keyword, each hour as often as any other.

    Raises:
        ValueError: shares outside 0..1, or nothing is left for the rest.
    """

    keywords: float = 0.3
    hard: float = 0.25

    def __post_init__(self) -> None:
        if not (0.0 < self.keywords < 1.0 and 0.0 <= self.hard < 1.0 and self.keywords + self.hard < 1.0):
            raise ValueError(
                f"WindowShares(keywords={self.keywords!r}, hard={self.hard!r}): must lie in 0..1 and leave some for "
                "all other sound"
            )


class Windows:
    """Where windows end that are drawn in training.

    Args:
        sounds: features of long sound, with and without keywords.
        words: the keywords; class k + 1 is ``words[k]``, class 0 everything else.
        frames: of a window.
        label_window: which windows hold a word.
        shares: what a batch is made of.

    Raises:
        ValueError: front ends differ, or there is no window with a keyword, or none without.
    """

    def __init__(
        self,
        sounds: Sequence[LongFeatures],
        words: Sequence[str],
        frames: int,
        label_window: LabelWindow | None = None,
        shares: WindowShares | None = None,
    ) -> None:
        if not sounds or any(sound.frontend != sounds[0].frontend for sound in sounds):
            raise ValueError("windows: the sounds were made by different front ends, or there are none")
        self.sounds, self.words, self.frames = tuple(sounds), tuple(words), frames
        self.shares = shares or WindowShares()
        self._base = np.cumsum([0, *(len(sound.x) + 1 for sound in sounds)])
        labels, ends = [], []
        for base, sound in zip(self._base, sounds):
            here = sound.window_ends(frames)
            ends.append(here + base)
            labels.append(sound.labels(self.words, label_window)[here])
        self.labels, self.ends = np.concatenate(labels), np.concatenate(ends)
        self.of_word = [self.ends[self.labels == k + 1] for k in range(len(self.words))]
        self.others = self.ends[self.labels == 0]
        self.hard = np.zeros(0, np.int64)
        lacking = [word for word, found in zip(self.words, self.of_word) if not len(found)]
        if lacking or not len(self.others):
            what = f"keyword {lacking[0]}" if lacking else "sound without a keyword"
            raise ValueError(f"windows: no window of {frames} frames with {what}; longer sound, or a shorter window")

    def take(self, ends: np.ndarray) -> np.ndarray:
        """Features of windows: positions [n] -> float32 [n, frames, mel]."""
        ends = np.asarray(ends, np.int64)
        which = np.searchsorted(self._base, ends, side="right") - 1
        out = np.empty((len(ends), self.frames, self.sounds[0].x.shape[1]), np.float32)
        places = np.arange(-self.frames, 0)
        for number in np.unique(which):
            chosen = which == number
            sound = self.sounds[number]
            local = ends[chosen] - self._base[number]
            out[chosen] = sound.x[local[:, None] + places] * np.float32(sound.scale)
        return out

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch: positions int64 [batch] and classes int32 [batch]."""
        wanted = max(1, round(self.shares.keywords * batch_size))
        hard = round(self.shares.hard * batch_size) if len(self.hard) else 0
        classes = rng.integers(len(self.words), size=wanted)
        ends = [self.of_word[k][rng.integers(len(self.of_word[k]))] for k in classes]
        others = batch_size - wanted - hard
        drawn = [np.asarray(ends, np.int64), self.others[rng.integers(len(self.others), size=others)]]
        if hard:
            drawn.append(self.hard[rng.integers(len(self.hard), size=hard)])
        labels = np.concatenate([classes + 1, np.zeros(others + hard, np.int64)])
        return np.concatenate(drawn), labels.astype(np.int32)

    def mine(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        hop: int = 3,
        per_hour: float = 60.0,
        spacing_seconds: float = 0.5,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Finds the windows without a keyword that a model is surest of, and keeps them for ``draw``.

        Args:
            function: float32 [n, frames, mel] -> logits [n, 1 + words].
            hop: frames between two windows that are tried.
            per_hour: how many are kept for each hour of sound.
            spacing_seconds: least time between two of them.
            progress: called with (windows done, windows in all).

        Returns:
            float64, the log-odds of those kept, highest first.
        """
        ends = self.others[self.others % hop == 0]
        scores = np.empty(len(ends))
        for first in range(0, len(ends), _BATCH):
            part = ends[first : first + _BATCH]
            scores[first : first + len(part)] = log_odds(np.asarray(function(self.take(part)))).max(axis=1)
            if progress is not None:
                progress(min(first + _BATCH, len(ends)), len(ends))
        hours = sum(sound.hours for sound in self.sounds)
        spacing = spacing_seconds * 1000.0 / self.sounds[0].frontend.hop_ms
        chosen: list[int] = []
        taken: set[int] = set()
        for index in np.argsort(-scores, kind="stable"):
            cell = int(ends[index] // spacing)
            if cell in taken:
                continue
            taken.add(cell)
            chosen.append(int(index))
            if len(chosen) >= max(1, round(per_hour * hours)):
                break
        # A step either way: the score of the very same window is not all that should fall.
        found = ends[chosen]
        allowed = np.isin(np.concatenate([found - 1, found + 1]), self.others, assume_unique=False)
        self.hard = np.concatenate([found, np.concatenate([found - 1, found + 1])[allowed]])
        return scores[chosen]


_BATCH = 1024


def log_odds(logits: np.ndarray) -> np.ndarray:
    """[n, 1 + words] -> [n, words]: logit of each word above that of everything else."""
    return logits[:, 1:] - logits[:, :1]


def batches(
    windows: Windows,
    steps: int,
    batch_size: int,
    seed: int,
    augment: recipes.FeatureAugment | None,
    teacher: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.data.Dataset:
    """``steps`` batches of (features float32 [batch, frames, mel], answers); others each time it is gone through.

    Answers are float32 [batch, 1 + classes]: the class, then what the teacher says of the same features (zeros without
    one).

    Args:
        windows: what is drawn from.
        steps: batches.
        batch_size: windows.
        seed: of everything drawn.
        augment: masks; its shift must be 0, because windows are drawn at every place.
        teacher: float32 [batch, frames, mel] -> logits [batch, classes].

    Raises:
        ValueError: the augmentation shifts.
    """
    if augment is not None and augment.shift_frames:
        raise ValueError("FeatureAugment.shift_frames: must be 0 for windows, which are drawn at every place already")
    times = iter(range(1 << 30))

    def drawn() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng([seed, next(times)])
        for _ in range(steps):
            ends, labels = windows.draw(rng, batch_size)
            yield windows.take(ends), labels

    mel = windows.sounds[0].x.shape[1]
    signature = (
        tf.TensorSpec((batch_size, windows.frames, mel), tf.float32),
        tf.TensorSpec((batch_size,), tf.int32),
    )
    data = tf.data.Dataset.from_generator(drawn, output_signature=signature)
    classes = 1 + len(windows.words)
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)

    def finish(example, key):
        x, labels = example
        if augment is not None:
            x = recipes.augment_batch(x, key, augment)
        logits = tf.zeros((batch_size, classes)) if teacher is None else teacher(x)
        return x, tf.concat([tf.cast(labels, tf.float32)[:, None], logits], axis=1)

    data = tf.data.Dataset.zip((data, seeds)).map(tf.autograph.experimental.do_not_convert(finish))
    return data.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)
