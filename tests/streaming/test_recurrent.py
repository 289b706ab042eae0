"""Streams of recurrent layers: the clip's numbers, with the state kept inside, given from outside, or reset."""

from __future__ import annotations

import dataclasses

import export_graphs as eg
import numpy as np
import pytest
import recurrent_graphs as rg

from tflite_export import StreamInterpreter, ir
from tflite_export.packed import writer as packed_writer
from tflite_export.reference import recurrent
from tflite_export.reference import run as reference
from tflite_export.streaming import cost
from tflite_export.streaming import graph as streaming

MODULES = {"reference": "numpy", "tflite": "tensorflow", "litert": "ai_edge_litert", "tflm": "tflite_micro"}
CONVOLUTIONS = {
    "valid": ir.Window((3, 1)),
    "causal": ir.Window((3, 1), padding=(2, 0, 0, 0)),
    "strides": ir.Window((5, 1), (3, 1)),
}


def spotter(rng: np.random.Generator, window: ir.Window, sequences: bool) -> ir.Graph:
    """A convolution and two recurrent layers."""
    m = eg.Maker(rng)
    x = m.dense(m.input(23, 4), 7, 3, window=window)
    return m.graph(m.recurrent(m.recurrent(x, "gru", 5, 4), "lstm", 6, 4, sequences))


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("window", CONVOLUTIONS)
@pytest.mark.parametrize("runtime", MODULES)
def test_rows_are_those_of_the_clip(runtime: str, window: str, sequences: bool, rng, require_module) -> None:
    require_module(MODULES[runtime])
    graph = spotter(rng, CONVOLUTIONS[window], sequences)
    x = eg.feeds(rng, graph, 1)["in0"]
    clip = reference.run(graph, {"in0": x})[graph.outputs[0]][0]
    inside = streaming.to_stream(graph)
    found = []
    for stream in (inside, streaming.externalize(inside)):
        file = packed_writer.write(stream.graph, metadata=stream.schedule.to_metadata())
        running = StreamInterpreter(file, runtime)
        for _ in range(2):
            rows = np.concatenate([running.step(x[0, :9]), running.step(x[0, 9:10]), running.step(x[0, 10:])])
            running.reset()
            found.append(rows)
    assert all(np.array_equal(rows, found[0]) for rows in found)
    if sequences:
        assert len(clip) - 1 <= len(found[0]) <= len(clip)
        np.testing.assert_array_equal(found[0], clip[: len(found[0])])
    else:  # a state after each hop
        assert len(found[0]) > 5 and len(np.unique(found[0], axis=0)) > 3
        seen = inside.schedule.hop * len(found[0]) + inside.schedule.receptive - inside.schedule.hop
        if seen == x.shape[1]:
            np.testing.assert_array_equal(found[0][-1], clip)
        else:
            assert window == "strides" and seen < x.shape[1]


def test_a_row_of_the_state_alone_is_the_clip_on_all_frames_so_far(rng) -> None:
    graph = spotter(rng, CONVOLUTIONS["valid"], False)
    x = eg.feeds(rng, graph, 1)["in0"]
    stream = streaming.to_stream(graph)
    running = StreamInterpreter(packed_writer.write(stream.graph, metadata=stream.schedule.to_metadata()))
    rows = running.step(x[0])
    for seen in (3, 11, 23):
        shorter = {name: dataclasses.replace(t, shape=(t.shape[0] - 23 + seen, *t.shape[1:])) if len(t.shape) > 1 else t
                   for name, t in graph.tensors.items()}  # fmt: skip
        clip = reference.run(dataclasses.replace(graph, tensors=shorter), {"in0": x[:, :seen]})
        np.testing.assert_array_equal(rows[seen - 3], clip[graph.outputs[0]][0])


@pytest.mark.parametrize("cell", ir.CELLS)
def test_every_kernel_keeps_the_state(cell: str) -> None:
    """Kernels called with a state: what comes out, and what is kept, is the reference's, skipped rows included."""
    case = rg.random_case(cell, 3, units=5, time=4, keeps=True, skip=6)
    graph, x, bits = case.graph, rg.values(case, 3), case.op.kernel.bits
    outside = dataclasses.replace(case.op, keeps=False, state="s")
    size = case.op.state_bytes
    y = case.graph.tensors["y"]
    tensors = {
        **graph.tensors,
        "s": ir.Tensor("s", (size,), y.quantization),
        "y": ir.Tensor("y", (4 * 5 + size,), y.quantization),
    }
    outer = ir.Graph(tensors, (outside,), ("x", "s"), ("y",))
    state: dict = {}
    bytes_before = np.zeros((1, size), np.int8)
    for row in x:
        expected = reference.run(graph, {"x": row[None]}, state=state)["y"]
        both = eg.check_kernels(outer, {"x": row[None], "s": bytes_before})
        np.testing.assert_array_equal(both[0, :20].reshape(expected.shape[1:]), expected[0])
        bytes_before = both[:, 20:].copy()
        np.testing.assert_array_equal(bytes_before, recurrent.to_bytes(state["y"]))
    assert bits == 3 and state["y"][2] == 6 and bytes_before[0, 0] == 6


def test_costs_and_refusals(rng) -> None:
    graph = spotter(rng, CONVOLUTIONS["causal"], True)
    stream = streaming.to_stream(graph)
    step, clip = cost.of_graph(stream.graph), cost.of_graph(graph)
    assert clip.macs == 23 * step.macs
    with pytest.raises(streaming.StreamError, match="streams already"):
        streaming.to_stream(stream.graph)
    m = eg.Maker(rng)
    padded = m.graph(m.recurrent(m.pad(m.input(9, 4), (2, 0), (0, 0)), "gru", 5, 4))
    with pytest.raises(streaming.StreamError, match="reads zeros that were put ahead of the first frame"):
        streaming.to_stream(padded)
