# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or as they were before. Imports the standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path of the same suffix; what is written there becomes ``path`` at the end.

    Where the block raises, ``path`` stays as it was. The folder is made where it does not exist.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """Writes a whole file; returns its path."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes a whole file in UTF-8; returns its path."""
    return write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Writes a value as indented JSON; returns the path. Raises ValueError for NaN and infinities."""
    return write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_table(path: str | os.PathLike, what_to_do: str) -> dict[str, Any]:
    """The table of a JSON file.

    Args:
        path: of the file.
        what_to_do: the end of the message where it is damaged.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or no table; the message names it.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise TypeError(f"found {type(value).__name__}, expected a table")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: is damaged ({error}); {what_to_do}") from error
    return value
