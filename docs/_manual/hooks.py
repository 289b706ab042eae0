"""What the manual has beside the Markdown of docs/: tutorials, the command line, the C headers, other files' pages.

MkDocs calls the ``on_*`` functions (mkdocs.yml, ``hooks``). Pages of docs/ link as GitHub wants it; links to files
outside of docs/ become links to the pages made of them here, or plain names where there are none.
"""

from __future__ import annotations

import json
import pathlib
import posixpath
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADERS = ROOT / "tflite_export" / "kernels" / "include"
PAGES = {
    "README.md": "front.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/firmware/README.md": "how-to/firmware_example.md",
    **{f"colab/{path.name}": f"tutorials/{path.stem}.md" for path in sorted((ROOT / "colab").glob("*.ipynb"))},
}
"""File of the repository -> page of the manual."""

PICTURES = {"benchmarks/results/low_rank_speech.svg": "images/low_rank_speech.svg"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def notebook(text: str, name: str) -> str:
    """The cells of a notebook as Markdown; they are kept without outputs, and the tests run them."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    note = f"!!! note\n    A notebook: `colab/{name}` of the project. Run it in Jupyter or Colab to see its pictures.\n"
    return "\n\n".join([parts[0], note, *parts[1:]])


def command_line() -> str:
    """A section for each command: what it says by ``--help``."""
    import typer.main
    import typer.testing

    from tfmot_kws import cli

    command = typer.main.get_command(cli.app)
    names = ["", *command.commands]
    lines = ["# Command line", "", "What each command says by `--help`."]
    for name in names:
        arguments = [name, "--help"] if name else ["--help"]
        settings = {"COLUMNS": "92", "TERM": "dumb", "NO_COLOR": "1"}
        shown = typer.testing.CliRunner().invoke(cli.app, arguments, env=settings, prog_name="tfmot-kws")
        if shown.exit_code:
            raise RuntimeError(f"tfmot-kws {name} --help failed: {shown.output}")
        text = "\n".join(line.rstrip() for line in shown.stdout.strip("\n").splitlines())
        lines += ["", f"## tfmot-kws {name}".rstrip(), "", "```text", text, "```"]
    lines += [
        "",
        "## python -m tflite_export",
        "",
        "::: tflite_export.__main__",
        "    options:",
        "      members: false",
    ]
    lines += ["      show_root_heading: false", "      show_root_toc_entry: false"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """The text of a C comment."""
    inner = text.strip().removeprefix("/*").removesuffix("*/")
    return "\n".join(re.sub(r"^ \* ?", "", line) for line in inner.strip().splitlines()).strip()


def _names(declaration: str) -> list[str]:
    """What a piece of a header declares: functions, types, constants and macros, in their order."""
    plain = re.sub(r"/\*.*?\*/", "", declaration, flags=re.DOTALL)
    patterns = (
        r"^#define (\w+)", r"^(?:typedef )?(?:struct|enum)?[^;{]*?\b(kws_\w+)\(", r"^\}\s*(\w+);",
        r"^typedef enum \{[^}]*\} (\w+);", r"\(\*(\w+)\)\(", r"^extern const \w+ (\w+)",
    )  # fmt: skip
    found = [m for pattern in patterns for m in re.finditer(pattern, plain, re.MULTILINE)]
    names = [match[1] for match in sorted(found, key=lambda match: match.start())]
    if not names and plain.lstrip().startswith("enum"):
        names = re.findall(r"\b(KWS_\w+) =", plain)[:1]
    return list(dict.fromkeys(names))


def header_page() -> str:
    """Both headers, piece by piece: the comment as text, the declaration as code."""
    lines = ["# C headers", "", "What a firmware includes, in `tflite_export/kernels/include`. C99, no allocation."]
    for path in sorted(HEADERS.glob("*.h")):
        text = path.read_text(encoding="utf-8")
        top = re.match(r"/\*.*?\*/", text, re.DOTALL)
        lines += ["", f"## {path.name}", "", "```text", _comment(top[0]), "```"]
        body = text[
            text.index('extern "C" {\n#endif\n') + len('extern "C" {\n#endif\n') : text.rindex("#ifdef __cplusplus")
        ]
        body = body[: body.index("#define KWS_KERNEL(")] if "#define KWS_KERNEL(" in body else body
        for piece in re.split(r"\n\n+", body.strip()):
            about = re.match(r"/\*.*?\*/", piece, re.DOTALL)
            code = piece[about.end() :].strip() if about else piece.strip()
            names = _names(code)
            lines += ["", "### " + ", ".join(f"`{name}`" for name in names)] if names else []
            lines += ["", _comment(about[0])] if about else []
            lines += ["", "```c", code, "```"]
    return "\n".join(lines) + "\n"


def made_pages() -> dict[str, str]:
    """Page -> its Markdown, with links as in the file that it comes from."""
    made = {"reference/command_line.md": command_line(), "reference/c.md": header_page()}
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        made[page] = notebook(text, pathlib.Path(source).name) if source.endswith(".ipynb") else text
    return made


def on_files(files, config):
    """Adds the pages and pictures."""
    from mkdocs.structure.files import File

    for page, text in made_pages().items():
        files.append(File.generated(config, page, content=text))
    for source, picture in PICTURES.items():
        files.append(File.generated(config, picture, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links between files of the repository into links between pages."""
    here = page.file.src_uri
    place = {target: source for source, target in PAGES.items()}.get(here, f"docs/{here}")
    folder = posixpath.dirname(here)

    def link(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        other = PAGES.get(wanted) or PICTURES.get(wanted)
        if other is None and wanted.startswith("docs/"):
            other = wanted.removeprefix("docs/")
        if other is None:
            return text if text.startswith("`") else f"{text} (`{wanted}`)"
        relative = posixpath.relpath(other, folder or ".")
        return f"{mark}[{text}]({relative}{'#' + anchor if anchor else ''})"

    fences = re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in fences)
