# SPDX-License-Identifier: Apache-2.0
"""Spectrograms that others made of hours of sound, opened where they lie: those of microWakeWord.

It publishes folders ``training/``, ``validation/``, ``testing/`` and the like, with folders ``*_mmap`` below, each a
``RaggedMmap`` of the package mmap-ninja: ``data.ninja`` has all numbers one after another, ``starts/`` and ``ends/``
where each spectrogram lies in it, ``shapes/`` (another ``RaggedMmap``) its frames and bands. They are read here, not by
that package: it makes folders that are missing, and gives spectrograms one by one.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tfmot_kws.data.long_features import LongFeatures
from tfmot_kws.frontend import features

SPLITS = ("training", "validation", "testing", "validation_ambient", "testing_ambient")
"""Names of microWakeWord's folders."""
HOP_MS = 10
"""From frame to frame of the spectrograms that microWakeWord publishes."""
_FRONTEND = {
    "backend": "micro", "sample_rate": 16000, "mel_bins": 40, "window_ms": 30, "lower_hz": 125.0, "upper_hz": 7500.0,
    "pcan": True,
}  # fmt: skip
_SUFFIX = "_mmap"
_LOOKED_AT = 1000
"""Frames of a folder of floats that are looked at, whether they are what the front end gives."""
_LARGEST = 1000.0
"""Above any number of the ``micro`` front end."""


def find(folder: str | os.PathLike) -> tuple[Path, ...]:
    """The folders ``*_mmap`` at or below a folder, by path."""
    root = Path(folder)
    inside = sorted(path for path in root.rglob(f"*{_SUFFIX}") if path.is_dir())
    return (root, *inside) if (root / "type.ninja").is_file() else tuple(inside)


