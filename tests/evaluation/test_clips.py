"""Scores, curves and comparisons of outputs that are known."""

from __future__ import annotations

import numpy as np
import pytest

from tfmot_kws.data.datasets import FeatureSet, LoadReport
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.evaluation import det

CLASSES = ("_silence_", "_unknown_", "yes", "no")


def features(y) -> FeatureSet:
    y = np.asarray(y, np.int32)
    x = np.zeros((len(y), 3, 2), np.float32)
    x[:, 0, 0] = np.arange(len(y))
    return FeatureSet(x, y, CLASSES, LoadReport(len(y), {}), np.zeros(len(y), np.int32), ("a",))


@pytest.fixture
def data(rng) -> tuple[FeatureSet, np.ndarray]:
    y = np.arange(80) % 4
    return features(y), (rng.normal(size=(80, 4)) + 2.0 * np.eye(4)[y]).astype(np.float32)


def test_log_odds_are_those_of_the_posteriors(rng) -> None:
    logits = rng.normal(size=(50, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(evaluate.log_odds(logits), np.log(p / (1 - p)))
    assert np.allclose(evaluate.log_odds(p, posteriors=True), np.log(p / (1 - p)))


def test_sure_models_do_not_tie() -> None:
    scores = evaluate.log_odds(np.asarray([[0.0, 900.0], [0.0, 901.0]]))[:, 1]
    assert np.array_equal(scores, [900.0, 901.0])
    assert np.isfinite(evaluate.log_odds(np.asarray([[0.0, 1.0]]), posteriors=True)).all()


@pytest.mark.parametrize(
    ("outputs", "posteriors", "message"),
    [
        (np.zeros((3, 1)), False, "2 classes"),
        (np.full((3, 2), np.nan), False, "not finite"),
        (np.full((3, 2), 2.0), True, "0..1"),
    ],
)
def test_outputs_that_make_no_sense(outputs, posteriors, message) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate.log_odds(outputs, posteriors)


def test_curves_per_keyword_and_pooled(data) -> None:
    clips, logits = data
    result = evaluate.from_outputs(logits, clips)
    assert result.keywords == ("yes", "no") and len(result) == 80
    scores = evaluate.log_odds(logits)
    assert np.array_equal(result.scores, scores[:, 2:])
    for i, name in enumerate(result.keywords):
        expected = det.det_curve(scores[:, 2 + i], clips.y == 2 + i)
        assert np.array_equal(result.curves[name].far, expected.far)
        assert (result.curves[name].positives, result.curves[name].negatives) == (20, 60)
    assert (result.pooled.positives, result.pooled.negatives) == (40, 120)
    assert result.accuracy == np.mean(logits.argmax(axis=1) == clips.y)
    assert result.confusion().sum() == 80 and np.trace(result.confusion()) == round(80 * result.accuracy)


def test_batches_and_progress(data) -> None:
    clips, logits = data
    seen, steps = [], []

    def function(x):
        seen.append(len(x))
        return logits[x[:, 0, 0].astype(int)]

    result = evaluate.evaluate(function, clips, batch_size=32, progress=lambda *step: steps.append(step))
    assert seen == [32, 32, 16] and steps == [(32, 80), (64, 80), (80, 80)]
    assert np.array_equal(result.scores, evaluate.from_outputs(logits, clips).scores)


def test_keywords_without_clips_have_no_curve(data) -> None:
    _, logits = data
    result = evaluate.from_outputs(logits[:6], features([0, 1, 2, 2, 1, 0]))
    assert list(result.curves) == ["yes"]
    with pytest.raises(ValueError, match="no clips of them"):
        evaluate.from_outputs(logits[:2], features([0, 1]))


def test_what_does_not_fit_is_named(data) -> None:
    clips, logits = data
    with pytest.raises(ValueError, match=r"\[80, 4\].*\[80, 3\]"):
        evaluate.from_outputs(logits[:, :3], clips)
    with pytest.raises(ValueError, match="maybe"):
        evaluate.from_outputs(logits, clips, keywords=("maybe",))
    with pytest.raises(ValueError, match="no clips"):
        evaluate.evaluate(lambda x: x, features([]))


def test_comparison_at_the_float_models_operating_point(data, rng) -> None:
    clips, logits = data
    base = evaluate.from_outputs(logits, clips)
    same = evaluate.compare(base, base, 0.05)
    assert same.fdr == same.float_fdr == base.pooled.fdr_at_frr(0.05)
    assert same.area_ratio == 1.0 and same.accuracy_change == 0.0 and 0.0 <= same.frr <= 0.05
    worse = evaluate.from_outputs(logits + 3 * rng.normal(size=logits.shape), clips)
    compared = evaluate.compare(base, worse)
    assert compared.fdr == worse.pooled.fdr_at_frr(compared.frr) and compared.area_ratio > 1.0
    assert compared.accuracy_change == pytest.approx(worse.accuracy - base.accuracy)


def test_area_ratio_of_perfect_models(data) -> None:
    clips, logits = data
    perfect = evaluate.from_outputs(100.0 * np.eye(4)[clips.y], clips)
    assert evaluate.compare(perfect, perfect).area_ratio == 1.0
    assert evaluate.compare(perfect, evaluate.from_outputs(logits, clips)).area_ratio == np.inf


def test_comparing_different_clips(data) -> None:
    clips, logits = data
    other = evaluate.from_outputs(logits[:79], features(clips.y[:79]))
    with pytest.raises(ValueError, match="different clips"):
        evaluate.compare(evaluate.from_outputs(logits, clips), other)
