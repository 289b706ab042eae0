"""Quantized layers without a kernel: entry, exit, functions of one value, sums, products, means, softmax.

Like all quantized layers they pass pairs (steps, scale); see ``layers``.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import AsWritten, keras
from tfmot_kws.quantize import activation_bits as activation_widths
from tfmot_kws.quantize import integer_math
from tfmot_kws.quantize.functions import BOUNDS, FUNCTIONS, check_function
from tfmot_kws.quantize.output_grid import FixedGrid, Grid, OutputGrid, quantize_steps, stage_variable
from tfmot_kws.quantize.quantizers import place_on_grid

SOFTMAX_SCALE = 1.0 / 256.0
_SOFTMAX_ONE = 2.0**15


class QuantizedOp(AsWritten, keras.layers.Layer):
    """Base: a stage and an output grid.

    Args:
      activation_bits: of the output, 2..8, or learned.
      bounds: (0, 1) or (-1, 1) where that is the known range of the output, whose grid then is fixed; None: its range
        is tracked.
    """

    def __init__(self, activation_bits=8, bounds=None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.activation_bits = activation_widths.checked(activation_bits, f"layer {self.name!r}: activation_bits")
        self.bounds = tuple(bounds) if bounds is not None else None

    def get_config(self):
        """Constructor arguments."""
        bits = activation_widths.config_of(self.activation_bits)
        return {**super().get_config(), "activation_bits": bits, "bounds": self.bounds}

    def build(self, input_shape):
        """Makes the variables."""
        self.stage = stage_variable(self)
        self.output_grid = self._make_grid()
        super().build(input_shape)

    def _make_grid(self):
        if self.bounds is not None:
            return FixedGrid(self.activation_bits, self.bounds[0] < 0, self)
        return OutputGrid(self, self.activation_bits)

    def _emit(self, real, placed, grid: Grid, training):
        training = keras.backend.learning_phase() if training is None else training
        if training is not False and training is not None:
            stage = tf.where(tf.cast(training, tf.bool), self.stage, 2.0)
            self.output_grid.track(tf.stop_gradient(real), stage)
        second = self.stage > 1.5
        return [tf.where(second, placed, real), tf.where(second, grid.scale, 1.0)]

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        return [tuple(input_shape[0]), ()]


class QuantizeInput(QuantizedOp):
    """Real values -> (steps, scale): a model's input, or what a layer left in float gives.

    Args:
      learned_range: whether stage 2 learns the range (see ``OutputGrid``).
    """

    def __init__(self, learned_range=False, **kwargs):
        super().__init__(**kwargs)
        self.learned_range = learned_range

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "learned_range": self.learned_range}

    def _make_grid(self):
        return OutputGrid(self, self.activation_bits, self.learned_range)

    def call(self, x, training=None):
        """float [batch, ...] -> (steps, scale)."""
        return self._forward(x, training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, x, training):
        grid = self.output_grid.grid(tf.size(x[0]))
        return self._emit(x, quantize_steps(x, grid), grid, training)

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        return [tuple(input_shape), ()]


class Dequantize(AsWritten, keras.layers.Layer):
    """(steps, scale) -> real values: a model's output, or what a layer left in float reads.

    Args:
      output_name: of the float model's output that this is; the exported tensor gets it.
    """

    def __init__(self, output_name=None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.output_name = output_name

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "output_name": self.output_name}

    def call(self, inputs):
        """Real values."""
        steps, scale = inputs
        return steps * scale

    def compute_output_shape(self, input_shape):
        """Shape of the values."""
        return tuple(input_shape[0])


class QuantizedFunction(QuantizedOp):
    """A function of one value; the device looks it up in a table of 256 entries, and so does stage 2.

    Args:
      function: a key of ``functions.FUNCTIONS``.
      alpha: its parameter, such as the slope of "leaky_relu" below zero.
    """

    def __init__(self, function="linear", alpha=0.0, **kwargs):
        super().__init__(**{**kwargs, "bounds": BOUNDS.get(function, kwargs.get("bounds"))})
        check_function(function, self.name)
        self.function, self.alpha = function, float(alpha)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "function": self.function, "alpha": self.alpha}

    def _apply(self, x):
        return FUNCTIONS[self.function](x, self.alpha)

    def _table(self, in_scale, grid):
        """Output steps for input steps -128..255, so that one table serves both zero points."""
        steps = tf.range(-128.0, 256.0)
        return tf.clip_by_value(tf.floor(self._apply(steps * in_scale) / grid.scale + 0.5), grid.low, grid.high)

    def call(self, inputs, training=None):
        """(steps, scale) -> (steps, scale)."""
        return self._forward(inputs, training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, inputs, training):
        steps, in_scale = inputs
        grid = self.output_grid.grid(tf.size(steps[0]))
        real = self._apply(steps * in_scale)
        # clipped: in stage 1 steps are real values, and what the table says of them is not used
        index = tf.cast(tf.clip_by_value(tf.round(steps), -128.0, 255.0), tf.int32) + 128
        exact = tf.gather(tf.stop_gradient(self._table(in_scale, grid)), index)
        inside = tf.floor(tf.stop_gradient(real) / grid.scale + 0.5)
        saturated = tf.logical_or(inside < grid.low, inside > grid.high)
        exact = tf.where(saturated, inside, exact)  # keeps the gradient's range mask; clipping gives the same value
        return self._emit(real, grid.place(real, exact), grid, training)

    def table(self, in_scale: float, in_zero_point: int) -> np.ndarray:
        """Output steps for each int8 input code -128..127, float [256]."""
        table = self._table(tf.constant(in_scale), self.output_grid.grid()).numpy()
        return table[128 + np.arange(-128, 128) - in_zero_point] if in_zero_point == -128 else table[:256]


class QuantizedSoftmax(AsWritten, keras.layers.Layer):
    """Softmax over the last axis by a table of exponentials and one exact division; output scale 1/256."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, input_shape):
        """Makes the stage variable."""
        self.stage = stage_variable(self)
        super().build(input_shape)

    def exponentials(self, in_scale) -> tf.Tensor:
        """``round(2^15 exp(-scale d))`` for d = 0..255."""
        return tf.floor(_SOFTMAX_ONE * tf.exp(-tf.range(0.0, 256.0) * in_scale) + 0.5)

    def call(self, inputs):
        """(steps, scale) -> (steps, 1/256)."""
        steps, in_scale = inputs
        real = tf.nn.softmax(steps * in_scale)
        distance = tf.clip_by_value(tf.round(tf.reduce_max(steps, -1, keepdims=True) - steps), 0.0, 255.0)
        e = tf.cast(tf.gather(tf.stop_gradient(self.exponentials(in_scale)), tf.cast(distance, tf.int32)), tf.float64)
        total = tf.reduce_sum(e, -1, keepdims=True)
        exact = tf.cast(tf.floor((512.0 * e + total) / (2.0 * total)), tf.float32)
        scale, low, high = tf.constant(SOFTMAX_SCALE), tf.constant(0.0), tf.constant(255.0)
        exact = tf.minimum(exact, high)  # 256 would cut the gradient of a certain answer
        placed = place_on_grid(real, exact, scale, low, high)
        second = self.stage > 1.5
        return [tf.where(second, placed, real), tf.where(second, scale, 1.0)]

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        return [tuple(input_shape[0]), ()]


