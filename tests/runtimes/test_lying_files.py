"""Files that lie about what they do not hold in one op alone: outputs, states, names, spare bits, stock ops, memory."""

from __future__ import annotations

import os
import pathlib
import re
import threading
from collections.abc import Callable
from typing import Any

import export_graphs as eg
import numpy as np
import pytest
from fuzz import files as mutated

from benchmarks import builtin_rounding
from tflite_export import inspect as inspect_file
from tflite_export import ir
from tflite_export.builtin import checks
from tflite_export.builtin import writer as builtin_writer
from tflite_export.flatbuffer import model as flatbuffer_model
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.flatbuffer.reader import FormatError
from tflite_export.packed import reader as packed_reader
from tflite_export.packed import writer as packed_writer
from tflite_export.runtimes import interpreter, native
from tflite_export.runtimes.interpreter import Interpreter


def edited(data: bytes, change: Callable[[Any, Any], object]) -> bytes:
    """The file after ``change(model, main subgraph)`` of the schema's objects."""
    import flatbuffers

    schema = flatbuffer_model.schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    change(model, model.subgraphs[0])
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def ring(rng: np.random.Generator, count: int = 1) -> bytes:
    m = eg.Maker(rng)
    x = m.input(1, 6)
    return packed_writer.write(m.graph(*(m.ring(x, 2) for _ in range(count))))


@pytest.mark.parametrize("runtime", ["tflite", "litert", "tflm"])
def test_what_is_written_to_is_no_constant(runtime: str, rng: np.random.Generator, require_module) -> None:
    """Refused when the node is prepared: the interpreters would write into the caller's bytes, or die."""
    require_module({"tflite": "tensorflow", "litert": "ai_edge_litert", "tflm": "tflite_micro"}[runtime])

    def fill(model: Any, tensor: Any, size: int) -> None:
        buffer = flatbuffer_model.schema().BufferT()
        buffer.data = np.zeros(size, np.uint8)
        model.buffers.append(buffer)
        tensor.buffer, tensor.isVariable = len(model.buffers) - 1, False

    dense = edited(
        packed_writer.write(eg.dense(rng, (6,), 5, 4)), lambda m, g: fill(m, g.tensors[g.operators[0].outputs[0]], 5)
    )
    state = edited(ring(rng), lambda m, g: fill(m, g.tensors[g.operators[0].inputs[1]], 2 + 2 * 6))
    for file, says in ((dense, "the output is a constant"), (state, "the state is no variable")):
        before = bytes(bytearray(file))
        with pytest.raises(FormatError):
            Interpreter(file, runtime)
        if runtime == "tflm":
            tflm = require_module("tflite_micro.python.tflite_micro.runtime")
            native.load()
            with interpreter._captured_stderr() as said, pytest.raises(RuntimeError):
                tflm.Interpreter.from_bytes(file, custom_op_registerers=[native.REGISTERER], arena_size=1 << 16)
            assert says in said[0]
        else:
            with pytest.raises((RuntimeError, ValueError), match=says if runtime == "tflite" else None):
                interpreter._TfLite(file, runtime, 1, True, False)
        assert file == before


def test_two_rings_with_one_state(rng: np.random.Generator) -> None:
    def share(model: Any, graph: Any) -> None:
        graph.operators[1].inputs = graph.operators[0].inputs

    file = edited(ring(rng, 2), share)
    with pytest.raises(FormatError, match="two ops keep their frames in the same variable"):
        packed_reader.read(file)
    with pytest.raises((RuntimeError, ValueError), match="two ops keep their state in the same variable"):
        interpreter._TfLite(file, "tflite", 1, True, False)


