"""The range of an activation: tracked in stage 1, learned in stage 2."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import tfmot_kws
from tfmot_kws.keras import keras
from tfmot_kws.quantize.output_grid import FixedGrid, OutputGrid, quantize_steps, quantize_vector


class Holder(keras.layers.Layer):
    pass


def make(bits: int = 8, learned: bool = True, least: float = 0.0, largest: float = 0.0) -> tuple[OutputGrid, Holder]:
    layer = Holder(name="holder")
    grid = OutputGrid(layer, bits, learned)
    grid._least.assign(least)
    grid._largest.assign(largest)
    return grid, layer


ONE, TWO = tf.constant(1.0), tf.constant(2.0)


@pytest.mark.tf221
def test_tracks_in_stage_1_only() -> None:
    grid, layer = make()
    assert not grid.tracked
    grid.track(tf.constant([-1.0, 3.0]), TWO)
    assert not grid.tracked
    for batch in ([-1.0, 3.0], [-2.0, 1.0], [0.5, 13.0], [-1.0, 0.0]):
        grid.track(tf.constant(batch), ONE)
    assert grid.tracked and (grid._least.numpy(), grid._largest.numpy()) == (-2, 13)
    grid.track(tf.constant([-100.0, 100.0]), TWO)
    assert (grid._least.numpy(), grid._largest.numpy()) == (-2, 13)
    grid.reset()
    assert not grid.tracked
    grid.track(tf.constant([-1.0, 3.0]), ONE)
    assert (grid._least.numpy(), grid._largest.numpy()) == (-1, 3)
    assert [v.name.split(":")[0] for v in layer.trainable_weights] == ["range_offset"]


def test_zero_is_always_in_the_range() -> None:
    grid, _ = make()
    grid.track(tf.constant([2.0, 3.0]), ONE)
    assert grid._least.numpy() == 0
    other, _ = make()
    other.track(tf.constant([-2.0, -3.0]), ONE)
    assert 0 <= other._largest.numpy() < 1e-20 and other.tracked


def test_zeros_and_nan_were_seen() -> None:
    """A dead branch has a grid that serves; NaN is told from data that was never there."""
    dead, _ = make()
    dead.track(tf.zeros(3), ONE)
    assert dead.tracked and dead.finite and dead.quantization() == (float(np.float32(1 / 255)), -128)
    broken, _ = make()
    broken.track(tf.constant([1.0, np.nan]), ONE)
    assert broken.tracked and not broken.finite


def test_a_range_that_is_set_replaces_what_was_learned() -> None:
    grid, layer = make()
    layer.trainable_weights[0].assign(0.7)
    grid.set_range(-1.0, 4.0)
    np.testing.assert_allclose(grid.quantization()[0], 4 / 127, rtol=1e-6)
    grid.set_range(1.0, 4.0)
    assert grid._least.numpy() == 0


def test_noise_below_zero_does_not_cost_half_of_the_steps() -> None:
    for least, signed in ((-1e-7, False), (-0.49 / 255, False), (-0.51 / 255, True)):
        grid, _ = make(8, True, least, 1.0)
        assert (grid.quantization()[1] == 0) == signed


@pytest.mark.parametrize(
    "signed, bits, scale, ends", [(False, 8, 256, (0, 255)), (True, 8, 128, (-128, 127)), (True, 3, 4, (-4, 3))]
)
def test_fixed_grids_are_those_of_tflite(signed, bits, scale, ends) -> None:
    grid = FixedGrid(bits, signed)
    grid.track(tf.constant([-9.0, 9.0]), ONE)
    found = grid.grid()
    assert grid.tracked and grid.quantization() == (1 / scale, 0 if signed else -128)
    assert (found.low.numpy(), found.high.numpy()) == ends


def scores_passed_on() -> keras.Model:
    """Scores of a keyword that is never heard, and layers that cannot leave their range."""
    x = keras.Input((2,), name="x")
    a, b = (keras.layers.Dense(1, activation=f, name=f)(x) for f in ("sigmoid", "tanh"))
    frames, pool = keras.layers.Reshape((1, 1))(a), keras.layers.GlobalAveragePooling1D(name="shared")
    other = keras.layers.Reshape((1, 1))(keras.layers.Dense(1, name="linear")(x))
    layers = keras.layers
    outputs = [
        layers.GlobalAveragePooling1D(name="mean")(frames), layers.Concatenate(name="joined")([a, b]),
        layers.Average(name="average")([a, a, a]), layers.Maximum(name="largest")([a, a]),
        layers.Add(name="sum")([a, b]), pool(frames), pool(other), 1.0 - a,
        layers.GlobalAveragePooling1D(name="of_states")(layers.GRU(1, return_sequences=True)(frames)),
    ]  # fmt: skip
    model = keras.Model(x, outputs)
    for layer in model.layers:
        if isinstance(layer, layers.Dense):
            layer.set_weights([np.full((2, 1), 4.0), np.full(1, -4.0)])
    return model


def test_scores_passed_on_are_not_capped(tmp_path) -> None:
    model = scores_passed_on()
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8))
    tfmot_kws.calibrate(quantized, np.array([[0, 0], [0.1, 1]], np.float32)[:1])
    quantized.save(tmp_path / "q.keras")
    grids = {
        layer.name.replace("_quantized", ""): layer.output_grid
        for layer in tfmot_kws.load_model(tmp_path / "q.keras").layers if hasattr(layer, "output_grid")
    }  # fmt: skip
    for name in ("mean", "average", "average_2", "largest", next(n for n in grids if "subtract" in n)):
        assert grids[name].quantization() == (1 / 256, -128), name
    assert grids["joined"].quantization() == grids["of_states"].quantization() == (1 / 128, 0)
    for name in ("sum", "shared"):  # a sum can leave the range; a layer called twice has one grid for all calls
        assert isinstance(grids[name], OutputGrid), name


@pytest.mark.tf221
@given(
    bits=st.integers(2, 8), reach=st.floats(2.0**-13, 2.0**13, width=32), offset=st.floats(-1, 1), signed=st.booleans()
)
def test_two_grids(bits: int, reach: float, offset: float, signed: bool) -> None:
    grid, layer = make(bits, True, -reach if signed else 0.0, reach / 2 if signed else reach)
    layer.trainable_weights[0].assign(offset)
    found = grid.grid()
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    assert (found.low.numpy(), found.high.numpy()) == (low, high)
    np.testing.assert_allclose(found.scale, reach * np.exp(offset) / high, rtol=1e-5)
    assert grid.quantization() == (float(found.scale.numpy()), 0 if signed else -128)
    x = tf.constant(np.linspace(-6 * reach, 6 * reach, 99), tf.float32)
    steps = quantize_steps(x, found).numpy()
    assert (steps.min(), steps.max()) == (low, high) and (steps == np.round(steps)).all()
    np.testing.assert_array_equal(steps, np.clip(np.floor(x / found.scale + np.float32(0.5)), low, high))


@pytest.mark.tf221
def test_gradient_of_the_range() -> None:
    """Step-size gradient of arXiv 1902.08153 on the factor exp(offset), damped by 1 / sqrt(elements * high)."""
    grid, layer = make(4, True, -2.0, 1.0)
    offset = layer.trainable_weights[0]
    offset.assign(0.3)
    x = np.array([-9.0, -1.3, 0.05, 0.7, 2.1, 30.0], np.float32)
    upstream = np.array([0.3, -1.0, 0.5, 2.0, 0.7, -0.4], np.float32)
    with tf.GradientTape() as tape:
        g = grid.grid(6)
        y = g.scale * quantize_steps(tf.constant(x), g)
    scale = float(g.scale)
    ratio = x / scale
    inside = (np.floor(ratio + 0.5) >= -8) & (np.floor(ratio + 0.5) <= 7)
    each = np.where(inside, np.floor(ratio + 0.5) - ratio, np.where(x < 0, -8, 7))
    expected = (upstream * each).sum() * scale / np.sqrt(6 * 7)
    np.testing.assert_allclose(tape.gradient(y, offset, tf.constant(upstream)), expected, rtol=1e-4)


def test_input_grid_learns_nothing() -> None:
    grid, layer = make(8, False, -1.0, 1.0)
    assert layer.trainable_weights == []
    assert float(grid.grid().scale) == np.float32(1 / 127)


def test_no_range_is_no_division_by_zero() -> None:
    grid, _ = make()
    assert 0 < float(grid.grid().scale) < 1


def test_bad_bits_name_the_layer() -> None:
    for bits in (1, 9):
        with pytest.raises(ValueError, match=f"layer 'holder': activation_bits: bits must be .* 2 to 8, found {bits}"):
            make(bits)


@given(bits=st.integers(2, 16), seed=st.integers(0, 99))
def test_quantize_vector(bits: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 10.0 ** (seed % 7 - 3), 9).astype(np.float32)
    limit = 2 ** (bits - 1) - 1
    x = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(x)
        steps, unit = quantize_vector(x, bits)
    assert np.abs(steps).max() == limit
    np.testing.assert_allclose(unit, np.abs(values).max() / limit, rtol=1e-6)
    assert np.abs(steps * unit - values).max() <= float(unit) * (0.5 + 1e-6 * limit)
    np.testing.assert_allclose(tape.gradient(steps, x), np.full(9, 1 / unit), rtol=1e-6)
    steps, unit = quantize_vector(tf.zeros(3), bits)
    assert not steps.numpy().any() and unit > 0
