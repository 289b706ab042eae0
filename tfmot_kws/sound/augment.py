# SPDX-License-Identifier: Apache-2.0
"""Seeded augmentation of clips (numpy) and SpecAugment masks for features.

Everything random comes from a ``numpy.random.Generator`` that the caller passes: the same seed
gives the same samples. Imports numpy only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the augmentation; the defaults are mild. Zero widths switch a step off.

    Attributes:
        shift_ms: the clip moves by up to this much either way; what leaves is lost.
        gain_db: (lowest, highest) change of level in dB.
        speed: (slowest, fastest) playback, by resampling, so pitch changes too; 1 is unchanged.
        snr_db: (lowest, highest) ratio of speech to noise in dB.
        noise_probability: share of clips, 0..1, that get noise.
        reverb_probability: share of clips, 0..1, that get a room.
        reverb_seconds: (shortest, longest) time in which a synthetic room's sound falls by 60 dB.
        time_masks: SpecAugment masks over frames, per clip.
        time_mask_frames: longest time mask in frames.
        freq_masks: SpecAugment masks over mel channels, per clip.
        freq_mask_bins: widest frequency mask in channels.

    Raises:
        ValueError: a range is reversed or out of bounds; the message names it.
    """

    shift_ms: float = 100.0
    gain_db: tuple[float, float] = (-6.0, 6.0)
    speed: tuple[float, float] = (0.9, 1.1)
    snr_db: tuple[float, float] = (0.0, 20.0)
    noise_probability: float = 0.8
    reverb_probability: float = 0.3
    reverb_seconds: tuple[float, float] = (0.1, 0.6)
    time_masks: int = 2
    time_mask_frames: int = 5
    freq_masks: int = 2
    freq_mask_bins: int = 5

    def __post_init__(self) -> None:
        for name, low, high in (
            ("gain_db", -96.0, 96.0),
            ("speed", 0.5, 2.0),
            ("snr_db", -60.0, 120.0),
            ("reverb_seconds", 0.0, 5.0),
        ):
            value = getattr(self, name)
            good = len(value) == 2 and low <= value[0] <= value[1] <= high
            if not good:
                raise ValueError(
                    f"AugmentConfig.{name}={value!r}: must be two numbers (lowest, highest) "
                    f"between {low:g} and {high:g}"
                )
            object.__setattr__(self, name, (float(value[0]), float(value[1])))
        for name in ("noise_probability", "reverb_probability"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"AugmentConfig.{name}={value!r}: must be between 0 and 1")
        if not 0.0 <= self.shift_ms <= 10_000.0:
            raise ValueError(f"AugmentConfig.shift_ms={self.shift_ms!r}: must be between 0 and 10000")
        for name in ("time_masks", "time_mask_frames", "freq_masks", "freq_mask_bins"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"AugmentConfig.{name}={value!r}: must be an integer, 0 or more")

    def to_dict(self) -> dict:
        """The options as plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, options: dict) -> AugmentConfig:
        """The inverse of ``to_dict``."""
        return cls(**options)


def shift(audio: np.ndarray, samples: int) -> np.ndarray:
    """Moves float [n] by ``samples`` to the right (left if negative), zeros coming in."""
    out = np.zeros_like(audio)
    n = len(audio)
    if abs(samples) < n:
        out[max(samples, 0) : n + min(samples, 0)] = audio[max(-samples, 0) : n - max(samples, 0)]
    return out


def gain(audio: np.ndarray, db: float) -> np.ndarray:
    """Multiplies by ``10 ** (db / 20)``."""
    return audio * np.float32(10.0 ** (db / 20.0))


def change_speed(audio: np.ndarray, factor: float) -> np.ndarray:
    """Plays float [n] ``factor`` times as fast (linear interpolation), kept at n samples.

    The result is centred: a slow version loses both ends, a fast one gets zeros at both.

    Raises:
        ValueError: ``factor`` is not positive.
    """
    if not factor > 0:
        raise ValueError(f"speed factor {factor!r}: must be above 0")
    if factor == 1.0 or len(audio) == 0:
        return audio
    middle = (len(audio) - 1) / 2.0
    at = (np.arange(len(audio)) - middle) * factor + middle
    out = np.interp(at, np.arange(len(audio)), audio, left=0.0, right=0.0)
    return out.astype(np.float32)


def add_noise(audio: np.ndarray, noise: np.ndarray, snr_db: float, lead: int = 0) -> np.ndarray:
    """Adds ``noise``, scaled so that speech power / noise power is ``snr_db``.

    Power is the mean square over the whole clip. Silence on either side leaves ``audio`` as is.

    Args:
        audio: float [n].
        noise: float [n].
        snr_db: ratio in dB.
        lead: samples at the start that get noise but do not count as speech.
    """
    speech_power = float(np.mean(np.square(audio[lead:], dtype=np.float64)))
    noise_power = float(np.mean(np.square(noise, dtype=np.float64)))
    if speech_power == 0.0 or noise_power == 0.0:
        return audio
    factor = math.sqrt(speech_power / noise_power) * 10.0 ** (-snr_db / 20.0)
    return (audio + np.float32(factor) * noise).astype(np.float32)


def take_noise(noise: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A random stretch of ``samples`` samples; a shorter recording is repeated.

    Raises:
        ValueError: ``noise`` is empty.
    """
    if len(noise) == 0:
        raise ValueError("noise: the recording is empty")
    if len(noise) <= samples:
        first = int(rng.integers(len(noise)))
        return np.take(noise, np.arange(first, first + samples), mode="wrap")
    first = int(rng.integers(len(noise) - samples + 1))
    return noise[first : first + samples]


