# SPDX-License-Identifier: Apache-2.0
"""Writes shards: first a plan of what goes where, then each shard on its own, by whoever comes first.

A recording's shard, and the place of its examples in it, come from a hash, so neither the order of work nor the number
of workers changes a byte. ``plan.json`` and the lists in ``plan/`` say what is to be made; a shard is done when the
``.json`` beside it is there, so what was killed goes on with the shards that are missing. ``index.json`` comes last.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmot_kws.data import examples, places, shards
from tfmot_kws.data.corpus import SPLITS, Clip, Corpus
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features
from tfmot_kws.sound import files as audio_files
from tfmot_kws.sound.augment import AugmentConfig
from tfmot_kws.sound.problems import AudioError

PLAN = "plan.json"
PER_SHARD = 8192
"""Examples of a shard, about: recordings without a keyword may give several."""
NOISE_SECONDS = 1800.0
"""A shard mixes in at most so much noise, drawn for it; all of it where there is less."""
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Options:
    """How recordings become examples.

    Attributes:
        task: classes and length of an example.
        frontend: how sound becomes features.
        augment: of the training split; None changes nothing and cuts at fixed places.
        copies: augmented versions of each recording of the training split; 1 without augmentation.
        seed: of cuts, augmentation and order.
        holds: "features", or "sound" for samples that become features while a model is trained.
        per_shard: examples of a shard, about.

    Raises:
        ValueError: a number is below 1, ``holds`` is something else, or there are copies without augmentation.
    """

    task: TaskConfig
    frontend: features.FrontendConfig
    augment: AugmentConfig | None = None
    copies: int = 1
    seed: int = 0
    holds: str = shards.FEATURES
    per_shard: int = PER_SHARD

    def __post_init__(self) -> None:
        if self.holds not in (shards.FEATURES, shards.SOUND):
            raise ValueError(f"holds={self.holds!r}: must be {shards.FEATURES!r} or {shards.SOUND!r}")
        if self.copies < 1 or (self.copies > 1 and self.augment is None):
            raise ValueError(f"copies={self.copies!r}: must be 1 or more, and 1 without augmentation")
        if self.per_shard < 1:
            raise ValueError(f"per_shard={self.per_shard!r}: must be 1 or more")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "task": dataclasses.asdict(self.task) | {"keywords": list(self.task.keywords)},
            "frontend": self.frontend.to_dict(),
            "augment": None if self.augment is None else self.augment.to_dict(),
            "copies": self.copies,
            "seed": self.seed,
            "holds": self.holds,
            "per_shard": self.per_shard,
        }

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> Options:
        """The inverse of ``to_dict``."""
        augment = options["augment"]
        return cls(
            TaskConfig(**options["task"]),
            features.FrontendConfig.from_dict(options["frontend"]),
            None if augment is None else AugmentConfig.from_dict(augment),
            options["copies"],
            options["seed"],
            options["holds"],
            options["per_shard"],
        )


@dataclasses.dataclass(frozen=True)
class Job:
    """A shard that is to be written.

    Attributes:
        place: folder or address.
        split: its split.
        number: of the shard.
        count: of all shards of the split.
    """

    place: str
    split: str
    number: int
    count: int

    @property
    def name(self) -> str:
        """Of the file, without suffix."""
        return shards.name_of(self.split, self.number, self.count)


def _drawn(*parts: Any) -> int:
    """A number of 64 bits that is as good as random, and always the same."""
    text = json.dumps(parts, ensure_ascii=True).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _stamp(path: str) -> list:
    try:
        stat = os.stat(path)
    except OSError:
        return [None, None]
    return [stat.st_size, stat.st_mtime_ns]


def plan(
    place: str | os.PathLike, corpus: Corpus, options: Options, notes: Mapping[str, Any] | None = None
) -> list[Job]:
    """Says what goes where, or takes up the plan that is there.

    Args:
        place: folder or address; made where it does not exist.
        corpus: the recordings of all splits; noise of the training split is mixed in where there is augmentation.
        options: how they become examples.
        notes: plain values that the index keeps: where the recordings are from, say.

    Returns:
        All shards, also those that are done.

    Raises:
        ValueError: another preparation is there, or no recording takes part.
    """
    place = os.fspath(place) if places.is_address(place) else os.path.abspath(place)
    groups: dict[str, list[tuple[Clip, int]]] = {}
    for split in SPLITS:
        found = [(clip, options.task.label(clip)) for clip in corpus if clip.split == split]
        groups[split] = [(clip, label) for clip, label in found if label is not None]
    groups = {split: found for split, found in groups.items() if found}
    if not groups:
        raise ValueError(f"no recording takes part in {', '.join(options.task.classes)}")
    digest = hashlib.sha256(json.dumps(options.to_dict(), sort_keys=True).encode())
    for split, found in groups.items():
        for clip, label in found:
            own = [split, clip.path, *_stamp(clip.path), clip.word, clip.speaker, clip.start, clip.end, label]
            digest.update(json.dumps(own).encode())
    digest.update(b"tensorflow-io" if audio_files.tensorflow_io_works() else b"soundfile")
    identity = digest.hexdigest()
    path, counts = places.join(place, PLAN), {}
    for split, found in groups.items():
        copies = options.copies if split == "train" else 1
        counts[split] = math.ceil(len(found) * copies / options.per_shard)
    jobs = [Job(place, split, number, count) for split, count in counts.items() for number in range(count)]
    if places.exists(path):
        try:
            there = json.loads(places.read_bytes(path))["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is damaged ({error}); delete it and prepare again") from error
        if there != identity:
            raise ValueError(
                f"{place}: holds shards of other recordings or options; give the same ones, or name another folder"
            )
        return jobs
    for split, found in groups.items():
        lists: list[list[str]] = [[] for _ in range(counts[split])]
        for clip, label in found:
            own = dataclasses.asdict(clip) | {"path": os.path.abspath(clip.path), "label": label}
            number = _drawn(options.seed, examples.relative(clip.path)) % counts[split]
            lists[number].append(json.dumps(own, ensure_ascii=False) + "\n")
        for number, lines in enumerate(lists):
            name = shards.name_of(split, number, counts[split])
            places.write_bytes(places.join(place, f"plan/{name}.jsonl"), "".join(lines).encode())
    noise = [os.path.abspath(clip.path) for clip in corpus if clip.is_noise and clip.split == "train"]
    about = {
        "identity": identity,
        "counts": counts,
        "options": options.to_dict(),
        "noise": noise if options.augment else [],
        "skipped": [dataclasses.asdict(one) for one in corpus.skipped],
        "notes": dict(notes or {}),
    }
    places.write_bytes(path, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
    return jobs


def _summary(job: Job) -> str:
    return places.join(job.place, f"{job.name}.json")


def is_done(job: Job) -> bool:
    """Whether the shard is whole and of this plan's kind: the file beside it says so."""
    try:
        about = json.loads(places.read_bytes(_summary(job)))
        return places.size(places.join(job.place, about["shard"]["file"])) == about["shard"]["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


@functools.lru_cache(maxsize=1)
def _noises(paths: tuple[str, ...], rate: int, draw: int | None) -> tuple[tuple[np.ndarray, ...], bool]:
    """Recordings to mix in, and whether these are all. ``draw`` picks some where there is too much."""
    order = range(len(paths)) if draw is None else np.random.default_rng(draw).permutation(len(paths)).tolist()
    found, seconds = {}, 0.0
    for index in order:
        if seconds >= NOISE_SECONDS:
            return tuple(found[i] for i in sorted(found)), False
        try:
            found[index] = audio_files.read(paths[index], rate)
        except AudioError:
            continue
        seconds += len(found[index]) / rate
    return tuple(found[i] for i in sorted(found)), True


def _noise_of(paths: Sequence[str], rate: int, job: Job, seed: int) -> tuple[np.ndarray, ...]:
    found, everything = _noises(tuple(paths), rate, None)
    return found if everything else _noises(tuple(paths), rate, _drawn(seed, job.name))[0]


def _made(
    clips: Iterable[tuple[Clip, int]], maker: examples.Maker, options: Options, problems: list
) -> Iterable[tuple[int, bytes, int, str]]:
    """(place in the shard, record, label, speaker) of every example."""
    import tensorflow as tf

    kind = shards.dtype_of(options.frontend, options.holds)
    clips = list(clips)
    # Decoding, resampling and the front end leave Python's lock, so a second thread is worth its while.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for first in range(0, len(clips), _BATCH):
            chosen = clips[first : first + _BATCH]
            sounds, about = [], []
            for (clip, label), (windows, where, problem) in zip(chosen, pool.map(maker, [c for c, _ in chosen])):
                problems += [problem] if problem else []
                sounds += windows
                about += [(clip, label, number, place) for number, place in enumerate(where)]
            if not sounds:
                continue
            stacked = np.stack(sounds)
            if options.holds == shards.SOUND:
                held = features.to_int16(stacked)
            else:
                heard = features.extract if options.frontend.backend == "lfbe" else features.compact
                held = heard(options.frontend, stacked)[:, maker.lead // options.frontend.hop :]
            held = held.astype(np.dtype(kind).newbyteorder("<"))
            for values, (clip, label, number, place) in zip(held, about):
                source = examples.relative(clip.path)
                example = tf.train.Example()
                feature = example.features.feature
                feature["x"].bytes_list.value.append(values.tobytes())
                feature["y"].int64_list.value.append(label)
                feature["source"].bytes_list.value.append(source.encode())
                feature["speaker"].bytes_list.value.append(clip.speaker.encode())
                feature["place"].float_list.value.extend(place)
                # A message's map has no order of its own; without this, the same shard has other bytes every time.
                record = example.SerializeToString(deterministic=True)
                yield _drawn(options.seed, source, number), record, label, clip.speaker


def write(job: Job) -> None:
    """Writes a shard and the file beside it, or nothing.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the plan is damaged.
    """
    import tensorflow as tf

    path = places.join(job.place, PLAN)
    try:
        about = json.loads(places.read_bytes(path))
        options = Options.from_dict(about["options"])
        lines = places.read_bytes(places.join(job.place, f"plan/{job.name}.jsonl")).decode().splitlines()
        clips = [json.loads(line) for line in lines]
        clips = [(one.pop("label"), one) for one in clips]
        clips = [(Clip(**one), label) for label, one in clips]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is damaged ({error}); delete it and prepare again") from error
    training = job.split == "train" and options.augment is not None
    rate = options.frontend.sample_rate
    noises = _noise_of(about["noise"], rate, job, options.seed) if training else ()
    maker = examples.Maker(
        options.task,
        options.frontend,
        options.augment if training else None,
        options.copies if training else 1,
        options.seed,
        noises,
    )
    problems: list = []
    records = sorted(_made(clips, maker, options, problems))
    classes: collections.Counter[str] = collections.Counter()
    speakers: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "shard.tfrecord")
        with tf.io.TFRecordWriter(local) as writer:
            for _, record, label, speaker in records:
                writer.write(record)
                classes[options.task.classes[label]] += 1
                speakers[speaker] += 1
        data = Path(local).read_bytes()
    name = f"{job.name}.tfrecord"
    places.write_bytes(places.join(job.place, name), data)
    shard = shards.Shard(name, len(records), len(data), hashlib.sha256(data).hexdigest())
    found = {
        "shard": dataclasses.asdict(shard),
        "classes": {name: classes[name] for name in options.task.classes},
        "speakers": dict(sorted(speakers.items())),
        "files": len(clips),
        "problems": [dataclasses.asdict(one) for one in problems],
    }
    places.write_bytes(_summary(job), (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())


def finish(place: str | os.PathLike) -> shards.Shards:
    """Writes the index when all shards are there, and opens it.

    Raises:
        ValueError: a shard is missing, or no recording was usable.
    """
    place = os.fspath(place) if places.is_address(place) else os.path.abspath(place)
    about = json.loads(places.read_bytes(places.join(place, PLAN)))
    options = Options.from_dict(about["options"])
    splits: dict[str, Any] = {}
    for split, count in about["counts"].items():
        parts = []
        for number in range(count):
            job = Job(place, split, number, count)
            if not is_done(job):
                raise ValueError(f"{place}: shard {job.name} is missing; prepare again, the other shards stay")
            parts.append(json.loads(places.read_bytes(_summary(job))))
        total = {"classes": collections.Counter(), "speakers": collections.Counter(), "problems": collections.Counter()}
        for part in parts:
            total["classes"].update(part["classes"])
            total["speakers"].update(part["speakers"])
            total["problems"].update(one["problem"] for one in part["problems"])
        splits[split] = {
            "examples": sum(part["shard"]["examples"] for part in parts),
            "files": sum(part["files"] for part in parts),
            "classes": {name: total["classes"][name] for name in options.task.classes},
            "problems": dict(sorted(total["problems"].items())),
            "speakers": dict(sorted(total["speakers"].items())),
            "shards": [part["shard"] for part in parts],
        }
        if not splits[split]["examples"]:
            first = next((one for part in parts for one in part["problems"]), None)
            why = f": {first['path']}: {first['problem']}: {first['detail']}" if first else ""
            raise ValueError(f"split {split!r}: none of {splits[split]['files']} recordings is usable{why}")
    maker = examples.Maker(options.task, options.frontend)
    frames = options.frontend.num_frames(maker.length + maker.lead) - maker.lead // options.frontend.hop
    index = {
        "format": shards.FORMAT,
        "version": shards.VERSION,
        **{key: value for key, value in options.to_dict().items() if key != "per_shard"},
        "dtype": shards.dtype_of(options.frontend, options.holds),
        "shape": [frames, options.frontend.mel_bins],
        "samples": maker.length + maker.lead,
        "lead": maker.lead,
        "identity": about["identity"],
        "notes": about["notes"],
        "splits": splits,
    }
    places.write_bytes(
        places.join(place, shards.INDEX), (json.dumps(index, indent=1, ensure_ascii=False) + "\n").encode()
    )
    return shards.open_place(place)
