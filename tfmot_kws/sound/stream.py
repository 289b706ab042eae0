# SPDX-License-Identifier: Apache-2.0
"""Sound as it comes: a file, a pipe or a microphone in blocks, as mono at the rate that a front end wants.

Stereo is mixed, other rates are changed by soxr's streaming resampler. Imports no TensorFlow.
"""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from tfmot_kws import extras
from tfmot_kws.sound import decode, sniff, wav
from tfmot_kws.sound.problems import AudioError

BLOCK_SECONDS = 0.1
_RAW_RATE = 16000


class Mono:
    """Mixes channels and changes the rate, block by block.

    Args:
        rate: samples per second that come in, above 0.
        to_rate: samples per second that go out.

    Raises:
        ValueError: a rate that is not above 0.
    """

    def __init__(self, rate: int, to_rate: int) -> None:
        if rate < 1 or to_rate < 1:
            raise ValueError(f"sample rates must be above 0, found {rate} and {to_rate}")
        self._resampler = None
        if rate != to_rate:
            import soxr

            self._resampler = soxr.ResampleStream(rate, to_rate, 1, dtype="float32")

    def step(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """[samples] or [samples, channels], float in [-1, 1) or int16 -> float32 [samples] at the new rate.

        ``last`` gives what the resampler still holds.
        """
        block = np.asarray(block)
        real = block.astype(np.float32) / 32768.0 if block.dtype == np.int16 else block.astype(np.float32)
        mono = real.mean(axis=1, dtype=np.float32) if real.ndim == 2 else real
        if self._resampler is None:
            return mono
        return np.clip(self._resampler.resample_chunk(mono, last), -1.0, 1.0)


def read_file(path: str | os.PathLike, to_rate: int, block_seconds: float = BLOCK_SECONDS) -> Iterator[np.ndarray]:
    """Blocks of a sound file, float32 [samples]: WAV, FLAC, OGG, MP3 and what else soundfile or ffmpeg read.

    Raises:
        AudioError: the file cannot be read; what was read before has been given.
    """
    yield from _mono(decode.blocks(path, block_seconds), os.fspath(path), to_rate)


def read_pipe(pipe: BinaryIO, to_rate: int, block_seconds: float = BLOCK_SECONDS) -> Iterator[np.ndarray]:
    """Blocks of what a pipe brings, float32 [samples].

    WAV (also of unknown length, big-endian or extensible; 8 to 32 bits, floats), and what nothing says the format of:
    16-bit mono samples at 16 kHz. These are given as they come. FLAC, OGG, MP3, AIFF and what else ``read_file`` reads
    are given once the pipe has ended. A sample that is cut off at the end is dropped.

    Raises:
        AudioError: what comes is no sound (text, a picture, an archive), or a header is damaged; the message says what
            was found.
    """
    ahead = _Ahead(pipe)
    kind = sniff.kind(ahead.peek(sniff.BYTES))
    if kind == "raw":
        yield from _read_samples(ahead, wav.Format(_RAW_RATE, 1, 2), "-", to_rate, block_seconds)
    elif kind == "wav":
        yield from _read_wav(ahead, "-", to_rate, block_seconds)
    elif kind == "sound":
        yield from _read_rest(ahead, to_rate, block_seconds)
    else:
        raise AudioError("-", "unreadable", f"the pipe brings {kind}, which is no sound")


def _read_wav(ahead: _Ahead, name: str, to_rate: int, block_seconds: float) -> Iterator[np.ndarray]:
    ahead.keep = True
    try:
        header = wav.read_header(ahead)
    except wav.UnknownEncoding:
        ahead.back()
        yield from _read_rest(ahead, to_rate, block_seconds)
        return
    except wav.WavError as error:
        raise AudioError(name, "unreadable", f"WAV stream: {error}") from error
    ahead.keep = False
    yield from _read_samples(ahead, header, name, to_rate, block_seconds)


def _read_samples(
    ahead: _Ahead, form: wav.Format, name: str, to_rate: int, block_seconds: float
) -> Iterator[np.ndarray]:
    yield from _mono(((form.rate, block) for block in wav.blocks(ahead, form, block_seconds)), name, to_rate)


def _mono(blocks: Iterator[tuple[int, np.ndarray]], name: str, to_rate: int) -> Iterator[np.ndarray]:
    """Blocks of (rate, samples) at the new rate."""
    mono = None
    for rate, block in blocks:
        mono = mono or Mono(rate, to_rate)
        yield mono.step(decode.in_range(block, name))
    yield np.zeros(0, np.float32) if mono is None else mono.step(np.zeros(0, np.float32), last=True)


def _read_rest(ahead: _Ahead, to_rate: int, block_seconds: float) -> Iterator[np.ndarray]:
    """Blocks of a format whose decoders have to seek: all of it is put into a file first."""
    with tempfile.NamedTemporaryFile(prefix="tfmot-kws-pipe-") as copy:
        shutil.copyfileobj(ahead, copy)
        copy.flush()
        try:
            yield from read_file(copy.name, to_rate, block_seconds)
        except AudioError as error:
            raise AudioError("-", error.problem, error.detail.replace(copy.name, "the pipe")) from error


def read_microphone(to_rate: int, block_seconds: float = BLOCK_SECONDS) -> Iterator[np.ndarray]:
    """Blocks of the default input device, without end.

    Raises:
        ImportError: the optional package is missing; the message names it.
        AudioError: there is no device that can be opened.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: its library PortAudio is missing
        raise ImportError(
            f"a microphone needs the package sounddevice: {extras.install('sounddevice')}"
            if isinstance(error, ModuleNotFoundError)
            else f"sounddevice needs the library PortAudio (libportaudio2 in Debian, portaudio in Homebrew): {error}"
        ) from error
    blocks: queue.Queue[np.ndarray] = queue.Queue()
    try:
        rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
        stream = sounddevice.InputStream(
            samplerate=rate,
            channels=1,
            dtype="int16",
            blocksize=round(block_seconds * rate),
            callback=lambda data, *_: blocks.put(data.copy()),
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError("microphone", "unreadable", str(error)) from error
    mono = Mono(rate, to_rate)
    with stream:
        while True:
            yield mono.step(blocks.get())


class _Ahead:
    """A pipe whose first bytes can be looked at; it cannot go back otherwise.

    Attributes:
        keep: whether what is read is kept, so that ``back`` can put it in front again.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe, self._next, self._read, self.keep = pipe, b"", b"", False

    def peek(self, count: int) -> bytes:
        """The next bytes: at least ``count``, or all that are left."""
        while len(self._next) < count and (more := self._pipe.read(count - len(self._next))):
            self._next += more
        return self._next

    def read(self, count: int = -1) -> bytes:
        """As of a pipe."""
        data = self._next if count < 0 else self._next[:count]
        self._next = self._next[len(data) :]
        if count < 0:
            data += self._pipe.read()
        elif not data:
            data = self._pipe.read(count)
        self._read = self._read + data if self.keep else b""
        return data

    def back(self) -> None:
        """Puts what was kept in front again."""
        self._next, self._read, self.keep = self._read + self._next, b"", False
