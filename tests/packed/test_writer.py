"""What the writer puts into a file, and that the reader gets the graph back."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys

import export_graphs as eg
import numpy as np
import pytest

import tflite_export
from tflite_export import ir
from tflite_export.flatbuffer import model as flatbuffer_model
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.packed import op_options, packing
from tflite_export.packed import reader as tflite_reader
from tflite_export.packed import writer as tflite_writer


def assert_same(a: ir.Graph, b: ir.Graph) -> None:
    """Equal but for the names of ops, which a file does not hold; slices may be spelled in another way."""
    assert (a.tensors, a.inputs, a.outputs, a.name) == (b.tensors, b.inputs, b.outputs, b.name)
    assert len(a.ops) == len(b.ops)
    for x, y in zip(a.ops, b.ops):
        if isinstance(x, ir.Slice):
            shape = a.tensors[x.input].shape
            assert x.places(shape) == y.places(shape) and x.axis == y.axis
            continue
        x, y = (dataclasses.asdict(dataclasses.replace(op, name="")) | {"type": type(op)} for op in (x, y))
        np.testing.assert_equal(x, y)


@pytest.mark.parametrize("seed", range(5))
def test_reader_gets_the_graph_back(seed: int) -> None:
    graph = eg.every_op(np.random.default_rng(seed))
    assert_same(graph, tflite_reader.read(tflite_writer.write(graph)))


def test_same_graph_same_bytes() -> None:
    files = {tflite_writer.write(eg.every_op(np.random.default_rng(3))) for _ in range(2)}
    assert len(files) == 1
    (data,) = files
    assert data == tflite_writer.write(tflite_reader.read(data))


def test_buffers_are_aligned(rng: np.random.Generator) -> None:
    for graph in (eg.every_op(rng), eg.dense(rng, (5,), 3, 3), eg.dense(rng, (1,), 1, 1)):
        data = tflite_writer.write(graph)
        assert len(data) % flatbuffer_model.ALIGNMENT == 0
        constants = [t for t in flatbuffer_reader.parse(data).tensors if t.data]
        assert len(constants) >= 2
        for t in constants:
            assert t.data_offset % flatbuffer_model.ALIGNMENT == 0
            assert data[t.data_offset : t.data_offset + len(t.data)] == t.data


def test_own_parser_and_schema_classes_agree(rng: np.random.Generator) -> None:
    data = tflite_writer.write(eg.every_op(rng))
    s = flatbuffer_model.schema()
    theirs = s.ModelT.InitFromObj(s.Model.GetRootAsModel(data, 0))
    ours = flatbuffer_reader.parse(data)
    graph = theirs.subgraphs[0]
    assert [t.name.decode() for t in graph.tensors] == [t.name for t in ours.tensors]
    assert [tuple(t.shape) for t in graph.tensors] == [t.shape for t in ours.tensors]
    assert [list(o.inputs) for o in graph.operators] == [list(o.inputs) for o in ours.operators]
    assert (tuple(graph.inputs), tuple(graph.outputs)) == (ours.inputs, ours.outputs)
    codes = {getattr(s.BuiltinOperator, name): name for name in vars(s.BuiltinOperator) if not name.startswith("_")}
    names = [codes[theirs.operatorCodes[o.opcodeIndex].builtinCode] for o in graph.operators]
    assert [o.name if not o.custom else "CUSTOM" for o in ours.operators] == names
    signature = theirs.signatureDefs[0]
    assert signature.signatureKey == b"serving_default"
    assert [m.name for m in signature.inputs] == [graph.tensors[i].name for i in graph.inputs]
    for i in graph.inputs:
        assert list(graph.tensors[i].shapeSignature) == [-1, *graph.tensors[i].shape[1:]]


def test_every_stock_name_is_the_schemas() -> None:
    builtin = flatbuffer_model.schema().BuiltinOperator
    for number, name in flatbuffer_reader.BUILTIN_NAMES.items():
        assert getattr(builtin, name) == number


def test_equal_constants_share_a_buffer(rng: np.random.Generator) -> None:
    m = eg.Maker(rng)
    x = m.input(64)
    op = eg.dense(rng, (64,), 64, 8).ops[0]
    ops = [dataclasses.replace(op, name=f"y{i}", input="in0", output=f"y{i}") for i in range(3)]
    tensors = {"in0": m.tensors[x], **{f"y{i}": ir.Tensor(f"y{i}", (64,), ir.Quantization(1.0, 0)) for i in range(3)}}
    graph = ir.Graph(tensors, tuple(ops), ("in0",), ("y0", "y1", "y2"))
    assert len(tflite_writer.write(graph)) < 2 * 64 * 64


@pytest.mark.parametrize(("bits", "share"), [(1, 0.05), (4, 0.145), (5, 0.175)])
def test_size_of_a_250k_model(bits: int, share: float, rng: np.random.Generator) -> None:
    m = eg.Maker(rng)
    x = m.input(98, 40)
    x = m.dense(x, 128, bits, window=ir.Window((10, 1), (10, 1)))
    x = m.reshape(x, 9 * 128)
    for outputs in (120, 160, 160, 96, 12):
        x = m.dense(x, outputs, bits)
    graph = m.graph(m.softmax(x))
    dense = [op for op in graph.ops if isinstance(op, ir.PackedDense)]
    weights = sum(op.weights.codes.size for op in dense)
    assert 240_000 < weights < 260_000
    data = tflite_writer.write(graph)
    assert len(data) <= share * 4 * weights
    packed = sum(packing.packed_size(*op.weights.codes.shape, bits) for op in dense)
    channels = sum(len(op.requantization.gain) for op in dense)
    assert len(data) - packed - 4 * channels < 6000


def test_channel_parameters_take_one_byte_where_they_fit() -> None:
    rq = ir.Requantization(np.array([1, -2], np.int16), np.array([300, -1], np.int16), 1, 0, 1)
    data, *widths = tflite_writer.channel_parameters(rq)
    assert (data.tobytes(), widths) == (bytes.fromhex("01 FE 2C 01 FF FF"), [1, 2, 0])
    data, *widths = tflite_writer.channel_parameters(rq, np.array([-3, 7]))  # the example of packed_kernels.h
    assert (data.tobytes(), widths) == (bytes.fromhex("01 FE 2C 01 FF FF FD FF 07 00"), [1, 2, 2])
    assert tflite_writer.channel_parameters(rq, np.array([-32769, 7]))[3] == 4
    edge = np.array([-128, 127], np.int16)
    assert tflite_writer.channel_parameters(ir.Requantization(edge, edge + 1, 1, 0, 1))[1:] == (1, 2, 0)


@pytest.mark.parametrize(
    ("window", "shape", "padding"),
    [
        (ir.Window((2, 2), (2, 2)), (9, 6, 4), "VALID"),
        (ir.Window((3, 2), (2, 1), padding=(1, 1, 0, 1)), (9, 6, 4), "SAME"),
        (ir.Window((3, 2), (2, 1), padding=(1, 1, 1, 0)), (9, 6, 4), None),
        (ir.Window((2, 2), dilation=(2, 1)), (9, 6, 4), None),
        (ir.Window((2, 1)), (9, 4), None),
    ],
)
def test_pool_padding(window: ir.Window, shape: tuple[int, ...], padding: str | None) -> None:
    assert tflite_writer.pool_padding(window, shape) == padding


def test_refuses(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="'packed' or 'builtin', found 'float'"):
        tflite_export.write(eg.dense(rng, (5,), 3, 3), "float")
    with pytest.raises(tflite_writer.WriteError, match="'x0': at most 5 axes"):
        tflite_writer.write(eg.single(rng, ir.Lookup("l", "x0", "y", eg.ALL_INT8), (1, 2, 1, 2, 1, 2)))


def test_writes_and_reads_without_importing_tensorflow() -> None:
    program = (
        "import sys, numpy as np\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import export_graphs as eg\n"
        "from tflite_export import Interpreter, write\n"
        "data = write(eg.dense(np.random.default_rng(0), (4,), 3, 5))\n"
        "Interpreter(data).run(np.zeros((1, 4), np.int8))\n"
        "print('tensorflow' in sys.modules)\n"
    )
    tests = pathlib.Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", program, str(tests / "helpers")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tests.parent)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize(("places", "layout"), [(1, 0), (3, 0), (4, 1), (9, 1)])
def test_pairs_of_rows_are_for_several_places(places: int, layout: int, rng: np.random.Generator) -> None:
    """A step of a stream has one place, for which dot products on the common layout take fewer instructions."""
    graph = eg.dense(rng, (places, 1, 24), 20, 4, window=ir.Window((1, 1)))
    (op,) = flatbuffer_reader.parse(tflite_writer.write(graph, "aarch64-i8mm")).operators
    assert op_options.decode(op.custom_options).layout == layout
