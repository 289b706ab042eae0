# SPDX-License-Identifier: Apache-2.0
"""What was said and what was recorded, as material of scenes: of training, of selection and of the test."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import soundfile

from tfmot_kws.commands.parts import card
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts.phrase.plan import OWN, Options
from tfmot_kws.data import corpus, material_store, prepare, scenes, splits
from tfmot_kws.sound import augment, stream
from tfmot_kws.sound import files as audio
from tfmot_kws.sound import voices as sources
from tfmot_kws.sound.problems import Problem

RATE = 16000
_UNKNOWN_SECONDS = 5.0
"""What a file counts for whose length no header tells."""
_OWN_SECONDS = (0.2, 4.0)
"""A recording of the phrase that is shorter or longer than this is something else."""
_OWN_TEST_PERCENT = 20.0
_TRIED = 20
"""Files of a folder that are opened before work, to see whether anything in it can be read."""


def split_in_three(clips: corpus.Corpus) -> tuple[corpus.Corpus, str]:
    """A corpus with clips in train, dev and test, and what was done to it, "" where nothing was.

    Splits that a corpus has are kept. Where one of dev and test is missing, it takes half of the speakers of the other;
    where both are, each takes a tenth of those of train. Noise, which has no speakers, goes by file.
    """
    notes = []
    out = list(clips.clips)
    for noise in (False, True):
        chosen = [i for i, clip in enumerate(out) if clip.is_noise == noise and not clip.is_stream]
        there = {out[i].split for i in chosen}
        lacking = [name for name in ("dev", "test") if name not in there]
        if not chosen or not lacking:
            continue
        other = {"dev": "test", "test": "dev"}
        source = other[lacking[0]] if len(lacking) == 1 else "train"
        names = {i: out[i].speaker or out[i].path for i in chosen if out[i].split == source}
        if len(lacking) == 1:
            shared = splits.in_shares({source: sorted(set(names.values()))}, 0.0, 50.0)
            moved = {name: lacking[0] if split == "test" else source for name, split in shared.items()}
        else:
            moved = splits.in_shares({source: sorted(set(names.values()))})
        for i, name in names.items():
            out[i] = dataclasses.replace(out[i], split=moved[name])
        what = "noise" if noise else "speakers"
        notes.append(f"{' and '.join(lacking)} of its {what} are taken from {source}")
    return corpus.Corpus(tuple(out), clips.skipped, clips.notes), "; ".join(notes)


def same_phrase(word: str, phrase: str) -> bool:
    """Whether a word of a corpus is the phrase: "hey_nova", "Hey Nova" and "heynova" are "hey nova"."""
    return _letters(word) == _letters(phrase)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


def recorded(console: rich.console.Console, options: Options) -> corpus.Corpus:
    """The corpora of ``--data``, each split in three, and none of a speaker whom another holds out; prints notes.

    Raises:
        OSError, ValueError: as ``datasets.open_corpus``.
    """
    parts = []
    for folder in options.data:
        clips = data_files.open_recordings(console, folder, None)
        word = options.word
        named = tuple(
            dataclasses.replace(clip, word=word) if same_phrase(clip.word, word) else clip for clip in clips.clips
        )
        letters = _letters(word)
        clips = prepare.without_compounds(corpus.Corpus(named, clips.skipped, clips.notes), (word,))
        clips = clips.filter(lambda clip: clip.word == word or not _letters(clip.word).endswith(letters))  # noqa: B023
        clips, note = split_in_three(clips)
        if note:
            console.print(f"note: {folder}: {note}", markup=False)
        parts.append(clips)
    found = corpus.join_apart(parts)
    known = {note for part in parts for note in part.notes}
    for text in found.notes:
        if text not in known:
            console.print(f"note: {text}", markup=False)
    return found


def sound_files(folder: Path) -> list[Path]:
    """The sound files below a folder, by path, without hidden ones."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in audio.EXTENSIONS)
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def first_readable(files: Sequence[Path], what: str) -> None:
    """Returns at the first of the files that can be read.

    Raises:
        ValueError: none of the first can be; it begins with ``what``.
    """
    problem = None
    for path in files[:_TRIED]:
        try:
            next(iter(stream.read_file(path, RATE, 1.0)), None)
            return
        except audio.AudioError as error:
            problem = problem or error
    if problem is not None:
        tried = "its files" if len(files) <= _TRIED else f"its first {_TRIED} files"
        raise ValueError(f"{what}: none of {tried} can be read; the first is {problem}")


