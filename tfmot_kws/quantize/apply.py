"""``quantize_apply``: the front door, for every scheme."""

from __future__ import annotations

import tensorflow as tf

from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize import layers, ops
from tfmot_kws.quantize.dynamic import layers as dynamic_layers
from tfmot_kws.quantize.dynamic.scheme import DynamicQuantizeScheme
from tfmot_kws.quantize.saving import make_known, quantize_scope
from tfmot_kws.quantize.scheme import KwsQuantizeScheme, kws_scheme

_tfmot = tfmot.quantization.keras


# AutoGraph would rewrite the source of every layer that TFMOT calls while it copies the model three times.
@tf.autograph.experimental.do_not_convert
def quantize_apply(model: keras.Model, scheme: KwsQuantizeScheme | DynamicQuantizeScheme | None = None) -> keras.Model:
    """A model of quantized layers to be trained, from a float one (which is left as it is).

    Args:
      model: a functional or built sequential tf_keras model, plain (every layer is quantized that the scheme knows) or
        annotated by TFMOT's ``quantize_annotate_layer`` / ``quantize_annotate_model`` (only annotated layers are; their
        configs count).
      scheme: from ``kws_scheme`` (integers throughout, trained in two stages; its default where None) or from
        ``dynamic_scheme`` (integers inside dense layers and convolutions, floats between them, no stages).

    Raises:
      TypeError: not a tf_keras model, or a subclassed one.
      ValueError: a nested model, an unbuilt or quantized one, or a layer that cannot be quantized
        (``UnsupportedLayerError``; under a ``dynamic_scheme`` such layers stay in float).
    """
    scheme = scheme if scheme is not None else kws_scheme()
    _check_model(model)
    make_known()
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
            hint = (
                f"this is a Keras 3 model; {hint}, or import tfmot_kws before tf.keras is used for the first time, "
                "which makes tf.keras tf_keras (TF_USE_LEGACY_KERAS=1 does so too)"
            )
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
    pruned = [layer.name for layer in model.layers if type(layer).__name__ == "PruneLowMagnitude"]
    if pruned:
        raise ValueError(
            f"layer {pruned[0]!r} of model {model.name!r} is in a pruning wrapper: call tfmot.sparsity.keras."
            "strip_pruning(model) first; kws_scheme(keep_zeros=True) then keeps its zeros"
        )
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, keras.Model):
            raise ValueError(
                f"layer {inner.name!r} ({type(inner).__name__}) of model {model.name!r} is a nested model: "
                f"put its layers into the outer model, for example by x = inner_layer(x) for each of them"
            )
    if any(
        isinstance(layer, (layers.QuantizedAffine, ops.QuantizeInput, dynamic_layers.DynamicKernel))
        for layer in model.layers
    ):
        raise ValueError(f"model {model.name!r} is quantized already")


def is_quantized(layer: keras.layers.Layer) -> bool:
    """Whether the layer has a stage."""
    return isinstance(layer, (layers.QuantizedAffine, ops.QuantizedOp, ops.QuantizedSoftmax))
