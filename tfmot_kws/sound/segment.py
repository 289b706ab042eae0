# SPDX-License-Identifier: Apache-2.0
"""A stretch of a recording in which one phone or word is spoken."""

from __future__ import annotations

import dataclasses
import math

SILENCE = "sil"
"""The label of a stretch without speech."""


@dataclasses.dataclass(frozen=True, order=True)
class Segment:
    """A stretch of one recording.

    Attributes:
        start: in seconds from the start of the recording, at least 0.
        end: after ``start``.
        label: what is spoken.

    Raises:
        ValueError: times that make no sense, or an empty label.
    """

    start: float
    end: float
    label: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.end) and 0.0 <= self.start < self.end):
            raise ValueError(f"start={self.start:g}, end={self.end:g}: must be 0 <= start < end, in seconds")
        if not self.label:
            raise ValueError(f"no label; a stretch without speech is called {SILENCE!r}")
