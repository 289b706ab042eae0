# SPDX-License-Identifier: Apache-2.0
"""What a codec leaves of a sound: encoded and decoded in memory by libsndfile.

libsndfile takes the delays of its encoders out again, and changes of the sample rate have none, so that sound comes
back where it was (tests/sound/test_codecs.py holds every codec to a millisecond).
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from tfmot_kws.sound import files

__all__ = ["CODECS", "Codec", "codecs_here", "transcode"]


_BLOCK = 1 << 15  # samples


@dataclasses.dataclass(frozen=True)
class Codec:
    """How libsndfile is asked for a codec.

    Attributes:
        container: of the file, as libsndfile names it.
        subtype: the encoding, as libsndfile names it.
        rate: samples per second that are encoded; None takes those of the sound.
        compression: 0 (best) to 1 (smallest), where the codec has a choice; None leaves it to libsndfile.
    """

    container: str
    subtype: str
    rate: int | None = None
    compression: float | None = None


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "ulaw": Codec("WAV", "ULAW"),
        "ulaw-8k": Codec("WAV", "ULAW", 8000),
        "alaw": Codec("WAV", "ALAW"),
        "alaw-8k": Codec("WAV", "ALAW", 8000),
        "ima-adpcm": Codec("WAV", "IMA_ADPCM"),
        "ima-adpcm-8k": Codec("WAV", "IMA_ADPCM", 8000),
        "ms-adpcm": Codec("WAV", "MS_ADPCM"),
        "ms-adpcm-8k": Codec("WAV", "MS_ADPCM", 8000),
        "g721-8k": Codec("WAV", "G721_32", 8000),
        "gsm-8k": Codec("WAV", "GSM610", 8000),
        "vorbis": Codec("OGG", "VORBIS"),
        "vorbis-low": Codec("OGG", "VORBIS", None, 1.0),
        "vorbis-8k": Codec("OGG", "VORBIS", 8000),
        "opus": Codec("OGG", "OPUS"),
        "opus-low": Codec("OGG", "OPUS", None, 1.0),
        "opus-8k": Codec("OGG", "OPUS", 8000, 1.0),
        "mp3": Codec("MP3", "MPEG_LAYER_III"),
        "mp3-low": Codec("MP3", "MPEG_LAYER_III", None, 0.9),
        "mp3-8k": Codec("MP3", "MPEG_LAYER_III", 8000, 0.9),
    }
)
"""Codecs by name. ``-8k`` encodes at 8000 Hz, as telephones do; ``-low`` at few bits a second."""


def codecs_here(sample_rate: int) -> tuple[str, ...]:
    """The names in :data:`CODECS` that the installed libsndfile writes and reads for sound of ``sample_rate`` Hz.

    Codecs at 8000 Hz are left out where the sound has fewer samples a second. Found out by encoding a few samples.
    """
    return tuple(name for name in CODECS if not _trouble(name, sample_rate))


@functools.cache
def _trouble(name: str, sample_rate: int) -> str:
    """Why a codec cannot be used here, or "" where it can."""
    rate = CODECS[name].rate or sample_rate
    if rate > sample_rate:
        return f"it encodes {rate} samples a second, and the sound has {sample_rate}"
    sound = (8000 * np.sin(np.arange(rate // 10) * 0.3)).astype(np.int16)
    try:
        decoded = _there_and_back(sound, rate, CODECS[name])
    except (RuntimeError, TypeError, ValueError, OSError) as error:  # TypeError: soundfile below 0.13, no compression
        return str(error) or type(error).__name__
    return "" if len(decoded) >= len(sound) else f"{len(sound)} samples came back as {len(decoded)}"


def _there_and_back(sound: np.ndarray, rate: int, codec: Codec) -> np.ndarray:
    import soundfile

    choice = {} if codec.compression is None else {"compression_level": codec.compression}
    memory = io.BytesIO()
    with soundfile.SoundFile(memory, "w", rate, 1, codec.subtype, format=codec.container, **choice) as file:
        for first in range(0, len(sound), _BLOCK):  # libsndfile keeps all that it is given at once on the stack
            file.write(sound[first : first + _BLOCK])
    memory.seek(0)
    return soundfile.read(memory, dtype="float32")[0]


def check_codec(name: str, sample_rate: int) -> None:
    """Says why a codec cannot be used for sound of ``sample_rate`` Hz.

    Raises:
        ValueError: the name is none of :data:`CODECS`, or the installed libsndfile does not write it at this rate.
    """
    import soundfile

    if name not in CODECS:
        raise ValueError(f"codec {name!r}: not known; known are {', '.join(CODECS)}")
    trouble = _trouble(name, sample_rate)
    if trouble:
        raise ValueError(
            f"codec {name!r} at {sample_rate} Hz: soundfile {soundfile.__version__} (libsndfile "
            f"{soundfile.__libsndfile_version__}) cannot use it: {trouble}; "
            f"it can use {', '.join(codecs_here(sample_rate))}"
        )


def check_sound(audio: np.ndarray) -> None:
    """What effects and codecs ask of sound.

    Raises:
        ValueError: it is no float [samples], or holds values that are not finite.
    """
    if not isinstance(audio, np.ndarray) or audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        found = f"{audio.dtype} {list(audio.shape)}" if isinstance(audio, np.ndarray) else type(audio).__name__
        raise ValueError(f"audio: expected float [samples] in [-1, 1], got {found}")
    if not np.isfinite(audio).all():
        raise ValueError("audio: it holds values that are not finite")


def transcode(audio: np.ndarray, codec: str, sample_rate: int = 16000) -> np.ndarray:
    """What comes out where ``audio`` was sent through a codec.

    Args:
        audio: float [n], clipped to [-1, 1] and rounded to 16 bits before it is encoded.
        codec: a name in :data:`CODECS`.
        sample_rate: samples per second of ``audio``.

    Returns:
        float32 [n] in [-1, 1], not moved in time. All zeros stay as they are, although some codecs have no code for
        zero.

    Raises:
        ValueError: as ``check_codec`` and ``check_sound``.
    """
    check_sound(audio)
    check_codec(codec, sample_rate)
    n = len(audio)
    if not np.any(audio):
        return np.zeros(n, np.float32)
    rate = CODECS[codec].rate or sample_rate
    sent = files.resample(np.asarray(audio, np.float32), sample_rate, rate, "soundfile")
    sent = np.clip(np.rint(sent * np.float32(32768.0)), -32768, 32767).astype(np.int16)
    got = _there_and_back(sent, rate, CODECS[codec])[: len(sent)]  # the last block of a codec is filled up
    got = np.pad(got, (0, len(sent) - len(got)))
    back = files.resample(got, rate, sample_rate, "soundfile")[:n]
    return np.clip(np.pad(back, (0, n - len(back))), -1.0, 1.0).astype(np.float32)
