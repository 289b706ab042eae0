# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws quantize``."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from tfmot_kws import atomic
from tfmot_kws.commands.parts import card, results, sidecar, unfinished
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.data import prepare

_BITS = 4


def parse_layer_bits(entries: Sequence[str]) -> dict[str, int]:
    """{"dense_1": 8} of ["dense_1=8"]; ValueError that names the entry otherwise."""
    widths = {}
    for entry in entries:
        name, _, bits = entry.rpartition("=")
        if not name or not bits.strip().isdigit():
            raise ValueError(f"--layer-bits {entry}: expected NAME=BITS, for example dense_1=8")
        if name.strip() in widths:
            raise ValueError(f"--layer-bits {entry}: {name.strip()} has a width already")
        widths[name.strip()] = int(bits)
    return widths


def choose(
    bits: int | None, widths: dict[str, int], dynamic: str | None, weights: str, flash: str | None = None,
    average_bits: float | None = None, target: str = "any",
):  # fmt: skip
    """The scheme of the options, and what it is called.

    Raises:
        ValueError: options that do not go together, or widths out of their range; the message names the option.
    """
    import tfmot_kws
    from tfmot_kws.quantize import budget, quantizers, scheme

    limited = flash is not None or average_bits is not None
    if target not in quantizers.MOST_RISE:
        raise ValueError(f"--target {target}: must be {' or '.join(quantizers.MOST_RISE)}")
    if target != "any" and (limited or dynamic is not None):
        raise ValueError(f"--target {target}: goes with --bits, not with --dynamic, --budget-flash or --budget-bits")
    if limited and (bits is not None or dynamic is not None):
        other = "--dynamic" if dynamic is not None else "--bits"
        raise ValueError(f"--budget-flash and --budget-bits: widths are learned then; leave {other} out")
    if dynamic is None:
        if weights != "linear":
            raise ValueError(f"--weights {weights}: goes with --dynamic only; other weights are always trained by tanh")
        if limited:
            allowed = budget.Budget(flash=flash, average_bits=average_bits)
            return scheme.kws_scheme("learned", widths, budget=allowed), "learned widths"
        suffix = "" if target == "any" else f" for {target}"
        return scheme.kws_scheme(bits=bits or _BITS, layer_bits=widths, target=target), f"{bits or _BITS} bits{suffix}"
    hybrid = dynamic.strip()
    if hybrid != "4-8" and not hybrid.isdigit():
        raise ValueError(f"--dynamic {dynamic}: must be 16, 8, 4, another width of 1..8, or 4-8")
    if hybrid == "4-8" and widths:
        raise ValueError("--layer-bits: 4-8 has its own widths for all layers; take one of the two")
    chosen: int | str | dict[str, int] = hybrid if hybrid == "4-8" else int(hybrid)
    if widths:
        chosen = {**widths, "*": int(hybrid)}
    made = tfmot_kws.dynamic_scheme(bits=chosen, weights=weights)
    return made, f"{hybrid} bits, dynamic" + (", tanh weights" if weights == "tanh" else "")


