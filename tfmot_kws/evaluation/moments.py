# SPDX-License-Identifier: Apache-2.0
"""Which stretches of long recordings are worth a look: those around false accepts and missed words, hardest first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tfmot_kws.evaluation.stream_results import FALSE_ACCEPT, Found, Missed, StreamEvaluation

STREAMS, MOMENTS = 12, 40
"""How many recordings, and stretches of all of them together, are chosen unless more are asked for."""
_SECONDS, _LONGEST = 5.0, 6.0
_BEFORE, _AFTER = 2.0, 0.5
"""Seconds that are needed around an error to understand it: models look back by a second or so."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """A stretch of a recording with errors in it.

    Attributes:
        stream: the recording.
        start, end: in seconds from its start.
        false_accepts: the false accepts that it was cut for, by time.
        misses: the missed words that it was cut for, by time.
    """

    stream: str
    start: float
    end: float
    false_accepts: tuple[Found, ...] = ()
    misses: tuple[Missed, ...] = ()


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What ``choose`` found.

    Attributes:
        moments: by recording, the one with most errors first; within a recording by time.
        streams: recordings with errors, the shown ones and the others.
        errors: false accepts and misses in all recordings.
        shown: how many of these lie in ``moments``.
    """

    moments: Mapping[str, tuple[Moment, ...]]
    streams: int
    errors: int
    shown: int


def choose(
    evaluation: StreamEvaluation, seconds: Mapping[str, float], streams: int = STREAMS, moments: int = MOMENTS
) -> Chosen:
    """The stretches of 5 or 6 seconds around errors; longer only where a missed word is.

    Recordings take turns, so that one that is wrong everywhere leaves room for others. Of a recording those come first
    that hold most errors, and then those whose score is farthest on the wrong side of its threshold.

    Args:
        evaluation: what a detector did.
        seconds: length of each recording, by name.
        streams: so many recordings at most, those with most errors.
        moments: so many stretches at most.

    Raises:
        ValueError: a limit below 0, or a recording with errors whose length is not given.
    """
    if streams < 0 or moments < 0:
        raise ValueError(f"streams={streams!r}, moments={moments!r}: must be 0 or more")
    errors: dict[str, list[Found | Missed]] = {}
    for error in (*(e for e in evaluation.events if e.outcome == FALSE_ACCEPT), *evaluation.misses):
        errors.setdefault(error.stream, []).append(error)
    unknown = sorted(set(errors) - set(seconds))
    if unknown:
        raise ValueError(f"seconds: the length of {unknown[:5]} is not given")
    most_first = sorted(errors, key=lambda name: (-len(errors[name]), name))
    limits = dict(zip(evaluation.words, evaluation.config.thresholds))
    waiting = {
        name: sorted(_cut(name, errors[name], seconds[name]), key=lambda one: _hardness(one, limits), reverse=True)
        for name in most_first[:streams]
    }
    taken: dict[str, list[Moment]] = {name: [] for name in waiting}
    left = moments
    while left and any(waiting.values()):
        for name, queue in waiting.items():
            if queue and left:
                taken[name].append(queue.pop(0))
                left -= 1
    shown = {name: tuple(sorted(found, key=lambda one: one.start)) for name, found in taken.items() if found}
    return Chosen(
        shown,
        len(errors),
        sum(map(len, errors.values())),
        sum(len(one.false_accepts) + len(one.misses) for found in shown.values() for one in found),
    )


def _needed(error: Found | Missed) -> tuple[float, float]:
    """The stretch without which an error cannot be understood."""
    first, last = (error.time, error.time) if isinstance(error, Found) else (error.start, error.end)
    return first - (_BEFORE if isinstance(error, Found) else _AFTER), last + (0.0 if isinstance(error, Found) else 1.0)


def _cut(stream: str, errors: Sequence[Found | Missed], length: float) -> list[Moment]:
    groups: list[tuple[float, float, list[Found | Missed]]] = []
    for error in sorted(errors, key=_needed):
        first, last = _needed(error)
        if groups and last - groups[-1][0] <= _LONGEST - _AFTER:
            start, end, inside = groups[-1]
            groups[-1] = (start, max(end, last), [*inside, error])
        else:
            groups.append((first, last, [error]))
    moments = []
    for first, last, inside in groups:
        missing = max(_SECONDS - (last - first), 2 * _AFTER)
        start = max(0.0, min(first - missing / 2, length - _SECONDS))
        end = min(length, max(last + missing / 2, start + _SECONDS))
        false = tuple(one for one in inside if isinstance(one, Found))
        misses = tuple(one for one in inside if isinstance(one, Missed))
        moments.append(Moment(stream, start, end, false, misses))
    return moments


def _hardness(moment: Moment, limits: Mapping[str, float]) -> tuple[int, float]:
    far = [
        math.inf if error.score is None else abs(error.score - limits[error.word])
        for error in (*moment.false_accepts, *moment.misses)
    ]
    return len(far), max(far)
