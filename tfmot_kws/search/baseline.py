# SPDX-License-Identifier: Apache-2.0
"""Random search: networks drawn blindly, each trained from scratch, the best of them kept. What a search must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfmot_kws.data.feature_set import FeatureSet
from tfmot_kws.models.spotters import SincSpec
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.search import run
from tfmot_kws.search.space import Path, Space
from tfmot_kws.search.tables import CostTables
from tfmot_kws.training import recipes

_MOST_DRAWS = 200
"""For each network that is wanted; where that many do not meet the budget, the last is made cheaper until it does."""


def random_paths(space: Space, tables: CostTables, count: int, seed: int = 0) -> list[Path]:
    """Different networks within a budget, all options as likely.

    Args:
      space: of networks.
      tables: what they cost.
      count: how many; fewer where the space has not as many.
      seed: of the draws.
    """
    generator, found = np.random.default_rng(seed), {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        path = space.random(generator)
        for _ in range(_MOST_DRAWS):
            if tables.fullest(path) <= 1.0:
                break
            path = space.random(generator)
        path = tables.fitted(path)
        found.setdefault(space.canonical(path), path)
    return list(found.values())


def random_search(
    features: FeatureSet,
    space: Space,
    budget: Budget,
    count: int,
    config: recipes.TrainConfig,
    structure_share: float = 0.3,
    sinc: SincSpec | None = None,
    groups: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[run.Candidate]:
    """Trains random networks on the part of the examples that a search trains weights on.

    Args:
      features: training examples.
      space: of networks.
      budget: what each may cost.
      count: how many networks.
      config: of each training.
      structure_share: as ``SearchConfig``'s; the networks are compared on that part.
      sinc: as ``run.search`` takes it.
      groups: as ``run.search`` takes them.
      progress: called with (networks done, networks in all).

    Returns:
      The networks, that of the least loss first. Limits of RAM are estimates here.

    Raises:
      ValueError: as ``run.search``.
    """
    task = run.task_of(features, sinc)
    tables = CostTables(space, task, budget)
    own, other = run.split(features, structure_share, config.seed, groups)
    paths, heard = random_paths(space, tables, count, config.seed), []
    for number, path in enumerate(paths):
        model = recipes.train_float(own, space.network(path, task), config)
        logits = model.predict(other.x, batch_size=512, verbose=0).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(other)), other.y] - np.log(np.exp(logits).sum(axis=1))
        right = float(np.mean(logits.argmax(axis=1) == other.y))
        heard.append(run.Candidate(config.epochs, path, float(-chosen.mean()), right, tables.of(path)))
        if progress is not None:
            progress(number + 1, len(paths))
    return sorted(heard, key=lambda one: one.loss)
