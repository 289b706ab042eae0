"""Stops with one line unless this interpreter is one that the project supports. Runs on any Python, 2.7 included."""

import platform
import sys

MESSAGE = "tfmot-kws needs CPython 3.10 to 3.13, found {} {} at {}; name one: make PYTHON=python3.11"

if sys.version_info[:2] < (3, 10) or sys.version_info[:2] > (3, 13) or platform.python_implementation() != "CPython":
    sys.exit(MESSAGE.format(platform.python_implementation(), platform.python_version(), sys.executable))
