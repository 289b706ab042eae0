# SPDX-License-Identifier: Apache-2.0
"""What commands print: progress by phase, tables, one-line errors. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import rich.console
import rich.progress
import rich.table
import rich.text

_PLAIN_SECONDS = 20.0


def stdout() -> rich.console.Console:
    """Where commands print: nothing is highlighted, long lines are left to the terminal."""
    return rich.console.Console(highlight=False, soft_wrap=True)


class Advance(Protocol):
    """Tells how much of a phase is done."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """So much of so much; ``note`` goes with it ("loss 0.25")."""

    def begin(self, done: float) -> None:
        """So much is done now, by another run or by what takes its time only once: time counts from here."""


class _Left:
    """How long the rest takes if it goes on as it went since the start, or since ``begin``."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, done: float) -> None:
        self._before, self._start = done, time.monotonic()

    def __call__(self, done: int, total: int) -> str:
        if done <= self._before < total:
            return "time left is not known yet"  # all that was done took its time only once
        one = (time.monotonic() - self._start) / max(done - self._before, 1e-3)
        return f"about {one * (total - done):.0f} s left"


class _Bar:
    """An `Advance` that moves a bar."""

    def __init__(self, progress: rich.progress.Progress, label: str):
        self._progress, self._label, self._left = progress, label, _Left()
        self._task = progress.add_task(label, total=None, left="")
        self.begin = self._left.begin

    def __call__(self, done: int, total: int, note: str = "") -> None:
        text, left = f"{self._label}, {note}" if note else self._label, self._left(done, total)
        self._progress.update(self._task, completed=done, total=total, description=text, left=left)


class _Lines:
    """An `Advance` that prints a line now and then: for what has a note after the first step, then every 20 s."""

    def __init__(self, print_line: Callable[[str], None], label: str):
        self._print, self._label, self._left = print_line, label, _Left()
        self._last, self._noted = time.monotonic(), False
        self.begin = self._left.begin

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        first = bool(note) and not self._noted
        if not first and (done >= total or now - self._last < _PLAIN_SECONDS):
            return
        self._last, self._noted = now, self._noted or bool(note)
        self._print(f"{self._label}: {done}/{total}{f', {note}' if note else ''}, {self._left(done, total)}")


class Phases:
    """Work in named phases: a bar each on a terminal, plain lines elsewhere.

    Args:
        console: where to.
        count: how many phases there will be; 0 numbers none.
    """

    def __init__(self, console: rich.console.Console, count: int = 0):
        self.console = console
        self.seconds: dict[str, float] = {}
        self._count = count

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Advance]:
        """One phase; call what it gives with (done, all) now and then."""
        number = len(self.seconds) + 1
        label = f"[{number:>{len(str(self._count))}}/{self._count}] {name}" if self._count else name
        start = time.monotonic()
        if self.console.is_terminal:
            with self._bar(label) as advance:
                yield advance
        else:
            self._line(f"{label} ...")
            yield _Lines(self._line, label)
        self.seconds[name] = time.monotonic() - start
        self._line(f"{label}: {self.seconds[name]:.1f} s")

    def _line(self, text: str) -> None:
        self.console.print(rich.text.Text(text), soft_wrap=True)

    @contextlib.contextmanager
    def _bar(self, label: str) -> Iterator[Advance]:
        columns = (
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.fields[left]}", markup=False),
        )
        with rich.progress.Progress(*columns, console=self.console, transient=True) as progress:
            yield _Bar(progress, label)


def formatted(value: Any, spec: str) -> str:
    """A table's cell: ``format(value, spec)``, and a dash for what is not there."""
    if value is None:
        return "–"
    return format(value, spec) if spec else str(value)


def table(title: str, columns: Sequence[Mapping[str, str]], rows: Sequence[Mapping[str, Any]]) -> rich.table.Table:
    """A table of rows by ``columns`` (key, label and format spec of each); columns without a spec are text.

    A column's ``justify``, where it is given, says where its cells stand; cells may have several lines.
    """
    result = rich.table.Table(title=title, title_justify="left")
    for column in columns:
        text = not column.get("format")
        justify = column.get("justify", "left" if text else "right")
        result.add_column(column["label"], justify=justify, no_wrap=text)
    for row in rows:
        result.add_row(*(formatted(row.get(c["key"]), c.get("format", "")) for c in columns))
    return result


def show_error(console: rich.console.Console, error: BaseException) -> None:
    """One red line."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, KeyError):
        text = f"missing entry {text}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    console.print(rich.text.Text(f"error: {' '.join(text.split())}", style="bold red"), soft_wrap=True)
