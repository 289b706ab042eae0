# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws evaluate --streams`` of more hours than memory holds, or by several workers, to the same numbers.

Recordings go through the model in groups of half an hour. What it says of each is kept in a folder, under a name that
is a checksum of all that it depends on: what was killed goes on, and other thresholds need no model. The counts of
groups are added (``stream_parts``). Memory is bounded by a group, or by the longest recording.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tflite_export.runtimes import interpreter
from tfmot_kws import parallel
from tfmot_kws.commands.parts import evaluate_streams, sidecar, stream_runners, thresholds
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.commands.parts.evaluate_streams import Measured, Options, Recording, Sound
from tfmot_kws.data import places, stream_labels
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.evaluation import mlperf, stream_parts, streams
from tfmot_kws.evaluation.stream_results import Found, Missed, Stream
from tfmot_kws.sound import files as audio
from tfmot_kws.sound.problems import Problem

GROUP_SECONDS = 1800.0
_SLOW, _FEW = ("lengths", "model"), 32
_FILES = 64
"""Files whose lengths are looked at by one call."""


@dataclasses.dataclass(frozen=True)
class How:
    """Who does the work.

    Attributes:
        workers: processes of this machine.
        beam: options of a Beam runner instead.
        work: folder or address that keeps what is found on the way; None keeps nothing.
    """

    workers: int = 1
    beam: tuple[str, ...] = ()
    work: str | None = None

    @property
    def in_memory(self) -> bool:
        """Whether nothing of this is asked for."""
        return self.workers == 1 and not self.beam and self.work is None


@dataclasses.dataclass(frozen=True)
class Job:
    """A step over one group of recordings.

    Attributes:
        file: where its result goes.
        payload: what the step needs, apart from files.
    """

    file: str
    payload: dict[str, Any]


