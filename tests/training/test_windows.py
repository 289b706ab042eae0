"""Windows of long sound: where they lie, what a batch is made of, and which hard ones are found."""

from __future__ import annotations

import pathlib

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tfmot_kws.data import long_features
from tfmot_kws.data.long_features import LabelWindow, LongFeatures
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features
from tfmot_kws.training import recipes, windows
from tfmot_kws.training.windows import Runs, Windows, WindowShares

FRONTEND = features.FrontendConfig(mel_bins=20, hop_ms=20)
FRAMES = 10


def sound(frames: list[int], targets: dict[int, tuple[Target, ...]] | None = None, number: int = 0) -> LongFeatures:
    """Band 0 says the sound, band 1 the recording, band 2 the frame in it."""
    first = np.cumsum([0, *frames]).astype(np.int64)
    x = np.zeros((first[-1], 20), np.uint16)
    x[:, 0] = number
    for recording, (a, b) in enumerate(zip(first[:-1], first[1:])):
        x[a:b, 1], x[a:b, 2] = recording, np.arange(b - a)
    return LongFeatures(x, first, tuple((targets or {}).get(n, ()) for n in range(len(frames))), FRONTEND)


@pytest.fixture(scope="module")
def drawn_from(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    words = {0: (Target("go", 0.5, 0.9), Target("other", 2.0, 2.4)), 2: (Target("stop", 0.0, 0.3),)}
    on_disk = long_features.write(tmp_path_factory.mktemp("windows"), sound([50, 9, 12, 0, 400], number=1))
    return Windows([sound([200, 5, 100], words), long_features.read(on_disk)], ["go", "stop"], FRAMES)


def raw(x: np.ndarray) -> np.ndarray:
    return np.rint(x / np.float32(features.MICRO_SCALE)).astype(int)


def test_windows_never_straddle_recordings(drawn_from: Windows) -> None:
    everything = np.concatenate([*(np.asarray(runs) for runs in drawn_from.of_word), np.asarray(drawn_from.others)])
    assert len(set(everything.tolist())) == len(everything)
    x = raw(drawn_from.take(everything))
    assert x.shape == (len(everything), FRAMES, 20)
    assert np.all(x[:, :, :2] == x[:, :1, :2]) and np.all(np.diff(x[:, :, 2], axis=1) == 1)
    labels = [s.labels(["go", "stop"])[s.window_ends(FRAMES)] for s in drawn_from.sounds]
    asked = np.concatenate(labels)
    assert len(everything) == np.sum(asked >= 0)  # none is missing
    assert [len(runs) for runs in drawn_from.of_word] == [np.sum(asked == 1), np.sum(asked == 2)]


def test_features_stay_on_disk(drawn_from: Windows) -> None:
    on_disk = drawn_from.sounds[1]
    assert isinstance(on_disk.x, np.memmap)
    taken = drawn_from.take(np.asarray(drawn_from.others)[-5:])
    assert type(taken) is np.ndarray and taken.dtype == np.float32
    assert np.array_equal(raw(taken)[:, 0, 0], [1] * 5)


def test_words_keep_their_class(drawn_from: Windows) -> None:
    ends, classes = drawn_from.draw(np.random.default_rng(0), 400)
    x = raw(drawn_from.take(ends))
    for number, (recording, end) in enumerate(((0, 0.9), (2, 0.3)), 1):
        mine = x[classes == number]
        assert len(mine) and np.all(mine[:, -1, :2] == [0, recording])
        heard = mine[:, -1, 2] * 0.02 + 0.03  # seconds up to the end of the last frame
        window = LabelWindow()
        assert end - window.before - 1e-6 <= heard.min() <= heard.max() <= end + window.after + 1e-6
    others = x[classes == 0]
    assert set(others[:, -1, 0]) == {0, 1}


@pytest.mark.parametrize("keywords, hard, batch", [(0.3, 0.25, 64), (0.5, 0.0, 10), (0.4, 0.55, 1), (0.01, 0.9, 8)])
def test_shares_of_a_batch(keywords: float, hard: float, batch: int) -> None:
    found = Windows(
        [sound([200, 100], {0: (Target("go", 0.5, 0.9),)})], ["go"], FRAMES, shares=WindowShares(keywords, hard)
    )
    ends, classes = found.draw(np.random.default_rng(1), batch)
    assert ends.shape == classes.shape == (batch,) and ends.dtype == np.int64 and classes.dtype == np.int32
    wanted = max(1, round(keywords * batch))
    assert np.sum(classes == 1) == wanted and np.all(found.of_word[0].contains(ends) == (classes == 1))
    assert np.all(found.others.contains(ends[classes == 0]))
    found.hard = np.array([np.asarray(found.others)[7]])
    ends, classes = found.draw(np.random.default_rng(1), batch)
    assert ends.shape == (batch,) and np.sum(classes == 1) == wanted
    assert np.sum(ends == found.hard[0]) >= min(round(hard * batch), batch - wanted)


def test_each_word_and_each_hour_is_as_likely(drawn_from: Windows) -> None:
    ends, classes = drawn_from.draw(np.random.default_rng(2), 20000)
    assert np.mean(classes[classes > 0] == 1) == pytest.approx(0.5, abs=0.03)
    others = ends[classes == 0]
    second = len(np.asarray(drawn_from.others)) - np.sum(
        np.asarray(drawn_from.others) <= drawn_from.sounds[0].x.shape[0]
    )
    share = second / len(drawn_from.others)
    assert np.mean(others > drawn_from.sounds[0].x.shape[0]) == pytest.approx(share, abs=0.03)


def scores_of(planted: dict[tuple[int, int, int], float]):
    """A model that hears (sound, recording, last frame), and how sure it is then."""

    def function(x: np.ndarray) -> np.ndarray:
        last = raw(x)[:, -1, :3]
        out = np.zeros((len(x), 2), np.float32)
        out[:, 1] = [planted.get(tuple(row), -9.0) for row in last.tolist()]
        return out

    return function


def test_mining_finds_what_is_planted() -> None:
    quiet = sound([300, 300, 300], number=1)
    found = Windows([sound([200], {0: (Target("go", 0.5, 0.9),)}), quiet], ["go"], FRAMES)
    planted = {
        (1, 0, 299): 5.0,  # the last window of a recording, and the first of the next one, which is near only by number
        (1, 1, 9): 4.0,
        (1, 1, 12): 3.5,  # three frames from one that is surer
        (1, 1, 120): 3.0,
        (1, 1, 145): 2.0,  # half a second on
        (1, 2, 200): 1.0,
    }
    seen = []
    hours = sum(part.hours for part in found.sounds)
    scores = found.mine(scores_of(planted), 1, 5 / hours, 0.5, lambda done, total: seen.append((done, total)))
    assert scores.tolist() == [5.0, 4.0, 3.0, 2.0, 1.0]
    where = raw(found.take(found.hard[:5]))[:, -1, 1:3]
    assert where.tolist() == [[0, 299], [1, 9], [1, 120], [1, 145], [2, 200]]
    assert seen[-1] == (len(found.others), len(found.others))
    beside = found.hard[5:]
    assert np.all(found.others.contains(beside)) and len(beside) == 8  # a step either way, but for the two at a border
    assert set(np.abs(beside[:, None] - found.hard[:5]).min(axis=1)) == {1}
    again = found.mine(scores_of(planted), hop=3, per_hour=1e-6)
    assert len(again) == 1 and set(found.hard[:1] % 3) == {0}


def test_mining_keeps_its_distance(rng: np.random.Generator) -> None:
    found = Windows([sound([2000], {0: (Target("go", 0.5, 0.9),)})], ["go"], FRAMES)
    scores = found.mine(lambda x: np.c_[np.zeros(len(x)), rng.standard_normal(len(x))], 1, 1e6, 0.3)
    kept = np.sort(found.hard[: len(scores)])
    assert len(kept) > 60 and np.diff(kept).min() >= 15 and np.all(np.diff(scores) <= 0)


@pytest.mark.parametrize("hop", [1, 3])
def test_mining_of_blocks_finds_the_same(drawn_from: Windows, hop: int) -> None:
    """Many windows that are heard at once score as each by itself, whatever the sound's length."""

    def by_itself(x: np.ndarray) -> np.ndarray:
        score = np.sin(raw(x) @ np.arange(1.0, 21.0)).sum(axis=1)
        return np.c_[np.zeros(len(x)), score, -score]

    def blocks(x: np.ndarray) -> np.ndarray:
        return np.stack([by_itself(x[:, at : at + FRAMES]) for at in range(0, 12 * hop + 1, hop)], axis=1)

    alone = drawn_from.mine(by_itself, hop, 3600.0, 0.1)
    hard = drawn_from.hard
    seen = []
    together = drawn_from.mine(blocks, hop, 3600.0, 0.1, lambda *step: seen.append(step), reach=12 * hop)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(hard, drawn_from.hard)
    assert len(alone) > 5 and seen[-1][0] == seen[-1][1]


def test_mining_that_makes_no_sense(drawn_from: Windows) -> None:
    for options in ({"hop": 0}, {"per_hour": 0.0}, {"spacing_seconds": -1.0}):
        with pytest.raises(ValueError, match="must be at least 1, above 0, and 0 or more"):
            drawn_from.mine(lambda x: np.zeros((len(x), 3)), **options)
    for options in ({"hop": 3, "reach": 4}, {"hop": 3, "reach": -3}):
        with pytest.raises(ValueError, match="reach must be 0 or a multiple of hop"):
            drawn_from.mine(lambda x: np.zeros((len(x), 3)), **options)
    with pytest.raises(ValueError, match=r"expected logits \[\d+, 3, 3\]"):
        drawn_from.mine(lambda x: np.zeros((len(x), 2, 3)), reach=6)
    with pytest.raises(ValueError, match=r"expected logits \[\d+, 3\]"):
        drawn_from.mine(lambda x: np.zeros((len(x), 2)))


@hypothesis.settings(max_examples=100)
@hypothesis.given(chosen=st.lists(st.booleans(), min_size=1, max_size=60), of=st.integers(1, 7))
def test_runs_are_the_places_that_are_chosen(chosen: list[bool], of: int) -> None:
    places = np.flatnonzero(chosen)
    runs = Runs.where(np.array(chosen))
    assert len(runs) == len(places) and np.array_equal(np.asarray(runs), places)
    assert np.array_equal(runs.multiples(of), places[places % of == 0])
    asked = np.arange(-2, len(chosen) + 3)
    assert np.array_equal(runs.contains(asked), np.isin(asked, places))
    both = Runs.joined([runs, runs], [0, 100])
    assert np.array_equal(np.asarray(both), np.concatenate([places, places + 100]))
    for wrong in (-1, len(places)):
        with pytest.raises(IndexError):
            runs[wrong]


@pytest.mark.parametrize(
    "words, frames, options, message",
    [
        (["go", "stop"], FRAMES, {}, "no window of 10 frames with keyword stop"),
        (["go"], 201, {}, "no window of 201 frames with keyword go"),
        (["go"], FRAMES, {"label_window": LabelWindow(10.0, 10.0)}, "with sound without a keyword"),
        ("go", FRAMES, {}, "list of different words"),
        ([], FRAMES, {}, "list of different words"),
        (["go", "go"], FRAMES, {}, "list of different words"),
        (["go"], 0, {}, "at least 1 frame"),
    ],
)
def test_windows_that_make_no_sense(words, frames: int, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Windows([sound([200], {0: (Target("go", 0.5, 0.9),)})], words, frames, **options)


def test_front_ends_must_agree(drawn_from: Windows) -> None:
    other = long_features.of_sound([(np.zeros(16000, np.int16), ())], features.FrontendConfig(hop_ms=10))
    for sounds in ([], [drawn_from.sounds[0], other]):
        with pytest.raises(ValueError, match="different front ends, or there are none"):
            Windows(sounds, ["go"], FRAMES)
    with pytest.raises(ValueError, match="batch_size=0"):
        drawn_from.draw(np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match="leave some for"):
        WindowShares(0.6, 0.4)


def test_tempo_plays_each_window_faster_or_slower_up_to_its_end() -> None:
    frames, long = 21, 31
    x = np.tile(np.arange(long, dtype=np.float32)[None, :, None], (400, 1, 2))
    out = windows.change_tempo(tf.constant(x), tf.constant(3, tf.int64), frames, 1.5).numpy()
    assert out.shape == (400, frames, 2) and (out[:, -1] == long - 1).all()
    factors = np.diff(out[:, :, 0], axis=1)
    np.testing.assert_allclose(factors, np.repeat(factors[:, :1], frames - 1, axis=1), atol=1e-3)
    assert 1 / 1.5 <= factors.min() < 0.69 and 1.45 < factors.max() <= 1.5 + 1e-4
    assert abs(np.log(factors[:, 0]).mean()) < 0.05  # as often faster as slower
    again = windows.change_tempo(tf.constant(x), tf.constant(3, tf.int64), frames, 1.5).numpy()
    other = windows.change_tempo(tf.constant(x), tf.constant(4, tf.int64), frames, 1.5).numpy()
    assert np.array_equal(out, again) and not np.array_equal(out, other)


def test_longer_windows_end_where_the_others_do(drawn_from: Windows) -> None:
    ends, _ = drawn_from.draw(np.random.default_rng(0), 32)
    ends[0] = FRAMES  # nothing before it
    longer = drawn_from.take(ends, FRAMES + 5)
    assert longer.shape == (32, FRAMES + 5, 20)
    assert np.array_equal(longer[:, 5:], drawn_from.take(ends))
    assert (longer[0, :5] == longer[0, 5]).all()


@pytest.mark.parametrize("tempo", [0.9, 4.0, float("nan")])
def test_tempo_that_cannot_be_is_refused(drawn_from: Windows, tempo) -> None:
    with pytest.raises(ValueError, match="tempo="):
        windows.batches(drawn_from, 2, 16, 0, None, tempo=tempo)


@pytest.mark.parametrize(
    ("augment", "tempo", "reach"),
    [(None, 1.0, 0), (recipes.FeatureAugment(shift_frames=0), 1.0, 7), (None, 1.25, 0), (None, 1.25, 7)],
)
def test_batches_are_the_same_for_a_seed(drawn_from: Windows, augment, tempo, reach) -> None:
    def gone_through(seed: int) -> list[list[np.ndarray]]:
        data = windows.batches(drawn_from, 2, 16, seed, augment, tempo=tempo, reach=reach, hop=3)
        assert data.cardinality() == 2
        return [[np.asarray(part) for batch in data for part in batch] for _ in range(2)]

    one, same, other = gone_through(5), gone_through(5), gone_through(6)
    places = 1 + reach // 3
    assert len(one[0]) == 4 and one[0][0].shape == (16, FRAMES + reach, 20) and one[0][1].shape == (16, places, 4)
    assert {0, 1, 2} <= set(one[0][1][..., 0].flat) <= {-1, 0, 1, 2} and not one[0][1][..., 1:].any()
    assert all(np.array_equal(a, b) for times in zip(one, same) for a, b in zip(*times))
    assert not np.array_equal(one[0][0], one[1][0]) and not np.array_equal(one[0][0], other[0][0])


def test_teachers_hear_what_is_trained_on(drawn_from: Windows) -> None:
    def teacher(x):
        return x[:, FRAMES - 1 :: 2, :3] * 2.0

    masks = recipes.FeatureAugment(time_masks=2, time_mask_frames=9, shift_frames=0)
    for x, answers in windows.batches(drawn_from, 3, 16, 0, masks, teacher, reach=4, hop=2):
        assert np.array_equal(answers[..., 1:], 2.0 * np.asarray(x)[:, FRAMES - 1 :: 2, :3])


@pytest.mark.parametrize("bad", [{"reach": -1}, {"hop": 0}])
def test_stretches_that_cannot_be_are_refused(drawn_from: Windows, bad) -> None:
    with pytest.raises(ValueError, match="reach=.*hop="):
        windows.batches(drawn_from, 2, 16, 0, None, **bad)


def test_labels_of_stretches_are_those_of_their_windows(drawn_from: Windows) -> None:
    """Each place of a stretch has the class by which windows that end there are drawn; other sounds none."""
    longest = 40
    ends = drawn_from.draw_stretches(np.random.default_rng(0), 300, 30)
    which = np.searchsorted(drawn_from._base, ends, side="right") - 1
    assert np.all(drawn_from.labels(ends, 31).max(axis=1) >= 0)  # the drawn window is among them
    labels = drawn_from.labels(ends, longest)
    for row, end, sound_of in zip(labels, ends.tolist(), which.tolist()):
        sound = drawn_from.sounds[sound_of]
        wanted = np.full(longest, -1)
        asked = np.full(len(sound.x) + 1, -1)
        there = sound.window_ends(FRAMES)
        asked[there] = sound.labels(["go", "stop"])[there]
        local = np.arange(end - longest + 1, end + 1) - drawn_from._base[sound_of]
        wanted[local > 0] = asked[local[local > 0]]
        assert np.array_equal(row, wanted)


def test_labels_are_played_at_the_tempo_of_their_frames() -> None:
    """The place of a bright frame and its label stay together."""
    x, labels = np.zeros((64, 40, 4), np.float32), np.zeros((64, 40), np.int32)
    x[:, 24] = 1.0
    labels[:, 22:27] = 1
    seed = tf.constant(3, tf.int64)
    moved = windows.change_tempo(tf.constant(x), seed, 30, 1.3).numpy()[:, :, 0]
    beside = windows.change_tempo_of_labels(tf.constant(labels), seed, 30, 1.3).numpy()
    brightest = moved.argmax(axis=1)
    assert len(set(brightest.tolist())) > 3
    assert beside[np.arange(64), brightest].all() and set(beside.sum(axis=1).tolist()) >= {4, 5, 6}


def test_batches_do_not_shift(drawn_from: Windows) -> None:
    with pytest.raises(ValueError, match="shift_frames: must be 0"):
        windows.batches(drawn_from, 2, 16, 0, recipes.FeatureAugment())


def test_hundreds_of_hours_take_little_memory(tmp_path: pathlib.Path) -> None:
    """A sparse file of 200 hours: what is kept of it is a handful of runs."""
    frames = 200 * 3600 * 50
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint16, (frames, 20))
    long = LongFeatures(x, np.array([0, frames]), ((),), FRONTEND)
    found = Windows([sound([200], {0: (Target("go", 0.5, 0.9),)}), long], ["go"], FRAMES)
    assert len(found.others) > frames and sum(a.nbytes for a in vars(found.others).values()) < 1000
    assert raw(found.take(found.draw(np.random.default_rng(0), 32)[0])).shape == (32, FRAMES, 20)
