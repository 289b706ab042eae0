"""Writes an integer graph as a .tflite file with packed weights.

Arithmetic runs in our custom ops, which give the same bits in every interpreter. Ops that only move data, and the
maximum, are stock ones, which are exact everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tflite_export import ir
from tflite_export.flatbuffer.model import ModelBuilder, schema
from tflite_export.packed import packing, recurrent
from tflite_export.packed.op_options import CUSTOM_CODES, GRIDS, RING_HEAD, Framing, Kind, Options, encode
from tflite_export.version import VERSION

DESCRIPTION = "tflite_export {version} packed"
FLOAT_KINDS: dict[type, Kind] = {
    ir.FloatFunction: Kind.LOOKUP,
    ir.FloatSoftmax: Kind.SOFTMAX,
    ir.FloatDepthwise: Kind.DEPTHWISE,
    ir.FloatAdd: Kind.ADD,
    ir.FloatMultiply: Kind.MULTIPLY,
    ir.FloatAverage: Kind.AVERAGE_POOL,
}
"""Kinds whose dynamic mode does these ops."""
MAX_RANK = 6
"""Axes that our ops take, with the batch axis."""


class WriteError(ValueError):
    """A graph that cannot be written; the message names the op."""


def write(graph: ir.Graph, target: str = "any", metadata: Mapping[str, bytes] | None = None) -> bytes:
    """The graph as the bytes of a .tflite file; the same graph makes the same bytes.

    target: one of ``packing.TARGETS``; another than "any" packs weights for kernels that only such chips have.
    metadata: entries that the file carries, by name.
    Raises WriteError or ValueError where a graph is not supported.
    """
    return _Writer(graph, DESCRIPTION.format(version=VERSION), target).write(metadata)


def channel_parameters(
    requantization: ir.Requantization, sums: np.ndarray | None = None
) -> tuple[np.ndarray, int, int, int]:
    """Gains, biases and, where given, sums of weights as uint8 [bytes], and the bytes of one of each.

    A gain and a bias have 1 or 2 bytes, a sum 2 or 4; 0 where there are no sums.
    """
    columns = [(requantization.gain, 1), (requantization.bias, 1), *([(sums, 2)] if sums is not None else [])]
    parts, widths = [], []
    for values, least in columns:
        width = _least_width(values, least)
        parts.append(values.astype(f"<i{width}").tobytes())
        widths.append(width)
    return np.frombuffer(b"".join(parts), np.uint8), widths[0], widths[1], widths[2] if sums is not None else 0


def pool_padding(window: ir.Window, shape: tuple[int, ...]) -> str | None:
    """ "VALID" or "SAME" where a stock pool over [height, width, channels] does what the window says; else None."""
    if len(shape) != 3 or window.dilation != (1, 1):
        return None
    if window.padding == (0, 0, 0, 0):
        return "VALID"
    for axis in range(2):
        length, size, stride = shape[axis], window.size[axis], window.stride[axis]
        total = max(0, (-(-length // stride) - 1) * stride + size - length)
        if window.padding[2 * axis : 2 * axis + 2] != (total // 2, total - total // 2):
            return None
    return "SAME"


def max_pool_options(op: ir.MaxPool, y: ir.Tensor) -> Options:
    """Options of our own maximum pool with that output."""
    return Options(Kind.MAX_POOL, window=op.window, dynamic=y.quantization is None)


def ring_options(op: ir.Ring, y: ir.Tensor) -> Options:
    """Options of a ring with that output; the zero point is what it begins with."""
    return Options(Kind.RING, output_zero_point=y.zero, outputs=op.history, dynamic=y.quantization is None)


def dynamic_parameters(op: ir.DynamicDense) -> tuple[np.ndarray, Options]:
    """Gains, biases, sums and zeros of a dynamic dense layer as uint8 [bytes], and its options but for the window."""
    weights = op.weights
    sums = weights.levels.sum(axis=1)
    biases = op.bias if op.bias is not None else np.zeros(0, np.int16)
    parts, widths = [], []
    for values, least in ((op.gain, 1), (biases, 1), (sums, 2)):
        width = _least_width(values, least)
        parts.append(values.astype(f"<i{width}").tobytes())
        widths.append(width if len(values) else 0)
    if weights.zeros is not None:
        parts.append(weights.zeros.astype("<u2" if weights.bits > 8 else "u1").tobytes())
    outputs, inputs = weights.codes.shape
    options = Options(
        Kind.PACKED_DENSE,
        bits=weights.bits,
        grid=GRIDS.index(weights.grid),
        gain_bytes=widths[0],
        bias_bytes=widths[1],
        sum_bytes=widths[2],
        outputs=outputs,
        inputs=inputs,
        window=op.window,
        dynamic=True,
        units=(op.gain_unit, op.bias_unit),
        input_bits=op.input_bits,
        function=ir.FUNCTIONS.index(op.function),
    )
    return np.frombuffer(b"".join(parts), np.uint8), options


def _least_width(values: np.ndarray, least: int) -> int:
    """``least`` bytes where all integers fit them, else twice as many."""
    limit = 1 << (8 * least - 1)
    return least if values.min(initial=0) >= -limit and values.max(initial=0) < limit else 2 * least


def state_bytes(op: ir.Ring, graph: ir.Graph) -> int:
    """Bytes of a ring's state: where it begins, and the frames; see ``kernels/include/packed_kernels.h``."""
    y = graph.tensors[op.output]
    return RING_HEAD + op.history * int(np.prod(y.shape[1:], dtype=np.int64)) * y.dtype.itemsize


