# SPDX-License-Identifier: Apache-2.0
"""How the models of this project are trained: one recipe for float, one for two-stage quantization.

Nothing here is needed: ``quantize_apply`` and ``TwoStageSchedule`` work with any ``model.fit``. The recipes take
features in memory, or in shards where there are more than memory holds, and augment whole batches in TensorFlow ops,
because the models are small and anything that runs once per clip would take longer than training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws.data.feature_set import FeatureSet
from tfmot_kws.data.shards import ShardSet
from tfmot_kws.keras import keras
from tfmot_kws.models import networks
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, model_costs, scheme
from tfmot_kws.training import distributed, resumable, step_times
from tfmot_kws.training import stages as train
from tfmot_kws.training import teacher as taught_by
from tfmot_kws.training.feature_augment import FeatureAugment, augment_batch, augment_labels, augment_of, between
from tfmot_kws.training.width_history import WidthHistory

__all__ = [
    "CosineStages",
    "FeatureAugment",
    "TrainConfig",
    "augment_batch",
    "augment_labels",
    "augment_of",
    "batches",
    "between",
    "loss",
    "train_float",
    "train_on",
    "train_quantized",
]
_CALIBRATION_BATCH = 256


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The recipe.

    Attributes:
        epochs: of the float model.
        batch_size: clips; what is left over at the end of an epoch is dropped.
        learning_rate: Adam's, at the start of the float training and of stage 1.
        final_learning_rate_factor: the cosine ends at this share (0..1) of its start.
        stage2_learning_rate_factor: stage 2 starts at this share of ``learning_rate``.
        seed: of initial weights, order and augmentation.
        augment: changes of the features; None trains on them as they are.
        label_smoothing: 0 up to, not including, 1.
        class_weights: weighs classes by the inverse of their share.
        teacher_weight: 0..1, share of the loss that is a teacher's answer instead of the label, where there is one.
        temperature: both answers are divided by it before they are compared, see ``teacher``.
        xla: compiles the step by XLA: most models train faster, and other last bits come out. Not within a strategy:
            XLA knows no sums over processes on CPUs.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 2e-3
    final_learning_rate_factor: float = 0.01
    stage2_learning_rate_factor: float = 0.25
    seed: int = 0
    augment: FeatureAugment | None = FeatureAugment()
    label_smoothing: float = 0.0
    class_weights: bool = False
    teacher_weight: float = 0.5
    temperature: float = 2.0
    xla: bool = False

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"TrainConfig.{name}={value!r}: must be a whole number of at least {low}")
        for name in ("learning_rate", "stage2_learning_rate_factor"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"TrainConfig.{name}={getattr(self, name)!r}: must be above 0")
        if not 0.0 <= self.final_learning_rate_factor <= 1.0:
            raise ValueError(
                f"TrainConfig.final_learning_rate_factor={self.final_learning_rate_factor!r}: must be between 0 and 1"
            )
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"TrainConfig.label_smoothing={self.label_smoothing!r}: must be at least 0 and below 1")
        taught_by.check(self)


class CosineStages(keras.optimizers.schedules.LearningRateSchedule):
    """One cosine decay after another.

    Args:
      stages: (first learning rate, steps) of each; stages of 0 steps are passed over.
      final_factor: each ends at this share of its first learning rate.
    """

    def __init__(self, stages: Sequence[tuple[float, int]], final_factor: float):
        self.stages = [(float(rate), int(steps)) for rate, steps in stages if steps > 0]
        self.final_factor = float(final_factor)

    def __call__(self, step):
        """Learning rate of a step; the last one's after the end."""
        step, first = tf.cast(step, tf.float32), 0
        rate = tf.zeros(())
        for start, steps in self.stages:
            share = tf.clip_by_value((step - first) / steps, 0.0, 1.0)
            cosine = 0.5 * (1.0 + tf.cos(math.pi * share))
            here = start * (self.final_factor + (1.0 - self.final_factor) * cosine)
            rate = tf.where(step >= first, here, rate)
            first += steps
        return rate

    def get_config(self):
        """Constructor arguments."""
        return {"stages": self.stages, "final_factor": self.final_factor}


