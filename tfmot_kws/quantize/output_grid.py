"""The linear quantizer of an activation: its range is tracked in stage 1 and learned in stage 2, or known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize import activation_bits
from tfmot_kws.quantize.activation_bits import ActivationBits, LearnedActivations
from tfmot_kws.quantize.integer_math import divide
from tfmot_kws.quantize.learned_widths import LearnedWidth
from tfmot_kws.quantize.quantizers import of_width, place_on_grid, round_through, scale_gradient

_SMALLEST_REACH = 1e-6
_LN2 = 0.6931472
_SEEN = 1e-30  # stands for the largest value of a tensor of zeros, so that "seen" and "never seen" differ


def tracked_variable(layer: keras.layers.Layer, name: str, shape: tuple[int, ...], value: float) -> tf.Variable:
    """A statistic that training assigns: one copy per replica, averaged when read outside.

    Ranges are joined by ``join_replicas`` before they are read.
    """
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
    """A quantized tensor's grid: ``real = scale * steps``, ``low <= steps <= high`` (scalar tensors).

    ``width`` is there where it is learned, and ``rate`` how much smaller a bit more makes the step: -d ln(scale).
    """

    scale: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    width: LearnedWidth | None = None
    rate: tf.Tensor | float = _LN2

    def place(self, real: tf.Tensor, steps: tf.Tensor, limits: tuple[tf.Tensor, tf.Tensor] | None = None) -> tf.Tensor:
        """``place_on_grid``, with a gradient for the width where it is learned.

        Args:
          real: values.
          steps: the integers that they round to, not clipped.
          limits: ends that are narrower than the grid's.
        """
        low, high = limits or (self.low, self.high)
        placed = place_on_grid(real, steps, self.scale, low, high)
        if self.width is None:
            return placed
        return self.width.placed(placed, tf.stop_gradient(real / self.scale), low, high, self.rate)


def _width_of(layer: keras.layers.Layer, bits: ActivationBits) -> LearnedWidth | None:
    if not isinstance(bits, LearnedActivations):
        return None
    return LearnedWidth(layer, activation_bits.MOST, activation_bits.LEAST, "activation_")


def _power(width: LearnedWidth | None, bits: int, less: int = 0) -> tf.Tensor | float:
    """2^(bits - less)."""
    return 2.0 ** (bits - less) if width is None else of_width(lambda n: 2.0 ** (n - less), width.whole)


class OutputGrid:
    """Range and scale of one activation tensor.

    Values that never fall below zero use all steps above it (0 .. 2^bits - 1, zero point -128); others lie around it
    (-2^(bits-1) .. 2^(bits-1) - 1, zero point 0). No other zero point is made: with these two every core multiplies
    8-bit inputs as they are, and no channel needs a correction.

    Stage 1 tracks the least and largest value since ``reset``: over all calls, however the clips are cut into batches
    and ordered. Stage 2 keeps those and learns a factor on them, ``exp(range_offset)``, by the step-size gradient of
    arXiv 1902.08153.

    Args:
      layer: gets the variables.
      bits: width, 2..8, or learned.
      learned: whether stage 2 learns the factor. A model's input does without: its gradient would cost as much as
        that of the first layer, for a range that the data alone decides. Its width is not learned either.
    """

    def __init__(self, layer: keras.layers.Layer, bits: ActivationBits, learned: bool = True):
        bits = activation_bits.checked(bits, f"layer {layer.name!r}: activation_bits")
        self._bits = activation_bits.fixed(bits)
        self.width = _width_of(layer, bits) if learned else None
        self._least = tracked_variable(layer, "output_min", (), 0.0)
        self._largest = tracked_variable(layer, "output_max", (), 0.0)
        self._offset = None
        if learned:
            self._offset = layer.add_weight(name="range_offset", shape=(), initializer="zeros", dtype=tf.float32)

    @property
    def bits(self) -> int:
        """The width, or the whole width that stands where it is learned."""
        return self._bits if self.width is None else self.width.bits

    @property
    def tracked(self) -> bool:
        """Whether any value has been seen, zeros and NaN included."""
        return any(v != 0 for v in self._here())

    @property
    def finite(self) -> bool:
        """Whether no NaN and no infinity has been seen."""
        return bool(np.isfinite(self._here()).all())

    def _here(self) -> tuple[float, float]:
        """The ends of the range as this worker's first replica holds it; asked of all, it would be a mean."""
        return tuple(float(getattr(v, "values", (v,))[0].numpy()) for v in (self._least, self._largest))

    def reset(self) -> None:
        """Forgets what has been seen, and what stage 2 learned on it."""
        self._least.assign(0.0)
        self._largest.assign(0.0)
        self._forget_factor()

    def set_range(self, least: float, largest: float) -> None:
        """Takes a range, real units, as if its ends had been seen; what stage 2 learned on the last one is dropped."""
        self._least.assign(min(float(least), 0.0))
        self._largest.assign(max(float(largest), _SEEN))
        self._forget_factor()

    def _forget_factor(self) -> None:
        if self._offset is not None:
            self._offset.assign(0.0)

    @property
    def seen(self) -> tuple[tf.Variable, tf.Variable]:
        """The least and the largest value, which each replica widens by itself."""
        return self._least, self._largest

    def track(self, x: tf.Tensor, stage: tf.Tensor) -> None:
        """Widens the range to hold the batch, in stage 1."""
        first = stage < 1.5
        low, high = tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), _SEEN)
        self._least.assign(tf.where(first, tf.minimum(self._least, low), self._least))
        self._largest.assign(tf.where(first, tf.maximum(self._largest, high), self._largest))

    def grid(self, elements: tf.Tensor | int = 1) -> Grid:
        """The grid as it stands; ``elements`` (of the tensor it serves) scales the gradient of the range."""
        half, full = _power(self.width, self._bits, 1), _power(self.width, self._bits)
        # Values above minus half a step are zero on either grid; they do not cost half of the steps above it.
        signed = -self._least * (2.0 * (full - 1.0)) > self._largest
        low, high = tf.where(signed, -half, 0.0), tf.where(signed, half - 1.0, full - 1.0)
        reach = tf.maximum(-self._least, self._largest)
        # A tensor of zeros gets some step; a tiny one would make extreme multipliers in the layers that read it.
        reach = tf.where(reach <= _SEEN, 1.0, tf.maximum(reach, _SMALLEST_REACH))
        if self._offset is not None:
            damping = tf.math.rsqrt(tf.cast(elements, tf.float32) * high)
            reach *= tf.exp(scale_gradient(tf.convert_to_tensor(self._offset), damping))
        return Grid(reach / high, low, high, self.width, _LN2 * (high + 1.0) / high)

    def quantization(self) -> tuple[float, int]:
        """(scale, zero_point) for export."""
        return _quantization(self.grid())