def own_clips(options: Options) -> corpus.Corpus:
    """The recordings of ``--own`` that can be the phrase: four of five are trained on, the others tested.

    Returns:
        The clips; ``skipped`` are those that are left out.

    Raises:
        ValueError: fewer than two can be it.
    """
    if options.own is None:
        return corpus.Corpus(())
    files = sound_files(options.own)
    problems = {path: _own_problem(path, options.word) for path in files}
    fit = [path for path, problem in problems.items() if problem is None]
    wrong = tuple(problem for problem in problems.values() if problem is not None)
    if len(fit) < 2:
        first = f"; the first of the others is {_line(wrong[0])}" if wrong else ""
        raise ValueError(
            f"--own {options.own}: {len(fit)} of {len(files)} recordings ({', '.join(audio.EXTENSIONS)}) can be the "
            "phrase; at least 2 are needed, because one of five is kept for the test, and 5 to 20 are better; each "
            f"must hold the phrase once, with silence around it{first}"
        )
    names = [path.relative_to(options.own).as_posix() for path in fit]
    split_of = splits.in_shares({OWN: names}, 0.0, _OWN_TEST_PERCENT)
    clips = (corpus.Clip(str(path), options.word, OWN, split_of[name], kind="wake") for path, name in zip(fit, names))
    return corpus.Corpus(tuple(clips), wrong)


def _own_problem(path: Path, word: str) -> Problem | None:
    """Why a recording cannot be the phrase; None where it can."""
    clip = corpus.Clip(str(path), word, OWN, "train", kind="wake")
    try:
        said = _own_utterance(clip, word)
    except audio.AudioError as error:
        return Problem(error.path, error.problem, error.detail)
    seconds = 0.0 if said is None else (said.end - said.start) / RATE
    low, high = _OWN_SECONDS
    if low <= seconds <= high:
        return None
    return Problem(str(path), "not the phrase", f"{seconds:.1f} s of speech, expected {low:g} to {high:g}")


def _own_utterance(clip: corpus.Clip, word: str) -> scenes.Utterance | None:
    samples = np.rint(audio.read(clip.path, RATE) * 32767.0).astype(np.int16)
    return scenes.utterance(samples, clip, RATE, (word,))


def _line(problem: Problem) -> str:
    return f"{problem.path}: {problem.problem}: {problem.detail}"


