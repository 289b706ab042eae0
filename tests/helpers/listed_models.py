"""Every kind of model that C is written of, with what the reference makes of random inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import dynamic_graphs
import export_graphs as eg
import numpy as np
import stream_graphs
import waveform_graphs
from stream_graphs import Layer, Spec

from tflite_export import ir
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import run as reference
from tflite_export.streaming import graph as streaming

EXAMPLES = 3
HOPS = 12


@dataclasses.dataclass(frozen=True)
class Listed:
    """A model: its file, bytes of the inputs of all runs, and of all outputs by the reference."""

    data: bytes
    inputs: bytes
    outputs: bytes


def _clips(graph: ir.Graph, rng: np.random.Generator, target: str = "any") -> Listed:
    floats = graph.tensors[graph.inputs[0]].quantization is None
    feeds = (dynamic_graphs if floats else eg).__dict__["feed" if floats else "feeds"](rng, graph, EXAMPLES)
    expected = reference.run(graph, feeds)
    inputs = [feeds[name][i].tobytes() for i in range(EXAMPLES) for name in graph.inputs]
    outputs = [expected[name][i].tobytes() for i in range(EXAMPLES) for name in graph.outputs]
    return Listed(tflite_writer.write(graph, target=target), b"".join(inputs), b"".join(outputs))


def _stream(graph: ir.Graph, rng: np.random.Generator) -> Listed:
    stream = streaming.to_stream(graph)
    (first,) = stream.graph.inputs
    shape, floats = stream.graph.tensors[first].shape, stream.graph.tensors[first].quantization is None
    x = rng.normal(size=(HOPS, *shape)).astype(np.float32) if floats else eg.feeds(rng, stream.graph, HOPS)[first]
    state: dict = {}
    rows = [reference.run(stream.graph, {first: hop[None]}, state=state)[stream.graph.outputs[0]] for hop in x]
    data = tflite_writer.write(stream.graph, metadata=stream.schedule.to_metadata())
    return Listed(data, x.tobytes(), b"".join(row.tobytes() for row in rows))


def _one(make: Callable[[eg.Maker], str]) -> Callable[[np.random.Generator], Listed]:
    """A model of an op or two."""

    def run(rng: np.random.Generator) -> Listed:
        m = eg.Maker(rng)
        return _clips(m.graph(make(m)), rng)

    return run


def _recurrent(cell: str, bits: int, target: str = "any") -> Callable[[np.random.Generator], Listed]:
    def run(rng: np.random.Generator) -> Listed:
        m = eg.Maker(rng)
        return _clips(m.graph(m.recurrent(m.input(7, 12), cell, 16, bits, sequences=bits % 2 > 0)), rng, target)

    return run


def _of_spec(spec: Spec) -> Callable[[np.random.Generator], Listed]:
    return lambda rng: _stream(stream_graphs.make(spec, stream_graphs.clip_frames(spec), whole=True), rng)


def _dynamic_one(op: ir.Op, *shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Listed]:
    return lambda rng: _clips(dynamic_graphs.single(op, *shapes), rng)


_WINDOW = ir.Window((3, 1), padding=(1, 1, 0, 0))
_SPLIT = np.random.default_rng(5)

MODELS: dict[str, Callable[[np.random.Generator], Listed]] = {
    "dense": _one(lambda m: m.dense(m.input(5, 40), 19, 4)),
    "dense 3 and 8 bits": _one(lambda m: m.dense(m.dense(m.input(21), 30, 3), 9, 8)),
    "convolution": _one(lambda m: m.dense(m.input(12, 5), 9, 2, window=_WINDOW)),
    "long rows": lambda rng: _clips(_long(rng), rng, "cortex-m4"),
    "spotter": lambda rng: _clips(eg.spotter(rng), rng),
    "spotter for cortex-m4": lambda rng: _clips(eg.spotter(rng), rng, "cortex-m4"),
    "spotter for aarch64-i8mm": lambda rng: _clips(eg.spotter(rng, 5), rng, "aarch64-i8mm"),
    "spotter for cortex-a53": lambda rng: _clips(eg.spotter(rng, 1), rng, "cortex-a53"),
    "every op": lambda rng: _clips(eg.every_op(rng), rng),
    "depthwise": _one(lambda m: m.depthwise(m.input(9, 20), 1, _WINDOW)),
    "depthwise without a window": _one(lambda m: m.depthwise(m.input(9, 20))),
    "depthwise of two outputs": _one(lambda m: m.depthwise(m.input(9, 6), 2, _WINDOW)),
    "lookup": _one(lambda m: m.lookup(m.input(40))),
    "softmax": _one(lambda m: m.softmax(m.input(3, 12))),
    "add": _one(lambda m: m.add(m.input(5, 6), m.input(5, 6))),
    "multiply": _one(lambda m: m.multiply(m.input(5, 6), m.input(5, 6))),
    "average": _one(lambda m: m.average_pool(m.input(9, 6), ir.Window((4, 1), (2, 1)))),
    "maximum": _one(lambda m: m.max_pool(m.input(9, 6), ir.Window((4, 1), (2, 1)))),
    "copies": _one(lambda m: m.transpose(m.input(9, 6), 1, 0)),
    "LSTM": _recurrent("lstm", 4),
    "GRU": _recurrent("gru", 5, "cortex-m4"),
    "GRU, reset after": _recurrent("gru_reset_after", 8),
    "simple recurrent": _recurrent("simple", 1),
    "waveform": _one(lambda m: m.waveform(m.sound(130), filters=7, taps=33, stride=5, average=2, bits=3)),
    "stream of convolutions": _of_spec(
        Spec((Layer("conv", 4, 3), Layer("conv", 3, 2, 2)), "mean", 3, channels=5, seed=1)
    ),
    "stream with a sum": _of_spec(
        Spec((Layer("conv", 3, 1, 2, True), Layer("skip", 4, 1, 1, True)), "rows", seed=2)
    ),
    "stream of low rank": _of_spec(Spec((Layer("taps", 3, 2), Layer("max", 2)), "flatten", 2, mel=3, seed=4)),
    "stream of samples": lambda rng: _stream(waveform_graphs.network(rng), rng),
    "dynamic": lambda rng: _clips(dynamic_graphs.spotter(rng, 4, 4, frames=33), rng),
    "dynamic, 16 bits": lambda rng: _clips(dynamic_graphs.spotter(rng, 16, 16, frames=32), rng),
    "dynamic, every op": lambda rng: _clips(dynamic_graphs.between(rng), rng),
    "dynamic stream": lambda rng: _stream(dynamic_graphs.spotter(rng, 8, 8, frames=34, mean=False), rng),
    **{
        f"floats: {function}": _dynamic_one(ir.FloatFunction("y", "x", "y", function), (3, 7))
        for function in ("relu", "relu6", "sigmoid", "tanh")
    },
    "floats: softmax": _dynamic_one(ir.FloatSoftmax("y", "x", "y"), (3, 7)),
    "floats: add": _dynamic_one(ir.FloatAdd("y", ("a", "b"), "y", "relu"), (3, 7), (3, 7)),
    "floats: multiply": _dynamic_one(ir.FloatMultiply("y", ("a", "b"), "y"), (3, 7), (3, 7)),
    "floats: average": _dynamic_one(ir.FloatAverage("y", "x", "y", ir.Window((3, 1))), (3, 7)),
    "floats: maximum": _dynamic_one(ir.MaxPool("y", "x", "y", ir.Window((3, 1))), (3, 7)),
    "floats: depthwise": _dynamic_one(
        ir.FloatDepthwise(
            "y", "x", "y", _SPLIT.normal(size=(3, 7)).astype(np.float32),
            _SPLIT.normal(size=7).astype(np.float32), "relu", _WINDOW,
        ),
        (5, 7),
    ),
}  # fmt: skip


def _long(rng: np.random.Generator) -> ir.Graph:
    """More inputs than kernels for the DSP extension take."""
    m = eg.Maker(rng)
    return m.graph(m.dense(m.input((1 << 16) + 16), 2, 1))
