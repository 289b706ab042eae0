"""Every compiled kernel gives the reference's bits: exhaustively where the domain is small, by hypothesis elsewhere."""

from __future__ import annotations

import ctypes
import itertools

import export_graphs as eg
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from strategies import SEEDS, pictures

from tflite_export import ir
from tflite_export.packed import packing
from tflite_export.packed.op_options import CUSTOM_CODES, Kind
from tflite_export.runtimes import native

WIDTHS = [(bits, grid) for grid in ("mid-rise", "mid-tread") for bits in range(1 if grid == "mid-rise" else 2, 9)]


def test_every_kind_has_a_kernel_and_the_name_of_the_writer() -> None:
    library = native.load()
    library.kws_op_name.restype = ctypes.c_char_p
    for kind in Kind:
        assert library.kws_op_name(int(kind)).decode() == CUSTOM_CODES[kind]
        assert eg.kernels(int(kind)), kind
    assert library.kws_op_name(0) is None and library.kws_op_name(len(Kind) + 1) is None


@hypothesis.given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 8), st.sampled_from(packing.Layout))
def test_packed_size_is_the_packers(outputs: int, inputs: int, bits: int, layout: packing.Layout) -> None:
    library = native.load()
    library.kws_packed_size.restype = ctypes.c_size_t
    expected = packing.packed_size(outputs, inputs, bits, layout) if bits in packing.widths(layout) else 0
    assert library.kws_packed_size(outputs, inputs, bits, int(layout)) == expected


def test_packed_size_of_impossible_sizes_is_zero() -> None:
    library = native.load()
    library.kws_packed_size.restype = ctypes.c_size_t
    for outputs, inputs, bits, layout in [
        (0, 1, 4, 0),
        (1, 0, 4, 0),
        (1, 1, 0, 0),
        (1, 1, 9, 0),
        (1, 1, -8, 0),
        (1, 1, 4, 9),
    ]:
        assert library.kws_packed_size(outputs, inputs, bits, layout) == 0


