# SPDX-License-Identifier: Apache-2.0
"""Sound files to float clips at one sample rate, and what can be wrong with them.

Files are decoded and resampled by tensorflow-io where its native ops load, and by soundfile
with ``scipy.signal.resample_poly`` where they do not (other TensorFlow versions, other
platforms) or where tensorflow-io does not read the whole file. soundfile reads MP3 and Opus where its
libsndfile does (1.1 or newer); what it does not know is left to ffmpeg, where that is installed.
"""

from __future__ import annotations

import atexit
import functools
import io
import math
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np

from tfmot_kws.sound import decode, ffmpeg, wav
from tfmot_kws.sound.problems import PROBLEMS, AudioError, Problem

__all__ = [
    "DECODERS",
    "EXTENSIONS",
    "PROBLEMS",
    "AudioError",
    "Problem",
    "clipped_share",
    "read",
    "resample",
    "tensorflow_io_works",
    "write",
]

_BLOCK_SECONDS = 10.0
DECODERS = ("auto", "tensorflow-io", "soundfile")
EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64",
    *ffmpeg.EXTENSIONS,
)  # fmt: skip
"""Of files that are taken for sound. What a file holds decides how it is read, not its name."""
_NATIVE_TYPES = {
    ("WAV", "PCM_U8"): "uint8",
    ("WAV", "PCM_16"): "int16",
    ("WAV", "PCM_24"): "int32",
    ("WAV", "FLOAT"): "float32",
    ("FLAC", "PCM_16"): "int16",
    ("FLAC", "PCM_24"): "int32",
}


@functools.cache
def tensorflow_io_works() -> bool:
    """Whether tensorflow-io's native decoding and resampling can be called here.

    It has no wheels for some machines (ImportError), its ops raise NotImplementedError or AttributeError where its
    library was built for another TensorFlow, and RuntimeError where that library cannot be loaded. ``"auto"`` then
    takes soundfile; ``"tensorflow-io"`` raises.
    """
    try:
        with warnings.catch_warnings():  # of native libraries that it cannot load: soundfile reads instead
            warnings.simplefilter("ignore")
            import tensorflow_io as tfio

            tfio.audio.resample(np.zeros(16, np.float32), 8000, 16000)
    except (ImportError, NotImplementedError, AttributeError, RuntimeError):
        return False
    return True


@functools.cache
def _resample_graph():
    """tensorflow-io's resampling, traced once: called directly it traces anew for every length."""
    import tensorflow as tf
    import tensorflow_io as tfio

    atexit.register(_resample_graph.cache_clear)  # a graph must not outlive TensorFlow
    rate = tf.TensorSpec([], tf.int64)
    return tf.function(tfio.audio.resample, input_signature=[tf.TensorSpec([None]), rate, rate])


