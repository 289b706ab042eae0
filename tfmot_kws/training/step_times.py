# SPDX-License-Identifier: Apache-2.0
"""Which of several workers is slow.

Workers that train together wait for the slowest in every step, so that the steps of all take the same time. What tells
them apart is what a worker does by itself. So between epochs each times some gradients of its own, without the others,
and in every step how long it waited for its examples.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.training import distributed

FACTOR = 1.5
_PROBES, _PROBE_SECONDS = 5, 0.1
_NAME = 64


def slow_workers(seconds: Sequence[float], factor: float = FACTOR) -> list[int]:
    """Those that take more than ``factor`` times the median of the others.

    Args:
        seconds: of each worker.
        factor: above 1.

    Returns:
        Their indices, ascending; none of a single worker.

    Raises:
        ValueError: the factor is not above 1.
    """
    if not 1.0 < factor < math.inf:
        raise ValueError(f"factor={factor!r}: must be above 1")
    times = np.asarray(seconds, np.float64)
    if len(times) < 2:
        return []
    others = [np.median(np.delete(times, index)) for index in range(len(times))]
    return [index for index in range(len(times)) if times[index] > factor * others[index]]


class Waiting:
    """How long the consumer of a dataset waits for it.

    Attributes:
        seconds: float64 variable, since it was last set to 0.
    """

    def __init__(self) -> None:
        self.seconds = tf.Variable(0.0, trainable=False, dtype=tf.float64)

    def of(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """The same dataset, with a clock on either side of it: a zip asks its parts one after another."""
        clocks = [tf.data.Dataset.counter().map(lambda _: tf.timestamp()) for _ in range(2)]

        def timed(before, item, after):
            with tf.control_dependencies([self.seconds.assign_add(after - before)]):
                return tf.nest.map_structure(tf.identity, item)

        timed = tf.autograph.experimental.do_not_convert(timed)
        return tf.data.Dataset.zip((clocks[0], data, clocks[1])).map(timed)


class StepTimes(keras.callbacks.Callback):
    """Says after an epoch which workers are slower than the others; every worker needs it, the chief speaks.

    Args:
        strategy: of the workers.
        batch: examples of a global batch.
        waiting: of this worker's examples; None counts computing alone.
        factor: a worker is slow that takes so many times the median of the others.
        say: is told of each slow worker.

    Attributes:
        seconds: of a step of each worker by itself, after the last epoch.

    Raises:
        ValueError: the factor is not above 1.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        batch: int,
        waiting: Waiting | None = None,
        factor: float = FACTOR,
        say: Callable[[str], None] = print,
    ):
        super().__init__()
        slow_workers([], factor)
        self._strategy, self._factor, self._say, self._waiting = strategy, factor, say, waiting
        self._batch = batch // strategy.num_replicas_in_sync
        self._work, self._steps, self.seconds = None, 0, np.zeros(0)
        self._supports_tf_logs = True  # nothing here reads those of batches

    def on_train_batch_end(self, batch, logs=None):
        """Counts."""
        self._steps += 1

    def on_epoch_end(self, epoch, logs=None):
        """Times this worker, compares all, and says who is slow."""
        own = self._computing()
        if self._waiting is not None:
            own += float(self._waiting.seconds.numpy()) / max(1, self._steps)
            self._waiting.seconds.assign(0.0)
        self._steps = 0
        names = np.frombuffer(socket.gethostname().encode()[:_NAME].ljust(_NAME, b"\0"), np.uint8).astype(np.float64)
        rows = distributed.gathered(self._strategy, np.concatenate([[own], names]))
        here = len(rows) // max(1, len(distributed.workers_of(self._strategy)))
        rows = rows[:: max(1, here)]
        self.seconds = rows[:, 0]
        if not distributed.is_chief(self._strategy):
            return
        for index in slow_workers(self.seconds, self._factor):
            others = np.median(np.delete(self.seconds, index))
            host = bytes(rows[index, 1:].astype(np.uint8)).rstrip(b"\0").decode(errors="replace")
            self._say(
                f"epoch {epoch + 1}: worker {index} on {host} is slow: {1e3 * self.seconds[index]:.1f} ms a step by "
                f"itself, the median of the others is {1e3 * others:.1f} ms"
            )

    def _computing(self) -> float:
        """Seconds of the gradients of a share of a batch, the median of several over a tenth of a second."""
        if self._work is None:
            self._work = self._made()
            self._work().numpy()  # traced
        times: list[float] = []
        while len(times) < _PROBES or sum(times) < _PROBE_SECONDS:
            begin = time.perf_counter()
            self._work().numpy()
            times.append(time.perf_counter() - begin)
        return float(np.median(times))

    def _made(self) -> Callable[[], tf.Tensor]:
        shape = (self._batch, *self.model.input_shape[1:])
        x = tf.constant(np.random.default_rng(0).random(shape, np.float32))

        def own():
            # As in inference, so that no statistic is changed or asked of the others.
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(self.model(x, training=False))
            gradients = [g for g in tape.gradient(total, self.model.trainable_variables) if g is not None]
            return tf.add_n([tf.reduce_sum(g) for g in gradients])

        def work():
            return self._strategy.experimental_local_results(self._strategy.run(own))[0]

        return tf.function(work, autograph=False)
