"""Which compiled kernels run the ops of a file on this processor."""

from __future__ import annotations

import ctypes

from tflite_export.flatbuffer import reader
from tflite_export.packed import op_options, packing
from tflite_export.runtimes import native

_FLOATS = 1 << len(packing.Layout)
"""KWS_FLOATS of ``kernels/include/packed_kernels.h``."""


class Kernel(ctypes.Structure):
    """kws_kernel, a row of the table of ``kernels/core/kernels.inc``."""

    _fields_ = [
        ("kind", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("run", ctypes.c_void_p),
        ("layouts", ctypes.c_uint),
        ("cpu", ctypes.c_int),
        ("scratch", ctypes.c_int),
    ]


def kernels_of(flatbuffer: bytes) -> tuple[str, ...]:
    """Names of the kernels that ``kws_choose`` takes for a file's packed ops here, each once, in the order of the ops.

    Returns:
        Names such as "kws_packed_dense_dotprod"; none for a file of stock ops, whose kernels are the interpreter's.

    Raises:
        ValueError: a damaged file.
        ImportError: the compiled kernels are missing.
    """
    packed = [op for op in reader.parse(flatbuffer).operators if op.custom and op.name in op_options.KINDS]
    if not packed:
        return ()
    library = native.load()
    count = ctypes.c_size_t.in_dll(library, "kws_kernel_count").value
    library.kws_cpu_has.restype = ctypes.c_bool
    table = [k for k in (Kernel * count).in_dll(library, "kws_kernels") if library.kws_cpu_has(k.cpu)]
    names: dict[str, None] = {}
    for op in packed:
        options = op_options.decode(op.custom_options)
        suited = [
            k.name.decode()
            for k in table
            if k.kind == options.kind
            and bool(k.layouts & _FLOATS) == options.dynamic
            and k.layouts >> options.layout & 1
        ]
        names[suited[-1]] = None  # the fastest stands last
    return tuple(names)
