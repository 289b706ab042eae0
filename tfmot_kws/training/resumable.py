# SPDX-License-Identifier: Apache-2.0
"""Training by whole epochs that can stop after any of them and go on to the same result.

Whatever an epoch needs follows from its number: the learning rate from the count of steps, the order of examples and
their augmentation from the seed and the epoch. So the weights, the optimizer's state and the number of epochs that are
done are all there is to keep, and a run that was stopped ends with the same bits as one that was not, on the same
machine and the same version of TensorFlow.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws import atomic
from tfmot_kws.keras import keras
from tfmot_kws.training import distributed

_RUN = "run.json"


class EpochDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is divided after every epoch: by a large factor at first, then by a smaller one.

    Args:
      rate: of the first epoch, above 0.
      steps: batches in an epoch, at least 1.
      fast_epochs: after so many epochs the rate is divided by ``fast_factor``, after later ones by ``slow_factor``.
      fast_factor, slow_factor: at least 1.

    Raises:
      ValueError: an argument is out of its range; the message names it.
    """

    def __init__(self, rate: float, steps: int, fast_epochs: int, fast_factor: float = 2.0, slow_factor: float = 1.2):
        for name, value, least in (
            ("steps", steps, 1), ("fast_epochs", fast_epochs, 0), ("fast_factor", fast_factor, 1.0),
            ("slow_factor", slow_factor, 1.0),
        ):  # fmt: skip
            if not least <= value < math.inf:
                raise ValueError(f"EpochDecay: {name} must be at least {least}, found {value!r}")
        if not 0.0 < rate < math.inf:
            raise ValueError(f"EpochDecay: rate must be above 0, found {rate!r}")
        self.rate, self.steps, self.fast_epochs = float(rate), int(steps), int(fast_epochs)
        self.fast_factor, self.slow_factor = float(fast_factor), float(slow_factor)

    def __call__(self, step):
        """Learning rate of a step, counted from 0."""
        epoch = tf.cast(tf.cast(step, tf.int64) // self.steps, tf.float32)
        fast = tf.minimum(epoch, float(self.fast_epochs))
        return self.rate / (self.fast_factor**fast * self.slow_factor ** (epoch - fast))

    def get_config(self):
        """Constructor arguments."""
        names = ("rate", "steps", "fast_epochs", "fast_factor", "slow_factor")
        return {name: getattr(self, name) for name in names}


def batches(
    count: int, size: int, seed: int, first_epoch: int, epochs: int, load: Callable[[tf.Tensor, tf.Tensor], Any]
) -> tf.data.Dataset:
    """Batches of shuffled examples; those of an epoch are the same wherever the dataset begins.

    Args:
        count: examples; what is left over at the end of an epoch is dropped.
        size: examples in a batch, at most ``count``.
        seed: of everything random.
        first_epoch, epochs: the epochs ``first_epoch .. epochs - 1``.
        load: (int64 [size] indices of examples, int64 scalar seed of this batch) -> batch, in TensorFlow ops.
    """
    steps = count // size

    def order(epoch):
        chosen = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), tf.stack([seed, epoch]))
        indices = tf.reshape(chosen[: steps * size], (steps, size))
        numbers = epoch * steps + tf.range(steps, dtype=tf.int64) + (seed << 32)
        return tf.data.Dataset.from_tensor_slices((indices, numbers))

    order, load = (tf.autograph.experimental.do_not_convert(f) for f in (order, load))
    data = tf.data.Dataset.range(first_epoch, epochs).flat_map(order)
    return data.map(load, tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def checksum(arrays: Sequence[np.ndarray]) -> int:
    """Tells arrays apart: the CRC-32 of their bytes, one after another."""
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array), value)
    return value


class Checkpoints(keras.callbacks.Callback):
    """A folder that keeps the last complete epoch of one run of training.

    As a callback it saves at the end of every epoch, the old one staying until the new one is complete.

    Args:
      folder: made where it does not exist.
      run: what the result depends on, as JSON values; kept in the folder.
      more: what else is to be kept, by name: a second optimizer, say, whose variables are made.
      strategy: where several workers train, all of them keep and restore, and see the same folder. The chief alone
        writes there. What others write, because a statistic is read on all workers or on none, is thrown away.

    Raises:
      ValueError: the folder holds another run, and the message names what differs; or its record is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        run: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ):
        super().__init__()
        self._more, self._strategy = dict(more or {}), strategy
        self._writes = distributed.is_chief(strategy)
        self.folder = Path(folder)
        run = json.loads(json.dumps(run))
        kept = self.folder / _RUN
        if kept.is_file():
            old = atomic.read_table(kept, f"remove {self.folder} to train anew")
            differ = [f"{k} {old.get(k)!r}, now {run.get(k)!r}" for k in {**old, **run} if old.get(k) != run.get(k)]
            if differ:
                raise ValueError(
                    f"{self.folder}: holds a run with other options ({'; '.join(differ)}); give the same "
                    "options, remove the folder or name another"
                )
        elif self._writes:
            atomic.write_json(kept, run)
        self._epochs = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._manager: tf.train.CheckpointManager | None = None

    def restore(self, model: keras.Model) -> int:
        """Puts back weights and optimizer of a compiled model; returns how many epochs are done."""
        model.optimizer.build(model.trainable_variables)
        state = tf.train.Checkpoint(weights=model.weights, optimizer=model.optimizer, epochs=self._epochs, **self._more)
        self._manager = tf.train.CheckpointManager(state, str(self.folder), max_to_keep=1)
        if self._manager.latest_checkpoint:
            state.restore(self._manager.latest_checkpoint).assert_consumed()
        done = int(self._epochs.numpy())
        distributed.check_alike(self._strategy, {f"epochs in {self.folder}": done})
        if not self._writes:
            self._elsewhere = tempfile.TemporaryDirectory()
            self._manager = tf.train.CheckpointManager(state, self._elsewhere.name, max_to_keep=1)
        return done

    def on_epoch_end(self, epoch, logs=None):
        """Saves."""
        self._epochs.assign(epoch + 1)
        self._manager.save(checkpoint_number=epoch + 1)


def fit(
    model: keras.Model,
    epochs: int,
    steps: int,
    data: Callable[[int, int], tf.data.Dataset],
    checkpoints: Checkpoints | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> None:
    """Trains a compiled model, from where its checkpoints are.

    Args:
        model: compiled; its weights change.
        epochs: in all, those of earlier calls too.
        steps: batches in an epoch.
        data: (first epoch, epochs) -> batches, as ``batches`` gives them.
        checkpoints: where epochs are kept; None keeps none.
        callbacks: for ``model.fit``; they are called after the epoch is saved.
        verbose: for ``model.fit``.

    Raises:
        ValueError: the checkpoints hold more epochs than there are to be.
    """
    done = checkpoints.restore(model) if checkpoints is not None else 0
    if done > epochs:
        raise ValueError(f"{checkpoints.folder}: holds {done} epochs, wanted are {epochs}; name another folder")
    if done == epochs:
        return
    # Keras would make the optimizer's variables while it traces the first step, and then trace it a second time.
    model.optimizer.build(model.trainable_variables)
    # AutoGraph would rewrite the source of Keras itself, function by function: many times longer than the tracing.
    model.train_step = tf.autograph.experimental.do_not_convert(model.train_step)
    kept = [checkpoints] if checkpoints is not None else []
    try:
        model.fit(
            data(done, epochs),
            initial_epoch=done,
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=[*kept, *callbacks],
            verbose=verbose,
        )
    finally:
        del model.train_step  # the class's own again
