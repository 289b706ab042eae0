"""Dynamic quantization: every kernel of this machine gives the numpy reference's bits, NaN and infinity included."""

from __future__ import annotations

import itertools

import dynamic_cases as dg
import export_graphs as eg
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from strategies import SEEDS, pictures

from tflite_export import ir
from tflite_export.packed import op_options
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import float_arithmetic
from tflite_export.reference import run as reference

F = np.float32


def test_every_kernel_is_there() -> None:
    found = {k.name.decode() for k in eg.kernels(1)}
    assert {"kws_dynamic_dense_ref", "kws_dynamic_dense_c"} < found


@pytest.mark.parametrize(("bits", "grid"), dg.WIDTHS)
@hypothesis.settings(max_examples=15)
@hypothesis.given(SEEDS, st.integers(1, 40), st.integers(1, 100), st.integers(1, 3))
@pytest.mark.slow
def test_dense_shapes(bits: int, grid: str, seed: int, outputs: int, inputs: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    for codes in dg.input_bits(bits):
        graph = dg.dense(rng, (inputs,), outputs, bits, codes, grid)
        eg.check_kernels(graph, {"x0": dg.rows(rng, (batch, inputs))})


@pytest.mark.parametrize(("bits", "grid"), dg.WIDTHS)
@hypothesis.settings(max_examples=15)
@hypothesis.given(SEEDS, pictures(), st.integers(1, 19), st.integers(1, 3))
@pytest.mark.slow
def test_dense_windows(
    bits: int, grid: str, seed: int, picture: tuple[tuple[int, ...], ir.Window], outputs: int, batch: int
) -> None:
    rng = np.random.default_rng(seed)
    shape, window = picture
    codes = int(rng.choice(dg.input_bits(bits)))
    graph = dg.dense(rng, shape, outputs, bits, codes, grid, window)
    eg.check_kernels(graph, {"x0": dg.rows(rng, (batch, *shape))})


@pytest.mark.parametrize(("bits", "grid"), dg.WIDTHS)
def test_dense_every_code_times_every_input(bits: int, grid: str, rng: np.random.Generator) -> None:
    """One input, beside a least and a largest one, so that its code is any."""
    for codes in dg.input_bits(bits):
        n = min(1 << bits, 256)
        w = dg.weights(rng, n, 3, bits, grid)
        w.codes[:, 2] = np.clip(np.linspace(0, (1 << bits) - 1, n), 1 if grid == "mid-tread" else 0, None)
        gain = np.full(n, 1, np.int16)
        graph = dg.single(ir.DynamicDense("d", "x0", "y", w, codes, gain, 1.0), (3,))
        values = np.linspace(-1, 1, min(1 << codes, 4096)).astype(F)
        x = np.stack([np.full_like(values, -1), np.full_like(values, 1), values], 1)
        y = eg.check_kernels(graph, {"x0": x})
        assert len(np.unique(y)) > 2 or bits == 1


@pytest.mark.parametrize(("bits", "grid"), dg.WIDTHS)
def test_dense_extreme_sums(bits: int, grid: str, rng: np.random.Generator) -> None:
    """The largest codes of either sign times the largest codes of inputs; as many inputs as 32 bits allow at 8 bits."""
    for codes, corner, outputs in itertools.product(dg.input_bits(bits)[-1:], ("least", "most", "alternating"), (1, 9)):
        inputs = 32767 if bits >= 8 else 4099
        graph = dg.dense(rng, (inputs,), outputs, bits, codes, grid, None, corner, "linear")
        x = np.ones((3, inputs), F)
        x[0, 0], x[1, 1:], x[2, ::2] = -1, -1, -1
        eg.check_kernels(graph, {"x0": x})


def test_dense_over_the_last_axis(rng: np.random.Generator) -> None:
    graph = dg.dense(rng, (3, 4, 5), 7, 4, 8, "linear")
    eg.check_kernels(graph, {"x0": dg.rows(rng, (2, 3, 4, 5))})


@pytest.mark.parametrize("kind", dg.HARD)
@pytest.mark.slow
def test_dense_hard_rows(kind: str, rng: np.random.Generator) -> None:
    for bits, grid in ((4, "linear"), (7, "mid-rise"), (16, "linear")):
        for inputs in (1, 3, 16, 37, 620):
            for function in ir.FUNCTIONS:
                codes = dg.input_bits(bits)[-1]
                graph = dg.dense(rng, (inputs,), 13, bits, codes, grid, function=function)
                eg.check_kernels(graph, {"x0": dg.rows(rng, (6, inputs), kind)})


@hypothesis.settings(max_examples=60)
@hypothesis.given(SEEDS, st.integers(-149, 126), st.integers(-149, 126))
def test_dense_units_of_all_magnitudes(seed: int, gain: int, bias: int) -> None:
    rng = np.random.default_rng(seed)
    w = dg.weights(rng, 9, 21, 8, "linear")
    parts = [rng.integers(-300, 300, 9).astype(np.int16) for _ in range(2)]
    units = [float(F(2.0**e)) for e in (gain, bias)]
    op = ir.DynamicDense("d", "x0", "y", w, 8, parts[0], units[0], parts[1], units[1], "tanh")
    eg.check_kernels(dg.single(op, (21,)), {"x0": dg.rows(rng, (5, 21))})


@pytest.mark.parametrize("function", ir.FUNCTIONS)
def test_functions_of_a_sample_of_all_floats(function: str) -> None:
    x = dg.samples()[None]
    graph = dg.single(ir.FloatFunction("f", "x0", "y", function), x.shape[1:])
    y = eg.check_kernels(graph, {"x0": x})
    if function != "linear":
        known = ~np.isnan(x)
        exact = {
            "relu": lambda v: np.maximum(v, 0),
            "relu6": lambda v: np.clip(v, 0, 6),
            "sigmoid": lambda v: 1 / (1 + np.exp(-np.clip(v, -87, 87))),
            "tanh": np.tanh,
        }[function](x[known].astype(np.float64))
        np.testing.assert_allclose(y[known], exact, rtol=1e-6, atol=3e-7)


def test_activations_of_four_are_those_of_one(rng: np.random.Generator) -> None:
    """The dense kernels' vectors against the function op: gains of 1 and weights that pass the input on."""
    x = np.concatenate([dg.samples()[::37], rng.normal(size=4000).astype(F) * 4])
    x = x[np.abs(x) < 2.0**120][:, None]
    w = ir.ColumnWeights(np.full((8, 1), 255, np.uint16), 8, "linear", np.full(8, 254, np.int32))
    for function in ir.FUNCTIONS:
        op = ir.DynamicDense("d", "x0", "y", w, 8, np.ones(8, np.int16), 1.0, function=function)
        y = eg.check_kernels(dg.single(op, (1,)), {"x0": x})
        np.testing.assert_array_equal(y, np.repeat(float_arithmetic.activate(x, function), 8, axis=1))


@hypothesis.settings(max_examples=40)
@hypothesis.given(SEEDS, st.integers(1, 30), st.integers(1, 3))
def test_softmax(seed: int, channels: int, times: int) -> None:
    rng = np.random.default_rng(seed)
    graph = dg.single(ir.FloatSoftmax("s", "x0", "y"), (times, channels))
    x = (rng.normal(size=(2, times, channels)) * 10.0 ** rng.integers(-3, 3)).astype(F)
    y = eg.check_kernels(graph, {"x0": x})
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("op_type", [ir.FloatAdd, ir.FloatMultiply])
@hypothesis.settings(max_examples=40)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_pairs_broadcast(op_type: type, data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    other = [d if data.draw(st.booleans()) else 1 for d in shape][data.draw(st.integers(0, len(shape) - 1)) :]
    shapes = [tuple(shape), tuple(other)]
    if data.draw(st.booleans()):
        shapes.reverse()
    function = data.draw(st.sampled_from(ir.FUNCTIONS))
    graph = dg.single(op_type("p", ("x0", "x1"), "y", function), *shapes)
    eg.check_kernels(graph, {f"x{i}": dg.rows(rng, (3, *s)) for i, s in enumerate(shapes)})


@hypothesis.settings(max_examples=60)
@hypothesis.given(SEEDS, pictures(), st.integers(1, 3), st.booleans())
def test_depthwise(seed: int, picture: tuple[tuple[int, ...], ir.Window], multiple: int, windowed: bool) -> None:
    rng = np.random.default_rng(seed)
    shape, window = picture
    outputs = shape[-1] * multiple
    kernel = rng.normal(size=(window.taps if windowed else 1, outputs)).astype(F)
    bias = rng.normal(size=outputs).astype(F)
    function = str(rng.choice(ir.FUNCTIONS))
    op = ir.FloatDepthwise("d", "x0", "y", kernel, bias, function, window if windowed else None)
    eg.check_kernels(dg.single(op, shape), {"x0": dg.rows(rng, (2, *shape), "normal")})


@hypothesis.settings(max_examples=60)
@hypothesis.given(SEEDS, pictures(), st.booleans())
def test_pools(seed: int, picture: tuple[tuple[int, ...], ir.Window], average: bool) -> None:
    rng = np.random.default_rng(seed)
    shape, window = picture
    if not average:  # without dilation it is TensorFlow Lite's own op
        window = ir.Window(window.size, window.stride, (2, window.dilation[1]), window.padding)
        hypothesis.assume(window.padding[0] + window.padding[1] + shape[0] > (window.size[0] - 1) * 2)
    op = ir.FloatAverage("p", "x0", "y", window) if average else ir.MaxPool("p", "x0", "y", window)
    eg.check_kernels(dg.single(op, shape), {"x0": dg.rows(rng, (2, *shape), "normal" if average else None)})


@hypothesis.settings(max_examples=30)
@hypothesis.given(SEEDS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))
def test_ring(seed: int, kept: int, fresh: int, channels: int) -> None:
    """A ring of floats, call after call."""
    rng = np.random.default_rng(seed)
    graph = dg.single(ir.Ring("r", "x0", "y", kept), (fresh, channels))
    memory = np.full(2 + 4 * kept * channels, rng.integers(-128, 128), np.int8)
    memory[:2] = 0
    state: dict[str, np.ndarray] = {}
    for _ in range(5):
        values = {"x0": dg.rows(rng, (1, fresh, channels))}
        expected = reference.run(graph, values, state=state)["y"]
        options = op_options.encode(tflite_writer.ring_options(graph.ops[0], graph.tensors["y"]))
        inputs = [(eg.FLOAT32, (1, fresh, channels), values["x0"]), (eg.INT8, memory.shape, memory)]
        call = eg.Call(9, options, inputs, expected.shape, output_type=eg.FLOAT32)
        np.testing.assert_array_equal(call.run(), expected)
