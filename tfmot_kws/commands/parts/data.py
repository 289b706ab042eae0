# SPDX-License-Identifier: Apache-2.0
"""What commands add to ``data.prepare``: the cache, words of an option, spoken confusables, long sound."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich.console
import rich.text

from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.commands.parts.sidecar import Sidecar
from tfmot_kws.data import corpus, datasets, places, prepare, shard_writer, shards
from tfmot_kws.data.task import SILENCE, UNKNOWN
from tfmot_kws.sound.problems import Problem

LONG_SECONDS = 60.0


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/tfmot-kws``, or ``~/.cache/tfmot-kws``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfmot-kws"


def load_features(
    phases: Phases, clips: corpus.Corpus, task: datasets.TaskConfig, frontend, splits: Sequence[str], copies: int,
    seed: int, cache: Path,
) -> tuple[datasets.FeatureSet, datasets.FeatureSet]:  # fmt: skip
    """Training and held-out features; prints what became of the files.

    Raises:
        ValueError: a class has no examples in one of them.
    """
    from tfmot_kws.commands.parts import results

    where = " and ".join(splits)
    with phases.phase("features") as advance:
        training = prepare.training_features(clips, task, frontend, copies, seed, cache, advance)
        held_out = prepare.held_out_features(clips, task, frontend, splits, cache, advance)
    phases.console.print(f"train: {training.report.summary()}")
    phases.console.print(f"{where}: {held_out.report.summary()}")
    results.show_left_out(phases.console, training.report.problems + held_out.report.problems)
    for part, name in ((training, "train"), (held_out, where)):
        prepare.check_examples(part, task.keywords, name)
        prepare.check_others(part, task.keywords, name)
    return training, held_out


def named(data: pathlib.Path | str) -> str:
    """``--data`` for records of a run: an absolute path, or the address."""
    return str(data) if places.is_address(data) else str(pathlib.Path(data).absolute())


def open_prepared(data: pathlib.Path | str, given: Mapping[str, tuple[object, object]]) -> shards.Shards | None:
    """The shards of ``--data``; None where it is recordings.

    Args:
        data: the option.
        given: option -> (what it is, its default), of options that say how recordings become examples.

    Raises:
        ValueError: an option is given that was settled when the shards were written; or they are damaged.
        FileNotFoundError: an address at which there are no shards.
    """
    if not shards.is_place(data):
        if places.is_address(data):
            raise FileNotFoundError(
                f"--data {data}: no shards there; 'tfmot-kws prepare' writes them. Recordings are read from folders"
            )
        if (pathlib.Path(data) / shard_writer.PLAN).is_file():
            raise ValueError(f"--data {data}: not all shards are there; let 'tfmot-kws prepare' go on")
        return None
    for name, (value, default) in given.items():
        if value != default:
            raise ValueError(f"--{name} {value}: {data} is prepared already; leave the option out, or prepare anew")
    return shards.open_place(data)


def prepared_features(
    phases: Phases, prepared: shards.Shards, splits: Sequence[str]
) -> tuple[shards.ShardSet, datasets.FeatureSet]:
    """Training examples, which stay in their shards, and held-out ones in memory; prints how many there are.

    Raises:
        ValueError: a class has no examples in one of them, or a file is damaged.
    """
    training = prepared.split("train")
    with phases.phase("features") as advance:
        held_out = prepared.split(splits[0]).load(advance)
    for part, name in ((training, "train"), (held_out, splits[0])):
        phases.console.print(f"{name}: {part.report.summary().partition('; problems')[0]}", markup=False)
        prepare.check_examples(part, prepared.task.keywords, name)
        prepare.check_others(part, prepared.task.keywords, name)
    return training, held_out


def check_same(data: pathlib.Path | str, prepared: shards.Shards, about: Sidecar) -> None:
    """Whether shards were made for a model.

    Raises:
        ValueError: their front end or their words are others.
    """
    for what, there, own in (
        ("front end", prepared.frontend, about.frontend),
        ("classes", prepared.task.classes, about.task.classes),
        ("clip_seconds", prepared.task.clip_seconds, about.task.clip_seconds),
    ):
        if there != own:
            raise ValueError(f"--data {data}: was prepared with {what} {there}, the model has {own}; prepare it anew")


def words_of(text: str | None) -> tuple[str, ...] | None:
    """("a", "b") of "a,b"; None of nothing."""
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text else None


def open_recordings(
    console: rich.console.Console, data: Path, speakers: str | None, about: Sidecar | None = None
) -> corpus.Corpus:
    """The corpus of ``--data``; prints its notes.

    Args:
        console: where to.
        data: the option.
        speakers: ``--speakers``; None is the rule that a model was trained with, or "auto".
        about: the sidecar of that model, without which its test clips could not be told from those it was trained on.

    Raises:
        OSError, ValueError: as ``datasets.open_corpus``.
    """
    if shards.is_place(data):
        raise ValueError(f"--data {data}: is prepared already; this takes recordings")
    kept = None if about is None else about.options.get("speakers")
    try:
        clips = datasets.open_corpus(data, speakers or kept or "auto")
    except ValueError as error:
        if speakers or kept in (None, "auto"):
            raise
        raise ValueError(f"{error}. The model was trained with this rule; --speakers names another") from error
    for note in clips.notes:
        console.print(rich.text.Text(f"note: {note}"))
    return clips


def open_task(
    console: rich.console.Console,
    data: Path,
    speakers: str | None,
    keywords: str | None,
    clip_seconds: float,
    context: float = 0.0,
) -> tuple[corpus.Corpus, datasets.TaskConfig, tuple[str, ...]]:
    """What a model is to be trained on: the clips, the task, the held-out splits. Prints notes and the keywords.

    Raises:
        OSError, ValueError: as ``datasets.open_corpus`` and ``datasets.prepare``.
    """
    clips = open_recordings(console, data, speakers)
    clips, task = prepare.prepare(clips, words_of(keywords), clip_seconds, context)
    splits = prepare.eval_splits(clips, task.keywords)
    console.print(rich.text.Text(f"keywords: {', '.join(task.keywords)}"))
    left = sorted({clip.word for clip in clips if clip.kind == "wake"} - set(task.keywords))
    if left and keywords is None:
        console.print(rich.text.Text(f"note: wake words without clips in every split are left out: {', '.join(left)}"))
    return clips, task, splits


def other_class(task: datasets.TaskConfig) -> str:
    """The class of sound that is no keyword.

    Raises:
        ValueError: the task has none.
    """
    for name in (UNKNOWN, SILENCE):
        if name in task.classes:
            return name
    raise ValueError("the recordings have no other words and no noise, so there is no class for what is no keyword")


def keyword_classes(task: datasets.TaskConfig) -> tuple[int, ...]:
    """Places of the keywords among the classes."""
    return tuple(task.classes.index(word) for word in task.keywords)


def speak_confusables(
    keywords: Sequence[str], words: Sequence[str], cache: Path, seed: int, progress=None
) -> corpus.Corpus:
    """Synthetic clips of the keywords and of words like them, in all voices; kept in the cache."""
    from tfmot_kws.data import synthetic

    spoken = corpus.Corpus(())
    for keyword in keywords:
        like = tuple(word for word in words if word not in keywords)
        name = hashlib.sha256(repr((keyword, like, seed)).encode()).hexdigest()[:16]
        made = synthetic.synthesize(
            cache / f"confusables-{name}", keyword, like, clips=1000, seed=seed, progress=progress
        )
        spoken = spoken + made.filter(lambda clip: clip.split == "train" and not clip.is_noise)
    return spoken


def read_long(folder: Path, rate: int, progress=None) -> tuple[list, list[Problem]]:
    """All sound of a folder, and what is wrong with files that are left out.

    Short files are joined to stretches of a minute: float32 [samples] each.

    Raises:
        ValueError: there is no folder or no sound in it.
    """
    import numpy as np

    from tfmot_kws.sound import files as audio

    if not folder.is_dir():
        raise ValueError(f"--mine {folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in audio.EXTENSIONS)
    stretches, parts, problems = [], [], []
    for index, path in enumerate(files):
        try:
            parts.append(audio.read(path, rate))
        except audio.AudioError as error:
            problems.append(Problem(error.path, error.problem, error.detail))
        finally:
            if progress is not None:
                progress(index + 1, len(files))
        if sum(map(len, parts)) >= LONG_SECONDS * rate:
            stretches.append(np.concatenate(parts))
            parts = []
    if parts:
        stretches.append(np.concatenate(parts))
    if not stretches:
        why = f"; the first is {problems[0].path}: {problems[0].problem}: {problems[0].detail}" if problems else ""
        raise ValueError(f"--mine {folder}: no sound in it ({len(files)} files{why})")
    return stretches, problems
