# SPDX-License-Identifier: Apache-2.0
"""Long sound made of clips: keywords among talk, other words and pauses, in noise and rooms, as a microphone has it.

A spotter is used on sound without end. What it is trained on should be so too: the front end's noise estimate has
settled on what came before, a keyword is cut into by the word before it, and most of the time there is none. A scene
is a stretch of such sound, drawn from a seed: the same seed and the same clips give the same samples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from tfmot_kws.data.corpus import Clip, Corpus
from tfmot_kws.data.stream_labels import Target
from tfmot_kws.sound import augment, endpoints
from tfmot_kws.sound import effects as devices
from tfmot_kws.sound import files as audio
from tfmot_kws.sound.problems import Problem

SPEECH_DB = -24.0
"""Level (RMS, dB of full scale) of an utterance before its own gain."""
_LEAST_SECONDS = 0.025
"""What is shorter is no utterance."""
_SENTENCE_SECONDS = 1.6
_NOISE_PERIOD = 1 << 21
"""Samples after which synthetic noise repeats, without a seam: two minutes at 16 kHz."""


@dataclasses.dataclass(frozen=True)
class SceneConfig:
    """What scenes are drawn from. Two numbers are the lowest and the highest of a uniform draw.

    Attributes:
        seconds: length of a scene.
        keywords: share of the utterances that are keywords, 0..1.
        like: share of the utterances that are words like the keywords, or parts of the keywords, 0..1.
        parts: of these, the share that is parts of keywords, 0..1.
        sentences: of what is neither, the share that is long (sentences), 0..1; the rest is single words.
        pause: seconds from the end of what is said to the start of what is said next.
        joined: share of the utterances that follow with a pause of at most 0.1 s instead, 0..1: unbroken talk.
        speed: of an utterance, by resampling: pitch changes too.
        gain_db: of an utterance against the others.
        rooms: share of the scenes that are heard in a room, 0..1.
        room_seconds: time in which the room's sound falls by 60 dB.
        quiet: share of the scenes without noise, 0..1.
        snr_db: speech to noise, of the others.
        talk: share of the noises that are other people talking, 0..1.
        level_db: the whole scene against what the microphone gives at -24 dB of full scale.
        cut: share of the other utterances that are cut at their start or end, 0..1: words that were never met.

    Raises:
        ValueError: a share or a range is out of bounds; the message names it.
    """

    seconds: float = 60.0
    keywords: float = 0.3
    like: float = 0.06
    parts: float = 0.25
    sentences: float = 0.6
    pause: tuple[float, float] = (0.05, 1.6)
    joined: float = 1 / 3
    speed: tuple[float, float] = (0.88, 1.13)
    gain_db: tuple[float, float] = (-5.0, 5.0)
    rooms: float = 0.5
    room_seconds: tuple[float, float] = (0.1, 0.7)
    quiet: float = 0.1
    snr_db: tuple[float, float] = (0.0, 25.0)
    talk: float = 0.2
    level_db: tuple[float, float] = (-30.0, 10.0)
    cut: float = 0.15

    def __post_init__(self) -> None:
        for name in ("keywords", "like", "parts", "sentences", "joined", "rooms", "quiet", "talk", "cut"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"SceneConfig.{name}={getattr(self, name)!r}: must be between 0 and 1")
        if self.keywords + self.like > 1.0:
            raise ValueError(f"SceneConfig.keywords + like = {self.keywords + self.like:g}: must be at most 1")
        if not 2.0 <= self.seconds <= 3600.0:
            raise ValueError(f"SceneConfig.seconds={self.seconds!r}: must be between 2 and 3600")
        for name, low, high in (
            ("pause", 0.0, 60.0), ("speed", 0.5, 2.0), ("gain_db", -60.0, 40.0), ("room_seconds", 0.0, 5.0),
            ("snr_db", -60.0, 120.0), ("level_db", -96.0, 24.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if len(value) != 2 or not low <= value[0] <= value[1] <= high:
                raise ValueError(
                    f"SceneConfig.{name}={value!r}: must be two rising numbers between {low:g} and {high:g}"
                )


SINGLE_WORDS = SceneConfig(
    keywords=0.4, like=0.02, sentences=0.03, pause=(0.05, 1.0), joined=0.15, rooms=0.3, quiet=0.2, snr_db=(5.0, 30.0),
    cut=0.05,
)  # fmt: skip
"""Words one by one: what a device hears that takes commands, and other words instead of them."""
WORDS_ALONE = dataclasses.replace(
    SINGLE_WORDS, sentences=0.0, pause=(0.5, 1.5), joined=0.0, rooms=0.0, quiet=1.0, cut=0.0
)
"""The same with nothing around them, near the microphone: what is said to a device in a quiet room."""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """Something said.

    Attributes:
        samples: int16 [n] at the rate of the scenes.
        word: what, where it is a keyword; "" for everything else.
        start: where it begins, in samples.
        end: where it ends, in samples.
        speaker: who says it, "" where nobody knows.

    Raises:
        ValueError: the samples have another type or rank, or do not hold ``start`` and ``end``.
    """

    samples: np.ndarray
    word: str
    start: int
    end: int
    speaker: str = ""

    def __post_init__(self) -> None:
        if self.samples.dtype != np.int16 or self.samples.ndim != 1:
            raise ValueError(
                f"Utterance.samples: expected int16 [samples], got {self.samples.dtype} of {self.samples.shape}"
            )
        if not 0 <= self.start < self.end <= len(self.samples):
            raise ValueError(
                f"Utterance(word={self.word!r}, start={self.start}, end={self.end}): must be 0 <= start < end <= "
                f"{len(self.samples)}, the number of its samples"
            )


@dataclasses.dataclass(frozen=True)
class Material:
    """What scenes are made of; every list may be empty but all speech that is no keyword at once.

    A share of the utterances whose list is empty goes to sentences and single words.

    Attributes:
        keywords: by word.
        like: words like the keywords.
        sentences: long utterances.
        words: short ones.
        noises: int16 [n] each.
        sample_rate: of all of it.
        problems: files that could not be read and are left out.
        rooms: measured impulse responses at that rate, float32 [n] each, from their direct path on
            (``augment.from_direct_path``). Half of the rooms are drawn from them, where there are any.

    Raises:
        ValueError: there is no speech that is no keyword, such speech is marked as a keyword, a keyword as another,
            or a noise is empty or no int16.
    """

    keywords: dict[str, tuple[Utterance, ...]]
    like: tuple[Utterance, ...]
    sentences: tuple[Utterance, ...]
    words: tuple[Utterance, ...]
    noises: tuple[np.ndarray, ...]
    sample_rate: int = 16000
    problems: tuple[Problem, ...] = ()
    rooms: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        if not (self.sentences or self.words or self.like):
            raise ValueError("there is no speech beside the keywords; add recordings of other words or of sentences")
        for name, pool in (("like", self.like), ("sentences", self.sentences), ("words", self.words)):
            marked = sorted({said.word for said in pool if said.word})
            if marked:
                raise ValueError(f"Material.{name}: holds the keyword {marked[0]!r}; it belongs to Material.keywords")
        for word, pool in self.keywords.items():
            if any(said.word != word for said in pool):
                raise ValueError(f"Material.keywords[{word!r}]: holds an utterance that is not marked as this word")
        if any(noise.dtype != np.int16 or noise.ndim != 1 or not len(noise) for noise in self.noises):
            raise ValueError("Material.noises: each must be int16 [samples], at least one sample")


@dataclasses.dataclass(frozen=True)
class Scene:
    """A stretch of sound.

    Attributes:
        samples: int16 [n].
        targets: the keywords in it that are heard whole, by time.
        snr_db: of each of them, its level while it is said to that of the noise; inf where there is none.
    """

    samples: np.ndarray
    targets: tuple[Target, ...]
    snr_db: tuple[float, ...] = ()


def material(
    clips: Corpus,
    keywords: Sequence[str],
    like: Sequence[str] = (),
    rate: int = 16000,
    progress: Callable[[int, int], None] | None = None,
) -> Material:
    """Reads clips into memory: 115 MB an hour.

    Args:
        clips: of one split; streams are left out.
        keywords: what is to be found.
        like: words that are like them; clips of kind "near" and "confusable" are so too.
        rate: samples per second.
        progress: called with (clips read, clips in all).

    Raises:
        ValueError: a keyword has no clip that can be read, or there is no other speech.
    """
    if isinstance(keywords, str) or isinstance(like, str):
        raise ValueError(f"material: keywords={keywords!r}, like={like!r}: must be lists of words, not one string")
    found: dict[str, list[Utterance]] = {word: [] for word in keywords}
    near, sentences, words, noises, problems = [], [], [], [], []
    chosen = [clip for clip in clips if not clip.is_stream]
    for number, clip in enumerate(chosen):
        try:
            samples = np.rint(audio.read(clip.path, rate) * 32767.0).astype(np.int16)
        except audio.AudioError as error:
            problems.append(Problem(error.path, error.problem, error.detail))
            continue
        finally:
            if progress is not None:
                progress(number + 1, len(chosen))
        if clip.is_noise:
            if np.any(samples):
                noises.append(samples)
            continue
        said = utterance(samples, clip, rate, keywords)
        if said is None:
            continue
        if said.word:
            found[said.word].append(said)
        elif clip.word in like or clip.kind in ("near", "confusable"):
            near.append(said)
        elif said.end - said.start > _SENTENCE_SECONDS * rate:
            sentences.append(said)
        else:
            words.append(said)
    lacking = [word for word, said in found.items() if not said]
    if lacking:
        raise ValueError(
            f"keyword {lacking[0]!r}: none of {len(chosen)} clips says it and can be read ({len(problems)} cannot); "
            "add recordings of it"
        )
    lists = {word: tuple(said) for word, said in found.items()}
    return Material(lists, tuple(near), tuple(sentences), tuple(words), tuple(noises), rate, tuple(problems))


def utterance(samples: np.ndarray, clip: Clip, rate: int, keywords: Sequence[str]) -> Utterance | None:
    """What is said in a clip, between two short margins; None for silence.

    Args:
        samples: int16 [n], the whole clip.
        clip: says what and by whom, and where its speech is; ``endpoints`` finds it where it does not say.
        rate: samples per second.
        keywords: other words become "".
    """
    if clip.start is None or clip.end is None:
        start, end = endpoints.speech(samples, rate)
    else:
        start, end = round(clip.start * rate), min(round(clip.end * rate), len(samples))
    if end - start < _LEAST_SECONDS * rate or not np.any(samples[start:end]):
        return None
    margin = rate // 10
    first = max(0, start - margin)
    kept = samples[first : end + margin]
    return Utterance(kept, clip.word if clip.word in keywords else "", start - first, end - first, clip.speaker)


def render(
    found: Material, config: SceneConfig, seed: Sequence[int] | int, effects: devices.EffectsConfig | None = None
) -> Scene:
    """Draws a scene.

    Args:
        found: what it is made of.
        config: the ranges.
        seed: of everything that is drawn.
        effects: ``sound.effects.EffectsConfig``: what the microphone does to it; None does nothing.

    Returns:
        The scene. Only what is no keyword may be cut by its end; a keyword that does not fit whole is left out, and
        nothing is said after it.
    """
    rng = np.random.default_rng(seed)
    rate, total = found.sample_rate, round(config.seconds * found.sample_rate)
    sound = np.zeros(total, np.float32)
    targets: list[Target] = []
    levels: list[float] = []
    in_room = rng.random() < config.rooms
    impulses = _places(found, config, rng) if in_room else []
    at = int(rng.uniform(0.0, 1.0) * rate)  # where the speech of what comes next begins
    while at < total:
        said = _draw(found, config, rng)
        samples, start, end, said_db = _spoken(said, config, rng, rate)
        if impulses and rng.random() < 0.8:
            impulse = impulses[int(rng.integers(len(impulses)))]
            # The room goes on to sound when the recording has ended: cut off there it would click.
            samples = augment.reverberate(np.pad(samples, (0, len(impulse) - 1)), impulse)
        first = max(at - start, 0)
        if said.word and first + end > total:
            break
        piece = samples[: total - first]
        sound[first : first + len(piece)] += piece
        if said.word:
            targets.append(Target(said.word, (first + start) / rate, (first + end) / rate, said.speaker))
            levels.append(said_db)
        pause = rng.uniform(*config.pause) if rng.random() >= config.joined else rng.uniform(0.0, 0.1)
        at = first + end + int(pause * rate)
    noise_db = -math.inf
    if rng.random() >= config.quiet:
        noise, noise_db = _noise(total, found, config, rng)
        sound += noise
    level = float(rng.uniform(*config.level_db))
    sound = sound * np.float32(10.0 ** (level / 20.0))
    if effects is not None:
        sound = devices.apply(sound, rng, effects, rate)
    ratios = tuple(one - noise_db for one in levels)
    return Scene(np.clip(np.rint(sound * 32767.0), -32768, 32767).astype(np.int16), tuple(targets), ratios)


def _places(found: Material, config: SceneConfig, rng: np.random.Generator) -> list[np.ndarray]:
    """Impulse responses of three places in one room: measured ones are taken as they come, each a room of its own."""
    if found.rooms and rng.random() < 0.5:
        return [found.rooms[int(rng.integers(len(found.rooms)))]]
    return [augment.room(rng, float(rng.uniform(*config.room_seconds)), found.sample_rate) for _ in range(3)]


def _draw(found: Material, config: SceneConfig, rng: np.random.Generator) -> Utterance:
    """What is said next."""
    drawn = rng.random()
    words = [word for word, said in found.keywords.items() if said]
    if drawn < config.keywords:
        if words:
            return _one(found.keywords[words[int(rng.integers(len(words)))]], rng)
    elif drawn < config.keywords + config.like:
        if words and rng.random() < config.parts:
            said = _one(found.keywords[words[int(rng.integers(len(words)))]], rng)
            return _part(said, rng, found.sample_rate)
        if found.like:
            return _one(found.like, rng)
    both = [pool for pool in (found.sentences, found.words) if pool]
    if not both:
        return _one(found.like, rng)
    said = _one(both[0 if len(both) == 1 or rng.random() < config.sentences else 1], rng)
    return _shortened(said, rng, found.sample_rate) if rng.random() < config.cut else said


def _one(pool: Sequence[Utterance], rng: np.random.Generator) -> Utterance:
    return pool[int(rng.integers(len(pool)))]


def _part(said: Utterance, rng: np.random.Generator, rate: int) -> Utterance:
    """The first or the last part of a keyword, at most 45 % of it: not the keyword."""
    share = rng.uniform(0.2, 0.45)
    at_start = rng.random() < 0.5
    return _kept(said, share, at_start, rate)


def _shortened(said: Utterance, rng: np.random.Generator, rate: int) -> Utterance:
    """Without some of its start or of its end."""
    at_start = rng.random() < 0.5
    return _kept(said, rng.uniform(0.3, 0.9), at_start, rate)


def _kept(said: Utterance, share: float, at_start: bool, rate: int) -> Utterance:
    """So much of its start, or of its end, and no keyword any more."""
    length = max(1, int(share * (said.end - said.start)))
    if at_start:
        end = said.start + length
        return Utterance(_faded(said.samples[:end], rate), "", said.start, end)
    return Utterance(_faded(said.samples[said.end - length :], rate), "", 0, length)


def _faded(samples: np.ndarray, rate: int) -> np.ndarray:
    """Without clicks at its ends: 5 ms of rise and fall."""
    size = min(rate // 200, len(samples) // 2)
    out = samples.astype(np.float32)
    ramp = np.linspace(0.0, 1.0, size, endpoint=False, dtype=np.float32)
    out[:size] *= ramp
    out[len(out) - size :] *= ramp[::-1]
    return out.astype(np.int16)


def _faster(samples: np.ndarray, speed: float, length: int) -> np.ndarray:
    """The first ``length`` samples of sound that is played ``speed`` times as fast, float32."""
    return np.interp(np.arange(length) * speed, np.arange(len(samples)), samples).astype(np.float32)


def _spoken(
    said: Utterance, config: SceneConfig, rng: np.random.Generator, rate: int
) -> tuple[np.ndarray, int, int, float]:
    """Float samples at the speed and level that are drawn, where its speech begins and ends, and its level in dB."""
    speed = float(rng.uniform(*config.speed))
    length = max(1, int(len(said.samples) / speed))
    samples = _faster(said.samples, speed, length) / np.float32(32768.0)
    start = min(round(said.start / speed), length - 1)
    end = min(max(round(said.end / speed), start + 1), length)
    rms = math.sqrt(float(np.mean(np.square(samples[start:end], dtype=np.float64))) + 1e-12)
    level = SPEECH_DB + float(rng.uniform(*config.gain_db))
    gain = min(10.0 ** (level / 20.0) / rms, 1000.0)
    return samples * np.float32(gain), start, end, level


def _noise(samples: int, found: Material, config: SceneConfig, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Noise at a ratio to the level that speech has in scenes, and its level in dB."""
    kind = rng.random()
    if kind < config.talk and (found.sentences or found.words):
        noise = _babble(found, samples, rng)
    elif found.noises and kind < config.talk + 0.85 * (1.0 - config.talk):
        noise = _recorded(found.noises, samples, rng, found.sample_rate)
    else:
        noise = coloured(rng, samples, found.sample_rate)
    power = float(np.mean(np.square(noise, dtype=np.float64)))
    if power == 0.0:
        return noise, -math.inf
    level = SPEECH_DB - float(rng.uniform(*config.snr_db))
    return noise * np.float32(10.0 ** (level / 20.0) / math.sqrt(power)), level


