"""Files for ESPHome's ``micro_wake_word``: its ops and no others, and the probability of a margin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import stream_graphs
from stream_graphs import Layer, Spec

from tflite_export import ir
from tflite_export.builtin import micro_wake_word
from tflite_export.flatbuffer import reader
from tflite_export.reference import run as reference
from tflite_export.runtimes.stream_interpreter import StreamInterpreter
from tflite_export.streaming import graph as streams
from tflite_export.streaming import micro_wake_word as stream_micro_wake_word


def clip(*layers: Layer, final: str = "flatten", joined: int = 2, seed: int = 1) -> ir.Graph:
    spec = Spec(layers, final, joined, channels=micro_wake_word.MEL_BINS, seed=seed)
    graph = stream_graphs.make(spec, stream_graphs.clip_frames(spec), whole=True)
    return dataclasses.replace(graph, ops=tuple(map(_unclipped, graph.ops)))


def _unclipped(op: ir.Op) -> ir.Op:
    """Random graphs clip anywhere; layers of models clip where a ReLU does, which is a fused function."""
    if not hasattr(op, "requantization"):
        return op
    wide = dataclasses.replace(op.requantization, activation_min=ir.INT8_MIN, activation_max=ir.INT8_MAX)
    return dataclasses.replace(op, requantization=wide)


CASES = {
    "conv": clip(Layer("conv", 3, 3), Layer("depthwise", 3)),
    "dilated": clip(Layer("conv", 2, 1, 2), final="mean"),
    "no stride": clip(Layer("depthwise", 4)),
    "rows": clip(Layer("conv", 3, 2), final="rows"),
}


@pytest.mark.parametrize("name", CASES)
def test_only_the_ops_that_esphome_registers(name: str) -> None:
    made = stream_micro_wake_word.from_graph(CASES[name], 1)
    model = reader.parse(made.flatbuffer)
    used = {op.name for part in (model, model.once) for op in part.operators}
    assert used <= micro_wake_word.OPS and len(micro_wake_word.OPS) == 20
    x, y = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    assert x.shape == (1, made.stride, 40) and y.shape == (1, 1) and y.type == 3
    assert (y.scales, y.zero_points) == ((np.float32(1 / 255),), (0,))


def logits_of(graph: ir.Graph) -> str:
    """The tensor ahead of a softmax, or the output."""
    last = graph.ops[-1]
    return last.input if isinstance(last, ir.Softmax) else graph.outputs[0]


def classes_of(name: str) -> int:
    graph = streams.to_stream(CASES[name]).graph
    return graph.tensors[logits_of(graph)].shape[-1]


EVERY_CLASS = [(name, keyword) for name in ("conv", "dilated", "rows") for keyword in range(classes_of(name))]


@pytest.mark.parametrize(("name", "keyword"), EVERY_CLASS)
def test_probability_is_the_sigmoid_of_the_margin(name: str, keyword: int, require_module, rng) -> None:
    """Against the stream before it was written, in floats: within what stock kernels round."""
    require_module("ai_edge_litert")
    stream = streams.to_stream(CASES[name])
    graph = stream.graph
    logits = logits_of(graph)
    made = stream_micro_wake_word.from_graph(CASES[name], keyword)
    x = rng.integers(-128, 128, (40 * made.stride, 40)).astype(np.int8)
    found = StreamInterpreter(made.flatbuffer, "litert").step(x)[:, 0].astype(float) / 256
    q = graph.tensors[logits].quantization
    q_in = graph.tensors[graph.inputs[0]].quantization
    real = micro_wake_word.FEATURES.scale * (x.astype(np.float32) + 128)
    fed = np.clip(np.floor(real / q_in.scale + 0.5) + q_in.zero_point, -128, 127).astype(np.int8)
    bare = ir.Graph(
        graph.tensors, tuple(op for op in graph.ops if not isinstance(op, ir.Softmax)), graph.inputs, (logits,)
    )
    state: dict = {}
    margins = []
    for step in np.split(fed, 40):
        values = reference.run(bare, {graph.inputs[0]: step[None]}, state=state)[logits]
        values = values.reshape(-1, classes_of(name))[-1]
        values = (values.astype(float) - q.zero_point) * q.scale
        margins.append(values[keyword] - np.delete(values, keyword).max())
    wanted = 1 / (1 + np.exp(-np.clip(margins, -8, 8)))
    assert np.abs(found - wanted).max() <= 0.25 * (1 / 16 + 4 * q.scale) + 1.5 / 256
    assert len(set(found)) > 3 and np.corrcoef(found, wanted)[0, 1] > 0.8


def test_what_esphome_lacks_is_named() -> None:
    with pytest.raises(ir.GraphError, match="micro_wake_word has not"):
        stream_micro_wake_word.from_graph(clip(Layer("lookup"), Layer("conv", 3)), 0)
    with pytest.raises(micro_wake_word.MicroWakeWordError, match="gives int8 .stride, 40."):
        spec = Spec((Layer("conv", 3),), "flatten", 2, channels=20)
        stream_micro_wake_word.from_graph(stream_graphs.make(spec, stream_graphs.clip_frames(spec), True), 0)
    with pytest.raises(micro_wake_word.MicroWakeWordError, match="no class 9"):
        stream_micro_wake_word.from_graph(CASES["conv"], 9)
    with pytest.raises(micro_wake_word.MicroWakeWordError, match="keeps 2\\d tensors .* at most 20"):
        stream_micro_wake_word.from_graph(clip(*[Layer("conv", 2)] * 21), 0)


def test_arena_is_enough(require_module) -> None:
    require_module("tflite_micro")
    for graph in CASES.values():
        made = stream_micro_wake_word.from_graph(graph, 0)
        runner = StreamInterpreter(made.flatbuffer, "tflm")
        assert runner._interpreter.arena_bytes() <= made.arena
