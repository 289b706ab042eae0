# SPDX-License-Identifier: Apache-2.0
"""Sound files as blocks of samples, by the first of soundfile, our WAV reader and ffmpeg that reads them.

What a header says of the length is never believed: recorders that were killed and encoders that write to a pipe leave 0
there, or the largest number. Imports no TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from tfmot_kws.sound import ffmpeg, sniff, wav
from tfmot_kws.sound.problems import AudioError

_UNRECOGNISED = 1
_LOUDEST = 256.0
"""Floats this far beyond 1 are no loud sound but whole numbers that nobody scaled."""


def blocks(path: str | os.PathLike, seconds: float) -> Iterator[tuple[int, np.ndarray]]:
    """The rate and the samples of a file, block by block; none where it holds no sample.

    Args:
        path: the file.
        seconds: length of a block.

    Returns:
        Samples per second, and [frames, channels]: float32, or int16 that is to be divided by 32768.

    Raises:
        AudioError: the file cannot be read; what was read before has been given.
    """
    import soundfile

    path, begun, failed = os.fspath(path), False, None
    try:
        with soundfile.SoundFile(path) as file:
            # soundfile seeks to where it is after every read of what can seek, and a decoder of MP3 then starts anew:
            # a frame needs bits of those before it.
            file.seekable = lambda: False
            size = max(1, round(seconds * file.samplerate))
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                begun = True
                yield file.samplerate, block
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError) as error:
        failed = error
    if begun and failed is None:
        return
    if begun:
        raise AudioError(path, "unreadable", str(failed)) from failed
    yield from _without_soundfile(path, seconds, failed)


def _without_soundfile(path: str, seconds: float, failed: Exception | None) -> Iterator[tuple[int, np.ndarray]]:
    """What soundfile finds no sample in, or does not read."""
    try:
        with open(path, "rb") as file:
            head = file.read(sniff.BYTES)
            file.seek(0)
            if head[:4] in wav.HEADS:
                try:
                    form = wav.read_header(file)
                except wav.UnknownEncoding:
                    form = None
                if form is not None:
                    yield from ((form.rate, block) for block in wav.blocks(file, form, seconds))
                    return
    except wav.WavError as error:
        raise AudioError(path, "unreadable", f"WAV file: {error}") from error
    except OSError as error:
        raise AudioError(path, "unreadable", str(error)) from error
    if failed is None:
        return
    kind = sniff.kind(head) if head else "nothing"
    if kind not in ("wav", "sound", "raw"):
        raise AudioError(path, "unreadable", f"it holds {kind}, which is no sound") from failed
    if not is_unknown(failed):
        raise AudioError(path, "unreadable", str(failed)) from failed
    with ffmpeg.wav_of(path, str(failed)) as pipe:
        form = wav.read_header(pipe)
        yield from ((form.rate, block) for block in wav.blocks(pipe, form, seconds))


def is_unknown(error: Exception) -> bool:
    """Whether soundfile raised this of a format that it does not know, so that ffmpeg may try."""
    import soundfile

    return isinstance(error, soundfile.LibsndfileError) and error.code == _UNRECOGNISED


def in_range(samples: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    """Floats as they are, but those a little beyond [-1, 1] at its ends.

    Raises:
        AudioError: some are not finite, or so large that they were never in that range.
    """
    if samples.dtype == np.int16 or samples.size == 0:
        return samples
    if not np.isfinite(samples).all():
        raise AudioError(path, "unreadable", "it holds values that are not finite")
    peak = float(np.abs(samples).max())
    if peak > _LOUDEST:
        raise AudioError(
            path, "unreadable", f"its floats reach {peak:g}, expected are -1 to 1: divide them by their full scale"
        )
    return np.clip(samples, -1.0, 1.0) if peak > 1.0 else samples
