# SPDX-License-Identifier: Apache-2.0
"""Budgets, and whole widths within them, as good as they can be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmot_kws.quantize import budget

LAYERS = (
    budget.Layer("first", 64, 120),
    budget.Layer("depthwise", 64, 9, kind="depthwise", bits=8),
    budget.Layer("second", 64, 64),
    budget.Layer("logits", 5, 64),
)


@pytest.mark.parametrize(
    ("size", "found"), [(12000, 12000), ("12KB", 12000), ("1.5 kb", 1500), ("700", 700), ("1M", 10**6)]
)
def test_sizes_are_read(size, found):
    assert budget.Budget(flash=size).flash == found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "limits nothing"),
        ({"flash": 0}, "flash=0"),
        ({"flash": "12 apples"}, "12 apples"),
        ({"flash": True}, "flash=True"),
        ({"flash": -5}, "flash=-5"),
        ({"average_bits": 0.5}, "between 1 and 8"),
        ({"average_bits": 9}, "between 1 and 8"),
        ({"average_bits": True}, "between 1 and 8"),
        ({"average_activation_bits": 1.5}, "average_activation_bits=1.5: must be between 2 and 8"),
        ({"ram": "much"}, "ram='much'"),
        ({"macs": "few"}, "macs='few': must be a number above 0"),
        ({"parameters": 0}, "parameters=0: must be a number above 0"),
        ({"instructions": 300000}, "needs core=..., one of cortex-a53, "),
        ({"instructions": 0, "core": "cortex-m4"}, "instructions=0: must be a number above 0"),
        ({"instructions": 9, "core": "cortex-m99"}, "'cortex-m99': no instructions were counted there; there are"),
        ({"flash": 9, "core": "cortex-m4"}, "goes with instructions"),
        ({"flash": 9, "target": "m4"}, "must be one of any, aarch64-i8mm, cortex-m4"),
        ({"instructions": 9, "core": "cortex-m55", "target": "cortex-m4"}, "cortex-m55 has no fast kernel"),
        ({"flash": 9, "streaming": True}, "goes with instructions, ram or macs"),
        ({"own": {"energy": 3}}, r"own\['energy'\]=3: must be \(function, limit\)"),
        ({"own": {"energy": (3, 3)}}, "found 3 for the function"),
        ({"own": {"energy": (len, -3)}}, "limit must be a number above 0"),
        ({"own": {"flash": (len, 3)}}, "a cost cannot be called 'flash'"),
    ],
)
def test_budgets_that_are_none_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        budget.Budget(**options)


def test_a_budget_that_nothing_meets_is_refused():
    with pytest.raises(
        ValueError, match="at most 1,000 bytes of weights, but the least that learned widths come to is 2,"
    ):
        budget.Costs(LAYERS, budget.Budget(flash=1000))
    with pytest.raises(ValueError, match="at most 1.20 bits a weight"):
        budget.Costs(LAYERS, budget.Budget(average_bits=1.2))  # the depthwise weights have 8
    with pytest.raises(ValueError, match="at most 20,000 instructions on cortex-m4, but the least .* instructions"):
        budget.Costs(LAYERS, budget.Budget(instructions=20000, core="cortex-m4"))
    dear = {"heat": (lambda layer, bits: float(9 - bits), 10)}  # at 8 bits each, which is too much flash
    with pytest.raises(ValueError, match="no widths meet all limits at once: 4,000 bytes of weights, 10 of 'heat'"):
        budget.Costs(LAYERS, budget.Budget(flash=4000, own=dear))


def test_costs_of_widths_lie_between_those_of_whole_ones():
    costs = budget.Costs(LAYERS, budget.Budget(flash="12KB", average_bits=4))
    whole = costs.of({"first": 4, "second": 3, "logits": 8})
    assert whole["flash"] == 64 * 128 * 4 // 8 + 64 * 9 + 64 * 64 * 3 // 8 + 8 * 64
    assert whole["average_bits"] == 64 * 120 * 4 + 64 * 9 * 8 + 64 * 64 * 3 + 5 * 64 * 8
    half = costs.of({"first": 4.5, "second": 3, "logits": 8})
    assert half["flash"] - whole["flash"] == 64 * 128 * 0.5 / 8
    assert costs.fullest({"first": 8, "second": 8, "logits": 8}) == pytest.approx(1.99, abs=0.1)


@given(widths=st.tuples(*[st.floats(1, 8)] * 3), flash=st.integers(2200, 16000), average=st.floats(1.6, 8))
@settings(deadline=None, max_examples=60)
def test_whole_widths_meet_the_budget_and_no_better_ones_do(widths, flash, average):
    costs = budget.Costs(LAYERS, budget.Budget(flash=flash, average_bits=average))
    learned = dict(zip(costs.names, widths))
    found = costs.whole(learned)
    assert all(isinstance(bits, int) and 1 <= bits <= 8 for bits in found.values())
    assert costs.fullest(found) <= 1.0
    for name in costs.names:  # one more bit anywhere would not fit
        if found[name] < 8:
            assert costs.fullest({**found, name: found[name] + 1}) > 1.0


def test_whole_widths_are_what_was_learned_where_that_fits():
    costs = budget.Costs(
        LAYERS, budget.Budget(average_bits=(64 * 120 * 3 + 64 * 9 * 8 + 64 * 64 * 2 + 320 * 7) / 12672)
    )
    assert costs.whole({"first": 3.1, "second": 2.0, "logits": 6.9}) == {"first": 3, "second": 2, "logits": 7}


def brute(costs: budget.Costs, widths: dict[str, float]) -> float:
    """The least sum of weighed errors of all combinations within the budget."""
    return min(
        weighed(costs, widths, dict(zip(costs.names, bits)))
        for bits in itertools.product(range(1, 9), repeat=len(costs.names))
        if costs.fullest(dict(zip(costs.names, bits))) <= 1.0
    )


def weighed(costs: budget.Costs, learned: dict[str, float], whole: dict[str, int]) -> float:
    slopes = costs.mean_slopes(learned)
    floor = 1e-3 * min((slope for slope in slopes.values() if slope > 0), default=1.0)
    return sum(max(slopes[name], floor) * 4.0 ** (learned[name] - whole[name]) for name in costs.names)


@pytest.mark.parametrize(
    "limits",
    [
        {"flash": 6000},
        {"flash": 9000, "average_bits": 4.3},
        {"instructions": 40000, "core": "cortex-m4"},
        {"instructions": 38000, "core": "cortex-m4", "flash": 9000},
        {"instructions": 27000, "core": "cortex-m4", "target": "cortex-m4", "average_bits": 5.5},
        {"own": {"heat": (lambda layer, bits: layer.outputs * bits**1.5, 2500)}, "flash": 8000},
    ],
)
def test_no_combination_of_whole_widths_is_better(limits):
    costs = budget.Costs(LAYERS, budget.Budget(**limits))
    for learned in ((4.2, 3.7, 7.1), (2.0, 5.5, 3.0), (6.0, 6.0, 6.0)):
        widths = dict(zip(costs.names, learned))
        found = costs.whole(widths)
        assert costs.fullest(found) <= 1.0
        assert weighed(costs, widths, found) == pytest.approx(brute(costs, widths), rel=1e-6)


def test_many_layers_use_what_there_is():
    layers = [budget.Layer(f"l{n}", 32, 48 + n) for n in range(40)]
    costs = budget.Costs(layers, budget.Budget(average_bits=3.3))
    found = costs.whole({layer.name: 2.0 + n / 15 for n, layer in enumerate(layers)})
    assert 0.98 < costs.fullest(found) <= 1.0
    assert np.corrcoef(list(found.values()), range(40))[0, 1] > 0.8


def test_activations_have_two_bits_at_least():
    layers = [budget.Layer(f"l{n}", 100, 1, "activation", least=2) for n in range(4)]
    costs = budget.Costs(layers, budget.Budget(average_activation_bits=2.9, flash=5))
    assert costs.limits == {"average_activation_bits": 2.9 * 400}
    found = costs.whole({f"l{n}": 1.0 + 2 * n for n in range(4)})
    assert sum(found.values()) == 11 and min(found.values()) == 2
    costs = budget.Costs(layers, budget.Budget(average_activation_bits=2))
    assert set(costs.whole(dict.fromkeys(costs.names, 8.0)).values()) == {2}


def test_a_cost_of_ones_own_must_give_numbers():
    for value in (None, float("nan"), -1.0, "3"):
        with pytest.raises(ValueError, match="'heat' of layer 'depthwise' at 8 bits is"):
            budget.Costs(LAYERS, budget.Budget(own={"heat": (lambda layer, bits, v=value: v, 3)}))
    with pytest.raises(ValueError, match="function 'mine>heat', which is not known here"):
        budget.Costs(LAYERS, budget.Budget(own=[["heat", "mine>heat", 3.0]]))


def test_slopes_are_of_the_fullest_limit():
    costs = budget.Costs(LAYERS, budget.Budget(flash=100000, average_bits=2))
    slopes = costs.slopes({"first": 2, "second": 2, "logits": 2})
    assert slopes["first"] / slopes["second"] == pytest.approx(120 / 64)


def test_bits_that_cost_nothing_are_taken():
    """Files for Cortex-M4 hold 3 bits in 4, and 6 and 7 in 8."""
    costs = budget.Costs(LAYERS, budget.Budget(flash=9000, target="cortex-m4"))
    for learned in (2.6, 3.0, 5.5, 6.4):
        found = costs.whole({"first": learned, "second": learned, "logits": 8.0})
        assert not {3, 6, 7} & set(found.values()) and costs.fullest(found) <= 1.0
    slopes = costs.mean_slopes(dict.fromkeys(costs.names, 3.0))
    assert slopes["first"] / slopes["second"] == pytest.approx(128 / 64)


@given(table=st.lists(st.integers(0, 40), min_size=8, max_size=8))
@settings(deadline=None, max_examples=200)
def test_slopes_are_those_of_the_lower_convex_envelope(table):
    slopes = budget._convex_slopes(np.array(table, float))
    assert np.all(np.diff(slopes) >= -1e-12)
    envelope = table[0] + np.concatenate([[0.0], np.cumsum(slopes)])
    assert np.all(envelope <= np.array(table) + 1e-9)
    for width in range(8):  # no line between two costs lies below it, and one touches it
        between = [
            table[a] + (table[b] - table[a]) * (width - a) / max(b - a, 1)
            for a in range(width + 1) for b in range(width, 8)
        ]  # fmt: skip
        assert min(between) == pytest.approx(envelope[width])


def test_a_width_does_not_rest_where_bits_cost_nothing():
    costs = budget.Costs(LAYERS, budget.Budget(flash=9000, target="cortex-m4"))
    for width in (8.0, 7.0, 6.5, 3.5):
        assert min(costs.slopes(dict.fromkeys(costs.names, width)).values()) > 0
