# SPDX-License-Identifier: Apache-2.0
"""A Keras model of dynamic quantization -> a graph of float tensors; the sister of ``integers``.

Dense and convolution layers give the integers that their forward pass multiplies; what lies between them is float32,
and becomes the float ops of the graph.
"""

from __future__ import annotations

import numpy as np

from tflite_export import ir
from tflite_export.from_keras.integers import Converter, ExportError
from tflite_export.from_keras.windows import conv_window, pool_window
from tfmot_kws.keras import keras
from tfmot_kws.models import time_layers as streaming
from tfmot_kws.quantize import supported
from tfmot_kws.quantize.dynamic import layers as dynamic_layers
from tfmot_kws.quantize.plain.layers import ChannelAffine, Scale, TrainingOnly

L = keras.layers
_DEPTHWISE = (L.DepthwiseConv1D, L.DepthwiseConv2D, streaming.CausalDepthwiseConv1D)


def has_dynamic_layers(model: keras.Model) -> bool:
    """Whether the model was made by ``quantize_apply`` with a ``dynamic_scheme``."""
    return any(isinstance(layer, dynamic_layers.DynamicKernel) for layer in model.layers)


class DynamicConverter(Converter):
    """The walk over a model of dynamic layers."""

    def _emit(self, node) -> None:
        layer, kind = node.layer, type(node.layer)
        for tensor in node.keras_inputs:
            if id(tensor) not in self.names:
                self._take_input(tensor)
        single = node.keras_inputs[0]
        if kind in (*supported.IDLE, TrainingOnly):
            self.names[id(node.outputs)] = self._pass(single, node.outputs)
        elif isinstance(layer, dynamic_layers.DynamicKernel):
            self._emit_dense(node)
        elif isinstance(layer, streaming.TimeWindow):
            self._emit_window(node)
        elif isinstance(layer, supported.ACTIVATIONS):
            function, _ = supported.activation_of(layer)
            self.names[id(node.outputs)] = self._activated(self._source(single).name, function, layer, layer.name)
        elif kind in (*supported.MERGES, L.Subtract, L.Average):
            self._emit_merge(node)
        elif isinstance(layer, Scale):
            self.names[id(node.outputs)] = self._scaled(self._source(single), layer.factor, layer.name)
        elif isinstance(layer, ChannelAffine):
            factor, offset = (np.asarray(v, np.float32) for v in (layer.factor, layer.offset))
            self._emit_channels(node, self._source(single), factor[None], offset, None)
        elif isinstance(layer, L.Concatenate):
            self._emit_concatenate(node)
        elif kind in supported.AVERAGES:
            self._emit_average(node)
        elif kind in _DEPTHWISE:
            self._emit_depthwise(node)
        elif isinstance(layer, L.BatchNormalization):
            self._emit_batch_norm(node)
        elif self._is_max_pool(layer):
            self._emit_max_pool(node)
        else:
            self._emit_move(node)

    def _take_input(self, tensor) -> None:
        layer = tensor._keras_history.layer
        if not isinstance(layer, L.InputLayer):
            raise ExportError(f"layer {layer.name!r} ({type(layer).__name__}) cannot be exported; take it out")
        self.names[id(tensor)] = self._add(layer.name, self._shape(tensor, layer), None)

    def _emit_dense(self, node) -> None:
        layer = node.layer
        found = self._window_of(node.keras_inputs[0]) if isinstance(layer, dynamic_layers.DynamicDense) else None
        x, window = found or (self._source(node.keras_inputs[0]), None)
        if isinstance(layer, dynamic_layers.DynamicConv):
            window = conv_window(layer, x.shape)
            if window.taps == 1 and window.stride == (1, 1):
                window = None
        integers = layer.integers()
        outputs = len(integers.gain)
        codes = np.ascontiguousarray(integers.codes.reshape(-1, outputs).T)
        grid = "linear" if integers.zeros is not None else layer.weight_grid
        weights = ir.ColumnWeights(codes, layer.weight_bits, grid, integers.zeros)
        out = self._add(layer.name, self._shape(node.outputs, layer), None)
        self.names[id(node.outputs)] = out
        self.ops.append(
            ir.DynamicDense(
                out, x.name, out, weights, layer.bits.input_bits, integers.gain, integers.gain_unit, integers.bias,
                integers.bias_unit, layer.activation, window,
            )
        )  # fmt: skip

    def _activated(self, name: str, function: str, layer, label: str) -> str:
        """The tensor behind a function of that name."""
        if function == "linear":
            return name
        out = self._add(label, self.tensors[name].shape, None)
        if function == "softmax":
            self.ops.append(ir.FloatSoftmax(out, name, out))
        elif function in ir.FUNCTIONS:
            self.ops.append(ir.FloatFunction(out, name, out, function))
        else:
            raise ExportError(
                f"layer {layer.name!r}: the activation {function!r} has no float kernel (there are "
                f"{', '.join(ir.FUNCTIONS)} and softmax); use one of these"
            )
        return out

    def _emit_merge(self, node) -> None:
        layer = node.layer
        make = ir.FloatMultiply if isinstance(layer, L.Multiply) else ir.FloatAdd
        sources = [self._source(t) for t in node.keras_inputs]
        names = [x.name for x in sources]
        if isinstance(layer, L.Subtract):
            names[1] = self._scaled(sources[1], -1.0, f"{layer.name}_reverse")
        if isinstance(layer, L.Average):
            names = [self._scaled(x, 1.0 / len(sources), f"{layer.name}_share") for x in sources]
        total = names[0]
        for i, name in enumerate(names[1:], start=2):
            shapes = [self.tensors[n].shape for n in (total, name)]
            shape = tuple(int(d) for d in np.broadcast_shapes(*shapes))
            out = self._add(layer.name if i == len(names) else f"{layer.name}_{i}", shape, None)
            self.ops.append(make(out, (total, name), out))
            total = out
        self.names[id(node.outputs)] = total

    def _scaled(self, x: ir.Tensor, factor: float, label: str) -> str:
        """The tensor times a number."""
        out = self._add(label, x.shape, None)
        kernel = np.full((1, x.shape[-1]), factor, np.float32)
        self.ops.append(ir.FloatDepthwise(out, x.name, out, kernel, np.zeros(x.shape[-1], np.float32)))
        return out

    def _emit_concatenate(self, node) -> None:
        layer = node.layer
        rank = len(node.keras_inputs[0].shape)
        axis = layer.axis if layer.axis >= 0 else layer.axis + rank
        if axis == 0:
            raise ExportError(f"layer {layer.name!r}: joins the batch axis, which a device does not have")
        names = [self._source(t).name for t in node.keras_inputs]
        self.names[id(node.outputs)] = self._joined(names, axis - 1, layer.name)

    def _emit_average(self, node) -> None:
        layer, x = node.layer, self._source(node.keras_inputs[0])
        window = pool_window(layer, supported.AVERAGES[type(layer)], x.shape)
        pooled = ir.windowed_shape(x.shape, window, x.shape[-1], layer.name)
        final = self._shape(node.outputs, layer)
        out = self._add(layer.name if pooled == final else f"{layer.name}_mean", pooled, None)
        self.ops.append(ir.FloatAverage(out, x.name, out, window))
        self.names[id(node.outputs)] = self._reshaped(out, final, layer.name)

    def _emit_depthwise(self, node) -> None:
        layer, x = node.layer, self._source(node.keras_inputs[0])
        window = conv_window(layer, x.shape)
        kernel = np.asarray(layer.depthwise_kernel, np.float32).reshape(window.taps, -1)
        bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[1], np.float32)
        self._emit_channels(node, x, kernel, bias, window)

    def _emit_batch_norm(self, node) -> None:
        layer, x = node.layer, self._source(node.keras_inputs[0])
        axes = list(layer.axis) if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        if axes not in ([-1], [len(x.shape)]):
            raise ExportError(f"layer {layer.name!r}: normalizes axis {axes}; only the last axis can be exported")
        variance, mean = layer.moving_variance.numpy(), layer.moving_mean.numpy()
        factor = (layer.gamma.numpy() if layer.scale else 1.0) / np.sqrt(variance + np.float32(layer.epsilon))
        bias = (layer.beta.numpy() if layer.center else 0.0) - mean * factor
        self._emit_channels(node, x, factor.astype(np.float32)[None], bias.astype(np.float32), None)

    def _emit_channels(self, node, x: ir.Tensor, kernel, bias, window) -> None:
        layer = node.layer
        function = supported.activation_of(layer)[0] if hasattr(layer, "activation") else "linear"
        inside = function if function in ir.FUNCTIONS else "linear"
        label = layer.name if inside == function else f"{layer.name}_linear"
        out = self._add(label, self._shape(node.outputs, layer), None)
        self.ops.append(ir.FloatDepthwise(out, x.name, out, kernel, bias, inside, window))
        name = out if inside == function else self._activated(out, function, layer, layer.name)
        self.names[id(node.outputs)] = name
