# SPDX-License-Identifier: Apache-2.0
"""What the table of wake words counts, of listeners whose mistakes are known."""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pytest

from benchmarks import wake_word
from benchmarks import wake_word_hearing as hearing
from tfmot_kws.data import corpus
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters

STEP = 0.08
SECONDS = 720
SNRS = (7.0, 12.0, 17.0, 8.0)


def _sounds() -> list[hearing.Sound]:
    """Twelve minutes each; samples carry the number of the recording, so that a listener knows what to say."""
    sounds = []
    for number in range(5):
        targets = tuple(Target("alexa", 100.0 + 150 * k, 100.6 + 150 * k) for k in range(4)) if number < 2 else ()
        samples = np.full(SECONDS * hearing.RATE, number, np.int16)
        sounds.append(hearing.Sound(f"made_{number}", samples, targets, SNRS[: len(targets)]))
    return sounds


def _listener(missed: set[tuple[int, int]], false: dict[int, list[float]], clips: dict[int, float]) -> hearing.Listener:
    """Sure of every word but those missed, and of some moments where nobody spoke; clips have scores of their own."""

    def hear(samples: np.ndarray) -> hearing.Heard:
        times = np.arange(1, int(len(samples) / hearing.RATE / STEP)) * STEP
        values = np.zeros((len(times), 1), np.float32)
        number = int(samples[0])
        if number in clips:
            values[:] = clips[number]
            return hearing.Heard(values, times)
        for k in range(4 if number < 2 else 0):
            if (number, k) not in missed:
                values[np.abs(times - (100.7 + 150 * k)) < 0.1] = 0.9
        for at in false.get(number, []):
            values[np.abs(times - at) < 0.1] = 0.95
        return hearing.Heard(values, times)

    return hearing.Listener(hear, STEP, (0,), "value", smooth=STEP)


@pytest.fixture(scope="module")
def measured() -> hearing.Measured:
    """One hour with eight words; five clips of the word, four of others."""
    clips = [("alexa" if n < 5 else "five", np.full(2 * hearing.RATE, 100 + n, np.int16)) for n in range(9)]
    return hearing.Measured(_sounds(), [], clips[:5], clips[5:], ("alexa",))


SCORES = {100 + n: 0.5 + 0.05 * n for n in range(5)} | {105: 0.1, 106: 0.2, 107: 0.49, 108: 0.8}


def test_a_word_that_nobody_held_out_says_gets_a_speaker_to_choose_by() -> None:
    def said(word: str, **counts: int) -> list[corpus.Clip]:
        return [
            corpus.Clip(f"{word}{name}{n}.wav", word, name, "train") for name, k in counts.items() for n in range(k)
        ]

    # ``held_out`` takes a speaker by the hash of the name: "amy" is held out, the others are not.
    held = corpus.Clip("a.wav", "up", "amy", "train")
    assert wake_word.held_out(held) and not any(wake_word.held_out(c) for c in said("up", ann=1, bob=1, eve=1))
    clips = corpus.Corpus((held, *said("up", ann=9), *said("down", ann=20, bob=6, eve=2), *said("left", bob=7, eve=9)))
    assert wake_word.held_for(clips, ["up"]) == set()
    assert wake_word.held_for(clips, ["up", "down", "left"]) == {"bob"}  # who says both
    assert wake_word.held_for(corpus.Corpus(tuple(said("down", ann=20))), ["down"]) == set()  # none would be left
    assert wake_word.held_for(corpus.Corpus(tuple(said("down", ann=4, bob=2))), ["down"]) == {"bob"}


def test_a_perfect_listener_misses_nothing(measured) -> None:
    row = measured.row(_listener(set(), {}, SCORES))
    assert (row["low"], row["high"]) == (0.0, 0.0) and row["hours"] == pytest.approx(1.0)
    assert row["targets"] == 8 and [row[f"snr_{n}"] for n in range(3)] == [0.0, 0.0, 0.0]
    assert row["latency"] == pytest.approx(0.1, abs=STEP)
    assert row["unseen"] == row["unseen_each"] == 25.0  # one of four is above what 95 % of the word's clips reach


