# SPDX-License-Identifier: Apache-2.0
"""The arrays that a model is trained on: decoded, cut, augmented, turned into features, cached.

Every example has its own random generator, seeded by the seed, its file and its copy number:
results depend neither on the order of work nor on the number of workers.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmot_kws.data import examples
from tfmot_kws.data.corpus import Corpus
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment as augmentation
from tfmot_kws.sound import files as audio_files

CACHE_VERSION = 2  # raise it whenever the same options give other numbers
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of the files.

    Attributes:
        files: files that took part.
        examples: examples per class name.
        problems: faults found; clipped files are listed and kept.
        cached: whether the features came from the cache.
    """

    files: int
    examples: dict[str, int]
    problems: tuple[audio_files.Problem, ...] = ()
    cached: bool = False

    def counts(self) -> dict[str, int]:
        """How many files have each problem."""
        return dict(sorted(collections.Counter(item.problem for item in self.problems).items()))

    def dropped(self) -> tuple[audio_files.Problem, ...]:
        """The faults of files that were left out."""
        return tuple(item for item in self.problems if item.dropped)

    def summary(self) -> str:
        """One line."""
        examples = ", ".join(f"{name} {count}" for name, count in self.examples.items())
        faults = ", ".join(f"{count} {name}" for name, count in self.counts().items())
        return f"{self.files} files; examples: {examples}; problems: {faults or 'none'}"


