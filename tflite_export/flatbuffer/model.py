"""A small core for writing .tflite files: tensors, buffers, operators, one signature, metadata.

The schema classes are those that TensorFlow or LiteRT ships; their one generated file is loaded by itself, so that no
TensorFlow is imported. The data of every buffer starts at a multiple of 16 bytes of the file, which devices need and
the Python flatbuffers packer does not do on its own. The same calls make the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import flatbuffers
import numpy as np

from tflite_export import ir

ALIGNMENT = 16
_SCHEMA_FILES = (("tensorflow", "lite/python/schema_py_generated.py"), ("ai_edge_litert", "schema_py_generated.py"))


@functools.cache
def schema() -> ModuleType:
    """The generated classes of the .tflite schema (ModelT, TensorT, ...); raises ImportError where there are none."""
    for package, relative in _SCHEMA_FILES:
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            path = pathlib.Path(folder) / relative
            if path.is_file():
                name = f"tflite_export._schema_{package}"
                spec = importlib.util.spec_from_file_location(name, path)
                module = importlib.util.module_from_spec(spec)
                sys.modules[name] = module
                spec.loader.exec_module(module)
                return module
    raise ImportError("writing or reading a .tflite file needs its schema: pip install tensorflow (or ai-edge-litert)")


class ModelBuilder:
    """Collects the main subgraph, and others that it calls, and packs them."""

    def __init__(self, name: str, description: str) -> None:
        s = schema()
        self._schema = s
        self._model = s.ModelT()
        self._model.version = 3
        self._model.description = description
        self._model.buffers = [s.BufferT()]  # buffer 0 is the empty one of every activation
        self._model.operatorCodes = []
        self._graph = s.SubGraphT()
        self._graph.name = name
        self._graph.tensors, self._graph.operators = [], []
        self._others: list[Any] = []
        self._buffers: dict[bytes, int] = {}
        self._codes: dict[tuple[int, str | None, int], int] = {}

    def tensor_type(self, dtype: np.dtype) -> int:
        """TensorType of a numpy type."""
        return getattr(self._schema.TensorType, np.dtype(dtype).name.upper())

    def add_activation(
        self, name: str, shape: Sequence[int], quantization: ir.Quantization | None = None, wide: bool = False
    ) -> int:
        """An int8 tensor [1, *shape] whose first axis can be resized; its index. int16 where it is ``wide``, float32
        without quantization."""
        tensor = self._tensor(name, (1, *shape), "INT16" if wide else "INT8" if quantization else "FLOAT32", 0)
        tensor.shapeSignature = [-1, *map(int, shape)]
        if quantization:
            self._quantize(tensor, [quantization.scale], [quantization.zero_point], 0)
        return self._append(tensor)

    def add_unsigned(self, name: str, shape: Sequence[int], scale: float) -> int:
        """A uint8 tensor [1, *shape] with zero point 0; its index."""
        tensor = self._tensor(name, (1, *shape), "UINT8", 0)
        self._quantize(tensor, [scale], [0], 0)
        return self._append(tensor)

    def add_variable(self, name: str, size: int) -> int:
        """An int8 tensor [1, size] that keeps its bytes from one call to the next, first zeros; its index."""
        tensor = self._tensor(name, (1, size), "INT8", 0)
        tensor.isVariable = True
        self._quantize(tensor, [1.0], [0], 0)  # a zero point of 0: what TFLM fills variables with
        return self._append(tensor)

    def add_resource(self, name: str) -> int:
        """The handle of a resource variable; its index."""
        return self._append(self._tensor(name, (1,), "RESOURCE", 0))

    @contextlib.contextmanager
    def subgraph(self, name: str) -> Iterator[int]:
        """Tensors and operators added inside belong to another subgraph, of that index, without inputs and outputs."""
        main, self._graph = self._graph, self._schema.SubGraphT()
        self._graph.name = name
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._others.append(self._graph)
        try:
            yield len(self._others)
        finally:
            self._graph = main

    def add_constant(
        self,
        name: str,
        data: np.ndarray,
        *,
        shape: Sequence[int] | None = None,
        type_name: str | None = None,
        scales: Sequence[float] = (),
        zero_points: Sequence[int] = (),
        axis: int = 0,
    ) -> int:
        """A constant tensor; its index. Equal data shares one buffer.

        shape and type_name ("INT4") are those of ``data`` unless given. scales: one, or one for each place of ``axis``;
        zero_points: as many, or none where all are zero.
        """
        data = np.ascontiguousarray(data)
        type_name = type_name or np.dtype(data.dtype).name.upper()
        tensor = self._tensor(name, data.shape if shape is None else shape, type_name, self._buffer(data.tobytes()))
        if len(scales):
            self._quantize(tensor, scales, zero_points if len(zero_points) else [0] * len(scales), axis)
        return self._append(tensor)

    def add_builtin(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        *,
        version: int = 1,
        options_type: str | None = None,
    ) -> None:
        """A stock op ("MAX_POOL_2D") with its options object, say ``schema().Pool2DOptionsT()``."""
        operator = self._operator(getattr(self._schema.BuiltinOperator, name), None, version, inputs, outputs)
        if options is not None:
            options_type = options_type or type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options_type)
            operator.builtinOptions = options

    def add_custom(self, custom_code: str, inputs: Sequence[int], outputs: Sequence[int], options: bytes) -> None:
        """A custom op of version 1."""
        operator = self._operator(self._schema.BuiltinOperator.CUSTOM, custom_code, 1, inputs, outputs)
        operator.customOptions = np.frombuffer(options, np.uint8)

    def finish(
        self, inputs: dict[str, int], outputs: dict[str, int], metadata: Mapping[str, bytes] | None = None
    ) -> bytes:
        """The file, with the signature "serving_default" of these names and tensor indices."""
        s = self._schema
        signature = s.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.subgraphIndex = 0
        for field, tensors in (("inputs", inputs), ("outputs", outputs)):
            maps = []
            for name, index in tensors.items():
                entry = s.TensorMapT()
                entry.name, entry.tensorIndex = name, index
                maps.append(entry)
            setattr(signature, field, maps)
            setattr(self._graph, field, list(tensors.values()))
        self._model.subgraphs = [self._graph, *self._others]
        for name, data in (metadata or {}).items():
            entry = s.MetadataT()
            entry.name, entry.buffer = name, self._buffer(data)
            self._model.metadata = [*(self._model.metadata or []), entry]
        self._model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _buffer(self, raw: bytes) -> int:
        if raw not in self._buffers:
            self._buffers[raw] = len(self._model.buffers)
            buffer = self._schema.BufferT()
            buffer.data = np.frombuffer(raw, np.uint8)
            buffer.Pack = functools.partial(_pack_aligned, self._schema, buffer)
            self._model.buffers.append(buffer)
        return self._buffers[raw]

    def _append(self, tensor: Any) -> int:
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _tensor(self, name: str, shape: Sequence[int], type_name: str, buffer: int) -> Any:
        tensor = self._schema.TensorT()
        tensor.name, tensor.buffer, tensor.shape = name, buffer, [int(d) for d in shape]
        tensor.type = getattr(self._schema.TensorType, type_name)
        tensor.hasRank = not tensor.shape
        return tensor

    def _quantize(self, tensor: Any, scales: Sequence[float], zero_points: Sequence[int], axis: int) -> None:
        tensor.quantization = self._schema.QuantizationParametersT()
        tensor.quantization.scale = np.asarray(scales, np.float32)
        tensor.quantization.zeroPoint = np.asarray(zero_points, np.int64)
        tensor.quantization.quantizedDimension = axis

    def _operator(
        self, builtin: int, custom_code: str | None, version: int, inputs: Sequence[int], outputs: Sequence[int]
    ) -> Any:
        key = (builtin, custom_code, version)
        if key not in self._codes:
            self._codes[key] = len(self._model.operatorCodes)
            code = self._schema.OperatorCodeT()
            code.builtinCode, code.customCode, code.version = builtin, custom_code, version
            code.deprecatedBuiltinCode = min(builtin, 127)
            self._model.operatorCodes.append(code)
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._codes[key]
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        self._graph.operators.append(operator)
        return operator


def _pack_aligned(s: ModuleType, buffer: Any, builder: flatbuffers.Builder) -> int:
    """BufferT.Pack with aligned data. The builder writes back to front and pads the whole to the largest alignment."""
    raw = buffer.data.tobytes()
    builder.StartVector(1, len(raw), ALIGNMENT)
    builder.head -= len(raw)
    builder.Bytes[builder.head : builder.head + len(raw)] = raw
    data = builder.EndVector()
    s.BufferStart(builder)
    s.BufferAddData(builder, data)
    return s.BufferEnd(builder)
