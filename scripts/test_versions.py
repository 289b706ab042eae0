"""Installs the project beside a TensorFlow that is there already, version by version, and runs a short set of tests.

    python scripts/test_versions.py                       # all of VERSIONS
    python scripts/test_versions.py 2.19 2.21@3.13        # TensorFlow 2.19; 2.21 with Python 3.13

Each version gets a new environment: TensorFlow first, then ``pip install -e .[train,tf2xx,...]``, which must leave it
alone, then the tests marked ``versions``. The environment is deleted when its tests are done.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
VERSIONS = ("2.18", "2.19", "2.20", "2.21", "2.20@3.13", "2.21@3.13")
TESTS = ("-m", "versions", "-n", "2", "--dist", "loadfile")


def interpreter(version: str) -> str:
    """The program of a Python, "" for the one that runs this; exits where there is none."""
    if not version:
        return sys.executable
    found = shutil.which(f"python{version}") or ""
    if not found or subprocess.run([found, "--version"], capture_output=True).returncode:
        sys.exit(f"python{version} is not installed (or a version manager has not switched it on)")
    return found


def tensorflow_of(python: pathlib.Path) -> str:
    """The version of TensorFlow that an environment has."""
    code = "import importlib.metadata as m; print(m.version('tensorflow'))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def check(tensorflow: str, program: str) -> str:
    """What is wrong with a version of TensorFlow, "" where nothing is."""
    with tempfile.TemporaryDirectory() as name:
        python = pathlib.Path(name, "bin", "python")
        subprocess.run([program, "-m", "venv", name], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, f"tensorflow=={tensorflow}.*", "setuptools<81"], check=True)
        before = tensorflow_of(python)
        extras = f"train,tf{tensorflow.replace('.', '')},runtime,test"
        subprocess.run([*install, "-e", f"{ROOT}[{extras}]"], check=True, cwd=ROOT)
        if tensorflow_of(python) != before:
            return f"installing replaced TensorFlow {before} by {tensorflow_of(python)}"
        done = subprocess.run([str(python), "-m", "pytest", *TESTS], cwd=ROOT)
        return f"tests failed with TensorFlow {before}" if done.returncode else ""


def main(chosen: list[str]) -> None:
    """Checks every version and exits with 1 where one fails; those whose Python is missing are named first."""
    pairs = [(name.partition("@")[0], interpreter(name.partition("@")[2])) for name in chosen or VERSIONS]
    failed = {}
    for name, (tensorflow, program) in zip(chosen or VERSIONS, pairs):
        start = time.monotonic()
        print(f"== TensorFlow {name}", flush=True)
        wrong = check(tensorflow, program)
        failed |= {name: wrong} if wrong else {}
        print(f"== TensorFlow {name}: {wrong or 'passed'} in {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        sys.exit("\n".join(f"TensorFlow {name}: {wrong}" for name, wrong in failed.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
