# SPDX-License-Identifier: Apache-2.0
"""Sound as it comes: a file, a pipe or a microphone in blocks, as mono at the rate that a front end wants.

Stereo is mixed, other rates are changed by soxr's streaming resampler. Imports no TensorFlow.
"""

from __future__ import annotations

import os
import queue
import wave
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from tfmot_kws.sound.files import AudioError

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
    """Blocks of a WAV, FLAC or OGG file, float32 [samples].

    Raises:
        AudioError: the file cannot be read; what was read before has been given.
    """
    import soundfile

    path = os.fspath(path)
    try:
        with soundfile.SoundFile(path) as file:
            mono = Mono(file.samplerate, to_rate)
            for block in file.blocks(max(1, round(block_seconds * file.samplerate)), dtype="float32", always_2d=True):
                yield mono.step(block)
            yield mono.step(np.zeros(0, np.float32), last=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(path, "unreadable", str(error)) from error


def read_pipe(pipe: BinaryIO, to_rate: int, block_seconds: float = BLOCK_SECONDS) -> Iterator[np.ndarray]:
    """Blocks of what a pipe brings: a WAV stream of 16 bits, or without a header 16-bit mono samples at 16 kHz.

    A sample that is cut off at the end is dropped.

    Raises:
        AudioError: a WAV header that is damaged or of another width.
    """
    ahead = _Ahead(pipe)
    rate, channels = _RAW_RATE, 1
    if ahead.peek(4) == b"RIFF":
        try:
            header = wave.open(ahead)
        except (wave.Error, EOFError) as error:
            raise AudioError(
                "-", "unreadable", f"no WAV stream of 16-bit samples: {error or 'the header is cut off'}"
            ) from error
        if header.getsampwidth() != 2:
            raise AudioError(
                "-", "unreadable", f"a pipe must bring 16-bit samples, found {8 * header.getsampwidth()} bits"
            )
        rate, channels = header.getframerate(), header.getnchannels()
    mono = Mono(rate, to_rate)
    size = 2 * channels * max(1, round(block_seconds * rate))
    rest = b""
    while data := ahead.read(size - len(rest)):
        data = rest + data
        whole = len(data) // (2 * channels) * 2 * channels
        rest = data[whole:]
        yield mono.step(np.frombuffer(data[:whole], "<i2").reshape(-1, channels))
    yield mono.step(np.zeros(0, np.float32), last=True)


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
            f"a microphone needs the package sounddevice and PortAudio: pip install tfmot-kws[microphone] ({error})"
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
    """A pipe whose first bytes can be looked at; it cannot go back otherwise."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe, self._kept = pipe, b""

    def peek(self, count: int) -> bytes:
        while len(self._kept) < count and (more := self._pipe.read(count - len(self._kept))):
            self._kept += more
        return self._kept

    def read(self, count: int) -> bytes:
        kept, self._kept = self._kept[:count], self._kept[count:]
        return kept + (self._pipe.read(count - len(kept)) if len(kept) < count else b"")

    def close(self) -> None:
        """The caller's to close."""
