"""Hours of sound on disk: files joined and read in blocks, kept, resumed, changed; ready features next to them."""

from __future__ import annotations

import json
import os
import pathlib
import tracemalloc

import corpus_files
import numpy as np
import pytest
import ragged_files

from tfmot_kws.data import feature_writer, long_features, negatives, spectrograms, stream_labels
from tfmot_kws.data.negatives import NegativeConfig, gather
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features
from tfmot_kws.sound import codecs, effects
from tfmot_kws.sound.problems import AudioError

FRONTEND = features.FrontendConfig(hop_ms=10, mel_bins=20)
RATE = 16000
SECONDS = {"a": 0.4, "b": 0.5, "c": 2.3, "d": 0.3, "e": 0.25, "sub/f": 1.7}


def noise(seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.rint(rng.standard_normal(round(seconds * RATE)) * 3000) / 32768.0


SOUND = {name: noise(seconds, number) for number, (name, seconds) in enumerate(SECONDS.items())}
"""Stretches of a second: a + b + d, e; c and f are longer."""


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negatives, "STRETCH_SECONDS", 1.0)
    monkeypatch.setattr(negatives, "_BLOCK_SECONDS", 0.3)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    for name, sound in SOUND.items():
        corpus_files.write(tmp_path / "sound" / f"{name}.{'flac' if name in 'bd' else 'wav'}", sound)
    (tmp_path / "sound" / "bad.wav").write_text("no sound at all")
    corpus_files.write(tmp_path / "sound" / "zero.wav", np.zeros(800))
    (tmp_path / "sound" / "readme.txt").write_text("not a sound file")
    return tmp_path / "sound"


def joined(names: str) -> np.ndarray:
    return features.compact(FRONTEND, np.concatenate([SOUND["sub/f" if name == "f" else name] for name in names]))


def recordings(found: long_features.LongFeatures) -> list[np.ndarray]:
    return [found.x[a:b] for a, b in zip(found.first[:-1], found.first[1:])]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other))


