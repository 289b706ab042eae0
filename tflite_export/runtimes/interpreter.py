"""One way to run a .tflite file of ours in any of four runtimes.

========== ====================================== ==========================================
runtime    what runs                              needs
========== ====================================== ==========================================
reference  the numpy specification                nothing else
tflite     the interpreter of TensorFlow          pip install tensorflow
litert     the interpreter of LiteRT              pip install ai-edge-litert
tflm       TFLM, the interpreter of firmware      pip install --pre tflite-micro
========== ====================================== ==========================================

Every file is checked in Python first: the stock interpreters crash on some damaged ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tflite_export import ir
from tflite_export.builtin import checks as stock_checks
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.flatbuffer.reader import FormatError
from tflite_export.packed import reader as tflite_reader
from tflite_export.packed.op_options import KINDS
from tflite_export.reference import arithmetic
from tflite_export.reference import run as reference
from tflite_export.runtimes import native

RUNTIMES = ("reference", "tflite", "litert", "tflm")
MIN_ARENA = 1 << 20
"""Bytes. The tflite-micro wheel crashes on arenas that are too small, so it always gets plenty."""

Arrays = dict[str, np.ndarray]


def default_runtime() -> str:
    """ "tflite" where TensorFlow is installed, else "litert" where LiteRT is; neither is imported.

    Raises ImportError where neither is installed.
    """
    for name, package in (("tflite", "tensorflow"), ("litert", "ai_edge_litert")):
        if importlib.util.find_spec(package) is not None:
            return name
    raise ImportError("no TFLite interpreter is installed: pip install 'tfmot-kws[runtime]' (LiteRT, no TensorFlow)")


@dataclasses.dataclass(frozen=True)
class TensorDetails:
    """An input or output: shape without the batch axis; scale is None for float32 tensors.

    unsigned: uint8 instead of int8, as the probability of an ESPHome model is. wide: int16, as samples of sound are.
    """

    name: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int
    unsigned: bool = False
    wide: bool = False

    @property
    def quantization(self) -> ir.Quantization | None:
        """The same as the integer graph has it."""
        return None if self.scale is None or self.unsigned else ir.Quantization(self.scale, self.zero_point)

    @property
    def dtype(self) -> np.dtype:
        """numpy type of an element."""
        if self.scale is None:
            return np.dtype(np.float32)
        return np.dtype(np.uint8 if self.unsigned else np.int16 if self.wide else np.int8)

    def is_exact(self, values: np.ndarray) -> bool:
        """Whether such values are taken as they are, and outputs given as they are: int8, or int16 where that is taken.

        Raises:
            ValueError: int8 for a tensor of int16.
        """
        if self.wide and values.dtype == np.int8:
            raise ValueError(f"input {self.name!r} takes samples, int16 or real values, found int8")
        return values.dtype == (np.int16 if self.wide else np.int8)

    def to_tensor(self, values: np.ndarray) -> np.ndarray:
        """Values in the tensor's own type: int8 (or int16) as it is, real values quantized, or float32."""
        if self.scale is None or self.is_exact(values):
            return np.asarray(values, self.dtype)
        return arithmetic.quantize(values, self.quantization, self.dtype)

    def to_real(self, values: np.ndarray) -> np.ndarray:
        """float32 values of what the tensor holds."""
        if self.unsigned:
            return np.float32(self.scale) * (values.astype(np.float32) - np.float32(self.zero_point))
        return values if self.scale is None else arithmetic.dequantize(values, self.quantization)


