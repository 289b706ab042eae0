# SPDX-License-Identifier: Apache-2.0
"""The recipe of a wake word: stretches of long sound, hard negatives mined in rounds, weights chosen on streams.

What a user feels is misses at a rate of false accepts an hour, on sound without end. So that is what is looked at
after every epoch, with the detector itself, on streams whose speakers and sound training does not see; the weights of
the best epoch are kept. The loss alone goes on falling long after that.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws import atomic
from tfmot_kws.data.long_features import LongFeatures
from tfmot_kws.evaluation import streams as stream_evaluation
from tfmot_kws.evaluation.detector import DetectorConfig
from tfmot_kws.evaluation.stream_results import StreamCurve
from tfmot_kws.keras import keras
from tfmot_kws.quantize import activation_costs, apply, model_costs, scheme
from tfmot_kws.training import (
    activation_steering,
    over_time,
    recipes,
    resumable,
    stages,
    stretch_loss,
    windows,
)
from tfmot_kws.training import teacher as taught_by
from tfmot_kws.training.over_time import OverTime
from tfmot_kws.training.windows import Windows

_REFINING_RATE = 0.1


@dataclasses.dataclass(frozen=True)
class WakeWordConfig:
    """How long, and how.

    Attributes:
        epochs: of the float model.
        stage1_epochs: with quantized weights.
        stage2_epochs: with everything quantized.
        steps: batches in an epoch.
        batch_size: stretches of sound.
        reach: seconds by which a stretch is longer than a window of the model; all windows in it are judged together,
            see ``stretch_loss``. 0 judges each window by itself.
        learning_rate: Adam's, at the start of the float training; a cosine falls to a hundredth of it.
        quantized_rate_factor: stage 1 starts at this share of ``learning_rate``, stage 2 at half of that.
        mine_from: first epoch (from 0) before which hard negatives are mined.
        mine_every: epochs from one mining to the next.
        choose_from: share of the float training, 0 up to 1, before which no epoch is chosen: streams of some hours tell
            a lucky early epoch from a good one no better than by one or two false accepts.
        mined_per_hour: hard negatives that are kept for each hour of sound.
        false_accept_weight: of what is no keyword in the loss, against a keyword.
        teacher_weight: 0..1, share of the loss that is the teacher's answer instead of the label, where there is one.
        temperature: both answers are divided by it before they are compared (Hinton et al. 2015).
        masks: changes of the features; without a shift.
        tempo: stretches are played up to so many times faster or slower, see ``windows.change_tempo``; 1 up to 4.
        seed: of everything random.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    epochs: int = 12
    stage1_epochs: int = 5
    stage2_epochs: int = 3
    steps: int = 800
    batch_size: int = 128
    reach: float = 0.0
    learning_rate: float = 2e-3
    quantized_rate_factor: float = 0.5
    mine_from: int = 2
    mine_every: int = 1
    choose_from: float = 0.7
    mined_per_hour: float = 300.0
    false_accept_weight: float = 1.0
    teacher_weight: float = 0.5
    temperature: float = 2.0
    masks: recipes.FeatureAugment | None = recipes.FeatureAugment(1, 8, 1, 6, 0, warp=0.06)
    tempo: float = 1.2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (
            ("epochs", 1), ("stage1_epochs", 1), ("stage2_epochs", 1), ("steps", 1), ("batch_size", 2), ("seed", 0),
            ("mine_from", 0), ("mine_every", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"WakeWordConfig.{name}={value!r}: must be a whole number of at least {low}")
        for name in ("learning_rate", "quantized_rate_factor", "mined_per_hour", "false_accept_weight"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"WakeWordConfig.{name}={getattr(self, name)!r}: must be above 0")
        if not 0.0 <= self.choose_from < 1.0:
            raise ValueError(f"WakeWordConfig.choose_from={self.choose_from!r}: must be at least 0 and below 1")
        if not 0.0 <= self.reach <= 60.0:
            raise ValueError(f"WakeWordConfig.reach={self.reach!r}: must be between 0 and 60 seconds")
        if not 1.0 <= self.tempo < 4.0:
            raise ValueError(f"WakeWordConfig.tempo={self.tempo!r}: must be at least 1 and below 4")
        taught_by.check(self)


@dataclasses.dataclass(frozen=True)
class Streams:
    """Long sound to listen to after each epoch, and how.

    Attributes:
        sounds: with keywords and without, of speakers and noise that training does not see.
        words: the keywords.
        hop: frames from one output of the model to the next.
        fa_per_hour: the rate at which misses are to be few.
        smooth_seconds: outputs that are averaged.
        refractory_seconds: time after a detection without another.
    """

    sounds: tuple[LongFeatures, ...]
    words: tuple[str, ...]
    hop: int = 2
    fa_per_hour: float = 0.5
    smooth_seconds: float = 0.2
    refractory_seconds: float = 1.0

    def hear(
        self, function: Callable[[np.ndarray], np.ndarray], frames: int, reach: int = 0
    ) -> stream_evaluation.StreamEvaluation:
        """Runs a model and the detector over all of it.

        Args:
            function: float32 [n, frames + reach, mel] -> logits [n, 1 + reach // hop, 1 + words] of the windows in it;
                without a reach [n, 1 + words].
            frames: of a window.
            reach: frames by which what the function hears at once is longer than a window, a multiple of ``hop``.
        """
        outputs, found = self._outputs(function, frames, reach)
        most = max((float(np.abs(values).max()) for values in outputs), default=0.0)
        if not found or not np.isfinite(most):
            raise ValueError("streams: no recording is as long as a window, or the model's outputs are not finite")
        scale = most / 32767.0 if most else 1.0
        streams = [
            stream_evaluation.Stream(name, np.rint(values / scale).astype(np.int16), times, targets)
            for values, (name, times, targets) in zip(outputs, found)
        ]
        step = self.hop * self.sounds[0].frontend.hop_ms / 1000.0
        config = DetectorConfig.in_seconds(
            step, self.smooth_seconds, self.refractory_seconds, classes=1 + len(self.words),
            keywords=tuple(range(1, 1 + len(self.words))), thresholds=0.0, scale=scale,
        )  # fmt: skip
        return stream_evaluation.evaluate(streams, config, self.words, step, fa_per_hour=self.fa_per_hour)

    def _outputs(self, function, frames: int, reach: int) -> tuple[list[np.ndarray], list[tuple]]:
        """Of each recording the logits [places, classes], and its name, the places' times and the words."""
        outputs, found = [], []
        for number, sound in enumerate(self.sounds):
            frontend = sound.frontend
            for piece, (first, last) in enumerate(zip(sound.first[:-1], sound.first[1:])):
                if last - first < frames:
                    continue
                x = np.asarray(sound.x[first:last]).astype(np.float32) * np.float32(sound.scale)
                outputs.append(over_time.in_blocks(function, x, frames, self.hop, reach))
                ends = frames - 1 + self.hop * np.arange(len(outputs[-1]))
                times = (frontend.window + ends * frontend.hop) / frontend.sample_rate
                found.append((f"{number}.{piece}", times, sound.targets[piece]))
        return outputs, found

    def cost(self, curve: StreamCurve) -> float:
        """What weights are chosen by: the mean share of misses at half the rate and at 1, 2, 4 and 8 times it.

        One rate alone is settled by one or two false accepts; several tell two epochs apart.
        """
        return float(np.mean([curve.frr_at(self.fa_per_hour * factor) for factor in (0.5, 1.0, 2.0, 4.0, 8.0)]))


@dataclasses.dataclass(frozen=True)
class Heard:
    """An epoch: its number (from 0), the mean loss, misses (0..1) at the rate, and what the choice goes by."""

    epoch: int
    loss: float
    frr: float
    cost: float


class _OverStretches(keras.Model):
    """A functional model that is trained on all windows of stretches at once."""

    over: OverTime

    def train_step(self, data):
        """A step on (stretches, answers of each of their places)."""
        x, answers = data
        with tf.GradientTape() as tape:
            value = self.compute_loss(x, answers, self.over(x, training=True))
        self.optimizer.minimize(value, self.trainable_variables, tape=tape)
        return {metric.name: metric.result() for metric in self.metrics}


class _Select(keras.callbacks.Callback):
    """Mines before epochs, listens after them and keeps the weights of the best one."""

    def __init__(self, drawn, streams, config, first_epoch: int, total: int, progress, mine_epochs, folder=None):
        super().__init__()
        self._folder = folder
        self._drawn, self._streams, self._config = drawn, streams, config
        self._first, self._total, self._progress = first_epoch, total, progress
        self._mine_epochs = mine_epochs
        self.history: list[Heard] = []
        self._best: tuple[float, list[np.ndarray]] | None = None

    def set_model(self, model):
        super().set_model(model)
        hop, seconds = self._streams.hop, self._streams.sounds[0].frontend.hop_ms / 1000.0
        self._ear = over_time.Ear(model, hop, seconds)

    def restore(self, done: int) -> None:
        """Goes on behind so many epochs of a run that was stopped."""
        if not done:
            return
        with np.load(self._folder / f"heard_{done}.npz") as kept:
            self._drawn.hard = kept["hard"]
            self.history = [Heard(int(row[0]), *map(float, row[1:])) for row in kept["history"]]
            names = sorted((name for name in kept.files if name.startswith("best_")), key=lambda name: int(name[5:]))
            if names:
                self._best = (float(kept["cost"]), [kept[name] for name in names])

    def _keep(self, done: int) -> None:
        """Ahead of the checkpoint of the epoch, so that whichever of these there is has its file here."""
        found = {"hard": self._drawn.hard, "history": np.array([dataclasses.astuple(one) for one in self.history])}
        if self._best is not None:
            found |= {"cost": np.array(self._best[0])} | {f"best_{n}": w for n, w in enumerate(self._best[1])}
        with atomic.replacing(self._folder / f"heard_{done}.npz") as path:
            np.savez(path, **found)
        (self._folder / f"heard_{done - 2}.npz").unlink(missing_ok=True)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch in self._mine_epochs:
            rate = self._config.mined_per_hour
            hop = over_time.SPARSER * self._streams.hop
            self._drawn.mine(self._ear.sparsely, hop, rate, reach=self._ear.reach)

    def on_epoch_end(self, epoch, logs=None):
        curve = self._streams.hear(self._ear, self._drawn.frames, self._ear.reach).pooled_curve
        frr, cost = curve.frr_at(self._streams.fa_per_hour), self._streams.cost(curve)
        if epoch >= self._first and (self._best is None or cost <= self._best[0]):
            self._best = (cost, self.model.get_weights())
        self.history.append(Heard(epoch, float((logs or {}).get("loss", math.nan)), frr, cost))
        if logs is not None:  # for the callbacks behind this one
            logs |= {f"streams/frr_at_{self._streams.fa_per_hour:g}_fa_per_hour": frr, "streams/cost": cost}
        if self._progress is not None:
            note = f"missed {frr:.0%} at {self._streams.fa_per_hour:g} false accepts an hour"
            self._progress(epoch + 1, self._total, note)
        if self._folder is not None:
            self._keep(epoch + 1)

    def on_train_end(self, logs=None):
        if self._best is not None:
            self.model.set_weights(self._best[1])


def train_float(
    model: keras.Model,
    drawn: Windows,
    streams: Streams,
    config: WakeWordConfig | None = None,
    teacher: keras.Model | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    checkpoints: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[Heard]:
    """Trains a float model and leaves it with the weights of its best epoch.

    Args:
        model: features [frames, mel] -> logits [1 + words]; from its weights on.
        drawn: the training windows; hard negatives are mined into it.
        streams: what the choice goes by.
        config: the recipe; its defaults where None.
        teacher: a model of the same input and outputs, of any size, whose answers are learnt too.
        progress: called with (epochs done, epochs in all, what was heard).
        checkpoints: folder that keeps the last whole epoch. The same call goes on from there, to the same result.
        callbacks: for ``model.fit``; they are called after an epoch is heard and kept, and find what was heard in its
            logs: ``streams/frr_at_0.5_fa_per_hour`` and ``streams/cost``.

    Returns:
        What was heard after each epoch.

    Raises:
        ValueError: model, windows and streams do not fit together, or ``checkpoints`` holds another run.
    """
    config = config or WakeWordConfig()
    _check(model, drawn, streams)
    rates = [(config.learning_rate, config.epochs * config.steps)]
    mined = range(config.mine_from, config.epochs, config.mine_every)
    first = math.floor(config.choose_from * config.epochs)
    return _fit(
        model, drawn, streams, config, teacher, rates, config.epochs, first, mined, (), progress, checkpoints, callbacks
    )


def train_quantized(
    float_model: keras.Model,
    quantize_scheme: scheme.KwsQuantizeScheme | None,
    drawn: Windows,
    streams: Streams,
    config: WakeWordConfig | None = None,
    teacher: keras.Model | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    checkpoints: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[keras.Model, list[Heard]]:
    """Quantizes a trained model, trains it on in two stages and keeps the best epoch of the second.

    Args:
        float_model: where the weights start from; left as it is.
        quantize_scheme: from ``kws_scheme``; its default where None.
        drawn: the training windows; hard negatives are mined into it once, at the start.
        streams: what the choice goes by.
        config: the recipe; its defaults where None.
        teacher: whose answers are learnt too; the float model itself serves well.
        progress: called with (epochs done, epochs in all, what was heard).
        checkpoints: folder that keeps the last whole epoch. The same call goes on from there, to the same result.
        callbacks: for ``model.fit``; they are called after an epoch is heard and kept, and find what was heard in its
            logs: ``streams/frr_at_0.5_fa_per_hour`` and ``streams/cost``.

    Returns:
        The quantized model in stage 2, and what was heard after each epoch; one of stage 2 was chosen.

    Raises:
        ValueError: model, windows and streams do not fit together, or ``checkpoints`` holds another run.
    """
    config = config or WakeWordConfig()
    _check(float_model, drawn, streams)
    keras.utils.set_random_seed(config.seed)
    model = apply.quantize_apply(float_model, quantize_scheme)
    first, second = config.stage1_epochs, config.stage2_epochs
    rate = config.learning_rate * config.quantized_rate_factor
    rates = [(rate, first * config.steps), (rate / 2.0, second * config.steps)]
    staged = (stages.TwoStageSchedule(first),)
    # Only an epoch that ends as the model will be exported can be the best.
    moving = not activation_costs.settled(model)
    heard = activation_steering.first_settled_epoch(first, second) if moving else first
    # Mined anew, so that a model depends neither on widths trained before it nor on where a run was taken up again.
    history = _fit(
        model, drawn, streams, config, teacher, rates, first + second, heard, [0], staged, progress, checkpoints,
        callbacks,
    )  # fmt: skip
    return model, history


def refinement(config: WakeWordConfig, epochs: int) -> WakeWordConfig:
    """The recipe of a last part on a trained model, where sound was added: a tenth of the rate, mined from the start.

    Args:
        config: that of the training before.
        epochs: of the last part.
    """
    rate = config.learning_rate * _REFINING_RATE
    return dataclasses.replace(config, epochs=epochs, learning_rate=rate, mine_from=0)


def _check(model: keras.Model, drawn: Windows, streams: Streams) -> None:
    shape = (drawn.frames, drawn.sounds[0].frontend.mel_bins)
    if tuple(model.input_shape[1:]) != shape or model.output_shape[-1] != 1 + len(drawn.words):
        raise ValueError(
            f"model {model.name!r} takes {list(model.input_shape[1:])} and gives {model.output_shape[-1]} logits; the "
            f"windows are {list(shape)} (frames, mel) with {1 + len(drawn.words)} classes"
        )
    if streams.words != drawn.words:
        raise ValueError(f"streams have the words {list(streams.words)}, windows {list(drawn.words)}")
    if any(sound.frontend != drawn.sounds[0].frontend for sound in streams.sounds):
        raise ValueError("streams and windows were made by different front ends")
    if not any(targets for sound in streams.sounds for targets in sound.targets):
        raise ValueError("streams: none of the words is in them, so that no epoch could be chosen")


def _loss(config: WakeWordConfig, taught: bool, smooth: int):
    """Of answers and logits, see ``stretch_loss``."""
    share = config.teacher_weight if taught else 0.0
    return lambda answers, logits: stretch_loss.loss(
        answers, logits, config.false_accept_weight, share, config.temperature, smooth
    )


def _over_stretches(model: keras.Model, hop: int) -> OverTime:
    """At every place that the model computes by itself; where it is run on each window, at those that are heard."""
    over = OverTime(model)
    return over if over.at_once else OverTime(model, hop)


def _fit(
    model,
    drawn,
    streams,
    config,
    teacher,
    rates,
    epochs,
    first_heard,
    mined,
    staged: Sequence,
    progress,
    checkpoints,
    callbacks: Sequence,
) -> list[Heard]:
    keras.utils.set_random_seed(config.seed)
    start = resumable.checksum(model.get_weights())
    schedule = recipes.CosineStages(rates, 0.01)
    # The same layers, compiled: the model itself stays as it is, and its file needs none of the classes of training.
    model = _OverStretches(model.inputs, model.outputs, name=model.name)
    model.over = _over_stretches(model, streams.hop)
    seconds = drawn.sounds[0].frontend.hop_ms / 1000.0 * model.over.hop  # from place to place
    further = math.floor(config.reach / seconds + 1e-6)
    smooth = max(1, min(round(streams.smooth_seconds / seconds), 1 + further))
    loss = _loss(config, teacher is not None, smooth)
    model.compile(optimizer=keras.optimizers.Adam(schedule), loss=loss)
    # As in recipes: variables before the first trace, and no AutoGraph over the whole of Keras.
    model.optimizer.build(model.trainable_variables)
    model.train_step = tf.autograph.experimental.do_not_convert(model.train_step)
    said = None if teacher is None else OverTime(teacher, model.over.hop)
    reach = further * model.over.hop
    data = windows.batches(
        drawn, config.steps, config.batch_size, config.seed, config.masks, said, config.tempo, reach, model.over.hop
    )
    folder = None if checkpoints is None else pathlib.Path(checkpoints)
    select = _Select(drawn, streams, config, first_heard, epochs, progress, set(mined), folder)
    kept, done = [], 0
    if folder is not None:
        taught = None if teacher is None else resumable.checksum(teacher.get_weights())
        run = {**dataclasses.asdict(config), "epochs in all": epochs, "start": start, "teacher": taught}
        run |= {"sounds": [[len(one.x), sum(map(len, one.targets))] for one in (*drawn.sounds, *streams.sounds)]}
        run |= {"words": list(streams.words), "fa_per_hour": streams.fa_per_hour, **model_costs.budgets_of(model)}
        kept = [resumable.Checkpoints(folder, run)]
        done = kept[0].restore(model)
        select.restore(done)
    for _ in range(done):  # every epoch of the dataset draws other windows and other seeds: draw those that are done
        next(iter(data))
    if done < epochs:
        model.fit(data, initial_epoch=done, epochs=epochs, callbacks=[*staged, select, *kept, *callbacks], verbose=0)
    else:
        select.set_model(model)
        select.on_train_end()
    return select.history
