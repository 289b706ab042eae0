# SPDX-License-Identifier: Apache-2.0
"""Examples in shards, on disk or behind an address: as many hours as there are, in little memory.

A place holds ``index.json``, and for each split files such as ``train-00012-of-00064.tfrecord``: TFRecords of
``tf.train.Example`` with

    x        bytes, the features [frames, mel], or the samples, as ``dtype`` of the index says, little endian
    y        int64, index into the classes
    source   bytes, the last two parts of the file's path
    speaker  bytes, who speaks, "" if unknown
    place    float [2], as ``FeatureSet.places``

TFRecords, because TensorFlow reads them in C++ from every file system that it knows, each record carries a checksum,
and no package beside TensorFlow is needed. They cannot be read at random; they need not be: which shard an example is
in, and where, is drawn by a hash when shards are written (``shard_writer``), so every shard is a random part of all.
Reading shuffles the shards anew every epoch, reads several at a time and mixes what comes, block by block.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmot_kws.data import places
from tfmot_kws.data.feature_set import FeatureSet, LoadReport
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features
from tfmot_kws.sound.problems import Problem

if TYPE_CHECKING:
    import tensorflow as tf

INDEX, FORMAT, VERSION = "index.json", "tfmot-kws shards", 1
FEATURES, SOUND = "features", "sound"
"""What shards hold."""
BUFFER, READERS = 8192, 16
"""Examples that are mixed at a time, and shards that are read at a time. Memory is bounded by their records."""
_SCALES = {"micro": features.MICRO_SCALE, "raw": features.SAMPLE_SCALE, "lfbe": 1.0}
_TYPES = {"micro": "uint16", "raw": "int16", "lfbe": "float32"}


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of examples.

    Attributes:
        file: its name.
        examples: how many are in it.
        bytes: its size.
        sha256: of its bytes, hexadecimal.
    """

    file: str
    examples: int
    bytes: int
    sha256: str


def name_of(split: str, number: int, count: int) -> str:
    """Of a shard, without its suffix: "train-00012-of-00064"."""
    return f"{split}-{number:05d}-of-{count:05d}"


def dtype_of(frontend: features.FrontendConfig, holds: str) -> str:
    """What features of a front end, or samples, are stored as. Nothing is lost by it."""
    return "int16" if holds == SOUND else _TYPES[frontend.backend]