def read(
    path: str | os.PathLike,
    sample_rate: int = 16000,
    *,
    decoder: str = "auto",
    min_seconds: float = 0.0,
) -> np.ndarray:
    """Reads a sound file, mixed to mono, at ``sample_rate``.

    Args:
        path: the file.
        sample_rate: samples per second of the result.
        decoder: ``"tensorflow-io"`` (but files that it does not read whole are left to soundfile), ``"soundfile"`` or
            ``"auto"`` (the first that works).
        min_seconds: shorter files raise.

    Returns:
        float32 [samples] in [-1, 1].

    Raises:
        AudioError: the file cannot be read, holds no sound or is shorter than ``min_seconds``.
        ValueError: an unknown decoder, or a sample rate that is not positive.
        ImportError: ``"tensorflow-io"`` where it does not load.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder={decoder!r}: must be one of {DECODERS}")
    if decoder == "tensorflow-io" and not tensorflow_io_works():
        raise ImportError("decoder='tensorflow-io': it does not load beside this TensorFlow; use 'auto' or 'soundfile'")
    if sample_rate <= 0:
        raise ValueError(f"sample_rate={sample_rate!r}: must be positive")
    native = decoder == "tensorflow-io" or (decoder == "auto" and tensorflow_io_works())
    audio = _read_tensorflow_io(path, sample_rate) if native else None
    if audio is None:
        audio = _read_soundfile(path, sample_rate)
    if not np.isfinite(audio).all():
        raise AudioError(path, "unreadable", "it holds values that are not finite")
    if len(audio) == 0 or not audio.any():
        detail = f"{len(audio)} samples, all of them zero" if len(audio) else "0 samples"
        raise AudioError(path, "empty", detail)
    seconds = len(audio) / sample_rate
    if seconds < min_seconds:
        raise AudioError(path, "too short", f"{seconds:.3f} s, at least {min_seconds:g} s wanted")
    return audio


def _read_soundfile(path: str | os.PathLike, sample_rate: int) -> np.ndarray:
    parts, found = [], sample_rate
    for rate, block in decode.blocks(path, _BLOCK_SECONDS):
        found = rate
        real = block / np.float32(32768) if block.dtype == np.int16 else decode.in_range(block, path)
        parts.append(real.mean(axis=1, dtype=np.float32))
    return resample(np.concatenate(parts or [np.zeros(0, np.float32)]), found, sample_rate, "soundfile")


def _is_honest(path: str | os.PathLike, content: bytes, frames: int) -> bool:
    """Whether a file has the samples that its header promises: tensorflow-io ends the process where it has not."""
    import soundfile

    if content[:4] in wav.HEADS:
        form = wav.read_header(io.BytesIO(content))
        return form.size is not None and form.size // form.frame_bytes == frames
    with soundfile.SoundFile(os.fspath(path)) as file:
        return frames == 0 or (file.seek(frames - 1) == frames - 1 and len(file.read(1)) == 1)


def _read_tensorflow_io(path: str | os.PathLike, sample_rate: int) -> np.ndarray | None:
    """None where tensorflow-io cannot read the file, so that soundfile may try.

    Its stateless decoders are used: ``AudioIOTensor`` aborts the process when several threads
    open files of different types. They do not tell the rate, so the header is read first.
    """
    import soundfile
    import tensorflow as tf
    import tensorflow_io as tfio

    try:
        header = soundfile.info(os.fspath(path))
        encoding = (header.format.removesuffix("EX"), header.subtype)
        content = Path(path).read_bytes()
        if not _is_honest(path, content, header.frames):
            return None
        if encoding == ("OGG", "VORBIS"):
            samples = tfio.audio.decode_vorbis(content).numpy()
        elif encoding in _NATIVE_TYPES:
            decoder = tfio.audio.decode_wav if encoding[0] == "WAV" else tfio.audio.decode_flac
            samples = decoder(content, dtype=tf.as_dtype(_NATIVE_TYPES[encoding])).numpy()
        else:
            return None
    except (tf.errors.OpError, OSError, RuntimeError, TypeError, ValueError):
        return None
    if len(samples) != header.frames or samples.shape[1:] != (header.channels,):
        return None  # it stops at a chunk of odd length, for one
    if samples.size == 0:
        return None  # a recorder that was killed leaves a length of 0 in front of its samples
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128.0) / 128.0
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    mono = decode.in_range(samples, path).mean(axis=1, dtype=np.float32)
    return resample(mono, header.samplerate, sample_rate, "tensorflow-io")


def resample(audio: np.ndarray, from_rate: int, to_rate: int, decoder: str = "auto") -> np.ndarray:
    """Changes the sample rate.

    Args:
        audio: float32 [samples].
        from_rate: its samples per second.
        to_rate: samples per second wanted.
        decoder: as in ``read``.

    Returns:
        float32 [samples * to_rate / from_rate, rounded up]; the same array if the rates are equal.
    """
    if from_rate == to_rate or len(audio) == 0:
        return audio
    if decoder == "tensorflow-io" or (decoder == "auto" and tensorflow_io_works()):
        # Its filter (speexdsp) of 64 periods of the lower rate, rounded to a multiple of 8 input
        # samples, answers late by half its length: put that many samples behind the clip and
        # leave as many out in front.
        length = max(64, 64 * from_rate // to_rate)
        delay = -(-length // 8) * 4
        padded = np.concatenate([audio, np.zeros(delay + 8, audio.dtype)]).astype(np.float32)
        late = round(delay * to_rate / from_rate)
        out = _resample_graph()(padded, from_rate, to_rate).numpy()
        return out[late : late + -(-len(audio) * to_rate // from_rate)]
    from scipy import signal

    common = math.gcd(from_rate, to_rate)
    return signal.resample_poly(audio, to_rate // common, from_rate // common).astype(np.float32)


def clipped_share(audio: np.ndarray, level: float = 0.9995) -> float:
    """The share of samples, 0..1, that sit at full scale next to one that does too.

    A single sample at full scale is a peak; a run of them is clipping.
    """
    full = np.abs(audio) >= level
    return float((full[1:] & full[:-1]).mean()) if len(audio) > 1 else 0.0


def write(path: str | os.PathLike, audio: np.ndarray, sample_rate: int = 16000) -> None:
    """Writes 16-bit mono sound; the extension picks the format. No partial file is ever seen.

    Args:
        path: ``.wav`` or ``.flac``.
        audio: float [samples] in [-1, 1] (clipped there) or int16.
        sample_rate: samples per second.

    Raises:
        ValueError: another extension.
    """
    import soundfile

    path = Path(path)
    kinds = {".wav": "WAV", ".flac": "FLAC"}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"{path}: cannot write {path.suffix!r}; use one of {tuple(kinds)}")
    if audio.dtype != np.int16:
        audio = np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    os.close(handle)
    try:
        kind = kinds[path.suffix.lower()]
        soundfile.write(temporary, audio, sample_rate, format=kind, subtype="PCM_16")
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
