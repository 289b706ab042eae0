# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a sound file. Imports the standard library only."""

from __future__ import annotations

import dataclasses
import os

PROBLEMS = ("unreadable", "empty", "too short", "clipped")


class AudioError(ValueError):
    """A file that gives no usable sound.

    Attributes:
        path: the file.
        problem: ``"unreadable"``, ``"empty"`` or ``"too short"``.
        detail: what was found.
    """

    def __init__(self, path: str | os.PathLike, problem: str, detail: str) -> None:
        super().__init__(f"{path}: {problem}: {detail}")
        self.path, self.problem, self.detail = str(path), problem, detail


@dataclasses.dataclass(frozen=True)
class Problem:
    """One file with a fault, for a report.

    Attributes:
        path: the file.
        problem: one of ``PROBLEMS``.
        detail: what was found.
        dropped: whether the file was left out; clipped files are kept.
    """

    path: str
    problem: str
    detail: str
    dropped: bool = True
