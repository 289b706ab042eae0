# SPDX-License-Identifier: Apache-2.0
"""A search from examples to a network: the supernet is trained, candidates are drawn, and the best one is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws import atomic
from tfmot_kws.data.feature_set import FeatureSet
from tfmot_kws.keras import keras
from tfmot_kws.models import networks
from tfmot_kws.models.networks import NetworkConfig
from tfmot_kws.models.spotters import SincSpec
from tfmot_kws.quantize import apply, device_facts, scheme
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.search.learning import Learner, SearchConfig
from tfmot_kws.search.space import Path, Space, Task
from tfmot_kws.search.tables import CostTables
from tfmot_kws.training import recipes, resumable

_LOOKS = "looks.json"
_LOOKED_AT = 4
"""Networks that are drawn and heard after each epoch, beside the likeliest one."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A network of the space with the weights that it shares.

    Attributes:
      epoch: after which it was heard.
      path: its choices.
      loss, accuracy: on the structure's part of the examples.
      costs: by name of a limit.
    """

    epoch: int
    path: Path
    loss: float
    accuracy: float
    costs: dict[str, float]


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
      network: the best network that meets the budget.
      best: how it did with shared weights.
      looks: networks heard while the search went on, within the budget or not.
      candidates: those compared at last, all within the budget, the best first.
      probabilities: of each decision, those of its options.
      tables: what the networks of the space cost.
    """

    network: NetworkConfig
    best: Candidate
    looks: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    probabilities: dict[str, dict[str, float]]
    tables: CostTables

    def to_json(self) -> dict[str, Any]:
        """All but the tables, as JSON values."""
        listed = {name: [dataclasses.asdict(one) for one in getattr(self, name)] for name in ("looks", "candidates")}
        return {
            "network": json.loads(self.network.to_json()), "best": dataclasses.asdict(self.best), **listed,
            "probabilities": self.probabilities, "limits": self.tables.limits,
        }  # fmt: skip


def task_of(features: FeatureSet, sinc: SincSpec | None = None) -> Task:
    """What a network for these examples hears and says; ``sinc`` where they are rows of samples."""
    return Task(len(features.classes), *features.x.shape[1:], sinc)


def split(
    features: FeatureSet, share: float, seed: int, groups: Sequence[int] | None = None
) -> tuple[FeatureSet, FeatureSet]:
    """Two parts of the examples, those of one group together.

    Args:
      features: all examples.
      share: of the groups, that the second part has.
      seed: of the choice.
      groups: of each example a number, such as its speaker; None keeps the copies of each file together.

    Returns:
      (the weights' part, the structure's part).

    Raises:
      ValueError: there are fewer than two groups, or another number of them than of examples.
    """
    groups = np.asarray(features.source if groups is None else groups)
    if groups.shape != (len(features),):
        raise ValueError(f"groups: found {groups.shape}, expected one number for each of {len(features)} examples")
    known = np.unique(groups)
    if len(known) < 2:
        raise ValueError("features: need examples of at least two groups (files, or speakers) to learn a structure by")
    order = np.random.default_rng(seed).permutation(known)
    chosen = order[: min(max(1, round(share * len(known))), len(known) - 1)]
    second = np.isin(groups, chosen)
    return features.take(np.flatnonzero(~second)), features.take(np.flatnonzero(second))


def search(
    features: FeatureSet,
    space: Space,
    budget: Budget,
    config: SearchConfig | None = None,
    sinc: SincSpec | None = None,
    groups: Sequence[int] | None = None,
    augment: recipes.FeatureAugment | None = None,
    checkpoints: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_look: Callable[[Sequence[Candidate], CostTables], None] | None = None,
) -> SearchResult:
    """The best network of a space within a budget.

    Args:
      features: training examples; those that a network is measured on at last are no part of them.
      space: of networks.
      budget: what the network may cost.
      config: how the search learns; its defaults where None.
      sinc: filters over samples, where the examples are rows of samples.
      groups: of each example a number, such as its speaker; see ``split``.
      augment: changes of the features of the weights' part; None trains on them as they are.
      checkpoints: folder that keeps the last whole epoch. The same call goes on from there, to the same result.
      callbacks: for ``model.fit``.
      on_look: called after each epoch with all networks heard so far, and the tables.

    Raises:
      ValueError: no network meets the budget, there are too few examples, ``checkpoints`` holds another search, or it
        is called within a strategy of ``tf.distribute``.
    """
    config = config or SearchConfig()
    if tf.distribute.has_strategy():
        raise ValueError(
            "search: one process searches; call it outside of strategy.scope(), and train what it finds by several "
            "workers, with recipes.train_float(strategy=...)"
        )
    task = task_of(features, sinc)
    tables = CostTables(space, task, budget)
    own, other = split(features, config.structure_share, config.seed, groups)
    size = min(config.batch_size, len(own))
    steps = len(own) // size
    keras.utils.set_random_seed(config.seed)
    learner = Learner(space, task, tables, config, steps)
    rates = recipes.CosineStages([(config.learning_rate, config.epochs * steps)], 0.0)
    learner.compile(keras.optimizers.Adam(rates))
    looks = _Looks(learner, other, config, checkpoints, on_look)
    kept = None
    if checkpoints is not None:
        described = f"{space.count} networks, {zlib.crc32(space.to_json().encode()):08x}"
        run = dataclasses.asdict(config) | {"space": described, "budget": budget.named(), "task": repr(task)}
        run |= {"augment": repr(augment), "data": resumable.checksum([own.x, own.y, other.x, other.y])}
        kept = resumable.Checkpoints(checkpoints, run, {"structure": learner.structure_optimizer})
    data = _batches(own, other, size, config.seed, augment)
    resumable.fit(learner, config.epochs, steps, data, kept, [looks, *callbacks])
    return _chosen(learner, looks, other, config)


