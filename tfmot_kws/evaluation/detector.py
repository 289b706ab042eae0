# SPDX-License-Identifier: Apache-2.0
"""From the outputs of a model, step by step, to events: smoothing, threshold, refractory time, several keywords.

Everything is done on the integers of the model's output, so that ``tflite_export/kernels/ops/detector.c`` finds the
same events on a device, step by step. Imports numpy only.

For each step and keyword k with output q_k:

    score = q_k - zero_point                         mode "value": models that end in a softmax
    score = q_k - max of q_j over all other classes  mode "margin": models that end in logits
    sum   = score of this step + ... + score of the smooth - 1 steps before
    above = sum - ceil(threshold / scale * smooth)

An event is where ``above`` is 0 or more, ``smooth`` steps have been seen and the last event is more than
``refractory`` steps ago. The keyword with the largest ``above`` gives its name to it, the first of equal ones.

The margin is an integer stand-in for the log-odds of a keyword: the logarithm of a sum of exponentials is at least
its largest term and at most log(classes - 1) above it, and a maximum needs no table on the device.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Mode = Literal["value", "margin"]
MODES = ("value", "margin")
MAX_KEYWORDS = 16
MAX_CLASSES = 32767
MAX_SMOOTH = 32767
"""Steps. So many of the largest scores of 16-bit outputs still sum to less than 2^31."""
MAX_STEPS = 2**31 - 1
_ROUNDING = 1e-12
"""Thresholds this little above a whole number (relative) count as that number: 0.3 / 0.1 is not quite 3."""


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise ValueError(f"DetectorConfig.{name}={value!r}: must be a whole number between {low} and {high}")
    return int(value)


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """What counts as an event.

    Attributes:
        classes: outputs of the model, 1..32767; at least 2 for margins.
        keywords: class of each keyword, 1..16 different ones.
        thresholds: one for each keyword, or one number for all; in real units of the mean score of a window:
            posterior 0..1 in mode "value", difference of logits in mode "margin". +inf never fires.
        smooth: steps that are averaged, 1..32767.
        refractory: steps after an event without another one, of any keyword; 0 and more.
        mode: "value" or "margin".
        scale: real value of one step of the output, above 0.
        zero_point: output that stands for 0, -128..127; margins do not depend on it.

    Raises:
        ValueError: a field is outside of what is allowed; the message names it.
    """

    classes: int
    keywords: tuple[int, ...]
    thresholds: tuple[float, ...]
    smooth: int = 1
    refractory: int = 0
    mode: Mode = "margin"
    scale: float = 1.0
    zero_point: int = 0

    def __post_init__(self) -> None:
        fixed = {
            "classes": _whole("classes", self.classes, 1, MAX_CLASSES),
            "smooth": _whole("smooth", self.smooth, 1, MAX_SMOOTH),
            "refractory": _whole("refractory", self.refractory, 0, MAX_STEPS),
            "zero_point": _whole("zero_point", self.zero_point, -128, 127),
        }
        if self.mode not in MODES:
            raise ValueError(f"DetectorConfig.mode={self.mode!r}: must be one of {MODES}")
        if self.mode == "margin" and self.classes < 2:
            raise ValueError("DetectorConfig.classes=1: a margin needs 2 classes or more; use mode='value'")
        if not (math.isfinite(self.scale) and self.scale > 0.0):
            raise ValueError(f"DetectorConfig.scale={self.scale!r}: must be above 0")
        if isinstance(self.keywords, (str, int)) or not 1 <= len(self.keywords) <= MAX_KEYWORDS:
            raise ValueError(f"DetectorConfig.keywords={self.keywords!r}: must be 1 to {MAX_KEYWORDS} classes")
        fixed["keywords"] = tuple(_whole("keywords", k, 0, self.classes - 1) for k in self.keywords)
        if len(set(self.keywords)) < len(self.keywords):
            raise ValueError(f"DetectorConfig.keywords={self.keywords!r}: a class is in it twice")
        given = self.thresholds
        thresholds = (given,) * len(self.keywords) if isinstance(given, (int, float)) else tuple(given)
        if len(thresholds) != len(self.keywords) or any(math.isnan(t) for t in thresholds):
            raise ValueError(
                f"DetectorConfig.thresholds={given!r}: must be one number for each of the {len(self.keywords)} keywords"
            )
        fixed["thresholds"] = tuple(float(t) for t in thresholds)
        for name, value in fixed.items():
            object.__setattr__(self, name, value)

    @classmethod
    def in_seconds(
        cls, step_seconds: float, smooth_seconds: float, refractory_seconds: float, **fields: Any
    ) -> DetectorConfig:
        """A config whose times are given in seconds and rounded to steps; smoothing takes at least one.

        Args:
            step_seconds: time from one output of the model to the next, above 0.
            smooth_seconds: length of the window, 0 and more.
            refractory_seconds: time after an event without another one, 0 and more.
            fields: the others.

        Raises:
            ValueError: a time is negative or not finite, or as the class itself.
        """
        for name, value, low in (
            ("step_seconds", step_seconds, 1e-6),
            ("smooth_seconds", smooth_seconds, 0.0),
            ("refractory_seconds", refractory_seconds, 0.0),
        ):
            if not (math.isfinite(value) and value >= low):
                raise ValueError(f"DetectorConfig.in_seconds: {name}={value!r}: must be {low:g} s or more")
        smooth = max(1, math.floor(smooth_seconds / step_seconds + 0.5))
        refractory = math.floor(refractory_seconds / step_seconds + 0.5)
        return cls(smooth=smooth, refractory=refractory, **fields)

    @property
    def sum_thresholds(self) -> tuple[int, ...]:
        """int32 thresholds of the sum over a window: the lowest sums that fire, clipped to 32 bits."""
        out = []
        for threshold in self.thresholds:
            exact = threshold / self.scale * self.smooth
            if math.isinf(exact):
                out.append(2**31 - 1 if exact > 0 else -(2**31))
            else:
                out.append(min(max(math.ceil(exact - _ROUNDING * max(1.0, abs(exact))), -(2**31)), 2**31 - 1))
        return tuple(out)

    def real_score(self, total: int) -> float:
        """The mean score of a window in real units, comparable with thresholds, from its sum."""
        return total * self.scale / self.smooth


@dataclasses.dataclass(frozen=True)
class Event:
    """A keyword that was heard.

    Attributes:
        step: since the last reset, from 0.
        keyword: position in ``DetectorConfig.keywords``.
        score: sum of the window's scores; ``DetectorConfig.real_score`` makes it real.
    """

    step: int
    keyword: int
    score: int


def scores(config: DetectorConfig, outputs: np.ndarray) -> np.ndarray:
    """Scores of the keywords in every step.

    Args:
        config: the detector; its thresholds and times do not matter.
        outputs: [steps, classes], whole numbers of at most 16 bits.

    Returns:
        int32 [steps, keywords].

    Raises:
        ValueError: another shape or type.
    """
    outputs = np.asarray(outputs)
    if outputs.dtype not in (np.int8, np.int16):
        raise ValueError(f"outputs: expected int8 or int16 [steps, {config.classes}], found {outputs.dtype}")
    if outputs.ndim != 2 or outputs.shape[1] != config.classes:
        raise ValueError(f"outputs: expected [steps, {config.classes}], found shape {list(outputs.shape)}")
    values = outputs.astype(np.int32)
    own = values[:, config.keywords]
    if config.mode == "value":
        return own - config.zero_point
    # The best of the others is the second best where the keyword itself is best.
    best = np.argmax(values, axis=1)
    two = np.partition(values, config.classes - 2, axis=1)[:, -2:]
    other = np.where(best[:, None] == np.asarray(config.keywords)[None], two[:, :1], two[:, 1:])
    return own - other


def moving_sums(values: np.ndarray, smooth: int) -> np.ndarray:
    """Sums over ``smooth`` steps.

    Args:
        values: int32 [steps, keywords].
        smooth: steps in a sum.

    Returns:
        int32 [steps - smooth + 1, keywords], row i of steps i .. i + smooth - 1; no rows where there are fewer steps.
    """
    if len(values) < smooth:
        return np.zeros((0, values.shape[1]), np.int32)
    totals = np.zeros((len(values) + 1, values.shape[1]), np.int64)
    np.cumsum(values, axis=0, dtype=np.int64, out=totals[1:])
    return (totals[smooth:] - totals[:-smooth]).astype(np.int32)


def fire(sums: np.ndarray, thresholds: Sequence[int], refractory: int, first: int = 0) -> list[tuple[int, int]]:
    """Where events are.

    Args:
        sums: int32 [steps, keywords].
        thresholds: int32, one for each keyword.
        refractory: steps after an event without another one.
        first: no event before this step.

    Returns:
        (step, keyword) of each event, in order.
    """
    limits = np.asarray(thresholds, np.int64)
    at = np.flatnonzero((sums >= limits).any(axis=1))
    at = at[np.searchsorted(at, first) :]
    best = np.argmax(sums[at] - limits, axis=1)  # int64, and the first of equal ones
    follower = np.searchsorted(at, at + refractory + 1).tolist()
    events, index = [], 0
    while index < len(follower):
        events.append((int(at[index]), int(best[index])))
        index = follower[index]
    return events


class Detector:
    """Finds events in the outputs of a model, in pieces of any length.

    Args:
        config: what counts as an event.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forgets everything it has seen; steps count from 0 again."""
        self._seen = 0
        self._ready = 0
        self._history = np.zeros((0, len(self.config.keywords)), np.int32)

    def step(self, outputs: np.ndarray) -> Event | None:
        """One step.

        Args:
            outputs: int8 or int16 [classes].

        Returns:
            The event of this step, if there is one.

        Raises:
            ValueError: another shape or type.
        """
        events = self.run(np.asarray(outputs)[None])
        return events[0] if events else None

    def run(self, outputs: np.ndarray) -> list[Event]:
        """Several steps at once; the same as ``step`` for each of them.

        Args:
            outputs: int8 or int16 [steps, classes]; no steps are allowed.

        Returns:
            The events of these steps.

        Raises:
            ValueError: another shape or type.
        """
        config = self.config
        new = scores(config, outputs)
        values = np.concatenate([self._history, new])
        start = self._seen - len(self._history) + config.smooth - 1  # step of the first sum
        sums = moving_sums(values, config.smooth)
        found = fire(sums, config.sum_thresholds, config.refractory, max(self._ready - start, 0))
        self._seen += len(new)
        self._history = values[max(len(values) - config.smooth + 1, 0) :]
        if found:
            self._ready = start + found[-1][0] + config.refractory + 1
        return [Event(start + step, keyword, int(sums[step, keyword])) for step, keyword in found]
