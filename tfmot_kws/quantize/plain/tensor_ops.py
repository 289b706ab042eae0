"""Functions of tensors in a functional model (``tf.reshape(x, ...)``, ``x + y``, ``x[:, 2:]``) as layers.

Keras keeps each call of such a function as a layer of its own that knows nothing but the function and its arguments.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras.src.layers.core import tf_op_layer

from tfmot_kws.keras import keras
from tfmot_kws.quantize.plain import value_ops, weight_ops
from tfmot_kws.quantize.plain.layer_rules import affine, shaped
from tfmot_kws.quantize.plain.layers import Function, PadAxes, SliceAxis
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers
LAYERS = (tf_op_layer.TFOpLambda, tf_op_layer.ClassMethod, tf_op_layer.InstanceProperty)
"""Classes of the layers that stand for such a call; ``SlicingOpLambda`` is one of the first."""


class Shape:
    """What stands for a tensor's shape and for arithmetic with it: shapes are known without running anything."""


def is_tensor(value: Any) -> bool:
    """Whether an argument is a tensor of the model, not a constant."""
    return hasattr(value, "_keras_history")


def emit(walk: Any, node: Any, args: tuple, kwargs: dict) -> Any:
    """New tensors of one call; ``UnsupportedLayerError`` names a function or an argument that no layer has."""
    layer = node.layer
    flat = tf.nest.flatten((args, kwargs))
    symbol = (getattr(layer, "symbol", None) or "").removeprefix("compat.v1.")
    if symbol in ("shape", "size", "rank") or isinstance(layer, tf_op_layer.InstanceProperty):
        return tf.nest.map_structure(lambda _: Shape(), node.outputs)
    counts = all(t.dtype.is_integer or t.dtype.is_bool for t in tf.nest.flatten(node.outputs))
    if counts and any(isinstance(v, Shape) for v in flat) and not (symbol in _RESHAPES and is_tensor(flat[0])):
        return tf.nest.map_structure(lambda _: Shape(), node.outputs)
    rule = RULES.get(symbol)
    if rule is None:
        raise UnsupportedLayerError(layer, f"the function {symbol or layer.name!r}", _HINTS.get(symbol, _HINT))
    try:
        bound = inspect.signature(layer.function).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UnsupportedLayerError(layer, f"arguments that are not understood ({error})", _HINT) from error
    bound.apply_defaults()
    return rule(walk, layer, bound.arguments, tf.nest.map_structure(lambda t: tuple(t.shape), node.outputs))


_HINT = "use a layer, or one of the functions that docs/how-to/own_model.md lists"
_CHOICE = "use tf.nn.relu, LeakyReLU, ThresholdedReLU, ELU, tf.maximum or tf.minimum, which choose by size"
_HINTS = {
    "image.resize": "do this to the features, ahead of the model, where the training data is read",
    "signal.stft": "do this to the features, ahead of the model, where the training data is read",
    **dict.fromkeys(("where", "math.greater", "math.less", "math.greater_equal", "math.less_equal"), _CHOICE),
    "nn.dropout": "use the layer Dropout, which the device does without",
    "nn.log_softmax": "take the logits, of which it is a shifted copy, or Softmax",
    "reverse": "train on features in that order",
    "linalg.matmul": "use Dense",
    "repeat": "use UpSampling1D or UpSampling2D",
}
_RESHAPES = ("reshape", "expand_dims", "squeeze", "keras.backend.reshape")


def _first(arguments: dict) -> Any:
    return next(iter(arguments.values()))


def _named(arguments: dict, *names: str) -> Any:
    """The first argument of these names that is given."""
    return next((arguments[name] for name in names if arguments.get(name) is not None), None)


def _reshape(walk, layer, arguments, shape):
    """Whatever its arguments say, the shape of the result is known."""
    x = _first(arguments)
    size, known = np.prod(tuple(x.shape)[1:], dtype=object), [d for d in shape[1:] if d is not None]
    target = [-1 if d is None else d for d in shape[1:]]
    if (
        None in tuple(x.shape)[1:]
        or target.count(-1) > 1
        or (-1 not in target and np.prod(known, dtype=object) != size)
    ):
        raise UnsupportedLayerError(
            layer, f"{tuple(x.shape)} -> {shape}", "keep the batch axis first, and give keras.Input a fixed shape"
        )
    return walk.make(L.Reshape, tuple(target), like=layer)(x)


def _leaky_relu(walk, layer, arguments, shape):
    return walk.make(Function, "leaky_relu", float(arguments["alpha"]), like=layer)(_first(arguments))


def _gelu(walk, layer, arguments, shape):
    name = "gelu_tanh" if arguments.get("approximate") else "gelu"
    return walk.make(Function, name, like=layer)(_first(arguments))


