"""A back end of ``sound.voices`` that needs nothing: tones whose pitch is the voice's. Run it with OPTIONS as JSON."""

from __future__ import annotations

import json
import os
import sys

import numpy as np

from tfmot_kws.sound import voice_process, voices
from tfmot_kws.sound.segment import Segment

NAMES = [f"v{i:02}" for i in range(12)]


class Engine:
    """Says what it is asked for, and keeps count: a count that showed would be a memory."""

    def __init__(self, broken: bool = False) -> None:
        if broken:
            raise ValueError("the voices are broken")
        self.count = 0

    def voices(self) -> list[str]:
        return NAMES

    def identity(self) -> str:
        return "fake 1"

    def say(self, text: str, voice: str, speed: float, seed: int):
        self.count += 1
        if text == "crash":
            os.abort()
        if text == "silence":
            return np.zeros(2400, np.float32), 24000, (), ""
        print("libraries print things")
        mixture = voices.parse_mixture(voice)
        names = [voice] if mixture is None else [mixture.first, mixture.second]
        time = np.arange(round(2400 * len(text) / speed)) / 24000
        sound = sum(np.sin(2 * np.pi * (200 + 30 * NAMES.index(name)) * time) for name in names)
        sound = sound * (0.5 + 0.1 * self.count) + 1e-3 * np.random.default_rng(seed).standard_normal(len(time))
        return sound.astype(np.float32), 24000, (Segment(0.0, 0.1, text[0]),), text


def start(**options) -> voices.VoiceProcess:
    """The back end in a process of its own."""
    return voices.VoiceProcess([sys.executable, __file__, json.dumps(options)], "fake")


class Here:
    """The same in this process, for what is not about processes; it mixes."""

    mixes, name = True, "fake"

    def __init__(self, stop_after: int | None = None) -> None:
        self.said, self.stop_after = [], stop_after

    def voices(self) -> list[str]:
        return NAMES

    def identity(self) -> str:
        return "fake 1"

    def another(self) -> Here:
        return Here()

    def close(self) -> None:
        pass

    def say(self, text: str, voice: str, speed: float = 1.0, seed: int = 0) -> voices.Spoken:
        if len(self.said) == self.stop_after:
            raise RuntimeError("stopped")
        self.said.append((text, voice, speed, seed))
        return voice_process.finished(Engine().say(text, voice, speed, seed), voice)


if __name__ == "__main__":
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    voice_process.serve(Engine, json.loads(sys.argv[1]), sys.stdin.buffer, stream)
