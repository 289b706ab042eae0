# SPDX-License-Identifier: Apache-2.0
"""The float model, what the user's own voice adds to it, and the quantized model; each is kept once it is whole."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.console

from tfmot_kws import atomic
from tfmot_kws.commands.parts import sidecar, teachers, watching
from tfmot_kws.commands.parts.phrase import network
from tfmot_kws.commands.parts.phrase.plan import TRAINING, Options
from tfmot_kws.commands.parts.phrase.render import Progress
from tfmot_kws.commands.parts.phrase.sounds import Sounds
from tfmot_kws.data import task
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import ensemble
from tfmot_kws.quantize import saving, scheme
from tfmot_kws.training import wake_word
from tfmot_kws.training.windows import Windows

_SPARE = 8
"""Width of the last layers: they are small, and errors in them are errors of the score."""
FLOAT, OWN, QUANTIZED = "_float.keras", "_own.keras", ".keras"
"""What the models' files end in, behind the name of the phrase."""


def frontend_of(options: Options) -> features.FrontendConfig:
    """How the device hears."""
    return features.FrontendConfig(hop_ms=options.hop)


def task_of(options: Options, frames: int) -> task.TaskConfig:
    """The phrase, and everything else as one class."""
    seconds = network.seconds_of(frames, frontend_of(options))
    return task.TaskConfig((options.word,), round(seconds, 6), unknown=True, silence=False)


def recipe(options: Options) -> wake_word.WakeWordConfig:
    """The recipe's defaults, as long as the sizes say."""
    sizes = options.sizes
    return wake_word.WakeWordConfig(
        epochs=sizes.epochs,
        stage1_epochs=sizes.stage1_epochs,
        stage2_epochs=sizes.stage2_epochs,
        steps=sizes.steps,
        batch_size=sizes.batch_size,
        seed=options.seed,
    )


def checkpoints(options: Options, step: str) -> pathlib.Path:
    """Where a step of training keeps its last whole epoch."""
    return options.work / TRAINING / step


def _told(options: Options, step: str) -> list[keras.callbacks.Callback]:
    """Who else is told of the epochs of a step."""
    return watching.Watch(options.tensorboard).callbacks(step)


def check_teacher(options: Options) -> None:
    """Raises ValueError where a teacher hears or answers otherwise than the model that is to be trained."""
    if options.teacher is None:
        return
    teachers.check(options.teacher, (task.UNKNOWN, options.word), frontend_of(options))
    wanted = network.build(options.network, 2, frontend_of(options)).input_shape
    teachers.check_shape(options.teacher, saving.load_model(options.teacher).input_shape, wanted)


def check_window(console: rich.console.Console, options: Options, seconds: float) -> None:
    """Says so where the phrase is longer than what the network hears at once.

    Args:
        console: where to.
        options: of the command.
        seconds: what nine of ten clips of the phrase do not exceed.
    """
    frames = network.build(options.network, 2, frontend_of(options)).input_shape[1]
    window = network.seconds_of(frames, frontend_of(options))
    if seconds > window:
        console.print(
            f"note: one of ten clips of the phrase is longer than {seconds:.2f} s, and {options.network} hears "
            f"{window:.2f} s at once: it will know the end of the phrase only. A shorter phrase is better",
            markup=False,
        )


def _streams(options: Options, sounds: Sounds) -> wake_word.Streams:
    hop = network.hop_of(options.network, frontend_of(options))
    return wake_word.Streams(sounds.selection, (options.word,), hop, options.fa_per_hour)


def _teacher(options: Options) -> keras.Model | None:
    return None if options.teacher is None else saving.load_model(options.teacher)


