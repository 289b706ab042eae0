"""The one place that picks the Keras that TensorFlow Model Optimization works with: tf_keras (Keras 2)."""

import os

from tfmot_kws import extras, legacy_keras

os.environ.setdefault(legacy_keras.SWITCH, "1")

try:
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras
except ImportError as error:
    raise extras.explained(error) from error

__all__ = ["AsWritten", "keras", "tfmot"]


class AsWritten:
    """Mixin of layers, named first: AutoGraph leaves their source as it is, and so a model is made in half the time."""

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *args, **kwargs):
        """That of the layer."""
        return super().__call__(*args, **kwargs)
