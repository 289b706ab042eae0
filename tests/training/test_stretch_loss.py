# SPDX-License-Identifier: Apache-2.0
"""The loss of stretches, against its formula written out, and what it asks for."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmot_kws.training import stretch_loss

LABELS = np.array([[0, 0, 1, 1, -1], [0, 2, -1, 0, 1], [-1, -1, -1, -1, -1], [0, 0, 0, 0, 0]])
WORDS = 2


def _answers(labels: np.ndarray, taught: np.ndarray | None = None) -> tf.Tensor:
    taught = np.zeros((*labels.shape, 1 + WORDS)) if taught is None else taught
    return tf.constant(np.concatenate([labels[..., None], taught], axis=2), tf.float32)


def _written_out(labels: np.ndarray, logits: np.ndarray, weight: float) -> list[float]:
    found = []
    for row, outputs in zip(labels, logits):
        odds = outputs[:, 1:] - outputs[:, :1]
        silent, spoken = 0.0, {}
        for label, at in zip(row, odds):
            for word in range(1, 1 + WORDS):
                if label == word:
                    spoken[word] = spoken.get(word, 0.0) + np.exp(at[word - 1])
                elif label >= 0:
                    silent += np.exp(at[word - 1])
        found.append(weight * np.log1p(silent) + sum(np.log1p(1.0 / one) for one in spoken.values()))
    return found


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_is_its_formula(rng, weight):
    logits = rng.normal(0.0, 2.0, (4, 5, 1 + WORDS))
    value = stretch_loss.loss(_answers(LABELS), tf.constant(logits, tf.float32), weight, 0.0, 1.0)
    np.testing.assert_allclose(value, _written_out(LABELS, logits, weight), rtol=1e-5)
    assert value[2] == 0.0  # nothing is asked


def test_a_teacher_is_followed_at_every_place(rng):
    logits, taught = rng.normal(0.0, 2.0, (2, 4, 5, 1 + WORDS))
    soft, own = (np.exp(x / 2) / np.exp(x / 2).sum(axis=2, keepdims=True) for x in (taught, logits))
    followed = -(soft * np.log(own)).sum(axis=2).mean(axis=1) * 4.0
    wanted = 0.75 * np.array(_written_out(LABELS, logits, 1.0)) + 0.25 * followed
    value = stretch_loss.loss(_answers(LABELS, taught), tf.constant(logits, tf.float32), 1.0, 0.25, 2.0)
    np.testing.assert_allclose(value, wanted, rtol=1e-5)


def test_one_window_of_a_word_is_enough_and_one_elsewhere_is_too_many():
    """What a detector does not mind costs next to nothing; what it minds costs its log-odds."""

    def cost(odds: list[float]) -> float:
        logits = np.zeros((1, 5, 1 + WORDS), np.float32)
        logits[0, :, 1], logits[0, :, 2] = odds, -30.0
        return float(stretch_loss.loss(_answers(LABELS[:1]), tf.constant(logits), 1.0, 0.0, 1.0)[0])

    assert cost([-20.0, -20.0, -20.0, 20.0, 0.0]) < 1e-6
    assert cost([-20.0, -20.0, -20.0, -20.0, 20.0]) == pytest.approx(20.0 - np.log(2.0), rel=1e-5)  # not asked there
    assert cost([-20.0, 20.0, -20.0, 20.0, 0.0]) == pytest.approx(20.0, rel=1e-5)


@pytest.mark.parametrize("smooth", [2, 5])
def test_the_detectors_means_are_judged(rng, smooth):
    """As if the means were the model's, at the places at which each is complete."""
    logits = rng.normal(0.0, 2.0, (4, 9, 1 + WORDS))
    labels = np.concatenate([LABELS, LABELS[:, :4]], axis=1)
    odds = logits[..., 1:] - logits[..., :1]
    means = np.stack([odds[:, at : at + smooth].mean(axis=1) for at in range(10 - smooth)], axis=1)
    alike = np.concatenate([np.zeros((4, 10 - smooth, 1)), means], axis=2)
    value = stretch_loss.loss(_answers(labels), tf.constant(logits, tf.float32), 2.0, 0.0, 1.0, smooth)
    np.testing.assert_allclose(value, _written_out(labels[:, smooth - 1 :], alike, 2.0), rtol=1e-5)


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_gradients_are_finite_whatever_the_model_says(size):
    logits = tf.constant(np.random.default_rng(0).choice([-size, size], (4, 5, 1 + WORDS)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = tf.reduce_sum(stretch_loss.loss(_answers(LABELS), logits, 1.0, 0.5, 2.0))
    assert np.isfinite(value) and np.isfinite(tape.gradient(value, logits)).all()
