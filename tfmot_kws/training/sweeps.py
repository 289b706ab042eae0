# SPDX-License-Identifier: Apache-2.0
"""Sweeps: many trainings that differ in bits, widths and rates, as one study that can be stopped and goes on.

KerasTuner proposes the trials (``sweep_tuner``), the recipes of this package train them (``Trainer``), and the folder
of the study keeps each result once it is whole. Trials are judged by held-out examples that are not the test's: what
was chosen by some clips is not measured by them.

    space = sweeps.SweepSpace.parse("bits=8,4,2 width=18,32 learning_rate=5e-4:4e-3:log")
    trainer = sweeps.Trainer(training, dev, shape, recipes.TrainConfig(epochs=30), folder="runs/study")
    trials = sweeps.run(space, sweeps.SweepConfig(trials=12), trainer, "runs/study")
    model = trainer.load(sweeps.best(trials, "det_area"))
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmot_kws import atomic, extras
from tfmot_kws.data.feature_set import FeatureSet
from tfmot_kws.evaluation import clips
from tfmot_kws.keras import keras
from tfmot_kws.models import networks
from tfmot_kws.models.spotters import ModelConfig
from tfmot_kws.quantize import saving, scheme
from tfmot_kws.training import recipes
from tfmot_kws.training.sweep_space import Range, SweepSpace, TrialFailed, hyperband_rounds

METHODS = ("random", "bayesian", "hyperband", "grid")
OBJECTIVES = {"det_area": "min", "accuracy": "max"}
"""What trials are judged by, and whether less of it is better."""
_WORST = {"min": 1.0, "max": 0.0}
"""What a trial without a result counts as: KerasTuner's Bayesian optimization would propose it again for ever."""
_STUDY, _RESULT, _MODEL, _EPOCHS = "study.json", "result.json", "model.keras", "epochs"
_BATCH, _FRR = 256, 0.05


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """How a space is searched.

    Attributes:
        method: ``random``; ``bayesian``, where a Gaussian process goes by the results so far; ``hyperband``, where many
            trials begin with few epochs and the best of them are trained anew with more; ``grid``, all combinations.
        trials: at most so many, at least 1; None for 12, or for all that ``hyperband`` and ``grid`` have.
        objective: one of ``OBJECTIVES``: the area under the DET curve, or the share of clips that are named right.
        seed: of what is proposed, at least 0.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    method: str = "random"
    trials: int | None = None
    objective: str = "det_area"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"SweepConfig.method={self.method!r}: must be one of {', '.join(METHODS)}")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"SweepConfig.objective={self.objective!r}: must be one of {', '.join(OBJECTIVES)}")
        for name, low in (("trials", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
                raise ValueError(f"SweepConfig.{name}={value!r}: must be a whole number of at least {low}")

    @property
    def most(self) -> int | None:
        """At most so many trials; None for as many as the method has."""
        return 12 if self.trials is None and self.method in ("random", "bayesian") else self.trials


@dataclasses.dataclass(frozen=True)
class Trial:
    """One choice, and what came of it.

    Attributes:
        number: from 1, in the order in which they were proposed.
        values: by the names of the space.
        epochs: of a round of Hyperband; None otherwise.
        results: by name, the objective among them; empty while it runs, and where it failed.
        failed: why there are none; empty otherwise.
    """

    number: int
    values: Mapping[str, int | float]
    epochs: int | None = None
    results: Mapping[str, float] = dataclasses.field(default_factory=dict)
    failed: str = ""

    @property
    def key(self) -> str:
        """Name of its folder: what it depends on."""
        parts = [f"{name}-{value!r}" for name, value in self.values.items()]
        return "_".join([*parts, *([] if self.epochs is None else [f"epochs-{self.epochs}"])])

    def said(self) -> str:
        """Its values in words."""
        parts = [f"{name} {value:.4g}" for name, value in self.values.items()]
        return ", ".join([*parts, *([] if self.epochs is None else [f"{self.epochs} epochs"])])


def check(
    space: SweepSpace,
    config: SweepConfig,
    epochs: int = 30,
    folder: str | os.PathLike | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Whether a study can begin or go on, before any work is done.

    Args:
        space: as for ``run``.
        config: as for ``run``.
        epochs: as for ``run``.
        folder: as for ``run``; None looks into none.
        about: as for ``run``, or what of it is known already.

    Raises:
        ImportError: KerasTuner is not installed, or what Bayesian optimization needs; the message says what to do.
        ValueError: method, space and number of trials do not go together, or the folder holds another study.
    """
    if folder is not None and (Path(folder) / _STUDY).is_file():
        asked = _asked(space, config, epochs, about or {})
        _compare(Path(folder), asked, asked)
    extras.require("keras_tuner", "a sweep")
    count = space.combinations
    if config.method == "bayesian":
        extras.require("sklearn", "a sweep by bayesian")
    if config.method == "grid":
        endless = [part.name for part in space.parts if isinstance(part, Range)]
        if endless:
            raise ValueError(
                f"grid: {endless[0]} is a range; say how many values of it, {endless[0]}=LOW:HIGH:log:4, or list them"
            )
        if config.trials is not None and count is not None and config.trials < count:
            raise ValueError(f"grid: has {count} combinations, more than {config.trials} trials; take random")
    if config.method == "hyperband":
        rounds = hyperband_rounds(epochs)
        needed, shown = sum(trials for trials, _ in rounds), " and ".join(f"{n} of {e}" for n, e in rounds)
        if config.trials is not None and config.trials < needed:
            raise ValueError(
                f"hyperband: begins with {shown} epochs, which are {needed} trials; allow as many as that, or fewer "
                "epochs"
            )
        if count is not None and count < rounds[0][0]:
            raise ValueError(
                f"hyperband: begins with {rounds[0][0]} different trials, the space has {count}; take grid or random"
            )


