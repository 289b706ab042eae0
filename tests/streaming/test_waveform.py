"""Streams of models that hear samples: the rows of the clip, whatever the chunks that the samples come in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import waveform_graphs

from tflite_export import Interpreter, StreamInterpreter, inspect, ir
from tflite_export.packed import writer as packed_writer
from tflite_export.reference import run as reference
from tflite_export.streaming import cost
from tflite_export.streaming import graph as streaming

MODULES = {"reference": "numpy", "tflite": "tensorflow", "litert": "ai_edge_litert", "tflm": "tflite_micro"}


@pytest.mark.parametrize("fields", [{}, {"taps": 40, "stride": 16, "average": 1}, {"taps": 5, "stride": 8}])
@pytest.mark.parametrize("runtime", MODULES)
def test_rows_are_those_of_the_clip(runtime: str, fields: dict, rng, require_module) -> None:
    require_module(MODULES[runtime])
    graph = streaming.without_mean(waveform_graphs.network(rng, 300, **fields))
    x = waveform_graphs.samples(rng, graph)
    clip = reference.run(graph, {"x": x})[graph.outputs[0]][0]
    inside = streaming.to_stream(graph)
    for stream in (inside, streaming.externalize(inside)):
        file = packed_writer.write(stream.graph, metadata=stream.schedule.to_metadata())
        running = StreamInterpreter(file, runtime)
        for cuts in ((7, 8, 100), (150,)):
            rows = np.concatenate([running.step(part) for part in np.split(x[0], cuts)])
            running.reset()
            assert len(clip) - 1 <= len(rows) <= len(clip)
            np.testing.assert_array_equal(rows, clip[: len(rows)])


def test_samples_may_be_real_values(rng) -> None:
    """Full scale is 1: what a sound file reader gives."""
    graph = waveform_graphs.network(rng)
    x = waveform_graphs.samples(rng, graph, 3)
    model = Interpreter(packed_writer.write(graph))
    exact, real = model.run(x), model.run(x.astype(np.float32) / 32768)
    np.testing.assert_array_equal(real, model.outputs[0].to_real(exact))
    assert exact.dtype == np.int8 and model.inputs[0].dtype == np.int16
    with pytest.raises(ValueError, match="input 'x' takes samples, int16 or real values, found int8"):
        model.run(x.astype(np.int8))
    stream = streaming.to_stream(graph)
    running = StreamInterpreter(packed_writer.write(stream.graph, metadata=stream.schedule.to_metadata()))
    with pytest.raises(ValueError, match="takes samples"):
        running.step(x[0].astype(np.int8))


def test_costs(rng) -> None:
    graph = waveform_graphs.network(rng, filters=5, taps=24, stride=4, average=3)
    stream = streaming.to_stream(graph)
    step = cost.of_graph(stream.graph)
    assert step.macs == 5 * 24 * 3 + 6 * 15 and stream.schedule.hop == 12
    table = inspect.inspect(packed_writer.write(stream.graph, metadata=stream.schedule.to_metadata()))
    assert table.macs == step.macs and table.layers[1].op == "Waveform" and table.layers[1].weight_bits == 4


def test_samples_in_rows_stream_in_rows(rng) -> None:
    """A clip of [frames, 20] samples takes frames of 20: the hop counts these."""
    sound = waveform_graphs.network(rng, 400, filters=4, taps=30, stride=10, average=1)
    graph = streaming.without_mean(sound)
    first = graph.ops[0]
    tensors = {**graph.tensors, "x": ir.Tensor("x", (20, 20), graph.tensors["x"].quantization, wide=True)}
    tensors["flat"] = dataclasses.replace(graph.tensors["x"], name="flat")
    moved = (ir.Reshape("flat", "x", "flat"), dataclasses.replace(first, input="flat"), *graph.ops[1:])
    in_rows = ir.Graph(tensors, moved, graph.inputs, graph.outputs, graph.name)
    x = waveform_graphs.samples(rng, graph)
    clip = reference.run(graph, {"x": x})[graph.outputs[0]][0]
    for stream in (streaming.to_stream(in_rows), streaming.externalize(streaming.to_stream(in_rows))):
        assert stream.schedule.hop == 1 and stream.graph.tensors["x"].shape == (1, 20)
        assert stream.schedule.clip.frames == 20 and stream.schedule.receptive == -(-(30 + 20) // 20)
        file = packed_writer.write(stream.graph, metadata=stream.schedule.to_metadata())
        running = StreamInterpreter(file)
        rows = np.concatenate([running.step(part) for part in np.split(x[0].reshape(20, 20), (3, 4))])
        assert len(clip) - 1 <= len(rows) <= len(clip)
        np.testing.assert_array_equal(rows, clip[: len(rows)])
