"""What the tests of the firmware example share."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import kept
import pytest

from benchmarks import emulation

EXAMPLE = emulation.ROOT / "examples" / "firmware"


@pytest.fixture
def example(require_tool, tmp_path_factory, tmp_path: pathlib.Path) -> Callable[[str], pathlib.Path]:
    """``example(board)``: a copy of the example for this test, in which that board's kernels are compiled."""

    def compile_library(folder: pathlib.Path, board: str) -> None:
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("build"), dirs_exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(emulation.ROOT)}
        command = ["make", "-s", "library", f"BOARD={board}", f"PYTHON={sys.executable}"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def copy(board: str) -> pathlib.Path:
        for tool in ("make", *(("arm-none-eabi-gcc", "qemu-system-arm") if board != "host" else ("gcc",))):
            require_tool(tool)
        made = kept.once(tmp_path_factory, f"firmware-{board}", lambda folder: compile_library(folder, board))
        return shutil.copytree(made, tmp_path / "firmware")  # with the times of its files, which make looks at

    return copy