def batches(
    features: FeatureSet | ShardSet,
    config: TrainConfig,
    teacher: keras.Model | None = None,
    epochs: tuple[int, int] = (0, 1),
    share: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Shuffled, augmented batches of (float32 [batch, frames, mel], int32 [batch]); the same for the same seed.

    With a teacher the labels are float32 [batch, 1 + classes]: the class, and its logits of the same features.

    Args:
        features: training examples, in memory or in shards.
        config: seed, size of a batch and augmentation; clips that do not fill the last batch are dropped.
        teacher: features -> logits [batch, classes].
        epochs: of shards, (first, behind the last), one after another. Those in memory are one epoch, in another order
            each time that it is gone through, as ``model.fit`` does it; with a share, they are these epochs.
        share: (which, of how many) equal shares of each batch, for workers that train together.
    """
    if isinstance(features, ShardSet):
        return _taught(_shard_batches(features, config, epochs, share or (0, 1)), teacher)
    x, y = tf.constant(features.x), tf.constant(features.y)
    count = len(features)
    size = _batch_size(features, config)
    order = tf.data.Dataset.range(count).shuffle(count, config.seed, reshuffle_each_iteration=True)
    order = order.batch(size, drop_remainder=True)
    seeds = tf.data.Dataset.random(config.seed, rerandomize_each_iteration=True)
    drawn = tf.data.Dataset.zip((order, seeds))
    if share is not None:
        # Keras begins a dataset of its own once more for its first epoch: what was drawn first is never used.
        drawn = drawn.repeat(epochs[1] + 1).skip((epochs[0] + 1) * (count // size))
    which, shares = share or (0, 1)
    own = size // shares

    def load(index, seed):
        index = index if shares == 1 else index[which * own : (which + 1) * own]
        chosen = tf.gather(x, index)
        if config.augment is not None:
            chosen = augment_batch(chosen, seed, config.augment, (which, shares))
        return chosen, tf.gather(y, index)

    load = tf.autograph.experimental.do_not_convert(load)
    data = drawn.map(load, tf.data.AUTOTUNE, deterministic=True)
    return _taught(data, teacher).prefetch(2)


def _shard_batches(
    features: ShardSet, config: TrainConfig, epochs: tuple[int, int], share: tuple[int, int]
) -> tf.data.Dataset:
    change = None
    if config.augment is not None:

        def change(x, seed):
            return augment_batch(x, seed, config.augment, share)

    size = _batch_size(features, config)
    return features.batches(size, config.seed, epochs, drop_remainder=True, change=change, share=share)


def _taught(data: tf.data.Dataset, teacher: keras.Model | None) -> tf.data.Dataset:
    """With a teacher's answers behind the labels."""
    if teacher is None:
        return data

    def answered(x, labels):
        said = teacher(x, training=False)
        return x, tf.concat([tf.cast(labels, said.dtype)[:, None], said], axis=1)

    return data.map(tf.autograph.experimental.do_not_convert(answered), tf.data.AUTOTUNE, deterministic=True)


def loss(config: TrainConfig, classes: int, taught: bool = False):
    """Cross entropy of logits and class indices; with a teacher of logits and what ``batches`` gives then."""
    if taught:
        return lambda answers, logits: _taught_loss(config, classes, answers, logits)
    if not config.label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def smoothed(y, logits):
        one_hot = tf.one_hot(tf.cast(tf.reshape(y, (-1,)), tf.int32), classes)
        return keras.losses.categorical_crossentropy(one_hot, logits, True, config.label_smoothing)

    return smoothed


def _taught_loss(config: TrainConfig, classes: int, answers: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Of each clip, float32 [batch]."""
    one_hot = tf.one_hot(tf.cast(answers[:, 0], tf.int32), classes)
    hard = keras.losses.categorical_crossentropy(one_hot, logits, True, config.label_smoothing)
    share = config.teacher_weight
    return (1.0 - share) * hard + share * taught_by.distance(answers[:, 1:], logits, config.temperature)


def _taught_accuracy(answers: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return keras.metrics.sparse_categorical_accuracy(answers[:, :1], logits)


def train_float(
    features: FeatureSet | ShardSet,
    model_config: models.ModelConfig | networks.NetworkConfig | None = None,
    config: TrainConfig | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
    checkpoints: str | os.PathLike | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> keras.Model:
    """Trains a float model from random weights.

    Args:
        features: training examples.
        model_config: the model, of either kind; its ``frames``, ``mel_bins`` and ``num_classes`` must be those of the
            features. None is the 250,000-parameter spotter for them.
        config: the recipe; its defaults where None.
        callbacks: for ``model.fit``.
        verbose: for ``model.fit``.
        checkpoints: folder that keeps the last whole epoch. The same call goes on from there, to the same result.
        strategy: of ``tf.distribute``, see ``distributed``: all of its workers make this call, with the same arguments.
            The folder of checkpoints is one that all of them see.

    Returns:
        The trained model, not compiled, that belongs to no strategy.

    Raises:
        ValueError: features and model do not agree, there are no features, or ``checkpoints`` holds another run.
    """
    config = config or TrainConfig()
    if model_config is None:
        model_config = models.ModelConfig(len(features.classes), *features.shape)
    _check(features, (model_config.frames, model_config.mel_bins), model_config.num_classes, "model_config")
    distributed.check_batch(strategy, _batch_size(features, config))
    keras.utils.set_random_seed(config.seed)
    made = networks if isinstance(model_config, networks.NetworkConfig) else models
    with distributed.scope(strategy):
        model = made.build(model_config)
    stages = [(config.learning_rate, config.epochs * _steps(features, config))]
    return _fit(model, features, config, stages, config.epochs, callbacks, verbose, checkpoints, strategy=strategy)


def train_on(
    model: keras.Model,
    features: FeatureSet | ShardSet,
    config: TrainConfig | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
    checkpoints: str | os.PathLike | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> keras.Model:
    """Trains a float model on from its weights, with more examples, say.

    Args:
        model: as ``train_float`` gave it; its weights change.
        features: training examples.
        config: the recipe, with the epochs to add; its defaults where None.
        callbacks: for ``model.fit``.
        verbose: for ``model.fit``.
        checkpoints: folder that keeps the last whole epoch. The same call goes on from there, to the same result.
        strategy: as for ``train_float``.

    Raises:
        ValueError: features and model do not agree, there are no features, or ``checkpoints`` holds another run.
    """
    config = config or TrainConfig()
    _check(features, tuple(model.input_shape[1:]), model.output_shape[-1], f"model {model.name!r}")
    distributed.check_batch(strategy, _batch_size(features, config))
    keras.utils.set_random_seed(config.seed)
    stages = [(config.learning_rate, config.epochs * _steps(features, config))]
    own = model if strategy is None else distributed.moved(model, strategy)
    trained = _fit(own, features, config, stages, config.epochs, callbacks, verbose, checkpoints, strategy=strategy)
    if strategy is not None:
        model.set_weights(trained.get_weights())
    return trained


def train_quantized(
    float_model: keras.Model,
    quantize_scheme: scheme.KwsQuantizeScheme | None,
    features: FeatureSet | ShardSet,
    config: TrainConfig | None = None,
    stage1_epochs: int = 12,
    stage2_epochs: int = 6,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
    checkpoints: str | os.PathLike | None = None,
    history: WidthHistory | None = None,
    teacher: keras.Model | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> keras.Model:
    """Quantizes a trained float model and trains it on in two stages.

    Args:
        float_model: where the weights start from; left as it is.
        quantize_scheme: from ``tfmot_kws.kws_scheme``; its default where None.
        features: training examples.
        config: the recipe; ``epochs`` does not count.
        stage1_epochs: epochs with quantized weights; 0 only finds the ranges of activations before stage 2, as
            ``tfmot_kws.calibrate`` does on all features.
        stage2_epochs: epochs with everything quantized; 0 only enters stage 2.
        callbacks: for ``model.fit``.
        verbose: for ``model.fit``.
        checkpoints: folder that keeps the last whole epoch. The same call goes on from there, to the same result.
        history: takes down what learned widths pass on their way into their budget.
        teacher: whose answers are learnt too (``TrainConfig.teacher_weight``): the float model itself, a larger one, or
            several as one (``ensemble.mean_of``). It hears the same changed features.
        strategy: as for ``train_float``; float model and teacher belong to none.

    Returns:
        The quantized model in stage 2, ready for ``tflite_export.convert``.

    Raises:
        ValueError: features and model do not agree, there are no features, a number of epochs is below 0, or
            ``checkpoints`` holds another run.
    """
    config = config or TrainConfig()
    for name, epochs in (("stage1_epochs", stage1_epochs), ("stage2_epochs", stage2_epochs)):
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
            raise ValueError(f"{name}={epochs!r}: must be a whole number of at least 0")
    if not isinstance(float_model, keras.Model):
        raise TypeError(f"float_model: expected a tf_keras model, found {type(float_model).__name__}")
    _check(features, tuple(float_model.input_shape[1:]), float_model.output_shape[-1], f"model {float_model.name!r}")
    if teacher is not None:
        _check(features, tuple(teacher.input_shape[1:]), teacher.output_shape[-1], f"teacher {teacher.name!r}")
    distributed.check_batch(strategy, _batch_size(features, config))
    keras.utils.set_random_seed(config.seed)
    with distributed.scope(strategy):
        model = apply.quantize_apply(float_model, quantize_scheme)
    steps = _steps(features, config)
    second = config.learning_rate * config.stage2_learning_rate_factor
    stages = [(config.learning_rate, stage1_epochs * steps), (second, stage2_epochs * steps)]
    if not stage1_epochs:
        train.calibrate(model, _clips_of(features))
    if stage1_epochs + stage2_epochs:
        staged = [train.TwoStageSchedule(stage1_epochs, history=history), *callbacks]
        epochs = stage1_epochs + stage2_epochs
        return _fit(model, features, config, stages, epochs, staged, verbose, checkpoints, teacher, strategy, stage=2)
    train.set_stage(model, 2)
    return model if strategy is None else distributed.moved(model, None)


def _clips_of(features: FeatureSet | ShardSet):
    """Features alone, in memory or batch by batch."""
    if isinstance(features, ShardSet):
        return lambda: (x.numpy() for x, _ in features.batches(_CALIBRATION_BATCH, seed=None))
    return features.x


def _steps(features: FeatureSet | ShardSet, config: TrainConfig) -> int:
    return len(features) // _batch_size(features, config)


def _batch_size(features: FeatureSet | ShardSet, config: TrainConfig) -> int:
    return min(config.batch_size, len(features))


def _check(features: FeatureSet | ShardSet, shape: tuple, classes: int, name: str) -> None:
    if not len(features):
        raise ValueError("features: none; training needs examples")
    if tuple(features.shape) != tuple(shape):
        raise ValueError(
            f"features have shape {list(features.shape)} (frames, mel), {name} needs {list(shape)}: "
            "use the front end and clip length that the model was made for"
        )
    if len(features.classes) != classes:
        raise ValueError(f"features have {len(features.classes)} classes {features.classes}, {name} has {classes}")


@contextlib.contextmanager
def _readable(features: FeatureSet | ShardSet):
    """A shard that is damaged is said in one line; TensorFlow does not name it."""
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        if not isinstance(features, ShardSet):
            raise
        what = "has a record that is damaged" if isinstance(error, tf.errors.DataLossError) else "is not there"
        raise ValueError(
            f"{features.place}: a shard {what}; 'tfmot-kws prepare --verify' names it, and writes it anew once deleted"
        ) from error


def _fit(
    model, features, config, stages, epochs, callbacks, verbose, checkpoints, teacher=None, strategy=None, stage=None
) -> keras.Model:
    if config.xla and strategy is not None:
        raise ValueError("TrainConfig.xla=True: goes without a strategy; leave one of the two out")
    run = {}
    if checkpoints is not None or strategy is not None:
        run = {"data": features.checksum(), "start": resumable.checksum(model.get_weights())}
        distributed.check_alike(strategy, {"data": run["data"], "initial weights": run["start"], "epochs": epochs})
    if checkpoints is not None:
        options = dataclasses.asdict(config)
        options.pop("epochs")  # the stages say how many there are
        options |= {"xla": config.xla or None}  # runs of before it was there go on
        run = {**options, "steps": [steps for _, steps in stages], **run}
        run |= model_costs.budgets_of(model)
        run |= {"teacher": None if teacher is None else resumable.checksum(teacher.get_weights())}
    schedule = CosineStages(stages, config.final_learning_rate_factor)
    weights = None
    if config.class_weights:
        counts = np.maximum(features.counts, 1)
        weights = {i: len(features) / (len(counts) * int(n)) for i, n in enumerate(counts)}
    taught = teacher is not None
    with distributed.scope(strategy):
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        if taught:
            accuracy = keras.metrics.MeanMetricWrapper(_taught_accuracy, name="accuracy")
        model.compile(
            optimizer=keras.optimizers.Adam(schedule),
            loss=loss(config, len(features.classes), taught),
            metrics=[accuracy],
            jit_compile=config.xla or None,
        )
        # Keras would make the optimizer's variables while it traces the first step, and then trace it a second time.
        model.optimizer.build(model.trainable_variables)
    # AutoGraph would rewrite the source of Keras itself, function by function: many times longer than the tracing.
    model.train_step = tf.autograph.experimental.do_not_convert(model.train_step)
    kept, done = [], 0
    if checkpoints is not None:
        kept = [resumable.Checkpoints(checkpoints, run, strategy=strategy)]
        done = min(kept[0].restore(model), epochs)
    # Ahead of what keeps the epoch: it joins the ranges that replicas have seen.
    first = [one for one in callbacks if isinstance(one, train.TwoStageSchedule)]
    in_shards, together = isinstance(features, ShardSet), strategy is not None
    waiting, last = None, []
    if len(distributed.workers_of(strategy)) > 1:
        waiting = step_times.Waiting()
        last = [step_times.StepTimes(strategy, _batch_size(features, config), waiting)]
    # Keras weighs by labels that are nothing but labels, and not at all where batches are shared out.
    by_class, weights = (weights, None) if taught or together else (None, weights)

    def data_of(share: tuple[int, int] | None) -> tf.data.Dataset:
        data = batches(features, config, teacher, (done, epochs), share)
        data = data if by_class is None else _weighted(data, by_class, taught)
        return data if waiting is None else waiting.of(data)

    if done < epochs:
        size = _batch_size(features, config)
        data = distributed.shared_out(strategy, size, data_of) if together else data_of(None)
        if not in_shards and not together:
            for _ in range(done):
                # every epoch of the dataset draws another order and other seeds: draw those that are done
                next(iter(data))
        with distributed.synchronized(model) if together else contextlib.nullcontext(), _readable(features):
            model.fit(
                data,
                initial_epoch=done,
                epochs=epochs,
                steps_per_epoch=_steps(features, config) if in_shards or together else None,
                callbacks=[*first, *kept, *(one for one in callbacks if one not in first), *last],
                verbose=verbose,
                class_weight=weights,
            )
    del model.train_step  # the class's own again
    if stage is not None:
        train.set_stage(model, stage)
    # The same layers, not compiled: saved files hold no optimizer state and load without the classes of this module.
    plain = keras.Model(model.inputs, model.outputs, name=model.name)
    return distributed.moved(plain, None) if together else plain


def _weighted(data: tf.data.Dataset, by_class: dict[int, float], taught: bool) -> tf.data.Dataset:
    """With the weight of each clip."""
    table = tf.constant([by_class[i] for i in sorted(by_class)], tf.float32)

    def weighed(x, y):
        return x, y, tf.gather(table, tf.cast(y[:, 0] if taught else y, tf.int32))

    return data.map(tf.autograph.experimental.do_not_convert(weighed))
