# SPDX-License-Identifier: Apache-2.0
"""What cheap devices do to sound: microphones, amplifiers, converters and codecs, drawn at random.

No effect moves sound in time, so labels of words stay right: filters have no phase, codecs come back without delay.
Rooms, noise, speed and shifts are in ``augment``; ``apply`` goes behind it, as a device stands behind its room.
Everything random comes from a ``numpy.random.Generator`` that the caller passes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmot_kws.sound.codecs import CODECS, check_codec, check_sound, codecs_here, transcode

__all__ = ["Band", "EffectsConfig", "apply", "band_limit", "clip", "equalize", "record", "transcode"]

SHAPES = ("peak", "low shelf", "high shelf")
_TAP_SECONDS = 0.064  # of a filter, on either side; 50 Hz has three periods in it
_RANGES = {
    "eq_gain_db": (-24.0, 24.0),
    "eq_octaves": (0.1, 4.0),
    "high_pass_hz": (0.0, 4000.0),
    "low_pass_hz": (500.0, 24000.0),
    "clip_share": (0.01, 1.0),
    "level_db": (-96.0, 48.0),
}
_PROBABILITIES = (
    "eq_probability",
    "band_probability",
    "clip_probability",
    "soft_probability",
    "level_probability",
    "codec_probability",
)


def _is_number(value: Any) -> bool:
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return real and math.isfinite(value)


@dataclasses.dataclass(frozen=True)
class EffectsConfig:
    """How often each effect is heard, and how strong it is. A probability of 0 switches an effect off.

    Attributes:
        eq_probability: share of clips, 0..1, that go through a microphone with a curve of its own.
        eq_bands: (fewest, most) bands of that curve, 1 to 16.
        eq_gain_db: (lowest, highest) gain of a band in dB.
        eq_octaves: (narrowest, widest) band in octaves.
        band_probability: share of clips, 0..1, that lose what lies below and above a band.
        high_pass_hz: (lowest, highest) lower end of that band in Hz, where 3 dB are lost.
        low_pass_hz: (lowest, highest) upper end of that band in Hz; above half the sample rate it does next to nothing.
        clip_probability: share of clips, 0..1, whose peaks are cut.
        clip_share: (lowest, highest) level at which they are cut, as a share of the clip's peak, 0.01..1.
        soft_probability: share of clipped clips, 0..1, that are bent (tanh) instead of cut.
        level_probability: share of clips, 0..1, that are heard at another level and rounded to 16 bits there.
        level_db: (lowest, highest) change of level in dB.
        codec_probability: share of clips, 0..1, that are sent through a codec.
        codecs: names of :data:`tfmot_kws.sound.codecs.CODECS` to draw from; None takes those that the installed
            libsndfile has, so that the same seed may sound different elsewhere.

    Raises:
        ValueError: a range is reversed or out of bounds, or a codec is not known; the message names it.
    """

    eq_probability: float = 0.5
    eq_bands: tuple[int, int] = (1, 4)
    eq_gain_db: tuple[float, float] = (-9.0, 9.0)
    eq_octaves: tuple[float, float] = (0.5, 2.0)
    band_probability: float = 0.3
    high_pass_hz: tuple[float, float] = (50.0, 400.0)
    low_pass_hz: tuple[float, float] = (2500.0, 7500.0)
    clip_probability: float = 0.1
    clip_share: tuple[float, float] = (0.2, 0.9)
    soft_probability: float = 0.5
    level_probability: float = 0.5
    level_db: tuple[float, float] = (-40.0, 6.0)
    codec_probability: float = 0.3
    codecs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not _is_range(value, low, high):
                raise ValueError(
                    f"EffectsConfig.{name}={value!r}: must be two numbers (lowest, highest) "
                    f"between {low:g} and {high:g}"
                )
            object.__setattr__(self, name, (float(value[0]), float(value[1])))
        bands = self.eq_bands
        if not _is_range(bands, 1, 16) or any(int(count) != count for count in bands):
            raise ValueError(f"EffectsConfig.eq_bands={bands!r}: must be two integers (fewest, most) between 1 and 16")
        object.__setattr__(self, "eq_bands", (int(bands[0]), int(bands[1])))
        for name in _PROBABILITIES:
            value = getattr(self, name)
            if not (_is_number(value) and 0.0 <= value <= 1.0):
                raise ValueError(f"EffectsConfig.{name}={value!r}: must be between 0 and 1")
        if self.high_pass_hz[1] >= self.low_pass_hz[0]:
            raise ValueError(
                f"EffectsConfig.high_pass_hz={self.high_pass_hz!r}: must end below low_pass_hz={self.low_pass_hz!r}"
            )
        if self.codecs is not None:
            if isinstance(self.codecs, str) or not len(self.codecs):
                raise ValueError(
                    f"EffectsConfig.codecs={self.codecs!r}: must be names of codecs, at least one, or None"
                )
            unknown = [name for name in self.codecs if name not in CODECS]
            if unknown:
                raise ValueError(f"EffectsConfig.codecs: {unknown} are not known; known are {', '.join(CODECS)}")
            object.__setattr__(self, "codecs", tuple(self.codecs))

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values, for JSON; ``EffectsConfig(**options)`` makes the same of them."""
        return dataclasses.asdict(self)


