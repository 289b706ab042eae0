# SPDX-License-Identifier: Apache-2.0
"""The fixed-point front end in C: the integers of ``frontend/microfrontend.py``, which makes the tables, but faster.

The library is ``_frontend.so``, made of ``frontend/c`` when the package is installed (``frontend/build_list.py``).
ctypes releases the interpreter's lock while it runs, and it holds no state: threads may call it at the same time.
"""

from __future__ import annotations

import ctypes
import functools
import pathlib

import numpy as np

from tfmot_kws.frontend import build_list, microfrontend

VERSION = 1
"""KWS_FRONTEND_VERSION of the C header that this module goes with."""

MAX_FFT_SIZE = 1 << 15
MAX_MEL_BINS = 1 << 12

_ARRAYS = (
    ("window", np.int16),
    ("turns", np.int16),
    ("last_turns", np.int16),
    ("weights", np.uint16),
    ("first_bin", np.int32),
    ("first_entry", np.int32),
    ("gain", np.int32),
    ("gain_01", np.int32),
    ("log_table", np.int32),
)
_NUMBERS = ("fft_size", "start", "bins", "mel", "correction_bits", "even_smoothing", "odd_smoothing", "min_signal")
_STATUS = {1: "the tables", 2: "the sizes", 3: "the noise estimate", 4: "the scratch memory"}


class _CTables(ctypes.Structure):
    """``kws_frontend_tables`` of the C header."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name, _ in _ARRAYS),
        *((f"{name}_count", ctypes.c_int64) for name, _ in _ARRAYS),
        *((name, ctypes.c_int32) for name in _NUMBERS),
    ]


class Packed:
    """Tables as the library takes them.

    Attributes:
        tables: of which they were made.
    """

    def __init__(self, tables: microfrontend.Tables) -> None:
        """Packs tables.

        Args:
            tables: from ``microfrontend.make_tables``.

        Raises:
            ValueError: a longer FFT, or more mel channels, than the library takes.
            ImportError: there is no library.
        """
        if tables.fft_size > MAX_FFT_SIZE or tables.mel_bins > MAX_MEL_BINS:
            raise ValueError(
                f"fft_size={tables.fft_size}, {tables.mel_bins} mel channels: the front end in C takes at most "
                f"{MAX_FFT_SIZE} and {MAX_MEL_BINS}; use microfrontend.features"
            )
        self.tables = tables
        weights, first_bin, first_entry = _packed_filters(tables.filters)
        none = np.zeros(0)
        values = {
            "window": tables.window,
            "turns": tables.turns,
            "last_turns": tables.last_turns,
            "weights": weights,
            "first_bin": first_bin,
            "first_entry": first_entry,
            "gain": none if tables.gain is None else tables.gain,
            "gain_01": none if tables.gain_01 is None else tables.gain_01,
            "log_table": tables.log_lut,
        }
        self._arrays = {name: _narrowed(name, values[name], dtype) for name, dtype in _ARRAYS}
        self._struct = _CTables(
            *(array.ctypes.data for array in self._arrays.values()),
            *(array.size for array in self._arrays.values()),
            tables.fft_size,
            tables.start,
            *tables.filters.shape,
            tables.correction_bits,
            microfrontend.EVEN_SMOOTHING,
            microfrontend.ODD_SMOOTHING,
            microfrontend.MIN_SIGNAL,
        )
        self._library = load()
        self._scratch = self._library.kws_frontend_scratch(ctypes.byref(self._struct))
        if not self._scratch:
            raise ValueError(f"the front end in C refused {_STATUS[1]}: of fft_size={tables.fft_size}")

    def __reduce__(self) -> tuple:
        return Packed, (self.tables,)

    def features(self, audio: np.ndarray, hop: int, estimate: np.ndarray | None = None) -> np.ndarray:
        """What ``microfrontend.features`` gives, integer for integer.

        Args:
            audio: int16 [batch, samples].
            hop: samples between frames, 1 or more.
            estimate: int64 [batch, mel], the noise estimate before the first frame, zeros at the
                start of a recording; afterwards that of the last frame.

        Returns:
            uint16 [batch, frames, mel].

        Raises:
            ValueError: ``audio`` is not int16 with two axes, ``hop`` is below 1, or ``estimate`` is none of such clips.
        """
        microfrontend.check(self.tables, audio, hop, estimate)
        audio = np.ascontiguousarray(audio)
        batch, samples = audio.shape
        out = np.empty((batch, self.tables.num_frames(samples, hop), self.tables.mel_bins), np.uint16)
        kept = np.zeros((batch, self.tables.mel_bins), np.int64)
        if estimate is not None:
            kept[...] = estimate
        scratch = np.empty(self._scratch, np.uint8)
        status = self._library.kws_frontend_features(
            *(ctypes.byref(self._struct), audio.ctypes.data, audio.size, batch, samples, hop),
            *(kept.ctypes.data, kept.size, out.ctypes.data, out.size, scratch.ctypes.data, scratch.size),
        )
        if status:
            raise ValueError(f"the front end in C refused {_STATUS[status]}: audio {audio.shape}, hop {hop}")
        if estimate is not None:
            estimate[...] = kept
        return out


def library_path() -> pathlib.Path:
    """Path of the compiled library.

    Raises:
        ImportError: it is not there; the message has the command that builds it.
    """
    path = build_list.FOLDER / build_list.OUTPUT
    if not path.is_file():
        raise ImportError(f"the front end's library is missing ({path}); {_how_to_build()}")
    return path


@functools.cache
def load() -> ctypes.CDLL:
    """The compiled library.

    Raises:
        ImportError: it is not there, or was made of other sources; the message has the command that builds it.
    """
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
        found = library.kws_frontend_version()
    except (OSError, AttributeError) as error:
        raise ImportError(f"the front end's library does not load ({error}); {_how_to_build()}") from error
    if found != VERSION:
        raise ImportError(f"{path} is of version {found}, this package needs {VERSION}; {_how_to_build()}")
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.kws_frontend_scratch.argtypes = [pointer]
    library.kws_frontend_scratch.restype = size
    library.kws_frontend_features.argtypes = [
        *(pointer, pointer, size, size, size, size),
        *(pointer, size, pointer, size, pointer, size),
    ]
    return library


def _how_to_build() -> str:
    return f"build it with: python {pathlib.Path(build_list.__file__).resolve()}"


def _packed_filters(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[bins, mel] -> weights of all filters without the zeros around them, first bins, where each begins."""
    places = [np.flatnonzero(column) for column in filters.T]
    first = np.array([at[0] if at.size else 0 for at in places])
    last = np.array([at[-1] + 1 if at.size else 0 for at in places])
    weights = [column[low:high] for column, low, high in zip(filters.T, first, last)]
    return np.concatenate(weights), first, np.concatenate([[0], np.cumsum(last - first)])


def _narrowed(name: str, values: np.ndarray, dtype: type) -> np.ndarray:
    """The same whole numbers in fewer bits."""
    narrow = np.ascontiguousarray(values).astype(dtype)
    if not np.array_equal(narrow, values):
        raise ValueError(f"{name}: {values.min():g}..{values.max():g} found, which {np.dtype(dtype)} does not hold")
    return narrow
