# SPDX-License-Identifier: Apache-2.0
"""Statistics of a batch that several replicas share, while ``tf.distribute`` trains on them.

Each replica hears a part of the batch, all parts of one size. What is computed here is that of the whole batch, the
same bits on every replica.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def count() -> int:
    """How many replicas train together; 1 without a strategy, and outside of what it runs."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def moments(x: tf.Tensor, axes: Sequence[int], synchronized: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of a batch, with gradients.

    The variance of all is the mean of the variances plus the variance of the means: nothing large is subtracted from
    something large, as ``E(x^2) - E(x)^2`` would.

    Args:
      x: float [batch, ...], this replica's part.
      axes: that are averaged over.
      synchronized: over all replicas; else over this one's part alone.

    Returns:
      (mean, variance), without these axes.
    """
    mean, variance = tf.nn.moments(x, axes=list(axes))
    replicas = count()
    if not synchronized or replicas == 1:
        return mean, variance
    found = _gathered(tf.stack([mean, variance]), replicas)
    means, variances = found[:, 0], found[:, 1]
    mean = tf.reduce_mean(means, axis=0)
    return mean, tf.reduce_mean(variances + tf.math.squared_difference(means, mean), axis=0)


def _gathered(x: tf.Tensor, replicas: int) -> tf.Tensor:
    """[replicas, ...]: the ``x`` of each.

    A sum of arrays that are zero but for one's own row: TensorFlow's ``all_gather`` would ask for the lengths first, a
    second round over the network.
    """
    context = tf.distribute.get_replica_context()
    own = tf.one_hot(context.replica_id_in_sync_group, replicas, dtype=x.dtype)
    own = tf.reshape(own, [replicas] + [1] * len(x.shape)) * x[None]
    return context.all_reduce(tf.distribute.ReduceOp.SUM, own)
