# SPDX-License-Identifier: Apache-2.0
"""The stages of the 50K spotter on a task of seconds: each alone, stopped and resumed, and what comes out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from tfmot_kws.data import frame_labels
from tfmot_kws.data.datasets import FeatureSet, LoadReport
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import low_rank_recipes, recipes, resumable
from tfmot_kws.training import stages as train

CLASSES = ("_unknown_", "yes", "no")
FRAMES, BANDS = 16, 8
CONFIG = low_rank_recipes.LowRankConfig(
    phone_epochs=10, multitask_epochs=12, low_rank_epochs=8, quantized_epochs=2, learning_rate=3e-2, fast_epochs=0,
    quantized_rate_factor=0.03, context=7, ahead=2, width=12, layers=2, rank=4, batch_size=32,
    augment=recipes.FeatureAugment(0, 0, 0, 0, 2),
)  # fmt: skip


def toy(examples: int = 192, seed: int = 0) -> tuple[FeatureSet, frame_labels.FrameLabels]:
    """Two phones, bands 0-2 and 3-5 loud: "yes" is the one, then the other, "no" the other way round; else one only."""
    rng = np.random.default_rng(seed)
    y = (np.arange(examples) % 3).astype(np.int32)
    x = rng.random((examples, FRAMES, BANDS)).astype(np.float32) + 3.0
    phones = np.zeros((examples, FRAMES), np.int32)
    for i, label in enumerate(y):
        order = ((1, 1), (2, 2))[rng.integers(2)] if label == 0 else ((1, 2), (2, 1))[label - 1]
        for first, phone in zip((4, 8), order):
            phones[i, first : first + 4] = phone
            x[i, first : first + 4, 3 * phone - 3 : 3 * phone] += 2.0
    features = FeatureSet(x, y, CLASSES, LoadReport(examples, {}), np.zeros(examples, np.int32), ("a.wav",))
    return features, frame_labels.FrameLabels(phones, ("sil", "a", "b"))


def function(model: keras.Model):
    return lambda x: model(x, training=False).numpy()


@contextlib.contextmanager
def steps_of(**options: bool) -> Iterator[None]:
    """Recipes compile their models with these options.

    XLA takes longer to compile such small models than they take to train. The last test of training here has the steps
    that users have, and so have all stages of ``tests/commands/test_cli_low_rank.py``.
    """
    plain = keras.Model.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "compile", lambda self, *args, **kwargs: plain(self, *args, **{**kwargs, **options}))
        yield


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict[str, keras.Model]:
    """The model after each stage; the second stage starts from a file."""
    features, labels = toy()
    path = tmp_path_factory.mktemp("stages") / "phones.keras"
    with steps_of(jit_compile=False):
        phones = low_rank_recipes.train_phones(features, labels, CONFIG)
        phones.save(path)
        both = low_rank_recipes.train_multitask(path, features, labels, CONFIG)
        low = low_rank_recipes.train_low_rank(both, features, labels, CONFIG)
    return {"phones": phones, "both": both, "low": low, "keywords": low_rank_recipes.keyword_model(low)}


def test_phones_are_learnt_and_kept(stages) -> None:
    features, labels = toy(seed=1)
    wanted = labels.y[:, 4:14]  # rows judge the frames 4 .. 13: 7 stacked, 2 of them ahead
    for name in ("phones", "both", "low"):
        found = stages[name](features.x, training=False)
        found = found[-1] if isinstance(found, list) else found
        assert found.shape == (192, 10, 3)
        assert np.mean(np.argmax(found, -1) == wanted) > 0.9, name


def test_keywords_are_learnt_and_the_result_is_the_plain_spotter(stages) -> None:
    spotter, (features, _) = stages["keywords"], toy(seed=1)
    assert evaluate.evaluate(function(spotter), features).accuracy > 0.9
    like = models.svd_50k(3, FRAMES, BANDS, 7, 12, 4, 2)
    names = [layer.name for layer in like.layers]
    assert [layer.name for layer in spotter.layers] == [names[0], "normalize", *names[1:]]
    folded = low_rank_recipes.keyword_model(stages["low"], fold=True)
    assert [layer.name for layer in folded.layers] == names
    assert [w.shape for w in folded.get_weights()] == [w.shape for w in like.get_weights()]
    for model in (spotter, folded):
        np.testing.assert_allclose(model(features.x), stages["low"](features.x)[0], atol=1e-4)
    both = low_rank_recipes.keyword_model(stages["both"])
    assert evaluate.evaluate(function(both), features).accuracy > 0.75


def test_labels_move_with_their_frames() -> None:
    """Frames that carry their own label as their value, silence 0: they must agree after shifts."""
    features, labels = toy()
    features = dataclasses.replace(features, x=np.repeat(labels.y[:, :, None], BANDS, 2).astype(np.float32))
    judged = 0
    for x, y in low_rank_recipes.batches(features, labels, CONFIG, 0, 2):
        assert y["phones"].shape == (32, 10) and y["posteriors"].shape == (32,)
        np.testing.assert_array_equal(x[:, 4:14, 0], y["phones"])
        judged += len({tuple(row) for row in y["phones"].numpy().tolist()})
    assert judged > 60  # they did move
    still = dataclasses.replace(CONFIG, augment=None)
    for x, y in low_rank_recipes.batches(features, labels, still, 0, 1):
        np.testing.assert_array_equal(x[:, 4:14, 0], y["phones"])


class Stop(keras.callbacks.Callback):
    """Ends training as someone who pulls the plug behind some epoch would."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            raise KeyboardInterrupt


@pytest.fixture
def eager_steps() -> Iterator[None]:
    with steps_of(jit_compile=False, run_eagerly=True):
        yield


