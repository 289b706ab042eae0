"""Ranges of activations from the values that clips give: in one pass, in bounded memory, whatever the clips' order.

``minmax`` keeps the least and the largest value. The other methods guard against a few clips that are far louder than
the rest: they keep, for the clips of each loudness, how many there are, their extremes and a histogram of magnitudes.
All of these are sums, minima and maxima, so that neither the order of the clips nor their batches make a difference.
"""

from __future__ import annotations

import numpy as np

METHODS = ("minmax", "percentile", "mse")
PERCENTILE = 99.0

_OCTAVES = (-64, 64)  # magnitudes between 2^-64 and 2^64 have bins of their own
_BINS_PER_OCTAVE = 32
_LOUDNESSES_PER_OCTAVE = 8
_CANDIDATES_PER_OCTAVE = 16
_CANDIDATE_OCTAVES = 8


class MinMax:
    """The least and the largest value of all clips."""

    def __init__(self):
        self.least, self.largest = 0.0, 0.0

    def update(self, values: np.ndarray) -> None:
        """Takes float values [clips, ...]."""
        self.least = min(self.least, float(values.min()))
        self.largest = max(self.largest, float(values.max()))

    def range(self) -> tuple[float, float]:
        """(least, largest), zero included."""
        return self.least, self.largest


class _Clips:
    """Clips of one loudness: how many, the least and the largest value, counts of magnitudes."""

    def __init__(self):
        bins = (_OCTAVES[1] - _OCTAVES[0]) * _BINS_PER_OCTAVE
        self.count, self.least, self.largest = 0, 0.0, 0.0
        self.magnitudes = np.zeros(bins, np.int64)


class LoudClips:
    """The range of all clips but the loudest.

    Args:
      percentile: share of the clips that count at least, in percent. Below 100, at least one clip may be left out,
        however few there are. Clips of about the same loudness (an eighth of an octave) count together or not at all.
      bits: of the activation; 0: the range holds every value of the clips that count, else it is the one with the
        least mean square error of their values at that width, clipping included.
    """

    def __init__(self, percentile: float = PERCENTILE, bits: int = 0):
        self.percentile, self.bits = percentile, bits
        self._loudness: dict[int, _Clips] = {}

    def update(self, values: np.ndarray) -> None:
        """Takes float values [clips, ...]."""
        rows = values.reshape(len(values), -1)
        keys = _bin(np.abs(rows).max(axis=1), _LOUDNESSES_PER_OCTAVE)
        for key in np.unique(keys):
            clips, chosen = self._loudness.setdefault(int(key), _Clips()), rows[keys == key]
            clips.count += len(chosen)
            clips.least = min(clips.least, float(chosen.min()))
            clips.largest = max(clips.largest, float(chosen.max()))
            magnitudes = np.abs(chosen[chosen != 0])
            clips.magnitudes += np.bincount(_bin(magnitudes, _BINS_PER_OCTAVE), minlength=len(clips.magnitudes))

    def range(self) -> tuple[float, float]:
        """(least, largest), zero included."""
        kept = self._kept()
        least, largest = min(c.least for c in kept), max(c.largest for c in kept)
        if not self.bits or least == largest:
            return least, largest
        steps = 2 ** (self.bits - 1) - 1 if least < 0 else 2**self.bits - 1
        reach = _best_reach(sum(c.magnitudes for c in kept), max(-least, largest), steps)
        return max(least, -reach), min(largest, reach)

    def _kept(self) -> list[_Clips]:
        """Clips of the lowest loudness up, until the share is reached."""
        total = sum(c.count for c in self._loudness.values())
        wanted = total * self.percentile / 100.0
        wanted = wanted if wanted == total else max(min(wanted, total - 1), 1)
        kept, count = [], 0
        for key in sorted(self._loudness):
            if count >= wanted:
                break
            kept.append(self._loudness[key])
            count += kept[-1].count
        return kept


def _bin(magnitudes: np.ndarray, per_octave: int) -> np.ndarray:
    """Index of the bin that holds each magnitude; bins are octaves cut into parts of equal width in real units."""
    mantissa, exponent = np.frexp(np.asarray(magnitudes, np.float64))  # mantissa in 0.5..1
    part = np.floor((mantissa * 2.0 - 1.0) * per_octave)
    index = (exponent - 1 - _OCTAVES[0]) * per_octave + part
    return np.clip(np.where(mantissa == 0, 0, index), 0, (_OCTAVES[1] - _OCTAVES[0]) * per_octave - 1).astype(np.int64)


def _best_reach(counts: np.ndarray, largest: float, steps: int) -> float:
    """The reach, up to ``largest``, at which that many steps on each side of zero give the least square error."""
    used = np.flatnonzero(counts)
    counts = counts[used].astype(np.float64)
    octave, part = np.divmod(used, _BINS_PER_OCTAVE)
    values = 2.0 ** (octave + _OCTAVES[0]) * (1.0 + (part + 0.5) / _BINS_PER_OCTAVE)
    candidates = largest * 2.0 ** (-np.arange(_CANDIDATES_PER_OCTAVE * _CANDIDATE_OCTAVES) / _CANDIDATES_PER_OCTAVE)
    errors = []
    for reach in candidates:
        step = reach / steps
        rounding = np.where(values < step / 2.0, values**2, step**2 / 12.0)
        errors.append((counts * np.where(values > reach, (values - reach) ** 2, rounding)).sum())
    return float(candidates[int(np.argmin(errors))])


def make_observer(method: str, percentile: float, bits: int) -> MinMax | LoudClips:
    """The observer of one tensor of ``bits`` bits for one of METHODS."""
    if method == "minmax":
        return MinMax()
    return LoudClips(percentile, bits if method == "mse" else 0)


def check_method(method: str, percentile: float) -> None:
    """ValueError where the method is none of METHODS or the percentile is out of 0..100."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, found {method!r}")
    if isinstance(percentile, bool) or not isinstance(percentile, (int, float)) or not 0 < percentile <= 100:
        raise ValueError(f"percentile must be above 0 and at most 100, found {percentile!r}")