@pytest.mark.parametrize("target", ["any", "aarch64-i8mm", "cortex-m4", "cortex-a53"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_spare_bits_of_weights(bits: int, target: str, rng: np.random.Generator) -> None:
    """Whatever byte is changed: either a weight changes, or the file is refused."""
    graph = eg.dense(rng, (21,), 9, bits)
    file = packed_writer.write(graph, target=target)
    weights = next(t for t in flatbuffer_reader.parse(file).tensors if t.data is not None and t.type == 3)
    spare = 0
    for at in range(0, len(weights.data), 5):
        changed = bytearray(file)
        changed[weights.data_offset + at] ^= 1 << at % 8
        try:
            found = packed_reader.read(bytes(changed))
        except ValueError as error:
            # or a weight changed, and the sums or the range of codes tell
            assert re.search("spare bit|sums of weights|codes must lie", str(error)), error
            spare += "spare bit" in str(error)
        else:
            assert (found.ops[0].weights.codes != graph.ops[0].weights.codes).any()
    assert spare > 0  # 9 rows and 21 inputs fill no block


def test_a_renamed_state_of_a_stream(rng: np.random.Generator) -> None:
    from tflite_export.streaming import schedule as stream_schedule

    m = eg.Maker(rng)
    graph = m.graph(m.max_pool(m.input(3, 6), ir.Window((3, 1))))
    clip = stream_schedule.Clip(30, 1000, 100)
    plan = stream_schedule.Schedule(
        1, 0, (stream_schedule.Rows(1, 0, True),), clip, ((graph.inputs[0], graph.outputs[0]),)
    )
    good = packed_writer.write(graph, metadata=plan.to_metadata())
    bad = packed_writer.write(
        graph, metadata={stream_schedule.METADATA: plan.to_metadata()[stream_schedule.METADATA].replace(b"in0", b"nix")}
    )
    assert bad != good
    with pytest.raises(FormatError, match=r"states \['nix'\] are no inputs or outputs"):
        inspect_file.inspect(bad)


def test_options_are_read_in_full(rng: np.random.Generator) -> None:
    """Fields that our own files leave at zero, and options of another op."""
    m = eg.Maker(rng)
    x = m.input(8, 6)
    file = packed_writer.write(m.graph(m.concatenate(0, m.slice(x, 0, 4, 2), m.slice(x, 1, 4, 1))))
    packed_reader.read(file)

    def offset(model: Any, graph: Any) -> None:
        graph.operators[0].builtinOptions.offset = True

    def fused(model: Any, graph: Any) -> None:
        graph.operators[2].builtinOptions.fusedActivationFunction = 1

    def other(model: Any, graph: Any) -> None:
        graph.operators[0].builtinOptions = graph.operators[2].builtinOptions
        graph.operators[0].builtinOptionsType = graph.operators[2].builtinOptionsType

    for change, says in (
        (offset, "strided slice of other than"),
        (fused, "options that packed"),
        (other, "type 10, should"),
    ):
        with pytest.raises(FormatError, match=says):
            packed_reader.read(edited(file, change))


def test_memory_has_a_bound(rng: np.random.Generator) -> None:
    m = eg.Maker(rng)
    file = packed_writer.write(m.graph(m.lookup(m.input(1 << 14, 1 << 14))))
    with pytest.raises(FormatError, match="activations take 536,870,912 bytes"):
        flatbuffer_reader.parse(file)


def test_scales_are_normal_numbers(rng: np.random.Generator) -> None:
    """XNNPACK makes no operator of a subnormal scale, and TFLite ends by a signal."""

    def subnormal(model: Any, graph: Any) -> None:
        graph.tensors[graph.outputs[0]].quantization.scale = np.array([1e-40], np.float32)

    with pytest.raises(FormatError, match="no normal number"):
        flatbuffer_reader.parse(edited(stock(next(iter(builtin_rounding.CASES)), rng), subnormal))


def stock(name: str, rng: np.random.Generator) -> bytes:
    return builtin_writer.write(builtin_rounding.CASES[name][1](rng), int4="INT4" in name)


@pytest.mark.parametrize("name", builtin_rounding.CASES)
def test_stock_files_of_ours_are_checked_and_taken(name: str, rng: np.random.Generator) -> None:
    model = flatbuffer_reader.parse(stock(name, rng))
    checks.check(model)
    assert all(op.known and op.name in checks._RULES for op in model.operators)


def shapes_lie(model: Any, graph: Any) -> None:
    tensor = graph.tensors[graph.operators[-1].outputs[0]]
    tensor.shape = np.array([*tensor.shape[:-1], tensor.shape[-1] + 1], np.int32)
    tensor.shapeSignature = None


def types_lie(model: Any, graph: Any) -> None:
    graph.tensors[graph.operators[-1].outputs[0]].type = 2


def inputs_lack(model: Any, graph: Any) -> None:
    graph.operators[-1].inputs = np.array([-1, *graph.operators[-1].inputs[1:]], np.int32)


def scales_lack(model: Any, graph: Any) -> None:
    graph.tensors[graph.operators[-1].outputs[0]].quantization = None


@pytest.mark.parametrize("change", [shapes_lie, types_lie, inputs_lack, scales_lack])
@pytest.mark.parametrize("name", builtin_rounding.CASES)
def test_lies_of_stock_ops(name: str, change: Callable, rng: np.random.Generator) -> None:
    """Every op that we write checks the shape, the type and the scale of its output, and that its inputs are there."""
    file = edited(stock(name, rng), change)
    with pytest.raises(FormatError, match="operator "):
        checks.check(flatbuffer_reader.parse(file))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("depthMultiplier", 2, "channels times 2 are not"),
        ("strideW", 0, "stride 0"),
        ("dilationHFactor", 0, "dilation 0"),
        ("fusedActivationFunction", 9, "fused function 9"),
        ("padding", 7, "padding 7"),
    ],
)
def test_options_of_a_stock_convolution(field: str, value: int, says: str, rng: np.random.Generator) -> None:
    def change(model: Any, graph: Any) -> None:
        names = flatbuffer_model.schema().BuiltinOptions
        (op,) = (op for op in graph.operators if op.builtinOptionsType == names.DepthwiseConv2DOptions)
        setattr(op.builtinOptions, field, value)

    name = next(name for name in builtin_rounding.CASES if "depthwise" in name.lower())
    with pytest.raises(FormatError, match=says):
        checks.check(flatbuffer_reader.parse(edited(stock(name, rng), change)))


