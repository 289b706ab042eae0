# SPDX-License-Identifier: Apache-2.0
"""Which steps of a run are done: a run that was killed goes on by the same command from the last whole step."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfmot_kws import atomic
from tfmot_kws.commands.parts import alone
from tfmot_kws.commands.parts.phrase.plan import TRAINING

STAMP = "phrase.json"
"""In the folder of a run: what it was begun with."""
_LOCK = "lock"
_LATER = {"own": ("material", "scenes", "streams", "own", "quantized", "export", "threshold", "test")}
"""Options that a run which began without them may be given later, and the steps that are done again then."""


class Steps:
    """The steps of the run in a folder, each with what it found out, as JSON values.

    Args:
        out: the folder; made where missing.
        options: what the result depends on, by the names of options, as JSON values.

    Raises:
        ValueError: the folder holds something else, or a run that was begun with other options; the message names them.
    """

    def __init__(self, out: pathlib.Path, options: Mapping[str, Any]) -> None:
        check(out, options)
        self._work = out / "work"
        self._work.mkdir(parents=True, exist_ok=True)
        self._out, self._options = out, dict(options)
        if not (out / STAMP).is_file():
            self._write_stamp()

    def _write_stamp(self) -> None:
        atomic.write_json(self._out / STAMP, {"version": 1, "options": self._options})

    def _take_up_again(self) -> None:
        """Forgets the steps that an option which came later has a part in."""
        names = added(self._out, self._options)
        for step in [step for name in names for step in _LATER[name]]:
            (self._work / f"{step}.done.json").unlink(missing_ok=True)
            shutil.rmtree(self._work / TRAINING / step, ignore_errors=True)
        if names:  # last: a run that is killed before forgets them again
            self._write_stamp()

    def done(self, name: str) -> Any | None:
        """What a step found out; None where it is not done."""
        path = self._work / f"{name}.done.json"
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))["found"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is damaged ({error}); remove it, and the step is done again") from error

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What a step found out: now, or when it was done before.

        Args:
            name: of the step.
            make: does it, and returns JSON values, not None. All that it writes must be whole when it returns.
        """
        found = self.done(name)
        if found is None:
            made = make()
            atomic.write_json(self._work / f"{name}.done.json", {"found": made})
            found = self.done(name)
        return found

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps a second run out of the folder; the lock goes with the process, however it ends.

        What options that came later have a part in is forgotten, and done again.

        Raises:
            ValueError: another process works there.
        """
        with alone.alone(self._work / _LOCK, self._work.parent):
            self._take_up_again()
            yield


def check(out: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Whether a run may begin or go on in a folder, before any work is done.

    Raises:
        ValueError: as ``Steps``.
        NotADirectoryError: it is a file.
        PermissionError: nothing can be written there.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out}: is a file; name a folder")
    stamp = out / STAMP
    if not stamp.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise ValueError(f"--out {out}: holds something else; name a new folder, or an empty one")
        parent = next(one for one in (out, *out.absolute().parents) if one.is_dir())
        if not os.access(parent, os.W_OK):
            raise PermissionError(f"--out {out}: nothing can be written in {parent}")
        return
    try:
        before = json.loads(stamp.read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{stamp}: is damaged ({error}); name another folder, or remove this one") from error
    now = json.loads(json.dumps(dict(options)))
    names = [name for name in _differ(before, now) if not _is_added(name, before)]
    if names:
        differ = "; ".join(f"{name} was {before.get(name)}, now {now.get(name)}" for name in names)
        raise ValueError(
            f"--out {out}: was begun with other options ({differ}); give the same to go on, or name another folder"
        )


def added(out: pathlib.Path, options: Mapping[str, Any]) -> list[str]:
    """Options that the run in a folder began without, and that may be given now: it goes on from what it has.

    Args:
        out: the folder; ``check`` has nothing against it.
        options: as of ``Steps``.
    """
    if not (out / STAMP).is_file():
        return []
    before = json.loads((out / STAMP).read_text(encoding="utf-8"))["options"]
    return [name for name in _differ(before, json.loads(json.dumps(dict(options)))) if _is_added(name, before)]


def _differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _is_added(name: str, before: Mapping[str, Any]) -> bool:
    return name in _LATER and before.get(name) is None