def run(
    space: SweepSpace,
    config: SweepConfig,
    train: Callable[[Trial], Mapping[str, float]],
    folder: str | os.PathLike,
    epochs: int = 30,
    about: Mapping[str, Any] | None = None,
    again: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Runs a study, or what is left of it.

    The same call in the same folder goes on where it was stopped: trials that are done are not run again. More
    ``trials`` may be asked for later.

    Args:
        space: what may be chosen.
        config: how it is searched.
        train: runs a trial and gives its results by name, real numbers; a ``Trainer``, or a function of one's own.
        folder: of the study.
        epochs: of the longest trials of ``hyperband``.
        about: what else the results depend on, as JSON values.
        again: called with trials that were done before, as the study comes past them.

    Returns:
        The trials in the order in which they were proposed, each once; those that failed have no results.

    Raises:
        ImportError, ValueError: as ``check``; the folder holds a study with other options, the message names them; or
            no trial has a result.
    """
    check(space, config, epochs)
    from tfmot_kws.training import sweep_tuner

    folder, asked = Path(folder), _asked(space, config, epochs, about or {})
    if (folder / _STUDY).is_file():
        _compare(folder, asked, {**atomic.read_table(folder / _STUDY, f"remove {folder} to begin anew"), **asked})
    else:
        atomic.write_json(folder / _STUDY, asked)
    found: dict[str, Trial] = {}

    def one(values: dict[str, Any], of_epochs: int | None) -> float:
        trial = Trial(len(found) + 1, {name: values[name] for name in space.names}, of_epochs)
        if trial.key not in found:  # Bayesian optimization may come back to where it was
            done = _kept(folder, trial)
            if done is not None and again is not None:
                again(done)
            found[trial.key] = done or _run(folder, trial, train, config.objective)
        return found[trial.key].results.get(config.objective, _WORST[direction])

    direction = OBJECTIVES[config.objective]
    oracle = sweep_tuner.oracle_of(config.method, space, config.most, config.objective, direction, config.seed, epochs)
    sweep_tuner.search(sweep_tuner.StudyTuner(oracle, folder, one))
    trials = list(found.values())
    if not any(trial.results for trial in trials):
        raise ValueError(f"no trial has a result; the first: {trials[0].failed}")
    return trials


def best(trials: Sequence[Trial], objective: str) -> Trial:
    """The best of the trials that have results; of equal ones the smaller, then the first.

    Args:
        trials: from ``run``.
        objective: one of ``OBJECTIVES``.
    """
    sign = 1.0 if OBJECTIVES[objective] == "min" else -1.0
    done = [trial for trial in trials if trial.results]
    return min(done, key=lambda t: (sign * t.results[objective], t.results.get("bytes", 0), t.number))


def _asked(space: SweepSpace, config: SweepConfig, epochs: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a study depends on, by the names of options. More trials change nothing of those before."""
    asked = {
        "sweep": " ".join(space.text.split()), "sweep-method": config.method, "sweep-objective": config.objective,
        "seed": config.seed, "epochs": epochs, **about,
    }  # fmt: skip
    return json.loads(json.dumps(asked))


def _compare(folder: Path, asked: Mapping[str, Any], names: Iterable[str]) -> None:
    before = atomic.read_table(folder / _STUDY, f"remove {folder} to begin anew")
    differ = [f"{k} was {before.get(k)}, now {asked.get(k)}" for k in names if before.get(k) != asked.get(k)]
    if differ:
        raise ValueError(
            f"{folder}: holds a study with other options ({'; '.join(differ)}); give the same options, remove the "
            "folder or name another"
        )


def folder_of(folder: str | os.PathLike, trial: Trial) -> Path:
    """Where a trial of a study has its files."""
    return Path(folder) / "trials" / trial.key


def _kept(folder: Path, trial: Trial) -> Trial | None:
    file = folder_of(folder, trial) / _RESULT
    if not file.is_file():
        return None
    kept = atomic.read_table(file, f"remove {file.parent} to run the trial again")
    return dataclasses.replace(trial, results=kept["results"], failed=kept["failed"])


def _run(folder: Path, trial: Trial, train: Callable[[Trial], Mapping[str, float]], objective: str) -> Trial:
    try:
        results = {name: float(value) for name, value in train(trial).items()}
        lost = [name for name, value in results.items() if not math.isfinite(value)]
        if lost:
            raise TrialFailed(f"{lost[0]} is {results[lost[0]]}")
        if objective not in results:
            raise ValueError(f"train: gave no {objective}, by which trials are judged; found {', '.join(results)}")
        done = dataclasses.replace(trial, results=results)
    except TrialFailed as error:
        done = dataclasses.replace(trial, failed=str(error))
    about = {name: value for name, value in dataclasses.asdict(done).items() if name != "number"}
    atomic.write_json(folder_of(folder, trial) / _RESULT, about)
    return done


class _Lost(keras.callbacks.Callback):
    """Ends a trial whose loss is no number."""

    def __init__(self) -> None:
        super().__init__()
        self._supports_tf_logs = True

    def on_epoch_end(self, epoch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise TrialFailed(f"the loss is {loss} after epoch {epoch + 1}")


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains trials by the recipes, quantizes them where the space has bits, and judges them.

    Float models are shared by trials that differ in ``bits`` and ``quantize_rate`` alone, and a trial that was stopped
    goes on after its last whole epoch. In a round of Hyperband each stage is as much shorter as the epochs are fewer;
    a later round trains anew, because the learning rate falls to its end in each.

    Attributes:
        training: examples to train on.
        held_out: examples to judge by; of other speakers, and not those that the model is measured on at last.
        shape: the network; its width is that of the trial where the space has one, which needs a ``ModelConfig``.
        config: the recipe; what the space does not choose is as it says. Both rates are its learning rate.
        folder: of the study.
        stages: epochs of both stages of quantization.
        size_of: bytes of a quantized model on the device; None leaves them out. Float weights count four bytes each.
        callbacks: (trial, "float" or "quantized") -> callbacks for ``model.fit``.
    """

    training: FeatureSet
    held_out: FeatureSet
    shape: ModelConfig | networks.NetworkConfig
    config: recipes.TrainConfig
    folder: str | os.PathLike
    stages: tuple[int, int] = (12, 6)
    size_of: Callable[[keras.Model], int] | None = None
    callbacks: Callable[[Trial, str], Sequence[keras.callbacks.Callback]] = lambda trial, part: ()

    def __call__(self, trial: Trial) -> dict[str, float]:
        """Trains a trial and keeps its model.

        Returns:
            ``det_area``, ``accuracy`` and ``fdr`` (false detections where 5 % of the keywords are missed), of
            ``held_out``; ``parameters`` of the float model; ``bytes``.

        Raises:
            sweep_space.TrialFailed: the loss or an output is no number.
        """
        model = float_model = self._float(trial)
        bits = trial.values.get("bits")
        if bits is not None:
            model = self._quantized(trial, float_model, int(bits))
        x = self.held_out.x
        outputs = np.concatenate([model(x[n : n + _BATCH], training=False).numpy() for n in range(0, len(x), _BATCH)])
        if not np.isfinite(outputs).all():
            raise TrialFailed("the model's outputs are not finite")
        heard = clips.from_outputs(outputs, self.held_out)
        found = {"det_area": heard.pooled.area(), "accuracy": heard.accuracy, "fdr": heard.pooled.fdr_at_frr(_FRR)}
        found["parameters"] = float_model.count_params()
        if bits is None:
            found["bytes"] = 4 * found["parameters"]
        elif self.size_of is not None:
            found["bytes"] = self.size_of(model)
        folder = folder_of(self.folder, trial)
        with atomic.replacing(folder / _MODEL) as path:
            model.save(path)
        shutil.rmtree(folder / _EPOCHS, ignore_errors=True)
        return found

    def load(self, trial: Trial) -> keras.Model:
        """The model of a trial that is done.

        Raises:
            FileNotFoundError: the study does not hold it.
        """
        return saving.load_model(folder_of(self.folder, trial) / _MODEL)

    def load_float(self, trial: Trial) -> keras.Model:
        """The float model that a trial was quantized from, or that it is.

        Raises:
            FileNotFoundError: the study does not hold it.
        """
        return saving.load_model(self._folder_of_float(trial) / _MODEL)

    def recipe(self, trial: Trial) -> recipes.TrainConfig:
        """The recipe of a trial's float training."""
        chosen = {name: trial.values[name] for name in ("learning_rate", "batch_size") if name in trial.values}
        chosen |= {} if trial.epochs is None else {"epochs": trial.epochs}
        return dataclasses.replace(self.config, **chosen)

    def _folder_of_float(self, trial: Trial) -> Path:
        shared = {name: value for name, value in trial.values.items() if name not in ("bits", "quantize_rate")}
        return Path(self.folder) / "floats" / (dataclasses.replace(trial, values=shared).key or "one")

    def _float(self, trial: Trial) -> keras.Model:
        folder = self._folder_of_float(trial)
        if not (folder / _MODEL).is_file():
            shape = self.shape
            if "width" in trial.values:
                shape = dataclasses.replace(shape, width=int(trial.values["width"]))
            told, epochs = [_Lost(), *self.callbacks(trial, "float")], folder / _EPOCHS
            try:
                model = recipes.train_float(self.training, shape, self.recipe(trial), told, checkpoints=epochs)
            except TrialFailed:
                shutil.rmtree(epochs, ignore_errors=True)  # there is nothing to go on from
                raise
            with atomic.replacing(folder / _MODEL) as path:
                model.save(path)
            shutil.rmtree(epochs, ignore_errors=True)
        return self.load_float(trial)

    def quantized_recipe(self, trial: Trial) -> tuple[recipes.TrainConfig, int, int]:
        """The recipe of a trial's training while quantized, and the epochs of both stages."""
        rate = trial.values.get("quantize_rate", self.config.learning_rate)
        share = 1.0 if trial.epochs is None else trial.epochs / self.config.epochs
        first, second = (max(1, round(share * epochs)) if epochs else 0 for epochs in self.stages)
        return dataclasses.replace(self.recipe(trial), learning_rate=float(rate)), first, second

    def _quantized(self, trial: Trial, float_model: keras.Model, bits: int) -> keras.Model:
        recipe, first, second = self.quantized_recipe(trial)
        epochs, told = folder_of(self.folder, trial) / _EPOCHS, [_Lost(), *self.callbacks(trial, "quantized")]
        return recipes.train_quantized(
            float_model, scheme.kws_scheme(bits), self.training, recipe, first, second, told, checkpoints=epochs
        )
