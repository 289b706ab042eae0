"""What is made once in a run of the tests, whichever worker needs it first: compiled kernels, trained models."""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable

import pytest

from benchmarks import emulation

HOST_FLAGS = ("-O1", *emulation.SANITIZE)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[pathlib.Path], object]) -> pathlib.Path:
    """The folder ``name`` of this run, which ``make`` fills. Tests read it and leave it as it is."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # a worker's own folder lies in that of the run
        root = root.parent
    folder = root / "kept" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")  # what a make that failed has left
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


def flags_of(core: emulation.Core) -> tuple[str, ...]:
    """For programs of tests: sanitizers here, and what firmware is built with elsewhere."""
    return HOST_FLAGS if core.name == "host" else ("-O2",)


def kernels_of(
    factory: pytest.TempPathFactory, core: emulation.Core, flags: tuple[str, ...] | None = None
) -> list[pathlib.Path]:
    """All kernels, compiled for a core, with `flags_of` it as a rule: once for all cores that one program serves."""
    flags = flags_of(core) if flags is None else flags
    name = f"kernels-{zlib.crc32(repr((core.compiler, flags)).encode()):08x}"
    return sorted(once(factory, name, lambda folder: emulation.compile_kernels(core, folder, flags)).glob("*.o"))
