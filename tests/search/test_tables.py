"""Costs of networks of a space: those of the models that are built, and limits that are kept."""

from __future__ import annotations

import numpy as np
import pytest
import search_cases
import tensorflow as tf

from tfmot_kws.models import networks
from tfmot_kws.quantize import apply, device_facts, model_costs, scheme
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.search.tables import CostTables, layers_of

LIMITS = {"flash": "4K", "instructions": 2e6, "core": "cortex-m4", "macs": "200K", "parameters": "5K"}


@pytest.mark.parametrize("streaming", [False, True], ids=["clip", "stream"])
@pytest.mark.parametrize("over", ["time", "time and band"])
@pytest.mark.slow
def test_they_are_those_of_the_model(over: str, streaming: bool) -> None:
    """The same layers, sizes and places as in the quantized model, and the same costs of flash and instructions."""
    space, generator = search_cases.small(over), np.random.default_rng(1)
    tables = CostTables(space, search_cases.TASK, Budget(**LIMITS, streaming=streaming))
    free = Budget(flash="1M", instructions=1e9, core="cortex-m4", streaming=streaming)
    for path in (space.smallest(), *(space.random(generator) for _ in range(4))):
        network = space.network(path, search_cases.TASK)
        quantized = apply.quantize_apply(networks.build(network), scheme.kws_scheme("learned", budget=free))
        theirs = model_costs.costs_of(quantized)
        ours = {one.name: (one.outputs, one.inputs, one.kind, one.places) for one in layers_of(network, streaming)}
        assert ours == {one.name: (one.outputs, one.inputs, one.kind, one.places) for one in theirs.layers}
        found, wanted = tables.of(path), theirs.of(dict.fromkeys(theirs.names, 8))
        assert found["flash"] == wanted["flash"]
        assert found["instructions"] == pytest.approx(wanted["instructions"], rel=1e-9)
        assert found["macs"] == sum(one.places * one.weights for one in theirs.layers)
        assert found["parameters"] == sum(one.weights + one.outputs for one in theirs.layers)


def test_widths_of_blocks_are_counted() -> None:
    space = search_cases.small(bits=(8, 2))
    tables = CostTables(space, search_cases.TASK, Budget(flash="40K"))
    path = list(space.smallest())
    eight = tables.of(tuple(path))["flash"]
    for number in range(len(space.places)):
        path[space.of_block(number)[3]] = 1
    network = space.network(path, search_cases.TASK)
    assert {block.bits for block in network.blocks} == {2}
    assert tables.of(tuple(path))["flash"] < eight


def test_the_mean_of_a_draw_is_exact() -> None:
    """Over all paths of a tiny space, weighed by their probabilities, where a mean over draws would only come near."""
    space, generator = search_cases.tiny(), np.random.default_rng(0)
    tables = CostTables(space, search_cases.TASK, Budget(flash="4K", macs="100K"))
    p = [generator.dirichlet(np.ones(len(d.options))).astype(np.float32) for d in space.decisions]
    wanted = dict.fromkeys(tables.limits, 0.0)
    for path in np.ndindex(*(len(d.options) for d in space.decisions)):
        share = np.prod([p[d][choice] for d, choice in enumerate(path)])
        for name, value in tables.of(path).items():
            wanted[name] += share * value / tables.limits[name]
    variables = [tf.Variable(one) for one in p]
    with tf.GradientTape(persistent=True) as tape:
        found = dict(tables.expected(variables))
    for name, value in found.items():
        assert float(value) == pytest.approx(wanted[name], rel=1e-5)
        assert sum(float(tf.norm(g)) for g in tape.gradient(value, variables) if g is not None) > 0.1


@pytest.mark.parametrize("streaming", [False, True], ids=["clip", "stream"])
@pytest.mark.slow
def test_the_estimate_of_ram_follows_the_plan(streaming: bool) -> None:
    """It orders networks as the exported graph's plan does, and is not far from it."""
    space, generator = search_cases.small(), np.random.default_rng(3)
    tables = CostTables(space, search_cases.TASK, Budget(ram="1M", streaming=streaming))
    pairs = []
    for _ in range(8):
        path = space.random(generator)
        model = networks.build(space.network(path, search_cases.TASK))
        pairs.append((tables.of(path)["ram"], device_facts.ram_bytes(apply.quantize_apply(model), streaming)))
    estimates, plans = np.array(pairs).T
    assert np.corrcoef(estimates, plans)[0, 1] > 0.7
    assert np.all(estimates < 2 * plans) and np.all(plans < 3 * estimates)


def test_what_is_over_the_budget_is_made_cheaper() -> None:
    space, generator = search_cases.small(), np.random.default_rng(2)
    tables = CostTables(space, search_cases.TASK, Budget(flash="1.5K", macs="30K"))
    over = 0
    for _ in range(30):
        path = space.random(generator)
        over += tables.fullest(path) > 1
        fitted = tables.fitted(path)
        assert tables.fullest(fitted) <= 1
        assert fitted == path or tables.fullest(path) > 1
    assert over > 5


def test_the_likeliest_options_stay() -> None:
    """Where one decision is far from certain and the others are certain, that one gives way."""
    space = search_cases.small()
    tables = CostTables(space, search_cases.TASK, Budget(flash="1M"))
    path = list(space.smallest())
    for decision in range(len(space.stages)):
        path[decision] = 1
    cost = tables.of(tuple(path))["flash"]
    tables = CostTables(space, search_cases.TASK, Budget(flash=int(cost - 1)))
    likelihood = [np.full(len(d.options), -1e6) for d in space.decisions]
    for decision, choice in enumerate(path):
        likelihood[decision][choice] = 0.0
    likelihood[2][:] = -0.7
    fitted = tables.fitted(tuple(path), likelihood)
    assert [d for d, (a, b) in enumerate(zip(path, fitted)) if a != b] == [2]


def test_budgets_that_no_network_meets() -> None:
    space = search_cases.small()
    with pytest.raises(
        ValueError, match=r"met by no network of the space: the least flash found is [\d,]+, allowed are 100"
    ):
        CostTables(space, search_cases.TASK, Budget(flash=100))
    with pytest.raises(ValueError, match="mean widths belong to one network"):
        CostTables(space, search_cases.TASK, Budget(flash="4K", average_bits=4))


def test_filters_over_samples_have_bytes_but_no_count_of_instructions() -> None:
    space = search_cases.small()
    budget = Budget(flash="40K", instructions=2e6, core="cortex-m4")
    heard = CostTables(space, search_cases.SOUND, budget).of(space.smallest())
    features = search_cases.Task(3, 6, 8)
    seen = CostTables(space, features, budget).of(space.smallest())
    assert heard["flash"] > seen["flash"] and heard["instructions"] == seen["instructions"]
