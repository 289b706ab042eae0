# SPDX-License-Identifier: Apache-2.0
"""What ``tfmot-kws quantize`` does."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from tfmot_kws import atomic
from tfmot_kws.commands.parts import card, distributing, results, sidecar, teachers, watching
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


@dataclasses.dataclass(frozen=True)
class Limits:
    """Options of what learned widths may cost, as the command line has them; see ``budget.Budget``."""

    flash: str | None = None
    average_bits: float | None = None
    instructions: float | None = None
    core: str | None = None
    ram: str | None = None
    streaming: bool = False
    target: str = "any"
    activation_bits: str = "8"
    average_activation_bits: float | None = None

    def given(self) -> dict[str, Any]:
        """Those that limit something, for ``Budget``."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del found["activation_bits"]
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in found.items() if value != defaults[name]}

    def asked(self) -> dict[str, Any]:
        """Those that are not their defaults, by the names of options."""
        names = {"core": "core", "activation_bits": "activation-bits", "average_bits": "budget-bits",
                 "average_activation_bits": "budget-activation-bits"}  # fmt: skip
        found = self.given() | ({"activation_bits": self.activation_bits} if self.activation_bits != "8" else {})
        return {names.get(name, f"budget-{name}"): value for name, value in found.items()}

    @property
    def weights(self) -> bool:
        """Whether widths of weights are to be learned."""
        return not (self.flash is None and self.average_bits is None and self.instructions is None)


def _budget(limits: Limits):
    """The budget of the options, or None; its errors name them."""
    from tfmot_kws.quantize import budget

    given = limits.given()
    if not given:
        return None
    if not limits.weights and limits.ram is None and limits.average_activation_bits is None:
        raise ValueError(
            f"{', '.join(f'--{name}' for name in limits.asked() if name != 'activation-bits')}: limits nothing; "
            "give --budget-flash, --budget-bits, --budget-instructions, --budget-ram or --budget-activation-bits"
        )
    try:
        return budget.Budget(**given)
    except ValueError as error:
        raise ValueError(f"{', '.join(f'--{name}' for name in limits.asked())}: {error}") from error


def _activation_bits(limits: Limits) -> int | str:
    text = limits.activation_bits.strip()
    if text != "learned" and not text.isdigit():
        raise ValueError(f"--activation-bits {limits.activation_bits}: must be 2..8 or learned")
    if (text == "learned") != (limits.average_activation_bits is not None):
        raise ValueError("--activation-bits learned and --budget-activation-bits: go with each other")
    return text if text == "learned" else int(text)