def _batches(own: FeatureSet, other: FeatureSet, size: int, seed: int, augment):
    x, y = tf.constant(own.x), tf.constant(own.y)
    x_other, y_other = tf.constant(other.x), tf.constant(other.y)

    def load(index, seed):
        pair = tf.stack([seed, tf.constant(1, seed.dtype)])
        second = tf.random.stateless_uniform((max(1, size // 2),), pair, 0, len(other), tf.int64)
        chosen = tf.gather(x, index)
        if augment is not None:
            chosen = recipes.augment_batch(chosen, seed, augment)
        return ((chosen, tf.gather(y, index)), (tf.gather(x_other, second), tf.gather(y_other, second)))

    return lambda first, epochs: resumable.batches(len(own), size, seed, first, epochs, load)


class _Looks(keras.callbacks.Callback):
    """Hears some networks after every epoch, and keeps what it heard."""

    def __init__(self, learner: Learner, part: FeatureSet, config: SearchConfig, folder, on_look) -> None:
        super().__init__()
        self.learner, self._part, self._config, self._on_look = learner, part, config, on_look
        self.evaluate = learner.evaluator()
        self._file = None if folder is None else pathlib.Path(folder) / _LOOKS
        self.found: list[Candidate] = []

    def _kept(self, epochs: int) -> list[Candidate]:
        if self._file is None or not self._file.is_file():
            return []
        table = atomic.read_table(self._file, f"remove {self._file.parent} to search anew")
        found = [Candidate(**{**one, "path": tuple(one["path"])}) for one in table["looks"]]
        return [one for one in found if one.epoch <= epochs]

    def on_epoch_begin(self, epoch, logs=None):
        """Takes up what was heard before the run was stopped."""
        if not self.found and epoch:
            self.found = self._kept(epoch)

    def on_epoch_end(self, epoch, logs=None):
        """Hears the likeliest network and some that are drawn."""
        generator = np.random.default_rng((self._config.seed, 1, epoch))
        paths = [self.learner.likeliest(), *(self.learner.sample(generator) for _ in range(_LOOKED_AT))]
        self.found += [self.heard(path, epoch + 1) for path in dict.fromkeys(paths)]
        if self._file is not None:
            atomic.write_json(self._file, {"looks": [dataclasses.asdict(one) for one in self.found]})
        if self._on_look is not None:
            self._on_look(self.found, self.learner.tables)

    def heard(self, path: Path, epoch: int) -> Candidate:
        """A network on the structure's part."""
        loss, accuracy = self.evaluate(path, self._part.x, self._part.y)
        return Candidate(epoch, path, loss, accuracy, self.learner.tables.of(path))


def _chosen(learner: Learner, looks: _Looks, part: FeatureSet, config: SearchConfig) -> SearchResult:
    """Draws networks within the budget, hears them, and takes the best."""
    space, tables = learner.space, learner.tables
    if not looks.found:
        looks.on_epoch_begin(config.epochs)
    likelihoods = [np.log(p.numpy() + 1e-12) for p in learner.probabilities()]
    generator = np.random.default_rng((config.seed, 2))
    paths: dict[Path, Path] = {}
    for number in range(20 * config.candidates):
        path = learner.sample(generator) if number else learner.likeliest()
        path = tables.fitted(path, likelihoods)
        paths.setdefault(space.canonical(path), path)
        if len(paths) >= config.candidates:
            break
    heard = sorted((looks.heard(path, config.epochs) for path in paths.values()), key=lambda one: one.loss)
    best = next((one for one in heard if _fits(space.network(one.path, learner.task), tables.budget)), None)
    if best is None:
        raise ValueError(
            f"budget: {tables.budget}: none of {len(heard)} networks within all other limits keeps to its RAM; allow "
            "more, or give narrower stages"
        )
    probabilities = {
        decision.name: {str(option): float(p) for option, p in zip(decision.options, one.numpy())}
        for decision, one in zip(space.decisions, learner.probabilities())
    }
    network = space.network(best.path, learner.task)
    return SearchResult(network, best, tuple(looks.found), tuple(heard), probabilities, tables)


def _fits(network: NetworkConfig, budget: Budget) -> bool:
    """Whether the exported graph of a network keeps to the RAM that is allowed."""
    if budget.ram is None:
        return True
    quantized = apply.quantize_apply(networks.build(network), scheme.kws_scheme())
    return device_facts.ram_bytes(quantized, budget.streaming) <= budget.ram


def scheme_of(network: NetworkConfig, bits: int = 8) -> scheme.KwsQuantizeScheme:
    """The scheme with the widths that a joint search found, ``bits`` for all other layers.

    Args:
      network: of a search over structure and widths, or of any other.
      bits: of layers that no width was chosen for.
    """
    widths = {f"block_{n}_*": block.bits for n, block in enumerate(network.blocks, 1) if block.bits is not None}
    return scheme.kws_scheme(bits, widths)