def impulses(folders: Sequence[Path]) -> dict[str, tuple[np.ndarray, ...]]:
    """The measured rooms of ``--rooms`` in each split, from their direct path on; no room is in two.

    Those of a folder with fewer than three are trained on; choice and test then have made-up rooms only.

    Raises:
        ValueError: a folder has none, or one cannot be read.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in splits.SPLITS}
    for folder in folders:
        files = sound_files(folder)
        if not files:
            raise ValueError(f"--rooms {folder}: no sound files ({', '.join(audio.EXTENSIONS)}) in it")
        names = [path.relative_to(folder).as_posix() for path in files]
        split_of = splits.in_shares({"": sorted(names)}) if len(names) >= len(found) else {}
        for path, name in zip(files, names):
            found[split_of.get(name, "train")].append(augment.from_direct_path(audio.read(path, RATE)))
    return {name: tuple(rooms) for name, rooms in found.items()}


def limited(clips: Sequence[corpus.Clip], hours: float, seed: int) -> list[corpus.Clip]:
    """Clips that are so many hours together at most, drawn at random, in their order."""
    left, chosen = hours * 3600.0, []
    for i in np.random.default_rng([seed, 13]).permutation(len(clips)):
        left -= _seconds(clips[i].path)
        if left < 0.0 and chosen:
            break
        chosen.append(int(i))
    return [clips[i] for i in sorted(chosen)]


def _seconds(path: str) -> float:
    try:
        return soundfile.info(path).duration
    except (OSError, soundfile.LibsndfileError):
        return _UNKNOWN_SECONDS


def gather(
    said: corpus.Corpus,
    recordings: corpus.Corpus,
    own: corpus.Corpus,
    options: Options,
    progress: Callable[[int, int], None] | None = None,
    behind: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> dict[str, Any]:
    """Reads all of it and writes ``work/material/NAME``: train, dev, test; with ``--own``, own_train and own_test.

    Args:
        said: by voices.
        recordings: of ``--data``.
        own: of ``--own``.
        options: of the command.
        progress: called with (clips read, clips in all).
        behind: more noise, of each split.

    Returns:
        ``problems``: files that are left out, as lines; ``seconds``: the length that nine of ten clips of the phrase
        do not exceed; ``keywords`` and ``noises``: how many there are in each split; ``talk``: recordings of people who
        say something else.

    Raises:
        ValueError: a split has no clip of the phrase that can be read, or no other speech, or nothing of ``--data`` can
            be read.
    """
    rooms = impulses(options.rooms)
    word, hours = options.word, options.sizes.material_hours
    problems: list[Problem] = list(said.skipped + recordings.skipped + own.skipped)
    keywords, noises, lengths, talk, read = {}, {}, [], 0, 0
    chosen = {}
    for split in splits.SPLITS:
        real = [clip for clip in recordings if clip.split == split and not clip.is_stream]
        spoken_here = [clip for clip in said if clip.split == split]
        phrase = [clip for clip in real if clip.word == word]
        speech = limited([c for c in real if c.word != word and not c.is_noise], hours, options.seed)
        noise = limited([c for c in real if c.is_noise], hours, options.seed)
        chosen[split] = [*spoken_here, *phrase, *speech, *noise]
    total, before = sum(map(len, chosen.values())) + len(own), 0

    def advance(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, total)

    recorded_here = {clip.path for clip in recordings if not clip.is_stream}
    like = {clip.word for clip in said if clip.kind == "partial"}
    for split, clips in chosen.items():
        found = scenes.material(corpus.Corpus(tuple(clips)), [word], sorted(like), RATE, advance)
        before += len(clips)
        problems += found.problems
        lengths += [(one.end - one.start) / RATE for one in found.keywords[word]]
        unread = {problem.path for problem in found.problems}
        real = [clip for clip in clips if clip.path in recorded_here and clip.path not in unread]
        read, talk = read + len(real), talk + sum(clip.word != word and not clip.is_noise for clip in real)
        found = dataclasses.replace(found, rooms=rooms[split], noises=(*found.noises, *(behind or {}).get(split, ())))
        keywords[split], noises[split] = len(found.keywords[word]), len(found.noises)
        material_store.write(material_of(options, split), found)
        mine = [said for clip in own if clip.split == split and (said := _own_utterance(clip, word)) is not None]
        if mine:
            heard = dataclasses.replace(found, keywords={word: tuple(mine)})
            material_store.write(material_of(options, f"own_{split}"), heard)
            keywords[f"own_{split}"] = len(mine)
    if recorded_here and not read:
        first = next(problem for problem in problems if problem.path in recorded_here)
        raise ValueError(f"--data: none of {len(recorded_here)} clips can be read; the first is {_line(first)}")
    return {
        "problems": [_line(one) for one in problems],
        "seconds": float(np.percentile(lengths, 90.0)),
        "keywords": keywords,
        "noises": noises,
        "talk": talk,
    }


def material_of(options: Options, name: str) -> Path:
    """The folder of a material of ``gather``."""
    return options.work / "material" / name


def data_of(options: Options, said: dict[str, int]) -> list[dict[str, Any]]:
    """What the model card says of the data."""
    found = [
        {"folder": name, "use": "voices that say the phrase and other things", "licences": {
            sources.BACKENDS[name].about.split(":")[0]: count}}
        for name, count in said.items()
    ]  # fmt: skip
    found += [card.data_of(folder, "training and test") for folder in options.data]
    found += [card.data_of(folder, "sound without the phrase") for folder in options.negatives]
    found += [card.data_of(folder, "echoes of rooms") for folder in options.rooms]
    found += [card.data_of(folder, "noise and music behind what is said") for folder in options.noises]
    if options.own is not None:
        found.append({"folder": options.own.name, "use": "the user's own voice", "licences": None})
    return found


def is_synthetic(recordings: corpus.Corpus, options: Options) -> bool:
    """Whether nothing was recorded that is not the phrase: then a model knows neither people nor rooms."""
    words = Counter(clip.word == options.word for clip in recordings if not clip.is_noise and not clip.is_stream)
    return not options.negatives and not words[False]
