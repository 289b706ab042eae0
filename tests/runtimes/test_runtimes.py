"""The same bits in every interpreter: reference == TFLite == LiteRT == TFLM, by op and by width."""

from __future__ import annotations

import export_graphs as eg
import numpy as np
import pytest

from tflite_export import ir
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import run as reference
from tflite_export.runtimes import interpreter

NATIVE = ("tflite", "litert", "tflm")
MODULES = {
    "tflite": "tensorflow.lite.python.interpreter",
    "litert": "ai_edge_litert.interpreter",
    "tflm": "tflite_micro.python.tflite_micro.runtime",
}
WIDTHS = [(bits, grid) for grid in ("mid-rise", "mid-tread") for bits in range(1 if grid == "mid-rise" else 2, 9)]


@pytest.fixture(params=NATIVE)
def runtime(request: pytest.FixtureRequest, require_module) -> str:
    require_module(MODULES[request.param])
    return request.param


def check(graph: ir.Graph, runtime: str, values: dict[str, np.ndarray]) -> None:
    """Asserts that a runtime and the file's own reference give the bits of the graph."""
    flatbuffer = tflite_writer.write(graph)
    expected = reference.run(graph, values)
    for name in ("reference", runtime):
        found = interpreter.Interpreter(flatbuffer, name).run(values)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].dtype == np.int8
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name}, {key}")


@pytest.mark.tf221
@pytest.mark.versions
@pytest.mark.parametrize("batch", [1, 5])
def test_every_op(runtime: str, batch: int) -> None:
    rng = np.random.default_rng(batch)
    graph = eg.every_op(rng)
    assert {type(op) for op in graph.ops} == set(ir.Op.__args__) - {ir.Ring, *ir.FLOAT_OPS}  # other tests have these
    check(graph, runtime, eg.feeds(rng, graph, batch))


@pytest.mark.tf221
@pytest.mark.versions
def test_every_width(runtime: str, rng: np.random.Generator) -> None:
    """One graph with a dense and a convolution of every width and grid."""
    m = eg.Maker(rng)
    x = m.input(9, 5)
    window = ir.Window((3, 1), (2, 1), (1, 1), (1, 1, 0, 0))
    outputs = [m.dense(x, 11, bits, grid) for bits, grid in WIDTHS]
    outputs += [m.dense(x, 10, bits, grid, window) for bits, grid in WIDTHS]
    graph = m.graph(*outputs)
    check(graph, runtime, eg.feeds(rng, graph, 3))


@pytest.mark.parametrize("inputs", [1, 4096])
def test_wide_and_narrow(runtime: str, inputs: int, rng: np.random.Generator) -> None:
    for outputs in (1, 17):
        graph = eg.dense(rng, (inputs,), outputs, 4)
        check(graph, runtime, eg.feeds(rng, graph, 2))


def test_random_chains(runtime: str, rng: np.random.Generator) -> None:
    for _ in range(6):
        m = eg.Maker(rng)
        x = m.input(int(rng.integers(8, 30)), int(rng.integers(1, 9)))
        for _ in range(int(rng.integers(1, 5))):
            time = m.tensors[x].shape[0]
            size = int(rng.integers(1, min(4, time) + 1))
            window = ir.Window((size, 1), (int(rng.integers(1, 3)), 1), padding=(int(rng.integers(0, 3)), 0, 0, 0))
            kind = rng.integers(0, 4)
            if kind == 0:
                x = m.dense(x, int(rng.integers(1, 20)), int(rng.integers(1, 9)), window=window)
            elif kind == 1:
                x = m.depthwise(x, int(rng.integers(1, 3)), window)
            elif kind == 2:
                x = m.average_pool(x, window)
            else:
                x = m.max_pool(x, window)
        graph = m.graph(x)
        check(graph, runtime, eg.feeds(rng, graph, 3))


@pytest.mark.parametrize("stride", [1, 3, -1, -2])
def test_slices(runtime: str, stride: int, rng: np.random.Generator) -> None:
    m = eg.Maker(rng)
    x = m.input(10, 3)
    ends = [(0, 10), (2, 9), (-4, 99)] if stride > 0 else [(9, -99), (8, 2), (-2, 0)]
    graph = m.graph(*[m.slice(x, begin, end, stride) for begin, end in ends])
    check(graph, runtime, eg.feeds(rng, graph, 2))


@pytest.mark.parametrize(
    "window",
    [
        ir.Window((2, 2), (2, 2)),
        ir.Window((3, 2), (2, 1), padding=(1, 1, 0, 1)),
        ir.Window((3, 3), (1, 1), padding=(2, 0, 0, 2)),
        ir.Window((2, 1), (1, 1), (3, 1)),
    ],
)
def test_max_pool_stock_or_own(runtime: str, window: ir.Window, rng: np.random.Generator) -> None:
    m = eg.Maker(rng)
    graph = m.graph(m.max_pool(m.input(9, 6, 4), window))
    check(graph, runtime, eg.feeds(rng, graph, 2))


def test_both_ends_of_activations(runtime: str, rng: np.random.Generator) -> None:
    """Every int8 value as an input of every op over one value."""
    m = eg.Maker(rng)
    x = m.input(256)
    graph = m.graph(m.lookup(x), m.depthwise(x), m.add(x, x), m.multiply(x, x), m.softmax(x))
    check(graph, runtime, {"in0": np.stack([eg.ALL_INT8, eg.ALL_INT8[::-1]])})


def test_tflm_arena_of_three_dense_layers(require_module, rng: np.random.Generator) -> None:
    """No op takes memory but its output: TFLM's own int8 layers need 8,128 bytes here."""
    require_module(MODULES["tflm"])
    m = eg.Maker(rng)
    x = m.input(256)
    for _ in range(3):
        x = m.dense(x, 256, 4)
    graph = m.graph(x)
    runner = interpreter.Interpreter(tflite_writer.write(graph), "tflm")
    values = eg.feeds(rng, graph, 1)
    np.testing.assert_array_equal(runner.run(values["in0"]), reference.run(graph, values)[x])
    assert 512 < runner.arena_bytes() <= 1840
