"""Keras 3 models rebuilt as tf_keras models, weights and all.

Both name their layers alike. A layer's arguments are taken over where tf_keras has the same; an operation on tensors
(``keras.ops``) becomes the function of TensorFlow that does the same, which ``tensor_ops`` then takes apart.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers


def is_model(model: Any) -> bool:
    """Whether it is a model of Keras 3; Keras 3 is not imported for the question."""
    module = sys.modules.get("keras")
    kind = getattr(module, "Model", None)
    return isinstance(kind, type) and isinstance(model, kind) and not isinstance(model, keras.Model)


def is_file(path: str | os.PathLike) -> bool:
    """Whether it is a .keras file that Keras 3 wrote."""
    if not os.path.isfile(path) or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if "metadata.json" not in archive.namelist():
            return False
        version = json.loads(archive.read("metadata.json")).get("keras_version", "")
    return str(version).split(".")[0] == "3"


def load(path: str | os.PathLike, **kwargs: Any) -> keras.Model:
    """A .keras file of Keras 3 as a tf_keras model.

    Args:
      path: of the file.
      **kwargs: ``custom_objects`` and ``safe_mode`` as for ``keras.models.load_model``; the model is not compiled.

    Raises:
      ImportError: Keras 3 is not installed.
      UnsupportedLayerError: layers or operations that tf_keras has not; the message names all of them.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        import keras as newer
    except ImportError as error:
        raise ImportError(f"{path} is a file of Keras 3, which is not installed: pip install 'keras>=3'") from error
    if not newer.__version__.startswith("3"):
        raise ImportError(f"{path} is a file of Keras 3, but keras {newer.__version__} is installed")
    return rebuilt(newer.saving.load_model(path, **{**kwargs, "compile": False}))


def rebuilt(model: Any) -> keras.Model:
    """A built functional or sequential Keras 3 model as a tf_keras model of the same numbers.

    Args:
      model: of any Keras 3 backend; left as it is.

    Raises:
      TypeError: a subclassed model, or a sequential one without an input shape.
      UnsupportedLayerError: layers or operations that tf_keras has not; the message names all of them.
    """
    return _Rebuilding().model(model)


class _Rebuilding:
    """One model; nested ones are models again."""

    def __init__(self) -> None:
        self.layers: dict[int, Any] = {}  # id of a layer or model -> the new one

    def model(self, model: Any) -> keras.Model:
        """The tf_keras model; ``UnsupportedLayerError`` names all that it cannot have."""
        problems: list[UnsupportedLayerError] = []
        graph = getattr(model, "_functional", None) or model
        if not hasattr(graph, "_nodes_by_depth"):
            raise TypeError(
                f"Keras 3 model {model.name!r} ({type(model).__name__}) shows no layers: write it with the functional "
                "API, or give a Sequential an Input"
            )
        values: dict[int, Any] = {}
        for tensor in graph.inputs:
            operation = tensor._keras_history.operation
            values[id(tensor)] = keras.Input(tuple(tensor.shape)[1:], dtype=tensor.dtype, name=operation.name)
        inputs = [values[id(t)] for t in graph.inputs]
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.input_tensors:
                    self._node(node, values, problems)
        if problems:
            raise UnsupportedLayerError.of_all(problems)
        outputs = [values[id(t)] for t in graph.outputs]
        single = lambda v: v[0] if len(v) == 1 else v  # noqa: E731
        return keras.Model(single(inputs), single(outputs), name=model.name)

    def _node(self, node: Any, values: dict[int, Any], problems: list[UnsupportedLayerError]) -> None:
        swap = lambda v: values.get(id(v), v)  # noqa: E731
        args, kwargs = (tf.nest.map_structure(swap, v) for v in (node.arguments.args, node.arguments.kwargs))
        kwargs = {key: v for key, v in kwargs.items() if key not in ("training", "mask") and v is not None}
        try:
            out = self._called(node.operation, args, kwargs)
        except UnsupportedLayerError as problem:
            problems.append(problem)  # the walk goes on, to find the others
            out = [keras.Input(tuple(t.shape)[1:], dtype=t.dtype) for t in node.output_tensors]
        for old, new in zip(node.output_tensors, tf.nest.flatten(out)):
            values[id(old)] = new

    def _called(self, operation: Any, args: tuple, kwargs: dict) -> Any:
        kind = type(operation).__name__
        if hasattr(operation, "get_weights"):
            if id(operation) not in self.layers:
                nested = hasattr(operation, "_functional") or hasattr(operation, "_nodes_by_depth")
                self.layers[id(operation)] = self.model(operation) if nested else self._built(operation, args)
            try:
                return self.layers[id(operation)](*args, **kwargs)
            except (AttributeError, TypeError, ValueError) as error:
                raise UnsupportedLayerError(
                    operation, f"a call that tf_keras refuses ({type(error).__name__}: {error})", _BUILD
                ) from error
        if kind not in OPERATIONS:
            raise UnsupportedLayerError(
                operation, "an operation of Keras 3", "use a layer, or a function that docs/how-to/own_model.md lists"
            )
        return OPERATIONS[kind](operation, *args, **kwargs)

    def _built(self, layer: Any, args: tuple) -> L.Layer:
        """The layer of tf_keras, with its weights."""
        new = self._made(layer)
        if not new.built:
            new.build(tf.nest.map_structure(lambda t: t.shape, args[0]))
        # Keras 3 counts the state of a random generator as a weight
        new.set_weights([np.asarray(v) for v in layer.weights if "seed_generator" not in v.path])
        return new

    def _made(self, layer: Any) -> L.Layer:
        name = type(layer).__name__
        kind = getattr(L, name, None)
        if kind is None or type(layer).__module__.split(".")[0] != "keras":
            raise UnsupportedLayerError(layer, "no namesake in tf_keras", _BUILD)
        if kind is L.Lambda:
            return L.Lambda(layer.function, arguments=layer.arguments, name=layer.name)
        options = {}
        known = _arguments(kind)
        for key, value in layer.get_config().items():
            key = _RENAMED.get((name, key), _RENAMED.get(("", key), key))
            if key in ("layer", "cell"):
                options[key] = self._made(getattr(layer, key, None) or layer.forward_layer)
            elif key == "cells":
                options[key] = [self._made(cell) for cell in layer.cells]
            elif key in known and not key.endswith("_initializer"):
                options[key] = _plain(key, value, layer)
        return kind(**{**options, "name": layer.name, "trainable": layer.trainable})


