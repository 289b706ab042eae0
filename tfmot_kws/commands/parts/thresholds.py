# SPDX-License-Identifier: Apache-2.0
"""Thresholds as options give them, one for all keywords or one for each, and as ``evaluate --json`` hands them on.

Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

SMOOTH, REFRACTORY = 0.2, 1.0
"""Seconds, where neither an option nor a file says them."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """How a detector is to listen.

    Attributes:
        values: a threshold for each keyword; None where nobody chose any.
        smooth: seconds over which scores are averaged.
        refractory: seconds after a detection without another one.
        mode: what the thresholds are compared with, one of ``detector.MODES``; None where that is not known.
        source: the file that they come from, or None.
    """

    values: tuple[float, ...] | None
    smooth: float = SMOOTH
    refractory: float = REFRACTORY
    mode: str | None = None
    source: pathlib.Path | None = None

    def check_mode(self, mode: str) -> None:
        """Raises ValueError where the thresholds are of scores of another kind."""
        if self.mode not in (None, mode):
            raise ValueError(
                f"--threshold {self.source}: thresholds of scores of kind {self.mode}, this model's are {mode}: they "
                "are of another model"
            )


def choose(
    threshold: str | float | None, smooth: float | None, refractory: float | None, words: Sequence[str]
) -> Chosen:
    """What ``--threshold``, ``--smooth`` and ``--refractory`` say together.

    Args:
        threshold: a number for all keywords, "yes=2.5,no=1.25", or the file that ``evaluate --json`` wrote; None where
            it was not given.
        smooth, refractory: seconds; None where they were not given: the file's, or the defaults.
        words: the keywords.

    Raises:
        ValueError: the thresholds are none of these, leave a keyword out or were found at other times; or a time is
            below 0.
        FileNotFoundError: there is no such file.
    """
    for name, value in (("smooth", smooth), ("refractory", refractory)):
        if value is not None and not 0.0 <= value < math.inf:
            raise ValueError(f"--{name} {value}: must be 0 or more")
    given = {"smooth": smooth, "refractory": refractory}
    if threshold is None:
        return Chosen(None, **_filled(given))
    text = str(threshold)
    path = pathlib.Path(text)
    if path.suffix.lower() != ".json":
        return Chosen(_written(text, words), **_filled(given))
    found = _read(path)
    for name in given:
        kept = found.get(f"{name}_seconds")
        if given[name] is None:
            given[name] = kept
        elif kept is not None and not math.isclose(given[name], kept):
            raise ValueError(
                f"--{name} {given[name]:g}: the thresholds of {path} were found at {kept:g}; leave --{name} out, or "
                "evaluate again"
            )
    values = _of_words(found["thresholds"], words)
    if values is None:
        raise ValueError(
            f"--threshold {path}: has thresholds of {', '.join(found['thresholds']) or 'nothing'}, the keywords of "
            f"this model are {', '.join(words)}"
        )
    return Chosen(values, **_filled(given), mode=found.get("mode"), source=path)


def _filled(given: dict[str, float | None]) -> dict[str, float]:
    defaults = {"smooth": SMOOTH, "refractory": REFRACTORY}
    return {name: defaults[name] if value is None else value for name, value in given.items()}


def _written(text: str, words: Sequence[str]) -> tuple[float, ...]:
    try:
        if "=" not in text:
            found = dict.fromkeys(words, float(text))
        else:
            pairs = [part.split("=") for part in text.split(",")]
            found = {word.strip(): float(value) for word, value in pairs}
            found = found if len(found) == len(pairs) else {}  # a word given twice
    except ValueError:
        found = {}
    values = _of_words(found, words)
    if values is None:
        example = ",".join(f"{word}=1.5" for word in words)
        raise ValueError(
            f"--threshold {text}: must be one number, or one for each keyword ({example}), or the .json file of "
            "evaluate --streams --json"
        )
    return values


def _of_words(found: dict[str, Any], words: Sequence[str]) -> tuple[float, ...] | None:
    numbers = [value for value in found.values() if isinstance(value, (int, float)) and math.isfinite(value)]
    return (
        tuple(float(found[word]) for word in words) if set(found) == set(words) and len(numbers) == len(found) else None
    )


def _read(path: pathlib.Path) -> dict[str, Any]:
    """The part of the file that says how the detector listened."""
    if not path.is_file():
        raise FileNotFoundError(f"--threshold {path}: no such file; 'tfmot-kws evaluate --streams --json' writes one")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        found = value.get("streams", {}).get("detector", value)
        thresholds = found["thresholds"]
        if not isinstance(thresholds, dict):
            raise TypeError("thresholds are no table of words")
        times = [found.get(f"{name}_seconds") for name in ("smooth", "refractory")]
        if any(time is not None and not 0.0 <= time < math.inf for time in times):
            raise ValueError(f"times {times}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"--threshold {path}: no thresholds in it ({error!r}); 'tfmot-kws evaluate --streams --json' writes them"
        ) from error
    return found
