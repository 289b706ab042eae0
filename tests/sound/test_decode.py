# SPDX-License-Identifier: Apache-2.0
"""Files whose headers lie about their length, files that soundfile does not read, and what is no sound."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile

from tfmot_kws.sound import files
from tfmot_kws.sound import stream as audio_stream
from tfmot_kws.sound.problems import AudioError

SAMPLES = (np.sin(np.arange(4000) / 6) * 9000).astype("<i2")
DATA = SAMPLES.tobytes()


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content


def riff(*chunks: bytes) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks))


FMT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))
LYING = {
    "killed arecord": riff(FMT, chunk(b"data", DATA, 0x80000000)),
    "length 0": b"RIFF\0\0\0\0WAVE" + FMT + chunk(b"data", DATA, 0),
    "too long": riff(FMT, chunk(b"data", DATA, 99999)),
    "a damaged chunk PEAK": riff(FMT, chunk(b"PEAK", bytes(18)), chunk(b"data", DATA)),
    "no byte behind an odd chunk": riff(FMT, chunk(b"LIST", b"abc"), chunk(b"data", DATA)),
}


@pytest.mark.parametrize("decoder", ["soundfile", "auto"])
@pytest.mark.parametrize("name", LYING)
def test_all_samples_of_files_with_wrong_lengths(tmp_path, name, decoder) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(LYING[name])
    wanted = SAMPLES / np.float32(32768)
    np.testing.assert_array_equal(files.read(path, decoder=decoder), wanted)
    np.testing.assert_array_equal(np.concatenate(list(audio_stream.read_file(path, 16000))), wanted)
    with path.open("rb") as pipe:
        np.testing.assert_array_equal(np.concatenate(list(audio_stream.read_pipe(pipe, 16000))), wanted)


@pytest.mark.parametrize("decoder", ["soundfile", "auto"])
@pytest.mark.parametrize("frames", [0, 8000, 2**31, 2**36 - 1])
def test_flac_whose_length_is_not_known_or_wrong(tmp_path, frames, decoder) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, SAMPLES, 16000)
    content = bytearray(path.read_bytes())
    rest = struct.unpack(">Q", content[18:26])[0]
    content[18:26] = struct.pack(">Q", rest >> 36 << 36 | frames)
    path.write_bytes(content)
    np.testing.assert_array_equal(files.read(path, decoder=decoder), SAMPLES / np.float32(32768))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "holds nothing"),
        (b"<html>404</html>" * 9, "holds text, which is no sound"),
        (b"PK\3\4" + bytes(99), "ZIP"),
    ],
)
def test_files_that_are_no_sound_say_what_they_are(tmp_path, content, wanted) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    for read in (files.read, lambda path: list(audio_stream.read_file(path, 16000))):
        with pytest.raises(AudioError, match=wanted):
            read(tmp_path / "a.mp3")


def test_floats_beyond_one(tmp_path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SAMPLES / 9000 * 1.5, 16000, subtype="FLOAT")
    for found in (files.read(path), np.concatenate(list(audio_stream.read_file(path, 16000)))):
        assert np.abs(found).max() == 1.0
    soundfile.write(path, SAMPLES.astype(np.float32), 16000, subtype="FLOAT")
    for read in (files.read, lambda path: list(audio_stream.read_file(path, 16000))):
        with pytest.raises(AudioError, match="its floats reach 8999"):
            read(path)
