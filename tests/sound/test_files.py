# SPDX-License-Identifier: Apache-2.0
"""Decoding, resampling and writing, by both decoders, and files that are broken."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tfmot_kws.sound import files as audio

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
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
