"""The Interpreter's own behaviour: inputs and outputs of every form, and clear errors."""

from __future__ import annotations

import builtins
import dataclasses

import export_graphs as eg
import numpy as np
import pytest

import tflite_export
from tflite_export import ir
from tflite_export.flatbuffer import model as flatbuffer_model
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import arithmetic
from tflite_export.reference import run as reference
from tflite_export.runtimes import interpreter, native
from tflite_export.runtimes.interpreter import Interpreter

MODULES = {"reference": "numpy", "tflite": "tensorflow", "litert": "ai_edge_litert", "tflm": "tflite_micro"}


@pytest.fixture(params=interpreter.RUNTIMES)
def runtime(request: pytest.FixtureRequest, require_module) -> str:
    require_module(MODULES[request.param])
    return request.param


@pytest.fixture
def one(rng: np.random.Generator) -> ir.Graph:
    return eg.dense(rng, (4, 6), 5, 4)


@pytest.fixture
def two(rng: np.random.Generator) -> ir.Graph:
    m = eg.Maker(rng)
    a, b = m.input(6), m.input(6)
    return m.graph(m.add(a, b), m.multiply(a, b))


def test_details(one: ir.Graph, runtime: str) -> None:
    runner = Interpreter(tflite_writer.write(one), runtime)
    for found, name in ((runner.inputs, "x0"), (runner.outputs, "y")):
        t = one.tensors[name]
        assert [dataclasses.astuple(d) for d in found] == [
            (name, t.shape, t.quantization.scale, t.quantization.zero_point, False, False)
        ]
        assert found[0].quantization == t.quantization


def test_int8_gives_int8_in_any_batch(one: ir.Graph, runtime: str, rng: np.random.Generator) -> None:
    runner = Interpreter(tflite_writer.write(one), runtime)
    for batch in (1, 3, 1, 7, 3, 0):
        values = eg.feeds(rng, one, batch)
        y = runner.run(values["x0"])
        assert y.dtype == np.int8 and y.shape == (batch, 4, 5)
        if batch:
            np.testing.assert_array_equal(y, reference.run(one, values)["y"])


def test_floats_go_through_the_scales(one: ir.Graph, runtime: str, rng: np.random.Generator) -> None:
    runner = Interpreter(tflite_writer.write(one), runtime)
    q = one.tensors["x0"].quantization
    x = (rng.normal(size=(3, 4, 6)) * 60 * q.scale).astype(np.float32)
    expected = reference.run(one, {"x0": arithmetic.quantize(x, q)})["y"]
    y = runner.run(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, arithmetic.dequantize(expected, one.tensors["y"].quantization))
    np.testing.assert_array_equal(runner.run(x.astype(np.float64)), y)
    np.testing.assert_array_equal(runner.run([x])[0], y)


def test_several_inputs_and_outputs(two: ir.Graph, runtime: str, rng: np.random.Generator) -> None:
    runner = Interpreter(tflite_writer.write(two), runtime)
    values = eg.feeds(rng, two, 2)
    expected = reference.run(two, values)
    by_name = runner.run(values)
    assert by_name.keys() == expected.keys()
    in_order = runner.run([values["in0"], values["in1"]])
    for (name, value), other in zip(expected.items(), in_order):
        np.testing.assert_array_equal(by_name[name], value)
        np.testing.assert_array_equal(other, value)
    swapped = runner.run({"in1": values["in0"], "in0": values["in1"]})
    assert not np.array_equal(swapped[two.outputs[0]], expected[two.outputs[0]])


def test_dict_of_one(one: ir.Graph, rng: np.random.Generator) -> None:
    values = eg.feeds(rng, one, 2)
    assert list(Interpreter(tflite_writer.write(one)).run(values)) == ["y"]


def test_reference_can_be_given_a_graph(one: ir.Graph, rng: np.random.Generator) -> None:
    values = eg.feeds(rng, one, 2)
    y = Interpreter(tflite_writer.write(one), graph=one).run(values["x0"])
    np.testing.assert_array_equal(y, reference.run(one, values)["y"])
    with pytest.raises(ValueError, match="only be given to runtime='reference'"):
        Interpreter(tflite_writer.write(one), "tflm", graph=one)


def test_threads(one: ir.Graph, require_module, rng: np.random.Generator) -> None:
    require_module("ai_edge_litert")
    values = eg.feeds(rng, one, 2)
    y = Interpreter(tflite_writer.write(one), "litert", threads=2).run(values["x0"])
    np.testing.assert_array_equal(y, reference.run(one, values)["y"])