def _backend_relu(walk, layer, arguments, shape):
    """keras.backend.relu and keras.activations.relu."""
    x, get = _first(arguments), arguments.get
    slope, most = float(get("alpha") or get("negative_slope") or 0.0), get("max_value")
    if float(get("threshold") or 0.0) or (slope and most is not None):
        raise UnsupportedLayerError(layer, "a threshold, or a slope and a limit", "use ReLU(limit) or LeakyReLU(slope)")
    if slope:
        return walk.make(Function, "leaky_relu", slope, like=layer)(x)
    if most is None:
        return walk.make(Function, "relu", like=layer)(x)
    return walk.make(Function, "clipped_relu", float(most), like=layer)(x)


def _softmax(walk, layer, arguments, shape):
    x, axis = _first(arguments), _named(arguments, "axis", "dim")
    return walk.make(L.Softmax, like=layer, axis=-1 if axis in (None, len(x.shape) - 1) else axis)(x)


def _clip(walk, layer, arguments, shape):
    """Two tables in one where the least value is zero."""
    x, least, most = _first(arguments), *(_number(layer, v) for v in list(arguments.values())[1:3])
    if least == 0.0:
        return walk.make(Function, "clipped_relu", most, like=layer)(x)
    x = walk.make(Function, "at_least", least, like=layer, role="least")(x)
    return walk.make(Function, "at_most", most, like=layer)(x)


def _number(layer, value) -> float:
    array = np.asarray(value)
    if is_tensor(value) or array.size != 1:
        raise UnsupportedLayerError(layer, "a limit that is no number", "use numbers")
    return float(array.reshape(()))


def _pair(arguments: dict) -> tuple[Any, Any]:
    values = list(arguments.values())
    return values[0], values[1]


def _add(walk, layer, arguments, shape):
    x, y = _pair(arguments)
    if is_tensor(x) and is_tensor(y):
        return walk.make(L.Add, like=layer)([x, y])
    x, constant = (x, y) if is_tensor(x) else (y, x)
    return affine(walk, layer, x, 1.0, _value(constant), _moved(constant, "offset"))


def _subtract(walk, layer, arguments, shape):
    x, y = _pair(arguments)
    if is_tensor(x) and is_tensor(y):
        return walk.make(L.Subtract, like=layer)([x, y])
    if is_tensor(x):
        return affine(walk, layer, x, 1.0, -_value(y), _moved(y, "offset"))
    return affine(walk, layer, y, -1.0, _value(x), _moved(x, "offset"))


def _multiply(walk, layer, arguments, shape):
    x, y = _pair(arguments)
    if is_tensor(x) and is_tensor(y):
        if x is y:
            return walk.make(Function, "square", like=layer)(x)
        return walk.make(L.Multiply, like=layer)([x, y])
    x, constant = (x, y) if is_tensor(x) else (y, x)
    return affine(walk, layer, x, _value(constant), 0.0, _moved(constant, "factor"))


def _divide(walk, layer, arguments, shape):
    x, y = _pair(arguments)
    if not is_tensor(y):
        return affine(walk, layer, x, 1.0 / _value(y), 0.0)
    inverse = walk.make(Function, "reciprocal", like=layer, role="reciprocal")(y)
    if is_tensor(x):
        return walk.make(L.Multiply, like=layer)([x, inverse])
    return affine(walk, layer, inverse, _value(x), 0.0)


def _power(walk, layer, arguments, shape):
    x, y = _pair(arguments)
    functions = {2.0: "square", 0.5: "sqrt", 1.0: "linear", -0.5: "rsqrt", -1.0: "reciprocal"}
    if is_tensor(y) or not is_tensor(x) or np.size(y) != 1:
        raise UnsupportedLayerError(layer, "a power that is no number", "use a number, as in x ** 2")
    power = float(np.reshape(y, ()))
    if power not in functions and not power > 0.0:
        raise UnsupportedLayerError(layer, f"the power {power}", "use a power above zero, -0.5 or -1")
    name, alpha = (functions[power], 0.0) if power in functions else ("power", power)
    return walk.make(Function, name, alpha, like=layer)(x)


def _extreme(kind, function: str):
    def rule(walk, layer, arguments, shape):
        x, y = _pair(arguments)
        if is_tensor(x) and is_tensor(y):
            return walk.make(kind, like=layer)([x, y])
        x, constant = (x, y) if is_tensor(x) else (y, x)
        return walk.make(Function, function, _number(layer, constant), like=layer)(x)

    return rule


def _value(constant: Any) -> np.ndarray:
    return np.asarray(constant, np.float64)


def _moved(constant: Any, part: str) -> tuple[str, ...]:
    """Whether training moves a constant: a variable."""
    return (part,) if getattr(constant, "trainable", False) else ()


