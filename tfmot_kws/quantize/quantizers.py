"""Weight and activation quantizers: pure functions first, thin classes for TensorFlow Model Optimization second.

Weights follow Zeng et al. 2022 (arXiv 2207.06920): ``tanh`` squashes a free parameter theta into (-1, 1), equal cells
quantize it, and the gradient passes straight through the rounding:

    weight = gain[c] * amplitude[c] * step * level(code(theta)),      step * level ~ tanh(theta)

``amplitude`` is a constant that makes the learned ``gain`` start near 1. What a layer stores is ``kernel``, with
``theta = speed * kernel``, so that the learning rate of the float model serves. Adam moves every parameter by about the
learning rate a step, however large its gradient, so theta moves by ``speed`` times that, alike in every channel: at 4
bits and more about as far, in proportion, as a float weight would move, and faster below, because to change at all a
weight has to cross a cell, and the cells of few bits are wide. Plain gradient descent follows the gradient's size, so
the gradient is scaled by ``1 / (speed * amplitude)^2``: near zero the weight then moves as a float weight would.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import tfmot
from tfmot_kws.quantize.integer_math import round_half_up

GRIDS = ("mid-rise", "mid-tread")
_STEEPEST = 0.97  # tanh(theta) starts no nearer to 1, where its slope is too small to learn
_NOTHING = 1e-12  # a channel whose weights are all smaller counts as zero
_SMALL = 0.3  # of a fresh layer's largest weights: channels below are small
_AT_ONCE = 2**18  # weights times amplitudes tried together: many small arrays are slow, huge ones take memory
_SPEEDS = {1: 20.0, 2: 20.0, 3: 8.0}
MOST_RISE = {"any": 7, "ethos-u": 5}
"""Target -> the widest weights that "auto" gives the grid mid-rise. An Ethos-U reads weights that Vela has compressed,
and a grid with a zero compresses better: its levels have no gaps. From 6 bits on that costs a step that is wider by
1/63 at most; below, a level less is a larger share of them, and may cost accuracy. benchmarks/npu.py measures both."""
_MOST_RISE = MOST_RISE["any"] + 0.5
"""The same for a width that is a tensor: a whole number, as a float."""
_LN2 = 0.6931472


def check_bits(bits: int, what: str, low: int = 1, high: int = 8) -> int:
    """Returns ``bits``; ValueError names ``what`` where it is no whole number in low..high."""
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not low <= bits <= high:
        raise ValueError(f"{what}: bits must be a whole number from {low} to {high}, found {bits!r}")
    return int(bits)


def resolve_grid(grid: str, bits: int, what: str = "grid", target: str = "any") -> str:
    """The grid of a width: "auto" is mid-rise (every level used) up to 7 bits, mid-tread (fits int8) at 8.

    For the target "ethos-u" see ``MOST_RISE``; its weights are int8, so that mid-rise of 8 bits is refused.
    """
    if grid == "auto":
        return "mid-rise" if bits <= MOST_RISE[target] else "mid-tread"
    if grid not in GRIDS:
        raise ValueError(f"{what}: grid must be 'auto', 'mid-rise' or 'mid-tread', found {grid!r}")
    if grid == "mid-tread" and bits == 1:
        raise ValueError(f"{what}: a mid-tread grid of 1 bit has no level but zero; use grid='mid-rise'")
    if target == "ethos-u" and grid == "mid-rise" and bits == 8:
        raise ValueError(
            f"{what}: 8 bits on grid='mid-rise' have levels to 255, and weights of an Ethos-U (target='ethos-u') are "
            "int8; use grid='mid-tread' or 'auto'"
        )
    return grid


def grid_constants(bits: int, grid: str) -> tuple[int, int, float]:
    """(a, b, step): ``level = a * code - b`` and ``tanh(theta) ~ step * level``."""
    if grid == "mid-rise":
        return 2, 2**bits - 1, 2.0**-bits
    return 1, 2 ** (bits - 1), 2.0 / (2**bits - 1)


@tf.custom_gradient
def straight_through(x: tf.Tensor, rounded: tf.Tensor):
    """``rounded`` in the forward pass, the gradient of ``x`` in the backward pass; exact, unlike x + stop(r - x)."""
    return tf.identity(rounded), lambda upstream: (upstream, None)


def codes(theta: tf.Tensor, bits: int, grid: str) -> tf.Tensor:
    """Weight codes of theta as whole-number floats: the only place where a weight is quantized.

    tanh(theta) in (-1, 1) is cut into equal cells: 2^bits of them (mid-rise, codes 0..2^bits-1) or 2^bits - 1
    (mid-tread, codes 1..2^bits-1).
    """
    half = 2.0 ** (bits - 1)
    return _rise(tf.tanh(theta), half) if grid == "mid-rise" else _tread(tf.tanh(theta), half)


def _rise(squashed, half):
    return tf.clip_by_value(tf.floor((squashed + 1.0) * half), 0.0, 2.0 * half - 1)


def _tread(squashed, half):
    return tf.clip_by_value(round_half_up(squashed * (half - 0.5)) + half, 1.0, 2.0 * half - 1)


def of_width(table: Callable[[int], float], width: tf.Tensor, dtype=tf.float32) -> tf.Tensor:
    """``table(bits)`` of a width that is a tensor, 1..8 as a whole-number float."""
    values = tf.constant([table(bits) for bits in range(1, 9)], dtype)
    return tf.gather(values, tf.cast(width, tf.int32) - 1)


def codes_of_width(theta: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """``codes`` on the grid "auto" of a width that is a tensor: the same codes."""
    squashed, half = tf.tanh(theta), of_width(lambda bits: 2.0 ** (bits - 1), width)
    return tf.where(width > _MOST_RISE, _tread(squashed, half), _rise(squashed, half))


@tf.custom_gradient
def levels_of_width(theta: tf.Tensor, width: tf.Tensor, whole: tf.Tensor, price: tf.Tensor, free: tf.Tensor):
    """``levels`` of a width that is learned, on the grid "auto".

    The range of the weights is fixed by tanh, so that the step, 2^(1 - width), decides alone. Its gradient is that of
    Uhlich et al. 2020 (arXiv 1905.11452), straight through the rounding: a value ``q`` of ``x`` moves by
    ``(q - x) / step`` with the step, and by ``-ln(2) (q - x)`` with the width.

    Args:
        theta: free parameters.
        width: learned, real.
        whole: the width that is computed with, a whole number.
        price: added to the gradient of ``width``, once a backward pass.
        free: 1.0, or 0.0 where the width is settled and gets no gradient.
    """
    step = of_width(lambda bits: grid_constants(bits, resolve_grid("auto", bits))[2], whole)
    a, b = (of_width(lambda bits, n=n: grid_constants(bits, resolve_grid("auto", bits))[n], whole) for n in (0, 1))
    squashed = tf.tanh(theta)
    found = a * codes_of_width(theta, whole) - b

    def grad(upstream):
        d_theta = upstream * (1.0 - squashed * squashed) / step
        d_width = free * (price - _LN2 * tf.reduce_sum(upstream * (found - squashed / step)))
        return d_theta, d_width, None, None, None

    return found, grad


@tf.custom_gradient
def steps_of_width(
    steps: tf.Tensor, ratio: tf.Tensor, low: tf.Tensor, high: tf.Tensor, width: tf.Tensor, rate: tf.Tensor,
    price: tf.Tensor, free: tf.Tensor,
):  # fmt: skip
    """``steps`` of an activation on a grid whose width is learned, as they are; the gradient is for the width.

    The range stays, so that a bit more makes the step smaller by ``rate`` = -d ln(step) / d width. As in
    ``levels_of_width`` a value ``q`` of ``x`` moves by ``-rate * (q - x)`` with the width (Uhlich et al. 2020, arXiv
    1905.11452), and not at all beyond the range, which has no other end at another width.

    Args:
        steps: clipped, whole numbers.
        ratio: real values in steps, not clipped.
        low, high: the grid's ends.
        width: learned, real.
        rate: see above.
        price: added to the gradient of ``width``, once a backward pass.
        free: 1.0, or 0.0 where the width is settled and gets no gradient.
    """

    def grad(upstream):
        inside = tf.logical_and(ratio >= low - 0.5, ratio < high + 0.5)
        error = tf.where(inside, upstream * (steps - ratio), 0.0)
        return upstream, None, None, None, free * (price - rate * tf.reduce_sum(error)), None, None, None

    return tf.identity(steps), grad


def levels(theta: tf.Tensor, bits: int, grid: str) -> tf.Tensor:
    """Integer levels (whole-number floats) with the gradient of ``tanh(theta) / step``."""
    a, b, step = grid_constants(bits, grid)
    return straight_through(tf.tanh(theta) / step, a * codes(theta, bits, grid) - b)


def round_through(x: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Rounds half up and clips to low..high; gradient 1."""
    return straight_through(x, tf.clip_by_value(round_half_up(x), low, high))


