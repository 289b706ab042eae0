# SPDX-License-Identifier: Apache-2.0
"""Features of speech: one configuration, three back ends.

- ``micro``: the fixed-point front end of TensorFlow Lite Micro (``frontend/microfrontend.py``), equal
  to what a device computes. Output: the raw integers / 25.6, about 0..26, and 0..39 without its gain. Computed in C
  (``frontend/native.py``), and in numpy, with the same integers, where the library was not built: ``implementation``.
- ``lfbe``: textbook log filter-bank energies by ``tf.signal``: Hann window, power spectrum, triangular
  mel filters, natural logarithm with a floor, shifted so that the floor is 0, about 0..26.

- ``raw``: the samples themselves, full scale 1, a hop of them in a row: for networks that make features of them
  (``frontend/waveform.py``).

The ranges of the first two start at 0 and, with the gain, are nearly the same, so one 8-bit input scale suits either.
TensorFlow is imported only where ``tf.signal`` or a tensor is asked for.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import hashlib
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmot_kws.frontend import microfrontend, native

BACKENDS = ("micro", "lfbe", "raw")
MEL_BINS = (20, 40, 64)
WINDOWS_MS = (25, 30)
HOPS_MS = (10, 20)
SAMPLE_RATES = (8000, 16000)

SAMPLE_SCALE = 2.0**-15
"""What one step of a sample of 16 bits is worth."""
MICRO_SCALE = 1.0 / 25.6
"""What one unit of the raw ``micro`` integers is worth in the float features."""


def _check_choice(name: str, value: Any, allowed: tuple) -> None:
    if isinstance(value, bool) or value not in allowed:
        raise ValueError(f"FrontendConfig.{name}={value!r}: must be one of {allowed}")


@dataclasses.dataclass(frozen=True)
class FrontendConfig:
    """How sound becomes features.

    Attributes:
        sample_rate: samples per second, 8000 or 16000.
        mel_bins: mel channels per frame: 20, 40 or 64. With ``raw`` it becomes the samples of a hop.
        window_ms: window length in milliseconds: 25 or 30. With ``raw`` it becomes ``hop_ms``.
        hop_ms: time from frame to frame in milliseconds: 10 or 20.
        backend: ``"micro"`` (fixed point, as on the device), ``"lfbe"`` (float) or ``"raw"`` (samples).
        lower_hz: lower edge of the first mel filter in Hz, at least 0.
        upper_hz: upper edge of the last mel filter in Hz, below half the sample rate.
        log_floor: ``lfbe`` only: energies below it count as it; its logarithm becomes 0.
        pcan: ``micro`` only: the automatic gain, which lifts quiet sound and lowers loud sound band by band
            (``enable_pcan`` of the device's library). ``lfbe`` has none and takes True only.

    Raises:
        ValueError: an option is outside of what is allowed; the message names it.
    """

    sample_rate: int = 16000
    mel_bins: int = 40
    window_ms: int = 30
    hop_ms: int = 20
    backend: str = "micro"
    lower_hz: float = 125.0
    upper_hz: float = 7500.0
    log_floor: float = 1e-6
    pcan: bool = True

    def __post_init__(self) -> None:
        _check_choice("sample_rate", self.sample_rate, SAMPLE_RATES)
        _check_choice("hop_ms", self.hop_ms, HOPS_MS)
        _check_choice("backend", self.backend, BACKENDS)
        raw = self.backend == "raw"
        hops = [self.sample_rate * hop // 1000 for hop in HOPS_MS]  # of a configuration that this one was made of
        _check_choice("mel_bins", self.mel_bins, (*MEL_BINS, *(hops if raw else ())))
        _check_choice("window_ms", self.window_ms, (*WINDOWS_MS, *(HOPS_MS if raw else ())))
        if raw:
            object.__setattr__(self, "mel_bins", self.hop)
            object.__setattr__(self, "window_ms", self.hop_ms)
        highest = self.sample_rate / 2 - 2 * self.sample_rate / self.fft_size
        for name, value, low, high in (
            ("lower_hz", self.lower_hz, 0.0, highest),
            ("upper_hz", self.upper_hz, self.lower_hz, highest),
        ):
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(
                    f"FrontendConfig.{name}={value!r}: must be between {low:g} and {high:g} Hz "
                    f"at a sample rate of {self.sample_rate} Hz"
                )
        if self.upper_hz <= self.lower_hz:
            raise ValueError(f"FrontendConfig.upper_hz={self.upper_hz!r}: must be above lower_hz={self.lower_hz!r}")
        if not (math.isfinite(self.log_floor) and self.log_floor > 0):
            raise ValueError(f"FrontendConfig.log_floor={self.log_floor!r}: must be above 0")
        if not isinstance(self.pcan, bool):
            raise ValueError(f"FrontendConfig.pcan={self.pcan!r}: must be True or False")
        if not self.pcan and self.backend != "micro":
            raise ValueError(
                f"FrontendConfig.pcan=False: only the micro front end has this gain, and backend is {self.backend!r}; "
                "leave pcan as it is"
            )

    @property
    def window(self) -> int:
        """Window length in samples."""
        return self.sample_rate * self.window_ms // 1000

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return self.sample_rate * self.hop_ms // 1000

    @property
    def fft_size(self) -> int:
        """FFT length: the power of two at or above the window."""
        return 1 << (self.window - 1).bit_length()

    def num_frames(self, num_samples: int) -> int:
        """Frames in ``num_samples`` samples; 0 when shorter than one window."""
        return 0 if num_samples < self.window else 1 + (num_samples - self.window) // self.hop

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> FrontendConfig:
        """The inverse of ``to_dict``; what is not there is as by default, ``pcan`` in older files among it.

        Raises:
            ValueError: an unknown option, or a value that is not allowed.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise ValueError(f"FrontendConfig: unknown options {unknown}; known: {sorted(known)}")
        return cls(**options)

    def identity(self) -> dict[str, Any]:
        """What tells features apart, for keys of caches: ``to_dict``, with ``pcan`` only where it is off.

        So that keys of older releases, which had no such option, stay valid.
        """
        options = self.to_dict()
        if self.pcan:
            del options["pcan"]
        return options

    def key(self) -> str:
        """A short hash of the options, the same in every process and on every machine."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def described(frontend: FrontendConfig) -> str:
    """A front end in words, for people."""
    if frontend.backend == "raw":
        return f"raw sound, rows of {frontend.hop_ms} ms at {frontend.sample_rate} Hz"
    return (
        f"{frontend.backend} front end, {frontend.mel_bins} mel bands, {frontend.window_ms}/{frontend.hop_ms} ms at "
        f"{frontend.sample_rate} Hz"
    )


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Samples as the ``micro`` front end takes them: int16 as it is, float in [-1, 1) rounded and clipped.

    Raises:
        ValueError: another type, or samples that are NaN or infinite: numpy would make any integer of them.
    """
    if audio.dtype == np.int16:
        return audio
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio: expected float in [-1, 1) or int16, got {audio.dtype}")
    finite = np.isfinite(audio)
    if not finite.all():
        place = int(np.argmin(finite.reshape(-1)))
        raise ValueError(
            f"audio: sample {place} is {audio.reshape(-1)[place]}, {finite.size - np.count_nonzero(finite)} of "
            f"{finite.size} are NaN or infinite; give numbers in [-1, 1)"
        )
    return np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)