@dataclasses.dataclass(frozen=True, repr=False)
class ShardSet:
    """One split of a place. It can stand where a ``FeatureSet`` does in ``recipes``.

    Attributes:
        place: folder or address.
        split: its name.
        classes: names of the classes.
        frontend: what made the features, or is to make them of samples.
        holds: "features" or "sound".
        shape: (frames, mel) of an example's features.
        samples: of an example with its context, where sound is held.
        lead: samples of context ahead of an example: whole hops.
        shards: the files.
        examples: how many there are of each class.
        speakers: how many there are of each speaker, "" for those of unknown ones.
        files: recordings that they were made of.
        problems: how many recordings had each fault.
    """

    place: str
    split: str
    classes: tuple[str, ...]
    frontend: features.FrontendConfig
    holds: str
    shape: tuple[int, int]
    samples: int
    lead: int
    shards: tuple[Shard, ...]
    examples: Mapping[str, int]
    speakers: Mapping[str, int]
    files: int
    problems: Mapping[str, int]

    def __len__(self) -> int:
        return sum(shard.examples for shard in self.shards)

    def __repr__(self) -> str:
        return f"<ShardSet: {len(self)} examples of {list(self.shape)} in {len(self.shards)} shards, {self.place}>"

    @property
    def counts(self) -> np.ndarray:
        """int64 [classes]: examples of each class."""
        return np.asarray([self.examples.get(name, 0) for name in self.classes], np.int64)

    @property
    def report(self) -> LoadReport:
        """What became of the files, without the single faults: those are in the files beside the shards."""
        examples = {name: int(count) for name, count in zip(self.classes, self.counts)}
        return LoadReport(self.files, examples, (), True)

    def checksum(self) -> int:
        """Tells data apart, by the checksums of the index."""
        text = json.dumps([self.frontend.to_dict(), [dataclasses.astuple(one) for one in self.shards]])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Reads every file and compares it with the index.

        Raises:
            OSError: a file is missing.
            ValueError: one is damaged; the message names it.
        """
        for number, shard in enumerate(self.shards, 1):
            data = places.read_bytes(places.join(self.place, shard.file))
            if len(data) != shard.bytes or hashlib.sha256(data).hexdigest() != shard.sha256:
                raise ValueError(
                    f"{places.join(self.place, shard.file)}: is not the file that {INDEX} tells of ({len(data)} bytes, "
                    f"expected {shard.bytes}); delete it and prepare again, the other shards stay"
                )
            if progress is not None:
                progress(number, len(self.shards))

    def batches(
        self,
        size: int,
        seed: int | None = 0,
        epochs: tuple[int, int] = (0, 1),
        drop_remainder: bool = False,
        buffer: int = BUFFER,
        readers: int = READERS,
        change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
        service: str | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Batches of (float32 [batch, frames, mel], int32 [batch]); the same for the same arguments.

        Memory: twice ``buffer`` records, a quarter of a megabyte for each of ``readers`` and some batches, whatever
        the number of examples.

        Args:
            size: examples of a batch.
            seed: of the order, another one in every epoch; None reads shard after shard, once.
            epochs: (first, behind the last): numbers of the epochs, one after another. An epoch has the same order
                whichever epochs go before it.
            drop_remainder: whether what fills no batch at the end of an epoch is left out.
            buffer: examples that are read and mixed at a time.
            readers: shards that are read at a time.
            change: (float32 features of a batch, int64 seed of it) -> features, for augmentation.
            service: address of a dispatcher of tf.data's service, "grpc://host:5000": the examples of each epoch
                are shared out among all trainers that ask it for the same data. The order then is free.
            share: (which, of how many) equal shares of each batch is wanted, for workers that train together. All of
                a batch is read, and its share alone is parsed and changed. ``size`` is that of the whole batch.

        Raises:
            ValueError: there are no examples, a number is below 1, or a batch cannot be shared out so.
        """
        import tensorflow as tf

        for name, value in (("size", size), ("buffer", buffer), ("readers", readers)):
            if value < 1:
                raise ValueError(f"{name}={value!r}: must be 1 or more")
        if not len(self):
            raise ValueError(f"{self.place}: split {self.split!r} has no examples")
        if share[1] > 1 and (size % share[1] or not drop_remainder or service is not None):
            raise ValueError(f"share={share!r}: batches of {size} need equal shares, drop_remainder and no service")
        names = tf.constant([places.join(self.place, shard.file) for shard in self.shards])

        def records(epoch: tf.Tensor) -> tf.data.Dataset:
            files = names
            if seed is not None:
                files = tf.random.experimental.stateless_shuffle(files, tf.stack([tf.cast(seed, tf.int64), epoch]))
            found = tf.data.Dataset.from_tensor_slices(files)
            if seed is None:
                return found.flat_map(tf.data.TFRecordDataset).batch(size, drop_remainder)
            found = found.interleave(
                tf.data.TFRecordDataset, min(readers, len(self.shards)), 1, tf.data.AUTOTUNE, deterministic=True
            )
            order = tf.cast(seed, tf.int64) * 1_000_003 + epoch

            def mixed(number: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
                return tf.random.experimental.stateless_shuffle(block, tf.stack([order, number]))

            # Block by block, not by Dataset.shuffle: its order depends on TensorFlow's global seed too.
            mixed = tf.autograph.experimental.do_not_convert(mixed)
            return found.batch(buffer).enumerate().map(mixed).unbatch().batch(size, drop_remainder)

        own = size // share[1]

        def parsed(place: tf.Tensor, serialized: tf.Tensor):
            if share[1] > 1:
                serialized = serialized[share[0] * own : (share[0] + 1) * own]
            x, y = self._parse(serialized)
            return (x if change is None else change(x, place)), y

        def epoch_of(number: tf.Tensor) -> tf.data.Dataset:
            first = ((seed or 0) * 1_000_003 + number) * tf.constant(1 << 32, tf.int64)
            return records(number).enumerate(first)

        parse = tf.autograph.experimental.do_not_convert(parsed)
        make = tf.autograph.experimental.do_not_convert(epoch_of)
        if service is None:
            data = tf.data.Dataset.range(*epochs).flat_map(make)
            return data.map(parse, tf.data.AUTOTUNE, deterministic=True).prefetch(2)
        data = None
        for number in range(*epochs):
            # The service shares out the first source of a dataset, here the files: an epoch is one dataset.
            own = make(tf.constant(number, tf.int64)).map(parse, tf.data.AUTOTUNE)
            own = own.apply(
                tf.data.experimental.service.distribute(
                    "distributed_epoch", service, job_name=f"{self.split}-{self.checksum()}-{seed}-{number}"
                )
            )
            data = own if data is None else data.concatenate(own)
        return data.prefetch(2)

    def _parse(self, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Features and labels of a batch of records."""
        import tensorflow as tf

        found = tf.io.parse_example(
            serialized, {"x": tf.io.FixedLenFeature([], tf.string), "y": tf.io.FixedLenFeature([], tf.int64)}
        )
        kind = getattr(tf, dtype_of(self.frontend, self.holds))
        values = tf.io.decode_raw(found["x"], kind)
        if self.holds == SOUND:
            x = tf.numpy_function(self._hear, [tf.ensure_shape(values, (None, self.samples))], tf.float32)
        else:
            x = tf.cast(values, tf.float32) * tf.constant(_SCALES[self.frontend.backend], tf.float32)
            x = tf.reshape(x, (-1, *self.shape))
        return tf.ensure_shape(x, (None, *self.shape)), tf.cast(found["y"], tf.int32)

    def _hear(self, samples: np.ndarray) -> np.ndarray:
        return features.extract(self.frontend, samples)[:, self.lead // self.frontend.hop :]

    def load(self, progress: Callable[[int, int], None] | None = None) -> FeatureSet:
        """All examples in memory, in the order of the shards; for splits that fit.

        Raises:
            OSError: a file is missing.
            ValueError: a file is damaged, or holds what the index does not tell of.
        """
        import tensorflow as tf

        blocks, labels, sources, where, paths = [], [], [], [], {}
        wanted = {
            "source": tf.io.FixedLenFeature([], tf.string),
            "place": tf.io.FixedLenFeature([2], tf.float32),
        }
        for number, shard in enumerate(self.shards, 1):
            path = places.join(self.place, shard.file)
            if not places.exists(path):
                raise FileNotFoundError(f"{path}: is missing; prepare again, the other shards stay")
            count = 0
            try:
                for serialized in tf.data.TFRecordDataset(path).batch(1024):
                    x, y = self._parse(serialized)
                    more = tf.io.parse_example(serialized, wanted)
                    blocks.append(x.numpy())
                    labels.append(y.numpy())
                    where.append(more["place"].numpy().astype(np.float64))
                    sources += [paths.setdefault(one.decode(), len(paths)) for one in more["source"].numpy()]
                    count += len(y)
            except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
                raise ValueError(f"{path}: is damaged ({error.message}); delete it and prepare again") from error
            if count != shard.examples:
                raise ValueError(
                    f"{path}: holds {count} examples, {INDEX} tells of {shard.examples}; delete it and prepare again"
                )
            if progress is not None:
                progress(number, len(self.shards))
        x = np.concatenate([*blocks, np.zeros((0, *self.shape), np.float32)])
        y = np.concatenate([*labels, np.zeros(0, np.int32)])
        return FeatureSet(
            x,
            y,
            self.classes,
            self.report,
            np.asarray(sources, np.int32),
            tuple(paths),
            np.concatenate([*where, np.zeros((0, 2))]),
        )


@dataclasses.dataclass(frozen=True)
class Shards:
    """A place.

    Attributes:
        place: folder or address.
        task: the classes and the length of an example.
        frontend: what made the features.
        splits: split name -> its examples.
        about: all that ``index.json`` says.
    """

    place: str
    task: TaskConfig
    frontend: features.FrontendConfig
    splits: Mapping[str, ShardSet]
    about: Mapping[str, Any]

    def split(self, name: str) -> ShardSet:
        """One split.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in self.splits:
            raise ValueError(f"{self.place}: has no split {name!r}; found {', '.join(self.splits)}")
        return self.splits[name]

    def held_out(self) -> tuple[str, ...]:
        """The split to judge on: test where there is one, else dev.

        Raises:
            ValueError: there is neither.
        """
        for name in ("test", "dev"):
            if name in self.splits and len(self.splits[name]):
                return (name,)
        raise ValueError(f"{self.place}: nothing is held out; found split {', '.join(self.splits)}")


def is_place(place: str | os.PathLike) -> bool:
    """Whether shards lie there: there is an index that says so."""
    path = places.join(place, INDEX)
    if not places.is_address(place) and not os.path.isfile(path):
        return False
    try:
        return places.exists(path) and json.loads(places.read_bytes(path)).get("format") == FORMAT
    except (ValueError, AttributeError):
        return False


def open_place(place: str | os.PathLike) -> Shards:
    """Opens what ``prepare`` has written.

    Raises:
        FileNotFoundError: there is no index, so it is not done.
        ValueError: the index is damaged, of another version, or a file is missing or of another size.
    """
    place = os.fspath(place)
    path = places.join(place, INDEX)
    if not places.exists(path):
        raise FileNotFoundError(f"{path}: no such file; 'tfmot-kws prepare' writes it when all shards are there")
    try:
        about = json.loads(places.read_bytes(path))
        if about["format"] != FORMAT or about["version"] != VERSION:
            raise ValueError(f"is {about['format']!r} version {about['version']}, expected {FORMAT!r} {VERSION}")
        frontend = features.FrontendConfig.from_dict(about["frontend"])
        task = TaskConfig(**about["task"])
        if about["dtype"] != dtype_of(frontend, about["holds"]):
            raise ValueError(f"holds {about['holds']} as {about['dtype']}")
        splits = {
            name: ShardSet(
                place,
                name,
                task.classes,
                frontend,
                about["holds"],
                tuple(int(n) for n in about["shape"]),
                int(about["samples"]),
                int(about["lead"]),
                tuple(Shard(**one) for one in own["shards"]),
                {name: int(n) for name, n in own["classes"].items()},
                {name: int(n) for name, n in own["speakers"].items()},
                int(own["files"]),
                {name: int(n) for name, n in own["problems"].items()},
            )
            for name, own in about["splits"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is damaged ({error}); prepare again into another folder") from error
    if not places.is_address(place):  # thousands of questions to an object store would take minutes
        for shard in (one for own in splits.values() for one in own.shards):
            file = places.join(place, shard.file)
            found = os.path.getsize(file) if os.path.isfile(file) else None
            if found != shard.bytes:
                what = "is missing" if found is None else f"has {found} bytes, {INDEX} tells of {shard.bytes}"
                raise ValueError(f"{file}: {what}; delete it and prepare again, the other shards stay")
    return Shards(place, task, frontend, splits, about)


def problems(place: str | os.PathLike) -> tuple[Problem, ...]:
    """Every recording with a fault, from the files beside the shards."""
    found: list[Problem] = []
    for name in places.names(place):
        if name.endswith(".json") and "-of-" in name:
            found += [Problem(**one) for one in json.loads(places.read_bytes(places.join(place, name)))["problems"]]
    return tuple(found)
