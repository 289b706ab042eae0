"""Evaluation on streams against plain definitions, and by hand; the commands' side of it with models that are fakes."""

from __future__ import annotations

import dataclasses
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from stream_cases import STEP, random_streams

from tfmot_kws.commands.parts import stream_numbers, stream_runners
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.evaluation import confidence, det, det_plot, mlperf
from tfmot_kws.evaluation import streams as stream_evaluate
from tfmot_kws.evaluation.detector import Detector, DetectorConfig
from tfmot_kws.evaluation.streams import Stream, StreamCurve
from tfmot_kws.sound import files as audio


def counted(
    streams: list[Stream], config: DetectorConfig, words: tuple[str, ...], tolerance: float
) -> tuple[dict[str, int], dict[str, int], dict[str, list[float]]]:
    """Hits, false accepts and latencies of each word, a detector for each stream and the rules as told."""
    hits, false = dict.fromkeys(words, 0), dict.fromkeys(words, 0)
    late: dict[str, list[float]] = {word: [] for word in words}
    for stream in streams:
        taken = set()
        for event in Detector(config).run(stream.outputs):
            word, time = words[event.keyword], float(stream.times[event.step])
            own = [t for t in stream.targets if t.word == word]
            into = None
            for target, following in zip(own, [*own[1:], None]):
                if target.start <= time <= target.end + tolerance and (following is None or time < following.start):
                    into = target
            if into is None:
                false[word] += 1
            elif into not in taken:
                taken.add(into)
                hits[word] += 1
                late[word].append(time - into.end)
    return hits, false, late


def detector_config(words: tuple[str, ...], thresholds: tuple[float, ...], rng: np.random.Generator) -> DetectorConfig:
    return DetectorConfig(
        4, tuple(range(2, 2 + len(words))), thresholds, int(rng.integers(1, 6)), int(rng.integers(0, 15)), scale=0.05
    )


