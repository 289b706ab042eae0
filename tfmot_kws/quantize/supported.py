"""What is known of float layers: the classes that have a quantized form, and what is read from such a layer."""

from __future__ import annotations

from tfmot_kws.frontend.waveform import SincConv, WaveformConv
from tfmot_kws.keras import keras
from tfmot_kws.models.time_layers import (
    CausalConv1D,
    CausalDepthwiseConv1D,
    TimeAveragePooling1D,
    TimeMaxPooling1D,
    TimeWindow,
)
from tfmot_kws.quantize.functions import NAMES, function_of
from tfmot_kws.quantize.plain.layers import ChannelAffine, Function, PadAxes, Scale, SliceAxis, TrainingOnly
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers

WEIGHTED = (
    L.Dense, L.Conv1D, L.Conv2D, L.DepthwiseConv1D, L.DepthwiseConv2D, L.SeparableConv1D, L.SeparableConv2D,
    CausalConv1D, CausalDepthwiseConv1D,
)  # fmt: skip
MOVERS = (
    L.Flatten, L.Reshape, L.Permute, L.ZeroPadding1D, L.ZeroPadding2D, L.MaxPooling1D, L.MaxPooling2D,
    L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, TimeWindow,
    TimeMaxPooling1D, L.Cropping1D, L.Cropping2D, L.UpSampling1D, L.UpSampling2D, SliceAxis, PadAxes,
)  # fmt: skip
IDLE = (L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D)
AVERAGES = {
    L.AveragePooling1D: 1, L.AveragePooling2D: 2, L.GlobalAveragePooling1D: 1, L.GlobalAveragePooling2D: 2,
    TimeAveragePooling1D: 1,
}  # fmt: skip
MERGES = {L.Add: "add", L.Multiply: "multiply"}
EXTREMES = {L.Maximum: True, L.Minimum: False}
ACTIVATIONS = (L.ReLU, L.LeakyReLU, L.ELU, L.ThresholdedReLU, L.Activation, L.Softmax, Function)
WAVEFORM = (SincConv, WaveformConv)
SOUND_MOVERS = (L.Flatten, L.Reshape, L.Cropping1D, L.ZeroPadding1D, SliceAxis, PadAxes)
"""What may stand between samples and the filters over them."""
RECURRENT = (L.LSTM, L.GRU, L.SimpleRNN, L.RNN)
SUPPORTED = (
    *WEIGHTED, *MOVERS, *IDLE, *AVERAGES, *MERGES, *EXTREMES, *ACTIVATIONS, *RECURRENT, *WAVEFORM, L.Subtract,
    L.Average, L.BatchNormalization, L.Concatenate, Scale, ChannelAffine, TrainingOnly,
)  # fmt: skip


def activation_of(layer: keras.layers.Layer) -> tuple[str, float]:
    """(function name, alpha) of an activation layer or of a layer's ``activation`` argument."""
    if isinstance(layer, L.LeakyReLU):
        return "leaky_relu", float(layer.alpha)
    if isinstance(layer, Function):
        return layer.function, layer.alpha
    if isinstance(layer, L.ELU):
        return "elu", float(layer.alpha)
    if isinstance(layer, L.ThresholdedReLU):
        return "thresholded_relu", float(layer.theta)
    if isinstance(layer, L.Softmax):
        if layer.axis not in (-1,):
            raise UnsupportedLayerError(layer, f"axis={layer.axis}", "softmax runs over the last axis (axis=-1)")
        return "softmax", 0.0
    if isinstance(layer, L.ReLU):
        return _relu(layer)
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    found = ("softmax", 0.0) if name == "softmax" else function_of(name)
    if found is None:
        raise UnsupportedLayerError(
            layer,
            f"activation {name!r}",
            f"use one of {', '.join((*NAMES, 'softmax'))}, LeakyReLU, PReLU or ReLU(limit)",
        )
    return found


def _relu(layer: L.ReLU) -> tuple[str, float]:
    limit, slope, threshold = layer.max_value, float(layer.negative_slope or 0.0), float(layer.threshold or 0.0)
    if sum((limit is not None, slope != 0.0, threshold != 0.0)) > 1:
        raise UnsupportedLayerError(
            layer,
            f"max_value={limit}, negative_slope={slope}, threshold={threshold}",
            "give one of the three: ReLU(limit), LeakyReLU(slope) or ThresholdedReLU(theta)",
        )
    if slope:
        return "leaky_relu", slope
    if threshold:
        return "thresholded_relu", threshold
    if limit is None:
        return "relu", 0.0
    return ("relu6", 0.0) if limit == 6 else ("clipped_relu", float(limit))


def input_behind(tensor):
    """The tensor ahead of layers that work in training only."""
    layer, index, _ = tensor._keras_history
    while isinstance(layer, TrainingOnly):
        tensor = layer._inbound_nodes[index].keras_inputs[0]
        layer, index, _ = tensor._keras_history
    return tensor


def kernel_of_layer(layer):
    """The kernel whose last axis counts outputs; a depthwise layer's own."""
    if isinstance(layer, (L.SeparableConv1D, L.SeparableConv2D)):
        return layer.pointwise_kernel
    if isinstance(layer, (L.DepthwiseConv1D, L.DepthwiseConv2D)):
        return layer.depthwise_kernel
    return layer.kernel


def regularizer_name(layer) -> str:
    """Name of the argument that regularizes that kernel."""
    if isinstance(layer, (L.SeparableConv1D, L.SeparableConv2D)):
        return "pointwise_regularizer"
    depthwise = isinstance(layer, (L.DepthwiseConv1D, L.DepthwiseConv2D))
    return "depthwise_regularizer" if depthwise else "kernel_regularizer"


def check_channels_last(layer) -> None:
    """Refuses layers that have channels first."""
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        raise UnsupportedLayerError(layer, f"data_format={layer.data_format!r}", "use data_format='channels_last'")


def is_foldable(node) -> bool:
    """Whether a batch normalization scales each channel of the last axis and nothing else."""
    layer, rank = node.layer, node.keras_inputs[0].shape.rank
    axes = list(layer.axis) if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return axes in ([-1], [rank - 1]) and not getattr(layer, "renorm", False)
