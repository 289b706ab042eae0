# SPDX-License-Identifier: Apache-2.0
"""Tasks, and the arrays made of recordings."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_files import RATE, make_folder, tone, write

from tfmot_kws.data import datasets
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment

FRONTEND = features.FrontendConfig(mel_bins=20)
TASK = datasets.TaskConfig(("yes", "no"))


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


def _clip(word: str, kind: str = "word") -> datasets.Clip:
    return datasets.Clip("x.wav", word, kind=kind)


def test_classes_and_labels():
    assert TASK.classes == ("_silence_", "_unknown_", "yes", "no")
    assert [TASK.label(_clip(word)) for word in ("yes", "no", "maybe", "_background_noise_")] == [2, 3, 1, 0]
    assert TASK.label(_clip("anything", "noise")) == 0
    assert TASK.label(_clip("yes", "streams")) is None
    quiet = datasets.TaskConfig(["yes"], silence=False)
    assert quiet.classes == ("_unknown_", "yes")
    assert quiet.label(_clip("x", "noise")) == 0
    words = datasets.TaskConfig(("yes", "no"), unknown=False, silence=False)
    assert words.classes == ("yes", "no") and words.label(_clip("maybe")) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keywords": "yes"}, "must be a list"),
        ({"keywords": ()}, "one or more different words"),
        ({"keywords": ("a", "a")}, "one or more different words"),
        ({"keywords": ("_unknown_",)}, "none of them"),
        ({"keywords": ("a",), "clip_seconds": 0.0}, "clip_seconds=0.0"),
        ({"keywords": ("a",), "min_seconds": 2.0}, "min_seconds=2.0"),
        ({"keywords": ("a",), "windows": 0}, "windows=0"),
        ({"keywords": ("a",), "unknown": False, "silence": False}, "leaves nothing to tell apart"),
    ],
)
def test_bad_tasks_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        datasets.TaskConfig(**options)


def _all(folder):
    return datasets.from_folder(folder, 0, 0)


def test_features_are_those_of_the_clips(folder):
    steps = []
    loaded = datasets.load_features(
        _all(folder), "train", TASK, FRONTEND, progress=lambda done, total: steps.append((done, total))
    )
    assert loaded.x.shape == (36 + 4 * 3, 49, 20) and loaded.x.dtype == np.float32
    assert loaded.y.dtype == np.int32
    assert loaded.report.examples == {"_silence_": 12, "_unknown_": 12, "yes": 12, "no": 12}
    assert not loaded.report.problems and "problems: none" in loaded.report.summary()
    assert steps[-1] == (40, 40)
    for index in np.flatnonzero(loaded.y):
        path = Path(loaded.paths[loaded.source[index]])
        assert loaded.classes[loaded.y[index]] in (path.parent.name, "_unknown_")
        sound, _ = soundfile.read(path, dtype="int16")
        np.testing.assert_array_equal(loaded.x[index], features.extract(FRONTEND, sound))


@pytest.mark.slow
def test_the_same_whatever_the_workers_and_the_order(folder):
    config = augment.AugmentConfig(reverb_probability=0.5)
    noise = [tone(5, 2.0)]
    load = functools.partial(datasets.load_features, task=TASK, frontend=FRONTEND, augment=config, copies=2)
    one = load(_all(folder), "train", workers=1, noise=noise)
    four = load(_all(folder), "train", workers=4, noise=noise)
    assert len(one) == 2 * 48
    np.testing.assert_array_equal(one.x, four.x)
    np.testing.assert_array_equal(one.y, four.y)
    backwards = datasets.Corpus(_all(folder).clips[::-1])
    other = load(backwards, "train", noise=noise)
    assert sorted(x.tobytes() for x in other.x) == sorted(x.tobytes() for x in one.x)
    reseeded = load(_all(folder), "train", noise=noise, seed=1)
    assert not np.array_equal(reseeded.x, one.x)
    first, second = one.x[one.source == 20]
    assert not np.array_equal(first, second)


@pytest.mark.slow
def test_noise_comes_from_the_same_split_of_a_corpus(folder):
    corpus = _all(folder)
    config = augment.AugmentConfig(noise_probability=1.0)
    load = functools.partial(datasets.load_features, corpus, "train", TASK, FRONTEND, config)
    recordings = [soundfile.read(clip.path, dtype="float32")[0] for clip in corpus if clip.is_noise]
    assert np.abs(load(noise=corpus).x - load(noise=recordings).x).mean() < 0.01
    assert np.abs(load(noise=corpus).x - load(noise=recordings[::-1]).x).mean() > 0.1
    elsewhere = datasets.Corpus(tuple(dataclasses.replace(clip, split="dev") for clip in corpus))
    np.testing.assert_array_equal(load(noise=elsewhere).x, load(noise=None).x)


def test_bad_files_are_counted_and_listed(folder):
    (folder / "yes" / "broken_nohash_0.wav").write_bytes(b"RIFF but not really")
    (folder / "yes" / "nothing_nohash_0.flac").write_bytes(b"")
    write(folder / "yes" / "silent_nohash_0.wav", np.zeros(RATE))
    write(folder / "yes" / "short_nohash_0.wav", tone(1, 0.05))
    write(folder / "yes" / "loud_nohash_0.wav", np.clip(tone(1) * 9, -1, 1))
    (folder / "yes" / "song.mp3").write_bytes(b"ID3")
    loaded = datasets.load_features(_all(folder), "train", TASK, FRONTEND)
    assert loaded.report.examples["yes"] == 13  # the clipped one is kept
    assert loaded.report.counts() == {"clipped": 1, "empty": 1, "too short": 1, "unreadable": 3}
    dropped = {Path(item.path).name: item.dropped for item in loaded.report.problems}
    assert dropped.pop("loud_nohash_0.wav") is False
    assert all(dropped.values()) and len(dropped) == 5
    assert "3 unreadable" in loaded.report.summary()


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "a.wav").write_bytes(b"")
    corpus = datasets.from_folder(tmp_path, 0, 0)
    with pytest.raises(ValueError, match=r"none of 1 files is usable.*a\.wav"):
        datasets.load_features(corpus, "train", TASK, FRONTEND)
    words_only = datasets.TaskConfig(("up", "down"), unknown=False, silence=False)
    with pytest.raises(ValueError, match="none of its words"):
        datasets.load_features(corpus, "train", words_only, FRONTEND)
    with pytest.raises(ValueError, match="copies=2"):
        datasets.load_features(corpus, "train", TASK, FRONTEND, copies=2)


def _placed(tmp_path, seconds, first, last, **options):
    """Where a burst from ``first`` to ``last`` lies in the examples of a clip, in frames."""
    sound = np.zeros(int(seconds * RATE), np.float32)
    sound[int(first * RATE) : int(last * RATE)] = tone(3, 9.0)[: int(last * RATE) - int(first * RATE)]
    path = write(tmp_path / "a.wav", sound)
    clip = datasets.Clip(str(path), "yes", **options)
    config = features.FrontendConfig(backend="lfbe")
    quiet = augment.AugmentConfig(
        shift_ms=0, gain_db=(0, 0), speed=(1, 1), noise_probability=0.0, reverb_probability=0.0
    )
    places = []
    for seed in range(6):
        loaded = datasets.load_features(
            datasets.Corpus((clip,)), "train", TASK, config, None if seed == 0 else quiet, seed=seed
        )
        assert len(loaded) == 1
        places.append(np.flatnonzero(loaded.x[0].mean(axis=1) > 1.0))
    return places


def test_long_wake_clips_are_cut_around_the_word(tmp_path):
    places = _placed(tmp_path, 4.0, 2.9, 3.4, start=2.9, end=3.4)
    assert all(24 <= len(place) <= 27 for place in places)  # 0.5 s at 20 ms: the word is whole
    assert len({int(place[0]) for place in places}) > 2
    assert abs(int(places[0].mean()) - 24) <= 1  # without augmentation: in the middle


def test_without_times_the_loudest_second_is_cut(tmp_path):
    assert all(24 <= len(place) <= 27 for place in _placed(tmp_path, 4.0, 2.9, 3.4))


def test_words_at_the_edge_or_longer_than_the_window(tmp_path):
    assert all(9 <= len(place) <= 12 for place in _placed(tmp_path, 2.0, 0.0, 0.2, start=0.0, end=0.2))
    assert all(len(place) == 49 for place in _placed(tmp_path, 4.0, 1.0, 3.0, start=1.0, end=3.0))


def test_short_clips_are_padded(tmp_path):
    places = _placed(tmp_path, 0.5, 0.0, 0.5)
    assert all(24 <= len(place) <= 27 for place in places)
    assert len({int(place[0]) for place in places}) > 2


@pytest.mark.parametrize(("seconds", "expected"), [(0.6, 1), (1.0, 1), (1.9, 1), (3.2, 3), (30.0, 8)])
def test_long_negatives_give_several_examples(tmp_path, seconds, expected):
    path = write(tmp_path / "a.wav", tone(1, seconds))
    corpus = datasets.Corpus((datasets.Clip(str(path), "sentences"),))
    for config in (None, augment.AugmentConfig()):
        loaded = datasets.load_features(corpus, "train", TASK, FRONTEND, config)
        assert len(loaded) == expected
        assert len({x.tobytes() for x in loaded.x}) == expected


def test_cache(folder, tmp_path):
    corpus, cache = _all(folder), tmp_path / "cache"
    load = functools.partial(datasets.load_features, task=TASK, frontend=FRONTEND, cache_dir=cache)
    write(folder / "yes" / "loud_nohash_0.wav", np.clip(tone(1) * 9, -1, 1))
    corpus = _all(folder)
    fresh = load(corpus, "train")
    stored = load(corpus, "train")
    assert (fresh.report.cached, stored.report.cached) == (False, True)
    for name in ("x", "y", "source"):
        np.testing.assert_array_equal(getattr(fresh, name), getattr(stored, name))
    assert (stored.classes, stored.paths) == (fresh.classes, fresh.paths)
    assert stored.report == dataclasses.replace(fresh.report, cached=True)
    (file,) = cache.iterdir()
    assert file.name.startswith("features-") and file.suffix == ".npz"


@pytest.mark.slow
def test_cache_key_holds_everything_that_matters(folder, tmp_path):
    def load(**changes):
        options = {"task": TASK, "frontend": FRONTEND, "augment": augment.AugmentConfig(), "seed": 0, "copies": 1}
        return datasets.load_features(_all(folder), "train", cache_dir=tmp_path, **{**options, **changes})

    load()
    for changes in (
        {"task": datasets.TaskConfig(("yes", "maybe"))},
        {"task": datasets.TaskConfig(("yes", "no"), windows=2)},
        {"frontend": features.FrontendConfig(mel_bins=20, hop_ms=10)},
        {"frontend": features.FrontendConfig(mel_bins=20, pcan=False)},
        {"augment": augment.AugmentConfig(shift_ms=0.0)},
        {"augment": None},
        {"seed": 1},
        {"copies": 2},
        {"noise": [tone(1)]},
    ):
        assert load(**changes).report.cached is False, changes
        assert load(**changes).report.cached is True, changes
    assert load().report.cached is True
    assert load(workers=4).report.cached is True
    write(folder / "yes" / "00000000_nohash_0.wav", tone(77, 1.1))
    assert load().report.cached is False


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense"])
def test_damaged_cache_is_made_again(folder, tmp_path, damage):
    load = functools.partial(
        datasets.load_features, _all(folder), "train", TASK, FRONTEND, cache_dir=tmp_path / "cache"
    )
    fresh = load()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(damage or file.read_bytes()[:1000])
    again = load()
    assert not again.report.cached
    np.testing.assert_array_equal(again.x, fresh.x)
    assert load().report.cached


# --- tf.data --------------------------------------------------------------------------------


def _epochs(data, count=2):
    return [[np.concatenate(part) for part in zip(*data.as_numpy_iterator(), strict=True)] for _ in range(count)]


def test_dataset_keeps_order_or_shuffles_the_same_way(folder):
    loaded = datasets.load_features(_all(folder), "train", TASK, FRONTEND)
    (x, y), _ = _epochs(loaded.dataset(7))
    np.testing.assert_array_equal(x, loaded.x)
    np.testing.assert_array_equal(y, loaded.y)
    first, second = _epochs(loaded.dataset(7, shuffle_seed=3))
    again, _ = _epochs(loaded.dataset(7, shuffle_seed=3))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], loaded.x)
    pairs = {(a.tobytes(), int(b)) for a, b in zip(loaded.x, loaded.y, strict=True)}
    for a, b in (first, second):
        assert {(u.tobytes(), int(v)) for u, v in zip(a, b, strict=True)} == pairs


def test_dataset_masks_anew_every_epoch_and_repeatably(folder):
    loaded = datasets.load_features(_all(folder), "train", TASK, FRONTEND)
    masks = augment.AugmentConfig(time_masks=1, time_mask_frames=10, freq_masks=1, freq_mask_bins=4)
    data = loaded.dataset(16, shuffle_seed=3, spec_augment=masks)
    assert data.element_spec[0].shape.as_list() == [None, 49, 20]
    first, second = _epochs(data)
    again, _ = _epochs(loaded.dataset(16, shuffle_seed=3, spec_augment=masks))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    plain, _ = _epochs(loaded.dataset(16, shuffle_seed=3))
    np.testing.assert_array_equal(first[1], plain[1])
    masked = first[0] != plain[0]
    assert masked.any() and (first[0][masked] == 0).all()
    assert not np.array_equal(first[0] == 0, second[0] == 0)