def test_short_files_are_joined_and_long_ones_read_in_blocks(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    seen = []
    found = gather([folder], FRONTEND, tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    (sound,) = found.sounds
    # The long ones are whole when they end, a stretch when it is full, the last one at the end.
    assert same(recordings(sound), [joined("c"), joined("abd"), joined("f"), joined("e")])
    assert isinstance(sound.x, np.memmap) and sound.x.dtype == np.uint16 and sound.targets == ((),) * 4
    assert {(pathlib.Path(p.path).name, p.problem) for p in found.problems} == {
        ("bad.wav", "unreadable"), ("zero.wav", "empty"),
    }  # fmt: skip
    assert seen[:8] == [(number, 8) for number in range(1, 9)] and found.hours == pytest.approx(5.4 / 3600, rel=0.05)
    assert "2 files left out" in repr(found)


def test_kept_until_something_changes(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> None:
    first = gather([folder], FRONTEND, tmp_path / "cache")
    monkeypatch.setattr(negatives, "_minutes", None)  # nothing is read again
    again = gather([folder, folder / "sub"], FRONTEND, tmp_path / "cache")  # nor named twice
    assert again.problems == first.problems and np.array_equal(again.sounds[0].x, first.sounds[0].x)
    monkeypatch.undo()
    monkeypatch.setattr(negatives, "STRETCH_SECONDS", 1.0)
    kinds = [{}, {"hop_ms": 20}, {"pcan": False}]
    os.utime(folder / "a.wav", (1, 1))
    for options in kinds:
        gather([folder / "a.wav", folder / "e.wav"], features.FrontendConfig(**({"hop_ms": 10} | options)), tmp_path)
    os.utime(folder / "a.wav", (2, 2))
    gather([folder / "a.wav", folder / "e.wav"], features.FrontendConfig(hop_ms=10), tmp_path)
    assert len(list(tmp_path.glob("negatives-*"))) == 4


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_run_that_was_killed_goes_on(stop: int, folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> None:
    whole = gather([folder], FRONTEND, tmp_path / "whole")

    def killed(done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather([folder], FRONTEND, tmp_path / "cache", progress=killed)
    (half,) = (tmp_path / "cache").iterdir()
    with open(half / feature_writer.JOURNAL, "a") as journal, open(half / long_features.FEATURES, "ab") as data:
        journal.write('{"sources": [7], "samp')  # a line that was being written
        data.write(bytes(1234))
    done = [line for line in (half / feature_writer.JOURNAL).read_text().splitlines() if line.endswith("}")]
    finished = sum(len(json.loads(line)["sources"]) for line in done)
    read = []
    minutes = negatives._minutes
    monkeypatch.setattr(negatives, "_minutes", lambda path, *rest: read.append(path) or minutes(path, *rest))
    again = gather([folder], FRONTEND, tmp_path / "cache")
    assert len(read) == 8 - finished
    files = [sorted((root.iterdir().__next__()).iterdir()) for root in (tmp_path / "whole", tmp_path / "cache")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert again.problems == whole.problems and len(files[0]) == 4


def test_features_that_were_lost_are_made_again(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The journal is there and what it tells of is not, as after a power cut."""
    whole = gather([folder], FRONTEND, tmp_path / "cache")
    x = np.array(whole.sounds[0].x)
    (half,) = (tmp_path / "cache").iterdir()
    (half / long_features.ABOUT).unlink()
    os.truncate(half / long_features.FEATURES, 128 + 40 * 300)
    assert np.array_equal(gather([folder], FRONTEND, tmp_path / "cache").sounds[0].x, x)


def test_two_writers_do_not_meet(tmp_path: pathlib.Path) -> None:
    with feature_writer.FeatureWriter(tmp_path, FRONTEND):
        with pytest.raises(ValueError, match="another process writes features there"):
            feature_writer.FeatureWriter(tmp_path, FRONTEND)
    feature_writer.FeatureWriter(tmp_path, FRONTEND).__exit__()


def test_a_file_that_breaks_off_is_left_out_whole(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> None:
    whole = negatives.stream.read_file

    def broken(path, *rest):
        for number, block in enumerate(whole(path, *rest)):
            if path.name == "c.wav" and number == 7:
                raise AudioError(path, "unreadable", "it breaks off")
            yield block

    monkeypatch.setattr(negatives.stream, "read_file", broken)
    found = gather([folder], FRONTEND, tmp_path / "cache")
    assert same(recordings(found.sounds[0]), [joined("abd"), joined("f"), joined("e")])
    assert "it breaks off" in [problem.detail for problem in found.problems]
    for seed in range(3):  # nor do its seconds count
        found = gather([folder], FRONTEND, tmp_path / "cache", NegativeConfig(hours=3.5 / 3600, seed=seed))
        assert sum(map(len, recordings(found.sounds[0]))) >= 306


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0, 100.0])
def test_a_limit_in_hours(seconds: float, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = NegativeConfig(hours=seconds / 3600, seed=3)
    found = gather([folder], FRONTEND, tmp_path / "one", config)
    (one,) = (tmp_path / "one").iterdir()
    lines = [json.loads(line) for line in (one / feature_writer.JOURNAL).read_text().splitlines()]
    assert sum(line["samples"] for line in lines) == min(round(seconds * RATE), sum(map(len, SOUND.values())))
    other = gather([folder], FRONTEND, tmp_path / "two", config)
    assert np.array_equal(found.sounds[0].x, other.sounds[0].x)


def test_words_of_tables_are_targets(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rows = "c,keyword,go,0.5,0.9,anna\nc,negative,,1.0,1.2\na,keyword,stop,0.05,0.2\nf,negative,,0,1\n"
    (folder / stream_labels.LABELS).write_text("stream,event,word,start,end,speaker\n" + rows)
    expected = [joined("a"), joined("c"), joined("bde"), joined("f")]
    words = ((Target("stop", 0.05, 0.2),), (Target("go", 0.5, 0.9, "anna"),), (), ())
    for folders in ([folder], [folder / "a.wav", folder]):
        sound = gather(folders, FRONTEND, tmp_path / "cache").sounds[0]
        assert same(recordings(sound), expected) and sound.targets == words
    (sound,) = gather([folder / "sub"], FRONTEND, tmp_path / "cache").sounds  # the table lies above
    assert same(recordings(sound), [joined("f")]) and sound.targets == ((),)
    cut = gather([folder / "c.wav"], FRONTEND, tmp_path / "cache", NegativeConfig(hours=0.8 / 3600)).sounds[0]
    assert cut.targets == ((),) and len(cut.x) == 78


def test_words_behind_the_end_are_no_words(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    table = folder / stream_labels.LABELS
    table.write_text("stream,event,word,start,end\nc,keyword,go,2.9,3.4\n")
    found = gather([folder], FRONTEND, tmp_path / "cache")
    assert [p.detail for p in found.problems if p.problem == "too short"] == [
        "2.300 s, and streams_labels.csv has 'go' up to 3.400 s"
    ]
    assert len(recordings(found.sounds[0])) == 3
    table.write_text("stream,event,word,start,end\nc,keyword,go,1.9,1.4\n")
    with pytest.raises(ValueError, match="line 2"):
        gather([folder], FRONTEND, tmp_path / "cache")
    table.write_text("stream,event,word,start,end\nf,keyword,go,0.1,0.4\n")
    corpus_files.write(folder / "f.wav", SOUND["a"])
    with pytest.raises(ValueError, match="have the same; rename one"):
        gather([folder], FRONTEND, tmp_path / "cache")


DEVICE = effects.EffectsConfig(codec_probability=0.0, level_probability=1.0, level_db=(-12.0, -6.0))


def test_passes_through_devices_and_noise(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = NegativeConfig(passes=2, effects=DEVICE, noise_probability=1.0, seed=1)
    noises = [noise(0.7, 50).astype(np.float32), (noise(5.0, 51) * 32768).astype(np.int16)]
    one, two = (gather([folder], FRONTEND, tmp_path / name, config, noises).sounds[0] for name in ("one", "two"))
    assert np.array_equal(one.x, two.x)
    parts = recordings(one)
    lengths = [len(joined(names)) for names in ("c", "abd", "f", "e")]
    assert [len(part) for part in parts] == lengths * 2
    plain = [joined(names) for names in ("c", "abd", "f", "e")]
    for first, second, clean in zip(parts[:4], parts[4:], plain):
        assert not np.array_equal(first, second) and not np.array_equal(first, clean)
    other = gather([folder], FRONTEND, tmp_path / "one", NegativeConfig(passes=2, effects=DEVICE, seed=2))
    assert len(list((tmp_path / "one").iterdir())) == 2 and not np.array_equal(other.sounds[0].x, one.x)
    assert len(other.problems) == 2  # not once for each pass


def test_noise_has_the_ratio_that_is_asked_for(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> None:
    heard = []
    step = features.FrontendStream.step_compact
    monkeypatch.setattr(
        features.FrontendStream, "step_compact", lambda self, audio: heard.append(audio) or step(self, audio)
    )
    config = NegativeConfig(noise_probability=1.0, snr_db=(6.0, 6.0))
    gather([folder / "c.wav"], FRONTEND, tmp_path, config, [np.sin(np.arange(RATE) * 0.3).astype(np.float32)])
    changed = np.concatenate(heard)
    assert [len(block) for block in heard] == [RATE, RATE, round(0.3 * RATE)]
    added = changed - SOUND["c"]
    for first in (0, RATE):
        part = slice(first, first + RATE)
        ratio = np.mean(SOUND["c"][part] ** 2) / np.mean(added[part] ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(6.0, abs=0.1)


def test_features_that_are_ready(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    made = gather([folder], FRONTEND, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    for folders in ([kept, folder], [tmp_path / "cache", folder]):
        again = gather(folders, FRONTEND, tmp_path / ("cache" if folders[0] == kept else "other"))
        assert len(again.sounds) == 2 and all(np.array_equal(s.x, made.sounds[0].x) for s in again.sounds)
    first = gather([kept], FRONTEND, tmp_path / "cache", NegativeConfig(hours=2.5 / 3600)).sounds[0]
    assert len(first.x) == 250 and np.array_equal(first.x, made.sounds[0].x[:250]) and isinstance(first.x, np.memmap)
    assert first.first.tolist() == [0, *made.sounds[0].first[1:2], 250] and len(first.targets) == 2
    with pytest.raises(ValueError, match="another front end: hop_ms=10 .the model's: 20"):
        gather([kept], features.FrontendConfig(hop_ms=20, mel_bins=20), tmp_path / "cache")


def test_spectrograms_that_are_ready(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    frontend = features.FrontendConfig(hop_ms=10)
    parts = [(np.arange(n * 40).reshape(n, 40) % 600).astype(np.uint16) for n in (60, 50)]
    for split in ("training", "validation"):
        ragged_files.write(tmp_path / "mww" / split / "speech_mmap", parts)
    found = gather([tmp_path / "mww", folder], frontend, tmp_path / "cache", NegativeConfig(split="validation"))
    assert [len(s.first) - 1 for s in found.sounds] == [4, 2]  # sound first
    assert isinstance(found.sounds[1].x, np.memmap) and np.array_equal(found.sounds[1].x, np.concatenate(parts))
    part = gather([tmp_path / "mww"], frontend, tmp_path / "cache", NegativeConfig(hours=0.7 / 3600)).sounds[0]
    assert part.first.tolist() == [0, 60, 70]
    with pytest.raises(ValueError, match="no folder .* in testing/"):
        gather([tmp_path / "mww"], frontend, tmp_path / "cache", NegativeConfig(split="testing"))
    with pytest.raises(ValueError, match="hop_ms=10"):
        gather([tmp_path / "mww"], features.FrontendConfig(), tmp_path / "cache")


def test_what_cannot_be_done_is_said(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        gather([folder, tmp_path / "nowhere"], FRONTEND, cache)
    with pytest.raises(ValueError, match="empty: holds no sound"):
        gather([folder, tmp_path / "empty"], FRONTEND, cache)
    with pytest.raises(ValueError, match="must be a list of folders"):
        gather(folder, FRONTEND, cache)
    with pytest.raises(ValueError, match="every pass gives the same"):
        gather([folder], FRONTEND, cache, NegativeConfig(passes=2))
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="opus-8k"):
        patch.setattr(codecs, "_trouble", lambda *_: "not written here")
        gather([folder], FRONTEND, cache, NegativeConfig(effects=effects.EffectsConfig(codecs=("opus-8k",))))
    with pytest.raises(ValueError, match="noises: each must be"):
        gather([folder], FRONTEND, cache, noises=[np.zeros((2, 5), np.float32)])
    assert not cache.exists()  # before work is spent
    with pytest.raises(ValueError, match="no sound in 1 files; the first is .*bad.wav: unreadable"):
        gather([folder / "bad.wav"], FRONTEND, cache)
    corpus_files.write(tmp_path / "click" / "click.wav", SOUND["a"][:99])
    with pytest.raises(ValueError, match="no sound in 1 files; they are shorter than a window of 30 ms"):
        gather([tmp_path / "click"], FRONTEND, cache)
    assert not list(cache.iterdir())


def test_a_cache_in_the_folder_does_not_count_twice(folder: pathlib.Path) -> None:
    for _ in range(2):
        assert len(gather([folder], FRONTEND, folder / "cache").sounds) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"hours": 0.0}, {"hours": float("nan")}, {"passes": 0}, {"passes": 1.5}, {"noise_probability": 2.0},
        {"snr_db": (5.0, 4.0)}, {"split": "train"}, {"hop_ms": 15}, {"seed": -1},
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(ValueError, match=rf"NegativeConfig.{next(iter(options))}"):
        NegativeConfig(**options)


@pytest.mark.parametrize("backend, rate", [("lfbe", 16000), ("micro", 8000)])
def test_other_front_ends(backend: str, rate: int, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    frontend = features.FrontendConfig(
        sample_rate=rate, backend=backend, mel_bins=20, upper_hz=3800.0 if rate == 8000 else 7500.0
    )
    (sound,) = gather([folder / "c.wav", folder / "e.wav"], frontend, tmp_path / "cache").sounds
    assert sound.x.dtype == long_features.TYPES[backend][0]
    assert [len(part) for part in recordings(sound)] == [frontend.num_frames(round(s * rate)) for s in (2.3, 0.25)]
    if backend == "lfbe":
        assert np.allclose(recordings(sound)[0], features.extract(frontend, SOUND["c"]), rtol=2e-3)


def test_memory_does_not_grow_with_the_sound(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours as one file, and half an hour in many: what is held at once is a stretch."""
    block = np.full(RATE * 30, 0.1, np.float32)

    def hours(path: pathlib.Path, *_: object):
        for _ in range(240 if path.stem == "long" else 1):
            yield block

    frames = np.ones((6000, 20), np.uint16)
    monkeypatch.setattr(negatives, "STRETCH_SECONDS", 60.0)
    monkeypatch.setattr(negatives.stream, "read_file", hours)
    monkeypatch.setattr(features.FrontendStream, "step_compact", lambda self, audio: frames[: len(audio) // 160])
    for name in ("long", *map(str, range(60))):
        (tmp_path / "sound").mkdir(exist_ok=True)
        (tmp_path / "sound" / f"{name}.wav").touch()
    tracemalloc.start()
    found = gather([tmp_path / "sound"], FRONTEND, tmp_path / "cache")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.hours == pytest.approx(2.5) and peak < 40e6


def test_the_names_of_splits_are_those_of_the_folders() -> None:
    assert spectrograms.SPLITS[0] == NegativeConfig().split == "training"
