# SPDX-License-Identifier: Apache-2.0
"""WAV as it comes through a pipe: the header chunk by chunk, then samples, with no way back.

Files are read by soundfile; a pipe cannot seek, and tools that write to one do not know how long the sound will be.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

HEADS = (b"RIFF", b"RIFX", b"RF64")
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""Of all sub-formats that have a format tag: the tag stands in front of it."""
_LONGEST = 0x7FFF0000
"""Tools that do not know the length yet say 2**31 or 2**32 bytes, less their header."""
_CHUNKS = (
    b"data", b"fmt ", b"LIST", b"fact", b"bext", b"JUNK", b"junk", b"PEAK", b"cue ", b"smpl", b"id3 ", b"ID3 ", b"iXML",
    b"ds64", b"PAD ",
)  # fmt: skip
"""Names by which the start of a chunk is known where a writer has left out a byte."""
_MOST_SKIPPED = 1 << 26
"""No chunk ahead of the samples is that long; a damaged header would make a reader skip all there is."""


class WavError(ValueError):
    """A header that is damaged."""


class UnknownEncoding(WavError):
    """Samples that are neither whole numbers nor floats: compressed ones, say."""


@dataclasses.dataclass(frozen=True)
class Format:
    """How the samples of a WAV stream lie.

    Attributes:
        rate: frames per second, above 0.
        channels: samples in a frame, above 0.
        width: bytes of a sample: 1 to 4 of whole numbers, 4 or 8 of floats.
        floats: whether samples are floats.
        big_endian: whether their first byte is the highest (RIFX).
        size: bytes of all samples; None where the stream does not say.
    """

    rate: int
    channels: int
    width: int
    floats: bool = False
    big_endian: bool = False
    size: int | None = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return self.width * self.channels

    def samples(self, data: bytes) -> np.ndarray:
        """[frames, channels] of whole frames: int16 of two bytes, else float32, whole numbers scaled to [-1, 1)."""
        order = ">" if self.big_endian else "<"
        if self.floats:
            found = np.frombuffer(data, f"{order}f{self.width}").astype(np.float32)
        elif self.width == 1:  # the only width without a sign
            found = (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
        elif self.width == 2:
            found = np.frombuffer(data, f"{order}i2").astype(np.int16)
        else:
            found = _whole(data, self.width, self.big_endian).astype(np.float32) / np.float32(2**31)
        return found.reshape(-1, self.channels)


def _whole(data: bytes, width: int, big_endian: bool) -> np.ndarray:
    """int32 of samples of three or four bytes, in the upper bytes."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, width)
    if big_endian:
        raw = raw[:, ::-1]
    padded = np.zeros((len(raw), 4), np.uint8)
    padded[:, 4 - width :] = raw
    return padded.view("<i4")[:, 0]


def read_header(pipe: BinaryIO) -> Format:
    """Reads up to the first sample.

    Args:
        pipe: at the start of a stream that begins with one of ``HEADS``.

    Raises:
        WavError: the header is damaged or cut off.
        UnknownEncoding: it is not, but the samples are of a kind that is not read here.
    """
    head, size = _exactly(pipe, 4), _exactly(pipe, 4)
    order = ">" if head == b"RIFX" else "<"
    whole = struct.unpack(f"{order}I", size)[0]
    if _exactly(pipe, 4) != b"WAVE":
        raise WavError("it begins like a WAV stream, but is none")
    used, found, long_size, behind = 4, None, None, b""
    while True:
        name, pad = _exactly(pipe, 4), b""
        if behind.strip(b"\0") and name not in _CHUNKS and (behind + name[:3]) in _CHUNKS:
            name, pad, used = behind + name[:3], name[3:], used - 1  # the writer has forgotten the byte behind the last
        size = struct.unpack(f"{order}I", pad + _exactly(pipe, 4 - len(pad)))[0]
        used += 8
        if name == b"data":
            break
        if size > _MOST_SKIPPED:
            raise WavError(f"chunk {name!r} ahead of the samples says {size} bytes")
        content = _exactly(pipe, size + size % 2)  # chunks of odd length have a byte behind them
        content, behind = content[:size], content[size:]
        used += size + size % 2
        if name == b"fmt ":
            found = _format(content, order)
        elif name == b"ds64" and size >= 16:
            long_size = struct.unpack("<Q", content[8:16])[0]
    if found is None:
        raise WavError("there are samples, but no chunk 'fmt ' ahead of them says what they are")
    if size == 0xFFFFFFFF and long_size:
        size = long_size
    elif size >= _LONGEST or (size == 0 and not used < whole < _LONGEST):
        size = None  # no chunk can lie behind an empty one if nothing of the whole is left
    return dataclasses.replace(found, size=size)


def blocks(pipe: BinaryIO, form: Format, seconds: float) -> Iterator[np.ndarray]:
    """Blocks of samples of a known format, as they come, up to their length where it is known.

    Args:
        pipe: at the first sample.
        form: how the samples lie.
        seconds: length of a block; a sample that is cut off at the end is dropped.
    """
    frame, left = form.frame_bytes, form.size
    size = frame * max(1, round(seconds * form.rate))
    rest = b""
    while left is None or left > 0:
        data = pipe.read(size - len(rest) if left is None else min(size - len(rest), left))
        if not data:
            break
        left = None if left is None else left - len(data)
        data = rest + data
        whole = len(data) // frame * frame
        rest = data[whole:]
        yield form.samples(data[:whole])


def _format(content: bytes, order: str) -> Format:
    if len(content) < 16:
        raise WavError(f"chunk 'fmt ' has {len(content)} bytes, needed are 16 or more")
    tag, channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", content[:16])
    if tag == _EXTENSIBLE and len(content) >= 40 and content[26:40] == _GUID_TAIL:
        tag = struct.unpack(f"{order}H", content[24:26])[0]
    if not rate or not channels:
        raise WavError(f"{channels} channels at {rate} samples per second")
    if tag not in (_PCM, _FLOAT):
        raise UnknownEncoding(f"format {tag:#06x} with {bits} bits")
    width = block // channels
    widths = (4, 8) if tag == _FLOAT else (1, 2, 3, 4)
    if block != width * channels or width not in widths or not 0 < bits <= 8 * width:
        raise WavError(f"{bits} bits a sample, {channels} channels, {block} bytes a frame: these do not go together")
    return Format(rate, channels, width, tag == _FLOAT, order == ">")


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = pipe.read(count - len(data))
        if not more:
            raise WavError("the header is cut off")
        data += more
    return data
