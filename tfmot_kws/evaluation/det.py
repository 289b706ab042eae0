# SPDX-License-Identifier: Apache-2.0
"""Detection error trade-off curves: misses against false detections. Imports numpy only.

A clip is accepted when its score is at or above a threshold. With P positives and N negatives

- FRR (false rejection rate, miss rate) = positives below the threshold / P,
- FAR (false acceptance rate, here also FDR, false detection rate) = negatives at or above / N.

Clips of equal score cannot be told apart, so they enter or leave together: a tie is one step of
the curve, never two.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class DetCurve:
    """Every distinct operating point of a detector, from accept-all to reject-all.

    Attributes:
        thresholds: float64 [n], rising; the last is +inf (nothing is accepted).
        frr: float64 [n], rising from 0 to 1.
        far: float64 [n], falling from 1 to 0.
        positives: how many positive clips it was measured on.
        negatives: how many negative clips.
    """

    thresholds: np.ndarray
    frr: np.ndarray
    far: np.ndarray
    positives: int = 0
    negatives: int = 0

    def fdr_at_frr(self, frr: float) -> float:
        """The false detection rate when at most ``frr`` of the positives are missed.

        Conservative: nothing is interpolated. The answer is the FAR of the highest threshold
        whose FRR is at or below ``frr``, a point at which the detector can really be run; the
        straight line between two points would promise less false detections.

        Args:
            frr: allowed miss rate, 0..1.

        Raises:
            ValueError: ``frr`` is outside 0..1.
        """
        return float(self.far[self._last_within(self.frr, frr, "frr")])

    def frr_at_far(self, far: float) -> float:
        """The miss rate when at most ``far`` of the negatives are accepted.

        Conservative in the same way: the FRR of the lowest threshold whose FAR is at or below
        ``far``.

        Args:
            far: allowed false-accept rate, 0..1.

        Raises:
            ValueError: ``far`` is outside 0..1.
        """
        _check_rate("far", far)
        return float(self.frr[int(np.argmax(self.far <= far))])

    def threshold_at_frr(self, frr: float) -> float:
        """The threshold behind ``fdr_at_frr``; +inf only for ``frr=1``."""
        return float(self.thresholds[self._last_within(self.frr, frr, "frr")])

    def threshold_at_far(self, far: float) -> float:
        """The threshold behind ``frr_at_far``; +inf where only accepting nothing will do."""
        _check_rate("far", far)
        return float(self.thresholds[int(np.argmax(self.far <= far))])

    def area(self) -> float:
        """Area under FRR over FAR, 0 (perfect) .. 1; 0.5 is chance.

        By the trapezoid rule, so that a tie of one positive and one negative counts one half:
        it equals 1 - ROC AUC.
        """
        widths = self.far[:-1] - self.far[1:]
        return float(np.sum(widths * (self.frr[:-1] + self.frr[1:])) / 2.0)

    def eer(self) -> float:
        """Equal error rate: where FRR = FAR on the line between neighbouring points."""
        difference = self.frr - self.far  # rises from -1 to 1
        right = int(np.argmax(difference >= 0.0))
        left = right - 1
        share = -difference[left] / (difference[right] - difference[left])
        return float(self.frr[left] + share * (self.frr[right] - self.frr[left]))

    @staticmethod
    def _last_within(rates: np.ndarray, limit: float, name: str) -> int:
        _check_rate(name, limit)
        return int(np.searchsorted(rates, limit, side="right")) - 1


def _check_rate(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value!r}: a rate must be between 0 and 1")


def binomial_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Where the true share lies, given the share that was seen: Wilson's score interval.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Unlike the normal
    approximation it stays within 0..1 and has a width where the share is 0 or 1.

    Args:
        share: what was seen, 0..1.
        count: of how many trials, at least 1.
        z: half width in standard deviations; 1.96 holds the true share in 95 of 100 cases.

    Returns:
        (lowest, highest), both 0..1.

    Raises:
        ValueError: ``share`` is outside 0..1, or ``count`` is below 1.
    """
    _check_rate("share", share)
    if count < 1:
        raise ValueError(f"count={count!r}: must be 1 or more")
    middle = share + z * z / (2 * count)
    half = z * np.sqrt(share * (1.0 - share) / count + z * z / (4 * count * count))
    scale = 1.0 + z * z / count
    return max(0.0, float((middle - half) / scale)), min(1.0, float((middle + half) / scale))


def det_curve(scores: np.ndarray, labels: np.ndarray) -> DetCurve:
    """The DET curve of scores.

    Args:
        scores: [n], finite; higher means more likely a keyword.
        labels: [n], true (1) for a keyword and false (0) otherwise.

    Returns:
        The curve, with one point per distinct score and one that rejects everything.

    Raises:
        ValueError: nothing to measure, scores that are not finite, labels that are not 0/1,
            shapes that differ, or only one of the two classes.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"scores and labels: expected one value each per clip, got shapes {scores.shape} and {labels.shape}"
        )
    if scores.size == 0:
        raise ValueError("scores: empty; a DET curve needs positives and negatives")
    if not np.isfinite(scores).all():
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        raise ValueError(f"scores: {bad} of {scores.size} are not finite")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels: must be 0 or 1, found {np.unique(labels)[:5].tolist()}")
    labels = labels.astype(bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if positives == 0 or negatives == 0:
        missing = "positive (keyword)" if positives == 0 else "negative"
        raise ValueError(f"labels: no {missing} clip among {scores.size}; a DET curve needs both classes")
    thresholds, which = np.unique(scores, return_inverse=True)
    hits = np.bincount(which[labels], minlength=len(thresholds))
    alarms = np.bincount(which[~labels], minlength=len(thresholds))
    missed = np.concatenate([[0], np.cumsum(hits)])
    rejected = np.concatenate([[0], np.cumsum(alarms)])
    return DetCurve(
        thresholds=np.concatenate([thresholds, [np.inf]]),
        frr=missed / positives,
        far=(negatives - rejected) / negatives,
        positives=positives,
        negatives=negatives,
    )
