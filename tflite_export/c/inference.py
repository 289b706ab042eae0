"""Writes a packed .tflite model as C: a table of layers, its constants, and a function that runs them.

For firmware without an interpreter: ``kernels/core/layers.c`` runs the table on the very kernels that an interpreter
would call. Nothing is allocated; all activations lie in one array that the caller gives.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from tflite_export import ir
from tflite_export.c import arrays as c_writer
from tflite_export.c import uses
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.flatbuffer.reader import Operator
from tflite_export.packed import op_options, packing
from tflite_export.packed import reader as tflite_reader
from tflite_export.packed import writer as tflite_writer
from tflite_export.streaming import memory_plan
from tflite_export.streaming import schedule as stream_schedule

_RANK = 6
_BYTES_A_LINE = 24
_OPERANDS = 3
_C_TYPES = {0: "KWS_FLOAT32", 3: "KWS_UINT8", 7: "KWS_INT16", 9: "KWS_INT8"}
"""Element types of constants in a .tflite file."""


def write_inference(
    flatbuffer: bytes, out_dir: str | os.PathLike[str], name: str = "kws_inference"
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes ``name.h`` and ``name.c`` into ``out_dir`` and returns their paths; each is complete or as it was before.

    The header has the size of the arena, functions that say where inputs and outputs lie in it, their scales and zero
    points, and ``bool name_run(uint8_t* arena)``.

    Raises:
        ValueError: a name that is no C identifier, or a file that is no packed model of ours.
    """
    texts, _ = inference_texts(flatbuffer, name)
    folder = pathlib.Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    header, source = (c_writer.write_text(folder / file, text) for file, text in texts.items())
    return header, source


