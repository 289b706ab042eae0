"""Observers of ranges: what they keep, that order makes no difference, and what counts as loud."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmot_kws.quantize import ranges


def observed(observer, clips: np.ndarray, batch: int = 1000):
    for i in range(0, len(clips), batch):
        observer.update(clips[i : i + batch])
    return observer.range()


def gauss(clips: int = 200) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (clips, 50)).astype(np.float32)


@settings(max_examples=20)
@given(seed=st.integers(0, 99), batch=st.integers(1, 40), method=st.sampled_from(ranges.METHODS))
def test_order_and_batches_make_no_difference(seed: int, batch: int, method: str) -> None:
    x = gauss(60) * np.random.default_rng(seed).lognormal(0, 1, (60, 1)).astype(np.float32)
    mixed = x[np.random.default_rng(seed).permutation(60)]
    make = lambda: ranges.make_observer(method, 95.0, 4)  # noqa: E731
    assert observed(make(), x) == observed(make(), mixed, batch)


@pytest.mark.parametrize("clips", [2, 10, 200])
def test_one_loud_clip_of_few_or_many(clips: int) -> None:
    x = gauss(clips)
    expected = observed(ranges.MinMax(), x)
    loud = np.concatenate([x[: clips // 2], 100 * x[:1], x[clips // 2 :]])
    assert observed(ranges.LoudClips(), loud)[1] <= expected[1]
    assert observed(ranges.LoudClips(100.0), loud)[1] == observed(ranges.MinMax(), loud)[1]


def test_the_share_is_kept() -> None:
    """Of clips whose loudness is spread evenly, nine of ten are kept, give or take one loudness."""
    x = np.linspace(0.1, 1.0, 500, dtype=np.float32)[:, None]
    least, largest = observed(ranges.LoudClips(90.0), x)
    assert least == 0 and 0.9 * 0.91 <= largest <= 0.91 * 1.13


def test_least_square_error() -> None:
    """Against all reaches tried by hand; few steps cut more than many."""
    x, found = gauss(), {}
    for bits in (3, 4, 8):
        least, largest = observed(ranges.LoudClips(100.0, bits), x)
        steps, reach = 2 ** (bits - 1) - 1, max(-least, largest)
        error = lambda r, steps=steps: ((np.clip(np.round(x / r * steps), -steps, steps) * r / steps - x) ** 2).mean()  # noqa: E731
        best = min(error(r) for r in np.linspace(0.5, 1, 30) * np.abs(x).max())
        assert error(reach) < 1.1 * best
        found[bits] = reach
    assert found[3] < found[4] < found[8]


def test_zeros_and_extremes() -> None:
    for observer in (ranges.MinMax(), ranges.LoudClips(), ranges.LoudClips(99.0, 8)):
        assert observed(observer, np.zeros((5, 3), np.float32)) == (0, 0)
    for size in (1e-30, 1e30):
        least, largest = observed(ranges.LoudClips(100.0, 8), np.full((5, 3), size, np.float32))
        assert least == 0 and largest == pytest.approx(size, rel=0.1)
