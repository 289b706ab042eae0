# SPDX-License-Identifier: Apache-2.0
"""A folder of clips of a phrase, and of words like it, said by the voices of a synthesizer.

Everything about a clip is drawn from the seed and its number, and a clip is said without a memory of others. So the
same call gives the same bytes, and a call that was stopped goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import io
import json
import os
import queue
import re
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
import soundfile

from tfmot_kws import atomic
from tfmot_kws.data import corpus as corpora
from tfmot_kws.data import splits, synthetic
from tfmot_kws.sound import files as audio
from tfmot_kws.sound import voices as sources

MANIFEST = "manifest.csv"
STAMP = "say.json"
"""What a folder was made by; it is there from the start, the manifest only at the end."""
WAKE = "wake"
"""Kind of the clips of the phrase."""
_LEAD = 0.1
"""Seconds of silence before and after what is said."""
_COLUMNS = ("path", "word", "speaker", "kind", "split", "word_start", "word_end", "text", "speed")


@dataclasses.dataclass(frozen=True)
class Line:
    """Something to say.

    Attributes:
        text: as the synthesizer is given it.
        word: as the manifest calls it.
        kind: of the manifest, ``"wake"`` for the phrase.
    """

    text: str
    word: str
    kind: str

    def __post_init__(self) -> None:
        if not self.text.strip() or not folder_of(self.word):
            raise ValueError(f"text {self.text!r}, word {self.word!r}: must have letters or digits")


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip that is to be said: what, by whom, and how."""

    number: int
    line: Line
    voice: str
    split: str
    speed: float
    seed: int

    @property
    def path(self) -> str:
        """Within the folder."""
        return f"{folder_of(self.line.word)}/{self.number:06}.wav"


def folder_of(word: str) -> str:
    """The folder of a word: letters, digits and _."""
    return re.sub(r"\W+", "_", word.lower()).strip("_")


def chosen_voices(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The voices that a pattern fits (``af_*``); all of them without a pattern.

    Raises:
        ValueError: a pattern fits none.
    """
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"no voice is named like {pattern!r}; --list names them")
    return [name for name in names if not patterns or any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def plan(
    lines: Sequence[tuple[Line, int]], names: Sequence[str], seed: int, mixed: float, speeds: tuple[float, float]
) -> list[Clip]:
    """All clips, in order.

    Voices are split before they are mixed, and only within their split: who is tested was never heard in training,
    not as a part of a mixture either.

    Args:
        lines: what to say, and how many clips of it.
        names: of voices.
        seed: of all that is random.
        mixed: share of the clips that are said by two voices mixed, 0..1.
        speeds: the slowest and the fastest.
    """
    people = sorted({sources.person(name) for name in names})
    split_of = splits.in_shares({"voices": people})
    of_split = {s: [name for name in names if split_of[sources.person(name)] == s] for s in splits.SPLITS}
    clips: list[Clip] = []
    for line, count in lines:
        for _ in range(count):
            rng = np.random.default_rng([seed, 3, len(clips)])
            voice = names[int(rng.integers(len(names)))]
            split = split_of[sources.person(voice)]
            partners = [name for name in of_split[split] if name != voice]
            speed = round(float(rng.uniform(*speeds)), 3)
            if rng.random() < mixed and partners:
                partner = partners[int(rng.integers(len(partners)))]
                voice = str(sources.Mixture(voice, partner, int(rng.integers(20, 81))))
            clips.append(Clip(len(clips), line, voice, split, speed, int(rng.integers(2**31 - 1))))
    return clips


def say(
    folder: str | os.PathLike,
    voice: sources.Voice,
    lines: Sequence[tuple[Line, int]],
    seed: int = 0,
    patterns: Sequence[str] = (),
    mixed: float = 0.0,
    speeds: tuple[float, float] = (0.85, 1.2),
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> corpora.Corpus:
    """Says clips into a folder, with a ``manifest.csv`` whose speaker is the voice, or the mixture.

    Clips are 16 kHz, 16 bits: what is said, with 0.1 s of silence on either side. ``train --data`` reads the folder.

    Args:
        folder: does not exist, is empty, or was begun by the same call: then it is completed.
        voice: what speaks, see ``sound.voices.open``.
        lines: what to say, and how many clips of it.
        seed: of all that is random.
        patterns: voices to use (``af_*``); all without one.
        mixed: share of the clips that are said by two voices mixed, 0..1; 0 where the back end does not mix.
        speeds: the slowest and the fastest, within ``voices.SLOWEST`` and ``voices.FASTEST``.
        jobs: processes that speak at the same time; the bytes do not depend on it.
        progress: called with (clips done, clips in all).

    Returns:
        The corpus.

    Raises:
        ValueError: options that make no sense, or a folder with something else in it; before anything is said.
        OSError: nothing can be written there.
        RuntimeError: the back end failed; what was said until then stays, and the same call goes on.
    """
    folder = Path(folder)
    clips, options = check(folder, voice, lines, seed, patterns, mixed, speeds, jobs)
    _begin(folder, options)
    seconds = {clip: _seconds(folder / clip.path) for clip in clips}
    missing = [clip for clip, found in seconds.items() if found is None]
    if missing:
        (folder / MANIFEST).unlink(missing_ok=True)
        _say_all(folder, voice, missing, min(jobs, len(missing)), len(clips), progress)
        seconds |= {clip: _seconds(folder / clip.path) for clip in missing}
    if missing or not (folder / MANIFEST).is_file():
        atomic.write_text(folder / MANIFEST, _table(seconds))
    return corpora.from_manifest(folder / MANIFEST)


def check(
    folder: str | os.PathLike,
    voice: sources.Voice,
    lines: Sequence[tuple[Line, int]],
    seed: int = 0,
    patterns: Sequence[str] = (),
    mixed: float = 0.0,
    speeds: tuple[float, float] = (0.85, 1.2),
    jobs: int = 1,
) -> tuple[list[Clip], dict]:
    """All clips that ``say`` would make of these arguments, and what the folder's stamp says of them; makes nothing.

    Raises:
        ValueError, OSError: what ``say`` would raise before anything is said.
    """
    slow, fast = speeds
    if not sources.SLOWEST <= slow <= fast <= sources.FASTEST:
        raise ValueError(f"speeds={speeds!r}: must be two rising numbers in {sources.SLOWEST}..{sources.FASTEST}")
    if not 0 <= mixed <= 1 or jobs < 1 or seed < 0:
        raise ValueError(f"mixed={mixed!r}, jobs={jobs!r}, seed={seed!r}: must be 0..1, from 1 on, and not negative")
    if not lines or any(count < 0 for _, count in lines) or not any(count for _, count in lines):
        raise ValueError("nothing to say: needs lines, and how many clips of each")
    mixes = getattr(voice, "mixes", False)
    if mixed and not mixes:
        raise ValueError(f"mixed={mixed!r}: these voices cannot be mixed; must be 0")
    names = chosen_voices(voice.voices(), patterns)
    options = {
        "version": 1,
        "voices": voice.identity(),
        "names": list(names),
        "lines": [[line.text, line.word, line.kind, count] for line, count in lines],
        "seed": seed,
        "mixed": mixed,
        "speeds": [slow, fast],
    }
    _check_folder(Path(folder), options)
    return plan(lines, names, seed, mixed, (slow, fast)), options


def _check_folder(folder: Path, options: dict) -> None:
    """Raises where the folder is neither new nor begun by the same call."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there}: is a file; give a folder")
    stamp = folder / STAMP
    if stamp.is_file():
        before = atomic.read_table(stamp, "give another folder, or remove this one")
        for key in options:
            if before.get(key) != options[key]:
                raise ValueError(
                    f"{folder}: was begun with other {key}: {_short(before.get(key))}, now {_short(options[key])}; "
                    "give another folder, or remove this one"
                )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: exists and was not made by this command; give another folder")
    elif not os.access(there, os.W_OK):
        raise PermissionError(f"{folder}: nothing can be written in {there}; give another folder")


