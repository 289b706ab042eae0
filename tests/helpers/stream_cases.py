# SPDX-License-Identifier: Apache-2.0
"""Random outputs of a model on streams, for the tests of what is counted in them."""

from __future__ import annotations

import numpy as np

from tfmot_kws.data.stream_labels import Target
from tfmot_kws.evaluation.streams import Stream

STEP = 0.1
"""Seconds from one output to the next."""


def random_streams(rng: np.random.Generator, words: tuple[str, ...], count: int = 3) -> list[Stream]:
    """int8 outputs [steps, 4]; classes 2 and 3 are loud in the targets and sometimes elsewhere."""
    streams = []
    for number in range(count):
        steps = int(rng.integers(100, 300))
        outputs = rng.integers(-40, 40, (steps, 4))
        targets, at = [], 2.0
        while at < steps * STEP - 3:
            word = int(rng.integers(len(words)))
            length = float(rng.uniform(0.3, 0.8))
            targets.append(Target(words[word], at, at + length))
            first = int(at / STEP)
            outputs[first : first + 8, 2 + word] += int(rng.integers(0, 100))
            at += length + float(rng.uniform(0.2, 4.0))
        for _ in range(5):
            first = int(rng.integers(steps))
            outputs[first : first + 6, 2 + int(rng.integers(len(words)))] += int(rng.integers(0, 90))
        times = 1.0 + STEP * np.arange(steps)
        streams.append(Stream(f"s{number}", np.clip(outputs, -128, 127).astype(np.int8), times, tuple(targets)))
    return streams
