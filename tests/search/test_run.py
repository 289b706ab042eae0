"""A search as a whole: within its budget, the same by seed, going on after a stop, better than chance."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import search_cases

from tfmot_kws.keras import keras
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.search import baseline, plot, run, space
from tfmot_kws.search.learning import Learner, SearchConfig
from tfmot_kws.training import recipes

CONFIG = SearchConfig(
    epochs=6, warmup_epochs=2, batch_size=32, learning_rate=1e-2, structure_rate=0.1, candidates=8, seed=3
)
BUDGET = Budget(flash=700, macs="12K", ram="2K")


class _Stop(keras.callbacks.Callback):
    """As a kill does, between two epochs."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self._after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def found() -> run.SearchResult:
    looked: list[int] = []
    result = run.search(
        search_cases.examples(), search_cases.tiny(), BUDGET, CONFIG, augment=None,
        on_look=lambda looks, tables: looked.append(len(looks)),
    )  # fmt: skip
    assert len(looked) == CONFIG.epochs and looked == sorted(looked)
    return result


@pytest.mark.slow
def test_what_is_found_keeps_to_the_budget(found: run.SearchResult) -> None:
    assert all(value <= found.tables.limits[name] for name, value in found.best.costs.items())
    assert all(found.tables.fullest(one.path) <= 1 for one in found.candidates)
    assert [one.loss for one in found.candidates] == sorted(one.loss for one in found.candidates)
    assert len({found.tables.space.canonical(one.path) for one in found.candidates}) == len(found.candidates)
    assert found.network == found.tables.space.network(found.best.path, run.task_of(search_cases.examples()))
    json.dumps(found.to_json())
    assert all(abs(sum(options.values()) - 1) < 1e-5 for options in found.probabilities.values())


@pytest.mark.slow
def test_shared_weights_learn(found: run.SearchResult) -> None:
    """The best of the last candidates is far above chance, and above what was heard first."""
    assert found.best.accuracy > 0.55
    assert found.best.loss < np.mean([one.loss for one in found.looks if one.epoch == 1])


def test_the_order_of_examples_does_not_matter() -> None:
    """Files come word by word; batches of one word would have statistics of their own."""
    spaces, features = search_cases.tiny(), search_cases.examples(600)
    tables = run.CostTables(spaces, search_cases.TASK, BUDGET)
    learner = Learner(spaces, search_cases.TASK, tables, CONFIG, 1)
    kernel = learner.weight("logits/kernel")
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    evaluate, by_word = learner.evaluator(), np.argsort(features.y, kind="stable")
    mixed, sorted_ = (evaluate(spaces.smallest(), features.x[i], features.y[i]) for i in (np.arange(600), by_word))
    assert abs(mixed[0] - sorted_[0]) < 0.1 * mixed[0]


@pytest.mark.slow
def test_a_search_that_was_stopped_ends_with_the_same(found: run.SearchResult, tmp_path) -> None:
    """Stopped after an epoch of the warm-up and one of the structure; every number is the same."""
    arguments = (search_cases.examples(), search_cases.tiny(), BUDGET, CONFIG)
    for after in (1, 4):
        with pytest.raises(KeyboardInterrupt):
            run.search(*arguments, augment=None, checkpoints=tmp_path, callbacks=[_Stop(after)])
    result = run.search(*arguments, augment=None, checkpoints=tmp_path)
    assert result.network == found.network and result.probabilities == found.probabilities
    assert result.looks == found.looks and result.candidates == found.candidates
    again = run.search(*arguments, augment=None, checkpoints=tmp_path)  # nothing is left to train
    assert again.candidates == found.candidates and again.looks == found.looks
    other = dataclasses.replace(CONFIG, structure_rate=0.2)
    with pytest.raises(ValueError, match="holds a run with other options .*structure_rate"):
        run.search(*arguments[:3], other, augment=None, checkpoints=tmp_path)