class _Runner(Protocol):
    def run(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs [batch, ...] of inputs [batch, ...], both in the order of the file and of its types."""

    def reset(self) -> None:
        """Back to the state before the first run."""


class Interpreter:
    """Runs a .tflite file that ``convert`` made.

    Args:
        flatbuffer: its bytes.
        runtime: "reference" (the numpy specification), "tflite" (needs tensorflow), "litert" (needs ai-edge-litert) or
            "tflm" (needs tflite-micro, x86-64 only).
        graph: for "reference" only, the graph to run instead of the one in the file (files with stock ops hold none).
        threads: those of TFLite and LiteRT.
        trust: takes stock ops that are not checked. The stock interpreters believe a file, and a damaged one may end
            the process or read what is not its own: only for a file whose maker you know.

    Attributes:
        runtime: its name.
        inputs: a TensorDetails for each input: name, shape without the batch axis, scale, zero point.
        outputs: the same of the outputs.
        metadata: entries that the file carries, by name.
        stateful: whether the model keeps its state from call to call.

    Raises:
        FormatError: a damaged file, or one with stock ops that are not checked.
        ImportError: the runtime is missing; the message names the pip package.
        ValueError: an unknown runtime, or a graph where none is taken.
        RuntimeError: the runtime refuses the file.
    """

    def __init__(
        self,
        flatbuffer: bytes,
        runtime: str = "reference",
        graph: ir.Graph | None = None,
        threads: int = 1,
        trust: bool = False,
    ) -> None:
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, found {runtime!r}")
        if graph is not None and runtime != "reference":
            raise ValueError(f"a graph can only be given to runtime='reference', found {runtime!r}")
        flatbuffer = bytes(flatbuffer)
        model = flatbuffer_reader.parse(flatbuffer)
        self.runtime = runtime
        self.metadata = model.metadata
        self.stateful = bool(model.resources) or any(t.variable for t in model.tensors)
        self.inputs = [_details(model.tensors[i]) for i in model.inputs]
        self.outputs = [_details(model.tensors[i], output=True) for i in model.outputs]
        if graph is None and (runtime == "reference" or any(op.custom for op in model.operators)):
            graph = tflite_reader.graph_of(model)  # reads and so checks every op
        if not trust:
            stock_checks.check(model)
        self._runner: _Runner
        if runtime == "reference":
            self._runner = _Reference(graph)
        elif runtime == "tflm":
            self._runner = _Tflm(flatbuffer)
        else:
            custom = any(op.custom and op.name in KINDS for op in model.operators)
            self._runner = _TfLite(flatbuffer, runtime, threads, custom, bool(model.resources))

    def run(self, x: np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]) -> Any:
        """Outputs for a batch.

        Args:
            x: one array [batch, ...] where the model has one input; else a sequence in the order of ``inputs`` or a
                dict by name. int8 arrays (int16 for an input of samples) are taken as they are and give int8; any other
                type is quantized with the input's own scale, and the outputs come back as float32 real values.

        Returns:
            One array where x is an array and the model has one output; else a dict by name for a dict, and a list
            otherwise.

        Raises:
            ValueError: names, types, shapes or batch sizes do not suit the model.
        """
        arrays = self._arrays(x)
        as_they_are = [d.is_exact(a) for a, d in zip(arrays, self.inputs)]
        exact = all(as_they_are)
        if not exact and any(as_they_are):
            raise ValueError("either all inputs are int8 or none is")
        feeds = [self._feed(a, details) for a, details in zip(arrays, self.inputs)]
        if self.stateful and any(len(a) != 1 for a in feeds):
            raise ValueError(f"the model keeps its state from call to call: one sample a call, found {len(feeds[0])}")
        if len({len(a) for a in feeds}) != 1:
            raise ValueError(f"inputs have different batch sizes: {[len(a) for a in feeds]}")
        if len(feeds[0]) == 0:
            results = [np.zeros((0, *d.shape), d.dtype) for d in self.outputs]
        else:
            results = self._runner.run(feeds)
        results = [r.reshape(len(feeds[0]), *d.shape) for r, d in zip(results, self.outputs)]
        if not exact:
            results = [d.to_real(r) for r, d in zip(results, self.outputs)]
        if isinstance(x, Mapping):
            return {d.name: r for d, r in zip(self.outputs, results)}
        return results[0] if hasattr(x, "__array__") and len(results) == 1 else results

    def invoke(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """``run`` without its checks: inputs [1, ...] of the tensors' types in their order, and such outputs."""
        return self._runner.run(feeds)

    def reset(self) -> None:
        """Forgets what a streaming model keeps from one call to the next; nothing for other models."""
        if self.stateful:
            self._runner.reset()

    def arena_bytes(self) -> int:
        """Bytes of arena that TFLM uses, tensors and bookkeeping together; ValueError for the other runtimes."""
        if not isinstance(self._runner, _Tflm):
            raise ValueError(f"only runtime='tflm' has an arena, this is {self.runtime!r}")
        return self._runner.arena_bytes()

    def _arrays(self, x: Any) -> list[np.ndarray]:
        names = [d.name for d in self.inputs]
        if isinstance(x, Mapping):
            if set(x) != set(names):
                raise ValueError(f"inputs {sorted(x)} given, the model has {names}")
            return [np.asarray(x[name]) for name in names]
        if hasattr(x, "__array__"):
            x = [x]
        if len(x) != len(names):
            raise ValueError(f"{len(x)} inputs given, the model has {len(names)}: {names}")
        return [np.asarray(a) for a in x]

    def _feed(self, a: np.ndarray, details: TensorDetails) -> np.ndarray:
        if a.ndim != len(details.shape) + 1 or a.shape[1:] != details.shape:
            wanted = ", ".join(map(str, ("batch", *details.shape)))
            raise ValueError(f"input {details.name!r} needs shape [{wanted}], found {list(a.shape)}")
        return np.ascontiguousarray(details.to_tensor(a))


def _details(tensor: flatbuffer_reader.Tensor, output: bool = False) -> TensorDetails:
    if not tensor.shape or tensor.shape[0] != 1 or tensor.type not in ((0, 3, 7, 9) if output else (0, 7, 9)):
        kinds = "int8, uint8, int16 or float32" if output else "int8, int16 or float32"
        raise FormatError(f"tensor {tensor.name!r}: {'outputs' if output else 'inputs'} must be {kinds} [1, ...]")
    if tensor.type == 0:
        return TensorDetails(tensor.name, tensor.shape[1:], None, 0)
    if tensor.type == 3:
        if len(tensor.scales) != 1 or not 0 <= tensor.zero_points[0] <= 255:
            raise FormatError(f"tensor {tensor.name!r}: a uint8 output needs one scale and a uint8 zero point")
        return TensorDetails(tensor.name, tensor.shape[1:], tensor.scales[0], tensor.zero_points[0], unsigned=True)
    if len(tensor.scales) != 1 or not ir.INT8_MIN <= tensor.zero_points[0] <= ir.INT8_MAX:
        raise FormatError(f"tensor {tensor.name!r}: an int8 input or output needs one scale and an int8 zero point")
    wide = tensor.type == 7
    if wide and tensor.zero_points[0]:
        raise FormatError(f"tensor {tensor.name!r}: the zero point of int16 is 0, found {tensor.zero_points[0]}")
    return TensorDetails(tensor.name, tensor.shape[1:], tensor.scales[0], tensor.zero_points[0], wide=wide)


class _Reference:
    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._state: dict[str, np.ndarray] = {}

    def run(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        self._state = self._state if len(feeds[0]) == 1 else {}
        result = reference.run(self.graph, dict(zip(self.graph.inputs, feeds)), state=self._state)
        return [result[name] for name in self.graph.outputs]

    def reset(self) -> None:
        self._state = {}


class _TfLite:
    """TensorFlow's or LiteRT's interpreter with our delegate; resized to the batch once for each batch size."""

    def __init__(self, flatbuffer: bytes, runtime: str, threads: int, custom: bool, resources: bool) -> None:
        try:
            if runtime == "tflite":
                from tensorflow.lite.python import interpreter as module
            else:
                from ai_edge_litert import interpreter as module
        except ImportError as error:
            package = {"tflite": "tensorflow", "litert": "ai-edge-litert"}[runtime]
            raise ImportError(f"runtime {runtime!r} is not installed: pip install {package} ({error})") from error
        self._flatbuffer = flatbuffer  # the interpreter does not copy it

        def make() -> Any:
            delegates = [module.load_delegate(str(native.library_path()))] if custom else []
            made = module.Interpreter(model_content=flatbuffer, num_threads=threads, experimental_delegates=delegates)
            made.allocate_tensors()
            return made

        self._make, self._resources = make, resources
        self._interpreter = make()
        self._inputs = [d["index"] for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]
        self._batch, self._resizable = 1, True

    def run(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        batch = len(feeds[0])
        if self._resize(feeds, batch):
            return self._invoke(feeds)
        self._resize([a[:1] for a in feeds], 1)
        parts = [self._invoke([a[i : i + 1] for a in feeds]) for i in range(batch)]
        return [np.concatenate(column) for column in zip(*parts)]

    def reset(self) -> None:
        if self._resources:  # which reset_all_variables() leaves as they are
            self._interpreter = self._make()
        else:
            self._interpreter.reset_all_variables()

    def _resize(self, feeds: Sequence[np.ndarray], batch: int) -> bool:
        """Whether the interpreter now takes this batch; stock ops with a constant shape may not."""
        if batch == self._batch:
            return True
        if batch > 1 and not self._resizable:
            return False
        try:
            for index, a in zip(self._inputs, feeds):
                self._interpreter.resize_tensor_input(index, a.shape)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError):
            shapes = []
        else:
            shapes = [d["shape"] for d in self._interpreter.get_output_details()]
        if not shapes or any(len(shape) == 0 or shape[0] != batch for shape in shapes):
            self._resizable, self._batch = False, 0
            return False
        self._batch = batch
        return True

    def _invoke(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        for index, a in zip(self._inputs, feeds):
            self._interpreter.set_tensor(index, a)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


class _Tflm:
    """tflite-micro's interpreter, one sample at a time."""

    def __init__(self, flatbuffer: bytes) -> None:
        try:
            from tflite_micro.python.tflite_micro import runtime
        except ImportError as error:
            raise ImportError(f"runtime 'tflm' is not installed: pip install --pre tflite-micro ({error})") from error
        native.load()
        model = flatbuffer_reader.parse(flatbuffer)
        activations = sum(int(np.prod(t.shape, dtype=np.int64)) for t in model.tensors if t.data is None)
        self._resources = model.resources
        self._make = functools.partial(
            runtime.Interpreter.from_bytes,
            flatbuffer,
            custom_op_registerers=[native.REGISTERER],
            arena_size=MIN_ARENA + 8 * activations + len(flatbuffer),
        )
        with _captured_stderr() as said:
            try:
                self._interpreter = self._make()
            except RuntimeError as error:
                problem = error
            else:
                problem = None
        if problem is not None:
            raise RuntimeError(f"TFLM refuses the file: {problem}. {said[0].strip()}") from problem
        self._outputs = len(model.outputs)

    def run(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows = []
        for i in range(len(feeds[0])):
            for index, a in enumerate(feeds):
                self._interpreter.set_input(a[i : i + 1], index)
            self._interpreter.invoke()
            rows.append([np.array(self._interpreter.get_output(k)) for k in range(self._outputs)])
        return [np.concatenate(column) for column in zip(*rows)]

    def reset(self) -> None:
        if self._resources:  # which reset() leaves as they are
            with _captured_stderr():
                self._interpreter = self._make()
        else:
            self._interpreter.reset()

    def arena_bytes(self) -> int:
        with _captured_stderr() as said:
            self._interpreter.print_allocations()
        found = re.search(r"Arena allocation total (\d+) bytes", said[0])
        if not found:
            raise RuntimeError(f"tflite-micro printed no arena total: {said[0]!r}")
        return int(found.group(1))


_STDERR = threading.Lock()  # there is one file descriptor 2 for all threads


@contextlib.contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Collects what C code writes to file descriptor 2; the text is in the list's one element afterwards.

    One thread at a time: two that put back what they found would leave the process with the other's file.
    """
    with _STDERR:
        yield from _redirected()


def _redirected() -> Iterator[list[str]]:
    text = [""]
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            text[0] = file.read().decode(errors="replace")
