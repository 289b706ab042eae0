# SPDX-License-Identifier: Apache-2.0
"""Lists of labelled recordings: folders of words, manifests, splits by speaker.

Nothing here decodes sound; a corpus is names and labels. Imports the standard library only.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tfmot_kws.sound import files as audio

SPLITS = ("train", "dev", "test")
NOISE_WORDS = ("_background_noise_", "_silence_", "noise", "silence")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
}
_HASH_RANGE = 2**27 - 1


@dataclasses.dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
        path: the file.
        word: what is said, or a name like ``negatives`` or ``noise``.
        speaker: who says it; clips of one speaker share a split.
        split: ``train``, ``dev`` or ``test``.
        start: where the word begins, in seconds, or None if unknown.
        end: where the word ends, in seconds, or None.
        kind: ``"noise"`` for recordings without speech, ``"streams"`` for long recordings with
            several words in them (measured on, never trained on), else free text.
    """

    path: str
    word: str
    speaker: str = ""
    split: str = "train"
    start: float | None = None
    end: float | None = None
    kind: str = ""

    @property
    def is_noise(self) -> bool:
        """Whether this holds no speech."""
        return self.kind == "noise" or self.word in NOISE_WORDS

    @property
    def is_stream(self) -> bool:
        """Whether one label cannot describe this."""
        return self.kind in ("stream", "streams")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Clips, and the files that were left out.

    Attributes:
        clips: in a fixed order (that of the manifest, or by path).
        skipped: files that could not be listed, with the reason.
    """

    clips: tuple[Clip, ...]
    skipped: tuple[audio.Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __add__(self, other: Corpus) -> Corpus:
        return Corpus(self.clips + other.clips, self.skipped + other.skipped)

    def words(self) -> dict[str, int]:
        """How many clips there are of each word, by name."""
        return dict(sorted(collections.Counter(clip.word for clip in self.clips).items()))

    def filter(
        self,
        keep: Callable[[Clip], bool] | None = None,
        *,
        words: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
    ) -> Corpus:
        """The clips for which ``keep`` holds and whose word and kind are among those given.

        Args:
            keep: says of a clip whether it stays; None keeps all.
            words: these only; None for all.
            kinds: these only; None for all.
        """
        chosen_words = None if words is None else frozenset(words)
        chosen_kinds = None if kinds is None else frozenset(kinds)
        clips = tuple(
            clip
            for clip in self.clips
            if (keep is None or keep(clip))
            and (chosen_words is None or clip.word in chosen_words)
            and (chosen_kinds is None or clip.kind in chosen_kinds)
        )
        return Corpus(clips, self.skipped)

    def split(self, name: str) -> Corpus:
        """The clips of one split.

        Args:
            name: ``train``, ``dev`` or ``test``; ``validation`` and ``testing`` are understood.

        Raises:
            ValueError: an unknown split, or one without clips.
        """
        clips = tuple(clip for clip in self.clips if clip.split == split_name(name))
        if not clips:
            found = sorted({clip.split for clip in self.clips})
            raise ValueError(f"split {name!r}: no clips; this corpus has {found}")
        return Corpus(clips, self.skipped)

    def summary(self) -> str:
        """A table of clips per word and split, and the count of files left out."""
        counts = collections.Counter((clip.word, clip.split) for clip in self.clips)
        splits = [name for name in SPLITS if any(key[1] == name for key in counts)]
        words = self.words()
        width = max([len("word"), *(len(word) for word in words)])
        lines = [" ".join([f"{'word':<{width}}", *(f"{name:>7}" for name in splits)])]
        for word in words:
            numbers = (f"{counts[word, name]:>7}" for name in splits)
            lines.append(" ".join([f"{word:<{width}}", *numbers]))
        speakers = len({clip.speaker for clip in self.clips})
        lines.append(f"{len(self.clips)} clips, {speakers} speakers, {len(self.skipped)} left out")
        return "\n".join(lines)


def split_name(name: str) -> str:
    """``train``, ``dev`` or ``test`` for any of their usual names.

    Raises:
        ValueError: another name.
    """
    try:
        return _SPLIT_NAMES[name.strip().lower()]
    except KeyError:
        raise ValueError(f"split {name!r}: must be one of {sorted(_SPLIT_NAMES)}") from None


def hash_split(name: str, dev_percent: float = 10.0, test_percent: float = 10.0) -> str:
    """The split rule of Speech Commands: by a hash of the speaker, so that it never changes.

    The SHA-1 of the file's name without folder and without ``_nohash_`` and what follows,
    modulo 2**27, becomes a percentage; the lowest go to ``dev``, the next to ``test``.

    Args:
        name: a file name or path, or a speaker.
        dev_percent: share of ``dev``, 0..100.
        test_percent: share of ``test``, 0..100.

    Raises:
        ValueError: the shares are negative or exceed 100 together.
    """
    if dev_percent < 0 or test_percent < 0 or dev_percent + test_percent > 100:
        raise ValueError(
            f"dev_percent={dev_percent!r}, test_percent={test_percent!r}: must not be negative or exceed 100 together"
        )
    stem = os.path.basename(name).split("_nohash_")[0]
    digest = int(hashlib.sha1(stem.encode()).hexdigest(), 16)
    percent = (digest % (_HASH_RANGE + 1)) * (100.0 / _HASH_RANGE)
    if percent < dev_percent:
        return "dev"
    return "test" if percent < dev_percent + test_percent else "train"


def _speakers(paths: list[Path]) -> dict[Path, str]:
    """Who speaks, by file name: before ``_nohash_``, else a shared first part, else the file."""
    first = {path: path.stem.split("_")[0] for path in paths}
    shared = collections.Counter(first.values())
    names = {}
    for path in paths:
        if "_nohash_" in path.name:
            names[path] = path.name.split("_nohash_")[0]
        elif "_" in path.stem and shared[first[path]] > 1:
            names[path] = first[path]
        else:
            names[path] = f"{path.parent.name}/{path.name}"
    return names


def _read_list(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip())


def from_folder(path: str | os.PathLike, dev_percent: float = 10.0, test_percent: float = 10.0) -> Corpus:
    """A folder of words: ``path/word/*.wav|flac|ogg``.

    A ``validation_list.txt`` and ``testing_list.txt`` (lines of ``word/file``) are honoured.
    Without them the split is by speaker, by ``hash_split``. The speaker is the name before
    ``_nohash_``, or before the first underscore where several files share it, else the file.
    Files in ``_background_noise_`` are noise: train, and dev and test where there are lists or
    not, by their hash.

    Args:
        path: the folder.
        dev_percent: share of speakers for ``dev``.
        test_percent: share of speakers for ``test``.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds no words.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected word/*.wav|flac|ogg inside")
    files, skipped = [], []
    for folder in sorted(item for item in root.iterdir() if item.is_dir()):
        for file in sorted(item for item in folder.iterdir() if item.is_file()):
            if file.name.startswith("."):
                continue
            if file.suffix.lower() in audio.EXTENSIONS:
                files.append(file)
            elif file.suffix.lower() not in (".txt", ".md", ".csv", ".json", ""):
                detail = f"extension {file.suffix!r}, expected one of {audio.EXTENSIONS}"
                skipped.append(audio.Problem(str(file), "unreadable", detail))
    if not files:
        raise ValueError(f"{root}: no sound found; expected word/*.wav|flac|ogg inside")
    dev, test = _read_list(root / "validation_list.txt"), _read_list(root / "testing_list.txt")
    names = _speakers(files)
    clips = []
    for file in files:
        word, listed = file.parent.name, f"{file.parent.name}/{file.name}"
        if (dev or test) and word not in NOISE_WORDS:
            split = "dev" if listed in dev else "test" if listed in test else "train"
        else:
            split = hash_split(names[file], dev_percent, test_percent)
        kind = "noise" if word in NOISE_WORDS else "word"
        clips.append(Clip(str(file), word, names[file], split, kind=kind))
    return Corpus(tuple(clips), tuple(skipped))


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.strip() else None


def from_manifest(path: str | os.PathLike) -> Corpus:
    """A table of clips: a CSV file with a header line.

    Columns: ``path`` (relative to the manifest) and ``word`` (the kind where empty); optional ``speaker``, ``kind``,
    ``split`` (by ``hash_split`` of the speaker where empty), ``word_start`` and
    ``word_end`` in seconds. Others are ignored. Rows that make no sense or whose file is
    missing are counted as skipped.

    Args:
        path: the file, or the folder that holds ``manifest.csv``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a needed column is missing, or no row is usable.
    """
    path = Path(path)
    path = path / "manifest.csv" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    clips, skipped = [], []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        missing = {"path", "word"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: columns {sorted(missing)} missing; found {reader.fieldnames}")
        for row in reader:
            try:
                clips.append(_clip_of_row(path.parent, row))
            except (ValueError, OSError) as error:
                file = str(path.parent / (row.get("path") or f"line {reader.line_num}"))
                skipped.append(audio.Problem(file, "unreadable", str(error)))
    if not clips:
        raise ValueError(f"{path}: no usable row ({len(skipped)} left out)")
    return Corpus(tuple(clips), tuple(skipped))


def _clip_of_row(root: Path, row: dict[str, str]) -> Clip:
    kind = row.get("kind") or "word"
    if not row["path"] or not (row["word"] or row.get("kind")):
        raise ValueError("no path, or neither word nor kind, in this row")
    file = root / row["path"]
    if not file.is_file():
        raise FileNotFoundError("no such file")
    speaker = row.get("speaker") or file.name
    start, end = _seconds(row.get("word_start")), _seconds(row.get("word_end"))
    if (start is None) != (end is None) or (start is not None and not 0 <= start < end):
        raise ValueError(f"word_start={start}, word_end={end}: must be 0 <= start < end")
    split = split_name(row["split"]) if row.get("split") else hash_split(speaker)
    return Clip(str(file), row["word"] or kind, speaker, split, start, end, kind)
