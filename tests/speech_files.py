"""Shared by the tests of commands: a folder of "words" that are sounds of different pitch."""

from __future__ import annotations

import pathlib

import numpy as np

from tfmot_kws import audio

WORDS = {"low": 300.0, "high": 1500.0, "rising": 700.0}


def make_words(folder: pathlib.Path, speakers: int = 16, seed: int = 0) -> pathlib.Path:
    """``folder/word/speaker_nohash_0.wav``: one second each at 16 kHz; noise too; one damaged file."""
    rng = np.random.default_rng(seed)
    time = np.arange(16000) / 16000
    for word, pitch in WORDS.items():
        (folder / word).mkdir(parents=True)
        for speaker in range(speakers):
            frequency = pitch * (1.0 + 0.1 * rng.random()) * (1.0 + (word == "rising") * time)
            sound = 0.3 * np.sin(2 * np.pi * frequency * time) * (np.abs(time - 0.5) < 0.3)
            sound += 0.01 * rng.standard_normal(16000)
            audio.write(folder / word / f"s{speaker:02d}_nohash_0.wav", sound.astype(np.float32), 16000)
    (folder / "_background_noise_").mkdir()
    for index in range(speakers):
        sound = 0.05 * rng.standard_normal(16000)
        audio.write(folder / "_background_noise_" / f"n{index}.wav", sound.astype(np.float32), 16000)
    (folder / "low" / "broken.wav").write_bytes(b"no sound")
    return folder
