# SPDX-License-Identifier: Apache-2.0
"""flite, the program, behind ``sound.voices``: Debian's package of that name."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tfmot_kws.sound.segment import Segment

_CLOCK = "awb_time"
"""A voice that can only tell the time."""


def _run(*arguments: str) -> str:
    done = subprocess.run(["flite", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip()[-500:] or "no message"
        raise RuntimeError(f"flite {' '.join(arguments)} ended with status {done.returncode}: {said}")
    return done.stdout


class Engine:
    """The voices that are built into the program.

    Raises:
        RuntimeError: it does not run, or names no voices.
    """

    def __init__(self) -> None:
        said = _run("-lv")
        self._voices = [name for name in said.partition(":")[2].split() if name != _CLOCK]
        if not self._voices:
            raise RuntimeError(f"flite -lv names no voices: {said.strip()!r}")

    def voices(self) -> list[str]:
        """Names."""
        return list(self._voices)

    def identity(self) -> str:
        """The program's own words on its version."""
        return " ".join(subprocess.run(["flite", "--version"], capture_output=True, text=True).stdout.split())

    def say(self, text: str, voice: str, speed: float, seed: int) -> tuple[np.ndarray, int, tuple[Segment, ...], str]:
        """One utterance; nothing in it is random, so the seed changes nothing."""
        import soundfile

        del seed
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "said.wav"
            (Path(folder) / "text").write_text(text, encoding="utf-8")
            _run(
                "-voice",
                voice,
                "--setf",
                f"duration_stretch={1 / speed:.6f}",
                "-f",
                f"{folder}/text",
                "-o",
                f"{written}",
            )
            samples, rate = soundfile.read(written, dtype="float32")
        return samples, rate, (), ""
