"""Writes an integer graph with stock TFLite ops only, weights in 8-bit containers.

Such a model runs unchanged in TFLite, LiteRT and TFLite Micro, whose kernels round each in their own way:
docs/builtin_rounding.md has the differences to ``reference/run.py`` per op. The packed op has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tflite_export import ir
from tflite_export.builtin import floats as builtin_floats
from tflite_export.builtin import functions as builtin_functions
from tflite_export.builtin import weights as builtin_weights
from tflite_export.builtin.pieces import WAY_OUT, Pieces, quantized

_INT4_CONV_VERSION, _LARGE_MUL_VERSION = 7, 3


def write(graph: ir.Graph, *, int4: bool = False, metadata: Mapping[str, bytes] | None = None) -> bytes:
    """The .tflite file of ``graph``.

    int4: dense and convolution weights whose levels fit become INT4 tensors, written as CONV_2D (TFLite Micro has no
    per-channel INT4 FULLY_CONNECTED). Half the file, but TFLite Micro unpacks a whole layer into its arena.
    metadata: entries that the file carries, by name.

    Raises ir.GraphError where an op has no stock equivalent; the message names it.
    """
    return Writer(graph, int4).write(metadata)


class Writer(Pieces):
    """Collects the ops of one graph; ``floats`` adds those of dynamic quantization."""

    def __init__(self, graph: ir.Graph, int4: bool) -> None:
        super().__init__(graph)
        self.int4 = int4

    def write(self, metadata: Mapping[str, bytes] | None) -> bytes:
        """The file."""
        self.begin_states()
        for name in self.graph.inputs:
            self.output(name)
        for op in self.graph.ops:
            self.write_op(op)
        inputs = {name: self.plain[name] for name in self.graph.inputs}
        return self.model.finish(inputs, {name: self.as_plain(name) for name in self.graph.outputs}, metadata)

    def write_op(self, op: ir.Op) -> None:
        """The stock ops of one op of the graph."""
        if isinstance(op, ir.FLOAT_OPS):
            builtin_floats.write(self, op)
        else:
            getattr(self, _METHODS[type(op)])(op)

    # Memory of a stream: a resource variable for each ring

    def begin_states(self) -> None:
        """Fills the variables with real zeros at the first call."""
        rings = [op for op in self.graph.ops if isinstance(op, ir.Ring)]
        if not rings:
            return
        with self.model.subgraph("first") as index:
            for op in rings:
                y = self.graph.tensors[op.output]
                fill = np.full((1, op.history, *y.shape[1:]), y.zero, y.dtype)
                zeros = self.model.add_constant(f"{op.output}/zeros", fill, **quantized(y))
                self.emit("ASSIGN_VARIABLE", [self.handle(op), zeros], [], "AssignVariableOptions")
        self.emit("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=index)

    def handle(self, op: ir.Ring) -> int:
        """A new handle of a ring's variable."""
        index = self.model.add_resource(f"{op.output}/handle")
        self.emit("VAR_HANDLE", [], [index], "VarHandleOptions", container="", sharedName=op.output)
        return index

    def write_ring(self, op: ir.Ring) -> None:
        """[kept, new] -> y; the last frames of y are kept."""
        y, kept = self.graph.tensors[op.output], op.history
        handle, shape = self.handle(op), (op.history, *y.shape[1:])
        before = self.model.add_activation(f"{op.output}/before", shape, y.quantization)
        after = self.model.add_activation(f"{op.output}/after", shape, y.quantization)
        self.emit("READ_VARIABLE", [handle], [before], "ReadVariableOptions")
        fields = {"axis": 1, "fusedActivationFunction": self.activation("NONE")}
        joined = self.output(op.output)
        self.emit("CONCATENATION", [before, self.as_plain(op.input)], [joined], "ConcatenationOptions", **fields)
        self.slice_axis(joined, after, op.output, range(y.shape[0] - kept, y.shape[0]), y.shape)
        self.emit("ASSIGN_VARIABLE", [handle, after], [], "AssignVariableOptions")

    def refuse_waveform(self, op: ir.Waveform) -> None:
        """No stock op multiplies samples of 16 bits and takes a logarithm."""
        raise ir.GraphError(f"{op.name}: no stock op makes features of samples as integers; {WAY_OUT}")

    def refuse_recurrent(self, op: ir.Recurrent) -> None:
        """Stock LSTMs round between their gates in ways of their own, and there is no stock GRU."""
        raise ir.GraphError(f"{op.name}: no stock op computes a recurrent layer of these integers; {WAY_OUT}")

    # Layers with weights

    def weights(self, op: ir.PackedDense | ir.Depthwise, levels: np.ndarray, shape, axis: int) -> list[int]:
        """[weights, bias] of levels [outputs, inputs]; ``shape`` and ``axis`` are those of the weight tensor."""
        x, y = (self.graph.tensors[name].quantization for name in (op.input, op.output))
        made = builtin_weights.stock_weights(op, levels, x, y)
        data, kind = (made.levels.T if axis == 3 else made.levels), "INT8"
        if self.int4_fits(op):
            data, kind = builtin_weights.pack_int4(data), "INT4"
        add = self.model.add_constant
        w = add(f"{op.name}/weights", data, shape=shape, type_name=kind, scales=made.scales, axis=axis)
        return [w, add(f"{op.name}/bias", made.bias, scales=made.scales * np.float32(x.scale))]

    def int4_fits(self, op: ir.PackedDense | ir.Depthwise) -> bool:
        """Whether a layer's weights become INT4."""
        return self.int4 and isinstance(op, ir.PackedDense) and int(np.abs(op.weights.levels).max()) <= 7

    def write_dense(self, op: ir.PackedDense) -> None:
        """FULLY_CONNECTED, or CONV_2D where it has a window."""
        outputs, inputs = op.weights.codes.shape
        low, high = op.requantization.activation_min, op.requantization.activation_max
        if op.window is None and not self.int4_fits(op):
            operands = [self.as_plain(op.input), *self.weights(op, op.weights.levels, (outputs, inputs), 0)]
            keep = len(self.graph.tensors[op.input].shape) > 1

            def fully_connected(to: int, fused: int) -> None:
                fields = {"fusedActivationFunction": fused, "keepNumDims": keep}
                self.emit("FULLY_CONNECTED", operands, [to], "FullyConnectedOptions", **fields)

            self.ranged(op, low, high, False, fully_connected)
            return
        window = op.window or ir.Window((1, 1))
        source, padding = self.padded_picture(op, self.as_picture(op.input), window)
        shape = (outputs, *window.size, inputs // window.taps)
        operands = [source, *self.weights(op, op.weights.levels, shape, 0)]

        def convolution(to: int, fused: int) -> None:
            fields = self.window_fields(window, padding, fused)
            version = _INT4_CONV_VERSION if self.int4_fits(op) else 0
            self.emit("CONV_2D", operands, [to], "Conv2DOptions", version, **fields)

        self.ranged(op, low, high, True, convolution)

    def write_depthwise(self, op: ir.Depthwise) -> None:
        """DEPTHWISE_CONV_2D."""
        window = op.window or ir.Window((1, 1))
        outputs, channels = op.levels.shape[1], self.graph.tensors[op.input].shape[-1]
        source, padding = self.padded_picture(op, self.as_picture(op.input), window)
        operands = [source, *self.weights(op, op.levels.T.astype(np.int32), (1, *window.size, outputs), 3)]

        def depthwise(to: int, fused: int) -> None:
            fields = self.window_fields(window, padding, fused) | {"depthMultiplier": outputs // channels}
            self.emit("DEPTHWISE_CONV_2D", operands, [to], "DepthwiseConv2DOptions", **fields)

        self.ranged(op, op.requantization.activation_min, op.requantization.activation_max, True, depthwise)

    # Functions of one value

    def write_lookup(self, op: ir.Lookup) -> None:
        """A clip, a stock function or a table."""
        x, y = (self.graph.tensors[name].quantization for name in (op.input, op.output))
        picture = self.has_picture_only(op.input)
        source = self.as_picture(op.input) if picture else self.as_plain(op.input)
        shape = self.picture_shape(op.input) if picture else self.graph.tensors[op.input].shape
        clip = builtin_functions.clip_range(op, x, y)
        if clip is not None:
            self.clip(op, source, shape, y, *clip, picture)
            return
        function = builtin_functions.stock_function(op, x, y)
        if function is None:
            self.write_table(op, source, shape, picture)
            return
        own = function.output is None or function.output == y
        to = self.output(op.output, picture) if own else self.model.add_activation(op.name, shape, function.output)
        options = {"LEAKY_RELU": {"options": "LeakyReluOptions", "alpha": function.alpha}}
        self.emit(function.builtin, [source], [to], **options.get(function.builtin, {}))
        if not own:
            self.emit("QUANTIZE", [to], [self.output(op.output, picture)], "QuantizeOptions")

    def write_table(self, op: ir.Lookup, source: int, shape: Sequence[int], picture: bool) -> None:
        """``table[q + 128]`` by CAST, ADD and GATHER: exact, for four bytes of RAM a value twice."""
        model, types = self.model, self.schema.TensorType
        y = self.graph.tensors[op.output].quantization
        wide, index = (model.add_int32(f"{op.name}/{part}", shape) for part in ("wide", "index"))
        self.emit("CAST", [source], [wide], "CastOptions", inDataType=types.INT8, outDataType=types.INT32)
        offset = self.constant("table_offset", [128])
        self.emit("ADD", [wide, offset], [index], "AddOptions", fusedActivationFunction=self.activation("NONE"))
        table = model.add_constant(f"{op.name}/table", op.table, scales=[y.scale], zero_points=[y.zero_point])
        self.emit("GATHER", [table, index], [self.output(op.output, picture)], "GatherOptions", axis=0)

    def write_softmax(self, op: ir.Softmax) -> None:
        """SOFTMAX."""
        scale = self.graph.tensors[op.input].quantization.scale
        beta = softmax_beta(op, scale)
        expected = float(op.table[0]) * np.exp(-beta * scale * np.arange(256))
        if np.abs(expected - op.table).max() > 2:
            raise ir.GraphError(f"{op.name}: its table is not exp() of the input's scale {scale}; {WAY_OUT}")
        self.emit("SOFTMAX", [self.as_plain(op.input)], [self.output(op.output)], "SoftmaxOptions", beta=beta)

    # Two tensors

    def operands(self, op: ir.Add | ir.Multiply) -> list[int]:
        """Both inputs at the output's rank, the batch first."""
        rank = len(self.graph.tensors[op.output].shape)
        found = []
        for name in op.inputs:
            tensor = self.graph.tensors[name]
            index = self.as_plain(name)
            if len(tensor.shape) < rank:
                shape = (1,) * (rank - len(tensor.shape)) + tensor.shape
                source, index = index, self.model.add_activation(f"{op.name}/{name}", shape, tensor.quantization)
                self.reshape(source, index, shape)
            found.append(index)
        return found

    def write_pointwise(self, op: ir.Add | ir.Multiply) -> None:
        """ADD or MUL."""
        x0, x1 = (self.graph.tensors[name].quantization.scale for name in op.inputs)
        y = self.graph.tensors[op.output].quantization.scale
        if isinstance(op, ir.Add):
            builtin, options, wanted, found = "ADD", "AddOptions", (x0 / y, x1 / y), op.multipliers
        else:
            builtin, options, wanted, found = "MUL", "MulOptions", (x0 * x1 / y,), (op.multiplier,)
        operands = self.operands(op)
        for i, (m, ratio) in enumerate(zip(found, wanted)):
            factor = m * 2.0**-op.shift / ratio
            if abs(factor - 1.0) > _RATIO:
                x = self.graph.tensors[op.inputs[i]]
                shape = (1,) * (len(self.graph.tensors[op.output].shape) - len(x.shape)) + x.shape
                operands[i] = self.at_scale(f"{op.name}/scaled_{i}", operands[i], shape, x.quantization, factor)
        version = _LARGE_MUL_VERSION if builtin == "MUL" and wanted[0] >= 1 else 0

        def pointwise(to: int, fused: int) -> None:
            self.emit(builtin, operands, [to], options, version, fusedActivationFunction=fused)

        self.ranged(op, op.activation_min, op.activation_max, False, pointwise)

    def at_scale(self, name: str, source: int, shape: Sequence[int], x: ir.Quantization, factor: float) -> int:
        """A tensor at the scale that its reader takes it at: times ``factor``, which leaves its bytes as they are."""
        scaled = self.model.add_activation(
            name, shape, ir.Quantization(float(np.float32(x.scale * factor)), x.zero_point)
        )
        one, scale = np.array([ir.INT8_MAX], np.int8), float(np.float32(factor / ir.INT8_MAX))
        factors = self.model.add_constant(f"{name}/factor", one, scales=[scale], zero_points=[0])
        fused = self.activation("NONE")
        self.emit("MUL", [source, factors], [scaled], "MulOptions", fusedActivationFunction=fused)
        return scaled

    def write_concatenate(self, op: ir.Concatenate) -> None:
        """CONCATENATION."""
        fields = {"axis": op.axis + 1, "fusedActivationFunction": self.activation("NONE")}
        sources = [self.as_plain(name) for name in op.inputs]
        self.emit("CONCATENATION", sources, [self.output(op.output)], "ConcatenationOptions", **fields)

    # Pools

    def pool_fields(self, op: ir.AveragePool | ir.MaxPool, padding: int) -> dict[str, int]:
        """Fields of the options of a pool."""
        if op.window.dilation != (1, 1):
            raise ir.GraphError(f"{op.name}: stock pools have no dilation, found {op.window.dilation}; {WAY_OUT}")
        fields = self.window_fields(op.window, padding)
        size = {"filterHeight": op.window.size[0], "filterWidth": op.window.size[1]}
        return {name: value for name, value in fields.items() if not name.startswith("dilation")} | size

    def write_max_pool(self, op: ir.MaxPool) -> None:
        """MAX_POOL_2D."""
        least = ir.INT8_MIN if self.graph.tensors[op.input].quantization else float(np.finfo(np.float32).min)
        source, padding = self.padded_picture(op, self.as_picture(op.input), op.window, least)
        fields = self.pool_fields(op, padding)
        self.emit("MAX_POOL_2D", [source], [self.output(op.output, True)], "Pool2DOptions", **fields)

    def write_average_pool(self, op: ir.AveragePool) -> None:
        """AVERAGE_POOL_2D or MEAN."""
        x, y = (self.graph.tensors[name].quantization for name in (op.input, op.output))
        height, width, _ = self.picture_shape(op.input)
        source = self.as_picture(op.input)
        factor = op.multiplier * 2.0**-op.shift * y.scale / x.scale
        if abs(factor - 1.0) > _RATIO:
            source = self.at_scale(f"{op.name}/scaled", source, self.picture_shape(op.input), x, factor)
            x = ir.Quantization(float(np.float32(x.scale * factor)), x.zero_point)
        if x != y and op.window.size == (height, width) and op.window.padding == (0, 0, 0, 0):
            axes = self.constant("height_and_width", [1, 2])
            self.emit("MEAN", [source, axes], [self.output(op.output, True)], "ReducerOptions", keepDims=True)
            return
        padding = self.stock_padding(op.window, height, width)
        if padding is None:
            raise ir.GraphError(
                f"{op.name}: the padding {op.window.padding} is neither SAME nor VALID, and an average over "
                f"explicit zeros differs; {WAY_OUT}"
            )
        fields = self.pool_fields(op, padding)
        pooled = self.output(op.output, True) if x == y else None
        if pooled is None:
            pooled = self.model.add_activation(f"{op.name}/average", self.picture_shape(op.output), x)
        self.emit("AVERAGE_POOL_2D", [source], [pooled], "Pool2DOptions", **fields)
        if x != y:
            self.emit("QUANTIZE", [pooled], [self.output(op.output, True)], "QuantizeOptions")

    # Moves

    def write_reshape(self, op: ir.Reshape) -> None:
        """RESHAPE."""
        source = self.pictures[op.input] if self.has_picture_only(op.input) else self.as_plain(op.input)
        self.reshape(source, self.output(op.output), self.graph.tensors[op.output].shape)

    def write_transpose(self, op: ir.Transpose) -> None:
        """TRANSPOSE."""
        order = self.constant(f"{op.name}/order", [0, *(axis + 1 for axis in op.permutation)])
        self.emit("TRANSPOSE", [self.as_plain(op.input), order], [self.output(op.output)], "TransposeOptions")

    def write_pad(self, op: ir.Pad) -> None:
        """PAD."""
        amounts = self.constant(f"{op.name}/padding", [(0, 0), *op.padding])
        self.emit("PAD", [self.as_plain(op.input), amounts], [self.output(op.output)], "PadOptions")

    def write_slice(self, op: ir.Slice) -> None:
        """STRIDED_SLICE."""
        shape = self.graph.tensors[op.input].shape
        taken = op.places(shape)
        self.slice_axis(self.as_plain(op.input), self.output(op.output), op.name, taken, shape, op.axis + 1)


_METHODS = {
    ir.PackedDense: "write_dense",
    ir.Depthwise: "write_depthwise",
    ir.Lookup: "write_lookup",
    ir.Softmax: "write_softmax",
    ir.Add: "write_pointwise",
    ir.Multiply: "write_pointwise",
    ir.AveragePool: "write_average_pool",
    ir.MaxPool: "write_max_pool",
    ir.Concatenate: "write_concatenate",
    ir.Reshape: "write_reshape",
    ir.Transpose: "write_transpose",
    ir.Pad: "write_pad",
    ir.Slice: "write_slice",
    ir.Ring: "write_ring",
    ir.Recurrent: "refuse_recurrent",
    ir.Waveform: "refuse_waveform",
}


_RATIO = 1e-3
"""Two multipliers that differ by less are the same, rounded otherwise."""


def softmax_beta(op: ir.Softmax, scale: float) -> float:
    """What the op multiplies its input with ahead of exp(): 1, or the factor of a Rescaling that it took in."""
    places = np.flatnonzero(op.table)[1:]
    weights = op.table[places].astype(np.float64) ** 2
    slopes = -np.log(op.table[places] / float(op.table[0])) / scale
    found = float((weights * slopes * places).sum() / max((weights * places**2.0).sum(), 1e-30))
    return 1.0 if not len(places) or abs(found - 1.0) <= _RATIO else found
