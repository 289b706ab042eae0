"""Matrix products, convolutions with constants or variables, and pools, written as functions of tensors, as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers


def _weight(layer, value: Any, rank: int, what: str) -> np.ndarray:
    if hasattr(value, "_keras_history"):
        raise UnsupportedLayerError(layer, f"a {what} that the model computes", "no way yet: weights are constants")
    array = np.asarray(value, np.float32)
    if array.ndim != rank:
        raise UnsupportedLayerError(layer, f"a {what} of shape {array.shape}", f"use one of {rank} axes")
    return array


def _with(walk, layer, new, x, value, weight: np.ndarray):
    """Calls a fresh layer and gives it its weights; a constant stays one."""
    new.trainable = bool(getattr(value, "trainable", False))
    out = new(x)
    new.set_weights([weight])
    return out


def _matmul(walk, layer, arguments, shape):
    x, b = arguments["a"], arguments["b"]
    flags = [name for name in arguments if name not in ("a", "b", "name") and arguments[name] not in (None, False)]
    if not hasattr(x, "_keras_history") or set(flags) - {"transpose_b"}:
        raise UnsupportedLayerError(layer, f"options {flags}", "multiply a tensor with a matrix of weights")
    weight = _weight(layer, b, 2, "matrix")
    weight = weight.T if "transpose_b" in flags else weight
    return _with(walk, layer, walk.make(L.Dense, weight.shape[1], like=layer, use_bias=False), x, b, weight)


def _pair(layer, value: Any, count: int) -> tuple[int, ...]:
    """Strides or dilations of the axes that a window moves over, however TensorFlow was told."""
    found = [1] if value is None else [int(v) for v in np.asarray(value).reshape(-1)]
    if len(found) == count + 2:
        found = found[1:-1]
    found = found * count if len(found) == 1 else found
    if len(found) != count:
        raise UnsupportedLayerError(layer, f"strides or dilations {value}", f"give {count} numbers")
    return tuple(found)


def _given(arguments, *names: str) -> Any:
    """An option that TensorFlow has under several names: the one that was given, not the default of another."""
    return next((arguments[name] for name in names if arguments.get(name) is not None), None)


def _options(layer, arguments, count: int) -> dict[str, Any]:
    padding = arguments.get("padding") or "VALID"
    if (
        not isinstance(padding, str)
        or str(arguments.get("data_format") or "NC").upper().startswith("NC")
        and (arguments.get("data_format") not in (None, "NHWC", "NWC"))
    ):
        raise UnsupportedLayerError(layer, f"padding={padding}", "use 'VALID' or 'SAME', channels last")
    return {
        "strides": _pair(layer, _given(arguments, "strides", "stride"), count),
        "dilation_rate": _pair(layer, _given(arguments, "dilations", "rate"), count),
        "padding": padding.lower(),
        "use_bias": False,
    }


def _convolution(walk, layer, arguments, shape):
    values = list(arguments.values())
    x, given = values[0], values[1]
    count = len(x.shape) - 2
    weight = _weight(layer, given, count + 2, "kernel")
    if count not in (1, 2) or weight.shape[-2] != x.shape[-1]:
        raise UnsupportedLayerError(
            layer, f"a kernel {weight.shape} over {tuple(x.shape)}", "use one group, one or two axes"
        )
    kind = L.Conv1D if count == 1 else L.Conv2D
    options = _options(layer, arguments, count)
    new = walk.make(kind, weight.shape[-1], weight.shape[:count], like=layer, **options)
    return _with(walk, layer, new, x, given, weight)


def _depthwise(walk, layer, arguments, shape):
    values = list(arguments.values())
    x, given = values[0], values[1]
    weight = _weight(layer, given, 4, "kernel")
    options = _options(layer, arguments, 2)
    new = walk.make(L.DepthwiseConv2D, weight.shape[:2], like=layer, depth_multiplier=weight.shape[-1], **options)
    return _with(walk, layer, new, x, given, weight)


def _tensordot(walk, layer, arguments, shape):
    """What a Dense of somebody's own class does to more than two axes."""
    x, given = arguments["a"], arguments["b"]
    axes, last = np.asarray(arguments["axes"]).reshape(-1).tolist(), len(x.shape) - 1
    if axes not in ([last, 0], [-1, 0], [1] if last == 1 else None):
        raise UnsupportedLayerError(layer, f"axes={axes}", "multiply the last axis with the first of a matrix")
    weight = _weight(layer, given, 2, "matrix")
    return _with(walk, layer, walk.make(L.Dense, weight.shape[1], like=layer, use_bias=False), x, given, weight)


def _pool(kinds: tuple[type, type]):
    def rule(walk, layer, arguments, shape):
        x = next(iter(arguments.values()))
        count = len(x.shape) - 2
        if count not in (1, 2):
            raise UnsupportedLayerError(layer, f"{count} axes to move over", "use one or two")
        options = _options(layer, arguments, count)
        size = _pair(layer, _given(arguments, "ksize", "window_shape"), count)
        kind = kinds[count - 1]
        return walk.make(kind, size, options["strides"], options["padding"], like=layer)(x)

    return rule


_AVERAGE = _pool((L.AveragePooling1D, L.AveragePooling2D))
_MAXIMUM = _pool((L.MaxPooling1D, L.MaxPooling2D))
RULES = {
    "nn.avg_pool": _AVERAGE, "nn.avg_pool1d": _AVERAGE, "nn.avg_pool2d": _AVERAGE, "nn.max_pool": _MAXIMUM,
    "nn.max_pool1d": _MAXIMUM, "nn.max_pool2d": _MAXIMUM, "tensordot": _tensordot,
    "linalg.matmul": _matmul, "matmul": _matmul,
    "nn.convolution": _convolution, "nn.conv1d": _convolution, "nn.conv2d": _convolution,
    "nn.depthwise_conv2d": _depthwise,
}  # fmt: skip
