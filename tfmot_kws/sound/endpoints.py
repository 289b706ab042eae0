# SPDX-License-Identifier: Apache-2.0
"""Where somebody speaks in a short recording, by its level above the noise that the recording has itself."""

from __future__ import annotations

import numpy as np

_LEAST_POWER = 1e-6
"""Of the loudest power, 60 dB below it: digital silence is no floor to measure from."""
_HEIGHT = 0.35
"""Speech begins at this share of the way, in dB, from the noise up to the loudest."""
_RANGE_DB = 30.0
"""And never further below the loudest than this: what is softer is breath or an echo."""
_GAP_SECONDS = 0.15
"""Shorter pauses are within a word: a stop closes the mouth for a tenth of a second."""
_SHARE = 0.25
"""Of the stretches between longer pauses, those count that stand out so much of what the most prominent one does."""


def speech(samples: np.ndarray, rate: int) -> tuple[int, int]:
    """First and last sample of what is said.

    Levels are those of 20 ms, every 10 ms, with high frequencies lifted, as hum and rumble are no speech. The noise is
    what the softest seventh of the recording does not exceed. Short sounds far from what stands out most are left out.
    A recording as loud at its ends as in its middle is speech from end to end.

    Args:
        samples: [n], any scale.
        rate: samples per second, at least 100.

    Returns:
        0 <= start < end <= n; (0, 0) where nothing is heard at all.
    """
    step = rate // 100
    count = -(-len(samples) // step)
    if count < 3 or not np.any(samples):
        return (0, len(samples)) if np.any(samples) else (0, 0)
    x = np.pad(np.asarray(samples, np.float64), (0, count * step - len(samples)))
    x = np.append(x[0], x[1:] - 0.97 * x[:-1])
    power = np.mean(np.square(x).reshape(count, step), axis=1)
    power = (power + np.append(power[0], power[:-1])) / 2.0
    db = 10.0 * np.log10(power + _LEAST_POWER * power.max())
    floor, top = np.percentile(db, 15.0), np.percentile(db, 98.0)
    least = max(floor + _HEIGHT * (top - floor), top - _RANGE_DB)
    loud = np.flatnonzero(db >= least)
    breaks = np.flatnonzero(np.diff(loud) > _GAP_SECONDS * 100.0)
    first = loud[np.append(0, breaks + 1)]
    last = loud[np.append(breaks, len(loud) - 1)] + 1
    above = np.concatenate([[0.0], np.cumsum(np.maximum(db - least, 0.0) + 1e-9)])
    weight = above[last] - above[first]
    heard = np.flatnonzero(weight >= _SHARE * weight.max())
    return int(first[heard[0]]) * step, min(int(last[heard[-1]]) * step, len(samples))
