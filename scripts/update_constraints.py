"""Writes constraints.txt and constraints-tf221.txt anew: every package of a full install, to the exact version.

    python scripts/update_constraints.py python3.10 python3.11 python3.12 python3.13
    python scripts/update_constraints.py --keep python3.10 ...      # pins stay, and what has none gets one

Run it with .venv/bin/python (3.11 or newer). Each named interpreter resolves the project with all extras (nothing is
installed). A version that is right for some of them only gets an environment marker. One that needs a later patch of
Python than X.Y.0 is passed over: Debian and Ubuntu stay at the patch that they began with.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import tomllib
from packaging.specifiers import SpecifierSet

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEADER = "# Written by scripts/update_constraints.py; {about}\n"
# file -> (what it is for, the Pythons that it serves, the versions that are chosen rather than found)
SETS = {
    "constraints.txt": (
        "the default set: the newest TensorFlow in which tensorflow-io's native ops load.",
        ("3.10", "3.11", "3.12"),
        [
            "tensorflow==2.16.2",
            "tf_keras==2.16.0",
            "tensorflow-io==0.37.1",
            "setuptools==80.9.0",  # the last minor version with pkg_resources, which this TensorBoard imports
        ],
    ),
    "constraints-tf221.txt": (
        "the newest TensorFlow that TFMOT works with; tensorflow-io's native ops do not load here.",
        ("3.10", "3.11", "3.12", "3.13"),
        [
            "tensorflow==2.21.0",
            "tf_keras==2.21.0",
            "tensorflow-io==0.37.1; python_version < '3.13'",
            "setuptools==80.9.0",
        ],
    ),
}


def requirements() -> list[str]:
    """Everything that pyproject.toml asks for, all extras included but those for one version of TensorFlow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    return project["dependencies"] + [
        line for name, lines in extras if not re.fullmatch(r"tf\d+", name) for line in lines
    ]


def pinned(name: str, python: str) -> dict[str, str]:
    """name -> version of every package that a file of constraints has for a Python."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        pin, _, marker = line.partition("; ")
        if "==" in pin and not pin.startswith("#") and (not marker or f"'{python}'" in marker):
            package, _, version = pin.partition("==")
            found[package] = version
    return found


def resolve(python: str, chosen: list[str], pins: dict[str, str]) -> dict[str, str]:
    """name -> version of every package that ``python`` would install, within ``pins``.

    Versions that the first patch of this Python could not install are left out and the rest is resolved again.
    """
    first_patch = minor(python) + ".0"
    limits = {name: f"=={version}" for name, version in pins.items()}
    while True:
        with tempfile.TemporaryDirectory() as folder:
            within = pathlib.Path(folder, "constraints.txt")
            within.write_text("".join(f"{name}{limit}\n" for name, limit in limits.items()))
            report = pathlib.Path(folder, "report.json")
            command = [python, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", str(report)]
            subprocess.run([*command, "-c", str(within), *requirements(), *chosen], check=True)
            found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
        too_new = {
            item["name"]: f"<{item['version']}"
            for item in found
            if not SpecifierSet(item.get("requires_python", "")).contains(first_patch)
        }
        if not too_new:
            return {item["name"]: item["version"] for item in found if item["name"] != "pip"}  # that is the installer
        print(f"Python {first_patch} cannot install what {python} could: {too_new}", file=sys.stderr)
        limits |= too_new


def minor(python: str) -> str:
    """For example "3.11"; raises CalledProcessError where ``python`` does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def merge(found: dict[str, dict[str, str]]) -> list[str]:
    """Lines of the constraints file; ``found`` is Python version -> name -> version."""
    lines = []
    for name in sorted({name for versions in found.values() for name in versions}, key=str.lower):
        by_version: dict[str, list[str]] = {}
        for python, versions in found.items():
            if name in versions:
                by_version.setdefault(versions[name], []).append(python)
        for version, pythons in by_version.items():
            marker = " or ".join(f"python_version == '{p}'" for p in pythons)
            lines.append(f"{name}=={version}" + (f"; {marker}" if len(by_version) > 1 else ""))
    return lines


def main(arguments: list[str]) -> None:
    """Resolves every set with every interpreter and replaces the two files."""
    keep = "--keep" in arguments
    pythons = {minor(python): python for python in arguments if python != "--keep"}
    if not pythons:
        sys.exit("name the interpreters: python scripts/update_constraints.py python3.10 python3.11 python3.12 ...")
    for name, (about, served, chosen) in SETS.items():
        found = {v: pinned(name, v) for v in served if v not in pythons and keep}
        found |= {
            v: resolve(python, chosen, pinned(name, v) if keep else {}) for v, python in pythons.items() if v in served
        }
        lines = merge({v: pins for v, pins in sorted(found.items()) if pins})
        unfinished = ROOT / f"{name}.tmp"
        unfinished.write_text(HEADER.format(about=about) + "\n".join(lines) + "\n")
        os.replace(unfinished, ROOT / name)


if __name__ == "__main__":
    main(sys.argv[1:])