def choose(
    bits: int | None, widths: dict[str, int], dynamic: str | None, weights: str, limits: Limits | None = None,
    target: str = "any",
):  # fmt: skip
    """The scheme of the options, and what it is called.

    Raises:
        ValueError: options that do not go together, or widths out of their range; the message names the option.
    """
    import tfmot_kws
    from tfmot_kws.quantize import quantizers, scheme

    limits = limits or Limits()
    if target not in quantizers.MOST_RISE:
        raise ValueError(f"--target {target}: must be {' or '.join(quantizers.MOST_RISE)}")
    if target != "any" and (limits.weights or dynamic is not None):
        raise ValueError(f"--target {target}: goes with --bits, not with --dynamic or widths that are learned")
    activations, allowed = _activation_bits(limits), _budget(limits)
    if limits.weights and bits is not None:
        raise ValueError(
            "--budget-flash, --budget-bits, --budget-instructions: widths are learned then; leave --bits out"
        )
    if dynamic is None:
        if weights != "linear":
            raise ValueError(f"--weights {weights}: goes with --dynamic only; other weights are always trained by tanh")
        chosen = "learned" if limits.weights else bits or _BITS
        made = scheme.kws_scheme(chosen, widths, activation_bits=activations, budget=allowed, target=target)
        label = "learned widths" if limits.weights else f"{chosen} bits"
        label += "" if target == "any" else f" for {target}"
        return made, label + (", of activations too" if activations == "learned" else "")
    if activations != 8:
        raise ValueError(f"--activation-bits {activations}: goes without --dynamic, in which activations are floats")
    hybrid = dynamic.strip()
    if hybrid not in ("4-8", "learned") and not hybrid.isdigit():
        raise ValueError(f"--dynamic {dynamic}: must be 16, 8, 4, another width of 1..8, 4-8 or learned")
    if (hybrid == "learned") != limits.weights:
        raise ValueError(
            f"--dynamic {dynamic}: --dynamic learned and a budget of weights (--budget-flash, --budget-bits, "
            "--budget-instructions) go with each other"
        )
    if hybrid == "4-8" and widths:
        raise ValueError("--layer-bits: 4-8 has its own widths for all layers; take one of the two")
    own = hybrid if hybrid in ("4-8", "learned") else int(hybrid)
    made = tfmot_kws.dynamic_scheme(bits={**widths, "*": own} if widths else own, weights=weights, budget=allowed)
    said = "learned widths" if hybrid == "learned" else f"{hybrid} bits"
    return made, f"{said}, dynamic" + (", tanh weights" if weights == "tanh" else "")


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
    limits: Limits | None = None,
    target: str = "any",
    teacher: pathlib.Path | None = None,
    watchers: watching.Watchers | None = None,
    workers: distributing.Workers = distributing.ALONE,
) -> None:
    """Quantizes a float model, trains it on and writes it with its sidecar, and a picture where widths are learned."""
    limits, watchers = limits or Limits(), watchers or watching.Watchers()
    results.check_output(out, ".keras", "--out")
    if out.resolve() == model.resolve():
        raise ValueError(f"--out {out}: is the float model itself; name another file")
    asked = {
        "model": str(model.absolute()), "data": data_files.named(data), "bits": bits or _BITS,
        "layer-bits": list(layer_bits), "dynamic": dynamic, "weights": weights, "stage1-epochs": stage1_epochs,
        "stage2-epochs": stage2_epochs, "copies": copies, "batch-size": batch_size, "learning-rate": learning_rate,
        "speakers": speakers, "seed": seed,
    }  # fmt: skip
    asked |= limits.asked() | ({"target": target} if target != "any" else {})
    asked |= {"teacher": str(teacher.absolute())} if teacher else {}
    if workers.strategy is not None and dynamic is not None:
        raise ValueError("--distribute: trains the two stages; with --dynamic one process trains alone")
    workers.check(out, resume, asked)
    workers.check_batch(batch_size)
    widths = parse_layer_bits(layer_bits)
    chosen, label = choose(bits, widths, dynamic, weights, limits, target)
    before = sidecar.read(model)
    if before.kind != "float":
        raise ValueError(f"{model}: is {before.kind}; quantize starts from a float model, made by 'tfmot-kws train'")
    if dynamic is not None and before.frontend.backend == "raw":
        raise ValueError(
            f"--dynamic: {model} hears samples, whose filters no dynamic kernel computes; quantize it with --bits"
        )
    if teacher is not None and dynamic is not None:
        raise ValueError("--teacher: goes without --dynamic, which trains by labels alone")
    if teacher is not None:
        teachers.check(teacher, before.task.classes, before.frontend)
    console = workers.console()
    phases = Phases(console)
    prepared = data_files.open_prepared(data, {"copies": (copies, 3), "speakers": (speakers, None)})
    if prepared is not None:
        if dynamic is not None:
            raise ValueError(f"--dynamic: trains from recordings or features in memory; {data} is shards")
        data_files.check_same(data, prepared, before)
        splits, copies = prepared.held_out(), prepared.about["copies"]
    else:
        clips = data_files.open_recordings(console, data, speakers, before)
        clips = prepare.without_compounds(clips, before.task.keywords)
        splits = prepare.eval_splits(clips, before.task.keywords)
        prepare.check_splits(clips, before.task.keywords, ("train", *splits))
    cache = cache or data_files.default_cache()

    from tfmot_kws.commands.parts import progress
    from tfmot_kws.evaluation import clips as evaluate
    from tfmot_kws.quantize import activation_costs, apply, model_costs, saving
    from tfmot_kws.training import low_rank_recipes, recipes
    from tfmot_kws.training.width_history import KINDS, WidthHistory

    recipe = recipes.TrainConfig(
        batch_size=batch_size, learning_rate=learning_rate, seed=seed, augment=recipes.augment_of(before.frontend)
    )
    one_stage = low_rank_recipes.LowRankConfig(
        quantized_epochs=max(1, stage1_epochs + stage2_epochs),
        batch_size=batch_size,
        learning_rate=learning_rate,
        quantized_rate_factor=1.0,
        seed=seed,
    )
    float_model, taught_by = saving.load_model(model), saving.load_model(teacher) if teacher else None
    if taught_by is not None:
        teachers.check_shape(teacher, taught_by.input_shape, float_model.input_shape)
    if dynamic is None:
        chosen.check_names([layer.name for layer in float_model.layers])
        if chosen.budget is not None:
            apply.quantize_apply(float_model, chosen)  # a budget that cannot be met is refused here
    else:
        start = apply.quantize_apply(float_model, chosen)  # names that match nothing are refused here
    if prepared is not None:
        training, held_out = data_files.prepared_features(phases, prepared, splits)
    else:
        training, held_out = data_files.load_features(
            phases, clips, before.task, before.frontend, splits, copies, seed, cache
        )
    with (
        workers.kept(console, out, asked) as run_folder,
        watchers.opened("quantize", out, asked, run_folder) as watch,
    ):
        history = WidthHistory(run_folder / "widths.json" if workers.chief else None)
        if dynamic is None:
            with phases.phase("training in two stages") as advance:
                quantized = recipes.train_quantized(
                    float_model,
                    chosen,
                    training,
                    recipe,
                    stage1_epochs,
                    stage2_epochs,
                    [progress.Epochs(advance, history), *watch.callbacks("quantized")],
                    checkpoints=run_folder / "quantized",
                    history=history,
                    teacher=taught_by,
                    strategy=workers.strategy,
                )
        elif stage1_epochs + stage2_epochs:
            with phases.phase("training") as advance:
                shown = [progress.Epochs(advance, history), *watch.callbacks("quantized")]
                quantized = low_rank_recipes.train_quantized(
                    start, training, one_stage, run_folder / "quantized", callbacks=shown, history=history
                )
        else:
            quantized = start
        if not workers.chief:
            return
        learned = {"widths": model_costs.settle(quantized), "activation_widths": activation_costs.settle(quantized)}
        learned = {name: found for name, found in learned.items() if found}
        base = evaluate.evaluate(results.keras_function(float_model), held_out)
        evaluation = evaluate.evaluate(results.keras_function(quantized), held_out)
        compared = evaluate.compare(base, evaluation)
        options = {
            "float_model": model.name,
            "bits": "learned" if limits.weights else bits or _BITS,
            "layer_bits": widths,
            "dynamic": dynamic,
            "weights": weights if dynamic else "tanh",
            "teacher": teacher.name if teacher else None,
            "stage1_epochs": stage1_epochs,
            "stage2_epochs": stage2_epochs,
            "copies": copies,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "speakers": speakers or before.options.get("speakers") or "auto",
            "data": [*(before.options.get("data") or ()), card.data_of(data, "training while quantized")],
        }
        options |= learned | ({"budget": limits.given()} if limits.given() else {})
        if learned:
            options["pareto_front"] = [dataclasses.asdict(p) for kind in KINDS for p in history.front(kind)]
        with atomic.replacing(out) as temporary:
            quantized.save(temporary)
        metrics = results.metrics(evaluation, splits)
        sidecar.write(out, sidecar.Sidecar("quantized", before.frontend, before.task, options, metrics))
        pictures = _draw(out, history)
        watch.written(out, float_model.count_params(), {"float/accuracy": base.accuracy})
    results.show(console, f"{out.name}: {label}", evaluation, splits)
    for said in _learned_lines(quantized):
        console.print(said, markup=False)
    console.print(
        f"float model: accuracy {base.accuracy:.1%}; false detections {compared.float_fdr:.2%} where it misses "
        f"{compared.frr:.1%}, this model {compared.fdr:.2%}"
    )
    console.print(f"wrote {', '.join([str(out), *pictures])} and {sidecar.path_of(out).name}")


