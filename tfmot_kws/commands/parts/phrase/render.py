# SPDX-License-Identifier: Apache-2.0
"""Scenes by the hour, in several processes: features to train on, and streams of sound to choose by and to test on.

A scene depends on its seed and its material alone. What is written does not depend on how many processes write it, and
a run that was killed goes on behind the last whole shard, or the last whole stream.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np

from tfmot_kws import atomic
from tfmot_kws.data import long_features, material_store, scenes, stream_labels
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features
from tfmot_kws.sound import effects
from tfmot_kws.sound import files as audio

Progress = Callable[..., None] | None
"""Called with (done, all) and, of training, what was heard."""
SHARD = 15
"""Scenes of a shard of features."""
WITH, WITHOUT, SPARSE = "with", "without", "sparse"
"""Kinds of scenes: the phrase among talk, talk without it, and a room in which next to nothing is said."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A scene to render.

    Attributes:
        material: the folder.
        config: the ranges.
        seed: of everything drawn.
        effects: what the microphone does to it.
        frontend: features are returned where it is given.
        path: the sound is written there where it is given, as FLAC.
    """

    material: str
    config: scenes.SceneConfig
    seed: tuple[int, ...]
    effects: effects.EffectsConfig | None = None
    frontend: features.FrontendConfig | None = None
    path: str | None = None


Rendered = tuple[np.ndarray | None, tuple[Target, ...]]
"""Features, where they were asked for, and the words."""


def training(kind: str, seconds: float) -> scenes.SceneConfig:
    """Scenes of training: as wide as the recipe has them."""
    return _of_kind(scenes.SceneConfig(seconds=seconds), kind)


def listening(kind: str, seconds: float) -> scenes.SceneConfig:
    """Scenes of selection and test: speech 5 to 20 dB above noise, near the microphone and in rooms.

    The phrase is said after a pause, and a pause follows it; where it is not said, talk is unbroken.

    Words that sound like the phrase are not in them: a rate an hour would be that of one such word in hundreds, which
    says nothing of a room in which next to none is said.
    """
    usual = scenes.SceneConfig(
        seconds=seconds, keywords=0.25, like=0.0, speed=(0.95, 1.05), gain_db=(-3.0, 3.0), rooms=0.3,
        room_seconds=(0.1, 0.5), quiet=0.0, snr_db=(8.0, 17.0), talk=0.1, level_db=(-10.0, 4.0), cut=0.0,
    )  # fmt: skip
    if kind == WITH:
        usual = dataclasses.replace(usual, pause=APART, joined=0.0)
    return _of_kind(usual, kind)


def _of_kind(config: scenes.SceneConfig, kind: str) -> scenes.SceneConfig:
    if kind == WITH:
        return config
    if kind == WITHOUT:
        return dataclasses.replace(config, keywords=0.0)
    return dataclasses.replace(config, keywords=0.0, pause=(2.0, 15.0), snr_db=(-10.0, 10.0), quiet=0.0)


APART = (0.4, 1.6)
"""Seconds between utterances of streams that measure: people pause before they speak to a device, and after it."""
KINDS = (WITH, WITHOUT, WITH, SPARSE, WITH, WITHOUT)
"""A half has the phrase, a sixth is next to quiet."""
MICROPHONES = effects.EffectsConfig(
    eq_probability=0.5, band_probability=0.15, clip_probability=0.05, level_probability=0.1, codec_probability=0.1
)
"""Most devices have a curve of their own; few clip, or send sound through a codec."""
Config = Callable[[str, float], scenes.SceneConfig]
"""Of a kind and a length in seconds."""


def plan(
    material: Path, hours: float, seconds: float, seed: Sequence[int], config: Config, kinds: Sequence[str] = KINDS
) -> list[Job]:
    """Scenes of so many hours, at least one of each kind, kinds by turns."""
    count = max(len(set(kinds)), round(hours * 3600.0 / seconds))
    chosen = list(dict.fromkeys(kinds)) if count < len(kinds) else kinds
    return [Job(str(material), config(chosen[i % len(chosen)], seconds), (*seed, i), MICROPHONES) for i in range(count)]


@functools.lru_cache(maxsize=2)
def _material(folder: str) -> scenes.Material:
    return material_store.read(folder)


def render(job: Job) -> Rendered:
    """Renders one scene."""
    scene = scenes.render(_material(job.material), job.config, job.seed, job.effects)
    if job.path is not None:
        audio.write(job.path, scene.samples, _material(job.material).sample_rate)
    x = None if job.frontend is None else long_features.compact(job.frontend, scene.samples)
    return x, scene.targets


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Workers:
    """Processes that render; use it as a context. With one job, it is this process that does."""

    def __init__(self, jobs: int) -> None:
        self._pool = None
        if jobs > 1:
            # Not by fork: TensorFlow may have been loaded, to read sound, and its threads are not in a fork.
            context = multiprocessing.get_context("spawn")
            self._pool = futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, jobs: Iterable[Job]) -> Iterator[Rendered]:
        """What ``render`` gives of each, in order."""
        return map(render, jobs) if self._pool is None else self._pool.map(render, jobs)


def shards(
    folder: Path, jobs: Sequence[Job], frontend: features.FrontendConfig, workers: Workers, progress: Progress
) -> list[Path]:
    """Features of scenes in folders ``0000``, ``0001`` ... that ``long_features.read`` opens; those there are kept."""
    paths = []
    for first in range(0, len(jobs), SHARD):
        path = folder / f"{first // SHARD:04}"
        paths.append(path)
        if not is_whole(path):
            parts = [dataclasses.replace(job, frontend=frontend) for job in jobs[first : first + SHARD]]
            found = []
            for number, (x, targets) in enumerate(workers.map(parts), 1):
                found.append((x, targets))
                if progress is not None:
                    progress(first + number, len(jobs))
            lengths = np.cumsum([0, *(len(x) for x, _ in found)]).astype(np.int64)
            targets = tuple(words for _, words in found)
            whole = long_features.LongFeatures(np.concatenate([x for x, _ in found]), lengths, targets, frontend)
            long_features.write(path, whole)
    return paths


def is_whole(folder: Path) -> bool:
    """Whether a folder of features was written to its end."""
    return (folder / "about.json").is_file()


def streams(
    folder: Path, named: Sequence[tuple[str, Job]], workers: Workers, progress: Progress
) -> list[tuple[str, tuple[Target, ...]]]:
    """Sound of scenes as ``NAME.flac``; returns the words of each."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [dataclasses.replace(job, path=str(folder / f"{name}.flac")) for name, job in named]
    found = []
    for (name, _), (_, targets) in zip(named, workers.map(jobs)):
        found.append((name, targets))
        if progress is not None:
            progress(len(found), len(named))
    return found


def write_labels(folder: Path, words: Sequence[tuple[str, tuple[Target, ...]]]) -> Path:
    """``streams_labels.csv`` of streams, with who speaks; a stream without words has a line that says so."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["stream", "event", "word", "start", "end", "speaker"])
    for name, targets in words:
        for one in targets:
            table.writerow([name, stream_labels.KEYWORD, one.word, f"{one.start:.4f}", f"{one.end:.4f}", one.speaker])
        if not targets:
            table.writerow([name, "nothing", "", "", "", ""])
    return atomic.write_text(folder / stream_labels.LABELS, text.getvalue())


def features_of(folder: Path, frontend: features.FrontendConfig) -> long_features.LongFeatures:
    """Features of the streams of a folder, with their words."""
    files = stream_labels.sounds(folder)
    table = stream_labels.find(folder)
    words = stream_labels.of_files(files, stream_labels.read(table), table)
    return long_features.of_sound(
        ((audio.read(file, frontend.sample_rate), targets) for file, targets in zip(files, words)), frontend
    )
