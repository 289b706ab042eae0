# SPDX-License-Identifier: Apache-2.0
"""Hard negatives, and the sound ahead of an example."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import speech_files
from command_line import error, run

from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.data import corpus, datasets
from tfmot_kws.frontend import features
from tfmot_kws.sound import augment
from tfmot_kws.training import mining

FRONTEND = features.FrontendConfig()


def loud(x: np.ndarray) -> np.ndarray:
    """A "model" that takes loud windows for the keyword, class 1 of 3."""
    level = x.mean(axis=(1, 2))
    return np.stack([np.zeros_like(level), level - 10.0, np.full_like(level, -3.0)], axis=1)


def recording(bursts: list[float], seconds: float = 12.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 20, round(16000 * seconds))
    for start in bursts:
        at = round(16000 * start)
        audio[at : at + 8000] += rng.normal(0, 6000, 8000)
    return audio.astype(np.int16)


def test_takes_what_scores_highest_and_not_twice() -> None:
    sound = [recording([2.0, 7.0]), recording([]), recording([4.0])]
    seen = []
    config = mining.MineConfig(spacing=1.5, per_hour=600, floor=-50.0)
    found = mining.mine(loud, sound, FRONTEND, 30, (1,), config, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)] and found.hours == pytest.approx(36 / 3600)
    assert len(found.x) == len(found.scores) == 6 and found.x.shape[1:] == (30, 40)
    assert (np.diff(found.scores) <= 0).all()
    expected = loud(found.x)
    np.testing.assert_allclose(found.scores, expected[:, 1] - np.logaddexp(expected[:, 0], expected[:, 2]), rtol=1e-5)
    # the three bursts first: each is far above the quiet rest
    assert found.scores[2] > found.scores[3] + 1.0
    few = mining.mine(loud, sound, FRONTEND, 30, (1,), mining.MineConfig(per_hour=200, floor=-50.0))
    np.testing.assert_array_equal(few.x, found.x[: len(few.x)][:2])


def test_floor_and_short_sound() -> None:
    found = mining.mine(loud, [recording([])], FRONTEND, 30, (1,), mining.MineConfig(floor=100.0))
    assert found.x.shape == (0, 30, 40) and len(found.scores) == 0
    with pytest.raises(ValueError, match="no recording is as long as a clip of 30 frames"):
        mining.mine(loud, [recording([], 0.2)], FRONTEND, 30, (1,))
    for options, message in (
        ({"per_hour": 0}, "per_hour=0: must be 1 or more"),
        ({"hop": 0}, "hop=0: must be 1 frame"),
        ({"spacing": -1.0}, "spacing=-1.0: must be between"),
    ):
        with pytest.raises(ValueError, match=message):
            mining.MineConfig(**options)


def test_peaks_keep_their_distance() -> None:
    rng = np.random.default_rng(1)
    scores, starts = rng.normal(size=200), np.arange(0, 400, 2)
    chosen = mining._peaks(scores, starts, 21, -0.5)
    places = np.sort(starts[chosen])
    assert np.diff(places).min() >= 21 and (scores[chosen] >= -0.5).all()
    assert chosen[0] == scores.argmax() and (np.diff(scores[chosen]) <= 0).all()
    # whatever was left out is too low, or too near to something higher
    for index in set(range(200)) - set(chosen):
        near = [c for c in chosen if abs(starts[c] - starts[index]) < 21 and scores[c] >= scores[index]]
        assert scores[index] < -0.5 or near


def test_context_is_what_a_stream_would_have_heard(tmp_path) -> None:
    """An example in the middle of a recording has the very features that the whole recording has there."""
    sound = recording([3.0], 6.0)
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="PCM_16")
    clip = corpus.Clip(path=str(tmp_path / "a.wav"), word="low", split="train", start=3.0, end=3.5, speaker="s")
    clips = corpus.Corpus((clip,))
    task = datasets.TaskConfig(("low",), context_seconds=2.75)
    found = datasets.load_features(clips, "train", task, FRONTEND).x
    assert found.shape == (1, 49, 40)
    # 3.25 s is the middle of the word; a clip of a second begins at 2.75, and 2.76 s of context are all there is
    start = round(2.75 * 16000)
    lead = round(2.75 / 0.02) * 320
    padded = np.concatenate([np.zeros(max(0, lead - start), np.int16), sound[max(0, start - lead) : start + 16000]])
    np.testing.assert_array_equal(found[0], features.extract(FRONTEND, padded)[lead // 320 :])
    bare = datasets.load_features(clips, "train", datasets.TaskConfig(("low",)), FRONTEND).x
    assert np.abs(bare - found).max() > 1.0  # a fresh noise estimate makes other features


def test_noise_runs_through_the_context() -> None:
    config = augment.AugmentConfig(0.0, (0.0, 0.0), (1.0, 1.0), (10.0, 10.0), 1.0, 0.0)
    speech = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 0.5, 48000).astype(np.float32)
    out = augment.augment(speech, np.random.default_rng(2), config, [noise], before=np.zeros(8000, np.float32))
    assert len(out) == 24000
    level = 20 * np.log10(np.std(speech) / np.std(out[:8000]))
    assert level == pytest.approx(10.0, abs=0.3)  # of the speech alone, not thinned by the silence before it
    np.testing.assert_allclose(np.std(out[8000:] - speech), np.std(out[:8000]), rtol=0.05)


def test_more_examples() -> None:
    report = datasets.LoadReport(1, {"_unknown_": 2, "low": 1})
    base = datasets.FeatureSet(
        np.zeros((3, 5, 2), np.float32), np.array([0, 0, 1], np.int32), ("_unknown_", "low"), report,
        np.zeros(3, np.int32), ("a",),
    )  # fmt: skip
    more = base.with_examples(np.ones((4, 5, 2)), "_unknown_", "mined")
    assert len(more) == 7 and more.y.tolist() == [0, 0, 1, 0, 0, 0, 0] and more.report.examples["_unknown_"] == 6
    assert more.paths == ("a", "mined") and more.source.tolist() == [0, 0, 0, 1, 1, 1, 1] and more.x.dtype == np.float32
    with pytest.raises(ValueError, match="label 'x': not among the classes"):
        base.with_examples(np.ones((4, 5, 2)), "x", "mined")
    with pytest.raises(ValueError, match=r"x: expected \[n, 5, 2\], found \[4, 5, 3\]"):
        base.with_examples(np.ones((4, 5, 3)), "low", "mined")


@pytest.mark.slow
def test_command(tmp_path, require_speech) -> None:
    """Train with all of it: context, confusable words, long sound; the sidecar says so."""
    words = speech_files.make_words(tmp_path / "words")
    long = tmp_path / "long"
    long.mkdir()
    for number in range(3):
        soundfile.write(long / f"{number}.flac", recording([1.0], 3.0), 16000)
    (long / "broken.wav").write_text("nothing")
    common = ("--data", words, "--cache", tmp_path / "cache", "--copies", 1, "--batch-size", 16)
    shown = run(
        "train", *common, "--keywords", "low", "--epochs", 1, "--width", 8, "--context", 0.5, "--mine", long,
        "--mine-rounds", 1, "--confusables", "lower,slow", "--no-pcan", "--out", tmp_path / "wake.keras",
    ).stdout  # fmt: skip
    assert "hard negatives in 0.00 h" in shown and "speaking confusable words" in shown
    about = sidecar.read(tmp_path / "wake.keras")
    assert about.task.context_seconds == 0.5 and about.options["mined"] == 1
    assert about.options["confusables"] == ["lower", "slow"] and about.frontend.pcan is False
    assert "16000 Hz, without PCAN" in run("inspect", tmp_path / "wake.keras").stdout.replace("\n", " ")
    nothing = tmp_path / "nothing"
    common = (*common, "--keywords", "low", "--epochs", 1, "--out", tmp_path / "no.keras", "--mine")
    assert "no such folder" in error("train", *common, nothing)
    nothing.mkdir()
    assert "no sound in it (0 files)" in error("train", *common, nothing)


def test_which_class_is_no_keyword() -> None:
    task = datasets.TaskConfig(("low", "high"))
    assert data_files.other_class(task) == "_unknown_" and data_files.keyword_classes(task) == (2, 3)
    assert data_files.other_class(datasets.TaskConfig(("low", "high"), unknown=False)) == "_silence_"
    with pytest.raises(ValueError, match="there is no class for what is no keyword"):
        data_files.other_class(datasets.TaskConfig(("low", "high"), unknown=False, silence=False))