@pytest.mark.parametrize("beta", [-1.0, 0.0, 1e-9, float("nan"), float("inf")])
def test_a_softmax_needs_a_slope(beta: float, rng: np.random.Generator) -> None:
    """Without one the stock interpreters end the process: they make a multiplier of it that must be above 1."""

    def change(model: Any, graph: Any) -> None:
        op = next(op for op in graph.operators if hasattr(op.builtinOptions, "beta"))
        op.builtinOptions.beta = beta

    file = builtin_writer.write(builtin_rounding.softmax(rng))
    with pytest.raises(FormatError, match="too small|not finite"):
        Interpreter(edited(file, change), "tflite")
    Interpreter(edited(file, lambda model, graph: None), "tflite")


@pytest.mark.parametrize("inputs", [slice(0, 2), slice(0, 3)], ids=["left out", "-1"])
def test_a_depthwise_convolution_needs_its_bias(inputs: slice, rng: np.random.Generator) -> None:
    def change(model: Any, graph: Any) -> None:
        names = flatbuffer_model.schema().BuiltinOptions
        (op,) = (op for op in graph.operators if op.builtinOptionsType == names.DepthwiseConv2DOptions)
        op.inputs = [*op.inputs[:2], -1][inputs]

    name = next(name for name in builtin_rounding.CASES if "depthwise" in name.lower())
    with pytest.raises(FormatError, match="has no bias"):
        checks.check(flatbuffer_reader.parse(edited(stock(name, rng), change)))


def split_in_two(axis: int = 1, sizes: tuple[int, ...] = (2, 4), parts: int = 2, shapes=((2,), (4,))) -> bytes:
    """SPLIT_V of six values, as microWakeWord's models have it, and a QUANTIZE to uint8."""
    builder, s = flatbuffer_model.ModelBuilder("split", ""), flatbuffer_model.schema()
    q = ir.Quantization(0.5, -128)
    x = builder.add_activation("x", (6,), q)
    constants = [
        builder.add_constant("sizes", np.array(sizes, np.int32)),
        builder.add_constant("axis", np.array(axis, np.int32)),
    ]
    outputs = [builder.add_activation(f"y{i}", shape, q) for i, shape in enumerate(shapes)]
    options = s.SplitVOptionsT()
    options.numSplits = parts
    builder.add_builtin("SPLIT_V", [x, *constants], outputs, options, version=2)
    u = builder.add_unsigned("u", (2,), 0.5)
    builder.add_builtin("QUANTIZE", [outputs[0]], [u], s.QuantizeOptionsT(), version=2)
    return builder.finish({"x": x}, {"u": u})


