# SPDX-License-Identifier: Apache-2.0
"""When each phone or word of a recording is spoken: tables of segments. Nothing here decodes sound.

An alignment is a CSV file with a header line and a line for each segment:

    path,start,end,label
    alexa/one.wav,0.120,0.185,a
    alexa/one.wav,0.185,0.260,l

``path`` is relative to the table, ``start`` and ``end`` are seconds from the start of the recording, ``label`` is any
text. Other columns are read past. Segments of a recording may come in any order and must not overlap; where there is
none, nobody speaks. ``sil`` says so too: a recording without speech has one such line, because one that is not in the
table is not known at all. A forced aligner's CTM lines (file, channel, start, duration, label) become these by
end = start + duration.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfmot_kws import atomic
from tfmot_kws.sound.segment import SILENCE, Segment

ALIGNMENT = "alignment.csv"
__all__ = ["ALIGNMENT", "SILENCE", "Alignment", "Segment", "read", "write"]
_COLUMNS = ("path", "start", "end", "label")
_ROUNDING = 1e-6
"""Seconds by which two segments may overlap: decimals of a number, not an error of the aligner."""


Alignment = Mapping[str, tuple[Segment, ...]]
"""Segments of each recording, by its absolute path, in order of time."""


def read(path: str | os.PathLike) -> dict[str, tuple[Segment, ...]]:
    """The segments of a table, see the module's text.

    Args:
        path: the file, or the folder that holds ``alignment.csv``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, a line makes no sense or there is none; the message names file and line.
    """
    path = Path(path)
    path = path / ALIGNMENT if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such alignment; expected a table with columns {','.join(_COLUMNS)}")
    found: dict[str, list[tuple[Segment, int]]] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: columns {missing} missing; found {reader.fieldnames}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if not row["path"]:
                raise ValueError(f"{where}: no path")
            segment = _segment(row, where)
            file = os.path.abspath(path.parent / row["path"])
            found.setdefault(file, []).append((segment, reader.line_num))
    if not found:
        raise ValueError(f"{path}: holds no segments")
    return {file: _in_order(rows, path) for file, rows in found.items()}


def _segment(row: Mapping[str, str | None], where: str) -> Segment:
    times = []
    for name in ("start", "end"):
        try:
            times.append(float(row[name] or ""))
        except ValueError:
            raise ValueError(f"{where}: {name}={row[name]!r} is no number of seconds") from None
    try:
        return Segment(*times, (row["label"] or "").strip())
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _in_order(rows: list[tuple[Segment, int]], path: Path) -> tuple[Segment, ...]:
    rows = sorted(rows)
    for (first, line), (second, other) in zip(rows, rows[1:]):
        if second.start < first.end - _ROUNDING:
            raise ValueError(
                f"{path}, line {other}: {second.label!r} from {second.start:g} s overlaps {first.label!r} "
                f"of line {line}, which ends at {first.end:g} s"
            )
    return tuple(segment for segment, _ in rows)


def write(path: str | os.PathLike, rows: Iterable[tuple[str, Segment]]) -> Path:
    """Writes a table of (path relative to the table, segment); times to a tenth of a millisecond.

    A segment that is shorter than that is left out.
    """
    path = Path(path)
    with atomic.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for name, segment in rows:
            start, end = f"{segment.start:.4f}", f"{segment.end:.4f}"
            if start != end:
                writer.writerow([name, start, end, segment.label])
    return path
