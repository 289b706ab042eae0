# SPDX-License-Identifier: Apache-2.0
"""The recipe of a wake word, on sound in which the word is a bright band."""

from __future__ import annotations

import dataclasses

import event_files
import numpy as np
import pytest

from tfmot_kws.data.long_features import LongFeatures
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters
from tfmot_kws.quantize import scheme
from tfmot_kws.training import over_time, stages, stretch_loss, tensorboard_log, wake_word, windows

FRONTEND = features.FrontendConfig(mel_bins=20)
FRAMES = 12
CONFIG = wake_word.WakeWordConfig(
    epochs=2,
    stage1_epochs=1,
    stage2_epochs=1,
    steps=20,
    batch_size=32,
    learning_rate=1e-2,
    mine_from=1,
    masks=None,
    tempo=1.0,
)


def _sound(seed: int, seconds: int = 60, words: int = 12) -> LongFeatures:
    """Noise in all bands; a word is 0.3 s of a rising band, what is like it a falling one."""
    rng = np.random.default_rng(seed)
    frames = seconds * 50
    x = rng.integers(0, 120, (frames, 20))
    targets = []
    for number in range(2 * words):
        at = 60 + number * (frames - 120) // (2 * words)
        rising = number % 2 == 0
        for step in range(15):
            x[at + step, (step if rising else 14 - step) + 2] = 500
        if rising:
            targets.append(Target("up", at * 0.02, (at + 15) * 0.02))
    return LongFeatures(x.astype(np.uint16), np.array([0, frames]), (tuple(targets),), FRONTEND)


@pytest.fixture(scope="module")
def parts():
    """Windows to train on and streams to choose by."""
    drawn = windows.Windows([_sound(0), _sound(1)], ("up",), FRAMES)
    return drawn, wake_word.Streams((_sound(2),), ("up",), hop=2)


def _model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return spotters.build(
        spotters.ModelConfig(2, FRAMES, 20, 16, (spotters.WindowSpec(8, 2), spotters.WindowSpec(3)), 1)
    )


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Folder of the float model's log."""
    return tmp_path_factory.mktemp("board")


@pytest.fixture(scope="module")
def trained(parts, board):
    """A float model and what was heard."""
    model = _model()
    calls = []
    log = tensorboard_log.TensorBoardLog(board)
    heard = wake_word.train_float(model, *parts, CONFIG, progress=lambda *step: calls.append(step), callbacks=[log])
    return model, heard, calls


def test_tensorboard_has_what_was_heard(trained, board):
    found = event_files.scalars(board)
    for name, values in (
        ("streams/frr_at_0.5_fa_per_hour", [one.frr for one in trained[1]]),
        ("streams/cost", [one.cost for one in trained[1]]),
        ("training/loss", [one.loss for one in trained[1]]),
    ):
        assert [step for step, _ in found[name]] == [0, 1]
        assert [value for _, value in found[name]] == pytest.approx(values), name
    last = wake_word.recipes.CosineStages([(1e-2, 40)], 0.01)(39)
    assert found["training/learning_rate"][1][1] == pytest.approx(float(last), rel=1e-5)


def test_learns_and_keeps_its_best_epoch(parts, trained, tmp_path):
    drawn, streams = parts
    model, heard, calls = trained
    assert [one.epoch for one in heard] == [0, 1] and [call[:2] for call in calls] == [(1, 2), (2, 2)]
    assert calls[1][2] == f"missed {heard[1].frr:.0%} at 0.5 false accepts an hour"
    curve = streams.hear(model.predict_on_batch, FRAMES).pooled_curve
    assert np.isfinite(heard[0].cost)  # heard, but before choose_from
    assert streams.cost(curve) == pytest.approx(heard[1].cost)
    assert curve.frr_at(0.5) < 0.2
    assert len(drawn.hard)
    model.save(tmp_path / "model.keras")  # without an optimizer or a loss that a reader would have to know
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict_on_batch(np.ones((1, FRAMES, 20))), model.predict_on_batch(np.ones((1, FRAMES, 20)))
    )


class Stop(Exception):
    """As if the process were killed."""


def _stop_after(epochs: int):
    def progress(done: int, total: int, note: str) -> None:
        if done > epochs:  # before the epoch is kept
            raise Stop

    return progress


