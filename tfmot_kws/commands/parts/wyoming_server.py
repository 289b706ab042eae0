# SPDX-License-Identifier: Apache-2.0
"""A server of wake words in the Wyoming protocol, which Home Assistant speaks.

The protocol as ``wyoming`` 1.10 has it (github.com/OHF-Voice/wyoming, ``wyoming/wake.py``, ``info.py``, ``audio.py``):
a client asks ``describe`` and gets ``info``; it sends ``detect`` with names or none, then ``audio-start``,
``audio-chunk``s and ``audio-stop``, and gets a ``detection`` for each keyword as it is heard, or ``not-detected`` at
the end. What arrives at any rate, of 1 to 4 bytes a sample, mono or stereo, is made what the front end takes.
"""

from __future__ import annotations

import asyncio
import functools
import pathlib
import threading
from collections.abc import Callable, Sequence
from urllib.parse import urlparse

import numpy as np
from wyoming import audio, error, event, info, server, wake

from tflite_export import version
from tfmot_kws.commands.parts import spotter, wake_word
from tfmot_kws.sound import stream as audio_stream

PROGRAM = "tfmot-kws"
_PROJECT = info.Attribution(name="tfmot-kws", url="")


class Ears:
    """The models of a server; a client has each to itself, and gives it back.

    Args:
        models: streaming files.
        thresholds: of each, as ``WakeWord`` takes them.
        smooth, refractory, runtime: of all, as ``WakeWord`` takes them.

    Attributes:
        words: keyword -> the file that spots it.

    Raises:
        ValueError: two files spot the same keyword; and what ``WakeWord`` raises.
    """

    def __init__(
        self,
        models: Sequence[pathlib.Path],
        thresholds: Sequence[str | None],
        smooth: float | None = None,
        refractory: float | None = None,
        runtime: str | None = None,
    ) -> None:
        self.words: dict[str, pathlib.Path] = {}
        self._makers: dict[pathlib.Path, Callable[[], wake_word.WakeWord]] = {}
        self._free: dict[pathlib.Path, list[wake_word.WakeWord]] = {}
        self._all: list[wake_word.WakeWord] = []  # as many of a model as ever listened at once
        self._taking = threading.Lock()  # clients are heard in threads
        for model, threshold in zip(models, thresholds, strict=True):
            self._makers[model] = functools.partial(wake_word.WakeWord, model, threshold, smooth, refractory, runtime)
            self._free[model] = [self._made(model)]  # a file that does not suit says so before anybody connects
            for word in self._free[model][0].keywords:
                if word in self.words:
                    raise ValueError(f"{model} and {self.words[word]} both spot {word!r}; leave one of them out")
                self.words[word] = model

    def take(self, model: pathlib.Path) -> wake_word.WakeWord:
        """An ear that has heard nothing."""
        with self._taking:
            ear = self._free[model].pop() if self._free[model] else self._made(model)
        ear.reset()
        return ear

    def give_back(self, model: pathlib.Path, ear: wake_word.WakeWord) -> None:
        """Keeps an ear for the next client."""
        self._free[model].append(ear)

    def usage(self) -> list[str]:
        """A line for each model: what it has cost, and its kernels."""
        lines = []
        for model in self._makers:
            found = [ear.usage for ear in self._all if ear.model == model]
            total = wake_word.Usage(
                sum(u.sound for u in found), sum(u.cpu for u in found), found[0].runtime, found[0].kernels
            )
            lines.append(f"{model.name}: {total}")
        return lines

    def _made(self, model: pathlib.Path) -> wake_word.WakeWord:
        self._all.append(self._makers[model]())
        return self._all[-1]


