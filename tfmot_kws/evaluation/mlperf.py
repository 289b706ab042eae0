# SPDX-License-Identifier: Apache-2.0
"""Counts of MLPerf Tiny's streaming wakeword benchmark. Imports numpy only.

"The streaming wakeword benchmark uses a combination of false positives and false negatives, requiring no more than 8
of either": mlcommons/tiny, benchmark/MLPerfTiny_Rules.adoc. How they are counted is in benchmark/runner/README.md,
"Streaming Test". The benchmark has one recording of 20 minutes with 50 words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

LIMIT, TARGETS, MINUTES = 8, 50, 20
_LENGTH_TOLERANCE = 0.05
"""Share by which a recording may be longer or shorter: its sound may be padded, or end with its last output."""


@dataclasses.dataclass(frozen=True)
class MlperfTiny:
    """What ``count`` finds.

    Attributes:
        false_positives: debounced false detections.
        false_negatives: words without a detection.
        targets: words.
        recordings: how many.
        seconds: how long they are together.
    """

    false_positives: int
    false_negatives: int
    targets: int
    recordings: int = 1
    seconds: float = dataclasses.field(default=0.0, compare=False)

    @property
    def passed(self) -> bool | None:
        """At most 8 false positives and 8 false negatives; None on other sound, of which the limits say nothing.

        A recording with 5 words would let a model pass that misses all of them.
        """
        if not self.comparable:
            return None
        return self.false_positives <= LIMIT and self.false_negatives <= LIMIT

    @property
    def comparable(self) -> bool:
        """Whether it was one recording of 20 minutes with 50 words, as in the benchmark."""
        long = abs(self.seconds / 60 - MINUTES) <= _LENGTH_TOLERANCE * MINUTES
        return self.recordings == 1 and self.targets == TARGETS and long


def count(
    detections: Sequence[float], windows: Sequence[tuple[float, float]], tolerance: float = 1.0, debounce: float = 1.0
) -> MlperfTiny:
    """Counts the detections of one recording as MLPerf Tiny's README says.

    A word is found by any detection from its start to one second after its end; all detections in there belong to it.
    The others are false positives, of which one silences the next second. The runner next to that README
    (streaming_ww_utils.py, calc_detection_stats) adds the second after the word twice and so allows two; this does not.

    Args:
        detections: seconds, rising.
        windows: (start, end) of each word in seconds.
        tolerance: seconds after the end of a word that still count.
        debounce: seconds after a false positive in which others do not count.
    """
    left = np.sort(np.asarray(detections, np.float64))
    missed = 0
    for start, end in windows:
        inside = (left >= start) & (left <= end + tolerance)
        missed += not inside.any()
        left = left[~inside]
    false, silent_until = 0, -np.inf
    for time in left:
        if time > silent_until:
            false += 1
            silent_until = time + debounce
    return MlperfTiny(false, missed, len(windows))
