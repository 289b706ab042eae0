"""A Keras model of ``kws_scheme`` in stage 2 -> the integer graph.

No number is made here: each layer gives its integers by the functions that training runs.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export import ir
from tfmot_kws.keras import keras
from tfmot_kws.models import time_layers as streaming
from tfmot_kws.quantize import layers as ql
from tfmot_kws.quantize import ops as qo
from tfmot_kws.quantize import rewrite

L = keras.layers
_POOLS = {
    L.MaxPooling1D: 1, L.MaxPooling2D: 2, L.GlobalMaxPooling1D: 1, L.GlobalMaxPooling2D: 2,
    streaming.TimeMaxPooling1D: 1,
}  # fmt: skip
_SOFTMAX = ir.Quantization(qo.SOFTMAX_SCALE, -128)


class ExportError(ValueError):
    """The model cannot be exported as it is; the message says what to do."""


class Converter:
    """A walk over the layers of a model, in the order in which they run.

    This one knows the layers of ``quantize_apply`` with a ``kws_scheme``.
    """

    def __init__(self, model):
        self.model = model
        self.tensors: dict[str, ir.Tensor] = {}
        self.ops: list[ir.Op] = []
        self.names: dict[int, str] = {}  # id of a Keras tensor -> name of the IR tensor
        self.windows: dict[str, tuple[str, streaming.TimeWindow]] = {}
        self.taken: dict[str, int] = {}
        self.nodes = [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]

    def run(self) -> ir.Graph:
        """The graph."""
        for node in self.nodes:
            if not node.is_input:
                self._emit(node)
        inputs = tuple(self._input_name(tensor) for tensor in self.model.inputs)
        outputs = tuple(self._output_name(tensor) for tensor in self.model.outputs)
        outputs = self._renamed(outputs)
        used = {name for op in self.ops for name in (*ir.op_inputs(op), op.output)} | set(inputs) | set(outputs)
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}
        return ir.Graph(tensors, tuple(self.ops), inputs, outputs, self.model.name)

    def _input_name(self, tensor) -> str:
        name = tensor._keras_history.layer.name
        if name not in self.tensors:
            raise ExportError(f"input {name!r} is read by no quantized layer: quantize the layers that read it")
        return name

    def _output_name(self, tensor) -> str:
        if id(tensor) not in self.names:
            raise ExportError(
                f"output of layer {tensor._keras_history.layer.name!r} is in float: quantize that layer, or cut it off"
            )
        return self.names[id(tensor)]

    def _renamed(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        """Gives output tensors the names of the original model's outputs, where no other tensor has them."""
        names: dict[str, str] = {}
        for name, tensor in zip(outputs, self.model.outputs):
            layer = tensor._keras_history.layer
            wanted = layer.output_name if isinstance(layer, qo.Dequantize) else None
            if wanted and name not in names and wanted not in self.tensors and name not in self.model.input_names:
                names[name] = wanted
        if names:
            swap = lambda name: names.get(name, name)  # noqa: E731
            self.tensors = {swap(n): dataclasses.replace(t, name=swap(n)) for n, t in self.tensors.items()}
            for i, op in enumerate(self.ops):
                fields = {"name": swap(op.name), "output": swap(op.output)}
                if hasattr(op, "inputs"):
                    fields["inputs"] = tuple(map(swap, op.inputs))
                else:
                    fields["input"] = swap(op.input)
                self.ops[i] = dataclasses.replace(op, **fields)
        return tuple(names.get(name, name) for name in outputs)

    # -- tensors -------------------------------------------------------------------------------------------------

    def _fresh(self, name: str) -> str:
        count = self.taken[name] = self.taken.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def _shape(self, tensor, layer) -> tuple[int, ...]:
        shape = tuple(tensor.shape)[1:]
        if None in shape:
            raise ExportError(f"layer {layer.name!r}: shape {shape} is not fixed; give keras.Input a fixed shape")
        return tuple(int(d) for d in shape) or (1,)

    def _add(self, name: str, shape, quantization) -> str:
        name = self._fresh(name)
        self.tensors[name] = ir.Tensor(name, tuple(shape), quantization)
        return name

    def _grid(self, layer) -> ir.Quantization:
        if not layer.output_grid.tracked:
            raise ExportError(
                f"layer {layer.name!r} has seen no data, so the range of its output is unknown: train the model, or "
                "run tfmot_kws.calibrate(model, features)"
            )
        if not layer.output_grid.finite:
            raise ExportError(
                f"layer {layer.name!r} gave NaN or infinity while ranges were tracked, so the range of its output is "
                "unknown: look for a loss that was not finite, and train the model again"
            )
        return ir.Quantization(*layer.output_grid.quantization())

    def _source(self, tensor) -> ir.Tensor:
        """The IR tensor a Keras tensor stands for; a pending window is written out."""
        name = self.names[id(tensor)]
        if name in self.windows and name not in self.tensors:
            self._write_window(name)
        return self.tensors[name]

    # -- layers --------------------------------------------------------------------------------------------------

    def _emit(self, node) -> None:
        layer, inputs = node.layer, node.keras_inputs
        kind = type(layer)
        if isinstance(layer, qo.QuantizeInput):
            self._emit_input(node)
            return
        missing = [t for t in inputs if id(t) not in self.names and t.shape.rank]
        if missing:
            raise ExportError(
                f"layer {layer.name!r} ({kind.__name__}) is in float: quantize it (annotate it, or call quantize_apply "
                "on a plain model), or take it out of the model"
            )
        if isinstance(layer, qo.Dequantize) or kind in rewrite.IDLE:
            self.names[id(node.outputs)] = self._pass(inputs[0], node.outputs)
        elif isinstance(layer, ql.QuantizedAffine):
            self._emit_weighted(node)
        elif isinstance(layer, qo.QuantizedFunction):
            self._emit_function(node)
        elif isinstance(layer, qo.QuantizedSoftmax):
            self._emit_softmax(node)
        elif isinstance(layer, qo.QuantizedMerge):
            self._emit_merge(node)
        elif isinstance(layer, qo.QuantizedConcatenate):
            self._emit_concatenate(node)
        elif isinstance(layer, qo.QuantizedAveragePool):
            self._emit_average(node)
        elif isinstance(layer, streaming.TimeWindow):
            self._emit_window(node)
        elif self._is_max_pool(layer):
            self._emit_max_pool(node)
        else:
            self._emit_move(node)

    def _emit_window(self, node) -> None:
        """Written out only where its reader is no dense layer."""
        source = self._source(node.keras_inputs[0])
        name = self._fresh(node.layer.name)
        self.windows[name] = (source.name, node.layer)
        self.names[id(node.outputs)] = name

    def _is_max_pool(self, layer) -> bool:
        return type(layer) in _POOLS

    def _pass(self, tensor, output) -> str:
        name = self.names[id(tensor)]
        if name in self.windows and id(output) in {id(t) for t in self.model.outputs}:
            return self._source(tensor).name
        return name

    def _emit_input(self, node) -> None:
        layer, tensor = node.layer, node.keras_inputs[0]
        source = tensor._keras_history.layer
        if not isinstance(source, L.InputLayer):
            raise ExportError(
                f"layer {source.name!r} ({type(source).__name__}) is in float: quantize it (annotate it, or call "
                "quantize_apply on a plain model), or move it out of the model"
            )
        self.names[id(node.outputs[0])] = self._add(source.name, self._shape(tensor, source), self._grid(layer))

    def _emit_weighted(self, node) -> None:
        layer = node.layer
        found = self._window_of(node.keras_inputs[0]) if isinstance(layer, ql.QuantizedDense) else None
        x, window = found or (self._source(node.keras_inputs[0]), None)
        y = self._grid(layer)
        integers = layer.integers(x.quantization.scale)
        rq = ir.Requantization(
            gain=integers.gain,
            bias=integers.bias,
            multiplier=integers.multiplier,
            bias_shift=integers.bias_shift,
            shift=integers.shift,
            activation_min=integers.steps_min + y.zero_point,
            activation_max=integers.steps_max + y.zero_point,
        )
        if isinstance(layer, ql.QuantizedConv):
            window = conv_window(layer, x.shape)
        out = self._add(layer.name, self._shape(node.outputs[0], layer), y)
        self.names[id(node.outputs[0])] = out
        if isinstance(layer, ql.QuantizedDepthwise):
            taps = int(np.prod(layer.kernel_size))
            weights = ir.Weights(integers.codes.reshape(taps, -1), layer.bits.bits, layer.bits.grid)
            self.ops.append(ir.Depthwise(out, x.name, out, weights.levels.astype(np.int8), rq, window))
        elif isinstance(layer, ql.QuantizedKernel):
            flat = integers.codes.reshape(-1, len(integers.gain))
            weights = ir.Weights(np.ascontiguousarray(flat.T), layer.bits.bits, layer.bits.grid)
            self.ops.append(ir.PackedDense(out, x.name, out, weights, rq, window))
        else:
            self.ops.append(ir.Depthwise(out, x.name, out, np.ones((1, len(integers.gain)), np.int8), rq, None))

    def _window_of(self, tensor) -> tuple[ir.Tensor, ir.Window] | None:
        """(IR tensor, window) where a tensor is made of windows that are not written out yet."""
        name = self.names[id(tensor)]
        if name not in self.windows:
            return None
        source, w = self.windows[name]
        padding = ((w.span - 1) if w.padding == "causal" else 0, 0, 0, 0)
        return self.tensors[source], ir.Window((w.size, 1), (w.stride, 1), (w.dilation, 1), padding)

    def _write_window(self, name: str) -> None:
        """A window whose reader is no dense layer: slices over time, joined."""
        source, w = self.windows[name]
        x = self.tensors[source]
        if w.padding == "causal":
            padded = self._add(f"{name}_pad", (x.shape[0] + w.span - 1, x.shape[1]), x.quantization)
            self.ops.append(ir.Pad(padded, x.name, padded, ((w.span - 1, 0), (0, 0))))
            x = self.tensors[padded]
        count = (x.shape[0] - w.span) // w.stride + 1
        taps = []
        for i in range(w.size):
            begin = i * w.dilation
            tap = self._add(f"{name}_tap{i}", (count, x.shape[1]), x.quantization)
            self.ops.append(ir.Slice(tap, x.name, tap, begin, begin + (count - 1) * w.stride + 1, w.stride))
            taps.append(tap)
        self.tensors[name] = ir.Tensor(name, (count, w.size * x.shape[1]), x.quantization)
        self.ops.append(ir.Concatenate(name, tuple(taps), name, 1))

    def _emit_function(self, node) -> None:
        layer, x, y = node.layer, self._source(node.keras_inputs[0]), self._grid(node.layer)
        out = self._add(layer.name, x.shape, y)
        table = layer.table(x.quantization.scale, x.quantization.zero_point)
        self.ops.append(self._lookup(out, x, table, y, layer.function, layer.alpha))
        self.names[id(node.outputs[0])] = out

    def _lookup(self, out, x, table, y, function, alpha=0.0) -> ir.Lookup:
        return ir.Lookup(out, x.name, out, (table + y.zero_point).astype(np.int8), function, alpha)

    def _emit_softmax(self, node) -> None:
        layer, x = node.layer, self._source(node.keras_inputs[0])
        out = self._add(layer.name, x.shape, _SOFTMAX)
        table = layer.exponentials(np.float32(x.quantization.scale)).numpy().astype(np.uint16)
        self.ops.append(ir.Softmax(out, x.name, out, table))
        self.names[id(node.outputs[0])] = out

    def _emit_merge(self, node) -> None:
        layer, y = node.layer, self._grid(node.layer)
        xs = [self._source(t) for t in node.keras_inputs[0::2]]
        multipliers, shift = layer.multipliers([x.quantization.scale for x in xs], y.scale)
        low, high = (int(v.numpy()) + y.zero_point for v in layer.limits(layer.output_grid.grid()))
        out = self._add(layer.name, self._shape(node.outputs[0], layer), y)
        names, m = (xs[0].name, xs[1].name), tuple(int(v.numpy()) for v in multipliers)
        if layer.merge == "add":
            self.ops.append(ir.Add(out, names, out, m, int(shift.numpy()), low, high))
        else:
            self.ops.append(ir.Multiply(out, names, out, m[0], int(shift.numpy()), low, high))
        self.names[id(node.outputs[0])] = out

    def _emit_concatenate(self, node) -> None:
        layer, y = node.layer, self._grid(node.layer)
        parts = []
        for tensor in node.keras_inputs[0::2]:
            x = self._source(tensor)
            if x.quantization != y:
                part = self._add(f"{layer.name}_{x.name}", x.shape, y)
                table = layer.table(x.quantization.scale, x.quantization.zero_point)
                self.ops.append(self._lookup(part, x, table, y, "linear"))
                x = self.tensors[part]
            parts.append(x.name)
        out = self._add(layer.name, self._shape(node.outputs[0], layer), y)
        self.ops.append(ir.Concatenate(out, tuple(parts), out, layer.axis - 1))
        self.names[id(node.outputs[0])] = out

    def _emit_average(self, node) -> None:
        layer, x, y = node.layer, self._source(node.keras_inputs[0]), self._grid(node.layer)
        size, stride, pads = layer.geometry(x.shape[: layer.rank])
        window = _window(size, stride, (1,) * layer.rank, pads)
        multiplier, shift = layer.multiplier(x.quantization.scale, y.scale)
        pooled = ir.windowed_shape(x.shape, window, x.shape[-1], layer.name)
        final = self._shape(node.outputs[0], layer)
        out = self._add(layer.name if pooled == final else f"{layer.name}_mean", pooled, y)
        self.ops.append(ir.AveragePool(out, x.name, out, window, int(multiplier.numpy()), int(shift.numpy())))
        self.names[id(node.outputs[0])] = self._reshaped(out, final, layer.name)

    def _emit_max_pool(self, node) -> None:
        layer, x = node.layer, self._source(node.keras_inputs[0])
        window = pool_window(layer, _POOLS[type(layer)], x.shape)
        pooled = ir.windowed_shape(x.shape, window, x.shape[-1], layer.name)
        final = self._shape(node.outputs, layer)
        out = self._add(layer.name if pooled == final else f"{layer.name}_max", pooled, x.quantization)
        self.ops.append(ir.MaxPool(out, x.name, out, window))
        self.names[id(node.outputs)] = self._reshaped(out, final, layer.name)

    def _reshaped(self, name: str, shape, label: str) -> str:
        x = self.tensors[name]
        if x.shape == shape:
            return name
        out = self._add(label, shape, x.quantization)
        self.ops.append(ir.Reshape(out, name, out))
        return out

    def _emit_move(self, node) -> None:
        layer, x = node.layer, self._source(node.keras_inputs[0])
        shape = self._shape(node.outputs, layer)
        if isinstance(layer, (L.Flatten, L.Reshape)):
            name = self._reshaped(x.name, shape, layer.name)
        elif isinstance(layer, L.Permute):
            name = self._add(layer.name, shape, x.quantization)
            self.ops.append(ir.Transpose(name, x.name, name, tuple(d - 1 for d in layer.dims)))
        elif isinstance(layer, (L.ZeroPadding1D, L.ZeroPadding2D)):
            pads = layer.padding if isinstance(layer, L.ZeroPadding2D) else (layer.padding,)
            name = self._add(layer.name, shape, x.quantization)
            self.ops.append(ir.Pad(name, x.name, name, (*(tuple(p) for p in pads), (0, 0))))
        else:
            raise ExportError(
                f"layer {layer.name!r} ({type(layer).__name__}) is in float and cannot be exported: quantize it "
                "(annotate it, or call quantize_apply on a plain model), or take it out of the model"
            )
        self.names[id(node.outputs)] = name


