# SPDX-License-Identifier: Apache-2.0
"""Which recordings train and which are held out: names of splits, who speaks, and the rules by which clips are split.

A speaker belongs to one split only, or a test measures how well voices are remembered. Imports the standard library
only.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence

SPLITS = ("train", "dev", "test")
RULES = ("auto", "folder", "prefix", "clip")
"""Rules for speakers by name; any other is a regular expression with a group."""
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
_NOHASH = "_nohash_"


def split_name(name: str) -> str:
    """``train``, ``dev`` or ``test`` for any of their usual names.

    Raises:
        ValueError: another name.
    """
    try:
        return _SPLIT_NAMES[name.strip().lower()]
    except KeyError:
        raise ValueError(f"split {name!r}: must be one of {sorted(_SPLIT_NAMES)}") from None


def is_split_name(name: str) -> bool:
    """Whether this is a usual name of a split."""
    return name.strip().lower() in _SPLIT_NAMES


def check_shares(dev_percent: float, test_percent: float) -> None:
    """Raises ValueError where the shares are negative or exceed 100 together."""
    if not (dev_percent >= 0 and test_percent >= 0 and dev_percent + test_percent <= 100):
        raise ValueError(
            f"dev_percent={dev_percent!r}, test_percent={test_percent!r}: must not be negative or exceed 100 together"
        )


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
    check_shares(dev_percent, test_percent)
    stem = os.path.basename(name).split(_NOHASH)[0]
    percent = (_hash(stem) % (_HASH_RANGE + 1)) * (100.0 / _HASH_RANGE)
    if percent < dev_percent:
        return "dev"
    return "test" if percent < dev_percent + test_percent else "train"


def _hash(text: str) -> int:
    return int(hashlib.sha1(text.encode(errors="surrogateescape")).hexdigest(), 16)


def in_shares(
    names: Mapping[str, Sequence[str]], dev_percent: float = 10.0, test_percent: float = 10.0
) -> dict[str, str]:
    """Splits for speakers (or for clips, each a speaker of its own) such that every word has its share of each split.

    The names of a word are ordered by their hash; the first become ``test``, the next ``dev``, so many as the shares
    say, rounded, but at least one of each where a word has three (one of ``test`` where it has two). Words of few names
    choose first, and a name keeps its split in all words. It depends on the names only, not on their order.

    Args:
        names: the names of each word.
        dev_percent: share of ``dev``, 0..100.
        test_percent: share of ``test``, 0..100.

    Returns:
        The split of each name.

    Raises:
        ValueError: the shares are negative or exceed 100 together.
    """
    check_shares(dev_percent, test_percent)
    chosen: dict[str, str] = {}
    for word in sorted(names, key=lambda word: (len(set(names[word])), word)):
        here = sorted(set(names[word]), key=lambda name: (_hash(name), name))
        free = [name for name in here if name not in chosen]
        wanted = _counts(len(here), dev_percent, test_percent)
        for split in ("test", "dev", "train"):
            missing = wanted[split] - sum(chosen.get(name) == split for name in here)
            taken, free = free[: max(missing, 0)], free[max(missing, 0) :]
            chosen.update(dict.fromkeys(taken, split))
        # What is left here is so because other splits have more than their share.
        chosen.update(dict.fromkeys(free, max(SPLITS, key=lambda split: wanted[split])))
    return chosen


def _counts(count: int, dev_percent: float, test_percent: float) -> dict[str, int]:
    """How many of ``count`` go to each split."""
    all_held_out = dev_percent + test_percent >= 100
    room = count if all_held_out else max(count - 1, 0)  # something is to be trained on
    test = min(max(round(count * test_percent / 100), int(test_percent > 0)), room)
    one_dev = dev_percent > 0 and (count >= 3 or not test_percent)
    dev = room - test if all_held_out else min(max(round(count * dev_percent / 100), int(one_dev)), room - test)
    return {"test": test, "dev": dev, "train": count - test - dev}


@dataclasses.dataclass(frozen=True)
class Speakers:
    """Who speaks in the files of a folder of words.

    Attributes:
        rule: ``"auto"``: what stands before ``_nohash_`` in a file's name, else the folder between word and file where
            there are several, else unknown. ``"folder"``: the folder between word and file. ``"prefix"``: what stands
            before the first ``_`` of a file's name. ``"clip"``: unknown, each clip is split by itself. Else a regular
            expression with a group, which is searched in ``word/.../file``: the group is the speaker.

    Raises:
        ValueError: the rule is none of these.
    """

    rule: str = "auto"

    def __post_init__(self) -> None:
        if self.rule in RULES:
            return
        wanted = f"must be one of {', '.join(RULES)}, or a regular expression with a group, like '([a-z]+)[0-9]*.wav'"
        try:
            groups = re.compile(self.rule).groups
        except re.error as error:
            raise ValueError(f"speakers={self.rule!r}: {wanted} ({error})") from error
        if groups != 1:
            raise ValueError(f"speakers={self.rule!r}: {wanted}")

    def of(self, paths: Sequence[str]) -> list[str]:
        """The speaker of each file, "" where nobody knows.

        Args:
            paths: ``word/file`` or ``word/folder/.../file``, with slashes.

        Raises:
            ValueError: the rule that was named says nothing about a file, which the message names; or folders are
                named like splits.
        """
        folders = {parts[1] for parts in (path.split("/") for path in paths) if len(parts) > 2}
        wrong = sorted(name for name in folders if is_split_name(name))
        if wrong and self.rule in ("auto", "folder"):
            raise ValueError(
                f"folder {wrong[0]!r} inside a word is no speaker: name splits in a manifest.csv (columns path, word, "
                "split)"
            )
        names = [self._of(path, len(folders) > 1) for path in paths]
        unknown = [path for path, name in zip(paths, names) if name is None]
        if unknown:
            raise ValueError(
                f"speakers={self.rule!r} names nobody for {len(unknown)} of {len(paths)} files, the first is "
                f"{unknown[0]}"
            )
        return names

    def _of(self, path: str, by_folder: bool) -> str | None:
        parts, file = path.split("/"), path.rsplit("/", 1)[-1]
        folder = parts[1] if len(parts) > 2 else None
        if self.rule == "clip":
            return ""
        if self.rule == "folder":
            return folder
        if self.rule == "prefix":
            return file.rsplit(".", 1)[0].split("_")[0] or None
        if self.rule == "auto":
            if _NOHASH in file:
                return file.split(_NOHASH)[0]
            return folder if folder and by_folder else ""  # a single folder is a level, not a person
        found = re.search(self.rule, path)
        return (found.group(1) or None) if found else None


def unknown_note(clips: Sequence[tuple[str, str]]) -> str:
    """One line on clips (word, file) whose speakers nobody knows."""
    words = collections.Counter(word for word, _ in clips)
    shown = ", ".join(list(words)[:3]) + (", ..." if len(words) > 3 else "")
    count = f"{len(clips)} clip{'s' * (len(clips) != 1)}"
    return (
        f"who speaks in {count} ({shown}) is not known: they are split one by one, so voices of the training clips may "
        "be in the test. Folders word/speaker/file, a manifest.csv or a rule (--speakers) say who speaks"
    )


def by_name(path: str) -> bool:
    """Whether the file is named as in Speech Commands, ``speaker_nohash_number``."""
    return _NOHASH in path.rsplit("/", 1)[-1]