def inference_texts(flatbuffer: bytes, name: str = "kws_inference") -> tuple[dict[str, str], uses.Uses]:
    """File name -> text of ``name.h`` and ``name.c``, and what they use of the kernels; raises as ``write_inference``.

    ``uses.header`` makes the list for a build of what several models use.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a C identifier, found {name!r}")
    model = flatbuffer_reader.parse(bytes(flatbuffer))
    writer = _Writer(tflite_reader.graph_of(model), model, name)
    return {f"{name}.h": writer.header(), f"{name}.c": writer.source()}, writer.uses


def row_bytes(graph: ir.Graph) -> tuple[int, int]:
    """Scratch bytes of kernels that need a row of inputs only where it cannot be read in place, and that always do.

    The second is the longest row as kws_wide_row_scratch() counts it: two bytes an input, and a few words. Layers of
    dynamic quantization need their row of codes anywhere, and kernels that widen it both.
    """
    narrow = wide = 0
    for op in graph.ops:
        if isinstance(op, ir.PackedDense):
            padded = -(-op.weights.codes.shape[1] // packing.VECTOR) * packing.VECTOR
            wide = max(wide, 2 * padded + 4 * -(-padded // 32) + 8)
            if op.window or op.weights.codes.shape[1] % packing.VECTOR:
                narrow = max(narrow, padded)
        elif isinstance(op, ir.Recurrent):
            least, most = _recurrent_bytes(op)
            narrow, wide = max(narrow, least), max(wide, most)
        elif isinstance(op, ir.Waveform):
            least, most = _waveform_bytes(op)
            narrow, wide = max(narrow, least), max(wide, most)
        elif isinstance(op, ir.DynamicDense):
            padded = -(-op.weights.codes.shape[1] // packing.VECTOR) * packing.VECTOR
            codes = padded * (2 if op.input_bits > 8 else 1)
            narrow = max(narrow, codes)
            wide = max(wide, codes + 2 * padded + 4 * -(-padded // 32) + 8)
    return narrow, wide


def _recurrent_bytes(op: ir.Recurrent) -> tuple[int, int]:
    """The same of a recurrent layer, whose dense layers work in what its own numbers leave."""
    aligned = lambda size: -(-size // 16) * 16  # noqa: E731
    own = 2 * aligned(2 * len(op.kernel.codes)) + aligned(2 * op.units) + 2 * aligned(op.units) + 15
    padded = [-(-n // packing.VECTOR) * packing.VECTOR for n in (op.kernel.codes.shape[1], op.units)]
    return own + max(padded), own + max(2 * n + 4 * -(-n // 32) + 8 for n in padded)


def _waveform_bytes(op: ir.Waveform) -> tuple[int, int]:
    """The same of filters over samples: both bytes of a frame's samples, its sums twice, and what dense layers need."""
    aligned = lambda size: -(-size // 16) * 16  # noqa: E731
    own = 2 * aligned(op.span) + 2 * aligned(4 * op.average * len(op.weights.codes)) + 15
    padded = -(-op.taps // packing.VECTOR) * packing.VECTOR
    return own + (padded if op.taps % packing.VECTOR else 0), own + 2 * padded + 4 * -(-padded // 32) + 8


class _Writer:
    def __init__(self, graph: ir.Graph, model: flatbuffer_reader.Model, name: str) -> None:
        self.graph, self.model, self.name = graph, model, name
        self.plan = memory_plan.plan(graph)
        self.narrow, self.wide = row_bytes(graph)
        self.state_bytes = 0
        self.uses = uses.Uses()
        self.constants: list[str] = []
        self.layers: list[str] = []
        for number, (op, operator) in enumerate(zip(graph.ops, model.operators)):
            self.add(op, operator, number)

    def add(self, op: ir.Op, operator: Operator, number: int) -> None:
        if isinstance(op, ir.Reshape):
            return  # the same bytes at the same place
        if isinstance(op, ir.Ring):
            self.add_ring(op, operator)
        elif operator.custom:
            self.add_kernel(op, operator, number, operator.custom_options)
        elif isinstance(op, ir.MaxPool):
            self.add_kernel(op, operator, number, op_options.encode(self.pool_options(op)))
        else:
            self.add_moves(op, number)

    def pool_options(self, op: ir.MaxPool) -> op_options.Options:
        return tflite_writer.max_pool_options(op, self.graph.tensors[op.output])

    def array(self, label: str, data: bytes) -> str:
        lines = [
            "    " + " ".join(f"{b}," for b in data[i : i + _BYTES_A_LINE]) for i in range(0, len(data), _BYTES_A_LINE)
        ]
        declaration = f"static const uint8_t {label}[{len(data)}] __attribute__((aligned(16))) = {{"
        self.constants.append("\n".join([declaration, *lines, "};"]))
        return label

    def add_kernel(self, op: ir.Op, operator: Operator, number: int, options: bytes) -> None:
        inputs = []
        for index in operator.inputs:
            tensor = self.model.tensors[index]
            if tensor.variable:
                inputs.append(self.state(tensor.shape[1]))
            elif tensor.data is None:
                inputs.append(self.operand(tensor.name))
            else:
                label = self.array(f"constant_{number}_{len(inputs)}", tensor.data)
                shape = ", ".join(map(str, tensor.shape))
                inputs.append(
                    f"{{{label}, 0, {len(tensor.data)}, {_C_TYPES[tensor.type]}, {len(tensor.shape)}, {{{shape}}}}}"
                )
        channels = self.graph.tensors[ir.op_inputs(op)[0]].shape[-1]
        self.uses |= uses.of_kernel(options, channels)
        options_label = self.array(f"options_{number}", options)
        self.layers.append(
            f"    {{{options_label}, {options[1]}, {len(inputs)}, 0, 0, {{{', '.join(inputs)}}}, "
            f"{self.operand(op.output)}, 0}}, /* {type(op).__name__} -> {op.output} */"
        )

    def add_ring(self, op: ir.Ring, operator: Operator) -> None:
        """Without options: a hop would spend more on reading them again than on moving the frames."""
        state = next(self.model.tensors[i] for i in operator.inputs if self.model.tensors[i].variable)
        inputs = f"{self.operand(op.input)}, {self.state(state.shape[1])}"
        fill = self.graph.tensors[op.output].zero
        self.uses |= uses.Uses(rings=1)
        self.layers.append(
            f"    {{0, KWS_RING, 2, 0, {fill}, {{{inputs}}}, {self.operand(op.output)}, 0}}, /* Ring -> {op.output} */"
        )

    def state(self, size: int) -> str:
        """What a ring keeps lies behind all activations, where nothing else is ever written."""
        place = self.plan.size + self.state_bytes
        self.state_bytes += -(-size // memory_plan.ALIGNMENT) * memory_plan.ALIGNMENT
        return f"{{0, {place}, {size}, KWS_INT8, 2, {{1, {size}}}}}"

    def operand(self, name: str) -> str:
        tensor = self.graph.tensors[name]
        shape = ", ".join(map(str, (1, *tensor.shape)))
        place = self.plan.offsets[name]
        kind = "KWS_FLOAT32" if tensor.quantization is None else "KWS_INT16" if tensor.wide else "KWS_INT8"
        return f"{{0, {place}, {tensor.bytes}, {kind}, {len(tensor.shape) + 1}, {{{shape}}}}}"

    def add_moves(self, op: ir.Op, number: int) -> None:
        y = self.graph.tensors[op.output]
        self.uses |= uses.Uses(copies=1)
        moves = [self.move(copy, self.plan.offsets[op.output]) for copy in _copies(op, self.graph)]
        self.constants.append(f"static const kws_move moves_{number}[] = {{\n" + "\n".join(moves) + "\n};")
        self.layers.append(
            f"    {{0, 0, 0, {len(moves)}, {y.zero}, {{{{0}}}}, {self.operand(op.output)}, "
            f"moves_{number}}}, /* {type(op).__name__} -> {op.output} */"
        )

    def move(self, copy: _Copy, output: int) -> str:
        axes = _merged(copy)
        pad = _RANK - len(axes)
        columns = [[first] * pad + [axis[i] for axis in axes] for i, first in enumerate((1, 0, 0))]
        text = ", ".join("{" + ", ".join(map(str, column)) + "}" for column in columns)
        return f"    {{{self.plan.offsets[copy.input] + copy.begin}, {output + copy.to}, {text}}},"

    def ends(self, kind: str, names: tuple[str, ...]) -> list[str]:
        lines = []
        for i, tensor_name in enumerate(names):
            tensor = self.graph.tensors[tensor_name]
            q, prefix = tensor.quantization, f"{self.name.upper()}_{kind}_{i}"
            element = "float" if q is None else str(tensor.dtype)
            real = "" if q is None else ", real = scale * (value - zero point)"
            lines += [
                f"/* {tensor_name}: {element} [{', '.join(map(str, tensor.shape))}]{real} */",
                f"#define {prefix}_OFFSET {self.plan.offsets[tensor_name]}",
                f"#define {prefix}_BYTES {tensor.bytes}",
            ]
            if q is None:
                continue
            lines += [
                f"#define {prefix}_SCALE {np.float32(q.scale)!r}f".replace("np.float32(", "").replace(")f", "f"),
                f"#define {prefix}_ZERO_POINT ({q.zero_point})",
            ]
        return lines

    def header(self) -> str:
        upper = self.name.upper()
        return "\n".join(
            [
                "/* Made by tflite_export: do not edit. */",
                f"#ifndef {upper}_H_",
                f"#define {upper}_H_",
                "",
                "#include <stdbool.h>",
                "#include <stdint.h>",
                "",
                "#ifdef __cplusplus",
                'extern "C" {',
                "#endif",
                "",
                *self.ends("INPUT", self.graph.inputs),
                *self.ends("OUTPUT", self.graph.outputs),
                "",
                "/* A row of inputs: widened by the kernels for Cortex-M's DSP extension, gathered by the others where",
                " * it does not lie side by side. */",
                "#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_FEATURE_MVE) && !defined(__ARM_NEON)",
                f"#define {upper}_SCRATCH_BYTES {self.wide}",
                "#else",
                f"#define {upper}_SCRATCH_BYTES {self.narrow}",
                "#endif",
                f"#define {upper}_ARENA_BYTES ({self.plan.size + self.state_bytes} + {upper}_SCRATCH_BYTES)",
                *self.stream_lines(),
                "",
                "/* Runs the model once. The arena, aligned to 16 bytes, has the inputs at their offsets and gets the",
                " * outputs at theirs; inputs may be overwritten. False where this build has no kernel for a layer. */",
                f"bool {self.name}_run(uint8_t* arena);",
                "",
                "#ifdef __cplusplus",
                "}",
                "#endif",
                f"#endif /* {upper}_H_ */",
                "",
            ]
        )

    def stream_lines(self) -> list[str]:
        """What a streaming model adds to the header."""
        upper, lines = self.name.upper(), []
        if stream_schedule.METADATA in self.model.metadata:
            schedule = stream_schedule.from_metadata(self.model.metadata)
            lines += [
                "",
                "/* A stream: a run takes the next _HOP frames, the first run _HOP - _LEAD behind _LEAD others of any",
                " * value. The first _LAG rows of the output mean nothing; a run gives _ROWS. */",
                f"#define {upper}_STREAM_HOP {schedule.hop}",
                f"#define {upper}_STREAM_LEAD {schedule.lead}",
                f"#define {upper}_STREAM_ROWS {schedule.outputs[0].rows}",
                f"#define {upper}_STREAM_LAG {schedule.outputs[0].lag}",
            ]
        if self.state_bytes:
            lines += [
                "",
                "/* Where the arena has what rings keep; all other places are free between two runs. */",
                f"#define {upper}_STATE_OFFSET {self.plan.size}",
                f"#define {upper}_STATE_BYTES {self.state_bytes}",
                "",
                "/* Forgets all frames: to be called before the first run, and when a stream begins anew. */",
                f"void {self.name}_reset(uint8_t* arena);",
            ]
        return lines

    def reset_lines(self) -> list[str]:
        """The function that clears what rings keep."""
        if not self.state_bytes:
            return []
        body = f"  memset(arena + {self.plan.size}, 0, {self.state_bytes});"
        return [f"void {self.name}_reset(uint8_t* arena) {{", body, "}", ""]

    def source(self) -> str:
        upper = self.name.upper()
        return "\n".join(
            [
                "/* Made by tflite_export: do not edit. */",
                f'#include "{self.name}.h"',
                "",
                *(["#include <string.h>", ""] if self.state_bytes else []),
                '#include "layers.h"',
                "",
                *self.uses.checks(),
                "",
                "/* clang-format off */",
                *self.constants,
                "",
                "static const kws_layer layers[] = {",
                *self.layers,
                "};",
                "/* clang-format on */",
                "",
                *self.reset_lines(),
                f"bool {self.name}_run(uint8_t* arena) {{",
                "  kws_error error;",
                "  size_t failed;",
                "  return kws_run_layers(layers, sizeof layers / sizeof layers[0], arena,",
                f"                        {self.plan.size + self.state_bytes},",
                f"                        {upper}_SCRATCH_BYTES, &failed, &error);",
                "}",
                "",
            ]
        )


def _steps(shape: tuple[int, ...], element: int) -> list[int]:
    """Bytes from one element to the next along each axis, and along the bytes of an element."""
    return [element * int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))] + [1]


@dataclasses.dataclass(frozen=True)
class _Copy:
    """A copy that an op consists of: where it begins in both tensors, and the bytes from one place to the next."""

    input: str
    dims: Sequence[int]
    begin: int
    from_steps: Sequence[int]
    to: int
    to_steps: Sequence[int]


def _merged(copy: _Copy) -> list[tuple[int, int, int]]:
    """(places, step from, step to) of each axis; axes that follow each other without a gap on both sides are one."""
    axes: list[tuple[int, int, int]] = []
    for dim, step, to in zip(copy.dims, copy.from_steps, copy.to_steps):
        if axes and axes[-1][1:] == (dim * step, dim * to):
            axes[-1] = (axes[-1][0] * dim, step, to)
        else:
            axes.append((dim, step, to))
    return axes


def _copies(op: ir.Op, graph: ir.Graph) -> Iterator[_Copy]:
    out = graph.tensors[op.output].shape
    element = graph.tensors[op.output].dtype.itemsize
    to = _steps(out, element)
    if isinstance(op, ir.Concatenate):
        start = 0
        for name in op.inputs:
            shape = graph.tensors[name].shape
            yield _Copy(name, (*shape, element), 0, _steps(shape, element), start * to[op.axis], to)
            start += shape[op.axis]
        return
    shape = graph.tensors[op.input].shape
    steps = _steps(shape, element)
    if isinstance(op, ir.Transpose):
        yield _Copy(op.input, (*out, element), 0, [*(steps[p] for p in op.permutation), 1], 0, to)
    elif isinstance(op, ir.Pad):
        before = sum(left * step for (left, _), step in zip(op.padding, to))
        yield _Copy(op.input, (*shape, element), 0, steps, before, to)
    elif isinstance(op, ir.Slice):
        places, taken = op.places(shape), list(steps)
        taken[op.axis] *= places.step
        yield _Copy(op.input, (*out, element), places.start * steps[op.axis], taken, 0, to)
    else:
        raise ValueError(f"{op.output}: {type(op).__name__} has no C form")