def room(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """A synthetic room impulse response: a direct path, then decaying noise.

    The tail is Gaussian noise times ``exp(-6.91 t / seconds)``, which is a fall of 60 dB in
    ``seconds`` (6.91 = ln 1000), starting 2 to 20 ms after the direct path, at a
    direct-to-reverberant ratio of 0 to 12 dB.

    Returns:
        float32 [about seconds * sample_rate], first sample 1.
    """
    length = max(2, int(seconds * sample_rate))
    delay = min(length - 1, int(rng.uniform(0.002, 0.02) * sample_rate))
    ratio_db = rng.uniform(0.0, 12.0)
    time = np.arange(length, dtype=np.float64) / sample_rate
    tail = rng.standard_normal(length) * np.exp(-math.log(1000.0) * time / max(seconds, 1e-3))
    tail[: max(delay, 1)] = 0.0
    energy = math.sqrt(float(np.sum(tail * tail)))
    if energy > 0.0:
        tail *= 10.0 ** (-ratio_db / 20.0) / energy
    tail[0] = 1.0
    return tail.astype(np.float32)


def from_direct_path(impulse: np.ndarray) -> np.ndarray:
    """A measured room impulse response without what lies ahead of its direct path, so that it moves no sound in time.

    The direct path is where the response first comes within 20 dB of its peak (ISO 3382-1).

    Args:
        impulse: float [n], as measured; its level does not matter.

    Returns:
        float32 [n or fewer].

    Raises:
        ValueError: it has another rank, is silent or holds values that are not finite.
    """
    size = np.abs(np.asarray(impulse, np.float32))
    if size.ndim != 1 or not np.isfinite(size).all() or not size.any():
        what = f"shape {size.shape}" if size.ndim != 1 else "silent, or not finite"
        raise ValueError(f"impulse response: expected float [samples] with sound in it, found {what}")
    return np.asarray(impulse, np.float32)[np.argmax(size >= 0.1 * size.max()) :]


def reverberate(audio: np.ndarray, impulse: np.ndarray) -> np.ndarray:
    """Convolves float [n] with ``impulse``, keeps the first n samples and the level (RMS)."""
    n = len(audio)
    if n == 0:
        return audio
    size = 1 << (n + len(impulse) - 1).bit_length()
    out = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(impulse, size), size)[:n]
    before, after = float(np.sum(audio.astype(np.float64) ** 2)), float(np.sum(out**2))
    scale = math.sqrt(before / after) if after > 0.0 else 1.0
    return (out * scale).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Motion:
    """How an augmented clip's sound moved in time: played ``speed`` times as fast, then ``offset`` samples later."""

    speed: float = 1.0
    offset: int = 0

    def source(self, samples: int) -> tuple[float, float]:
        """Where an augmented clip's sound was before: sample n is (first + n * speed) of the clip of that length.

        The inverse of ``change_speed``, which keeps the middle in its place, and ``shift``.

        Returns:
            (first, speed), the former in samples; it may be below 0.
        """
        middle = (samples - 1) / 2.0
        return middle - (middle + self.offset) * self.speed, self.speed


