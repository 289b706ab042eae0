# SPDX-License-Identifier: Apache-2.0
"""DET curves against scikit-learn, by hand, and by their properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from tfmot_kws.evaluation import det, det_plot


def _random(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(400) < 0.3).astype(int)
    scores = rng.normal(labels, 1.0)
    return (np.round(scores, 1) if ties else scores), labels


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_points_equal_scikit_learn(seed, ties):
    scores, labels = _random(seed, ties)
    curve = det.det_curve(scores, labels)
    far, frr, thresholds = metrics.det_curve(labels, scores)
    where = np.searchsorted(curve.thresholds, thresholds)
    np.testing.assert_array_equal(curve.thresholds[where], thresholds)
    np.testing.assert_allclose(curve.far[where], far, atol=1e-15)
    np.testing.assert_allclose(curve.frr[where], frr, atol=1e-15)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_area_is_one_minus_roc_auc(seed, ties):
    scores, labels = _random(seed, ties)
    expected = 1.0 - metrics.roc_auc_score(labels, scores)
    assert det.det_curve(scores, labels).area() == pytest.approx(expected, abs=1e-12)
    false_alarms, hits, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    curve = det.det_curve(scores, labels)
    np.testing.assert_allclose(curve.far[::-1], false_alarms, atol=1e-15)
    np.testing.assert_allclose(1.0 - curve.frr[::-1], hits, atol=1e-15)


def test_small_curve_by_hand():
    curve = det.det_curve([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    np.testing.assert_array_equal(curve.thresholds, [0.1, 0.35, 0.4, 0.8, np.inf])
    np.testing.assert_array_equal(curve.frr, [0, 0, 0.5, 0.5, 1])
    np.testing.assert_array_equal(curve.far, [1, 0.5, 0.5, 0, 0])
    assert (curve.positives, curve.negatives) == (2, 2)
    assert curve.fdr_at_frr(0.0) == 0.5
    assert curve.fdr_at_frr(0.49) == 0.5  # conservative: no line between points
    assert curve.fdr_at_frr(0.5) == 0.0
    assert curve.frr_at_far(0.0) == 0.5
    assert curve.frr_at_far(1.0) == 0.0
    assert curve.threshold_at_frr(0.2) == 0.35
    assert curve.threshold_at_far(0.0) == 0.8
    assert curve.area() == pytest.approx(0.25)
    assert curve.eer() == pytest.approx(0.5)


def test_perfect_and_useless_detectors():
    perfect = det.det_curve([3, 4, 1, 2], [1, 1, 0, 0])
    assert (perfect.area(), perfect.eer()) == (0.0, 0.0)
    assert (perfect.fdr_at_frr(0.0), perfect.frr_at_far(0.0)) == (0.0, 0.0)
    inverted = det.det_curve([1, 2, 3, 4], [1, 1, 0, 0])
    assert (inverted.area(), inverted.eer()) == (1.0, 1.0)


def test_all_scores_tied_is_chance():
    curve = det.det_curve(np.full(10, 0.5), [1] * 4 + [0] * 6)
    assert len(curve.thresholds) == 2
    assert curve.area() == 0.5
    assert curve.eer() == 0.5
    assert curve.fdr_at_frr(0.99) == 1.0
    assert curve.fdr_at_frr(1.0) == 0.0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([], [], "empty"),
        ([0.1, 0.2], [1, 1], "no negative"),
        ([0.1, 0.2], [0, 0], r"no positive \(keyword\)"),
        ([0.1, np.nan], [0, 1], "1 of 2 are not finite"),
        ([0.1, np.inf], [0, 1], "not finite"),
        ([0.1, 0.2], [0, 2], "0 or 1"),
        ([0.1, 0.2, 0.3], [0, 1], r"\(3,\) and \(2,\)"),
        ([[0.1, 0.2]], [[0, 1]], "one value each"),
    ],
)
def test_bad_input_is_named(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        det.det_curve(scores, labels)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_outside_of_zero_to_one_are_refused(rate):
    curve = det.det_curve([0.0, 1.0], [0, 1])
    for method in (curve.fdr_at_frr, curve.frr_at_far, curve.threshold_at_frr, curve.threshold_at_far):
        with pytest.raises(ValueError, match="between 0 and 1"):
            method(rate)


_CLIPS = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60).filter(
    lambda clips: len({label for _, label in clips}) == 2
)


@settings(max_examples=100, deadline=None)
@given(_CLIPS, st.floats(0, 1))
def test_properties(clips, rate):
    scores = np.asarray([score for score, _ in clips], float)
    labels = np.asarray([label for _, label in clips])
    curve = det.det_curve(scores, labels)
    assert (curve.frr[0], curve.far[0], curve.frr[-1], curve.far[-1]) == (0, 1, 1, 0)
    assert (np.diff(curve.thresholds) > 0).all()
    assert (np.diff(curve.frr) >= 0).all() and (np.diff(curve.far) <= 0).all()
    # What is promised is what a detector at that threshold really does.
    threshold = curve.threshold_at_frr(rate)
    assert np.mean(scores[labels] < threshold) <= rate
    assert np.mean(scores[~labels] >= threshold) == curve.fdr_at_frr(rate)
    threshold = curve.threshold_at_far(rate)
    assert np.mean(scores[~labels] >= threshold) <= rate
    assert np.mean(scores[labels] < threshold) == curve.frr_at_far(rate)
    # A rising function of the scores and the order of the clips change nothing.
    turned = np.random.default_rng(0).permutation(len(scores))
    other = det.det_curve(3 * scores[turned] ** 3 + 1, labels[turned])
    np.testing.assert_array_equal(other.frr, curve.frr)
    np.testing.assert_array_equal(other.far, curve.far)
    assert 0 <= curve.area() <= 1 and 0 <= curve.eer() <= 1
    # Swapping the classes and the sign mirrors the curve.
    mirrored = det.det_curve(-scores, ~labels)
    assert mirrored.area() == pytest.approx(curve.area())
    assert mirrored.eer() == pytest.approx(curve.eer())


def test_plot_is_written_whole(tmp_path):
    curves = {f"model {i}": det.det_curve(*_random(i, False)) for i in range(3)}
    path = det_plot.plot_det(curves, tmp_path / "det.png", title="three models", mark_frr=0.05)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000
    assert [file.name for file in tmp_path.iterdir()] == ["det.png"]
    svg = det_plot.plot_det(curves, tmp_path / "det.svg", rates=(0.01, 0.5)).read_text()
    assert "model 2" in svg or "<svg" in svg


def test_plot_legend_names_the_operating_point(tmp_path):
    curve = det.det_curve([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    plain = det_plot.plot_det({"a": curve}, tmp_path / "plain.png").read_bytes()
    marked = det_plot.plot_det({"a": curve}, tmp_path / "marked.png", mark_frr=0.1).read_bytes()
    assert plain != marked


@pytest.mark.parametrize(
    ("curves", "name", "options", "message"),
    [
        (False, "a.png", {}, "no curves"),
        (True, "a.bmp", {}, r"\.bmp"),
        (True, "a.png", {"rates": (0.5, 0.1)}, "rates"),
        (True, "a.png", {"rates": (0.0, 0.5)}, "rates"),
    ],
)
def test_plot_refuses(tmp_path, curves, name, options, message):
    given_curves = {"a": det.det_curve([0.0, 1.0], [0, 1])} if curves else {}
    with pytest.raises(ValueError, match=message):
        det_plot.plot_det(given_curves, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_binomial_interval() -> None:
    """Wilson's own numbers: at 0 of 10 the upper end is z^2 / (n + z^2)."""
    assert det.binomial_interval(0.0, 10) == pytest.approx((0.0, 1.96**2 / (10 + 1.96**2)))
    low, high = det.binomial_interval(0.5, 100)
    assert low + high == pytest.approx(1.0) and (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    for share, count in ((1.5, 10), (0.5, 0)):
        with pytest.raises(ValueError, match="share|count"):
            det.binomial_interval(share, count)
