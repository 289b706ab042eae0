"""What layers with low-bit weights have in common, whichever way their inputs are quantized.

A layer takes in the bias, the batch normalization and the activation that follow its kernel (``FoldedLayer``); the
kernel is trained through tanh (``TanhKernel``); a convolution knows its window (``Window``).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import AsWritten, keras
from tfmot_kws.quantize import replicas
from tfmot_kws.quantize.layer_bits import LayerBits, config_of
from tfmot_kws.quantize.learned_widths import LearnedWidth
from tfmot_kws.quantize.output_grid import tracked_variable
from tfmot_kws.quantize.quantizers import (
    codes,
    grid_constants,
    initial_theta,
    kernel_of,
    levels,
    resolve_grid,
    room_to_grow,
    speed,
    theta_of,
)


class FoldedLayer(AsWritten, keras.layers.Layer):
    """Base: bias, batch normalization of the last axis and activation.

    Args:
      bits: widths (``BITS`` or its dict).
      batch_norm: config of the folded BatchNormalization (epsilon, momentum, center, scale; synchronized, where it is),
        or None.
      use_bias: whether the original layer had one.
      activation: one of ``ACTIVATIONS``.
      frozen: parts that were not trainable in the original layers, where others were: "kernel" (kernel, gain and
        bias), "norm" (the batch normalization, which then runs on its moving statistics). Where all are, the layer's
        ``trainable`` says so; to set it to True, on the layer or the model, frees the parts as well, as it does with
        the original layers. "statistics": gamma and beta are trained on moving statistics that stay as they are.
      vector_regularizers: of "bias", "gamma" and "beta", where there are some.

    Raises:
      ValueError: another activation.
    """

    BITS = LayerBits
    ACTIVATIONS = ("linear", "relu", "relu6")

    def __init__(
        self,
        bits=None,
        batch_norm=None,
        use_bias=False,
        activation="linear",
        frozen=(),
        vector_regularizers=None,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.frozen = tuple(frozen)
        self.bits = bits if isinstance(bits, self.BITS) else self.BITS(**(bits or {}))
        self.batch_norm = dict(batch_norm) if batch_norm else None
        self.use_bias = use_bias
        if activation not in self.ACTIVATIONS:
            raise ValueError(f"layer {self.name!r}: activation must be one of {self.ACTIVATIONS}, found {activation!r}")
        self.activation = activation
        found = (vector_regularizers or {}).items()
        self.vector_regularizers = {name: keras.regularizers.get(value) for name, value in found}

    @property
    def _trainable(self):
        return self.__dict__["_trainable"]

    @_trainable.setter
    def _trainable(self, value):
        # Keras sets this attribute on every layer of a model whose ``trainable`` is set; before a layer is built, its
        # constructor and the readers of SavedModels do.
        self.__dict__["_trainable"] = value
        if value and getattr(self, "built", False):
            self.frozen = tuple(part for part in self.frozen if part == "statistics")

    def _held(self) -> set[int]:
        """Ids of the variables of frozen parts."""
        parts = {"kernel": ("kernel", "gain", "bias"), "norm": ("gamma", "beta")}
        names = (name for part in self.frozen for name in parts.get(part, ()))
        return {id(variable) for name in names if (variable := getattr(self, name, None)) is not None}

    @property
    def trainable_weights(self):
        """Those of free parts."""
        held = self._held()
        return [variable for variable in super().trainable_weights if id(variable) not in held]

    @property
    def non_trainable_weights(self):
        """Those of frozen parts, and those that are never trained."""
        held = self._held()
        return [w for w in super().trainable_weights if id(w) in held] + super().non_trainable_weights

    def get_config(self):
        """Constructor arguments."""
        own = {
            "bits": config_of(self.bits, self._settled),
            "batch_norm": self.batch_norm,
            "use_bias": self.use_bias,
            "activation": self.activation,
            "frozen": self.frozen,
            "vector_regularizers": {
                name: keras.regularizers.serialize(value) for name, value in self.vector_regularizers.items()
            },
        }
        return {**super().get_config(), **own}

    @property
    def _settled(self) -> bool:
        """Whether no width is learned any more."""
        width = getattr(self, "learned_width", None)
        return width is not None and width.settled

    def _build_folded(self, channels: int) -> None:
        self.bias = self._vector("bias", channels, "zeros") if self.use_bias else None
        if self.batch_norm is not None:
            self.gamma = self._vector("gamma", channels, "ones", self.batch_norm.get("scale", True))
            self.beta = self._vector("beta", channels, "zeros", self.batch_norm.get("center", True))
            self.moving_mean = tracked_variable(self, "moving_mean", (channels,), 0.0)
            self.moving_variance = tracked_variable(self, "moving_variance", (channels,), 1.0)

    def _vector(self, name, size, initializer, trainable=True):
        regularizer = self.vector_regularizers.get(name)
        return self.add_weight(
            name=name, shape=(size,), initializer=initializer, regularizer=regularizer, trainable=trainable
        )

    def _unit(self):
        """Real value of one accumulator step per channel, for inputs of scale 1."""
        return tf.constant(1.0)

    def _gain_and_bias(self, acc, in_scale, training):
        """Real gain and bias per channel with the batch normalization folded in."""
        unit = self._unit() * in_scale
        bias = self.bias if self.bias is not None else tf.zeros(())
        if self.batch_norm is None:
            return unit * tf.ones((acc.shape[-1],)), bias * tf.ones((acc.shape[-1],))
        mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        frozen = not self.trainable or {"norm", "statistics"} & set(self.frozen)  # as Keras has it
        if not frozen and training is not False and training is not None:
            # Both stages fold the batch's own statistics while they train, as float training does: with frozen ones a
            # network of 1-bit weights soon drifts away from them and falls apart.
            learning = tf.cast(training, tf.bool)
            together = self.batch_norm.get("synchronized", False)
            acc_mean, acc_variance = replicas.moments(acc, range(acc.shape.rank - 1), together)
            batch_mean, batch_variance = acc_mean * unit + bias, acc_variance * unit**2
            rate = tf.cast(learning, tf.float32) * (1.0 - self.batch_norm.get("momentum", 0.99))
            self.moving_mean.assign_add(rate * tf.stop_gradient(batch_mean - mean))
            self.moving_variance.assign_add(rate * tf.stop_gradient(batch_variance - variance))
            mean, variance = tf.where(learning, batch_mean, mean), tf.where(learning, batch_variance, variance)
        factor = self.gamma * tf.math.rsqrt(variance + self.batch_norm.get("epsilon", 1e-3))
        return unit * factor, (bias - mean) * factor + self.beta

    def load_float_batch_norm(self, source: keras.layers.Layer) -> None:
        """Copies the folded BatchNormalization's variables."""
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            value = getattr(source, name, None)
            if value is not None:
                getattr(self, name).assign(value)


