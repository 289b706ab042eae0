"""Models of dynamic quantization as C without an interpreter: the reference's floats here and on emulated boards."""

from __future__ import annotations

import pathlib

import dynamic_graphs as dg
import kept
import numpy as np
import pytest

from benchmarks import emulation
from tflite_export import ir
from tflite_export.c import inference as inference_writer
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import run as reference
from tflite_export.streaming import graph as streaming

RUNNER = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "arm" / "run_inference.c"
CORES = ("host", "cortex-m0plus", "cortex-m4", "cortex-m55")


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest, require_tool) -> emulation.Core:
    made = emulation.CORES[request.param]
    for tool in (made.compiler[0], *made.emulator[:1]):
        require_tool(tool)
    return made


def run_c(
    core: emulation.Core, objects: list[pathlib.Path], data: bytes, inputs: list[bytes], folder: pathlib.Path
) -> np.ndarray:
    """All outputs of the examples, one after another."""
    folder.mkdir()
    inference_writer.write_inference(data, folder)
    (folder / "inputs.bin").write_bytes(b"".join(inputs))
    flags = (*kept.flags_of(core), f"-I{folder}")
    sources = [RUNNER, folder / "kws_inference.c"]
    program = emulation.build(core, sources, folder, flags, kernel_objects=objects)
    emulation.run(core, program)
    return np.frombuffer((folder / "outputs.bin").read_bytes(), np.float32)


def test_clips(core: emulation.Core, kernel_objects, rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    hybrid = dg.spotter(rng, 4, 4, frames=33)
    for number, graph in enumerate((hybrid, dg.spotter(rng, 16, 16, frames=32), dg.between(rng))):
        feeds = dg.feed(rng, graph, 3)
        feeds["x"][1, 2] = np.nan
        found = run_c(
            core,
            kernel_objects(core),
            tflite_writer.write(graph),
            [x.tobytes() for x in feeds["x"]],
            tmp_path / str(number),
        )
        expected = reference.run(graph, feeds)
        rows = [np.concatenate([expected[name][i].ravel() for name in graph.outputs]) for i in range(3)]
        np.testing.assert_array_equal(found, np.concatenate(rows))


def test_streams(core: emulation.Core, kernel_objects, rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    """Rings keep floats, real zeros at first."""
    graph = dg.spotter(rng, 8, 8, frames=34, mean=False)
    stream = streaming.to_stream(graph)
    x = dg.feed(rng, graph, 1)["x"][0]
    data = tflite_writer.write(stream.graph, metadata=stream.schedule.to_metadata())
    found = run_c(core, kernel_objects(core), data, [frame.tobytes() for frame in x], tmp_path / "stream").reshape(
        -1, 2
    )
    np.testing.assert_array_equal(found[30:], reference.run(graph, {"x": x[None]})["logits"][0])
    assert any(isinstance(op, ir.Ring) for op in stream.graph.ops)


def test_header_says_what_is_float(rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    inference_writer.write_inference(tflite_writer.write(dg.spotter(rng, 4, 4)), tmp_path)
    header = (tmp_path / "kws_inference.h").read_text()
    assert "/* x: float [40, 20] */" in header and "#define KWS_INFERENCE_INPUT_0_BYTES 3200\n" in header
    assert "_SCALE" not in header and "ZERO_POINT" not in header
