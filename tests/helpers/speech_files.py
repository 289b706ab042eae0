"""Shared by the tests of commands: a folder of "words" that are sounds of different pitch."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from tfmot_kws.sound import files as audio

WORDS = {"low": 300.0, "high": 1500.0, "rising": 700.0}


def make_words(folder: pathlib.Path, speakers: int = 16, seed: int = 0) -> pathlib.Path:
    """``folder/word/speaker_nohash_0.wav``: one second each at 16 kHz; noise too; one damaged file."""
    rng = np.random.default_rng(seed)
    for word in WORDS:
        (folder / word).mkdir(parents=True)
        for speaker in range(speakers):
            sound = _spoken(word, rng) + 0.01 * rng.standard_normal(16000)
            audio.write(folder / word / f"s{speaker:02d}_nohash_0.wav", sound.astype(np.float32), 16000)
    (folder / "_background_noise_").mkdir()
    for index in range(speakers):
        sound = 0.05 * rng.standard_normal(16000)
        audio.write(folder / "_background_noise_" / f"n{index}.wav", sound.astype(np.float32), 16000)
    (folder / "low" / "broken.wav").write_bytes(b"no sound")
    return folder


def _spoken(word: str, rng: np.random.Generator) -> np.ndarray:
    """A second with a word between 0.2 and 0.8 s."""
    time = np.arange(16000) / 16000
    frequency = WORDS[word] * (1.0 + 0.1 * rng.random()) * (1.0 + (word == "rising") * time)
    return 0.3 * np.sin(2 * np.pi * frequency * time) * (np.abs(time - 0.5) < 0.3)


def make_stream(folder: pathlib.Path, name: str, words: Sequence[str], every: int = 4, seed: int = 0) -> pathlib.Path:
    """``folder/deep/name.wav`` with a word every so many seconds, and its lines in ``folder/streams_labels.csv``."""
    rng = np.random.default_rng(seed)
    sound = 0.01 * rng.standard_normal(16000 * every * (len(words) + 1))
    table = folder / "streams_labels.csv"
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    lines = [] if table.exists() else ["stream,event,word,start,end,snr_db,background,source"]
    for index, word in enumerate(words, 1):
        sound[16000 * every * index :][:16000] += _spoken(word, rng)
        event = "negative" if word == "rising" else "keyword"
        lines.append(f"{name},{event},{word},{every * index + 0.2},{every * index + 0.8},20,noise,")
    with table.open("a") as file:
        file.write("".join(line + "\n" for line in lines))
    audio.write(folder / "deep" / f"{name}.wav", sound.astype(np.float32), 16000)
    return folder
