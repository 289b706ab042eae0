"""Tools that are not Python packages."""

from __future__ import annotations

import functools
import pathlib

from benchmarks import emulation

ROOT = pathlib.Path(__file__).resolve().parents[2]


def debian_packages() -> dict[str, str]:
    """Tool, or PROGRAM:FILE -> the Debian packages that bring it, as scripts/debian_tools.txt lists them."""
    lines = (ROOT / "scripts" / "debian_tools.txt").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


@functools.cache
def missing_packages(tool: str) -> tuple[str, ...]:
    """What is missing of a program and its libraries; asked once."""
    return tuple(emulation.missing_packages(tool))
