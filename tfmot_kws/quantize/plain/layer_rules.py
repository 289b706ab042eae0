"""Layers of Keras that are arithmetic with constants, or others in disguise: what each becomes.

A rule takes the walk (``unfold``), the layer and its new input; it returns the new output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize.plain.layers import ChannelAffine, Function, Scale
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers

TRAINING_ONLY = tuple(
    getattr(L, name)
    for name in (
        "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization", "RandomBrightness",
        "RandomContrast", "RandomCrop", "RandomFlip", "RandomHeight", "RandomRotation", "RandomTranslation",
        "RandomWidth", "RandomZoom",
    )
    if hasattr(L, name) and name not in ("RandomCrop", "RandomHeight", "RandomWidth")  # these change the shape
)  # fmt: skip
"""Layers that give their input as it is wherever nothing trains."""


def affine(walk: Any, layer: L.Layer, x, factor, offset, trains: tuple[str, ...] = ()):
    """``x * factor + offset`` by the cheapest layers: one number is a scale, a vector over the channels is an op.

    Args:
      walk: the walk.
      layer: gives the new layers their name.
      x: new tensor.
      factor, offset: numbers, or arrays that broadcast over the last axis alone.
      trains: which of the two are variables that training moves.
    """
    factor, offset = (_of_channels(layer, v, x) for v in (factor, offset))
    if factor.size > 1 or offset.size > 1 or trains:
        new = walk.make(ChannelAffine, trains, like=layer)
        out = new(x)
        new.load(factor, offset)
        return out
    k, b = float(factor.reshape(())), float(offset.reshape(()))
    if not np.isfinite([k, b]).all() or k == 0.0:
        raise UnsupportedLayerError(layer, f"{k} * x + {b}", "a factor must be a number other than zero")
    if abs(k) != 1.0:
        x = walk.make(Scale, abs(k), like=layer)(x)
    if k < 0.0:
        return walk.make(Function, "reverse", b, like=layer, role="reverse")(x)
    return walk.make(Function, "shift", b, like=layer, role="shift")(x) if b else x


def _of_channels(layer: L.Layer, value: Any, x) -> np.ndarray:
    """A constant as one number, or one for each channel."""
    array = np.asarray(value, np.float64)
    if array.size == 1:
        return array.reshape(())
    channels = x.shape[-1]
    if array.size == channels and array.shape[-1] == channels:
        return array.reshape(channels)
    if array.ndim and channels is not None and array.shape[-1] in (1, channels):
        whole = np.broadcast_to(array, (*array.shape[:-1], channels)).reshape(-1, channels)
        if (whole == whole[0]).all():
            return whole[0]
    raise UnsupportedLayerError(
        layer, f"a constant of shape {array.shape} for values {tuple(x.shape)}",
        "use one number, or one for each channel of the last axis",
    )  # fmt: skip


def _rescaling(walk, layer, x):
    return affine(walk, layer, x, layer.scale, layer.offset)


def _normalization(walk, layer, x):
    if not layer.built:
        raise UnsupportedLayerError(layer, "no statistics", "call adapt() on it first, or give it mean and variance")
    mean = np.asarray(layer.mean, np.float64)
    deviation = np.maximum(np.sqrt(np.asarray(layer.variance, np.float64)), keras.backend.epsilon())
    if getattr(layer, "invert", False):
        return affine(walk, layer, x, deviation, mean)
    return affine(walk, layer, x, 1.0 / deviation, -mean / deviation)


_PER_FRAME = (
    L.Dense, L.Activation, L.ReLU, L.LeakyReLU, L.ELU, L.ThresholdedReLU, L.Softmax, L.Dropout,
    L.Rescaling,
)  # fmt: skip
"""Layers that do to every frame what they do to a clip."""


def _time_distributed(walk, layer, x):
    """The same layer over one axis more."""
    inner, rank = layer.layer, len(x.shape)
    if isinstance(inner, L.BatchNormalization) and list(np.reshape(inner.axis, -1)) in ([-1], [rank - 2]):
        config = {**inner.get_config(), "axis": -1}
        new = walk.make(lambda name: L.BatchNormalization.from_config({**config, "name": name}), like=inner)
        y = new(x)
        new.set_weights(inner.get_weights())
        return y
    if type(inner) in _PER_FRAME:
        return walk.layer(inner, (x,), {})
    if isinstance(inner, (L.Flatten, L.Reshape)):
        return L.Reshape(tuple(layer.compute_output_shape(x.shape))[1:], name=walk.name(layer.name))(x)
    if isinstance(inner, keras.Model) and getattr(inner, "_is_graph_network", False):
        return _model_per_frame(walk, layer, x)
    wide = {L.Conv1D: L.Conv2D, L.DepthwiseConv1D: L.DepthwiseConv2D, L.MaxPooling1D: L.MaxPooling2D}
    wide[L.AveragePooling1D] = L.AveragePooling2D
    if type(inner) in wide and rank == 4 and inner.padding != "causal":
        return _one_axis_more(walk, inner, wide[type(inner)], x)
    if isinstance(inner, (L.GlobalAveragePooling1D, L.GlobalMaxPooling1D)) and rank == 4:
        kind = L.AveragePooling2D if isinstance(inner, L.GlobalAveragePooling1D) else L.MaxPooling2D
        y = kind((1, x.shape[2]), name=walk.name(layer.name))(x)
        shape = (x.shape[1], 1, x.shape[3]) if inner.keepdims else (x.shape[1], x.shape[3])
        return L.Reshape(shape, name=walk.name(f"{layer.name}_shape"))(y)
    raise UnsupportedLayerError(
        layer, f"a {type(inner).__name__} for each step",
        "call a layer that keeps the time axis instead, such as Conv2D with a kernel (1, n)",
    )  # fmt: skip


def _model_per_frame(walk, layer, x):
    """The layers of a nested chain, each for every frame."""
    for inner in layer.layer.layers:
        if not isinstance(inner, L.InputLayer):
            x = _time_distributed(walk, L.TimeDistributed(inner, name=inner.name), x)
    return x


def _one_axis_more(walk, inner, kind, x):
    """A layer over [batch, places, channels] for each frame of [batch, time, places, channels]."""
    config = inner.get_config()
    for name in ("kernel_size", "pool_size", "strides", "dilation_rate"):
        if name in config:
            value = config[name]
            config[name] = (1, int(value[0] if isinstance(value, (tuple, list)) else value))
    if kind is L.DepthwiseConv2D and config["strides"][1] != 1:
        raise UnsupportedLayerError(inner, f"strides={inner.strides} for each step", "use strides=1 there")
    config.pop("batch_input_shape", None)
    new = walk.make(lambda name: kind.from_config({**config, "name": name}), like=inner)
    y = new(x)
    new.set_weights([w[None] if w.ndim == 3 else w for w in inner.get_weights()])
    return y


def _prelu(walk, layer, x):
    """``relu(x) - alpha[c] * relu(-x)``: three ops, one of them a table."""
    alpha = np.asarray(layer.alpha)
    places = alpha.reshape(-1, alpha.shape[-1]) if alpha.ndim else alpha.reshape(1, 1)
    if not (places == places[0]).all() or (places.shape[0] > 1 and layer.trainable):
        axes = list(range(1, len(x.shape) - 1))
        raise UnsupportedLayerError(
            layer,
            f"a slope for each place, shape {alpha.shape}",
            f"use PReLU(shared_axes={axes}): one for each channel",
        )
    above = walk.make(Function, "relu", like=layer, role="above")(x)
    below = walk.make(Function, "at_most", 0.0, like=layer, role="below")(x)
    new = walk.make(ChannelAffine, ("factor",) if layer.trainable else (), like=layer, role="slope")
    scaled = new(below)
    new.load(places[0], 0.0)
    return walk.make(L.Add, like=layer)([above, scaled])


def shaped(walk, layer, x, shape):
    """The tensor in a shape that counts the batch; itself where it has it."""
    target = tuple(shape)[1:]
    return x if tuple(x.shape)[1:] == target else L.Reshape(target, name=walk.name(f"{layer.name}_shape"))(x)


def pooled(walk, layer, x, axes: list[int], kind: str):
    """A mean or maximum over whole axes, as pooling over a picture that keeps the first axis first."""
    shape, last = tuple(x.shape)[1:], len(x.shape) - 1
    pool = L.MaxPooling2D if kind == "max" else L.AveragePooling2D
    inner = [a for a in axes if a != last]
    if inner:
        if len(shape) > 3:
            raise UnsupportedLayerError(layer, f"{len(shape)} axes behind the batch", "use three at most")
        if len(shape) == 2:
            line = L.MaxPooling1D if kind == "max" else L.AveragePooling1D
            x = line(shape[0], name=walk.name(layer.name))(x)
        else:
            size = tuple(d if a in inner else 1 for a, d in enumerate(shape[:2], start=1))
            x = pool(size, name=walk.name(layer.name))(x)
        shape = tuple(x.shape)[1:]
    if last in axes and shape[-1] > 1:
        channels = shape[-1]
        rows, columns = (1, channels) if len(shape) == 1 else (shape[0], int(np.prod(shape[1:])))
        x = L.Reshape((rows, columns, 1), name=walk.name(f"{layer.name}_line"))(x)
        x = pool((1, channels), name=walk.name(layer.name))(x)
    return x


def _layer_normalization(walk, layer, x):
    """Mean, deviation, variance, ``1 / sqrt(variance + epsilon)`` by a table, product, gain and offset."""
    last = len(x.shape) - 1
    axes = sorted(a + last + 1 if a < 0 else a for a in np.reshape(layer.axis, -1))
    if axes != [last]:
        raise UnsupportedLayerError(layer, f"axis={axes}", "normalize the last axis")
    shape = (*x.shape[:-1], 1)
    mean = shaped(walk, layer, pooled(walk, layer, x, axes, "mean"), shape)
    deviation = walk.make(L.Subtract, like=layer, role="deviation")([x, mean])
    square = walk.make(Function, "square", like=layer, role="square")(deviation)
    variance = shaped(walk, layer, pooled(walk, layer, square, axes, "mean"), shape)
    factor = walk.make(Function, "rsqrt", float(layer.epsilon), like=layer, role="factor")(variance)
    y = walk.make(L.Multiply, like=layer, role="product")([deviation, factor])
    trains = tuple(name for name, on in (("factor", layer.scale), ("offset", layer.center)) if on and layer.trainable)
    new = walk.make(ChannelAffine, trains, like=layer)
    out = new(y)
    new.load(layer.gamma if layer.scale else 1.0, layer.beta if layer.center else 0.0)
    return out


def _resizing(walk, layer, x):
    if tuple(x.shape[1:3]) == (layer.height, layer.width):
        return x
    raise UnsupportedLayerError(layer, f"{tuple(x.shape[1:3])} -> {(layer.height, layer.width)}", "")


RULES = {
    L.Rescaling: _rescaling,
    L.Normalization: _normalization,
    L.TimeDistributed: _time_distributed,
    L.PReLU: _prelu,
    L.LayerNormalization: _layer_normalization,
    L.Resizing: _resizing,
}
"""By the class of a layer."""