class Handler(server.AsyncEventHandler):
    """One client.

    Args:
        ears: the models.
        said: is told of what is heard.
        reader, writer: the connection.
    """

    def __init__(
        self,
        ears: Ears,
        said: Callable[[str], None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        super().__init__(reader, writer)
        self._ears, self._said = ears, said
        self._wanted: frozenset[str] = frozenset(ears.words)
        self._taken: dict[pathlib.Path, wake_word.WakeWord] = {}
        self._mono: dict[pathlib.Path, audio_stream.Mono] = {}
        self._format: tuple[int, int, int] | None = None
        self._detected = False

    async def handle_event(self, event: event.Event) -> bool:
        """Answers an event; False ends the connection."""
        try:
            return await self._answer(event)
        except ConnectionError:  # the client has gone before it was answered
            return False

    async def _answer(self, event: event.Event) -> bool:
        if info.Describe.is_type(event.type):
            await self.write_event(describe(self._ears).event())
        elif wake.Detect.is_type(event.type):
            return await self._detect(wake.Detect.from_event(event).names)
        elif audio.AudioStart.is_type(event.type):
            self._give_back()
            self._detected = False
        elif audio.AudioChunk.is_type(event.type):
            return await self._hear(audio.AudioChunk.from_event(event))
        elif audio.AudioStop.is_type(event.type):
            if not self._detected:
                await self.write_event(wake.NotDetected().event())
            self._give_back()
        return True

    async def disconnect(self) -> None:
        """The client has gone."""
        self._give_back()

    async def _detect(self, names: list[str] | None) -> bool:
        unknown = sorted(set(names or ()) - set(self._ears.words))
        if unknown:
            return await self._refuse(f"no model spots {', '.join(unknown)}; there are {', '.join(self._ears.words)}")
        self._wanted = frozenset(names or self._ears.words)
        self._give_back()
        return True

    async def _hear(self, chunk: audio.AudioChunk) -> bool:
        try:
            samples = samples_of(chunk)
        except ValueError as problem:
            return await self._refuse(str(problem))
        if (chunk.rate, chunk.width, chunk.channels) != self._format:
            self._format, self._mono = (chunk.rate, chunk.width, chunk.channels), {}
        for model in dict.fromkeys(self._ears.words[word] for word in self._ears.words if word in self._wanted):
            found = await asyncio.get_running_loop().run_in_executor(None, self._step, model, samples, chunk.rate)
            for heard in found:
                if heard.keyword not in self._wanted:
                    continue
                self._detected = True
                self._said(f"{heard.keyword}  {heard.score:.2f}")
                await self.write_event(wake.Detection(name=heard.keyword, timestamp=chunk.timestamp).event())
        return True

    def _step(self, model: pathlib.Path, samples: np.ndarray, rate: int) -> list[spotter.Heard]:
        """In a thread: what a model hears in a chunk."""
        if model not in self._taken:
            self._taken[model] = self._ears.take(model)
        ear = self._taken[model]
        if model not in self._mono:
            self._mono[model] = audio_stream.Mono(rate, ear.rate)
        return ear.feed(self._mono[model].step(samples))

    async def _refuse(self, message: str) -> bool:
        self._said(f"refused: {message}")
        await self.write_event(error.Error(text=message, code="refused").event())
        return False

    def _give_back(self) -> None:
        for model, ear in self._taken.items():
            self._ears.give_back(model, ear)
        self._taken, self._mono, self._format = {}, {}, None


def samples_of(chunk: audio.AudioChunk) -> np.ndarray:
    """Samples of a chunk.

    Returns:
        int16 or float32 in [-1, 1), [samples, channels].

    Raises:
        ValueError: a rate, width or number of channels that is none.
    """
    if chunk.rate < 1 or chunk.channels not in (1, 2) or chunk.width not in (1, 2, 3, 4):
        raise ValueError(
            f"audio of {chunk.rate} Hz, {chunk.width} bytes, {chunk.channels} channels: taken is mono or stereo, of 1 "
            "to 4 bytes a sample"
        )
    frame = chunk.width * chunk.channels
    if len(chunk.audio) % frame:
        raise ValueError(f"an audio chunk of {len(chunk.audio)} bytes is no whole number of {frame} bytes")
    raw = np.frombuffer(chunk.audio, np.uint8)
    if chunk.width == 2:
        samples = raw.view("<i2").astype(np.int16)
    elif chunk.width == 1:  # unsigned, as in WAV
        samples = (raw.astype(np.float32) - 128.0) / 128.0
    else:
        whole = np.zeros((len(raw) // chunk.width, 4), np.uint8)
        whole[:, 4 - chunk.width :] = raw.reshape(-1, chunk.width)
        samples = whole.view("<i4")[:, 0].astype(np.float32) / 2.0**31
    return samples.reshape(-1, chunk.channels)


def describe(ears: Ears) -> info.Info:
    """What a client is told: a model for each keyword."""
    models = [
        info.WakeModel(
            name=word,
            attribution=_PROJECT,
            installed=True,
            description=f"{word.replace('_', ' ')} ({path.name})",
            version=version.VERSION,
            languages=[],
            phrase=word.replace("_", " "),
        )
        for word, path in ears.words.items()
    ]
    program = info.WakeProgram(
        name=PROGRAM,
        attribution=_PROJECT,
        installed=True,
        description="Keyword spotters of 1 to 8 bits",
        version=version.VERSION,
        models=models,
    )
    return info.Info(wake=[program])


def check_uri(uri: str) -> None:
    """Raises ValueError where a server has no such address."""
    found = urlparse(uri)
    try:
        good = found.scheme == "tcp" and found.hostname and found.port
    except ValueError:  # a port above 65535
        good = False
    if not good and not (found.scheme == "unix" and found.path):
        raise ValueError(f"--uri {uri}: must be tcp://HOST:PORT or unix:///PATH")


async def serve(ears: Ears, uri: str, said: Callable[[str], None], name: str | None = None) -> None:
    """Answers clients until it is cancelled or gets SIGTERM.

    Args:
        ears: the models.
        uri: tcp://host:port or unix:///path.
        said: is told of what is heard and refused.
        name: announced by zeroconf, so that Home Assistant finds it; None announces nothing.

    Raises:
        OSError: the address cannot be had.
        ImportError: a name, and zeroconf is missing.
    """
    running = server.AsyncServer.from_uri(uri)
    if name is not None:
        from wyoming import zeroconf

        found = urlparse(uri)
        host = None if found.hostname in ("0.0.0.0", "::") else found.hostname
        await zeroconf.HomeAssistantZeroconf(found.port, name, host).register_server()
    await running.run(functools.partial(Handler, ears, said))
