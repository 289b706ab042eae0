"""Integer graphs for the export tests, and the C kernels called directly."""

from __future__ import annotations

import ctypes
import dataclasses
import unittest.mock

import numpy as np
import recurrent_graphs
import waveform_graphs

from tflite_export import ir
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.packed import packing
from tflite_export.packed import writer as tflite_writer
from tflite_export.packed.op_options import KINDS
from tflite_export.reference import run as reference
from tflite_export.runtimes import native
from tflite_export.runtimes.kernels import Kernel

ALL_INT8 = np.arange(-128, 128).astype(np.int8)
FLOAT32, INT8 = 1, 9
"""Element types as kernels number them, which is TfLiteType's way; a file numbers floats 0."""


def quantization(rng: np.random.Generator) -> ir.Quantization:
    """Zero points at the ends of the range, and 0, more often than by chance."""
    zero_point = int(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 2), *rng.integers(-40, 40, 5)]))
    return ir.Quantization(2.0 ** -int(rng.integers(0, 12)), zero_point)


def requantization(rng: np.random.Generator, outputs: int, bound: int, terms: int) -> ir.Requantization:
    """Constants that spread sums of ``terms`` products, ``bound`` at most, over the int8 range and a bit past it."""
    wide = rng.integers(0, 2, 2)
    gain = rng.integers(-32768 if wide[0] else -128, 32768 if wide[0] else 128, outputs).astype(np.int16)
    bias = rng.integers(-32768 if wide[1] else -128, 32768 if wide[1] else 128, outputs).astype(np.int16)
    multiplier = int(rng.integers(1, 1 << int(rng.integers(8, 31))))
    largest = max(1, int(np.abs(gain.astype(np.int64)).max()))
    while bound * largest * multiplier >= 1 << 61:
        multiplier >>= 2
    typical = bound / (3 * np.sqrt(terms)) * largest / 2 * multiplier
    shift = int(np.clip(np.round(np.log2(max(1, typical) / 40)), 1, 61))
    bias_shift = int(np.clip(shift + 5 - int(np.abs(bias.astype(np.int64)).max()).bit_length(), 0, 45))
    low, high = (-128, 127) if rng.integers(0, 2) else (int(rng.integers(-128, -40)), int(rng.integers(40, 128)))
    return ir.Requantization(gain, bias, multiplier, bias_shift, shift, low, high)


def weights(rng: np.random.Generator, outputs: int, inputs: int, bits: int, grid: ir.Grid) -> ir.Weights:
    low = 0 if grid == "mid-rise" else 1
    return ir.Weights(rng.integers(low, 1 << bits, (outputs, inputs)).astype(np.uint8), bits, grid)


def single(rng: np.random.Generator, op: ir.Op, *shapes: tuple[int, ...], keep: bool = False) -> ir.Graph:
    """A graph of one op whose inputs are called x0, x1, ... and whose output is y; its output shape is worked out."""
    same = quantization(rng)
    tensors = {
        f"x{i}": ir.Tensor(f"x{i}", shape, same if keep else quantization(rng)) for i, shape in enumerate(shapes)
    }
    fixed = ir.Quantization(1 / 256, -128) if isinstance(op, ir.Softmax) else same if keep else quantization(rng)
    shape = ir.Graph._output_shape(_NoGraph(), op, list(tensors.values()), None)  # type: ignore[arg-type]
    tensors["y"] = ir.Tensor("y", shape, fixed)
    return ir.Graph(tensors, (op,), tuple(f"x{i}" for i in range(len(shapes))), ("y",))


class _NoGraph:
    """Lets the shape rules run before there is a graph."""

    def _weighted_shape(self, op: ir.PackedDense | ir.Depthwise, x: ir.Tensor) -> tuple[int, ...]:
        outputs = len(op.requantization.gain)
        if op.window:
            return ir.windowed_shape(x.shape, op.window, outputs, op.name)
        return (*x.shape[:-1], outputs)


def dense(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    outputs: int,
    bits: int,
    grid: ir.Grid = "mid-rise",
    window: ir.Window | None = None,
) -> ir.Graph:
    inputs = shape[-1] * (window.taps if window else 1)
    w = weights(rng, outputs, inputs, bits, grid)
    bound = int(np.abs(w.levels).sum(axis=1).max()) * 255
    return single(
        rng, ir.PackedDense("dense", "x0", "y", w, requantization(rng, outputs, bound, inputs), window), shape
    )


def depthwise(
    rng: np.random.Generator, shape: tuple[int, ...], multiple: int = 1, window: ir.Window | None = None
) -> ir.Graph:
    outputs = shape[-1] * multiple
    levels = rng.integers(-128, 128, (window.taps if window else 1, outputs)).astype(np.int8)
    bound = int(np.abs(levels.astype(np.int64)).sum(axis=0).max()) * 255
    rq = requantization(rng, outputs, max(1, bound), len(levels))
    return single(rng, ir.Depthwise("depthwise", "x0", "y", levels, rq, window), shape)


