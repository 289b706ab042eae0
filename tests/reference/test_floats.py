"""Graphs of dynamic quantization: the reference against its formula, all runtimes and forms against the reference."""

from __future__ import annotations

import dataclasses

import dynamic_graphs as dg
import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st

import tflite_export
from tflite_export import inspect as inspect_model
from tflite_export import ir
from tflite_export.packed import op_options, packing
from tflite_export.packed import reader as tflite_reader
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import float_arithmetic
from tflite_export.reference import run as reference
from tflite_export.runtimes import interpreter, stream_interpreter
from tflite_export.streaming import cost
from tflite_export.streaming import graph as streaming

NATIVE = ("tflite", "litert", "tflm")
MODULES = {"tflite": "tensorflow", "litert": "ai_edge_litert", "tflm": "tflite_micro"}
ANY_FLOATS = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32))


@pytest.fixture(params=NATIVE)
def runtime(request: pytest.FixtureRequest, require_module) -> str:
    require_module(MODULES[request.param])
    return request.param


def check(graph: ir.Graph, runtime: str, values: dict[str, np.ndarray]) -> None:
    """Asserts that a runtime and the file's own reference give the graph's values to the last bit."""
    data = tflite_writer.write(graph)
    expected = reference.run(graph, values)
    for name in ("reference", runtime):
        found = interpreter.Interpreter(data, name).run(values)
        for key, value in expected.items():
            assert found[key].dtype == np.float32
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name}, {key}")


# The definition


@hypothesis.settings(max_examples=300)
@hypothesis.given(ANY_FLOATS, st.sampled_from((*range(2, 9), 16)))
def test_rows_lie_within_half_a_step(x: np.ndarray, bits: int) -> None:
    rows = float_arithmetic.quantize_rows(x, bits)
    known = np.clip(np.where(np.isnan(x), np.inf, x), -(2.0**126), 2.0**126).astype(np.float64)
    assert 0 <= rows.codes.min() and rows.codes.max() < 1 << bits
    low, scale = float(rows.low[0]), float(rows.scale[0])
    if np.isnan(x).all():
        assert low == 0 and scale == 0 and not rows.codes.any()
        return
    assert low == known.min()
    back = low + scale * rows.codes
    real = ~np.isnan(x)
    # what float32 loses on the way: a few units of the last place of the row's largest value
    loss = 4 * 2.0**-23 * np.abs(known[real]).max()
    limit = max(0.5 * scale * (1 + 1e-3), 2.0**-99 if scale == 0 else 0)
    assert np.abs(back[real] - known[real]).max() <= limit + loss
    assert not rows.codes[~real].any()


def test_least_and_largest_value_are_exact() -> None:
    x = np.array([[-1.5, 0.25, 3.0], [7.0, 7.0, 7.0], [2.0, 9.0, 5.5]], np.float32)
    for bits in (*range(2, 9), 16):
        rows = float_arithmetic.quantize_rows(x, bits)
        np.testing.assert_array_equal(rows.codes[[0, 2], [0, 0]], 0)
        np.testing.assert_array_equal(rows.codes[[0, 2], [2, 1]], 2**bits - 1)
        np.testing.assert_array_equal(rows.scale[1], 0)


@pytest.mark.parametrize(("function", "exact"), [("sigmoid", lambda x: 1 / (1 + np.exp(-x))), ("tanh", np.tanh)])
def test_functions_are_within_two_units_of_float32(function: str, exact) -> None:
    x = np.concatenate([np.linspace(-20, 20, 100001), [0.0, 1e-30, -1e-30, 88, -88, 1e30, -1e30]]).astype(np.float32)
    found = float_arithmetic.activate(x, function)
    with np.errstate(over="ignore"):
        assert np.abs(found - exact(x.astype(np.float64))).max() < 2.4e-7
    np.testing.assert_array_equal(float_arithmetic.activate(-x, "tanh"), -float_arithmetic.activate(x, "tanh"))


@pytest.mark.parametrize(("bits", "grid"), dg.WIDTHS)
def test_dense_is_its_formula(bits: int, grid: str, rng: np.random.Generator) -> None:
    """In float64, from real weights and the quantized row."""
    op = dg.dense(rng, "x", "y", 7, 53, bits, None, grid)
    x = rng.normal(2, 1, (5, 53)).astype(np.float32)
    found = reference.run(dg.single(op, (53,)), {"x": x})["y"]
    rows = float_arithmetic.quantize_rows(x, op.input_bits)
    back = rows.low.astype(np.float64) + rows.scale.astype(np.float64) * rows.codes
    expected = back @ op.weights.levels.T * (op.gain * op.gain_unit) + op.bias * op.bias_unit
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


