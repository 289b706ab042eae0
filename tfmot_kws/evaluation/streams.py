# SPDX-License-Identifier: Apache-2.0
"""How good a detector is on long recordings: misses, false accepts per hour, latency. Knows no model.

Rules:

- A target is found (a hit) by the first event of its word from its start to ``tolerance`` seconds after its end, or to
  the start of the next target of the same word where that is earlier. Further events in there are neither hits nor
  false accepts: one word is one word, however often the refractory time lets it fire.
- Every other event is a false accept, also one of another keyword's word.
- The miss rate (FRR) is the share of targets that are not found.
- Hours are those in which the detector could have fired and should not have: the start of each recording, where the
  model or the smoothing still waits for sound, does not count, nor do the targets' intervals.
- Latency is the time of a hit minus the end of the word: below 0 where it fires before.

Rates come with 95 % intervals (``confidence``): Garwood's for false accepts, and for misses Wilson's or, where every
target names its speaker, one of whole speakers.

Every point of a curve is the real detector, refractory time included, run at that threshold over all recordings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfmot_kws.data.stream_labels import Target
from tfmot_kws.evaluation import detector, mlperf
from tfmot_kws.evaluation.detector import DetectorConfig
from tfmot_kws.evaluation.stream_results import (
    FALSE_ACCEPT,
    HIT,
    REPEAT,
    Found,
    Missed,
    Result,
    Stream,
    StreamCurve,
    StreamEvaluation,
)

__all__ = [
    "FALSE_ACCEPT",
    "HIT",
    "REPEAT",
    "Found",
    "Missed",
    "Result",
    "Stream",
    "StreamCurve",
    "StreamEvaluation",
    "evaluate",
]
_NEVER = -(2**31)
"""Sum of a step at which nothing can fire."""


@dataclasses.dataclass(frozen=True)
class _Joined:
    """All recordings one after another; between them steps at which nothing can fire, as long as the refractory time.

    sums: int32 [rows, keywords]. inside: int32 [rows, keywords], number of the target (over all recordings and words)
    whose interval a row is in, or -1. stream: int32 [rows]. times: float64 [rows]. real: bool [rows], no gap. targets:
    (number of the recording, target) of each. words: int32, keyword of each target. speakers: int32, number of its
    speaker; -1 for all where one of them names none.
    """

    sums: np.ndarray
    inside: np.ndarray
    stream: np.ndarray
    times: np.ndarray
    real: np.ndarray
    targets: list[tuple[int, Target]]
    words: np.ndarray
    speakers: np.ndarray

    def by_speaker(self, columns: Sequence[int], found: np.ndarray) -> np.ndarray:
        """int64 [speakers of the keywords' targets]: how many of the targets ``found`` are of each; empty if unknown.

        Args:
            columns: the keywords.
            found: numbers of targets of these keywords.
        """
        own = np.unique(self.speakers[np.isin(self.words, columns)])
        if not len(own) or own[0] < 0:
            return np.zeros(0, np.int64)
        return np.bincount(self.speakers[found], minlength=int(own[-1]) + 1)[own].astype(np.int64)

    def hours(self, step_seconds: float, keyword: int | None = None) -> float:
        """Hours outside of the targets of one keyword, or of all."""
        inside = self.inside if keyword is None else self.inside[:, [keyword]]
        return float(np.count_nonzero(self.real & (inside < 0).all(axis=1)) * step_seconds / 3600.0)


def _join(streams: Sequence[Stream], config: DetectorConfig, words: Sequence[str], tolerance: float) -> _Joined:
    keywords = len(words)
    parts: list[tuple[np.ndarray, ...]] = []
    numbered: list[tuple[int, Target]] = []
    target_words: list[int] = []
    for number, stream in enumerate(streams):
        sums = detector.moving_sums(detector.scores(config, stream.outputs), config.smooth)
        times = np.asarray(stream.times, np.float64)[config.smooth - 1 :][: len(sums)]
        inside = np.full(sums.shape, -1, np.int32)
        for k, word in enumerate(words):
            own = [target for target in stream.targets if target.word == word]
            limits = [*(target.start for target in own[1:]), np.inf]
            for target, limit in zip(own, limits):
                within = (times >= target.start) & (times <= target.end + tolerance) & (times < limit)
                inside[within, k] = len(numbered)
                numbered.append((number, target))
                target_words.append(k)
        gap = config.refractory + 1
        parts.append(
            (
                np.concatenate([sums, np.full((gap, keywords), _NEVER, np.int32)]),
                np.concatenate([inside, np.full((gap, keywords), -1, np.int32)]),
                np.full(len(sums) + gap, number, np.int32),
                np.concatenate([times, np.full(gap, np.inf)]),
                np.arange(len(sums) + gap) < len(sums),
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts)]
    names = [target.speaker for _, target in numbered]
    speakers = np.unique(names, return_inverse=True)[1] if all(names) else np.full(len(names), -1)
    return _Joined(*columns, numbered, np.asarray(target_words, np.int32), speakers.astype(np.int32))


def _candidates(sums: np.ndarray, inside: np.ndarray, points: int) -> np.ndarray:
    """Thresholds worth trying, rising: best sum of each target, the highest peaks elsewhere, and some of the others.

    The last is one above everything. Between two of them little changes but where refractory times begin.
    """
    top = sums.max(axis=1)
    where = inside.max(axis=1)  # a row in the intervals of two words counts for one: no point is lost by it
    best = np.full(int(where.max(initial=-1)) + 1, _NEVER, np.int64)
    np.maximum.at(best, where[where >= 0], top[where >= 0])
    peak = (top > _NEVER) & (where < 0)
    peak[1:] &= top[1:] >= top[:-1]
    peak[:-1] &= top[:-1] >= top[1:]
    values = np.unique(top[peak])
    highest, rest = values[-points:], values[:-points]
    some = rest[np.linspace(0, len(rest) - 1, min(len(rest), points)).astype(int)] if len(rest) else rest
    tried = np.unique(np.concatenate([best[best > _NEVER], highest, some]))
    return np.append(tried, top.max(initial=0) + 1).astype(np.int64)


def _sweep(
    joined: _Joined,
    config: DetectorConfig,
    keyword: int | None,
    step_seconds: float,
    points: int,
    told: Sequence[int] | None,
) -> StreamCurve:
    """One keyword on its own, or all at one threshold."""
    columns = list(range(joined.sums.shape[1])) if keyword is None else [keyword]
    sums, inside = joined.sums[:, columns], joined.inside[:, columns]
    limits = _candidates(sums, inside, points)
    if told is not None:  # up to the first at which nothing fires
        limits = np.asarray(told, np.int64)[: np.searchsorted(told, limits[-1]) + 1]
    hits, false = np.zeros(len(limits), np.int64), np.zeros(len(limits), np.int64)
    speaker_targets = joined.by_speaker(columns, np.flatnonzero(np.isin(joined.words, columns)))
    speaker_hits = np.zeros((len(limits), len(speaker_targets)), np.int64)
    for index, limit in enumerate(limits):
        fired = detector.fire(sums, [int(limit)] * len(columns), config.refractory)
        if fired:
            rows, which = np.asarray(fired).T
            target = inside[rows, which]
            found = np.unique(target[target >= 0])
            hits[index], speaker_hits[index] = len(found), joined.by_speaker(columns, found)
            false[index] = np.count_nonzero(target < 0)
    return StreamCurve(
        thresholds=limits * (config.scale / config.smooth),
        hits=hits,
        false_accepts=false,
        targets=int(np.isin(joined.words, columns).sum()),
        hours=joined.hours(step_seconds, keyword),
        speaker_targets=speaker_targets,
        speaker_hits=speaker_hits if len(speaker_targets) else None,
    )


def _events(
    joined: _Joined, config: DetectorConfig, streams: Sequence[Stream], words: Sequence[str]
) -> tuple[list[Found], set[int]]:
    """Everything that fires, and the numbers of the targets that it found."""
    found, hit = [], set()
    limits = [max(limit, _NEVER + 1) for limit in config.sum_thresholds]  # -inf fires at every step, but not in gaps
    for row, k in detector.fire(joined.sums, limits, config.refractory):
        target, time = int(joined.inside[row, k]), float(joined.times[row])
        outcome = FALSE_ACCEPT if target < 0 else REPEAT if target in hit else HIT
        latency = time - joined.targets[target][1].end if outcome == HIT else None
        if target >= 0:
            hit.add(target)
        score = config.real_score(int(joined.sums[row, k]))
        found.append(Found(streams[joined.stream[row]].name, words[k], time, score, outcome, latency))
    return found, hit


def _misses(joined: _Joined, config: DetectorConfig, streams: Sequence[Stream], hit: set[int]) -> list[Missed]:
    best = np.full(len(joined.targets), _NEVER, np.int64)
    rows, columns = np.nonzero(joined.inside >= 0)
    np.maximum.at(best, joined.inside[rows, columns], joined.sums[rows, columns])
    missed = []
    for number, (stream, target) in enumerate(joined.targets):
        if number not in hit:
            score = None if best[number] == _NEVER else config.real_score(int(best[number]))
            where = (stream, target.start)
            one = Missed(streams[stream].name, target.word, target.start, target.end, score, target.speaker)
            missed.append((where, one))
    return [one for _, one in sorted(missed, key=lambda item: item[0])]


def _result(
    joined: _Joined, columns: Sequence[int], events: Sequence[Found], hit: set[int], curve: StreamCurve
) -> Result:
    """Of the keywords ``columns``, whose events these are."""
    latencies = np.asarray([e.latency for e in events if e.outcome == HIT], np.float64)
    own = np.asarray([number for number in sorted(hit) if joined.words[number] in columns], np.int64)
    return Result(
        curve.targets,
        len(own),
        sum(e.outcome == FALSE_ACCEPT for e in events),
        curve.hours,
        latencies,
        curve.speaker_targets,
        joined.by_speaker(columns, own) if len(curve.speaker_targets) else None,
    )


def _mlperf(streams: Sequence[Stream], events: Sequence[Found], words: Sequence[str]) -> mlperf.MlperfTiny:
    recordings = [stream for stream in streams if stream.targets]
    counts = [mlperf.MlperfTiny(0, 0, 0)]
    for stream in recordings:
        for word in words:
            times = [e.time for e in events if (e.stream, e.word) == (stream.name, word)]
            counts.append(mlperf.count(times, [(t.start, t.end) for t in stream.targets if t.word == word]))
    return mlperf.MlperfTiny(
        sum(c.false_positives for c in counts),
        sum(c.false_negatives for c in counts),
        sum(c.targets for c in counts),
        len(recordings),
        float(sum(stream.times[-1] for stream in recordings if len(stream.times))),
    )


def evaluate(
    streams: Sequence[Stream],
    config: DetectorConfig,
    words: Sequence[str],
    step_seconds: float,
    *,
    tolerance: float = 1.0,
    fa_per_hour: float | None = 0.5,
    points: int = 250,
    told: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StreamEvaluation:
    """Runs a detector over recordings.

    Args:
        streams: the recordings; names must differ.
        config: the detector. Its thresholds are used where ``fa_per_hour`` is None.
        words: the keywords, in the order of ``config.keywords``; targets of other words are sound like any other.
        step_seconds: time from one output to the next.
        tolerance: seconds after the end of a word in which it still may be found.
        fa_per_hour: each keyword gets the threshold at which it alone has at most so many false accepts an hour.
        points: at most about two times so many thresholds are tried, and one for each target.
        told: the sums over a window that a device can have as threshold, rising; these are tried and no others. None is
            every sum.
        progress: called with (curves done, curves in all).

    Raises:
        ValueError: no recordings, names that occur twice, shapes that do not fit, or no time in which false accepts
            could be counted.
    """
    words = tuple(words)
    if len(words) != len(config.keywords):
        raise ValueError(f"words {list(words)}: the detector has {len(config.keywords)} keywords")
    if not streams:
        raise ValueError("streams: none given")
    names = [stream.name for stream in streams]
    if len(set(names)) < len(names):
        raise ValueError(f"streams: names occur twice: {sorted({n for n in names if names.count(n) > 1})[:5]}")
    for stream in streams:
        if np.shape(stream.times) != (len(stream.outputs),):
            raise ValueError(
                f"stream {stream.name}: {len(stream.outputs)} outputs but times of shape {np.shape(stream.times)}"
            )
    joined = _join(streams, config, words, tolerance)
    if joined.hours(step_seconds) == 0.0:
        raise ValueError(
            "streams: no time outside of the targets in which the detector could fire; recordings must be longer than "
            f"what the model looks at and {config.smooth} steps of smoothing"
        )
    curves = {}
    for k, word in enumerate((*words, None) if len(words) > 1 else words):
        curves[word] = _sweep(joined, config, None if word is None else k, step_seconds, points, told)
        if progress is not None:
            progress(k + 1, len(words) + (len(words) > 1))
    pooled_curve = curves.pop(None) if len(words) > 1 else curves[words[0]]
    if fa_per_hour is not None:
        chosen = [float(curves[word].thresholds[curves[word].index_at(fa_per_hour)]) for word in words]
        config = dataclasses.replace(config, thresholds=tuple(chosen))
    events, hit = _events(joined, config, streams, words)
    results = {
        word: _result(joined, [k], [e for e in events if e.word == word], hit, curves[word])
        for k, word in enumerate(words)
    }
    pooled = _result(joined, range(len(words)), events, hit, pooled_curve)
    return StreamEvaluation(
        config,
        words,
        results,
        pooled,
        curves,
        pooled_curve,
        tuple(events),
        _mlperf(streams, events, words),
        tuple(_misses(joined, config, streams, hit)),
    )