class TanhKernel:
    """Mixin, ahead of a ``FoldedLayer``: a kernel trained through tanh; subclasses say what is multiplied with what."""

    def __init__(self, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer)}

    def _kernel_shape(self, input_shape) -> tuple[int, ...]:
        raise TypeError(f"{type(self).__name__} has no kernel of its own")

    def _add_kernel(self, shape) -> int:
        """Makes the kernel for inputs of that shape; the number of outputs."""
        kernel_shape = self._kernel_shape(shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=kernel_shape,
            initializer="glorot_uniform",
            regularizer=self.kernel_regularizer,
        )
        return int(np.prod(kernel_shape[self._output_axes() :]))

    def _build_kernel(self, shape) -> int:
        channels = self._add_kernel(shape)
        self.gain = self._vector("gain", channels, "ones")
        # A fresh kernel then means weights of its own size: amplitude * tanh(speed * kernel) ~ kernel.
        self.learned_width = self._make_width()
        unit = keras.initializers.Constant(1.0 / speed(self.bits.bits))
        self.amplitude = self._vector("amplitude", channels, unit, trainable=False)
        self.mask = None
        if getattr(self.bits, "keep_zeros", False):
            self.mask = self.add_weight(name="mask", shape=self.kernel.shape, initializer="ones", trainable=False)
        return channels

    def _make_width(self) -> LearnedWidth | None:
        """The width, where it is learned."""
        return LearnedWidth(self, self.bits.bits) if getattr(self.bits, "learned", None) else None

    def _output_axes(self) -> int:
        """First kernel axis that counts outputs."""
        return -1

    def _broadcast(self, vector):
        axes = self._output_axes()
        return tf.reshape(vector, self.kernel.shape[axes:])

    @property
    def weight_bits(self) -> int:
        """Width of the weights: that of ``bits``, or the whole width that stands where it is learned."""
        return self.bits.bits if self.learned_width is None else self.learned_width.bits

    @property
    def weight_grid(self) -> str:
        """Grid of the weights."""
        return self.bits.grid if self.learned_width is None else resolve_grid("auto", self.weight_bits)

    @property
    def weight_scales(self) -> np.ndarray:
        """What a step of the weights is worth, of each output: float32 [outputs], above 0."""
        return np.abs(tf.convert_to_tensor(self._unit()).numpy())

    def _theta(self):
        bits = self.bits.bits if self.learned_width is None else self.learned_width.whole
        theta = theta_of(self.kernel, self._broadcast(self.amplitude), bits)
        return theta if self.mask is None else theta * self.mask

    def _levels(self):
        if self.learned_width is not None:
            return self.learned_width.levels(self._theta())
        return levels(self._theta(), self.bits.bits, self.bits.grid)

    def _unit(self):
        # In float64, rounded once: TensorFlow's graph optimizer multiplies factors in an order of its own, and integers
        # made in a graph, in which models are trained, would differ from those made eagerly, which are exported.
        factors = tf.cast(self.gain, tf.float64) * tf.cast(self.amplitude, tf.float64)
        if self.learned_width is not None:
            return tf.cast(factors * self.learned_width.step(), tf.float32)
        return tf.cast(factors * grid_constants(self.bits.bits, self.bits.grid)[2], tf.float32)

    def _codes(self):
        return codes(self._theta(), self.weight_bits, self.weight_grid).numpy().astype(np.uint8)

    def _channels(self):
        return self.gain.shape[0]

    def load_float_kernel(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        """Starts from trained float weights of the original layer."""
        self._start_from(np.asarray(weight))
        if self.mask is not None and np.any(weight):  # a layer of zeros alone is not pruned but new, and has to learn
            self.mask.assign((np.asarray(weight) != 0).astype(np.float32).reshape(self.kernel.shape))
        if bias is not None:
            self.bias.assign(bias)

    def _start_from(self, weight: np.ndarray) -> None:
        flat = weight.reshape(-1, self._channels())
        if self._output_axes() == -2:  # depthwise: [height, width, channels, multiplier]
            flat = weight.reshape(int(np.prod(weight.shape[:-2])), -1)
        theta, gain, amplitude = initial_theta(flat, self.weight_bits, self.weight_grid)
        gain, amplitude = room_to_grow(gain, amplitude, len(flat))
        self.kernel.assign(kernel_of(theta, self.weight_bits).reshape(self.kernel.shape))
        self.gain.assign(gain)
        self.amplitude.assign(amplitude)

    def take_width(self, bits: int) -> None:
        """Computes with another whole width from now on, starting as near as it can to what the weights are.

        Args:
          bits: 1..8, of a layer whose width is learned.
        """
        if bits == self.weight_bits:
            return
        real = self._real_weights()
        self.learned_width.take(bits)
        self._start_from(real)

    def _real_weights(self) -> np.ndarray:
        """The weights as they are before they are quantized, in the kernel's shape."""
        return (tf.tanh(self._theta()) * self._broadcast(self.amplitude * self.gain)).numpy()


class Window:
    """Mixin, ahead of a ``TanhKernel``: the window of a convolution of one or two axes.

    Args:
      filters: outputs.
      kernel_size, strides, dilation_rate: one number for each axis.
      padding: "valid", "same" or "causal" (one axis only).
    """

    def __init__(self, filters, kernel_size, strides, padding, dilation_rate, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size, self.strides = tuple(kernel_size), tuple(strides)
        self.dilation_rate, self.padding = tuple(dilation_rate), padding

    def get_config(self):
        """Constructor arguments."""
        names = ("filters", "kernel_size", "strides", "padding", "dilation_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _kernel_shape(self, input_shape):
        return (*self.kernel_size, input_shape[-1], self.filters)

    def _padded(self, steps):
        if self.padding != "causal":
            return steps, self.padding.upper()
        return tf.pad(steps, [[0, 0], [(self.kernel_size[0] - 1) * self.dilation_rate[0], 0], [0, 0]]), "VALID"

    def explicit_padding(self, lengths: tuple[int, ...]) -> list[tuple[int, int]]:
        """(before, after) of each axis for an input of those lengths; the rule of TensorFlow's "SAME"."""
        pads = []
        for n, k, s, d in zip(lengths, self.kernel_size, self.strides, self.dilation_rate):
            reach = (k - 1) * d
            if self.padding == "same":
                total = max((-(-n // s) - 1) * s + reach + 1 - n, 0)
                pads.append((total // 2, total - total // 2))
            else:
                pads.append((reach, 0) if self.padding == "causal" else (0, 0))
        return pads

    def _positions(self, lengths: tuple[int | None, ...]) -> list[int | None]:
        """How many windows there are along each axis of an input of those lengths."""
        found = []
        for n, k, s, d in zip(lengths, self.kernel_size, self.strides, self.dilation_rate):
            reach = (k - 1) * d if self.padding == "valid" else 0
            found.append(None if n is None else -(-(n - reach) // s))
        return found
