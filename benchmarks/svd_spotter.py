# SPDX-License-Identifier: Apache-2.0
"""The 50K spotter as benchmarks train it: 20 bands every 10 ms, three stages, words in the place of phones.

The recordings have no alignments, so the labels of frames are words (``frame_labels.from_words``). The epochs are fewer
than the paper's 12, 20 and 20: two minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

from benchmarks import accuracy
from tfmot_kws import datasets, feature_set, features, frame_labels, low_rank_recipes
from tfmot_kws.keras import keras

FRONTEND = features.FrontendConfig(mel_bins=20, window_ms=25, hop_ms=10, backend="lfbe")
RECIPE = low_rank_recipes.LowRankConfig(phone_epochs=4, multitask_epochs=6, low_rank_epochs=8)


@dataclasses.dataclass(frozen=True)
class Data:
    """Examples to train on, the labels of their frames, and examples held out."""

    training: feature_set.FeatureSet
    labels: frame_labels.FrameLabels
    held: feature_set.FeatureSet


def load(path: pathlib.Path, cache: pathlib.Path) -> Data:
    """Of the recordings that ``benchmarks.accuracy`` takes, of one second each."""
    training, held = accuracy.load(path, cache, FRONTEND)
    labels = frame_labels.from_words(training, FRONTEND, datasets.open_corpus(path))
    return Data(training, labels, held)


def float_spotter(data: Data, seed: int, runs: pathlib.Path | None = None) -> keras.Model:
    """The trained float model of a seed, in shape and names as ``models.svd_50k``.

    Args:
        data: from ``load``.
        seed: of everything random but the data.
        runs: a folder that keeps the epochs of each seed, so that a second call only loads them; None keeps none.
    """
    recipe = dataclasses.replace(RECIPE, seed=seed)
    folder = None if runs is None else runs / f"svd_seed{seed}"
    return low_rank_recipes.train_spotter(data.training, data.labels, recipe, folder)