def softmax_table(scale: float) -> np.ndarray:
    return np.floor(2**15 * np.exp(-scale * np.arange(256)) + 0.5).astype(np.uint16)


def feeds(rng: np.random.Generator, graph: ir.Graph, batch: int) -> dict[str, np.ndarray]:
    """Random inputs with many at the ends of the range."""
    out = {}
    for name in graph.inputs:
        if graph.tensors[name].wide:
            out[name] = waveform_graphs.noise(rng, (batch, *graph.tensors[name].shape))
            continue
        x = rng.integers(-128, 128, (batch, *graph.tensors[name].shape)).astype(np.int8)
        ends = rng.choice(np.array([-128, 127], np.int8), x.shape)
        out[name] = np.where(rng.random(x.shape) < 0.1, ends, x)
    return out


class CTensor(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.POINTER(ctypes.c_int32)),
        ("bytes", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
    ]


class CCall(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("options", ctypes.c_char_p),
        ("options_bytes", ctypes.c_size_t),
        ("input_count", ctypes.c_int),
        ("inputs", CTensor * 3),
        ("scratch", ctypes.c_void_p),
        ("scratch_bytes", ctypes.c_size_t),
    ]


class CError(ctypes.Structure):
    _fields_ = [("message", ctypes.c_char_p), ("found", ctypes.c_long), ("wanted", ctypes.c_long)]


class Refused(Exception):
    """What a kernel says of a call that it does not take."""


def kernels(kind: int) -> list[Kernel]:
    """Every compiled kernel of a kind."""
    library = native.load()
    count = ctypes.c_size_t.in_dll(library, "kws_kernel_count").value
    return [k for k in (Kernel * count).in_dll(library, "kws_kernels") if k.kind == kind]


@dataclasses.dataclass
class Call:
    """One call of a kernel, taken from a written file; tests change its parts to make it lie."""

    kind: int
    options: bytes
    inputs: list[tuple[int, tuple[int, ...], np.ndarray]]
    output_shape: tuple[int, ...]
    scratch_bytes: int = 1 << 16
    output_type: int = INT8

    def run(self, kernel: Kernel | None = None) -> np.ndarray:
        """The output, or Refused. Guard bytes around the output must stay as they were."""
        library = native.load()
        library.kws_invoke.restype = library.kws_invoke_kernel.restype = ctypes.c_bool
        keep = []

        def tensor(kind: int, shape: tuple[int, ...], data: np.ndarray) -> CTensor:
            dims = (ctypes.c_int32 * max(1, len(shape)))(*shape)
            keep.append((dims, data))
            return CTensor(kind, len(shape), dims, data.nbytes, data.ctypes.data)

        call = CCall(self.kind, self.options, len(self.options), len(self.inputs))
        for i, (kind, shape, data) in enumerate(self.inputs[:3]):
            call.inputs[i] = tensor(kind, shape, data)
        scratch = np.empty(self.scratch_bytes, np.int8)
        call.scratch, call.scratch_bytes = scratch.ctypes.data, scratch.nbytes
        dtype = np.dtype(np.float32 if self.output_type == FLOAT32 else np.int8)
        size = int(np.prod(self.output_shape)) * dtype.itemsize
        guarded = np.full(size + 32, 85, np.int8)
        output = tensor(self.output_type, self.output_shape, guarded[16 : 16 + size])
        error = CError()
        if kernel is None:
            good = library.kws_invoke(ctypes.byref(call), ctypes.byref(output), ctypes.byref(error))
        else:
            good = library.kws_invoke_kernel(
                ctypes.byref(kernel), ctypes.byref(call), ctypes.byref(output), ctypes.byref(error)
            )
        assert (guarded[:16] == 85).all() and (guarded[16 + size :] == 85).all(), "wrote outside the output"
        if not good:
            raise Refused(error.message.decode())
        return guarded[16 : 16 + size].view(dtype).reshape(self.output_shape)


def call_of(graph: ir.Graph, values: dict[str, np.ndarray], target: str = "any") -> Call:
    """The call that an interpreter would make for a graph of one custom op.

    Weights have the target's own layout however few places there are: other files may have it.
    """
    with unittest.mock.patch.dict(packing.LEAST_PLACES, clear=True):
        model = flatbuffer_reader.parse(tflite_writer.write(graph, target=target))
    (op,) = model.operators
    batch = len(values[graph.inputs[0]])
    inputs = []
    for index in op.inputs:
        t = model.tensors[index]
        kind = t.type or FLOAT32
        if t.data is None:
            inputs.append((kind, (batch, *t.shape[1:]), np.ascontiguousarray(values[t.name])))
        else:
            inputs.append((kind, t.shape, np.frombuffer(t.data, np.uint8)))
    output_type = INT8 if graph.tensors["y"].quantization else FLOAT32
    shape = (batch, *graph.tensors["y"].shape)
    return Call(int(KINDS[op.name]), op.custom_options, inputs, shape, output_type=output_type)


