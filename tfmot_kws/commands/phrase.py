# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws phrase``."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Annotated

import typer

from tfmot_kws.commands.parts.options import TensorBoard
from tfmot_kws.commands.parts.phrase import plan

_OR_FAST = "{}; {} with --fast"


def _default(name: str) -> str:
    return _OR_FAST.format(getattr(plan.Sizes(), name), getattr(plan.FAST, name))


def phrase(
    phrase: Annotated[str, typer.Argument(help="What to listen for, two to four syllables or more: 'hey nova'.")],
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the model, its report and all between.")],
    voices: Annotated[
        list[str] | None,
        typer.Option(
            help="Who says it: espeak, kokoro, piper or flite; may be given again.",
            show_default="those of espeak and kokoro that are installed",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Clips of the phrase.", show_default=_default("count"))
    ] = None,
    spelling: Annotated[
        list[str] | None,
        typer.Option(help="Another spelling that is said as the phrase too, as for say.", show_default="none"),
    ] = None,
    data: Annotated[
        list[pathlib.Path] | None,
        typer.Option(
            help="Recordings, as train --data reads them; those of the phrase are keywords, all else is talk and "
            "noise. May be given again.",
            show_default="none",
        ),
    ] = None,
    negatives: Annotated[
        list[pathlib.Path] | None,
        typer.Option(help="Long sound in which nobody says the phrase. May be given again.", show_default="none"),
    ] = None,
    rooms: Annotated[
        list[pathlib.Path] | None,
        typer.Option(help="Impulse responses of rooms. May be given again.", show_default="made-up rooms only"),
    ] = None,
    noises: Annotated[
        list[pathlib.Path] | None,
        typer.Option(
            help="Noise and music that is mixed behind what is said. May be given again.",
            show_default="that of --data, or made-up noise",
        ),
    ] = None,
    own: Annotated[
        pathlib.Path | None,
        typer.Option(help="A few recordings of your own voice saying the phrase, once each.", show_default="none"),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Ten minutes instead of hours, and a poorer model.")] = False,
    hours: Annotated[
        float | None, typer.Option(help="Hours of scenes to train on.", show_default=_default("hours"))
    ] = None,
    test_hours: Annotated[
        float | None,
        typer.Option(help="Hours of scenes that the report is about.", show_default=_default("test_hours")),
    ] = None,
    network: Annotated[str, typer.Option(help="mixed_net, ds_cnn_stream or wakeword_250k.")] = "mixed_net",
    ensemble: Annotated[
        int,
        typer.Option(
            help="So many networks, trained from other seeds, whose mean is the model: as many times the size and the "
            "time, and fewer misses."
        ),
    ] = 1,
    bits: Annotated[int, typer.Option(help="Width of the weights, 1..8.")] = 4,
    teacher: Annotated[
        pathlib.Path | None,
        typer.Option(help="A larger float model of the same phrase, .keras, that is learnt from.", show_default="none"),
    ] = None,
    fa_per_hour: Annotated[float, typer.Option(help="False accepts an hour to choose the threshold for.")] = 0.5,
    device: Annotated[
        str | None, typer.Option("--for", help="esphome: its file and manifest.", show_default="packed ops")
    ] = None,
    hop_ms: Annotated[
        int | None, typer.Option(help="Milliseconds from frame to frame.", show_default="20; 10 --for esphome")
    ] = None,
    styles: Annotated[
        pathlib.Path | None, typer.Option(help="Kokoro's style files, as for say.", show_default="$KOKORO_STYLES")
    ] = None,
    voice_files: Annotated[
        list[pathlib.Path] | None, typer.Option(help="A voice of Piper, .onnx; may be given again.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that speak and render.", show_default="one for each core")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    tensorboard: TensorBoard = None,
) -> None:
    """From a phrase to a file for a device, with a report of how well it listens.

    Voices say the phrase and what sounds like it; hours of scenes are rendered from that and from your recordings; a
    small model is trained on them, quantized, exported, and tested on sound that nothing was chosen by. A run that was
    stopped goes on by the same command.

    Examples:
      tfmot-kws phrase "hey nova" --out runs/hey_nova --fast
      tfmot-kws phrase "hey nova" --out runs/hey_nova --data my_recordings --negatives radio --rooms data/mit-rooms
      tfmot-kws phrase "hey nova" --out runs/hey_nova --data my_recordings --own my_voice --for esphome
    """
    usual = plan.FAST if fast else plan.Sizes()
    given = {"count": count, "hours": hours, "test_hours": test_hours}
    sizes = dataclasses.replace(usual, **{name: value for name, value in given.items() if value is not None})
    options = plan.Options(
        phrase=phrase,
        out=out,
        voices=tuple(dict.fromkeys(voices or ())),
        spellings=tuple(spelling or ()),
        styles=styles,
        voice_files=tuple(voice_files or ()),
        data=tuple(data or ()),
        negatives=tuple(negatives or ()),
        rooms=tuple(rooms or ()),
        noises=tuple(noises or ()),
        own=own,
        network=network,
        ensemble=ensemble,
        bits=bits,
        teacher=teacher,
        fa_per_hour=fa_per_hour,
        hop_ms=hop_ms,
        device=device,
        seed=seed,
        jobs=jobs or os.cpu_count() or 1,
        sizes=sizes,
        tensorboard=tensorboard,
    )
    from tfmot_kws.commands.parts.phrase import run

    run.run(options)
