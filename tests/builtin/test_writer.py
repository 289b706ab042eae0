"""Stock ops against the integer reference: every kind of op, in every runtime, within the documented rounding."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import numpy as np
import pytest
import quantization_helpers

from benchmarks import builtin_rounding
from tflite_export import convert, from_keras, ir, write
from tflite_export.builtin import functions as builtin_functions
from tflite_export.builtin import weights as builtin_weights
from tflite_export.builtin import writer as builtin_writer
from tflite_export.flatbuffer import model as flatbuffer_model
from tflite_export.reference import arithmetic
from tflite_export.reference import run as reference
from tflite_export.runtimes.interpreter import Interpreter

REPORT = pathlib.Path(builtin_rounding.REPORT)
RUNTIMES = list(builtin_rounding.RUNTIMES)
GRAPHS = 3


def documented() -> dict[str, list[str]]:
    """Cells of the table by op: stock ops, one cell for each runtime, how far these are apart."""
    rows = [line.strip("| ").split(" | ") for line in REPORT.read_text().splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[1:]}


def op_names(flatbuffer: bytes) -> list[str]:
    schema = flatbuffer_model.schema()
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer))
    return [names[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators]


def small(op: ir.Op, tensors: dict[str, ir.Tensor]) -> ir.Graph:
    return ir.Graph(tensors, (op,), ir.op_inputs(op), (op.output,))


def activation(name: str, *shape: int, scale: float = 0.5, zero_point: int = 3) -> ir.Tensor:
    return ir.Tensor(name, shape, ir.Quantization(scale, zero_point))


def dense_of(levels_bits: int, grid: str, gain: list[int], inputs: int = 4, **rq) -> ir.Graph:
    """x [inputs] -> y [len(gain)] with all codes at their largest."""
    codes = np.full((len(gain), inputs), (1 << levels_bits) - 1, np.uint8)
    constants = dict(multiplier=1 << 20, bias_shift=30, shift=32) | rq
    bias = constants.pop("bias", [0] * len(gain))
    q = ir.Requantization(np.array(gain, np.int16), np.array(bias, np.int16), **constants)
    op = ir.PackedDense("layer", "x", "y", ir.Weights(codes, levels_bits, grid), q)
    return small(op, {"x": activation("x", inputs), "y": activation("y", len(gain))})


def test_table_is_complete() -> None:
    assert list(documented()) == list(builtin_rounding.CASES)
    covered = {type(op) for make in builtin_rounding.CASES.values() for op in make[1](np.random.default_rng(0)).ops}
    # A ring takes one sample a call (test_stream_models.py has it); floats have no integer to differ by.
    # A recurrent layer has no stock form, and is refused.
    assert covered == set(ir.Op.__args__) - set(ir.FLOAT_OPS) - {ir.Ring, ir.Recurrent, ir.Waveform}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", builtin_rounding.CASES)
def test_rounding_stays_within_the_documented_difference(name: str, runtime: str) -> None:
    cell = documented()[name][1 + RUNTIMES.index(runtime)]
    allowed = int(cell.split()[0])
    assert allowed <= 2
    largest, share = builtin_rounding.measure(name, runtime, GRAPHS)
    assert largest <= allowed and share < 0.5


@pytest.mark.parametrize("name", builtin_rounding.CASES)
def test_runtimes_are_no_further_apart_than_documented(name: str) -> None:
    assert builtin_rounding.apart(name, GRAPHS) <= int(documented()[name][-1]) <= 2


@pytest.mark.parametrize("name", builtin_rounding.CASES)
def test_documented_ops_are_the_ones_written(name: str) -> None:
    rng = np.random.default_rng(0)
    graph = builtin_rounding.CASES[name][1](rng)
    names = op_names(builtin_writer.write(graph, int4="INT4" in name))
    assert list(dict.fromkeys(names)) == documented()[name][0].split(", ")
    result = reference.run(graph, builtin_rounding.inputs_of(graph, rng))["y"]
    assert len(np.unique(result)) > 10, "a case that saturates shows no rounding"


def three_layers(rng: np.random.Generator) -> ir.Graph:
    tensors, ops = {"x": ir.Tensor("x", (256,), builtin_rounding.quantization(rng))}, []
    for i in range(3):
        source, target = ("x" if i == 0 else f"h{i - 1}"), f"h{i}"
        layer = builtin_rounding.dense(rng, (256,), 256, bits=4, grid="mid-tread").ops[0]
        tensors[target] = ir.Tensor(target, (256,), builtin_rounding.quantization(rng))
        rq = builtin_rounding.requantization(rng, 256, 4.3 * 60 * 16)
        ops.append(ir.PackedDense(target, source, target, layer.weights, rq))
    return ir.Graph(tensors, tuple(ops), ("x",), ("h2",))


@pytest.mark.tf221
@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_three_layers_of_256_run_unchanged(runtime: str, int4: bool, rng: np.random.Generator) -> None:
    graph = three_layers(rng)
    feeds = builtin_rounding.inputs_of(graph, rng, 20)
    flatbuffer = builtin_writer.write(graph, int4=int4)
    assert set(op_names(flatbuffer)) == ({"RESHAPE", "CONV_2D"} if int4 else {"FULLY_CONNECTED"})
    gap = np.abs(Interpreter(flatbuffer, runtime).run(feeds)["h2"].astype(int) - reference.run(graph, feeds)["h2"])
    # a step in one layer moves few outputs of the next by a step
    assert gap.max() <= 2 and (gap > 0).mean() < 0.15


def test_int4_halves_the_file(rng: np.random.Generator) -> None:
    graph = three_layers(rng)
    weights = 3 * 256 * 256
    assert weights < len(builtin_writer.write(graph)) < 1.15 * weights
    assert weights / 2 < len(builtin_writer.write(graph, int4=True)) < 0.65 * weights


def test_stock_tflm_runs_it_without_our_library(rng: np.random.Generator, require_module) -> None:
    runtime = require_module("tflite_micro.python.tflite_micro.runtime")
    graph = three_layers(rng)
    feeds = builtin_rounding.inputs_of(graph, rng, 1)
    stock = runtime.Interpreter.from_bytes(builtin_writer.write(graph))
    stock.set_input(feeds["x"], 0)
    stock.invoke()
    assert np.abs(stock.get_output(0).astype(int) - reference.run(graph, feeds)["h2"]).max() <= 2


@pytest.mark.slow
def test_a_trained_keras_model_runs_with_stock_ops() -> None:
    layers = quantization_helpers.keras.layers
    x = source = layers.Input((24, 8))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(12, 3, padding="causal", use_bias=False)(x)))
    x = layers.Activation("hard_sigmoid")(layers.Conv1D(12, 3, strides=2, padding="same")(x))
    x = layers.Softmax()(layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))
    model = quantization_helpers.shake(quantization_helpers.keras.Model(source, x))
    features = quantization_helpers.features((24, 8))
    trained = quantization_helpers.trained(model, features, {"bits": 4}, steps=1)
    graph = from_keras.to_graph(trained)
    feeds = {name: arithmetic.quantize(features, graph.tensors[name].quantization) for name in graph.inputs}
    (expected,) = reference.run(graph, feeds).values()
    flatbuffer = convert(trained, ops="builtin")
    assert "CUSTOM" not in op_names(flatbuffer)
    for runtime in RUNTIMES:
        (found,) = Interpreter(flatbuffer, runtime).run(feeds).values()
        assert np.abs(found.astype(int) - expected).max() <= 3, runtime  # differences of the layers add up


def test_chained_convolutions_share_one_picture(rng: np.random.Generator) -> None:
    graph = builtin_rounding.dense(rng, (20, 8), 8, ir.Window((3, 1)))
    first, y = graph.ops[0], graph.tensors["y"]
    tensors = {**graph.tensors, "z": ir.Tensor("z", (16, 8), y.quantization)}
    second = ir.PackedDense("second", "y", "z", first.weights, first.requantization, ir.Window((3, 1)))
    chained = ir.Graph(tensors, (first, second), ("x0",), ("z",))
    assert op_names(builtin_writer.write(chained)) == ["RESHAPE", "CONV_2D", "CONV_2D", "RESHAPE"]


def test_weights_fold_exactly() -> None:
    graph = dense_of(3, "mid-rise", [5, -5, 0], bias=[0, 16, 3])
    x, y = (graph.tensors[n].quantization for n in "xy")
    op = graph.ops[0]
    made = builtin_weights.stock_weights(op, op.weights.levels, x, y)
    step = 5 * 2.0**20 * 2.0**-32  # output steps of one accumulator step
    np.testing.assert_array_equal(made.levels[:, 0], [7, -7, 0])
    np.testing.assert_allclose(made.scales[:2], step * y.scale / x.scale, rtol=1e-6)
    assert made.bias[:2].tolist() == [0, round(16 / 4 / step)]
    assert made.bias[2] * made.scales[2] * x.scale / y.scale == 1.0  # 3 / 4 of a step, rounded


def test_equal_graphs_give_equal_bytes(seed: int) -> None:
    made = [builtin_writer.write(three_layers(np.random.default_rng(seed))) for _ in range(2)]
    assert made[0] == made[1]


def test_wide_levels_are_refused_with_the_way_out() -> None:
    graph = dense_of(8, "mid-rise", [1, 1])
    with pytest.raises(ir.GraphError, match=r'layer: integer weights .*255.* grid="mid-tread".* ops="packed"'):
        builtin_writer.write(graph)
    assert builtin_writer.write(dense_of(8, "mid-tread", [1, -1]))


def test_bias_beyond_int32_is_refused() -> None:
    constants = {"inputs": 20000, "multiplier": 1, "shift": 29, "bias_shift": 29}
    assert builtin_writer.write(dense_of(8, "mid-tread", [1], bias=[3], **constants))
    with pytest.raises(ir.GraphError, match="layer: the bias 100 of output 0 does not fit int32"):
        builtin_writer.write(dense_of(8, "mid-tread", [1], bias=[100], **constants))


def test_pool_padding_that_no_stock_op_has_is_refused() -> None:
    window = ir.Window((3, 1), padding=(2, 0, 0, 0))
    op = ir.AveragePool("pool", "x", "y", window, 1 << 20, 20)
    graph = small(op, {"x": activation("x", 6, 2), "y": activation("y", 6, 2)})
    with pytest.raises(ir.GraphError, match=r"pool: the padding \(2, 0, 0, 0\) is neither SAME nor VALID"):
        builtin_writer.write(graph)
    dilated = ir.MaxPool("pool", "x", "y", ir.Window((2, 1), dilation=(2, 1)))
    with pytest.raises(ir.GraphError, match="pool: stock pools have no dilation"):
        builtin_writer.write(small(dilated, {"x": activation("x", 6, 2), "y": activation("y", 4, 2)}))


@pytest.mark.parametrize("kind", ["sum", "product", "mean", "softmax"])
def test_tensors_that_their_reader_takes_at_another_scale(kind: str) -> None:
    """A Rescaling costs no op: whoever reads its output multiplies by its factor; stock ops know one scale a tensor."""
    tensors = {
        "x": activation("x", 4, 3, scale=0.0625, zero_point=0),
        "y": activation("y", 4, 3, scale=0.0625, zero_point=0),
    }
    if kind == "sum":
        op = ir.Add("op", ("x", "z"), "y", (1 << 20, 1 << 19), 20)
    elif kind == "product":
        op = ir.Multiply("op", ("x", "z"), "y", 1 << 16, 20)
    elif kind == "mean":
        op, tensors["y"] = (
            ir.AveragePool("op", "x", "y", ir.Window((2, 1)), 3 << 19, 20),
            activation("y", 3, 3, scale=0.0625, zero_point=0),
        )
    else:
        table = np.floor(2.0**15 * np.exp(-2.0 * 0.0625 * np.arange(256)) + 0.5).astype(np.uint16)
        op, tensors["y"] = ir.Softmax("op", "x", "y", table), activation("y", 4, 3, scale=1 / 256, zero_point=-128)
    if kind in ("sum", "product"):
        tensors["z"] = dataclasses.replace(tensors["x"], name="z")
    graph = small(op, tensors)
    x = [np.random.default_rng(i).normal(size=(8, 4, 3)).astype(np.float32) for i, _ in enumerate(graph.inputs)]
    wanted = Interpreter(write(graph), "reference").run(x)
    found = Interpreter(builtin_writer.write(graph), "tflite").run(x)
    assert len(np.unique(wanted)) > 20
    np.testing.assert_allclose(found, wanted, atol=1.01 * tensors["y"].quantization.scale)


def test_a_table_that_is_no_exponential_is_refused() -> None:
    tensors = {"x": activation("x", 4), "y": activation("y", 4, scale=1 / 256, zero_point=-128)}
    table = (32768 - 100 * np.arange(256)).astype(np.uint16)
    with pytest.raises(ir.GraphError, match="softmax: its table"):
        builtin_writer.write(small(ir.Softmax("softmax", "x", "y", table), tensors))


@pytest.mark.parametrize(
    ("low", "high", "name"), [(-128, 127, "NONE"), (3, 127, "RELU"), (3, 15, "RELU6"), (1, 5, "RELU_N1_TO_1")]
)
def test_fused_activation_expresses_these_ranges(low: int, high: int, name: str) -> None:
    q = ir.Quantization(0.5, 3)
    assert builtin_functions.fused_activation(q, low, high) == name
    assert builtin_functions.fused_activation(q, low, high - 1) is None


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (ir.Window((3, 1)), "VALID"),
        (ir.Window((3, 1), padding=(1, 1, 0, 0)), "SAME"),
        (ir.Window((3, 1), padding=(2, 0, 0, 0)), None),
        (ir.Window((3, 1), (2, 1), padding=(0, 1, 0, 0)), "SAME"),  # an even length has no place before
        (ir.Window((3, 1), (2, 1), padding=(1, 1, 0, 0)), None),
    ],
)
def test_stock_padding(window: ir.Window, expected: str | None) -> None:
    assert builtin_functions.stock_padding(window, 10, 1) == expected


def test_names_of_inputs_and_outputs_survive() -> None:
    graph = dense_of(4, "mid-tread", [3, 4, 5])
    model = Interpreter(builtin_writer.write(graph), "tflite")
    assert [d.name for d in model.inputs] == ["x"] and [d.name for d in model.outputs] == ["y"]
    assert model.inputs[0].quantization == graph.tensors["x"].quantization
    assert not re.search(rb"TfmotKws", builtin_writer.write(graph))
