"""Tools that are not Python packages."""

from __future__ import annotations

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def debian_packages() -> dict[str, str]:
    """Tool -> the Debian packages that bring it, as scripts/debian_tools.txt lists them."""
    lines = (ROOT / "scripts" / "debian_tools.txt").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