@pytest.mark.parametrize("words", [("one",), ("one", "two")])
@hypothesis.given(st.integers(0, 2**32 - 1), st.floats(-1.0, 4.0), st.floats(0.0, 1.5))
@hypothesis.settings(max_examples=25)
def test_counts_are_those_of_the_rules(words: tuple[str, ...], seed: int, threshold: float, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    streams = random_streams(rng, words)
    config = detector_config(words, (threshold,) * len(words), rng)
    got = stream_evaluate.evaluate(streams, config, words, STEP, tolerance=tolerance, fa_per_hour=None, points=3)
    hits, false, late = counted(streams, config, words, tolerance)
    for word in words:
        result = got.results[word]
        assert (result.hits, result.false_accepts) == (hits[word], false[word])
        assert result.targets == sum(t.word == word for s in streams for t in s.targets)
        np.testing.assert_allclose(result.latencies, late[word])
    assert got.pooled.hits == sum(hits.values()) and got.pooled.false_accepts == sum(false.values())


@pytest.mark.parametrize("words", [("one",), ("one", "two")])
def test_every_point_of_a_curve_is_a_detector_that_ran(words: tuple[str, ...], rng: np.random.Generator) -> None:
    streams = random_streams(rng, words, 4)
    config = detector_config(words, (0.0,) * len(words), rng)
    got = stream_evaluate.evaluate(streams, config, words, STEP, points=20)
    single = [(word, got.curves[word], (k,)) for k, word in enumerate(words)]
    for name, curve, columns in [*single, ("all", got.pooled_curve, tuple(range(len(words))))]:
        chosen = tuple(words[k] for k in columns)
        keywords = tuple(config.keywords[k] for k in columns)
        assert len(curve.thresholds) > 20 and (np.diff(curve.thresholds) > 0).all(), name
        assert curve.hits[-1] == curve.false_accepts[-1] == 0
        for index in range(0, len(curve.thresholds), 3):
            limits = (float(curve.thresholds[index]),) * len(chosen)
            there = dataclasses.replace(config, keywords=keywords, thresholds=limits)
            hits, false, _ = counted(streams, there, chosen, 1.0)
            assert (curve.hits[index], curve.false_accepts[index]) == (sum(hits.values()), sum(false.values()))


def test_thresholds_are_chosen_for_each_keyword_on_its_own(rng: np.random.Generator) -> None:
    words = ("one", "two")
    streams = random_streams(rng, words, 4)
    config = detector_config(words, (0.0, 0.0), rng)
    for rate in (0.0, 60.0, 600.0):
        got = stream_evaluate.evaluate(streams, config, words, STEP, fa_per_hour=rate)
        for word, threshold in zip(words, got.config.thresholds):
            curve = got.curves[word]
            index = int(np.searchsorted(curve.thresholds, threshold))
            assert curve.thresholds[index] == threshold
            allowed = curve.fa_per_hour <= rate
            assert allowed[index] and curve.hits[index] == curve.hits[allowed].max()
            assert curve.false_accepts[index] == curve.false_accepts[allowed & (curve.hits == curve.hits[index])].min()
            alone = dataclasses.replace(config, keywords=(2 + words.index(word),), thresholds=(threshold,))
            assert counted(streams, alone, (word,), 1.0)[1][word] == curve.false_accepts[index]


def quiet_stream(name: str, loud: list[int], targets: tuple[Target, ...] = (), steps: int = 100) -> Stream:
    """One keyword, class 1, whose margin is 50 at the steps that are loud and -50 elsewhere; a step each 0.1 s."""
    outputs = np.tile(np.array([50, 0], np.int8), (steps, 1))
    outputs[loud] = (0, 50)
    return Stream(name, outputs, STEP * np.arange(1, steps + 1), targets)


ONE = DetectorConfig(2, (1,), 1.0)


def test_a_stream_by_hand() -> None:
    """Hit late, hit early, found twice, missed, and false accepts before a word, after its tolerance and far away."""
    targets = tuple(Target("go", start, start + 0.5) for start in (1.0, 3.0, 5.0, 7.0))
    loud = [8, 17, 31, 52, 54, 86, 99]  # at 0.9, 1.8, 3.2, 5.3, 5.5, 8.7 and 10.0 s
    got = stream_evaluate.evaluate([quiet_stream("s", loud, targets)], ONE, ["go"], STEP, fa_per_hour=None)
    assert [(e.outcome, round(e.time, 3)) for e in got.events] == [
        ("false accept", 0.9),
        ("hit", 1.8),
        ("hit", 3.2),
        ("hit", 5.3),
        ("repeat", 5.5),
        ("false accept", 8.7),
        ("false accept", 10.0),
    ]
    result = got.results["go"]
    assert (result.targets, result.hits, result.false_accepts, result.frr) == (4, 3, 3, 0.25)
    np.testing.assert_allclose(result.latencies, [0.3, -0.3, -0.2])
    assert result.latency(50) == pytest.approx(-0.2)
    # 100 steps less those from start to 1 s after the end: 16 each
    assert result.hours == pytest.approx((100 - 4 * 16) * STEP / 3600)
    assert got.mlperf == mlperf.MlperfTiny(3, 1, 4, 1)
    assert got.mlperf.passed is None and not got.mlperf.comparable and 9.0 < got.mlperf.seconds <= 10.0


def test_where_intervals_meet_the_later_word_takes_over() -> None:
    targets = (Target("go", 1.0, 1.5), Target("go", 2.0, 2.5))
    got = stream_evaluate.evaluate([quiet_stream("s", [18, 19], targets)], ONE, ["go"], STEP, fa_per_hour=None)
    assert [e.outcome for e in got.events] == ["hit", "hit"]
    assert [e.latency for e in got.events] == pytest.approx([0.4, -0.5])
    assert got.results["go"].hours == pytest.approx((100 - 26) * STEP / 3600)


def test_a_long_word_ends_where_the_next_begins() -> None:
    """Also where the next ends earlier."""
    targets = (Target("go", 1.0, 6.0), Target("go", 2.0, 2.5))
    got = stream_evaluate.evaluate([quiet_stream("s", [14, 39], targets)], ONE, ["go"], STEP, fa_per_hour=None)
    assert [e.outcome for e in got.events] == ["hit", "false accept"]


def test_recordings_do_not_silence_or_smooth_each_other() -> None:
    """An event at the very end of one and at the very start of the next."""
    config = dataclasses.replace(ONE, refractory=50)
    streams = [quiet_stream("a", [99]), quiet_stream("b", [0])]
    got = stream_evaluate.evaluate(streams, config, ["go"], STEP, fa_per_hour=None)
    assert [(e.stream, e.outcome) for e in got.events] == [("a", "false accept"), ("b", "false accept")]
    smooth = dataclasses.replace(ONE, smooth=2, thresholds=(50.0,))
    got = stream_evaluate.evaluate(streams, smooth, ["go"], STEP, fa_per_hour=None)
    assert not got.events and got.pooled.hours == pytest.approx(2 * 99 * STEP / 3600)


def test_a_threshold_that_always_fires_stays_in_the_recordings() -> None:
    config = dataclasses.replace(ONE, thresholds=(-np.inf,), refractory=9)
    streams = [quiet_stream("a", []), quiet_stream("b", [])]
    got = stream_evaluate.evaluate(streams, config, ["go"], STEP, fa_per_hour=None)
    assert [e.time for e in got.events] == pytest.approx([*np.arange(0.1, 10, 1), *np.arange(0.1, 10, 1)])


def test_keywords_without_targets_have_no_miss_rate(tmp_path: pathlib.Path) -> None:
    got = stream_evaluate.evaluate([quiet_stream("n", [10, 50])], ONE, ["go"], STEP, fa_per_hour=0.0)
    assert got.results["go"].frr is None and got.results["go"].latency(50) is None
    assert np.isnan(got.curves["go"].frr).all() and got.mlperf.targets == 0
    assert got.pooled.false_accepts == 0 and got.config.thresholds[0] > 50
    with pytest.raises(ValueError, match="no targets of .*go"):
        det_plot.plot_streams(got.curves, tmp_path / "x.png")


def test_misses_and_speakers_are_counted_by_hand() -> None:
    """Anna is heard twice and missed once, Ben is missed; a detector that heard too little of a word has no score."""
    words = [Target("go", 2.0, 2.5, "anna"), Target("go", 4.0, 4.5, "ben"), Target("go", 6.0, 6.5, "anna")]
    early = Target("go", 0.0, 0.05, "anna")
    streams = [quiet_stream("a", [22, 23, 62], tuple(words)), quiet_stream("b", [], (early,), steps=30)]
    streams[1] = dataclasses.replace(streams[1], times=streams[1].times + 2.0)
    got = stream_evaluate.evaluate(streams, ONE, ["go"], STEP, fa_per_hour=None)
    assert got.misses == (
        stream_evaluate.Missed("a", "go", 4.0, 4.5, -50.0, "ben"),
        stream_evaluate.Missed("b", "go", 0.0, 0.05, None, "anna"),
    )
    for counts in (got.pooled, got.results["go"]):
        assert counts.speaker_targets.tolist() == [3, 1] and counts.speaker_hits.tolist() == [2, 0]
        assert counts.frr_interval[1] > det.binomial_interval(0.5, 4)[1]
    curve = got.curves["go"]
    np.testing.assert_array_equal(curve.speaker_hits.sum(axis=1), curve.hits)
    at = int(np.searchsorted(curve.thresholds, 1.0))
    np.testing.assert_allclose(curve.frr_intervals()[at], got.pooled.frr_interval)
    assert curve.result_at(at).frr_interval == got.pooled.frr_interval
    assert curve.result_at(at).fa_interval == got.pooled.fa_interval == confidence.poisson_rate(0, curve.hours)


def test_one_target_without_a_speaker_and_nobody_is_known() -> None:
    words = (Target("go", 2.0, 2.5, "anna"), Target("go", 4.0, 4.5), Target("go", 6.0, 6.5, "ben"))
    got = stream_evaluate.evaluate([quiet_stream("a", [22], words)], ONE, ["go"], STEP)
    assert got.pooled.speaker_hits is None and got.curves["go"].speaker_hits is None
    assert got.pooled.frr_interval == det.binomial_interval(2 / 3, 3)
    quiet = stream_evaluate.evaluate([quiet_stream("a", [])], ONE, ["go"], STEP)
    assert quiet.pooled.frr_interval is None and np.isnan(quiet.curves["go"].frr_intervals()).all()


def test_no_point_of_an_uneven_curve_is_better_than_the_chosen_one() -> None:
    curve = StreamCurve(np.arange(6.0), np.array([5, 5, 4, 4, 2, 0]), np.array([9, 1, 3, 1, 0, 0]), 5, 2.0)
    assert [curve.index_at(rate) for rate in (0.0, 0.4, 0.5, 1.4, 1.5, 5.0)] == [4, 4, 1, 1, 1, 1]
    assert curve.frr_at(0.5) == 0.0
    quiet = dataclasses.replace(curve, targets=0, hits=np.zeros(6, int))
    assert [quiet.index_at(rate) for rate in (0.0, 0.4, 0.5, 1.4, 1.5, 5.0)] == [4, 4, 3, 3, 1, 0]
    with pytest.raises(ValueError, match="fa_per_hour=-1"):
        curve.index_at(-1)


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12),
    st.floats(0.0, 6.0),
)
def test_the_chosen_threshold_is_never_dominated(points, rate) -> None:
    hits, false = np.array([*points, (0, 0)]).T  # at the last one nothing fires
    curve = StreamCurve(np.arange(len(hits), dtype=float), hits, false, 5, 1.0)
    at = curve.index_at(rate)
    assert false[at] <= rate
    as_good = (hits >= hits[at]) & (false <= false[at])
    assert not (as_good & ((hits > hits[at]) | (false < false[at]))).any()
    assert not ((false <= rate) & (hits > hits[at])).any()


