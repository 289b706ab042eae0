# SPDX-License-Identifier: Apache-2.0
"""The few calls of espeak-ng that synthetic speech needs, by ctypes: sound, and when each phone is spoken.

espeak-ng is GPL-3: only the processes of ``tfmot_kws.data.synthetic`` and ``tfmot_kws.sound.voice_process`` make an
``Espeak``. The numbers are those of espeak-ng's speak_lib.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from tfmot_kws.sound.segment import Segment

DIALECTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-029",
    "en-us-nyc",
)
"""Those of English."""
_NOVELTIES = ("whisper", "robo", "demonic", "croak", "announcer", "fast", "aunty", "storm", "tweaky")

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_UTF8 = 1
_RATE_PARAMETER, _PITCH_PARAMETER, _RANGE_PARAMETER = 1, 3, 4
_NO_MORE_EVENTS, _END_EVENT, _PHONEME_EVENT = 0, 5, 7
_STRESS = "',%="
"""Marks ahead of a phone's name: how it is stressed, not which it is."""
_PAUSE = "_"
"""Names of pauses begin with it."""


def people(variants: Sequence[str]) -> list[str]:
    """The variants that sound like people, in order."""
    return [name for name in variants if not name.lower().startswith(_NOVELTIES)]


class _Voice(ctypes.Structure):
    """espeak_VOICE."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


class _Event(ctypes.Structure):
    """espeak_EVENT, with the one meaning of its union that is needed."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


class Espeak:
    """espeak-ng; one per process.

    Args:
        dialect: any that there is, to try voices with.
        phones: whether to ask for the times of phones; the sound is the same.

    Raises:
        RuntimeError: it cannot start.
    """

    def __init__(self, dialect: str, phones: bool = False) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS if phones else 0)
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng cannot start with its data in {data.decode()}")
        self._dialect = dialect
        self._parts: list[np.ndarray] = []
        self._marks: list[tuple[int, str]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = kind(self._collect)  # kept: the library holds only a pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        index = 0
        while events and events[index].type != _NO_MORE_EVENTS:
            event = events[index]
            if event.type == _PHONEME_EVENT:
                self._marks.append((event.sample, event.name.decode("utf-8", "replace").lstrip(_STRESS)))
            elif event.type == _END_EVENT:
                self._marks.append((event.sample, _PAUSE))
            index += 1
        return 0

    def variants(self) -> list[str]:
        """Names of the voice variants that can be set, sorted."""
        query = _Voice(languages=b"variant")
        list_voices = self._library.espeak_ListVoices
        list_voices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        found, names = list_voices(ctypes.byref(query)), []
        while found[len(names)]:
            names.append(found[len(names)].contents.identifier.decode().removeprefix("!v/"))
        usable = sorted(name for name in names if self._set_voice(f"{self._dialect}+{name}"))
        # Every voice that was tried left events behind, and their list is full; to say nothing empties it.
        self._say("")
        return usable

    def _set_voice(self, name: str) -> bool:
        return self._library.espeak_SetVoiceByName(name.encode()) == 0

    def _say(self, text: str) -> None:
        raw = text.encode()
        code = self._library.espeak_Synth(raw, ctypes.c_size_t(len(raw) + 1), 0, 0, 0, _UTF8, None, None)
        if code != 0:
            raise RuntimeError(f"espeak-ng failed with code {code} on {text!r}")
        self._library.espeak_Synchronize()

    def speak(
        self, text: str, voice: str, speed: int, pitch: int, pitch_range: int, seed: int
    ) -> tuple[np.ndarray, tuple[Segment, ...]]:
        """Speaks a text; the same calls in the same order give the same in every process.

        Args:
            text: in English.
            voice: a dialect and a variant, ``en-us+f1``.
            speed: words per minute.
            pitch, pitch_range: 0..100.
            seed: of the voice's breath and flutter.

        Returns:
            int16 [samples] at ``rate``, and the phones where they were asked for: in seconds from the first sample, in
            order, pauses left out.

        Raises:
            RuntimeError: there is no such voice, or espeak-ng failed.
        """
        if not self._set_voice(voice):
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in (
            (_RATE_PARAMETER, speed),
            (_PITCH_PARAMETER, pitch),
            (_RANGE_PARAMETER, pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._parts, self._marks = [], []
        self._say(text)
        # A phone lasts until the next one begins.
        phones = tuple(
            Segment(first / self.rate, last / self.rate, name)
            for (first, name), (last, _) in zip(self._marks, self._marks[1:])
            if name and not name.startswith(_PAUSE) and first < last
        )
        return np.concatenate([np.zeros(0, np.int16), *self._parts]), phones