def test_a_split_is_run(require_module) -> None:
    require_module("ai_edge_litert")
    x = np.array([[-128, 5, 6, 7, 8, 127]], np.int8)
    np.testing.assert_array_equal(Interpreter(split_in_two(), "litert").run(x), [[0, 133]])


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ({"axis": 2}, "axis 2 of 2"),
        ({"sizes": (2, 5)}, r"splits \(1, 6\) into \[2, 5\]"),
        ({"sizes": (6, 0)}, "into .6, 0."),
        ({"sizes": (2, 3, 1)}, "constant integers of shape"),
        ({"parts": 3}, "splits"),
        ({"shapes": ((2,), (5,))}, "its output has shape"),
    ],
)
def test_lies_of_a_split(lie: dict, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        checks.check(flatbuffer_reader.parse(split_in_two(**lie)))


def test_a_uint8_without_a_scale_is_refused() -> None:
    def scales(model: Any, graph: Any) -> None:
        graph.tensors[graph.outputs[0]].quantization = None

    with pytest.raises(FormatError, match="uint8 (tensor|output) needs one scale"):
        Interpreter(edited(split_in_two(), scales), "tflite")


def test_an_op_that_is_not_checked_needs_trust(rng: np.random.Generator) -> None:
    def elu(model: Any, graph: Any) -> None:
        for code in model.operatorCodes:
            code.builtinCode = code.deprecatedBuiltinCode = 111

    file = edited(stock(next(iter(builtin_rounding.CASES)), rng), elu)
    with pytest.raises(FormatError, match="BUILTIN_111.*trust=True"):
        Interpreter(file, "tflite")
    with pytest.raises((RuntimeError, ValueError), match="inputs|ELU|Node"):  # the runtime's own words
        Interpreter(file, "tflite", trust=True)


@pytest.mark.slow
def test_files_of_tensorflows_converter(rng: np.random.Generator) -> None:
    """Layers without a bias leave out its tensor; nothing of it is refused, and it runs."""
    import tensorflow as tf

    from tfmot_kws.keras import keras

    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((12, 10)), layers.Flatten(), layers.Dense(4, use_bias=False, activation="softmax")]
    )
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    x = rng.normal(size=(4, 12, 10)).astype(np.float32)
    converter.representative_dataset = lambda: ([row[None]] for row in x)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    file = converter.convert()
    assert any(-1 in op.inputs for op in flatbuffer_reader.parse(file).operators)
    assert inspect_file.inspect(file).weights == 12 * 10 * 4
    found = Interpreter(file, "tflite").run(x)
    assert np.abs(found - model.predict(x, verbose=0)).max() < 0.03


def test_threads_make_interpreters_at_once(rng: np.random.Generator, require_module) -> None:
    require_module("tflite_micro")
    graph = eg.dense(rng, (21,), 9, 4)
    file, x = packed_writer.write(graph), np.zeros((1, 21), np.int8)
    expected = Interpreter(file).run(x)
    before, wrong = os.readlink("/proc/self/fd/2"), []

    def work() -> None:
        for _ in range(15):
            if (Interpreter(file, "tflm").run(x) != expected).any():
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and os.readlink("/proc/self/fd/2") == before


@pytest.mark.slow
def test_mutated_files_end_no_runtime(rng: np.random.Generator, tmp_path: pathlib.Path, require_module) -> None:
    """A short run; `make fuzz-files` changes 20,000."""
    for module in ("ai_edge_litert", "tflite_micro"):
        require_module(module)
    jobs, taken = mutated.make_jobs(rng, 1200)
    assert len(jobs) > 80 and len(taken) > 20
    for runtime in mutated.RUNTIMES:
        number, said = mutated.run(runtime, jobs, tmp_path)
        if number >= 0:
            (tmp_path / "crash.tflite").write_bytes(jobs[number][0])
        assert number < 0, f"{runtime}, kept in {tmp_path}: {said}"