def of_split(folder: str | os.PathLike, split: str) -> tuple[Path, ...]:
    """Those of one split; all, where no folder above them is named like a split.

    Raises:
        ValueError: ``split`` is none of ``SPLITS``, or there are others but not this.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: must be one of {SPLITS}")
    root = Path(folder)
    found = find(root)
    names = {path: next((part for part in path.relative_to(root).parts if part in SPLITS), None) for path in found}
    if not any(names.values()):
        return found
    chosen = tuple(path for path in found if names[path] == split)
    if not chosen:
        there = sorted({name for name in names.values() if name})
        raise ValueError(f"{root}: no folder *{_SUFFIX} in {split}/; there are some in {', '.join(there)}")
    return chosen


def check_frontend(frontend: features.FrontendConfig, where: str | os.PathLike, hop_ms: int = HOP_MS) -> None:
    """Whether a model's front end is the one that microWakeWord's spectrograms were made by.

    Args:
        frontend: of the model.
        where: the spectrograms lie, for the message.
        hop_ms: from frame to frame of them; nothing in the files says it.

    Raises:
        ValueError: it is another; the message names what differs.
    """
    wanted = {**_FRONTEND, "hop_ms": hop_ms}
    other = [name for name, value in wanted.items() if getattr(frontend, name) != value]
    if not other:
        return
    text = ", ".join(f"{name}={wanted[name]!r} (the model's front end: {getattr(frontend, name)!r})" for name in other)
    why = (
        ". Frames left out or repeated are not what another hop gives, because the front end's noise estimate moves "
        "with every frame"
        if "hop_ms" in other
        else ""
    )
    raise ValueError(
        f"{where}: spectrograms of microWakeWord have {text}{why}. Train a model with their front end, or give sound "
        "instead of spectrograms"
    )


def open_folder(folder: str | os.PathLike, frontend: features.FrontendConfig, hop_ms: int = HOP_MS) -> LongFeatures:
    """Opens one folder ``*_mmap``; nothing is copied, each spectrogram is a recording.

    Args:
        folder: with ``data.ninja`` in it.
        frontend: of the model, which must be that of the spectrograms.
        hop_ms: from frame to frame of them.

    Returns:
        Their features: uint16 as published, or float32 as newer versions of microWakeWord write them.

    Raises:
        ValueError: the front end is another, the numbers are of another type, or the folder is damaged.
    """
    folder = Path(folder)
    check_frontend(frontend, folder, hop_ms)
    if _text(folder, "type") != "ragged":
        raise ValueError(f"{folder / 'type.ninja'}: found {_text(folder, 'type')!r}, expected 'ragged'")
    if _bytes(folder / "shapes_are_flat.ninja") != bytes(4):
        raise ValueError(f"{folder}: holds rows of numbers, expected spectrograms [frames, {frontend.mel_bins}]")
    data = _array(folder)
    if data.dtype not in (np.uint16, np.float32) or data.ndim != 1:
        raise ValueError(
            f"{folder}: found {data.dtype} {list(data.shape)}, expected uint16 or float32 one after another"
        )
    ends = _ends(folder, len(data))
    shapes = _array(folder / "shapes")
    shape_ends = _ends(folder / "shapes", len(shapes))
    if len(shape_ends) != len(ends):
        raise ValueError(f"{folder}: {len(ends)} spectrograms and {len(shape_ends)} shapes; fetch it anew")
    axes = np.diff(shape_ends, prepend=0)
    sizes = np.diff(ends, prepend=0)
    # A clip shorter than a window gives an empty array of one axis.
    empty = (axes == 1) & (sizes == 0)
    pairs = shape_ends[~empty]
    if np.any(axes[~empty] != 2) or np.any(shapes[pairs - 1] != frontend.mel_bins):
        found = sorted({int(bands) for bands in shapes[pairs - 1]})[:5]
        raise ValueError(f"{folder}: spectrograms of {found} bands, expected [frames, {frontend.mel_bins}]")
    if np.any(shapes[pairs - 2] * frontend.mel_bins != sizes[~empty]):
        raise ValueError(f"{folder}: shapes and lengths of its spectrograms do not agree; fetch it anew")
    first = np.concatenate([[0], ends]).astype(np.int64) // frontend.mel_bins
    x = data.reshape(-1, frontend.mel_bins)
    if x.dtype == np.float32:
        _check_floats(folder, x[:_LOOKED_AT])
    return LongFeatures(x, first, ((),) * len(ends), frontend)


def _check_floats(folder: Path, x: np.ndarray) -> None:
    raw = np.asarray(x, np.float64) / features.MICRO_SCALE
    if not (
        np.isfinite(raw).all()
        and np.abs(raw - np.rint(raw)).max(initial=0.0) < 0.01
        and raw.min(initial=0.0) >= 0
        and raw.max(initial=0.0) < _LARGEST
    ):
        raise ValueError(
            f"{folder}: its float32 numbers are no features of the micro front end, which are whole multiples of "
            f"{features.MICRO_SCALE:g} from 0 to about 26"
        )


def _ends(folder: Path, length: int) -> np.ndarray:
    """Where each part of ``data.ninja`` ends; parts lie one after another."""
    starts, ends = (np.asarray(_array(folder / name)).astype(np.int64) for name in ("starts", "ends"))
    good = starts.ndim == 1 and starts.shape == ends.shape and len(ends) > 0
    if not good or starts[0] != 0 or np.any(starts[1:] != ends[:-1]) or np.any(ends < starts) or ends[-1] != length:
        raise ValueError(f"{folder}: starts and ends do not lie one after another in data.ninja; fetch it anew")
    return ends


def _array(folder: Path) -> np.ndarray:
    """An array of mmap-ninja, on disk."""
    kind, shape = _text(folder, "dtype"), np.frombuffer(_bytes(folder / "shape.ninja"), "<u8")
    path = folder / "data.ninja"
    try:
        dtype = np.dtype(kind)
        if dtype.hasobject or dtype.kind not in "iuf" or _text(folder, "order") != "C":
            raise TypeError(f"numbers of type {kind!r} in order {_text(folder, 'order')!r}")
        size = path.stat().st_size
        if size != dtype.itemsize * int(np.prod(shape.astype(object), initial=1)):
            raise ValueError(f"{size} bytes, expected {kind} {shape.tolist()}; fetch it anew")
        return np.memmap(path, dtype, "r", shape=tuple(shape.tolist())) if size else np.zeros(shape.tolist(), dtype)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def _text(folder: Path, name: str) -> str:
    return _bytes(folder / f"{name}.ninja").decode("utf-8", "replace")


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}; fetch the folder anew") from error
    if path.name == "shape.ninja" and (len(data) % 8 or not data):
        raise ValueError(f"{path}: {len(data)} bytes, expected a multiple of 8; fetch the folder anew")
    return data
