# SPDX-License-Identifier: Apache-2.0
"""The loss of a stretch of sound that is judged at many places, as a detector judges it: by its surest one.

A detector takes the mean of some windows' log-odds. It is wrong of a word where one such mean, any, goes above the
threshold, and right of a keyword where one near its end does. Asking every window of a keyword for the same answer asks
too much: the ones early in it sound like other words. So all that must be silent in a stretch counts as one, and all
places that hold a keyword as one: the log-sum-exp of the detector's means, a smooth maximum (multiple-instance learning
with it: Ramon and De Raedt 2000).
"""

from __future__ import annotations

import tensorflow as tf

from tfmot_kws.training import teacher

_NEVER = -1e9


def loss(
    answers: tf.Tensor, logits: tf.Tensor, false_accept_weight: float, share: float, heat: float, smooth: int = 1
) -> tf.Tensor:
    """Of each stretch, float32 [batch].

    With q the detector's score of a word at a place, the mean of its log-odds against everything else over ``smooth``
    places up to there, it is ``log(1 + sum exp q)`` over all places and
    words that are not said there, weighted, plus ``log(1 + 1 / sum exp q)`` over the places of each word that is said.

    Args:
        answers: float32 [batch, places, 1 + classes], see ``windows.batches``.
        logits: float32 [batch, places, classes], of everything else, then of each word.
        false_accept_weight: of the first of the two.
        share: 0..1, of the loss that is the teacher's answer at each place instead of the labels.
        smooth: places whose log-odds the detector takes the mean of; places before the first mean are not judged.
        heat: what both answers are divided by before they are compared, see ``teacher``.
    """
    labels = tf.cast(answers[:, smooth - 1 :, 0], tf.int32)[..., None]
    odds = logits[..., 1:] - logits[..., :1]
    if smooth > 1:
        odds = tf.nn.avg_pool1d(odds, smooth, 1, "VALID")
    said = labels == tf.range(1, 1 + tf.shape(odds)[-1])
    silent = tf.reduce_logsumexp(tf.where((labels >= 0) & ~said, odds, _NEVER), axis=(1, 2))
    spoken = tf.reduce_logsumexp(tf.where(said, odds, _NEVER), axis=1)
    missed = tf.where(tf.reduce_any(said, axis=1), tf.nn.softplus(-spoken), 0.0)
    value = false_accept_weight * tf.nn.softplus(silent) + tf.reduce_sum(missed, axis=1)
    if share:
        taught = teacher.distance(answers[..., 1:], logits, heat)
        value = (1.0 - share) * value + share * tf.reduce_mean(taught, axis=1)
    return value
