# SPDX-License-Identifier: Apache-2.0
"""Groups of recordings that are added up give what all of them together give."""

from __future__ import annotations

import dataclasses

import hypothesis
import numpy as np
from hypothesis import strategies as st
from stream_cases import STEP, random_streams

from tfmot_kws.evaluation import stream_parts, streams
from tfmot_kws.evaluation.detector import DetectorConfig

WORDS = ("one", "two")


def in_groups(found, config, cuts, fa_per_hour, told=None):
    """``streams.evaluate``, group by group."""
    edges = [0, *sorted({cut for cut in cuts if cut < len(found)} - {0}), len(found)]
    groups = [found[a:b] for a, b in zip(edges[:-1], edges[1:])]
    joined = [stream_parts.join(group, config, WORDS, 1.0) for group in groups]
    curves = []
    for columns in streams.sets_of(WORDS):
        tried = stream_parts.limits([stream_parts.marks(one, columns) for one in joined], 20, told)
        swept = [stream_parts.sweep(one, config, columns, tried) for one in joined]
        curves.append(stream_parts.curve(swept, config, tried, STEP))
    config = streams.at_rate(config, curves, WORDS, fa_per_hour)
    outcomes = [stream_parts.outcome(one, config, group, WORDS) for one, group in zip(joined, groups)]
    return streams.put_together(config, WORDS, curves, outcomes)


def plain(value):
    """Values that compare."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**31),
    cuts=st.lists(st.integers(0, 6), max_size=4),
    named=st.sampled_from(["all", "some", "none"]),
    told=st.sampled_from([None, tuple(range(0, 2000, 35))]),
    rate=st.sampled_from([None, 0.0, 30.0, 500.0]),
)
def test_groups_add_up(seed, cuts, named, told, rate) -> None:
    rng = np.random.default_rng(seed)
    found = random_streams(rng, WORDS, 6)
    people = {"all": ("ann", "ben", "cleo"), "some": ("ann", ""), "none": ("",)}[named]
    found = [
        dataclasses.replace(
            one, targets=tuple(dataclasses.replace(t, speaker=str(rng.choice(people))) for t in one.targets)
        )
        for one in found
    ]
    config = DetectorConfig(classes=4, keywords=(2, 3), thresholds=20.0, smooth=3, refractory=5, mode="margin")
    whole = streams.evaluate(found, config, WORDS, STEP, fa_per_hour=rate, points=20, told=told)
    assert plain(in_groups(found, config, cuts, rate, told)) == plain(whole)


def test_thresholds_stay_few_where_targets_are_many(monkeypatch) -> None:
    monkeypatch.setattr(stream_parts, "MOST_TARGETS", 10)
    many = stream_parts.Marks(np.arange(0, 3000, 3), np.arange(500), 5000)
    tried = stream_parts.limits([many], 20)
    assert len(tried) <= 10 + 2 * 20 + 1 and tried[-1] == 5001 and np.all(np.diff(tried) > 0)
    assert {0, 2997} <= set(tried.tolist())
