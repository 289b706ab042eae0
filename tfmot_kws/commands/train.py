# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws train``: its options; the work is in ``parts.training``."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from tfmot_kws.commands.parts.options import (
    Backend,
    Cache,
    Data,
    HopMs,
    Keywords,
    Mlflow,
    Network,
    Pcan,
    Resume,
    Seed,
    Speakers,
    TensorBoard,
)


def train(
    data: Data,
    out: Annotated[pathlib.Path, typer.Option(help="Model file, .keras; x.keras.json goes with it.")],
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
    tensorboard: TensorBoard = None,
    mlflow: Mlflow = None,
) -> None:
    """Trains a float model.

    For a wake word that holds on long sound: --context 1 --mine FOLDER --confusables "words,like it".

    Examples:
      tfmot-kws train --data my_recordings --keywords yes,no --out float.keras
      tfmot-kws train --data my_recordings --width 18 --epochs 60 --out small.keras
      tfmot-kws train --data my_recordings --keywords alexa --context 1 --mine radio --out wake.keras
    """
    from tfmot_kws.commands.parts import training as command
    from tfmot_kws.commands.parts import watching

    command.run(
        data, out, keywords, epochs, width, backend, copies, batch_size, learning_rate, clip_seconds, seed, cache,
        context, mine, mine_rounds, confusables, speakers, resume, hop_ms, pcan, network,
        watching.Watchers(tensorboard, mlflow),
    )  # fmt: skip
