# SPDX-License-Identifier: Apache-2.0
"""The counts behind ``streams.evaluate``, of some recordings at a time; those of others are added to them.

Nothing fires across the end of a recording, so what a detector does on one does not depend on the others. Only the
thresholds that are tried come from all of them. Hence three steps, each over recordings in any groups:

1. ``marks``: which sums are worth a threshold; ``limits`` makes thresholds of those of all groups;
2. ``sweep``: hits and false accepts at every threshold; ``curve`` adds them up;
3. ``outcome``: what happens at the thresholds that are chosen.

Thousands of hours need no more memory than the longest group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

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
)

NEVER = -(2**31)
"""Sum of a step at which nothing can fire."""
POINTS = 250
"""So many of the highest peaks are tried as thresholds, and so many of the others."""
MOST_TARGETS = 2000
"""Targets whose best sum is tried as a threshold; where there are more, evenly drawn ones are."""


@dataclasses.dataclass(frozen=True)
class Joined:
    """A group of recordings one after another; between them steps at which nothing can fire, for the refractory time.

    sums: int32 [rows, keywords]. inside: int32 [rows, keywords], number of the target (over all recordings and words)
    whose interval a row is in, or -1. stream: int32 [rows]. times: float64 [rows]. real: bool [rows], no gap. targets:
    (number of the recording, target) of each. words: int32, keyword of each target.
    """

    sums: np.ndarray
    inside: np.ndarray
    stream: np.ndarray
    times: np.ndarray
    real: np.ndarray
    targets: list[tuple[int, Target]]
    words: np.ndarray

    def by_speaker(self, columns: Sequence[int], found: Sequence[int]) -> dict[str, int]:
        """How many of the targets ``found`` are of each speaker who says one of these keywords here.

        Args:
            columns: the keywords.
            found: numbers of targets of these keywords.
        """
        names = {self.targets[i][1].speaker: 0 for i in np.flatnonzero(np.isin(self.words, columns)).tolist()}
        for number in found:
            names[self.targets[number][1].speaker] += 1
        return names

    def steps(self, columns: Sequence[int]) -> int:
        """Steps outside of the targets of these keywords."""
        return int(np.count_nonzero(self.real & (self.inside[:, list(columns)] < 0).all(axis=1)))


def join(streams: Sequence[Stream], config: DetectorConfig, words: Sequence[str], tolerance: float) -> Joined:
    """Puts recordings one after another.

    Args:
        streams: at least one recording.
        config: the detector.
        words: the keywords, in the order of ``config.keywords``.
        tolerance: seconds after the end of a word in which it still may be found.
    """
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
            ends = [*(target.start for target in own[1:]), np.inf]
            for target, limit in zip(own, ends):
                within = (times >= target.start) & (times <= target.end + tolerance) & (times < limit)
                inside[within, k] = len(numbered)
                numbered.append((number, target))
                target_words.append(k)
        gap = config.refractory + 1
        parts.append(
            (
                np.concatenate([sums, np.full((gap, keywords), NEVER, np.int32)]),
                np.concatenate([inside, np.full((gap, keywords), -1, np.int32)]),
                np.full(len(sums) + gap, number, np.int32),
                np.concatenate([times, np.full(gap, np.inf)]),
                np.arange(len(sums) + gap) < len(sums),
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts)]
    return Joined(*columns, numbered, np.asarray(target_words, np.int32))


@dataclasses.dataclass(frozen=True)
class Marks:
    """Sums of a group that are worth a threshold, of one keyword or of all at one.

    Attributes:
        best: int64, rising: the highest sum within each target, each value once.
        peaks: int64, rising: heights of the peaks outside of targets, each once.
        top: the highest of all sums, at least 0.
    """

    best: np.ndarray
    peaks: np.ndarray
    top: int


def marks(joined: Joined, columns: Sequence[int]) -> Marks:
    """Of a group; ``columns`` are the keywords that have one threshold."""
    sums, inside = joined.sums[:, list(columns)], joined.inside[:, list(columns)]
    top = sums.max(axis=1)
    where = inside.max(axis=1)  # a row in the intervals of two words counts for one: no point is lost by it
    best = np.full(int(where.max(initial=-1)) + 1, NEVER, np.int64)
    np.maximum.at(best, where[where >= 0], top[where >= 0])
    peak = (top > NEVER) & (where < 0)
    peak[1:] &= top[1:] >= top[:-1]
    peak[:-1] &= top[:-1] >= top[1:]
    return Marks(np.unique(best[best > NEVER]), np.unique(top[peak]).astype(np.int64), int(top.max(initial=0)))


def limits(parts: Sequence[Marks], points: int, told: Sequence[int] | None = None) -> np.ndarray:
    """Thresholds worth trying, rising: best sum of each target, the highest peaks elsewhere, and some of the others.

    Args:
        parts: of all groups.
        points: so many of the highest peaks, and so many of the others.
        told: the sums that a device can have as threshold, rising, instead.

    Returns:
        int64 [n]; at the last one nothing fires. Between two of them little changes but where refractory times begin.
    """
    values = np.unique(np.concatenate([part.peaks for part in parts]))
    best = np.unique(np.concatenate([part.best for part in parts]))
    if len(best) > MOST_TARGETS:
        best = best[np.linspace(0, len(best) - 1, MOST_TARGETS).astype(int)]
    highest, rest = values[-points:], values[:-points]
    some = rest[np.linspace(0, len(rest) - 1, min(len(rest), points)).astype(int)] if len(rest) else rest
    tried = np.unique(np.concatenate([best, highest, some]))
    found = np.append(tried, max(part.top for part in parts) + 1).astype(np.int64)
    if told is not None:  # up to the first at which nothing fires
        return np.asarray(told, np.int64)[: np.searchsorted(told, found[-1]) + 1]
    return found


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a group has at every threshold.

    Attributes:
        hits: int64 [n], targets found.
        false_accepts: int64 [n].
        targets: how many there are.
        steps: in which false accepts count.
        speaker_targets: targets of each speaker, "" for those that name none.
        speaker_hits: int64 [n] of each speaker: those found.
    """

    hits: np.ndarray
    false_accepts: np.ndarray
    targets: int
    steps: int
    speaker_targets: Mapping[str, int]
    speaker_hits: Mapping[str, np.ndarray]