# The file


@pytest.mark.parametrize(("bits", "grid"), dg.WIDTHS)
@hypothesis.settings(max_examples=15)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 70))
def test_tight_packing(bits: int, grid: str, seed: int, outputs: int, inputs: int) -> None:
    codes = dg.weights(np.random.default_rng(seed), outputs, inputs, bits, grid).codes
    data = packing.pack_tight(codes, bits)
    assert len(data) == packing.tight_size(outputs, inputs, bits)
    np.testing.assert_array_equal(packing.unpack_tight(data, outputs, inputs, bits), codes)
    if bits <= 8 and inputs % packing.VECTOR == 0:  # then nothing is cut off
        assert data == packing.pack(
            ir.Weights(np.maximum(codes, grid == "mid-tread").astype(np.uint8), bits, "mid-rise")
        )
    with pytest.raises(packing.PackingError, match="bytes, found"):
        packing.unpack_tight(data + b"\0", outputs, inputs, bits)


@pytest.mark.parametrize(("bits", "grid"), dg.WIDTHS)
def test_file_gives_the_graph_back(bits: int, grid: str, rng: np.random.Generator) -> None:
    graph = dg.spotter(rng, bits, None, grid)
    found = tflite_reader.read(tflite_writer.write(graph))
    for op, other in zip(graph.ops, found.ops):
        assert type(op) is type(other)
        if isinstance(op, ir.DynamicDense):
            np.testing.assert_array_equal(op.weights.levels, other.weights.levels)
            np.testing.assert_array_equal(op.gain, other.gain)
            assert (op.bias is None) == (other.bias is None)
            same = ("gain_unit", "bias_unit", "function", "input_bits", "window")
            assert all(getattr(op, name) == getattr(other, name) for name in same)


def test_options_with_other_fields_are_refused(rng: np.random.Generator) -> None:
    op = dg.dense(rng, "x", "y", 7, 53)
    _, options = tflite_writer.dynamic_parameters(op)
    assert op_options.decode(op_options.encode(options)) == options
    data = bytearray(tflite_writer.write(dg.single(op, (53,))))
    place = data.index(op_options.encode(options))
    for offset, value, says in [
        (2, 0, "mode|damaged"),
        (13, 1, "bias_shift"),
        (54, 1, "8-bit weights"),
        (55, 9, "damaged"),
    ]:
        broken = data.copy()
        broken[place + offset] = value
        with pytest.raises(ValueError, match=says):
            tflite_reader.read(bytes(broken))


# Runtimes


@pytest.mark.tf221
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 16])
def test_spotter_in_every_runtime(bits: int, runtime: str, rng: np.random.Generator) -> None:
    for grid in [grid for width, grid in dg.WIDTHS if width == bits]:
        graph = dg.spotter(rng, bits, None, grid)
        check(graph, runtime, dg.feed(rng, graph, 3))


@pytest.mark.tf221
def test_everything_between_dense_layers(runtime: str, rng: np.random.Generator) -> None:
    graph = dg.between(rng)
    assert set(ir.FLOAT_OPS) == {type(op) for op in graph.ops if isinstance(op, ir.FLOAT_OPS)}
    check(graph, runtime, dg.feed(rng, graph, 3))


@pytest.mark.tf221
def test_what_is_no_number(runtime: str, rng: np.random.Generator) -> None:
    graph = dg.spotter(rng, 8, 8)
    x = dg.feed(rng, graph, 6)["x"]
    x[0, 3], x[1, 5, 2], x[2, 5, 2], x[3], x[4] = np.nan, np.inf, -np.inf, 0.0, np.nan
    check(graph, runtime, {"x": x})


@pytest.mark.parametrize("name", ["tflite", "litert"])
@pytest.mark.parametrize(("bits", "grid"), [(8, "linear"), (8, "mid-tread"), (4, "linear"), (3, "mid-rise")])
def test_stock_hybrid_kernels(bits: int, grid: str, name: str, require_module, rng: np.random.Generator) -> None:
    """They round rows in another way: apart by less than what either differs from the float product."""
    require_module(MODULES[name])
    op = dg.dense(
        rng, "x", "y", 9, 117, bits, 8, grid, True, "sigmoid", ir.Window((3, 1), (2, 1), (1, 1), (2, 0, 0, 0))
    )
    graph = dg.single(op, (20, 39))
    x = dg.feed(rng, graph, 4)
    expected = reference.run(graph, x)["y"]
    found = interpreter.Interpreter(tflite_export.write(graph, "builtin"), name).run(x)["y"]
    assert expected.std() > 0.1
    assert np.abs(found - expected).max() < 0.02


