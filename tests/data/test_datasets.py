# SPDX-License-Identifier: Apache-2.0
"""Corpora, splits, downloads and the arrays made of them, on tiny data made here."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import io
import re
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tfmot_kws.data import datasets
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment

RATE = 16000
FRONTEND = features.FrontendConfig(mel_bins=20)
TASK = datasets.TaskConfig(("yes", "no"))


def _sound(seed: int, seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 2000) * time)
    return (tone + 0.01 * rng.normal(size=len(time))).astype(np.float32)


def _write(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate)
    return path


@pytest.fixture
def folder(tmp_path):
    """Three words by twelve speakers, and noise."""
    root = tmp_path / "words"
    for number, word in enumerate(("yes", "no", "maybe")):
        for speaker in range(12):
            name = f"{speaker:08x}_nohash_0.{'flac' if speaker % 2 else 'wav'}"
            _write(root / word / name, _sound(100 * number + speaker))
    for number in range(4):
        _write(root / "_background_noise_" / f"hum{number}.ogg", _sound(900 + number, 3.5))
    return root


# --- corpora and splits ---------------------------------------------------------------------


def _published_rule(filename: str, validation: float, testing: float) -> str:
    """The rule as the Speech Commands paper states it, in its own words."""
    largest = 2**27 - 1
    name = re.sub(r"_nohash_.*$", "", Path(filename).name)
    hashed = int(hashlib.sha1(name.encode()).hexdigest(), 16)
    percentage = (hashed % (largest + 1)) * (100.0 / largest)
    if percentage < validation:
        return "dev"
    return "test" if percentage < validation + testing else "train"


@given(st.text("0123456789abcdef", min_size=1, max_size=8), st.integers(0, 9), st.floats(0, 50), st.floats(0, 50))
def test_hash_rule(speaker, take, dev, test):
    name = f"{speaker}_nohash_{take}.wav"
    assert datasets.hash_split(name, dev, test) == _published_rule(name, dev, test)
    assert datasets.hash_split(f"some/where/{name}", dev, test) == datasets.hash_split(speaker, dev, test)


def test_hash_rule_gives_the_shares_asked_for():
    splits = [datasets.hash_split(f"speaker{i}", 20, 10) for i in range(4000)]
    assert splits.count("dev") / 4000 == pytest.approx(0.2, abs=0.03)
    assert splits.count("test") / 4000 == pytest.approx(0.1, abs=0.03)
    with pytest.raises(ValueError, match="dev_percent=60"):
        datasets.hash_split("a", 60, 50)


def test_folder_of_words(folder):
    corpus = datasets.from_folder(folder)
    assert corpus.words() == {"_background_noise_": 4, "maybe": 12, "no": 12, "yes": 12}
    for clip in corpus:
        assert clip.is_noise == (clip.word == "_background_noise_")
        if not clip.is_noise:
            assert clip.speaker == Path(clip.path).name.split("_nohash_")[0]
            assert clip.split == datasets.hash_split(clip.speaker)
    assert "40 clips" in corpus.summary() and "maybe" in corpus.summary()
    assert len(corpus.filter(words=["yes", "no"])) == 24
    assert len(corpus.filter(kinds=["noise"])) == 4
    assert len(corpus.filter(lambda clip: clip.speaker.endswith("3"))) == 3
    assert len(corpus + corpus) == 80
    assert datasets.open_corpus(folder) == corpus


def test_speakers_without_nohash(tmp_path):
    for name in ("anna_1.wav", "anna_2.wav", "solo_1.wav", "clip.wav"):
        _write(tmp_path / "yes" / name, _sound(1))
    speakers = {Path(clip.path).name: clip.speaker for clip in datasets.from_folder(tmp_path)}
    assert speakers["anna_1.wav"] == speakers["anna_2.wav"] == "anna"
    assert len({speakers["solo_1.wav"], speakers["clip.wav"], "anna"}) == 3


def test_lists_of_the_archive_win(folder):
    (folder / "validation_list.txt").write_text("yes/00000000_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("no/00000001_nohash_0.flac\nyes/00000002_nohash_0.wav\n")
    corpus = datasets.open_corpus(folder).filter(words=["yes", "no", "maybe"])
    listed = {f"{clip.word}/{Path(clip.path).name}": clip.split for clip in corpus if clip.split != "train"}
    assert listed == {
        "yes/00000000_nohash_0.wav": "dev",
        "no/00000001_nohash_0.flac": "test",
        "yes/00000002_nohash_0.wav": "test",
    }


def test_manifest(tmp_path):
    for name in "abcde":
        _write(tmp_path / f"{name}.wav", _sound(1))
    (tmp_path / "manifest.csv").write_text(
        "path,word,speaker,kind,split,word_start,word_end,licence\n"
        'a.wav,yes,anna,wake,train,0.25,0.75,"CC BY, 4.0"\n'
        "b.wav,no,ben,commands,validation,,,CC0\n"
        "c.wav,,,noise,dev,,,CC0\n"
        "d.wav,maybe,dora,,,,,CC0\n"
        "e.wav,yes,eve,wake,train,0.9,0.1,CC0\n"
        "missing.wav,yes,eve,wake,train,,,CC0\n"
        "a.wav,yes,eve,wake,nonsense,,,CC0\n"
    )
    corpus = datasets.open_corpus(tmp_path)
    assert corpus == datasets.open_corpus(tmp_path / "manifest.csv")
    first, second, third, fourth = corpus.clips
    assert (first.start, first.end, first.kind, first.split) == (0.25, 0.75, "wake", "train")
    assert (second.split, second.start) == ("dev", None)
    assert third.is_noise and third.word == "noise"
    assert fourth.split == datasets.hash_split("dora")
    assert [Path(item.path).name for item in corpus.skipped] == ["e.wav", "missing.wav", "a.wav"]
    assert "start < end" in corpus.skipped[0].detail and "nonsense" in corpus.skipped[2].detail


def test_unusable_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        datasets.open_corpus(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no sound found"):
        datasets.open_corpus(tmp_path)
    (tmp_path / "m.csv").write_text("file,word\n")
    with pytest.raises(ValueError, match=r"\['path'\] missing"):
        datasets.open_corpus(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("path,word\nx.wav,yes\n")
    with pytest.raises(ValueError, match="no usable row"):
        datasets.open_corpus(tmp_path / "m.csv")


def test_unknown_and_empty_splits(folder):
    corpus = datasets.from_folder(folder, 0, 0)
    assert len(corpus.split("training")) == 40
    with pytest.raises(ValueError, match="split 'dev': no clips"):
        corpus.split("dev")
    with pytest.raises(ValueError, match="split 'evening'"):
        corpus.split("evening")


# --- download -------------------------------------------------------------------------------


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file; may ignore ranges, and may hang up early."""

    def __init__(self, state, *args):
        self.state = state
        super().__init__(*args)

    def log_message(self, *_):
        pass

    def do_GET(self):
        content, wanted = self.state["content"], self.headers.get("Range")
        self.state["ranges"].append(wanted)
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.state["resumes"] else 0
        if first and first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        stop = self.state["hang_up_at"].pop(0) if self.state["hang_up_at"] else len(content)
        self.wfile.write(content[first:stop])