def test_each_keyword_has_a_threshold_of_its_own() -> None:
    """One keyword is heard loudly, the other faintly: what is as loud as the faint one is no instance of the loud."""
    said = [("loud", np.full(hearing.RATE, n, np.int16)) for n in range(40)]
    said += [("faint", np.full(hearing.RATE, 40 + n, np.int16)) for n in range(40)]
    unseen = [("five", np.full(hearing.RATE, 80 + n, np.int16)) for n in range(4)]

    def hear(samples: np.ndarray) -> hearing.Heard:
        number = int(samples[0])
        loud = 0.8 if number < 40 else (0.5, 0.9, 0.1, 0.1)[number - 80] if number >= 80 else 0.0
        faint = 0.4 if 40 <= number < 80 else (0.1, 0.1, 0.45, 0.35)[number - 80] if number >= 80 else 0.0
        return hearing.Heard(np.full((20, 2), (loud, faint), np.float32), np.arange(20) * STEP)

    both = hearing.Measured([], [], said, unseen, ("loud", "faint"))
    values = [hear(sound).values for _, sound in both.said + both.unseen]
    values, unit, zero = hearing.stream_runners.on_one_grid(values, None)
    config = hearing.detector.DetectorConfig.in_seconds(
        STEP, STEP, 1.0, classes=2, keywords=(0, 1), thresholds=0.0, scale=unit, zero_point=zero, mode="value"
    )
    # With one threshold, the faint word's, three are above it; with one each the second and the third.
    assert both._accepted(values, config) == {"unseen": 75.0, "unseen_each": 50.0}


def test_what_is_missed_is_counted_by_signal_to_noise_ratio(measured) -> None:
    row = measured.row(_listener({(0, 0), (1, 1), (1, 3)}, {}, SCORES))
    assert (row["low"], row["high"]) == (37.5, 37.5)
    assert [row[f"snr_{n}_targets"] for n in range(3)] == [4, 2, 2]
    assert [row[f"snr_{n}"] for n in range(3)] == [50.0, 50.0, 0.0]


def test_unbroken_talk_is_counted_beside_the_rates(measured) -> None:
    """At the threshold that the other streams give: its false accepts change no rate, its misses are its own."""
    both = hearing.Measured(measured.sounds[1:], measured.sounds[:1], measured.said, measured.unseen, measured.words)
    row = both.row(_listener({(0, 0)}, {0: [300.0, 500.0]}, SCORES))
    assert (row["low"], row["unbroken"], row["targets"]) == (0.0, 25.0, 4)
    assert row["unseen"] == 25.0  # clips are counted from behind all streams
    assert "unbroken" not in measured.row(_listener(set(), {}, SCORES))


def test_false_accepts_above_the_words_make_the_rate_unreachable(measured) -> None:
    one = measured.row(_listener(set(), {3: [300.0]}, SCORES))
    assert (one["low"], one["high"]) == (100.0, 0.0)  # one in an hour: too many for 0.5, few enough for 2
    three = measured.row(_listener(set(), {2: [300.0], 3: [300.0, 600.0]}, SCORES))
    assert (three["low"], three["high"]) == (100.0, 100.0)


def test_a_curve_has_one_point_a_rate() -> None:
    points = [(0.0, 1.0), (0.0, 0.9), (0.5, 0.4), (0.5, 0.3), (0.1, 0.6), (30.0, 0.1)]
    assert hearing.fewest_misses(points) == [[0.0, 0.9], [0.1, 0.6], [0.5, 0.3]]


def test_the_joined_model_is_the_mean_of_the_seeds(tmp_path) -> None:
    keras.utils.set_random_seed(1)
    nets = [spotters.mixed_net(2, mel_bins=6, filters=8, kernels=(3, 4)) for _ in range(2)]
    for seed, net in enumerate(nets):
        (tmp_path / f"word_{seed}").mkdir()
        net.save(tmp_path / f"word_{seed}" / "float.keras")
    joined = wake_word.Joined.__new__(wake_word.Joined)
    joined.args = argparse.Namespace(runs=tmp_path, name="word", seeds=2, bits=[4, 1])
    model, trained = joined.first_model()
    x = np.random.default_rng(0).normal(size=(3, *nets[0].input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(model(x).numpy(), np.mean([net(x).numpy() for net in nets], axis=0), atol=1e-6)
    assert trained and joined.names() == ["float", "4 bits", "1 bit"]


def test_a_peer_without_its_models_is_refused(tmp_path, require_module) -> None:
    require_module("onnxruntime")
    (tmp_path / "word.onnx").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"melspectrogram\.onnx is not there"):
        hearing.of_peer(tmp_path / "word.onnx")


def test_what_a_peer_needs_is_named(tmp_path, require_module, monkeypatch) -> None:
    require_module("onnxruntime")
    for name in ("word.onnx", "melspectrogram.onnx", "embedding_model.onnx"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="openWakeWord's models need onnx, which is not installed: pip install"):
        hearing.of_peer(tmp_path / "word.onnx")


def test_the_size_of_a_peer_is_that_of_all_its_files(tmp_path) -> None:
    for name, size in (
        ("word.onnx", 10),
        ("melspectrogram.onnx", 200),
        ("embedding_model.onnx", 3000),
        ("word.tflite", 7),
    ):
        (tmp_path / name).write_bytes(bytes(size))
    assert hearing.size_of_peer(tmp_path / "word.onnx") == 3210
    assert hearing.size_of_peer(tmp_path / "word.tflite") == 7
