"""Inference written as C, without an interpreter: the reference's bits here and on emulated Cortex-M boards."""

from __future__ import annotations

import pathlib

import export_graphs as eg
import kept
import numpy as np
import pytest
import stream_graphs
import waveform_graphs
from stream_graphs import Layer, Spec

from benchmarks import emulation
from tflite_export import ir
from tflite_export.c import inference as inference_writer
from tflite_export.packed import packing
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import run as reference
from tflite_export.streaming import graph as streaming
from tflite_export.streaming import memory_plan

STREAMS = (
    Spec((Layer("conv", 4, 3), Layer("conv", 3, 2, 2)), "mean", 3, channels=5, seed=1),
    Spec((Layer("conv", 3, 1, 2, True), Layer("skip", 4, 1, 1, True)), "rows", seed=2),
    Spec((Layer("taps", 3, 2), Layer("max", 2)), "flatten", 2, mel=3, seed=4),
)
RUNNER = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "arm" / "run_inference.c"


def build(core: emulation.Core, objects: list[pathlib.Path], folder: pathlib.Path) -> pathlib.Path:
    flags = (*kept.flags_of(core), f"-I{folder}")
    return emulation.build(core, [RUNNER, folder / "kws_inference.c"], folder, flags, kernel_objects=objects)


def run_everywhere(
    core: emulation.Core,
    objects: list[pathlib.Path],
    graph: ir.Graph,
    target: str,
    rng: np.random.Generator,
    folder: pathlib.Path,
    examples: int,
) -> None:
    """Builds, runs ``examples`` random examples and compares every output byte with the reference."""
    inference_writer.write_inference(tflite_writer.write(graph, target=target), folder)
    feeds = eg.feeds(rng, graph, examples)
    rows = [feeds[name][i].tobytes() for i in range(examples) for name in graph.inputs]
    (folder / "inputs.bin").write_bytes(b"".join(rows))
    program = build(core, objects, folder)
    assert emulation.run(core, program).startswith(f"examples {examples} arena ")
    expected = reference.run(graph, feeds)
    rows = [np.concatenate([expected[name][i].ravel() for name in graph.outputs]) for i in range(examples)]
    assert (folder / "outputs.bin").read_bytes() == b"".join(row.tobytes() for row in rows)


@pytest.mark.parametrize("target", packing.TARGETS)
@pytest.mark.parametrize("name", ["host", "cortex-m0plus", "cortex-m4", "cortex-m55"])
def test_equals_the_reference(
    name: str, target: str, require_tool, kernel_objects, rng: np.random.Generator, tmp_path: pathlib.Path
) -> None:
    core = emulation.CORES[name]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    examples = 100 if name == "host" else 15  # emulated boards take their time
    for number, graph in enumerate((eg.spotter(rng), eg.every_op(rng))):
        folder = tmp_path / str(number)
        folder.mkdir()
        run_everywhere(core, kernel_objects(core), graph, target, rng, folder, 10 if number else examples)


@pytest.mark.parametrize("name", ["host", "cortex-m3", "cortex-m55"])
def test_streams_keep_their_frames(name: str, require_tool, kernel_objects, tmp_path: pathlib.Path) -> None:
    """Rings and recurrent states in the arena: step by step, the reference's rows; a second program run begins anew."""
    core = emulation.CORES[name]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    graphs = [stream_graphs.make(spec, stream_graphs.clip_frames(spec), whole=True) for spec in STREAMS]
    m = eg.Maker(np.random.default_rng(0))
    x = m.recurrent(m.dense(m.input(9, 4), 6, 3, window=ir.Window((3, 1))), "gru", 5, 4)
    graphs.append(m.graph(m.recurrent(x, "lstm", 16, 4, sequences=False)))
    graphs.append(waveform_graphs.network(np.random.default_rng(1)))
    for number, graph in enumerate(graphs):
        folder = tmp_path / str(number)
        folder.mkdir()
        stream = streaming.to_stream(graph)
        data = tflite_writer.write(stream.graph, metadata=stream.schedule.to_metadata())
        inference_writer.write_inference(data, folder)
        (first,) = stream.graph.inputs
        x = eg.feeds(np.random.default_rng(number), stream.graph, 40)[first]
        (folder / "inputs.bin").write_bytes(x.tobytes())
        emulation.run(core, build(core, kernel_objects(core), folder))
        state: dict = {}
        rows = [reference.run(stream.graph, {first: hop[None]}, state=state)[stream.graph.outputs[0]] for hop in x]
        assert (folder / "outputs.bin").read_bytes() == b"".join(row.tobytes() for row in rows)
        assert f"STREAM_HOP {stream.schedule.hop}\n" in (folder / "kws_inference.h").read_text()


def test_nothing_that_is_needed_overlaps(rng: np.random.Generator) -> None:
    for _ in range(5):
        graph = eg.every_op(rng)
        plan = memory_plan.plan(graph)
        alive = set(graph.inputs)
        for number, op in enumerate(graph.ops):
            alive.add(op.output)
            later = {name for other in graph.ops[number:] for name in ir.op_inputs(other)} | set(graph.outputs)
            places = {}
            for name in alive & (later | {op.output}):
                home = plan.aliases.get(name, name)
                start = plan.offsets[home]
                places[home] = (start, start + graph.tensors[home].bytes)
                assert start % 16 == 0 and start + graph.tensors[home].bytes <= plan.size
            spans = sorted(places.values())
            assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:]))


def test_a_chain_takes_its_two_largest_neighbours(rng: np.random.Generator) -> None:
    m = eg.Maker(rng)
    x = m.input(64)
    for outputs in (256, 32, 128, 16):
        x = m.dense(x, outputs, 4)
    assert memory_plan.plan(m.graph(x)).size == 64 + 256


def test_refuses(rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    data = tflite_writer.write(eg.spotter(rng))
    with pytest.raises(ValueError, match="name must be a C identifier, found '4you'"):
        inference_writer.write_inference(data, tmp_path, "4you")
    with pytest.raises(ValueError):
        inference_writer.write_inference(data[:100], tmp_path)
    assert not list(tmp_path.iterdir())
