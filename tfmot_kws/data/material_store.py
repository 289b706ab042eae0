# SPDX-License-Identifier: Apache-2.0
"""What scenes are made of, on disk, so that several processes draw from one copy of it.

A folder holds ``samples.npy`` (int16, all sound one after another), ``rooms.npy`` (float32) and ``about.json``, which
says where each utterance, noise and room lies in them. It is read as it is needed, not whole.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from tfmot_kws import atomic
from tfmot_kws.data.scenes import Material, Utterance

_ABOUT, _SAMPLES, _ROOMS = "about.json", "samples.npy", "rooms.npy"
_POOLS = ("like", "sentences", "words")


def write(folder: str | os.PathLike, found: Material) -> Path:
    """Writes a folder that ``read`` opens; ``about.json`` comes last, so that half of a folder is none.

    The problems of the material are not kept.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _ABOUT).unlink(missing_ok=True)
    pieces: list[np.ndarray] = []
    length = 0

    def place(samples: np.ndarray) -> int:
        nonlocal length
        pieces.append(samples)
        length += len(samples)
        return length - len(samples)

    def said(one: Utterance) -> list:
        return [place(one.samples), len(one.samples), one.word, one.start, one.end, one.speaker]

    about = {
        "sample_rate": found.sample_rate,
        "keywords": {word: [said(one) for one in pool] for word, pool in found.keywords.items()},
        **{name: [said(one) for one in getattr(found, name)] for name in _POOLS},
        "noises": [[place(noise), len(noise)] for noise in found.noises],
        "rooms": [len(one) for one in found.rooms],
    }
    with atomic.replacing(folder / _SAMPLES) as temporary:
        # Piece by piece: hours of sound need not be in memory twice.
        out = np.lib.format.open_memmap(temporary, "w+", np.int16, (max(length, 1),))
        at = 0
        for piece in pieces:
            out[at : at + len(piece)] = piece
            at += len(piece)
        out.flush()
    rooms = np.concatenate([*found.rooms, np.zeros(0, np.float32)]).astype(np.float32)
    with atomic.replacing(folder / _ROOMS) as temporary, open(temporary, "wb") as stream:
        np.save(stream, rooms)
    atomic.write_json(folder / _ABOUT, about)
    return folder


def read(folder: str | os.PathLike) -> Material:
    """Opens a folder of ``write``; its sound stays on disk until it is used.

    Raises:
        ValueError: not such a folder, or its files do not agree.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        samples = np.load(folder / _SAMPLES, mmap_mode="r", allow_pickle=False)
        rooms = np.load(folder / _ROOMS, allow_pickle=False)
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise ValueError(f"{_SAMPLES} holds {samples.dtype} {list(samples.shape)}, expected int16 [samples]")

        def cut(first: int, size: int) -> np.ndarray:
            if not 0 <= first <= first + size <= len(samples):
                raise ValueError(f"{_SAMPLES} has {len(samples)} samples, {first} to {first + size} are asked for")
            return samples[first : first + size]

        def said(row: list) -> Utterance:
            return Utterance(cut(row[0], row[1]), *row[2:])

        ends = np.cumsum([0, *about["rooms"]])
        if ends[-1] != len(rooms):
            raise ValueError(f"{_ROOMS} has {len(rooms)} samples, expected {ends[-1]}")
        return Material(
            {word: tuple(map(said, pool)) for word, pool in about["keywords"].items()},
            *(tuple(map(said, about[name])) for name in _POOLS),
            noises=tuple(cut(*row) for row in about["noises"]),
            sample_rate=about["sample_rate"],
            rooms=tuple(rooms[a:b] for a, b in zip(ends[:-1], ends[1:])),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError) as error:
        raise ValueError(f"{folder}: no material of scenes that can be read: {error}; make it anew") from error