def _recorded(noises: Sequence[np.ndarray], samples: int, rng: np.random.Generator, rate: int) -> np.ndarray:
    """One or two at once, of recordings one after another, each at its own speed and level."""
    total = np.zeros(samples, np.float32)
    for _ in range(int(rng.integers(1, 3))):
        level = np.float32(10.0 ** (rng.uniform(-10.0, 0.0) / 20.0))
        at = 0
        while at < samples:
            noise = noises[int(rng.integers(len(noises)))]
            speed = float(rng.uniform(0.8, 1.25))
            wanted = min(int(rng.uniform(5.0, 30.0) * rate), samples - at)
            piece = _faster(augment.take_noise(noise, int(wanted * speed) + 2, rng), speed, wanted)
            rms = math.sqrt(float(np.mean(np.square(piece, dtype=np.float64))) + 1e-9)
            total[at : at + wanted] += piece * (level / np.float32(max(rms, 1.0)))
            at += wanted
    return total


def _babble(found: Material, samples: int, rng: np.random.Generator) -> np.ndarray:
    """One to four people talking without a pause: noise, so nobody says a keyword."""
    pool = found.sentences or found.words
    total = np.zeros(samples, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        at = 0
        while at < samples:
            said = _one(pool, rng)
            piece = said.samples[said.start : said.end].astype(np.float32)[: samples - at]
            rms = math.sqrt(float(np.mean(np.square(piece, dtype=np.float64))) + 1e-9)
            total[at : at + len(piece)] += piece / np.float32(max(rms, 1.0))
            at += len(piece)
    return total


def coloured(rng: np.random.Generator, samples: int, rate: int = 16000) -> np.ndarray:
    """Steady noise whose power falls by 0 to 9 dB an octave, with some hum: fans, streets, mains.

    Args:
        rng: where all randomness comes from.
        samples: how many.
        rate: samples per second.

    Returns:
        float32 [samples], about 1 RMS.
    """
    size = min(1 << max(samples - 1, 1).bit_length(), _NOISE_PERIOD)
    spectrum = rng.standard_normal(size // 2 + 1) + 1j * rng.standard_normal(size // 2 + 1)
    slope = rng.uniform(0.0, 1.5)
    spectrum /= np.maximum(np.arange(size // 2 + 1), 20.0 * size / rate) ** slope
    noise = np.fft.irfft(spectrum, size)[:samples]
    noise = (noise / max(float(np.std(noise)), 1e-12)).astype(np.float32)
    noise = np.resize(noise, samples)  # an inverse FFT repeats without a seam
    if rng.random() < 0.3:
        pitch = rng.uniform(40.0, 400.0)
        phase = 2.0 * math.pi * np.mod(pitch / rate * np.arange(samples), 1.0)
        for number in range(1, 5):
            noise += np.float32(rng.uniform(0.0, 1.0)) * np.sin(number * phase).astype(np.float32)
    return noise
