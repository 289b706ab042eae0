"""Saved models: the scope in which TFMOT knows the package's classes, and loading."""

from __future__ import annotations

import os
from typing import Any

from tfmot_kws import saved_classes
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize.plain import keras3


def quantize_scope():
    """Context in which Keras and TFMOT know the package's classes."""
    return tfmot.quantization.keras.quantize_scope(saved_classes.custom_objects())


def load_model(path: str | os.PathLike, **kwargs: Any) -> keras.Model:
    """``keras.models.load_model`` inside ``quantize_scope``: .keras, .h5 and SavedModel.

    A .keras file that Keras 3 wrote is rebuilt as a tf_keras model of the same weights, not compiled.

    Args:
        path: of the saved model.
        **kwargs: for ``keras.models.load_model``, ``compile=False`` say.

    Returns:
        The model, in the stage in which it was saved.

    Raises:
        OSError: there is no such file, or it holds no model.
        UnsupportedLayerError: a file of Keras 3 holds layers that tf_keras has not.
    """
    if keras3.is_file(path):
        return keras3.load(path, **kwargs)
    with quantize_scope():
        return keras.models.load_model(path, **kwargs)
