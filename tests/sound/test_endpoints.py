"""Where speech begins and ends in a recording with noise of its own."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfmot_kws.sound import endpoints

RATE = 16000
TOLERANCE = 0.03  # seconds: levels are those of 20 ms


def _word(rng: np.random.Generator, *pieces: tuple[float, float], seconds: float = 2.0) -> np.ndarray:
    """Stretches of noise of the colour of a vowel in silence, 0.1 RMS."""
    out = np.zeros(round(seconds * RATE))
    for start, end in pieces:
        first, last = round(start * RATE), round(end * RATE)
        t = np.arange(last - first) / RATE
        voice = sum(np.sin(2 * np.pi * 140 * k * t + rng.uniform(0, 6)) / (1 + (k - 8) ** 2 / 20) for k in range(1, 30))
        out[first:last] = 0.1 * voice / np.std(voice)
    return out


def _found(samples: np.ndarray) -> tuple[float, float]:
    start, end = endpoints.speech(samples, RATE)
    return start / RATE, end / RATE


@pytest.mark.parametrize("snr_db", [12, 20, 40, 80])
def test_word_in_noise(rng, snr_db):
    sound = _word(rng, (0.6, 1.2)) + rng.normal(0, 0.1 * 10 ** (-snr_db / 20), 2 * RATE)
    assert _found(sound) == pytest.approx((0.6, 1.2), abs=TOLERANCE)


def test_hum_is_no_speech(rng):
    hum = 0.3 * np.sin(2 * np.pi * 100 * np.arange(2 * RATE) / RATE)  # 10 dB above the word
    assert _found(_word(rng, (0.6, 1.2)) + hum) == pytest.approx((0.6, 1.2), abs=TOLERANCE)


def test_words_of_a_phrase_belong_together(rng):
    assert _found(_word(rng, (0.4, 0.6), (0.7, 1.0))) == pytest.approx((0.4, 1.0), abs=TOLERANCE)
    assert _found(_word(rng, (0.2, 0.6), (0.9, 1.4), (1.6, 1.8))) == pytest.approx((0.2, 1.8), abs=TOLERANCE)


def test_a_click_and_a_breath_are_no_words(rng):
    sound = _word(rng, (0.8, 1.3)) + _word(rng, (1.6, 1.7)) / 4.0 + rng.normal(0, 0.001, 2 * RATE)
    assert _found(sound) == pytest.approx((0.8, 1.3), abs=TOLERANCE)
    sound = _word(rng, (0.8, 1.3)) + rng.normal(0, 0.001, 2 * RATE)
    sound[RATE // 4 : RATE // 4 + 80] += 0.3
    assert _found(sound) == pytest.approx((0.8, 1.3), abs=TOLERANCE)


def test_speech_from_end_to_end(rng):
    start, end = _found(_word(rng, (0.0, 2.0)))
    assert start <= TOLERANCE and end >= 2.0 - TOLERANCE


def test_nothing():
    assert endpoints.speech(np.zeros(RATE), RATE) == (0, 0)
    assert endpoints.speech(np.zeros(0), RATE) == (0, 0)
    assert endpoints.speech(np.full(100, 0.5), RATE) == (0, 100)


def test_scale_does_not_matter(rng):
    sound = _word(rng, (0.6, 1.2)) + rng.normal(0, 0.01, 2 * RATE)
    assert endpoints.speech(sound, RATE) == endpoints.speech(sound * 32768.0, RATE)


@hypothesis.example(np.eye(1, 4001, 4000, dtype=np.int16)[0])
@hypothesis.given(arrays.arrays(np.int16, st.integers(0, 4000)))
def test_it_lies_within_the_sound(samples):
    start, end = endpoints.speech(samples, RATE)
    assert 0 <= start <= end <= len(samples)
    assert (start < end) == bool(np.any(samples))