def check_kernels(graph: ir.Graph, values: dict[str, np.ndarray]) -> np.ndarray:
    """Asserts that every compiled kernel gives the bits of the reference, in every layout; returns them."""
    expected = reference.run(graph, values)["y"]
    op = graph.ops[0]
    packed = {ir.PackedDense: "weights", ir.Recurrent: "kernel", ir.Waveform: "weights"}.get(type(op))
    for target in packing.different_targets(getattr(op, packed).bits) if packed else ("any",):
        call = call_of(graph, values, target)
        ran = 0
        for kernel in kernels(call.kind):
            try:
                y = call.run(kernel)
            except Refused as refused:
                assert str(refused) == "the kernel cannot run this op"
                continue
            np.testing.assert_array_equal(y, expected, err_msg=f"{kernel.name.decode()}, {target}", strict=True)
            ran += 1
        assert ran >= 1 + (
            target == "any" and isinstance(op, (ir.PackedDense, ir.DynamicDense, ir.Recurrent, ir.Waveform))
        )
    return expected


class Maker:
    """Builds a graph op by op; every method returns the name of its output."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.ops, self.inputs = rng, [], []
        self.tensors: dict[str, ir.Tensor] = {}

    def input(self, *shape: int) -> str:
        name = f"in{len(self.inputs)}"
        self.tensors[name] = ir.Tensor(name, shape, quantization(self.rng))
        self.inputs.append(name)
        return name

    def sound(self, samples: int) -> str:
        name = f"in{len(self.inputs)}"
        self.tensors[name] = ir.Tensor(name, (samples, 1), ir.Quantization(ir.SAMPLE_SCALE, 0), wide=True)
        self.inputs.append(name)
        return name

    def _add(self, op_type: type, inputs: tuple[str, ...], keep: bool = False, **fields: object) -> str:
        name = f"{op_type.__name__.lower()}_{len(self.ops)}"
        source = {"inputs": inputs} if "inputs" in op_type.__dataclass_fields__ else {"input": inputs[0]}
        op = op_type(name=name, output=name, **source, **fields)
        q = self.tensors[inputs[0]].quantization if keep else quantization(self.rng)
        if op_type is ir.Softmax:
            q = ir.Quantization(1 / 256, -128)
        shape = fields.get("shape")
        if shape is None:
            shape = ir.Graph._output_shape(_NoGraph(), op, [self.tensors[i] for i in inputs], None)
        self.tensors[name] = ir.Tensor(name, tuple(shape), q)
        self.ops.append(op)
        return name

    def dense(
        self, x: str, outputs: int, bits: int, grid: ir.Grid = "mid-rise", window: ir.Window | None = None
    ) -> str:
        inputs = self.tensors[x].shape[-1] * (window.taps if window else 1)
        w = weights(self.rng, outputs, inputs, bits, grid)
        rq = requantization(self.rng, outputs, int(np.abs(w.levels).sum(axis=1).max()) * 255, inputs)
        return self._add(ir.PackedDense, (x,), weights=w, requantization=rq, window=window)

    def depthwise(self, x: str, multiple: int = 1, window: ir.Window | None = None) -> str:
        graph = depthwise(self.rng, self.tensors[x].shape, multiple, window)
        (op,) = graph.ops
        return self._add(ir.Depthwise, (x,), levels=op.levels, requantization=op.requantization, window=window)

    def waveform(self, x: str, **fields: object) -> str:
        op = waveform_graphs.op(self.rng, **fields)
        parts = {name: getattr(op, name) for name in ("weights", "requantization", "stride", "average", "floor")}
        return self._add(ir.Waveform, (x,), **parts)

    def lookup(self, x: str) -> str:
        return self._add(ir.Lookup, (x,), table=self.rng.permutation(ALL_INT8))

    def softmax(self, x: str) -> str:
        return self._add(ir.Softmax, (x,), table=softmax_table(1 / 20))

    def add(self, x0: str, x1: str) -> str:
        return self._add(ir.Add, (x0, x1), multipliers=(900, 700), shift=10)

    def multiply(self, x0: str, x1: str) -> str:
        return self._add(ir.Multiply, (x0, x1), multiplier=20, shift=10)

    def average_pool(self, x: str, window: ir.Window) -> str:
        return self._add(ir.AveragePool, (x,), window=window, multiplier=3000, shift=11)

    def max_pool(self, x: str, window: ir.Window) -> str:
        return self._add(ir.MaxPool, (x,), keep=True, window=window)

    def concatenate(self, axis: int, *x: str) -> str:
        return self._add(ir.Concatenate, x, keep=True, axis=axis)

    def transpose(self, x: str, *permutation: int) -> str:
        return self._add(ir.Transpose, (x,), keep=True, permutation=permutation)

    def pad(self, x: str, *padding: tuple[int, int]) -> str:
        return self._add(ir.Pad, (x,), keep=True, padding=padding)

    def slice(self, x: str, begin: int, end: int, stride: int, axis: int = 0) -> str:
        return self._add(ir.Slice, (x,), keep=True, begin=begin, end=end, stride=stride, axis=axis)

    def ring(self, x: str, history: int) -> str:
        return self._add(ir.Ring, (x,), keep=True, history=history)

    def recurrent(self, x: str, cell: str, units: int, bits: int, sequences: bool = True) -> str:
        time, channels = self.tensors[x].shape
        name, own = f"recurrent_{len(self.ops)}", ir.Quantization(1 / 128, 0)
        sizes = ((channels, self.tensors[x].quantization.scale), (units, own.scale))
        parts = recurrent_graphs.random_parts(self.rng, cell, units, sizes, bits, "mid-rise")
        self.tensors[name] = ir.Tensor(name, (time, units) if sequences else (units,), own)
        self.ops.append(ir.Recurrent(name, x, name, cell, *parts, sequences=sequences))
        return name

    def reshape(self, x: str, *shape: int) -> str:
        name = f"reshape_{len(self.ops)}"
        self.tensors[name] = ir.Tensor(name, shape, self.tensors[x].quantization)
        self.ops.append(ir.Reshape(name, x, name))
        return name

    def graph(self, *outputs: str) -> ir.Graph:
        return ir.Graph(self.tensors, tuple(self.ops), tuple(self.inputs), outputs, "test")


def every_op(rng: np.random.Generator) -> ir.Graph:
    """One graph with every kind of op, over [time, channels] and over pictures, with two inputs and two outputs."""
    m = Maker(rng)
    frames, sound = m.input(20, 6), m.sound(130)
    x = m.dense(frames, 12, 3, window=ir.Window((5, 1), (2, 1), (1, 1), (2, 1, 0, 0)))
    x = m.depthwise(x, 1, ir.Window((3, 1), padding=(1, 1, 0, 0)))
    x = m.add(x, m.lookup(x))
    x = m.max_pool(x, ir.Window((2, 1), (1, 1), padding=(1, 0, 0, 0)))
    x = m.average_pool(x, ir.Window((2, 1), (2, 1)))
    x = m.concatenate(0, m.slice(x, 0, 4, 2), m.slice(x, 1, 4, 1), m.slice(x, -1, -99, -2))
    x = m.concatenate(1, m.slice(x, 6, 12, 1, axis=1), m.slice(x, 0, 12, 2, axis=1))
    x = m.pad(x, (1, 2), (0, 3))
    x = m.recurrent(x, "lstm", 16, 4)
    x = m.recurrent(x, "gru", 15, 5)
    shape = m.tensors[x].shape
    picture = m.reshape(x, shape[0], 5, shape[1] // 5)
    picture = m.transpose(picture, 1, 0, 2)
    picture = m.dense(picture, 9, 5, "mid-tread", ir.Window((2, 3), (1, 2), (2, 1), (1, 1, 1, 0)))
    picture = m.depthwise(picture, 2, ir.Window((3, 3), padding=(1, 1, 1, 1)))
    picture = m.max_pool(picture, ir.Window((2, 2), (2, 2)))
    picture = m.depthwise(picture)
    flat = m.reshape(picture, m.tensors[picture].size)
    heard = m.waveform(sound, filters=7, taps=33, stride=5, average=2, bits=3)
    heard = m.average_pool(heard, ir.Window((m.tensors[heard].shape[0], 1)))
    gate = m.dense(m.reshape(heard, 7), m.tensors[picture].shape[-1], 8)
    scaled = m.multiply(picture, gate)
    pooled = m.average_pool(scaled, ir.Window(m.tensors[scaled].shape[:2]))
    out = m.softmax(m.dense(m.reshape(pooled, m.tensors[pooled].size), 5, 1))
    return m.graph(out, m.dense(flat, 3, 2))


def spotter(rng: np.random.Generator, bits: int = 4) -> ir.Graph:
    """A small keyword spotter: windows over time, dense layers, softmax."""
    m = Maker(rng)
    x = m.dense(m.input(49, 40), 32, bits, window=ir.Window((10, 1), (3, 1)))
    x = m.reshape(x, m.tensors[x].size)
    return m.graph(m.softmax(m.dense(m.dense(x, 64, bits), 9, bits)))
