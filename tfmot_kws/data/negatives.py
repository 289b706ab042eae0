# SPDX-License-Identifier: Apache-2.0
"""Hours of sound without the keyword, as features on disk: sound files of any kind, or features that are ready.

Sound is read in blocks and features are written as they come, so that a hundred hours need no more memory than one.
They are kept in a cache by what made them; a run that was killed goes on with the file at which it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmot_kws.data import feature_writer, long_features, spectrograms, stream_labels
from tfmot_kws.data.feature_writer import FeatureWriter
from tfmot_kws.data.long_features import LongFeatures
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment, codecs, effects, files, stream
from tfmot_kws.sound.problems import AudioError, Problem

STRETCH_SECONDS = 60.0
"""Files up to this long are joined until they are so long together; longer ones are recordings of their own."""
_VERSION = 1  # raise it whenever the same options give other numbers
_BLOCK_SECONDS = 10.0
_LEVELS = 2
_LATE_SECONDS = 0.1
"""By which a word may end behind the last sample: tables of words round."""


@dataclasses.dataclass(frozen=True)
class NegativeConfig:
    """How much is taken of sound files, and what is done to it.

    Attributes:
        hours: at most so many of each pass over all sound files, and of each folder of ready features; None takes all.
            Files then come in an order drawn from ``seed``, so that every folder has its share.
        passes: how often all files are gone through.
        effects: what the microphone does, drawn anew for each file and pass; None does nothing.
        noise_probability: share of the files of a pass that get noise, where noises are given, 0..1.
        snr_db: (lowest, highest) ratio of their sound to that noise, minute by minute, in dB.
        split: which folders of microWakeWord's spectrograms are opened.
        hop_ms: from frame to frame of these spectrograms; nothing in them says it. Published ones have 10.
        seed: of everything that is drawn.

    Raises:
        ValueError: an option is outside of what is allowed; the message names it.
    """

    hours: float | None = None
    passes: int = 1
    effects: effects.EffectsConfig | None = None
    noise_probability: float = 0.5
    snr_db: tuple[float, float] = (5.0, 25.0)
    split: str = "training"
    hop_ms: int = spectrograms.HOP_MS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hours is not None and not 0.0 < self.hours <= 1e6:
            raise ValueError(f"NegativeConfig.hours={self.hours!r}: must be above 0, or None for all")
        if isinstance(self.passes, bool) or not isinstance(self.passes, int) or not 1 <= self.passes <= 1000:
            raise ValueError(f"NegativeConfig.passes={self.passes!r}: must be a whole number from 1 to 1000")
        if not 0.0 <= self.noise_probability <= 1.0:
            raise ValueError(f"NegativeConfig.noise_probability={self.noise_probability!r}: must be between 0 and 1")
        if len(self.snr_db) != 2 or not -60.0 <= self.snr_db[0] <= self.snr_db[1] <= 120.0:
            raise ValueError(f"NegativeConfig.snr_db={self.snr_db!r}: must be two rising numbers between -60 and 120")
        if self.split not in spectrograms.SPLITS:
            raise ValueError(f"NegativeConfig.split={self.split!r}: must be one of {spectrograms.SPLITS}")
        if self.hop_ms not in features.HOPS_MS:
            raise ValueError(f"NegativeConfig.hop_ms={self.hop_ms!r}: must be one of {features.HOPS_MS}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"NegativeConfig.seed={self.seed!r}: must be a whole number, 0 or more")


@dataclasses.dataclass(frozen=True, repr=False)
class Negatives:
    """What was found.

    Attributes:
        sounds: features on disk: of all sound files together, then of each folder of ready features.
        problems: sound files that are left out, and why.
    """

    sounds: tuple[LongFeatures, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def hours(self) -> float:
        """How long they are together."""
        return sum(sound.hours for sound in self.sounds)

    def __repr__(self) -> str:
        return f"<Negatives: {self.hours:.2f} hours in {len(self.sounds)} parts, {len(self.problems)} files left out>"


@dataclasses.dataclass(frozen=True)
class _File:
    """A sound file, and the words that a table says are in it; None where no table names it."""

    path: Path
    words: tuple[Target, ...] | None


def gather(
    folders: Sequence[str | os.PathLike],
    frontend: features.FrontendConfig,
    cache: str | os.PathLike,
    config: NegativeConfig | None = None,
    noises: Sequence[np.ndarray] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Negatives:
    """Opens, or makes, the features of all that lies in folders.

    A folder may hold

    - sound files that ``sound.files`` reads, at any depth: those of up to a minute are joined by path to stretches of a
      minute, longer ones are recordings of their own, heard from a reset of the front end on. Where a
      ``streams_labels.csv`` in a folder above them, up to two above the one given, names them, their words are
      targets, and each is a recording of its own;
    - spectrograms as microWakeWord publishes them (``spectrograms``);
    - features that ``long_features.write`` wrote, or this function.

    Ready features are opened where they lie and must be of this front end.

    Args:
        folders: folders, or single sound files.
        frontend: of the model.
        cache: where features of sound files are kept, about 30 MB an hour at 40 bands and 10 ms.
        config: how much is taken; its defaults where None.
        noises: recordings at the front end's rate that are mixed in, int16 or float [any length] each.
        progress: called with (files done, files in all), counting each pass.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: there is nothing in a folder, ready features are of another front end or damaged, no sound file can
            be read, tables do not fit the files, or an option does nothing.
    """
    config = config or NegativeConfig()
    if isinstance(folders, (str, os.PathLike)):
        raise ValueError(f"gather: folders={folders!r}: must be a list of folders")
    changes = config.effects is not None or (len(noises) > 0 and config.noise_probability > 0.0)
    if config.passes > 1 and not changes:
        raise ValueError(
            f"NegativeConfig.passes={config.passes}: without effects or noises every pass gives the same; give some, "
            "or make one pass"
        )
    if config.effects is not None:  # a codec that is not here is an error before any work
        effects.apply(np.zeros(1, np.float32), np.random.default_rng(0), config.effects, frontend.sample_rate)
    sounds, ready = [], []
    for folder in map(Path, folders):
        found_files, found_ready = _look(folder, frontend, config, Path(cache))
        sounds += found_files
        ready += found_ready
    made, problems = [], ()
    if sounds:
        made, problems = _of_files(_once(sounds), frontend, Path(cache), config, tuple(noises), progress)
    return Negatives((*made, *(_first_hours(sound, config.hours) for sound in ready)), problems)


def _look(
    folder: Path, frontend: features.FrontendConfig, config: NegativeConfig, cache: Path
) -> tuple[list[_File], list[LongFeatures]]:
    """The sound files and the ready features of a folder."""
    if folder.is_file() and folder.suffix.lower() in files.EXTENSIONS:
        return _with_words(folder.parent, [folder]), []
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of sound or features")
    inside = sorted(folder.rglob("*"))
    paths = [path for path in inside if path.suffix.lower() in files.EXTENSIONS and path.is_file()]
    paths = [path for path in paths if not path.name.startswith(".")]
    kept = [path.parent for path in inside if path.name == long_features.ABOUT]
    kept = [path for path in kept if (path / long_features.FEATURES).is_file()]
    # A cache that lies in the folder is what comes of its sound, and would count twice.
    kept = [path for path in kept if path == folder or cache.resolve() not in path.resolve().parents]
    parts = spectrograms.of_split(folder, config.split)
    if not paths and not parts and not kept:
        raise ValueError(
            f"{folder}: holds no sound ({', '.join(files.EXTENSIONS)}), no spectrograms (folders *_mmap) and no "
            f"features ({long_features.ABOUT} and {long_features.FEATURES})"
        )
    opened = [_read_ready(path, frontend) for path in kept]
    opened += [spectrograms.open_folder(part, frontend, config.hop_ms) for part in parts]
    return _with_words(folder, paths), opened


def _read_ready(folder: Path, frontend: features.FrontendConfig) -> LongFeatures:
    found = long_features.read(folder)
    mine, theirs = frontend.to_dict(), found.frontend.to_dict()
    other = [f"{name}={theirs[name]!r} (the model's: {mine[name]!r})" for name in mine if mine[name] != theirs[name]]
    if other:
        raise ValueError(f"{folder}: made by another front end: {', '.join(other)}; make features of the sound anew")
    return found


def _with_words(root: Path, paths: Sequence[Path]) -> list[_File]:
    """Files with the words that the nearest table above them has for them.

    Raises:
        ValueError: a table is damaged, or has one name for two files.
    """
    root = Path(os.path.abspath(root))
    highest = [root, *root.parents][: _LEVELS + 1]
    tables: dict[Path, dict[str, tuple[Target, ...]]] = {}
    named: dict[tuple[Path, str], Path] = {}
    found = []
    for path in paths:
        above = Path(os.path.abspath(path)).parents
        places = [place for place in above if place in highest or root in place.parents]
        place = next((place for place in places if (place / stream_labels.LABELS).is_file()), None)
        words = None
        if place is not None:
            if place not in tables:
                tables[place] = stream_labels.read(place / stream_labels.LABELS)
            words = tables[place].get(path.stem)
        if words is not None and place is not None:
            other = named.setdefault((place, path.stem), path)
            if other != path:
                raise ValueError(
                    f"{place / stream_labels.LABELS}: knows streams by name, and {other} and {path} have the same; "
                    "rename one"
                )
        found.append(_File(path, words))
    return found


def _once(found: Sequence[_File]) -> list[_File]:
    """Without files that were named twice, by folders in each other."""
    return list({os.path.realpath(file.path): file for file in found}.values())


def _first_hours(found: LongFeatures, hours: float | None) -> LongFeatures:
    """The beginning of ready features, not copied; words that are cut are left out."""
    if hours is None or found.hours <= hours:
        return found
    frames = int(hours * 3.6e6 / found.frontend.hop_ms)
    pieces = int(np.searchsorted(found.first[:-1], frames))
    first = np.append(found.first[:pieces], frames)
    last = (frames - first[-2]) * found.frontend.hop_ms / 1000.0 if pieces else 0.0
    targets = list(found.targets[:pieces])
    if targets:
        targets[-1] = tuple(target for target in targets[-1] if target.end <= last)
    return LongFeatures(found.x[:frames], first, tuple(targets), found.frontend)


def _of_files(
    found: Sequence[_File],
    frontend: features.FrontendConfig,
    cache: Path,
    config: NegativeConfig,
    noises: Sequence[np.ndarray],
    progress: Callable[[int, int], None] | None,
) -> tuple[list[LongFeatures], tuple[Problem, ...]]:
    """Features of sound files, from the cache or made."""
    noises = [_as_float(noise) for noise in noises]
    folder = cache / f"negatives-{_key(found, frontend, config, noises)}"
    total = config.passes * len(found)
    if (folder / long_features.ABOUT).is_file():
        opened = long_features.read(folder)
        if progress is not None:
            progress(total, total)
    else:
        with FeatureWriter(folder, frontend) as writer:
            for number in range(config.passes):
                _Pass(found, frontend, config, noises, number, writer).run(progress)
            if not any(entry.frames for entry in writer.entries):
                shutil.rmtree(folder)
                left = [entry.problem for entry in writer.entries if entry.problem is not None]
                why = (
                    f"; the first is {left[0].path}: {left[0].problem}: {left[0].detail}"
                    if left
                    else (f"; they are shorter than a window of {frontend.window_ms} ms")
                )
                raise ValueError(f"{found[0].path.parent}: no sound in {len(found)} files{why}")
            opened = writer.finish()
    return [opened], tuple({problem.path: problem for problem in feature_writer.problems(folder)}.values())


def _as_float(noise: np.ndarray) -> np.ndarray:
    noise = np.asarray(noise)
    if noise.ndim != 1 or not len(noise) or not (noise.dtype == np.int16 or np.issubdtype(noise.dtype, np.floating)):
        raise ValueError(f"noises: each must be int16 or float [samples], found {noise.dtype} {list(noise.shape)}")
    return noise.astype(np.float32) / np.float32(32768.0) if noise.dtype == np.int16 else noise.astype(np.float32)


def _key(
    found: Sequence[_File], frontend: features.FrontendConfig, config: NegativeConfig, noises: Sequence[np.ndarray]
) -> str:
    """Of everything that the numbers depend on; a file by its name, size and time."""

    def about(file: _File) -> list[Any]:
        status = file.path.stat()
        words = None if file.words is None else [dataclasses.astuple(word) for word in file.words]
        return [os.path.realpath(file.path), status.st_size, status.st_mtime_ns, words]

    # What cannot be read today may be read once ffmpeg is there; codecs that are not named are those that are there.
    programs: list[Any] = [shutil.which("ffmpeg") is not None]
    if config.effects is not None and config.effects.codec_probability > 0.0 and config.effects.codecs is None:
        programs += codecs.codecs_here(frontend.sample_rate)
    options = dataclasses.asdict(config)
    for name in ("split", "hop_ms"):
        del options[name]
    text = json.dumps(
        [_VERSION, frontend.identity(), options, programs, [about(file) for file in found],
         [hashlib.sha256(noise.tobytes()).hexdigest() for noise in noises]],
        sort_keys=True,
    )  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Pass:
    """All files once."""

    def __init__(
        self,
        found: Sequence[_File],
        frontend: features.FrontendConfig,
        config: NegativeConfig,
        noises: Sequence[np.ndarray],
        number: int,
        writer: FeatureWriter,
    ) -> None:
        self._files, self._frontend, self._config, self._noises = found, frontend, config, noises
        self._number, self._writer = number, writer
        self._size = int(STRETCH_SECONDS * frontend.sample_rate)
        limit = config.hours and max(1, round(config.hours * 3600.0 * frontend.sample_rate))
        self._most = limit or (1 << 62)
        mine = range(number * len(found), (number + 1) * len(found))
        entries = [entry for entry in writer.entries if entry.sources[0] in mine]
        self._done = {source for entry in entries for source in entry.sources}
        self._taken = sum(entry.samples for entry in entries)
        self._new_stretch()

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        """Adds recordings until the files or the hours end."""
        count = len(self._files)
        order = np.arange(count)
        if self._config.hours is not None:
            np.random.default_rng([self._config.seed, self._number]).shuffle(order)
        for place, index in enumerate(order):
            if self._taken >= self._most:
                break
            source = self._number * count + int(index)
            if source not in self._done:
                try:
                    self._add(source, self._files[index])
                except AudioError as error:
                    self._writer.leave_out(source, Problem(error.path, error.problem, error.detail))
            if progress is not None:
                progress(self._number * count + place + 1, self._config.passes * count)
        self._close_stretch()
        if progress is not None:
            progress((self._number + 1) * count, self._config.passes * count)

    def _add(self, source: int, file: _File) -> None:
        minutes = _minutes(file.path, self._frontend.sample_rate, self._size)
        first = next(minutes)
        second = next(minutes, None)
        if second is None and file.words is None:
            if not np.any(first):
                raise AudioError(file.path, "empty", f"{len(first)} samples, all of them zero")
            self._join(source, self._change(first, source, 0))
            return
        rest = [first] if second is None else [first, second]
        before = self._taken
        try:
            words = list(file.words or ())
            blocks = self._heard(itertools.chain(rest, minutes), source, file, words)
            self._writer.write((source,), blocks, words)
        except AudioError:
            self._taken = before
            raise

    def _join(self, source: int, samples: np.ndarray) -> None:
        """Adds a short file to the stretch."""
        samples = samples[: self._most - self._taken]
        self._taken += len(samples)
        self._sources.append(source)
        self._blocks.append((len(samples), self._stream.step_compact(samples)))
        if sum(count for count, _ in self._blocks) >= self._size:
            self._close_stretch()

    def _close_stretch(self) -> None:
        if self._sources:
            self._writer.write(self._sources, self._blocks)
        self._new_stretch()

    def _new_stretch(self) -> None:
        self._sources: list[int] = []
        self._blocks: list[tuple[int, np.ndarray]] = []
        self._stream = features.FrontendStream(self._frontend)

    def _heard(
        self, minutes: Iterable[np.ndarray], source: int, file: _File, words: list[Target]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Features of a recording of its own, minute by minute; takes words out that are cut by the limit in hours."""
        heard, samples, sound = features.FrontendStream(self._frontend), 0, False
        for number, minute in enumerate(minutes):
            minute = minute[: self._most - self._taken]
            sound = sound or bool(np.any(minute))
            samples += len(minute)
            self._taken += len(minute)
            yield len(minute), heard.step_compact(self._change(minute, source, number))
            if self._taken >= self._most:
                words[:] = [word for word in words if word.end <= samples / self._frontend.sample_rate]
                return
        if not sound:
            raise AudioError(file.path, "empty", f"{samples} samples, all of them zero")
        seconds = samples / self._frontend.sample_rate
        late = [word for word in words if word.end > seconds + _LATE_SECONDS]
        if late:
            detail = f"{seconds:.3f} s, and {stream_labels.LABELS} has {late[0].word!r} up to {late[0].end:.3f} s"
            raise AudioError(file.path, "too short", detail)

    def _change(self, samples: np.ndarray, source: int, minute: int) -> np.ndarray:
        """Noise, then the microphone: one for a file and pass, whose draws do not depend on the sound."""
        config = self._config
        if len(samples) and self._noises:
            rng = np.random.default_rng([config.seed, source, 1])
            if rng.random() < config.noise_probability:
                noise = self._noises[int(rng.integers(len(self._noises)))]
                rng = np.random.default_rng([config.seed, source, 1, minute])
                taken = augment.take_noise(noise, len(samples), rng)
                samples = np.clip(augment.add_noise(samples, taken, float(rng.uniform(*config.snr_db))), -1.0, 1.0)
        if len(samples) and config.effects is not None:
            rng = np.random.default_rng([config.seed, source, 2])
            samples = effects.apply(samples, rng, config.effects, self._frontend.sample_rate)
        return samples


def _minutes(path: Path, rate: int, size: int) -> Iterator[np.ndarray]:
    """A file in parts of ``size`` samples and a rest, which may be empty: float32 each."""
    parts: list[np.ndarray] = []
    for block in stream.read_file(path, rate, _BLOCK_SECONDS):
        parts.append(block)
        if sum(map(len, parts)) >= size:
            whole = np.concatenate(parts)
            while len(whole) >= size:
                yield whole[:size]
                whole = whole[size:]
            parts = [whole.copy()]
    yield np.concatenate(parts or [np.zeros(0, np.float32)])
