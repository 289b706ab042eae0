# SPDX-License-Identifier: Apache-2.0
"""The spotter with two heads: what it becomes, and that nothing is lost on the way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from quantization_helpers import features, shake

from tfmot_kws.keras import keras
from tfmot_kws.models import multitask
from tfmot_kws.models import spotters as models

SHAPE = multitask.Shape(
    9, 4, (5.0, 6.0, 7.0, 8.0), (1.0, 2.0, 3.0, 4.0), context=6, width=8, layers=2, classes=3, phones=5
)


def test_shape_comes_back() -> None:
    for change in ({}, {"rank": 3}, {"classes": 0}, {"phones": 0}, {"context": 9}):
        shape = dataclasses.replace(SHAPE, **change)
        found = multitask.shape_of(multitask.build(shape))
        assert dataclasses.replace(found, deviation=shape.deviation) == shape
        np.testing.assert_allclose(found.deviation, shape.deviation, rtol=1e-6)
    assert [tuple(o.shape[1:]) for o in multitask.build(SHAPE).outputs] == [(3,), (4, 5)]


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("context", [6, 9])
@pytest.mark.slow
def test_dropping_phones_and_normalization_keeps_the_logits(rank, context) -> None:
    model = shake(multitask.build(dataclasses.replace(SHAPE, rank=rank, context=context)))
    x = 10 * features((9, 4))
    plain = multitask.keyword_model(model)
    np.testing.assert_allclose(plain(x), model(x)[0], atol=1e-4)
    assert not plain.get_layer("normalize").trainable_weights and len(plain.outputs) == 1
    plain = multitask.keyword_model(model, fold=True)
    np.testing.assert_allclose(plain(x), model(x)[0], atol=1e-4)
    if rank:
        like = models.svd_50k(3, 9, 4, context, 8, 3, 2)
        assert plain.name == like.name
        assert [layer.get_config() for layer in plain.layers] == [layer.get_config() for layer in like.layers]
    else:
        assert "normalize" not in [layer.name for layer in plain.layers] and len(plain.outputs) == 1


def test_a_new_head_and_full_rank_change_nothing() -> None:
    x = 10 * features((9, 4))
    first = shake(multitask.build(dataclasses.replace(SHAPE, classes=0)))
    second = multitask.with_keywords(first, 3)
    np.testing.assert_array_equal(first(x), second(x)[1])
    third, report = multitask.with_bottlenecks(second, 8)
    for before, after in zip(second(x), third(x)):
        np.testing.assert_allclose(before, after, atol=1e-4)
    assert [s.name for s in report.splits] == ["sigmoid_1", "sigmoid_2"]
    assert multitask.shape_of(third).rank == 8


def test_survives_a_file(tmp_path) -> None:
    model = shake(multitask.build(SHAPE))
    model.save(tmp_path / "both.keras")
    from tfmot_kws.quantize import saving

    again = saving.load_model(tmp_path / "both.keras")
    x = 10 * features((9, 4))
    for before, after in zip(model(x), again(x)):
        np.testing.assert_array_equal(before, after)
    assert multitask.shape_of(again) == multitask.shape_of(model)


@pytest.mark.slow
def test_errors() -> None:
    model = multitask.build(SHAPE)
    with pytest.raises(ValueError, match="has a keyword head already, of 3 classes"):
        multitask.with_keywords(model, 3)
    with pytest.raises(ValueError, match="bottlenecks already, of rank 3"):
        multitask.with_bottlenecks(multitask.build(dataclasses.replace(SHAPE, rank=3)), 3)
    with pytest.raises(ValueError, match="between 1 and 8, found 39"):
        multitask.with_bottlenecks(model)
    with pytest.raises(ValueError, match="no keyword head"):
        multitask.keyword_model(multitask.build(dataclasses.replace(SHAPE, classes=0)))
    with pytest.raises(ValueError, match="no layer 'normalize'"):
        multitask.keyword_model(models.svd_50k())
    with pytest.raises(ValueError, match="no layer"):
        multitask.shape_of(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
    for change, message in (
        ({"width": 0}, r"Shape.width=0"), ({"context": 10}, "a clip has 9 frames only"), ({"rank": 0}, "rank=0"),
        ({"mean": (1.0,)}, "1 values for 4 bands"), ({"deviation": (0.0,) * 4}, "deviation: must be above 0"),
        ({"classes": 0, "phones": 0}, "needs a head"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(SHAPE, **change)
