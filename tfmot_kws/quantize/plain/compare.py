"""Whether a model taken apart still gives the numbers of the one that somebody wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize.unsupported import OWN_CODE, UnsupportedLayerError

_ROUNDING = {"float32": 1e-3, "float64": 1e-3}
_HALF = 5e-2


def check_numbers(model: keras.Model, plain: keras.Model, calls: list[tuple[Any, Any, Any]]) -> None:
    """Runs both models on random features.

    Args:
      model: as it was written.
      plain: the same of known layers.
      calls: (layer, its outputs in ``model``, those in ``plain``), in the order in which they run; may be empty.

    Raises:
      UnsupportedLayerError: the outputs differ by more than float32 rounds; it names the first layer that does.
    """
    x = [features(t) for t in plain.inputs]
    packed = tf.nest.pack_sequence_as(plain.input, x) if len(x) > 1 else x[0]
    limit = rounding(model)
    if not differ(model(packed, training=False), plain(packed, training=False), limit):
        return
    for layer, old, new in calls:
        pairs = [(a, b) for a, b in zip(tf.nest.flatten(old), tf.nest.flatten(new)) if hasattr(b, "_keras_history")]
        for a, b in pairs:
            wanted, found = (keras.Model(m.inputs, t)(x, training=False) for m, t in ((model, a), (plain, b)))
            if differ(wanted, found, limit):
                raise UnsupportedLayerError(layer, "a call that does more than is known of its layers", OWN_CODE)
    raise UnsupportedLayerError(model, "a call that does more than is known of its layers", OWN_CODE)


def rounding(model: keras.Model) -> float:
    """What may differ, as a part of the largest value."""
    kinds = {layer.compute_dtype for layer in model._flatten_layers()}
    return max(_ROUNDING.get(kind, _HALF if "float" in (kind or "") else 0.0) for kind in kinds)


def features(tensor) -> tf.Tensor:
    """Random values for an input, two clips where it takes any number."""
    shape = [2 if tensor.shape[0] is None else tensor.shape[0], *(8 if d is None else d for d in tensor.shape[1:])]
    values = np.random.default_rng(0).normal(size=shape)
    return tf.cast(values if tensor.dtype.is_floating else np.abs(values), tensor.dtype)


def differ(wanted: Any, found: Any, limit: float) -> bool:
    """Whether tensors, alone or nested, are unlike by more than ``limit`` of their largest value."""
    for a, b in zip(tf.nest.flatten(wanted), tf.nest.flatten(found)):
        a, b = (np.asarray(tf.cast(v, tf.float32)) for v in (a, b))
        if a.shape != b.shape:
            return True
        numbers = np.isfinite(a)  # tables give a number where a function has none, as log(-1)
        a, b = a[numbers], b[numbers]
        if not np.allclose(a, b, limit, limit * np.abs(a).max(initial=0.0) + 1e-6):
            return True
    return False
