"""The training recipe: augmentation of batches, learning rates, both trainings, repeatability."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfmot_kws.data.datasets import FeatureSet, LoadReport
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import saving, scheme
from tfmot_kws.training import recipes
from tfmot_kws.training import stages as train

CLASSES = ("_silence_", "_unknown_", "yes")
SHAPE = models.ModelConfig(3, 20, 8, 8, (models.WindowSpec(4, 2), models.WindowSpec(3, 2)), 1)
NO_AUGMENT = recipes.TrainConfig(epochs=2, batch_size=32, learning_rate=1e-2, augment=None)


def toy(examples: int = 96, seed: int = 0) -> FeatureSet:
    """Clips whose class is the band that is loud."""
    rng = np.random.default_rng(seed)
    y = (np.arange(examples) % 3).astype(np.int32)
    x = rng.random((examples, 20, 8)).astype(np.float32)
    for i, label in enumerate(y):
        x[i, 5:15, 2 * label : 2 * label + 2] += 4.0
    return FeatureSet(x, y, CLASSES, LoadReport(examples, {}), np.zeros(examples, np.int32), ("a.wav",))


def function(model):
    return lambda x: model(x, training=False).numpy()


@pytest.fixture(scope="module")
def float_model():
    return recipes.train_float(toy(), SHAPE, NO_AUGMENT)


def test_float_training_learns(float_model) -> None:
    assert evaluate.evaluate(function(float_model), toy(seed=1)).accuracy > 0.6


def test_quantized_training_ends_in_stage_2_and_leaves_the_float_model(float_model) -> None:
    before = [w.copy() for w in float_model.get_weights()]
    quantized = recipes.train_quantized(float_model, scheme.kws_scheme(bits=4), toy(), NO_AUGMENT, 1, 1)
    assert train.get_stage(quantized) == 2
    assert all(np.array_equal(a, b) for a, b in zip(before, float_model.get_weights()))
    assert evaluate.evaluate(function(quantized), toy(seed=1)).accuracy > 0.6


def test_no_epochs_only_calibrates(float_model) -> None:
    quantized = recipes.train_quantized(float_model, scheme.kws_scheme(bits=8), toy(), NO_AUGMENT, 0, 0)
    assert train.get_stage(quantized) == 2
    expected, found = function(float_model)(toy().x), function(quantized)(toy().x)
    assert np.abs(expected - found).mean() < 0.3 * np.abs(expected).mean()


@pytest.mark.slow
def test_a_teacher_is_followed_where_labels_are_wrong(float_model) -> None:
    """Labels that are all wrong and a teacher that knows: all of the loss is the teacher's, or none of it."""
    wrong = toy(480)
    wrong = dataclasses.replace(wrong, y=(wrong.y + 1) % 3)
    teacher = recipes.train_on(
        keras.models.clone_model(float_model), toy(480), dataclasses.replace(NO_AUGMENT, epochs=4)
    )
    found = {}
    for share in (0.0, 1.0):
        config = dataclasses.replace(NO_AUGMENT, teacher_weight=share, class_weights=True)
        made = recipes.train_quantized(
            models.build(SHAPE), scheme.kws_scheme(bits=4), wrong, config, 3, 1, teacher=teacher
        )
        found[share] = evaluate.evaluate(function(made), toy(seed=1)).accuracy
    assert found[1.0] > 0.6 and found[0.0] < 0.3


def test_the_taught_loss_is_its_formula(rng) -> None:
    config = recipes.TrainConfig(label_smoothing=0.2, teacher_weight=0.25, temperature=2.0)
    logits, taught = rng.normal(0.0, 2.0, (2, 4, 3))
    labels = np.array([0, 2, 1, 1])
    answers = np.concatenate([labels[:, None], taught], axis=1)
    log_own, log_half = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (logits, logits / 2))
    hard = -(log_own * (0.8 * np.eye(3)[labels] + 0.2 / 3)).sum(axis=1)
    soft = -4.0 * (log_half * np.exp(taught / 2) / np.exp(taught / 2).sum(axis=1, keepdims=True)).sum(axis=1)
    value = recipes.loss(config, 3, True)(tf.constant(answers, tf.float32), tf.constant(logits, tf.float32))
    np.testing.assert_allclose(value, 0.75 * hard + 0.25 * soft, rtol=1e-5)