def test_evaluate_says_what_is_wrong() -> None:
    good = quiet_stream("a", [])
    for message, streams, words in [
        ("none given", [], ["go"]),
        ("names occur twice: .'a'", [good, good], ["go"]),
        ("the detector has 1 keywords", [good], ["go", "stop"]),
        ("times of shape", [dataclasses.replace(good, times=good.times[:-1])], ["go"]),
        ("no time outside", [dataclasses.replace(good, outputs=good.outputs[:0], times=good.times[:0])], ["go"]),
    ]:
        with pytest.raises(ValueError, match=message):
            stream_evaluate.evaluate(streams, ONE, words, STEP)


def test_progress_and_the_number_of_thresholds(rng: np.random.Generator) -> None:
    words = ("one", "two")
    said = []
    streams = random_streams(rng, words, 6)
    config = detector_config(words, (0.0, 0.0), rng)
    got = stream_evaluate.evaluate(streams, config, words, STEP, points=10, progress=lambda *x: said.append(x))
    assert said == [(1, 3), (2, 3), (3, 3)]
    targets = sum(len(s.targets) for s in streams)
    assert len(got.pooled_curve.thresholds) <= 21 + targets


def test_mlperf_counts() -> None:
    """The examples of MLPerf Tiny's README: words at 1.0..1.648 and 7.0..7.359, detections at 2.60 and 2.8 s."""
    windows = [(1.0, 1.647625), (7.0, 7.358625)]
    assert mlperf.count([2.60], windows) == mlperf.MlperfTiny(0, 1, 2)
    assert mlperf.count([2.8], windows) == mlperf.MlperfTiny(1, 2, 2)
    assert mlperf.count([1.1, 1.2, 2.6, 7.0], windows) == mlperf.MlperfTiny(0, 0, 2)
    # debounced: the one at 4.9 is silenced by that at 4.0, that at 5.1 is not
    assert mlperf.count([4.0, 4.9, 5.0, 5.1], windows) == mlperf.MlperfTiny(2, 2, 2)
    assert mlperf.count([4.0, 5.0], windows).false_positives == 1
    assert mlperf.count([], []) == mlperf.MlperfTiny(0, 0, 0)
    limit = mlperf.MlperfTiny(8, 8, 50, 1, 1199.0)
    assert limit.passed and limit.comparable
    assert dataclasses.replace(limit, false_positives=9).passed is False
    assert dataclasses.replace(limit, false_negatives=9).passed is False
    for other in ({"recordings": 2}, {"targets": 5, "false_negatives": 5}, {"seconds": 600.0}, {"seconds": 1300.0}):
        one = dataclasses.replace(limit, **other)
        assert not one.comparable and one.passed is None


