"""Writes constraints.txt and constraints-tf221.txt anew: every package of a full install, to the exact version.

    python scripts/update_constraints.py python3.10 python3.11 python3.12

Run it with Python 3.11 or newer. Each named interpreter resolves the project with all extras (nothing is installed).
A version that is right for some of them only gets an environment marker.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEADER = "# Written by scripts/update_constraints.py; {about}\n"
# file -> (what it is for, the versions that are chosen rather than found)
SETS = {
    "constraints.txt": (
        "the default set: the newest TensorFlow in which tensorflow-io's native ops load.",
        [
            "tensorflow==2.16.2",
            "tf_keras==2.16.0",
            "tensorflow-io==0.37.1",
            "setuptools==80.9.0",  # the last minor version with pkg_resources, which this TensorBoard imports
        ],
    ),
    "constraints-tf221.txt": (
        "the newest TensorFlow that TFMOT works with; tensorflow-io's native ops do not load here.",
        ["tensorflow==2.21.0", "tf_keras==2.21.0", "tensorflow-io==0.37.1", "setuptools==80.9.0"],
    ),
}


def requirements() -> list[str]:
    """Everything that pyproject.toml asks for, all extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]


def resolve(python: str, chosen: list[str]) -> dict[str, str]:
    """name -> version of every package that ``python`` would install."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.json")
        command = [python, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*command, *requirements(), *chosen], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {item["name"]: item["version"] for item in found}


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


def main(pythons: list[str]) -> None:
    """Resolves every set with every interpreter and replaces the two files."""
    if not pythons:
        sys.exit("name the interpreters: python scripts/update_constraints.py python3.10 python3.11 python3.12")
    for name, (about, chosen) in SETS.items():
        lines = merge({minor(python): resolve(python, chosen) for python in pythons})
        unfinished = ROOT / f"{name}.tmp"
        unfinished.write_text(HEADER.format(about=about) + "\n".join(lines) + "\n")
        os.replace(unfinished, ROOT / name)


if __name__ == "__main__":
    main(sys.argv[1:])
