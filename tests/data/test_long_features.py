"""Features of long sound: labels against a slow loop over time, borders of recordings, folders on disk."""

from __future__ import annotations

import json
import pathlib
import shutil

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfmot_kws.data import long_features
from tfmot_kws.data.long_features import LabelWindow, LongFeatures
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features

WORDS = ("go", "stop")


def empty(frames: list[int], targets: list[tuple[Target, ...]], **options) -> LongFeatures:
    config = features.FrontendConfig(**options)
    first = np.cumsum([0, *frames]).astype(np.int64)
    return LongFeatures(np.zeros((first[-1], config.mel_bins), np.uint16), first, tuple(targets), config)


def slow_labels(found: LongFeatures, words: tuple[str, ...], window: LabelWindow) -> np.ndarray:
    """Each position by itself, in whole microseconds."""
    micro = lambda seconds: round(seconds * 1e6)  # noqa: E731
    out = np.zeros(len(found.x) + 1, int)
    for number, targets in enumerate(found.targets):
        first, last = int(found.first[number]), int(found.first[number + 1])
        for position in range(first + 1, last + 1):
            frames = position - first
            now = ((frames - 1) * found.frontend.hop_ms + found.frontend.window_ms) * 1000
            label, holder = 0, None
            for target in targets:
                if target.word not in words:
                    continue
                start, end = micro(target.start), micro(target.end)
                low, high = end - micro(window.before), end + micro(window.after)
                if low <= now <= high:
                    if holder is None or end >= holder:
                        label, holder = words.index(target.word) + 1, end
                elif holder is None and min(start + micro(window.free_before), low) <= now:
                    if now <= high + micro(window.free_after):
                        label = -1
            out[position] = label
    return out


def times(most: float) -> st.SearchStrategy[float]:
    return st.integers(0, round(most * 200)).map(lambda steps: steps / 200)


@st.composite
def target_lists(draw: st.DrawFn) -> tuple[Target, ...]:
    found = []
    for _ in range(draw(st.integers(0, 3))):
        start = draw(times(2.0))
        found.append(Target(draw(st.sampled_from([*WORDS, "other"])), start, start + 0.005 + draw(times(0.8))))
    return tuple(found)


@hypothesis.settings(max_examples=150)
@hypothesis.given(
    hop_ms=st.sampled_from([10, 20]),
    window_ms=st.sampled_from([25, 30]),
    frames=st.lists(st.integers(0, 120), min_size=2, max_size=3),
    data=st.data(),
    window=st.builds(LabelWindow, times(0.1), st.integers(4, 60).map(lambda n: n / 200), times(0.3), times(0.7)),
)
def test_labels_are_those_of_a_loop_over_time(hop_ms, window_ms, frames, data, window) -> None:
    found = empty(frames, [data.draw(target_lists()) for _ in frames], hop_ms=hop_ms, window_ms=window_ms)
    ends = [round(target.end, 6) for targets in found.targets for target in targets]
    hypothesis.assume(len(set(ends)) == len(ends))  # else it is open which of two words it is
    assert np.array_equal(found.labels(WORDS, window), slow_labels(found, WORDS, window))


@pytest.mark.parametrize("hop_ms", [10, 20])
def test_words_at_borders_stay_in_their_recording(hop_ms: int) -> None:
    """The last position of a recording is the number of the first of the next: it belongs to the first of the two."""
    count = 2000 // hop_ms
    seconds = ((count - 1) * hop_ms + 30) / 1000
    word_first = empty([count, count], [(), (Target("go", 0.0, 0.03),)], hop_ms=hop_ms).labels(WORDS)
    assert word_first[: count + 1].tolist() == [0] * (count + 1) and word_first[count + 1] == 1
    word_last = empty([count, count], [(Target("stop", seconds - 0.3, seconds),), ()], hop_ms=hop_ms).labels(WORDS)
    assert word_last[count] == 2 and word_last[count + 1 :].tolist() == [0] * count


