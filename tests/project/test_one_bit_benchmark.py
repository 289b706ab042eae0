"""Rows of few bits: as wide as bytes allow, and taught by whom the row says."""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks import one_bit as benchmark
from tfmot_kws.data import feature_set
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters

SHAPE = spotters.ModelConfig(3, 49, 8, width=6)


def data(rng) -> feature_set.FeatureSet:
    y = rng.integers(0, 3, 64).astype(np.int32)
    x = rng.normal(size=(64, 49, 8)).astype(np.float32) + y[:, None, None]
    source = np.arange(len(y), dtype=np.int32)
    report = feature_set.LoadReport(len(y), {})
    return feature_set.FeatureSet(x, y, ("other", "a", "b"), report, source, tuple(f"{n}.wav" for n in source))


@pytest.mark.slow
def test_the_widest_network_has_room_and_one_unit_more_has_not() -> None:
    most = benchmark.file_bytes(SHAPE, 4)
    width = benchmark.widest(SHAPE, 1, most)
    assert width > SHAPE.width
    sizes = [benchmark.file_bytes(dataclasses.replace(SHAPE, width=w), 1) for w in (width, width + 1)]
    assert sizes[0] <= most < sizes[1]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"teachers": 2, "shifts": False}, {"falling": True}, {"width": 8, "teachers": 1}])
def test_rows_are_of_one_bit(rng, monkeypatch, options: dict) -> None:
    trained = []
    monkeypatch.setattr(
        accuracy, "exported", lambda model, held: trained.append(model) or {"accuracy": 50.0, "area": 1.0, "bytes": 1}
    )
    found = data(rng)
    args = argparse.Namespace(epochs=1, stage1=2, stage2=1)
    keras.utils.set_random_seed(0)
    model = spotters.build(SHAPE)
    trainer = accuracy.Trainer(found, 3)
    trainer.steps = 1
    trained_by, two_stages = [], accuracy.train_two_stages
    monkeypatch.setattr(
        accuracy,
        "train_two_stages",
        lambda own, quantized, *rest: trained_by.append((own, quantized)) or two_stages(own, quantized, *rest),
    )
    ((name, row),) = benchmark.Study(args, SHAPE).row("a row", 1, **options)(trainer, model, found).items()
    assert name == "a row" and row["width"] == options.get("width", 6) and 0 <= row["fitted"] <= 100
    kernels = [layer for layer in trained[0].layers if hasattr(layer, "weight_bits")]
    assert kernels and {layer.weight_bits for layer in kernels} == {1}
    assert kernels[0].units == row["width"]
    ((own, quantized),) = trained_by
    teachers = options.get("teachers", 0)
    assert (own.teacher is None, own.teacher is model) == (not teachers, teachers == 1)
    assert (own.batches.augment is None) == (not options.get("shifts", True)) and own.seed == trainer.seed
    assert all((layer.learned_width is not None) == options.get("falling", False) for layer in kernels)


def test_teachers_are_the_mean_of_as_many(rng) -> None:
    found = data(rng)
    trainer = accuracy.Trainer(found, 0)
    study = benchmark.Study(argparse.Namespace(epochs=1), SHAPE)
    model = spotters.build(SHAPE)
    assert study.teacher(trainer, model, 0) is None and study.teacher(trainer, model, 1) is model
    taught = study.teacher(trainer, model, 3)
    others = [study.float_model(trainer, 6, number) for number in (1, 2)]
    assert not np.allclose(others[0](found.x), others[1](found.x))
    mean = np.mean([one(found.x) for one in (model, *others)], axis=0)
    assert np.allclose(taught(found.x), mean, atol=1e-5)
