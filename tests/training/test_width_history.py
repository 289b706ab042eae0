# SPDX-License-Identifier: Apache-2.0
"""What learned widths pass: the Pareto front, by brute force and in a training, kept from run to run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quick_fit import flat_clips, quick_fit, two_layers

import tfmot_kws
from tfmot_kws.keras import keras
from tfmot_kws.quantize import model_costs
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.training import stages, width_history
from tfmot_kws.training.width_history import Point, pareto_front

small = st.sampled_from([0.5, 1.0, 1.5, 2.0])


@given(st.lists(st.tuples(small, st.sampled_from([0.1, 0.2, 0.3, math.nan, math.inf])), max_size=8))
@settings(deadline=None, max_examples=200)
def test_the_front_is_what_no_other_point_beats(values) -> None:
    points = [Point("weights", n, used, loss, {}) for n, (used, loss) in enumerate(values)]
    front = pareto_front(points)
    finite = [p for p in points if math.isfinite(p.loss)]
    assert bool(front) == bool(finite) and all(p in finite for p in front)
    for p in front:
        assert not any(q.used <= p.used and q.loss <= p.loss and (q.used, q.loss) != (p.used, p.loss) for q in finite)
    for p in finite:
        assert any(q.used <= p.used and q.loss <= p.loss for q in front)
    assert [p.used for p in front] == sorted({p.used for p in front})


def _fit(history: width_history.WidthHistory, epochs: int) -> keras.Model:
    scheme = tfmot_kws.kws_scheme("learned", budget=Budget(flash=400, average_bits=4))
    model = tfmot_kws.quantize_apply(two_layers(), scheme)
    schedule = stages.TwoStageSchedule(4, history=history)
    quick_fit(model, flat_clips(), epochs, 8, [schedule])
    return model


@pytest.mark.slow
def test_a_training_takes_down_what_it_passes(tmp_path) -> None:
    path = tmp_path / "run" / "widths.json"
    history = width_history.WidthHistory(path)
    model = _fit(history, 5)
    assert [p.epoch for p in history.points] == [1, 2, 3, 4]  # of stage 1, in which weights learn
    assert {look.kind for look in history.looks} == {"weights"}
    assert all(set(look.used) == {"flash", "average_bits"} for look in history.looks)
    assert [look.epoch for look in history.looks] == sorted(look.epoch for look in history.looks)
    last = {layer.name: layer.weight_bits for layer in model_costs.learning(model)}
    assert history.points[-1].widths == last and history.points[-1].used <= 1.0 < history.points[0].used
    assert history.front()[0] in history.points and history.front("activations") == []
    assert "bytes of weights (" in history.said and "of the budget; bits: first " in history.said
    again = width_history.WidthHistory(path)
    again.begin(3)
    assert again.points == history.points[:3] and again.looks == [v for v in history.looks if v.epoch <= 3]
    fresh = width_history.WidthHistory(path)
    fresh.begin(0)
    assert not fresh.points and not fresh.looks
    path.write_text("[")
    with pytest.raises(ValueError, match="widths.json: is damaged"):
        again.begin(3)


class Steering:
    """What a history asks of what steers widths."""

    class costs:
        @staticmethod
        def fullest(widths: dict[str, int]) -> float:
            return sum(widths.values()) / 10

    def whole_widths(self) -> dict[str, int]:
        return {"first": 4, "logits": 8}

    def said(self) -> str:
        return "120% of the budget"


def test_losses_are_those_of_validation_where_there_are_any() -> None:
    history = width_history.WidthHistory()
    for logs in ({"loss": 0.5, "val_loss": 0.75}, {"loss": 0.25}, {}, None):
        history.epoch_ended("weights", len(history.points), Steering(), logs)
    assert [p.loss for p in history.points[:2]] == [0.75, 0.25]
    assert all(math.isnan(p.loss) for p in history.points[2:])
    assert [p.epoch for p in history.points] == [1, 2, 3, 4] and history.said == "120% of the budget"
    assert history.front() == [history.points[1]] and history.points[0].used == 1.2
