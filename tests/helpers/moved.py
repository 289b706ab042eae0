# SPDX-License-Identifier: Apache-2.0
"""Whether a sound was moved in time: a chirp, and where it is found again."""

import numpy as np


def chirp(rate: int, samples: int) -> np.ndarray:
    """float32 [samples]: 0.4 s of a tone that rises from 300 to 2400 Hz, from 0.3 s on, with silence around it."""
    time = np.arange(int(0.4 * rate)) / rate
    tone = 0.5 * np.sin(2 * np.pi * (300 * time + 0.5 * 2100 / 0.4 * time**2)) * np.hanning(len(time))
    sound = np.zeros(samples, np.float32)
    first = int(0.3 * rate)
    sound[first : first + len(tone)] = tone
    return sound


def milliseconds_late(sound: np.ndarray, later: np.ndarray, rate: int, finer: int = 16) -> float:
    """Where the cross-correlation of two sounds is highest, in parts of a sample."""
    size = 2 * len(sound)
    product = np.conj(np.fft.rfft(sound, size)) * np.fft.rfft(later, size)
    correlation = np.fft.irfft(product, size * finer)
    at = int(np.argmax(correlation))
    return (at if at < len(correlation) // 2 else at - len(correlation)) / finer / rate * 1000.0
