# SPDX-License-Identifier: Apache-2.0
"""The whole way in one call: speech, features, float training, 8, 4 and 1 bits, .tflite, every runtime, a report."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from tfmot_kws import atomic
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.data import corpus, datasets, prepare
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.evaluation import det, report
from tfmot_kws.frontend import features

FRR = 0.05
"""Share of missed keywords at which false detections are compared."""

_STEPS_AN_EPOCH = 120

COLUMNS = (
    {"key": "model", "label": "weights", "format": ""},
    {"key": "accuracy", "label": "accuracy", "format": ".1%"},
    {"key": "missed", "label": "missed", "format": ".1%"},
    {"key": "fdr", "label": "false detections", "format": ".2%"},
    {"key": "det_area", "label": "DET area", "format": ".5f"},
    {"key": "file_bytes", "label": "file bytes", "format": ",d"},
    {"key": "arena_bytes", "label": "TFLM arena bytes", "format": ",d"},
)


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """What the demo does.

    Attributes:
        out: folder for everything it makes.
        data: recordings (a folder of words or with a manifest); None makes synthetic speech.
        keywords: what to spot; None picks the wake words or the most frequent words.
        seed: of synthetic speech, training and augmentation.
        fast: a few epochs only, to see that everything works; the numbers mean little then.
        bits: widths of the weights.
        clips: synthetic clips.
        width: outputs of the model's hidden layers; 128 makes 250,000 parameters.
        copies: augmented versions of each training clip.
        batch_size: clips per training step.
        epochs: of the float model, of stage 1 and of stage 2.
        speakers: the rule that says who speaks in ``data``; None is "auto".
        raw: the network hears samples, by filters that it learns; these have 8 bits.

    Raises:
        ValueError: a width of the weights is not 1..8, or there is none.
    """

    out: Path
    data: Path | None = None
    keywords: tuple[str, ...] | None = None
    seed: int = 0
    fast: bool = False
    bits: tuple[int, ...] = (8, 4, 1)
    clips: int = 3000
    width: int = 128
    copies: int = 3
    batch_size: int = 128
    epochs: tuple[int, int, int] = (30, 12, 6)
    speakers: str | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        if not self.bits or any(not 1 <= b <= 8 for b in self.bits) or len(set(self.bits)) < len(self.bits):
            raise ValueError(f"bits={self.bits!r}: must be one or more different widths of 1 to 8")

    def epochs_for(self, examples: int) -> tuple[int, int, int]:
        """``epochs``, fewer where there are many training examples, so that the steps stay about the same."""
        share = min(1.0, _STEPS_AN_EPOCH * self.batch_size / examples)
        return tuple(max(round(count * share), -(-count // 3)) for count in self.epochs)

    def faster(self) -> DemoConfig:
        """The same with little work."""
        return dataclasses.replace(
            self, fast=True, clips=min(self.clips, 600), width=32, copies=1, epochs=(15, 3, 2), batch_size=32
        )


@dataclasses.dataclass
class _Data:
    """Inputs of training and measuring."""

    task: datasets.TaskConfig
    frontend: features.FrontendConfig
    train: datasets.FeatureSet
    held_out: datasets.FeatureSet
    splits: tuple[str, ...]
    source: str


def run(config: DemoConfig, phases: Phases) -> dict[str, Any]:
    """Runs the demo and leaves its files in ``config.out``.

    Returns:
        What ``metrics.json`` holds: ``rows`` by ``columns``, ``agreement``, ``machine``, ``data`` and more.

    Raises:
        ImportError: synthetic speech is asked for but espeakng-loader is missing.
        ValueError: the recordings do not do; the message says why.
        OSError: ``out`` cannot be written to.
    """
    started = time.monotonic()
    if config.fast:
        config = config.faster()
    config.out.mkdir(parents=True, exist_ok=True)
    clips, splits, keywords = _open(config, phases)
    data = _features(config, clips, splits, keywords, phases)
    with phases.phase("TensorFlow"):
        from tfmot_kws.quantize import scheme  # noqa: F401

    config = dataclasses.replace(config, epochs=config.epochs_for(len(data.train)))
    model, rows, evals = _float(config, data, phases)
    agreements = []
    for bits in config.bits:
        row, evaluation, agreement = _quantized(config, data, model, evals["float"], bits, phases)
        rows.append(row)
        evals[row["model"]] = evaluation
        agreements.append(agreement)
    with phases.phase("report"):
        result = _result(config, data, clips, rows, agreements, phases, time.monotonic() - started)
        atomic.write_json(config.out / "metrics.json", result)
        report.plot_curves(
            {name: e.pooled for name, e in evals.items()}, config.out / "det.png", rows[0]["frr"], base="float"
        )
        report.plot_sizes(rows, config.out / "size_accuracy.png")
        report.write_html(result, config.out)
    return result


def _open(config: DemoConfig, phases: Phases) -> tuple[corpus.Corpus, tuple[str, ...], tuple[str, ...]]:
    """The clips, the held-out splits and the keywords."""
    with phases.phase("recordings" if config.data else "synthetic speech") as advance:
        if config.data:
            clips = data_files.open_recordings(phases.console, config.data, config.speakers)
            splits = prepare.eval_splits(clips, config.keywords)
        else:
            from tfmot_kws.data import synthetic

            folder = config.out / f"speech_{config.clips}_{config.seed}"
            clips = synthetic.synthesize(folder, clips=config.clips, seed=config.seed, progress=advance)
            splits = ("dev", "test")  # nothing is chosen by either, so both can measure
    keywords = config.keywords or prepare.pick_keywords(clips, ("train", *splits))
    clips = prepare.without_compounds(clips, keywords)
    prepare.check_splits(clips, keywords, ("train", *splits))
    return clips, splits, keywords


def _features(config: DemoConfig, clips: corpus.Corpus, splits, keywords, phases: Phases) -> _Data:
    task = prepare.make_task(clips, keywords)
    frontend = features.FrontendConfig(backend="raw" if config.raw else "micro")
    cache = config.out / "cache"
    with phases.phase("features") as advance:
        copies, seed = config.copies, config.seed
        training = prepare.training_features(clips, task, frontend, copies, seed, cache, advance)
        held_out = prepare.held_out_features(clips, task, frontend, splits, cache, advance)
    source = f"recordings in {config.data.name}" if config.data else "synthetic speech (espeak-ng)"
    return _Data(task, frontend, training, held_out, splits, source)


def _keras_logits(model) -> Any:
    return lambda x: model(x, training=False).numpy()


def _save(model, path: Path, kind: str, data: _Data, options: dict, metrics: dict) -> None:
    with atomic.replacing(path) as temporary:
        model.save(temporary)
    sidecar.write(path, sidecar.Sidecar(kind, data.frontend, data.task, options, metrics))


def _row(name: str, evaluation: evaluate.Evaluation, base: evaluate.Evaluation, **sizes) -> dict[str, Any]:
    compared = evaluate.compare(base, evaluation, FRR)
    ratio = compared.area_ratio
    return {
        "model": name,
        "accuracy": evaluation.accuracy,
        "accuracy_interval": det.binomial_interval(evaluation.accuracy, len(evaluation)),
        "missed": compared.missed,
        "missed_interval": det.binomial_interval(compared.missed, evaluation.pooled.positives),
        "fdr": compared.fdr,
        "frr": compared.frr,
        "det_area": compared.area,
        "det_area_ratio": ratio if np.isfinite(ratio) else None,
        "fdr_by_keyword": {name: curve.fdr_at_frr(FRR) for name, curve in evaluation.curves.items()},
        **sizes,
    }


def _float(config: DemoConfig, data: _Data, phases: Phases):
    from tfmot_kws.commands.parts import measure, progress
    from tfmot_kws.models import spotters as models
    from tfmot_kws.training import recipes

    frames, mel_bins = data.train.x.shape[1:]
    sinc = models.SincSpec(sample_rate=data.frontend.sample_rate) if config.raw else None
    shape = models.ModelConfig(len(data.task.classes), frames, mel_bins, config.width, sinc=sinc)
    recipe = recipes.TrainConfig(
        epochs=config.epochs[0], batch_size=config.batch_size, seed=config.seed,
        augment=recipes.augment_of(data.frontend),
    )  # fmt: skip
    with phases.phase("float model") as advance:
        model = recipes.train_float(data.train, shape, recipe, [progress.Epochs(advance)])
        evaluation = evaluate.evaluate(_keras_logits(model), data.held_out)
    with phases.phase("float .tflite") as advance:
        flatbuffer = measure.float_tflite(model)
        atomic.write_bytes(config.out / "float.tflite", flatbuffer)
        run = measure.run_file(flatbuffer, data.held_out.x[:1], "tflm", advance, trust=True)
    row = _row(
        "float",
        evaluation,
        evaluation,
        runtime="Keras",
        parameters=model.count_params(),
        file_bytes=len(flatbuffer),
        arena_bytes=run.arena_bytes,
    )
    options = {"epochs": recipe.epochs, "width": config.width, "seed": config.seed}
    _save(model, config.out / "float.keras", "float", data, options, {"accuracy": evaluation.accuracy})
    return model, [row], {"float": evaluation}


def _quantized(config: DemoConfig, data: _Data, model, base: evaluate.Evaluation, bits: int, phases: Phases):
    import tflite_export
    from tflite_export.c import arrays as c_writer
    from tfmot_kws.commands.parts import measure, progress
    from tfmot_kws.quantize import scheme
    from tfmot_kws.training import recipes

    name = f"{bits} bit" + "s" * (bits > 1)
    _, stage1, stage2 = config.epochs
    with phases.phase(f"{name}: training in two stages") as advance:
        quantized = recipes.train_quantized(
            model,
            scheme.kws_scheme(bits, {"sinc": 8} if config.raw else None),
            data.train,
            recipes.TrainConfig(
                batch_size=config.batch_size, seed=config.seed, augment=recipes.augment_of(data.frontend)
            ),
            stage1,
            stage2,
            [progress.Epochs(advance)],
        )
    with phases.phase(f"{name}: export, all runtimes") as advance:
        flatbuffer = tflite_export.convert(quantized)
        runs = measure.run_everywhere(flatbuffer, data.held_out.x, advance)
        agreement = measure.agreement(runs, _in_batches(quantized, data.held_out.x))
        chosen = "tflm" if runs["tflm"].outputs is not None else "reference"
        evaluation = evaluate.from_outputs(runs[chosen].real(), data.held_out)
        row = _row(
            name,
            evaluation,
            base,
            bits=bits,
            runtime={"tflm": "TFLM"}.get(chosen, chosen),
            file_bytes=len(flatbuffer),
            arena_bytes=runs["tflm"].arena_bytes,
        )
        options = {"bits": bits, "stage1_epochs": stage1, "stage2_epochs": stage2, "seed": config.seed}
        metrics = {"accuracy": evaluation.accuracy}
        _save(quantized, config.out / f"kws_{bits}bit.keras", "quantized", data, options, metrics)
        path = atomic.write_bytes(config.out / f"kws_{bits}bit.tflite", flatbuffer)
        sidecar.write(path, sidecar.Sidecar("tflite", data.frontend, data.task, {**options, "ops": "packed"}, metrics))
        if bits == (4 if 4 in config.bits else config.bits[0]):
            c_writer.write_c(flatbuffer, config.out)
    summary = {
        "model": name,
        "clips": agreement.clips,
        **{f"same_{runtime}": same for runtime, same in agreement.identical.items()},
        "keras_lsb": agreement.keras_lsb,
        "keras_argmax": agreement.keras_argmax,
        "identical": agreement.all_identical,
        "problems": {run.runtime: run.problem for run in runs.values() if run.problem},
        "milliseconds_per_clip": {
            run.runtime: round(1e3 * run.seconds / agreement.clips, 3)
            for run in runs.values()
            if run.outputs is not None
        },
    }
    return row, evaluation, summary


def _in_batches(model, x: np.ndarray) -> np.ndarray:
    return np.concatenate([_keras_logits(model)(x[i : i + 256]) for i in range(0, len(x), 256)])


def _result(config: DemoConfig, data: _Data, clips, rows, agreements, phases: Phases, seconds: float) -> dict:
    positives = sum(data.held_out.report.examples[word] for word in data.task.keywords)
    skipped = [
        dataclasses.asdict(p)
        for p in dict.fromkeys((*data.train.report.problems, *data.held_out.report.problems))
        if p.dropped
    ]
    notes = [
        f"Missed: share of the keywords that a model misses where it accepts at most {rows[0]['fdr']:.2%} of the "
        f"negatives. False detections: share of negatives that it accepts where it misses at most {rows[0]['frr']:.1%} "
        "of the keywords. Both are the float model's operating point.",
        "Quantized rows: the .tflite file as it runs in "
        f"{' and '.join(sorted({row['runtime'] for row in rows[1:]}))}; float row: Keras, sizes of TensorFlow's own "
        "float .tflite.",
    ]
    share, count = rows[0]["accuracy"], len(data.held_out)
    spread = 2.0 * (share * (1.0 - share) / count) ** 0.5
    notes.append(f"{count} held-out examples: accuracies within {spread:.1%} of each other may differ by chance.")
    if config.fast:
        notes.append("A fast run: a few epochs of a small model, to see that everything works.")
    if not config.data:
        notes.append("Synthetic speech shows that the tools work, not how well a model hears people.")
    return {
        "version": 1,
        "title": f"{', '.join(data.task.keywords)}: float and quantized",
        "machine": report.machine(),
        "columns": list(COLUMNS),
        "rows": rows,
        "notes": notes,
        "agreement": agreements,
        "agrees": all(a["identical"] for a in agreements),
        "data": {
            "source": data.source,
            "keywords": list(data.task.keywords),
            "classes": list(data.task.classes),
            "clips": len(clips),
            "train_examples": data.train.report.examples,
            "held_out_examples": data.held_out.report.examples,
            "held_out_splits": list(data.splits),
            "held_out_keywords": positives,
            "skipped": skipped,
        },
        "frontend": data.frontend.to_dict(),
        "options": {
            "seed": config.seed,
            "raw": config.raw,
            "fast": config.fast,
            "width": config.width,
            "copies": config.copies,
            "epochs": dict(zip(("float", "stage1", "stage2"), config.epochs)),
            "bits": list(config.bits),
        },
        "phases": {name: round(value, 2) for name, value in phases.seconds.items()},
        "seconds": round(seconds, 1),
    }