def sweep(joined: Joined, config: DetectorConfig, columns: Sequence[int], tried: np.ndarray) -> Sweep:
    """One keyword on its own, or several at one threshold, at each of the thresholds ``tried``, sums int64 [n]."""
    columns = list(columns)
    sums, inside = joined.sums[:, columns], joined.inside[:, columns]
    hits, false = np.zeros(len(tried), np.int64), np.zeros(len(tried), np.int64)
    own = np.flatnonzero(np.isin(joined.words, columns))
    speaker_targets = joined.by_speaker(columns, own.tolist())
    speaker_hits = {name: np.zeros(len(tried), np.int64) for name in speaker_targets}
    for index, limit in enumerate(tried):
        fired = detector.fire(sums, [int(limit)] * len(columns), config.refractory)
        if fired:
            rows, which = np.asarray(fired).T
            target = inside[rows, which]
            found = np.unique(target[target >= 0]).tolist()
            hits[index], false[index] = len(found), np.count_nonzero(target < 0)
            for name, count in joined.by_speaker(columns, found).items():
                speaker_hits[name][index] = count
    return Sweep(hits, false, len(own), joined.steps(columns), speaker_targets, speaker_hits)


def curve(parts: Sequence[Sweep], config: DetectorConfig, tried: np.ndarray, step_seconds: float) -> StreamCurve:
    """Adds groups up, all at the thresholds ``tried``. Speakers count where every target names one."""
    names = sorted({name for part in parts for name in part.speaker_targets})
    names = [] if "" in names else names
    none = np.zeros(len(tried), np.int64)
    by = [sum((part.speaker_hits.get(name, none) for part in parts), none) for name in names]
    targets = [sum(part.speaker_targets.get(name, 0) for part in parts) for name in names]
    return StreamCurve(
        thresholds=tried * (config.scale / config.smooth),
        hits=sum((part.hits for part in parts), none),
        false_accepts=sum((part.false_accepts for part in parts), none),
        targets=sum(part.targets for part in parts),
        hours=float(sum(part.steps for part in parts) * step_seconds / 3600.0),
        speaker_targets=np.asarray(targets, np.int64),
        speaker_hits=np.stack(by, axis=1) if names else None,
    )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a detector at its thresholds does in a group.

    Attributes:
        events: everything that fires, in order.
        misses: targets that no event found, in order.
        speaker_hits: of each keyword, how many targets of each of its speakers were found.
        mlperf: MLPerf Tiny's counts of each recording with targets.
    """

    events: tuple[Found, ...]
    misses: tuple[Missed, ...]
    speaker_hits: tuple[Mapping[str, int], ...]
    mlperf: tuple[mlperf.MlperfTiny, ...]


def outcome(joined: Joined, config: DetectorConfig, streams: Sequence[Stream], words: Sequence[str]) -> Outcome:
    """Runs a detector over a group, at the thresholds of ``config``."""
    events, hit = _events(joined, config, streams, words)
    by = tuple(
        joined.by_speaker([k], [number for number in sorted(hit) if joined.words[number] == k])
        for k in range(len(words))
    )
    return Outcome(
        tuple(events), tuple(_misses(joined, config, streams, hit)), by, tuple(_mlperf(streams, events, words))
    )


def _events(
    joined: Joined, config: DetectorConfig, streams: Sequence[Stream], words: Sequence[str]
) -> tuple[list[Found], set[int]]:
    """Everything that fires, and the numbers of the targets that it found."""
    found, hit = [], set()
    lowest = [max(limit, NEVER + 1) for limit in config.sum_thresholds]  # -inf fires at every step, but not in gaps
    for row, k in detector.fire(joined.sums, lowest, config.refractory):
        target, time = int(joined.inside[row, k]), float(joined.times[row])
        what = FALSE_ACCEPT if target < 0 else REPEAT if target in hit else HIT
        latency = time - joined.targets[target][1].end if what == HIT else None
        if target >= 0:
            hit.add(target)
        score = config.real_score(int(joined.sums[row, k]))
        found.append(Found(streams[joined.stream[row]].name, words[k], time, score, what, latency))
    return found, hit


def _misses(joined: Joined, config: DetectorConfig, streams: Sequence[Stream], hit: set[int]) -> list[Missed]:
    best = np.full(len(joined.targets), NEVER, np.int64)
    rows, columns = np.nonzero(joined.inside >= 0)
    np.maximum.at(best, joined.inside[rows, columns], joined.sums[rows, columns])
    missed = []
    for number, (stream, target) in enumerate(joined.targets):
        if number not in hit:
            score = None if best[number] == NEVER else config.real_score(int(best[number]))
            where = (stream, target.start)
            one = Missed(streams[stream].name, target.word, target.start, target.end, score, target.speaker)
            missed.append((where, one))
    return [one for _, one in sorted(missed, key=lambda item: item[0])]


def _mlperf(streams: Sequence[Stream], events: Sequence[Found], words: Sequence[str]) -> list[mlperf.MlperfTiny]:
    found = []
    for stream in (one for one in streams if one.targets):
        counts = []
        for word in words:
            times = [e.time for e in events if (e.stream, e.word) == (stream.name, word)]
            counts.append(mlperf.count(times, [(t.start, t.end) for t in stream.targets if t.word == word]))
        seconds = float(stream.times[-1]) if len(stream.times) else 0.0
        found.append(_added(counts, 1, seconds))
    return found


def _added(counts: Sequence[mlperf.MlperfTiny], recordings: int, seconds: float) -> mlperf.MlperfTiny:
    return mlperf.MlperfTiny(
        sum(c.false_positives for c in counts),
        sum(c.false_negatives for c in counts),
        sum(c.targets for c in counts),
        recordings,
        seconds,
    )


def mlperf_of(parts: Sequence[Outcome]) -> mlperf.MlperfTiny:
    """MLPerf Tiny's counts of all groups."""
    counts = [one for part in parts for one in part.mlperf]
    # Recording by recording: sums of floats depend on how they are grouped.
    return _added(counts, len(counts), float(sum(c.seconds for c in counts)))


def result(parts: Sequence[Outcome], words: Sequence[str], chosen: Sequence[int], of: StreamCurve) -> Result:
    """The keywords ``chosen`` (their numbers) in all groups; ``of`` is their curve."""
    names = {words[k] for k in chosen}
    events = [event for part in parts for event in part.events if event.word in names]
    speakers: dict[str, int] = {}
    for part in parts:
        for k in chosen:
            for name, count in part.speaker_hits[k].items():
                speakers[name] = speakers.get(name, 0) + count
    known = len(of.speaker_targets) > 0
    return Result(
        of.targets,
        sum(event.outcome == HIT for event in events),
        sum(event.outcome == FALSE_ACCEPT for event in events),
        of.hours,
        np.asarray([event.latency for event in events if event.outcome == HIT], np.float64),
        of.speaker_targets,
        np.asarray([speakers[name] for name in sorted(speakers)], np.int64) if known else None,
    )
