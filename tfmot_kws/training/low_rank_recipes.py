# SPDX-License-Identifier: Apache-2.0
"""How the 50,000-parameter spotter is trained, after Mishchenko et al. 2019: phones, both, low rank, few bits.

1. ``train_phones``: a network of full rank learns which phone is spoken in each frame.
2. ``train_multitask``: it gets a second output and learns keywords as well; phones go on as a regularizer.
3. ``train_low_rank``: pairs of thin layers take the place of its layers and are trained on, for both.
4. ``keyword_model`` drops the phones; after ``quantize_apply``, ``train_quantized`` trains on with few bits.

Each stage takes the model of the one before, or the .keras file that it was saved to, and can be stopped after any
epoch and called again: ``checkpoints`` is a folder that it goes on from, to the same bits (see ``resumable``).

The paper states the epochs, and that the learning rate falls by a factor of 2 an epoch at first and of 1.2 later. How
long "at first" is, the first rate, the optimizer and the weight of the phones are this project's.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws.data.feature_set import FeatureSet
from tfmot_kws.data.frame_labels import UNKNOWN, FrameLabels
from tfmot_kws.keras import keras
from tfmot_kws.models import multitask
from tfmot_kws.models.multitask import KEYWORDS, PHONES, keyword_model
from tfmot_kws.quantize import model_costs, saving
from tfmot_kws.quantize.dynamic.layers import DynamicKernel
from tfmot_kws.training import recipes, resumable
from tfmot_kws.training.width_history import WidthHistory
from tfmot_kws.training.width_schedule import WidthSchedule

_LEAST_DEVIATION = 1e-3
"""Bands that hardly change are not blown up."""
_LEARNING_SHARE = 0.25
"""Of the epochs of stage 4, in which learned widths move."""


@dataclasses.dataclass(frozen=True)
class LowRankConfig:
    """The recipe; the defaults are the paper's where it states them.

    Attributes:
        phone_epochs: of stage 1, phones.
        multitask_epochs: of stage 2, phones and keywords.
        low_rank_epochs: of stage 3, pairs of thin layers.
        quantized_epochs: of stage 4, few bits.
        learning_rate: Adam's, in the first epoch of each stage.
        low_rank_rate_factor: stage 3 begins at this share of it.
        quantized_rate_factor: stage 4 begins at this share of it.
        fast_epochs: after so many epochs of a stage the rate is divided by ``fast_factor``, after later ones by
            ``slow_factor``.
        fast_factor: at least 1.
        slow_factor: at least 1.
        phone_weight: of the phones' cross entropy where the keywords' counts 1; 0 trains keywords alone.
        context: frames that are stacked.
        ahead: how many of them lie after the frame that is judged; the delay of the spotter.
        width: outputs of the sigmoid layers.
        layers: how many sigmoid layers there are.
        rank: outputs of the thin layers.
        batch_size: clips; what is left over at the end of an epoch is dropped.
        seed: of initial weights, order and augmentation.
        augment: changes of the features; labels of frames move along. None trains on them as they are.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    phone_epochs: int = 12
    multitask_epochs: int = 20
    low_rank_epochs: int = 20
    quantized_epochs: int = 20
    learning_rate: float = 1e-2
    low_rank_rate_factor: float = 1.0
    quantized_rate_factor: float = 0.3
    fast_epochs: int = 1
    fast_factor: float = 2.0
    slow_factor: float = 1.2
    phone_weight: float = 0.5
    context: int = 31
    ahead: int = 10
    width: int = 128
    layers: int = 3
    rank: int = 39
    batch_size: int = 128
    seed: int = 0
    augment: recipes.FeatureAugment | None = recipes.FeatureAugment(0, 0, 0, 0, shift_frames=10)

    def __post_init__(self) -> None:
        whole = {"fast_epochs": 0, "ahead": 0, "seed": 0}
        whole |= dict.fromkeys(("context", "width", "layers", "rank", "batch_size"), 1)
        whole |= dict.fromkeys(("phone_epochs", "multitask_epochs", "low_rank_epochs", "quantized_epochs"), 1)
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"LowRankConfig.{name}={value!r}: must be a whole number of at least {least}")
        for name in ("learning_rate", "low_rank_rate_factor", "quantized_rate_factor"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"LowRankConfig.{name}={getattr(self, name)!r}: must be above 0")
        for name, least in (("fast_factor", 1.0), ("slow_factor", 1.0), ("phone_weight", 0.0)):
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"LowRankConfig.{name}={getattr(self, name)!r}: must be at least {least:g}")
        if self.ahead >= self.context:
            raise ValueError(f"LowRankConfig.ahead={self.ahead!r}: must be below context, {self.context}")


