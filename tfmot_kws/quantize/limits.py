"""What no device op takes, said before a model is trained: shapes, windows and options of float layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize.supported import AVERAGES, RECURRENT, WEIGHTED
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers

MAX_AXES = 5
"""Axes of a tensor behind the batch."""
MAX_MOVED_AXES = 4
"""The same where values are moved along axes: TFLM's own ops take the batch and four."""
MAX_WINDOW = 65535
"""Places of a window, steps and zeros along one axis: two bytes of an op's options."""

_WINDOWED = (
    *(kind for kind in WEIGHTED if kind is not L.Dense), *AVERAGES, L.MaxPooling1D, L.MaxPooling2D,
    L.GlobalMaxPooling1D, L.GlobalMaxPooling2D,
)  # fmt: skip


def check_node(node: Any) -> None:
    """Refuses a call of a layer that could be trained but not exported.

    Args:
      node: of a functional model.

    Raises:
      UnsupportedLayerError: it names the layer, what was found and the way out.
    """
    layer, x = node.layer, node.keras_inputs[0]
    shapes = [tuple(t.shape)[1:] for t in (*node.keras_inputs, *_flat(node.outputs))]
    longest = max(shapes, key=len)
    if len(longest) > MAX_AXES:
        raise UnsupportedLayerError(
            layer, f"{len(longest)} axes behind the batch", f"use at most {MAX_AXES}: Reshape joins axes"
        )
    if any(0 in shape for shape in shapes):
        raise UnsupportedLayerError(layer, f"shapes {shapes}", "let every axis have a place at least")
    moves = isinstance(layer, (L.Permute, L.ZeroPadding1D, L.ZeroPadding2D)) or hasattr(layer, "begin")
    if len(longest) > MAX_MOVED_AXES and (moves or type(layer).__name__ == "PadAxes"):
        raise UnsupportedLayerError(
            layer, f"{len(longest)} axes behind the batch", f"use at most {MAX_MOVED_AXES}: Reshape joins axes"
        )
    if isinstance(layer, _WINDOWED):
        _check_window(layer, tuple(x.shape)[1:])
    if isinstance(layer, (*WEIGHTED, *RECURRENT, L.BatchNormalization)):
        check_options(layer)


def _flat(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_window(layer: L.Layer, shape: tuple[int | None, ...]) -> None:
    axes = 2 if "2D" in type(layer).__name__ else 1
    if len(shape) != axes + 1:
        raise UnsupportedLayerError(
            layer, f"an input of {len(shape)} axes behind the batch",
            f"a window moves over {axes} of {axes + 1} axes; TimeDistributed and Conv2D with a kernel (1, n) keep more",
        )  # fmt: skip
    given = {name: getattr(layer, name, None) for name in ("kernel_size", "pool_size", "strides", "dilation_rate")}
    if "Global" in type(layer).__name__:
        given = {"frames or bands": shape[:-1]}
    for name, value in given.items():
        largest = max((int(v) for v in np.reshape(value, -1) if v is not None), default=0) if value is not None else 0
        if largest > MAX_WINDOW:
            raise UnsupportedLayerError(layer, f"{name}={value}", f"use at most {MAX_WINDOW} along each axis")


def check_options(layer: L.Layer) -> None:
    """Refuses what the quantized form of a layer would not keep."""
    for name in vars(layer):
        if name.endswith("_constraint") and getattr(layer, name) is not None:
            raise UnsupportedLayerError(
                layer, f"{name}={type(getattr(layer, name)).__name__}",
                "take it away: it would hold the numbers that training moves, which are not the weights (those are "
                "bounded by their gain as it is); a regularizer is kept",
            )  # fmt: skip
    if getattr(layer, "activity_regularizer", None) is not None:  # an annotated layer: others have it behind them
        raise UnsupportedLayerError(
            layer, "an activity_regularizer", "put an ActivityRegularization layer behind it, which is kept"
        )


def check_inputs(model: keras.Model) -> None:
    """Refuses inputs that no device has: a device's memory is laid out ahead, for one sample of real numbers.

    Raises:
      ValueError: an input of another type than float, without axes, or of any length.
    """
    for tensor in model.inputs:
        name, shape = tensor._keras_history.layer.name, tuple(tensor.shape)[1:]
        if not tensor.dtype.is_floating:
            raise ValueError(
                f"input {name!r} is {tensor.dtype.name}: give keras.Input dtype='float32', and float features"
            )
        if not shape or 0 in shape:
            raise ValueError(
                f"input {name!r}: shape {shape} holds nothing; give keras.Input a shape such as (frames, 40)"
            )
        if None in shape:
            raise ValueError(
                f"input {name!r}: shape {shape} is not fixed, so the model could be trained but not exported: give "
                "keras.Input a fixed shape, the frames of a clip (a stream then takes any number of frames)"
            )
