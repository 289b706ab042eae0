"""Inference written as C, without an interpreter: the reference's bits here and on emulated Cortex-M boards."""

from __future__ import annotations

import pathlib

import export_graphs as eg
import numpy as np
import pytest

from benchmarks import emulation
from tflite_export import inference_writer, ir, memory_plan, packing, reference, tflite_writer

RUNNER = pathlib.Path(__file__).resolve().parent / "arm" / "run_inference.c"


def spotter(rng: np.random.Generator, bits: int = 4) -> ir.Graph:
    """A small keyword spotter: windows over time, dense layers, softmax."""
    m = eg.Maker(rng)
    x = m.dense(m.input(49, 40), 32, bits, window=ir.Window((10, 1), (3, 1)))
    x = m.reshape(x, m.tensors[x].size)
    return m.graph(m.softmax(m.dense(m.dense(x, 64, bits), 9, bits)))


def run_everywhere(
    core: emulation.Core, graph: ir.Graph, target: str, rng: np.random.Generator, folder: pathlib.Path, examples: int
) -> None:
    """Builds, runs ``examples`` random examples and compares every output byte with the reference."""
    inference_writer.write_inference(tflite_writer.write(graph, target=target), folder)
    feeds = eg.feeds(rng, graph, examples)
    rows = [np.concatenate([feeds[name][i].ravel() for name in graph.inputs]) for i in range(examples)]
    (folder / "inputs.bin").write_bytes(b"".join(row.tobytes() for row in rows))
    flags = ["-O1", *emulation.SANITIZE] if core.name == "host" else ["-O2"]
    program = emulation.build(core, [RUNNER, folder / "kws_inference.c"], folder, [*flags, f"-I{folder}"])
    assert emulation.run(core, program).startswith(f"examples {examples} arena ")
    expected = reference.run(graph, feeds)
    rows = [np.concatenate([expected[name][i].ravel() for name in graph.outputs]) for i in range(examples)]
    assert (folder / "outputs.bin").read_bytes() == b"".join(row.tobytes() for row in rows)


@pytest.mark.parametrize("target", packing.TARGETS)
@pytest.mark.parametrize("name", ["host", "cortex-m0plus", "cortex-m4", "cortex-m55"])
def test_equals_the_reference(
    name: str, target: str, require_tool, rng: np.random.Generator, tmp_path: pathlib.Path
) -> None:
    core = emulation.CORES[name]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    for number, graph in enumerate((spotter(rng), eg.every_op(rng))):
        folder = tmp_path / str(number)
        folder.mkdir()
        run_everywhere(core, graph, target, rng, folder, 100 if number == 0 else 10)


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
                places[home] = (start, start + graph.tensors[home].size)
                assert start % 16 == 0 and start + graph.tensors[home].size <= plan.size
            spans = sorted(places.values())
            assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:]))


def test_a_chain_takes_its_two_largest_neighbours(rng: np.random.Generator) -> None:
    m = eg.Maker(rng)
    x = m.input(64)
    for outputs in (256, 32, 128, 16):
        x = m.dense(x, outputs, 4)
    assert memory_plan.plan(m.graph(x)).size == 64 + 256


def test_refuses(rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    data = tflite_writer.write(spotter(rng))
    with pytest.raises(ValueError, match="name must be a C identifier, found '4you'"):
        inference_writer.write_inference(data, tmp_path, "4you")
    with pytest.raises(ValueError):
        inference_writer.write_inference(data[:100], tmp_path)
    assert not list(tmp_path.iterdir())
