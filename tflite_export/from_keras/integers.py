"""A Keras model of ``kws_scheme`` in stage 2 -> the integer graph.

No number is made here: each layer gives its integers by the functions that training runs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tflite_export import ir
from tflite_export.from_keras import recurrent, waveform
from tflite_export.from_keras.requantization import requantization_of
from tflite_export.from_keras.windows import conv_window, pool_window, sliding_pool
from tfmot_kws.keras import keras
from tfmot_kws.models import time_layers as streaming
from tfmot_kws.quantize import elementwise as qe
from tfmot_kws.quantize import layers as ql
from tfmot_kws.quantize import ops as qo
from tfmot_kws.quantize import supported
from tfmot_kws.quantize.plain.layers import PadAxes, SliceAxis, TrainingOnly
from tfmot_kws.quantize.recurrent import QuantizedRecurrent
from tfmot_kws.quantize.waveform import QuantizedWaveform, QuantizeSamples

L = keras.layers
_POOLS = {
    L.MaxPooling1D: 1, L.MaxPooling2D: 2, L.GlobalMaxPooling1D: 1, L.GlobalMaxPooling2D: 2,
    streaming.TimeMaxPooling1D: 1,
}  # fmt: skip
MAX_JOINED = 10
"""Inputs of TFLM's CONCATENATION."""
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
        self.scales: dict[int, float] = {}  # id of a Keras tensor -> its scale, where that of the IR tensor is another
        self.taken: dict[str, int] = {}
        self.nodes = [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]

    def run(self) -> ir.Graph:
        """The graph."""
        for node in self.nodes:
            if not node.is_input:
                self._check_weights(node.layer)
                self._emit(node)
        inputs = tuple(self._input_name(tensor) for tensor in self.model.inputs)
        outputs = tuple(self._output_name(tensor) for tensor in self.model.outputs)
        outputs = self._renamed(outputs)
        used = {name for op in self.ops for name in (*ir.op_inputs(op), op.output)} | set(inputs) | set(outputs)
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}
        return ir.Graph(tensors, tuple(self.ops), inputs, outputs, self.model.name)

    def _check_weights(self, layer) -> None:
        grid = getattr(layer, "output_grid", None)  # whose range has a message of its own
        ranges = {id(value) for value in vars(grid).values()} if grid is not None else set()
        for weight in layer.weights:
            if id(weight) not in ranges and weight.dtype.is_floating and not np.isfinite(weight.numpy()).all():
                raise ExportError(
                    f"layer {layer.name!r}: its {weight.name.split('/')[-1].split(':')[0]!r} holds NaN or infinity: "
                    "look for a loss that was not finite, and train the model again"
                )

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

    def _add(self, name: str, shape, quantization, wide: bool = False) -> str:
        name = self._fresh(name)
        self.tensors[name] = ir.Tensor(name, tuple(shape), quantization, wide)
        return name

    def _add_like(self, name: str, shape, x: ir.Tensor) -> str:
        """A tensor for values of another that are moved."""
        return self._add(name, shape, x.quantization, x.wide)

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

    def _operand(self, tensor) -> ir.Tensor:
        """The IR tensor as its reader takes it: at the scale that it has behind a ``QuantizedScale``."""
        x = self._source(tensor)
        if id(tensor) not in self.scales:
            return x
        return dataclasses.replace(x, quantization=ir.Quantization(self.scales[id(tensor)], x.quantization.zero_point))

    def _carry(self, node) -> None:
        """A layer that moves values leaves their scale as it is."""
        scale = self.scales.get(id(node.keras_inputs[0]))
        if scale is not None:
            for tensor in tf.nest.flatten(node.outputs):
                self.scales[id(tensor)] = scale

    # -- layers --------------------------------------------------------------------------------------------------

    def _emit(self, node) -> None:
        layer, inputs = node.layer, node.keras_inputs
        kind = type(layer)
        if isinstance(layer, (qo.QuantizeInput, QuantizeSamples)):
            self._emit_input(node)
            return
        if isinstance(layer, TrainingOnly) and not isinstance(node.outputs, list):
            return  # ahead of the input's quantization; the device never trains
        missing = [t for t in inputs if id(t) not in self.names and t.shape.rank]
        if missing:
            raise ExportError(
                f"layer {layer.name!r} ({kind.__name__}) is in float: quantize it (annotate it, or call quantize_apply "
                "on a plain model), or take it out of the model"
            )
        if isinstance(layer, qo.Dequantize):
            self.names[id(node.outputs)] = self._emit_output(node)
        elif kind in supported.IDLE or isinstance(layer, TrainingOnly):
            for tensor in tf.nest.flatten(node.outputs)[:1]:
                self.names[id(tensor)] = self._pass(inputs[0], tensor)
            self._carry(node)
        elif isinstance(layer, qe.QuantizedScale):
            self.names[id(node.outputs[0])] = self.names[id(inputs[0])]
            self.scales[id(node.outputs[0])] = layer.scaled(self._operand(inputs[0]).quantization.scale)
        elif isinstance(layer, QuantizedRecurrent):
            self._emit_recurrent(node)
        elif isinstance(layer, QuantizedWaveform):
            self._emit_waveform(node)
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
        elif isinstance(layer, qe.QuantizedExtreme):
            self._emit_extreme(node)
        elif isinstance(layer, qo.QuantizedAveragePool):
            self._emit_average(node)
        elif isinstance(layer, streaming.TimeWindow):
            self._emit_window(node)
        elif self._is_max_pool(layer):
            self._emit_max_pool(node)
            self._carry(node)
        else:
            self._emit_move(node)
            self._carry(node)

    def _emit_output(self, node) -> str:
        """A model's output says its own scale, so that another one than its tensor's is written out."""
        tensor = node.keras_inputs[0]
        if id(tensor) not in self.scales:
            return self._pass(tensor, node.outputs)
        x = self._source(tensor)
        y = self._operand(tensor).quantization
        out = self._add(node.layer.name, x.shape, y)
        self.ops.append(self._lookup(out, x, np.arange(-128, 128) - y.zero_point, y, "linear"))
        return out

    def _emit_window(self, node) -> None:
        """Written out only where its reader is no dense layer."""
        source = self._source(node.keras_inputs[0])
        name = self._fresh(node.layer.name)
        self.windows[name] = (source.name, node.layer)
        self.names[id(node.outputs)] = name
        self._carry(node)

    def _is_max_pool(self, layer) -> bool:
        return type(layer) in _POOLS

    def _pass(self, tensor, output) -> str:
        name = self.names[id(tensor)]
        if name in self.windows and id(output) in {id(t) for t in self.model.outputs}:
            return self._source(tensor).name
        return name

    def _emit_input(self, node) -> None:
        layer, tensor = node.layer, supported.input_behind(node.keras_inputs[0])
        source = tensor._keras_history.layer
        if not isinstance(source, L.InputLayer):
            raise ExportError(
                f"layer {source.name!r} ({type(source).__name__}) is in float: quantize it (annotate it, or call "
                "quantize_apply on a plain model), or move it out of the model"
            )
        wide = isinstance(layer, QuantizeSamples)
        self.names[id(node.outputs[0])] = self._add(source.name, self._shape(tensor, source), self._grid(layer), wide)

    def _emit_weighted(self, node) -> None:
        layer = node.layer
        found = self._window_of(node.keras_inputs[0]) if isinstance(layer, ql.QuantizedDense) else None
        x, window = found or (self._source(node.keras_inputs[0]), None)
        y = self._grid(layer)
        integers = layer.integers(self.scales.get(id(node.keras_inputs[0]), x.quantization.scale))
        rq = requantization_of(integers, y)
        if isinstance(layer, ql.QuantizedConv):
            window = conv_window(layer, x.shape)
        out = self._add(layer.name, self._shape(node.outputs[0], layer), y)
        self.names[id(node.outputs[0])] = out
        if isinstance(layer, ql.QuantizedDepthwise):
            taps = int(np.prod(layer.kernel_size))
            weights = ir.Weights(integers.codes.reshape(taps, -1), layer.weight_bits, layer.weight_grid)
            self.ops.append(ir.Depthwise(out, x.name, out, weights.levels.astype(np.int8), rq, window))
        elif isinstance(layer, ql.QuantizedKernel):
            flat = integers.codes.reshape(-1, len(integers.gain))
            weights = ir.Weights(np.ascontiguousarray(flat.T), layer.weight_bits, layer.weight_grid)
            self.ops.append(ir.PackedDense(out, x.name, out, weights, rq, window))
        else:
            self.ops.append(ir.Depthwise(out, x.name, out, np.ones((1, len(integers.gain)), np.int8), rq, None))

    def _emit_waveform(self, node) -> None:
        layer, x, y = node.layer, self._source(node.keras_inputs[0]), self._grid(node.layer)
        out = self._add(layer.name, self._shape(node.outputs[0], layer), y)
        self.ops.append(waveform.op_of(layer, x, y, out))
        self.names[id(node.outputs[0])] = out

    def _emit_recurrent(self, node) -> None:
        layer, x = node.layer, self._source(node.keras_inputs[0])
        scale = self.scales.get(id(node.keras_inputs[0]), x.quantization.scale)
        out = self._add(layer.name, self._shape(node.outputs[0], layer), self._grid(layer))
        self.ops.append(recurrent.op_of(layer, scale, x.name, out))
        self.names[id(node.outputs[0])] = out

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
        self._joined(taps, 1, name, fresh=False)

    def _emit_function(self, node) -> None:
        layer, x, y = node.layer, self._operand(node.keras_inputs[0]), self._grid(node.layer)
        out = self._add(layer.name, x.shape, y)
        table = layer.table(x.quantization.scale, x.quantization.zero_point)
        self.ops.append(self._lookup(out, x, table, y, layer.function, layer.alpha))
        self.names[id(node.outputs[0])] = out

    def _lookup(self, out, x, table, y, function, alpha=0.0) -> ir.Lookup:
        return ir.Lookup(out, x.name, out, (table + y.zero_point).astype(np.int8), function, alpha)

    def _emit_softmax(self, node) -> None:
        layer, x = node.layer, self._operand(node.keras_inputs[0])
        out = self._add(layer.name, x.shape, _SOFTMAX)
        table = layer.exponentials(np.float32(x.quantization.scale)).numpy().astype(np.uint16)
        self.ops.append(ir.Softmax(out, x.name, out, table))
        self.names[id(node.outputs[0])] = out

    def _emit_merge(self, node) -> None:
        layer, y = node.layer, self._grid(node.layer)
        xs = [self._operand(t) for t in node.keras_inputs[0::2]]
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
        parts = self._on_one_grid(node, y)
        self.names[id(node.outputs[0])] = self._joined(parts, layer.axis - 1, layer.name)

    def _on_one_grid(self, node, y: ir.Quantization, inverted: bool = False) -> list[str]:
        """Names of the inputs of a layer at its output's quantization; inverted, their codes are ``-1 - q``."""
        layer, parts = node.layer, []
        for tensor in node.keras_inputs[0::2]:
            x = self._operand(tensor)
            if x.quantization == y and id(tensor) not in self.scales and not inverted:
                parts.append(x.name)
                continue
            part = self._add(f"{layer.name}_{x.name}", x.shape, y)
            lookup = self._lookup(part, x, layer.table(x.quantization.scale, x.quantization.zero_point), y, "linear")
            if inverted:
                lookup = dataclasses.replace(lookup, table=~lookup.table, function="")
            self.ops.append(lookup)
            parts.append(part)
        return parts

    def _emit_extreme(self, node) -> None:
        """The largest of several tensors is their maximum over an axis put in; the smallest that of inverted codes."""
        layer, y = node.layer, self._grid(node.layer)
        final = self._shape(node.outputs[0], layer)
        line = (final[0], 1, int(np.prod(final[1:])))
        names = self._on_one_grid(node, y, inverted=not layer.largest)
        lines = [self._reshaped(name, line, f"{name}_line", always=True) for name in names]
        joined = self._joined(lines, 1, f"{layer.name}_joined")
        most = self._add(f"{layer.name}_most", line, y)
        self.ops.append(ir.MaxPool(most, joined, most, ir.Window((1, len(names)))))
        label = layer.name if layer.largest else f"{layer.name}_inverted"
        name = self._reshaped(most, final, label)
        if not layer.largest:
            out = self._add(layer.name, final, y)
            self.ops.append(ir.Lookup(out, name, out, ~np.arange(-128, 128).astype(np.int8)))
            name = out
        self.names[id(node.outputs[0])] = name

    def _emit_average(self, node) -> None:
        layer, x, y = node.layer, self._operand(node.keras_inputs[0]), self._grid(node.layer)
        window = sliding_pool(x.shape, *layer.geometry(x.shape[: layer.rank]))
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

    def _reshaped(self, name: str, shape, label: str, always: bool = False) -> str:
        x = self.tensors[name]
        if x.shape == shape and not always:
            return name
        out = self._add_like(label, shape, x)
        self.ops.append(ir.Reshape(out, name, out))
        return out

    def _emit_move(self, node) -> None:
        layer, x = node.layer, self._source(node.keras_inputs[0])
        shape = self._shape(node.outputs, layer)
        if isinstance(layer, (L.Flatten, L.Reshape)):
            name = self._reshaped(x.name, shape, layer.name)
        elif isinstance(layer, L.Permute):
            name = self._add_like(layer.name, shape, x)
            self.ops.append(ir.Transpose(name, x.name, name, tuple(d - 1 for d in layer.dims)))
        elif isinstance(layer, (L.ZeroPadding1D, L.ZeroPadding2D)):
            pads = layer.padding if isinstance(layer, L.ZeroPadding2D) else (layer.padding,)
            name = self._add_like(layer.name, shape, x)
            self.ops.append(ir.Pad(name, x.name, name, (*(tuple(p) for p in pads), (0, 0))))
        elif isinstance(layer, PadAxes):
            name = self._add_like(layer.name, shape, x)
            self.ops.append(ir.Pad(name, x.name, name, layer.padding))
        elif isinstance(layer, SliceAxis):
            name = self._sliced(x, layer.axis - 1, layer.begin, layer.end, layer.stride, layer.name)
        elif isinstance(layer, (L.Cropping1D, L.Cropping2D)):
            name = self._cropped(layer, x)
        elif isinstance(layer, (L.UpSampling1D, L.UpSampling2D)):
            name = self._repeated(layer, x)
        else:
            raise ExportError(
                f"layer {layer.name!r} ({type(layer).__name__}) is in float and cannot be exported: quantize it "
                "(annotate it, or call quantize_apply on a plain model), or take it out of the model"
            )
        self.names[id(node.outputs)] = name

    def _joined(self, names: list[str], axis: int, label: str, fresh: bool = True) -> str:
        """Tensors one after another along an axis, a few at a time: TFLM joins no more at once."""
        while len(names) > MAX_JOINED:
            groups = [names[i : i + MAX_JOINED] for i in range(0, len(names), MAX_JOINED)]
            names = [self._joined(group, axis, f"{label}_part") if len(group) > 1 else group[0] for group in groups]
        xs = [self.tensors[name] for name in names]
        length = sum(x.shape[axis] for x in xs)
        shape = (*xs[0].shape[:axis], length, *xs[0].shape[axis + 1 :])
        out = self._fresh(label) if fresh else label
        self.tensors[out] = dataclasses.replace(xs[0], name=out, shape=shape)
        self.ops.append(ir.Concatenate(out, tuple(names), out, axis))
        return out

    def _sliced(self, x: ir.Tensor, axis: int, begin: int, end: int, stride: int, label: str) -> str:
        shape = (*x.shape[:axis], len(range(begin, end, stride)), *x.shape[axis + 1 :])
        name = self._add_like(label, shape, x)
        self.ops.append(ir.Slice(name, x.name, name, begin, end, stride, axis))
        return name

    def _cropped(self, layer, x: ir.Tensor) -> str:
        crops = layer.cropping if isinstance(layer, L.Cropping2D) else (layer.cropping,)
        taken = [(a, before, x.shape[a] - after) for a, (before, after) in enumerate(crops) if before or after]
        for number, (axis, begin, end) in enumerate(taken, start=1):
            label = layer.name if number == len(taken) else f"{layer.name}_{number}"
            x = self.tensors[self._sliced(x, axis, begin, end, 1, label)]
        return x.name

    def _repeated(self, layer, x: ir.Tensor) -> str:
        """Each place of an axis several times: copies along an axis put in behind it, which is then joined with it."""
        sizes = layer.size if isinstance(layer, L.UpSampling2D) else (layer.size,)
        for axis, size in enumerate(sizes):
            if size == 1:
                continue
            rest = int(np.prod(x.shape[axis + 1 :]))
            line = self._reshaped(x.name, (int(np.prod(x.shape[: axis + 1])), 1, rest), f"{layer.name}_line", True)
            copies = self._joined([line] * size, 1, f"{layer.name}_copies")
            shape = (*x.shape[:axis], x.shape[axis] * size, *x.shape[axis + 1 :])
            x = self.tensors[self._reshaped(copies, shape, layer.name, True)]
        return x.name