def _store(job: Job, about: Any, **arrays: np.ndarray) -> None:
    out = io.BytesIO()
    np.savez(out, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    places.write_bytes(job.file, out.getvalue())


def _load(file: str) -> tuple[Any, dict[str, np.ndarray]]:
    with np.load(io.BytesIO(places.read_bytes(file)), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return json.loads(arrays.pop("about").tobytes()), arrays


@dataclasses.dataclass(frozen=True)
class _Heard:
    """A recording that is to be heard: its name, its files, the words in it."""

    name: str
    files: tuple[str, ...]
    targets: tuple[Target, ...]


def _lengths(job: Job) -> None:
    """How many samples the files of a group give, or what is wrong with them."""
    found = []
    for path in job.payload["files"]:
        try:
            found.append([path, len(audio.read(path, job.payload["rate"])), None])
        except audio.AudioError as error:
            found.append([path, 0, dataclasses.asdict(Problem(error.path, error.problem, error.detail))])
    _store(job, found)


@functools.lru_cache(maxsize=1)
def _runner(model: str, runtime: str | None, hop: int) -> stream_runners.StreamRunner:
    path = pathlib.Path(model)
    return stream_runners.open_runner(path, sidecar.read(path), runtime, hop)


def _read(one: _Heard, rate: int) -> Recording:
    parts = [audio.read(path, rate) for path in one.files]
    begun = np.cumsum([0, *map(len, parts)])[:-1] / rate
    files = tuple(zip(begun.tolist(), map(pathlib.Path, one.files)))
    samples = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if one.targets and one.targets[-1].end > len(samples) / rate + 0.5:
        raise ValueError(
            f"a word of {one.name} ends at {one.targets[-1].end} s, {one.files[0]} at {len(samples) / rate} s"
        )
    return Recording(one.name, samples, one.targets, files)


def _outputs(job: Job) -> None:
    """What the model says of a group of recordings."""
    payload = job.payload
    runner = _runner(payload["model"], payload["runtime"], payload["hop"])
    about = sidecar.read(pathlib.Path(payload["model"]))
    recordings = [_read(one, about.frontend.sample_rate) for one in payload["recordings"]]
    heard = evaluate_streams.features_of(recordings, about.frontend, lambda done, count: None)
    arrays: dict[str, np.ndarray] = {}
    lengths, most, sums = [], 0.0, True
    for number, (recording, values) in enumerate(zip(recordings, heard)):
        out = runner(values)
        arrays |= {f"values_{number}": out.values, f"frames_{number}": out.frames}
        lengths.append([recording.length, [[begin, str(path)] for begin, path in recording.files]])
        if runner.grid is None:
            most = max(most, float(np.abs(out.values).max(initial=0.0)))
        else:
            sums = sums and stream_runners.are_posteriors([out.values], *runner.grid)
    shape = arrays["values_0"].shape[1]
    _store(job, {"most": most, "posteriors": sums, "lengths": lengths, "classes": shape}, **arrays)


def _on_grid(values: np.ndarray, payload: dict[str, Any]) -> np.ndarray:
    """Whole numbers for the detector: floats on the grid of all groups."""
    if values.dtype != np.float32:
        return values
    return np.rint(values / payload["scale"]).astype(np.int16)


def _posteriors(job: Job) -> None:
    """Whether float outputs, on the grid of all groups, are of a softmax."""
    _, arrays = _load(job.payload["outputs"])
    values = [_on_grid(own, job.payload) for name, own in arrays.items() if name.startswith("values_")]
    _store(job, stream_runners.are_posteriors(values, job.payload["scale"], 0))


def _streams(payload: dict[str, Any]) -> list[Stream]:
    about, arrays = _load(payload["outputs"])
    return [
        Stream(
            one.name,
            _on_grid(arrays[f"values_{number}"], payload),
            evaluate_streams.known_at(arrays[f"frames_{number}"], payload["frontend"]),
            one.targets,
        )
        for number, one in enumerate(payload["recordings"])
    ]


def _joined(payload: dict[str, Any]) -> tuple[list[Stream], stream_parts.Joined]:
    found = _streams(payload)
    return found, stream_parts.join(found, payload["config"], payload["words"], payload["tolerance"])


def _marks(job: Job) -> None:
    """Sums worth a threshold, of each curve, and the time outside of targets."""
    _, joined = _joined(job.payload)
    arrays, tops = {}, []
    for number, columns in enumerate(streams.sets_of(job.payload["words"])):
        found = stream_parts.marks(joined, columns)
        arrays |= {f"best_{number}": found.best, f"peaks_{number}": found.peaks}
        tops.append(found.top)
    _store(job, {"tops": tops, "steps": joined.steps(range(len(job.payload["words"])))}, **arrays)


def _sweeps(job: Job) -> None:
    """Hits and false accepts at every threshold."""
    _, joined = _joined(job.payload)
    arrays, abouts = {}, []
    for number, columns in enumerate(streams.sets_of(job.payload["words"])):
        found = stream_parts.sweep(joined, job.payload["config"], columns, job.payload["tried"][number])
        arrays |= {f"hits_{number}": found.hits, f"false_{number}": found.false_accepts}
        names = list(found.speaker_hits)
        if names:
            arrays[f"by_{number}"] = np.stack([found.speaker_hits[name] for name in names])
        abouts.append([found.targets, found.steps, [[name, found.speaker_targets[name]] for name in names]])
    _store(job, abouts, **arrays)


def _outcomes(job: Job) -> None:
    """What happens at the chosen thresholds."""
    found, joined = _joined(job.payload)
    out = stream_parts.outcome(joined, job.payload["config"], found, job.payload["words"])
    _store(
        job,
        {
            "events": [dataclasses.asdict(one) for one in out.events],
            "misses": [dataclasses.asdict(one) for one in out.misses],
            "speaker_hits": [dict(one) for one in out.speaker_hits],
            "mlperf": [dataclasses.asdict(one) for one in out.mlperf],
        },
    )


def _plain(value: Any) -> Any:
    """For checksums."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@dataclasses.dataclass(frozen=True)
class _Run:
    """Runs steps over all groups, and keeps their results."""

    how: How
    folder: str
    phases: Phases

    def step(self, name: str, function: Callable[[Job], None], payloads: Sequence[dict[str, Any]]) -> list[Job]:
        """The jobs of a step, all of them done; their payloads say what their results depend on."""
        jobs = []
        for payload in payloads:
            text = json.dumps([name, _plain(payload)], sort_keys=True)
            key = hashlib.sha256(text.encode()).hexdigest()[:20]
            jobs.append(Job(places.join(self.folder, f"{name}-{key}.npz"), payload))
        left = [job for job in jobs if not places.exists(job.file)]
        if left:
            # To start processes takes longer than to count what a few groups hold.
            few = name not in _SLOW and len(left) <= _FEW and not self.how.beam
            with self.phases.phase(f"{name}, {len(left):,} groups") as advance:
                parallel.run(
                    function, left, 1 if few else self.how.workers, self.how.beam,
                    done=lambda: sum(places.exists(job.file) for job in left), progress=advance,
                )  # fmt: skip
        return jobs


@contextlib.contextmanager
def _folder(work: str | None) -> Iterator[str]:
    if work is not None:
        yield work if places.is_address(work) else os.path.abspath(work)
        return
    with tempfile.TemporaryDirectory(prefix="evaluate-") as folder:
        yield folder


def _seconds(path: str) -> float:
    """About how long a recording is; only how work is shared out depends on it."""
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (RuntimeError, TypeError):
        return os.path.getsize(path) / 32000.0


def _grouped(recordings: Sequence[_Heard]) -> list[list[_Heard]]:
    groups: list[list[_Heard]] = [[]]
    seconds = 0.0
    for one in recordings:
        own = sum(map(_seconds, one.files))
        if groups[-1] and seconds + own > GROUP_SECONDS:
            groups.append([])
            seconds = 0.0
        groups[-1].append(one)
        seconds += own
    return groups


def _stamps(paths: Sequence[str]) -> list:
    return [[path, os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in paths]


def _to_hear(run: _Run, options: Options, rate: int) -> tuple[list[_Heard], list[Problem]]:
    """The recordings, as ``evaluate_streams.listen`` has them, and files that give no sound."""
    recordings, skipped = [], []
    if options.streams is not None:
        files = stream_labels.sounds(options.streams)
        table = stream_labels.find(options.streams)
        targets = stream_labels.of_files(files, stream_labels.read(table), table)
        recordings += [_Heard(path.stem, (os.path.abspath(path),), words) for path, words in zip(files, targets)]
    if options.negatives is not None:
        paths = [os.path.abspath(path) for path in stream_labels.sounds(options.negatives)]
        parts = [paths[i : i + _FILES] for i in range(0, len(paths), _FILES)]
        payloads = [{"files": own, "stamps": _stamps(own), "rate": rate} for own in parts]
        found = [one for job in run.step("lengths", _lengths, payloads) for one in _load(job.file)[0]]
        skipped = [Problem(**problem) for _, _, problem in found if problem is not None]
        heard = [(path, length) for path, length, problem in found if problem is None]
        joined = evaluate_streams.join_negatives([length for _, length in heard], rate)
        recordings += [
            _Heard(f"negatives {number}", tuple(heard[i][0] for i in own), ()) for number, own in enumerate(joined, 1)
        ]
        if not joined:
            raise ValueError(
                f"--negatives {options.negatives}: none of {len(paths)} recordings can be read; the first is "
                f"{skipped[0].path}: {skipped[0].problem}: {skipped[0].detail}"
            )
    return recordings, skipped


def measure(model: pathlib.Path, runtime: str | None, options: Options, phases: Phases, how: How) -> Measured:
    """As ``evaluate_streams.measure``, group by group; the recordings come without their samples.

    Raises:
        ValueError: as there, or an option that needs all sound in memory.
    """
    for name, given in (("--report", options.report), ("--compare", options.compare)):
        if given:
            raise ValueError(f"{name}: draws from sound in memory; leave --workers, --beam and --work out")
    parallel.check(how.workers, how.beam)
    about = sidecar.read(model)
    words = tuple(about.task.keywords)
    chosen = thresholds.choose(options.threshold, options.smooth, options.refractory, words)
    if runtime is None and model.suffix == ".tflite":
        runtime = interpreter.default_runtime()
    grid = _runner(str(model.absolute()), runtime, options.hop).grid
    start = time.perf_counter()
    with _folder(how.work) as folder:
        run = _Run(how, folder, phases)
        recordings, skipped = _to_hear(run, options, about.frontend.sample_rate)
        names = [one.name for one in recordings]
        if len(set(names)) < len(names):
            raise ValueError(f"streams: names occur twice: {sorted({n for n in names if names.count(n) > 1})[:5]}")
        groups = _grouped(recordings)
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        payloads = [
            {
                **{"model": str(model.absolute()), "sha256": digest, "runtime": runtime, "hop": options.hop},
                **{"recordings": group, "stamps": [_stamps(one.files) for one in group]},
            }
            for group in groups
        ]
        outputs = run.step("model", _outputs, payloads)
        told = [_load(job.file)[0] for job in outputs]
        scale, zero_point = grid or (_scale([one["most"] for one in told]), 0)
        base = [
            {"outputs": job.file, "scale": scale, "recordings": group, "frontend": about.frontend}
            for job, group in zip(outputs, groups)
        ]
        one = told[0]["classes"] == 1 and len(words) == 1
        mode = options.scores
        if mode == "auto" and not one:
            if grid is None:
                found = [_load(job.file)[0] for job in run.step("kind of outputs", _posteriors, base)]
            else:
                found = [part["posteriors"] for part in told]
            mode = "value" if all(found) else "margin"
        mode = "value" if mode == "auto" else mode
        chosen.check_mode(mode)
        step_seconds = _runner(str(model.absolute()), runtime, options.hop).hop * about.frontend.hop_ms / 1000.0
        config = evaluate_streams.detector_of(about, words, chosen, one, mode, step_seconds, scale, zero_point)
        base = [{**own, "config": config, "words": words, "tolerance": options.tolerance} for own in base]
        told_sums = evaluate_streams.told_sums(about, one, config)
        curves = _curves(run, base, config, words, step_seconds, told_sums)
        rate = options.fa_per_hour if options.threshold is None else None
        config = streams.at_rate(config, curves, words, rate)
        base = [{**own, "config": config} for own in base]
        outcomes = [_outcome(job.file) for job in run.step("events", _outcomes, base)]
        evaluation = streams.put_together(config, words, curves, outcomes)
    spent = time.perf_counter() - start
    heard = [
        Recording(one.name, None, one.targets, tuple((begin, pathlib.Path(path)) for begin, path in files), length)
        for group, part in zip(groups, told)
        for one, (length, files) in zip(group, part["lengths"])
    ]
    sound = Sound(tuple(heard), about.frontend.sample_rate, tuple(skipped))
    return Measured(evaluation, chosen, sound, about.frontend, (), (), spent)


def _scale(most: Sequence[float]) -> float:
    """As ``stream_runners.on_one_grid`` has it."""
    if not np.isfinite(most).all():
        raise ValueError("the model's outputs are not finite")
    return max(most) / 32767 if max(most) else 1.0


def _curves(run, base, config, words, step_seconds, told) -> list:
    """The curves of all groups."""
    found = [_load(job.file) for job in run.step("thresholds", _marks, base)]
    streams.check_hours(sum(about["steps"] for about, _ in found) * step_seconds, config)
    sets = streams.sets_of(words)
    tried = []
    for number in range(len(sets)):
        parts = [
            stream_parts.Marks(arrays[f"best_{number}"], arrays[f"peaks_{number}"], about["tops"][number])
            for about, arrays in found
        ]
        tried.append(stream_parts.limits(parts, stream_parts.POINTS, told))
    swept = [_load(job.file) for job in run.step("counts", _sweeps, [{**own, "tried": tried} for own in base])]
    curves = []
    for number in range(len(sets)):
        parts = []
        for abouts, arrays in swept:
            targets, steps, speakers = abouts[number]
            by = arrays.get(f"by_{number}", ())
            parts.append(
                stream_parts.Sweep(
                    arrays[f"hits_{number}"], arrays[f"false_{number}"], targets, steps, dict(speakers),
                    {name: hits for (name, _), hits in zip(speakers, by)},
                )
            )  # fmt: skip
        curves.append(stream_parts.curve(parts, config, tried[number], step_seconds))
    return curves


def _outcome(file: str) -> stream_parts.Outcome:
    about, _ = _load(file)
    return stream_parts.Outcome(
        tuple(Found(**one) for one in about["events"]),
        tuple(Missed(**one) for one in about["misses"]),
        tuple(about["speaker_hits"]),
        tuple(mlperf.MlperfTiny(**one) for one in about["mlperf"]),
    )
