# SPDX-License-Identifier: Apache-2.0
"""Writes a folder of ``long_features`` recording by recording, in little memory; what was killed goes on.

``features.npy`` grows on disk. ``journal.jsonl`` gets a line when a recording is whole or a file is left out; what lies
in ``features.npy`` behind the last line is written anew. ``about.json`` comes last, as ever.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfmot_kws import atomic
from tfmot_kws.data import long_features
from tfmot_kws.data.long_features import LongFeatures
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features
from tfmot_kws.sound.problems import Problem

JOURNAL = "journal.jsonl"
_HEADER = 128
"""Bytes of the header of ``features.npy``: long enough for any number of frames."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the journal.

    Attributes:
        sources: numbers of the files that it is about.
        samples: how many samples of sound went into it; 0 for a file that is left out.
        frames: how many frames of the folder are its own.
        targets: the words in it.
        problem: why the file is left out, or None.
    """

    sources: tuple[int, ...]
    samples: int = 0
    frames: int = 0
    targets: tuple[Target, ...] = ()
    problem: Problem | None = None

    def to_line(self) -> str:
        """JSON, with the end of the line."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Entry:
        """The inverse of ``to_line``; ValueError, KeyError or TypeError for what is none."""
        options: dict[str, Any] = json.loads(line)
        problem = options["problem"]
        return cls(
            tuple(int(number) for number in options["sources"]),
            int(options["samples"]),
            int(options["frames"]),
            tuple(Target(**target) for target in options["targets"]),
            None if problem is None else Problem(**problem),
        )


class FeatureWriter:
    """A folder that grows. Use it as a context: it holds files and a lock.

    Args:
        folder: made where missing; what an earlier writer of the same folder finished is kept.
        frontend: how sound becomes features.

    Attributes:
        entries: what is done, in order.

    Raises:
        ValueError: another process writes to this folder.
    """

    def __init__(self, folder: str | os.PathLike, frontend: features.FrontendConfig) -> None:
        self._folder, self._frontend = Path(folder), frontend
        self._type = np.dtype(long_features.TYPES[frontend.backend][0]).newbyteorder("<")
        self._row = self._type.itemsize * frontend.mel_bins
        self._folder.mkdir(parents=True, exist_ok=True)
        self._journal = open(self._folder / JOURNAL, "a+", encoding="utf-8")  # closed by __exit__
        try:
            _lock(self._journal, self._folder)
            (self._folder / long_features.ABOUT).unlink(missing_ok=True)
            path = self._folder / long_features.FEATURES
            path.touch()
            self._data: BinaryIO = open(path, "r+b")  # closed by __exit__
        except BaseException:
            self._journal.close()
            raise
        self.entries = self._recover()

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()
        self._journal.close()

    def _recover(self) -> list[Entry]:
        """Entries whose lines are whole and whose frames are there; all behind them is cut off."""
        frames = max(0, os.fstat(self._data.fileno()).st_size - _HEADER) // self._row
        entries, good = [], 0
        self._journal.seek(0)
        for line in self._journal.read().splitlines(keepends=True):
            try:
                entry = Entry.from_line(line)
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            if not line.endswith("\n") or entry.frames > frames:
                break
            frames -= entry.frames
            good += len(line.encode())
            entries.append(entry)
        self._journal.truncate(good)
        self._journal.seek(0, os.SEEK_END)
        self._cut(sum(entry.frames for entry in entries))
        return entries

    def _cut(self, frames: int) -> None:
        self._data.truncate(_HEADER + frames * self._row)
        self._data.seek(0, os.SEEK_END)

    def write(
        self, sources: Sequence[int], blocks: Iterable[tuple[int, np.ndarray]], targets: Sequence[Target] = ()
    ) -> None:
        """Adds a recording; where ``blocks`` raises, the folder stays as it was.

        Args:
            sources: numbers of the files that it was made of.
            blocks: (samples that were taken in, features [frames, mel] that they gave).
            targets: the words in it, looked at when ``blocks`` have come to their end.
        """
        samples, frames = 0, 0
        try:
            for count, block in blocks:
                samples, frames = samples + count, frames + len(block)
                self._data.write(np.ascontiguousarray(block, self._type).tobytes())
        except BaseException:
            self._cut(sum(entry.frames for entry in self.entries))
            raise
        self._data.flush()
        os.fsync(self._data.fileno())
        self._add(Entry(tuple(sources), samples, frames, tuple(targets)))

    def leave_out(self, source: int, problem: Problem) -> None:
        """Notes why a file is not there."""
        self._add(Entry((source,), problem=problem))

    def _add(self, entry: Entry) -> None:
        self._journal.write(entry.to_line())
        self._journal.flush()
        self.entries.append(entry)

    def finish(self) -> LongFeatures:
        """Makes the folder one that ``long_features.read`` opens, and opens it."""
        recordings = [entry for entry in self.entries if entry.problem is None]
        first = np.cumsum([0, *(entry.frames for entry in recordings)]).astype(np.int64)
        self._data.seek(0)
        self._data.write(_header(self._type, (int(first[-1]), self._frontend.mel_bins)))
        self._data.flush()
        os.fsync(self._data.fileno())
        with atomic.replacing(self._folder / long_features.PIECES) as temporary, open(temporary, "wb") as stream:
            np.save(stream, first)
        long_features.finish(self._folder, self._frontend, [entry.targets for entry in recordings])
        return long_features.read(self._folder)


def problems(folder: str | os.PathLike) -> tuple[Problem, ...]:
    """The files that a finished folder leaves out, and why."""
    lines = (Path(folder) / JOURNAL).read_text(encoding="utf-8").splitlines()
    return tuple(entry.problem for entry in map(Entry.from_line, lines) if entry.problem is not None)


def _header(kind: np.dtype, shape: tuple[int, int]) -> bytes:
    """Of version 1.0 of numpy's format, in ``_HEADER`` bytes whatever the shape."""
    text = repr({"descr": kind.str, "fortran_order": False, "shape": shape})
    head = np.lib.format.magic(1, 0)
    size = _HEADER - len(head) - 2
    return head + size.to_bytes(2, "little") + text.ljust(size - 1).encode("ascii") + b"\n"


def _lock(file: Any, folder: Path) -> None:
    """Two writers would cut off each other's recordings. The lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ValueError(f"{folder}: another process writes features there; wait until it is done") from error
