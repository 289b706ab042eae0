# SPDX-License-Identifier: Apache-2.0
"""What a pipe may bring: every WAV header that tools write, other formats, samples without a header, and no sound."""

from __future__ import annotations

import gzip
import io
import struct

import numpy as np
import pytest
import soundfile

from tfmot_kws.sound import sniff, wav
from tfmot_kws.sound import stream as audio_stream
from tfmot_kws.sound.problems import AudioError

RATE = 16000
SAMPLES = (np.sin(np.arange(RATE // 2) / 6) * 9000).astype("<i2")
DATA = SAMPLES.tobytes()
GUID = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, content: bytes, size: int | None = None, order: str = "<") -> bytes:
    return (
        name + struct.pack(f"{order}I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)
    )


def fmt(
    tag: int = 1, channels: int = 1, bits: int = 16, width: int | None = None, order: str = "<", rate=RATE
) -> bytes:
    frame = channels * (width or bits // 8)
    return chunk(b"fmt ", struct.pack(f"{order}HHIIHH", tag, channels, rate, rate * frame, frame, bits), order=order)


def extensible(bits: int, tag: int = 1, tail: bytes = GUID) -> bytes:
    frame = bits // 8
    head = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE, RATE * frame, frame, bits, 22, bits, 4, tag)
    return chunk(b"fmt ", head + tail)


def riff(*chunks: bytes, size: int | None = None, head: bytes = b"RIFF", order: str = "<") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return head + struct.pack(f"{order}I", len(body) if size is None else size) + body


def written(kind: str, subtype: str | None = None, **options) -> bytes:
    target = io.BytesIO()
    samples = SAMPLES / 32768 if subtype in ("FLOAT", "DOUBLE") else SAMPLES
    soundfile.write(target, samples, RATE, format=kind, subtype=subtype, **options)
    return target.getvalue()


def heard(content: bytes, rate: int = RATE) -> np.ndarray:
    return np.concatenate(list(audio_stream.read_pipe(io.BytesIO(content), rate)))


LIST = chunk(b"LIST", b"INFOISFT\x04\0\0\0abc\0")
EXACT = {
    "plain": riff(fmt(), chunk(b"data", DATA)),
    "a chunk behind the samples": riff(fmt(), chunk(b"data", DATA), LIST),
    "a chunk of odd length behind fmt": riff(fmt(), chunk(b"LIST", b"INFOISFT\5\0\0\0Lavf\0"), chunk(b"data", DATA)),
    "a chunk of odd length ahead of fmt": riff(chunk(b"JUNK", b"\0" * 27), fmt(), chunk(b"data", DATA)),
    "extensible": riff(extensible(16), chunk(b"data", DATA)),
    "length 0": riff(fmt(), chunk(b"data", DATA, 0), size=0),
    "length 0 and the header's": riff(fmt(), chunk(b"data", DATA, 0), size=36),
    "length 2**31": riff(fmt(), chunk(b"data", DATA, 0x7FFFFFFF - 36), size=0x7FFFFFFF),
    "length 2**32": riff(LIST, fmt(), chunk(b"data", DATA, 0xFFFFFFFF), size=0xFFFFFFFF),
    "RF64": riff(
        chunk(b"ds64", struct.pack("<QQQI", len(DATA) + 72, len(DATA), len(SAMPLES), 0)),
        fmt(), chunk(b"data", DATA, 0xFFFFFFFF), LIST, size=0xFFFFFFFF, head=b"RF64",
    ),
    "big-endian": riff(
        fmt(order=">"), chunk(b"data", SAMPLES.astype(">i2").tobytes(), order=">"), head=b"RIFX", order=">"
    ),
    "24 bits": written("WAV", "PCM_24"),
    "32 bits": written("WAV", "PCM_32"),
    "floats": written("WAV", "FLOAT"),
    "doubles": written("WAV", "DOUBLE"),
    "extensible 24 bits": riff(extensible(24), chunk(b"data", written("WAV", "PCM_24")[-3 * len(SAMPLES) :])),
    "20 bits in 24": riff(fmt(bits=20, width=3), chunk(b"data", written("WAV", "PCM_24")[-3 * len(SAMPLES) :])),
    "big-endian 24 bits": written("WAV", "PCM_24", endian="BIG"),
    "FLAC": written("FLAC"),
    "AIFF": written("AIFF"),
    "AU": written("AU"),
    "CAF": written("CAF"),
    "W64": written("W64"),
    "NIST": written("NIST"),
    "VOC": written("VOC"),
    "IRCAM": written("IRCAM"),
    "8SVX": written("SVX", "PCM_16"),
    "PAF": written("PAF"),
    "AVR": written("AVR"),
    "PVF": written("PVF"),
    "samples": DATA,
    "samples and a half": DATA + b"\7",
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_every_sample_and_nothing_else(name) -> None:
    np.testing.assert_array_equal(heard(EXACT[name]), SAMPLES.astype(np.float32) / 32768)


@pytest.mark.parametrize(
    ("kind", "subtype", "most"),
    [
        ("WAV", "PCM_U8", 0.01),
        ("WAV", "ULAW", 0.02),
        ("WAV", "MS_ADPCM", 0.05),
        ("OGG", "VORBIS", 0.02),
        ("OGG", "OPUS", 0.2),
    ],
)
def test_formats_that_lose_something(kind, subtype, most) -> None:
    found = heard(written(kind, subtype))
    assert abs(len(found) - len(SAMPLES)) <= 128
    difference = np.abs(found[200:7000] - SAMPLES[200:7000].astype(np.float32) / 32768)
    assert np.median(difference) < most


@pytest.mark.parametrize("tagged", [False, True])
def test_mp3(tagged) -> None:
    head = b"ID3\3\0\0\0\0\0\12" + b"\0" * 10 if tagged else b""
    found = heard(head + written("MP3"))
    assert len(SAMPLES) <= len(found) < len(SAMPLES) + 3000 and 0.2 < np.abs(found).max() < 0.4


def test_an_empty_wav_is_empty_and_its_last_chunk_is_no_sound() -> None:
    assert len(heard(riff(fmt(), chunk(b"data", b""), LIST))) == 0
    assert len(heard(riff(fmt(), chunk(b"data", b"")))) == 0


NO_SOUND = {
    "a page": (b"<html><body>404</body></html>\n" * 99, "text"),
    "a short text": (b"no sound", "text"),
    "German": ("Fehler: nicht gefunden. Ger\u00e4t fehlt.\n" * 300).encode(),
    "Latin-1": ("Fehler: nicht gefunden. Ger\u00e4t fehlt.\n" * 300).encode("latin-1"),
    "UTF-16": ("hello there\n" * 30).encode("utf-16"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG picture"),
    "gzip": (gzip.compress(DATA), "gzip data"),
    "a model": (b"\x1c\0\0\0TFL3" + bytes(99), "a .tflite file"),
    "tar": (b"a.txt" + bytes(252) + b"ustar\x0000" + bytes(99), "a tar archive"),
    "TIFF": (b"II*\0" + bytes(99), "a TIFF picture"),
    "a pickle": (b"\x80\4\x95" + bytes(99), "a pickle"),
    "ZIP": (b"PK\3\4" + bytes(99), "a ZIP archive"),
    "MP3 that is none": (b"ID3\3\0\0\0\0\0\0" + b"\xff\xfb\x90\0" * 999, "the pipe"),
    "FLAC cut off": (written("FLAC")[:30], "the pipe"),
    "RIFF of another kind": (b"RIFF\4\0\0\0AVI LIST" + bytes(99), "begins like a WAV stream"),
    "a header cut off": (EXACT["plain"][:30], "the header is cut off"),
    "no fmt": (riff(chunk(b"data", DATA)), "no chunk 'fmt '"),
    "a short fmt": (riff(chunk(b"fmt ", bytes(4)), chunk(b"data", DATA)), "chunk 'fmt ' has 4 bytes"),
    "no channels": (riff(fmt(channels=0), chunk(b"data", DATA)), "0 channels at 16000"),
    "no rate": (riff(fmt(rate=0), chunk(b"data", DATA)), "1 channels at 0"),
    "frames that do not fit": (riff(fmt(bits=16, width=5), chunk(b"data", DATA)), "do not go together"),
    "a chunk without end": (riff(chunk(b"JUNK", b"", 1 << 30)), "says 1073741824 bytes"),
    "nan": (riff(fmt(3, 1, 32), chunk(b"data", np.full(99, np.nan, "<f4").tobytes())), "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_SOUND)
def test_what_is_no_sound_is_refused_by_name(name) -> None:
    case = NO_SOUND[name]
    content, wanted = case if isinstance(case, tuple) else (case, "text")
    with pytest.raises(AudioError, match="^-: unreadable: ") as caught:
        heard(content)
    assert wanted in str(caught.value) and "tmp" not in str(caught.value)


@pytest.mark.parametrize("loudness", [0, 1, 3, 50, 3000, 40000])
def test_samples_are_never_taken_for_something_else(loudness, rng) -> None:
    for _ in range(20):
        noise = np.clip(rng.normal(0, loudness, 4096), -32768, 32767).astype("<i2")
        assert sniff.kind(noise.tobytes()) == "raw"
    assert sniff.kind(np.full(4096, -1025, "<i2").tobytes()) == "raw"  # the bytes of an MP3 header, over and over


def test_a_live_stream_is_heard_before_it_ends() -> None:
    """The generator gives blocks although the pipe would block: it reads no further than it has to."""

    class Live(io.RawIOBase):
        sent = 0

        def read(self, count=-1):
            self.sent += count
            assert count > 0, "asked for all of a stream without end"
            return bytes(range(256)) * (count // 256 + 1) if self.sent < 10**6 else b""

    live = Live()
    next(audio_stream.read_pipe(live, RATE))
    assert live.sent <= sniff.BYTES + 4096


def test_header_of_a_stream() -> None:
    header = wav.read_header(io.BytesIO(EXACT["RF64"]))
    assert header == wav.Format(RATE, 1, 2, size=len(DATA))
    with pytest.raises(wav.UnknownEncoding, match="format 0x0055"):
        wav.read_header(io.BytesIO(riff(fmt(0x55), chunk(b"data", DATA))))
