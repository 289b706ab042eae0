"""Finds the compiled library: the kernels, the TFLite delegate and the tflite-micro registerer in one file."""

from __future__ import annotations

import ctypes
import functools
import pathlib

from tflite_export.kernels import build_list

REGISTERER = "TfmotKwsRegisterTflm"
"""Symbol that tflite-micro's ``custom_op_registerers`` calls."""


def library_path() -> pathlib.Path:
    """Path of the compiled library; raises ImportError with the command that builds it where there is none."""
    found = sorted(build_list.PACKAGE.glob("_native*.so"))
    if not found:
        raise ImportError(
            f"the compiled kernels are missing ({build_list.PACKAGE / build_list.OUTPUT}); build them with: "
            f"python {build_list.PACKAGE / 'kernels' / 'build_list.py'}"
        )
    return found[0]


@functools.cache
def load() -> ctypes.CDLL:
    """The library, its symbols visible to libraries loaded later (tflite-micro looks its registerers up that way)."""
    return ctypes.CDLL(str(library_path()), mode=ctypes.RTLD_GLOBAL)
