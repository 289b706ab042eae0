"""Intervals against tables and other ways to compute them, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from tfmot_kws.evaluation import confidence, det


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0.0, 3.69), (1, 0.03, 5.57), (5, 1.62, 11.67), (10, 4.80, 18.39), (50, 37.11, 65.92)],
)
def test_garwoods_table(count: int, low: float, high: float) -> None:
    assert confidence.poisson_rate(count, 1.0) == pytest.approx((low, high), abs=0.005)  # as printed
    assert confidence.poisson_rate(count, 8.0) == pytest.approx((low / 8, high / 8), abs=0.001)


@pytest.mark.parametrize("count", [0, 1, 7, 400])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_at_the_ends_the_count_is_as_rare_as_said(count: int, level: float) -> None:
    """The definition: were the rate the upper end, so few events would be seen in (1 - level) / 2 of all cases."""
    low, high = confidence.poisson_rate(count, 2.0, level)
    assert scipy.stats.poisson.cdf(count, 2.0 * high) == pytest.approx((1 - level) / 2)
    if count:
        assert scipy.stats.poisson.sf(count - 1, 2.0 * low) == pytest.approx((1 - level) / 2)


def test_the_rule_of_three() -> None:
    assert confidence.poisson_rate(0, 5.0, 0.90)[1] == pytest.approx(3.0 / 5.0, rel=0.002)  # 5 % at one end


@pytest.mark.parametrize(("count", "exposure", "level"), [(-1, 1, 0.9), (0.5, 1, 0.9), (0, 0, 0.9), (0, 1, 1.0)])
def test_what_cannot_be_is_named(count, exposure, level) -> None:
    with pytest.raises(ValueError, match="count=|exposure=|level="):
        confidence.poisson_rate(count, exposure, level)


def test_misses_of_nobody_known_are_wilsons() -> None:
    found = confidence.miss_rates([0, 3, 10], 10)
    np.testing.assert_allclose(found, [det.binomial_interval(share, 10) for share in (1.0, 0.7, 0.0)])
    np.testing.assert_array_equal(confidence.miss_rates([3], 10, np.array([[3]]), [10]), found[1:2])  # one speaker


def test_one_speaker_that_is_not_understood_widens_the_interval() -> None:
    spoken = np.full(10, 10)
    spread, one = np.full(10, 9), np.array([0] + [10] * 9)
    even, uneven = confidence.miss_rates([90, 90], 100, np.array([spread, one]), spoken)
    np.testing.assert_allclose(even, det.binomial_interval(0.1, 100))  # a bootstrap of equal speakers has no width
    assert uneven[1] > 0.25 and uneven[0] < even[0]
    np.testing.assert_array_equal(confidence.miss_rates([90], 100, np.array([one]), spoken), [uneven])  # each time


def test_it_holds_the_truth_where_wilsons_does_not() -> None:
    """25 speakers of 20 targets, whose miss rates differ (beta 0.5, 2.0: 20 % on average)."""
    rng = np.random.default_rng(1)
    spoken, held, wilson = np.full(25, 20), 0, 0
    for _ in range(150):
        hits = spoken - rng.binomial(20, rng.beta(0.5, 2.0, 25))
        low, high = confidence.miss_rates([hits.sum()], 500, hits[None], spoken)[0]
        held += low <= 0.2 <= high
        low, high = det.binomial_interval(1 - hits.sum() / 500, 500)
        wilson += low <= 0.2 <= high
    assert held >= 130 and wilson < 105, (held, wilson)


@pytest.mark.parametrize(
    ("hits", "speaker_hits", "speaker_targets"),
    [([11], None, ()), ([5], [[3, 3]], [5, 5]), ([5], [[2, 3]], [5, 4]), ([5], [[6, -1]], [8, 2])],
)
def test_counts_that_do_not_go_together(hits, speaker_hits, speaker_targets) -> None:
    with pytest.raises(ValueError, match="hits"):
        confidence.miss_rates(hits, 10, None if speaker_hits is None else np.array(speaker_hits), speaker_targets)