def run(
    model: pathlib.Path,
    data: pathlib.Path,
    out: pathlib.Path,
    bits: int | None,
    layer_bits: Sequence[str],
    stage1_epochs: int,
    stage2_epochs: int,
    copies: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    cache: pathlib.Path | None,
    dynamic: str | None = None,
    weights: str = "linear",
    speakers: str | None = None,
    resume: bool = False,
    flash: str | None = None,
    average_bits: float | None = None,
    target: str = "any",
) -> None:
    """Quantizes a float model, trains it on and writes it with its sidecar."""
    results.check_output(out, ".keras", "--out")
    if out.resolve() == model.resolve():
        raise ValueError(f"--out {out}: is the float model itself; name another file")
    asked = {
        "model": str(model.absolute()), "data": str(data.absolute()), "bits": bits or _BITS,
        "layer-bits": list(layer_bits), "dynamic": dynamic, "weights": weights, "stage1-epochs": stage1_epochs,
        "stage2-epochs": stage2_epochs, "copies": copies, "batch-size": batch_size, "learning-rate": learning_rate,
        "speakers": speakers, "seed": seed,
    }  # fmt: skip
    asked |= {"budget-flash": flash, "budget-bits": average_bits} if flash or average_bits else {}
    asked |= {"target": target} if target != "any" else {}
    unfinished.check(out, resume, asked)
    widths = parse_layer_bits(layer_bits)
    chosen, label = choose(bits, widths, dynamic, weights, flash, average_bits, target)
    before = sidecar.read(model)
    if before.kind != "float":
        raise ValueError(f"{model}: is {before.kind}; quantize starts from a float model, made by 'tfmot-kws train'")
    console = consoles.stdout()
    phases = Phases(console)
    clips = data_files.open_recordings(console, data, speakers, before)
    clips = prepare.without_compounds(clips, before.task.keywords)
    splits = prepare.eval_splits(clips, before.task.keywords)
    prepare.check_splits(clips, before.task.keywords, ("train", *splits))
    cache = cache or data_files.default_cache()

    from tfmot_kws.commands.parts import progress
    from tfmot_kws.evaluation import clips as evaluate
    from tfmot_kws.quantize import apply, model_costs, saving
    from tfmot_kws.training import low_rank_recipes, recipes

    recipe = recipes.TrainConfig(batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    one_stage = low_rank_recipes.LowRankConfig(
        quantized_epochs=max(1, stage1_epochs + stage2_epochs),
        batch_size=batch_size,
        learning_rate=learning_rate,
        quantized_rate_factor=1.0,
        seed=seed,
    )
    float_model = saving.load_model(model)
    if dynamic is None:
        chosen.check_names([layer.name for layer in float_model.layers])
        if chosen.default.learned is not None:
            apply.quantize_apply(float_model, chosen)  # a budget that cannot be met is refused here
    else:
        start = apply.quantize_apply(float_model, chosen)  # names that match nothing are refused here
    with phases.phase("features") as advance:
        training = prepare.training_features(clips, before.task, before.frontend, copies, seed, cache, advance)
        held_out = prepare.held_out_features(clips, before.task, before.frontend, splits, cache, advance)
    results.show_left_out(console, training.report.problems + held_out.report.problems)
    prepare.check_examples(training, before.task.keywords, "train")
    prepare.check_others(training, before.task.keywords, "train")
    prepare.check_examples(held_out, before.task.keywords, " and ".join(splits))
    prepare.check_others(held_out, before.task.keywords, " and ".join(splits))
    with unfinished.kept(console, out, asked) as run_folder:
        if dynamic is None:
            with phases.phase("training in two stages") as advance:
                quantized = recipes.train_quantized(
                    float_model,
                    chosen,
                    training,
                    recipe,
                    stage1_epochs,
                    stage2_epochs,
                    [progress.Epochs(advance)],
                    checkpoints=run_folder / "quantized",
                )
        elif stage1_epochs + stage2_epochs:
            with phases.phase("training") as advance:
                quantized = low_rank_recipes.train_quantized(
                    start, training, one_stage, run_folder / "quantized", callbacks=[progress.Epochs(advance)]
                )
        else:
            quantized = start
        chosen_widths = {layer.name: layer.weight_bits for layer in model_costs.learning(quantized)}
        base = evaluate.evaluate(results.keras_function(float_model), held_out)
        evaluation = evaluate.evaluate(results.keras_function(quantized), held_out)
        compared = evaluate.compare(base, evaluation)
        options = {
            "float_model": model.name,
            "bits": "learned" if chosen_widths else bits or _BITS,
            "layer_bits": widths,
            "dynamic": dynamic,
            "weights": weights if dynamic else "tanh",
            "stage1_epochs": stage1_epochs,
            "stage2_epochs": stage2_epochs,
            "copies": copies,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "speakers": speakers or before.options.get("speakers") or "auto",
            "data": [*(before.options.get("data") or ()), card.data_of(data, "training while quantized")],
        }
        if target != "any":
            options["quantized_for"] = target  # "target" is what an export packs for
        if chosen_widths:
            options |= {"widths": chosen_widths, "budget": {"flash": flash, "average_bits": average_bits}}
        with atomic.replacing(out) as temporary:
            quantized.save(temporary)
        metrics = results.metrics(evaluation, splits)
        sidecar.write(out, sidecar.Sidecar("quantized", before.frontend, before.task, options, metrics))
    results.show(console, f"{out.name}: {label}", evaluation, splits)
    if chosen_widths:
        console.print(f"bits: {', '.join(f'{name} {width}' for name, width in chosen_widths.items())}", markup=False)
    console.print(
        f"float model: accuracy {base.accuracy:.1%}; false detections {compared.float_fdr:.2%} where it misses "
        f"{compared.frr:.1%}, this model {compared.fdr:.2%}"
    )
    console.print(f"wrote {out} and {sidecar.path_of(out).name}")
