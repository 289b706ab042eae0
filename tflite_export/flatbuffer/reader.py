"""Reads a .tflite file into plain dataclasses and checks every offset, size and index on the way.

The stock interpreters trust a file and crash on some damaged ones, and TFLM does not compare a constant's bytes with
its shape: what this module lets through is safe to hand to them. It needs neither TensorFlow nor flatbuffers. The
numbers of the fields are those of the .tflite schema, which never change.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from tflite_export.flatbuffer.stock_options import OPTIONS

TYPE_BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 9: 8, 10: 64, 13: 32, 15: 32, 16: 16, 17: 4}
TYPE_NAMES = {
    0: "float32",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    13: "resource",
    17: "int4",
}
CUSTOM = 32
ETHOS_U = "ethos-u"
"""The custom op that Vela puts in the place of all that the NPU runs."""
BUILTIN_NAMES = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1", 21: "RELU6",
    22: "RESHAPE", 25: "SOFTMAX", 28: "TANH", 34: "PAD", 36: "GATHER", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB",
    43: "SQUEEZE", 45: "STRIDED_SLICE", 53: "CAST", 55: "MAXIMUM", 57: "MINIMUM", 60: "PADV2", 65: "SLICE",
    70: "EXPAND_DIMS", 74: "SUM", 98: "LEAKY_RELU", 102: "SPLIT_V", 114: "QUANTIZE", 117: "HARD_SWISH",
    129: "CALL_ONCE", 142: "VAR_HANDLE", 143: "READ_VARIABLE", 144: "ASSIGN_VARIABLE",
}  # fmt: skip
"""Stock ops that our exports use or may meet; others show as a number."""
MAX_VALUES = 1 << 31
LEAST_SCALE = float(np.finfo(np.float32).tiny)
MAX_MEMORY = 1 << 28
"""Bytes that the tensors of a file may take beside its constants, in all: far more than a keyword spotter needs, and
less than what would make a machine swap."""
_T = TypeVar("_T")


class FormatError(ValueError):
    """Bytes that are no .tflite file, or a damaged one; the message says where."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the file; ``data`` is None for activations; a ``variable`` keeps its bytes between calls."""

    name: str
    shape: tuple[int, ...]
    type: int
    data: bytes | None
    data_offset: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    variable: bool = False

    @property
    def bytes(self) -> int:
        """What its values take."""
        return (int(np.prod(self.shape, dtype=np.int64)) * TYPE_BITS[self.type] + 7) // 8


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator; ``name`` is the stock op's name or the custom code.

    inputs: indices of tensors; -1 for one that is left out, as stock files write it for a missing bias.
    fields: the options of a stock op by name (`stock_options`); empty for custom ops and for ops without options.
    known: whether the options were read in full.
    """

    name: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom_options: bytes
    fields: Mapping[str, Any]
    known: bool


@dataclasses.dataclass(frozen=True)
class Model:
    """The main subgraph of a file.

    metadata: by name. resources: how many resource variables it has. once: the subgraph that fills them, or None.
    """

    name: str
    description: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: dict[str, bytes] = dataclasses.field(default_factory=dict)
    resources: int = 0
    once: Model | None = None


class Table:
    """One flatbuffers table; every read is checked against the end of the file."""

    def __init__(self, data: bytes, position: int, where: str) -> None:
        self.data, self.position, self.where = data, position, where
        self.vtable = position - self._read("<i", position)
        self.vtable_size = self._read("<H", self.vtable)
        self.size = self._read("<H", self.vtable + 2)
        if self.vtable_size < 4 or self.vtable_size % 2 or self.vtable + self.vtable_size > len(data):
            raise FormatError(f"{where}: damaged table at byte {position}")
        if self.size < 4 or position + self.size > len(data):
            raise FormatError(f"{where}: table at byte {position} reaches past the end of the file")
        for slot in range((self.vtable_size - 4) // 2):
            self._field(slot)

    def _read(self, layout: str, position: int) -> int | float:
        if position < 0 or position + struct.calcsize(layout) > len(self.data):
            raise FormatError(f"{self.where}: points to byte {position} of {len(self.data)}; the file is damaged")
        return struct.unpack_from(layout, self.data, position)[0]

    def _field(self, slot: int) -> int:
        """Position of a field, 0 where it is absent."""
        entry = 4 + 2 * slot
        if entry + 2 > self.vtable_size:
            return 0
        offset = self._read("<H", self.vtable + entry)
        if offset >= self.size:
            raise FormatError(f"{self.where}: field {slot} lies outside its table; the file is damaged")
        return self.position + offset if offset else 0

    def expect(self, fields: int) -> Table:
        """Refuses a table with fields that this module does not check; returns the table."""
        for slot in range(fields, (self.vtable_size - 4) // 2):
            if self._field(slot):
                raise FormatError(f"{self.where}: field {slot} is not one that this package reads")
        return self

    def scalar(self, slot: int, layout: str = "<i", default: int = 0) -> int:
        """A number, or its default where the file leaves it out."""
        position = self._field(slot)
        return self._read(layout, position) if position else default

    def _target(self, position: int) -> int:
        return position + self._read("<I", position)

    def vector(self, slot: int, width: int) -> tuple[int, int]:
        """(start, count) of a vector of elements of ``width`` bytes; (0, 0) where it is absent."""
        position = self._field(slot)
        if not position:
            return 0, 0
        start = self._target(position)
        count = self._read("<I", start)
        if start + 4 + count * width > len(self.data):
            raise FormatError(f"{self.where}: {count} values at byte {start} reach past the end; the file is damaged")
        return start + 4, count

    def numbers(self, slot: int, layout: str = "i") -> tuple:
        """A vector of numbers."""
        start, count = self.vector(slot, struct.calcsize("<" + layout))
        return struct.unpack_from(f"<{count}{layout}", self.data, start)

    def raw(self, slot: int) -> tuple[bytes, int]:
        """A vector of bytes, and where it starts."""
        start, count = self.vector(slot, 1)
        return self.data[start : start + count], start

    def text(self, slot: int) -> str:
        """A string; empty where it is absent."""
        value, start = self.raw(slot)
        if start and self.data[start + len(value) : start + len(value) + 1] != b"\0":
            raise FormatError(f"{self.where}: a string has no end; the file is damaged")
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self.where}: a string is no UTF-8; the file is damaged") from None

    def table(self, slot: int, where: str) -> Table | None:
        """A table that this one points to."""
        position = self._field(slot)
        return Table(self.data, self._target(position), where) if position else None

    def tables(self, slot: int, where: str, make: Callable[[Table], _T]) -> list[_T]:
        """A vector of tables, each turned into something."""
        start, count = self.vector(slot, 4)
        return [make(Table(self.data, self._target(start + 4 * i), f"{where} {i}")) for i in range(count)]


def parse(data: bytes) -> Model:
    """Checks and reads a file; raises FormatError where anything in it is out of place."""
    data = bytes(data)
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise FormatError(f"no .tflite file: {len(data)} bytes, identifier {data[4:8]!r} instead of b'TFL3'")
    model = Table(data, struct.unpack_from("<I", data)[0], "model").expect(8)
    model.numbers(5)
    if model.scalar(0, "<I") != 3:
        raise FormatError(f"model: schema version {model.scalar(0, '<I')}, should be 3")
    buffers = model.tables(4, "buffer", lambda t: t.expect(1).raw(0))
    codes = model.tables(1, "operator code", _operator_code)
    subgraphs = model.tables(2, "subgraph", lambda t: t.expect(5))
    if not 1 <= len(subgraphs) <= 2:
        raise FormatError(f"model: {len(subgraphs)} subgraphs, this package reads files with one, and one called once")
    parts = [_subgraph(graph, buffers, codes, main=i == 0) for i, graph in enumerate(subgraphs)]
    tensors, operators, ends = parts[0]
    once = [op for op in operators if op.name == "CALL_ONCE" and not op.custom]
    if len(once) != len(subgraphs) - 1 or any(op.fields.get("subgraph") != 1 for op in once):
        raise FormatError("model: a second subgraph and the operator that calls it do not agree; the file is damaged")
    if len(parts) > 1 and any(op.name == "CALL_ONCE" for op in parts[1][1]):
        raise FormatError("subgraph 1: calls a subgraph itself")
    metadata = _check_signatures(model, len(tensors), buffers)
    resources = sum(op.name == "VAR_HANDLE" and not op.custom for op in operators)
    name = subgraphs[0].text(4)
    needed = sum(t.bytes for graph in parts for t in graph[0] if t.data is None)
    if needed > MAX_MEMORY:
        raise FormatError(f"model: its activations take {needed:,} bytes, this package opens files of {MAX_MEMORY:,}")
    filled = Model("", "", tuple(parts[1][0]), tuple(parts[1][1]), (), ()) if len(parts) > 1 else None
    return Model(name, model.text(3), tuple(tensors), tuple(operators), *ends, metadata, resources, filled)


def _subgraph(
    graph: Table, buffers: list[tuple[bytes, int]], codes: list[tuple[int, str]], main: bool
) -> tuple[list[Tensor], list[Operator], list[tuple[int, ...]]]:
    tensors = graph.tables(0, "tensor", lambda t: _tensor(t, buffers))
    operators = graph.tables(3, "operator", lambda t: _operator(t, codes, len(tensors)))
    ends = [_indices(graph, slot, len(tensors)) for slot in (1, 2)]
    _check_order(tensors, operators, ends, main)
    return tensors, operators, ends


def _operator_code(table: Table) -> tuple[int, str]:
    table.expect(4).scalar(2)
    name = table.text(1)
    if name == ETHOS_U:
        raise FormatError(
            f"compiled for an Ethos-U (it has the op {ETHOS_U!r}), which only that NPU runs; give the file of stock "
            "ops that it was made of"
        )
    return max(table.scalar(0, "<b"), table.scalar(3)), name


def _indices(table: Table, slot: int, count: int, least: int = 0) -> tuple[int, ...]:
    found = table.numbers(slot)
    if any(not least <= i < count for i in found):
        raise FormatError(f"{table.where}: tensor indices {found[:8]} of {count} tensors; the file is damaged")
    return found


def _tensor(table: Table, buffers: list[tuple[bytes, int]]) -> Tensor:
    table.expect(9)
    name, shape, kind, buffer = table.text(3), table.numbers(0), table.scalar(1, "<b"), table.scalar(2, "<I")
    where = f"{table.where} ({name!r})"
    if kind not in TYPE_BITS:
        raise FormatError(f"{where}: element type {kind} is not one that this package reads")
    if any(d < 0 for d in shape) or any(d < -1 for d in table.numbers(7)):
        raise FormatError(f"{where}: negative size in shape {shape}")
    size = 1
    for d in shape:
        size *= d
    if size >= MAX_VALUES:
        raise FormatError(f"{where}: shape {shape} is too large")
    if buffer >= len(buffers):
        raise FormatError(f"{where}: buffer {buffer} of {len(buffers)}; the file is damaged")
    variable = bool(table.scalar(5, "<B"))
    if table.table(6, where) is not None:
        raise FormatError(f"{where}: sparse tensors are not supported")
    raw, offset = buffers[buffer]
    needed = (size * TYPE_BITS[kind] + 7) // 8
    if variable and (raw or kind != 9):
        raise FormatError(f"{where}: a variable must be int8 and without data; the file is damaged")
    if raw and len(raw) != needed:
        raise FormatError(f"{where}: shape {shape} takes {needed} bytes, its buffer has {len(raw)}")
    scales, zero_points = _quantization(table, where, shape)
    return Tensor(name, shape, kind, raw or None, offset, scales, zero_points, variable)


def _quantization(table: Table, where: str, shape: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    q = table.table(4, f"{where} quantization")
    if q is None:
        return (), ()
    scales, zero_points, axis = q.numbers(2, "f"), q.numbers(3, "q"), q.expect(7).scalar(6)
    q.numbers(0, "f"), q.numbers(1, "f")
    if q.scalar(4, "<B") or q.table(5, where) is not None:
        raise FormatError(f"{where}: custom quantization is not supported")
    # XNNPACK refuses a subnormal scale, and TFLite then goes on without the operator that it has not got.
    if len(scales) != len(zero_points) or not all(np.isfinite(v) and v >= LEAST_SCALE for v in scales):
        raise FormatError(
            f"{where}: {len(scales)} scales, {len(zero_points)} zero points, or a scale that is no normal number"
        )
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise FormatError(f"{where}: {len(scales)} scales do not suit axis {axis} of shape {shape}")
    return scales, zero_points


def _operator(table: Table, codes: list[tuple[int, str]], tensors: int) -> Operator:
    index = table.expect(9).scalar(0, "<I")
    if index >= len(codes):
        raise FormatError(f"{table.where}: operator code {index} of {len(codes)}; the file is damaged")
    number, custom_code = codes[index]
    custom = number == CUSTOM
    inputs, outputs = _indices(table, 1, tensors, -1), _indices(table, 2, tensors)
    for slot, width in ((7, 1), (8, 4)):
        if table.vector(slot, width)[1]:
            raise FormatError(f"{table.where}: variables and intermediates are not supported")
    name = custom_code if custom else BUILTIN_NAMES.get(number, f"BUILTIN_{number}")
    if custom and not custom_code:
        raise FormatError(f"{table.where}: a custom op without a name")
    fields, known = _stock_fields(table, "" if custom else name)
    return Operator(name, custom, inputs, outputs, table.raw(5)[0], fields, known)


def _stock_fields(table: Table, name: str) -> tuple[dict[str, Any], bool]:
    """The options of a stock op (name "" for a custom one), and whether all of them were read."""
    where = f"{table.where} ({name}) options" if name else f"{table.where} options"
    options, number = table.table(4, where), table.scalar(3, "<B")
    if bool(number) != (options is not None):
        raise FormatError(f"{where}: their type and presence do not agree; the file is damaged")
    if name not in OPTIONS:
        return {}, options is None
    wanted, fields = OPTIONS[name]
    if options is None:
        # A reshape has its new shape as an input, too; what else reads options reads them unasked.
        return {field: default for field, _, default in fields}, not fields or name == "RESHAPE"
    if number != wanted:
        raise FormatError(f"{where}: are of type {number}, should be {wanted}; the file is damaged")
    options.expect(len(fields))
    return {field: _option(options, slot, *rest) for slot, (field, *rest) in enumerate(fields)}, True


def _option(options: Table, slot: int, layout: str, default: Any) -> Any:
    if layout == "text":
        return options.text(slot)
    return options.numbers(slot) if layout == "i*" else options.scalar(slot, layout, default)


def _check_signatures(model: Table, tensors: int, buffers: list[tuple[bytes, int]]) -> dict[str, bytes]:
    """Checks the signatures and returns the metadata."""

    def tensor_map(table: Table) -> None:
        table.expect(2).text(0)
        if not 0 <= table.scalar(1, "<I") < tensors:
            raise FormatError(f"{table.where}: tensor {table.scalar(1, '<I')} of {tensors}; the file is damaged")

    def signature(table: Table) -> None:
        table.tables(0, f"{table.where} input", tensor_map)
        table.tables(1, f"{table.where} output", tensor_map)
        table.expect(5).text(2)
        if table.scalar(4, "<I"):
            raise FormatError(f"{table.where}: subgraph {table.scalar(4, '<I')} of 1; the file is damaged")

    model.tables(7, "signature", signature)
    found = model.tables(6, "metadata", lambda table: (table.expect(2).text(0), table.scalar(1, "<I")))
    for name, buffer in found:
        if buffer >= len(buffers):
            raise FormatError(f"metadata {name!r}: buffer {buffer} of {len(buffers)}; the file is damaged")
    return {name: buffers[buffer][0] for name, buffer in found}


def _check_order(tensors: list[Tensor], operators: list[Operator], ends: list[tuple[int, ...]], main: bool) -> None:
    """Every operator reads constants, variables and what was written before, and nothing is written twice.

    A subgraph that is not the main one only fills variables: it has no inputs and outputs.
    """
    known = {i for i, tensor in enumerate(tensors) if tensor.data is not None or tensor.variable}
    if not main and (ends[0] or ends[1]):
        raise FormatError("subgraph 1: must have no inputs and outputs")
    if main and (not ends[0] or not ends[1] or known.intersection(ends[0]) or len(set(ends[0])) != len(ends[0])):
        raise FormatError("subgraph: needs inputs that are not constant, and outputs")
    known.update(ends[0])
    for i, op in enumerate(operators):
        silent = not op.custom and op.name in ("CALL_ONCE", "ASSIGN_VARIABLE")
        if bool(op.outputs) == silent or not known.issuperset(i for i in op.inputs if i >= 0):
            raise FormatError(f"operator {i} ({op.name}): reads what nothing has written, or writes nothing")
        if known.intersection(op.outputs) or len(set(op.outputs)) != len(op.outputs):
            raise FormatError(f"operator {i} ({op.name}): writes a tensor a second time")
        known.update(op.outputs)
    if not known.issuperset(ends[1]):
        raise FormatError("subgraph: an output is never written")
