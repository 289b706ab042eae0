"""Sounds inside of pages come out as they went in."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import soundfile

from tfmot_kws.sound import embedded


@pytest.mark.parametrize("rate", [16000, 22050])
def test_as_many_samples_come_out_at_the_same_places(rate: int, rng: np.random.Generator) -> None:
    """Two bursts: neither is moved, and the file is far smaller than its samples where Opus knows the rate."""
    sound = np.zeros(rate * 2 + 77, np.float32)
    for at in (rate // 2, rate):
        sound[at : at + rate // 20] = 0.3 * rng.standard_normal(rate // 20)
    file, media = embedded.encode(sound, rate)
    assert media == ("audio/ogg; codecs=opus" if rate == 16000 else "audio/flac")
    back, found = soundfile.read(io.BytesIO(file))
    assert found == rate and len(back) == len(sound)
    loud = np.flatnonzero(np.abs(back) > 0.1)
    assert abs(loud[0] - rate // 2) < rate / 200 and abs(loud[-1] - rate * 1.05) < rate / 200
    if rate == 16000:
        assert len(file) < len(sound) / 3
    else:
        np.testing.assert_allclose(back, np.clip(sound, -1, 1), atol=1e-4)


def test_without_opus_it_is_flac(monkeypatch) -> None:
    monkeypatch.setattr(soundfile, "available_subtypes", lambda _: {"VORBIS": "Vorbis"})
    file, media = embedded.encode(np.full(100, 2.0), 16000)
    assert media == "audio/flac" and soundfile.read(io.BytesIO(file))[0].max() > 0.99  # clipped, not wrapped


def test_an_address_holds_the_file() -> None:
    address = embedded.data_uri(b"abc", "audio/ogg; codecs=opus")
    head, data = address.split(",")
    assert head == "data:audio/ogg;codecs=opus;base64" and base64.b64decode(data) == b"abc"


@pytest.mark.parametrize("sound", [np.zeros(0), np.zeros((5, 2))])
def test_what_is_no_sound_is_refused(sound: np.ndarray) -> None:
    with pytest.raises(ValueError, match="needed is .samples."):
        embedded.encode(sound)