def test_the_later_of_two_words_has_what_both_want() -> None:
    one, two = Target("go", 0.2, 0.5), Target("stop", 0.4, 0.6)
    window = LabelWindow(0.05, 0.2, 0.0, 0.0)
    labels = [empty([60], [order], hop_ms=20).labels(WORDS, window) for order in ((one, two), (two, one))]
    assert np.array_equal(*labels) and set(labels[0].tolist()) == {-1, 0, 1, 2}
    assert labels[0][round((0.6 - 0.01) / 0.02)] == 2


def test_labels_that_make_no_sense() -> None:
    found = empty([60], [(Target("go", 0.2, 0.5),)], hop_ms=20)
    with pytest.raises(ValueError, match="less than a hop"):
        found.labels(WORDS, LabelWindow(0.0, 0.01))
    with pytest.raises(ValueError, match="one string"):
        found.labels("go stop")
    for options in ({"before": -0.1}, {"free_after": 61.0}, {"before": 0.0, "after": 0.0}):
        with pytest.raises(ValueError, match="LabelWindow"):
            LabelWindow(**options)
    assert not found.labels(["stop"]).any()


@pytest.mark.parametrize("frames", [1, 7, 8, 20])
def test_windows_lie_in_one_recording(frames: int) -> None:
    found = empty([7, 0, 20, 8], [()] * 4)
    ends = found.window_ends(frames)
    expected = [p for a, b in ((0, 7), (7, 27), (27, 35)) for p in range(a + frames, b + 1)]
    assert ends.tolist() == expected and ends.dtype == np.int64


def noise(rng: np.random.Generator, seconds: float, rate: int = 16000) -> np.ndarray:
    return (rng.standard_normal(round(seconds * rate)) * 3000).astype(np.int16)


@pytest.fixture(scope="module", params=["micro", "lfbe"])
def found(request: pytest.FixtureRequest) -> LongFeatures:
    rng = np.random.default_rng(0)
    recordings = [
        (noise(rng, 1.0), [Target("go", 0.1, 0.5, "anna")]),
        (noise(rng, 0.01), []),
        (noise(rng, 0.5) / 32768.0, []),
    ]
    return long_features.of_sound(recordings, features.FrontendConfig(backend=request.param, hop_ms=10))


def test_features_of_sound(found: LongFeatures) -> None:
    assert found.first.tolist() == [0, 98, 98, 146] and [len(t) for t in found.targets] == [1, 0, 0]
    assert found.hours == pytest.approx(1.46 / 3600)
    sound = noise(np.random.default_rng(0), 1.0)
    expected = features.extract(found.frontend, sound)
    if found.frontend.backend == "micro":
        assert found.x.dtype == np.uint16
        assert np.array_equal(found.x[:98] * np.float32(found.scale), expected)
    else:
        assert found.x.dtype == np.float16 and np.allclose(found.x[:98], expected, rtol=1e-3)


def test_raw_sound_is_kept_as_samples() -> None:
    sound = noise(np.random.default_rng(0), 0.5)
    kept = long_features.of_sound([(sound, [])], features.FrontendConfig(backend="raw", hop_ms=10))
    assert kept.x.dtype == np.int16 and kept.scale == 2.0**-15 and kept.hours == pytest.approx(0.5 / 3600)
    assert np.array_equal(kept.x.ravel(), sound)


@pytest.mark.parametrize("backend", ["micro", "lfbe"])
def test_no_sound_has_the_type_of_its_front_end(backend: str, tmp_path: pathlib.Path) -> None:
    none = long_features.of_sound([], features.FrontendConfig(backend=backend))
    assert none.x.dtype == long_features.TYPES[backend][0] and none.hours == 0.0
    opened = long_features.read(long_features.write(tmp_path, none))
    assert opened.x.shape == (0, 40) and opened.targets == () and len(opened.labels(WORDS)) == 1


def test_folders_give_what_was_written(found: LongFeatures, tmp_path: pathlib.Path) -> None:
    opened = long_features.read(long_features.write(tmp_path / "a", found))
    assert isinstance(opened.x, np.memmap) and not opened.x.flags.writeable
    assert opened.x.dtype == found.x.dtype and np.array_equal(opened.x, found.x)
    assert np.array_equal(opened.first, found.first) and opened.first.dtype == np.int64
    assert opened.targets == found.targets and opened.frontend == found.frontend
    again = long_features.read(long_features.write(tmp_path / "a", opened))  # onto the files that it is read from
    assert np.array_equal(again.x, found.x)


