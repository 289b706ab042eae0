"""The linear quantizer of an activation: tracks a range in stage 1, learns it in stage 2."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize.integer_math import divide
from tfmot_kws.quantize.quantizers import check_bits, place_on_grid, round_through, scale_gradient

_TRACKING_DECAY = 0.99
_SMALLEST_REACH = 1e-6


def tracked_variable(layer: keras.layers.Layer, name: str, shape: tuple[int, ...], value: float) -> tf.Variable:
    """A statistic that training assigns: one copy per replica, averaged when read outside."""
    return layer.add_weight(
        name=name,
        shape=shape,
        initializer=keras.initializers.Constant(value),
        trainable=False,
        dtype=tf.float32,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )


def stage_variable(layer: keras.layers.Layer) -> tf.Variable:
    """The layer's stage: 1.0 or 2.0; saved with the model, changed by ``set_stage`` without a retrace."""
    return layer.add_weight(name="stage", shape=(), initializer="ones", trainable=False, dtype=tf.float32)


@dataclasses.dataclass(frozen=True)
class Grid:
    """A quantized tensor's grid: ``real = scale * steps``, ``low <= steps <= high`` (scalar tensors)."""

    scale: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor


class OutputGrid:
    """Range and scale of one activation tensor.

    Values that never fall below zero use all steps above it (0 .. 2^bits - 1, zero point -128); others lie around it
    (-2^(bits-1) .. 2^(bits-1) - 1, zero point 0). No other zero point is made: with these two every core multiplies
    8-bit inputs as they are, and no channel needs a correction.

    Stage 1 tracks the least and largest value (moving average over batches). Stage 2 keeps those and learns a factor on
    them, ``exp(range_offset)``, by the step-size gradient of arXiv 1902.08153.

    Args:
      layer: gets the variables.
      bits: width, 2..8.
      learned: whether stage 2 learns the factor. A model's input does without: its gradient would cost as much as
        that of the first layer, for a range that the data alone decides.
    """

    def __init__(self, layer: keras.layers.Layer, bits: int, learned: bool = True):
        self.bits = check_bits(bits, f"layer {layer.name!r}: activation_bits", 2, 8)
        self._least = tracked_variable(layer, "output_min", (), 0.0)
        self._largest = tracked_variable(layer, "output_max", (), 0.0)
        self._offset = None
        if learned:
            self._offset = layer.add_weight(name="range_offset", shape=(), initializer="zeros", dtype=tf.float32)

    @property
    def tracked(self) -> bool:
        """Whether any value has been seen."""
        return bool(self._largest.numpy() > 0 or self._least.numpy() < 0)

    def track(self, x: tf.Tensor, stage: tf.Tensor) -> None:
        """Moves the range towards the batch's, in stage 1."""
        low, high = tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)
        fresh = tf.equal(self._largest - self._least, 0.0)
        rate = tf.where(fresh, 1.0, 1.0 - _TRACKING_DECAY) * tf.cast(stage < 1.5, tf.float32)
        self._least.assign_add(rate * (low - self._least))
        self._largest.assign_add(rate * (high - self._largest))

    def grid(self, elements: tf.Tensor | int = 1) -> Grid:
        """The grid as it stands; ``elements`` (of the tensor it serves) scales the gradient of the range."""
        signed = self._least < 0.0
        half, full = 2.0 ** (self.bits - 1), 2.0**self.bits
        low, high = tf.where(signed, -half, 0.0), tf.where(signed, half - 1.0, full - 1.0)
        reach = tf.maximum(tf.maximum(-self._least, self._largest), _SMALLEST_REACH)
        if self._offset is not None:
            damping = tf.math.rsqrt(tf.cast(elements, tf.float32) * high)
            reach *= tf.exp(scale_gradient(tf.convert_to_tensor(self._offset), damping))
        return Grid(reach / high, low, high)

    def quantization(self) -> tuple[float, int]:
        """(scale, zero_point) for export."""
        grid = self.grid()
        zero_point = 0 if float(grid.low.numpy()) < 0 else -128
        return float(np.float32(grid.scale.numpy())), zero_point


def quantize_steps(real: tf.Tensor, grid: Grid) -> tf.Tensor:
    """Steps of real values: ``clip(floor(real / scale + 1/2))``."""
    return place_on_grid(real, tf.floor(real / grid.scale + 0.5), grid.scale, grid.low, grid.high)


def quantize_vector(values: tf.Tensor, bits: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Symmetric integers and their unit, from the largest absolute value; gradients pass straight through."""
    limit = 2 ** (bits - 1) - 1
    unit = divide(tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(values)), 1e-12)), limit)
    return round_through(values / unit, float(-limit), float(limit)), unit