@functools.cache
def implementation() -> str:
    """What computes the ``micro`` front end in this process.

    Returns:
        ``"c"``, or ``"numpy"`` where the library does not load: the same integers, several times slower. That is said
        once, in a warning with the command that builds it.
    """
    try:
        native.load()
    except ImportError as error:
        warnings.warn(f"{error}; until then numpy computes the same features, slower", RuntimeWarning, stacklevel=2)
        return "numpy"
    return "c"


@functools.lru_cache(maxsize=16)
def _micro(config: FrontendConfig) -> Callable[..., np.ndarray]:
    """(int16 [batch, samples], int64 [batch, mel] or nothing) -> uint16 [batch, frames, mel]."""
    tables = microfrontend.make_tables(
        config.sample_rate, config.window, config.mel_bins, config.lower_hz, config.upper_hz, config.pcan
    )
    if implementation() == "c":
        return functools.partial(native.Packed(tables).features, hop=config.hop)
    return functools.partial(microfrontend.features, tables, hop=config.hop)


def raw_micro(config: FrontendConfig, audio: np.ndarray) -> np.ndarray:
    """The integers of the fixed-point front end.

    Args:
        config: any configuration; its ``backend`` does not matter.
        audio: [batch, samples] or [samples]; int16, or float in [-1, 1), which is rounded to
            16 bits.

    Returns:
        uint16 [batch, frames, mel] or [frames, mel], about 0..670, without ``pcan`` 0..990. Every clip starts with
        an empty noise estimate, as after a reset of the device.

    Raises:
        ValueError: ``audio`` has another rank or type.
    """
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2):
        raise ValueError(f"audio: expected [batch, samples] or [samples], got {audio.shape}")
    batch = to_int16(audio if audio.ndim == 2 else audio[None])
    result = _micro(config)(audio=batch)
    return result if audio.ndim == 2 else result[0]


