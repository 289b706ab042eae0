"""The repository as text: its files, its modules and what they import."""

from __future__ import annotations

import ast
import pathlib
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]


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