def test_stock_ops_between_dense_layers(require_module, rng: np.random.Generator) -> None:
    require_module("tensorflow")
    graph = dg.between(rng)
    x = dg.feed(rng, graph, 3)
    found = interpreter.Interpreter(tflite_export.write(graph, "builtin"), "tflite").run(x)
    for name, value in reference.run(graph, x).items():
        assert np.abs(found[name] - value).max() < 0.03 * max(1.0, np.abs(value).max()), name


@pytest.mark.parametrize(("bits", "input_bits"), [(16, 16), (4, 4), (8, 7)])
def test_stock_kernels_refuse_other_widths(bits: int, input_bits: int, rng: np.random.Generator) -> None:
    graph = dg.spotter(rng, bits, input_bits)
    with pytest.raises(ir.GraphError, match=r"linear_1: stock hybrid kernels take 8-bit inputs.*packed"):
        tflite_export.write(graph, "builtin")


def test_stock_kernels_refuse_what_they_multiply_wrongly(rng: np.random.Generator) -> None:
    op = dg.dense(rng, "x", "y", 3, 5)
    codes = op.weights.codes.copy()
    codes[1, 2] = 0
    graph = dg.single(dataclasses.replace(op, weights=dataclasses.replace(op.weights, codes=codes)), (5,))
    with pytest.raises(ir.GraphError, match="code 0, int8 -128"):
        tflite_export.write(graph, "builtin")
    tflite_writer.write(graph)


# Streams


@pytest.mark.parametrize("mode", ["internal", "external"])
def test_stream_is_the_clip(mode: str, runtime: str, rng: np.random.Generator) -> None:
    graph = dg.spotter(rng, 4, 4, mean=False)
    stream = streaming.to_stream(graph)
    stream = streaming.externalize(stream) if mode == "external" else stream
    data = tflite_export.write(stream.graph, "packed", "any", stream.schedule.to_metadata())
    x = dg.feed(rng, graph, 1)["x"]
    expected = reference.run(graph, {"x": x})["logits"][0]
    for name in ("reference", runtime):
        runner = stream_interpreter.StreamInterpreter(data, name)
        for _ in range(2):
            runner.reset()
            found = np.concatenate([runner.step(x[0, i : i + 7]) for i in range(0, 40, 7)])
            np.testing.assert_array_equal(found, expected, err_msg=name)


def test_stream_of_stock_ops(require_module, rng: np.random.Generator) -> None:
    require_module("tensorflow")
    graph = dg.spotter(rng, 8, 8, mean=False)
    stream = streaming.to_stream(graph)
    x = dg.feed(rng, graph, 1)["x"]
    data = tflite_export.write(stream.graph, "builtin", metadata=stream.schedule.to_metadata())
    found = stream_interpreter.StreamInterpreter(data, "tflite").step(x[0])
    clip = interpreter.Interpreter(tflite_export.write(graph, "builtin"), "tflite").run(x)[0]
    np.testing.assert_allclose(found, clip, rtol=0, atol=1e-5)


def test_cost_of_a_step(rng: np.random.Generator) -> None:
    stream = streaming.to_stream(dg.spotter(rng, 4, 4, mean=False))
    found = cost.of_graph(stream.graph)
    assert found.macs == 620 * 39 + 5 * 39 * 128 + 128 * 2
    assert found.moved == 4 * (31 * 20 + 20)  # floats
    summary = inspect_model.inspect(tflite_writer.write(stream.graph, metadata=stream.schedule.to_metadata()))
    assert summary.macs == found.macs and summary.layers[1].weight_bits == 4


# Bad graphs


def test_impossible_layers_are_refused(rng: np.random.Generator) -> None:
    op = dg.dense(rng, "x", "y", 3, 5)
    for change, says in [
        ({"input_bits": 16}, "8-bit weights with 16-bit inputs"),
        ({"input_bits": 1}, "1-bit inputs"),
        ({"gain": op.gain[:2]}, "gain must be int16"),
        ({"gain": op.gain.astype(np.int32)}, "gain must be int16"),
        ({"gain_unit": float("nan")}, "gain_unit must be"),
        ({"gain_unit": 0.1}, "must be a float32"),
        ({"function": "gelu"}, "unknown function"),
    ]:
        with pytest.raises(ir.GraphError, match=says):
            dataclasses.replace(op, **change)
    with pytest.raises(ir.GraphError, match="too many inputs"):
        dg.dense(rng, "x", "y", 1, 33_026)
    with pytest.raises(ir.GraphError, match="works on float32 tensors"):
        x = ir.Tensor("x", (5,), ir.Quantization(1.0, 0))
        ir.Graph({"x": x, "y": dg.floats("y", 3)}, (op,), ("x",), ("y",))
