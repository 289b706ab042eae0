# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws quantize``."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from tfmot_kws import atomic, datasets
from tfmot_kws.commands import console as consoles
from tfmot_kws.commands import data as data_files
from tfmot_kws.commands import results, sidecar
from tfmot_kws.commands.console import Phases


def parse_layer_bits(entries: Sequence[str]) -> dict[str, int]:
    """{"dense_1": 8} of ["dense_1=8"]; ValueError that names the entry otherwise."""
    widths = {}
    for entry in entries:
        name, _, bits = entry.rpartition("=")
        if not name or not bits.strip().isdigit():
            raise ValueError(f"--layer-bits {entry}: expected NAME=BITS, for example dense_1=8")
        widths[name.strip()] = int(bits)
    return widths


def run(
    model: pathlib.Path,
    data: pathlib.Path,
    out: pathlib.Path,
    bits: int,
    layer_bits: Sequence[str],
    stage1_epochs: int,
    stage2_epochs: int,
    copies: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    cache: pathlib.Path | None,
) -> None:
    """Quantizes a float model, trains it on and writes it with its sidecar."""
    results.check_suffix(out, ".keras", "--out")
    widths = parse_layer_bits(layer_bits)
    before = sidecar.read(model)
    if before.kind != "float":
        raise ValueError(f"{model}: is {before.kind}; quantize starts from a float model, made by 'tfmot-kws train'")
    console = consoles.stdout()
    phases = Phases(console)
    clips = data_files.without_compounds(datasets.open_corpus(data), before.task.keywords)
    splits = data_files.eval_splits(clips)
    cache = cache or data_files.default_cache()

    from tfmot_kws import evaluate, recipes, scheme
    from tfmot_kws.commands import progress

    chosen = scheme.kws_scheme(bits=bits, layer_bits=widths)
    float_model = scheme.load_model(model)
    chosen.check_names([layer.name for layer in float_model.layers])
    with phases.phase("features") as advance:
        training = data_files.training_features(clips, before.task, before.frontend, copies, seed, cache, advance)
        held_out = data_files.held_out_features(clips, splits, before.task, before.frontend, cache, advance)
    recipe = recipes.TrainConfig(batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    with phases.phase("training in two stages") as advance:
        quantized = recipes.train_quantized(
            float_model, chosen, training, recipe, stage1_epochs, stage2_epochs, [progress.Epochs(advance)]
        )
    base = evaluate.evaluate(results.keras_function(float_model), held_out)
    evaluation = evaluate.evaluate(results.keras_function(quantized), held_out)
    compared = evaluate.compare(base, evaluation)
    options = {
        "float_model": model.name,
        "bits": bits,
        "layer_bits": widths,
        "stage1_epochs": stage1_epochs,
        "stage2_epochs": stage2_epochs,
        "copies": copies,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    with atomic.replacing(out) as temporary:
        quantized.save(temporary)
    metrics = results.metrics(evaluation, splits)
    sidecar.write(out, sidecar.Sidecar("quantized", before.frontend, before.task, options, metrics))
    results.show(console, f"{out.name}: {bits} bits", evaluation, splits)
    console.print(
        f"float model: accuracy {base.accuracy:.1%}; false detections {compared.float_fdr:.2%} where it misses "
        f"{compared.frr:.1%}, this model {compared.fdr:.2%}"
    )
    console.print(f"wrote {out} and {sidecar.path_of(out).name}")
