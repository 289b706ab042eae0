"""``quantize_apply``: the front door, for every scheme."""

from __future__ import annotations

import tensorflow as tf

from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize import layers, limits, ops
from tfmot_kws.quantize.dynamic import layers as dynamic_layers
from tfmot_kws.quantize.dynamic.scheme import DynamicQuantizeScheme
from tfmot_kws.quantize.plain import keras3, unfold
from tfmot_kws.quantize.saving import quantize_scope
from tfmot_kws.quantize.scheme import KwsQuantizeScheme, kws_scheme
from tfmot_kws.quantize.supported import SUPPORTED
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

_tfmot = tfmot.quantization.keras


# AutoGraph would rewrite the source of every layer that TFMOT calls while it copies the model three times.
@tf.autograph.experimental.do_not_convert
def quantize_apply(model: keras.Model, scheme: KwsQuantizeScheme | DynamicQuantizeScheme | None = None) -> keras.Model:
    """A model of quantized layers to be trained, from a float one (which is left as it is).

    Args:
      model: a functional, built sequential or called subclassed model of tf_keras or Keras 3. Plain, every layer is
        quantized that the scheme knows; nested models, wrappers and functions of tensors become the layers that they
        are made of. Annotated by TFMOT's ``quantize_annotate_layer`` / ``quantize_annotate_model``, only annotated
        layers are; their configs count.
      scheme: from ``kws_scheme`` (integers throughout, trained in two stages; its default where None) or from
        ``dynamic_scheme`` (integers inside dense layers and convolutions, floats between them, no stages).

    Raises:
      TypeError: no Keras model, or a subclassed one that cannot be followed.
      ValueError: an unbuilt or quantized model, weights that are not float32, an input without a fixed shape, or
        layers that cannot be quantized (``UnsupportedLayerError`` names all of them; under a ``dynamic_scheme`` they
        stay in float).
    """
    scheme = scheme if scheme is not None else kws_scheme()
    if keras3.is_model(model):
        model = keras3.rebuilt(model)
    _check_model(model)
    annotated = any(type(layer).__name__ == "QuantizeAnnotate" for layer in model.layers)
    with quantize_scope():
        if annotated or not hasattr(scheme, "rewrite_plain"):  # a scheme that is none of this package's
            _check_nested(model)
            model = model if annotated else _tfmot.quantize_annotate_model(model)
            return _tfmot.quantize_apply(model, scheme)
        if isinstance(scheme, KwsQuantizeScheme) and unfold.is_functional(model):
            limits.check_inputs(model)
        plain = unfold.plain_model(model, SUPPORTED)
        if not plain.refusals:
            if isinstance(scheme, KwsQuantizeScheme):  # dynamic layers have no stage that could be trained in vain
                limits.check_inputs(plain.model)
            return scheme.rewrite_plain(plain.model)
        if isinstance(scheme, DynamicQuantizeScheme):  # what has no plain form stays in float
            _check_nested(model)
            return scheme.rewrite_plain(model)
        try:
            scheme.rewrite_plain(plain.model)
        except UnsupportedLayerError as others:
            raise UnsupportedLayerError.of_all([*plain.refusals, others]) from None
        raise UnsupportedLayerError.of_all(plain.refusals)


def _check_model(model) -> None:
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"quantize_apply needs a Keras model, found {kind}: build it with tf_keras "
            "(from tfmot_kws.keras import keras), which TFMOT needs"
        )
    _check_types(model)
    pruned = [layer.name for layer in model.layers if type(layer).__name__ == "PruneLowMagnitude"]
    if pruned:
        raise ValueError(
            f"layer {pruned[0]!r} of model {model.name!r} is in a pruning wrapper: call tfmot.sparsity.keras."
            "strip_pruning(model) first; kws_scheme(keep_zeros=True) then keeps its zeros"
        )
    if isinstance(model, keras.Sequential) and not unfold.is_functional(model):
        raise ValueError(f"model {model.name!r} is a Sequential without an input shape: add keras.Input(shape) first")
    if is_quantized_model(model):
        raise ValueError(f"model {model.name!r} is quantized already")
    for inner in model._flatten_layers(include_self=False):
        if isinstance(inner, keras.Model) and is_quantized_model(inner):
            raise ValueError(
                f"model {model.name!r} holds model {inner.name!r}, which is quantized already: put the float models "
                "together, and quantize the whole"
            )


def _check_types(model) -> None:
    """Refuses weights that are no float32: their integers would be those of other weights than training has."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        for weight in () if isinstance(layer, keras.Model) else layer.weights:
            if weight.dtype.is_floating and weight.dtype != "float32":
                raise ValueError(
                    f"layer {layer.name!r} of model {model.name!r} holds {weight.dtype.name} weights; quantized "
                    "training needs float32: build the model under the policy 'float32' or 'mixed_bfloat16'"
                )


def is_quantized_model(model: keras.Model) -> bool:
    """Whether the model itself, not one inside it, holds quantized layers."""
    kinds = (layers.QuantizedAffine, ops.QuantizeInput, dynamic_layers.DynamicKernel)
    return any(isinstance(layer, kinds) for layer in model.layers)


def _check_nested(model) -> None:
    """Refuses what only plain models may have."""
    if not unfold.is_functional(model):
        raise TypeError(
            f"model {model.name!r} is a subclassed model ({type(model).__module__}.{type(model).__name__}): write it "
            "with the functional API, keras.Model(inputs, outputs), so that its layers can be seen"
        )
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, keras.Model):
            raise ValueError(
                f"layer {inner.name!r} ({type(inner).__name__}) of model {model.name!r} is a nested model: put its "
                "layers into the outer model (x = inner_layer(x) for each of them), or take the annotations away: "
                "nested models of a plain model are taken apart"
            )


def is_quantized(layer: keras.layers.Layer) -> bool:
    """Whether the layer has a stage."""
    return isinstance(layer, (layers.QuantizedAffine, ops.QuantizedOp, ops.QuantizedSoftmax))