def _is_range(value: Any, low: float, high: float) -> bool:
    try:
        first, second = value
    except (TypeError, ValueError):
        return False
    return _is_number(first) and _is_number(second) and low <= first <= second <= high


@dataclasses.dataclass(frozen=True)
class Band:
    """One band of an equalizer.

    Attributes:
        shape: ``"peak"`` around ``hz``; ``"low shelf"`` below it; ``"high shelf"`` above it.
        hz: where the peak is, or where a shelf has half its gain, in Hz, above 0.
        gain_db: at the peak, or on the shelf, in dB.
        octaves: how wide the peak is at half its gain in dB, or the slope of a shelf.

    Raises:
        ValueError: an unknown shape, or a value out of range; the message names it.
    """

    shape: str
    hz: float
    gain_db: float
    octaves: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"Band.shape={self.shape!r}: must be one of {SHAPES}")
        for name in ("hz", "octaves"):
            if not (_is_number(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"Band.{name}={getattr(self, name)!r}: must be above 0")
        if not _is_number(self.gain_db):
            raise ValueError(f"Band.gain_db={self.gain_db!r}: must be a number")

    def db(self, hz: np.ndarray) -> np.ndarray:
        """Its gain in dB at frequencies above 0, float [any shape]: a bell or an S over their logarithm."""
        away = np.log2(hz / self.hz) / self.octaves
        if self.shape == "peak":
            return self.gain_db * np.exp2(-4.0 * away * away)
        rising = 0.5 + 0.5 * np.tanh(2.0 * away)
        return self.gain_db * (rising if self.shape == "high shelf" else 1.0 - rising)


def _hz(sample_rate: int) -> np.ndarray:
    """Frequencies at which a filter is drawn; the first stands for 0 Hz, whose logarithm there is none of."""
    size = 2 * round(_TAP_SECONDS * sample_rate)
    hz = np.arange(size // 2 + 1) * (sample_rate / size)
    hz[0] = hz[1] / 16.0
    return hz


def _filtered(audio: np.ndarray, db: np.ndarray) -> np.ndarray:
    """Sound through the filter without phase whose gain at ``_hz`` is ``db``."""
    from scipy import signal

    taps = np.fft.irfft(10.0 ** (db / 20.0))
    half = len(taps) // 2
    taps = np.roll(taps, half)[1:]  # 2 * half - 1 of them, the same on both sides of the middle
    taps *= np.hanning(len(taps) + 2)[1:-1]
    out = signal.oaconvolve(np.asarray(audio, np.float64), taps)
    return out[half - 1 : half - 1 + len(audio)].astype(np.float32)


def equalize(audio: np.ndarray, bands: Sequence[Band], sample_rate: int = 16000) -> np.ndarray:
    """Sound through an equalizer, without phase.

    Args:
        audio: float [n].
        bands: their gains in dB add up.
        sample_rate: samples per second.

    Returns:
        float32 [n]; it may go beyond [-1, 1].

    Raises:
        ValueError: ``audio`` is not as above.
    """
    check_sound(audio)
    hz = _hz(sample_rate)
    if not len(bands) or not np.any(audio):
        return np.array(audio, np.float32)
    return _filtered(audio, sum(band.db(hz) for band in bands))


def band_limit(
    audio: np.ndarray, low_hz: float, high_hz: float, sample_rate: int = 16000, order: int = 2
) -> np.ndarray:
    """Leaves a band of sound: Butterworth's gains on both sides, without their phase.

    Args:
        audio: float [n].
        low_hz: lower end of the band, where 3 dB are lost; 0 keeps all below.
        high_hz: upper end of the band, above ``low_hz``.
        sample_rate: samples per second.
        order: each is worth 6 dB an octave, on either side.

    Returns:
        float32 [n].

    Raises:
        ValueError: ``audio`` is not as above, the ends are not 0 <= low < high, or ``order`` is below 1.
    """
    check_sound(audio)
    if not (_is_number(low_hz) and _is_number(high_hz) and 0 <= low_hz < high_hz):
        raise ValueError(f"band_limit: low_hz={low_hz!r}, high_hz={high_hz!r}: must be 0 <= low_hz < high_hz")
    if not order >= 1:
        raise ValueError(f"band_limit: order={order!r}: must be 1 or more")
    if not np.any(audio):
        return np.array(audio, np.float32)
    hz = _hz(sample_rate)
    lost = 10.0 * np.log10(1.0 + (low_hz / hz) ** (2 * order)) + 10.0 * np.log10(1.0 + (hz / high_hz) ** (2 * order))
    return _filtered(audio, -lost)


def clip(audio: np.ndarray, share: float, soft: bool = False) -> np.ndarray:
    """Cuts peaks off, as an amplifier does that is driven too far.

    Args:
        audio: float [n].
        share: where it cuts, as a share of the sound's highest peak, above 0 up to 1.
        soft: bends what comes near that level (``level * tanh(audio / level)``) instead of cutting at it.

    Returns:
        float32 [n], not beyond ``share`` of the peak.

    Raises:
        ValueError: ``audio`` is not as above, or ``share`` is out of range.
    """
    check_sound(audio)
    if not (_is_number(share) and 0.0 < share <= 1.0):
        raise ValueError(f"clip: share={share!r}: must be above 0, at most 1")
    audio = np.asarray(audio, np.float32)
    level = np.float32(share) * np.abs(audio).max(initial=np.float32(0.0))
    if level == 0.0:
        return audio.copy()
    return level * np.tanh(audio / level) if soft else np.clip(audio, -level, level)


def record(audio: np.ndarray, gain_db: float) -> np.ndarray:
    """What a 16-bit converter gives of sound at ``gain_db``: rounded, and cut at full scale.

    Args:
        audio: float [n].
        gain_db: change of level in dB before it.

    Returns:
        float32 [n], whole multiples of 1/32768 in [-1, 1).

    Raises:
        ValueError: ``audio`` is not as above, or ``gain_db`` is no number.
    """
    check_sound(audio)
    if not _is_number(gain_db):
        raise ValueError(f"record: gain_db={gain_db!r}: must be a number")
    steps = np.rint(np.asarray(audio, np.float64) * (32768.0 * 10.0 ** (gain_db / 20.0)))
    return (np.clip(steps, -32768, 32767) / 32768.0).astype(np.float32)


def _draw_bands(rng: np.random.Generator, config: EffectsConfig) -> list[Band]:
    count = int(rng.integers(config.eq_bands[0], config.eq_bands[1] + 1))
    return [
        Band(
            SHAPES[int(rng.integers(len(SHAPES)))],
            float(100.0 * 2.0 ** rng.uniform(0.0, 6.0)),  # 100 to 6400 Hz
            float(rng.uniform(*config.eq_gain_db)),
            float(rng.uniform(*config.eq_octaves)),
        )
        for _ in range(count)
    ]


def _check(audio: np.ndarray, config: EffectsConfig, sample_rate: int) -> None:
    check_sound(audio)
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, np.integer)) or sample_rate < 1000:
        raise ValueError(f"sample_rate={sample_rate!r}: must be an integer, 1000 or more")
    if config.codec_probability > 0.0:
        for name in config.codecs or ():
            check_codec(name, sample_rate)


