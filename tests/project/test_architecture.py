"""The import rules of docs/architecture.md, and a few that keep the repository readable, by ast and by text."""

from __future__ import annotations

import ast
import fnmatch
import graphlib
import pathlib
import re
import subprocess
import sys

import pytest
from source_tree import imports, is_any, modules, read, repository_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
TENSORFLOW = ("tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "tensorflow_io")
RUNTIMES = ("tensorflow", "ai_edge_litert", "tflite_micro")

FLOORS = re.compile(r"^\| (\d+) \| `([\w./]+)` \|", re.MULTILINE)
"""Rows of the tables in docs/architecture.md: a floor and a folder or a module of a package."""

# Modules that may import these and the standard library only.
ONLY = {
    "tflite_export/ir/*": {"numpy", "tflite_export.ir"},
    "tflite_export/reference/*": {"numpy", "tflite_export.ir", "tflite_export.reference"},
    "tflite_export/packed/packing.py": {"numpy", "tflite_export.ir"},
    "tfmot_kws/evaluation/det.py": {"numpy"},
    "tfmot_kws/evaluation/detector.py": {"numpy"},
    "tfmot_kws/evaluation/mlperf.py": {"numpy"},
}
# (which modules, what they may not import, the ones that may all the same)
NEVER = [
    # only commands know both sides, and what a budget asks of the exported graph
    (
        "tfmot_kws/*",
        ("tflite_export",),
        ("tfmot_kws/cli.py", "tfmot_kws/commands/*", "tfmot_kws/quantize/device_facts.py"),
    ),
    # integers right of the waist
    (
        "tflite_export/*",
        (*TENSORFLOW, "tfmot_kws"),
        ("tflite_export/from_keras/*", "tflite_export/runtimes/interpreter.py"),
    ),
    ("tflite_export/runtimes/*", ("tf_keras", "keras", "tensorflow_model_optimization", "tfmot_kws"), ()),
    # the device's front end and metrics know no TensorFlow
    ("tfmot_kws/frontend/microfrontend.py", TENSORFLOW, ()),
    ("tfmot_kws/evaluation/*", TENSORFLOW, ()),
]
# Modules that may import these inside functions only: the runtimes, and features of other kinds, are optional.
LAZY = {
    "tflite_export/runtimes/interpreter.py": RUNTIMES,
    "tfmot_kws/frontend/features.py": TENSORFLOW,
    "tfmot_kws/quantize/device_facts.py": ("tflite_export",),
    "tflite_export/__init__.py": (*RUNTIMES, "tflite_export.from_keras"),
}
REGISTRATION = ("register_keras_serializable", "register_op", "register_kernel")

C_HEADERS = {f"{name}.h" for name in "assert float inttypes limits math stdalign stdbool stddef stdint string".split()}
ISA_HEADERS = {f"{name}.h" for name in "arm_acle arm_mve arm_neon immintrin".split()}
KERNELS = "tflite_export/kernels"
OS_HEADERS = {"cpu.c": {"sys/auxv.h", "cpuid.h"}}
"""Linux tells a program there what an Arm processor has; user mode cannot ask the processor. An x86 one it can ask."""
SHIMS = "tflite_export/shims"

MAX_LINES = 500
CODE = {".py", ".c", ".cc", ".h", ".inc", ".sh", ".S", ".ld"}
# Spelled in pieces, so that this file holds none of them.
MACHINE_PATHS = re.compile(
    "|".join(["/" + "root/", "/" + "work/", "/" + "home/[a-z]", r"[.]" + "pyenv", "index" + "-url", "/opt/" + "pypi"])
)


def test_there_is_something_to_check() -> None:
    assert {"tflite_export/ir/graph.py", "tflite_export/reference/run.py"} <= set(modules())
    assert len(repository_files()) > 5


@pytest.mark.parametrize("module", modules())
def test_imports_only(module: str) -> None:
    for pattern, names in ONLY.items():
        if fnmatch.fnmatch(module, pattern):
            allowed = set(names) | set(sys.stdlib_module_names)
            extra = {found.name for found in imports(read(module)) if not is_any(found.name, allowed)}
            assert not extra, f"{module} may import {sorted(names)} and the standard library, found {sorted(extra)}"


def floors() -> dict[str, dict[str, int]]:
    """Package -> folder or module of it -> floor, as docs/architecture.md has them."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    trains, deploys = text.index("`tfmot_kws/` trains"), text.index("`tflite_export/` deploys")
    parts = {"tfmot_kws": text[trains:deploys], "tflite_export": text[deploys:]}
    return {
        package: {name.rstrip("/"): int(floor) for floor, name in FLOORS.findall(part)}
        for package, part in parts.items()
    }


def room(name: str) -> tuple[str, str] | None:
    """(package, folder or module of it) of a dotted module or of a path; None for others' modules."""
    parts = name.removesuffix(".py").replace("/", ".").split(".")
    if parts[0] not in ("tfmot_kws", "tflite_export"):
        return None
    place = parts[1] if len(parts) > 1 else "__init__"
    is_module = (ROOT / parts[0] / f"{place}.py").exists()
    return parts[0], f"{place}.py" if is_module else place


def test_every_folder_has_a_floor() -> None:
    for package, found in floors().items():
        rooms = {room(module)[1] for module in modules() if module.startswith(f"{package}/")} - {"__init__.py"}
        assert rooms == set(found) - {"__init__.py"}, f"{package}: docs/architecture.md and the folders differ"


@pytest.mark.parametrize("module", modules())
def test_imports_run_down_the_floors(module: str) -> None:
    package, here = room(module)
    if here == "__init__.py" and package == "tfmot_kws":
        return  # it hands names on, by strings
    table = floors()[package]
    for found in imports(read(module)):
        other = room(found.name)
        if other is None or other[0] != package or other[1] == here:
            continue
        if other[1] == "__init__.py":  # the package as its users see it: for what stands above all of it
            assert here in ("__main__.py", "cli.py", "commands"), f"{module} imports all of {package}"
            continue
        down = table[other[1]] < table[here]
        assert down, f"{module} (floor {table[here]}) imports {found.name} (floor {table[other[1]]})"


def test_no_two_modules_import_each_other() -> None:
    """Whether at the top or inside functions: an import within a function hides a circle, it does not open it."""
    names = {module.removesuffix(".py").removesuffix("/__init__").replace("/", "."): module for module in modules()}
    graph = {name: {f.name for f in imports(read(path)) if f.name in names} - {name} for name, path in names.items()}
    tops = {"tfmot_kws", "tflite_export"}  # they hand on what lies below them
    try:
        tuple(graphlib.TopologicalSorter({k: v - tops for k, v in graph.items() if k not in tops}).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", modules())
def test_never_imports(module: str) -> None:
    found = {item.name for item in imports(read(module))}
    for pattern, names, exempt in NEVER:
        if fnmatch.fnmatch(module, pattern) and not any(fnmatch.fnmatch(module, e) for e in exempt):
            bad = sorted(name for name in found if is_any(name, names))
            assert not bad, f"{module} may not import {bad} (rule for {pattern})"


@pytest.mark.parametrize("module", [m for m in LAZY if (ROOT / m).exists()])
def test_optional_imports_are_lazy(module: str) -> None:
    eager = sorted(found.name for found in imports(read(module)) if found.top and is_any(found.name, LAZY[module]))
    assert not eager, f"{module} imports {eager} at the top; do it inside the function that needs it"


def without_tensorflow() -> list[str]:
    """Dotted names of the modules that import where no TensorFlow is installed."""
    free = ("tflite_export/*", "tfmot_kws/evaluation/*", "tfmot_kws/frontend/*", "tfmot_kws/sound/*")
    names = [m for m in modules() if any(fnmatch.fnmatch(m, pattern) for pattern in free)]
    layers = ("tflite_export/from_keras/*", "tfmot_kws/frontend/waveform.py")  # these are of Keras
    names = [m for m in names if not any(fnmatch.fnmatch(m, pattern) for pattern in layers)]
    return [m.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for m in names]


@pytest.mark.tf221
def test_most_of_it_imports_without_tensorflow() -> None:
    blocked = dict.fromkeys((*TENSORFLOW, *RUNTIMES))
    code = f"import sys; sys.modules.update({blocked!r}); [__import__(name) for name in {without_tensorflow()!r}]"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", modules())
def test_no_registration_and_no_module_state(module: str) -> None:
    for node in ast.walk(read(module)):
        name = getattr(node, "attr", getattr(node, "id", ""))
        assert name not in REGISTRATION, f"{module}:{node.lineno}: {name} registers at import; pass the object instead"
        assert not isinstance(node, ast.Global), f"{module}:{node.lineno}: global makes module state"


def c_files(folder: str) -> list[pathlib.Path]:
    return sorted(p for p in (ROOT / folder).rglob("*") if p.suffix in {".c", ".cc", ".h", ".inc"})


def includes(path: pathlib.Path) -> list[tuple[str, str]]:
    """("<" or '"', header) of every #include that names a header."""
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', path.read_text(), re.MULTILINE)


def test_kernels_include_c_and_isa_headers_only() -> None:
    assert c_files(KERNELS)
    own = {path.name for path in c_files(KERNELS)}
    for path in c_files(KERNELS):
        for mark, header in includes(path):
            known = C_HEADERS | ISA_HEADERS | OS_HEADERS.get(path.name, set()) if mark == "<" else own
            good = header in known if mark == "<" else pathlib.Path(header).name in known
            assert good, f"{path.relative_to(ROOT)} includes {header}; kernels know C and ISA headers and each other"


def test_kernels_do_not_allocate_or_print() -> None:
    for path in c_files(KERNELS):
        code = re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        calls = re.findall(r"\b(?:malloc|calloc|realloc|free|alloca|printf|abort|exit)\s*\(", code)
        assert not calls, f"{path.relative_to(ROOT)} calls {calls}"


def test_nothing_outside_includes_the_shims() -> None:
    """But firmware, for which the ops of TFLM are made."""
    shim_headers = {path.name for path in c_files(SHIMS)}
    for path in repository_files():
        firmware = any(ROOT / folder in path.parents for folder in ("examples/firmware", "tests/helpers/tflm"))
        if path.suffix in {".c", ".cc", ".h", ".inc"} and ROOT / SHIMS not in path.parents and not firmware:
            own = {p.name for p in path.parent.iterdir()}
            bad = [h for _, h in includes(path) if "shims/" in h or (h in shim_headers and h not in own)]
            assert not bad, f"{path.relative_to(ROOT)} includes {bad} of shims/"


def test_files_are_short() -> None:
    long = {}
    for path in repository_files():
        if path.suffix in CODE and (count := len(path.read_text().splitlines())) > MAX_LINES:
            long[str(path.relative_to(ROOT))] = count
    assert not long, f"split these, at most {MAX_LINES} lines each: {long}"


def test_no_machine_paths() -> None:
    found = []
    for path in repository_files():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:  # audio, models
            continue
        found += [f"{path.relative_to(ROOT)}:{i}" for i, line in enumerate(lines, 1) if MACHINE_PATHS.search(line)]
    assert not found, f"these name a place of one machine: {found}"


def test_no_file_is_large_or_a_package() -> None:
    """What was downloaded to try something out does not belong here."""
    large = [p.name for p in repository_files() if p.stat().st_size > 1 << 19 or p.suffix == ".whl"]
    assert not large, f"{large}: too large, or a package; take it out of the commit"
