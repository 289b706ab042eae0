"""Functions of tensors that are several layers: norms, deviations, sums of many, functions of one value."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize.plain.layer_rules import pooled, shaped
from tfmot_kws.quantize.plain.layers import Function, Scale
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers


def function(name: str, alpha: float = 0.0):
    """The rule of a function that ``functions.FUNCTIONS`` has."""

    def rule(walk, layer, arguments, shape):
        return walk.make(Function, name, alpha, like=layer)(next(iter(arguments.values())))

    return rule


def axes_of(layer, value: Any, x) -> list[int]:
    """Axes from 1; refuses the batch and axes of any length."""
    rank = len(x.shape)
    found = list(range(rank)) if value is None else [int(v) for v in np.asarray(value).reshape(-1)]
    found = sorted(v + rank if v < 0 else v for v in found)
    if 0 in found or None in tuple(x.shape)[1:]:
        raise UnsupportedLayerError(layer, f"axis={found}", "reduce fixed axes behind the batch")
    return found


def reduced(walk, layer, x, axes: list[int], kind: str, shape):
    """A mean, sum, largest or least value over axes, in a shape that counts the batch."""
    if kind == "min":
        x = walk.make(Function, "reverse", like=layer, role="reverse")(x)
    y = shaped(walk, layer, pooled(walk, layer, x, axes, "max" if kind == "min" else kind), shape)
    count = int(np.prod([x.shape[a] for a in axes]))
    if kind == "sum" and count != 1:
        y = walk.make(Scale, float(count), like=layer, role="sum")(y)
    return walk.make(Function, "reverse", like=layer, role="least")(y) if kind == "min" else y


def reduce(kind: str):
    """The rule of a reduction."""

    def rule(walk, layer, arguments, shape):
        x = next(iter(arguments.values()))
        return reduced(walk, layer, x, axes_of(layer, arguments["axis"], x), kind, shape)

    return rule


def _kept(x, axes: list[int]) -> tuple:
    return tuple(1 if a in axes else d for a, d in enumerate(tuple(x.shape)))


def _deviation(root: bool):
    def rule(walk, layer, arguments, shape):
        x = next(iter(arguments.values()))
        axes = axes_of(layer, arguments["axis"], x)
        mean = reduced(walk, layer, x, axes, "mean", _kept(x, axes))
        deviation = walk.make(L.Subtract, like=layer, role="deviation")([x, mean])
        square = walk.make(Function, "square", like=layer, role="square")(deviation)
        y = reduced(walk, layer, square, axes, "mean", shape)
        return walk.make(Function, "sqrt", like=layer, role="root")(y) if root else y

    return rule


def _l2_normalize(walk, layer, arguments, shape):
    x = next(iter(arguments.values()))
    axes = axes_of(layer, arguments["axis"], x)
    square = walk.make(Function, "square", like=layer, role="square")(x)
    total = reduced(walk, layer, square, axes, "sum", _kept(x, axes))
    factor = walk.make(Function, "rsqrt", float(arguments["epsilon"]), like=layer, role="factor")(total)
    return walk.make(L.Multiply, like=layer)([x, factor])


def _squared_difference(walk, layer, arguments, shape):
    x, y = list(arguments.values())[:2]
    if not (hasattr(x, "_keras_history") and hasattr(y, "_keras_history")):
        raise UnsupportedLayerError(layer, "a constant", "use tf.square(x - constant)")
    difference = walk.make(L.Subtract, like=layer, role="difference")([x, y])
    return walk.make(Function, "square", like=layer)(difference)


def _add_n(walk, layer, arguments, shape):
    values = list(arguments["inputs"])
    if not all(hasattr(v, "_keras_history") for v in values):
        raise UnsupportedLayerError(layer, "a constant among its tensors", "add constants by x + constant")
    return walk.make(L.Add, like=layer)(values) if len(values) > 1 else values[0]


def _swish(walk, layer, arguments, shape):
    x, beta = next(iter(arguments.values())), float(arguments.get("beta", 1.0))
    if beta == 1.0:
        return walk.make(Function, "swish", like=layer)(x)
    return walk.make(Function, "swish_beta", beta, like=layer)(x)


RULES = {
    "math.reduce_mean": reduce("mean"), "math.reduce_max": reduce("max"), "math.reduce_sum": reduce("sum"),
    "math.reduce_min": reduce("min"), "math.reduce_variance": _deviation(False), "math.reduce_std": _deviation(True),
    "math.l2_normalize": _l2_normalize, "linalg.l2_normalize": _l2_normalize, "nn.l2_normalize": _l2_normalize,
    "math.squared_difference": _squared_difference, "math.add_n": _add_n, "nn.silu": _swish, "nn.swish": _swish,
    "nn.relu": function("relu"), "nn.relu6": function("relu6"), "nn.elu": function("elu", 1.0),
    "nn.selu": function("selu"), "nn.softsign": function("softsign"), "nn.sigmoid": function("sigmoid"),
    "math.sigmoid": function("sigmoid"), "math.tanh": function("tanh"), "math.softplus": function("softplus"),
    "math.exp": function("exponential"), "math.abs": function("abs"), "math.square": function("square"),
    "math.sqrt": function("sqrt"), "math.rsqrt": function("rsqrt"), "math.reciprocal": function("reciprocal"),
    "math.negative": function("reverse"), "math.log_sigmoid": function("log_sigmoid"), "math.sin": function("sin"),
    "math.cos": function("cos"), "math.log": function("log"), "math.log1p": function("log1p"),
    "math.expm1": function("expm1"), "math.erf": function("erf"), "math.atan": function("atan"),
}  # fmt: skip
"""By the function's public name in TensorFlow."""
