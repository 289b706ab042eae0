# SPDX-License-Identifier: Apache-2.0
"""Decoding, resampling and writing, by both decoders, and files that are broken."""

import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tfmot_kws.sound import files as audio
from tfmot_kws.sound import stream as audio_stream

DECODERS = ("tensorflow-io", "soundfile")


def _tone(seconds: float = 0.5, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_tensorflow_io_loads_with_the_pinned_versions():
    assert audio.tensorflow_io_works()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "FLOAT", 1e-6),
        ("a.wav", "PCM_U8", 1e-2),
        ("a.flac", "PCM_16", 1e-4),
        ("a.flac", "PCM_24", 1e-6),
        ("a.flac", "PCM_S8", 1e-2),
        ("a.ogg", "VORBIS", 5e-2),
    ],
)
def test_reads_what_was_written(tmp_path, decoder, name, subtype, tolerance):
    soundfile.write(tmp_path / name, _tone(), 16000, subtype=subtype)
    read = audio.read(tmp_path / name, 16000, decoder=decoder)
    assert read.dtype == np.float32 and read.shape == (8000,)
    np.testing.assert_allclose(read, _tone(), atol=tolerance)


@pytest.mark.parametrize("decoder", DECODERS)
def test_channels_are_averaged(tmp_path, decoder):
    soundfile.write(tmp_path / "a.wav", np.stack([_tone(), np.zeros(8000)], axis=1), 16000)
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav", decoder=decoder), _tone() / 2, atol=1e-4)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_the_tone(tmp_path, decoder, rate):
    soundfile.write(tmp_path / "a.wav", _tone(0.5, rate), rate)
    read = audio.read(tmp_path / "a.wav", 16000, decoder=decoder)
    assert len(read) == 8000
    np.testing.assert_allclose(read[800:7200], _tone()[800:7200], atol=0.01)


@pytest.mark.parametrize("decoder", DECODERS)
def test_resampling_does_not_alias(decoder):
    high = audio.resample(_tone(0.5, 48000, 11000.0), 48000, 16000, decoder)
    assert np.sqrt(np.mean(high[400:-400] ** 2)) < 0.02


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (b"", "a.wav", "unreadable"),
        (b"not sound at all" * 9, "a.flac", "unreadable"),
        (b"OggS" + bytes(100), "a.ogg", "unreadable"),
        (None, "missing.wav", "unreadable"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path, decoder, content, name, problem):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(audio.AudioError, match=f"{name}: {problem}") as caught:
        audio.read(tmp_path / name, decoder=decoder)
    assert caught.value.problem == problem and caught.value.path == str(tmp_path / name)


@pytest.mark.parametrize("decoder", DECODERS)
def test_cut_off_flac_is_unreadable(tmp_path, decoder):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(size=16000) * 0.1, 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(audio.AudioError, match="unreadable"):
        audio.read(path, decoder=decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_empty_silent_short_and_not_finite_files(tmp_path, decoder):
    for name, sound, problem in (
        ("empty.wav", np.zeros(0), "empty: 0 samples"),
        ("silent.wav", np.zeros(8000), "empty: 8000 samples, all of them zero"),
        ("short.wav", _tone(0.05), r"too short: 0\.050 s, at least 0\.1 s"),
    ):
        soundfile.write(tmp_path / name, sound, 16000)
        with pytest.raises(audio.AudioError, match=problem):
            audio.read(tmp_path / name, decoder=decoder, min_seconds=0.1)
    soundfile.write(tmp_path / "nan.wav", np.full(8000, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match="not finite"):
        audio.read(tmp_path / "nan.wav", decoder=decoder)


def test_options_are_checked(tmp_path):
    with pytest.raises(ValueError, match="decoder='mp3'"):
        audio.read(tmp_path / "a.wav", decoder="mp3")
    with pytest.raises(ValueError, match="sample_rate=0"):
        audio.read(tmp_path / "a.wav", 0)


def test_clipping_is_runs_at_full_scale():
    assert audio.clipped_share(_tone()) == 0.0
    assert audio.clipped_share(np.clip(_tone() * 4, -1, 1)) > 0.4
    peak = np.zeros(1000, np.float32)
    peak[::10] = 1.0
    assert audio.clipped_share(peak) == 0.0
    assert audio.clipped_share(np.ones(1, np.float32)) == 0.0


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_writing_round_trip(tmp_path, name):
    sound = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    audio.write(tmp_path / name, sound)
    np.testing.assert_array_equal(audio.read(tmp_path / name), sound / np.float32(32768))
    audio.write(tmp_path / name, sound / np.float32(32768))
    np.testing.assert_array_equal(audio.read(tmp_path / name), sound / np.float32(32768))
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_writing_elsewhere_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"\.mp3"):
        audio.write(tmp_path / "a.mp3", _tone())
    with pytest.raises(ValueError, match="dimension|shape|invalid|channels|Error"):
        audio.write(tmp_path / "a.wav", np.zeros((2, 2, 2), np.int16))
    assert not list(tmp_path.iterdir())


def test_without_tensorflow_io_soundfile_serves(tmp_path):
    """A stand-in whose native ops raise, as they do next to a newer TensorFlow."""
    fake = tmp_path / "tensorflow_io.py"
    fake.write_text(
        "class audio:\n"
        "    @staticmethod\n"
        "    def resample(*_):\n"
        "        raise NotImplementedError('unable to open file: libtensorflow_io.so')\n"
    )
    soundfile.write(tmp_path / "a.wav", _tone(0.5, 8000), 8000)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from tfmot_kws import audio\n"
        "assert not audio.tensorflow_io_works()\n"
        f"assert abs(len(audio.read({str(tmp_path / 'a.wav')!r})) - 8000) <= 2\n"
        "try:\n"
        f"    audio.read({str(tmp_path / 'a.wav')!r}, decoder='tensorflow-io')\n"
        "except ImportError as error:\n"
        "    assert 'does not load beside this TensorFlow' in str(error)\n"
        "else:\n"
        "    raise AssertionError('soundfile read in its place')\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


@pytest.mark.parametrize("decoder", (*DECODERS, "auto"))
@pytest.mark.parametrize("size", [0, 1, 2, 3, 27, 28])
@pytest.mark.parametrize("behind", [False, True])
def test_chunks_of_any_length_lie_around_the_format(tmp_path, decoder, size, behind):
    form, extra = _chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)), _chunk(b"LIST", bytes(size))
    samples = np.rint(_tone() * 32767).astype("<i2")
    body = b"WAVE" + (form + extra if behind else extra + form) + _chunk(b"data", samples.tobytes()) + extra
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", decoder=decoder), samples / np.float32(32768))


