"""The device's arithmetic in a TensorFlow graph: equal to tflite_export.arithmetic to the last bit, everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tflite_export import ir
from tflite_export.reference import arithmetic
from tfmot_kws.quantize import integer_math

N = 16
MODES = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}
modes = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def compiled():
    """(function name, mode) -> the function in that mode, traced once."""
    made = {}

    def get(name: str, mode: str):
        key = (name, mode)
        if key not in made:
            made[key] = MODES[mode](getattr(integer_math, name))
        return made[key]

    return get


@pytest.mark.tf221
@modes
def test_exp2_is_exact(mode: str, compiled) -> None:
    k = np.arange(-1022, 1024)
    np.testing.assert_array_equal(compiled("exp2", mode)(tf.constant(k)), [math.ldexp(1.0, int(v)) for v in k])


@pytest.mark.tf221
@modes
def test_floor_log2_is_exact(mode: str, compiled) -> None:
    powers = np.array([math.ldexp(1.0, k) for k in range(-1021, 1023)])
    values = np.concatenate([powers, np.nextafter(powers, 0), np.nextafter(powers, np.inf), powers * 1.5])
    expected = [math.frexp(v)[1] - 1 for v in values]
    np.testing.assert_array_equal(compiled("floor_log2", mode)(tf.constant(values)), expected)
    assert integer_math.floor_log2(tf.constant(0.0, tf.float64)) == -1023


@modes
@given(x=hnp.arrays(np.float64, N, elements=st.floats(-1e9, 1e9)))
def test_round_half_up(mode: str, compiled, x: np.ndarray) -> None:
    halves = np.floor(x) + 0.5
    for values in (x, halves, np.floor(x)):
        found = compiled("round_half_up", mode)(tf.constant(values)).numpy()
        np.testing.assert_array_equal(found, np.floor(values + 0.5))
    np.testing.assert_array_equal(integer_math.round_half_up(tf.constant(halves)), halves + 0.5)


@modes
@given(x=hnp.arrays(np.float64, N, elements=st.floats(2.0**-31, 2.0**14)))
def test_fixed_point(mode: str, compiled, x: np.ndarray) -> None:
    multiplier, shift = (v.numpy() for v in compiled("fixed_point", mode)(tf.constant(x)))
    exact = [math.ldexp(v, int(s)) for v, s in zip(x, shift)]
    np.testing.assert_array_equal(multiplier, np.floor(np.array(exact) + 0.5))
    np.testing.assert_array_equal(shift, [15 - (math.frexp(v)[1] - 1) for v in x])
    assert multiplier.min() >= 2**15 and multiplier.max() <= 2**16


@pytest.mark.tf221
def test_fixed_point_at_its_ends() -> None:
    def at(x: float) -> tuple[float, int]:
        return tuple(v.numpy() for v in integer_math.fixed_point(tf.constant(x, tf.float64)))

    assert at(0.0) == (0, 46)
    assert at(2.0**-50) == (0, 46) and at(2.0**-47) == (1, 46)
    assert at(2.0**20) == (2.0**21, 1)
    assert at(2.0**40) == (2.0**31 - 1, 1)  # what the device's 31 bits hold


@given(
    largest=st.floats(1e-6, 1e4),
    scale=st.floats(1e-6, 10.0),
    shift=st.integers(1, 46),
    bits=st.integers(2, 16),
)
def test_bias_shift_is_the_smallest_that_fits(largest: float, scale: float, shift: int, bits: int) -> None:
    """And it always fits: the shift leaves room for a bias that is large beside the sums (tiny weights)."""
    exponent = integer_math.bias_exponent(tf.constant(largest, tf.float64), tf.constant(scale, tf.float64), bits)
    shift = min(shift, int(integer_math.shift_limit(exponent)))
    f = int(integer_math.bias_shift(exponent, shift, bits))
    limit = 2 ** (bits - 1) - 1
    units = lambda f: largest / (scale * 2.0 ** (f - shift))  # noqa: E731
    least = max(0, shift - max(0, bits - 4))  # a unit of 2^(4 - bits) output steps is fine enough
    assert least <= f <= 46
    if int(exponent) < 46:
        assert units(f) <= limit * (1 + 1e-12)
    if f > least:
        # one less would not fit, but for a power of two exactly
        assert units(f - 1) >= limit * (1 - 1e-12)


@st.composite
def requantizations(draw):
    """(acc, Requantization, zero point) within the 2^53 that float64 holds."""
    wide = draw(st.booleans())
    gain_limit, bias_limit, bias_shift = (32767, 32767, 36) if wide else (127, 127, 44)
    acc_limit = 2**20 if wide else 2**24
    ints = lambda limit, dtype: hnp.arrays(dtype, N, elements=st.integers(-limit, limit))  # noqa: E731
    shift = draw(st.integers(1, 46))
    rq = ir.Requantization(
        draw(ints(gain_limit, np.int16)),
        draw(ints(bias_limit, np.int16)),
        draw(st.one_of(st.integers(0, 65536), st.integers(2**15, 2**16))),
        draw(st.integers(0, bias_shift)),
        shift,
    )
    # half of the accumulators land on or next to a rounding border of a result in range
    acc = draw(ints(acc_limit, np.int32))
    target = draw(hnp.arrays(np.int64, N, elements=st.integers(-130, 130))) * 2.0**shift + 2.0 ** (shift - 1)
    weight = np.maximum(np.abs(rq.gain.astype(np.int64)) * rq.multiplier, 1) * np.sign(rq.gain + 0.5)
    near = np.round((target - rq.bias.astype(np.int64) * 2.0**rq.bias_shift) / weight)
    acc[::2] = np.clip(near, -acc_limit, acc_limit)[::2]
    return acc, rq, draw(st.sampled_from([-128, 0]))


@pytest.mark.tf221
@modes
@settings(max_examples=150)
@given(case=requantizations())
@pytest.mark.slow
def test_requantize_is_the_devices(mode: str, compiled, case) -> None:
    acc, rq, zero_point = case
    f64 = lambda v: tf.constant(v, tf.float64)  # noqa: E731
    found = compiled("requantize", mode)(
        tf.constant(acc, tf.float32), tf.constant(rq.gain, tf.float32), tf.constant(rq.bias, tf.float32),
        f64(rq.multiplier), tf.constant(rq.bias_shift, tf.int64), tf.constant(rq.shift, tf.int64),
    )  # fmt: skip
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(
        np.clip(zero_point + found.numpy().astype(np.float64), -128, 127), arithmetic.requantize(acc, rq, zero_point)
    )


@pytest.mark.tf221
@modes
@given(
    total=hnp.arrays(np.int64, N, elements=st.integers(-(2**22), 2**22)),
    count=hnp.arrays(np.int64, N, elements=st.integers(1, 4096)),
    multiplier=st.integers(1, 2**16),
    shift=st.integers(1, 38),
)
def test_rounded_mean_is_the_devices(mode: str, compiled, total, count, multiplier: int, shift: int) -> None:
    expected = arithmetic.rounded_mean(total, count, multiplier, shift)
    found = compiled("rounded_mean", mode)(
        tf.constant(total, tf.float32), tf.constant(count, tf.float32),
        tf.constant(multiplier, tf.float64), tf.constant(shift, tf.int64),
    )  # fmt: skip
    np.testing.assert_array_equal(found.numpy(), expected.astype(np.float32))


@given(numerator=st.integers(-500, 500), count=st.integers(1, 64))
def test_rounded_mean_of_ties(numerator: int, count: int) -> None:
    """A mean that lies halfway between two steps goes up."""
    total = (2 * numerator + 1) * count
    found = integer_math.rounded_mean(
        tf.constant(float(total)),
        tf.constant(float(count)),
        tf.constant(2.0**15, tf.float64),
        tf.constant(16, tf.int64),
    )
    assert found == numerator + 1


@pytest.mark.parametrize("bits", range(1, 17))
def test_divisions_round_alike_in_graphs(bits: int, rng: np.random.Generator) -> None:
    """TensorFlow makes a multiplication of ``x / 255`` in graphs; ``divide`` rounds as numpy does all the same."""
    x, whole = (rng.uniform(1, 2, 50_000) * 2.0 ** rng.integers(-90, 90, 50_000)).astype(np.float32), 2**bits - 1
    graph = tf.function(lambda v: integer_math.divide(v, whole), autograph=False)
    for found in (integer_math.divide(tf.constant(x), whole), graph(tf.constant(x))):
        np.testing.assert_array_equal(found, x / np.float32(whole))
