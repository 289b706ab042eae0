# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of data: a corpus of noise in folders of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def tone(seed: int, seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 2000) * time)
    return (wave + 0.01 * rng.normal(size=len(time))).astype(np.float32)


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate)
    return path


def make_folder(tmp_path: Path) -> Path:
    """Three words by twelve speakers, and noise."""
    root = tmp_path / "words"
    for number, word in enumerate(("yes", "no", "maybe")):
        for speaker in range(12):
            name = f"{speaker:08x}_nohash_0.{'flac' if speaker % 2 else 'wav'}"
            write(root / word / name, tone(100 * number + speaker))
    for number in range(4):
        write(root / "_background_noise_" / f"hum{number}.ogg", tone(900 + number, 3.5))
    return root
