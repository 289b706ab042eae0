# SPDX-License-Identifier: Apache-2.0
"""The two tables of Mishchenko et al. 2019 for the 50K low-rank spotter: DET area and size by width, before and after
training, and the method joined with tanh weights.

    python -m benchmarks.low_rank DATA                  # recordings with a manifest, or words in folders
    python -m benchmarks.low_rank synthetic             # espeak-ng's speech, its own phone timing as targets
    python -m benchmarks.low_rank DATA --only 1         # one seed, so that seeds can run side by side; no table
    python -m benchmarks.low_rank DATA --resume         # what is left, and the table and picture

A float model of a seed is trained in three stages (phones, both, low rank); every row starts from it. "Naive" rows
quantize its weights as they are. Trained rows, and "float+", train as many epochs more on the same batches. Quantized
rows come from the .tflite file as TensorFlow Lite runs it with the packed ops.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np

import tflite_export
import tfmot_kws
from benchmarks import accuracy, common
from tfmot_kws.commands.parts import measure
from tfmot_kws.data import (
    alignment,
    datasets,
    feature_set,
    frame_labels,
    synthetic,  # fmt: skip
)
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.evaluation import det, det_plot
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.quantize import saving
from tfmot_kws.sound import augment
from tfmot_kws.training import low_rank_recipes

FRONTEND = features.FrontendConfig(backend="lfbe", mel_bins=20, window_ms=25, hop_ms=10)
NOISY = augment.AugmentConfig(noise_probability=1.0, snr_db=(5.0, 20.0), speed=(0.95, 1.05))
# name -> options of dynamic_scheme, and the share of the recipe's rate that training on begins with
WIDTHS = {"16 bits": 16, "8 bits": 8, "4-8 bits": "4-8", "4 bits": 4}
LINEAR = {name: {"bits": bits} for name, bits in WIDTHS.items()}
JOINED = {f"joined, {bits} bits": {"bits": bits, "weights": "tanh"} for bits in (4, 3, 2)}
# At 0.3 joined widths fall apart on some seeds (2 bits on all), at 1.0 on the one that was tried.
RATES = {**dict.fromkeys(("float+", *LINEAR), 0.3), **dict.fromkeys(JOINED, 0.1)}
PAPER = {
    "16 bits": (1.0003, None, 0.65), "8 bits": (1.0094, None, 0.35), "4-8 bits": (1.1684, 1.0213, 0.32),
    "4 bits": (2.2159, 1.4103, 0.20),
}  # fmt: skip
COLUMNS = (
    ("method", "method", ""), ("area", "DET area x 1000", ".2f"), ("relative", "area / float", ".3f"),
    ("relative_spread", "± (seeds)", ".3f"), ("plus", "area / float+", ".3f"), ("accuracy", "accuracy %", ".2f"),
    ("fdr5", "FDR % at FRR 5 %", ".2f"), ("bytes", "bytes", ",.0f"), ("size", "size / float", ".3f"),
    ("paper", "paper: area", ".4f"), ("paper_size", "paper: size", ".2f"),
)  # fmt: skip
POINTS = 2000
"""Of a curve in a file, of at most so many."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Training clips, labels of their frames, held-out clips."""

    name: str
    training: feature_set.FeatureSet
    labels: frame_labels.FrameLabels
    held: feature_set.FeatureSet


def load(source: str, cache: pathlib.Path) -> Data:
    """A corpus by its folder, with words as the targets of frames; or "synthetic", with phones."""
    if source != "synthetic":
        path = pathlib.Path(source)
        training, held = accuracy.load(path, cache, FRONTEND)
        labels = frame_labels.from_words(training, FRONTEND, datasets.open_corpus(path))
        return Data("speech", training, labels, held)
    folder = accuracy.RUNS / "low_rank" / "synthetic"
    clips = synthetic.synthesize(folder, clips=4000, seed=0, phones=True)
    task = datasets.TaskConfig((synthetic.WAKE,), silence=False)

    def get(split: str, config: augment.AugmentConfig | None, copies: int) -> feature_set.FeatureSet:
        return datasets.load_features(
            clips, split, task, FRONTEND, augment=config, copies=copies, seed=0, cache_dir=cache
        )

    training = get("train", accuracy.SPEECH, 2)
    labels = frame_labels.from_alignment(training, FRONTEND, alignment.read(folder))
    parts = [get(split, config, copies) for split in ("dev", "test") for config, copies in ((None, 1), (NOISY, 2))]
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "y")}
    return Data(
        "synthetic", training, labels, dataclasses.replace(parts[0], **joined, source=np.zeros(len(joined["y"])))
    )


