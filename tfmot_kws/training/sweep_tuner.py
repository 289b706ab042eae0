# SPDX-License-Identifier: Apache-2.0
"""Who proposes the trials of a sweep: KerasTuner's oracles, asked by a tuner that trains nothing itself.

A study is told again from its first trial whenever it goes on: an oracle of the same seed that hears the same results
proposes the same trials, and those that are done have their results. So nothing that KerasTuner keeps has to survive a
kill, and an oracle that keeps less than all of its state (that of Bayesian optimization) goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.errors import FatalError

from tfmot_kws.training.sweep_space import FACTOR, Choice, SweepSpace


def oracle_of(
    method: str, space: SweepSpace, trials: int | None, objective: str, direction: str, seed: int, epochs: int
) -> keras_tuner.Oracle:
    """The oracle of a method.

    Args:
        method: random, bayesian, hyperband or grid.
        space: what it chooses from.
        trials: at most so many; None for as many as the method has.
        objective: name of the result that it goes by.
        direction: "min" or "max".
        seed: of all that it draws.
        epochs: of the longest trials of Hyperband.
    """
    named: dict[str, Any] = {
        "objective": keras_tuner.Objective(objective, direction),
        "hyperparameters": _hyperparameters(space),
        "seed": seed + 1,  # 0 would be another one each time
    }
    oracles = keras_tuner.oracles
    if method == "hyperband":
        oracle = oracles.HyperbandOracle(max_epochs=epochs, factor=FACTOR, **named)
        oracle.max_trials = trials
    else:
        kinds = {
            "random": oracles.RandomSearchOracle, "bayesian": oracles.BayesianOptimizationOracle,
            "grid": oracles.GridSearchOracle,
        }  # fmt: skip
        oracle = kinds[method](max_trials=trials, **named)
    oracle.verbose = 0
    return oracle


def _hyperparameters(space: SweepSpace) -> keras_tuner.HyperParameters:
    found = keras_tuner.HyperParameters()
    for part in space.parts:
        if isinstance(part, Choice):
            found.Choice(part.name, list(part.values))
        else:
            make = found.Int if isinstance(part.low, int) else found.Float
            make(part.name, part.low, part.high, sampling="log" if part.log else "linear")
    return found


class StudyTuner(base_tuner.BaseTuner):
    """Asks an oracle for trials and has them run.

    Args:
        oracle: from ``oracle_of``.
        folder: for what KerasTuner keeps of the study; what is there is replaced.
        run: (values by name, epochs of Hyperband or None) -> the objective.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        folder: str | os.PathLike,
        run: Callable[[dict[str, Any], int | None], float],
    ) -> None:
        super().__init__(oracle, directory=os.fspath(folder), project_name="keras_tuner", overwrite=True)
        self._run = run

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Called by KerasTuner."""
        values = trial.hyperparameters.values
        own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
        try:
            found = self._run(own, values.get("tuner/epochs"))
        except Exception as error:  # else KerasTuner would go on with the next trial
            raise FatalError from error
        return {self.oracle.objective.name: found}


def search(tuner: StudyTuner) -> None:
    """Runs all trials.

    Raises:
        Exception: what a trial raised.
    """
    try:
        tuner.search()
    except FatalError as error:
        raise error.__cause__ or error from None