def extract(config: FrontendConfig, audio: np.ndarray) -> np.ndarray:
    """Features of a batch of clips.

    Args:
        config: the front end.
        audio: [batch, samples] or [samples]; float in [-1, 1) or int16.

    Returns:
        float32 [batch, frames, mel] or [frames, mel], about 0..26, without ``pcan`` 0..39 (see the module's text);
        of ``raw`` samples of full scale 1.

    Raises:
        ValueError: ``audio`` has another rank or type.
    """
    if config.backend == "micro":
        return raw_micro(config, audio).astype(np.float32) * np.float32(MICRO_SCALE)
    if config.backend == "raw":
        return _rows(config, audio).astype(np.float32) * np.float32(SAMPLE_SCALE)
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2):
        raise ValueError(f"audio: expected [batch, samples] or [samples], got {audio.shape}")
    if audio.dtype == np.int16:
        audio = audio.astype(np.float32) / 32768.0
    elif not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio: expected float in [-1, 1) or int16, got {audio.dtype}")
    if audio.size == 0 or audio.shape[-1] < config.window:
        frames = config.num_frames(audio.shape[-1])
        return np.zeros((*audio.shape[:-1], frames, config.mel_bins), np.float32)
    energies = _lfbe(config)(audio.astype(np.float32).reshape(-1, audio.shape[-1])).numpy()
    return energies if audio.ndim == 2 else energies[0]


@functools.lru_cache(maxsize=16)
def _lfbe(config: FrontendConfig) -> Callable[[np.ndarray], Any]:
    """``tf_frontend`` of float32 [batch, samples] as a graph: the same values, without the cost of each op's call."""
    import tensorflow as tf

    atexit.register(_lfbe.cache_clear)  # a graph must not outlive TensorFlow
    signature = [tf.TensorSpec([None, None], tf.float32)]
    return tf.function(tf_frontend(config), input_signature=signature, autograph=False)


def compact(config: FrontendConfig, audio: np.ndarray) -> np.ndarray:
    """Features in 16 bits, for long sound: ``micro``'s integers, uint16; ``lfbe``'s as float16; samples as int16.

    Args:
        config: the front end.
        audio: [batch, samples] or [samples]; float in [-1, 1) or int16.

    Returns:
        [batch, frames, mel] or [frames, mel].

    Raises:
        ValueError: ``audio`` has another rank or type.
    """
    if config.backend == "micro":
        return raw_micro(config, audio)
    if config.backend == "raw":
        return _rows(config, audio)
    return extract(config, audio).astype(np.float16)


def _rows(config: FrontendConfig, audio: np.ndarray) -> np.ndarray:
    """int16 [..., frames, samples of a hop] of [batch, samples] or [samples]; what fills no row is left out."""
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2):
        raise ValueError(f"audio: expected [batch, samples] or [samples], got {audio.shape}")
    frames = config.num_frames(audio.shape[-1])
    return to_int16(audio[..., : frames * config.hop]).reshape(*audio.shape[:-1], frames, config.hop)