@dataclasses.dataclass(frozen=True, repr=False)
class FeatureSet:
    """Features and labels of one split.

    Attributes:
        x: float32 [examples, frames, mel], about 0..26.
        y: int32 [examples], index into ``classes``.
        classes: names of the classes.
        report: what became of the files.
        source: int32 [examples], index into ``paths``.
        paths: the files.
        places: float64 [examples, 2], where in its file an example lies: (second at which it begins, file seconds per
            second of it, other than 1 where it is played at another speed). Below 0 and behind the end there is
            silence. NaN for examples of no file; None if unknown.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    report: LoadReport
    source: np.ndarray
    paths: tuple[str, ...]
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """(frames, mel) of an example."""
        return tuple(self.x.shape[1:])

    @property
    def counts(self) -> np.ndarray:
        """int64 [classes]: examples of each class."""
        return np.bincount(self.y, minlength=len(self.classes)).astype(np.int64)

    def checksum(self) -> int:
        """Tells data apart: the CRC-32 of features and labels."""
        return zlib.crc32(np.ascontiguousarray(self.y), zlib.crc32(np.ascontiguousarray(self.x)))

    def __repr__(self) -> str:
        return f"<FeatureSet: {len(self)} examples of {list(self.x.shape[1:])}, classes {', '.join(self.classes)}>"

    def take(self, index: np.ndarray) -> FeatureSet:
        """Some of the examples.

        Args:
            index: int [n], their numbers.
        """
        counts = np.bincount(self.y[index], minlength=len(self.classes))
        examples = {name: int(count) for name, count in zip(self.classes, counts)}
        places = None if self.places is None else self.places[index]
        report = dataclasses.replace(self.report, examples=examples)
        return dataclasses.replace(
            self, x=self.x[index], y=self.y[index], report=report, source=self.source[index], places=places
        )

    def with_examples(self, x: np.ndarray, label: str, where: str) -> FeatureSet:
        """The same and more examples of one class.

        Args:
            x: features [n, frames, mel].
            label: name of the class.
            where: they come from, for ``paths``.

        Raises:
            ValueError: another shape, or a class that there is not.
        """
        if label not in self.classes:
            raise ValueError(f"label {label!r}: not among the classes {list(self.classes)}")
        if x.shape[1:] != self.x.shape[1:]:
            raise ValueError(f"x: expected [n, {', '.join(map(str, self.x.shape[1:]))}], found {list(x.shape)}")
        y = np.full(len(x), self.classes.index(label), np.int32)
        source = np.full(len(x), len(self.paths), np.int32)
        counts = {**self.report.examples, label: self.report.examples.get(label, 0) + len(x)}
        return FeatureSet(
            np.concatenate([self.x, x.astype(np.float32)]),
            np.concatenate([self.y, y]),
            self.classes,
            dataclasses.replace(self.report, examples=counts),
            np.concatenate([self.source, source]),
            (*self.paths, where),
            None if self.places is None else np.concatenate([self.places, np.full((len(x), 2), np.nan)]),
        )

    def dataset(
        self,
        batch: int = 64,
        shuffle_seed: int | None = None,
        spec_augment: augmentation.AugmentConfig | None = None,
    ) -> Any:
        """A ``tf.data.Dataset`` of (features, labels), the same in every run.

        Args:
            batch: examples per batch; the last may be smaller.
            shuffle_seed: shuffles all examples, in another order every epoch; None keeps order.
            spec_augment: draws SpecAugment masks anew every epoch, seeded by ``shuffle_seed``.

        Returns:
            Batches of (float32 [batch, frames, mel], int32 [batch]).
        """
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices((self.x, self.y))
        if shuffle_seed is not None:
            data = data.shuffle(len(self), seed=shuffle_seed, reshuffle_each_iteration=True)
        if spec_augment is not None:
            shape = self.x.shape[1:]
            # A fresh seed per element and epoch; random() is itself seeded, hence repeatable.
            seeds = tf.data.Dataset.random(seed=shuffle_seed or 0, rerandomize_each_iteration=True)

            def mask(values, seed):
                rng = np.random.default_rng(int(seed))
                return augmentation.spec_augment(values, rng, spec_augment)

            def masked(example, seed):
                values = tf.numpy_function(mask, [example[0], seed], tf.float32)
                return tf.ensure_shape(values, shape), example[1]

            data = tf.data.Dataset.zip((data, seeds)).map(
                masked, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
        return data.batch(batch).prefetch(tf.data.AUTOTUNE)


def _stamp(path: str) -> list:
    try:
        stat = os.stat(path)
    except OSError:
        return [path, None, None]
    return [path, stat.st_size, stat.st_mtime_ns]


def _key(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _noise_arrays(noise: Corpus | Sequence[np.ndarray] | None, split: str, rate: int) -> tuple[list[np.ndarray], list]:
    """The recordings to mix in, and what identifies them for the cache."""
    if noise is None:
        return [], []
    if isinstance(noise, Corpus):
        chosen = [clip for clip in noise if clip.is_noise and clip.split == split]
        arrays, stamps = [], []
        for clip in chosen:
            try:
                arrays.append(audio_files.read(clip.path, rate))
            except audio_files.AudioError:
                continue
            stamps.append(_stamp(clip.path))
        return arrays, stamps
    arrays = [np.asarray(item, np.float32) for item in noise]
    return arrays, [hashlib.sha256(item.tobytes()).hexdigest() for item in arrays]


def load_features(
    corpus: Corpus,
    split: str,
    task: TaskConfig,
    frontend: features.FrontendConfig,
    augment: augmentation.AugmentConfig | None = None,
    copies: int = 1,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    noise: Corpus | Sequence[np.ndarray] | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureSet:
    """Decodes, cuts, augments and turns into features every clip of a split.

    Files that cannot be used are listed in the report and never end the run.

    Args:
        corpus: the clips.
        split: ``train``, ``dev`` or ``test``.
        task: classes and length of an example.
        frontend: how sound becomes features.
        augment: ranges of the augmentation; None changes nothing and cuts at fixed places.
        copies: augmented versions of every example; needs ``augment`` if above 1.
        seed: of cuts and augmentation.
        cache_dir: features are kept here, by a key of everything that matters; None keeps none.
        noise: recordings to mix in: the noise clips of the same split of a corpus, or float32
            arrays at the front end's rate. None mixes white noise.
        workers: threads that decode and augment.
        progress: called with (files done, files in all).

    Returns:
        The features; the same numbers for the same arguments.

    Raises:
        ValueError: ``copies`` makes no sense, the split has no clips or none is usable.
    """
    if copies < 1 or (copies > 1 and augment is None):
        raise ValueError(f"copies={copies!r}: must be 1 or more, and 1 without augmentation (all would be equal)")
    rate = frontend.sample_rate
    chosen = corpus.split(split)
    clips = [(clip, task.label(clip)) for clip in chosen]
    clips = [(clip, label) for clip, label in clips if label is not None]
    if not clips:
        raise ValueError(f"split {split!r}: none of its words takes part in {task.classes}")
    # Without augmentation no noise is mixed in, so none is read.
    noises, noise_key = _noise_arrays(noise, chosen.clips[0].split, rate) if augment else ([], [])
    key = _key(
        [
            CACHE_VERSION,
            [[*_stamp(c.path), c.word, c.start, c.end, label] for c, label in clips],
            [dataclasses.asdict(task), frontend.identity(), copies, seed],
            [augment.to_dict() if augment else None, noise_key],
            ["tensorflow-io" if audio_files.tensorflow_io_works() else "soundfile"],
        ]
    )
    cache = Path(cache_dir) / f"features-{key}.npz" if cache_dir is not None else None
    paths = tuple(clip.path for clip, _ in clips)
    if cache is not None and cache.is_file():
        stored = _from_cache(cache, task.classes, paths)
        if stored is not None:
            return stored

    maker = examples.Maker(task, frontend, augment, copies, seed, noises)
    lead = maker.lead

    blocks, labels, source, places, problems = [], [], [], [], list(chosen.skipped)
    pending: list[np.ndarray] = []
    with concurrent.futures.ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(clips), _BATCH):
            span = range(start, min(start + _BATCH, len(clips)))
            for index, (windows, where, problem) in zip(
                span, pool.map(lambda i: maker(clips[i][0]), span), strict=True
            ):
                problems += [problem] if problem else []
                pending += windows
                places += where
                labels += [clips[index][1]] * len(windows)
                source += [index] * len(windows)
            if pending:
                blocks.append(features.extract(frontend, np.stack(pending))[:, lead // frontend.hop :])
                pending = []
            if progress is not None:
                progress(span.stop, len(clips))
    if not blocks:
        raise ValueError(f"split {split!r}: none of {len(clips)} files is usable: {problems[0]}")
    y = np.asarray(labels, np.int32)
    report = _report(len(clips), y, task.classes, problems, cached=False)
    x, of_files = np.concatenate(blocks), np.asarray(source, np.int32)
    result = FeatureSet(x, y, task.classes, report, of_files, paths, np.asarray(places, np.float64))
    if cache is not None:
        _to_cache(cache, result)
    return result


def _report(
    files: int,
    y: np.ndarray,
    classes: tuple[str, ...],
    problems: Sequence[audio_files.Problem],
    cached: bool,
) -> LoadReport:
    counts = np.bincount(y, minlength=len(classes))
    examples = {name: int(count) for name, count in zip(classes, counts, strict=True)}
    return LoadReport(files, examples, tuple(problems), cached)


def _to_cache(path: Path, result: FeatureSet) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    problems = json.dumps([dataclasses.asdict(item) for item in result.report.problems])
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".features.", suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, x=result.x, y=result.y, source=result.source, places=result.places, problems=problems)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _from_cache(path: Path, classes: tuple[str, ...], paths: tuple[str, ...]) -> FeatureSet | None:
    """None where the file is damaged or of a version without places; it is then made again."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            x, y, source, places = (stored[name] for name in ("x", "y", "source", "places"))
            problems = [audio_files.Problem(**item) for item in json.loads(str(stored["problems"]))]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return None
    report = _report(len(paths), y, classes, problems, cached=True)
    return FeatureSet(x, y, classes, report, source, paths, places)
