# SPDX-License-Identifier: Apache-2.0
"""Between which values a rate lies that was counted on long recordings: 95 % confidence intervals.

False accepts are events in time: the interval of their rate is Garwood's, exact for a Poisson process
(F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28, 1936). It has 2.5 % at either end. With no
event in T hours its upper end is 3.69 / T; the "rule of three", 3.0 / T, is the upper end where all 5 % are left there.

Missed words are a share of targets: the interval is Wilson's (``det.binomial_interval``), which takes targets for
independent. Words of one speaker are not: a voice that a model does not know is missed again and again. Where it is
known who speaks, whole speakers are drawn instead (cluster bootstrap: A. C. Davison, D. V. Hinkley, "Bootstrap Methods
and their Application", 1997, section 3.8), and the interval is never narrower than Wilson's, as a bootstrap is where
next to nothing is missed.

Intervals know how much was counted and nothing else. They do not know that a threshold was chosen on the same
recordings, which flatters both numbers, nor that the recordings differ from where a device will stand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tfmot_kws.evaluation import det

LEVEL = 0.95
_DRAWS = 2000


def poisson_rate(count: int, exposure: float, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the rate of events, Garwood's.

    Args:
        count: events that were seen, 0 or more.
        exposure: for how long, above 0; in hours, the rate is per hour.
        level: share of cases, 0 < level < 1, in which it holds the true rate or more.

    Returns:
        (lowest, highest) rate; the lowest of no events is 0.

    Raises:
        ValueError: one of them is outside of its range.
    """
    from scipy.special import gammaincinv

    if count < 0 or count != int(count):
        raise ValueError(f"count={count!r}: must be a whole number, 0 or more")
    if not 0.0 < exposure < np.inf:
        raise ValueError(f"exposure={exposure!r}: must be above 0")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level!r}: must be between 0 and 1")
    tail = (1.0 - level) / 2.0
    # Quantiles of chi-square with 2k degrees of freedom, halved, are those of a gamma distribution of shape k.
    lowest = float(gammaincinv(count, tail)) if count else 0.0
    return lowest / exposure, float(gammaincinv(count + 1, 1.0 - tail)) / exposure


def miss_rates(
    hits: npt.ArrayLike,
    targets: int,
    speaker_hits: np.ndarray | None = None,
    speaker_targets: Sequence[int] | np.ndarray = (),
) -> np.ndarray:
    """95 % intervals of the share of missed targets: by speaker where at least two are known, else Wilson's.

    Args:
        hits: whole numbers [n]: targets found, of each of n detectors on the same recordings.
        targets: how many there are, at least 1.
        speaker_hits: whole numbers [n, speakers]; its rows sum to ``hits``. None where nobody knows who speaks.
        speaker_targets: whole numbers [speakers], each at least 1; they sum to ``targets``.

    Returns:
        float64 [n, 2]: lowest and highest share, 0..1. The same counts always give the same numbers.

    Raises:
        ValueError: counts that do not go together.
    """
    hits = np.asarray(hits, np.int64)
    if targets < 1 or hits.ndim != 1 or (hits < 0).any() or (hits > targets).any():
        raise ValueError(f"hits={hits!r}, targets={targets!r}: needed are 0 <= hits <= targets and a target")
    wilson = {int(count): det.binomial_interval(1.0 - count / targets, targets) for count in np.unique(hits)}
    found = np.asarray([wilson[int(count)] for count in hits], np.float64).reshape(len(hits), 2)
    if speaker_hits is None or len(speaker_targets) < 2:
        return found
    spoken = np.asarray(speaker_targets, np.int64)
    heard = np.asarray(speaker_hits, np.int64)
    if heard.shape != (len(hits), len(spoken)) or spoken.sum() != targets or (heard.sum(axis=1) != hits).any():
        raise ValueError(
            f"speaker_hits of shape {heard.shape}, speaker_targets of {spoken.sum()} targets: must be those of hits "
            f"of shape {hits.shape} and of {targets} targets, speaker by speaker"
        )
    if (spoken < 1).any() or (heard < 0).any() or (heard > spoken).any():
        raise ValueError("speaker_hits, speaker_targets: needed are 0 <= hits <= targets and a target of each speaker")
    drawn = np.random.default_rng(0).multinomial(len(spoken), np.full(len(spoken), 1.0 / len(spoken)), _DRAWS)
    drawn = drawn.astype(np.float64)  # whole numbers multiply exactly in floats, and much faster
    shares = (drawn @ (spoken - heard).T) / (drawn @ spoken)[:, None]
    low, high = np.percentile(shares, [50.0 * (1.0 - LEVEL), 50.0 * (1.0 + LEVEL)], axis=0)
    return np.stack([np.minimum(found[:, 0], low), np.maximum(found[:, 1], high)], axis=1)