@pytest.mark.parametrize("result", ["short", "nothing", "raises"])
def test_soundfile_is_asked_whenever_tensorflow_io_does_not_give_all(tmp_path, monkeypatch, result):
    import tensorflow as tf
    import tensorflow_io as tfio

    def decode(content, dtype):
        if result == "raises":
            raise tf.errors.InternalError(None, None, "no")
        return tf.zeros((100 if result == "short" else 0, 1), dtype)

    soundfile.write(tmp_path / "a.wav", _tone(), 16000)
    monkeypatch.setattr(tfio.audio, "decode_wav", decode)
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav", decoder="tensorflow-io"), _tone(), atol=1e-4)


@pytest.mark.parametrize(("name", "subtype"), [("a.mp3", None), ("a.opus", "OPUS"), ("a.aiff", None), ("a.caf", None)])
def test_training_reads_what_listening_reads(tmp_path, name, subtype):
    kind = {"a.opus": "OGG"}.get(name)
    soundfile.write(tmp_path / name, _tone(), 16000, format=kind, subtype=subtype)
    assert (tmp_path / name).suffix in audio.EXTENSIONS
    heard = np.concatenate(list(audio_stream.read_file(tmp_path / name, 16000)))
    np.testing.assert_allclose(audio.read(tmp_path / name), heard, atol=1e-6)
    assert abs(len(heard) - 8000) < 3000 and 0.3 < np.abs(heard).max() < 0.7


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """A program of that name that gives what lies in ``sound.wav``, or fails where there is none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(
        f'#!/bin/sh\n[ -f {folder}/sound.wav ] || {{ echo "Invalid data" >&2; exit 1; }}\n'
        f'echo "$@" > {folder}/asked\nexec cat {folder}/sound.wav\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_ffmpeg_reads_what_soundfile_does_not_know(tmp_path, fake_ffmpeg):
    path = tmp_path / "-clip.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(200))
    with pytest.raises(audio.AudioError, match=r"-clip\.m4a: unreadable: .* ffmpeg: Invalid data"):
        audio.read(path)
    with pytest.raises(audio.AudioError, match="ffmpeg: Invalid data"):
        list(audio_stream.read_file(path, 16000))
    soundfile.write(fake_ffmpeg / "sound.wav", _tone(), 16000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(path), _tone(), atol=1e-6)
    assert f"-i file:{path}" in (fake_ffmpeg / "asked").read_text()
    np.testing.assert_array_equal(np.concatenate(list(audio_stream.read_file(path, 16000))), audio.read(path))
    with path.open("rb") as pipe:
        np.testing.assert_array_equal(np.concatenate(list(audio_stream.read_pipe(pipe, 16000))), audio.read(path))
    soundfile.write(tmp_path / "cut.flac", _tone(), 16000)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:3000])
    with pytest.raises(audio.AudioError, match=r"cut\.flac: unreadable"):  # what soundfile knows is not tried again
        audio.read(tmp_path / "cut.flac")


def test_without_ffmpeg_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(200))
    for read in (lambda path: audio.read(path), lambda path: list(audio_stream.read_file(path, 16000))):
        with pytest.raises(audio.AudioError, match=r"a\.m4a: unreadable: .*Install ffmpeg, or convert the file to WAV"):
            read(tmp_path / "a.m4a")
