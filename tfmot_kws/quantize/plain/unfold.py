"""The walk over a float model that puts plain layers in the place of everything that is made of some."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tf_keras.src.mixed_precision import autocast_variable

from tfmot_kws.keras import keras
from tfmot_kws.quantize.plain import compare, layer_rules, tensor_ops
from tfmot_kws.quantize.plain.layers import Penalty, TrainingOnly, copied
from tfmot_kws.quantize.recurrent_layers import check_call
from tfmot_kws.quantize.supported import IDLE, RECURRENT
from tfmot_kws.quantize.unsupported import OWN_CODE, UnsupportedLayerError

L = keras.layers
_TRACED = (Exception,)  # what somebody's own call may raise, on tensors without values


class PlainModel:
    """The result of ``plain_model``.

    Attributes:
      model: of known layers, and of those that stay as they are because nothing is known of them.
      refusals: what cannot be had otherwise, by name of the layer, with the reason.
    """

    def __init__(self, model: keras.Model, refusals: list[UnsupportedLayerError]):
        self.model, self.refusals = model, refusals


def plain_model(model: keras.Model, known: tuple[type, ...]) -> PlainModel:
    """A model of the same numbers, flat and without functions of tensors; itself where it is so already.

    Args:
      model: functional, sequential or, with a known input shape, subclassed tf_keras model; left as it is.
      known: classes of layers to be kept.
    """
    if is_functional(model) and all(type(layer) in (*known, L.InputLayer) for layer in model.layers):
        told = any("training" in node.call_kwargs or len(node.call_args) > 1 for node in nodes_of(model))
        if not told and not any(_needs_more(layer) for layer in model.layers):
            return PlainModel(model, [])
    return _Unfolding(known).run(model)


def is_functional(model: keras.Model) -> bool:
    """Whether the graph of its layers can be seen."""
    return bool(getattr(model, "_is_graph_network", False))


def nodes_of(model: keras.Model) -> list:
    """Calls of layers, in the order in which they run."""
    return [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]


def _has_own_activation(layer) -> bool:
    """Whether the layer ends in a function or layer that is none of Keras' own functions."""
    function = getattr(layer, "activation", None)
    if function is None or isinstance(layer, (keras.Model, TrainingOnly)):
        return False
    name = getattr(function, "__name__", "")
    return getattr(keras.activations, name, None) is not function


def _needs_more(layer: L.Layer) -> bool:
    """Whether a known layer does more than its quantized form knows of."""
    return _has_own_activation(layer) or getattr(layer, "activity_regularizer", None) is not None


