"""The quantization scheme: the package's front door to TensorFlow Model Optimization."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfmot_kws import dynamic_layers, quantized_layers, quantized_ops, quantizers, rewrite, streaming
from tfmot_kws.keras import keras, tfmot
from tfmot_kws.layer_bits import LayerBits
from tfmot_kws.quantize_configs import KwsQuantizeConfig

if TYPE_CHECKING:  # that module imports this one
    from tfmot_kws.dynamic_schemes import DynamicQuantizeScheme

_tfmot = tfmot.quantization.keras
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


class NothingToWrap(_tfmot.QuantizeRegistry):
    """TFMOT's question "how do I wrap this layer?": not at all, the layout has put in quantized layers already.

    TFMOT asks for float layers too where an annotated layer reads them; those stay as they are.
    """

    def supports(self, layer):
        """False."""
        return False

    def get_quantize_config(self, layer):
        """None."""
        return None


class _Layout(_tfmot.QuantizeLayoutTransform):
    """TFMOT's hook for the whole model: puts quantized layers in the place of float ones."""

    def __init__(self, scheme: KwsQuantizeScheme):
        self._scheme = scheme

    def apply(self, model, layer_quantize_map):
        """(quantized model, nothing left for TFMOT to wrap)."""
        configs = {name: (entry or {}).get("quantize_config") for name, entry in layer_quantize_map.items()}

        def bits_of(layer, depthwise=False):
            config = configs.get(layer.name)
            if config is None:
                return self._scheme.bits_of(layer, depthwise)
            if not isinstance(config, KwsQuantizeConfig):
                raise ValueError(
                    f"layer {layer.name!r} is annotated with {type(config).__name__}, which a kws_scheme cannot "
                    "export; annotate it with tfmot_kws.KwsQuantizeConfig or without a config"
                )
            return config.widths

        self._scheme.check_names([layer.name for layer in model.layers])
        return rewrite.rewrite(model, set(configs), bits_of), {}


@dataclasses.dataclass(frozen=True)
class KwsQuantizeScheme(_tfmot.QuantizeScheme):
    """Widths for a whole model; made by :func:`kws_scheme`; one instance serves any number of models."""

    default: LayerBits
    layer_bits: tuple[tuple[str, int], ...] = ()
    depthwise_bits: int = 8
    grid: str = "auto"

    def bits_of(self, layer: keras.layers.Layer, depthwise: bool = False) -> LayerBits:
        """The layer's widths; the first matching entry of ``layer_bits`` counts."""
        for pattern, bits in self.layer_bits:
            if fnmatch.fnmatchcase(layer.name, pattern):
                return dataclasses.replace(self.default, bits=bits, grid=self.grid)
        if depthwise or isinstance(layer, _DEPTHWISE):
            return dataclasses.replace(self.default, bits=self.depthwise_bits, grid="auto")
        return self.default

    def check_names(self, names: list[str]) -> None:
        """ValueError where an entry of ``layer_bits`` matches no layer."""
        for pattern, _ in self.layer_bits:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"layer_bits: {pattern!r} matches no layer; the model has {', '.join(names)}")

    def rewrite_plain(self, model: keras.Model) -> keras.Model:
        """The quantized form of a model without annotations; ``UnsupportedLayerError`` names what it cannot take."""
        for layer in model.layers:
            if type(layer) not in rewrite.SUPPORTED and not isinstance(layer, keras.layers.InputLayer):
                raise rewrite.UnsupportedLayerError(layer)
        return _tfmot.quantize_apply(_tfmot.quantize_annotate_model(model), self)

    def get_layout_transformer(self):
        """For TFMOT."""
        return _Layout(self)

    def get_quantize_registry(self):
        """For TFMOT."""
        return NothingToWrap()


def kws_scheme(
    bits: int = 4,
    layer_bits: Mapping[str, int] | None = None,
    activation_bits: int = 8,
    bias_bits: int = 8,
    gain_bits: int = 8,
    grid: str = "auto",
    depthwise_bits: int = 8,
) -> KwsQuantizeScheme:
    """The two-stage scheme of Zeng et al. 2022 (arXiv 2207.06920).

    Args:
      bits: width of dense and convolution weights, 1..8.
      layer_bits: other widths by layer name or pattern (``"dense_*"``); the first match counts.
      activation_bits: inputs and activations, 2..8.
      bias_bits, gain_bits: 2..16.
      grid: weight levels: "mid-rise" (2^bits odd levels, no zero), "mid-tread" (2^bits - 1 levels with a zero) or
        "auto" (mid-rise up to 7 bits, mid-tread at 8, which fits int8).
      depthwise_bits: width of depthwise kernels not named in ``layer_bits``.

    Raises:
      ValueError: an option is out of its range; the message names it.
    """
    default = LayerBits(quantizers.check_bits(bits, "kws_scheme"), activation_bits, bias_bits, gain_bits, grid)
    entries = tuple((layer_bits or {}).items())
    for name, width in entries:
        quantizers.resolve_grid(grid, quantizers.check_bits(width, f"layer_bits[{name!r}]"), f"layer_bits[{name!r}]")
    return KwsQuantizeScheme(default, entries, quantizers.check_bits(depthwise_bits, "depthwise_bits"), grid)


