"""Saved models: the classes that Keras and TFMOT need to know, and loading."""

from __future__ import annotations

import os
from typing import Any

from tfmot_kws.keras import keras, tfmot
from tfmot_kws.models import time_layers
from tfmot_kws.quantize import elementwise, layers, ops, quantizers, recurrent
from tfmot_kws.quantize.configs import KwsQuantizeConfig
from tfmot_kws.quantize.dynamic import layers as dynamic_layers
from tfmot_kws.quantize.plain import keras3
from tfmot_kws.quantize.plain import layers as plain_layers


def custom_objects() -> dict[str, type]:
    """Classes that ``keras.models.load_model`` needs for a saved model of this package."""
    classes = (
        time_layers.TimeWindow, time_layers.CausalConv1D, time_layers.CausalDepthwiseConv1D,
        time_layers.TimeAveragePooling1D, time_layers.TimeMaxPooling1D,
        layers.QuantizedAffine, layers.QuantizedDense, layers.QuantizedConv, layers.QuantizedDepthwise,
        ops.QuantizeInput, ops.Dequantize, ops.QuantizedFunction, ops.QuantizedSoftmax,
        ops.QuantizedMerge, ops.QuantizedConcatenate, ops.QuantizedAveragePool,
        elementwise.QuantizedScale, elementwise.QuantizedChannelAffine, elementwise.QuantizedExtreme,
        recurrent.QuantizedRecurrent, recurrent.GateKernel,
        plain_layers.Scale, plain_layers.ChannelAffine, plain_layers.Function, plain_layers.SliceAxis,
        plain_layers.PadAxes, plain_layers.Penalty, plain_layers.TrainingOnly,
        dynamic_layers.DynamicDense, dynamic_layers.DynamicConv,
        KwsQuantizeConfig, quantizers.TanhWeightQuantizer, quantizers.LinearQuantizer,
    )  # fmt: skip
    return {c.__name__: c for c in classes}


def quantize_scope():
    """Context in which Keras and TFMOT know the package's classes."""
    return tfmot.quantization.keras.quantize_scope(custom_objects())


def make_known() -> None:
    """Tells Keras the package's classes for the rest of the process.

    ``quantize_apply`` and ``load_model`` do so: Keras's own ``load_model``, ``copy.deepcopy`` and ``pickle`` then take
    the models that these give. A process that has called neither needs ``load_model`` of this module.
    """
    keras.utils.get_custom_objects().update(custom_objects())


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
    make_known()
    if keras3.is_file(path):
        return keras3.load(path, **kwargs)
    with quantize_scope():
        return keras.models.load_model(path, **kwargs)
