"""The import rules of docs/architecture.md, and a few that keep the repository readable, by ast and by text."""

from __future__ import annotations

import ast
import fnmatch
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TENSORFLOW = ("tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "tensorflow_io")
RUNTIMES = ("tensorflow", "ai_edge_litert", "tflite_micro")

# Modules that may import these and the standard library only.
ONLY = {
    "tflite_export/ir_types.py": {"numpy"},
    "tflite_export/ir_float.py": {"numpy", "tflite_export.ir_types"},
    "tflite_export/ir.py": {"numpy", "tflite_export.ir_types", "tflite_export.ir_float"},
    "tflite_export/float_arithmetic.py": {"numpy", "tflite_export.ir"},
    "tflite_export/arithmetic.py": {"numpy", "tflite_export.ir"},
    "tflite_export/reference.py": {
        "numpy",
        "tflite_export.ir",
        "tflite_export.arithmetic",
        "tflite_export.float_arithmetic",
    },
    "tflite_export/packing.py": {"numpy", "tflite_export.ir"},
    "tfmot_kws/det.py": {"numpy"},
    "tfmot_kws/detector.py": {"numpy"},
    "tfmot_kws/mlperf.py": {"numpy"},
}
# (which modules, what they may not import, the ones that may all the same)
NEVER = [
    # only commands know both sides
    ("tfmot_kws/*", ("tflite_export",), ("tfmot_kws/cli.py", "tfmot_kws/demo.py", "tfmot_kws/commands/*")),
    # integers right of the waist
    (
        "tflite_export/*",
        (*TENSORFLOW, "tfmot_kws"),
        ("tflite_export/from_keras.py", "tflite_export/from_keras_dynamic.py", "tflite_export/interpreter.py"),
    ),
    ("tflite_export/interpreter.py", ("tf_keras", "keras", "tensorflow_model_optimization", "tfmot_kws"), ()),
    # a packing bug would cancel itself out
    ("tflite_export/reference.py", ("tflite_export.packing",), ()),
    # features and metrics know no model
    ("tfmot_kws/features.py", ("tfmot_kws.models", "tfmot_kws.train", "tfmot_kws.evaluate"), ()),
    ("tfmot_kws/det.py", ("tfmot_kws",), ()),
    ("tfmot_kws/evaluate.py", ("tfmot_kws.models", "tfmot_kws.train"), ()),
    ("tfmot_kws/stream_evaluate.py", (*TENSORFLOW, "tfmot_kws.models", "tfmot_kws.train", "tfmot_kws.evaluate"), ()),
]
# Modules that may import these inside functions only: the runtimes are optional.
LAZY = {"tflite_export/interpreter.py": RUNTIMES, "tflite_export/__init__.py": (*RUNTIMES, "tflite_export.from_keras")}
# Modules that import where no TensorFlow is installed.
WITHOUT_TENSORFLOW = (
    "tflite_export",
    "tflite_export.ir",
    "tflite_export.arithmetic",
    "tflite_export.reference",
    "tflite_export.packing",
    "tflite_export.flatbuffer_model",
    "tflite_export.tflite_writer",
    "tflite_export.builtin_writer",
    "tflite_export.c_writer",
    "tflite_export.interpreter",
    "tfmot_kws.det",
)
REGISTRATION = ("register_keras_serializable", "register_op", "register_kernel")

C_HEADERS = {f"{name}.h" for name in "assert float inttypes limits math stdalign stdbool stddef stdint string".split()}
ISA_HEADERS = {f"{name}.h" for name in "arm_acle arm_mve arm_neon immintrin".split()}
KERNELS = "tflite_export/kernels"
OS_HEADERS = {"cpu.c": {"sys/auxv.h"}}
"""Linux tells a program there what an Arm processor has; user mode cannot ask the processor."""
SHIMS = "tflite_export/shims"

MAX_LINES = 600
CODE = {".py", ".c", ".cc", ".h", ".inc", ".sh", ".S", ".ld"}
# Spelled in pieces, so that this file holds none of them.
MACHINE_PATHS = re.compile(
    "|".join(["/" + "root/", "/" + "work/", "/" + "home/[a-z]", r"[.]" + "pyenv", "index" + "-url", "/opt/" + "pypi"])
)


class Import(NamedTuple):
    """One imported module; ``top`` where it is imported as the file is."""

    name: str
    top: bool


def modules() -> list[str]:
    """Paths of the modules of both packages, relative to the repository."""
    found = [path for package in ("tfmot_kws", "tflite_export") for path in (ROOT / package).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every module that a file imports, ``from package import module`` as ``package.module``."""
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: write the import in full, not relative"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = (ROOT / (name.replace(".", "/") + ".py")).exists() or (
                    ROOT / name.replace(".", "/")
                ).is_dir()
                yield Import(name if is_module else str(node.module), top)


def read(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def is_any(name: str, of: tuple[str, ...] | set[str]) -> bool:
    """Whether ``name`` is one of these modules or lies inside one."""
    return any(name == other or name.startswith(other + ".") for other in of)


def repository_files() -> list[pathlib.Path]:
    """Files that git tracks, or all but hidden and built ones where this is no git checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    built = ("build", "dist", "runs", "__pycache__")
    every = (path for path in ROOT.rglob("*") if path.is_file())
    return [p for p in every if not any(part.startswith(".") or part in built for part in p.relative_to(ROOT).parts)]


def test_there_is_something_to_check() -> None:
    assert {"tflite_export/ir.py", "tflite_export/reference.py"} <= set(modules())
    assert len(repository_files()) > 5


@pytest.mark.parametrize("module", [m for m in ONLY if (ROOT / m).exists()])
def test_imports_only(module: str) -> None:
    allowed = set(ONLY[module]) | set(sys.stdlib_module_names)
    extra = {found.name for found in imports(read(module)) if not is_any(found.name, allowed)}
    assert not extra, f"{module} may import {sorted(ONLY[module])} and the standard library, found {sorted(extra)}"


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


@pytest.mark.tf221
def test_integer_side_imports_without_tensorflow() -> None:
    present = [m for m in WITHOUT_TENSORFLOW if (ROOT / (m.replace(".", "/") + ".py")).exists()]
    present += [m for m in WITHOUT_TENSORFLOW if (ROOT / m / "__init__.py").exists()]
    blocked = dict.fromkeys((*TENSORFLOW, *RUNTIMES))
    code = f"import sys; sys.modules.update({blocked!r}); [__import__(name) for name in {present!r}]"
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
        firmware = any(ROOT / folder in path.parents for folder in ("examples/firmware", "tests/tflm"))
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
