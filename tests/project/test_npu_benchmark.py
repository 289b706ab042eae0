"""What the tables of Ethos-U are made of: which grids, zeros that are zeros, and shares of the right row."""

from __future__ import annotations

import argparse
import json
import pathlib
import re

import numpy as np
import pytest

from benchmarks import npu as benchmark
from tflite_export import ir
from tflite_export.reference import run as reference

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_grids_are_those_that_int8_holds() -> None:
    assert [len(benchmark.grids(bits)) for bits in range(1, 9)] == [1, 2, 2, 2, 2, 2, 2, 1]
    assert benchmark.grids(1) == ("mid-rise",) and benchmark.grids(8) == ("mid-tread",)


@pytest.mark.slow
def test_zeros_are_the_smallest_levels_and_change_nothing_else(rng) -> None:
    graph, parameters = benchmark.fresh(6, 4, "mid-tread")
    share = 0.7
    pruned = benchmark.with_zeros(graph, share)
    assert parameters > 1000 and pruned.tensors == graph.tensors
    for before, after in zip(graph.ops, pruned.ops):
        if not isinstance(before, ir.PackedDense):
            assert before == after
            continue
        old, new = before.weights.levels, after.weights.levels
        assert (new == 0).mean() >= share and np.array_equal(old[new != 0], new[new != 0])
        assert np.abs(old[new != old]).max() <= np.abs(old[new != 0]).min()
    x = rng.integers(-128, 128, (4, *graph.tensors[graph.inputs[0]].shape)).astype(np.int8)
    assert len(np.unique(reference.run(pruned, {graph.inputs[0]: x})[graph.outputs[0]])) > 1


@pytest.mark.slow
def test_rows_of_a_spotter(require_package, monkeypatch) -> None:
    require_package("ethosu", "'tfmot-kws[npu]'")
    monkeypatch.setattr(benchmark, "ACCELERATORS", {"u55": "ethos-u55-128"})
    rows = benchmark.rows_of("small", 6, (8,), {8: (0.8,)})
    kinds = [("small, clip", None), ("small, stream", None), ("small, stream", 0.8)]
    assert [(row["model"], row["zeros"]) for row in rows] == kinds
    assert [row["of_8"] == 1.0 for row in rows] == [True, True, False]
    for row in rows:
        assert row["of_float"] == row["u55_flash"] / 4 / row["parameters"]
        stream = row["model"].endswith("stream")
        assert row["u55_second"] == (pytest.approx(row["u55_cycles"] / 0.12) if stream else None)
    assert rows[2]["of_8"] == rows[2]["u55_flash"] / rows[1]["u55_flash"] < 1


def test_accuracy_beside_memory() -> None:
    """Means over seeds; shares of float+ and of 8 bits."""

    def scores(accuracy: float, size: float, **more: float) -> dict:
        return {"accuracy": accuracy, "fdr5": 1.0, "fdr10": 1.0, "area": 2.0, "bytes": size, **more}

    runs = [
        {
            "float": scores(90, 4000), "float+": scores(91, 4000),
            "8 bits, mid-tread": scores(91 + seed, 1100, sram=7, second=10),
            "1 bit, mid-rise": scores(80, 200 + 20 * seed, sram=7, second=4 + seed),
        }
        for seed in range(2)
    ]  # fmt: skip
    rows = {row["method"]: row for row in benchmark.accuracy_rows(runs, [(8, "mid-tread"), (1, "mid-rise")])}
    assert [rows[name]["of_8"] for name in rows] == [
        pytest.approx(v) for v in (4000 / 1100, 4000 / 1100, 1, 210 / 1100)
    ]
    one = rows["1 bit, mid-rise"]
    assert (one["bytes"], one["of_float"], one["second"], one["sram"]) == (210, 210 / 4000, 4.5, 7)
    assert rows["8 bits, mid-tread"]["accuracy"] == 91.5 and rows["float"]["sram"] is None


@pytest.mark.slow
def test_a_method_runs_what_is_compiled(require_package, monkeypatch) -> None:
    """Without epochs: the file in TFLite, the stream on the NPU."""
    require_package("ethosu", "'tfmot-kws[npu]'")
    monkeypatch.setattr(benchmark.accuracy, "train_two_stages", lambda trainer, model, bits, args: calibrate(model))
    shape = (49, 40)
    x = np.random.default_rng(0).uniform(0, 26, (12, *shape)).astype(np.float32)

    def calibrate(model) -> None:
        benchmark.train.calibrate(model, x)

    seen = {}

    def score(function, held, size) -> dict:
        seen["outputs"], seen["bytes"] = function(held.x), size
        return {"bytes": size}

    monkeypatch.setattr(benchmark.accuracy, "score", score)
    model = benchmark.models.wakeword_250k(3, width=6)
    args = argparse.Namespace(accelerator="ethos-u55-128")
    (found,) = benchmark.trained(args, 4, "mid-tread")(None, model, argparse.Namespace(x=x)).items()
    assert found[0] == "4 bits, mid-tread" and found[1]["bytes"] == seen["bytes"] > 0
    assert found[1]["second"] > 0 and found[1]["sram"] > 0
    assert seen["outputs"].shape == (12, 3) and np.ptp(seen["outputs"]) > 0


def test_the_manual_says_what_was_measured() -> None:
    """Every number of bytes in the how-to is one of the table, and what it says of grids holds for each row."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "npu.json").read_text())["rows"]
    text = (ROOT / "docs" / "how-to" / "npu.md").read_text()
    section = text[text.index("## How many bits") : text.index("## What runs on the NPU")]
    named = {int(number.replace(",", "")) for number in re.findall(r"\d+,\d{3}", section)}
    assert named and named <= {row[f"{key}_flash"] for row in rows for key in benchmark.ACCELERATORS}
    flash = {
        (r["model"], r["bits"], r["grid"], r["zeros"], key): r[f"{key}_flash"] for r in rows for key in ("u55", "u85")
    }
    for (model, bits, grid, zeros, key), size in flash.items():
        if grid == "mid-rise" and bits > 1:
            tread = flash[model, bits, "mid-tread", zeros, key]
            assert tread <= size and (bits < 6 or tread < 0.94 * size)
    for model in ("250K, stream", "15K, stream"):
        assert flash[model, 1, "mid-rise", None, "u85"] >= flash[model, 2, "mid-tread", None, "u85"]
        for bits in (8, 4):
            assert flash[model, bits, "mid-tread", 0.5, "u55"] < 0.67 * flash[model, bits, "mid-tread", None, "u55"]