def _tuple(value) -> tuple[int, ...] | None:
    return tuple(value) if isinstance(value, (tuple, list)) else None if value is None else (value,)


def _window(size, stride, dilation, pads) -> ir.Window:
    """An IR window from one or two axes."""
    pair = lambda v: (int(v[0]), int(v[1]) if len(v) > 1 else 1)  # noqa: E731
    pads = [*pads, (0, 0)][:2]
    return ir.Window(pair(size), pair(stride), pair(dilation), (*map(int, pads[0]), *map(int, pads[1])))


def pool_window(layer: L.Layer, rank: int, shape: tuple[int, ...]) -> ir.Window:
    """The window of a pooling layer of that many axes over an input without the batch axis."""
    pooling = qo.QuantizedAveragePool(
        rank=rank,
        pool_size=_tuple(getattr(layer, "pool_size", None)),
        strides=_tuple(getattr(layer, "strides", None)),
        padding=getattr(layer, "padding", "valid"),
    )
    size, stride, pads = pooling.geometry(shape[:rank])
    return _window(size, stride, (1,) * rank, pads)


def conv_window(layer: L.Layer, shape: tuple[int, ...]) -> ir.Window:
    """The window of a convolution, quantized or Keras's own, over an input [..., channels]."""
    pads = ql.QuantizedConv.explicit_padding(layer, shape[:-1])
    return _window(layer.kernel_size, layer.strides, layer.dilation_rate, pads)
