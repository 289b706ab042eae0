# SPDX-License-Identifier: Apache-2.0
"""espeak-ng behind ``sound.voices``; only ``sound.voice_process`` makes one, because espeak-ng is GPL-3."""

from __future__ import annotations

import numpy as np

from tfmot_kws.sound import espeak, voice_process
from tfmot_kws.sound.segment import Segment

_WORDS_PER_MINUTE = 175
"""espeak-ng's own."""


class Engine:
    """All dialects of English with all variants that sound like people: ``en-us+f1``."""

    def __init__(self) -> None:
        self._espeak = espeak.Espeak(espeak.DIALECTS[0], phones=True)
        self._variants = espeak.people(self._espeak.variants())

    def voices(self) -> list[str]:
        """Names: dialect, + and variant."""
        return [f"{dialect}+{variant}" for dialect in espeak.DIALECTS for variant in self._variants]

    def identity(self) -> str:
        """The version of espeakng-loader."""
        return voice_process.identity(["espeakng-loader"])

    def say(self, text: str, voice: str, speed: float, seed: int) -> tuple[np.ndarray, int, tuple[Segment, ...], str]:
        """One utterance; the seed draws pitch and intonation too, as people differ from day to day."""
        pitch, pitch_range = (int(value) for value in np.random.default_rng([seed, 7]).integers(20, 81, 2))
        words = round(_WORDS_PER_MINUTE * speed)
        samples, phones = self._espeak.speak(text, voice, words, pitch, pitch_range, 1 + seed % (2**31 - 1))
        pronounced = " ".join(phone.label for phone in phones)
        return samples.astype(np.float32) / 32768.0, self._espeak.rate, phones, pronounced