def test_quantized_with_a_teacher_and_after_a_stop(parts, trained, tmp_path):
    """A run that is stopped goes on to the same model; what was mined, once at the start, is kept too."""
    _, streams = parts
    before = [w.copy() for w in trained[0].get_weights()]

    def train(folder=None, stop=None):
        drawn = windows.Windows([_sound(0), _sound(1)], ("up",), FRAMES)
        progress = None if stop is None else _stop_after(stop)
        chosen = scheme.kws_scheme(bits=4)
        return wake_word.train_quantized(trained[0], chosen, drawn, streams, config, trained[0], progress, folder)

    config = dataclasses.replace(CONFIG, masks=wake_word.recipes.FeatureAugment(1, 3, 1, 3, 0), tempo=1.1, reach=0.6)
    model, heard = train()
    assert stages.get_stage(model) == 2
    assert [one.epoch for one in heard] == [0, 1] and heard[1].cost < 0.5
    curve = streams.hear(model.predict_on_batch, FRAMES).pooled_curve
    assert streams.cost(curve) == pytest.approx(heard[1].cost)  # stage 1 is heard, but not what is exported
    for old, new in zip(before, trained[0].get_weights()):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(Stop):
        train(tmp_path / "run", 1)
    for _ in range(2):  # goes on; then nothing is left to do
        again, heard_again = train(tmp_path / "run")
        assert heard_again == heard
        for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_loss_has_the_weights_of_the_config(rng):
    """False accepts weigh as asked; the teacher counts where there is one."""
    logits = rng.normal(0.0, 2.0, (4, 6, 2)).astype(np.float32)
    answers = rng.normal(0.0, 2.0, (4, 6, 3)).astype(np.float32)
    answers[..., 0] = rng.integers(-1, 2, (4, 6))
    config = dataclasses.replace(CONFIG, false_accept_weight=3.0, teacher_weight=0.25, temperature=2.0)
    for taught, share in ((False, 0.0), (True, 0.25)):
        wanted = stretch_loss.loss(answers, logits, 3.0, share, 2.0, 2)
        np.testing.assert_array_equal(wake_word._loss(config, taught, 2)(answers, logits), wanted)


@pytest.mark.parametrize("hop", [1, 2, 3, 4])
def test_blocks_are_heard_as_windows_are(parts, trained, hop):
    """Hearing many places at once gives the detector the same outputs as window after window."""
    streams = dataclasses.replace(parts[1], hop=hop)
    model = trained[0]  # moves by two frames
    ear = over_time.Ear(model, hop, 0.02)
    assert (ear.reach > 0) == (hop % 2 == 0)
    one, about_one = streams._outputs(model.predict_on_batch, FRAMES, 0)
    many, about_many = streams._outputs(ear, FRAMES, ear.reach)
    assert len(one[0]) == (len(parts[1].sounds[0].x) - FRAMES) // hop + 1
    for (alone, (_, times, _)), (block, (_, same, _)) in zip(zip(one, about_one), zip(many, about_many), strict=True):
        np.testing.assert_array_equal(times, same)
        np.testing.assert_allclose(alone, block, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused_before_training(parts):
    drawn, streams = parts
    other = spotters.build(spotters.ModelConfig(3, FRAMES, 20, 8, (spotters.WindowSpec(FRAMES),), 0))
    with pytest.raises(ValueError, match="gives 3 logits; the windows are"):
        wake_word.train_float(other, drawn, streams, CONFIG)
    with pytest.raises(ValueError, match=r"streams have the words \['down'\]"):
        wake_word.train_float(_model(), drawn, dataclasses.replace(streams, words=("down",)), CONFIG)
    silent = dataclasses.replace(_sound(3), targets=((),))
    with pytest.raises(ValueError, match="none of the words is in them"):
        wake_word.train_float(_model(), drawn, dataclasses.replace(streams, sounds=(silent,)), CONFIG)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("steps", 1.5),
        ("teacher_weight", 1.1),
        ("temperature", 0.0),
        ("false_accept_weight", -1.0),
        ("tempo", 0.5),
        ("reach", -0.1),
    ],
)
def test_bad_options_name_themselves(field, value):
    with pytest.raises(ValueError, match=f"WakeWordConfig.{field}"):
        dataclasses.replace(CONFIG, **{field: value})
