# SPDX-License-Identifier: Apache-2.0
"""The process in which a back end of ``sound.voices`` speaks: requests as lines of JSON, answers as JSON and samples.

``python -m tfmot_kws.sound.voice_process NAME OPTIONS``. Each utterance is made in a fork of the first state.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO, Protocol

import numpy as np

from tfmot_kws.sound import files as audio
from tfmot_kws.sound import voices
from tfmot_kws.sound.segment import Segment

_MOST = 0.98
"""Peak of what was louder: synthesizers of floats overshoot now and then, and a file would clip."""
Raw = tuple[np.ndarray, int, Sequence[Segment], str]
"""Samples (float, mono), their rate, phones in seconds, and the phones in writing."""


class Engine(Protocol):
    """A back end within its process."""

    def voices(self) -> list[str]:
        """Names of voices."""

    def identity(self) -> str:
        """Versions, and a hash of what else the sound depends on."""

    def say(self, text: str, voice: str, speed: float, seed: int) -> Raw:
        """One utterance, at the rate of the back end."""


def finished(raw: Raw, what: str) -> voices.Spoken:
    """What a back end gave, at ``voices.RATE``, within -1..1.

    Raises:
        RuntimeError: it is empty, silent, or no number.
    """
    samples, rate, phones, pronounced = raw
    samples = np.asarray(samples, np.float32)
    if not len(samples) or not np.isfinite(samples).all() or not np.abs(samples).max() > 1e-4:
        raise RuntimeError(f"{what} gave no sound ({len(samples)} samples)")
    sound = audio.resample(samples, rate, voices.RATE, "soundfile").astype(np.float32)
    peak = float(np.abs(sound).max())
    if peak > _MOST:
        sound *= np.float32(_MOST / peak)
    return voices.Spoken(sound, voices.RATE, tuple(phones), pronounced)


def _write(stream: BinaryIO, answer: dict, data: bytes = b"") -> None:
    stream.write(json.dumps({**answer, "bytes": len(data)}).encode() + b"\n" + data)
    stream.flush()


def _failed(stream: BinaryIO, error: Exception) -> None:
    kind = next((k.__name__ for k in (ValueError, ImportError) if isinstance(error, k)), "RuntimeError")
    _write(stream, {"error": kind, "message": str(error) or type(error).__name__})


def _utterance(engine: Engine, stream: BinaryIO, request: dict) -> None:
    """Answers from a fork, so that no utterance leaves anything behind for the next one."""
    child = os.fork()
    if child == 0:
        try:
            text, voice = request["text"], request["voice"]
            raw = engine.say(text, voice, request["speed"], request["seed"])
            spoken = finished(raw, f"{voice}, saying {text!r},")
            phones = [(phone.start, phone.end, phone.label) for phone in spoken.phones]
            _write(stream, {"phones": phones, "pronounced": spoken.pronounced}, spoken.samples.tobytes())
        except Exception as error:  # the parent goes on; whoever asked is told
            _failed(stream, error)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        _failed(stream, RuntimeError(f"the back end crashed (status {status}) on {request['text']!r}"))


def identity(packages: Sequence[str], contents: Iterable[bytes] = ()) -> str:
    """``package 1.0, ...`` and the hash of files, for ``Engine.identity``."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return f"{versions}, {digest.hexdigest()[:16]}"


def serve(engine_of: Callable[..., Engine], options: dict, requests: BinaryIO, stream: BinaryIO) -> None:
    """Answers requests until there are no more."""
    engine = problem = None
    try:
        engine = engine_of(**options)
        about = {"voices": sorted(engine.voices()), "identity": engine.identity()}
        # Loads what resamples before the forks, or each of them would load it anew.
        audio.resample(np.zeros(240, np.float32), 24000, voices.RATE, "soundfile")
    except Exception as error:
        problem = error
    for line in requests:
        request = json.loads(line)
        if problem is not None:
            _failed(stream, problem)
        elif request["do"] == "voices":
            _write(stream, about)
        else:
            _utterance(engine, stream, request)


def main(name: str, options: str) -> None:
    """Serves on stdin and stdout. What libraries print goes to stderr."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    module = importlib.import_module(voices.BACKENDS[name].module)
    serve(module.Engine, json.loads(options), sys.stdin.buffer, stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
