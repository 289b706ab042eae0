# SPDX-License-Identifier: Apache-2.0
"""What a detector did on long recordings, as plain values; ``streams`` counts them and says by which rules."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmot_kws.data.stream_labels import Target
from tfmot_kws.evaluation import confidence, mlperf
from tfmot_kws.evaluation.detector import DetectorConfig

HIT, REPEAT, FALSE_ACCEPT = "hit", "repeat", "false accept"


def _nobody() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True)
class Stream:
    """What a model says about one recording.

    Attributes:
        name: of the recording.
        outputs: int8 or int16 [steps, classes].
        times: float64 [steps], rising: seconds from the start of the recording until each output is known.
        targets: the words in it, in order.
    """

    name: str
    outputs: np.ndarray
    times: np.ndarray
    targets: tuple[Target, ...] = ()


@dataclasses.dataclass(frozen=True)
class StreamCurve:
    """A detector at every threshold that was tried.

    Attributes:
        thresholds: float64 [n], rising, in real units; at the last one nothing fires.
        hits: int64 [n], targets found.
        false_accepts: int64 [n].
        targets: how many targets there are.
        hours: of sound in which false accepts count.
        speaker_targets: int64 [speakers], targets of each; empty where not every target names its speaker.
        speaker_hits: int64 [n, speakers], those found.
    """

    thresholds: np.ndarray
    hits: np.ndarray
    false_accepts: np.ndarray
    targets: int
    hours: float
    speaker_targets: np.ndarray = dataclasses.field(default_factory=_nobody)
    speaker_hits: np.ndarray | None = None

    @property
    def frr(self) -> np.ndarray:
        """float64 [n]: share of targets missed, 0..1; NaN where there are no targets."""
        return 1.0 - self.hits / self.targets if self.targets else np.full(len(self.hits), np.nan)

    @property
    def fa_per_hour(self) -> np.ndarray:
        """float64 [n]."""
        return self.false_accepts / self.hours

    def frr_intervals(self) -> np.ndarray:
        """float64 [n, 2]: 95 % intervals of ``frr`` (``confidence.miss_rates``); NaN where there are no targets."""
        if not self.targets:
            return np.full((len(self.hits), 2), np.nan)
        return confidence.miss_rates(self.hits, self.targets, self.speaker_hits, self.speaker_targets)

    def result_at(self, index: int) -> Result:
        """The counts of one threshold, as those of a detector; it has no latencies."""
        speaker_hits = None if self.speaker_hits is None else self.speaker_hits[index]
        return Result(
            self.targets,
            int(self.hits[index]),
            int(self.false_accepts[index]),
            self.hours,
            np.zeros(0),
            self.speaker_targets,
            speaker_hits,
        )

    def index_at(self, fa_per_hour: float) -> int:
        """Where most targets are found with at most so many false accepts an hour, and of these the fewest.

        Curves are uneven: because of the refractory time a higher threshold can fire more often, as it fires later.
        No other point of the curve has fewer misses without more false accepts, or fewer false accepts without more
        misses. Of equal ones it is the lowest threshold. Without targets it is the lowest threshold from which on,
        also at all higher ones, there are at most so many.

        Raises:
            ValueError: the rate is negative.
        """
        if not fa_per_hour >= 0.0:
            raise ValueError(f"fa_per_hour={fa_per_hour!r}: must be 0 or more")
        allowed = self.fa_per_hour <= fa_per_hour
        if not self.targets:
            return int(np.flatnonzero(np.concatenate([[True], ~allowed]))[-1])
        best = allowed & (self.hits == self.hits[allowed].max())
        return int(np.flatnonzero(best & (self.false_accepts == self.false_accepts[best].min()))[0])

    def frr_at(self, fa_per_hour: float) -> float:
        """Miss rate (0..1) at the threshold of ``index_at``."""
        return float(self.frr[self.index_at(fa_per_hour)])


@dataclasses.dataclass(frozen=True)
class Found:
    """One event: ``outcome`` is "hit", "repeat" or "false accept"; ``latency`` in seconds is that of a hit."""

    stream: str
    word: str
    time: float
    score: float
    outcome: str
    latency: float | None = None


@dataclasses.dataclass(frozen=True)
class Missed:
    """A target that no event found.

    Attributes:
        stream: the recording.
        word: which.
        start, end: of the word, in seconds from the start of the recording.
        score: the best mean score in the time in which it could have been found; None where the detector still waited
            for sound.
        speaker: who says it; empty where nobody knows.
    """

    stream: str
    word: str
    start: float
    end: float
    score: float | None
    speaker: str = ""


@dataclasses.dataclass(frozen=True)
class Result:
    """The detector at its thresholds, one keyword or all.

    Attributes:
        targets: how many there are.
        hits: how many it found.
        false_accepts: how many.
        hours: of sound in which false accepts count.
        latencies: float64 [hits], seconds from the end of the word.
        speaker_targets: int64 [speakers], targets of each; empty where not every target names its speaker.
        speaker_hits: int64 [speakers], those found.
    """

    targets: int
    hits: int
    false_accepts: int
    hours: float
    latencies: np.ndarray
    speaker_targets: np.ndarray = dataclasses.field(default_factory=_nobody)
    speaker_hits: np.ndarray | None = None

    @property
    def frr(self) -> float | None:
        """Share of targets missed, 0..1; None without targets."""
        return 1.0 - self.hits / self.targets if self.targets else None

    @property
    def fa_per_hour(self) -> float:
        """False accepts per hour."""
        return self.false_accepts / self.hours

    @property
    def frr_interval(self) -> tuple[float, float] | None:
        """95 % interval of ``frr`` (``confidence.miss_rates``); None without targets."""
        if not self.targets:
            return None
        by = None if self.speaker_hits is None else np.asarray(self.speaker_hits)[None]
        low, high = confidence.miss_rates([self.hits], self.targets, by, self.speaker_targets)[0]
        return float(low), float(high)

    @property
    def fa_interval(self) -> tuple[float, float]:
        """95 % interval of ``fa_per_hour`` (``confidence.poisson_rate``)."""
        return confidence.poisson_rate(self.false_accepts, self.hours)

    def latency(self, percent: float) -> float | None:
        """Latency in seconds that ``percent`` (0..100) of the hits do not exceed; None without hits."""
        return float(np.percentile(self.latencies, percent)) if len(self.latencies) else None


@dataclasses.dataclass(frozen=True)
class StreamEvaluation:
    """What ``evaluate`` finds.

    Attributes:
        config: the detector, with its thresholds.
        words: the keywords, in the order of ``config.keywords``.
        results: by word, all keywords listening together.
        pooled: all of them.
        curves: by word, each keyword on its own.
        pooled_curve: all keywords together, at one threshold for all.
        events: everything that fired, by recording and time.
        mlperf: over the recordings with targets.
        misses: every target that nothing found, by recording and time.
    """

    config: DetectorConfig
    words: tuple[str, ...]
    results: dict[str, Result]
    pooled: Result
    curves: dict[str, StreamCurve]
    pooled_curve: StreamCurve
    events: tuple[Found, ...]
    mlperf: mlperf.MlperfTiny
    misses: tuple[Missed, ...] = ()
