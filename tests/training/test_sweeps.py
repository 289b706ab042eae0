"""Studies: proposed by KerasTuner, trained by the recipes, stopped and taken up again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import search_cases

import tfmot_kws
from tfmot_kws.models import networks, spotters
from tfmot_kws.training import recipes, sweeps
from tfmot_kws.training.sweep_space import SweepSpace, TrialFailed, hyperband_rounds

SPACE = "bits=8,4,2 width=18,32 learning_rate=5e-4:4e-3:log"
NARROW = "bits=8,4,2 learning_rate=5e-4:4e-3:log"
"""Bayesian optimization takes seconds for a proposal, from the seventh trial on."""


@pytest.fixture(autouse=True)
def tuner(require_package):
    require_package("keras_tuner", "keras-tuner")
    require_package("sklearn", "scikit-learn")


class Counted:
    """Results that are known: few bits and a rate of 1e-3 are best; two bits fail, which would be better yet."""

    def __init__(self, stop: int = 0) -> None:
        self.called, self._stop = [], stop

    def __call__(self, trial: sweeps.Trial) -> dict[str, float]:
        if self._stop and len(self.called) == self._stop:
            raise KeyboardInterrupt
        self.called.append(trial.key)
        values = trial.values
        if values["bits"] == 2:
            raise TrialFailed("the loss is nan")
        off = abs(math.log(values["learning_rate"] / 1e-3))
        return {"det_area": 0.1 * off + 0.01 * values["bits"], "accuracy": 1 - 0.1 * off, "bytes": values["bits"]}


def study(tmp_path, method: str, trials: int | None = None, train=None, text: str = SPACE, **more):
    config = sweeps.SweepConfig(method, trials, **more)
    return sweeps.run(SweepSpace.parse(text), config, train or Counted(), tmp_path, epochs=4)


@pytest.mark.parametrize("method, trials, text", [("random", 8, SPACE), ("hyperband", None, SPACE)])
def test_a_study_that_is_stopped_goes_on_to_the_same_trials(tmp_path, method, trials, text) -> None:
    same_when_stopped(tmp_path, method, trials, text)


def same_when_stopped(tmp_path, method: str, trials: int | None, text: str) -> list[sweeps.Trial]:
    whole = study(tmp_path / "whole", method, trials, text=text)
    assert len(whole) == (trials or 10) and [trial.number for trial in whole] == list(range(1, len(whole) + 1))
    first = Counted(stop=4)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "cut", method, trials, first, text)
    second = Counted()
    assert study(tmp_path / "cut", method, trials, second, text) == whole
    assert first.called + second.called == [trial.key for trial in whole]
    return whole


def test_more_trials_go_on_behind_the_first(tmp_path) -> None:
    few, more = study(tmp_path, "random", 3), Counted()
    assert study(tmp_path, "random", 6, more)[:3] == few and len(more.called) == 3
    assert len(study(tmp_path, "random", 6, Counted(stop=1))) == 6  # nothing is left to run


def test_seeds_differ(tmp_path) -> None:
    """KerasTuner takes a seed of 0 for none."""
    keys = [[t.key for t in study(tmp_path / f"{n}", "random", 4, seed=seed)] for n, seed in enumerate((0, 0, 1))]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.slow
def test_bayesian_optimization_goes_by_results(tmp_path) -> None:
    """And comes away from trials that fail; what was stopped goes on to the same trials."""
    trials = same_when_stopped(tmp_path, "bayesian", 8, NARROW)
    assert len({trial.key for trial in trials}) == 8  # it does not propose what failed again
    blind = study(tmp_path / "blind", "random", 8, text=NARROW)
    assert trials[:6] == blind[:6] and not {t.key for t in trials[6:]} & {t.key for t in blind}
    failed = [trial for trial in trials if trial.failed]
    assert failed and all(t.failed == "the loss is nan" and not t.results for t in failed)


def test_hyperband_trains_the_best_longer(tmp_path) -> None:
    trials = study(tmp_path, "hyperband")
    assert hyperband_rounds(4) == [(5, 2), (2, 4)] and [t.epochs for t in trials[:7]] == [2] * 5 + [4] * 2
    ranked = sorted(trials[:5], key=lambda t: t.results.get("det_area", 1))
    assert {str(t.values) for t in trials[5:7]} <= {str(t.values) for t in ranked[:3]}


def test_a_grid_has_all_combinations(tmp_path) -> None:
    train = Counted()
    trials = study(tmp_path, "grid", train=train, text="bits=8,4 width=18,32 learning_rate=1e-3:4e-3:log:3")
    assert len({t.key for t in trials}) == 12 and trials[0].values == {"bits": 8, "width": 18, "learning_rate": 0.001}


def test_best_of_equal_ones_is_the_smaller() -> None:
    trials = [
        sweeps.Trial(n, {}, results={"det_area": area, "accuracy": 1 - area, "bytes": size})
        for n, (area, size) in enumerate([(0.5, 1), (0.1, 9), (0.1, 3), (0.1, 3)], 1)
    ]
    trials.append(sweeps.Trial(9, {}, failed="no"))
    assert sweeps.best(trials, "det_area").number == sweeps.best(trials, "accuracy").number == 3


def test_what_is_refused(tmp_path, monkeypatch) -> None:
    for config in ({"method": "luck"}, {"trials": 0}, {"objective": "speed"}, {"seed": -1}, {"trials": True}):
        with pytest.raises(ValueError, match=f"SweepConfig.{next(iter(config))}="):
            sweeps.SweepConfig(**config)
    for method, trials, text, message in (
        ("grid", None, SPACE, "learning_rate is a range; say how many"),
        ("grid", 3, "bits=8,4 width=1,2", "has 4 combinations, more than 3 trials"),
        ("hyperband", 4, SPACE, "begins with 5 of 2 and 2 of 4 epochs, which are 7 trials"),
        ("hyperband", None, "bits=8,4,2", "begins with 5 different trials, the space has 3"),
    ):
        with pytest.raises(ValueError, match=message):
            study(tmp_path, method, trials, text=text)
    assert not list(tmp_path.iterdir())
    study(tmp_path, "random", 2)
    with pytest.raises(ValueError, match=r"holds a study with other options \(seed was 0, now 1\)"):
        study(tmp_path, "random", 2, seed=1)
    with pytest.raises(ValueError, match="; sweep-method was random, now grid"):
        sweeps.check(SweepSpace.parse(SPACE.replace(":log", ":log:2")), sweeps.SweepConfig("grid"), 4, tmp_path)
    with pytest.raises(ValueError, match="accuracy, by which trials are judged; found x"):
        study(tmp_path / "a", "random", 2, lambda trial: {"x": 1.0}, objective="accuracy")
    with pytest.raises(ValueError, match="no trial has a result; the first: det_area is nan"):
        study(tmp_path / "b", "random", 2, lambda trial: {"det_area": math.nan})
    with pytest.raises(ZeroDivisionError):  # a mistake ends the study; it is no trial that failed
        study(tmp_path / "c", "random", 2, lambda trial: 1 / 0)
    assert not list((tmp_path / "c").glob("trials/*/result.json"))
    (tmp_path / "a" / "study.json").write_text("{")
    with pytest.raises(ValueError, match="study.json: is damaged"):
        study(tmp_path / "a", "random", 2)
    monkeypatch.setattr(tfmot_kws.extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"a sweep needs keras_tuner: pip install 'tfmot-kws\[sweep\]'"):
        study(tmp_path / "d", "random", 2)


def network() -> networks.NetworkConfig:
    return networks.NetworkConfig(3, 20, 8, (networks.BlockSpec("dense", 4),))


@pytest.mark.slow
def test_trainer_is_the_recipes(tmp_path) -> None:
    """Both bits share a float model; what a study keeps is what the recipes give, and is judged as it is."""
    training, held_out = search_cases.examples(96), search_cases.examples(48, seed=1)
    recipe, parts = recipes.TrainConfig(epochs=2, batch_size=32, augment=None), []
    trainer = sweeps.Trainer(
        training, held_out, network(), recipe, tmp_path, (0, 0), lambda model: 77,
        lambda trial, part: parts.append((trial.number, part)) or (),
    )  # fmt: skip
    trials = sweeps.run(SweepSpace.parse("bits=8,4 quantize_rate=1e-3"), sweeps.SweepConfig("grid"), trainer, tmp_path)
    assert parts == [(1, "float"), (1, "quantized"), (2, "quantized")]
    float_model = recipes.train_float(training, network(), recipe)
    slow = recipes.TrainConfig(epochs=2, batch_size=32, augment=None, learning_rate=1e-3)
    wanted = recipes.train_quantized(float_model, tfmot_kws.kws_scheme(4), training, slow, 0, 0)
    for left, right in zip(trainer.load(trials[1]).get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    judged = tfmot_kws.evaluate.evaluate(lambda x: wanted(x, training=False).numpy(), held_out)
    found = trials[1].results
    assert found["det_area"] == judged.pooled.area() and found["accuracy"] == judged.accuracy
    assert found["parameters"] == float_model.count_params() and found["bytes"] == 77
    assert not list(tmp_path.rglob("checkpoint"))  # epochs of trials that are done


@pytest.mark.slow
def test_widths_and_a_rate_that_is_too_high(tmp_path) -> None:
    """A trial whose loss is no number has failed, and the study goes on."""
    x = search_cases.examples(64)
    shape = spotters.ModelConfig(3, 20, 8, 4, (spotters.WindowSpec(3, 2),), 0, batch_norm=False)
    recipe = recipes.TrainConfig(epochs=2, batch_size=32, augment=None)
    trainer = sweeps.Trainer(x, x, shape, recipe, tmp_path)
    broken = search_cases.examples(64)
    broken.x[:] = 1e30
    trials = sweeps.run(SweepSpace.parse("width=4,6"), sweeps.SweepConfig("grid"), trainer, tmp_path / "a")
    wider = trials[1].results
    assert wider["parameters"] > trials[0].results["parameters"] and wider["bytes"] == 4 * wider["parameters"]
    lost = sweeps.Trainer(broken, x, shape, recipe, tmp_path / "b")
    with pytest.raises(TrialFailed, match=r"the loss is (nan|inf) after epoch [12]"):
        lost(sweeps.Trial(1, {"width": 4}))
    assert not list((tmp_path / "b").rglob("checkpoint"))


def test_rounds_of_hyperband_have_shorter_stages(tmp_path) -> None:
    x = search_cases.examples(8)
    trainer = sweeps.Trainer(x, x, network(), recipes.TrainConfig(epochs=30, learning_rate=3e-3), tmp_path, (12, 0))
    trial = sweeps.Trial(1, {"bits": 4, "learning_rate": 1e-3, "batch_size": 16}, epochs=10)
    recipe, first, second = trainer.quantized_recipe(trial)
    assert (recipe.learning_rate, recipe.batch_size, first, second) == (3e-3, 16, 4, 0)
    assert trainer.recipe(trial).epochs == 10 and trainer.recipe(trial).learning_rate == 1e-3