class _Writer:
    def __init__(self, graph: ir.Graph, description: str, target: str) -> None:
        self.graph, self.target = graph, target
        self.builder = ModelBuilder(graph.name, description)
        self.indices: dict[str, int] = {}

    def write(self, metadata: Mapping[str, bytes] | None) -> bytes:
        graph = self.graph
        used = [*graph.inputs, *(op.output for op in graph.ops)]
        for name in used:
            tensor = graph.tensors[name]
            if len(tensor.shape) + 1 > MAX_RANK:
                raise WriteError(f"tensor {name!r}: at most {MAX_RANK - 1} axes and the batch, found {tensor.shape}")
            self.indices[name] = self.builder.add_activation(name, tensor.shape, tensor.quantization, tensor.wide)
        for number, op in enumerate(graph.ops):
            self.add(op, number)
        return self.builder.finish(
            {name: self.indices[name] for name in graph.inputs},
            {name: self.indices[name] for name in graph.outputs},
            metadata,
        )

    def zero_point(self, name: str) -> int:
        return self.graph.tensors[name].quantization.zero_point

    def places(self, name: str) -> int:
        """Rows of channels of a tensor, the batch aside."""
        return int(np.prod(self.graph.tensors[name].shape[:-1], dtype=np.int64))

    def add(self, op: ir.Op, number: int) -> None:
        if isinstance(op, ir.FLOAT_OPS):
            self.add_float(op, number)
        elif isinstance(op, (ir.PackedDense, ir.Depthwise)):
            self.add_weighted(op, number)
        elif isinstance(op, ir.Recurrent):
            self.add_recurrent(op, number)
        elif isinstance(op, ir.Waveform):
            self.add_waveform(op, number)
        elif isinstance(op, ir.Lookup):
            self.add_custom(op, Options(Kind.LOOKUP), self.builder.add_constant(f"t{number}", op.table))
        elif isinstance(op, ir.Softmax):
            table = np.frombuffer(op.table.astype("<u2").tobytes(), np.uint8)
            self.add_custom(op, Options(Kind.SOFTMAX), self.builder.add_constant(f"t{number}", table))
        elif isinstance(op, (ir.Add, ir.Multiply)):
            self.add_pair(op)
        elif isinstance(op, ir.AveragePool):
            self.add_average(op)
        elif isinstance(op, ir.Ring):
            options = ring_options(op, self.graph.tensors[op.output])
            self.add_custom(op, options, self.add_state(op, number))
        else:
            self.add_stock(op, number)

    def add_state(self, op: ir.Ring, number: int) -> int:
        return self.builder.add_variable(f"s{number}", state_bytes(op, self.graph))

    def add_custom(self, op: ir.Op, options: Options, *constants: int) -> None:
        inputs = [self.indices[name] for name in ir.op_inputs(op)]
        self.builder.add_custom(
            CUSTOM_CODES[options.kind], [*inputs, *constants], [self.indices[op.output]], encode(options)
        )

    def add_weighted(self, op: ir.PackedDense | ir.Depthwise, number: int) -> None:
        rq = op.requantization
        packed, zero_point = isinstance(op, ir.PackedDense), self.zero_point(op.input)
        sums = op.weights.levels.sum(axis=1, dtype=np.int64) if packed and zero_point else None
        channels, gain_bytes, bias_bytes, sum_bytes = channel_parameters(rq, sums)
        options = Options(
            Kind.DEPTHWISE,
            activation_min=rq.activation_min,
            activation_max=rq.activation_max,
            input_zero_points=(zero_point, 0),
            output_zero_point=self.zero_point(op.output),
            gain_bytes=gain_bytes,
            bias_bytes=bias_bytes,
            bias_shift=rq.bias_shift,
            shift=rq.shift,
            multipliers=(rq.multiplier, 0),
            window=op.window,
            sum_bytes=sum_bytes,
        )
        if isinstance(op, ir.PackedDense):
            outputs, inputs = op.weights.codes.shape
            bits, grid = op.weights.bits, GRIDS.index(op.weights.grid)
            layout = packing.layout_for(self.target, bits, self.places(op.output))
            data = np.frombuffer(packing.pack(op.weights, layout), np.uint8)
            options = dataclasses.replace(options, kind=Kind.PACKED_DENSE, bits=bits, grid=grid, layout=layout)
        else:
            inputs, outputs = op.levels.shape
            data = op.levels
        options = dataclasses.replace(options, outputs=outputs, inputs=inputs)
        weights = self.builder.add_constant(f"w{number}", data)
        self.add_custom(op, options, weights, self.builder.add_constant(f"c{number}", channels))

    def add_recurrent(self, op: ir.Recurrent, number: int) -> None:
        layout = packing.layout_for(self.target, op.kernel.bits, places=1)  # row by row
        data, options = recurrent.write(op, self.zero_point(op.input), self.graph.tensors[op.output], layout)
        constants = [self.builder.add_constant(f"w{number}", data)]
        if op.keeps:
            constants.append(self.builder.add_variable(f"s{number}", op.state_bytes))
        inputs = [self.indices[op.input], *constants]
        if op.state is not None:
            inputs.append(self.indices[op.state])
        self.builder.add_custom(CUSTOM_CODES[options.kind], inputs, [self.indices[op.output]], encode(options))

    def add_waveform(self, op: ir.Waveform, number: int) -> None:
        rq, weights = op.requantization, op.weights
        channels, gain_bytes, bias_bytes, sum_bytes = channel_parameters(rq, weights.levels.sum(axis=1, dtype=np.int64))
        layout = packing.layout_for(self.target, weights.bits, self.places(op.output) * op.average)
        options = Options(
            Kind.WAVEFORM,
            activation_min=rq.activation_min,
            activation_max=rq.activation_max,
            output_zero_point=self.zero_point(op.output),
            bits=weights.bits,
            grid=GRIDS.index(weights.grid),
            gain_bytes=gain_bytes,
            bias_bytes=bias_bytes,
            bias_shift=rq.bias_shift,
            shift=rq.shift,
            multipliers=(rq.multiplier, op.floor),
            outputs=len(weights.codes),
            inputs=op.taps,
            layout=layout,
            sum_bytes=sum_bytes,
            framing=Framing(op.stride, op.average),
        )
        data = np.frombuffer(packing.pack(weights, layout), np.uint8)
        constant = self.builder.add_constant(f"w{number}", data)
        self.add_custom(op, options, constant, self.builder.add_constant(f"c{number}", channels))

    def add_float(self, op: ir.Op, number: int) -> None:
        if isinstance(op, ir.DynamicDense):
            channels, options = dynamic_parameters(op)
            data = np.frombuffer(packing.pack_tight(op.weights.codes, op.weights.bits), np.uint8)
            constants = (("w", data), ("c", channels))
        else:
            options, constants = Options(FLOAT_KINDS[type(op)], dynamic=True), ()
            if hasattr(op, "function"):
                options = dataclasses.replace(options, function=ir.FUNCTIONS.index(op.function))
            if isinstance(op, ir.FloatAverage):
                options = dataclasses.replace(options, window=op.window)
            if isinstance(op, ir.FloatDepthwise):
                inputs, outputs = op.kernel.shape
                options = dataclasses.replace(options, window=op.window, inputs=inputs, outputs=outputs)
                constants = (("w", op.kernel), ("c", op.bias))
        self.add_custom(op, options, *(self.builder.add_constant(f"{k}{number}", v) for k, v in constants))

    def add_pair(self, op: ir.Add | ir.Multiply) -> None:
        add = isinstance(op, ir.Add)
        self.add_custom(
            op,
            Options(
                Kind.ADD if add else Kind.MULTIPLY,
                activation_min=op.activation_min,
                activation_max=op.activation_max,
                input_zero_points=(self.zero_point(op.inputs[0]), self.zero_point(op.inputs[1])),
                output_zero_point=self.zero_point(op.output),
                shift=op.shift,
                multipliers=op.multipliers if add else (op.multiplier, 0),
            ),
        )

    def add_average(self, op: ir.AveragePool) -> None:
        self.add_custom(
            op,
            Options(
                Kind.AVERAGE_POOL,
                activation_min=ir.INT8_MIN,
                activation_max=ir.INT8_MAX,
                input_zero_points=(self.zero_point(op.input), 0),
                output_zero_point=self.zero_point(op.output),
                shift=op.shift,
                multipliers=(op.multiplier, 0),
                window=op.window,
            ),
        )

    def add_stock(self, op: ir.Op, number: int) -> None:
        s, builder = schema(), self.builder
        x = [self.indices[name] for name in ir.op_inputs(op)]
        y = [self.indices[op.output]]
        shape = self.graph.tensors[ir.op_inputs(op)[0]].shape
        out_shape = self.graph.tensors[op.output].shape

        def constant(values: object) -> int:
            return builder.add_constant(f"p{number}", np.asarray(values, np.int32))

        if isinstance(op, ir.MaxPool):
            padding = pool_padding(op.window, shape)
            if padding is None:
                self.add_custom(op, max_pool_options(op, self.graph.tensors[op.output]))
                return
            options = s.Pool2DOptionsT()
            options.padding = getattr(s.Padding, padding)
            options.filterHeight, options.filterWidth = op.window.size
            options.strideH, options.strideW = op.window.stride
            builder.add_builtin("MAX_POOL_2D", x, y, options, version=2)
        elif isinstance(op, ir.Concatenate):
            options = s.ConcatenationOptionsT()
            options.axis = op.axis + 1
            builder.add_builtin("CONCATENATION", x, y, options, version=2)
        elif isinstance(op, ir.Reshape):
            options = s.ReshapeOptionsT()
            options.newShape = [-1, *out_shape]
            builder.add_builtin("RESHAPE", [*x, constant([-1, *out_shape])], y, options)
        elif isinstance(op, ir.Transpose):
            permutation = constant([0, *(p + 1 for p in op.permutation)])
            builder.add_builtin("TRANSPOSE", [*x, permutation], y, s.TransposeOptionsT(), version=2)
        elif isinstance(op, ir.Pad):
            builder.add_builtin("PAD", [*x, constant([(0, 0), *op.padding])], y, s.PadOptionsT(), version=2)
        else:
            self.add_slice(op, number, x, y, shape)

    def add_slice(self, op: ir.Slice, number: int, x: list[int], y: list[int], shape: tuple[int, ...]) -> None:
        places, cut = op.places(shape), 1 << (op.axis + 1)
        options = schema().StridedSliceOptionsT()
        free = ((1 << (len(shape) + 1)) - 1) & ~cut  # every other axis is taken whole
        options.beginMask, options.endMask = free, free
        if places.step < 0 and places.stop < 0:
            options.endMask |= cut
        parts = []
        for letter, value, fill in (("b", places.start, 0), ("e", max(places.stop, 0), 0), ("s", places.step, 1)):
            values = np.full(len(shape) + 1, fill, np.int32)
            values[op.axis + 1] = value
            parts.append(self.builder.add_constant(f"{letter}{number}", values))
        self.builder.add_builtin("STRIDED_SLICE", [*x, *parts], y, options, version=2)
