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
    """Mixin of layers, named first: models of them are made several times faster than Keras alone makes them.

    AutoGraph leaves their source as it is, and a new model asks ``compute_output_shape``, where Keras would trace
    ``call`` for the shapes alone; it does so where a layer leaves that method to Keras. All outputs have the type that
    ``call`` gets its first input in.
    """

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *args, **kwargs):
        """That of the layer."""
        return super().__call__(*args, **kwargs)

    def _infer_output_signature(self, inputs, args, kwargs, input_masks):
        # Keras's own, which also builds the layer; a Keras without this method traces, and gives the same model.
        if type(self).compute_output_shape is keras.layers.Layer.compute_output_shape:
            return super()._infer_output_signature(inputs, args, kwargs, input_masks)
        self.__dict__["call"] = self._placeholders
        try:
            return super()._infer_output_signature(inputs, args, kwargs, input_masks)
        finally:
            del self.__dict__["call"]

    def _placeholders(self, inputs, *args, **kwargs):
        dtype = tf.nest.flatten(inputs)[0].dtype
        shapes = self.compute_output_shape(tf.nest.map_structure(lambda x: tuple(x.shape), inputs))
        if isinstance(shapes, list):
            return [tf.compat.v1.placeholder(dtype, shape) for shape in shapes]
        return tf.compat.v1.placeholder(dtype, shapes)
