# SPDX-License-Identifier: Apache-2.0
"""A wake word in a program: a file, a callback, a dozen lines.

    from tfmot_kws import WakeWord

    ear = WakeWord("stream.tflite", threshold="numbers.json")
    ear.listen(lambda heard: print(heard.keyword, heard.score))

Imports no TensorFlow.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import os
import pathlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from tflite_export.runtimes import interpreter, kernels
from tfmot_kws.commands.parts import spotter
from tfmot_kws.sound import stream as audio_stream

Source = str | os.PathLike | BinaryIO | np.ndarray | Iterable[np.ndarray] | None
"""Where sound comes from: None is the microphone; a sound file; an open pipe; samples, or blocks of them, mono at the
model's rate, float in [-1, 1) or int16."""


@dataclasses.dataclass(frozen=True)
class Usage:
    """What listening has cost.

    Attributes:
        sound: seconds of sound that were heard.
        cpu: seconds of processor time for front end, model and detector.
        runtime: what the model ran in.
        kernels: names of our compiled kernels on this processor; none for files of stock ops.
    """

    sound: float
    cpu: float
    runtime: str
    kernels: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of one core that listening takes while sound comes, 0 and more."""
        return self.cpu / self.sound if self.sound else 0.0

    def __str__(self) -> str:
        names = ", ".join(self.kernels) if self.kernels else f"those of {self.runtime}"
        return f"CPU: {self.share:.1%} of one core ({self.cpu:.2f} s for {self.sound:.1f} s of sound); kernels: {names}"


class WakeWord:
    """Listens for the keywords of a streaming file.

    Args:
        model: a .tflite made by ``export --streaming internal`` or ``--for esphome``, its .json beside it, or one of
            microWakeWord's models beside its manifest.
        threshold: a score from which on a keyword counts, "yes=2.5,no=1.25", or the file of ``evaluate --json``; None:
            where a keyword is likelier than all else.
        smooth: seconds, see ``detector.DetectorConfig``; None: that of the file, or 0.2.
        refractory: seconds, likewise; None: that of the file, or 1.0.
        runtime: one of ``tflite_export.interpreter.RUNTIMES``; None: tflite, or litert without TensorFlow.

    Attributes:
        model: the file.
        keywords: their names.
        rate: samples per second that ``feed`` takes.
        spotter: what it is made of: front end, streaming model and detector.

    Raises:
        ValueError: the file does not stream, or thresholds do not suit it; the message says what to do.
        OSError: a file is missing.
        ImportError, RuntimeError: the runtime is missing or refuses the file.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        threshold: str | float | None = None,
        smooth: float | None = None,
        refractory: float | None = None,
        runtime: str | None = None,
    ) -> None:
        self.model = path = pathlib.Path(model)
        self._runtime = runtime or interpreter.default_runtime()
        self.spotter = spotter.open_spotter(path, threshold, smooth, refractory, self._runtime)
        self._kernels = kernels.kernels_of(path.read_bytes()) if self._runtime != "reference" else ()
        self._samples, self._cpu, self._stopped = 0, 0.0, False
        self.keywords = self.spotter.keywords
        self.rate = self.spotter.frontend.sample_rate

    @property
    def usage(self) -> Usage:
        """What listening has cost since the object was made."""
        return Usage(self._samples / self.rate, self._cpu, self._runtime, self._kernels)

    def reset(self) -> None:
        """Forgets all sound; seconds count from 0 again."""
        self.spotter.reset()

    def feed(self, samples: np.ndarray) -> list[spotter.Heard]:
        """Takes sound, however much, and gives the keywords that it completes.

        Args:
            samples: [samples], mono at ``rate``; float in [-1, 1) or int16.

        Returns:
            What was heard: ``keyword``, ``seconds`` since the reset, ``score``.

        Raises:
            ValueError: another shape or type, or samples that are NaN or infinite; nothing of them is taken.
        """
        samples = np.asarray(samples)
        start = time.thread_time()
        heard = self.spotter.step(samples)
        self._cpu += time.thread_time() - start
        self._samples += len(samples)
        return heard

    def events(self, source: Source = None) -> Iterator[spotter.Heard]:
        """What is heard, as it comes, until the source or ``stop`` ends it.

        Args:
            source: where sound comes from.

        Raises:
            AudioError: a file or a pipe that is no sound.
            OSError, ImportError: a missing file; no microphone, or not the package for it.
        """
        self._stopped = False
        for block in self._blocks(source):
            if self._stopped:
                return
            yield from self.feed(block)

    def listen(self, callback: Callable[[spotter.Heard], Any], source: Source = None) -> None:
        """Calls back for every keyword, until the source ends, ``stop`` is called or the callback returns False.

        Args:
            callback: is given what was heard.
            source: where sound comes from; the microphone by default.

        Raises what ``events`` raises, and what the callback does.
        """
        for heard in self.events(source):
            if callback(heard) is False:
                return

    async def events_async(self, source: Source = None) -> AsyncIterator[spotter.Heard]:
        """As ``events``; sound is waited for, and heard, in a thread, so that the loop stays free."""
        self._stopped = False
        blocks = iter(self._blocks(source))
        while not self._stopped:
            step = functools.partial(self._next, blocks)
            heard = await asyncio.get_running_loop().run_in_executor(None, step)
            if heard is None:
                return
            for one in heard:
                yield one

    async def listen_async(
        self, callback: Callable[[spotter.Heard], Awaitable[Any] | Any], source: Source = None
    ) -> None:
        """As ``listen``; the callback may be a coroutine function."""
        async for heard in self.events_async(source):
            result = callback(heard)
            if inspect.isawaitable(result):
                result = await result
            if result is False:
                return

    def stop(self) -> None:
        """Ends ``listen`` and its kin at the next block of sound; from a callback or another thread."""
        self._stopped = True

    def _next(self, blocks: Iterator[np.ndarray]) -> list[spotter.Heard] | None:
        block = next(blocks, None)
        return None if block is None else self.feed(block)

    def _blocks(self, source: Source) -> Iterable[np.ndarray]:
        if source is None:
            return audio_stream.read_microphone(self.rate)
        if isinstance(source, (str, os.PathLike)):
            if not pathlib.Path(source).is_file():
                raise FileNotFoundError(f"{source}: no such sound file")
            return audio_stream.read_file(source, self.rate)
        if isinstance(source, np.ndarray):
            size = round(audio_stream.BLOCK_SECONDS * self.rate)
            return (source[first : first + size] for first in range(0, len(source), size))
        return audio_stream.read_pipe(source, self.rate) if hasattr(source, "read") else source