def train_phones(
    features: FeatureSet,
    labels: FrameLabels,
    config: LowRankConfig | None = None,
    checkpoints: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> keras.Model:
    """Stage 1: a network of full rank for the labels of frames, from random weights.

    Args:
        features: training examples.
        labels: of their frames.
        config: the recipe; its defaults where None.
        checkpoints: a folder to go on from; None keeps nothing.
        callbacks: for ``model.fit``.
        verbose: for ``model.fit``.

    Returns:
        Features [frames, mel] -> logits of labels [rows, names]; not compiled.

    Raises:
        ValueError: labels and features do not agree, there are none, or the folder holds another run.
    """
    config = config or LowRankConfig()
    _check(features, labels, None)
    # One number for all frames of a band: it can be taken up by the weights at the end.
    mean = features.x.mean((0, 1), np.float64)
    deviation = np.maximum(features.x.std((0, 1), dtype=np.float64), _LEAST_DEVIATION)
    shape = multitask.Shape(
        *features.x.shape[1:], tuple(mean.tolist()), tuple(deviation.tolist()), config.context, config.width,
        config.layers, phones=len(labels.names),
    )  # fmt: skip
    keras.utils.set_random_seed(config.seed)
    model = multitask.build(shape)
    epochs = config.phone_epochs
    return _fit("phones", model, features, labels, config, epochs, 1.0, checkpoints, callbacks, verbose)


def train_multitask(
    model: keras.Model | str | os.PathLike,
    features: FeatureSet,
    labels: FrameLabels,
    config: LowRankConfig | None = None,
    checkpoints: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> keras.Model:
    """Stage 2: adds a keyword head to the network of stage 1 and trains it for keywords and labels of frames.

    Args:
        model: of stage 1, or its .keras file; left as it is.
        features: training examples.
        labels: of their frames.
        config: the recipe; its defaults where None.
        checkpoints: a folder to go on from; None keeps nothing.
        callbacks: for ``model.fit``.
        verbose: for ``model.fit``.

    Returns:
        Features -> [logits of keywords [classes], logits of labels [rows, names]]; not compiled.

    Raises:
        ValueError: as stage 1, and where the model is not of stage 1 or made for other features or labels.
    """
    config = config or LowRankConfig()
    model = _opened(model)
    _check(features, labels, model)
    keras.utils.set_random_seed(config.seed + 1)
    model = multitask.with_keywords(model, len(features.classes))
    epochs = config.multitask_epochs
    return _fit("multitask", model, features, labels, config, epochs, 1.0, checkpoints, callbacks, verbose)


def train_low_rank(
    model: keras.Model | str | os.PathLike,
    features: FeatureSet,
    labels: FrameLabels,
    config: LowRankConfig | None = None,
    checkpoints: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> keras.Model:
    """Stage 3: each layer becomes a pair of thin ones by singular values; they are trained on for both.

    Args:
        model: of stage 2, or its .keras file; left as it is.
        features: training examples.
        labels: of their frames.
        config: the recipe; its defaults where None.
        checkpoints: a folder to go on from; None keeps nothing.
        callbacks: for ``model.fit``.
        verbose: for ``model.fit``.

    Returns:
        As stage 2, for ``keyword_model``.

    Raises:
        ValueError: as stage 2.
    """
    config = config or LowRankConfig()
    model = _opened(model)
    _check(features, labels, model)
    if not multitask.shape_of(model).classes:
        raise ValueError(f"model {model.name!r} has no keyword head; train it in the second stage first")
    model, _ = multitask.with_bottlenecks(model, config.rank)
    epochs, factor = config.low_rank_epochs, config.low_rank_rate_factor
    return _fit("low_rank", model, features, labels, config, epochs, factor, checkpoints, callbacks, verbose)


def train_spotter(
    features: FeatureSet,
    labels: FrameLabels,
    config: LowRankConfig | None = None,
    checkpoints: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> keras.Model:
    """The three stages one after another, each with a folder of its own in ``checkpoints``.

    Args:
        features: training examples.
        labels: of their frames.
        config: the recipe; its defaults where None.
        checkpoints: a folder to go on from; None keeps nothing.
        callbacks: for ``model.fit``.
        verbose: for ``model.fit``.

    Returns:
        The float spotter: ``models.svd_50k`` behind a layer of fixed numbers that normalizes the features.
    """
    config = config or LowRankConfig()

    def folder(name: str) -> str | None:
        return None if checkpoints is None else os.path.join(checkpoints, name)

    model = train_phones(features, labels, config, folder("phones"), callbacks, verbose)
    model = train_multitask(model, features, labels, config, folder("multitask"), callbacks, verbose)
    model = train_low_rank(model, features, labels, config, folder("low_rank"), callbacks, verbose)
    return keyword_model(model)


def train_quantized(
    model: keras.Model | str | os.PathLike,
    features: FeatureSet,
    config: LowRankConfig | None = None,
    checkpoints: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
    history: WidthHistory | None = None,
) -> keras.Model:
    """Stage 4: trains any model of one output for keywords alone, by the same schedule.

    A model that knows stages of quantization (``kws_scheme``) is trained in the one that it is in. Widths that are
    learned (``dynamic_scheme("learned")``) move in the first quarter of the epochs, while the learning rate is high.

    Args:
        model: as ``quantize_apply`` gave it, or its .keras file; its weights change.
        features: training examples.
        config: the recipe; its defaults where None.
        checkpoints: a folder to go on from; None keeps nothing.
        callbacks: for ``model.fit``.
        verbose: for ``model.fit``.
        history: takes down what learned widths pass on their way into their budget.

    Returns:
        The trained model, not compiled.

    Raises:
        ValueError: features and model do not agree, there are none, or the folder holds another run.
    """
    config = config or LowRankConfig()
    model = _opened(model)
    if len(model.outputs) != 1 or len(model.output_shape) != 2:
        raise ValueError(f"model {model.name!r} has outputs {model.output_names}; drop phones with keyword_model first")
    _check(features, None, model)
    keras.utils.set_random_seed(config.seed + 2)
    epochs, factor = config.quantized_epochs, config.quantized_rate_factor
    if any(isinstance(layer, DynamicKernel) for layer in model_costs.learning(model)):
        schedule = WidthSchedule(max(1, round(_LEARNING_SHARE * epochs)), history=history)
        callbacks = [schedule, *callbacks]
    return _fit("quantized", model, features, None, config, epochs, factor, checkpoints, callbacks, verbose)


def phone_loss(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross entropy over the rows that have a label; 0 where none has.

    Args:
        y: int32 [clips, rows], -1 without a label.
        logits: float [clips, rows, names].
    """
    y = tf.cast(y, tf.int32)
    known = tf.cast(y != UNKNOWN, logits.dtype)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(y, 0), logits)
    return tf.reduce_sum(known * each) / tf.maximum(tf.reduce_sum(known), 1.0)


def batches(
    features: FeatureSet, labels: FrameLabels | None, config: LowRankConfig, first_epoch: int, epochs: int
) -> tf.data.Dataset:
    """Shuffled, augmented batches of the epochs ``first_epoch .. epochs - 1``.

    Row r of a spotter stacks the frames r .. r + context - 1 and judges frame r + context - 1 - ahead, whose label it
    gets.

    Returns:
        (float32 [batch, frames, mel], int32 [batch]), or with labels (the former, {"posteriors": the latter,
        "phones": int32 [batch, rows]}).
    """
    size = min(config.batch_size, len(features))
    x, y = tf.constant(features.x), tf.constant(features.y)
    of_frames = None if labels is None else tf.constant(labels.y)
    judged = config.context - 1 - config.ahead
    rows = features.x.shape[1] - config.context + 1

    def load(index, seed):
        chosen = tf.gather(x, index)
        chosen = tf.ensure_shape(chosen, (size, *features.x.shape[1:]))
        if config.augment is not None:
            chosen = recipes.augment_batch(chosen, seed, config.augment)
        targets = tf.gather(y, index)
        if of_frames is not None:
            phones = tf.gather(of_frames, index)
            if config.augment is not None:
                phones = recipes.augment_labels(phones, seed, config.augment)
            targets = {KEYWORDS: targets, PHONES: phones[:, judged : judged + rows]}
        return chosen, targets

    return resumable.batches(len(features), size, config.seed, first_epoch, epochs, load)


def _opened(model: keras.Model | str | os.PathLike) -> keras.Model:
    if isinstance(model, keras.Model):
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model: expected a tf_keras model or the path of one, found {type(model).__name__}")
    return saving.load_model(model, compile=False)


def _check(features: FeatureSet, labels: FrameLabels | None, model: keras.Model | None) -> None:
    """That there are examples, and that labels and model are made for them."""
    if not len(features):
        raise ValueError("features: none; training needs examples")
    if labels is not None and labels.y.shape != features.x.shape[:2]:
        raise ValueError(
            f"labels: have shape {list(labels.y.shape)}, features {list(features.x.shape[:2])} (examples, frames); "
            "make them from the same features"
        )
    if labels is not None and not labels.known():
        raise ValueError("labels: not a frame has one")
    if model is None:
        return
    if tuple(model.input_shape[1:]) != features.x.shape[1:]:
        raise ValueError(
            f"features have shape {list(features.x.shape[1:])} (frames, mel), model {model.name!r} needs "
            f"{list(model.input_shape[1:])}: use the front end and clip length that it was made for"
        )
    if labels is not None:
        shape = multitask.shape_of(model)
        if shape.phones != len(labels.names):
            raise ValueError(f"labels have {len(labels.names)} names, model {model.name!r} has {shape.phones}")
        classes = shape.classes or len(features.classes)
    else:
        classes = model.output_shape[-1]
    if classes != len(features.classes):
        raise ValueError(f"features have {len(features.classes)} classes, model {model.name!r} has {classes}")


def _fit(
    stage: str, model: keras.Model, features: FeatureSet, labels: FrameLabels | None, config: LowRankConfig,
    epochs: int, factor: float, checkpoints, callbacks, verbose: int,
) -> keras.Model:  # fmt: skip
    """Compiles and trains; the model that comes back has the same layers and holds no optimizer."""
    kept = None
    if checkpoints is not None:
        # More epochs change nothing of those before, so a run may get longer.
        options = {k: v for k, v in dataclasses.asdict(config).items() if not k.endswith("_epochs") or k[:4] == "fast"}
        data = [features.x, features.y, *([] if labels is None else [labels.y])]
        run = {"stage": stage, **options, "data": resumable.checksum(data)}
        run |= {"start": resumable.checksum(model.get_weights()), **model_costs.budgets_of(model)}
        kept = resumable.Checkpoints(checkpoints, run)
    steps = len(features) // min(config.batch_size, len(features))
    rate = resumable.EpochDecay(
        factor * config.learning_rate, steps, config.fast_epochs, config.fast_factor, config.slow_factor
    )
    keywords = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses: dict = {KEYWORDS: keywords, PHONES: phone_loss} if labels is not None else {}
    weights = {KEYWORDS: 1.0, PHONES: config.phone_weight if stage != "phones" else 1.0}
    names = [name for name in model.output_names if name in losses]
    model.compile(
        keras.optimizers.Adam(rate),
        {name: losses[name] for name in names} if names else keywords,
        loss_weights={name: weights[name] for name in names} if names else None,
        jit_compile=True,  # XLA halves the time of a step
    )

    def load(first: int, last: int) -> tf.data.Dataset:
        data = batches(features, labels, config, first, last)
        return data.map(lambda x, y: (x, {name: y[name] for name in names})) if names else data

    resumable.fit(model, epochs, steps, load, kept, callbacks, verbose)
    return keras.Model(model.inputs, model.outputs, name=model.name)