def custom_objects() -> dict[str, type]:
    """Classes that ``keras.models.load_model`` needs for a saved model of this package."""
    classes = (
        streaming.TimeWindow, streaming.CausalConv1D, streaming.CausalDepthwiseConv1D, streaming.TimeAveragePooling1D,
        streaming.TimeMaxPooling1D, quantized_layers.QuantizedAffine, quantized_layers.QuantizedDense,
        quantized_layers.QuantizedConv, quantized_layers.QuantizedDepthwise, quantized_ops.QuantizeInput,
        quantized_ops.Dequantize, quantized_ops.QuantizedFunction, quantized_ops.QuantizedSoftmax,
        dynamic_layers.DynamicDense, dynamic_layers.DynamicConv,
        quantized_ops.QuantizedMerge, quantized_ops.QuantizedConcatenate, quantized_ops.QuantizedAveragePool,
        KwsQuantizeConfig, quantizers.TanhWeightQuantizer, quantizers.LinearQuantizer,
    )  # fmt: skip
    return {c.__name__: c for c in classes}


def quantize_scope():
    """Context in which Keras and TFMOT know the package's classes."""
    return _tfmot.quantize_scope(custom_objects())


def load_model(path, **kwargs) -> keras.Model:
    """``keras.models.load_model`` inside :func:`quantize_scope`: .keras, .h5 and SavedModel."""
    with quantize_scope():
        return keras.models.load_model(path, **kwargs)


def quantize_apply(model: keras.Model, scheme: KwsQuantizeScheme | DynamicQuantizeScheme | None = None) -> keras.Model:
    """A model of quantized layers to be trained, from a float one (which is left as it is).

    Args:
      model: a functional or built sequential tf_keras model, plain (every layer is quantized that the scheme knows) or
        annotated by TFMOT's ``quantize_annotate_layer`` / ``quantize_annotate_model`` (only annotated layers are; their
        configs count).
      scheme: from :func:`kws_scheme` (integers throughout, trained in two stages; its default where None) or from
        ``dynamic_scheme`` (integers inside dense layers and convolutions, floats between them, no stages).

    Raises:
      TypeError: not a tf_keras model, or a subclassed one.
      ValueError: a nested model, an unbuilt or quantized one, or a layer that cannot be quantized
        (``UnsupportedLayerError``; under a ``dynamic_scheme`` such layers stay in float).
    """
    scheme = scheme if scheme is not None else kws_scheme()
    _check_model(model)
    annotated = any(type(layer).__name__ == "QuantizeAnnotate" for layer in model.layers)
    with quantize_scope():
        if annotated or not hasattr(scheme, "rewrite_plain"):  # a scheme that is none of this package's
            model = model if annotated else _tfmot.quantize_annotate_model(model)
            return _tfmot.quantize_apply(model, scheme)
        return scheme.rewrite_plain(model)


def _check_model(model) -> None:
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if not isinstance(model, keras.Model):
        hint = "build it with tf_keras (from tfmot_kws.keras import keras), which TFMOT needs"
        if kind.startswith("keras."):
            hint = f"this is a Keras 3 model; {hint}, or set TF_USE_LEGACY_KERAS=1 before TensorFlow is imported"
        raise TypeError(f"quantize_apply needs a tf_keras model, found {kind}: {hint}")
    if not getattr(model, "_is_graph_network", False):
        if isinstance(model, keras.Sequential):
            raise ValueError(
                f"model {model.name!r} is a Sequential without an input shape: add keras.Input(shape) first"
            )
        raise TypeError(
            f"model {model.name!r} is a subclassed model ({kind}): write it with the functional API, "
            "keras.Model(inputs, outputs), so that its layers can be seen"
        )
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, keras.Model):
            raise ValueError(
                f"layer {inner.name!r} ({type(inner).__name__}) of model {model.name!r} is a nested model: "
                f"put its layers into the outer model, for example by x = inner_layer(x) for each of them"
            )
    if any(
        isinstance(layer, (quantized_layers.QuantizedAffine, quantized_ops.QuantizeInput, dynamic_layers.DynamicKernel))
        for layer in model.layers
    ):
        raise ValueError(f"model {model.name!r} is quantized already")


def is_quantized(layer: keras.layers.Layer) -> bool:
    """Whether the layer has a stage."""
    return isinstance(
        layer, (quantized_layers.QuantizedAffine, quantized_ops.QuantizedOp, quantized_ops.QuantizedSoftmax)
    )


__all__ = [
    "KwsQuantizeScheme", "custom_objects", "is_quantized", "kws_scheme", "load_model", "quantize_apply",
    "quantize_scope",
]  # fmt: skip
