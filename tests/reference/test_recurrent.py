"""Recurrent layers in integers: near to the floats that they stand for, and the same in every kernel and runtime."""

from __future__ import annotations

import dataclasses

import export_graphs as eg
import numpy as np
import pytest
import recurrent_graphs as rg

from tflite_export import inspect as inspect_model
from tflite_export import ir
from tflite_export.builtin import writer as builtin_writer
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.packed import op_options, packing
from tflite_export.packed import reader as packed_reader
from tflite_export.packed import writer as packed_writer
from tflite_export.reference import recurrent
from tflite_export.reference import run as reference
from tflite_export.runtimes import interpreter

MODULES = {"tflite": "tensorflow", "litert": "ai_edge_litert", "tflm": "tflite_micro"}
FORMS = [
    {"bits": 8},
    {"bits": 3, "zero_point": -128, "sequences": False},
    {"bits": 1, "channels": 16, "units": 16, "output_bits": 4},
    {"bits": 4, "units": 1, "channels": 1, "time": 1},
    {"bits": 2, "loud": 8.0, "memory": 12.0, "time": 40},  # pre-activations and states saturate
]


def test_tables_over_all_of_int16() -> None:
    x = np.arange(-(1 << 15), 1 << 15)
    tanh, sigmoid = recurrent.tanh(2 * x) / 2**15, recurrent.sigmoid(x) / 2**15
    assert np.abs(tanh - np.tanh(x / 2**11)).max() < 4 / 2**15
    assert np.abs(sigmoid - 1 / (1 + np.exp(-x / 2**11))).max() < 3 / 2**15
    assert (np.diff(tanh) >= 0).all() and (np.diff(sigmoid) >= 0).all()
    assert tanh[0] == -1 and tanh[-1] == 1 and sigmoid[0] == 0 and sigmoid[-1] == 1
    np.testing.assert_array_equal(recurrent.tanh(-x), -recurrent.tanh(x))


@pytest.mark.parametrize("cell", ir.CELLS)
def test_near_to_floats(cell: str) -> None:
    case = rg.random_case(cell, zero_point=-128, time=12)
    x = rg.values(case, 4)
    found = reference.run(case.graph, {"x": x})["y"] / 128
    expected = rg.float_outputs(case, (x.astype(np.float64) + 128) / 32)
    assert np.abs(expected).max() > 0.5
    assert np.abs(found - expected).max() < 2.5 / 128


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_state_of_8_bits_would_lose_accuracy(cell: str) -> None:
    """Over 100 rows, with gates that keep: floats with a state of 8 bits are further off, several times."""
    case = rg.random_case(cell, time=100, units=16, memory=4.0)
    x = rg.values(case, 4)
    real = x / 32
    expected = rg.float_outputs(case, real)
    errors = [
        np.sqrt(np.square(y - expected).mean())
        for y in (reference.run(case.graph, {"x": x})["y"] / 128, rg.float_outputs(case, real, state_bits=8))
    ]
    assert 3 * errors[0] < errors[1], errors


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", ir.CELLS)
def test_every_kernel_in_every_layout(cell: str, form: dict) -> None:
    case = rg.random_case(cell, **form)
    x = rg.values(case, 5)
    if "loud" in form:  # the same row again and again: an LSTM's cell runs to its end
        x = np.repeat(x[:, :1], x.shape[1], axis=1)
        _, (_, c, _) = recurrent.run(case.op, x, 0, case.graph.tensors["y"])
        assert cell != "lstm" or {recurrent.INT16_MIN, recurrent.INT16_MAX} <= set(c.ravel())
    assert len(np.unique(eg.check_kernels(case.graph, {"x": x}))) > 1


@pytest.mark.parametrize("runtime", MODULES)
def test_every_runtime(runtime: str, require_module) -> None:
    require_module(MODULES[runtime])
    for cell in ir.CELLS:
        for form in FORMS[1:3]:
            case = rg.random_case(cell, **form)
            x = rg.values(case)
            found = interpreter.Interpreter(packed_writer.write(case.graph), runtime).run(x)
            np.testing.assert_array_equal(found, reference.run(case.graph, {"x": x})["y"], err_msg=f"{cell} {form}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", ir.CELLS)
