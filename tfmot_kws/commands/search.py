# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws search``."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfmot_kws import atomic
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts.options import Backend, Cache, Data, HopMs, Keywords, Seed, Speakers

if TYPE_CHECKING:
    from tfmot_kws.search import run as searches
    from tfmot_kws.search.space import Space

_ROWS = ({"key": "what", "label": "", "format": ""}, {"key": "value", "label": "", "format": "", "justify": "right"})


def search(
    data: Data,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for what is found; the same command goes on in it.")],
    keywords: Keywords = None,
    space: Annotated[
        str, typer.Option(help="time (bands are channels), time-band, or a .json file made by --write-space.")
    ] = "time",
    bits: Annotated[
        str,
        typer.Option(help="Width of the weights whose costs count; several, 8,4,2,1, are searched with the network."),
    ] = "8",
    budget_flash: Annotated[str | None, typer.Option(help="Bytes of all packed weights, such as 40KB.")] = None,
    budget_instructions: Annotated[
        str | None, typer.Option(help="Instructions on --core of a clip's layers with weights, such as 2M.")
    ] = None,
    core: Annotated[str | None, typer.Option(help="cortex-m4, cortex-m55, cortex-a53, ...")] = None,
    budget_ram: Annotated[str | None, typer.Option(help="Bytes of activations, such as 16KB.")] = None,
    budget_macs: Annotated[str | None, typer.Option(help="Multiply-accumulates of a clip, such as 7M.")] = None,
    budget_parameters: Annotated[str | None, typer.Option(help="Weights and biases, such as 76K.")] = None,
    budget_streaming: Annotated[
        bool, typer.Option("--budget-streaming", help="Count instructions, RAM and operations of a step of a stream.")
    ] = False,
    backend: Backend = "micro",
    hop_ms: HopMs = 20,
    search_epochs: Annotated[int, typer.Option(min=1, help="Epochs of the supernet.")] = 40,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the network that was found, from scratch.")] = 40,
    copies: Annotated[int, typer.Option(min=0, help="Augmented versions of each clip; 0 trains on clips as is.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 128,
    clip_seconds: Annotated[float, typer.Option(help="Length of an example in seconds.")] = 1.0,
    seed: Seed = 0,
    cache: Cache = None,
    speakers: Speakers = None,
    write_space: Annotated[
        bool, typer.Option("--write-space", help="Only write the space to OUT/space.json, to be changed by hand.")
    ] = False,
) -> None:
    """Searches a network within a budget of flash, instructions, RAM or operations, and trains it.

    A supernet holds all networks of a space. Writes network.keras (float, for 'quantize'), network.json (what it is
    made of), search.json and search.svg, which grows as the search goes on. With --backend raw networks hear samples;
    what the filters over them take is not counted in --budget-instructions.

    Examples:
      tfmot-kws search --data my_recordings --budget-instructions 2M --core cortex-m4 --out runs/search
      tfmot-kws search --data my_recordings --budget-flash 20KB --bits 8,4,2 --out runs/joint
      tfmot-kws search --data my_recordings --backend raw --budget-macs 7M --budget-parameters 76K --out runs/raw
    """
    limits = {
        "flash": budget_flash, "instructions": budget_instructions, "core": core, "ram": budget_ram,
        "macs": budget_macs, "parameters": budget_parameters, "streaming": budget_streaming or None,
    }  # fmt: skip
    limits = {name: value for name, value in limits.items() if value is not None}
    run(
        data, out, keywords, space, bits, limits, backend, hop_ms, search_epochs, epochs, copies, batch_size,
        clip_seconds, seed, cache, speakers, write_space,
    )  # fmt: skip


def _space(name: str, bits: str) -> Space:
    """The space of ``--space`` and ``--bits``."""
    from tfmot_kws.commands.parts import data as data_files
    from tfmot_kws.search import spaces
    from tfmot_kws.search.space import Space

    texts = data_files.words_of(bits) or ()
    if not texts or not all(text.isdigit() for text in texts):
        raise ValueError(f"--bits {bits}: must be a width of 1..8, or several with commas")
    widths = tuple(int(text) for text in texts)
    try:
        if name in spaces.SPACES:
            return spaces.SPACES[name](widths)
        file = pathlib.Path(name)
        if file.suffix != ".json":
            raise ValueError(f"must be {', '.join(spaces.SPACES)} or a .json file")
        return dataclasses.replace(Space.from_json(file.read_text(encoding="utf-8")), bits=widths)
    except ValueError as error:
        raise ValueError(f"--space {name}, --bits {bits}: {error}") from error


def _budget(limits: dict[str, Any]):
    """The budget of the options; its errors name them."""
    from tfmot_kws.quantize import budget

    named = [f"--core {v}" if k == "core" else f"--budget-{k}" for k, v in limits.items()]
    if not set(limits) - {"core", "streaming"}:
        raise ValueError(
            "a search needs a limit: --budget-flash, --budget-instructions with --core, --budget-ram, --budget-macs or "
            "--budget-parameters"
        )
    try:
        given = dict(limits)
        if "instructions" in given:
            given["instructions"] = float(budget.parse_size(given["instructions"], "instructions"))
        return budget.Budget(**given)
    except ValueError as error:
        raise ValueError(f"{', '.join(named)}: {error}") from error


def run(
    data: pathlib.Path,
    out: pathlib.Path,
    keywords: str | None,
    space_name: str,
    bits: str,
    limits: dict[str, Any],
    backend: str,
    hop_ms: int,
    search_epochs: int,
    epochs: int,
    copies: int,
    batch_size: int,
    clip_seconds: float,
    seed: int,
    cache: pathlib.Path | None,
    speakers: str | None,
    write_space: bool,
) -> None:
    """Searches, trains what was found, and writes it; mistakes in options are said before any work."""
    from tfmot_kws.commands.parts import data as data_files
    from tfmot_kws.commands.parts import results, sidecar, unfinished
    from tfmot_kws.frontend import features

    console = consoles.stdout()
    model_path = out / "network.keras"
    results.check_output(model_path, ".keras", "--out")
    space = _space(space_name, bits)
    if write_space:
        console.print(f"wrote {atomic.write_text(out / 'space.json', space.to_json())}: {space.count:.3g} networks")
        return
    budget = _budget(limits)
    if model_path.exists():
        raise ValueError(f"{model_path}: the search in this folder is done; remove the folder, or name another --out")
    frontend = features.FrontendConfig(backend=backend, hop_ms=hop_ms)
    phases = consoles.Phases(console)
    clips, task, splits = data_files.open_task(console, data, speakers, keywords, clip_seconds)

    from tfmot_kws.commands.parts import progress
    from tfmot_kws.evaluation import clips as evaluate
    from tfmot_kws.models import spotters
    from tfmot_kws.search import plot, tables
    from tfmot_kws.search import run as searches
    from tfmot_kws.search.space import Task
    from tfmot_kws.training import recipes

    sinc = spotters.SincSpec(sample_rate=frontend.sample_rate) if backend == "raw" else None
    frames = frontend.num_frames(round(clip_seconds * frontend.sample_rate))
    tables.CostTables(space, Task(len(task.classes), frames, frontend.mel_bins, sinc), budget)  # refuses budgets
    warmup = search_epochs // 4
    config = searches.SearchConfig(search_epochs, warmup, batch_size, seed=seed)
    cache = cache or data_files.default_cache()
    training, held_out = data_files.load_features(phases, clips, task, frontend, splits, copies, seed, cache)
    groups = speakers_of(training, clips)
    console.print(f"space: {space.count:.3g} networks; budget: {', '.join(f'{k} {v:,.0f}' for k, v in _said(budget))}")
    augment = recipes.augment_of(frontend)
    with unfinished.goes_on(console, out):
        with phases.phase("searching") as advance:
            found = searches.search(
                training, space, budget, config, sinc, groups, augment, out / "search", [progress.Epochs(advance)],
                lambda looks, costs: plot.plot_search(looks, costs.limits, out / "search.svg"),
            )  # fmt: skip
        title = f"{space.count:.2g} networks, {search_epochs} epochs, seed {seed}"
        plot.plot_search(found.looks, found.tables.limits, out / "search.svg", found.candidates, title)
        atomic.write_text(out / "network.json", found.network.to_json())
        atomic.write_json(out / "search.json", found.to_json() | {"config": dataclasses.asdict(config)})
        _show(console, found)
        with phases.phase("training what was found") as advance:
            recipe = recipes.TrainConfig(epochs, batch_size, seed=seed, augment=augment)
            model = recipes.train_float(
                training, found.network, recipe, [progress.Epochs(advance)], checkpoints=out / "training"
            )
    evaluation = evaluate.evaluate(results.keras_function(model), held_out)
    options = {
        "epochs": epochs, "search_epochs": search_epochs, "copies": copies, "batch_size": batch_size, "seed": seed,
        "speakers": speakers or "auto", "space": space_name, "budget": budget.named(), "network": "network.json",
    }  # fmt: skip
    with atomic.replacing(model_path) as temporary:
        model.save(temporary)
    metrics = results.metrics(evaluation, splits)
    sidecar.write(model_path, sidecar.Sidecar("float", frontend, task, options, metrics))
    for name in ("search", "training"):
        shutil.rmtree(out / name)
    results.show(console, f"{model_path.name}: {model.count_params():,} parameters", evaluation, splits)
    console.print(f"wrote {model_path}, {sidecar.path_of(model_path).name}, network.json, search.json and search.svg")
    if len(space.bits) > 1:
        widths = [f"--layer-bits 'block_{n}_*={b.bits}'" for n, b in enumerate(found.network.blocks, 1)]
        console.print(f"its widths: tfmot-kws quantize --model {model_path} --bits 8 {' '.join(widths)}", markup=False)


def _said(budget) -> list[tuple[str, float]]:
    limits = budget.limits([]) | budget.fixed_limits
    return [(f"{name} on {budget.core}" if name == "instructions" else name, value) for name, value in limits.items()]


def speakers_of(features, clips) -> list[int]:
    """Of each example a number of who speaks."""
    of_path = {clip.path: clip.speaker for clip in clips}
    names = [of_path.get(path) or path for path in features.paths]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[names[source]] for source in features.source]


def _show(console, found: searches.SearchResult) -> None:
    rows = [
        {"what": f"block {number}", "value": _described(block)} for number, block in enumerate(found.network.blocks, 1)
    ]
    rows += [{"what": name, "value": text} for name, text in found.tables.said(found.best.path).items()]
    rows.append({"what": "accuracy with shared weights", "value": f"{found.best.accuracy:.1%}"})
    console.print(consoles.table("found", _ROWS, rows))


def _described(block) -> str:
    parts = [block.kind, f"{block.outputs} channels", f"kernel {block.kernel}"]
    parts += [f"x{block.expansion}"] if block.kind == "bottleneck" else []
    parts += [f"stride {block.stride}"] if block.stride > 1 or block.band_stride > 1 else []
    parts += ["squeeze"] if block.squeeze else []
    parts += [f"{block.bits} bits"] if block.bits else []
    return ", ".join(parts)
