"""Builds two libraries of C99; the rest is in pyproject.toml.

- ``tflite_export/_native.so``: the kernels and their interpreter shims, ``tflite_export/kernels/build_list.py``
- ``tfmot_kws/frontend/_frontend.so``: the fixed-point front end, ``tfmot_kws/frontend/build_list.py``

They are loaded with ctypes and link to no Python, so one wheel (``py3-none-linux_<machine>``) serves every supported
Python. ``CC`` picks the compiler.
"""

from __future__ import annotations

import os
import pathlib
import platform
import runpy
import subprocess
import sys

PYTHONS, MACHINES = ((3, 10), (3, 13)), ("x86_64", "aarch64")
if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1] or platform.python_implementation() != "CPython":
    sys.exit(
        f"tfmot-kws needs CPython 3.10 to 3.13, found {platform.python_implementation()} {platform.python_version()}; "
        "make the environment with one of these, for example: make PYTHON=python3.11"
    )
if sys.platform != "linux" or platform.machine() not in MACHINES:
    sys.exit(f"tfmot-kws needs Linux on {' or '.join(MACHINES)}, found {sys.platform} on {platform.machine()}")

from setuptools import Extension, setup  # noqa: E402
from setuptools.command.bdist_wheel import bdist_wheel  # noqa: E402
from setuptools.command.build_ext import build_ext  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent
BUILD_LISTS = {
    "tflite_export._native": runpy.run_path(str(ROOT / "tflite_export" / "kernels" / "build_list.py")),
    "tfmot_kws.frontend._frontend": runpy.run_path(str(ROOT / "tfmot_kws" / "frontend" / "build_list.py")),
}


class BuildSharedLibrary(build_ext):
    """Builds a plain shared library: no PyInit function, no Python header, no ABI tag in its name."""

    def get_ext_filename(self, fullname: str) -> str:
        """For example ``tflite_export/_native.so``."""
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Leaves it to the build list, which replaces an older library in one step."""
        folder = pathlib.Path(self.get_ext_fullpath(ext.name)).parent
        try:
            BUILD_LISTS[ext.name]["build"](folder)
        except FileNotFoundError as error:
            sys.exit(f"no C compiler found ({error}); install gcc, or set CC")
        except subprocess.CalledProcessError as error:
            sys.exit(f"the C compiler refused {ext.name}: {error}")


class PlainWheel(bdist_wheel):
    """A wheel for every Python of one machine."""

    def get_tag(self) -> tuple[str, str, str]:
        """For example ("py3", "none", "linux_x86_64")."""
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(name, [f"{name.split('.')[0]}/{source}" for source in listed["SOURCES"]])
        for name, listed in BUILD_LISTS.items()
    ],
    cmdclass={"build_ext": BuildSharedLibrary, "bdist_wheel": PlainWheel},
)