def test_the_file_holds_the_layer(cell: str, form: dict) -> None:
    case = rg.random_case(cell, **form)
    for target in packing.TARGETS:
        file = packed_writer.write(case.graph, target)
        (found,) = packed_reader.read(file).ops
        for field in dataclasses.fields(ir.Recurrent):
            mine, theirs = getattr(case.op, field.name), getattr(found, field.name)
            if not dataclasses.is_dataclass(mine):
                assert mine == theirs, field.name
                continue
            for part in dataclasses.fields(mine):
                np.testing.assert_array_equal(getattr(mine, part.name), getattr(theirs, part.name))
        (layer,) = inspect_model.inspect(file).layers
        time = case.graph.tensors["x"].shape[0]
        weights = case.op.kernel.codes.size + case.op.recurrent.codes.size
        assert (layer.op, layer.weight_bits, layer.macs) == ("Recurrent", form["bits"], time * weights)
        zeros = sum((v.levels == 0).sum() for v in (case.op.kernel, case.op.recurrent))
        assert layer.zeros == zeros / weights


def test_files_that_lie() -> None:
    """Whatever byte of the options is changed: the file is refused, or it is the file of another layer."""
    case = rg.random_case("gru", 3, zero_point=-128)
    file = packed_writer.write(case.graph)
    (op,) = flatbuffer_reader.parse(file).operators
    at = file.index(op.custom_options)
    values = {"x": rg.values(case)}
    kept = 0
    for i in range(op_options.LENGTH):
        for flip in (1, 0x80, 0xFF):
            changed = bytearray(file)
            changed[at + i] ^= flip
            try:
                graph = packed_reader.read(bytes(changed))
            except ValueError:
                continue
            kept += 1
            eg.check_kernels(dataclasses.replace(graph), values)
    assert 0 < kept < 60
    for cut in (1, 5, 60):
        call = eg.call_of(case.graph, values)
        kind, shape, constant = call.inputs[1]
        call.inputs[1] = (kind, (len(constant) - cut,), constant[:-cut])
        with pytest.raises(eg.Refused, match="weights and channel parameters are not uint8 or have the wrong size"):
            call.run()


def test_kernels_refuse_what_does_not_suit() -> None:
    case = rg.random_case("lstm", 4)
    call = eg.call_of(case.graph, {"x": rg.values(case)})
    for place, value, says in (
        (2, 1, "no such mode"), (5, 126, "range is none of"), (8, 1, "zero point is 0"), (32, 0, "unknown cell"),
        (32, 5, "unknown cell"), (34, 2, "neither 0 nor 1"), (36, 1, "only a recurrent layer with a state skips"),
        (38, 63, "bias_shift out of range"), (40, 0, "shift out of range"), (42, 1, "wrong number of inputs"),
        (42, 2, "neither 0 nor 1"), (44, 1, "unused field"),
        (15, 1, "window"), (24, 21, "no multiple of the gates"), (28, 5, "inputs do not suit"),
    ):  # fmt: skip
        options = bytearray(call.options)
        options[place] = value
        with pytest.raises(eg.Refused, match=says):
            dataclasses.replace(call, options=bytes(options)).run()
    with pytest.raises(eg.Refused, match="needs .batch, time, channels"):
        kind, shape, x = call.inputs[0]
        dataclasses.replace(call, inputs=[(kind, (shape[0] * shape[1], shape[2]), x), call.inputs[1]]).run()
    with pytest.raises(eg.Refused, match="too little scratch memory"):
        dataclasses.replace(call, scratch_bytes=40).run()
    state = np.zeros(2 + 3 * case.op.units, np.uint8)
    for kind, data, batch, says in (
        (eg.INT8, state[1:], 1, "state has the wrong size"), (3, state, 1, "state is not int8"),
        (eg.INT8, state, 2, "one recording, not a batch"),
    ):  # fmt: skip
        x = call.inputs[0]
        first = (x[0], (batch, *x[1][1:]), x[2][:batch])
        with pytest.raises(eg.Refused, match=says):
            dataclasses.replace(call, inputs=[first, call.inputs[1], (kind, (1, len(data)), data)]).run()


def test_graphs_that_contradict_themselves() -> None:
    case = rg.random_case("gru", 4)
    op = case.op
    for change, says in (
        ({"cell": "lstm"}, "lstm of 5 units has 4 gates"), ({"cell": "gru2"}, "cell must be one of"),
        ({"skip": 3}, "only a layer that keeps its state"), ({"kernel": op.recurrent}, "weights a row for 6 channels"),
        ({"sequences": False}, "should have shape"),
    ):  # fmt: skip
        with pytest.raises(ir.GraphError, match=says):
            dataclasses.replace(case.graph, ops=(dataclasses.replace(op, **change),))
    tensors = {**case.graph.tensors, "y": ir.Tensor("y", (7, 5), ir.Quantization(3 / 256, 0))}
    with pytest.raises(ir.GraphError, match="output must be"):
        dataclasses.replace(case.graph, tensors=tensors)
    with pytest.raises(ir.GraphError, match='no stock op computes a recurrent layer.*ops="packed"'):
        builtin_writer.write(case.graph)