class QuantizedMerge(QuantizedOp):
    """Sum or product of two tensors (numpy broadcasting), then a ReLU if asked.

    Args:
      merge: "add" or "multiply".
      activation: "linear", "relu" or "relu6".
    """

    def __init__(self, merge="add", activation="linear", **kwargs):
        super().__init__(**kwargs)
        self.merge, self.activation = merge, activation

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "merge": self.merge, "activation": self.activation}

    def multipliers(self, scales, out_scale):
        """Fixed-point multipliers (float64, one per term of the sum, one for a product) and their shift."""
        scales = [tf.stop_gradient(tf.cast(s, tf.float64)) for s in scales]
        out_scale = tf.stop_gradient(tf.cast(out_scale, tf.float64))
        if self.merge == "multiply":
            multiplier, shift = integer_math.fixed_point(scales[0] * scales[1] / out_scale)
            return [multiplier], shift
        _, shift = integer_math.fixed_point(tf.maximum(scales[0], scales[1]) / out_scale)
        return [integer_math.round_half_up(s / out_scale * integer_math.exp2(shift)) for s in scales], shift

    def limits(self, grid: Grid):
        """Least and largest step."""
        if self.activation == "linear":
            return grid.low, grid.high
        six = tf.stop_gradient(tf.floor(6.0 / grid.scale + 0.5))
        return tf.maximum(grid.low, 0.0), tf.minimum(grid.high, six) if self.activation == "relu6" else grid.high

    def call(self, inputs, training=None):
        """(steps, scale, steps, scale) -> (steps, scale)."""
        return self._forward(inputs, training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, inputs, training):
        (a, b), scales = inputs[0::2], inputs[1::2]
        a, b = _same_rank(a, b)
        real = a * scales[0] + b * scales[1] if self.merge == "add" else (a * scales[0]) * (b * scales[1])
        activated = FUNCTIONS[self.activation](real, 0.0)
        grid = self.output_grid.grid(tf.size(real[0]))
        multipliers, shift = self.multipliers(scales, grid.scale)
        whole = [tf.cast(tf.round(tf.stop_gradient(v)), tf.float64) for v in (a, b)]
        if self.merge == "add":
            total = whole[0] * multipliers[0] + whole[1] * multipliers[1]
        else:
            total = whole[0] * whole[1] * multipliers[0]
        exact = tf.cast(integer_math.round_half_up(total * integer_math.exp2(-shift)), tf.float32)
        low, high = self.limits(grid)
        return self._emit(activated, grid.place(real, exact, (low, high)), grid, training)

    def compute_output_shape(self, input_shape):
        """[broadcast shape, ()]."""
        a, b = (tuple(s) for s in input_shape[0::2])
        a, b = ((*s[:1], *(1,) * (max(len(a), len(b)) - len(s)), *s[1:]) for s in (a, b))  # as in _same_rank
        return [tuple(tf.broadcast_static_shape(tf.TensorShape(a), tf.TensorShape(b))), ()]


