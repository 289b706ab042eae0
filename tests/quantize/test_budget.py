# SPDX-License-Identifier: Apache-2.0
"""Costs of widths: equal to what is packed; whole widths within a budget, as good as they can be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflite_export.packed import packing
from tfmot_kws.quantize import budget

LAYERS = (
    budget.Layer("first", 64, 120),
    budget.Layer("depthwise", 64, 9, depthwise=True, bits=8),
    budget.Layer("second", 64, 64),
    budget.Layer("logits", 5, 64),
)


@pytest.mark.parametrize("bits", range(1, 9))
def test_flash_is_what_is_packed(bits):
    for outputs, inputs in itertools.product((1, 7, 8, 9, 64, 65), (1, 15, 16, 17, 200)):
        expected = packing.packed_size(outputs, inputs, bits, packing.layout_for("any", bits))
        assert budget.flash_bytes(budget.Layer("a", outputs, inputs), bits) == expected
    assert budget.flash_bytes(budget.Layer("a", 64, 9, depthwise=True), bits) == 64 * 9


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
    ],
)
def test_budgets_that_are_none_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        budget.Budget(**options)


def test_a_budget_that_nothing_meets_is_refused():
    with pytest.raises(
        ValueError, match="at most 1,000 bytes of weights, but with 1 bit where widths are learned it is 2,"
    ):
        budget.Costs(LAYERS, budget.Budget(flash=1000))
    with pytest.raises(ValueError, match="at most 1.20 bits a weight"):
        budget.Costs(LAYERS, budget.Budget(average_bits=1.2))  # the depthwise weights have 8


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


def test_many_layers_are_filled_bit_by_bit():
    layers = [budget.Layer(f"l{n}", 32, 48 + n) for n in range(12)]
    costs = budget.Costs(layers, budget.Budget(average_bits=3.3))
    found = costs.whole({layer.name: 2.0 + n / 4 for n, layer in enumerate(layers)})
    assert 0.98 < costs.fullest(found) <= 1.0
    assert np.corrcoef(list(found.values()), range(12))[0, 1] > 0.8


def test_slopes_are_of_the_fullest_limit():
    costs = budget.Costs(LAYERS, budget.Budget(flash=100000, average_bits=2))
    slopes = costs.slopes({"first": 2, "second": 2, "logits": 2})
    assert slopes["first"] / slopes["second"] == pytest.approx(120 / 64)