_BUILD = "build this part of the model with tf_keras (from tfmot_kws.keras import keras)"
_RENAMED = {
    ("LeakyReLU", "negative_slope"): "alpha",
    ("GaussianDropout", "seed"): "",
    ("", "synchronized"): "",
    ("", "dtype"): "",
    ("", "seed"): "",
    ("", "quantization_config"): "",
}
"""Arguments that tf_keras calls otherwise, or has not; by class, or for all."""


def _arguments(kind: type) -> set[str]:
    """Names of a class's arguments and of those of the classes that it is made of."""
    found: set[str] = set()
    for base in inspect.getmro(kind):
        if base is not object and "__init__" in vars(base):
            found |= set(inspect.signature(base.__init__).parameters)
    return found - {"self", "args", "kwargs", "name", "trainable", "dtype", ""}


def _plain(key: str, value: Any, layer: Any) -> Any:
    """A value of a Keras 3 configuration as tf_keras takes it."""
    if "activation" in key and isinstance(value, str):
        return _activation(value)
    if not isinstance(value, dict) or "class_name" not in value:
        return tuple(value) if isinstance(value, list) and key != "axis" else value
    name, config = value["class_name"], value.get("config")
    if name == "function":
        name, config = config, None
    if "activation" in key:
        return _activation(str(name))
    if "layer" in key:
        raise UnsupportedLayerError(layer, f"{key}={name!r}", _BUILD)
    for part in (keras.regularizers, keras.constraints):
        if key.endswith(part.__name__.rsplit(".", 1)[-1][:-1]):
            return getattr(part, name)(**(config or {}))
    return None


def _activation(name: str) -> Any:
    """tf_keras' activation of that name; hard_sigmoid is another function there, so it goes by what it computes."""
    if name == "hard_sigmoid":
        return _hard_sigmoid
    return {"silu": "swish", "hard_silu": _hard_silu}.get(name, name)


def _hard_sigmoid(x):
    return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


def _hard_silu(x):
    return x * (tf.nn.relu6(x + 3.0) * (1.0 / 6.0))


def _of(function: Callable, *names: str) -> Callable:
    """An operation whose arguments beyond its tensors are attributes of its object."""
    return lambda op, *args, **kwargs: function(*args[:1], *(getattr(op, name) for name in names))


def _binary(function: Callable) -> Callable:
    return lambda op, x1, x2: function(x1, x2)


OPERATIONS: dict[str, Callable] = {
    "Add": _binary(tf.add), "Subtract": _binary(tf.subtract), "Multiply": _binary(tf.multiply),
    "TrueDivide": _binary(tf.divide), "Divide": _binary(tf.divide), "Power": _binary(tf.pow),
    "Maximum": _binary(tf.maximum), "Minimum": _binary(tf.minimum), "Matmul": _binary(tf.matmul),
    "ExpandDims": _of(tf.expand_dims, "axis"), "Squeeze": _of(tf.squeeze, "axis"),
    "Transpose": _of(tf.transpose, "axes"),
    "Reshape": lambda op, x, *_: tf.reshape(x, (-1, *(d for d in op.newshape[1:]))),
    "Mean": _of(tf.reduce_mean, "axis", "keepdims"), "Max": _of(tf.reduce_max, "axis", "keepdims"),
    "Sum": _of(tf.reduce_sum, "axis", "keepdims"),
    "Concatenate": _of(tf.concat, "axis"), "Stack": _of(tf.stack, "axis"),
    "GetItem": lambda op, x, key: x[key],
    "Pad": lambda op, x, *_: tf.pad(x, op.pad_width) if op.mode == "constant" else tf.pad(x, op.pad_width, op.mode),
    "Clip": _of(tf.clip_by_value, "x_min", "x_max"),
    "Relu": _of(tf.nn.relu), "Relu6": _of(tf.nn.relu6), "Sigmoid": _of(tf.sigmoid), "Tanh": _of(tf.tanh),
    "Silu": _of(tf.nn.silu), "Gelu": lambda op, x: tf.nn.gelu(x, op.approximate), "Elu": _of(tf.nn.elu),
    "Selu": _of(tf.nn.selu), "Softplus": _of(tf.math.softplus), "Softsign": _of(tf.nn.softsign),
    "LeakyRelu": lambda op, x: tf.nn.leaky_relu(x, op.negative_slope), "Softmax": _of(tf.nn.softmax, "axis"),
    "Exp": _of(tf.exp), "Abs": _of(tf.abs), "Absolute": _of(tf.abs), "Negative": _of(tf.negative),
    "Square": _of(tf.square), "Sqrt": _of(tf.sqrt),
}  # fmt: skip
"""By the class of the operation."""
