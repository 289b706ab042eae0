"""Float layers for what people write as functions of tensors: each has a quantized form and an op on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import AsWritten, keras
from tfmot_kws.quantize.functions import FUNCTIONS, check_function


def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer of the same configuration, or itself where its class has none to give.

    Keras raises NotImplementedError from ``get_config`` of a class with arguments that are no plain values, and
    TypeError where ``from_config`` does not take what ``get_config`` gave. Such a layer has no copy; it is shared with
    the user's model, and computes what a copy would: layers that only training has hold no weights.
    """
    try:
        return type(layer).from_config(layer.get_config())
    except (NotImplementedError, TypeError):
        return layer


class Scale(AsWritten, keras.layers.Layer):
    """Multiplication with one number above zero: on the device no op at all, but another scale of the same integers.

    Args:
      factor: the number.

    Raises:
      ValueError: a factor that is not above zero.
    """

    def __init__(self, factor: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not (np.isfinite(factor) and factor > 0):
            raise ValueError(f"layer {self.name!r}: the factor must be a number above zero, found {factor!r}")
        self.factor = float(factor)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "factor": self.factor}

    def call(self, x):
        """float [batch, ...] -> the same shape."""
        return x * tf.cast(self.factor, x.dtype)


class ChannelAffine(AsWritten, keras.layers.Layer):
    """``x * factor[c] + offset[c]`` over the last axis.

    Args:
      trains: which of the two vectors training may move: some of "factor", "offset".
    """

    def __init__(self, trains: tuple[str, ...] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.trains = tuple(trains)

    def build(self, input_shape):
        """Makes the two vectors; ``load`` fills them."""
        size = (input_shape[-1],)
        self.factor = self.add_weight("factor", size, initializer="ones", trainable="factor" in self.trains)
        self.offset = self.add_weight("offset", size, initializer="zeros", trainable="offset" in self.trains)
        super().build(input_shape)

    def load(self, factor: np.ndarray | float, offset: np.ndarray | float) -> None:
        """Sets both vectors, from one number or one for each channel."""
        self.factor.assign(np.broadcast_to(np.asarray(factor, np.float32), self.factor.shape))
        self.offset.assign(np.broadcast_to(np.asarray(offset, np.float32), self.offset.shape))

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "trains": list(self.trains)}

    def call(self, x):
        """float [batch, ..., channels] -> the same shape."""
        return x * self.factor + self.offset


class Function(AsWritten, keras.layers.Layer):
    """A function of one value.

    Args:
      function: a key of ``functions.FUNCTIONS``.
      alpha: its parameter.
    """

    def __init__(self, function: str, alpha: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_function(function, self.name)
        self.function, self.alpha = function, float(alpha)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "function": self.function, "alpha": self.alpha}

    def call(self, x):
        """float [batch, ...] -> the same shape."""
        return FUNCTIONS[self.function](x, tf.cast(self.alpha, x.dtype))


class SliceAxis(AsWritten, keras.layers.Layer):
    """``x[begin : end : stride]`` of one axis.

    Args:
      axis: 1 is the first behind the batch.
      begin, end: 0 <= begin < end <= length of the axis.
      stride: at least 1.
    """

    def __init__(self, axis: int, begin: int, end: int, stride: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis, self.begin, self.end, self.stride = int(axis), int(begin), int(end), int(stride)
        if self.axis < 1 or not 0 <= self.begin < self.end or self.stride < 1:
            raise ValueError(f"layer {self.name!r}: no slice [{begin}:{end}:{stride}] of axis {axis}")

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), **{n: getattr(self, n) for n in ("axis", "begin", "end", "stride")}}

    def call(self, x):
        """[batch, ...] -> the same with a shorter axis."""
        return x[(*(slice(None),) * self.axis, slice(self.begin, self.end, self.stride))]


class PadAxes(AsWritten, keras.layers.Layer):
    """Zeros before and after any axes but the batch.

    Args:
      padding: (before, after) of each axis behind the batch.
    """

    def __init__(self, padding: tuple[tuple[int, int], ...], **kwargs: Any):
        super().__init__(**kwargs)
        self.padding = tuple((int(before), int(after)) for before, after in padding)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "padding": [list(pair) for pair in self.padding]}

    def call(self, x):
        """[batch, ...] -> the same with longer axes."""
        return tf.pad(x, ((0, 0), *self.padding))


class Penalty(AsWritten, keras.layers.Layer):
    """Its input, and what a regularizer says of it as a loss: the ``activity_regularizer`` of the layer ahead.

    Args:
      regularizer: as Keras takes it.
    """

    def __init__(self, regularizer: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.activity_regularizer = keras.regularizers.get(regularizer)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "regularizer": keras.regularizers.serialize(self.activity_regularizer)}

    def call(self, x):
        """float [batch, ...] -> the same."""
        return x


class TrainingOnly(AsWritten, keras.layers.Layer):
    """A layer that changes its input in training and nowhere else: noise, masks. The device does without it.

    In a float model it reads a tensor; between quantized layers a pair (steps, scale).

    Args:
      layer: the layer, with or without an argument ``training``.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.layer = layer

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        """The layer of a configuration."""
        inner = keras.saving.deserialize_keras_object(config["layer"])
        return cls(inner, **{key: value for key, value in config.items() if key != "layer"})

    def copy(self, name: str) -> TrainingOnly:
        """One around a layer of the same configuration; around the same layer where its class has none to give."""
        return type(self)(copied(self.layer), name=name)

    def call(self, inputs, training=None):
        """The input, or what the layer makes of it while it trains."""
        flag = {"training": training} if self.layer._expects_training_arg else {}
        if not isinstance(inputs, (list, tuple)):
            return tf.cast(self.layer(inputs, **flag), inputs.dtype)  # half of it, say, under mixed precision
        steps, scale = inputs
        return [tf.cast(self.layer(steps * scale, **flag), steps.dtype) / scale, scale]

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape
