"""Filters over samples: the reference against plain formulas, and every kernel against the reference."""

from __future__ import annotations

import dataclasses

import export_graphs as graphs
import numpy as np
import pytest
import waveform_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from tflite_export import ir
from tflite_export.reference import run as reference
from tflite_export.reference import waveform


def test_logarithm_is_within_two_steps(rng: np.random.Generator) -> None:
    x = np.unique(np.concatenate([np.arange(1, 1 << 16), rng.integers(1, 1 << 48, 50000), 1 << np.arange(48)]))
    found = waveform.log2(x)
    assert np.abs(found - 2.0**15 * np.log2(x)).max() < 2
    assert (np.diff(found) >= 0).all()
    assert (waveform.log2(1 << np.arange(48)) == np.arange(48) << 15).all()


def test_levels_are_those_of_the_formula(rng: np.random.Generator) -> None:
    op = waveform_graphs.op(rng, filters=4, taps=17, stride=5, average=3, bits=7, floor=100)
    x = rng.integers(-32768, 32768, (2, 90, 1)).astype(np.int16)
    found = waveform.levels(op, x)
    assert found.shape == (2, (90 - (17 + 10)) // 15 + 1, 4)
    for batch, frame, filter_ in np.ndindex(found.shape):
        total = 0
        for i in range(3):
            start = frame * 15 + i * 5
            products = op.weights.levels[filter_].astype(int) * x[batch, start : start + 17, 0].astype(int)
            total += abs(int(products.sum()))
        assert abs(found[batch, frame, filter_] - 2**15 * np.log2(1 + total / 100)) < 4


def test_silence_has_the_level_zero(rng: np.random.Generator) -> None:
    op = waveform_graphs.op(rng, floor=7)
    assert not waveform.levels(op, np.zeros((1, 80, 1), np.int16)).any()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("taps", [1, 15, 16, 33, 400])
def test_kernels_equal_the_reference(rng: np.random.Generator, bits: int, taps: int) -> None:
    for filters, stride, average in ((1, 3, 1), (8, 7, 4), (19, 16, 2)):
        op = waveform_graphs.op(rng, filters=filters, taps=taps, stride=stride, average=average, bits=bits)
        graph = waveform_graphs.graph(op, op.span + 2 * op.hop + 1, int(rng.choice([-128, 0])))
        found = graphs.check_kernels(graph, {"x": waveform_graphs.samples(rng, graph, 2)})
        assert found.shape == (2, 3, filters)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_kernels_equal_the_reference_anywhere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(1, 9))
    grid = "mid-rise" if bits == 1 or (bits < 8 and rng.integers(2)) else "mid-tread"
    op = waveform_graphs.op(
        rng, filters=int(rng.integers(1, 40)), taps=int(rng.integers(1, 90)), stride=int(rng.integers(1, 40)),
        average=int(rng.integers(1, 7)), bits=bits, grid=grid,
    )  # fmt: skip
    graph = waveform_graphs.graph(op, op.span + int(rng.integers(0, 3 * op.hop)), int(rng.choice([-128, 0])))
    graphs.check_kernels(graph, {"x": waveform_graphs.samples(rng, graph)})


def test_every_entry_of_the_table_to_the_last_bit() -> None:
    """One tap of level 1, a sample for each entry and one between, a filter whose bias leaves its last five bits."""
    sizes = np.concatenate([np.arange(64, 128) * 256, np.arange(64, 128) * 256 + 128])
    wanted = waveform.log2(sizes)
    assert (wanted[:64] == (14 << 15) + waveform.LOG_TABLE[:64]).all()
    weights = ir.Weights(np.full((128, 1), 3, np.uint8), 2, "mid-tread")
    bias = -(wanted // 32).astype(np.int16)
    rq = ir.Requantization(np.full(128, 2, np.int16), bias, 1, 6, 1)
    op = ir.Waveform("y", "x", "y", weights, rq, 1, 1, 1)
    graph = waveform_graphs.graph(op, 128, zero_point=0)
    found = graphs.check_kernels(graph, {"x": (sizes - 1).astype(np.int16)[None, :, None]})[0]
    np.testing.assert_array_equal(found.diagonal(), wanted % 32)


def test_outputs_use_their_range(rng: np.random.Generator) -> None:
    """The cases above would show little if all of their outputs lay at an end."""
    op = waveform_graphs.op(rng, filters=30)
    graph = waveform_graphs.graph(op, 4000)
    y = reference.run(graph, {"x": waveform_graphs.samples(rng, graph)})["y"]
    assert len(np.unique(y)) > 40


def test_loudest_sums_of_the_longest_filters_fit(rng: np.random.Generator) -> None:
    """512 taps of 127 at full scale: 2^31 less a little."""
    codes = np.full((2, 516), 255, np.uint8)
    codes[1] = 1
    op = waveform_graphs.op(rng, filters=2, taps=516, average=65535 // 516, stride=1, floor=1)
    op = dataclasses.replace(op, weights=ir.Weights(codes, 8, "mid-tread"))
    graph = waveform_graphs.graph(op, op.span)
    for value in (-32768, 32767):
        x = np.full((1, op.span, 1), value, np.int16)
        assert waveform.levels(op, x).min() > 37 << 15
        graphs.check_kernels(graph, {"x": x})
    with pytest.raises(ir.GraphError, match="32-bit sums could overflow"):
        dataclasses.replace(op, weights=ir.Weights(np.full((2, 517), 255, np.uint8), 8, "mid-tread"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 0}, "stride out of 1..65535"),
        ({"average": 0}, "average out of 1..65535"),
        ({"floor": 0}, "floor out of 1..2147483647"),
        ({"floor": 1 << 31}, "floor out of"),
        ({"stride": 300, "average": 300}, "hop out of 1..65535"),
    ],
)
def test_sizes_out_of_range_are_refused(rng: np.random.Generator, fields: dict, message: str) -> None:
    with pytest.raises(ir.GraphError, match=message):
        waveform_graphs.op(rng, **{"floor": 1, **fields})


def test_tensors_that_do_not_suit_are_refused(rng: np.random.Generator) -> None:
    op = waveform_graphs.op(rng)
    graph = waveform_graphs.graph(op, 80)
    narrow = {**graph.tensors, "x": dataclasses.replace(graph.tensors["x"], wide=False)}
    with pytest.raises(ir.GraphError, match=r"needs int16 \[samples, 1\]"):
        dataclasses.replace(graph, tensors=narrow)
    short = {**graph.tensors, "x": dataclasses.replace(graph.tensors["x"], shape=(op.span - 1, 1))}
    with pytest.raises(ir.GraphError, match="a frame spans"):
        dataclasses.replace(graph, tensors=short)
    with pytest.raises(ir.GraphError, match="int16 needs a quantization whose zero point is 0"):
        ir.Tensor("x", (3, 1), ir.Quantization(1.0, -128), wide=True)
    table = ir.Lookup("y", "x", "y", np.zeros(256, np.int8))
    with pytest.raises(ir.GraphError, match="works on int8 tensors"):
        ir.Graph({"x": graph.tensors["x"], "y": ir.Tensor("y", (80, 1), ir.Quantization(1.0, 0))}, (table,), "x", "y")
