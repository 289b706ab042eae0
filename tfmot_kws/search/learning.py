# SPDX-License-Identifier: Apache-2.0
"""How a supernet is trained: its weights on one part of the examples, its structure on the other, within a budget."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.search.space import Path, Space, Task
from tfmot_kws.search.supernet import Supernet
from tfmot_kws.search.tables import CostTables

_FIRST_PRICE = 0.02
_REACH = 40.0
"""E-folds that a price rises over all batches of the structure, at twice what is allowed."""
_MOST_PRICE = 30.0
_PER_BATCH = 256


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How long and how fast a search learns.

    Attributes:
      epochs: of the supernet, over the part of the examples that its weights see.
      warmup_epochs: the first of them train weights only, every option as likely as any other.
      batch_size: examples of a batch for the weights; the structure's have half as many.
      structure_every: batches of the weights for one of the structure, which computes all options and takes longer.
      learning_rate: Adam's for weights, at the start; it falls to 0 as a cosine.
      structure_rate: Adam's for the structure.
      structure_share: of the examples, which the structure is trained on and candidates are compared by, 0.1..0.9.
      candidates: networks that are compared at last.
      seed: of everything random.

    Raises:
      ValueError: a value is out of its range; the message names it.
    """

    epochs: int = 40
    warmup_epochs: int = 10
    batch_size: int = 128
    structure_every: int = 2
    learning_rate: float = 3e-3
    structure_rate: float = 2e-2
    structure_share: float = 0.3
    candidates: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (("epochs", 1), ("warmup_epochs", 0), ("batch_size", 2), ("structure_every", 1), ("candidates", 1))
        for name, least in (*counts, ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"SearchConfig.{name}={value!r}: must be a whole number of at least {least}")
        for name in ("learning_rate", "structure_rate"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"SearchConfig.{name}={getattr(self, name)!r}: must be above 0")
        if not 0.1 <= self.structure_share <= 0.9:
            raise ValueError(f"SearchConfig.structure_share={self.structure_share!r}: must be between 0.1 and 0.9")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"SearchConfig.warmup_epochs={self.warmup_epochs}: must be below epochs={self.epochs}, or no structure "
                "is learned"
            )


class Learner(Supernet):
    """A supernet with what trains it; ``fit`` takes batches ((x, y), (x, y)), of weights and of structure.

    Args:
      space: of networks.
      task: what they are for.
      tables: what they cost.
      config: how they are trained.
      steps: batches of an epoch.

    Attributes:
      structure_optimizer: Adam of ``alpha``.
    """

    def __init__(self, space: Space, task: Task, tables: CostTables, config: SearchConfig, steps: int) -> None:
        super().__init__(space, task)
        self.tables, self._config, self._warmup = tables, config, config.warmup_epochs * steps
        learning = (config.epochs - config.warmup_epochs) * steps // config.structure_every
        self._gain = _REACH / max(1, learning)

        def number(name: str, start: float, dtype=tf.float32):
            made = keras.initializers.Constant(start)
            return self.add_weight(name=name, shape=(), initializer=made, trainable=False, dtype=dtype)

        self._step = number("step", 0, tf.int64)
        self.prices = {name: number(f"price/{name}", _FIRST_PRICE) for name in tables.limits}
        # beta_1 = 0 as in ProxylessNAS: a step goes by its own draw alone.
        self.structure_optimizer = keras.optimizers.Adam(config.structure_rate, beta_1=0.0)
        self.structure_optimizer.build(self.alpha)
        self.built = True
        self._metric = {name: keras.metrics.Mean(name=name) for name in ("loss", "accuracy", "heard", "used")}

    @property
    def metrics(self):
        """Means of an epoch: loss and accuracy of the weights' batches, accuracy of the structure's, share used."""
        return list(self._metric.values())

    def train_step(self, data):
        """One batch for the weights, and behind the warm-up one for the structure."""
        (x, y), (x_structure, y_structure) = data
        seeds = tf.random.experimental.stateless_split(
            tf.stack([tf.constant(self._config.seed, tf.int64), self._step]), 2
        )
        path = self.drawn(seeds[0])
        with tf.GradientTape() as tape:
            logits = self.logits(x, self.gates_of(path), path)
            loss = _loss(y, logits)
        weights = self.trainable_weights
        gradients = tape.gradient(loss, weights)
        # What the path leaves out gets no gradient; zeros keep the optimizer's moments of it falling.
        gradients = [tf.zeros_like(w) if g is None else g for g, w in zip(gradients, weights)]
        gradients, _ = tf.clip_by_global_norm(gradients, 5.0)
        self.optimizer.apply_gradients(zip(gradients, weights))
        self._metric["loss"].update_state(loss)
        self._metric["accuracy"].update_state(_accuracy(y, logits))
        every = tf.equal(self._step % self._config.structure_every, 0)
        tf.cond(
            tf.logical_and(self._step >= self._warmup, every),
            lambda: self._structure_step(x_structure, y_structure, seeds[1]),
            lambda: tf.constant(0.0),
        )
        self._step.assign_add(1)
        return {name: metric.result() for name, metric in self._metric.items()}

    def _structure_step(self, x, y, seed):
        path = self.drawn(seed)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.alpha)
            logits = self.logits(x, self.binary_gates(path))
            loss = _loss(y, logits)
            used = dict(self.tables.expected(self.probabilities()))
            total = loss + tf.add_n([self.prices[name] * share for name, share in used.items()])
        gradients = tape.gradient(total, self.alpha)
        gradients = [tf.zeros_like(a) if g is None else g for g, a in zip(gradients, self.alpha)]
        self.structure_optimizer.apply_gradients(zip(gradients, self.alpha))
        for name, share in used.items():  # dual ascent on the logarithm of the price
            over = tf.clip_by_value(share - 1.0, -1.0, 1.0)
            price = self.prices[name]
            price.assign(tf.clip_by_value(price * tf.exp(self._gain * over), 1e-4, _MOST_PRICE))
        self._metric["heard"].update_state(_accuracy(y, logits))
        self._metric["used"].update_state(tf.reduce_max(list(used.values())))
        return loss

    def evaluator(self):
        """A function (path, x, y) -> (mean loss, accuracy) of a path with the weights that it shares."""
        spec = tf.TensorSpec

        @tf.function(
            input_signature=[
                spec((len(self.alpha),), tf.int32), spec((None, self.task.frames, self.task.mel_bins), tf.float32),
                spec((None,), tf.int32),
            ],
            autograph=False,
        )  # fmt: skip
        def sums(path, x, y):
            logits = self.logits(x, self.gates_of(path), path)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            right = tf.cast(tf.equal(tf.argmax(logits, 1, tf.int32), y), tf.float32)
            return tf.reduce_sum(losses), tf.reduce_sum(right)

        def evaluate(path: Path, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
            # The statistics of a batch count: batches are alike in size, and hold all classes however x is ordered.
            order, totals = np.random.default_rng(0).permutation(len(y)), np.zeros(2)
            for rows in np.array_split(order, -(-len(y) // _PER_BATCH)):
                totals += [float(v) for v in sums(tf.constant(path, tf.int32), x[rows], y[rows])]
            return totals[0] / len(y), totals[1] / len(y)

        return evaluate


def _loss(y, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))


def _accuracy(y, logits):
    return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1, tf.int32), tf.cast(y, tf.int32)), tf.float32))
