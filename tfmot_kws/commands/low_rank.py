# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws low-rank``."""

from __future__ import annotations

import dataclasses
import pathlib

from tfmot_kws import atomic
from tfmot_kws.commands.parts import card, results, sidecar, watching
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.data import alignment as alignments
from tfmot_kws.data import prepare
from tfmot_kws.frontend import features

FRONTEND = features.FrontendConfig(mel_bins=20, window_ms=25, hop_ms=10)
"""20 log-mel bands, 25 ms every 10 ms, as in Mishchenko et al. 2019."""


def run(
    data: pathlib.Path,
    out: pathlib.Path,
    keywords: str | None,
    alignment: pathlib.Path | None,
    epochs: tuple[int, int, int],
    backend: str,
    copies: int,
    batch_size: int,
    learning_rate: float,
    clip_seconds: float,
    seed: int,
    cache: pathlib.Path | None,
    checkpoints: pathlib.Path | None,
    speakers: str | None = None,
    tensorboard: pathlib.Path | None = None,
) -> None:
    """Trains the 50K spotter in three stages and writes it with its sidecar."""
    results.check_output(out, ".keras", "--out")
    watch = watching.Watch(watching.Watchers(tensorboard).board)
    if backend == "raw":
        raise ValueError(
            "--backend raw: the low-rank spotter stacks mel features; use micro or lfbe, or 'tfmot-kws train'"
        )
    console = consoles.stdout()
    phases = Phases(console)
    frontend = dataclasses.replace(FRONTEND, backend=backend)
    clips, task, splits = data_files.open_task(console, data, speakers, keywords, clip_seconds)
    cache = cache or data_files.default_cache()
    table = None if alignment is None else alignments.read(alignment)  # before anything that takes long
    with phases.phase("features") as advance:
        training = prepare.training_features(clips, task, frontend, copies, seed, cache, advance)
        held_out = prepare.held_out_features(clips, task, frontend, splits, cache, advance)
    console.print(f"train: {training.report.summary()}")
    console.print(f"{' and '.join(splits)}: {held_out.report.summary()}")
    results.show_left_out(console, training.report.problems + held_out.report.problems)
    prepare.check_examples(training, task.keywords, "train")
    prepare.check_others(training, task.keywords, "train")
    prepare.check_examples(held_out, task.keywords, " and ".join(splits))
    prepare.check_others(held_out, task.keywords, " and ".join(splits))

    from tfmot_kws.commands.parts import progress
    from tfmot_kws.data import frame_labels
    from tfmot_kws.evaluation import clips as evaluate
    from tfmot_kws.training import low_rank_recipes

    if table is None:
        labels = frame_labels.from_words(training, frontend, clips)
    else:
        labels = frame_labels.from_alignment(training, frontend, table)
    first, second, third = epochs
    recipe = low_rank_recipes.LowRankConfig(
        phone_epochs=first, multitask_epochs=second, low_rank_epochs=third, learning_rate=learning_rate,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    model = None
    stages = (
        ("phones", low_rank_recipes.train_phones),
        ("multitask", low_rank_recipes.train_multitask),
        ("low_rank", low_rank_recipes.train_low_rank),
    )
    for name, stage in stages:
        folder = None if checkpoints is None else checkpoints / name
        with phases.phase(f"training: {name.replace('_', ' ')}") as advance:
            given = () if model is None else (model,)
            told = [progress.Epochs(advance), *watch.callbacks(name)]
            model = stage(*given, training, labels, recipe, folder, told)
    spotter = low_rank_recipes.keyword_model(model)
    evaluation = evaluate.evaluate(results.keras_function(spotter), held_out)
    options = {
        "architecture": "svd_50k",
        "alignment": None if alignment is None else alignment.name,
        "epochs": list(epochs),
        "copies": copies,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "speakers": speakers or "auto",
        "data": [card.data_of(data, "training")],
    }
    with atomic.replacing(out) as temporary:
        spotter.save(temporary)
    metrics = results.metrics(evaluation, splits)
    sidecar.write(out, sidecar.Sidecar("float", frontend, task, options, metrics))
    results.show(console, f"{out.name}: {spotter.count_params():,} parameters", evaluation, splits)
    console.print(f"wrote {out} and {sidecar.path_of(out).name}")
