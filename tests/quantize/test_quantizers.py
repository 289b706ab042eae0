"""Weight quantizers: every level, the gradients, the start from float weights."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfmot_kws.keras import keras
from tfmot_kws.quantize import quantizers
from tfmot_kws.quantize.layer_bits import LayerBits
from tfmot_kws.quantize.layers import QuantizedDense

WIDTHS = [(bits, grid) for grid in quantizers.GRIDS for bits in range(1 if grid == "mid-rise" else 2, 9)]
widths = pytest.mark.parametrize("bits, grid", WIDTHS)


def table(bits: int, grid: str) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """(codes, levels, step, cell borders in tanh(theta)) as docs/numerics.md has them."""
    if grid == "mid-rise":
        u = np.arange(2**bits)
        return u, 2 * u - (2**bits - 1), 2.0**-bits, u[1:] / 2 ** (bits - 1) - 1
    u = np.arange(1, 2**bits)
    half = 2 ** (bits - 1)
    return u, u - half, 2 / (2**bits - 1), (u[1:] - half - 0.5) / (half - 0.5)


@pytest.mark.tf221
@widths
def test_every_code_is_reached_and_cells_are_equal(bits: int, grid: str) -> None:
    u, level, step, borders = table(bits, grid)
    edges = np.concatenate([[-1.0], borders, [1.0]])
    np.testing.assert_allclose(np.diff(edges), 2 / len(u), rtol=1e-12)
    middle = (edges[1:] + edges[:-1]) / 2
    for inside in (middle, edges[:-1] + 1e-5, edges[1:] - 1e-5):
        theta = tf.constant(np.arctanh(inside), tf.float32)
        np.testing.assert_array_equal(quantizers.codes(theta, bits, grid), u)
        np.testing.assert_array_equal(quantizers.levels(theta, bits, grid), level)
    np.testing.assert_allclose(step * level, middle, atol=1e-12)
    a, b, constant = quantizers.grid_constants(bits, grid)
    assert constant == step
    np.testing.assert_array_equal(a * u - b, level)


@widths
@given(theta=hnp.arrays(np.float32, 20, elements=st.floats(-40, 40, width=32)))
@pytest.mark.slow
def test_codes_are_in_range_monotonic_and_near(bits: int, grid: str, theta: np.ndarray) -> None:
    u, level, step, _ = table(bits, grid)
    theta = np.sort(theta)
    found = quantizers.codes(tf.constant(theta), bits, grid).numpy()
    assert set(found) <= set(u) and (np.diff(found) >= 0).all()
    error = np.abs(step * quantizers.levels(tf.constant(theta), bits, grid).numpy() - np.tanh(theta))
    assert error.max() <= 1 / len(u) + 1e-6


@widths
def test_infinite_theta_has_the_outermost_codes(bits: int, grid: str) -> None:
    u = table(bits, grid)[0]
    found = quantizers.codes(tf.constant([-np.inf, -1e9, 1e9, np.inf], tf.float32), bits, grid)
    np.testing.assert_array_equal(found, [u[0], u[0], u[-1], u[-1]])


@pytest.mark.tf221
@widths
def test_gradient_of_levels(bits: int, grid: str) -> None:
    theta = tf.linspace(-3.0, 3.0, 41)
    upstream = tf.linspace(0.5, -2.0, 41)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        y = quantizers.levels(theta, bits, grid)
    step = table(bits, grid)[2]
    expected = upstream * (1 - np.tanh(theta.numpy().astype(np.float64)) ** 2) / step
    np.testing.assert_allclose(tape.gradient(y, theta, upstream), expected, rtol=2e-5, atol=1e-6 / step)


@given(theta=hnp.arrays(np.float32, 50, elements=st.floats(-20, 20, width=32)))
def test_straight_through_is_exact(theta: np.ndarray) -> None:
    """One bit has two values and no third; ``x + stop_gradient(rounded - x)`` would make many."""
    assert set(quantizers.levels(tf.constant(theta), 1, "mid-rise").numpy()) <= {-1.0, 1.0}
    x = tf.constant(theta)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantizers.straight_through(x, tf.constant(7.0, shape=x.shape))
    np.testing.assert_array_equal(y, np.full(x.shape, 7.0, np.float32))
    np.testing.assert_array_equal(tape.gradient(y, x, x), x)


def test_round_through_has_gradient_one_even_outside() -> None:
    x = tf.constant([-9.0, -0.5, 0.49, 0.5, 1.5, 9.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantizers.round_through(x, -3.0, 3.0)
    np.testing.assert_array_equal(y, [-3, 0, 0, 1, 2, 3])
    np.testing.assert_array_equal(tape.gradient(y, x), np.ones(6))


def test_scale_gradient() -> None:
    x = tf.constant([1.0, -2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantizers.scale_gradient(x, tf.constant([3.0, 0.25]))
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(tape.gradient(y, x), [3.0, 0.25])


@pytest.mark.tf221
@given(
    real=hnp.arrays(np.float32, 12, elements=st.floats(-30, 30, width=32)),
    scale=st.floats(2.0**-6, 4, width=32),
    signed=st.booleans(),
    seed=st.integers(0, 999),
)
def test_gradients_of_place_on_grid(real: np.ndarray, scale: float, signed: bool, seed: int) -> None:
    low, high = (-8.0, 7.0) if signed else (0.0, 15.0)
    upstream = np.random.default_rng(seed).normal(size=12).astype(np.float32)
    x, s = tf.constant(real), tf.constant(scale, tf.float32)
    steps = tf.floor(x / s + 0.5)
    with tf.GradientTape() as tape:
        tape.watch([x, s])
        placed = quantizers.place_on_grid(x, steps, s, tf.constant(low), tf.constant(high))
        out = s * placed
    np.testing.assert_array_equal(placed, np.clip(steps, low, high))
    d_real, d_scale = tape.gradient(out, [x, s], tf.constant(upstream))
    inside = (steps >= low) & (steps <= high)
    np.testing.assert_allclose(d_real, np.where(inside, upstream, 0), rtol=1e-5)
    # Esser et al. 2020: rounding error inside the range, the range's end outside
    ratio = real.astype(np.float64) / scale
    each = np.where(inside, placed - ratio, np.clip(steps, low, high))
    np.testing.assert_allclose(d_scale, (upstream * each).sum(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("bits, grid, largest", [(5, "mid-rise", 0.065), (6, "mid-rise", 0.033), (7, "mid-rise", 0.022),
                                                 (8, "mid-tread", 0.012), (5, "mid-tread", 0.065)])  # fmt: skip
def test_start_from_float_weights(bits: int, grid: str, largest: float, rng: np.random.Generator) -> None:
    """The relative error of a Gaussian weight, root mean square, channel by channel."""
    weight = rng.normal(0, 1, (200, 7)) * 10.0 ** rng.uniform(-3, 2, 7)
    theta, gain, amplitude = quantizers.initial_theta(weight, bits, grid)
    step = quantizers.grid_constants(bits, grid)[2]
    level = quantizers.levels(tf.constant(theta), bits, grid).numpy()
    half_cell = amplitude / len(table(bits, grid)[0])
    reached = np.abs(weight) < 0.96 * amplitude  # beyond it theta is kept where tanh still has a slope
    assert (np.abs(weight - amplitude * step * level) < 1.001 * half_cell)[reached].all() and reached.mean() > 0.98
    effective = gain * amplitude * step * level
    error = np.sqrt(((weight - effective) ** 2).sum(axis=0) / (weight**2).sum(axis=0))
    assert error.max() < largest
    np.testing.assert_allclose(gain, 1, atol=0.02)


@pytest.mark.tf221
def test_start_at_one_bit_keeps_signs(rng: np.random.Generator) -> None:
    weight = rng.normal(0, 0.1, (300, 5))
    theta, gain, amplitude = quantizers.initial_theta(weight, 1, "mid-rise")
    np.testing.assert_array_equal(np.sign(quantizers.levels(tf.constant(theta), 1, "mid-rise")), np.sign(weight))
    # the best gain of sign(w) is mean |w|
    np.testing.assert_allclose(gain * amplitude * 0.5, np.abs(weight).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize(("bits", "grid"), [(1, "mid-rise"), (2, "mid-tread"), (4, "mid-rise"), (8, "mid-tread")])
@pytest.mark.parametrize("at_once", [1, 7 * 33 * 5, 10**9])
def test_starting_points_do_not_depend_on_how_many_are_tried_together(bits, grid, at_once, monkeypatch) -> None:
    weight = np.random.default_rng(3).normal(size=(33, 5)).astype(np.float32)
    weight[:, 1] = 0.0
    weight[:, 2] = np.sign(weight[:, 2])  # many amplitudes tie
    expected = quantizers.initial_theta(weight, bits, grid)
    monkeypatch.setattr(quantizers, "_AT_ONCE", at_once)
    for found, wanted in zip(quantizers.initial_theta(weight, bits, grid), expected):
        np.testing.assert_array_equal(found, wanted)


@widths
@pytest.mark.parametrize("weight", [np.zeros((4, 2)), np.full((4, 2), 1e-30), np.full((1, 1), -3.0), np.ones((3, 2))])
def test_start_from_degenerate_weights(bits: int, grid: str, weight: np.ndarray) -> None:
    for value in quantizers.initial_theta(weight, bits, grid):
        assert np.isfinite(value).all() and value.dtype == np.float32


def quantized_dense(kernel: np.ndarray, bits: int, gain: float, amplitude: float) -> QuantizedDense:
    layer = QuantizedDense(kernel.shape[1], bits=LayerBits(bits))
    layer.build([(None, kernel.shape[0]), ()])
    layer.kernel.assign(kernel)
    layer.gain.assign(np.full(kernel.shape[1], gain, np.float32))
    layer.amplitude.assign(np.full(kernel.shape[1], amplitude, np.float32))
    return layer


@pytest.mark.tf221
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("amplitude", [0.03, 0.5, 4.0])
def test_descent_moves_the_weight_as_a_float_weight(bits: int, amplitude: float, rng: np.random.Generator) -> None:
    """Near zero, a step of SGD on ``kernel`` moves gain * amplitude * tanh(theta) as it moves a float weight."""
    kernel = (rng.normal(0, 1e-3, (6, 3)) / quantizers.speed(bits)).astype(np.float32)
    layer = quantized_dense(kernel, bits, 1.0, amplitude)
    x = rng.normal(0, 1, (8, 6)).astype(np.float32)
    upstream = rng.normal(0, 1, (8, 3)).astype(np.float32)
    rate = 1e-4 * amplitude
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer([x, tf.constant(1.0)], training=False)[0] * upstream)
    before = amplitude * np.tanh(quantizers.speed(bits) * kernel.astype(np.float64))
    keras.optimizers.legacy.SGD(rate).apply_gradients([(tape.gradient(loss, layer.kernel), layer.kernel)])
    after = amplitude * np.tanh(quantizers.speed(bits) * layer.kernel.numpy().astype(np.float64))
    float_step = -rate * x.T @ upstream
    np.testing.assert_allclose(after - before, float_step, rtol=0.02, atol=1e-3 * np.abs(float_step).max())


@pytest.mark.parametrize("bits", range(1, 9))
def test_kernel_of_is_the_inverse_of_theta_of(bits: int, rng: np.random.Generator) -> None:
    theta = rng.normal(0, 1, (6, 3)).astype(np.float32)
    amplitude = rng.uniform(0.01, 3, 3).astype(np.float32)
    kernel = quantizers.kernel_of(theta, bits)
    np.testing.assert_allclose(quantizers.theta_of(kernel, amplitude, bits), theta, rtol=1e-6)


@pytest.mark.parametrize("bits", [0, 9, 2.0, True, "4", None])
def test_bad_bits(bits: object) -> None:
    for make in (quantizers.TanhWeightQuantizer, lambda b: LayerBits(bits=b), lambda b: LayerBits(activation_bits=b)):
        with pytest.raises(ValueError, match=r"bits.* must be a whole number from [12] to 8, found"):
            make(bits)
    with pytest.raises(ValueError, match="^place: bits must be a whole number from 1 to 8, found "):
        quantizers.check_bits(bits, "place")


@pytest.mark.parametrize("name, bad", [("activation_bits", 1), ("bias_bits", 17), ("gain_bits", 1)])
def test_bad_bits_are_named(name: str, bad: int) -> None:
    with pytest.raises(ValueError, match=f"^{name}: bits must be a whole number from 2 to (8|16), found {bad}$"):
        LayerBits(**{name: bad})


def test_grids() -> None:
    assert [LayerBits(b).grid for b in range(1, 9)] == ["mid-rise"] * 7 + ["mid-tread"]
    assert LayerBits(np.int64(3)).bits == 3
    with pytest.raises(ValueError, match="dense: grid must be 'auto', 'mid-rise' or 'mid-tread', found 'middle'"):
        quantizers.resolve_grid("middle", 4, "dense")
    with pytest.raises(ValueError, match="dense: a mid-tread grid of 1 bit has no level but zero; use grid='mid-rise'"):
        quantizers.resolve_grid("mid-tread", 1, "dense")


def test_linear_quantizer() -> None:
    x = tf.constant([-1.0, 0.1, 0.5, 0.25])
    quantizer = quantizers.LinearQuantizer(3)
    np.testing.assert_allclose(quantizer(x, True, {}), np.array([-3, 0, 2, 1]) / 3, rtol=1e-6)
    np.testing.assert_array_equal(quantizer(tf.zeros(3), True, {}), np.zeros(3))
    assert quantizers.LinearQuantizer.from_config(quantizer.get_config()).bits == 3
    with pytest.raises(ValueError, match="LinearQuantizer: bits must be a whole number from 2 to 16, found 1"):
        quantizers.LinearQuantizer(1)