@pytest.mark.slow
def test_stopped_and_resumed_is_the_same_to_the_bit(tmp_path, eager_steps) -> None:
    """Ten trainings of a few steps: none is worth a trace."""
    features, labels = toy(64)
    config = dataclasses.replace(CONFIG, phone_epochs=3, multitask_epochs=2, low_rank_epochs=2, layers=1)
    whole = low_rank_recipes.train_spotter(features, labels, config)
    for stops in (1, 2, 1, 1):
        with pytest.raises(KeyboardInterrupt):
            low_rank_recipes.train_spotter(features, labels, config, tmp_path, [Stop(stops)])
    parts = low_rank_recipes.train_spotter(features, labels, config, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), parts.get_weights()))
    again = low_rank_recipes.train_spotter(features, labels, config, tmp_path, [Stop(1), Stop(2)])
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights()))
    with pytest.raises(ValueError, match="holds 3 epochs, wanted are 2"):
        fewer = dataclasses.replace(config, phone_epochs=2)
        low_rank_recipes.train_phones(features, labels, fewer, tmp_path / "phones")
    for change in ({"seed": 1}, {"learning_rate": 1.0}):
        with pytest.raises(ValueError, match=rf"holds a run with other options \({next(iter(change))}"):
            low_rank_recipes.train_spotter(features, labels, dataclasses.replace(config, **change), tmp_path)
    with pytest.raises(ValueError, match=r"other options \(data"):
        low_rank_recipes.train_phones(*toy(64, seed=1), config, tmp_path / "phones")


@pytest.mark.slow
def test_last_stage_trains_any_model_and_resumes(tmp_path) -> None:
    features, _ = toy(64)

    def spotter():
        keras.utils.set_random_seed(0)
        return models.svd_50k(3, FRAMES, BANDS, 7, 12, 4, 1)

    whole = low_rank_recipes.train_quantized(spotter(), features, CONFIG)
    with pytest.raises(KeyboardInterrupt):
        low_rank_recipes.train_quantized(spotter(), features, CONFIG, tmp_path, [Stop(1)])
    parts = low_rank_recipes.train_quantized(spotter(), features, CONFIG, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), parts.get_weights()))
    quantized = apply.quantize_apply(spotter(), scheme.kws_scheme(bits=8))
    train.calibrate(quantized, features.x)
    before = quantized.get_weights()
    trained = low_rank_recipes.train_quantized(quantized, features, CONFIG)
    assert train.get_stage(trained) == 2 and trained.output_shape == (None, 3)
    assert any(not np.array_equal(a, b) for a, b in zip(before, trained.get_weights()))


def test_rows_without_a_label_do_not_count() -> None:
    logits = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32))
    y = np.array([[1, -1, 3], [-1, -1, 0]], np.int32)
    known = y >= 0
    wanted = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y[known], logits[known])
    np.testing.assert_allclose(low_rank_recipes.phone_loss(y, logits), wanted, rtol=1e-6)
    assert float(low_rank_recipes.phone_loss(np.full((2, 3), -1), logits)) == 0.0


def test_defaults_are_the_papers() -> None:
    config = low_rank_recipes.LowRankConfig()
    epochs = (config.phone_epochs, config.multitask_epochs, config.low_rank_epochs, config.quantized_epochs)
    assert epochs == (12, 20, 20, 20) and (config.fast_factor, config.slow_factor) == (2.0, 1.2)
    assert (config.context, config.ahead, config.width, config.layers, config.rank) == (31, 10, 128, 3, 39)
    decay = resumable.EpochDecay(1.0, 1, config.fast_epochs, config.fast_factor, config.slow_factor)
    assert float(decay(0)) == 1.0 and float(decay(19)) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phone_epochs": 0}, "phone_epochs=0: must be a whole number of at least 1"),
        ({"batch_size": 2.0}, "batch_size=2.0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be above 0"),
        ({"fast_factor": 0.5}, "fast_factor=0.5: must be at least 1"),
        ({"phone_weight": -1.0}, "phone_weight=-1.0"),
        ({"ahead": 31}, "ahead=31: must be below context, 31"),
    ],
)
def test_config_says_what_is_wrong(options, message) -> None:
    with pytest.raises(ValueError, match=rf"LowRankConfig\.{message}"):
        low_rank_recipes.LowRankConfig(**options)


def test_errors(stages) -> None:
    features, labels = toy(32)
    other = dataclasses.replace(labels, y=labels.y[:, :-1])
    none = dataclasses.replace(labels, y=np.full_like(labels.y, -1))
    wide = dataclasses.replace(labels, names=("sil", "a", "b", "c"))
    for call, message in (
        (lambda: low_rank_recipes.train_phones(features, other, CONFIG), r"labels: have shape \[32, 15\]"),
        (lambda: low_rank_recipes.train_phones(features, none, CONFIG), "not a frame has one"),
        (lambda: low_rank_recipes.train_phones(*toy(0), CONFIG), "features: none"),
        (lambda: low_rank_recipes.train_multitask(stages["phones"], features, wide, CONFIG), "4 names, model"),
        (lambda: low_rank_recipes.train_multitask(stages["both"], features, labels, CONFIG), "keyword head already"),
        (lambda: low_rank_recipes.train_low_rank(stages["phones"], features, labels, CONFIG), "no keyword head"),
        (lambda: low_rank_recipes.train_low_rank(stages["low"], features, labels, CONFIG), "bottlenecks already"),
        (lambda: low_rank_recipes.train_quantized(stages["low"], features, CONFIG), "drop phones with keyword_model"),
        (lambda: low_rank_recipes.train_quantized(models.svd_50k(), features, CONFIG), r"needs \[31, 20\]"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="expected a tf_keras model or the path of one, found int"):
        low_rank_recipes.train_multitask(3, features, labels, CONFIG)