class _Unfolding:
    """One walk; ``run`` may be called once."""

    def __init__(self, known: tuple[type, ...]):
        self.known = known
        self.copies: dict[int, L.Layer] = {}
        self.names: set[str] = set()
        self.refusals: list[UnsupportedLayerError] = []
        self.placeholders: list[Any] = []  # what stands for the outputs of refused layers
        self.dead_ends: list[Any] = []  # the inputs of refused layers
        self.rules = {**layer_rules.RULES, L.Lambda: _Unfolding._lambda}
        self.kept: list[Any] = []  # tensors that live as long as their ids count
        self.calls: list[tuple[Any, Any, Any]] = []  # of the outermost model: layer, old outputs, new outputs
        self.depth = 0  # of graphs inside of graphs
        self.training: bool | None = None  # what the caller of a nested model said
        self.ours = False  # whether training=False inside of a call is what we traced it with

    def run(self, model: keras.Model) -> PlainModel:
        """The plain form of a whole model."""
        written = model
        with _untouched(model):
            if not is_functional(model):
                model = self._seen_through(model)
                self.ours = True
            fresh = [self._input(t) for t in model.inputs]
            outputs = self.graph(model, fresh)
        nested = lambda like, flat: tf.nest.pack_sequence_as(like, flat) if len(flat) > 1 else flat[0]  # noqa: E731
        if self.refusals:  # a model that only serves to find the other offenders
            made = keras.Model([*fresh, *self.placeholders], [*outputs, *self.dead_ends], name=model.name)
            return PlainModel(made, self.refusals)
        if len(outputs) > 1:
            outputs = self._named_outputs(outputs, model.output_names)
        made = keras.Model(nested(model.input, fresh), nested(model.output, outputs), name=model.name)
        try:
            compare.check_numbers(written, made, self.calls if written is model else [])
        except UnsupportedLayerError as refusal:
            return PlainModel(made, [refusal])
        return PlainModel(made, [])

    def _named_outputs(self, outputs: list, names: list[str]) -> list:
        """Outputs that keep their names where a layer of another name now makes them."""
        found = []
        for tensor, name in zip(outputs, names):
            if tensor._keras_history.layer.name != name and name not in self.names:
                tensor = L.Activation("linear", name=self.name(name))(tensor)
            found.append(tensor)
        return found

    def _input(self, tensor):
        layer = tensor._keras_history.layer
        self.names.add(layer.name)
        shape = tuple(tensor.shape)
        return keras.Input(shape[1:], batch_size=shape[0], dtype=tensor.dtype, name=layer.name)

    def _seen_through(self, model: keras.Model) -> keras.Model:
        """A subclassed model's ``call`` as a functional model."""
        shape, kind = getattr(model, "_build_input_shape", None), f"{type(model).__module__}.{type(model).__name__}"
        what = f"model {model.name!r} is a subclassed model ({kind})"
        way_out = "write it with the functional API, keras.Model(inputs, outputs)"
        if not isinstance(shape, (tuple, list, tf.TensorShape)) or any(isinstance(d, (tuple, list)) for d in shape):
            raise TypeError(
                f"{what} that has seen no input of one tensor: call it once on a batch of clips, or {way_out}"
            )
        x = keras.Input(tuple(shape)[1:])
        try:
            inner = keras.Model(x, model.call(x), name=model.name)
        except _TRACED as error:
            raise TypeError(f"{what} whose call cannot be followed ({_first_line(error)}): {way_out}") from error
        self.kept.append(inner)
        return inner

    # -- the walk ------------------------------------------------------------------------------------------------

    def graph(self, model: keras.Model, inputs: list) -> list:
        """New tensors of the outputs of a functional model, on new tensors of its inputs."""
        self.kept.append(model)
        values = {id(old): new for old, new in zip(model.inputs, inputs)}
        self.depth += 1
        for node in nodes_of(model):
            if node.is_input:
                continue
            swap = lambda v: values.get(id(v), v)  # noqa: E731
            args, kwargs = (tf.nest.map_structure(swap, part) for part in (node.call_args, node.call_kwargs))
            try:
                out = self._node(node, args, kwargs)
            except UnsupportedLayerError as refusal:
                if any(t.shape.rank is None for t in tf.nest.flatten(node.outputs)):
                    raise  # what stands behind it has no shape to be looked at with
                self.refusals.append(refusal)
                self.dead_ends += [t for t in tf.nest.flatten((args, kwargs)) if tensor_ops.is_tensor(t)]
                out = tf.nest.map_structure(self._placeholder, node.outputs)
            if self.depth == 1:
                self.calls.append((node.layer, node.outputs, out))
            for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(out)):
                values[id(old)] = new
        self.depth -= 1
        return [values[id(t)] for t in model.outputs]

    def _placeholder(self, tensor):
        """Something of the shape of what a refused layer gives, so that the walk finds the other offenders too."""
        shape = tuple(tensor.shape)
        self.placeholders.append(keras.Input(shape[1:], batch_size=shape[0], dtype=tensor.dtype))
        return self.placeholders[-1]

    def _node(self, node, args: tuple, kwargs: dict) -> Any:
        try:
            if isinstance(node.layer, tensor_ops.LAYERS):
                out = tensor_ops.emit(self, node, args, kwargs)
            else:
                out = self.layer(node.layer, args, kwargs)
        except UnsupportedLayerError:
            raise
        except _TRACED as error:
            what = f"a call that cannot be followed ({_first_line(error)})"
            raise UnsupportedLayerError(node.layer, what, OWN_CODE) from error
        for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(out)):
            if tensor_ops.is_tensor(new) and not new.shape[1:].is_compatible_with(old.shape[1:]):
                what = f"a result of shape {tuple(old.shape)}, where {tuple(new.shape)} was expected"
                raise UnsupportedLayerError(node.layer, what, OWN_CODE)
        return out

    def layer(self, layer: L.Layer, args: tuple, kwargs: dict) -> Any:
        """New tensors of a layer of any class on new tensors."""
        kind = type(layer)
        args, kwargs, training = self._told(layer, args, kwargs)
        regular = getattr(layer, "activity_regularizer", None) if kind is not L.ActivityRegularization else None
        if regular is not None and (kind in self.rules or kind in self.known):
            return self._regularized(layer, regular, self._plain(layer, args, kwargs, training))
        return self._plain(layer, args, kwargs, training)

    def _plain(self, layer: L.Layer, args: tuple, kwargs: dict, training: bool | None) -> Any:
        kind = type(layer)
        idle = kind in layer_rules.TRAINING_ONLY or kind in IDLE
        if training is True and (idle or kind is L.BatchNormalization):
            what = "take the argument out of the call: it works in training alone, as on the device it does nothing"
            if kind is L.BatchNormalization:
                what = "take the argument out of the call: a device knows no batches, so it needs the moving statistics"
            raise UnsupportedLayerError(layer, "training=True in its call", what)
        if idle and training is False:
            return args[0]
        if kind in layer_rules.TRAINING_ONLY:
            return self.training_only(layer, args[0])
        if kind in self.rules:
            if kind is not L.Lambda:
                _check_arguments(layer)
            return self.rules[kind](self, layer, *args)
        if isinstance(layer, keras.Model) and is_functional(layer):
            return self._nested(layer, args, training)
        if kind in RECURRENT:
            check_call(layer, args, kwargs)
        if kind in self.known:
            flag = {"training": False} if training is False and kind is L.BatchNormalization else {}
            return self.apply(layer, *args, **kwargs, **flag)
        if _is_own(layer):
            return self._unknown(layer, args, kwargs, training)
        raise UnsupportedLayerError(layer)

    def _told(self, layer: L.Layer, args: tuple, kwargs: dict) -> tuple[tuple, dict, bool | None]:
        """A call without its argument ``training``, and what that says: True, False, or None for the caller's mode."""
        kwargs, given = dict(kwargs), None
        if layer._expects_training_arg:
            given = kwargs.pop("training", None)
            if len(args) > 1 and isinstance(args[-1], (bool, int)):
                args, given = args[:-1], args[-1]
        given = None if given is None or tensor_ops.is_tensor(given) else bool(given)
        if given is None or (given is False and self.ours):
            given = self.training
        return args, kwargs, given

    def _regularized(self, layer: L.Layer, regularizer: Any, out: Any) -> Any:
        """A penalty of a layer's values is one of the values behind it."""
        penalty = Penalty(regularizer, name=f"{layer.name}_penalty")
        return self.make(TrainingOnly, penalty, like=layer, role="activity")(out)

    @contextlib.contextmanager
    def _mode(self, training: bool | None, ours: bool) -> Iterator[None]:
        """Walks what is inside of a call that was told ``training``."""
        before = self.training, self.ours, self.depth
        self.training, self.ours = training, ours
        try:
            yield
        finally:
            self.training, self.ours, self.depth = before

    # -- what rules build with -----------------------------------------------------------------------------------

    def name(self, wanted: str) -> str:
        """A name that no other layer has."""
        name, number = wanted, 1
        while name in self.names:
            number += 1
            name = f"{wanted}_{number}"
        self.names.add(name)
        return name

    def make(self, kind: type, *args: Any, like: L.Layer, role: str = "", **kwargs: Any) -> L.Layer:
        """A new layer, named after an old one; one for each role, however often the old one is called."""
        key = (id(like), role)
        if key not in self.copies:
            name = self.name(f"{like.name}_{role}" if role else like.name)
            self.copies[key] = kind(*args, name=name, **kwargs)
        return self.copies[key]

    def apply(self, layer: L.Layer, *args: Any, **kwargs: Any) -> Any:
        """A layer's copy, with its weights, on new tensors."""
        function = layer.activation if _has_own_activation(layer) else None
        fresh = (id(layer), "") not in self.copies
        new = self.make(_copying(layer, function), like=layer)
        out = new(*args, **kwargs)
        if fresh:
            new.set_weights(layer.get_weights())
        return out if function is None else self._own_activation(layer, function, out)

    def _own_activation(self, layer: L.Layer, function: Callable, x):
        """The layers that an activation of somebody's own is made of."""
        if isinstance(function, L.Layer):
            return self._trace(function, lambda v: function(v), (x,))
        return self._trace(layer, function, (x,), f"activation {getattr(function, '__name__', function)!r}")

    def training_only(self, layer: L.Layer, x):
        """The layer where training needs it."""
        return self.make(TrainingOnly, copied(layer), like=layer)(x)

    # -- layers around layers ------------------------------------------------------------------------------------

    def _nested(self, model: keras.Model, args: tuple, training: bool | None) -> Any:
        with self._mode(training, self.ours):
            outputs = self.graph(model, tf.nest.flatten(args[0]))
        return outputs[0] if len(outputs) == 1 else outputs

    def _lambda(self, layer: L.Lambda, *args):
        return self._trace(layer, lambda *x: layer.function(*x, **layer.arguments), args)

    def _unknown(self, layer: L.Layer, args: tuple, kwargs: dict, training: bool | None):
        """A class of somebody's own: the layers that its ``call`` is made of."""
        flag = {"training": False} if layer._expects_training_arg else {}
        if flag and training is True:
            raise UnsupportedLayerError(layer, "training=True in its call", "take the argument out of the call")

        kind = layer._compute_dtype_object

        def cast(v: Any) -> Any:
            return tf.cast(v, kind) if tf.is_tensor(v) and v.dtype.is_floating and v.dtype != kind else v

        def call(args: tuple, kwargs: dict):
            if layer._autocast and kind is not None and kind.is_floating:  # as Keras does it around each call
                args = (tf.nest.map_structure(cast, args[0]), *args[1:])
            with autocast_variable.enable_auto_cast_variables(kind):
                return layer.call(*args, **kwargs, **flag)

        with self._mode(training, bool(flag)):
            out = self._trace(layer, call, (args, kwargs), check=True)
        if flag and not layer.weights and out is args[0] and training is not False:
            return self.training_only(layer, args[0])
        return out

    def _trace(self, layer: L.Layer, function: Callable, args: tuple, found: str = "", check: bool = False) -> Any:
        """What a function of tensors does, layer by layer."""
        inputs = [v for v in tf.nest.flatten(args) if tensor_ops.is_tensor(v)]
        fresh = [keras.Input(tuple(t.shape)[1:], batch_size=t.shape[0], dtype=t.dtype) for t in inputs]

        def called(values: list) -> Any:
            given = iter(values)
            swap = lambda v: next(given) if tensor_ops.is_tensor(v) else v  # noqa: E731
            return function(*tf.nest.map_structure(swap, args))

        with _untouched(layer):
            try:
                out = called(fresh)
                inner = keras.Model(fresh, out)
            except _TRACED as error:
                what = found or "a call"
                raise UnsupportedLayerError(
                    layer, f"{what} that cannot be followed ({_first_line(error)})", OWN_CODE
                ) from error
            if check:
                _check_trace(layer, inner, called)
            try:
                outputs = self.graph(inner, inputs)
            except UnsupportedLayerError as error:  # the other refusals are kept, with what stands behind them
                raise UnsupportedLayerError(
                    layer, f"a call that cannot be followed ({_first_line(error)})", OWN_CODE
                ) from error
        return tf.nest.pack_sequence_as(out, outputs) if isinstance(out, (list, tuple, dict)) else outputs[0]