def score(function, held: feature_set.FeatureSet, size: int | None) -> dict:
    """Numbers of a row, and its DET curve at some points."""
    result = evaluate.evaluate(function, held, batch_size=256)
    curve = result.pooled
    some = np.unique(np.linspace(0, len(curve.frr) - 1, POINTS).astype(int))
    return {
        "accuracy": 100 * result.accuracy,
        "fdr5": 100 * curve.fdr_at_frr(0.05),
        "area": 1000 * curve.area(),
        "bytes": size,
        "curve": [[round(float(v), 7) for v in values[some]] for values in (curve.frr, curve.far)],
        "counts": [int(curve.positives), int(curve.negatives)],
    }


def of_keras(model: keras.Model, held: feature_set.FeatureSet) -> dict:
    """A float model, and the size of TensorFlow's own file of it."""
    return score(lambda x: model.predict(x, batch_size=256, verbose=0), held, len(measure.float_tflite(model)))


def of_file(model: keras.Model, held: feature_set.FeatureSet) -> dict:
    """A quantized model's file; refuses to report where Keras says anything else but at the edges of codes."""
    flatbuffer = tflite_export.convert(model)
    runner = tflite_export.Interpreter(flatbuffer, runtime="tflite")
    found = score(runner.run, held, len(flatbuffer))
    some = held.x[:: max(1, len(held.x) // 512)]
    expected, outputs = model.predict(some, verbose=0), runner.run(some)
    if np.median(np.abs(outputs - expected)) > 1e-3 * expected.std():
        raise AssertionError("Keras and the exported file do not agree")
    return found


def train_on(model: keras.Model, name: str, data: Data, config: low_rank_recipes.LowRankConfig) -> keras.Model:
    """The last stage of the recipe at the rate of a row."""
    config = dataclasses.replace(config, quantized_rate_factor=RATES[name])
    return low_rank_recipes.train_quantized(model, data.training, config)


def run_seed(seed: int, args, data: Data) -> dict[str, dict]:
    """Row name -> scores of a seed; each row is kept in a file for ``--resume``."""
    begin = time.time()
    kept = accuracy.RUNS / "low_rank" / f"{data.name}_{'_'.join(map(str, args.epochs))}" / f"seed{seed}"
    kept.mkdir(parents=True, exist_ok=True)
    first, second, third, last = args.epochs
    config = low_rank_recipes.LowRankConfig(
        phone_epochs=first, multitask_epochs=second, low_rank_epochs=third, quantized_epochs=last,
        learning_rate=args.rate, fast_epochs=args.fast, seed=seed,
    )  # fmt: skip
    weights = kept / "float.keras"
    if not (args.resume and weights.is_file()):
        low_rank_recipes.train_spotter(data.training, data.labels, config).save(weights)
    model = saving.load_model(weights, compile=False)
    rows: dict[str, dict] = {}

    def row(label: str, make) -> None:
        file = kept / f"{label}.json"
        if not (args.resume and file.is_file()):
            file.write_text(json.dumps(make()), encoding="utf-8")
            keras.backend.clear_session()
        rows[label] = json.loads(file.read_text(encoding="utf-8"))
        found = rows[label]
        print(
            f"{data.name} seed {seed} {time.time() - begin:5.0f}s {label:22} area {found['area']:.3f} accuracy "
            f"{found['accuracy']:.2f} fdr5 {found['fdr5']:.2f} bytes {found['bytes']}",
            flush=True,
        )

    def more() -> dict:
        longer = keras.models.clone_model(model)
        longer.set_weights(model.get_weights())
        return of_keras(train_on(longer, "float+", data, config), data.held)

    def quantized(options: dict) -> keras.Model:
        return tfmot_kws.quantize_apply(model, tfmot_kws.dynamic_scheme(**options))

    row("float", lambda: of_keras(model, data.held))
    row("float+", more)
    for name, options in LINEAR.items():
        row(f"naive, {name}", lambda options=options: of_file(quantized(options), data.held))
    for name, options in {**LINEAR, **JOINED}.items():
        trained = lambda name=name, options=options: of_file(  # noqa: E731
            train_on(quantized(options), name, data, config), data.held
        )
        row(name if name in JOINED else f"trained, {name}", trained)
    return rows


def summary(runs: list[dict[str, dict]]) -> list[dict]:
    """Means over seeds; ratios are of means, ± is the standard deviation of the seeds' ratios."""
    out = []
    base = {name: float(np.mean([run[name]["area"] for run in runs])) for name in ("float", "float+")}
    for name in runs[0]:
        seeds = [{k: v for k, v in run[name].items() if k not in ("curve", "counts")} for run in runs]
        row: dict = {"method": name}
        for key in ("accuracy", "fdr5", "area", "bytes"):
            row[key] = float(np.mean([s[key] for s in seeds]))
        ratios = [s["area"] / run["float"]["area"] for s, run in zip(seeds, runs)]
        row["relative"], row["plus"] = row["area"] / base["float"], row["area"] / base["float+"]
        row["relative_spread"] = float(np.std(ratios, ddof=1)) if len(runs) > 1 else None
        row["size"] = row["bytes"] / runs[0]["float"]["bytes"]
        kind, _, width = name.partition(", ")
        if width in PAPER and kind != "joined":
            naive, trained, size = PAPER[width]
            row["paper"], row["paper_size"] = naive if kind == "naive" else trained, size
        row["seeds"] = seeds
        out.append(row)
    return out


def plot(runs: list[dict[str, dict]], name: str) -> pathlib.Path:
    """All curves in one picture: miss rates of the seeds, averaged at equal rates of false detections."""
    grid = np.geomspace(1e-5, 1.0, 400)
    curves = {}
    for label in runs[0]:
        if label.startswith("naive") and label != "naive, 4 bits":
            continue
        frr = np.mean([_missed_at(grid, *run[label]["curve"]) for run in runs], axis=0)
        counts = runs[0][label]["counts"]
        # thresholds only order the points
        curves[label] = det.DetCurve(np.arange(len(grid), dtype=float), frr[::-1], grid[::-1], *counts)
    path = common.RESULTS / f"{name}.svg"
    return det_plot.plot_det(curves, path, title=f"50K low-rank spotter, {len(runs)} seeds")


def _missed_at(grid: np.ndarray, frr: list[float], far: list[float]) -> np.ndarray:
    """Miss rates at rates of false detections; FAR falls along a curve."""
    return np.interp(grid, np.asarray(far)[::-1], np.asarray(frr)[::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder with manifest.csv or with a folder per word; or 'synthetic'")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--epochs", type=int, nargs=4, default=(4, 6, 8, 8), help="of the stages; the paper's are 12 20 20 20"
    )
    parser.add_argument("--rate", type=float, default=1e-2, help="first learning rate of a stage")
    parser.add_argument("--fast", type=int, default=1, help="epochs after which the rate is divided by 2, not 1.2")
    parser.add_argument("--cache", type=pathlib.Path, default=accuracy.RUNS / "cache")
    parser.add_argument("--only", type=int, help="trains this seed and writes no table")
    parser.add_argument("--resume", action="store_true", help="takes what an earlier run of the same length trained")
    args = parser.parse_args()
    data = load(args.data, args.cache)
    print(f"{len(data.training)} training examples, {len(data.held)} held out", flush=True)
    seeds = range(args.seeds) if args.only is None else [args.only]
    runs = [run_seed(seed, args, data) for seed in seeds]
    if args.only is not None:
        return
    name = f"low_rank_{data.name}"
    targets = "the word where it is spoken" if data.name == "speech" else "espeak-ng's phones"
    common.write(
        name,
        f"The low-rank spotter, {data.name}, {len(runs)} seed{'s' if len(runs) > 1 else ''}",
        COLUMNS,
        summary(runs),
        [
            f"{len(data.held.classes)} classes ({', '.join(data.held.classes)}); {len(data.training):,} training "
            f"examples, {len(data.held):,} held out. Targets of frames: {targets}.",
            f"Epochs: phones {args.epochs[0]}, both {args.epochs[1]}, low rank {args.epochs[2]}; trained, joined and "
            f"float+ rows {args.epochs[3]} more, from the same float weights.",
            "Area is that of the pooled DET curve; sizes are whole .tflite files, the float one TensorFlow's own; ± is "
            "the standard deviation over seeds of the ratio to float.",
        ],
    )
    print(plot(runs, name))


if __name__ == "__main__":
    main()
