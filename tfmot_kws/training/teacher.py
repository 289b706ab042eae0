# SPDX-License-Identifier: Apache-2.0
"""Learning another model's answers (G. Hinton, O. Vinyals, J. Dean 2015, "Distilling the knowledge in a network")."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf


def check(config: Any) -> None:
    """Raises ValueError where the ``teacher_weight`` or ``temperature`` of a recipe's config is out of its range."""
    name = type(config).__name__
    if not 0.0 <= config.teacher_weight <= 1.0:
        raise ValueError(f"{name}.teacher_weight={config.teacher_weight!r}: must be between 0 and 1")
    if not 0.0 < config.temperature < math.inf:
        raise ValueError(f"{name}.temperature={config.temperature!r}: must be above 0")


def distance(taught: tf.Tensor, logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Cross entropy of softened answers, float32 [...].

    Args:
        taught: logits of the teacher, float32 [..., classes].
        logits: of the model that learns.
        temperature: both are divided by it; its square keeps the gradient's size.
    """
    soft = tf.nn.softmax(taught / temperature)
    return tf.nn.softmax_cross_entropy_with_logits(soft, logits / temperature) * temperature**2