def _begin(folder: Path, options: dict) -> None:
    """Makes the folder, or goes on in it."""
    for left in folder.glob("*/.*"):  # half of a clip, of a run that was killed
        left.unlink()
    if not (folder / STAMP).is_file():
        atomic.write_json(folder / STAMP, options)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _seconds(path: Path) -> float | None:
    """How long a clip is; None where there is none, or one that cannot be read."""
    try:
        return soundfile.info(path).duration
    except soundfile.LibsndfileError:
        return None


def _say_all(
    folder: Path,
    voice: sources.Voice,
    clips: Sequence[Clip],
    jobs: int,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    others = [voice.another() for _ in range(jobs - 1)]
    free: queue.SimpleQueue = queue.SimpleQueue()
    for speaker in (voice, *others):
        free.put(speaker)

    def one(clip: Clip) -> None:
        speaker = free.get()
        try:
            write_clip(folder / clip.path, speaker.say(clip.line.text, clip.voice, clip.speed, clip.seed))
        finally:
            free.put(speaker)

    pool = futures.ThreadPoolExecutor(jobs)
    try:
        done = total - len(clips)
        for result in futures.as_completed([pool.submit(one, clip) for clip in clips]):
            result.result()
            done += 1
            if progress is not None:
                progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
        for speaker in others:
            speaker.close()


def write_clip(path: Path, spoken: sources.Spoken) -> None:
    """Writes an utterance without the silence around it, between two short silences; whole or not at all."""
    sound, _ = synthetic.trim(spoken.samples)
    silence = np.zeros(round(_LEAD * spoken.sample_rate), np.float32)
    path.parent.mkdir(exist_ok=True)
    audio.write(path, np.concatenate([silence, sound, silence]), spoken.sample_rate)


def _table(seconds: dict[Clip, float]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for clip, length in seconds.items():
        times = (f"{_LEAD:.4f}", f"{length - _LEAD:.4f}") if clip.line.kind != "sentence" else ("", "")
        row = (clip.path, clip.line.word, clip.voice, clip.line.kind, clip.split, *times, clip.line.text, clip.speed)
        writer.writerow(row)
    return text.getvalue()
