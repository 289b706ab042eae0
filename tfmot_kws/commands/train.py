# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws train``."""

from __future__ import annotations

import pathlib

from tfmot_kws import atomic, datasets, features
from tfmot_kws.commands import console as consoles
from tfmot_kws.commands import data as data_files
from tfmot_kws.commands import results, sidecar
from tfmot_kws.commands.console import Phases


def run(
    data: pathlib.Path,
    out: pathlib.Path,
    keywords: str | None,
    epochs: int,
    width: int,
    backend: str,
    copies: int,
    batch_size: int,
    learning_rate: float,
    clip_seconds: float,
    seed: int,
    cache: pathlib.Path | None,
) -> None:
    """Trains a float model and writes it with its sidecar."""
    results.check_suffix(out, ".keras", "--out")
    console = consoles.stdout()
    phases = Phases(console)
    frontend = features.FrontendConfig(backend=backend)
    clips = datasets.open_corpus(data)
    splits = data_files.eval_splits(clips)
    words = data_files.words_of(keywords) or data_files.pick_keywords(clips, ("train", *splits))
    clips = data_files.without_compounds(clips, words)
    task = data_files.make_task(clips, words, clip_seconds)
    cache = cache or data_files.default_cache()
    with phases.phase("features") as advance:
        training = data_files.training_features(clips, task, frontend, copies, seed, cache, advance)
        held_out = data_files.held_out_features(clips, splits, task, frontend, cache, advance)
    console.print(f"train: {training.report.summary()}")
    console.print(f"{' and '.join(splits)}: {held_out.report.summary()}")

    from tfmot_kws import evaluate, models, recipes
    from tfmot_kws.commands import progress

    frames, mel_bins = training.x.shape[1:]
    recipe = recipes.TrainConfig(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    shape = models.ModelConfig(len(task.classes), frames, mel_bins, width)
    with phases.phase("training") as advance:
        model = recipes.train_float(training, shape, recipe, [progress.Epochs(advance)])
    evaluation = evaluate.evaluate(results.keras_function(model), held_out)
    metrics = results.metrics(evaluation, splits)
    options = {
        "epochs": epochs,
        "width": width,
        "copies": copies,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    with atomic.replacing(out) as temporary:
        model.save(temporary)
    sidecar.write(out, sidecar.Sidecar("float", frontend, task, options, metrics))
    results.show(console, f"{out.name}: {model.count_params():,} parameters", evaluation, splits)
    console.print(f"wrote {out} and {sidecar.path_of(out).name}")
