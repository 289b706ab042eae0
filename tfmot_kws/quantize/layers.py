"""Layers that ``quantize_apply`` puts in the place of dense and convolution layers and of batch normalization.

Each stands for one op of the exported graph: a kernel, the batch normalization after it and a ReLU, one rounding at
the end. Tensors between quantized layers travel as a pair (steps, scale): whole numbers and what one of them is worth.
In stage 1 nothing but weights is quantized, steps are the real values and scale is 1.

Stage 2 computes the device's integers (``integer_math``) in the forward pass and the gradients of the real-valued
layer in the backward pass.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize import integer_math
from tfmot_kws.quantize.layer_parts import FoldedLayer, TanhKernel, Window
from tfmot_kws.quantize.output_grid import OutputGrid, quantize_vector, stage_variable
from tfmot_kws.quantize.quantizers import kernel_of, round_through, speed

ACTIVATIONS = FoldedLayer.ACTIVATIONS
_WIDE_BITS = 16
_COARSE_BIAS = 4  # an exponent: biases of 8 bits would lie 16 steps of the output apart
_FINE_WEIGHTS = 6  # bits of a weight


@dataclasses.dataclass(frozen=True)
class LayerIntegers:
    """What the device needs of a layer: numpy integers, by the very functions that training runs.

    codes: uint8 in the kernel's shape (None for a plain affine map); gain, bias: int16 [outputs].
    """

    codes: np.ndarray | None
    gain: np.ndarray
    bias: np.ndarray
    multiplier: int
    bias_shift: int
    shift: int
    steps_min: int
    steps_max: int

    @classmethod
    def of(cls, codes: np.ndarray | None, gain, bias, multiplier, bias_shift, shift, limits) -> LayerIntegers:
        """From the whole-number tensors of a layer; ``limits`` is (least, largest) step of the output."""
        low, high = limits
        return cls(
            codes, gain.numpy().astype(np.int16), bias.numpy().astype(np.int16),
            *(int(v) for v in (multiplier, bias_shift, shift, low, high)),
        )  # fmt: skip


class QuantizedAffine(FoldedLayer):
    """Per-channel gain and bias of the last axis, batch normalization, ReLU; base of the layers with a kernel.

    As it stands it is the quantized form of a BatchNormalization that has no layer to fold into. Gain and bias have 16
    bits where ``bits`` leaves them open: nothing else is left to make up for the rounding of eight, which an input far
    from zero multiplies, and on the device such a layer is small.
    """

    _OWN_BITS = _WIDE_BITS

    def build(self, input_shape):
        """Makes the variables; ``input_shape`` is [shape of the values, shape of the scale]."""
        shape = tuple(input_shape[0])
        channels = self._build_kernel(shape)
        self.stage = stage_variable(self)
        self._build_folded(channels)
        self.output_grid = OutputGrid(self, self.bits.activation_bits)
        super().build(input_shape)

    def _build_kernel(self, shape) -> int:
        return shape[-1]

    def _accumulate(self, steps):
        """Accumulators of integer steps with integer weight levels."""
        return steps

    def call(self, inputs, training=None):
        """(steps, scale) -> (steps, scale)."""
        return self._forward(inputs, training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, inputs, training):
        steps, in_scale = inputs
        training = keras.backend.learning_phase() if training is None else training
        acc = self._accumulate(steps)
        second = self.stage > 1.5
        gain, bias = self._gain_and_bias(acc, in_scale, training)
        grid = self.output_grid.grid(tf.size(acc[0]))
        gain_steps, bias_steps, unit, multiplier, f, shift = self._integers(gain, bias, grid.scale)
        bias_unit = tf.cast(tf.cast(grid.scale, tf.float64) * integer_math.exp2(f - shift), tf.float32)
        gain = tf.where(second, gain_steps * unit, gain)
        bias = tf.where(second, bias_steps * tf.stop_gradient(bias_unit), bias)
        real = acc * gain + bias
        exact = integer_math.requantize(
            *(tf.stop_gradient(v) for v in (acc, gain_steps, bias_steps)), multiplier, f, shift
        )
        low, high = self._limits(grid)
        placed = grid.place(real, exact, (low, high))
        activated = self._activate(real)
        if training is not False and training is not None:
            self._track(activated, training)
        return [tf.where(second, placed, activated), tf.where(second, grid.scale, 1.0)]

    def _track(self, y, training):
        stage = tf.where(tf.cast(training, tf.bool), self.stage, 2.0)
        self.output_grid.track(tf.stop_gradient(y), stage)

    def _activate(self, x):
        if self.activation == "linear":
            return x
        return tf.nn.relu(x) if self.activation == "relu" else tf.nn.relu6(x)

    def _limits(self, grid):
        if self.activation == "linear":
            return grid.low, grid.high
        high = grid.high
        if self.activation == "relu6":
            high = tf.minimum(high, tf.stop_gradient(tf.floor(6.0 / grid.scale + 0.5)))
        return tf.maximum(grid.low, 0.0), high

    def _integers(self, gain, bias, out_scale):
        """Whole-number gain and bias (float tensors with gradients), the gain's unit, multiplier, bias shift, shift."""
        gain_steps, unit = quantize_vector(gain, self.bits.gain_bits or self._OWN_BITS)
        scale = tf.stop_gradient(tf.cast(out_scale, tf.float64))
        largest = tf.stop_gradient(tf.reduce_max(tf.abs(bias)))
        bits = self.bits.bias_bits or self._OWN_BITS
        exponent = integer_math.bias_exponent(largest, scale, bits)
        wide = tf.constant(False)
        if self.bits.bias_bits is None and bits < _WIDE_BITS:
            wide = exponent >= _COARSE_BIAS
            exponent = tf.where(wide, integer_math.bias_exponent(largest, scale, _WIDE_BITS), exponent)
        multiplier, shift = integer_math.fixed_point(
            tf.cast(unit, tf.float64) / scale, integer_math.shift_limit(exponent)
        )
        f, finest = (integer_math.bias_shift(exponent, shift, b) for b in (bits, _WIDE_BITS))
        f = tf.where(wide, finest, f)
        bias_unit = tf.cast(scale * integer_math.exp2(f - shift), tf.float32)
        limit = tf.where(wide, 2.0 ** (_WIDE_BITS - 1) - 1, 2.0 ** (bits - 1) - 1)
        return gain_steps, round_through(bias / bias_unit, -limit, limit), unit, multiplier, f, shift

    def _codes(self) -> np.ndarray | None:
        return None

    def integers(self, in_scale: float) -> LayerIntegers:
        """The device's integers for an input of that scale."""
        channels = int(self._channels())
        gain, bias = self._gain_and_bias(tf.zeros((1, channels)), tf.constant(in_scale), False)
        grid = self.output_grid.grid()
        gain_steps, bias_steps, _, *rest = self._integers(gain, bias, grid.scale)
        return LayerIntegers.of(self._codes(), gain_steps, bias_steps, *rest, self._limits(grid))

    def _channels(self) -> int:
        return self.moving_mean.shape[0]

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        return [tuple(input_shape[0]), ()]