def _same_rank(a, b):
    """Puts axes of one behind the batch axis of the tensor with fewer, as Keras' merge layers do."""
    while a.shape.rank < b.shape.rank:
        a = a[:, None]
    while b.shape.rank < a.shape.rank:
        b = b[:, None]
    return a, b


class QuantizedConcatenate(QuantizedOp):
    """Concatenation on one common grid."""

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "axis": self.axis}

    def call(self, inputs, training=None):
        """(steps, scale, steps, scale, ...) -> (steps, scale)."""
        return self._forward(inputs, training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, inputs, training):
        real = tf.concat([s * scale for s, scale in zip(inputs[0::2], inputs[1::2])], self.axis)
        grid = self.output_grid.grid(tf.size(real[0]))
        return self._emit(real, quantize_steps(real, grid), grid, training)

    def table(self, in_scale: float, in_zero_point: int) -> np.ndarray:
        """Output steps for each int8 code -128..127 of one input, float [256]."""
        steps = tf.constant(np.arange(-128, 128) - in_zero_point, tf.float32)
        return quantize_steps(steps * tf.constant(in_scale), self.output_grid.grid()).numpy()

    def compute_output_shape(self, input_shape):
        """[joined shape, ()]."""
        shapes = [list(s) for s in input_shape[0::2]]
        sizes = [s[self.axis] for s in shapes]
        shapes[0][self.axis] = None if None in sizes else sum(sizes)
        return [tuple(shapes[0]), ()]


class QuantizedAveragePool(QuantizedOp):
    """Mean over a window (1-D or 2-D) or over all positions, one rounding.

    Args:
      pool_size: None for global pooling.
      keepdims: of global pooling.
    """

    def __init__(self, rank=1, pool_size=None, strides=None, padding="valid", keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.rank, self.padding, self.keepdims = rank, padding, keepdims
        self.pool_size = tuple(pool_size) if pool_size else None
        self.strides = tuple(strides) if strides else self.pool_size

    def get_config(self):
        """Constructor arguments."""
        names = ("rank", "pool_size", "strides", "padding", "keepdims")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def geometry(self, lengths: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
        """(size, stride, padding) of each axis for an input of those lengths."""
        if self.pool_size is None:
            return tuple(lengths), (1,) * self.rank, [(0, 0)] * self.rank
        pads = []
        for n, k, s in zip(lengths, self.pool_size, self.strides):
            total = max((-(-n // s) - 1) * s + k - n, 0) if self.padding == "same" else 0
            pads.append((total // 2, total - total // 2))
        return self.pool_size, self.strides, pads

    def _sum_and_count(self, x):
        axes = list(range(1, self.rank + 1))
        if self.pool_size is None:
            count = tf.reduce_prod(tf.shape(x)[1 : self.rank + 1])
            return tf.reduce_sum(x, axes, keepdims=self.keepdims), tf.cast(count, tf.float32)
        pad = self.padding.upper()
        mean = tf.nn.avg_pool(x, self.pool_size, self.strides, pad)
        inside = tf.ones_like(x[:1, ..., :1])
        taps = float(np.prod(self.pool_size))
        if pad == "VALID":
            return mean * taps, tf.constant(taps)
        kernel = tf.ones((*self.pool_size, 1, 1))
        count = tf.nn.convolution(inside, kernel, strides=self.strides, padding=pad)
        return mean * count, count

    def call(self, inputs, training=None):
        """(steps, scale) -> (steps, scale)."""
        return self._forward(inputs, training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, inputs, training):
        steps, in_scale = inputs
        total, count = self._sum_and_count(steps)
        real = total / count * in_scale
        grid = self.output_grid.grid(tf.size(real[0]))
        multiplier, shift = self.multiplier(in_scale, grid.scale)
        exact = integer_math.rounded_mean(tf.stop_gradient(total), count, multiplier, shift)
        return self._emit(real, grid.place(real, exact), grid, training)

    def multiplier(self, in_scale, out_scale):
        """Fixed-point ``in_scale / out_scale``."""
        ratio = tf.cast(in_scale, tf.float64) / tf.cast(out_scale, tf.float64)
        return integer_math.fixed_point(tf.stop_gradient(ratio))

    def compute_output_shape(self, input_shape):
        """[shape of the means, ()]."""
        shape = tuple(input_shape[0])
        if self.pool_size is None:
            return [(shape[0], *(1,) * (self.rank * self.keepdims), shape[-1]), ()]
        out = []
        for n, k, s in zip(shape[1:-1], self.pool_size, self.strides):
            out.append(None if n is None else -(-(n - (k - 1) * (self.padding == "valid")) // s))
        return [(shape[0], *out, shape[-1]), ()]
