# SPDX-License-Identifier: Apache-2.0
"""Sound in blocks: files, pipes, rates, channels, cut ends."""

from __future__ import annotations

import io
import sys
import wave

import numpy as np
import pytest
import soundfile

from tfmot_kws.sound import files as audio
from tfmot_kws.sound import stream as audio_stream


def tone(rate: int, seconds: float = 0.7, channels: int = 1) -> np.ndarray:
    t = np.arange(round(rate * seconds)) / rate
    parts = [0.4 * np.sin(2 * np.pi * f * t) for f in (440, 700)[:channels]]
    return np.round(np.stack(parts, 1) * 32767).astype(np.int16)


def wav(samples: np.ndarray, rate: int) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return target.getvalue()


class Pipe(io.RawIOBase):
    """Brings as many bytes as it likes, and cannot go back."""

    def __init__(self, data: bytes, most: int) -> None:
        self.data, self.most = data, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = min(len(buffer), self.most, len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_at_the_wanted_rate_is_what_training_reads(tmp_path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(16000)[:, 0], 16000, subtype="PCM_16")
    found = np.concatenate(list(audio_stream.read_file(path, 16000, 0.031)))
    np.testing.assert_array_equal(found, audio.read(path))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_other_rates_and_stereo(tmp_path, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate, channels=channels), rate, subtype="PCM_16")
    blocks = list(audio_stream.read_file(path, 16000))
    found = np.concatenate(blocks)
    expected = tone(16000, channels=channels).mean(axis=1) / 32768
    assert len(blocks) > 5 and abs(len(found) - len(expected)) <= 1
    middle = slice(2000, 9000)
    assert np.abs(found[middle] - expected[middle]).max() < 0.01
    one = np.concatenate(list(audio_stream.read_file(path, 16000, 10.0)))
    np.testing.assert_allclose(found, one, atol=1e-6)  # however it is cut


@pytest.mark.parametrize("most", [3, 1000, 10**9])
def test_a_pipe_with_a_wav_header(most: int, tmp_path) -> None:
    samples = tone(48000, channels=2)
    soundfile.write(tmp_path / "a.wav", samples, 48000, subtype="PCM_16")
    expected = np.concatenate(list(audio_stream.read_file(tmp_path / "a.wav", 16000)))
    pipe = io.BufferedReader(Pipe(wav(samples, 48000), most))
    found = np.concatenate(list(audio_stream.read_pipe(pipe, 16000)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_pipe_of_unknown_length() -> None:
    """What ``arecord`` and ``ffmpeg`` write: sizes that are not known yet."""
    data = bytearray(wav(tone(16000), 16000))
    data[4:8] = data[40:44] = b"\xff\xff\xff\x7f"
    found = np.concatenate(list(audio_stream.read_pipe(io.BytesIO(bytes(data)), 16000)))
    np.testing.assert_array_equal(found, tone(16000)[:, 0].astype(np.float32) / 32768)


def test_a_pipe_without_a_header_and_a_cut_sample() -> None:
    samples = tone(16000)[:, 0]
    found = np.concatenate(list(audio_stream.read_pipe(io.BytesIO(samples.astype("<i2").tobytes() + b"\x07"), 16000)))
    np.testing.assert_array_equal(found, samples.astype(np.float32) / 32768)
    assert sum(map(len, audio_stream.read_pipe(io.BytesIO(b""), 16000))) == 0
    cut = wav(tone(16000), 16000)[:-3]
    assert sum(map(len, audio_stream.read_pipe(io.BytesIO(cut), 16000))) == len(samples) - 2


def test_errors(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(audio.AudioError, match="nothing.wav: unreadable"):
        list(audio_stream.read_file(tmp_path / "nothing.wav", 16000))
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(audio.AudioError, match="text.wav: unreadable"):
        list(audio_stream.read_file(tmp_path / "text.wav", 16000))
    with pytest.raises(ValueError, match="sample rates must be above 0, found 0 and 16000"):
        audio_stream.Mono(0, 16000)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ImportError, match=r"pip install 'tfmot-kws\[microphone\]'"):
        next(audio_stream.read_microphone(16000))
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"needs the library PortAudio \(libportaudio2 in Debian"):
        next(audio_stream.read_microphone(16000))


def test_loud_sound_stays_in_range() -> None:
    square = np.where(np.arange(48000) // 60 % 2, 32767, -32768).astype(np.int16)
    found = audio_stream.Mono(48000, 16000).step(square, last=True)
    assert np.abs(found).max() <= 1.0
