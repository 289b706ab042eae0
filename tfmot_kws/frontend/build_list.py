# SPDX-License-Identifier: Apache-2.0
"""What the library of the front end is made of. Standard library only: setup.py reads it before anything is installed.

``python tfmot_kws/frontend/build_list.py`` builds the library in place for development. The kernels have a list and a
library of their own (``tflite_export/kernels/build_list.py``): training does not depend on export.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
FOLDER = PACKAGE / "frontend"
"""Where the library lies."""

SOURCES = ("frontend/c/microfrontend.c", "frontend/c/fft.c")
"""Portable C99; paths from the package's folder."""

HEADERS = ("frontend/c/microfrontend.h", "frontend/c/fft.h")
"""What the sources include: packed with a source distribution, and a reason to build again."""

CFLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-fvisibility=default")
LDFLAGS = ("-lm",)
OUTPUT = "_frontend.so"


def command(output: str, compiler: str | None = None) -> list[str]:
    """The compiler call that makes the shared library at ``output``."""
    compiler = compiler or os.environ.get("CC") or "cc"
    sources = [str(PACKAGE / name) for name in SOURCES]
    return [compiler, "-shared", "-fPIC", *CFLAGS, "-o", output, *sources, *LDFLAGS]


def build(folder: str | os.PathLike[str] = FOLDER) -> pathlib.Path:
    """Compiles the library into ``folder`` and returns its path. A half-written library never shows up there."""
    target = pathlib.Path(folder) / OUTPUT
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = pathlib.Path(scratch) / OUTPUT
        subprocess.run(command(str(made)), check=True)
        made.replace(target)
    return target


if __name__ == "__main__":
    print(build())
