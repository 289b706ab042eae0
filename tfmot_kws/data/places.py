# SPDX-License-Identifier: Apache-2.0
"""Files in folders of this machine or behind addresses: gs://, s3://, hdfs://, whatever ``tf.io.gfile`` opens.

Folders of this machine need no TensorFlow. A file is either whole or not there.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

from tfmot_kws import atomic

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BY_TENSORFLOW_IO = ("s3", "hdfs", "viewfs", "har", "az", "oss")
"""File systems that tensorflow-io adds to TensorFlow when it is imported."""


def is_address(place: str | os.PathLike) -> bool:
    """Whether this is no path of this machine."""
    return _ADDRESS.match(os.fspath(place)) is not None


def join(place: str | os.PathLike, name: str) -> str:
    """A file in a folder, of either kind."""
    place = os.fspath(place)
    return f"{place.rstrip('/')}/{name}" if is_address(place) else os.path.join(place, name)


def _gfile(place: str | os.PathLike):
    import tensorflow as tf

    scheme = os.fspath(place).partition("://")[0].lower()
    if scheme in _BY_TENSORFLOW_IO:
        try:
            importlib.import_module("tensorflow_io")
        except ImportError as error:
            raise ValueError(
                f"{place}: {scheme}:// needs tensorflow-io beside TensorFlow, which does not load here: {error}"
            ) from error
    return tf.io.gfile


def _explained(place: str | os.PathLike, error: Exception) -> OSError | ValueError:
    """TensorFlow's error as Python's, with the place in it."""
    import tensorflow as tf

    kind = {tf.errors.NotFoundError: FileNotFoundError, tf.errors.PermissionDeniedError: PermissionError}
    if isinstance(error, tf.errors.UnimplementedError):
        return ValueError(f"{place}: TensorFlow has no file system for this address here: {error.message}")
    return kind.get(type(error), OSError)(f"{place}: {getattr(error, 'message', error)}")


def exists(place: str | os.PathLike) -> bool:
    """Whether there is such a file."""
    if not is_address(place):
        return os.path.exists(place)
    import tensorflow as tf

    try:
        return bool(_gfile(place).exists(os.fspath(place)))
    except tf.errors.OpError as error:
        raise _explained(place, error) from error


def size(place: str | os.PathLike) -> int:
    """Bytes of a file.

    Raises:
        OSError: there is none, or it cannot be looked at.
    """
    if not is_address(place):
        return os.path.getsize(place)
    import tensorflow as tf

    try:
        return int(_gfile(place).stat(os.fspath(place)).length)
    except tf.errors.OpError as error:
        raise _explained(place, error) from error


def names(place: str | os.PathLike) -> list[str]:
    """Names in a folder, sorted; none where there is no such folder."""
    if not is_address(place):
        return sorted(os.listdir(place)) if os.path.isdir(place) else []
    import tensorflow as tf

    try:
        return sorted(name.rstrip("/") for name in _gfile(place).listdir(os.fspath(place)))
    except tf.errors.NotFoundError:
        return []
    except tf.errors.OpError as error:
        raise _explained(place, error) from error


def read_bytes(place: str | os.PathLike) -> bytes:
    """A whole file.

    Raises:
        OSError: it cannot be read; the message names it.
    """
    if not is_address(place):
        return Path(place).read_bytes()
    import tensorflow as tf

    try:
        with _gfile(place).GFile(os.fspath(place), "rb") as stream:
            return stream.read()
    except tf.errors.OpError as error:
        raise _explained(place, error) from error


def write_bytes(place: str | os.PathLike, data: bytes) -> None:
    """Writes a whole file, and the folders that it lies in.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    if not is_address(place):
        atomic.write_bytes(place, data)
        return
    import tensorflow as tf

    gfile, name = _gfile(place), os.fspath(place)
    try:
        gfile.makedirs(name.rpartition("/")[0])
        # Object stores show a file when it is closed; others (hdfs) would show half of it.
        with gfile.GFile(f"{name}.part", "wb") as stream:
            stream.write(data)
        gfile.rename(f"{name}.part", name, overwrite=True)
    except tf.errors.OpError as error:
        raise _explained(place, error) from error