def test_arena(one: ir.Graph, runtime: str) -> None:
    runner = Interpreter(tflite_writer.write(one), runtime)
    if runtime == "tflm":
        before = runner.arena_bytes()
        runner.run(np.zeros((1, 4, 6), np.int8))
        assert 0 < before == runner.arena_bytes() < 4096
    else:
        with pytest.raises(ValueError, match="only runtime='tflm' has an arena"):
            runner.arena_bytes()


def test_two_interpreters_at_once(runtime: str, rng: np.random.Generator) -> None:
    graphs = [eg.dense(rng, (n,), 4, 3) for n in (3, 8)]
    runners = [Interpreter(tflite_writer.write(g), runtime) for g in graphs]
    for _ in range(2):
        for graph, runner in zip(graphs, runners):
            values = eg.feeds(rng, graph, 2)
            np.testing.assert_array_equal(runner.run(values["x0"]), reference.run(graph, values)["y"])


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.zeros((2, 4, 7), np.int8), r"'x0' needs shape \[batch, 4, 6\], found \[2, 4, 7\]"),
        (np.zeros((4, 6), np.int8), "needs shape"),
        ({"other": np.zeros((1, 4, 6), np.int8)}, r"\['other'\] given, the model has \['x0'\]"),
        ([np.zeros((1, 4, 6), np.int8)] * 2, "2 inputs given, the model has 1"),
    ],
)
def test_wrong_inputs(one: ir.Graph, x: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Interpreter(tflite_writer.write(one)).run(x)


def test_mixed_inputs(two: ir.Graph) -> None:
    runner = Interpreter(tflite_writer.write(two))
    with pytest.raises(ValueError, match="either all inputs are int8 or none"):
        runner.run([np.zeros((1, 6), np.int8), np.zeros((1, 6), np.float32)])
    with pytest.raises(ValueError, match=r"different batch sizes: \[1, 2\]"):
        runner.run([np.zeros((1, 6), np.int8), np.zeros((2, 6), np.int8)])


@pytest.mark.parametrize("name", ["tflite", "litert", "tflm"])
def test_stock_model_that_cannot_be_resized(name: str, require_module, rng: np.random.Generator) -> None:
    """A reshape to a constant [1, 12] takes one sample at a time; there is nothing of ours in the file."""
    require_module(MODULES[name])
    b = flatbuffer_model.ModelBuilder("stock", "by hand")
    q = ir.Quantization(0.5, -3)
    x, y = b.add_activation("x", (3, 4), q), b.add_activation("y", (12,), q)
    options = flatbuffer_model.schema().ReshapeOptionsT()
    options.newShape = [1, 12]
    b.add_builtin("RESHAPE", [x, b.add_constant("s", np.array([1, 12], np.int32))], [y], options)
    data = b.finish({"x": x}, {"y": y})
    runner = Interpreter(data, name)
    for batch in (3, 1, 2):
        values = rng.integers(-128, 128, (batch, 3, 4)).astype(np.int8)
        np.testing.assert_array_equal(runner.run(values), values.reshape(batch, 12))
    with pytest.raises(flatbuffer_reader.FormatError, match="reshapes to"):
        Interpreter(data)


def test_unknown_runtime(one: ir.Graph) -> None:
    with pytest.raises(ValueError, match="one of reference, tflite, litert, tflm, found 'onnx'"):
        Interpreter(tflite_writer.write(one), "onnx")


@pytest.mark.parametrize(
    ("runtime", "module", "package"),
    [
        ("tflite", "tensorflow", "tensorflow"),
        ("litert", "ai_edge_litert", "ai-edge-litert"),
        ("tflm", "tflite_micro", "tflite-micro"),
    ],
)
def test_missing_runtime_names_its_package(
    one: ir.Graph, runtime: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.split(".")[0] == module:
            raise ImportError(f"No module named {module!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"pip install (--pre )?{package} "):
        Interpreter(tflite_writer.write(one), runtime)


def test_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(native.build_list, "PACKAGE", tmp_path)
    with pytest.raises(ImportError, match="python .*build_list.py"):
        native.library_path()


def test_package_surface() -> None:
    assert tflite_export.__all__ == ["Interpreter", "StreamInterpreter", "__version__", "convert", "write"]
    assert tflite_export.Interpreter is Interpreter
    assert tflite_export.StreamInterpreter.__name__ == "StreamInterpreter"
    with pytest.raises(ValueError, match="'packed' or 'builtin', found 'x'"):
        tflite_export.convert(None, "x")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tflite_export.nothing  # noqa: B018


def test_damaged_file() -> None:
    with pytest.raises(flatbuffer_reader.FormatError, match=r"no \.tflite file"):
        Interpreter(b"\0" * 64)
