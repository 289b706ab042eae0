"""A model whose state goes in and out, as C++ for firmware: arrays of the file and of what was compiled of it, the ops
that TFLM registers for either, and for a stream when it takes frames, for ``listener/kws_external.c``."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from tflite_export.c import arrays
from tflite_export.flatbuffer import reader
from tflite_export.streaming import schedule as stream_schedule

NAME = "kws_npu"
MACRO = "KWS_ETHOS_U"
"""Defined, the compiled file is in the program, and TFLM's op for an Ethos-U; else the stock file and its ops."""


def write_external(
    stock: bytes, compiled: bytes, compiled_ops: Sequence[str], out_dir: str | os.PathLike[str], name: str = NAME
) -> tuple[pathlib.Path, ...]:
    """Writes NAME_model.h, NAME_model.cc and NAME_ops.inc, and NAME.h where the file is a stream; returns their paths.

    Args:
        stock: the .tflite file of stock ops.
        compiled: what Vela made of it.
        compiled_ops: names of the ops of ``compiled``; ``reader.ETHOS_U`` is that of the NPU.
        out_dir: folder; made where it is not there.
        name: of files and of what they define.

    Raises:
        FormatError: ``stock`` is no .tflite file.
        ValueError: a name that is no C identifier, an op that TFLM has no method for, or a stream that keeps its state
            inside or takes anything but int8.
    """
    arrays.check_name(name)
    model = reader.parse(stock)
    texts = {
        f"{name}_model.h": arrays.header_text(f"{name}_model"),
        f"{name}_model.cc": _model_text(f"{name}_model", stock, compiled),
        f"{name}_ops.inc": _either(
            arrays.resolver_lines(dict.fromkeys(compiled_ops, False)), arrays.op_resolver_lines(stock)
        ),
    }
    if stream_schedule.METADATA in model.metadata:
        texts[f"{name}.h"] = _stream_text(name, model)
    folder = pathlib.Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(arrays.write_text(folder / file, text) for file, text in texts.items())


def _either(npu: list[str], stock: list[str]) -> str:
    return "\n".join([f"#ifdef {MACRO}", *npu, "#else", *stock, "#endif", ""])


def _model_text(name: str, stock: bytes, compiled: bytes) -> str:
    made = _either([arrays.definition(name, compiled)], [arrays.definition(name, stock)])
    return f'{arrays.HEAD}#include "{name}.h"\n\n{made}'


def _stream_text(name: str, model: reader.Model) -> str:
    """The schedule and the states as constants."""
    schedule = stream_schedule.from_metadata(model.metadata)
    ins, outs = ([model.tensors[i] for i in ends] for ends in (model.inputs, model.outputs))
    where = [{tensor.name: place for place, tensor in enumerate(side)} for side in (ins, outs)]
    if not schedule.states or any(t.type != 9 for t in (*ins, *outs)):
        raise ValueError(
            "the stream keeps its state inside, or takes other types than int8; export it with streaming='external'"
        )
    carried = [(where[0][before], where[1][after], ins[where[0][before]]) for before, after in schedule.states]
    output = next(
        place for place, tensor in enumerate(outs) if tensor.name not in {after for _, after in schedule.states}
    )
    timing, frame_bytes = schedule.outputs[0], ins[0].bytes // schedule.hop
    states = [f"    {{{a}, {b}, {t.bytes}, {_zero(t)}}}, /* {t.name.replace('*/', '')} */" for a, b, t in carried]
    memory = schedule.hop * frame_bytes + sum(t.bytes for _, _, t in carried)
    upper = name.upper()
    lines = [
        arrays.HEAD + f"#ifndef {upper}_H_",
        f"#define {upper}_H_",
        "",
        '#include "kws_external.h"',
        "",
        "/* Bytes that kws_external_begin() needs. */",
        f"#define {upper}_MEMORY_BYTES {memory}",
        f"#define {upper}_FRAME_BYTES {frame_bytes}",
        "",
        f"static const kws_external_state {name}_states[] = {{",
        *states,
        "};",
        "/* hop, lead, bytes of a frame, zero; output, rows, first rows that mean nothing, bytes of a row; states. */",
        f"static const kws_external_config {name}_stream = {{{schedule.hop}, {schedule.lead}, {frame_bytes}, "
        f"{_zero(ins[0])}, {output}, {timing.rows}, {timing.lag}, {outs[output].bytes // timing.rows}, {name}_states, "
        f"{len(states)}}};",
        "",
        f"#endif  // {upper}_H_",
        "",
    ]
    return "\n".join(lines)


def _zero(tensor: reader.Tensor) -> int:
    return tensor.zero_points[0] if tensor.zero_points else 0
