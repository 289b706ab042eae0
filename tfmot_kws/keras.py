"""The one place that picks the Keras that TensorFlow Model Optimization works with: tf_keras (Keras 2)."""

import os

from tfmot_kws import extras, legacy_keras

os.environ.setdefault(legacy_keras.SWITCH, "1")

try:
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras
except ImportError as error:
    raise extras.explained(error) from error

__all__ = ["keras", "tfmot"]