def test_joined(found: LongFeatures, tmp_path: pathlib.Path) -> None:
    opened = long_features.read(long_features.write(tmp_path, found))
    both = long_features.join([found, opened])
    assert both.first.tolist() == [0, 98, 98, 146, 244, 244, 292] and len(both.targets) == 6
    assert both.x.dtype == found.x.dtype and np.array_equal(both.x, np.concatenate([found.x] * 2))
    with pytest.raises(ValueError, match="nothing given"):
        long_features.join([])
    with pytest.raises(ValueError, match="different front ends"):
        long_features.join([found, empty([3], [()], hop_ms=20)])
    floats = LongFeatures(found.x.astype(np.float32), found.first, found.targets, found.frontend)
    with pytest.raises(ValueError, match="stored as float[0-9]+ and"):
        long_features.join([found, floats])
    assert floats.scale == 1.0


def test_recordings_and_targets_must_agree() -> None:
    with pytest.raises(ValueError, match="one place more than recordings"):
        empty([5, 5], [()])


def _about(folder: pathlib.Path, **changes) -> None:
    path = folder / long_features.ABOUT
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _array(folder: pathlib.Path, name: str, array: np.ndarray) -> None:
    np.save(folder / name, array)


FEATURES, PIECES = long_features.FEATURES, long_features.PIECES
DAMAGES = {
    "no about": lambda f: (f / long_features.ABOUT).unlink(),
    "half an about": lambda f: (f / long_features.ABOUT).write_text('{"frontend": {'),
    "a list": lambda f: (f / long_features.ABOUT).write_text("[]"),
    "another option": lambda f: _about(f, frontend={"hops": 3}),
    "a front end of other bands": lambda f: _about(f, frontend={"mel_bins": 20}),
    "another back end": lambda f: _about(f, frontend={"backend": "lfbe"}),
    "targets of another number": lambda f: _about(f, targets=[[]]),
    "a target without end": lambda f: _about(f, targets=[[["go", 0.5, float("inf")]], []]),
    "a target the wrong way": lambda f: _about(f, targets=[[["go", 0.5, 0.2]], []]),
    "a target of two": lambda f: _about(f, targets=[[["go", 0.5]], []]),
    "no features": lambda f: (f / FEATURES).unlink(),
    "features of no byte": lambda f: (f / FEATURES).write_bytes(b""),
    "half of the features": lambda f: (f / FEATURES).write_bytes((f / FEATURES).read_bytes()[:-1000]),
    "features of another type": lambda f: _array(f, FEATURES, np.zeros((40, 40), np.int16)),
    "features of another rank": lambda f: _array(f, FEATURES, np.zeros(40, np.uint16)),
    "objects": lambda f: np.save(f / FEATURES, np.array([None, {}], object), allow_pickle=True),
    "pieces of another number": lambda f: _array(f, PIECES, np.array([0, 40])),
    "pieces that are no numbers": lambda f: _array(f, PIECES, np.array(["0", "1", "2"])),
    "pieces in fractions": lambda f: _array(f, PIECES, np.array([0.0, 20.5, 40.0])),
    "pieces that fall": lambda f: _array(f, PIECES, np.array([0, 50, 40])),
    "pieces that end early": lambda f: _array(f, PIECES, np.array([0, 20, 39])),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    whole = empty([20, 20], [(Target("go", 0.1, 0.2),), ()])
    return long_features.write(tmp_path_factory.mktemp("long"), whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused(damage: str, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))
    assert long_features.read(copy).hours > 0
    DAMAGES[damage](copy)
    with pytest.raises(ValueError, match=r"copy.*make them anew"):
        long_features.read(copy)


def test_a_folder_is_none_until_it_is_whole(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> None:
    whole = long_features.read(folder)
    long_features.write(tmp_path, whole)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(long_features.np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        long_features.write(tmp_path, whole)
    with pytest.raises(ValueError, match="make them anew"):
        long_features.read(tmp_path)