def _pad(walk, layer, arguments, shape):
    x, pairs = _first(arguments), np.asarray(arguments["paddings"], np.int64).tolist()
    mode, constant = arguments.get("mode") or "CONSTANT", float(arguments.get("constant_values") or 0.0)
    if mode.upper() != "CONSTANT" or constant or any(pairs[0]):
        raise UnsupportedLayerError(layer, f"mode={mode!r}, constant_values={constant}", "pad with zeros")
    if len(pairs) == 3 and not any(pairs[2]):
        return walk.make(L.ZeroPadding1D, tuple(pairs[1]), like=layer)(x)
    if len(pairs) == 4 and not any(pairs[3]):
        return walk.make(L.ZeroPadding2D, (tuple(pairs[1]), tuple(pairs[2])), like=layer)(x)
    return walk.make(PadAxes, tuple(map(tuple, pairs[1:])), like=layer)(x)


def _transpose(walk, layer, arguments, shape):
    x, order = _first(arguments), arguments.get("perm", arguments.get("pattern"))
    order = list(range(len(x.shape)))[::-1] if order is None else [int(v) for v in np.asarray(order)]
    if order[0] != 0:
        raise UnsupportedLayerError(layer, f"perm={order}", "leave the batch axis first")
    return walk.make(L.Permute, tuple(order[1:]), like=layer)(x)


def _concatenate(walk, layer, arguments, shape):
    values = _named(arguments, "values", "tensors")
    if not all(is_tensor(v) for v in values):
        raise UnsupportedLayerError(layer, "a constant among its tensors", "use ZeroPadding for zeros")
    return walk.make(L.Concatenate, like=layer, axis=int(arguments["axis"]))(list(values))


def _tile(walk, layer, arguments, shape):
    x, counts = _first(arguments), [int(v) for v in np.asarray(arguments["multiples"])]
    if counts[0] != 1:
        raise UnsupportedLayerError(layer, f"multiples={counts}", "leave the batch axis as it is")
    for axis, count in enumerate(counts):
        if count > 1:
            x = L.Concatenate(axis, name=walk.name(layer.name))([x] * count)
    return x


def _stack(walk, layer, arguments, shape):
    axis = int(arguments["axis"])
    axis = axis + len(shape) if axis < 0 else axis
    one = (*shape[1:axis], 1, *shape[axis + 1 :])
    parts = [L.Reshape(one, name=walk.name(f"{layer.name}_part"))(v) for v in _first(arguments)]
    return walk.make(L.Concatenate, like=layer, axis=axis)(parts)


def _split(walk, layer, arguments, shape):
    x, axis = arguments["value"], int(arguments.get("axis") or 0)
    axis = axis + len(x.shape) if axis < 0 else axis
    found, begin = [], 0
    for part in shape:
        found.append(_slice(walk, layer, x, axis, begin, begin + part[axis], 1))
        begin += part[axis]
    return found


def _unstack(walk, layer, arguments, shape):
    x, axis = arguments["value"], int(arguments.get("axis") or 0)
    axis = axis + len(x.shape) if axis < 0 else axis
    return [shaped(walk, layer, _slice(walk, layer, x, axis, i, i + 1, 1), part) for i, part in enumerate(shape)]


def _slice(walk, layer, x, axis: int, begin: int, end: int, stride: int):
    if axis == 0:
        raise UnsupportedLayerError(layer, "a slice of the batch axis", "a device has one sample at a time")
    if begin == 0 and end == x.shape[axis] and stride == 1:
        return x
    return SliceAxis(axis, begin, end, stride, name=walk.name(layer.name))(x)


def _getitem(walk, layer, arguments, shape):
    values = list(arguments.values())
    x, spec = values[0], values[1]
    spec = list(spec) if isinstance(spec, (tuple, list)) else [spec]
    rank, spec = len(x.shape), [_index(v) for v in spec]
    if Ellipsis in spec:
        at = spec.index(Ellipsis)
        given = sum(v is not None for v in spec) - 1
        spec[at : at + 1] = [slice(None)] * (rank - given)
    axis = 0
    for item in spec:
        if item is None:
            continue
        length = x.shape[axis]
        if isinstance(item, slice) and item == slice(None):
            axis += 1
            continue
        if length is None or axis == 0 or not isinstance(item, (int, slice)):
            raise UnsupportedLayerError(layer, f"the slice {item} of axis {axis}", "slice fixed axes behind the batch")
        if isinstance(item, int):
            item = slice(item + length if item < 0 else item, (item + length if item < 0 else item) + 1)
        places = range(length)[item]
        if places.step < 1 or not places:
            raise UnsupportedLayerError(layer, f"the slice {item} of axis {axis}", "take at least one place, in order")
        x = _slice(walk, layer, x, axis, places.start, places.stop, places.step)
        axis += 1
    return shaped(walk, layer, x, shape)


