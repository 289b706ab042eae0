"""Writes ragged.zip by the package mmap-ninja itself: pip install mmap-ninja; python make_ragged.py."""

from __future__ import annotations

import importlib
import pathlib
import tempfile
import zipfile

import numpy as np

TARGET = pathlib.Path(__file__).with_name("ragged.zip")


def spectrograms() -> list[np.ndarray]:
    """What is in it: of 7, 2 and 4 frames, and one of a clip that is shorter than a window."""
    rng = np.random.default_rng(0)
    found = [rng.integers(0, 670, (frames, 40)).astype(np.uint16) for frames in (7, 2, 4)]
    return [*found[:2], np.zeros(0, np.uint16), found[2]]


def main() -> None:
    # Installed by whoever makes the file anew, and required by nothing else: not an import of the tests.
    ragged = importlib.import_module("mmap_ninja.ragged")

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "speech_mmap"
        ragged.RaggedMmap.from_generator(folder, iter(spectrograms()), batch_size=2)
        with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*.ninja")):
                entry = zipfile.ZipInfo(str(path.relative_to(temporary)))
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
