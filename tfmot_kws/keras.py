"""The one place that picks the Keras that TensorFlow Model Optimization works with: tf_keras (Keras 2)."""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow_model_optimization as tfmot
import tf_keras as keras

__all__ = ["keras", "tfmot"]
