"""Writes spectrograms in the form of the package mmap-ninja (RaggedMmap, 0.9), as microWakeWord publishes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def _flat(folder: Path, array: np.ndarray, kind: str = "numpy") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.ninja").write_bytes(array.tobytes())
    (folder / "type.ninja").write_text(kind)
    (folder / "dtype.ninja").write_text(array.dtype.name)
    (folder / "shape.ninja").write_bytes(np.array(array.shape, "<u8").tobytes())
    (folder / "order.ninja").write_text("C")


def write(folder: Path, arrays: Sequence[np.ndarray]) -> Path:
    """A folder that ``RaggedMmap(folder)`` opens."""
    sizes = np.array([array.size for array in arrays], np.int64)
    ends = np.cumsum(sizes)
    flat = all(array.ndim == 1 for array in arrays)
    _flat(folder / "starts", ends - sizes)
    _flat(folder / "ends", ends)
    _flat(folder / "flattened_shapes", sizes)
    (folder / "shapes_are_flat.ninja").write_bytes(np.array(flat, "<i4").tobytes())
    if flat:
        _flat(folder / "shapes", np.array([array.shape for array in arrays], np.int64))
    else:
        write(folder / "shapes", [np.array(array.shape, np.int64) for array in arrays])
    _flat(folder, np.concatenate([array.ravel() for array in arrays]), "ragged")
    return folder