@tf.custom_gradient
def scale_gradient(x: tf.Tensor, factor: tf.Tensor):
    """``x``, with its gradient multiplied by ``factor``."""
    return tf.identity(x), lambda upstream: (upstream * factor, None)


@tf.custom_gradient
def place_on_grid(real: tf.Tensor, steps: tf.Tensor, scale: tf.Tensor, low: tf.Tensor, high: tf.Tensor):
    """``clip(steps, low, high)``, where ``steps`` is the integer that ``real / scale`` rounds to.

    The gradient is that of ``real / scale`` inside the range and zero outside, for both ``real`` and ``scale``; with
    the consumer's ``scale * result`` it makes the learned step size of Esser et al. 2020 (arXiv 1902.08153).
    """
    inside = tf.logical_and(steps >= low, steps <= high)

    def grad(upstream):
        d_real = tf.where(inside, upstream, 0.0) / scale
        return d_real, None, -tf.reduce_sum(d_real * real) / scale, None, None

    return tf.clip_by_value(steps, low, high), grad


def speed(bits: int) -> float:
    """How far theta moves per unit of ``kernel`` at that width; chosen among a few values by runs on real speech."""
    return _SPEEDS.get(bits, 5.0)


def theta_of(kernel: tf.Tensor, amplitude: tf.Tensor, bits: int | tf.Tensor) -> tf.Tensor:
    """theta of what a layer stores; ``amplitude`` broadcasts against ``kernel``; ``bits`` may be a tensor."""
    factor = speed(bits) if isinstance(bits, int) else of_width(speed, bits)
    reach = tf.maximum(factor * amplitude, 1e-3)  # dead channels would drown all others where gradients are clipped
    return scale_gradient(tf.convert_to_tensor(kernel), reach**-2.0) * factor


