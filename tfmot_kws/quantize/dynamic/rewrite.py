"""Rebuilds a float tf_keras model with dynamically quantized layers in the place of dense and convolution layers.

Every tensor is a float one. Layers that are not replaced stay as they are, with their weights.
"""

from __future__ import annotations

from collections.abc import Callable

from tfmot_kws.keras import keras
from tfmot_kws.models.time_layers import CausalConv1D, CausalDepthwiseConv1D
from tfmot_kws.quantize.dynamic.layers import DynamicConv, DynamicDense
from tfmot_kws.quantize.layer_bits import DynamicBits
from tfmot_kws.quantize.rewrite import Rewriter, Wire
from tfmot_kws.quantize.supported import kernel_of_layer
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers
SEPARABLE = (L.SeparableConv1D, L.SeparableConv2D)
REPLACED = (L.Dense, L.Conv1D, L.Conv2D, CausalConv1D, *SEPARABLE)


def is_replaced(layer: L.Layer) -> bool:
    """Whether a dynamic layer can take the place of this one (of the pointwise half of a separable convolution)."""
    if type(layer) not in REPLACED:
        return False
    return getattr(layer, "groups", 1) == 1 and getattr(layer, "data_format", "channels_last") == "channels_last"


def rewrite(model: keras.Model, quantized: set[str], bits_of: Callable[[L.Layer], DynamicBits]) -> keras.Model:
    """The quantized model, with the float model's weights and the names of its layers, inputs and outputs.

    Args:
      model: functional or built sequential tf_keras model; left as it is.
      quantized: names of the layers that may be replaced or folded; others stay in float.
      bits_of: widths of a layer.
    """
    return _DynamicRewriter(model, quantized, bits_of).run()


class _DynamicRewriter(Rewriter):
    DENSE, CONV = DynamicDense, DynamicConv

    def _name(self, name):
        return name  # outputs need no layer of their own

    def _inside(self, layer):
        try:
            return super()._inside(layer)
        except UnsupportedLayerError:  # of a float layer, which may be what it likes
            return None

    def _emit(self, node):
        if node.layer.name in self.quantized and is_replaced(node.layer):
            self._emit_weighted(node)
        else:
            self._emit_float(node)

    def _emit_weighted(self, node):
        layer, inside = node.layer, self._inside(node.layer)
        norm, activation, last = self._fuse(node, inside) if inside == "linear" else (None, inside or "linear", node)
        named = len(self.model.outputs) > 1 and id(last.outputs) in self.outputs
        x = self._float(node.keras_inputs[0])
        if isinstance(layer, SEPARABLE):
            x = self._depthwise_half(layer, x)
        name = f"{layer.name}_quantized" if inside is None and named else layer.name
        new, fresh = self._once(layer, "main", lambda: self._weighted(layer, norm, activation, name))
        y = new(x)
        if fresh:
            new.load_float_kernel(kernel_of_layer(layer).numpy(), layer.bias.numpy() if layer.use_bias else None)
            if norm is not None:
                new.load_float_batch_norm(norm)
        if inside is None:
            y = self._other_activation(layer, layer.name if named else None)(y)
        elif last is not node and id(last.outputs) in self.outputs:
            y = L.Activation("linear", name=last.layer.name)(y)  # the model's output keeps its name
        self.wires[id(last.outputs)] = Wire(y)

    def _other_activation(self, layer, name):
        """A float layer for an activation that no dynamic layer computes."""
        function = layer.activation
        name = name or f"{layer.name}_{getattr(function, '__name__', type(function).__name__)}"
        dtype = layer.get_config()["dtype"]
        return self._once(layer, "function", lambda: L.Activation(function, name=name, dtype=dtype))[0]

    def _depthwise_half(self, layer, x):
        """The depthwise half of a separable convolution, in float."""
        config = layer.get_config()
        names = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier", "dtype", "trainable")
        options = {name: config[name] for name in names}
        for part in ("regularizer", "constraint"):
            options[f"depthwise_{part}"] = getattr(layer, f"depthwise_{part}")
        kind = L.DepthwiseConv2D
        if isinstance(layer, L.SeparableConv1D):
            kind = CausalDepthwiseConv1D if layer.padding == "causal" else L.DepthwiseConv1D
        make = lambda: kind(use_bias=False, name=f"{layer.name}_depthwise", **options)  # noqa: E731
        new, fresh = self._once(layer, "depthwise", make)
        out = new(x)
        if fresh:
            new.set_weights([layer.depthwise_kernel.numpy()])
        return out
