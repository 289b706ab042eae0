"""What the host library is made of. Standard library only: setup.py reads it before anything is installed.

``python tflite_export/kernels/build_list.py`` builds the library in place for development.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile

PACKAGE = pathlib.Path(__file__).resolve().parent.parent

KERNEL_SOURCES = (
    "kernels/core/options.c",
    "kernels/core/prepare.c",
    "kernels/core/dispatch.c",
    "kernels/core/cpu.c",
    "kernels/core/layers.c",
    "kernels/core/self_test.c",
    "kernels/dense/dense_ref.c",
    "kernels/dense/isa/dense_c.c",
    "kernels/dense/isa/dense_mve.c",
    "kernels/dense/isa/dense_dsp.c",
    "kernels/dense/isa/dense_neon.c",
    "kernels/dense/isa/dense_tables.c",
    "kernels/dense/isa/dense_dotprod.c",
    "kernels/dense/isa/dense_i8mm.c",
    "kernels/dense/isa/dense_avx2.c",
    "kernels/dense/isa/dense_avxvnni.c",
    "kernels/dense/isa/dense_avx512vnni.c",
    "kernels/ops/depthwise_ref.c",
    "kernels/ops/depthwise_c.c",
    "kernels/ops/isa/depthwise_mve.c",
    "kernels/ops/isa/depthwise_dsp.c",
    "kernels/ops/isa/depthwise_neon.c",
    "kernels/ops/isa/depthwise_avx2.c",
    "kernels/ops/elementwise_ref.c",
    "kernels/ops/pool_ref.c",
    "kernels/ops/ring.c",
    "kernels/ops/recurrent.c",
    "kernels/ops/waveform.c",
    "kernels/dense/dynamic.c",
    "kernels/dense/dynamic_kernels.c",
    "kernels/ops/float_ops.c",
)
"""Portable C99, for any machine; paths from the package's folder."""

STREAM_SOURCES = ("kernels/ops/detector.c",)
"""What a firmware runs after the model, from outputs to events; portable C99 as well, and none of the ops needs it."""

SOURCES = (*KERNEL_SOURCES, *STREAM_SOURCES, "shims/tflite/delegate.c", "shims/tflm/registerer.c")
"""Everything in the host library."""

LISTENER = ("c/listener/kws_listener.h", "c/listener/kws_listener.c", "c/listener/kws_microfrontend.h")
"""For firmware without an interpreter: from frames to keywords, around a model that was written as C; the last one
is for those who link TensorFlow Lite Micro's front end."""

EXTERNAL = ("c/listener/kws_external.h", "c/listener/kws_external.c")
"""For firmware whose network keeps no state, on an Ethos-U above all."""

FIRMWARE = (*LISTENER, *EXTERNAL, "shims/tflm/micro_ops.h", "shims/tflm/micro_ops.cc")
"""For firmware only, with its own model or TensorFlow Lite Micro's headers; not in the host library."""

HEADERS = (
    "kernels/include/packed_kernels.h",
    "kernels/core/build.h",
    "kernels/core/kws_config.h",
    "kernels/core/options.h",
    "kernels/core/check.h",
    "kernels/core/requantize.h",
    "kernels/core/window.h",
    "kernels/core/weight_layout.h",
    "kernels/ops/depthwise.h",
    "kernels/ops/recurrent.h",
    "kernels/ops/waveform.h",
    "kernels/dense/dense_row.h",
    "kernels/dense/dense_vector.h",
    "kernels/dense/isa/dense_arm.h",
    "kernels/dense/isa/dense_dot.h",
    "kernels/dense/isa/dense_dsp.h",
    "kernels/dense/isa/dense_x86.h",
    "kernels/dense/isa/dense_vnni.inc",
    "kernels/dense/dense_groups.h",
    "kernels/core/kernels.inc",
    "kernels/core/self_test.inc",
    "kernels/include/layers.h",
    "kernels/include/detector.h",
    "kernels/dense/dense_body.inc",
    "kernels/dense/dynamic.h",
    "kernels/dense/float_math.h",
    "kernels/dense/float_vector.h",
    "kernels/dense/quantize_row.h",
    "shims/tflite/tflite_abi.h",
)
"""What the sources include: packed with a source distribution, and a reason to build again."""

INCLUDE_DIRS = ("kernels/include",)
"""What a user's own code includes; the sources themselves need no include path."""

CFLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-fvisibility=default")
LDFLAGS = ("-ldl",)
OUTPUT = "_native.so"


def command(output: str, compiler: str | None = None) -> list[str]:
    """The compiler call that makes the shared library at ``output``."""
    compiler = compiler or os.environ.get("CC") or "cc"
    sources = [str(PACKAGE / s) for s in SOURCES]
    return [compiler, "-shared", "-fPIC", *CFLAGS, "-o", output, *sources, *LDFLAGS]


def build(folder: str | os.PathLike[str] = PACKAGE) -> pathlib.Path:
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