def draw_motion(rng: np.random.Generator, config: AugmentConfig, sample_rate: int = 16000) -> Motion:
    """The first draws of ``augment``."""
    speed = float(rng.uniform(*config.speed))
    return Motion(speed, int(round(rng.uniform(-1.0, 1.0) * config.shift_ms * sample_rate / 1000.0)))


def augment(
    audio: np.ndarray,
    rng: np.random.Generator,
    config: AugmentConfig,
    noises: Sequence[np.ndarray] = (),
    sample_rate: int = 16000,
    before: np.ndarray | None = None,
    motion: Motion | None = None,
    rooms: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """One augmented version of a clip: speed, shift, room, noise, gain, in this order.

    Args:
        audio: float32 [samples] in [-1, 1].
        rng: where all randomness comes from; the draws do not depend on ``audio``.
        config: the ranges.
        noises: recordings, float32 [any length] each; without any, white noise is used.
        sample_rate: samples per second.
        before: float32, what is heard ahead of the clip: it gets the same noise and gain.
        motion: from ``draw_motion`` with the same ``rng``, for callers that need to know it; drawn here where None.
        rooms: measured impulse responses at ``sample_rate``, float32 [any length] each, as they were measured or from
            ``from_direct_path``; without any, synthetic rooms are used.

    Returns:
        float32 [samples] in [-1, 1], behind what was before where that is given.
    """
    motion = motion or draw_motion(rng, config, sample_rate)
    with_room, with_noise = rng.random(2) < (config.reverb_probability, config.noise_probability)
    seconds = rng.uniform(*config.reverb_seconds)
    snr_db = rng.uniform(*config.snr_db)
    level_db = rng.uniform(*config.gain_db)
    out = shift(change_speed(audio.astype(np.float32), motion.speed), motion.offset)
    if with_room:
        if len(rooms):
            impulse = from_direct_path(rooms[int(rng.integers(len(rooms)))])
        else:
            impulse = room(rng, seconds, sample_rate)
        out = reverberate(out, impulse)
    lead = 0 if before is None else len(before)
    if lead:
        out = np.concatenate([before.astype(np.float32), out])
    n = len(out)
    if with_noise and n > lead:
        if len(noises):
            noise = take_noise(noises[int(rng.integers(len(noises)))], n, rng)
        else:
            noise = rng.standard_normal(n).astype(np.float32)
        out = add_noise(out, noise, snr_db, lead)
    return np.clip(gain(out, level_db), -1.0, 1.0).astype(np.float32)


def spec_augment(
    features: np.ndarray, rng: np.random.Generator, config: AugmentConfig, fill: float = 0.0
) -> np.ndarray:
    """SpecAugment (Park et al., 2019) without warping: random stretches become ``fill``.

    Args:
        features: float [frames, mel].
        rng: where the masks come from.
        config: number and largest size of the masks.
        fill: what masked values become; 0 is silence for both front ends.

    Returns:
        A masked copy, the same shape.
    """
    out = features.copy()
    for axis, count, widest in (
        (0, config.time_masks, config.time_mask_frames),
        (1, config.freq_masks, config.freq_mask_bins),
    ):
        size = out.shape[axis]
        for _ in range(count):
            width = min(int(rng.integers(widest + 1)), size)
            first = int(rng.integers(size - width + 1))
            masked = [slice(None), slice(None)]
            masked[axis] = slice(first, first + width)
            out[tuple(masked)] = fill
    return out