class FrontendStream:
    """The front end of a stream: audio in pieces of any length, frames as they are complete.

    The frames of all pieces are those of ``extract`` on the whole recording; ``micro`` to the last bit.
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.config = config
        self._micro = _micro(config) if config.backend == "micro" else None
        self.reset()

    def reset(self) -> None:
        """Forgets all audio and the noise estimate."""
        self._audio = np.zeros(0, np.int16)
        self._estimate = np.zeros((1, self.config.mel_bins), np.int64)
        self._skip = 0

    def step(self, audio: np.ndarray) -> np.ndarray:
        """Takes samples and gives the frames that they complete.

        Args:
            audio: [samples], any number of them; float in [-1, 1), which is rounded to 16 bits, or int16.

        Returns:
            float32 [frames, mel].

        Raises:
            ValueError: ``audio`` has another rank or type, or samples that are no numbers; nothing of it is taken.
        """
        used = self._take(audio)
        if self._micro is None or not len(used):
            return extract(self.config, used)
        return self._raw(used).astype(np.float32) * np.float32(MICRO_SCALE)

    def step_compact(self, audio: np.ndarray) -> np.ndarray:
        """Like ``step``, as ``compact`` gives it: uint16, float16 or int16 [frames, mel]."""
        used = self._take(audio)
        return compact(self.config, used) if self._micro is None or not len(used) else self._raw(used)

    def _raw(self, used: np.ndarray) -> np.ndarray:
        return self._micro(audio=used[None], estimate=self._estimate)[0]

    def _take(self, audio: np.ndarray) -> np.ndarray:
        """The samples of the frames that are complete now, int16; none where there is none."""
        audio = np.asarray(audio)
        if audio.ndim != 1:
            raise ValueError(f"audio: expected [samples], got {audio.shape}")
        audio = np.concatenate([self._audio, to_int16(audio)])
        skip = min(self._skip, len(audio))
        audio, self._skip = audio[skip:], self._skip - skip
        frames = self.config.num_frames(len(audio))
        used = audio[: (frames - 1) * self.config.hop + self.config.window if frames else 0]
        done = frames * self.config.hop
        self._audio, self._skip = audio[done:].copy(), self._skip + max(0, done - len(audio))
        return used


def tf_frontend(config: FrontendConfig) -> Callable[[Any], Any]:
    """The front end as a function of tensors, for ``tf.data`` and ``tf.function``.

    ``lfbe`` and ``raw`` consist of TensorFlow ops. ``micro`` runs ``extract`` through
    ``tf.numpy_function``: it works in any pipeline of this process and has no gradient.

    Args:
        config: the front end.

    Returns:
        A function from float32 [..., samples] in [-1, 1) (at most one leading axis) to float32
        [..., frames, mel].
    """
    import tensorflow as tf

    if config.backend == "micro":

        def micro(audio):
            audio = tf.convert_to_tensor(audio)
            result = tf.numpy_function(lambda values: extract(config, values), [audio], tf.float32, stateful=False)
            samples = audio.shape[-1]
            frames = None if samples is None else config.num_frames(samples)
            return tf.ensure_shape(result, [*audio.shape[:-1], frames, config.mel_bins])

        return micro

    if config.backend == "raw":

        def raw(audio):
            audio = tf.convert_to_tensor(audio, tf.float32)
            steps = tf.clip_by_value(tf.round(audio * 2.0**15), -(2.0**15), 2.0**15 - 1.0) * SAMPLE_SCALE
            frames = tf.shape(audio)[-1] // config.hop
            shape = tf.concat([tf.shape(audio)[:-1], [frames, config.hop]], 0)
            known = None if audio.shape[-1] is None else config.num_frames(audio.shape[-1])
            result = tf.reshape(steps[..., : frames * config.hop], shape)
            return tf.ensure_shape(result, [*audio.shape[:-1], known, config.hop])

        return raw

    weights = tf.signal.linear_to_mel_weight_matrix(
        config.mel_bins,
        config.fft_size // 2 + 1,
        config.sample_rate,
        config.lower_hz,
        config.upper_hz,
    ).numpy()
    shift = math.log(config.log_floor)

    def lfbe(audio):
        audio = tf.convert_to_tensor(audio, tf.float32)
        spectrum = tf.signal.stft(audio, config.window, config.hop, config.fft_size)
        power = tf.math.square(tf.math.real(spectrum)) + tf.math.square(tf.math.imag(spectrum))
        energy = tf.tensordot(power, tf.constant(weights), 1)
        return tf.math.log(tf.maximum(energy, config.log_floor)) - shift

    return lfbe
