# SPDX-License-Identifier: Apache-2.0
"""Shards: the examples of ``load_features``, whoever writes them and however often that is broken off."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from corpus_files import RATE, make_folder, tone, write

from tfmot_kws import parallel
from tfmot_kws.data import corpus, datasets, places, shard_writer, shards
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment

FRONTEND = features.FrontendConfig(mel_bins=20)
TASK = datasets.TaskConfig(("yes", "no"))
AUGMENT = augment.AugmentConfig(gain_db=(-6.0, 6.0), snr_db=(5.0, 25.0), noise_probability=0.5)
TRAINING = shard_writer.Options(TASK, FRONTEND, AUGMENT, copies=2, seed=3, per_shard=16)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("words"))
    return corpus.from_folder(folder, 20, 20, speakers="clip")


def prepared(place, clips, options=TRAINING, workers=1):
    jobs = shard_writer.plan(place, clips, options)
    parallel.run(shard_writer.write, [job for job in jobs if not shard_writer.is_done(job)], workers)
    return shard_writer.finish(place)


@pytest.fixture(scope="module")
def place(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    prepared(folder, clips)
    return folder


def keyed(x, y) -> collections.Counter:
    return collections.Counter((hashlib.sha256(np.ascontiguousarray(a)).hexdigest(), int(b)) for a, b in zip(x, y))


def bytes_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir() if path.is_file()}


@pytest.mark.parametrize("backend", ["micro", "lfbe", "raw"])
@pytest.mark.parametrize("holds", ["features", "sound"])
def test_they_hold_what_load_features_gives(clips, tmp_path, backend, holds) -> None:
    frontend = features.FrontendConfig(backend=backend, mel_bins=320 if backend == "raw" else 20)
    task = dataclasses.replace(TASK, context_seconds=0.3)
    opened = prepared(tmp_path, clips, dataclasses.replace(TRAINING, task=task, frontend=frontend, holds=holds))
    for split, found in opened.splits.items():
        training = split == "train"
        noise = clips if training else None
        there = datasets.load_features(
            clips, split, task, frontend, AUGMENT if training else None, 2 if training else 1, 3, noise=noise
        )
        loaded = found.load()
        assert loaded.x.shape == there.x.shape and loaded.classes == there.classes
        if holds == "sound" and backend == "lfbe":  # samples of 16 bits; load_features hears the floats before
            assert abs(loaded.x.mean() - there.x.mean()) < 0.05
        else:
            assert keyed(loaded.x, loaded.y) == keyed(there.x, there.y)
        assert found.report.examples == there.report.examples
        assert sum(found.speakers.values()) == len(found)
        places_of = {(path, *map(float, one)) for path, one in zip(loaded.paths, loaded.places.astype(np.float32))}
        assert len(places_of) and all(name.count("/") == 1 for name, *_ in places_of)


def test_nothing_depends_on_who_writes_them(clips, place, tmp_path) -> None:
    prepared(tmp_path, clips, workers=3)
    assert bytes_of(tmp_path) == bytes_of(place)


def test_what_was_killed_goes_on(clips, place, tmp_path, monkeypatch) -> None:
    jobs = shard_writer.plan(tmp_path, clips, TRAINING)
    assert len(jobs) > 5
    for job in jobs[:2]:
        shard_writer.write(job)
    # Killed between a shard and the file beside it, within a shard, and after a shard that was cut.
    (tmp_path / f"{jobs[1].name}.json").unlink()
    (tmp_path / f"{jobs[2].name}.tfrecord").write_bytes(b"half")
    with pytest.raises(ValueError, match="shard .* is missing; prepare again"):
        shard_writer.finish(tmp_path)
    with pytest.raises(FileNotFoundError, match="index.json"):
        shards.open_place(tmp_path)
    done = []
    real = shard_writer.write
    monkeypatch.setattr(shard_writer, "write", lambda job: (done.append(job.name), real(job)))
    prepared(tmp_path, clips)
    assert jobs[0].name not in done and len(done) == len(jobs) - 1
    assert bytes_of(tmp_path) == bytes_of(place)


def test_other_recordings_or_options_want_another_folder(clips, place) -> None:
    other = dataclasses.replace(TRAINING, seed=4)
    for asked in ((clips, other), (corpus.Corpus(clips.clips[1:]), TRAINING)):
        with pytest.raises(ValueError, match="holds shards of other recordings or options"):
            shard_writer.plan(place, *asked)


def test_batches_are_all_examples_once_in_another_order_every_epoch(place) -> None:
    found = shards.open_place(place).split("train")
    loaded = found.load()
    orders = []
    for epoch in range(2):
        got = list(found.batches(7, seed=5, epochs=(epoch, epoch + 1), buffer=20, readers=3).as_numpy_iterator())
        assert [len(y) for _, y in got[:-1]] == [7] * (len(loaded) // 7) and got[0][0].dtype == np.float32
        x, y = (np.concatenate(part) for part in zip(*got))
        assert keyed(x, y) == keyed(loaded.x, loaded.y)
        orders.append((x, y))
    assert not np.array_equal(orders[0][0], orders[1][0])
    tf.random.set_seed(7)  # as keras.utils.set_random_seed does; the order is none of its business
    both = list(found.batches(7, seed=5, epochs=(0, 2), buffer=20, readers=3).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([x for x, _ in both]), np.concatenate([x for x, _ in orders]))
    plain = np.concatenate([x for x, _ in found.batches(7, seed=None).as_numpy_iterator()])
    np.testing.assert_array_equal(plain, loaded.x)


def test_neighbours_are_of_all_classes(clips, tmp_path) -> None:
    """Files lie word by word; shards do not: a shard holds every class, and its order mixes them."""
    found = prepared(tmp_path, clips, dataclasses.replace(TRAINING, per_shard=1000)).split("train")
    labels = found.load().y
    changes = np.count_nonzero(np.diff(labels)) / (len(labels) - 1)
    assert changes > 0.5, f"labels change {changes:.2f} of the time; words lie together"


def test_change_gets_a_seed_of_its_own_for_every_batch(place) -> None:
    found, seeds = shards.open_place(place).split("train"), []

    def change(x, seed):
        return x * 0.0 + tf.cast(seed % 1_000_003, tf.float32)

    for _ in range(2):
        data = found.batches(8, seed=5, epochs=(0, 2), change=change)
        seeds.append([float(x[0, 0, 0]) for x, _ in data.as_numpy_iterator()])
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0])


def test_shares_of_a_batch_are_its_parts(place) -> None:
    found = shards.open_place(place).split("train")
    whole = list(found.batches(8, seed=5, epochs=(1, 3), drop_remainder=True).as_numpy_iterator())
    parts = [
        list(found.batches(8, seed=5, epochs=(1, 3), drop_remainder=True, share=(i, 4)).as_numpy_iterator())
        for i in range(4)
    ]
    for (x, y), *own in zip(whole, *parts):
        np.testing.assert_array_equal(np.concatenate([one[0] for one in own]), x)
        np.testing.assert_array_equal(np.concatenate([one[1] for one in own]), y)
    for options in ({"size": 6}, {"drop_remainder": False}, {"service": "grpc://nowhere:1"}):
        with pytest.raises(ValueError, match="need equal shares, drop_remainder and no service"):
            found.batches(**{"size": 8, "drop_remainder": True, **options}, share=(0, 4))


def test_a_service_shares_an_epoch_out(place) -> None:
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0))
    address = dispatcher.target
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address.split("://")[1]))
    found = shards.open_place(place).split("train")
    loaded = found.load()
    trainers = [iter(found.batches(1, seed=1, epochs=(0, 1), service=address)) for _ in range(2)]
    got = []
    ends = [False, False]
    while not all(ends):
        for number, one in enumerate(trainers):
            batch = None if ends[number] else next(one, None)
            ends[number] = batch is None
            got += [] if batch is None else [(number, batch)]
    assert {number for number, _ in got} == {0, 1}
    x, y = (np.concatenate([batch[part] for _, batch in got]) for part in (0, 1))
    assert keyed(x, y) == keyed(loaded.x, loaded.y)
    del trainers, worker, dispatcher


def test_an_address_of_tensorflow_is_a_place(clips, place) -> None:
    there = "ram://prepared/words"
    opened = prepared(there, clips)
    assert shards.is_place(there) and not shards.is_place("ram://prepared/nothing")
    assert {name: places.read_bytes(f"{there}/{name}") for name in bytes_of(place)} == bytes_of(place)
    opened.split("train").verify()
    x = np.concatenate([x for x, _ in opened.split("dev").batches(4).as_numpy_iterator()])
    assert len(x) == len(opened.split("dev"))
    with pytest.raises((ValueError, OSError), match="nothing://x"):
        places.read_bytes("nothing://x/y")


def copied(place, tmp_path):
    for name, data in bytes_of(place).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_damage_is_named(place, tmp_path) -> None:
    folder = copied(place, tmp_path)
    about = json.loads((folder / "index.json").read_text())
    name = about["splits"]["dev"]["shards"][0]["file"]
    path, data = folder / name, (folder / name).read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=f"{name}: has {len(data) - 1} bytes, index.json tells of {len(data)}"):
        shards.open_place(folder)
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    found = shards.open_place(folder).split("dev")
    with pytest.raises(ValueError, match=f"{name}: is not the file that index.json tells of"):
        found.verify()
    with pytest.raises(ValueError, match=f"{name}: is damaged"):
        found.load()
    path.unlink()
    with pytest.raises(ValueError, match=f"{name}: is missing"):
        shards.open_place(folder)
    with pytest.raises(FileNotFoundError, match=f"{name}: is missing"):
        found.load()
    for text in ("", "[]", "{}", json.dumps({**about, "version": 2}), json.dumps({**about, "dtype": "int8"})):
        (folder / "index.json").write_text(text)
        with pytest.raises(ValueError, match="index.json: is damaged"):
            shards.open_place(folder)


def test_recordings_with_faults_are_counted_and_named(clips, tmp_path) -> None:
    bad = write(tmp_path / "more" / "yes" / "short.wav", tone(0, 0.02))
    (tmp_path / "more" / "yes" / "no_sound.wav").write_bytes(b"RIFF")
    more = [dataclasses.replace(clips.clips[0], path=str(path), word="yes", split="train") for path in
            (bad, tmp_path / "more" / "yes" / "no_sound.wav")]  # fmt: skip
    opened = prepared(tmp_path / "out", corpus.Corpus((*clips.clips, *more)))
    assert opened.split("train").problems == {"too short": 1, "unreadable": 1}
    assert {pathlib.Path(one.path).name for one in shards.problems(tmp_path / "out")} == {"short.wav", "no_sound.wav"}
    only = corpus.Corpus(tuple(more))
    with pytest.raises(ValueError, match="split 'train': none of 2 recordings is usable: .*short.wav|no_sound.wav"):
        prepared(tmp_path / "none", only)


def test_little_of_much_noise_is_drawn_for_a_shard(clips, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shard_writer, "NOISE_SECONDS", 3.0)
    shard_writer._noises.cache_clear()
    paths = [clip.path for clip in clips if clip.is_noise]
    drawn = [shard_writer._noise_of(paths, RATE, shard_writer.Job("", "train", number, 9), 0) for number in range(9)]
    shard_writer._noises.cache_clear()
    seconds = [sum(map(len, found)) / RATE for found in drawn]
    longest = max(len(one) for found in drawn for one in found) / RATE
    assert 3.0 <= min(seconds) and max(seconds) < 3.0 + longest
    assert len({len(found) and found[0][:100].tobytes() for found in drawn}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"holds": "x"}, "holds='x'"), ({"copies": 0}, "copies=0"), ({"augment": None}, "copies=2"),
     ({"per_shard": 0}, "per_shard=0")],
)  # fmt: skip
def test_options_that_make_no_sense(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TRAINING, **options)


def test_nothing_to_read(place) -> None:
    opened = shards.open_place(place)
    with pytest.raises(ValueError, match="has no split 'nothing'; found"):
        opened.split("nothing")
    for option in ({"size": 0}, {"size": 1, "buffer": 0}, {"size": 1, "readers": 0}):
        with pytest.raises(ValueError, match="must be 1 or more"):
            opened.split("train").batches(**option)
    with pytest.raises(ValueError, match="has no examples"):
        dataclasses.replace(opened.split("train"), shards=()).batches(1)
    assert os.path.isdir(place) and not shards.is_place(place.parent)