def kernel_of(theta: np.ndarray, bits: int) -> np.ndarray:
    """What a layer stores of theta: the inverse of ``theta_of``."""
    return theta / speed(bits)


def initial_theta(weight: np.ndarray, bits: int, grid: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starting point from float weights, per output channel.

    Among amplitudes between 0.2 and 1.2 of the channel's largest weight, takes the one whose quantized weights
    (with the best gain) are nearest in the mean square; at 1 bit, where all tie, 1.5 standard deviations. Channels of
    zeros start so that they can learn.

    Args:
      weight: float [inputs, outputs].

    Returns:
      theta float32 [inputs, outputs], gain float32 [outputs], amplitude float32 [outputs].
    """
    weight = np.asarray(weight, np.float64)
    largest = np.abs(weight).max(axis=0)
    zero = largest < _NOTHING
    largest = np.where(zero, 1.0, largest)
    best = (np.full(largest.shape, np.inf), largest.copy(), np.ones_like(largest))
    amplitudes = np.linspace(0.2, 1.2, 41)[:, None] * largest
    if bits == 1:
        amplitudes = np.maximum(1.5 * weight.std(axis=0), 1e-6 * largest)[None]
    at_once = max(1, _AT_ONCE // max(1, weight.size))
    for first in range(0, len(amplitudes), at_once):
        tried = amplitudes[first : first + at_once]
        reach = tried[:, None]
        quantized = reach * _numpy_levels(np.clip(weight / reach, -_STEEPEST, _STEEPEST), bits, grid)
        power = np.maximum((quantized**2).sum(axis=1), 1e-60)
        gain = (weight * quantized).sum(axis=1) / power
        error = ((weight - gain[:, None] * quantized) ** 2).sum(axis=1)
        nearest = error.argmin(axis=0)[None]  # the first of those that tie
        found = [np.take_along_axis(values, nearest, 0)[0] for values in (error, tried, gain)]
        best = tuple(np.where(found[0] < best[0], new, old) for new, old in zip(found, best))
    _, amplitude, gain = best
    theta = np.arctanh(np.clip(weight / amplitude, -_STEEPEST, _STEEPEST))
    # Zeros have no shape to keep. A grid without a zero gives the least level with alternating signs, small enough to
    # be nothing beside other channels, and large enough to learn from in a layer of zeros.
    odd = grid == "mid-rise"
    signs = np.where(np.arange(len(weight)) % 2, -1e-3, 1e-3)[:, None] if odd else 0.0
    theta = np.where(zero, signs, theta)
    amplitude = np.where(zero, _fresh_reach(len(weight)), amplitude)
    gain = np.where(zero, (0.1 if zero.all() else 1e-4) if odd else 1.0, gain)
    return tuple(np.asarray(v, np.float32) for v in (theta, gain, amplitude))


def room_to_grow(gain: np.ndarray, amplitude: np.ndarray, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """(gain, amplitude) with the same products, for channels that start small.

    What a channel can reach is its amplitude. A small one gets that of a fresh layer and a small gain instead, which
    training can raise: a new head that starts near zero learns as it would in float.

    Args:
      gain, amplitude: float32 [outputs], from ``initial_theta``.
      inputs: of one output.
    """
    fresh = _fresh_reach(inputs)
    growth = np.where(amplitude < _SMALL * fresh, fresh / amplitude, 1.0).astype(np.float32)
    return gain / growth, amplitude * growth


def _fresh_reach(inputs: int) -> float:
    """The largest weights of a layer that is not trained yet."""
    return float(np.sqrt(3.0 / inputs))


def _numpy_levels(squashed: np.ndarray, bits: int, grid: str) -> np.ndarray:
    theta = np.arctanh(np.clip(squashed, -0.999999, 0.999999))
    a, b, step = grid_constants(bits, grid)
    return step * (a * codes(tf.constant(theta), bits, grid).numpy() - b)


class TanhWeightQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """``levels`` with a learned gain per output channel (the last axis), for use in a TFMOT wrapper.

    The wrapped kernel becomes ``kernel`` as this module means it when the wrapper is built.
    """

    def __init__(self, bits: int = 4, grid: str = "auto"):
        self.bits = check_bits(bits, "TanhWeightQuantizer")
        self.grid = resolve_grid(grid, bits, "TanhWeightQuantizer")

    def build(self, tensor_shape, name, layer):
        """Adds ``gain`` (trainable) and ``amplitude`` to the wrapper, from the float weights that are there."""
        variable = next((v for v in layer.layer.weights if v.shape == tensor_shape and name in v.name), None)
        outputs = tensor_shape[-1]
        # TFMOT puts the layer's own weights first only where the layer was built before; .h5 goes by that order.
        layer._trainable_weights.extend(layer.layer.trainable_weights)
        add = layer.add_weight
        gain = add(name=f"{name}_gain", shape=(outputs,), initializer="ones", trainable=True)
        amplitude = add(name=f"{name}_amplitude", shape=(outputs,), initializer="ones", trainable=False)
        if variable is not None:
            with tf.init_scope():
                flat = variable.numpy().reshape(-1, outputs)
                theta, new_gain, new_amplitude = initial_theta(flat, self.bits, self.grid)
                new_gain, new_amplitude = room_to_grow(new_gain, new_amplitude, len(flat))
                variable.assign(kernel_of(theta, self.bits).reshape(variable.shape))
                gain.assign(new_gain)
                amplitude.assign(new_amplitude)
        return {"gain": gain, "amplitude": amplitude}

    def __call__(self, inputs, training, weights, **kwargs):
        """Quantized weights, real units."""
        step, amplitude = grid_constants(self.bits, self.grid)[2], weights["amplitude"]
        return levels(theta_of(inputs, amplitude, self.bits), self.bits, self.grid) * (
            weights["gain"] * amplitude * step
        )

    def get_config(self):
        """Width and grid."""
        return {"bits": self.bits, "grid": self.grid}


class LinearQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Symmetric linear quantization to the largest absolute value, for bias and the like in a TFMOT wrapper."""

    def __init__(self, bits: int = 8):
        self.bits = check_bits(bits, "LinearQuantizer", 2, 16)

    def build(self, tensor_shape, name, layer):
        """Needs no variables."""
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        """Quantized values, real units."""
        limit = 2.0 ** (self.bits - 1) - 1
        unit = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(inputs)), 1e-12) / limit)
        return round_through(inputs / unit, -limit, limit) * unit

    def get_config(self):
        """Width."""
        return {"bits": self.bits}
