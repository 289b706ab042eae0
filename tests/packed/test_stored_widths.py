"""Weights stored in more bits for speed: the same integers in every op, and where it pays."""

from __future__ import annotations

import json
import pathlib

import dynamic_graphs as dg
import export_graphs as eg
import numpy as np
import pytest
import recurrent_graphs as rg
import waveform_graphs as wg

import tflite_export
from tflite_export import ir
from tflite_export.packed import packing, stored_widths
from tflite_export.packed import reader as tflite_reader
from tflite_export.reference import run as reference

RESULTS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "results"
WIDTHS = [
    (bits, grid) for bits in range(1, 9) for grid in ("mid-rise", "mid-tread") if (bits, grid) != (1, "mid-tread")
]


@pytest.mark.parametrize(("bits", "grid"), WIDTHS)
def test_every_code_keeps_its_level(bits: int, grid: ir.Grid) -> None:
    codes = np.arange(grid == "mid-tread", 1 << bits, dtype=np.uint8).reshape(1, -1)
    weights = ir.Weights(codes, bits, grid)
    wide = stored_widths.widened(weights)
    assert wide.bits == {3: 4, 5: 8, 6: 8, 7: 8}.get(bits, bits)
    np.testing.assert_array_equal(wide.levels, weights.levels)


def _same(graph: ir.Graph, values: dict[str, np.ndarray], target: str = "any") -> None:
    """A file for speed has the same outputs by the kernels, and weights of the widths that it should have."""
    data = tflite_export.write(graph, target=target, prefer="speed")
    stored = tflite_reader.read(data)
    expected = reference.run(graph, values)
    found = reference.run(stored, values)
    ran = tflite_export.Interpreter(data).run(values)
    for name in graph.outputs:
        np.testing.assert_array_equal(found[name], expected[name], strict=True)
        np.testing.assert_array_equal(ran[name], expected[name], strict=True)
    for before, after in zip(graph.ops, stored.ops):
        for part in ("weights", "kernel", "recurrent"):
            if hasattr(getattr(before, part, None), "bits"):
                bits = getattr(before, part).bits
                assert getattr(after, part).bits == stored_widths.FASTER.get(bits, bits)


@pytest.mark.parametrize("target", packing.TARGETS)
@pytest.mark.parametrize(("bits", "grid"), WIDTHS)
def test_dense(bits: int, grid: ir.Grid, target: str, rng: np.random.Generator) -> None:
    for shape, window in (((33,), None), ((9, 5, 7), ir.Window((3, 2), (2, 1), padding=(1, 0, 1, 1)))):
        graph = eg.dense(rng, shape, 11, bits, grid, window)
        _same(graph, eg.feeds(rng, graph, 3), target)


@pytest.mark.parametrize("bits", range(1, 9))
def test_other_ops_with_weights(bits: int, rng: np.random.Generator) -> None:
    for cell in ir.CELLS:
        graph = rg.random_case(cell, bits).graph
        _same(graph, eg.feeds(rng, graph, 2))
    graph = wg.graph(wg.op(rng, bits=bits), 120)
    _same(graph, {"x": wg.samples(rng, graph, 2)})
    for grid in ("linear", "mid-rise"):
        graph = dg.single(dg.dense(rng, "x", "y", 9, 21, bits, 8, grid), (21,))
        _same(graph, dg.feed(rng, graph, 4))


def test_files_of_other_widths_are_what_they_were(rng: np.random.Generator) -> None:
    for bits in (1, 2, 4, 8):
        graph = eg.dense(rng, (20,), 9, bits)
        assert tflite_export.write(graph, prefer="speed") == tflite_export.write(graph, prefer="size")
    graph = eg.dense(rng, (64,), 64, 5)
    assert len(tflite_export.write(graph, prefer="speed")) == len(tflite_export.write(graph)) + 64 * 64 * 3 // 8


def test_what_cannot_be_stored_so(rng: np.random.Generator) -> None:
    graph = eg.dense(rng, (20,), 9, 5)
    with pytest.raises(ValueError, match="prefer must be 'size' or 'speed', found 'flash'"):
        tflite_export.write(graph, prefer="flash")
    with pytest.raises(ValueError, match="stock ops store every weight in 8 bits"):
        tflite_export.write(graph, ops="builtin", prefer="speed")
    with pytest.raises(ValueError, match="found 'flash'"):
        tflite_export.convert(None, prefer="flash")
    layer = dg.dense(rng, "x", "y", 1, 40000, 5, 8, "linear")
    with pytest.raises(ir.GraphError, match="too many inputs"):
        tflite_export.write(dg.single(layer, (40000,)), prefer="speed")


def test_it_pays() -> None:
    """What was counted of every kernel on every core, but for 6 bits on Cortex-A7."""
    rows = json.loads((RESULTS / "arm_kernels_256.json").read_text())["rows"]
    ours = [row for row in rows if row["kernel"].startswith("ours") and "b3" in row]
    assert {"x86-64", "cortex-a53", "cortex-a7", "cortex-m0plus", "cortex-m4", "cortex-m55"} <= {
        r["core"] for r in ours
    }
    worse = {
        (row["core"], bits)
        for row in ours
        for bits, stored in stored_widths.FASTER.items()
        if row[f"b{stored}"] > row[f"b{bits}"] * 1.001
    }
    assert worse == {("cortex-a7", 6)}
