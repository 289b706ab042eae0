# SPDX-License-Identifier: Apache-2.0
"""What learned widths pass: the Pareto front, by brute force and in a training, kept from run to run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def _fit(history: width_history.WidthHistory | None, epochs: int, initial: int = 0, **options) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,), name="features")
    x = keras.layers.Dense(16, activation="relu", name="first")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    scheme = tfmot_kws.kws_scheme("learned", budget=Budget(flash=400, average_bits=4))
    model = tfmot_kws.quantize_apply(model, scheme)
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(True))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 16)).astype(np.float32), rng.integers(0, 3, 64)
    schedule = stages.TwoStageSchedule(4, history=history)
    options = {"epochs": epochs, "initial_epoch": initial, "batch_size": 8, "verbose": 0, **options}
    model.fit(x, y, callbacks=[schedule], **({"validation_data": (x, y)} | options))
    model.schedule = schedule
    return model


@pytest.mark.slow
def test_a_training_takes_down_what_it_passes(tmp_path) -> None:
    path = tmp_path / "run" / "widths.json"
    history = width_history.WidthHistory(path)
    model = _fit(history, 5)
    assert model.schedule.history is history
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


@pytest.mark.slow
def test_losses_are_those_of_validation_where_there_are_any() -> None:
    seen = _fit(None, 2).schedule.history.points
    plain = _fit(None, 2, validation_data=None).schedule.history.points
    assert [p.widths for p in seen] == [p.widths for p in plain]
    assert all(a.loss != b.loss and math.isfinite(b.loss) for a, b in zip(seen, plain))