class QuantizedKernel(TanhKernel, QuantizedAffine):
    """Base of the layers with a kernel trained through tanh.

    Gain and bias have 8 bits where ``bits`` leaves them open, as the fast kernels of the device need it; the bias has
    16 where it is so much larger than the output that eight would be coarser than 16 of the output's steps.
    """

    _OWN_BITS = 8

    def load_float_kernel(self, weight, bias):
        """Starts from trained float weights of the original layer."""
        super().load_float_kernel(weight, bias)
        self._align_gains(np.ones(self._channels()))

    def load_float_batch_norm(self, source):
        """Copies the folded BatchNormalization's variables."""
        super().load_float_batch_norm(source)
        variance = self.moving_variance.numpy() + self.batch_norm.get("epsilon", 1e-3)
        self._align_gains(self.gamma.numpy() / np.sqrt(variance))

    def _align_gains(self, factor: np.ndarray) -> None:
        """Moves what the rounding of gains would cut off into the weights, whose many levels take it up.

        Amplitudes grow until each channel's gain, times ``factor``, is whole; the weights stay what they are. With few
        levels a weight cannot follow so small a change.
        """
        if self.weight_bits < _FINE_WEIGHTS:
            return
        gains = np.abs(self.gain.numpy().astype(np.float64) * self.amplitude.numpy() * factor)
        steps = gains / max(gains.max(), 1e-30) * (2.0 ** ((self.bits.gain_bits or self._OWN_BITS) - 1) - 1)
        least = 1e-2  # with less, no level but zero would be left of the weights
        growth = np.where(steps > least, np.ceil(steps - 1e-4) / np.maximum(steps, least), 1.0).astype(np.float32)
        squashed = np.tanh(self.kernel.numpy() * speed(self.weight_bits)) / self._broadcast(growth).numpy()
        self.kernel.assign(kernel_of(np.arctanh(squashed), self.weight_bits))
        self.amplitude.assign(self.amplitude.numpy() * growth)


