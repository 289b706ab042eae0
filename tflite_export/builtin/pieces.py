"""What every part of the writer of stock ops is made with: ops, constants, tensors and their two forms.

A convolution needs a [height, width, channels] picture, so a [time, channels] tensor has two forms here; a RESHAPE
between them is written only where an op needs the form that does not exist yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tflite_export import ir
from tflite_export.builtin import functions as builtin_functions
from tflite_export.flatbuffer import model as flatbuffer_model

WAY_OUT = 'export it with ops="packed"'
# Version of each op that has int8 (and what else is used here); all others need 2.
_VERSIONS = {
    "CAST": 1, "RESHAPE": 1, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 5, "CALL_ONCE": 1,
    "VAR_HANDLE": 1, "READ_VARIABLE": 1, "ASSIGN_VARIABLE": 1,
}  # fmt: skip


class _Model(flatbuffer_model.ModelBuilder):
    def add_int32(self, name: str, shape: Sequence[int]) -> int:
        """An int32 activation [1, *shape] whose first axis can be resized."""
        tensor = self._tensor(name, (1, *shape), "INT32", 0)
        tensor.shapeSignature = [-1, *map(int, shape)]
        return self._append(tensor)


class Pieces:
    """The model that is being written, and the tensors of its graph that it has already."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.schema = flatbuffer_model.schema()
        self.model = _Model(graph.name, "tflite_export, builtin ops")
        self.plain: dict[str, int] = {}
        self.pictures: dict[str, int] = {}

    # Tensors and their two forms

    def picture_shape(self, name: str) -> tuple[int, int, int]:
        """(height, width, channels) of a tensor as a picture."""
        shape = self.graph.tensors[name].shape
        return shape if len(shape) == 3 else (int(np.prod(shape[:-1], dtype=np.int64)), 1, shape[-1])

    def output(self, name: str, picture: bool = False) -> int:
        """A new activation for tensor ``name`` in one of its forms."""
        tensor = self.graph.tensors[name]
        if picture and len(tensor.shape) != 3:
            index = self.model.add_activation(f"{name}/picture", self.picture_shape(name), tensor.quantization)
            self.pictures[name] = index
            return index
        self.plain[name] = self.model.add_activation(name, tensor.shape, tensor.quantization)
        return self.plain[name]

    def as_plain(self, name: str) -> int:
        """The tensor in the shape that the graph says."""
        if name not in self.plain:
            source = self.pictures[name]
            self.reshape(source, self.output(name), self.graph.tensors[name].shape)
        return self.plain[name]

    def as_picture(self, name: str) -> int:
        """The tensor as [height, width, channels]."""
        if len(self.graph.tensors[name].shape) == 3:
            return self.as_plain(name)
        if name not in self.pictures:
            source = self.plain[name]
            self.reshape(source, self.output(name, picture=True), self.picture_shape(name))
        return self.pictures[name]

    def has_picture_only(self, name: str) -> bool:
        """Whether no op has needed the plain form yet."""
        return name in self.pictures and name not in self.plain

    # Pieces

    def emit(
        self, builtin: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", version: int = 0, **fields
    ) -> None:
        """A stock op; ``options`` is the name of its options in the schema, ``fields`` their values."""
        made = getattr(self.schema, f"{options}T")() if options else None
        for field, value in fields.items():
            assert hasattr(made, field), f"{options} has no field {field}"
            setattr(made, field, value)
        self.model.add_builtin(builtin, inputs, outputs, made, version=version or _VERSIONS.get(builtin, 2))

    def constant(self, name: str, values: Sequence[int] | np.ndarray) -> int:
        """An int32 constant."""
        return self.model.add_constant(name, np.asarray(values, np.int32))

    def value(self, name: str, value: float, like: ir.Tensor) -> int:
        """A constant of one value, of the type and quantization of another tensor."""
        return self.model.add_constant(name, np.array([value], like.dtype), **quantized(like))

    def reshape(self, source: int, target: int, shape: Sequence[int]) -> None:
        """RESHAPE to [batch, *shape]; -1 keeps the batch free."""
        new_shape = [-1, *shape]
        index = self.constant("shape/" + "x".join(map(str, shape)), new_shape)
        self.emit("RESHAPE", [source, index], [target], "ReshapeOptions", newShape=np.array(new_shape, np.int32))

    def activation(self, name: str) -> int:
        """The schema's number of a fused activation."""
        return getattr(self.schema.ActivationFunctionType, name)

    def ranged(self, op: ir.Op, low: int, high: int, picture: bool, emit: Callable[[int, int], None]) -> None:
        """Calls ``emit(output, fused activation)`` for an op that clips to low..high, and clips after it if need be."""
        q = self.graph.tensors[op.output].quantization
        fused = builtin_functions.fused_activation(q, low, high)
        if fused is not None:
            emit(self.output(op.output, picture), self.activation(fused))
            return
        shape = self.picture_shape(op.output) if picture else self.graph.tensors[op.output].shape
        source = self.model.add_activation(f"{op.name}/unclipped", shape, q)
        emit(source, self.activation("NONE"))
        self.clip(op, source, shape, q, low, high, picture)

    def clip(self, op, source: int, shape, q: ir.Quantization, low: int, high: int, picture: bool) -> None:
        """MAXIMUM and MINIMUM, of which the last makes the output of ``op``."""
        steps = [("MAXIMUM", low)] * (low > ir.INT8_MIN) + [("MINIMUM", high)] * (high < ir.INT8_MAX)
        steps = steps or [("MINIMUM", high)]
        for i, (builtin, bound) in enumerate(steps):
            last = i == len(steps) - 1
            to = self.output(op.output, picture) if last else self.model.add_activation(f"{op.name}/low", shape, q)
            bound_index = self.value(f"{op.name}/{builtin.lower()}", bound, self.graph.tensors[op.output])
            self.emit(builtin, [source, bound_index], [to], "MaximumMinimumOptions")
            source = to

    def stock_padding(self, window: ir.Window, height: int, width: int) -> int | None:
        """The schema's number of SAME or VALID where one of them is the window's padding."""
        name = builtin_functions.stock_padding(window, height, width)
        return None if name is None else getattr(self.schema.Padding, name)

    def padded_picture(self, op, source: int, window: ir.Window, value: float | None = None) -> tuple[int, int]:
        """(tensor, stock padding) that together give the window's padding; ``value`` fills instead of real zero."""
        height, width, channels = self.picture_shape(op.input)
        kind = self.stock_padding(window, height, width)
        if kind is not None:
            return source, kind
        top, bottom, left, right = window.padding
        q = self.graph.tensors[op.input].quantization
        shape = (height + top + bottom, width + left + right, channels)
        padded = self.model.add_activation(f"{op.name}/padded", shape, q)
        amounts = self.constant(f"{op.name}/padding", [[0, 0], [top, bottom], [left, right], [0, 0]])
        if value is None:
            self.emit("PAD", [source, amounts], [padded], "PadOptions")
        else:
            fill = self.value(f"{op.name}/fill", value, self.graph.tensors[op.input])
            self.emit("PADV2", [source, amounts, fill], [padded], "PadV2Options")
        return padded, self.schema.Padding.VALID

    def window_fields(self, window: ir.Window, padding: int, fused: int | None = None) -> dict[str, int]:
        """Fields that the options of all windowed ops share."""
        return {
            "padding": padding,
            "strideH": window.stride[0],
            "strideW": window.stride[1],
            "dilationHFactor": window.dilation[0],
            "dilationWFactor": window.dilation[1],
            "fusedActivationFunction": self.activation("NONE") if fused is None else fused,
        }

    def slice_axis(
        self, source: int, target: int, name: str, taken: range, shape: tuple[int, ...], axis: int = 1
    ) -> None:
        """STRIDED_SLICE over one axis, by default the first behind the batch."""
        # Masked axes are taken whole: the batch, which may be resized, and all others.
        mask = sum(1 << other for other in range(len(shape) + 1) if other != axis)
        end = taken[-1] + (1 if taken.step > 0 else -1)
        end_mask = mask | (1 << axis if end < 0 else 0)
        operands = [source]
        for part, value, other in (("begin", taken[0], 0), ("end", max(end, 0), 1), ("stride", taken.step, 1)):
            values = [value if place == axis else other for place in range(len(shape) + 1)]
            operands.append(self.constant(f"{name}/{part}", values))
        fields = {"beginMask": mask, "endMask": end_mask}
        self.emit("STRIDED_SLICE", operands, [target], "StridedSliceOptions", **fields)


def quantized(tensor: ir.Tensor) -> dict[str, list]:
    """Quantization arguments of a constant that is like another tensor."""
    q = tensor.quantization
    return {} if q is None else {"scales": [q.scale], "zero_points": [q.zero_point]}
