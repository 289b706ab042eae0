# SPDX-License-Identifier: Apache-2.0
"""One run at a time in a folder. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def alone(file: pathlib.Path, folder: pathlib.Path) -> Iterator[None]:
    """Keeps a second run out; the lock goes with the process, however it ends.

    Args:
        file: the lock, in a folder that is there.
        folder: what it is the lock of, for the message.

    Raises:
        ValueError: another process works there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(file, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"{folder}: another run works there; wait until it is done") from error
        yield
