# SPDX-License-Identifier: Apache-2.0
"""Reading shards: memory, time to the first batch, examples a second: ``python -m benchmarks.shards [--hours 20 200]``.

Synthetic hours: features of noise in the form that ``tfmot-kws prepare`` writes, one second each. A process of its own
opens them, takes the first batch and goes through an epoch as training does (shuffled, masked, batches of 128); its
memory is what the system says it had at most, less what the same process has with one shard. The machine's file cache
holds what was just written: a cold disk is slower.

And writing them: ``tfmot-kws prepare`` on clips of a second, three versions each, by one worker and by two.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import common
from tfmot_kws.data import shards
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features
from tfmot_kws.sound import files

TASK = TaskConfig(("yes", "no"))
FRONTEND = features.FrontendConfig()
PER_SHARD, BATCH = 8192, 128
COLUMNS = (
    ("hours", "hours", ",d"), ("gigabytes", "on disk, GB", ".2f"), ("first", "first batch, s", ".2f"),
    ("memory", "memory, MB", ",.0f"), ("speed", "examples a second", ",.0f"),
    ("in_memory", "features in memory would take, MB", ",.0f"),
)  # fmt: skip
PREPARE_COLUMNS = (
    ("workers", "workers", "d"), ("seconds", "seconds", ".0f"), ("speed", "hours of examples an hour", ",.0f"),
    ("start", "of them to start, s", ".0f"),
)  # fmt: skip
CLIPS = 6000


def write(place: pathlib.Path, hours: int) -> None:
    """Shards of so many hours; records differ, their bytes are drawn once for each shard."""
    import tensorflow as tf

    count = hours * 3600
    frames = FRONTEND.num_frames(round(TASK.clip_seconds * FRONTEND.sample_rate))
    numbers = range(-(-count // PER_SHARD))
    found, classes = [], dict.fromkeys(TASK.classes, 0)
    for number in numbers:
        rng = np.random.default_rng(number)
        name = f"{shards.name_of('train', number, len(numbers))}.tfrecord"
        values = rng.integers(0, 670, (64, frames, FRONTEND.mel_bins)).astype("<u2")
        examples = min(PER_SHARD, count - number * PER_SHARD)
        with tf.io.TFRecordWriter(str(place / name)) as writer:
            for index in range(examples):
                example = tf.train.Example()
                feature = example.features.feature
                label = int(rng.integers(len(TASK.classes)))
                feature["x"].bytes_list.value.append(np.roll(values[index % 64], index, axis=0).tobytes())
                feature["y"].int64_list.value.append(label)
                feature["source"].bytes_list.value.append(f"{number}/{index}.wav".encode())
                feature["speaker"].bytes_list.value.append(b"")
                feature["place"].float_list.value.extend((0.0, 1.0))
                writer.write(example.SerializeToString(deterministic=True))
                classes[TASK.classes[label]] += 1
        data = (place / name).read_bytes()
        found.append(shards.Shard(name, examples, len(data), hashlib.sha256(data).hexdigest()))
    index = {
        "format": shards.FORMAT, "version": shards.VERSION, "frontend": FRONTEND.to_dict(),
        "task": dataclasses.asdict(TASK), "augment": None, "copies": 1, "seed": 0, "holds": shards.FEATURES,
        "dtype": shards.dtype_of(FRONTEND, shards.FEATURES), "shape": [frames, FRONTEND.mel_bins], "lead": 0,
        "samples": FRONTEND.sample_rate, "identity": "", "notes": {},
        "splits": {
            "train": {
                "examples": count, "files": count, "classes": classes, "speakers": {"": count}, "problems": {},
                "shards": [dataclasses.asdict(one) for one in found],
            }
        },
    }  # fmt: skip
    (place / shards.INDEX).write_text(json.dumps(index))


def read(place: str, count: int) -> dict[str, float]:
    """Goes through ``count`` shards, in this process."""
    from tfmot_kws.training import recipes

    begun = time.perf_counter()
    found = shards.open_place(place).split("train")
    found = dataclasses.replace(found, shards=found.shards[:count])
    first, examples = 0.0, 0
    for x, _ in recipes.batches(found, recipes.TrainConfig(batch_size=BATCH)):
        first = first or time.perf_counter() - begun
        examples += len(x)
    spent = time.perf_counter() - begun
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": first, "speed": examples / spent, "memory": most, "examples": examples}


def in_a_process(place: pathlib.Path, count: int) -> dict[str, float]:
    """``read`` in a process that has done nothing else."""
    command = [sys.executable, "-m", "benchmarks.shards", "--read", str(place), "--count", str(count)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(hours: int) -> dict[str, float]:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        write(place, hours)
        opened = shards.open_place(place).split("train")
        base, found = in_a_process(place, 1), in_a_process(place, len(opened.shards))
        size = sum(one.bytes for one in opened.shards)
        row = {
            "hours": hours, "gigabytes": size / 1e9, "first": found["first"], "speed": found["speed"],
            "memory": found["memory"] - base["memory"], "process": found["memory"],
            "in_memory": len(opened) * opened.shape[0] * opened.shape[1] * 4 / 1e6,
        }  # fmt: skip
    print(row, flush=True)
    return row


def prepare(workers: int, folder: pathlib.Path) -> dict[str, float]:
    """A row of the table of writing: all clips, and as a start two of each word."""
    times = []
    for words in ("few", "words"):
        command = [
            sys.executable, "-m", "tfmot_kws.cli", "prepare", "--data", str(folder / words), "--keywords", "yes,no",
            "--speakers", "clip", "--out", str(folder / f"{words}_{workers}"), "--per-shard", "1000",
            "--workers", str(workers),
        ]  # fmt: skip
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
        times.append(time.perf_counter() - begun)
    start, spent = times
    examples = sum(map(len, shards.open_place(folder / f"words_{workers}").splits.values()))
    row = {"workers": workers, "seconds": spent, "speed": examples / (spent - start), "start": start}
    print(row, flush=True)
    return row


def make_words(folder: pathlib.Path) -> None:
    """Clips of noise in three words, and a few of them."""
    rng = np.random.default_rng(0)
    for name, count in (("few", 10), ("words", CLIPS // 3)):
        for word in ("yes", "no", "maybe"):
            (folder / name / word).mkdir(parents=True)
            for number in range(count):
                files.write(folder / name / word / f"{number}.wav", rng.normal(0, 0.1, 16000).astype(np.float32), 16000)


def main() -> None:
    """Measures, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--hours", type=int, nargs="*", default=[20, 200], help="of synthetic sound; none measures writing only"
    )
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        print(json.dumps(read(options.read, options.count)))
        return
    with tempfile.TemporaryDirectory() as place:
        make_words(pathlib.Path(place))
        rows = [prepare(workers, pathlib.Path(place)) for workers in (1, 2)]
    path = common.write(
        "prepare", "Writing shards", PREPARE_COLUMNS, rows,
        [
            f"{CLIPS:,} WAV clips of a second, three versions of those for training, features of 20 ms hops. An hour "
            "of examples is 3,600 of them. What starts the process and its workers, the same command on few clips, is "
            "taken off.",
        ],
    )  # fmt: skip
    print(f"wrote {path}")
    if not options.hours:
        return
    rows = [measure(hours) for hours in options.hours]
    most = max(row["process"] for row in rows)
    bound = 2 * shards.BUFFER * 2 * 49 * 40 / 1e6
    path = common.write(
        "shards", "Training from shards: an epoch in little memory", COLUMNS, rows,
        [
            f"Memory: what the process needs at most beyond what it needs for one shard of {PER_SHARD:,} examples; the "
            f"whole process, TensorFlow included, has {most:,.0f} MB at most. The mixing of examples holds "
            f"{2 * shards.BUFFER:,} records, {bound:.0f} MB, whatever the number of hours.",
            "Shuffled and masked as training does it, without a model. The files are in the machine's cache.",
        ],
    )  # fmt: skip
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
