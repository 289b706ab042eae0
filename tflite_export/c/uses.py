"""What models use of the kernels, as the list that ``kernels/core/build.h`` reads: a build links that and no more."""

from __future__ import annotations

import dataclasses
import pathlib
import zlib
from collections.abc import Sequence

from tflite_export.c import arrays as c_writer
from tflite_export.packed import op_options
from tflite_export.packed.op_options import Kind

CONFIG = "kws_config.h"
_SHORT_ROW = 1 << 16
"""KWS_SHORT_ROW of ``kernels/include/packed_kernels.h``: longer rows need kernels that others leave them to."""
_DENSE = (Kind.PACKED_DENSE, Kind.RECURRENT, Kind.WAVEFORM)

_ADVICE = "give all models of a program to one tfmot-kws firmware, or python -m tflite_export config"

_WHAT = {
    "widths": "widths of weights: bit b for b bits",
    "kinds": "ops: bit k for the kws_kind k",
    "layouts": "layouts of weights",
    "static": "int8 in and out",
    "dynamic": "dynamic quantization",
    "windows": "windows: convolutions and pools",
    "depthwise_any": "depthwise layers with several outputs a channel",
    "shorts": "weights of 16 bits",
    "cells": "cells of recurrent layers",
    "functions": "functions of floats",
    "rings": "rings in the table of layers",
    "copies": "copies in the table of layers",
    "long_rows": "rows of more than 2^16 inputs",
}


@dataclasses.dataclass(frozen=True)
class Uses:
    """Bits of what ``kernels/core/build.h`` has a macro for, KWS_WIDTHS for ``widths`` and so on; 0 or 1 where there is
    nothing to number. ``a | b`` is what serves both."""

    widths: int = 0
    kinds: int = 0
    layouts: int = 0
    static: int = 0
    dynamic: int = 0
    windows: int = 0
    depthwise_any: int = 0
    shorts: int = 0
    cells: int = 0
    functions: int = 0
    rings: int = 0
    copies: int = 0
    long_rows: int = 0

    def __or__(self, other: Uses) -> Uses:
        return Uses(*(a | b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))

    def macros(self) -> list[tuple[str, int, str]]:
        """Name, value and meaning of each."""
        return [(f"KWS_{name.upper()}", value, _WHAT[name]) for name, value in dataclasses.asdict(self).items()]

    def checks(self) -> list[str]:
        """C lines that end a build whose list lacks something, ahead of a table of layers."""
        lines = []
        for name, value, what in self.macros():
            if value:
                lines += [
                    f"#if ({name} & {value:#x}) != {value:#x}",
                    f'#error "{CONFIG} or -D{name} leaves out what this model needs ({what}): {_ADVICE}"',
                    "#endif",
                ]
        return lines


def of_kernel(data: bytes, channels: int) -> Uses:
    """What one op uses, by the bytes of its options and the channels of its input; raises OptionsError."""
    o = op_options.decode(data)
    dense = o.kind in _DENSE
    inputs = o.inputs
    if o.recurrence is not None:  # rows of states as well
        inputs = max(inputs, o.outputs)
    return Uses(
        widths=1 << o.bits if dense and o.bits <= 8 else 0,
        kinds=1 << o.kind,
        layouts=1 << o.layout if dense else 0,
        static=int(not o.dynamic),
        dynamic=int(o.dynamic),
        windows=int(o.window is not None),
        depthwise_any=int(o.kind == Kind.DEPTHWISE and not o.dynamic and o.outputs != channels),
        shorts=int(dense and o.bits > 8),
        cells=1 << o.recurrence.cell if o.recurrence is not None else 0,
        functions=1 << o.function if o.dynamic else 0,
        long_rows=int(dense and inputs > _SHORT_ROW),
    )


def header(uses: Uses, models: Sequence[str]) -> str:
    """The text of kws_config.h.

    Args:
        uses: of all models of a program.
        models: their names, for people.
    """
    if not uses.kinds:  # rings and copies alone: C has no empty table of kernels
        uses |= Uses(kinds=1 << Kind.LOOKUP, static=1)
    mark = f"{zlib.crc32(repr(uses).encode()):08x}"
    lines = [
        f"/* Made by tflite_export: do not edit. All that is used by: {', '.join(models)}.",
        " *",
        " * Lies in the place of kernels/core/kws_config.h, or is given to the compiler for every file, kernels and",
        " * models: -include PATH/kws_config.h. A -D of the same name goes before what is listed here. Kernels and",
        " * models of different lists do not link: one list has all models of a program. -DKWS_MESSAGES=1 brings all",
        " * messages of kws_error, of which there are only those about what is left out. */",
        "#ifndef KWS_CONFIG_H_",
        "#define KWS_CONFIG_H_",
        "",
        "#define KWS_LISTED 1",
    ]
    for name, value, what in uses.macros():
        lines += ["", f"/* {what[0].upper()}{what[1:]}. */", f"#ifndef {name}", f"#define {name} {value:#x}", "#endif"]
    lines += [
        "",
        "/* Names of this list alone, so that a linker refuses others. */",
        f"#define kws_invoke kws_invoke_{mark}",
        f"#define kws_run_layers kws_run_layers_{mark}",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def write_config(uses: Uses, models: Sequence[str], folder: pathlib.Path) -> pathlib.Path:
    """Writes kws_config.h into a folder; it is complete or as it was before."""
    folder.mkdir(parents=True, exist_ok=True)
    return c_writer.write_text(folder / CONFIG, header(uses, models))