class QuantizedDense(QuantizedKernel):
    """Dense over the last axis."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "units": self.units}

    def _kernel_shape(self, input_shape):
        return (input_shape[-1], self.units)

    def _accumulate(self, steps):
        if steps.shape.rank == 2:
            return tf.matmul(steps, self._levels())
        flat = tf.matmul(tf.reshape(steps, (-1, steps.shape[-1])), self._levels())
        out = tf.reshape(flat, tf.concat([tf.shape(steps)[:-1], [self.units]], 0))
        return tf.ensure_shape(out, (*steps.shape[:-1], self.units))

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        return [(*tuple(input_shape[0])[:-1], self.units), ()]


class QuantizedConv(Window, QuantizedKernel):
    """Conv1D and Conv2D: the rank is the length of ``kernel_size``."""

    def _accumulate(self, steps):
        steps, padding = self._padded(steps)
        return tf.nn.convolution(
            steps, self._levels(), strides=self.strides, padding=padding, dilations=self.dilation_rate
        )

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        shape = tuple(input_shape[0])
        return [(shape[0], *self._positions(shape[1:-1]), self._channels_out(shape)), ()]

    def _channels_out(self, shape) -> int:
        return self.filters


class QuantizedDepthwise(QuantizedConv):
    """DepthwiseConv1D and DepthwiseConv2D; weights always fit int8."""

    def __init__(self, depth_multiplier=1, **kwargs):
        super().__init__(filters=0, **kwargs)
        if self.bits.bits == 8 and self.bits.grid == "mid-rise":
            raise ValueError(f"layer {self.name!r}: depthwise weights of 8 bits need grid='mid-tread' (or 'auto')")
        self.depth_multiplier = depth_multiplier

    def get_config(self):
        """Constructor arguments."""
        config = {**super().get_config(), "depth_multiplier": self.depth_multiplier}
        del config["filters"]
        return config

    def _kernel_shape(self, input_shape):
        return (*self.kernel_size, input_shape[-1], self.depth_multiplier)

    def _output_axes(self):
        return -2

    def _channels_out(self, shape):
        return shape[-1] * self.depth_multiplier

    def _accumulate(self, steps):
        steps, padding = self._padded(steps)
        kernel = self._levels()
        if len(self.kernel_size) == 2:
            return _depthwise(steps, kernel, self.strides, padding, self.dilation_rate)
        # One axis is a picture one column wide; TensorFlow wants equal strides, which a width of one does not feel.
        strides, dilation = self.strides * 2, (self.dilation_rate[0], 1)
        out = _depthwise(steps[:, :, None, :], kernel[:, None], strides, padding, dilation)
        return out[:, :, 0, :]


def _depthwise(x, kernel, strides, padding, dilations):
    return tf.nn.depthwise_conv2d(x, kernel, (1, *strides, 1), padding, dilations=dilations)