@pytest.mark.parametrize(("bits", "grid"), WIDTHS)
def test_dense_every_code_times_every_input(bits: int, grid: ir.Grid, rng: np.random.Generator) -> None:
    low = 0 if grid == "mid-rise" else 1
    codes = np.arange(low, 1 << bits).astype(np.uint8)[:, None]
    n = len(codes)
    for zero_point, shift, activation in [(-128, 1, (-128, 127)), (127, 8, (-128, 127)), (5, 9, (-100, 90))]:
        rq = ir.Requantization(
            rng.integers(-128, 128, n).astype(np.int16),
            rng.integers(-99, 99, n).astype(np.int16),
            3,
            2,
            shift,
            *activation,
        )
        graph = eg.single(rng, ir.PackedDense("d", "x0", "y", ir.Weights(codes, bits, grid), rq), (1,))
        tensors = {
            "x0": ir.Tensor("x0", (1,), ir.Quantization(1.0, zero_point)),
            "y": ir.Tensor("y", (n,), ir.Quantization(1.0, -zero_point // 2)),
        }
        graph = ir.Graph(tensors, graph.ops, graph.inputs, graph.outputs)
        y = eg.check_kernels(graph, {"x0": eg.ALL_INT8[:, None]})
        assert len(np.unique(y)) > 2


@pytest.mark.parametrize(("bits", "grid"), [(b, g) for b, g in WIDTHS if b <= 2])
def test_dense_every_pair_of_codes_and_inputs(bits: int, grid: ir.Grid, rng: np.random.Generator) -> None:
    low = 0 if grid == "mid-rise" else 1
    codes = np.array(list(itertools.product(range(low, 1 << bits), repeat=2)), np.uint8)
    n = len(codes)
    rq = ir.Requantization(np.full(n, 100, np.int16), rng.integers(-9, 9, n).astype(np.int16), 1, 4, 9)
    graph = eg.single(rng, ir.PackedDense("d", "x0", "y", ir.Weights(codes, bits, grid), rq), (2,))
    a, b = np.meshgrid(eg.ALL_INT8, eg.ALL_INT8)
    eg.check_kernels(graph, {"x0": np.stack([a.ravel(), b.ravel()], 1)})


@pytest.mark.parametrize(("bits", "grid"), WIDTHS)
@hypothesis.settings(max_examples=12)
@hypothesis.given(SEEDS, st.integers(1, 40), st.integers(1, 70), st.integers(1, 4))
def test_dense_shapes(bits: int, grid: ir.Grid, seed: int, outputs: int, inputs: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    graph = eg.dense(rng, (inputs,), outputs, bits, grid)
    eg.check_kernels(graph, eg.feeds(rng, graph, batch))


@pytest.mark.parametrize(("bits", "grid"), WIDTHS)
def test_dense_extreme_sums(bits: int, grid: ir.Grid, rng: np.random.Generator) -> None:
    """4,096 inputs with the largest weights and the largest x - z of either sign, and one output or nine."""
    for outputs, zero_point in itertools.product((1, 9), (-128, 127)):
        codes = np.full((outputs, 4096), (1 << bits) - 1, np.uint8)
        codes[::2] = 0 if grid == "mid-rise" else 1
        w = ir.Weights(codes, bits, grid)
        rq = eg.requantization(rng, outputs, int(np.abs(w.levels).sum(axis=1).max()) * 255, 4096)
        tensors = {
            "x0": ir.Tensor("x0", (4096,), ir.Quantization(1.0, zero_point)),
            "y": ir.Tensor("y", (outputs,), ir.Quantization(1.0, 3)),
        }
        graph = ir.Graph(tensors, (ir.PackedDense("d", "x0", "y", w, rq),), ("x0",), ("y",))
        x = rng.integers(-128, 128, (4, 4096)).astype(np.int8)
        x[0], x[1] = -128, 127
        eg.check_kernels(graph, {"x0": x})


def test_dense_longer_than_one_chunk(rng: np.random.Generator) -> None:
    """Partial sums are cut at 32,768 inputs, where eight-bit codes would overflow int32."""
    for inputs in (32767, 32769, 40000):
        graph = eg.dense(rng, (inputs,), 3, 1)
        values = eg.feeds(rng, graph, 2)
        values["x0"][0] = -128
        eg.check_kernels(graph, values)


@hypothesis.settings(max_examples=10)
@hypothesis.given(SEEDS, st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_dense_over_the_last_axis(seed: int, leading: list[int]) -> None:
    rng = np.random.default_rng(seed)
    graph = eg.dense(rng, (*leading, 5), 7, 4)
    eg.check_kernels(graph, eg.feeds(rng, graph, 2))


@pytest.mark.parametrize(("bits", "grid"), WIDTHS)
@hypothesis.settings(max_examples=20)
@hypothesis.given(SEEDS, pictures(), st.integers(1, 19), st.integers(1, 3))
def test_dense_windows(
    bits: int, grid: ir.Grid, seed: int, picture: tuple[tuple[int, ...], ir.Window], outputs: int, batch: int
) -> None:
    rng = np.random.default_rng(seed)
    shape, window = picture
    graph = eg.dense(rng, shape, outputs, bits, grid, window)
    eg.check_kernels(graph, eg.feeds(rng, graph, batch))


@hypothesis.settings(max_examples=100)
@hypothesis.given(SEEDS, pictures(20), st.integers(1, 3), st.integers(1, 2))
def test_depthwise_windows(seed: int, picture: tuple[tuple[int, ...], ir.Window], multiple: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    graph = eg.depthwise(rng, picture[0], multiple, picture[1])
    eg.check_kernels(graph, eg.feeds(rng, graph, batch))


@hypothesis.settings(max_examples=30)
@hypothesis.given(SEEDS, st.lists(st.integers(1, 20), min_size=1, max_size=3), st.integers(1, 3))
def test_depthwise_affine(seed: int, shape: list[int], multiple: int) -> None:
    rng = np.random.default_rng(seed)
    graph = eg.depthwise(rng, tuple(shape), multiple)
    eg.check_kernels(graph, eg.feeds(rng, graph, 2))


def test_depthwise_every_level_times_every_input(rng: np.random.Generator) -> None:
    rq = ir.Requantization(np.full(256, 127, np.int16), np.arange(-128, 128).astype(np.int16), 5, 7, 14)
    graph = eg.single(rng, ir.Depthwise("d", "x0", "y", eg.ALL_INT8[None], rq), (256,))
    values = {"x0": np.repeat(eg.ALL_INT8[:, None], 256, axis=1)}
    assert len(np.unique(eg.check_kernels(graph, values))) > 100


@hypothesis.settings(max_examples=20)
@hypothesis.given(SEEDS)
def test_requantization_constants(seed: int) -> None:
    """The whole range of gains, biases, multipliers and shifts that a graph may hold."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(-128, 128, (1, 64)).astype(np.int8)
    for _ in range(10):
        bits = [int(v) for v in rng.integers(0, [32, 47, 62])]
        rq = ir.Requantization(
            rng.integers(-(1 << 15), 1 << 15, 64).astype(np.int16),
            rng.integers(-(1 << 15), 1 << 15, 64).astype(np.int16),
            int(rng.integers(0, 1 << bits[0])) if bits[0] < 32 else 0,
            bits[1],
            bits[2] + 1,
        )
        try:
            graph = eg.single(rng, ir.Depthwise("d", "x0", "y", levels, rq), (64,))
        except ir.GraphError:
            continue
        eg.check_kernels(graph, eg.feeds(rng, graph, 8))


def test_lookup(rng: np.random.Generator) -> None:
    graph = eg.single(rng, ir.Lookup("l", "x0", "y", rng.permutation(eg.ALL_INT8)), (256,))
    assert len(np.unique(eg.check_kernels(graph, {"x0": eg.ALL_INT8[None]}))) == 256


@hypothesis.settings(max_examples=40)
@hypothesis.given(SEEDS, st.integers(1, 40), st.floats(1e-4, 3.0))
def test_softmax(seed: int, channels: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    table = eg.softmax_table(scale)
    if seed % 3 == 0:
        table = rng.integers(1, (1 << 15) + 1, 256).astype(np.uint16)
    graph = eg.single(rng, ir.Softmax("s", "x0", "y", table), (3, channels))
    eg.check_kernels(graph, eg.feeds(rng, graph, 3))


def test_softmax_every_pair(rng: np.random.Generator) -> None:
    graph = eg.single(rng, ir.Softmax("s", "x0", "y", eg.softmax_table(1 / 16)), (2,))
    a, b = np.meshgrid(eg.ALL_INT8, eg.ALL_INT8)
    eg.check_kernels(graph, {"x0": np.stack([a.ravel(), b.ravel()], 1)})


def pair_op(rng: np.random.Generator, add: bool) -> ir.Add | ir.Multiply:
    low, high = sorted(int(v) for v in rng.choice([-128, -5, 6, 127], 2, replace=False))
    if add:
        shift = int(rng.integers(1, 47))
        m = [int(rng.integers(0, min(1 << 31, 1 << (shift + 1)))) for _ in range(2)]
        return ir.Add("a", ("x0", "x1"), "y", (m[0], m[1]), shift, low, high)
    shift = int(rng.integers(7, 47))
    return ir.Multiply("m", ("x0", "x1"), "y", int(rng.integers(0, min(1 << 31, 1 << (shift - 6)))), shift, low, high)


@pytest.mark.parametrize("add", [True, False])
@hypothesis.settings(max_examples=60)
@hypothesis.given(data=st.data(), seed=SEEDS)
def test_pairs_broadcast(add: bool, data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    other = [d if data.draw(st.booleans()) else 1 for d in shape][data.draw(st.integers(0, len(shape) - 1)) :]
    shapes = [tuple(shape), tuple(other)]
    if data.draw(st.booleans()):
        shapes.reverse()
    graph = eg.single(rng, pair_op(rng, add), *shapes)
    eg.check_kernels(graph, eg.feeds(rng, graph, 3))


@pytest.mark.parametrize("add", [True, False])
def test_pairs_every_pair_of_values(add: bool, rng: np.random.Generator) -> None:
    a, b = np.meshgrid(eg.ALL_INT8, eg.ALL_INT8)
    for _ in range(5):
        graph = eg.single(rng, pair_op(rng, add), (256,), (256,))
        eg.check_kernels(graph, {"x0": a, "x1": b})


@hypothesis.settings(max_examples=60)
@hypothesis.given(SEEDS, pictures())
def test_average_pool(seed: int, picture: tuple[tuple[int, ...], ir.Window]) -> None:
    rng = np.random.default_rng(seed)
    shift = int(rng.integers(1, 47))
    multiplier = int(rng.integers(0, min(1 << 31, 1 << (shift + 1))))
    graph = eg.single(rng, ir.AveragePool("p", "x0", "y", picture[1], multiplier, shift), picture[0])
    eg.check_kernels(graph, eg.feeds(rng, graph, 2))


def test_average_pool_of_nothing_is_zero(rng: np.random.Generator) -> None:
    """A dilated window may straddle the only frame: no place lies inside the picture."""
    window = ir.Window((2, 1), (1, 1), (2, 1), (1, 1, 0, 0))
    graph = eg.single(rng, ir.AveragePool("p", "x0", "y", window, 1000, 10), (1, 3))
    y = eg.check_kernels(graph, eg.feeds(rng, graph, 2))
    assert (y == graph.tensors["y"].quantization.zero_point).all()


@pytest.mark.parametrize(
    ("window", "multiplier", "shift"), [(ir.Window((65535, 1)), 1, 46), (ir.Window((65535, 99)), 2**31 - 1, 1)]
)
def test_average_pool_that_could_overflow(
    window: ir.Window, multiplier: int, shift: int, rng: np.random.Generator
) -> None:
    with pytest.raises(ir.GraphError, match="64-bit mean could overflow"):
        eg.single(rng, ir.AveragePool("p", "x0", "y", window, multiplier, shift), (65535, window.size[1], 1))


@hypothesis.settings(max_examples=40)
@hypothesis.given(SEEDS, pictures())
def test_max_pool(seed: int, picture: tuple[tuple[int, ...], ir.Window]) -> None:
    rng = np.random.default_rng(seed)
    shape = picture[0]
    window = ir.Window(picture[1].size, picture[1].stride, (2, picture[1].dilation[1]), picture[1].padding)
    hypothesis.assume(window.padding[0] + window.padding[1] + shape[0] > (window.size[0] - 1) * 2)
    graph = eg.single(rng, ir.MaxPool("p", "x0", "y", window), shape, keep=True)
    eg.check_kernels(graph, eg.feeds(rng, graph, 2))
