"""Rebuilds a float tf_keras model of quantized layers: one layer for each op of the exported graph.

Dense and convolution layers take in the batch normalization and the ReLU that follow them; other layers get their
quantized form; layers that only move data (Flatten, pooling by maximum, ...) stay as they are between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize import elementwise as qe
from tfmot_kws.quantize import layers as ql
from tfmot_kws.quantize import ops as qo
from tfmot_kws.quantize import supported
from tfmot_kws.quantize.functions import BOUNDS
from tfmot_kws.quantize.layer_bits import LayerBits
from tfmot_kws.quantize.layer_parts import FoldedLayer
from tfmot_kws.quantize.limits import check_node
from tfmot_kws.quantize.plain.layers import ChannelAffine, Scale, TrainingOnly
from tfmot_kws.quantize.recurrent_layers import check_call, quantized_form
from tfmot_kws.quantize.sound_inputs import check_sound, sound_of
from tfmot_kws.quantize.unsupported import UnsupportedLayerError
from tfmot_kws.quantize.waveform import QuantizeSamples
from tfmot_kws.quantize.waveform import quantized_form as waveform_form
from tfmot_kws.quantize.wires import Wire, pairs

L = keras.layers


def rewrite(model: keras.Model, quantized: set[str], bits_of: Callable[[keras.layers.Layer], LayerBits]) -> keras.Model:
    """The quantized model, with the float model's weights.

    Args:
      model: functional or built sequential tf_keras model.
      quantized: names of the layers to quantize; others stay in float.
      bits_of: widths of a layer.

    Raises:
      UnsupportedLayerError: a layer to quantize is of no supported kind.
    """
    return Rewriter(model, quantized, bits_of).run()


class Rewriter:
    """Walks a float model and builds the quantized one; a subclass may build it of other layers."""

    DENSE, CONV = ql.QuantizedDense, ql.QuantizedConv

    def __init__(self, model, quantized, bits_of):
        self.model, self.quantized, self.bits_of = model, quantized, bits_of
        self.wires: dict[int, Wire] = {}
        self.layers: dict[tuple[int, str], keras.layers.Layer] = {}
        self.skip: set[int] = set()
        self.boundaries: dict[tuple[int, bool], Wire] = {}
        self.nodes = [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]
        self.calls: dict[int, int] = {}
        self.readers: dict[int, list] = {}
        for node in self.nodes:
            self.calls[id(node.layer)] = self.calls.get(id(node.layer), 0) + 1
            for tensor in node.keras_inputs:
                self.readers.setdefault(id(tensor), []).append(node)
        self.outputs = {id(t) for t in model.outputs}
        self.settled = {id(node.layer) for node in self.nodes if node.call_kwargs.get("training") is False}
        self.problems: list[UnsupportedLayerError] = []
        self.sound = sound_of(self.nodes, self.readers)
        self.taken = set(model.output_names) if len(model.outputs) > 1 else set()

    def run(self) -> keras.Model:
        """The quantized model; ``UnsupportedLayerError`` names all layers that have no quantized form."""
        for node in self.nodes:
            if id(node) in self.skip:
                continue
            if node.is_input:
                shape, dtype = node.layer.input_shape[0], node.layer.dtype
                fresh = keras.Input(shape[1:], batch_size=shape[0], dtype=dtype, name=node.layer.name)
                self.wires[id(node.outputs)] = Wire(fresh)
            else:
                try:
                    self._emit(node)
                except UnsupportedLayerError as problem:
                    self.problems.append(problem)
                    for tensor in tf.nest.flatten(node.outputs):  # the walk goes on, to find the others
                        self.wires[id(tensor)] = Wire(keras.Input(tuple(tensor.shape)[1:], dtype=tensor.dtype))
        if self.problems:
            raise UnsupportedLayerError.of_all(self.problems)
        outputs = []
        for tensor, name in zip(self.model.outputs, self.model.output_names):
            wire = self.wires[id(tensor)]
            label, value = name if self.taken else "dequantize", wire.value
            if wire.scale is not None:
                value = qo.Dequantize(name, name=label)([wire.value, wire.scale])
            outputs.append(value)
        nested = tf.nest.pack_sequence_as(self.model.output, outputs) if len(outputs) > 1 else outputs[0]
        inputs = [self.wires[id(t)].value for t in self.model.inputs]
        packed = tf.nest.pack_sequence_as(self.model.input, inputs) if len(inputs) > 1 else inputs[0]
        return keras.Model(packed, nested, name=self.model.name)

    # -- wires ---------------------------------------------------------------------------------------------------

    def _quantized(self, tensor) -> Wire:
        """The wire as steps and scale; a float one is quantized once, whoever reads it."""
        wire = self.wires[id(tensor)]
        if wire.scale is not None:
            return wire
        key = (id(tensor), True)
        if key not in self.boundaries:
            producer = tensor._keras_history.layer
            name = f"quantize_{producer.name}"
            bits = self._bits(producer).activation_bits
            learned = not isinstance(supported.input_behind(tensor)._keras_history.layer, L.InputLayer)
            entry = qo.QuantizeInput(learned_range=learned, activation_bits=bits, name=name)
            if id(tensor) in self.sound:
                entry = QuantizeSamples(name=name)
            self.boundaries[key] = Wire(*entry(wire.value))
        return self.boundaries[key]

    def _float(self, tensor):
        wire = self.wires[id(tensor)]
        if wire.scale is None:
            return wire.value
        key = (id(tensor), False)
        if key not in self.boundaries:
            name = f"dequantize_{tensor._keras_history.layer.name}"
            self.boundaries[key] = Wire(qo.Dequantize(name=name)([wire.value, wire.scale]))
        return self.boundaries[key].value

    def _follower(self, node, *classes):
        """The one node that reads this node's output, if it is of one of the classes and nothing else can see it."""
        tensor = node.outputs
        readers = self.readers.get(id(tensor), [])
        if len(readers) != 1 or id(tensor) in self.outputs or self.calls[id(node.layer)] != 1:
            return None
        follower = readers[0]
        single = self.calls[id(follower.layer)] == 1 and type(follower.layer) in classes
        if not single or follower.layer.name not in self.quantized:
            return None
        check_node(follower)
        return follower

    def _once(self, layer, role, make):
        """One new layer for each old one, however often that is called."""
        key = (id(layer), role)
        fresh = key not in self.layers
        if fresh:
            self.layers[key] = new = make()
            if not isinstance(new, FoldedLayer):  # these know which of their parts are frozen, see _common
                new.trainable = layer.trainable
        return self.layers[key], fresh

    def _known(self, layer, wires) -> tuple[int, int] | None:
        """The range of a layer that cannot leave that of its inputs; None where not known, or not of all its calls."""
        bounds = [wire.bounds for wire in wires]
        return None if None in bounds or self.calls[id(layer)] != 1 else min(bounds)

    def _name(self, name: str) -> str:
        return f"{name}_quantized" if name in self.taken else name

    def _bits(self, layer) -> LayerBits:
        return self.bits_of(layer)

    # -- layers --------------------------------------------------------------------------------------------------

    def _emit(self, node) -> None:
        layer = node.layer
        if layer.name not in self.quantized:
            self._emit_float(node)
            return
        kind = type(layer)
        check_node(node)
        if any(isinstance(v, tf.Tensor) or hasattr(v, "_keras_history") for v in tf.nest.flatten(node.call_kwargs)):
            raise UnsupportedLayerError(layer, "tensors as keyword arguments", "pass them as positional inputs")
        if kind in supported.WEIGHTED:
            self._emit_weighted(node)
        elif kind in supported.RECURRENT:
            self._emit_recurrent(node)
        elif kind in supported.WAVEFORM:
            self._emit_waveform(node)
        elif kind is L.BatchNormalization:
            self._emit_batch_norm(node)
        elif kind in supported.ACTIVATIONS:
            wire = self._quantized(node.keras_inputs[0])
            self.wires[id(node.outputs)] = self._function(layer, wire, *supported.activation_of(layer), layer.name)
        elif kind in (*supported.MERGES, L.Subtract, L.Average):
            self._emit_merge(node)
        elif kind in supported.EXTREMES:
            self._emit_extreme(node)
        elif kind is Scale:
            self._emit_scale(node)
        elif kind is ChannelAffine:
            self._emit_channel_affine(node)
        elif kind is TrainingOnly:
            self._emit_training_only(node)
        elif kind is L.Concatenate:
            self._emit_concatenate(node)
        elif kind in supported.AVERAGES:
            self._emit_average(node)
        elif kind in supported.MOVERS or kind in supported.IDLE:
            supported.check_channels_last(layer)
            if getattr(layer, "interpolation", "nearest") != "nearest":
                raise UnsupportedLayerError(layer, f"interpolation={layer.interpolation!r}", "use 'nearest'")
            wire = self._quantized(node.keras_inputs[0])
            new, _ = self._once(layer, "move", lambda: kind.from_config({**layer.get_config(), "dtype": "float32"}))
            new._name = self._name(layer.name)
            self.wires[id(node.outputs)] = wire._replace(value=new(wire.value))
        else:
            raise UnsupportedLayerError(layer)

    def _emit_float(self, node) -> None:
        layer = node.layer
        copy = layer.copy if isinstance(layer, TrainingOnly) else None  # its class may be nobody's but the model's
        make = lambda: copy(layer.name) if copy else type(layer).from_config(layer.get_config())  # noqa: E731
        new, fresh = self._once(layer, "float", make)
        by_id = {id(t): self._float(t) for t in node.keras_inputs}
        swap = lambda v: by_id.get(id(v), v)  # noqa: E731
        args, kwargs = (tf.nest.map_structure(swap, part) for part in (node.call_args, node.call_kwargs))
        out = new(*args, **kwargs)
        if fresh:
            new.set_weights(layer.get_weights())
        for old, fresh_tensor in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(out)):
            self.wires[id(old)] = Wire(fresh_tensor)

    def _fuse(self, node, activation):
        """Batch norm and ReLU that a layer takes in: (batch norm layer or None, activation, last node)."""
        norm, last = None, node
        if activation == "linear":
            follower = self._follower(last, L.BatchNormalization)
            if follower is not None and supported.is_foldable(follower):
                self.skip.add(id(follower))
                norm, last = follower.layer, follower
            activation, last = self._activation_after(last)
        return norm, activation, last

    def _activation_after(self, node):
        """(activation, last node): the ReLU or the like behind a node, taken in where its layer knows it."""
        follower = self._follower(node, L.ReLU, L.Activation)
        activation = self._inside(follower.layer) if follower is not None else None
        if activation is None:
            return "linear", node
        self.skip.add(id(follower))
        return activation, follower

    def _inside(self, layer) -> str | None:
        """The activation of a layer, where a quantized layer computes it itself."""
        name = supported.activation_of(layer)[0]
        return name if name in self.DENSE.ACTIVATIONS else None

    def _emit_weighted(self, node) -> None:
        layer = node.layer
        supported.check_channels_last(layer)
        if getattr(layer, "groups", 1) != 1 and not isinstance(layer, (L.DepthwiseConv1D, L.DepthwiseConv2D)):
            raise UnsupportedLayerError(layer, f"groups={layer.groups}", "use groups=1 or a DepthwiseConv layer")
        wire = self._quantized(node.keras_inputs[0])
        function, alpha = supported.activation_of(layer)
        inside = self._inside(layer) or "linear"
        norm, inside, last = self._fuse(node, inside) if function == inside else (None, inside, node)
        if isinstance(layer, (L.SeparableConv1D, L.SeparableConv2D)):
            wire = self._depthwise_half(layer, wire)
        name = self._name(layer.name)
        new, fresh = self._once(layer, "main", lambda: self._weighted(layer, norm, inside, name))
        wire = Wire(*new([wire.value, wire.scale]))
        if fresh:
            new.load_float_kernel(
                supported.kernel_of_layer(layer).numpy(), layer.bias.numpy() if layer.use_bias else None
            )
            if norm is not None:
                new.load_float_batch_norm(norm)
        if function not in self.DENSE.ACTIVATIONS:
            wire = self._function(layer, wire, function, alpha, f"{layer.name}_{function}")
        self.wires[id(last.outputs)] = wire

    def _common(self, layer, norm, activation, use_bias):
        config = norm.get_config() if norm is not None else None
        if config is not None:
            together = {"synchronized": True} if getattr(norm, "synchronized", False) else {}  # in no config of Keras
            config = {k: config[k] for k in ("momentum", "epsilon", "center", "scale")} | together
        parts = {"kernel": layer} if layer is not norm else {}
        parts |= {"norm": norm} if norm is not None else {}
        frozen = tuple(part for part, source in parts.items() if not source.trainable)
        whole = len(frozen) == len(parts)
        settled = ("statistics",) if id(norm) in self.settled else ()
        return {
            "trainable": not whole,
            "frozen": settled if whole else (*frozen, *settled),
            "bits": self._bits(layer),
            "batch_norm": config,
            "use_bias": use_bias,
            "activation": activation,
        }

    def _weighted(self, layer, norm, activation, name):
        common = {**self._common(layer, norm, activation, layer.use_bias), "name": name}
        common["kernel_regularizer"] = getattr(layer, supported.regularizer_name(layer))
        found = {"bias": layer.bias_regularizer}
        if norm is not None:
            found.update(gamma=norm.gamma_regularizer, beta=norm.beta_regularizer)
        common["vector_regularizers"] = {name: value for name, value in found.items() if value is not None}
        if isinstance(layer, L.Dense):
            return self.DENSE(layer.units, **common)
        geometry = {
            "kernel_size": layer.kernel_size,
            "strides": layer.strides,
            "padding": layer.padding,
            "dilation_rate": layer.dilation_rate,
        }
        if isinstance(layer, (L.SeparableConv1D, L.SeparableConv2D)):
            ones = (1,) * len(layer.kernel_size)
            return self.CONV(layer.filters, ones, ones, "valid", ones, **common)
        if isinstance(layer, (L.DepthwiseConv1D, L.DepthwiseConv2D)):
            return ql.QuantizedDepthwise(layer.depth_multiplier, **geometry, **common)
        return self.CONV(layer.filters, **geometry, **common)

    def _depthwise_half(self, layer, wire):
        def make():
            return ql.QuantizedDepthwise(
                layer.depth_multiplier,
                kernel_size=layer.kernel_size,
                strides=layer.strides,
                padding=layer.padding,
                dilation_rate=layer.dilation_rate,
                bits=self.bits_of(layer, depthwise=True),
                kernel_regularizer=layer.depthwise_regularizer,
                name=f"{layer.name}_depthwise",
                trainable=layer.trainable,
            )

        new, fresh = self._once(layer, "depthwise", make)
        out = Wire(*new([wire.value, wire.scale]))
        if fresh:
            new.load_float_kernel(layer.depthwise_kernel.numpy(), None)
        return out

    def _emit_batch_norm(self, node) -> None:
        layer = node.layer
        if not supported.is_foldable(node):
            raise UnsupportedLayerError(
                layer, f"axis={list(layer.axis)}, renorm={layer.renorm}", "normalize the last axis, without renorm"
            )
        wire = self._quantized(node.keras_inputs[0])
        activation, last = self._activation_after(node)
        new, fresh = self._once(
            layer,
            "affine",
            lambda: ql.QuantizedAffine(**self._common(layer, layer, activation, False), name=self._name(layer.name)),
        )
        self.wires[id(last.outputs)] = Wire(*new([wire.value, wire.scale]))
        if fresh:
            new.load_float_batch_norm(layer)

    def _function(self, layer, wire, function, alpha, name) -> Wire:
        if function == "linear":
            return wire
        bits = self._bits(layer).activation_bits
        if function == "softmax":
            new, _ = self._once(layer, "softmax", lambda: qo.QuantizedSoftmax(name=self._name(name)))
            return Wire(*new([wire.value, wire.scale]), (0, 1))
        known = self._known(layer, [wire]) if (function, alpha, wire.bounds) == ("reverse", 1.0, (0, 1)) else None
        make = lambda: qo.QuantizedFunction(  # noqa: E731
            function, alpha, activation_bits=bits, bounds=known, name=self._name(name)
        )
        new, _ = self._once(layer, "function", make)
        return Wire(*new([wire.value, wire.scale]), new.bounds)

    def _emit_waveform(self, node) -> None:
        layer = node.layer
        check_sound(node)
        wire = self._quantized(node.keras_inputs[0])
        norm, inside, last = self._fuse(node, "linear")
        common = self._common(layer, norm, inside, False)
        make = lambda: waveform_form(layer, self._name(layer.name), **common)  # noqa: E731
        new, fresh = self._once(layer, "main", make)
        self.wires[id(last.outputs)] = Wire(*new([wire.value, wire.scale]))
        if fresh:
            new.load_float(layer)
            if norm is not None:
                new.load_float_batch_norm(norm)

    def _emit_recurrent(self, node) -> None:
        layer = node.layer
        check_call(layer, node.call_args, node.call_kwargs)
        wire = self._quantized(node.keras_inputs[0])
        make = lambda: quantized_form(layer, self._bits(layer), self._name(layer.name))  # noqa: E731
        new, fresh = self._once(layer, "main", make)
        self.wires[id(node.outputs)] = Wire(*new([wire.value, wire.scale]), BOUNDS["tanh"])
        if fresh:
            new.load_float(layer)

    def _emit_merge(self, node) -> None:
        layer = node.layer
        wires = [self._quantized(t) for t in node.keras_inputs]
        known = self._known(layer, wires) if type(layer) is L.Average else None
        if type(layer) is L.Average:
            wires = [self._scaled(layer, wire, 1.0 / len(wires), f"share_{i}") for i, wire in enumerate(wires)]
        if type(layer) is L.Subtract:
            wires[1] = self._function(layer, wires[1], "reverse", 0.0, f"{layer.name}_reverse")
        activation, last = self._activation_after(node)
        merge = supported.MERGES.get(type(layer), "add")
        total, bits = wires[0], self._bits(layer).activation_bits
        for i, wire in enumerate(wires[1:], start=2):
            final = i == len(wires)
            name = self._name(layer.name) if final else f"{layer.name}_{i}"
            make = lambda name=name, final=final: qo.QuantizedMerge(  # noqa: E731
                merge, activation if final else "linear", activation_bits=bits, bounds=known, name=name
            )
            new, _ = self._once(layer, f"merge {i}", make)
            total = Wire(*new([total.value, total.scale, wire.value, wire.scale]), new.bounds)
        self.wires[id(last.outputs)] = total

    def _emit_extreme(self, node) -> None:
        layer = node.layer
        if len({tuple(t.shape) for t in node.keras_inputs}) > 1:
            shapes = [tuple(t.shape) for t in node.keras_inputs]
            raise UnsupportedLayerError(layer, f"inputs of shapes {shapes}", "give it tensors of one shape")
        wires = [self._quantized(t) for t in node.keras_inputs]
        bits, largest = self._bits(layer).activation_bits, supported.EXTREMES[type(layer)]
        make = lambda: qe.QuantizedExtreme(  # noqa: E731
            largest, activation_bits=bits, bounds=self._known(layer, wires), name=self._name(layer.name)
        )
        new, _ = self._once(layer, "extreme", make)
        self.wires[id(node.outputs)] = Wire(*new(pairs(wires)), new.bounds)

    def _scaled(self, layer, wire, factor, role) -> Wire:
        name = f"{layer.name}_{role}" if role else self._name(layer.name)
        new, _ = self._once(layer, f"scale {role}", lambda: qe.QuantizedScale(factor, name=name))
        return Wire(*new([wire.value, wire.scale]))

    def _emit_scale(self, node) -> None:
        wire = self._quantized(node.keras_inputs[0])
        self.wires[id(node.outputs)] = self._scaled(node.layer, wire, node.layer.factor, "")

    def _emit_channel_affine(self, node) -> None:
        layer = node.layer
        wire = self._quantized(node.keras_inputs[0])
        activation, last = self._activation_after(node)

        def make():
            # constants: 16 bits cost two bytes a channel, and keep what the model's author gave
            bits = dataclasses.replace(self._bits(layer), gain_bits=16, bias_bits=16)
            return qe.QuantizedChannelAffine(
                layer.trains, bits=bits, activation=activation, name=self._name(layer.name)
            )

        new, fresh = self._once(layer, "affine", make)
        self.wires[id(last.outputs)] = Wire(*new([wire.value, wire.scale]))
        if fresh:
            for name in ("factor", "offset"):
                getattr(new, name).assign(getattr(layer, name))

    def _emit_training_only(self, node) -> None:
        """In float directly behind an input that nothing else reads; on steps anywhere else."""
        layer, tensor = node.layer, node.keras_inputs[0]
        wire = self.wires[id(tensor)]
        if wire.scale is not None or len(self.readers[id(tensor)]) > 1 or id(tensor) in self.outputs:
            wire = self._quantized(tensor)
        new, _ = self._once(layer, "training", lambda: layer.copy(self._name(layer.name)))
        if wire.scale is None:
            self.wires[id(node.outputs)] = Wire(new(wire.value))
        else:
            self.wires[id(node.outputs)] = Wire(*new([wire.value, wire.scale]))  # may leave the bounds: noise

    def _emit_concatenate(self, node) -> None:
        layer = node.layer
        wires = [self._quantized(t) for t in node.keras_inputs]
        rank = len(node.keras_inputs[0].shape)
        axis = layer.axis if layer.axis >= 0 else layer.axis + rank
        if axis == 0:
            raise UnsupportedLayerError(layer, "axis=0", "the batch axis cannot be joined on a device")
        bits = self._bits(layer).activation_bits
        make = lambda: qo.QuantizedConcatenate(  # noqa: E731
            axis, activation_bits=bits, bounds=self._known(layer, wires), name=self._name(layer.name)
        )
        new, _ = self._once(layer, "concatenate", make)
        self.wires[id(node.outputs)] = Wire(*new(pairs(wires)), new.bounds)

    def _emit_average(self, node) -> None:
        layer = node.layer
        supported.check_channels_last(layer)
        wire = self._quantized(node.keras_inputs[0])

        def make():
            pooled = hasattr(layer, "pool_size")
            tupled = lambda v: tuple(v) if isinstance(v, (tuple, list)) else (v,)  # noqa: E731
            return qo.QuantizedAveragePool(
                rank=supported.AVERAGES[type(layer)],
                pool_size=tupled(layer.pool_size) if pooled else None,
                strides=tupled(layer.strides) if pooled else None,
                padding=layer.padding if pooled else "valid",
                keepdims=getattr(layer, "keepdims", False),
                activation_bits=self._bits(layer).activation_bits,
                bounds=self._known(layer, [wire]),
                name=self._name(layer.name),
            )

        new, _ = self._once(layer, "average", make)
        self.wires[id(node.outputs)] = Wire(*new([wire.value, wire.scale]), new.bounds)