def apply(audio: np.ndarray, rng: np.random.Generator, config: EffectsConfig, sample_rate: int = 16000) -> np.ndarray:
    """A clip as some device hears it: equalizer, band, clipping, level and codec, in this order, each if drawn.

    What the equalizer lifts beyond full scale is turned down as a whole: clipping is an effect of its own.

    Args:
        audio: float [n] in [-1, 1].
        rng: where all randomness comes from; the draws do not depend on ``audio``.
        config: the ranges.
        sample_rate: samples per second.

    Returns:
        float32 [n] in [-1, 1], not moved in time; all zeros stay all zeros.

    Raises:
        ValueError: ``audio`` or ``sample_rate`` is not as above, or a codec that ``config`` names cannot be used here.
    """
    _check(audio, config, sample_rate)
    with_eq, with_band, with_clip, soft, with_level, with_codec = rng.random(6) < [
        getattr(config, name) for name in _PROBABILITIES
    ]
    low_hz, high_hz = rng.uniform(*config.high_pass_hz), rng.uniform(*config.low_pass_hz)
    share, level_db, which = rng.uniform(*config.clip_share), rng.uniform(*config.level_db), rng.random()
    bands = _draw_bands(rng, config)
    out = audio.astype(np.float32)
    if with_eq:
        out = equalize(out, bands, sample_rate)
        out /= max(np.abs(out).max(initial=np.float32(0.0)), np.float32(1.0))
    if with_band:
        out = band_limit(out, low_hz, high_hz, sample_rate)
    if with_clip:
        out = clip(out, share, bool(soft))
    if with_level:
        out = record(out, level_db)
    if with_codec:
        names = config.codecs or codecs_here(sample_rate)
        out = transcode(out, names[int(which * len(names))], sample_rate)
    return np.clip(out, -1.0, 1.0)
