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

from tfmot_kws.evaluation import stream_parts as parts
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


def evaluate(
    streams: Sequence[Stream],
    config: DetectorConfig,
    words: Sequence[str],
    step_seconds: float,
    *,
    tolerance: float = 1.0,
    fa_per_hour: float | None = 0.5,
    points: int = parts.POINTS,
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
    joined = parts.join(streams, config, words, tolerance)
    everything = range(len(words))
    check_hours(joined.steps(everything) * step_seconds, config)
    chosen_words = sets_of(words)
    curves = []
    for number, columns in enumerate(chosen_words, 1):
        tried = parts.limits([parts.marks(joined, columns)], points, told)
        curves.append(parts.curve([parts.sweep(joined, config, columns, tried)], config, tried, step_seconds))
        if progress is not None:
            progress(number, len(chosen_words))
    config = at_rate(config, curves, words, fa_per_hour)
    return put_together(config, words, curves, [parts.outcome(joined, config, streams, words)])


def sets_of(words: Sequence[str]) -> list[list[int]]:
    """The keywords that a curve is of: each on its own, and all at one threshold where there are several."""
    return [*([k] for k in range(len(words))), *([list(range(len(words)))] if len(words) > 1 else [])]


def check_hours(seconds: float, config: DetectorConfig) -> None:
    """Raises ValueError where there is no time outside of targets."""
    if seconds == 0.0:
        raise ValueError(
            "streams: no time outside of the targets in which the detector could fire; recordings must be longer than "
            f"what the model looks at and {config.smooth} steps of smoothing"
        )


def at_rate(
    config: DetectorConfig, curves: Sequence[StreamCurve], words: Sequence[str], fa_per_hour: float | None
) -> DetectorConfig:
    """The detector with the thresholds at which each keyword alone has so many false accepts an hour at most.

    Args:
        config: the detector; stays as it is where ``fa_per_hour`` is None.
        curves: of the keywords, in their order; others behind them do not count.
        words: the keywords.
        fa_per_hour: the rate.
    """
    if fa_per_hour is None:
        return config
    chosen = [float(curve.thresholds[curve.index_at(fa_per_hour)]) for _, curve in zip(words, curves)]
    return dataclasses.replace(config, thresholds=tuple(chosen))


def put_together(
    config: DetectorConfig, words: Sequence[str], curves: Sequence[StreamCurve], found: Sequence[parts.Outcome]
) -> StreamEvaluation:
    """The evaluation of all recordings.

    Args:
        config: the detector at its thresholds.
        words: the keywords.
        curves: of each of ``sets_of``.
        found: what happened in each group of recordings.
    """
    by_word = dict(zip(words, curves))
    return StreamEvaluation(
        config,
        tuple(words),
        {word: parts.result(found, words, [k], by_word[word]) for k, word in enumerate(words)},
        parts.result(found, words, range(len(words)), curves[-1]),
        by_word,
        curves[-1],
        tuple(event for part in found for event in part.events),
        parts.mlperf_of(found),
        tuple(missed for part in found for missed in part.misses),
    )
