"""The command line, run inside the process of the tests."""

from __future__ import annotations

import typer.testing

from tfmot_kws import cli


def run(*arguments, status: int = 0) -> typer.testing.Result:
    done = typer.testing.CliRunner().invoke(cli.app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done


def error(*arguments) -> str:
    """The one line that a failing command prints."""
    done = run(*arguments, status=1)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert "Traceback" not in done.output
    return lines[0]