def test_teachers_hear_the_changed_features_and_must_fit(float_model) -> None:
    config = recipes.TrainConfig(batch_size=32, augment=recipes.FeatureAugment(time_masks=2, time_mask_frames=9))
    for x, answers in recipes.batches(toy(), config, float_model):
        np.testing.assert_allclose(answers[:, 1:], function(float_model)(x), rtol=1e-5, atol=1e-5)
    other = models.build(dataclasses.replace(SHAPE, num_classes=4))
    with pytest.raises(ValueError, match="features have 3 classes .*, teacher 'wakeword' has 4"):
        recipes.train_quantized(float_model, None, toy(), NO_AUGMENT, 1, 1, teacher=other)


@pytest.mark.slow
def test_same_seed_same_model() -> None:
    config = recipes.TrainConfig(epochs=1, batch_size=32, seed=3)
    first, second = (recipes.train_float(toy(), SHAPE, config).get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))


def test_saved_models_load_without_the_recipes(float_model, tmp_path, recwarn) -> None:
    float_model.save(tmp_path / "float.keras")
    loaded = saving.load_model(tmp_path / "float.keras")
    assert np.array_equal(function(loaded)(toy().x), function(float_model)(toy().x))


@pytest.mark.slow
def test_label_smoothing_and_class_weights_train(monkeypatch) -> None:
    """And the step is traced once: Keras would do it twice."""
    make, traces = recipes.loss, []

    def counted(config, classes, taught):
        loss = make(config, classes, taught)
        return lambda y, logits: traces.append(1) or loss(y, logits)

    monkeypatch.setattr(recipes, "loss", counted)
    config = recipes.TrainConfig(epochs=1, batch_size=48, label_smoothing=0.1, class_weights=True)
    assert recipes.train_float(toy(), SHAPE, config).count_params() > 0
    assert len(traces) == 1


def test_batches_are_shuffled_anew_and_repeatable() -> None:
    config = recipes.TrainConfig(batch_size=32, seed=5)

    def epochs(count):
        data = recipes.batches(toy(), config)
        return [[(x.numpy(), y.numpy()) for x, y in data] for _ in range(count)]

    first, second = epochs(2)
    assert [x.shape for x, _ in first] == [(32, 20, 8)] * 3
    assert not np.array_equal(first[0][1], second[0][1]) or not np.array_equal(first[0][0], second[0][0])
    again = epochs(1)[0]
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(first, again))


def augmented(x: np.ndarray, seed: int = 0, **ranges) -> np.ndarray:
    off = {"time_masks": 0, "freq_masks": 0, "shift_frames": 0}
    config = recipes.FeatureAugment(**{**off, **ranges})
    return recipes.augment_batch(tf.constant(x), tf.constant(seed, tf.int64), config).numpy()


def test_shift_moves_frames_and_brings_in_silence() -> None:
    x = np.tile(np.arange(1, 21, dtype=np.float32)[None, :, None], (64, 1, 8))
    out = augmented(x, shift_frames=3)
    offsets = set()
    for clip in out:
        kept = clip[:, 0] > 0
        offset = int(np.flatnonzero(kept)[0]) - int(clip[kept][0, 0] - 1)
        offsets.add(offset)
        assert np.array_equal(clip[kept][:, 0], np.arange(1, 21)[max(-offset, 0) : 20 - max(offset, 0)])
    assert offsets == set(range(-3, 4))


@pytest.mark.parametrize("ranges", [{"shift_frames": 3}, {"shift_frames": 3, "time_masks": 1}, {"freq_masks": 1}])
def test_labels_move_as_frames_do(ranges) -> None:
    labels = np.random.default_rng(0).integers(1, 9, (64, 20)).astype(np.int32)
    config = recipes.FeatureAugment(**{"time_masks": 0, "freq_masks": 0, "shift_frames": 0, **ranges})
    for seed in range(3):
        x = augmented(np.repeat(labels[:, :, None], 8, 2).astype(np.float32), seed, **ranges).max(axis=2)
        moved = recipes.augment_labels(tf.constant(labels), tf.constant(seed, tf.int64), config, silence=0).numpy()
        assert moved.dtype == np.int32 and (moved == 0).any() == bool(config.shift_frames)
        masked = (x == 0) & (moved != 0)
        assert np.array_equal(x[~masked], moved[~masked]) and masked.any() == bool(config.time_masks)
    comes_in = recipes.augment_labels(tf.constant(labels), tf.constant(0, tf.int64), config, silence=-1).numpy()
    assert (comes_in == -1).any() == bool(config.shift_frames) and not (comes_in == 0).any()


