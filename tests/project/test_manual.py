"""The manual: its reference has every public name, and what is made for it is made of all that there is."""

from __future__ import annotations

import ast
import importlib.util
import pathlib
import re

import pytest

import tflite_export
import tfmot_kws
from tfmot_kws import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md")))
DIRECTIVES = set(re.findall(r"^::: ([\w.]+)", PAGES, re.MULTILINE))


@pytest.fixture(scope="module")
def hooks():
    """docs/_manual/hooks.py, which imports MkDocs only where it adds files."""
    spec = importlib.util.spec_from_file_location("manual_hooks", ROOT / "docs" / "_manual" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def directives_of(package: str, names: list[str]) -> dict[str, str]:
    """Public name -> what its directive must be."""
    if package == "tfmot_kws":
        places = {**{n: f"{m}.{n}" for n, m in tfmot_kws._NAMES.items()}, **tfmot_kws._MODULES}
        return {name: f"tfmot_kws.{places[name]}" for name in names}
    places = {
        "Interpreter": "runtimes.interpreter.Interpreter",
        "StreamInterpreter": "runtimes.stream_interpreter.StreamInterpreter",
    }
    return {name: f"tflite_export.{places.get(name, name)}" for name in names}


@pytest.mark.parametrize("package", [tfmot_kws, tflite_export], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(package) -> None:
    names = [name for name in package.__all__ if name != "__version__"]
    missing = {n: d for n, d in directives_of(package.__name__, names).items() if d not in DIRECTIVES}
    assert not missing, f"docs/reference lacks ::: lines for {missing}"
    index = (REFERENCE / "index.md").read_text(encoding="utf-8")
    unlisted = [name for name in names if f"`{name}`" not in index]
    assert not unlisted, f"docs/reference/index.md does not name {unlisted}"


def undocumented(path: pathlib.Path) -> list[str]:
    """Public functions and classes of a module without a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    outer = [node for node in tree.body if isinstance(node, kinds)]
    public = [node for node in outer if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    inner = [n for node in public for n in node.body if isinstance(n, kinds)]
    found = [*outer, *inner]
    return [node.name for node in found if not node.name.startswith("_") and not ast.get_docstring(node)]


@pytest.mark.parametrize("name", sorted(DIRECTIVES))
def test_directives_lead_to_docstrings(name) -> None:
    """Names without a docstring would be left out of the page, and nobody would see it."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:count]).with_suffix(".py")
        path = path if path.is_file() else ROOT.joinpath(*parts[:count]) / "__init__.py"
        if path.is_file():
            break
    tree = ast.parse(path.read_text(encoding="utf-8"))
    rest = parts[count:]
    if not rest:
        assert ast.get_docstring(tree) and not undocumented(path)
        return
    found = [node for node in tree.body if getattr(node, "name", "") == rest[0]]
    assert found and ast.get_docstring(found[0]), f"{name}: no docstring in {path.relative_to(ROOT)}"


def test_docstrings_have_no_roles_of_sphinx() -> None:
    """Markdown would show them as they are."""
    for folder in ("tfmot_kws", "tflite_export"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert not re.search(r":(?:class|func|meth|mod|attr):`", path.read_text(encoding="utf-8")), path


def test_every_page_is_in_the_navigation() -> None:
    """``mkdocs build --strict`` finds the others; this needs no MkDocs."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert not [page for page in pages if page not in nav]


def test_the_manual_loads_nothing_from_elsewhere() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings and "extra_javascript" not in settings and "http" not in settings.lower()


def test_command_line_and_headers_are_whole(hooks) -> None:
    page = hooks.command_line()
    for command in cli.app.registered_commands:
        assert f"## tfmot-kws {command.name or command.callback.__name__}" in page
    header = hooks.header_page()
    for path in sorted(hooks.HEADERS.glob("*.h")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for name in re.findall(r"\b(kws_\w+)\([^)]*\);", text):
            assert re.search(rf"^### .*`{name}`", header, re.MULTILINE), name


def test_links_become_links_between_pages(hooks) -> None:
    class Page:
        class file:
            src_uri = "how-to/board.md"

    text = "[a](../results.md#firmware) [b](../../examples/firmware/README.md) [c](../../setup.py) ![d](../x.svg)\n"
    text += "```\n[e](../../setup.py)\n```\n"
    done = hooks.on_page_markdown(text, Page, None, None)
    assert "[a](../results.md#firmware) [b](firmware_example.md) c (`setup.py`) ![d](../x.svg)" in done
    assert "[e](../../setup.py)" in done
