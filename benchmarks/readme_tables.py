"""Fills the tables of README.md and of pages of docs from benchmarks/results: ``python -m benchmarks.readme_tables``.

A marked section, ``<!-- table:NAME -->`` to ``<!-- end -->``, gets the table of ``results/NAME.json``:

    {"title": text, "machine": {...}, "columns": [{"key", "label", "format"}], "rows": [{key: value}], "notes": [text]}

``format`` is a Python format spec ("" for text); a value that is missing or null is shown as a dash. Where a file is
not there the section says so. ``table:summary`` is put together from several files by benchmarks/summary.py.
``<!-- console:NAME COMMAND -->`` gets what a command printed, from ``results/NAME_console.json``:
{"tfmot-kws COMMAND ...": text}.

``--check`` changes nothing and fails where a page is not up to date.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import summary

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "how-to" / "experiments.md")
CONSOLE = re.compile(r"(<!-- console:([a-z0-9_]+) ([a-z0-9_]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SECTION = re.compile(r"(<!-- table:([a-z0-9_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def cell(value: Any, spec: str) -> str:
    if value is None:
        return "–"
    text = format(value, spec) if spec else str(value)
    return text.replace("|", "\\|")


def machine_line(machine: Mapping[str, Any]) -> str:
    """One line of what the numbers were measured on; unknown entries are left out."""
    parts = [str(machine["processor"])] if machine.get("processor") else []
    parts += [f"{machine['cores']} cores"] if machine.get("cores") else []
    parts += [str(machine["accelerator"])] if machine.get("accelerator") else []
    parts += [str(machine["system"])] if machine.get("system") else []
    versions = machine.get("versions") or {}
    parts += [
        f"{name} {versions[name]}" for name in ("tensorflow", "ai-edge-litert", "tflite-micro") if name in versions
    ]
    return f"Measured on: {', '.join(parts)}." if parts else ""


def markdown(result: Mapping[str, Any]) -> str:
    """Title, table, notes and machine."""
    columns: Sequence[Mapping[str, str]] = result["columns"]
    lines = [f"**{result['title']}**", ""] if result.get("title") else []
    lines.append("| " + " | ".join(c["label"] for c in columns) + " |")
    lines.append("|" + "|".join("---:" if c.get("format") else "---" for c in columns) + "|")
    for row in result["rows"]:
        lines.append("| " + " | ".join(cell(row.get(c["key"]), c.get("format", "")) for c in columns) + " |")
    notes = [*result.get("notes", []), machine_line(result.get("machine", {}))]
    notes = [note for note in notes if note]
    return "\n".join([*lines, "", " ".join(notes)] if notes else lines) + "\n"


def fill(text: str, results: pathlib.Path) -> str:
    """The text of a page with every marked section filled."""

    def section(match: re.Match[str]) -> str:
        if match[2] == "summary":
            return match[1] + markdown(summary.summary(results)) + match[3]
        path = results / f"{match[2]}.json"
        if not path.is_file():
            return f"{match[1]}Not measured yet.\n{match[3]}"
        return match[1] + markdown(json.loads(path.read_text(encoding="utf-8"))) + match[3]

    def console(match: re.Match[str]) -> str:
        path = results / f"{match[2]}_console.json"
        shown = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        found = [(command, output) for command, output in shown.items() if command.split()[1] == match[3]]
        if not found:
            return f"{match[1]}Not run yet.\n{match[4]}"
        command, output = found[0]
        return f"{match[1]}```text\n$ {command}\n{output}```\n{match[4]}"

    return CONSOLE.sub(console, SECTION.sub(section, text))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page is out of date")
    parser.add_argument("--pages", type=pathlib.Path, nargs="+", default=PAGES, help="Markdown files to fill")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    status = 0
    for page in options.pages:
        before = page.read_text(encoding="utf-8")
        after = fill(before, options.results)
        if after != before and options.check:
            print(f"{page}: tables are out of date; run python -m benchmarks.readme_tables", file=sys.stderr)
            status = 1
        elif after != before:
            page.write_text(after, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
