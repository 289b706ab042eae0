"""Learned against fixed widths: budgets are what fixed widths cost, and the softmax over widths is one."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import hgq2_peer, width_softmax
from benchmarks import learned_widths as benchmark
from tfmot_kws.data import feature_set
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters
from tfmot_kws.quantize import layers, model_costs, quantizers, scheme
from tfmot_kws.quantize.apply import quantize_apply
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.learned_widths import LearnedWidth


def small() -> keras.Model:
    keras.utils.set_random_seed(0)
    return spotters.build(spotters.ModelConfig(3, 49, 8, width=6))


def pair(bits: int) -> tuple[width_softmax.SoftmaxWidth, LearnedWidth]:
    layer, other = keras.layers.Layer(), keras.layers.Layer()
    found = width_softmax.SoftmaxWidth(layer, bits), LearnedWidth(other, bits)
    for width in found:
        width.take(bits)
    return found


@pytest.mark.parametrize("bits", range(1, 9))
def test_settled_softmax_computes_as_any_width(rng, bits: int) -> None:
    theta = tf.constant(rng.normal(size=(7, 5)), tf.float32)
    soft, plain = pair(bits)
    for width in (soft, plain):
        width.settle()
    assert soft.width == bits == plain.width
    assert np.array_equal(soft.levels(theta), plain.levels(theta))


def test_softmax_mixes_the_weights_of_all_widths(rng) -> None:
    theta = tf.constant(rng.normal(size=(7, 5)), tf.float32)
    soft, _ = pair(4)
    shares = soft._shares().numpy()
    assert shares[7] > 0.45 and shares.sum() == pytest.approx(1.0, abs=1e-6)
    weights = sum(
        share * quantizers.levels(theta, bits, "auto") * quantizers.grid_constants(bits, grid)[2]
        for bits, share in zip(range(1, 9), shares)
        for grid in [quantizers.resolve_grid("auto", bits)]
    )
    assert np.allclose(soft.levels(theta) * tf.cast(soft.step(), tf.float32), weights, atol=1e-6)
    before = soft.width
    soft.set_speed(25.0)
    assert soft.width == pytest.approx(before, abs=1e-4)


def test_price_lowers_the_mean_width() -> None:
    soft, _ = pair(8)
    theta, optimizer = tf.zeros((3, 2)), keras.optimizers.SGD(0.1)
    before = soft.width
    soft.set_price(0.5)
    for _ in range(5):
        with tf.GradientTape() as tape:
            value = 0.0 * tf.reduce_sum(soft.levels(theta))
        optimizer.apply_gradients([(tape.gradient(value, soft._numbers), soft._numbers)])
    assert soft.width < before - 0.1


def test_prices_are_those_of_the_model() -> None:
    prices = benchmark.Prices(small())
    cost = prices.of_all(2)
    assert cost["average"] == 2.0 and cost["m4"] > cost["a53"] > 0
    assert prices.of_all(1)["flash"] < cost["flash"] < prices.of_all(3)["flash"]


def test_depthwise_weights_keep_their_byte() -> None:
    """They count in the mean, and in the bytes, whatever the width of the others."""
    model = benchmark.network("ds_cnn", 3, 30, 8)()
    prices = benchmark.Prices(model)
    kernels = [layer for layer in model.layers if hasattr(layer, "kernel") or hasattr(layer, "depthwise_kernel")]
    depthwise = sum(layer.depthwise_kernel.shape.num_elements() for layer in kernels if "depthwise" in layer.name)
    dense = sum(layer.kernel.shape.num_elements() for layer in kernels if "depthwise" not in layer.name)
    assert prices.of_all(2)["average"] == pytest.approx((8 * depthwise + 2 * dense) / (depthwise + dense))
    assert prices.of_all(8)["average"] == 8.0 and prices.of_all(1)["flash"] > depthwise


def test_front_is_what_no_other_beats_in_both() -> None:
    points = [(3.0, 1.0), (1.0, 4.0), (2.0, 2.0), (2.0, 5.0), (4.0, 1.5), (2.5, 2.0)]
    assert benchmark.front(points) == [(1.0, 4.0), (2.0, 2.0), (3.0, 1.0)]
    assert benchmark.front([]) == []


def test_picture_names_every_kind_of_row(tmp_path) -> None:
    def row(name: str, flash: float | None, area: float) -> dict:
        seeds = [{"area": area - 0.1}, {"area": area + 0.1}]
        return {"method": name, "flash": flash, "m4": flash, "area": area, "seeds": seeds}

    rows = [row("float+", None, 9.0), row("2 bits", 5e3, 11.0), row("1 bit", 3e3, 16.0)]
    rows += [row("learned, bytes of 2 bits", 4.9e3, 10.0), row("softmax over widths, bytes of 2 bits", 4.9e3, 10.5)]
    text = benchmark.plot(rows, tmp_path / "widths.svg", "Learned widths").read_text(encoding="utf-8")
    for found in ("Pareto front", "2 bits", "1 bit", "float+", "softmax over widths", "learned", "one width"):
        assert f"<!-- {found} -->" in text
    assert "<!-- HGQ2 -->" not in text


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True])
def test_rows_are_those_of_the_file(rng, soft: bool) -> None:
    """The widths of the row meet the budget and are those that the packed model has."""
    y = rng.integers(0, 3, 96)
    x = rng.normal(size=(96, 49, 8)).astype(np.float32) + y[:, None, None]
    report = feature_set.LoadReport(len(y), {})
    source = np.arange(len(y), dtype=np.int32)
    data = feature_set.FeatureSet(
        x, y.astype(np.int32), ("other", "a", "b"), report, source, tuple(f"{n}.wav" for n in source)
    )
    args = argparse.Namespace(
        stage1=3, stage2=1, bits=(2,), as_much_as=(3,), instructions=False, softmax=True, paper=False, hgq2=None
    )
    model = small()
    prices = benchmark.Prices(model)
    trainer = benchmark.accuracy.Trainer(data, 0)
    trainer.steps, trainer.float_weights = 1, model.get_weights()
    limits = Budget(flash=int(prices.of_all(3)["flash"]))
    ((name, row),) = benchmark.learned("learned", limits, 3, prices, args, soft)(trainer, model, data).items()
    assert name == "learned" and row["flash"] <= limits.flash and row["used"] == row["flash"] / limits.flash
    assert set(row["widths"]) == set(prices.names) and row["activations"] == 8.0
    assert row["flash"] == prices.of(row["widths"])["flash"] and 0 <= row["accuracy"] <= 100
    assert set(benchmark.methods(prices, args)) == {"float+", "fixed 2", "flash 3", "softmax 3"}
    args.hgq2 = "a python"
    assert set(benchmark.methods(prices, args)) == {"float+", "fixed 2", "flash 3", "softmax 3", "hgq2 3"}


def test_softmax_is_only_where_it_is_asked_for() -> None:
    chosen = scheme.kws_scheme("learned", budget=Budget(average_bits=3))
    with width_softmax.instead():
        soft = quantize_apply(small(), chosen)
    plain = quantize_apply(small(), chosen)
    kinds = [{type(layer.learned_width) for layer in model_costs.learning(one)} for one in (soft, plain)]
    assert kinds == [{width_softmax.SoftmaxWidth}, {LearnedWidth}]
    assert all(isinstance(layer, layers.QuantizedKernel) for layer in model_costs.learning(soft))


def test_hgq2_gets_the_network_and_gives_logits(rng, monkeypatch) -> None:
    """The peer's script is stood in for by one that computes from what it was given."""
    y = rng.integers(0, 3, 32).astype(np.int32)
    x = rng.normal(size=(32, 49, 8)).astype(np.float32)
    report, source = feature_set.LoadReport(len(y), {}), np.arange(32, dtype=np.int32)
    data = feature_set.FeatureSet(x, y, ("other", "a", "b"), report, source, tuple(f"{n}.wav" for n in source))
    model = small()

    def run(command, check):
        assert check and command[0] == "a python" and command[1].name == "hgq2_peer.py"
        with np.load(command[2]) as kept:
            task = json.loads(str(kept["task"]))
            weights = [kept[f"weight_{n}"] for n in range(task["weights"])]
            again = spotters.build(
                spotters.ModelConfig(
                    task["classes"], *task["shape"], task["width"],
                    tuple(spotters.WindowSpec(*one) for one in task["windows"]), task["dense"],
                )
            )  # fmt: skip
            again.set_weights(weights)
            np.savez(
                command[3], logits=again.predict(kept["held"], verbose=0), bits=[2.0, 4.0], sizes=[100, 300], used=1.2
            )

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    args = argparse.Namespace(stage1=1, stage2=1, hgq2="a python")
    trainer = benchmark.accuracy.Trainer(data, 0)
    ((name, row),) = benchmark.by_hgq2(3, args)(trainer, model, data).items()
    expected = benchmark.accuracy.score(benchmark.accuracy.keras_function(model), data, None)
    assert row["accuracy"] == expected["accuracy"] and row["area"] == expected["area"]
    assert (row["average"], row["flash"], row["used"]) == (3.5, 175.0, 1.2) and "3 bits" in name


def test_hgq2_moves_clips_as_the_others_do(rng) -> None:
    x = np.arange(1.0, 7.0)[None, :, None].repeat(40, 0)
    found = {tuple(one[:, 0]) for one in hgq2_peer.moved(x, rng, 2)}
    assert found == {
        (1, 2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 5), (0, 0, 1, 2, 3, 4), (2, 3, 4, 5, 6, 0), (3, 4, 5, 6, 0, 0)
    }  # fmt: skip
