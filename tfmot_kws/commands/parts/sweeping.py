# SPDX-License-Identifier: Apache-2.0
"""What ``tfmot-kws train --sweep`` does: a study in a folder, its table and picture, and its best model."""

from __future__ import annotations

import csv
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import rich.console

from tfmot_kws import atomic
from tfmot_kws.commands.parts import alone, card, results, sidecar, unfinished, watching
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.data import places, prepare, shards
from tfmot_kws.frontend import features
from tfmot_kws.training import sweep_space

if TYPE_CHECKING:
    from tfmot_kws.training import sweeps

_SPLIT = "dev"
"""What trials are judged by."""
_LABELS = {"det_area": "DET area", "accuracy": "accuracy"}
_NAMES = {"learning_rate": "rate", "quantize_rate": "rate 2", "batch_size": "batch"}
"""Short ones, for terminals of 80 columns."""
_RESULTS = (
    {"key": "det_area", "label": "DET area", "format": ".4f"},
    {"key": "accuracy", "label": "accuracy", "format": ".1%"},
    {"key": "parameters", "label": "weights", "format": ",.0f"},
    {"key": "bytes", "label": "bytes", "format": ",.0f"},
)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The options of a sweep, as the command line has them."""

    text: str
    trials: int | None = None
    method: str = "random"
    objective: str = "det-area"
    stages: str = "12,6"


@dataclasses.dataclass(frozen=True)
class Options:
    """Those of ``train`` that a sweep has too; its help says what each is."""

    data: pathlib.Path
    out: pathlib.Path
    keywords: str | None
    epochs: int
    width: int
    backend: str
    copies: int
    batch_size: int
    learning_rate: float
    clip_seconds: float
    context: float
    seed: int
    cache: pathlib.Path | None
    speakers: str | None
    hop_ms: int
    pcan: bool
    network: pathlib.Path | None

    def asked(self) -> dict[str, Any]:
        """What trials depend on, by the names of options, as JSON values."""
        found = {field.name.replace("_", "-"): getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("out", "cache", "pcan"):
            del found[name]
        found |= {"data": data_files.named(self.data), "no-pcan": None if self.pcan else True}
        return found | {"network": self.network and self.network.read_text(encoding="utf-8")}


def check_alone(sweep: str | None, given: Mapping[str, Any]) -> None:
    """Raises ValueError where options that do not go with ``--sweep`` are given with it, or those of it without."""
    with_it = ("trials", "sweep-method", "sweep-objective", "sweep-stages")
    for name, value in given.items():
        if value and sweep is None and name in with_it:
            raise ValueError(f"--{name}: goes with --sweep")
        if value and sweep is not None and name not in with_it:
            why = "the same command goes on by itself" if name == "resume" else "sweep first, then train what was best"
            raise ValueError(f"--{name}: goes without --sweep; {why}")


def run(sweep: Sweep, options: Options, watchers: watching.Watchers) -> None:
    """Runs what is left of a study and writes its table, its picture and its best model.

    Raises:
        ValueError, OSError, ImportError: an option cannot be met; before any work is done.
    """
    out, best_file = options.out, options.out / "best.keras"
    if out.suffix in (".keras", ".json"):
        raise ValueError(f"--out {out}: with --sweep it is a folder; name one")
    if places.is_address(options.data) or shards.is_place(options.data):
        raise ValueError(f"--data {options.data}: is prepared; --sweep takes recordings")
    space, stages = _space(sweep.text), _stages(sweep.stages)
    if options.network is not None and "width" in space.names:
        raise ValueError("--sweep: width: goes without --network, which has its own")
    results.check_output(best_file, ".keras", "--out")

    from tfmot_kws.training import sweeps

    if sweep.objective.replace("-", "_") not in sweeps.OBJECTIVES:
        raise ValueError(f"--sweep-objective {sweep.objective}: must be det-area or accuracy")
    if sweep.method not in sweeps.METHODS:
        raise ValueError(f"--sweep-method {sweep.method}: must be one of {', '.join(sweeps.METHODS)}")
    config = sweeps.SweepConfig(sweep.method, sweep.trials, sweep.objective.replace("-", "_"), options.seed)
    asked = options.asked() | {"sweep-stages": list(stages) if "bits" in space.names else None}
    try:
        sweeps.check(space, config, options.epochs, out, asked)
    except ValueError as error:
        raise ValueError(f"--sweep: {error}") from error
    console = consoles.stdout()
    study = _Study(console, space, config, options, stages, watchers)
    out.mkdir(parents=True, exist_ok=True)
    with alone.alone(out / "lock", out), unfinished.goes_on(console, out):
        with watchers.opened("train --sweep", out, asked | {"sweep": sweep.text}, out) as watch:
            trials = study.run(asked, watch)
            best = sweeps.best(trials, config.objective)
            _write_tables(out, space, config, trials, best)
            study.write_best(best, best_file, len(trials))
            watch.written(best_file, int(best.results["parameters"]), dict(best.results))
            for name in ("sweep.csv", "sweep.json", "sweep.png"):
                watch.file(out / name)
    console.print(_table(space, trials, best, config.most))
    study.show(best, best_file)


def _space(text: str) -> sweep_space.SweepSpace:
    try:
        return sweep_space.SweepSpace.parse(text)
    except ValueError as error:
        raise ValueError(f"--sweep: {error}") from error


def _stages(text: str) -> tuple[int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--sweep-stages {text}: must be two whole numbers, such as 12,6")
    return int(parts[0]), int(parts[1])


class _Study:
    """What a study is made of: recordings, examples, and the trainer of its trials."""

    def __init__(
        self, console: rich.console.Console, space: sweep_space.SweepSpace, config: sweeps.SweepConfig,
        options: Options, stages: tuple[int, int], watchers: watching.Watchers,
    ) -> None:  # fmt: skip
        import tflite_export
        from tfmot_kws.commands.parts import networks
        from tfmot_kws.models import spotters as models
        from tfmot_kws.training import recipes, sweeps

        self._console, self._space, self._config, self._options = console, space, config, options
        self._watchers, self._phases = watchers, consoles.Phases(console)
        self._frontend = features.FrontendConfig(backend=options.backend, hop_ms=options.hop_ms, pcan=options.pcan)
        clips, self._task, splits = data_files.open_task(
            console, options.data, options.speakers, options.keywords, options.clip_seconds, options.context
        )
        try:
            prepare.check_splits(clips, self._task.keywords, (_SPLIT,))
        except ValueError as error:
            raise ValueError(
                f"--sweep: trials are judged by split {_SPLIT}, apart from what is trained on and from what measures "
                f"the best: {error}"
            ) from error
        self._measured = splits[0]
        if self._measured == _SPLIT:
            console.print(
                f"note: there is no split test: the best model is measured by {_SPLIT}, by which it was chosen, and "
                "will be worse on other recordings"
            )
        frames = self._frontend.num_frames(round(options.clip_seconds * self._frontend.sample_rate))
        sinc = models.SincSpec(sample_rate=self._frontend.sample_rate) if options.backend == "raw" else None
        shape = models.ModelConfig(
            len(self._task.classes), frames, self._frontend.mel_bins, options.width, sinc=sinc
        )  # refuses options
        if options.network is not None:
            shape = networks.read(options.network, shape)
        recipe = recipes.TrainConfig(
            epochs=options.epochs, batch_size=options.batch_size, learning_rate=options.learning_rate,
            seed=options.seed, augment=recipes.augment_of(self._frontend),
        )  # fmt: skip
        cache = options.cache or data_files.default_cache()
        loaded = (self._phases, clips, self._task, self._frontend)
        self._training, self._held_out = data_files.load_features(
            *loaded, (_SPLIT,), options.copies, options.seed, cache
        )
        self._last = self._held_out
        if self._measured != _SPLIT:
            self._last = prepare.held_out_features(clips, self._task, self._frontend, splits, cache)
            prepare.check_examples(self._last, self._task.keywords, self._measured)
            prepare.check_others(self._last, self._task.keywords, self._measured)
        self._told: Mapping[str, Any] = {}
        self._trainer = sweeps.Trainer(
            self._training, self._held_out, shape, recipe, options.out, stages,
            lambda model: len(tflite_export.convert(model)), self._callbacks,
        )  # fmt: skip

    def _callbacks(self, trial: sweeps.Trial, part: str) -> list:
        from tfmot_kws.commands.parts import progress

        return [progress.Epochs(self._told["advance"]), *self._told["watch"].callbacks(part)]

    def run(self, asked: Mapping[str, Any], watch: watching.Watch) -> list[sweeps.Trial]:
        """Runs what is left of the trials."""
        from tfmot_kws.training import resumable, sweeps

        about = dict(asked)
        for name, examples in (("training examples", self._training), (f"{_SPLIT} examples", self._held_out)):
            about[name] = resumable.checksum([examples.x, examples.y])
        out, epochs = self._options.out, self._options.epochs

        def train(trial: sweeps.Trial) -> dict[str, float]:
            folder, most = sweeps.folder_of(out, trial), self._config.most
            name = f"trial_{trial.number:02d}"
            values = dict(trial.values) | ({} if trial.epochs is None else {"epochs": trial.epochs})
            label = f"trial {trial.number}{f' of {most}' if most else ''}: {trial.said()}"
            with self._phases.phase(label) as advance, self._watchers.part(watch, name, values, folder) as told:
                self._told = {"advance": advance, "watch": told}
                found = self._trainer(trial)
                told.measured(found)
                return found

        def again(trial: sweeps.Trial) -> None:
            self._console.print(f"trial {trial.number}: {trial.said()}: done before", markup=False)

        return sweeps.run(self._space, self._config, train, out, epochs, about, again)

    def write_best(self, best: sweeps.Trial, file: pathlib.Path, trials: int) -> None:
        """Writes the best model with its sidecar, and the float model that it was quantized from."""
        from tfmot_kws.evaluation import clips as evaluate

        model = self._trainer.load(best)
        self.evaluation = evaluate.evaluate(results.keras_function(model), self._last)
        quantized = "bits" in best.values
        float_file = file.with_name("best_float.keras") if quantized else file
        data = [card.data_of(self._options.data, "training")]
        made = {
            "space": self._space.text, "method": self._config.method, "objective": self._config.objective,
            "trials": trials, "trial": best.number, "judged_by": _SPLIT,
        }  # fmt: skip
        recipe = self._trainer.recipe(best)
        about = {
            "epochs": recipe.epochs, "width": best.values.get("width", self._options.width),
            "copies": self._options.copies, "batch_size": recipe.batch_size, "learning_rate": recipe.learning_rate,
            "seed": recipe.seed, "speakers": self._options.speakers or "auto", "mined": None, "confusables": [],
            "data": data, "sweep": made,
        }  # fmt: skip
        if quantized:
            float_model = self._trainer.load_float(best)
            heard = evaluate.evaluate(results.keras_function(float_model), self._last)
            self._save(float_file, float_model, "float", about, heard)
            recipe, first, second = self._trainer.quantized_recipe(best)
            about = {
                "float_model": float_file.name, "bits": int(best.values["bits"]), "layer_bits": {}, "dynamic": None,
                "weights": "tanh", "teacher": None, "stage1_epochs": first, "stage2_epochs": second,
                "copies": self._options.copies, "batch_size": recipe.batch_size,
                "learning_rate": recipe.learning_rate, "seed": recipe.seed, "speakers": about["speakers"],
                "data": [*data, card.data_of(self._options.data, "training while quantized")], "sweep": made,
            }  # fmt: skip
        self._save(file, model, "quantized" if quantized else "float", about, self.evaluation)

    def _save(self, file: pathlib.Path, model, kind: str, about: dict[str, Any], evaluation) -> None:
        with atomic.replacing(file) as temporary:
            model.save(temporary)
        metrics = results.metrics(evaluation, (self._measured,))
        sidecar.write(file, sidecar.Sidecar(kind, self._frontend, self._task, about, metrics))

    def show(self, best: sweeps.Trial, file: pathlib.Path) -> None:
        """Prints what the best model came to on what it was not chosen by."""
        results.show(self._console, f"{file.name}: trial {best.number}", self.evaluation, (self._measured,))
        more = " and best_float.keras" if "bits" in best.values else ""
        self._console.print(f"wrote {file}, {sidecar.path_of(file).name}{more}, sweep.csv, sweep.json and sweep.png")


def _rows(trials: Sequence[sweeps.Trial]) -> list[dict[str, Any]]:
    found = []
    for trial in trials:
        epochs = {} if trial.epochs is None else {"epochs": trial.epochs}
        row = {"trial": trial.number, **trial.values, **epochs}
        counts = {name: int(trial.results[name]) for name in ("parameters", "bytes") if name in trial.results}
        found.append({**row, **trial.results, **counts, "failed": trial.failed})
    return found


def _write_tables(
    out: pathlib.Path, space: sweep_space.SweepSpace, config: sweeps.SweepConfig, trials: Sequence[sweeps.Trial],
    best: sweeps.Trial,
) -> None:  # fmt: skip
    """``sweep.csv``, ``sweep.json`` and ``sweep.png``."""
    from tfmot_kws.evaluation import sweep_plot
    from tfmot_kws.training import sweeps

    rows = _rows(trials)
    names = list(dict.fromkeys(name for row in rows for name in row if name != "failed"))
    text = io.StringIO()
    table = csv.DictWriter(text, [*names, "failed"], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    atomic.write_text(out / "sweep.csv", text.getvalue())
    value = {"sweep": space.text, "method": config.method, "objective": config.objective, "seed": config.seed,
             "judged_by": _SPLIT, "best": best.number, "trials": rows}  # fmt: skip
    atomic.write_json(out / "sweep.json", value)
    kind = next((name for name in ("bits", "width", "batch_size") if name in space.names), None)
    points = {
        trial.number: sweep_plot.Point(
            trial.results["bytes"], trial.results[config.objective],
            "" if kind is None else f"{kind.replace('_', ' ')} {trial.values[kind]}", str(trial.number),
        )
        for trial in trials
        if trial.results
    }  # fmt: skip
    sweep_plot.plot_sweep(
        list(points.values()), out / "sweep.png", best=points[best.number],
        lower=sweeps.OBJECTIVES[config.objective] == "min",
        size_label="bytes of the .tflite file" if "bits" in space.names else "bytes of float weights",
        value_label=f"{_LABELS[config.objective]} on {_SPLIT}", title=f"{len(trials)} trials by {config.method}",
    )  # fmt: skip


def _table(space: sweep_space.SweepSpace, trials: Sequence[sweeps.Trial], best: sweeps.Trial, most: int | None):
    """The trials as they are shown."""
    rows = _rows(trials)
    names = [*space.names, *(["epochs"] if any("epochs" in row for row in rows) else [])]
    columns = [
        {"key": "trial", "label": "trial", "format": "d"},
        *({"key": name, "label": _NAMES.get(name, name), "format": ".3g"} for name in names),
        *_RESULTS,
        {"key": "said", "label": "", "format": ""},
    ]
    for row in rows:
        row["said"] = "best" if row["trial"] == best.number else row["failed"]
    same = f", {most} proposed" if most and most > len(trials) else ""
    return consoles.table(f"{len(trials)} trials{same}, judged by {_SPLIT}", columns, rows)