def test_mlperf_says_pass_only_of_sound_like_its_own() -> None:
    """A model that misses five of five in two short recordings passes nothing."""
    missed = stream_numbers.mlperf_line(mlperf.MlperfTiny(0, 5, 5, 2, 90.0))
    assert "0 false positives, 5 false negatives of 5 targets in 2 recordings of 1.5 minutes" in missed
    assert "neither pass nor fail: its limits (at most 8 of each) are for one recording of 20 minutes with 50" in missed
    assert stream_numbers.mlperf_line(mlperf.MlperfTiny(3, 8, 50, 1, 1200.0)).endswith(": pass (at most 8 of each)")
    assert stream_numbers.mlperf_line(mlperf.MlperfTiny(3, 9, 50, 1, 1200.0)).endswith(": fail (at most 8 of each)")


def test_a_plot_is_drawn(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    words = ("one", "two")
    streams = random_streams(rng, words)
    got = stream_evaluate.evaluate(streams, detector_config(words, (0.0, 0.0), rng), words, STEP)
    for name, mark in (("a.png", 0.5), ("b.svg", None)):
        path = det_plot.plot_streams(got.curves, tmp_path / name, title="t", mark_fa_per_hour=mark)
        assert path.stat().st_size > 10_000
    for wrong, curves in (("x.jpg", got.curves), ("x.png", {})):
        with pytest.raises(ValueError):
            det_plot.plot_streams(curves, tmp_path / wrong)


# Models


def numbered(frames: int) -> np.ndarray:
    """Features [frames, 2] whose value is the number of the frame."""
    return np.repeat(np.arange(frames, dtype=np.float32)[:, None], 2, axis=1)


@pytest.mark.parametrize("frames", [0, 4, 5, 6, 12, 2000])
@pytest.mark.parametrize("hop", [1, 3])
def test_sliding_windows(frames: int, hop: int) -> None:
    """First and last frame of each window; batches have one size but where there is one only."""
    sizes = []

    def ends(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return x[:, [0, -1], 1]

    out = stream_runners.SlidingWindows(ends, 5, hop)(numbered(frames))
    expected = [(first, first + 4) for first in range(0, frames - 4, hop)]
    assert out.values.tolist() == [list(pair) for pair in expected] and out.values.shape[1] == 2
    assert out.frames.tolist() == [last + 1 for _, last in expected]
    assert len(set(sizes)) == 1


def test_sliding_windows_quantize_once() -> None:
    runner = stream_runners.SlidingWindows(lambda x: x[:, -1], 2, 1, (0.5, 3), lambda x: np.rint(x / 2).astype(np.int8))
    out = runner(numbered(6))
    assert out.values.dtype == np.int8 and out.values[:, 0].tolist() == [0, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="--hop 0"):
        stream_runners.SlidingWindows(np.asarray, 2, 0)


@dataclasses.dataclass
class Details:
    scale: float | None
    zero_point: int


class FakeStream:
    """What StreamInterpreter promises: output i is known once receptive + i * hop frames have been seen."""

    hop, receptive = 3, 7

    def __init__(self, scale: float | None) -> None:
        self.inputs, self.outputs = [Details(scale, -128)], [Details(scale, 4)]
        self.reset()

    def reset(self) -> None:
        self.seen: list[np.ndarray] = []
        self.given = 0

    def step(self, frames: np.ndarray) -> np.ndarray:
        assert frames.dtype == (np.float32 if self.inputs[0].scale is None else np.int8)
        self.seen += list(frames)
        out = []
        while len(self.seen) >= self.receptive + self.given * self.hop:
            out.append(self.seen[self.receptive + self.given * self.hop - 1])
            self.given += 1
        return np.asarray(out, frames.dtype).reshape(len(out), frames.shape[1])


@pytest.mark.parametrize("scale", [None, 0.5])
def test_streaming_models(scale: float | None) -> None:
    runner = stream_runners.Streaming(FakeStream(scale))
    assert runner.hop == 3 and runner.grid == (None if scale is None else (0.5, 4))
    for frames in (1200, 6, 7, 100):  # each starts anew
        features = numbered(frames) if scale is None else numbered(frames) % 100
        out = runner(features)
        assert out.frames.tolist() == list(range(7, frames + 1, 3))
        expected = features[out.frames - 1] if scale is None else features[out.frames - 1] * 2 - 128
        np.testing.assert_array_equal(out.values, expected)


def test_float_outputs_go_to_16_bits() -> None:
    outputs = [np.array([[0.5, -2.0]], np.float32), np.array([[1.0, 0.25]], np.float32)]
    numbers, scale, zero_point = stream_runners.on_one_grid(outputs, None)
    assert numbers[0].dtype == np.int16 and zero_point == 0 and numbers[0][0, 1] == -32767
    np.testing.assert_allclose(np.concatenate(numbers) * scale, np.concatenate(outputs), atol=scale / 2)
    same = [np.zeros((2, 2), np.int8)]
    assert stream_runners.on_one_grid(same, (0.1, 3)) == (same, 0.1, 3)
    assert stream_runners.on_one_grid([np.zeros((1, 2), np.float32)], None)[1] == 1.0
    with pytest.raises(ValueError, match="not finite"):
        stream_runners.on_one_grid([np.array([[np.nan, 1.0]], np.float32)], None)


def test_posteriors_are_told_from_logits(rng: np.random.Generator) -> None:
    logits = rng.normal(0.0, 3.0, (50, 4))
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rounded = np.clip(np.rint(share * 256) - 128, -128, 127).astype(np.int8)
    assert stream_runners.are_posteriors([rounded, rounded[:3]], 1 / 256, -128)
    numbers, scale, _ = stream_runners.on_one_grid([share.astype(np.float32)], None)
    assert stream_runners.are_posteriors(numbers, scale, 0)
    for other in (logits, share * 2, np.abs(logits)):
        numbers, scale, _ = stream_runners.on_one_grid([other.astype(np.float32)], None)
        assert not stream_runners.are_posteriors(numbers, scale, 0)


def test_recordings_of_like_length_go_together() -> None:
    assert list(stream_runners.batches([5, 1, 5, 2, 30], 12)) == [[1, 3], [0, 2], [4]]
    assert list(stream_runners.batches([], 12)) == []


def test_joined_front_end_is_that_of_each_recording(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    from tfmot_kws.commands.parts import evaluate_streams
    from tfmot_kws.frontend import features

    config = features.FrontendConfig()
    sounds = [rng.normal(0, 0.1, n).astype(np.float32) for n in (9000, 8000, 400)]
    recordings = [evaluate_streams.Recording(str(i), sound) for i, sound in enumerate(sounds)]
    for got, sound in zip(evaluate_streams.features_of(recordings, config, lambda *_: None), sounds):
        np.testing.assert_array_equal(got, features.extract(config, sound))
    frames = np.array([1, 2, 50])
    np.testing.assert_allclose(evaluate_streams.known_at(frames, config), [0.03, 0.05, 1.01])


def test_short_negatives_are_joined(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    from tfmot_kws.commands.parts import evaluate_streams

    for index in range(5):
        audio.write(tmp_path / f"{index}.wav", rng.normal(0, 0.1, 16000 * 25).astype(np.float32))
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    found, skipped = evaluate_streams._read_negatives(tmp_path, 16000, lambda *_: None)
    assert [problem.problem for problem in skipped] == ["unreadable"] and "broken.wav" in skipped[0].path
    assert [len(r.samples) / 16000 for r in found] == [75.0, 50.0]
    files = [[(start, path.name) for start, path in one.files] for one in found]
    assert files == [[(0.0, "0.wav"), (25.0, "1.wav"), (50.0, "2.wav")], [(0.0, "3.wav"), (25.0, "4.wav")]]