class FixedGrid:
    """The grid of values whose range is known: 0..1 or -1..1, on steps that are powers of two, as TFLite's.

    The end itself is one step beyond the grid: 1 becomes 255/256 and, where there are values below 0, 127/128. Such a
    grid sees no data, so that no answer is capped at what the clips of a calibration happened to give.

    Args:
      bits: width, 2..8, or learned.
      signed: -1..1, else 0..1.
      layer: gets the variables of a width that is learned.
    """

    tracked = finite = True

    def __init__(self, bits: ActivationBits, signed: bool, layer: keras.layers.Layer | None = None):
        self._bits, self.signed = activation_bits.fixed(bits), signed
        self.width = _width_of(layer, bits)

    @property
    def bits(self) -> int:
        """The width, or the whole width that stands where it is learned."""
        return self._bits if self.width is None else self.width.bits

    def track(self, x: tf.Tensor, stage: tf.Tensor) -> None:
        """Nothing to see."""

    def grid(self, elements: tf.Tensor | int = 1) -> Grid:
        """The grid; constants, but for a width that is learned."""
        steps = _power(self.width, self._bits, int(self.signed))
        low = -steps if self.signed else 0.0
        scale, low, high = (tf.convert_to_tensor(v, tf.float32) for v in (1.0 / steps, low, steps - 1.0))
        return Grid(scale, low, high, self.width)

    def quantization(self) -> tuple[float, int]:
        """(scale, zero_point) for export."""
        return _quantization(self.grid())


def join_replicas(grids: Sequence[OutputGrid]) -> None:
    """Gives all replicas of distributed training the ranges that hold what each of them has seen.

    TensorFlow knows no least and no largest value over replicas: read outside, the variables are means. All ranges go
    over the network at once; all workers must ask.

    Args:
      grids: of one model.
    """
    strategy = getattr(grids[0].seen[1], "distribute_strategy", None) if grids else None
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return

    def own():
        return tf.stack([[v.read_value() for v in grid.seen] for grid in grids])[None]

    seen = strategy.gather(strategy.run(own), 0).numpy()
    for index, grid in enumerate(grids):
        least, largest = grid.seen
        least.assign(seen[:, index, 0].min())
        largest.assign(seen[:, index, 1].max())


def _quantization(grid: Grid) -> tuple[float, int]:
    zero_point = 0 if float(grid.low.numpy()) < 0 else -128
    return float(np.float32(grid.scale.numpy())), zero_point


def quantize_steps(real: tf.Tensor, grid: Grid) -> tf.Tensor:
    """Steps of real values: ``clip(floor(real / scale + 1/2))``."""
    return grid.place(real, tf.floor(real / grid.scale + 0.5))


def quantize_vector(values: tf.Tensor, bits: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Symmetric integers and their unit, from the largest absolute value; gradients pass straight through."""
    limit = 2 ** (bits - 1) - 1
    unit = divide(tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(values)), 1e-12)), limit)
    return round_through(values / unit, float(-limit), float(limit)), unit
