# SPDX-License-Identifier: Apache-2.0
"""Short sounds inside of a page: as small as soundfile makes them, for any browser of today."""

from __future__ import annotations

import base64
import io

import numpy as np

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


def encode(audio: np.ndarray, sample_rate: int = 16000) -> tuple[bytes, str]:
    """A whole sound file in memory: Opus in Ogg, or FLAC where libsndfile or Opus cannot do that.

    Args:
        audio: float [samples] in [-1, 1], clipped there; at least one sample.
        sample_rate: samples per second, which the file keeps: Opus knows 8000, 12000, 16000, 24000 and 48000.

    Returns:
        (the file, its media type); as many samples come out of it as went in.

    Raises:
        ValueError: no samples, or more than one channel.
    """
    import soundfile

    audio = np.asarray(audio, np.float32)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"audio of shape {audio.shape}: needed is [samples], at least one")
    opus = sample_rate in _OPUS_RATES and "OPUS" in soundfile.available_subtypes("OGG")
    kind, subtype, media = ("OGG", "OPUS", "audio/ogg; codecs=opus") if opus else ("FLAC", "PCM_16", "audio/flac")
    file = io.BytesIO()
    soundfile.write(file, np.clip(audio, -1.0, 1.0), sample_rate, format=kind, subtype=subtype)
    return file.getvalue(), media


def data_uri(file: bytes, media: str) -> str:
    """A file as an address that holds it."""
    return f"data:{media.replace(' ', '')};base64,{base64.b64encode(file).decode()}"
