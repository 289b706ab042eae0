# SPDX-License-Identifier: Apache-2.0
"""Where words are in long recordings: ``streams_labels.csv``. Nothing here decodes sound.

The table has a line for each event with at least the columns ``stream`` (name of the recording without folder and
extension), ``event`` (``keyword`` for words to be found; all else is read past), ``word``, ``start`` and ``end`` in
seconds from the start of the recording. A column ``speaker`` says who speaks: misses of one person go together, and
the interval of the miss rate knows it where every keyword has one.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from pathlib import Path

from tfmot_kws.data import corpus
from tfmot_kws.sound import files as audio

LABELS = "streams_labels.csv"
KEYWORD = "keyword"
_COLUMNS = ("stream", "event", "word", "start", "end")
_SPEAKER = "speaker"
_LEVELS = 2


@dataclasses.dataclass(frozen=True)
class Target:
    """A word that is to be found.

    Attributes:
        word: which.
        start: where it begins, in seconds from the start of the recording.
        end: where it ends, after ``start``.
        speaker: who says it, one name a person in all recordings; empty where nobody knows.
    """

    word: str
    start: float
    end: float
    speaker: str = ""


def sounds(folder: str | os.PathLike) -> tuple[Path, ...]:
    """The recordings below a folder, by path; those of a ``manifest.csv`` in it that are streams, where there is one.

    Args:
        folder: the folder, or one recording.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: there are no recordings.
    """
    root = Path(folder)
    if root.is_file() and root.suffix.lower() in audio.EXTENSIONS:
        return (root,)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected recordings ({', '.join(audio.EXTENSIONS)}) in it")
    if (root / "manifest.csv").is_file():
        found = tuple(Path(clip.path) for clip in corpus.from_manifest(root) if clip.is_stream)
        if not found:
            raise ValueError(f"{root / 'manifest.csv'}: no recording in it has kind 'streams'")
        return found
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    found = tuple(path for path in files if path.suffix.lower() in audio.EXTENSIONS)
    if not found:
        raise ValueError(f"{root}: no recordings ({', '.join(audio.EXTENSIONS)}) in it or in folders below")
    return found


def find(folder: str | os.PathLike) -> Path:
    """The table of a folder of streams: in it, or in one of the two folders above.

    Raises:
        FileNotFoundError: it is in none of them; the message names them.
    """
    start = Path(os.path.abspath(folder))
    start = start.parent if start.is_file() else start
    places = [start, *start.parents[:_LEVELS]]
    for place in places:
        if (place / LABELS).is_file():
            return place / LABELS
    looked = ", ".join(str(place) for place in places)
    raise FileNotFoundError(
        f"{LABELS}: not found in {looked}; it says when each keyword is spoken, in columns {','.join(_COLUMNS)}. "
        "Recordings without keywords need none: give them by --negatives"
    )


def read(path: str | os.PathLike) -> dict[str, tuple[Target, ...]]:
    """The targets of each stream, by name, in order of time; streams may have none.

    Raises:
        ValueError: a column is missing, or a line makes no sense; the message names it.
    """
    path = Path(path)
    rows: dict[str, list[Target]] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: columns {missing} missing; found {reader.fieldnames}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if not row["stream"]:
                raise ValueError(f"{where}: no stream is named")
            targets = rows.setdefault(row["stream"], [])
            if row["event"] == KEYWORD:
                targets.append(_target(row, where))
    return {name: tuple(sorted(targets, key=lambda t: (t.start, t.end))) for name, targets in rows.items()}


def _target(row: dict[str, str], where: str) -> Target:
    try:
        start, end = float(row["start"]), float(row["end"])
    except (TypeError, ValueError):
        start = end = math.nan
    if not row["word"] or not 0.0 <= start < end < math.inf:
        raise ValueError(
            f"{where}: word={row['word']!r}, start={row['start']!r}, end={row['end']!r}: a keyword needs a word and "
            "0 <= start < end in seconds"
        )
    return Target(row["word"], start, end, (row.get(_SPEAKER) or "").strip())


def of_files(files: tuple[Path, ...], labels: dict[str, tuple[Target, ...]], table: Path) -> list[tuple[Target, ...]]:
    """The targets of each file.

    Raises:
        ValueError: files that the table does not have, or two with one name.
    """
    names = [path.stem for path in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"streams {twice}: two recordings have this name, and {table.name} knows streams by name")
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise ValueError(
            f"{table}: no line for {len(unknown)} of {len(files)} recordings ({', '.join(unknown[:5])}); recordings "
            "without keywords belong to --negatives"
        )
    return [labels[name] for name in names]