@contextlib.contextmanager
def _server(content: bytes, hang_up_at=(), resumes=True):
    state = {"content": content, "hang_up_at": list(hang_up_at), "resumes": resumes, "ranges": []}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, state)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/speech_commands_tiny.tar.gz", state
        finally:
            server.shutdown()
            thread.join()


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.fixture
def archive(folder):
    (folder / "validation_list.txt").write_text("yes/00000000_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("no/00000001_nohash_0.flac\n")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for item in sorted(folder.iterdir()):
            tar.add(item, f"./{item.name}")
    return stream.getvalue()


def test_speech_commands_are_downloaded_once(tmp_path, archive):
    with _server(archive) as (url, state):
        corpus = datasets.speech_commands(tmp_path / "sc", url, _sha256(archive))
        assert corpus.words()["yes"] == 12 and len(corpus.split("dev").filter(words=["yes"])) == 1
        assert datasets.speech_commands(tmp_path / "sc", url, _sha256(archive)) == corpus
        assert len(state["ranges"]) == 1
    unpacked = tmp_path / "sc" / "speech_commands_tiny"
    assert datasets.speech_commands(unpacked, "http://127.0.0.1:9/none").words() == corpus.words()
    assert sorted(item.name for item in (tmp_path / "sc").iterdir()) == [
        "speech_commands_tiny",
        "speech_commands_tiny.tar.gz",
    ]


def test_interrupted_download_goes_on(tmp_path, archive):
    third = len(archive) // 3
    with _server(archive, hang_up_at=[third, 2 * third]) as (url, state):
        for _ in range(2):
            with pytest.raises(requests.RequestException):
                datasets.speech_commands(tmp_path / "sc", url, _sha256(archive))
        assert datasets.speech_commands(tmp_path / "sc", url, _sha256(archive)).words()["no"] == 12
    first, *resumed = state["ranges"]
    assert first is None
    for asked, arrived in zip(resumed, (third, 2 * third), strict=True):
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        assert arrived - (1 << 14) <= start <= arrived


def test_server_without_ranges_is_read_from_the_start(tmp_path, archive):
    with _server(archive, hang_up_at=[100_000], resumes=False) as (url, state):
        with pytest.raises(requests.RequestException):
            datasets.speech_commands(tmp_path / "sc", url, _sha256(archive))
        assert datasets.speech_commands(tmp_path / "sc", url, _sha256(archive)).words()["no"] == 12
    assert state["ranges"][0] is None and state["ranges"][1].startswith("bytes=")


def test_complete_part_is_used(tmp_path, archive):
    (tmp_path / "sc").mkdir()
    (tmp_path / "sc" / "speech_commands_tiny.tar.gz.part").write_bytes(archive)
    with _server(archive) as (url, _):
        assert datasets.speech_commands(tmp_path / "sc", url, _sha256(archive)).words()["no"] == 12


def test_wrong_checksum_keeps_nothing(tmp_path, archive):
    with _server(archive) as (url, _):
        with pytest.raises(ValueError, match="hash"):
            datasets.speech_commands(tmp_path / "sc", url, "sha256:" + "0" * 64)
    assert not list((tmp_path / "sc").iterdir())


def test_missing_and_damaged_archives(tmp_path, archive):
    with _server(b"not an archive") as (url, _):
        with pytest.raises(ValueError, match="cannot be unpacked"):
            datasets.speech_commands(tmp_path / "bad", url, None)
    assert [item.name for item in (tmp_path / "bad").iterdir()] == ["speech_commands_tiny.tar.gz"]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo("../outside.txt")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    with _server(stream.getvalue()) as (url, _):
        with pytest.raises(ValueError, match="cannot be unpacked"):
            datasets.speech_commands(tmp_path / "evil", url, None)
    assert not (tmp_path / "outside.txt").exists() and not (tmp_path / "evil" / "outside.txt").exists()


# --- tasks and features ---------------------------------------------------------------------


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


def test_the_same_whatever_the_workers_and_the_order(folder):
    config = augment.AugmentConfig(reverb_probability=0.5)
    noise = [_sound(5, 2.0)]
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
    _write(folder / "yes" / "silent_nohash_0.wav", np.zeros(RATE))
    _write(folder / "yes" / "short_nohash_0.wav", _sound(1, 0.05))
    _write(folder / "yes" / "loud_nohash_0.wav", np.clip(_sound(1) * 9, -1, 1))
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
    sound[int(first * RATE) : int(last * RATE)] = _sound(3, 9.0)[: int(last * RATE) - int(first * RATE)]
    path = _write(tmp_path / "a.wav", sound)
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
    path = _write(tmp_path / "a.wav", _sound(1, seconds))
    corpus = datasets.Corpus((datasets.Clip(str(path), "sentences"),))
    for config in (None, augment.AugmentConfig()):
        loaded = datasets.load_features(corpus, "train", TASK, FRONTEND, config)
        assert len(loaded) == expected
        assert len({x.tobytes() for x in loaded.x}) == expected


def test_cache(folder, tmp_path):
    corpus, cache = _all(folder), tmp_path / "cache"
    load = functools.partial(datasets.load_features, task=TASK, frontend=FRONTEND, cache_dir=cache)
    _write(folder / "yes" / "loud_nohash_0.wav", np.clip(_sound(1) * 9, -1, 1))
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


def test_cache_key_holds_everything_that_matters(folder, tmp_path):
    def load(**changes):
        options = {"task": TASK, "frontend": FRONTEND, "augment": augment.AugmentConfig(), "seed": 0, "copies": 1}
        return datasets.load_features(_all(folder), "train", cache_dir=tmp_path, **{**options, **changes})

    load()
    for changes in (
        {"task": datasets.TaskConfig(("yes", "maybe"))},
        {"task": datasets.TaskConfig(("yes", "no"), windows=2)},
        {"frontend": features.FrontendConfig(mel_bins=20, hop_ms=10)},
        {"augment": augment.AugmentConfig(shift_ms=0.0)},
        {"augment": None},
        {"seed": 1},
        {"copies": 2},
        {"noise": [_sound(1)]},
    ):
        assert load(**changes).report.cached is False, changes
        assert load(**changes).report.cached is True, changes
    assert load().report.cached is True
    assert load(workers=4).report.cached is True
    _write(folder / "yes" / "00000000_nohash_0.wav", _sound(77, 1.1))
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
