# SPDX-License-Identifier: Apache-2.0
"""Codecs: sound comes back changed, whole and in its place; what is not there is said."""

import numpy as np
import pytest
from moved import chirp, milliseconds_late

from tfmot_kws.sound import codecs


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("name", codecs.CODECS)
def test_sound_comes_back_changed_but_in_its_place(name, rate):
    sound = chirp(rate, samples=rate + 37)
    out = codecs.transcode(sound, name, rate)
    assert out.dtype == np.float32 and out.shape == sound.shape
    assert np.isfinite(out).all() and np.abs(out).max() <= 1.0
    assert not np.array_equal(out, sound)
    assert np.corrcoef(out, sound)[0, 1] > 0.8
    assert abs(milliseconds_late(sound, out, rate)) < 1.0
    np.testing.assert_array_equal(codecs.transcode(sound, name, rate), out)


@pytest.mark.parametrize("name", codecs.CODECS)
def test_any_length_and_silence(name):
    for samples in (0, 1, 5, 999):
        loud = np.full(samples, 2.0, np.float32)  # is clipped, not wrapped around
        out = codecs.transcode(loud, name)
        assert out.shape == (samples,) and out.dtype == np.float32 and np.abs(out).max(initial=0.0) <= 1.0
    silence = np.zeros(3000, np.float32)
    np.testing.assert_array_equal(codecs.transcode(silence, name), silence)


def test_telephones_have_no_treble():
    sound = (0.3 * np.sin(2 * np.pi * 5500 * np.arange(8000) / 16000)).astype(np.float32)
    loud = {name: np.std(codecs.transcode(sound, name)[2000:6000]) for name in ("ulaw", "ulaw-8k")}
    assert loud["ulaw"] > 0.9 * np.std(sound) and loud["ulaw-8k"] < 0.05 * np.std(sound)


def test_minutes_of_sound_are_encoded_piece_by_piece():
    sound = np.tile(chirp(16000, 16000), 300)
    out = codecs.transcode(sound, "vorbis-low")
    assert abs(milliseconds_late(sound[-16000:], out[-16000:], 16000)) < 1.0


def test_all_codecs_are_in_the_tested_libsndfile():
    assert codecs.codecs_here(16000) == tuple(codecs.CODECS)


def test_unknown_codecs_are_named():
    with pytest.raises(ValueError, match="codec 'speex': not known; known are ulaw"):
        codecs.transcode(np.ones(100, np.float32), "speex")


@pytest.mark.parametrize(
    ("codec", "rate", "what"),
    [
        (codecs.Codec("WAV", "MPEG_LAYER_III"), 16000, "cannot use it"),  # a pair that libsndfile does not write
        (codecs.Codec("XYZ", "ULAW"), 16000, "XYZ"),
        (codecs.Codec("OGG", "OPUS"), 11025, "cannot use it"),  # a rate that Opus has not
        (codecs.Codec("WAV", "ULAW", 16000), 8000, "it encodes 16000 samples a second, and the sound has 8000"),
    ],
)
def test_what_is_not_there_is_said_when_named_and_else_left_out(monkeypatch, codec, rate, what):
    codecs._trouble.cache_clear()
    monkeypatch.setattr(codecs, "CODECS", {"ulaw": codecs.CODECS["ulaw"], "missing": codec})
    try:
        assert codecs.codecs_here(rate) == ("ulaw",)
        with pytest.raises(ValueError, match=f"codec 'missing' at {rate} Hz.*{what}.*it can use ulaw$"):
            codecs.transcode(np.ones(100, np.float32), "missing", rate)
    finally:
        codecs._trouble.cache_clear()


def test_soundfile_without_a_choice_of_compression_lacks_only_what_needs_it(monkeypatch):
    import soundfile

    class Old(soundfile.SoundFile):
        def __init__(self, *options, **named):
            if "compression_level" in named:
                raise TypeError("unexpected keyword argument 'compression_level'")
            super().__init__(*options, **named)

    monkeypatch.setattr(soundfile, "SoundFile", Old)
    codecs._trouble.cache_clear()
    try:
        here = codecs.codecs_here(16000)
        assert here == tuple(name for name, codec in codecs.CODECS.items() if codec.compression is None)
        with pytest.raises(ValueError, match="'opus-low'.*compression_level"):
            codecs.transcode(np.ones(100, np.float32), "opus-low")
    finally:
        codecs._trouble.cache_clear()
