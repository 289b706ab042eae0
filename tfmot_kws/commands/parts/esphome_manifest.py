# SPDX-License-Identifier: Apache-2.0
"""The manifest of a model of ESPHome's ``micro_wake_word``, version 2, and what its two numbers mean.

Read in github.com/esphome/esphome, ``esphome/components/micro_wake_word``: ``__init__.py`` (commit 0867e9658) has the
fields, and ``streaming_model.cpp`` (commit cbd7709ec) the detector, which fires where

    sum of the last ``sliding_window_size`` outputs (uint8)  >  int(255 * probability_cutoff) * sliding_window_size

Before (commit 33fdbbe30, 2024.11), and in pymicro-wakeword 2.5, the same is computed in floats, without ``int``. A
cutoff in the middle between two sums means the same to all of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from tfmot_kws import atomic

VERSION = 2
MINIMUM_ESPHOME = "2024.7.0"
"""What the manifests of microWakeWord's own models of version 2 ask for."""
STEPS_MS = (10, 20)
ONE = 255
"""The uint8 that stands for a probability of 1."""
IGNORED_STEPS = 100
"""Feature steps that ESPHome does not listen to after the start and after a detection (MIN_SLICES_BEFORE_DETECTION)."""
_DIGITS = 8
_ROUNDING = 1e-6
"""Thresholds this little above a sum (relative) are that sum: they were computed with a file's scale, a float32 that is
not quite 1/255. Taken as they are, each would become the next cutoff, a whole step of 1/255 above."""


@dataclasses.dataclass(frozen=True)
class Cutoff:
    """When ESPHome fires.

    Attributes:
        steps: mean of a window, in uint8 steps, above which it fires: 0..254.
        window: outputs that are averaged, 1 and more.
    """

    steps: int
    window: int

    @property
    def probability(self) -> float:
        """``probability_cutoff``: in the middle between the last sum that does not fire and the first that does."""
        return round((self.steps + 0.5 / self.window) / ONE, _DIGITS)

    @property
    def threshold(self) -> float:
        """The same as our detector has it: the lowest mean that fires, 0..1."""
        return (self.steps * self.window + 1) / (ONE * self.window)


def cutoff(threshold: float, window: int) -> Cutoff:
    """The lowest cutoff that lets nothing pass that is below a threshold.

    Args:
        threshold: the lowest mean probability that is to fire, 0..1.
        window: outputs that are averaged.

    Raises:
        ValueError: the threshold is no probability, or no mean reaches it.
    """
    if window < 1:
        raise ValueError(f"a sliding window of {window} steps: must be 1 or more")
    if not 0.0 <= threshold <= (1.0 + 1.0 / (ONE * window)) * (1.0 + _ROUNDING):  # the last of ``sums``
        raise ValueError(
            f"--threshold {threshold:g}: ESPHome compares a probability, 0 to 1; thresholds of margins are found on "
            "other scores: evaluate the file that was exported for ESPHome"
        )
    exact = threshold * ONE * window
    least = math.ceil(exact - _ROUNDING * max(1.0, exact))  # the lowest sum that is to fire
    steps = max(0, math.ceil((least - 1) / window))
    if steps >= ONE:
        raise ValueError(f"--threshold {threshold:g}: no mean of {window} outputs is above it in ESPHome; choose less")
    return Cutoff(steps, window)


def sums(window: int) -> list[int]:
    """The lowest sums that fire at each cutoff that ESPHome can tell, rising; nothing reaches the last one."""
    return [steps * window + 1 for steps in range(ONE + 1)]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What ESPHome is told.

    Attributes:
        model: name of the .tflite beside it.
        wake_word: as it is shown.
        author: who made it.
        probability_cutoff, sliding_window_size: see the module's text.
        feature_step_size: milliseconds from frame to frame, 10 or 20.
        tensor_arena_size: bytes.
        trained_languages: such as "en".
        website: None for none.
    """

    model: str
    wake_word: str
    author: str
    probability_cutoff: float
    sliding_window_size: int
    feature_step_size: int
    tensor_arena_size: int
    trained_languages: Sequence[str] = ()
    website: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it is written."""
        micro = {
            "probability_cutoff": self.probability_cutoff,
            "feature_step_size": self.feature_step_size,
            "sliding_window_size": self.sliding_window_size,
            "tensor_arena_size": self.tensor_arena_size,
            "minimum_esphome_version": MINIMUM_ESPHOME,
        }
        value = {"type": "micro", "wake_word": self.wake_word, "author": self.author}
        value |= {"website": self.website} if self.website else {}
        value |= {"model": self.model, "trained_languages": list(self.trained_languages), "version": VERSION}
        return {**value, "micro": micro}


def path_of(model: pathlib.Path) -> pathlib.Path:
    """Where the manifest of a model lies."""
    return model.with_suffix(".json")


def write(path: pathlib.Path, manifest: Manifest) -> pathlib.Path:
    """Writes it."""
    return atomic.write_json(path, manifest.to_dict())


def read(path: pathlib.Path) -> Manifest:
    """A manifest of version 2.

    Raises:
        ValueError: it is none; the message says what is wrong with it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["type"] != "micro" or value["version"] != VERSION:
            raise ValueError(f"type {value['type']!r}, version {value['version']!r}; read are 'micro' and {VERSION}")
        micro = value["micro"]
        made = Manifest(
            str(value["model"]),
            str(value["wake_word"]),
            str(value["author"]),
            float(micro["probability_cutoff"]),
            int(micro["sliding_window_size"]),
            int(micro["feature_step_size"]),
            int(micro["tensor_arena_size"]),
            tuple(value.get("trained_languages", ())),
            value.get("website"),
        )
        if made.feature_step_size not in STEPS_MS or made.sliding_window_size < 1 or not made.wake_word.strip():
            raise ValueError(f"a step of {made.feature_step_size} ms, a window of {made.sliding_window_size}")
        return made
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: no manifest of micro_wake_word that is read here ({error!r})") from error