def train_float(options: Options, sounds: Sounds, number: int, progress: Progress) -> list[dict[str, Any]]:
    """Trains a float model; returns what was heard after each epoch.

    Args:
        options: of the command.
        sounds: what is trained on.
        number: of the model, from 0; each has a seed of its own.
        progress: told of epochs.
    """
    config = dataclasses.replace(recipe(options), seed=options.seed + number)
    keras.utils.set_random_seed(config.seed)
    model = network.build(options.network, 2, frontend_of(options))
    drawn = Windows(sounds.training, (options.word,), model.input_shape[1])
    heard = wake_word.train_float(
        model, drawn, _streams(options, sounds), config, _teacher(options), progress,
        checkpoints(options, f"float_{number + 1}"), _told(options, f"float_{number + 1}"),
    )  # fmt: skip
    _save(options, _one_of(options, number), model, "float", {"seed": config.seed})
    return _plain(heard)


def join_floats(options: Options) -> list[dict[str, Any]]:
    """Makes the float models one, their mean, where there are several."""
    if options.ensemble > 1:
        models = [saving.load_model(options.file(_one_of(options, n))) for n in range(options.ensemble)]
        _save(options, FLOAT, ensemble.mean_of(models), "float", {})
    return []


def _one_of(options: Options, number: int) -> str:
    """What the file of one of the float models ends in."""
    return FLOAT if options.ensemble == 1 else f"_float_{number + 1}.keras"


def add_own(options: Options, sounds: Sounds, progress: Progress) -> list[dict[str, Any]]:
    """Trains the float model on, at a low rate, with the user's own voice among the others."""
    model = saving.load_model(options.file(FLOAT))
    config = wake_word.refinement(recipe(options), options.sizes.own_epochs)
    drawn = Windows((*sounds.training, *sounds.own), (options.word,), model.input_shape[1])
    heard = wake_word.train_float(
        model, drawn, _streams(options, sounds), config, _teacher(options), progress, checkpoints(options, "own"),
        _told(options, "own"),
    )  # fmt: skip
    _save(options, OWN, model, "float", {})
    return _plain(heard)


def train_quantized(
    options: Options, sounds: Sounds, data: list[dict[str, Any]], limits: list[str], progress: Progress
) -> list[dict[str, Any]]:
    """Quantizes the float model and trains it on in two stages, with the float model or ``--teacher`` as its teacher.

    Args:
        options: of the command.
        sounds: what is trained on.
        data: what the card is to say of the data.
        limits: what it is to say of the model beside what it always says.
        progress: told of epochs.
    """
    float_model = saving.load_model(options.file(OWN if sounds.own else FLOAT))
    # Mined anew, by the float model: a run that goes on here draws what one without a stop draws.
    drawn = Windows((*sounds.training, *sounds.own), (options.word,), float_model.input_shape[1])
    widths = {} if options.bits >= _SPARE else {"logits*": _SPARE}
    chosen = scheme.kws_scheme(bits=options.bits, layer_bits=widths)
    teacher = _teacher(options) or float_model
    streams = _streams(options, sounds)
    model, heard = wake_word.train_quantized(
        float_model, chosen, drawn, streams, recipe(options), teacher, progress, checkpoints(options, "quantized"),
        _told(options, "quantized"),
    )  # fmt: skip
    about = {"bits": options.bits, "layer_bits": widths, "data": data, "limits": limits}
    _save(options, QUANTIZED, model, "quantized", about)
    return _plain(heard)


def _save(options: Options, ending: str, model: keras.Model, kind: str, about: dict[str, Any]) -> None:
    path = options.file(ending)
    made = {"network": options.network, "ensemble": options.ensemble, "seed": options.seed, "phrase": options.word}
    made |= about
    sidecar.write(path, sidecar.Sidecar(kind, frontend_of(options), task_of(options, model.input_shape[1]), made))
    with atomic.replacing(path) as temporary:
        model.save(temporary)


def _plain(heard: Sequence[wake_word.Heard]) -> list[dict[str, Any]]:
    """As JSON has it, which knows no NaN."""
    return [
        {name: value if np.isfinite(value) else None for name, value in dataclasses.asdict(one).items()}
        for one in heard
    ]