def _learned_lines(model) -> list[str]:
    """What learned widths came to, and what they cost."""
    from tfmot_kws.quantize import activation_costs, model_costs

    lines = []
    for what, costs in (("bits", model_costs), ("bits of activations", activation_costs)):
        found = {one.name: one.weight_bits for one in costs.learning(model)}
        if found:
            lines.append(f"{what}: {', '.join(f'{name} {width}' for name, width in found.items())}")
            lines.append(costs.costs_of(model).summary(found))
    return lines


def _draw(out: pathlib.Path, history) -> list[str]:
    """Draws what learned widths passed, beside the model; the names of the pictures."""
    from tfmot_kws.evaluation import width_plot
    from tfmot_kws.training.width_history import KINDS

    names = []
    for kind in KINDS:
        looks = [look for look in history.looks if look.kind == kind]
        if not looks:
            continue
        path = out.with_name(f"{out.stem}.{'widths' if kind == 'weights' else 'activation_widths'}.png")
        points = [
            [(p.used, p.loss) for p in found if p.kind == kind] for found in (history.front(kind), history.points)
        ]
        width_plot.plot_widths(
            [look.epoch for look in looks],
            {name: [look.used[name] for look in looks] for name in looks[0].used},
            {name: [look.widths[name] for look in looks] for name in looks[0].widths},
            path, front=points[0], passed=points[1], title=f"{out.name}: widths of {kind}",
        )  # fmt: skip
        names.append(path.name)
    return names
