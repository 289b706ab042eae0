# SPDX-License-Identifier: Apache-2.0
"""How good a model is: accuracy and DET curves of any function from features to logits. Knows no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfmot_kws.data.feature_set import FeatureSet
from tfmot_kws.data.task import SILENCE, UNKNOWN
from tfmot_kws.evaluation import det

_SMALLEST = 1e-12


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model says about a split.

    Attributes:
        classes: names of the classes.
        keywords: the classes that count as keywords.
        labels: int32 [clips].
        predictions: int32 [clips], the class with the largest output (the first of equal ones).
        scores: float64 [clips, keywords], log-odds of each keyword against all other classes.
        curves: DET curve per keyword: its own clips against all others. Keywords without clips have none.
        pooled: DET curve over all keywords: each clip counts once per keyword, as a positive for its own one.
    """

    classes: tuple[str, ...]
    keywords: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    scores: np.ndarray
    curves: Mapping[str, det.DetCurve]
    pooled: det.DetCurve

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Share of clips (0..1) whose class is named right."""
        return float(np.mean(self.predictions == self.labels))

    def confusion(self) -> np.ndarray:
        """int64 [true class, predicted class], counts of clips."""
        count = len(self.classes)
        return np.bincount(self.labels * count + self.predictions, minlength=count * count).reshape(count, count)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A model next to the float model it was made from, on the same clips.

    Attributes:
        frr: the float model's operating point: the share of missed keywords (0..1) both are measured at.
        float_fdr: share of false detections (0..1) of the float model there.
        fdr: the same of the other model, at no more misses.
        missed: share of the keywords (0..1) that the other model misses where it has no more false detections than the
            float model there.
        area: area under its pooled DET curve, 0 (perfect) .. 1.
        area_ratio: ``area`` over that of the float model; 1 where both are 0, infinite where only the latter is.
        accuracy: share of clips named right.
        accuracy_change: difference to the float model's; above 0 is better.
    """

    frr: float
    float_fdr: float
    fdr: float
    missed: float
    area: float
    area_ratio: float
    accuracy: float
    accuracy_change: float


def log_odds(outputs: np.ndarray, posteriors: bool = False) -> np.ndarray:
    """Log-odds of each class against all others, in float64.

    They order clips as posteriors do, but do not run into 1, where float32 posteriors of sure models tie.

    Args:
        outputs: [clips, classes], at least 2 classes; logits, or posteriors 0..1.
        posteriors: what ``outputs`` are.

    Returns:
        float64 [clips, classes], finite for finite outputs.

    Raises:
        ValueError: another shape, values that are not finite, or posteriors outside 0..1.
    """
    values = np.asarray(outputs, np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"outputs: expected [clips, classes] with 2 classes or more, found shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"outputs: {int(np.count_nonzero(~np.isfinite(values)))} of {values.size} are not finite")
    if posteriors:
        if values.min(initial=0.0) < 0.0 or values.max(initial=1.0) > 1.0 + 1e-6:
            raise ValueError("outputs: posteriors must lie in 0..1; for logits leave posteriors=False")
        values = np.log(np.maximum(values, _SMALLEST))
    out = np.empty_like(values)
    for index in range(values.shape[1]):
        out[:, index] = values[:, index] - np.logaddexp.reduce(np.delete(values, index, axis=1), axis=1)
    return out


def evaluate(
    function: Callable[[np.ndarray], np.ndarray],
    features: FeatureSet,
    batch_size: int = 256,
    posteriors: bool = False,
    keywords: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Runs a model over all clips of a split.

    Args:
        function: float32 [batch, frames, mel] -> [batch, classes].
        features: the clips.
        batch_size: clips per call; the last may have fewer.
        posteriors: whether the function gives posteriors (0..1); logits otherwise.
        keywords: the classes that count as keywords; all but silence and unknown where None.
        progress: called with (clips done, clips in all).

    Raises:
        ValueError: no clips, outputs of another shape, or no keyword with both clips of its own and others.
    """
    if not len(features):
        raise ValueError("features: no clips to evaluate on")
    parts = []
    for first in range(0, len(features), batch_size):
        parts.append(np.asarray(function(features.x[first : first + batch_size])))
        if progress is not None:
            progress(min(first + batch_size, len(features)), len(features))
    return from_outputs(np.concatenate(parts), features, posteriors, keywords)


def from_outputs(
    outputs: np.ndarray, features: FeatureSet, posteriors: bool = False, keywords: Sequence[str] | None = None
) -> Evaluation:
    """The evaluation of outputs that are there already.

    Args:
        outputs: [clips, classes]; logits, or posteriors 0..1.
        features: what they are outputs of: classes and labels.
        posteriors: what ``outputs`` are.
        keywords: classes that count as keywords; None for all but ``_silence_`` and ``_unknown_``.

    Raises:
        ValueError: another shape, unknown keywords, or a split without clips of them.
    """
    classes, labels = features.classes, np.asarray(features.y)
    if outputs.shape != (len(features), len(classes)):
        raise ValueError(
            f"outputs: expected shape [{len(features)}, {len(classes)}] (clips, classes), found {list(outputs.shape)}"
        )
    if keywords is None:
        keywords = tuple(name for name in classes if name not in (SILENCE, UNKNOWN))
    unknown = sorted(set(keywords) - set(classes))
    if unknown or not keywords:
        raise ValueError(f"keywords {unknown or list(keywords)}: not among the classes {list(classes)}")
    columns = [classes.index(name) for name in keywords]
    scores = log_odds(outputs, posteriors)[:, columns]
    wanted = labels[:, None] == np.asarray(columns)[None]
    curves = {
        name: det.det_curve(scores[:, i], wanted[:, i])
        for i, name in enumerate(keywords)
        if 0 < wanted[:, i].sum() < len(labels)
    }
    if not curves:
        raise ValueError(f"keywords {list(keywords)}: this split has no clips of them, or no others")
    return Evaluation(
        classes=tuple(classes),
        keywords=tuple(keywords),
        labels=labels,
        predictions=np.argmax(outputs, axis=1).astype(np.int32),
        scores=scores,
        curves=curves,
        pooled=det.det_curve(scores.ravel(), wanted.ravel()),
    )


def compare(float_eval: Evaluation, other_eval: Evaluation, frr: float = 0.05) -> Comparison:
    """A model at the operating point of the float model.

    The float model runs at the highest threshold at which it misses no more than ``frr`` (0..1) of the keywords; the
    share that it misses there is what the other model may miss too.

    Args:
        float_eval: of the float model.
        other_eval: of the other model, on the same clips.
        frr: share of the keywords, 0..1, that may be missed.

    Raises:
        ValueError: the evaluations are of different clips, or ``frr`` is outside 0..1.
    """
    if float_eval.classes != other_eval.classes or not np.array_equal(float_eval.labels, other_eval.labels):
        raise ValueError("compare: the two evaluations are of different clips or classes; evaluate both on one split")
    base, other = float_eval.pooled, other_eval.pooled
    missed = base.frr[int(np.searchsorted(base.thresholds, base.threshold_at_frr(frr)))]
    area, base_area = other.area(), base.area()
    ratio = area / base_area if base_area > 0.0 else 1.0 if area == 0.0 else float("inf")
    return Comparison(
        frr=float(missed),
        float_fdr=base.fdr_at_frr(float(missed)),
        fdr=other.fdr_at_frr(float(missed)),
        missed=other.frr_at_far(base.fdr_at_frr(float(missed))),
        area=area,
        area_ratio=ratio,
        accuracy=other_eval.accuracy,
        accuracy_change=other_eval.accuracy - float_eval.accuracy,
    )
