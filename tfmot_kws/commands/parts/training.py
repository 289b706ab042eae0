# SPDX-License-Identifier: Apache-2.0
"""What ``tfmot-kws train`` does."""

from __future__ import annotations

import dataclasses
import pathlib

from tfmot_kws import atomic
from tfmot_kws.commands.parts import card, distributing, results, sidecar, watching
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.data import prepare
from tfmot_kws.frontend import features


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
    context: float = 0.0,
    mine: pathlib.Path | None = None,
    mine_rounds: int = 2,
    confusables: str | None = None,
    speakers: str | None = None,
    resume: bool = False,
    hop_ms: int = 20,
    pcan: bool = True,
    network: pathlib.Path | None = None,
    watchers: watching.Watchers | None = None,
    workers: distributing.Workers = distributing.ALONE,
) -> None:
    """Trains a float model and writes it with its sidecar; of several workers the chief writes."""
    watchers = watchers or watching.Watchers()
    results.check_output(out, ".keras", "--out")
    asked = {
        "data": data_files.named(data), "keywords": keywords, "epochs": epochs, "width": width, "backend": backend,
        "copies": copies, "batch-size": batch_size, "learning-rate": learning_rate, "clip-seconds": clip_seconds,
        "context": context, "mine": mine and str(mine.absolute()), "mine-rounds": mine_rounds,
        "confusables": confusables, "speakers": speakers, "seed": seed, "hop-ms": hop_ms,
        "no-pcan": None if pcan else True, "network": network and network.read_text(encoding="utf-8"),
    }  # fmt: skip
    workers.check(out, resume, asked)
    workers.check_batch(batch_size)
    if mine is not None and not mine.is_dir():
        raise ValueError(f"--mine {mine}: no such folder")
    console = workers.console()
    phases = Phases(console)
    prepared = data_files.open_prepared(
        data,
        {
            "keywords": (keywords, None), "backend": (backend, "micro"), "hop-ms": (hop_ms, 20),
            "no-pcan": (not pcan, False), "copies": (copies, 3), "clip-seconds": (clip_seconds, 1.0),
            "context": (context, 0.0),
            "speakers": (speakers, None), "mine": (mine, None), "confusables": (confusables, None),
        },
    )  # fmt: skip
    if prepared is not None:
        frontend, task, splits = prepared.frontend, prepared.task, prepared.held_out()
        copies, clip_seconds = prepared.about["copies"], task.clip_seconds
        console.print(f"keywords: {', '.join(task.keywords)}", markup=False)
    else:
        frontend = features.FrontendConfig(backend=backend, hop_ms=hop_ms, pcan=pcan)
        clips, task, splits = data_files.open_task(console, data, speakers, keywords, clip_seconds, context)
    if mine is not None:
        data_files.other_class(task)  # where what is mined goes

    from tfmot_kws.commands.parts import networks, progress
    from tfmot_kws.evaluation import clips as evaluate
    from tfmot_kws.models import spotters as models
    from tfmot_kws.training import mining, recipes

    recipe = recipes.TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        augment=recipes.augment_of(frontend),
    )
    frames = frontend.num_frames(round(clip_seconds * frontend.sample_rate))
    sinc = models.SincSpec(sample_rate=frontend.sample_rate) if frontend.backend == "raw" else None
    shape = models.ModelConfig(len(task.classes), frames, frontend.mel_bins, width, sinc=sinc)  # refuses options
    if network is not None:
        shape = networks.read(network, shape)
    cache = cache or data_files.default_cache()
    spoken = data_files.words_of(confusables)
    if spoken:
        with phases.phase("speaking confusable words") as advance:
            clips = clips + data_files.speak_confusables(task.keywords, spoken, cache, seed, advance)
        task = prepare.make_task(clips, task.keywords, clip_seconds, context)
        shape = dataclasses.replace(shape, num_classes=len(task.classes))
    sound: list = []
    if mine is not None:
        with phases.phase("reading sound to mine") as advance:
            sound, problems = data_files.read_long(mine, frontend.sample_rate, advance)
        results.show_left_out(console, problems)
    if prepared is not None:
        training, held_out = data_files.prepared_features(phases, prepared, splits)
    else:
        training, held_out = data_files.load_features(phases, clips, task, frontend, splits, copies, seed, cache)

    with (
        workers.kept(console, out, asked) as run_folder,
        watchers.opened("train", out, asked, run_folder) as watch,
    ):
        with phases.phase("training") as advance:
            told = [progress.Epochs(advance), *watch.callbacks("float")]
            model = recipes.train_float(
                training, shape, recipe, told, checkpoints=run_folder / "float", strategy=workers.strategy
            )
        for number in range(mine_rounds if sound else 0):
            with phases.phase(f"mining, round {number + 1}") as advance:
                function = results.keras_function(model)
                found = mining.mine(
                    function, sound, frontend, shape.frames, data_files.keyword_classes(task), progress=advance
                )
            console.print(
                f"{len(found.x):,} hard negatives in {found.hours:.2f} h; {int((found.scores > 0).sum()):,} of them "
                "taken for a keyword"
            )
            training = training.with_examples(found.x, data_files.other_class(task), f"{mine} (mined)")
            more = dataclasses.replace(recipe, epochs=max(1, epochs // 3), learning_rate=learning_rate / 2)
            with phases.phase("training on") as advance:
                kept = run_folder / f"mined_{number + 1}"
                told = [progress.Epochs(advance), *watch.callbacks(kept.name)]
                model = recipes.train_on(model, training, more, told, checkpoints=kept, strategy=workers.strategy)
        if not workers.chief:
            return
        evaluation = evaluate.evaluate(results.keras_function(model), held_out)
        metrics = results.metrics(evaluation, splits)
        options = {
            "epochs": epochs,
            "width": width,
            "copies": copies,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "speakers": speakers or "auto",
            "mined": None if mine is None else mine_rounds,
            "confusables": list(spoken or ()),
            "data": [
                card.data_of(data, "training"),
                *([card.data_of(mine, "hard negatives")] if mine else []),
                *([{"folder": "synthetic speech", "use": "words like them", "licences": None}] if spoken else []),
            ],
        }
        with atomic.replacing(out) as temporary:
            model.save(temporary)
        sidecar.write(out, sidecar.Sidecar("float", frontend, task, options, metrics))
        watch.written(out, model.count_params())
    results.show(console, f"{out.name}: {model.count_params():,} parameters", evaluation, splits)
    console.print(f"wrote {out} and {sidecar.path_of(out).name}")
