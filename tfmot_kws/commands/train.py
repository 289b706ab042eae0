# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws train``: its options; the work is in ``parts.training``."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from tfmot_kws.commands.parts.options import (
    Backend,
    Cache,
    DataOrShards,
    Distribute,
    HopMs,
    Keywords,
    Mlflow,
    Network,
    Pcan,
    Resume,
    Seed,
    Speakers,
    SweepMethod,
    SweepObjective,
    SweepStages,
    SweepText,
    TensorBoard,
    Trials,
)


def train(
    data: DataOrShards,
    out: Annotated[
        pathlib.Path, typer.Option(help="Model file, .keras; x.keras.json goes with it. With --sweep a folder.")
    ],
    keywords: Keywords = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training examples.")] = 30,
    width: Annotated[int, typer.Option(min=1, help="Outputs of hidden layers: 128 is 250K parameters, 18 15K.")] = 128,
    network: Network = None,
    backend: Backend = "micro",
    hop_ms: HopMs = 20,
    pcan: Pcan = True,
    copies: Annotated[int, typer.Option(min=0, help="Augmented versions of each clip; 0 trains on clips as is.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's, at the start; a cosine ends at 1 % of it.")] = 2e-3,
    clip_seconds: Annotated[float, typer.Option(help="Length of an example in seconds.")] = 1.0,
    context: Annotated[
        float, typer.Option(help="Seconds of sound that the front end hears before each example, as in a stream.")
    ] = 0.0,
    mine: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder of long sound without keywords: what the model falls for is taught to it."),
    ] = None,
    mine_rounds: Annotated[int, typer.Option(min=1, help="How often it is run and trained on.")] = 2,
    confusables: Annotated[
        str | None, typer.Option(help="Words like the keywords, with commas; spoken by espeak-ng, with the keywords.")
    ] = None,
    seed: Seed = 0,
    cache: Cache = None,
    speakers: Speakers = None,
    resume: Resume = False,
    distribute: Distribute = None,
    tensorboard: TensorBoard = None,
    mlflow: Mlflow = None,
    sweep: SweepText = None,
    trials: Trials = None,
    sweep_method: SweepMethod = None,
    sweep_objective: SweepObjective = None,
    sweep_stages: SweepStages = None,
) -> None:
    """Trains a float model, or with --sweep many models, of which it keeps the best.

    For a wake word that holds on long sound: --context 1 --mine FOLDER --confusables "words,like it".

    A sweep judges its trials by split dev and measures the best by split test. The same command goes on where it was
    stopped, and with more --trials. It writes sweep.csv, sweep.json, sweep.png and best.keras into the folder --out.

    Examples:
      tfmot-kws train --data my_recordings --keywords yes,no --out float.keras
      tfmot-kws train --data my_recordings --width 18 --epochs 60 --out small.keras
      tfmot-kws train --data my_recordings --keywords alexa --context 1 --mine radio --out wake.keras
      tfmot-kws train --data my_recordings --distribute local:2 --out float.keras
      tfmot-kws train --data my_recordings --out runs/study --trials 12 \\
        --sweep "bits=8,4,2 width=18,32,64 learning_rate=5e-4:4e-3:log"
    """
    from tfmot_kws.commands.parts import distributing, sweeping, watching
    from tfmot_kws.commands.parts import training as command

    sweeping.check_alone(
        sweep,
        {
            "trials": trials, "sweep-method": sweep_method, "sweep-objective": sweep_objective,
            "sweep-stages": sweep_stages, "mine": mine, "confusables": confusables, "resume": resume,
            "distribute": distribute,
        },
    )  # fmt: skip
    if sweep is not None:
        chosen = {"trials": trials, "method": sweep_method, "objective": sweep_objective, "stages": sweep_stages}
        sweeping.run(
            sweeping.Sweep(sweep, **{name: value for name, value in chosen.items() if value is not None}),
            sweeping.Options(
                data, out, keywords, epochs, width, backend, copies, batch_size, learning_rate, clip_seconds, context,
                seed, cache, speakers, hop_ms, pcan, network,
            ),
            watching.Watchers(tensorboard, mlflow),
        )  # fmt: skip
        return
    with distributing.joined(distribute) as workers:
        command.run(
            data, out, keywords, epochs, width, backend, copies, batch_size, learning_rate, clip_seconds, seed, cache,
            context, mine, mine_rounds, confusables, speakers, resume, hop_ms, pcan, network,
            workers.watchers(tensorboard, mlflow), workers,
        )  # fmt: skip
