"""Spaces of sweeps: what a text means, and which part of it is wrong."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmot_kws.training.sweep_space import LIMITS, Choice, Range, SweepSpace, hyperband_rounds


def test_values_and_ranges() -> None:
    space = SweepSpace.parse(" bits=8,4,2  width=18:64 learning_rate=5e-4:4e-3:log\tbatch_size=16:64:log:3 ")
    assert space.parts == (
        Choice("bits", (8, 4, 2)), Range("width", 18, 64, False), Range("learning_rate", 5e-4, 4e-3, True),
        Choice("batch_size", (16, 32, 64)),
    )  # fmt: skip
    assert space.names == ("bits", "width", "learning_rate", "batch_size") and space.combinations is None
    assert SweepSpace.parse("bits=1:8 width=18,32").combinations == 16
    assert SweepSpace.parse("learning_rate=1e-3:5e-3:5").parts[0].values == (0.001, 0.002, 0.003, 0.004, 0.005)
    assert SweepSpace.parse("bits=4 quantize_rate=1e-3:4e-3:log:3").parts[1].values == (0.001, 0.002, 0.004)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"'': nothing to choose; for example: bits="),
        ("bits=8 depth=3", r"^depth=3: must be NAME=VALUES, the name one of bits, width"),
        ("bits", r"^bits: must be NAME=VALUES"),
        ("bits=", r"^bits=: must be NAME=VALUES"),
        ("bits=8,9", r"^bits=8,9: 9 is not between 1 and 8"),
        ("bits=8,4.5", r"^bits=8,4.5: '4.5' is not a whole number"),
        ("bits=8,,4", r"^bits=8,,4: '' is not a whole number"),
        ("bits=8,8", r"^bits=8,8: a value is there twice"),
        ("bits=8 bits=4", r"^bits=4: bits is there twice"),
        ("learning_rate=fast", r"^learning_rate=fast: 'fast' is not a number"),
        ("learning_rate=0:1", r"^learning_rate=0:1: 0 is not between 1e-09 and 10"),
        ("learning_rate=nan", r"^learning_rate=nan: nan is not between"),
        ("learning_rate=1e-2:1e-3", r"^learning_rate=1e-2:1e-3: 1e-2 is not below 1e-3"),
        ("learning_rate=1e-3:1e-2:lin", r"^learning_rate=1e-3:1e-2:lin: a range is LOW:HIGH, LOW:HIGH:log"),
        ("learning_rate=1e-3:1e-2:log:1", r"^learning_rate=1e-3:1e-2:log:1: takes 2 to 100 values"),
        ("bits=1:4:8", r"^bits=1:4:8: has no 8 different values"),
        ("learning_rate=1e-3,2e-3 quantize_rate=1e-3", r"^quantize_rate: needs bits"),
    ],
)
def test_the_part_that_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SweepSpace.parse(text)


@given(st.sampled_from(["learning_rate", "width"]), st.booleans(), st.integers(2, 20), st.floats(2.0, 100.0))
def test_points_of_a_range_hold_its_ends_and_rise(name: str, log: bool, count: int, factor: float) -> None:
    low = 32 if LIMITS[name][0] is int else 1e-4
    high = round(low * factor) if LIMITS[name][0] is int else low * factor
    text = f"{name}={low!r}:{high!r}{':log' if log else ''}:{count}"
    points = SweepSpace.parse(text).parts[0].values
    assert len(points) == count and points[0] == low and points[-1] == high
    assert list(points) == sorted(set(points))
    assert all(LIMITS[name][1] <= point <= LIMITS[name][2] for point in points)
    if log and count == 3 and name == "learning_rate":
        assert points[1] == pytest.approx(math.sqrt(low * high), rel=1e-5)


def test_rounds_of_hyperband() -> None:
    """Li et al. 2018, with a third kept in each round."""
    assert hyperband_rounds(30) == [(34, 2), (12, 4), (4, 10), (2, 30)]
    assert hyperband_rounds(1) == [(1, 1)] and hyperband_rounds(9) == [(9, 1), (3, 3), (1, 9)]