@pytest.mark.slow
def test_prices_bring_the_mean_cost_down() -> None:
    """From a space whose mean network is far over the budget to probabilities whose mean is near it."""
    config = dataclasses.replace(CONFIG, epochs=14, warmup_epochs=0, structure_every=1)
    result = run.search(search_cases.examples(), search_cases.tiny(), Budget(flash=560), config, augment=None)
    p = [np.array(list(options.values()), np.float32) for options in result.probabilities.values()]
    even = [np.full(len(one), 1 / len(one), np.float32) for one in p]
    ends = [float(dict(result.tables.expected(one))["flash"]) for one in (even, p)]
    assert ends[0] > 1.15 > ends[1]


@pytest.mark.slow
def test_structure_and_widths_in_one_search() -> None:
    config = dataclasses.replace(CONFIG, epochs=3, warmup_epochs=1)
    result = run.search(search_cases.examples(), search_cases.tiny((8, 4, 2)), Budget(flash=500), config, augment=None)
    bits = [block.bits for block in result.network.blocks]
    assert all(one in (8, 4, 2) for one in bits) and result.tables.fullest(result.best.path) <= 1
    scheme = run.scheme_of(result.network, 8)
    assert dict(scheme.layer_bits) == {f"block_{n}_*": one for n, one in enumerate(bits, 1)}


def test_parts_of_examples_share_no_group() -> None:
    features = search_cases.examples(101)
    own, other = run.split(features, 0.3, seed=1)
    assert not set(own.source) & set(other.source) and len(own) + len(other) == len(features)
    assert abs(len(other) / len(features) - 0.3) < 0.05
    assert sum(own.report.examples.values()) == len(own)
    speakers = features.source % 5
    own, other = run.split(features, 0.3, seed=1, groups=speakers)
    assert not {s % 5 for s in own.source} & {s % 5 for s in other.source}
    with pytest.raises(ValueError, match="at least two groups"):
        run.split(features, 0.3, 0, np.zeros(101))
    with pytest.raises(ValueError, match="one number for each of 101"):
        run.split(features, 0.3, 0, np.zeros(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "SearchConfig.epochs=0"),
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs=5: must be below epochs=5"),
        ({"structure_share": 1.0}, "structure_share=1.0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig(**options)


@pytest.mark.slow
def test_random_search_compares_what_it_trained() -> None:
    features, done = search_cases.examples(), []
    recipe = recipes.TrainConfig(epochs=2, batch_size=32, augment=None)
    heard = baseline.random_search(
        features, search_cases.tiny(), Budget(flash=700), 3, recipe, progress=lambda *now: done.append(now)
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert [one.loss for one in heard] == sorted(one.loss for one in heard)
    assert all(one.costs["flash"] <= 700 for one in heard)
    tables = run.CostTables(search_cases.tiny(), search_cases.TASK, Budget(flash=700))
    paths = baseline.random_paths(search_cases.tiny(), tables, 3)
    assert {tables.space.canonical(one.path) for one in heard} == {tables.space.canonical(one) for one in paths}


def test_random_networks_that_hardly_ever_fit_are_made_to() -> None:
    spaces = search_cases.small()
    tables = run.CostTables(spaces, search_cases.TASK, Budget(flash=1100))
    paths = baseline.random_paths(spaces, tables, 5)
    assert len(paths) == 5 and all(tables.fullest(path) <= 1 for path in paths)


def test_the_picture(tmp_path) -> None:
    """The front has what no other beats; a picture with candidates, and without."""
    assert plot.front([(3, 0.5), (1, 0.2), (2, 0.6), (1, 0.3)]) == [(1, 0.3), (2, 0.6)]
    one = run.Candidate(1, space.Path(), 1.0, 0.5, {"flash": 100.0, "macs": 50.0})
    other = dataclasses.replace(one, epoch=2, accuracy=0.7, costs={"flash": 300.0, "macs": 20.0})
    limits = {"flash": 200.0, "macs": 60.0}
    for name, candidates in (("a.svg", ()), ("b.png", (one, other))):
        assert plot.plot_search([one, other], limits, tmp_path / name, candidates, "title").stat().st_size > 5000
    text = (tmp_path / "a.svg").read_text()
    assert "bytes of weights" in text or "<path" in text
    with pytest.raises(ValueError, match="no networks were heard"):
        plot.plot_search([], limits, tmp_path / "c.svg")
    with pytest.raises(ValueError, match="cannot draw '.txt'"):
        plot.plot_search([one], limits, tmp_path / "c.txt")
