"""Turns a .tflite file into C++ arrays and tells which ops a firmware has to register."""

from __future__ import annotations

import os
import pathlib
import re
import tempfile
from collections.abc import Mapping

from tflite_export.flatbuffer import reader as flatbuffer_reader

_METHODS = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CAST": "AddCast",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEQUANTIZE": "AddDequantize",
    "FULLY_CONNECTED": "AddFullyConnected",
    "GATHER": "AddGather",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MAXIMUM": "AddMaximum",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "STRIDED_SLICE": "AddStridedSlice",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
    flatbuffer_reader.ETHOS_U: "AddEthosU",
}
"""Methods of TFLM's MicroMutableOpResolver."""

HEAD = "// Made by tflite_export: do not edit.\n"
_BYTES_A_LINE = 16


def write_c(flatbuffer: bytes, out_dir: str | os.PathLike[str], name: str = "model_data") -> tuple[pathlib.Path, ...]:
    """Writes ``name.h`` and ``name.cc`` into ``out_dir`` and returns their paths.

    They define ``alignas(16) const unsigned char name[]`` and ``const unsigned int name_len``. Each file is complete or
    as it was before. Raises FormatError where the bytes are no .tflite file, ValueError for a name that is no C
    identifier.
    """
    check_name(name)
    flatbuffer = bytes(flatbuffer)
    flatbuffer_reader.parse(flatbuffer)
    source = f'{HEAD}#include "{name}.h"\n\n{definition(name, flatbuffer)}\n'
    folder = pathlib.Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    texts = ((".h", header_text(name)), (".cc", source))
    return tuple(write_text(folder / f"{name}{suffix}", text) for suffix, text in texts)


def check_name(name: str) -> None:
    """ValueError for a name that is no C identifier."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a C identifier, found {name!r}")


def header_text(name: str) -> str:
    """The header that declares an array and its length."""
    guard = f"{name.upper()}_H_"
    return (
        f"{HEAD}#ifndef {guard}\n#define {guard}\n\n"
        f"alignas(16) extern const unsigned char {name}[];\nextern const unsigned int {name}_len;\n\n"
        f"#endif  // {guard}\n"
    )


def definition(name: str, data: bytes) -> str:
    """The lines that define an array of bytes and its length."""
    lines = [
        "  " + " ".join(f"0x{b:02x}," for b in data[i : i + _BYTES_A_LINE]) for i in range(0, len(data), _BYTES_A_LINE)
    ]
    body = "\n".join(lines)
    return f"alignas(16) const unsigned char {name}[] = {{\n{body}\n}};\nconst unsigned int {name}_len = {len(data)};"


def write_text(path: pathlib.Path, text: str) -> pathlib.Path:
    """Writes a file so that it is either complete or as it was before."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        pathlib.Path(scratch).unlink(missing_ok=True)
        raise
    return path


def op_resolver_lines(flatbuffer: bytes, variable: str = "resolver") -> list[str]:
    """C++ lines that make a TFLM resolver with exactly the ops of the model.

    Custom ops are registered as ``tfmot_kws::Register_<name>()``. Raises FormatError where the bytes are no .tflite
    file, ValueError for a stock op that this package never writes.
    """
    names: dict[str, bool] = {}
    for op in flatbuffer_reader.parse(flatbuffer).operators:
        names.setdefault(op.name, op.custom)
    return resolver_lines(names, variable)


def resolver_lines(names: Mapping[str, bool], variable: str = "resolver") -> list[str]:
    """The same lines for ops by name, with whether each is a custom one of ours; raises as ``op_resolver_lines``."""
    lines = [f"tflite::MicroMutableOpResolver<{len(names)}> {variable};"]
    for name, custom in sorted(names.items()):
        if custom:
            lines.append(f'{variable}.AddCustom("{name}", tfmot_kws::Register_{name}());')
        elif name in _METHODS:
            lines.append(f"{variable}.{_METHODS[name]}();")
        else:
            raise ValueError(f"no TFLM method is known for {name}; add it to {__name__}._METHODS")
    return lines
