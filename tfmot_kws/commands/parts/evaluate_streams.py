# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws evaluate --streams`` and ``--negatives``: a model and a detector on long recordings."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence

import numpy as np

from tflite_export.runtimes import interpreter
from tfmot_kws.commands.parts import esphome_manifest, sidecar, stream_runners, thresholds
from tfmot_kws.commands.parts.console import Advance, Phases
from tfmot_kws.data import stream_labels
from tfmot_kws.evaluation import detector
from tfmot_kws.evaluation import streams as stream_evaluate
from tfmot_kws.evaluation.detector import DetectorConfig
from tfmot_kws.evaluation.streams import Stream, StreamEvaluation
from tfmot_kws.frontend import features
from tfmot_kws.sound import files as audio
from tfmot_kws.sound.problems import Problem

JOINED_SECONDS = 60.0
"""Recordings without keywords are joined to streams of at least this length: a clip alone ends before a model of one
second and its smoothing have heard much of it."""
_TOGETHER = 16000 * 600


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command is asked for; the command's help says what each is.

    Raises:
        ValueError: an option is outside of what is allowed; the message names it.
    """

    streams: pathlib.Path | None
    negatives: pathlib.Path | None
    smooth: float | None = None
    refractory: float | None = None
    tolerance: float = 1.0
    fa_per_hour: float = 0.5
    threshold: str | None = None
    hop: int = 2
    scores: str = "auto"
    compare: tuple[pathlib.Path, ...] = ()
    report: pathlib.Path | None = None

    def __post_init__(self) -> None:
        for name in ("tolerance", "fa_per_hour"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"--{name.replace('_', '-')} {value}: must be 0 or more")
        if self.scores not in ("auto", *detector.MODES):
            raise ValueError(f"--scores {self.scores}: must be one of auto, {', '.join(detector.MODES)}")
        if self.hop < 1:
            raise ValueError(f"--hop {self.hop}: must be 1 frame or more")


@dataclasses.dataclass(frozen=True)
class Recording:
    """Sound as the model hears it: a stream with its targets, or several recordings without any, joined.

    Attributes:
        name: of the stream; no two have the same.
        samples: float32 [samples]; None where they were heard and not kept.
        targets: the words in it.
        files: where each file in it begins, in seconds, and its path; in order, at least one.
        length: how many samples it has.
    """

    name: str
    samples: np.ndarray | None
    targets: tuple[stream_labels.Target, ...] = ()
    files: tuple[tuple[float, pathlib.Path], ...] = ()
    length: int = -1

    def __post_init__(self) -> None:
        if self.samples is not None:
            object.__setattr__(self, "length", len(self.samples))

    def where(self, time: float) -> tuple[pathlib.Path, float]:
        """The file that is heard at a time, in seconds, and the time in that file."""
        start, path = max((one for one in self.files if one[0] <= time), default=self.files[0])
        return path, time - start


@dataclasses.dataclass(frozen=True)
class Sound:
    """All recordings of an evaluation, at ``rate`` samples per second, and the files that gave no sound."""

    recordings: tuple[Recording, ...]
    rate: int
    skipped: tuple[Problem, ...] = ()

    @property
    def seconds(self) -> float:
        """How long they are together."""
        return sum(one.length for one in self.recordings) / self.rate


@dataclasses.dataclass(frozen=True)
class Measured:
    """A finished evaluation.

    Attributes:
        evaluation: what was found.
        chosen: what was asked for.
        sound: the recordings.
        frontend: how they became features.
        heard: features of each recording, float32 [frames, mel].
        streams: what the model says of each.
        spent: seconds for features, model and detector.
    """

    evaluation: StreamEvaluation
    chosen: thresholds.Chosen
    sound: Sound
    frontend: features.FrontendConfig
    heard: tuple[np.ndarray, ...]
    streams: tuple[Stream, ...]
    spent: float


def _read_streams(folder: pathlib.Path, rate: int, advance: Advance) -> list[Recording]:
    files = stream_labels.sounds(folder)
    path = stream_labels.find(folder)
    targets = stream_labels.of_files(files, stream_labels.read(path), path)
    recordings = []
    for index, (file, words) in enumerate(zip(files, targets)):
        samples = audio.read(file, rate)
        if words and words[-1].end > len(samples) / rate + 0.5:
            raise ValueError(
                f"{path}: a word of {file.stem} ends at {words[-1].end} s, {file} at {len(samples) / rate} s"
            )
        recordings.append(Recording(file.stem, samples, words, ((0.0, file),)))
        advance(index + 1, len(files))
    return recordings


def _read_negatives(folder: pathlib.Path, rate: int, advance: Advance) -> tuple[list[Recording], list[Problem]]:
    """Joined recordings, and the files that gave no sound."""
    files = stream_labels.sounds(folder)
    heard, skipped = [], []
    for index, file in enumerate(files):
        try:
            heard.append((file, audio.read(file, rate)))
        except audio.AudioError as error:
            skipped.append(Problem(error.path, error.problem, error.detail))
        advance(index + 1, len(files))
    recordings = []
    for number, own in enumerate(join_negatives([len(samples) for _, samples in heard], rate), 1):
        parts = [heard[i][1] for i in own]
        begun = np.cumsum([0, *map(len, parts)])[:-1] / rate
        where = tuple(zip(begun.tolist(), (heard[i][0] for i in own)))
        recordings.append(Recording(f"negatives {number}", np.concatenate(parts), files=where))
    if not recordings:
        raise ValueError(
            f"--negatives {folder}: none of {len(files)} recordings can be read; the first is {skipped[0].path}: "
            f"{skipped[0].problem}: {skipped[0].detail}"
        )
    return recordings, skipped


def join_negatives(lengths: Sequence[int], rate: int) -> list[list[int]]:
    """Numbers of the files of each recording of ``--negatives``, by how many samples they have."""
    joined: list[list[int]] = []
    samples = 0
    for index, length in enumerate(lengths):
        if not joined or samples >= JOINED_SECONDS * rate:
            joined.append([])
            samples = 0
        joined[-1].append(index)
        samples += length
    return joined


def features_of(
    recordings: Sequence[Recording], frontend: features.FrontendConfig, advance: Advance
) -> list[np.ndarray]:
    """float32 [frames, mel] of each. The front end looks back only, so silence behind a recording changes nothing."""
    lengths = [len(recording.samples) for recording in recordings]
    found: dict[int, np.ndarray] = {}
    for group in stream_runners.batches(lengths, _TOGETHER):
        padded = np.zeros((len(group), max(lengths[i] for i in group)), np.float32)
        for row, index in zip(padded, group):
            row[: lengths[index]] = recordings[index].samples
        for index, values in zip(group, features.extract(frontend, padded)):
            found[index] = values[: frontend.num_frames(lengths[index])]
        advance(len(found), len(recordings))
    return [found[index] for index in range(len(recordings))]


@dataclasses.dataclass(frozen=True)
class Other:
    """A model of ``--compare``, ready to run."""

    path: pathlib.Path
    runner: stream_runners.StreamRunner


def compared(model: pathlib.Path, others: Sequence[pathlib.Path], runtime: str | None, hop: int) -> dict[str, Other]:
    """The models of ``--compare`` by the name that pictures and tables give them, opened before any work is done.

    Args:
        model: the one that is evaluated.
        others: the ones beside it.
        runtime: of .tflite files; None is what is installed.
        hop: frames between two runs of a model that is not a streaming one.

    Raises:
        ValueError: a file of another kind, one given twice, one of other words, one that hears another sample rate, or
            one that cannot be run.
        FileNotFoundError: there is no such model.
    """
    paths = [model, *others]
    about = sidecar.read(model)
    for number, other in enumerate(others, 1):
        if other.suffix not in (".keras", ".tflite"):
            raise ValueError(f"--compare {other}: must end in .keras or .tflite")
        if other.resolve() in [path.resolve() for path in paths[:number]]:
            raise ValueError(f"--compare {other}: this model is given twice")
        found = sidecar.read(other)
        lacking = sorted(set(about.task.keywords) - set(found.task.keywords))
        if lacking:
            raise ValueError(
                f"--compare {other}: spots {', '.join(found.task.keywords)}, and not {', '.join(lacking)}, which "
                f"{model.name} spots; models compare on the same words"
            )
        if found.frontend.sample_rate != about.frontend.sample_rate:
            raise ValueError(
                f"--compare {other}: hears {found.frontend.sample_rate} samples a second, {model.name} "
                f"{about.frontend.sample_rate}; models compare on the same sound"
            )
    names = [path.name for path in paths]
    found = {}
    for path in others:
        where = runtime if path.suffix == ".keras" or runtime is not None else interpreter.default_runtime()
        runner = stream_runners.open_runner(path, sidecar.read(path), where, hop)
        found[str(path) if names.count(path.name) > 1 else path.name] = Other(path, runner)
    return found


def measure_others(
    others: Mapping[str, Other], options: Options, phases: Phases, measured: Measured
) -> dict[str, StreamEvaluation]:
    """Other models on the same sound: the same words and times, each at its own threshold for the rate asked for."""
    own = dataclasses.replace(options, threshold=None, scores="auto", compare=(), report=None)
    own = dataclasses.replace(own, smooth=measured.chosen.smooth, refractory=measured.chosen.refractory)
    words = measured.evaluation.words
    return {
        name: measure(other.path, other.runner, own, phases, measured.sound, words).evaluation
        for name, other in others.items()
    }


def listen(options: Options, rate: int, phases: Phases) -> Sound:
    """Reads the recordings that are asked for."""
    recordings, skipped = [], []
    if options.streams is not None:
        with phases.phase("streams") as advance:
            recordings += _read_streams(options.streams, rate, advance)
    if options.negatives is not None:
        with phases.phase("negatives") as advance:
            more, skipped = _read_negatives(options.negatives, rate, advance)
            recordings += more
    return Sound(tuple(recordings), rate, tuple(skipped))


def measure(
    model: pathlib.Path,
    runner: stream_runners.StreamRunner,
    options: Options,
    phases: Phases,
    sound: Sound | None = None,
    words: Sequence[str] | None = None,
) -> Measured:
    """Reads, runs and evaluates.

    Args:
        model: the file.
        runner: runs it.
        options: what is asked for.
        phases: told of the progress.
        sound: recordings that were read before; None reads them.
        words: the keywords to listen for; None is all that the model knows.
    """
    of = "" if words is None else f" of {model.name}"
    about = sidecar.read(model)
    words = about.task.keywords if words is None else tuple(words)
    chosen = thresholds.choose(options.threshold, options.smooth, options.refractory, words)
    if sound is None:
        sound = listen(options, about.frontend.sample_rate, phases)
    recordings = sound.recordings
    start = time.perf_counter()
    with phases.phase(f"features{of}") as advance:
        heard = features_of(recordings, about.frontend, advance)
    outputs = []
    with phases.phase(f"model{of}") as advance:
        for index, values in enumerate(heard):
            outputs.append(runner(values))
            advance(index + 1, len(heard))
    numbers, scale, zero_point = stream_runners.on_one_grid([out.values for out in outputs], runner.grid)
    mode = options.scores
    one = numbers[0].shape[1] == 1 and len(about.task.keywords) == 1  # a file that gives the probability of one keyword
    if mode == "auto" and one:
        mode = "value"
    elif mode == "auto":
        mode = "value" if stream_runners.are_posteriors(numbers, scale, zero_point) else "margin"
    chosen.check_mode(mode)
    step_seconds = runner.hop * about.frontend.hop_ms / 1000.0
    config = detector_of(about, words, chosen, one, mode, step_seconds, scale, zero_point)
    streams = [
        Stream(recording.name, values, known_at(out.frames, about.frontend), recording.targets)
        for recording, values, out in zip(recordings, numbers, outputs)
    ]
    with phases.phase(f"detector at every threshold{of}") as advance:
        evaluation = stream_evaluate.evaluate(
            streams,
            config,
            words,
            step_seconds,
            tolerance=options.tolerance,
            fa_per_hour=options.fa_per_hour if options.threshold is None else None,
            told=told_sums(about, one, config),
            progress=advance,
        )
    spent = time.perf_counter() - start
    return Measured(evaluation, chosen, sound, about.frontend, tuple(heard), tuple(streams), spent)


def detector_of(
    about: sidecar.Sidecar, words: Sequence[str], chosen: thresholds.Chosen, one: bool, mode: str, step_seconds: float,
    scale: float, zero_point: int,
) -> DetectorConfig:  # fmt: skip
    """The detector of a model's outputs; ``one``: it gives the probability of one keyword and nothing else."""
    return DetectorConfig.in_seconds(
        step_seconds,
        chosen.smooth,
        chosen.refractory,
        classes=1 if one else len(about.task.classes),
        keywords=(0,) if one else tuple(about.task.classes.index(word) for word in words),
        thresholds=0.0 if chosen.values is None else chosen.values,
        mode=mode,
        scale=scale,
        zero_point=zero_point,
    )


def told_sums(about: sidecar.Sidecar, one: bool, config: DetectorConfig) -> Sequence[int] | None:
    """The only sums that ESPHome can have as a threshold; one between them would be rounded on the device."""
    return esphome_manifest.sums(config.smooth) if one and about.options.get("for") == "esphome" else None


def known_at(frames: np.ndarray, frontend: features.FrontendConfig) -> np.ndarray:
    """Seconds from the start of the sound to the end of the last of so many frames."""
    return (frontend.window + (frames - 1) * frontend.hop) / frontend.sample_rate
