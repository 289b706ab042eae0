"""Dynamic quantization: rows and columns against their definition, and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from dynamic_numpy import TINY, F, numpy_column, numpy_row
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from quantization_helpers import features

from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize.dynamic import quantizers as dq
from tfmot_kws.quantize.dynamic.layers import DynamicDense
from tfmot_kws.quantize.layer_bits import DynamicBits

L = keras.layers
annotate = tfmot.quantization.keras.quantize_annotate_layer
INPUTS = (2, 3, 4, 5, 6, 7, 8, 16)
WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 16)


# -- rows ------------------------------------------------------------------------------------------------------------

floats = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=False)
tame = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False)
wide = st.one_of(tame, floats)


@pytest.mark.tf221
@settings(max_examples=60)
@given(
    x=hnp.arrays(F, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=wide), bits=st.sampled_from(INPUTS)
)
def test_rows_are_those_of_the_definition(x: np.ndarray, bits: int) -> None:
    rows = [v.numpy() for v in dq.row_codes(tf.constant(x), bits)]
    for i in np.ndindex(x.shape[:-1]):
        for found, expected in zip((v[i] for v in rows), numpy_row(x[i], bits)):
            np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
    assert rows[0].min() >= 0 and rows[0].max() <= 2**bits - 1
    assert np.isfinite(rows[1] + rows[2] * rows[0]).all()


@pytest.mark.parametrize("bits", INPUTS)
@settings(max_examples=40)
@given(x=hnp.arrays(F, st.integers(1, 20), elements=tame))
@pytest.mark.slow
def test_an_error_of_half_a_step_and_exact_ends(bits: int, x: np.ndarray) -> None:
    u, lo, scale = (v.numpy() for v in dq.row_codes(tf.constant(x), bits))
    found = dq.quantize_rows(tf.constant(x), bits).numpy()
    np.testing.assert_array_equal(found, lo + scale * u)
    assert lo[0] == x.min()
    rounding = 4 * np.spacing(np.abs(x).max())
    assert np.abs(found.astype(np.float64) - x).max() <= scale[0] / 2 * (1 + 2.0**-7) + rounding + TINY
    if scale[0] > 0:
        assert u[x.argmin()] == 0 and u[x.argmax()] == 2**bits - 1
        np.testing.assert_allclose(found[x.argmax()], x.max(), atol=rounding)


NAN, INF = np.nan, np.inf
ODD_ROWS = {
    "all NaN": ([NAN, NAN], [0, 0]),
    "NaN is the least": ([NAN, 1.0, 2.0], [1, 1, 2]),
    "all +inf": ([INF, INF], [2.0**126] * 2),
    "all -inf": ([-INF, -INF], [-(2.0**126)] * 2),
    "both": ([-INF, INF], [-(2.0**126), 2.0**126]),
    "beyond the largest": ([3e38, 2.9e38], [2.0**126] * 2),
    "inf and NaN": ([NAN, INF], [2.0**126] * 2),
    "zero": ([0.0, 0.0, -0.0], [0, 0, 0]),
    "constant": ([-3.7, -3.7], [-3.7, -3.7]),
    "subnormal span": ([0.0, 1e-40, 3e-39], [0, 0, 0]),
    "just too narrow": ([0.0, 2.0**-101], [0, 0]),
    "just wide enough": ([0.0, 2.0**-100], [0, 2.0**-100]),
    "one": ([5.5], [5.5]),
}


@pytest.mark.parametrize("name", ODD_ROWS)
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_odd_rows(name: str, bits: int) -> None:
    row, expected = (np.array(v, F) for v in ODD_ROWS[name])
    np.testing.assert_allclose(dq.quantize_rows(tf.constant(row), bits), expected, rtol=1e-6)
    for found, again in zip(dq.row_codes(tf.constant(row), bits), numpy_row(row, bits)):
        np.testing.assert_array_equal(found, np.broadcast_to(again, found.shape))


# -- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.tf221
@pytest.mark.parametrize("bits", WEIGHTS)
@settings(max_examples=25)
@given(
    w=hnp.arrays(
        F,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-8, 8, width=32, allow_subnormal=False),
    )
)
@pytest.mark.slow
def test_columns_are_those_of_the_definition(bits: int, w: np.ndarray) -> None:
    w = np.where(np.abs(w) < 1e-20, 0, w).astype(F)
    grid = dq.column_grid(tf.constant(w), bits)
    codes, levels = (f(tf.constant(w), bits).numpy() for f in (dq.column_codes, dq.column_levels))
    for c in range(w.shape[1]):
        expected, zero, scale = numpy_column(w[:, c], bits)
        np.testing.assert_array_equal(codes[:, c], expected)
        np.testing.assert_array_equal(levels[:, c], expected - zero)
        assert grid.zero[c] == zero and grid.scale[c] == scale
        assert grid.unit[c] == (scale if w[:, c].any() else 0)
        assert (levels[:, c] * scale)[w[:, c] == 0].any() == 0  # zero stays zero
        if bits > 1:  # with the rounded zero, at most one step
            assert np.abs(levels[:, c] * scale.astype(np.float64) - w[:, c]).max() <= scale * 1.01
        inner = (expected > 0) & (expected < 2**bits - 1)
        assert (np.abs(levels[:, c] * scale.astype(np.float64) - w[:, c])[inner] <= scale * 0.505).all()


def test_every_code_of_a_column() -> None:
    for bits in WEIGHTS:
        every = np.arange(dq.lowest_code(bits), 2**bits)
        w = (every.astype(F) - 2 ** (bits - 1)) * F(2.0**-6)
        np.testing.assert_array_equal(dq.column_codes(tf.constant(w[:, None]), bits)[:, 0], every)


def test_columns_of_zeros_do_not_coarsen_the_gains(rng: np.random.Generator) -> None:
    w = rng.normal(0, 1e-3, (5, 3)).astype(F)
    w[:, 1] = 0
    layer = DynamicDense(3, bits=DynamicBits(8))
    layer.build((None, 5))
    layer.load_float_kernel(w, None)
    found = layer.integers()
    assert found.gain[1] == 0 and np.abs(found.gain).max() == 2**15 - 1
    x = features((5,))
    np.testing.assert_allclose(layer(x), x @ w, atol=1e-4)


# -- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", WEIGHTS)
def test_gradients_are_the_identity(bits: int, rng: np.random.Generator) -> None:
    x, w, upstream = (rng.normal(size=s).astype(F) for s in ((4, 6), (6, 3), (4, 6)))
    with tf.GradientTape(persistent=True) as tape:
        x, w = tf.constant(x), tf.constant(w)
        tape.watch([x, w])
        rows = dq.quantize_rows(x, max(bits, 2))
        levels = dq.column_levels(w, bits)
        product = dq.row_product(x, levels, max(bits, 2), 2**bits - 1)
        plain = tf.matmul(rows, levels)
    np.testing.assert_array_equal(tape.gradient(rows, x, upstream), upstream)
    scale = np.broadcast_to(dq.column_grid(w, bits).scale, w.shape)
    np.testing.assert_array_equal(tape.gradient(levels, w, scale), np.ones_like(scale))
    up = tf.constant(upstream[:, :3])
    for variable in (x, w):
        np.testing.assert_allclose(
            tape.gradient(product, variable, up), tape.gradient(plain, variable, up), rtol=1e-5, atol=1e-5
        )
    np.testing.assert_allclose(product, plain, rtol=1e-4, atol=1e-3 * 2**bits)


def test_the_backward_pass_is_that_of_the_float_layer(rng: np.random.Generator) -> None:
    """At 16 bits, where both passes are near those of Dense."""
    x, upstream = tf.constant(features((6,), 5)), tf.constant(rng.normal(size=(5, 3)).astype(F))
    plain = L.Dense(3, activation="tanh")
    layer = DynamicDense(3, bits=DynamicBits(16), use_bias=True, activation="tanh")
    plain.build(x.shape), layer.build(x.shape)
    layer.load_float_kernel(plain.kernel.numpy(), plain.bias.numpy())
    found = []
    for v in (plain, layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = v(x)
        found.append([y, *tape.gradient(y, [x, v.kernel, v.bias], upstream)])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, atol=1e-3)