def _cut(walk, layer, arguments, shape):
    """tf.slice, with counts from each beginning; -1 takes all that are left."""
    x, begins, sizes = list(arguments.values())[:3]
    return _cuts(walk, layer, x, begins, [None if n == -1 else b + n for b, n in zip(begins, sizes)], None)


def _strided_cut(walk, layer, arguments, shape):
    x, begins, ends, strides = list(arguments.values())[:4]
    masks = [name for name, value in arguments.items() if name.endswith("_mask") and value]
    if masks:
        raise UnsupportedLayerError(layer, ", ".join(masks), "slice by x[:, begin:end:stride]")
    return _cuts(walk, layer, x, begins, ends, strides)


def _cuts(walk, layer, x, begins, ends, strides):
    if any(is_tensor(v) or isinstance(v, Shape) for v in tf.nest.flatten([begins, ends, strides])):
        raise UnsupportedLayerError(layer, "places that the model computes", "slice fixed axes behind the batch")
    strides = strides if strides is not None else [1] * len(begins)
    spec = [slice(int(b), None if e is None else int(e), int(s)) for b, e, s in zip(begins, ends, strides)]
    if spec[0].start != 0 or spec[0].step != 1 or (spec[0].stop is not None and x.shape[0] is None):
        raise UnsupportedLayerError(layer, f"the slice {spec[0]} of axis 0", "a device has one sample at a time")
    for axis, item in list(enumerate(spec))[1:]:
        places = range(x.shape[axis])[item]
        if places.step < 1 or not places:
            raise UnsupportedLayerError(layer, f"the slice {item} of axis {axis}", "take at least one place, in order")
        x = _slice(walk, layer, x, axis, places.start, places.stop, places.step)
    return x


def _gather(walk, layer, arguments, shape):
    """Fixed places of an axis, in any order."""
    x, places = list(arguments.values())[:2]
    axis = int(arguments.get("axis") or 0)
    axis = axis + len(x.shape) if axis < 0 else axis
    if is_tensor(places) or arguments.get("batch_dims") or np.ndim(places) > 1:
        raise UnsupportedLayerError(layer, "places that the model computes", "give a list of numbers")
    found = [_slice(walk, layer, x, axis, int(i), int(i) + 1, 1) for i in np.reshape(places, -1)]
    y = found[0] if len(found) == 1 else walk.make(L.Concatenate, like=layer, axis=axis)(found)
    return shaped(walk, layer, y, shape)


def _index(value: Any) -> Any:
    """Keras keeps slices as dictionaries."""
    if isinstance(value, dict):
        return slice(value["start"], value["stop"], value["step"])
    return int(value) if isinstance(value, (np.integer, np.ndarray)) else value


def _same(walk, layer, arguments, shape):
    return _first(arguments)


def _cast(walk, layer, arguments, shape):
    """To another width of floats: values are what they were."""
    x, kind = _first(arguments), tf.as_dtype(arguments["dtype"])
    if not (kind.is_floating and x.dtype.is_floating):
        raise UnsupportedLayerError(layer, f"{x.dtype.name} -> {kind.name}", "keep float values, which it would round")
    return x


RULES = {
    "reshape": _reshape, "expand_dims": _reshape, "squeeze": _reshape, "keras.backend.reshape": _reshape,
    "__operators__.getitem": _getitem, "slice": _cut, "strided_slice": _strided_cut, "gather": _gather,
    "math.add": _add, "add": _add, "__operators__.add": _add, "nn.bias_add": _add,
    "math.subtract": _subtract, "subtract": _subtract,
    "math.multiply": _multiply, "multiply": _multiply, "math.divide": _divide, "math.truediv": _divide,
    "math.pow": _power,
    "math.maximum": _extreme(L.Maximum, "at_least"), "math.minimum": _extreme(L.Minimum, "at_most"),
    "pad": _pad, "transpose": _transpose, "concat": _concatenate, "stack": _stack, "tile": _tile, "split": _split,
    "unstack": _unstack,
    "identity": _same, "stop_gradient": _same, "cast": _cast, "ensure_shape": _same, "convert_to_tensor": _same,
    "nn.softmax": _softmax,
    "nn.leaky_relu": _leaky_relu, "nn.gelu": _gelu,
    "keras.backend.relu": _backend_relu, "keras.activations.relu": _backend_relu, "clip_by_value": _clip,
    **weight_ops.RULES,
    **value_ops.RULES,
}  # fmt: skip
"""By the function's public name in TensorFlow, without "compat.v1."."""