def test_masks_are_bounded_and_differ_between_clips() -> None:
    x = np.ones((200, 20, 8), np.float32)
    out = augmented(x, time_masks=1, time_mask_frames=4)
    widths = (out == 0).all(axis=2).sum(axis=1)
    assert set(widths) == set(range(5))
    assert np.array_equal((out == 0).any(axis=2), (out == 0).all(axis=2))
    out = augmented(x, freq_masks=2, freq_mask_bins=2)
    widths = (out == 0).all(axis=1).sum(axis=1)
    assert widths.max() == 4 and widths.min() == 0
    assert np.array_equal(out, augmented(x, freq_masks=2, freq_mask_bins=2))
    assert not np.array_equal(out, augmented(x, seed=1, freq_masks=2, freq_mask_bins=2))


def test_warp_bends_the_mel_axis_of_each_clip_and_leaves_its_ends() -> None:
    mel = 41
    x = np.tile(np.arange(mel, dtype=np.float32), (300, 3, 1))
    out = augmented(x, warp=0.1)
    assert (out == out[:, :1]).all()  # each frame alike
    came_from = out[:, 0]
    np.testing.assert_allclose(came_from[:, [0, -1]], [[0, mel - 1]] * 300, atol=1e-4)
    assert (np.diff(came_from, axis=1) > 0).all()
    moved = came_from[:, 30] - 30  # at three quarters of the axis
    assert -4 <= moved.min() < -3.5 and 3.5 < moved.max() <= 4
    np.testing.assert_allclose(came_from[:, 15], 15 + moved / 2, atol=1e-3)
    np.testing.assert_allclose(came_from[:, 35], 35 + moved / 2, atol=1e-3)
    assert np.array_equal(out, augmented(x, warp=0.1)) and not np.array_equal(out, augmented(x, seed=1, warp=0.1))
    assert augmented(np.ones((2, 5, 1), np.float32), warp=0.25).tolist() == [[[1.0]] * 5] * 2


def test_masks_wider_than_the_clip() -> None:
    out = augmented(np.ones((50, 4, 3), np.float32), time_masks=1, time_mask_frames=9)
    assert out.shape == (50, 4, 3) and (out.sum(axis=(1, 2)) == 0).any()


def test_learning_rates_of_stages() -> None:
    schedule = recipes.CosineStages([(1.0, 10), (0.5, 0), (0.25, 4)], 0.1)
    rates = [float(schedule(step)) for step in range(16)]
    assert rates[0] == 1.0 and rates[5] == pytest.approx(0.55) and rates[10] == 0.25
    assert rates[14] == rates[15] == pytest.approx(0.025)
    assert all(a > b for a, b in zip(rates[:9], rates[1:10]))
    again = recipes.CosineStages(**schedule.get_config())
    assert [float(again(step)) for step in range(16)] == rates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"final_learning_rate_factor": 2.0}, "final_learning_rate_factor"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"teacher_weight": 1.1}, r"TrainConfig\.teacher_weight=1\.1"),
        ({"temperature": 0.0}, r"TrainConfig\.temperature=0\.0"),
    ],
)
def test_config_says_what_is_wrong(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        recipes.TrainConfig(**options)


def test_augment_config_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="time_masks=-1"):
        recipes.FeatureAugment(time_masks=-1)
    for warp in (-0.1, 0.3, "much", True, float("nan")):
        with pytest.raises(ValueError, match="FeatureAugment.warp="):
            recipes.FeatureAugment(warp=warp)


def test_features_that_do_not_suit_the_model(float_model) -> None:
    wrong = toy()
    wrong = FeatureSet(wrong.x[:, :10], wrong.y, CLASSES, wrong.report, wrong.source, wrong.paths)
    with pytest.raises(ValueError, match=r"features have shape \[10, 8\]"):
        recipes.train_float(wrong, SHAPE)
    with pytest.raises(ValueError, match="features have shape"):
        recipes.train_quantized(float_model, None, wrong)
    with pytest.raises(ValueError, match="classes"):
        recipes.train_float(toy(), models.ModelConfig(5, 20, 8, 8, SHAPE.windows, 1))
    with pytest.raises(ValueError, match="none"):
        recipes.train_float(toy(0), SHAPE)
    with pytest.raises(ValueError, match="stage1_epochs=-1"):
        recipes.train_quantized(float_model, None, toy(), stage1_epochs=-1)
    with pytest.raises(TypeError, match="tf_keras"):
        recipes.train_quantized("model", None, toy())
