# SPDX-License-Identifier: Apache-2.0
"""A running mean of a model's weights, which errs less and at fewer odd moments than the weights of any one step.

Where training goes to and fro around a minimum, the mean of its steps lies nearer to it (Polyak and Juditsky 1992).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras

_STATISTICS = ("moving_mean", "moving_variance")
"""Of batch normalization: they belong to the weights. What else is not trained is no number between others."""


class RunningMean:
    """The mean of a model's weights over its last steps, older ones counting less and less.

    Args:
      model: built; what of it is trained, and the statistics of its batch normalizations, are averaged.
      steps: after so many steps a weight counts 1/e of what it did; 1 and less is the last step alone. In the first of
        them the mean is over those that there are.
    """

    def __init__(self, model: keras.Model, steps: float):
        statistics = [w for w in model.non_trainable_weights if w.name.split("/")[-1].split(":")[0] in _STATISTICS]
        self._weights = [*model.trainable_weights, *statistics]
        self._means = [tf.Variable(w, trainable=False) for w in self._weights]
        self._count = tf.Variable(0.0, trainable=False)
        self._decay = max(0.0, 1.0 - 1.0 / steps)

    def add(self) -> None:
        """Takes in the weights as they are now; eagerly, or as part of a traced step."""
        # As TensorFlow's own moving averages count their first steps.
        decay = tf.minimum(self._decay, self._count / (9.0 + self._count))
        for mean, weight in zip(self._means, self._weights):
            mean.assign_add((1.0 - decay) * (weight - mean))
        self._count.assign_add(1.0)

    def reset(self) -> None:
        """Begins anew with the weights as they are now."""
        self._count.assign(0.0)
        for mean, weight in zip(self._means, self._weights):
            mean.assign(weight)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """In this context the model has the means as its weights; behind it, its own again."""
        own = [weight.numpy() for weight in self._weights]
        for mean, weight in zip(self._means, self._weights):
            weight.assign(mean)
        try:
            yield
        finally:
            for weight, value in zip(self._weights, own):
                weight.assign(value)

    def state(self) -> list[np.ndarray]:
        """All that ``restore`` needs."""
        return [self._count.numpy(), *(mean.numpy() for mean in self._means)]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Goes on from what ``state`` gave."""
        for variable, value in zip((self._count, *self._means), state, strict=True):
            variable.assign(value)
