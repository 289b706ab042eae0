# SPDX-License-Identifier: Apache-2.0
"""Training that was stopped, by Ctrl-C or a kill, and goes on by ``--resume``. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import rich.console
import typer

from tfmot_kws import atomic

_OPTIONS = "options.json"
_STOPPED = 130
"""The exit status of what Ctrl-C ends."""


def folder_of(out: pathlib.Path) -> pathlib.Path:
    """Where the epochs of the run that is to write a model are kept until the model is there."""
    return out.with_name(f"{out.name}.run")


def begun(out: pathlib.Path) -> bool:
    """Whether there is a run to go on from."""
    return any(folder_of(out).glob("*/checkpoint"))


def check(out: pathlib.Path, resume: bool, options: Mapping[str, Any]) -> None:
    """Whether a run may begin or go on, before any work is done.

    Args:
        out: the model that it is to write.
        resume: the option.
        options: what else the result depends on, by the names of options, as JSON values.

    Raises:
        ValueError: there is a run to go on from but ``--resume`` was not given, or the other way round, or the run was
            begun with other options; the message names them.
    """
    folder = folder_of(out)
    if resume and not folder.is_dir():
        raise ValueError(f"--resume: there is no unfinished run for {out} ({folder} is not there)")
    if not any(folder.glob("*/checkpoint")) and (folder / _OPTIONS).is_file():
        shutil.rmtree(folder)  # stopped before its first epoch was done: there is nothing to go on from
    if not resume and folder.exists():
        raise ValueError(
            f"{folder}: holds an unfinished run for {out}; go on with it by --resume, or remove it to begin anew"
        )
    if resume:
        try:
            before = json.loads((folder / _OPTIONS).read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise TypeError(f"found {type(before).__name__}, expected a table")
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"--resume: {folder / _OPTIONS} is damaged ({error}); remove {folder} to begin anew"
            ) from error
        now = json.loads(json.dumps(options))
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if names:
            differ = "; ".join(f"--{name} was {before.get(name)}, now {now.get(name)}" for name in names)
            raise ValueError(
                f"--resume: {folder} was begun with other options ({differ}); give the same, or remove it to begin anew"
            )


@contextlib.contextmanager
def kept(console: rich.console.Console, out: pathlib.Path, options: Mapping[str, Any]) -> Iterator[pathlib.Path]:
    """Gives the folder for checkpoints; it goes once the block has ended, and stays where the block was stopped.

    Raises:
        typer.Exit: after Ctrl-C, once it has said how to go on.
    """
    folder = folder_of(out)
    atomic.write_json(folder / _OPTIONS, options)
    try:
        yield folder
    except BaseException as error:
        epochs = list(folder.glob("*/checkpoint"))
        if not epochs:
            shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, KeyboardInterrupt):
            raise
        what = f"go on from the last whole epoch by the same command and --resume ({folder})"
        console.print(f"stopped; {what if epochs else 'no epoch was done'}", markup=False)
        raise typer.Exit(_STOPPED) from error
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def goes_on(console: rich.console.Console, out: pathlib.Path) -> Iterator[None]:
    """For what goes on in its folder by itself: says after Ctrl-C how.

    Raises:
        typer.Exit: after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        console.print(f"stopped; the same command goes on after the last whole epoch in {out}", markup=False)
        raise typer.Exit(_STOPPED) from error
