"""The planted mistakes of mutate_kernels.py can be planted: code that moves takes its mistakes with it."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import sys

import pytest

from benchmarks import emulation

SCRIPT = pathlib.Path(__file__).resolve().parent / "mutate_kernels.py"


def test_every_mistake_is_found_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("mutate_kernels", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)  # for its dataclass
    monkeypatch.setattr(sys, "path", list(sys.path))  # which it adds to
    spec.loader.exec_module(script)
    assert len(script.MISTAKES) > 100
    for mistake in script.MISTAKES:
        (path,) = emulation.KERNELS.rglob(mistake.file)
        found = re.search(mistake.pattern, path.read_text())
        assert found, f"{mistake.file}: {mistake.pattern!r} is found nowhere; write the mistake anew"
