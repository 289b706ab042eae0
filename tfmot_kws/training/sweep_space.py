# SPDX-License-Identifier: Apache-2.0
"""What a sweep may choose, and how many trials that is. Imports neither TensorFlow nor KerasTuner."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

LIMITS: dict[str, tuple[type, float, float]] = {
    "bits": (int, 1, 8),
    "width": (int, 1, 65536),
    "learning_rate": (float, 1e-9, 10.0),
    "quantize_rate": (float, 1e-9, 10.0),
    "batch_size": (int, 1, 65536),
}
"""What can be swept: its type, its least value and its largest."""
FACTOR = 3
"""Of Hyperband: a round keeps one of so many trials and trains them so many times as long."""
_MOST_POINTS = 100
_EXAMPLE = "bits=8,4,2 width=18,32,64 learning_rate=5e-4:4e-3:log"


class TrialFailed(Exception):
    """A trial has no result, such as one whose loss is no number; the study goes on."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Some values of one name, in the order in which a grid takes them."""

    name: str
    values: tuple[int | float, ...]


@dataclasses.dataclass(frozen=True)
class Range:
    """All values of one name between two, the ends included; ``log`` makes each factor as likely as any other."""

    name: str
    low: int | float
    high: int | float
    log: bool


@dataclasses.dataclass(frozen=True)
class SweepSpace:
    """All that a sweep may choose.

    Attributes:
        parts: one for each name.
        text: what it was read from.
    """

    parts: tuple[Choice | Range, ...]
    text: str

    @classmethod
    def parse(cls, text: str) -> SweepSpace:
        """Reads a space.

        Args:
            text: parts with blanks between: ``NAME=VALUE,VALUE`` for values, ``NAME=LOW:HIGH`` for a range, and
                ``NAME=LOW:HIGH:log`` for one in which each factor is as likely as any other;
                ``NAME=LOW:HIGH:COUNT`` and ``NAME=LOW:HIGH:log:COUNT`` are so many values of it. The names are those
                of ``LIMITS``: ``bits`` of the weights, ``width`` of the hidden layers, ``learning_rate`` of the float
                training, ``quantize_rate`` of the training while quantized, ``batch_size``.

        Raises:
            ValueError: a part is wrong; the message begins with it.
        """
        parts: dict[str, Choice | Range] = {}
        for part in text.split():
            name, equals, values = part.partition("=")
            if not equals or not values or name not in LIMITS:
                raise ValueError(
                    f"{part}: must be NAME=VALUES, the name one of {', '.join(LIMITS)}; for example: {_EXAMPLE}"
                )
            if name in parts:
                raise ValueError(f"{part}: {name} is there twice")
            parts[name] = _range_of(part, name, values) if ":" in values else _choice_of(part, name, values)
        if not parts:
            raise ValueError(f"{text!r}: nothing to choose; for example: {_EXAMPLE}")
        if "quantize_rate" in parts and "bits" not in parts:
            raise ValueError("quantize_rate: needs bits; without them nothing is quantized")
        return cls(tuple(parts.values()), text)

    @property
    def names(self) -> tuple[str, ...]:
        """What is chosen."""
        return tuple(part.name for part in self.parts)

    @property
    def combinations(self) -> int | None:
        """How many there are; None where a range of real numbers has no end of them."""
        counts = [_count(part) for part in self.parts]
        return None if None in counts else math.prod(counts)  # type: ignore[arg-type]


def _count(part: Choice | Range) -> int | None:
    if isinstance(part, Choice):
        return len(part.values)
    return part.high - part.low + 1 if isinstance(part.low, int) and isinstance(part.high, int) else None


def _value(part: str, name: str, text: str) -> int | float:
    """A value within its limits."""
    kind, low, high = LIMITS[name]
    try:
        value = kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{part}: {text!r} is not {what}") from error
    if not low <= value <= high:
        raise ValueError(f"{part}: {text} is not between {low:g} and {high:g}")
    return value


def _choice_of(part: str, name: str, values: str) -> Choice:
    found = tuple(_value(part, name, text.strip()) for text in values.split(","))
    if len(set(found)) < len(found):
        raise ValueError(f"{part}: a value is there twice")
    return Choice(name, found)


def _range_of(part: str, name: str, values: str) -> Choice | Range:
    shape = re.fullmatch(r"([^:]+):([^:]+)(:log)?(?::(\d+))?", values)
    if shape is None:
        raise ValueError(
            f"{part}: a range is LOW:HIGH, LOW:HIGH:log, and :COUNT behind either for so many values of it"
        )
    low, high, log = _value(part, name, shape[1]), _value(part, name, shape[2]), shape[3] is not None
    if not low < high:
        raise ValueError(f"{part}: {shape[1]} is not below {shape[2]}")
    if shape[4] is None:
        return Range(name, low, high, log)
    count = int(shape[4])
    if not 2 <= count <= _MOST_POINTS:
        raise ValueError(f"{part}: takes 2 to {_MOST_POINTS} values of a range, not {count}")
    place: Callable[[float], float] = (
        (lambda share: low * (high / low) ** share) if log else (lambda share: low + share * (high - low))
    )
    between = [place(n / (count - 1)) for n in range(1, count - 1)]
    whole = LIMITS[name][0] is int
    points = [low, *(round(point) if whole else float(f"{point:.6g}") for point in between), high]
    if len(set(points)) < count:
        raise ValueError(f"{part}: has no {count} different values")
    return Choice(name, tuple(points))


def hyperband_rounds(epochs: int) -> list[tuple[int, int]]:
    """The first bracket of Hyperband, as KerasTuner has it.

    Args:
        epochs: of the longest trials, at least 1.

    Returns:
        (trials, epochs) of each of its rounds.
    """
    bracket, left = -1, float(epochs)
    while left >= 1:
        bracket, left = bracket + 1, left / FACTOR
    end = math.ceil(1 + math.log(epochs, FACTOR)) / (bracket + 1)
    powers = [FACTOR ** (bracket - number) for number in range(bracket + 1)]
    return [(math.ceil(end * power), math.ceil(epochs / power)) for power in powers]
