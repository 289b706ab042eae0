# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws phrase``: its steps, one after another; a step that is done is not done again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import rich.console

from tfmot_kws.commands.parts import card, watching
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.commands.parts.phrase import finish, gather, hours, noises, sounds, speak, steps
from tfmot_kws.commands.parts.phrase.plan import Options
from tfmot_kws.data import pronouncing
from tfmot_kws.frontend import features

_PHASES = 9
SYNTHETIC = (
    "This model knows the voices of synthesizers and made-up noise only: no recordings of people, music or rooms were "
    "given. It will wake up by itself in a living room."
)
_FETCH = (
    "fetch some: tfmot-kws fetch-data musan librispeech-train-clean-100 mit-rooms --accept-licences --out data, then "
    "--negatives data/librispeech-train-clean-100 --noises data/musan --rooms data/mit-rooms"
)


def run(options: Options, console: rich.console.Console | None = None) -> None:
    """Does what is left to do, and prints the summary.

    Raises:
        ValueError, OSError, ImportError: an option cannot be met; before any work is done.
        RuntimeError: voices or a runtime failed; the same call goes on.
    """
    console = console or consoles.stdout()
    options = _with_voices(options)
    steps.check(options.out, options.what_matters())
    finish.check_packages()
    watching.Watchers(options.tensorboard)
    card.check(finish.model_of(options))
    dictionary = pronouncing.load()
    if speak.syllables(options, dictionary) < 2:
        console.print(
            f"note: {options.word!r} has one syllable; such words are in much that is said, and a spotter of one wakes "
            "up often. Three or four are better",
            markup=False,
        )
    recordings = gather.recorded(console, options)
    own = gather.own_clips(options)
    long = hours.look(options.negatives, features.FrontendConfig(hop_ms=options.hop))
    gather.impulses(options.rooms)
    behind = noises.look(options.noises)
    for name in steps.added(options.out, options.what_matters()):
        console.print(f"note: --{name} is new: {options.out} goes on with it from what is done there", markup=False)
    limits = [SYNTHETIC] if gather.is_synthetic(recordings, options) else []
    if limits:
        console.print(f"note: {SYNTHETIC} {_FETCH}", markup=False)
    if options.teacher is not None:
        from tfmot_kws.commands.parts.phrase import learn

        learn.check_teacher(options)
    with speak.opened(options, dictionary) as speakers:
        progress = steps.Steps(options.out, options.what_matters())
        with progress.alone():
            phases = Phases(console, _PHASES + options.ensemble - 1 + bool(options.own) + bool(options.negatives))
            with phases.phase(f"saying {options.word!r}: {', '.join(options.voices)}") as advance:
                said = progress.once("clips", lambda: speak.say(speakers, options, advance))
            with phases.phase("recordings") as advance:
                found = progress.once("material", lambda: _gather(options, recordings, own, behind, advance))
            if not options.negatives and not found["talk"] and not limits:
                limits = [SYNTHETIC]
                console.print(f"note: {SYNTHETIC} {_FETCH}", markup=False)
            _show_left_out(console, found["problems"])
            sound = sounds.make(options, long, progress, phases)
            _show_left_out(console, sound.problems)
            _train(options, console, phases, progress, sound, (said, found), limits)


def _gather(options: Options, recordings, own, behind, advance) -> dict[str, Any]:
    more, unread = noises.read(behind, options.sizes.material_hours)
    found = gather.gather(speak.clips(options), recordings, own, options, advance, more)
    return {**found, "problems": [*found["problems"], *sounds.lines(unread)]}


def _with_voices(options: Options) -> Options:
    return options if options.voices else dataclasses.replace(options, voices=speak.installed())


def _show_left_out(console: rich.console.Console, lines: Sequence[str]) -> None:
    for line in lines[:10]:
        console.print(f"left out: {line}", markup=False)
    if len(lines) > 10:
        console.print(f"left out: {len(lines) - 10} more files")


def _train(
    options: Options, console: rich.console.Console, phases: Phases, progress: steps.Steps, sound: sounds.Sounds,
    before: tuple[dict[str, int], dict[str, Any]], limits: list[str],
) -> None:  # fmt: skip
    """Trains, exports, chooses the threshold, tests and shows what came of it."""
    from tfmot_kws.commands.parts.phrase import learn

    said, found = before
    learn.check_window(console, options, found["seconds"])
    for number in range(options.ensemble):
        label = f", {number + 1} of {options.ensemble}" if options.ensemble > 1 else ""
        with phases.phase(f"training, float{label}") as advance:
            progress.once(
                f"float_{number + 1}",
                lambda: learn.train_float(options, sound, number, advance),  # noqa: B023
            )
    progress.once("float", lambda: learn.join_floats(options))
    if options.own is not None:
        with phases.phase("training, your own voice") as advance:
            progress.once("own", lambda: learn.add_own(options, sound, advance))
    data = gather.data_of(options, said)
    with phases.phase(f"training, {options.bits} bits") as advance:
        progress.once("quantized", lambda: learn.train_quantized(options, sound, data, limits, advance))
    made = []
    for label, name, step in (
        ("the file", "export", finish.write_model),
        ("threshold, on the selection streams", "threshold", finish.choose_threshold),
        ("test and report", "test", finish.test),
    ):
        with phases.phase(label):
            made.append(progress.once(name, lambda: step(options)))  # noqa: B023
    finish.show(console, options, made[1], made[2], limits)
