# SPDX-License-Identifier: Apache-2.0
"""What the table of one's own voice counts, and that nobody's test recording is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import own_voice
from benchmarks import wake_word_hearing as hearing
from tfmot_kws.data import corpus
from tfmot_kws.data.stream_labels import Target

STEP = 0.08
MINUTE = 60 * hearing.RATE


def _clips(**counts: int) -> corpus.Corpus:
    return corpus.Corpus(
        tuple(corpus.Clip(f"{who}{n}.wav", "nova", who, "train") for who, count in counts.items() for n in range(count))
    )


def test_people_are_those_with_enough_recordings_of_the_keyword() -> None:
    clips = _clips(ann=12, bob=10, cat=9, crowd=40) + corpus.Corpus((corpus.Clip("a.wav", "lamp", "ann", "train"),))
    found = own_voice.people_of(clips, "nova", 10, ["crowd"])
    assert list(found) == ["ann", "bob"] and [len(found[name]) for name in found] == [12, 10]


def test_recordings_are_trained_on_or_heard() -> None:
    clips = list(_clips(ann=12))
    mine, rest = own_voice.shared_out(clips, 5, 0)
    assert len(mine) == 5 and sorted([*mine, *rest], key=lambda clip: clip.path) == sorted(clips, key=lambda c: c.path)
    assert own_voice.shared_out(clips, 5, 0) == (mine, rest) != own_voice.shared_out(clips, 5, 1)


def _sound(number: int, words: int) -> hearing.Sound:
    """A minute whose samples are its number; a word every five seconds."""
    targets = tuple(Target("nova", 5.0 + 5 * k, 5.5 + 5 * k) for k in range(words))
    return hearing.Sound(f"s{number}", np.full(MINUTE, number, np.int16), targets, (10.0,) * words)


def test_misses_are_each_persons_at_the_threshold_of_all_sound() -> None:
    """Of two false accepts in two hours one is too many at 0.5 an hour: the threshold lies above the second."""
    talk = [_sound(n, 0) for n in range(120)]
    said = {"ann": [_sound(200, 10)], "bob": [_sound(201, 10)]}

    def hear(samples: np.ndarray) -> hearing.Heard:
        times = np.arange(1, 750) * STEP
        values = np.zeros((len(times), 1), np.float32)
        number = int(samples[0])
        for k in range(10 if number >= 200 else 0):
            score = 0.6 if number == 201 and k < 4 else 0.9  # four words of bob's are below the second false accept
            values[np.abs(times - (5.6 + 5 * k)) < 0.1] = score
        if number in (3, 4):
            values[np.abs(times - 30.0) < 0.1] = {3: 0.95, 4: 0.7}[number]
        return hearing.Heard(values, times)

    listener = hearing.Listener(hear, STEP, (0,), "value", smooth=STEP)
    sound = own_voice.Sound((), (), {}, talk, said)
    assert own_voice.misses(listener, sound, "nova") == {"ann": 0.0, "bob": pytest.approx(40.0)}


def test_rows_are_of_each_person_and_of_all() -> None:
    before = {"ann": 40.0, "bob": 20.0, "cat": 30.0}
    after = {"ann": {"ann": 10.0, "bob": 20.0, "cat": 26.0}, "bob": {"ann": 38.0, "bob": 4.0, "cat": 30.0}}
    first, second, mean = own_voice.rows_of(before, after, {"ann": 100, "bob": 50})
    assert (first["own_before"], first["own_after"], first["others_before"], first["others_after"]) == (40, 10, 25, 23)
    assert (second["own_before"], second["own_after"], second["others_before"], second["others_after"]) == (
        20,
        4,
        35,
        34,
    )
    assert (mean["targets"], mean["own_before"], mean["own_after"]) == (150, 30.0, 7.0)