_NOT_OWN = ("keras", "tf_keras", "tensorflow", "tensorflow_model_optimization", "tfmot_kws")


def _is_own(layer: L.Layer) -> bool:
    """Whether a layer's class is neither Keras' nor this package's."""
    return type(layer).__module__.split(".")[0] not in _NOT_OWN


def _check_arguments(layer: L.Layer) -> None:
    """Refuses what gets lost where a layer becomes others: penalties and bounds of its weights."""
    for name, value in vars(layer).items():
        if value is not None and name[0] != "_" and name.endswith(("_constraint", "_regularizer")):
            what = f"{name}={type(value).__name__}"
            raise UnsupportedLayerError(layer, what, "take it away: it is not kept where a layer becomes others")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"


def _check_trace(layer: L.Layer, inner: keras.Model, called: Callable) -> None:
    """Refuses a trace that does not give what the layer gives: one whose call looks at more than its tensors."""
    x = [compare.features(t) for t in inner.inputs]
    if compare.differ(called(x), inner(x, training=False), compare.rounding(inner)):
        raise UnsupportedLayerError(layer, "a call that gives other numbers than the layers that it calls", OWN_CODE)


def _copying(layer: L.Layer, function: Callable | None) -> Callable:
    """Makes a layer of the same configuration, linear where its activation is taken apart."""

    def make(name: str) -> L.Layer:
        if function is not None:
            layer.activation = keras.activations.linear
        try:
            config = layer.get_config()
        finally:
            if function is not None:
                layer.activation = function
        if config.get("activity_regularizer") is not None:  # the layer behind it has it
            config = {**config, "activity_regularizer": None}
        return type(layer).from_config({**config, "name": name, "dtype": "float32"})

    return make


@contextlib.contextmanager
def _untouched(layer: L.Layer) -> Iterator[None]:
    """Forgets calls of the layers inside of a layer, so that somebody's own model stays as it was."""
    parts = list(layer._flatten_layers(recursive=True, include_self=True))
    before = [(part._inbound_nodes, len(part._inbound_nodes)) for part in parts]
    try:
        yield
    finally:
        for nodes, count in before:
            del nodes[count:]
