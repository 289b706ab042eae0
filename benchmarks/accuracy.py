# SPDX-License-Identifier: Apache-2.0
"""Accuracy of every width against float and against other methods, on real speech, over seeds.

    python -m benchmarks.accuracy DATA --width 18 --name accuracy_15k
    python -m benchmarks.accuracy DATA --width 128 --name accuracy_250k --widths-only

DATA is a folder with a manifest (or words in folders). Every method starts from the same trained float model of a seed
and trains as many epochs more, with the same optimizer, batches and augmentation. Quantized rows of this project come
from the .tflite as TFLite Micro runs it (the numpy reference where that is not installed).

Seeds can run side by side, ``--only 0`` and so on; ``--resume`` then trains what is left and makes the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # before TensorFlow: QKeras takes the Keras that tf.keras is

import numpy as np
import tensorflow as tf

import tflite_export
from benchmarks import common, peers
from tfmot_kws.data import corpus, datasets, feature_set
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.sound import augment
from tfmot_kws.training import recipes
from tfmot_kws.training import stages as train

KEYWORDS = ("alexa", "computer", "jarvis", "smart_mirror", "bed", "cat", "happy")
SPEECH = augment.AugmentConfig(noise_probability=0.5, snr_db=(3.0, 25.0), reverb_probability=0.2)
NOISY = augment.AugmentConfig(noise_probability=1.0, snr_db=(5.0, 20.0), reverb_probability=0.3, speed=(0.95, 1.05))
BATCHES = recipes.TrainConfig(augment=recipes.FeatureAugment(0, 0, 0, 0, shift_frames=5))
FLOAT_RATE, MORE_RATE = 3e-3, 2e-3
# Chosen by runs of one seed or two. Few bits like larger rates: of 2e-3, 6e-3 and 1.2e-2 the largest was best for
# QKeras's ternary and binary weights. 2-bit LastValue was better at 2e-3 than at 6e-3.
STAGE_RATES = {1: (4e-3, 2e-3), 2: (3e-3, 1e-3)}  # others MORE_RATE and half of it
PEER_RATES = {"bits 2": 1.2e-2, "ternary": 1.2e-2, "binary": 1.2e-2}  # others MORE_RATE
RUNS = common.RESULTS.parent.parent / "runs"
FEATURES = ("x", "y", "source", "places")
COLUMNS = (
    ("method", "method", ""), ("accuracy", "accuracy %", ".2f"), ("spread", "± (seeds)", ".2f"),
    ("fdr5", "FDR % at FRR 5 %", ".2f"), ("fdr10", "FDR % at FRR 10 %", ".2f"), ("area", "DET area x 1000", ".2f"),
    ("relative", "area / float+", ".2f"), ("relative_spread", "± (seeds)", ".2f"), ("bytes", "bytes", ",.0f"),
)  # fmt: skip


def load(
    path: pathlib.Path | Sequence[pathlib.Path], cache: pathlib.Path, frontend: features.FrontendConfig | None = None
) -> tuple[feature_set.FeatureSet, feature_set.FeatureSet]:
    """Training clips in three augmented versions; held-out clips as they are and in three noisy versions."""
    parts = [datasets.open_corpus(one) for one in ([path] if isinstance(path, pathlib.Path) else path)]
    clips = corpus.join_apart(parts) if len(parts) > 1 else parts[0]
    words = [w for w in KEYWORDS if w in clips.words()]
    keywords = tuple(words) if len(words) > 1 else tuple(list(clips.words())[:7])
    task = datasets.TaskConfig(keywords, windows=2, silence=False)
    frontend = frontend or features.FrontendConfig()
    held = "dev" if len(clips.split("dev")) else "test"

    def get(split, config, copies):
        noise = clips.split(split).filter(kinds=("noise",))
        noise = noise if len(noise) else None
        return datasets.load_features(
            clips, split, task, frontend, augment=config, copies=copies, seed=0, cache_dir=cache, noise=noise
        )

    clean, noisy = get(held, None, 1), get(held, NOISY, 3)
    joined = {name: np.concatenate([getattr(clean, name), getattr(noisy, name)]) for name in FEATURES}
    both = dataclasses.replace(clean, **joined)
    return get("train", SPEECH, 3), both


class Trainer:
    """Trains anything on the same batches with the same optimizer; ``teacher`` is whose answers are learnt too."""

    def __init__(self, data: feature_set.FeatureSet, seed: int, batches: recipes.TrainConfig = BATCHES, teacher=None):
        self.data, self.seed, self.batches, self.teacher = data, seed, batches, teacher
        self.steps = len(data) // BATCHES.batch_size

    def fit(self, model: keras.Model, stages: list[tuple[float, int]], callbacks=(), first: int = 0, last=None) -> None:
        """Cosine decays one after another; ``first``..``last`` runs part of the epochs of a compiled model."""
        epochs = sum(count for _, count in stages)
        config = dataclasses.replace(self.batches, seed=1000 * self.seed + first)
        if not first:
            rates = recipes.CosineStages([(rate, n * self.steps) for rate, n in stages], 0.01)
            loss = recipes.loss(config, len(self.data.classes), self.teacher is not None)
            model.compile(keras.optimizers.Adam(rates), loss, jit_compile=True)  # XLA halves the time of a step
            model.train_step = tf.autograph.experimental.do_not_convert(model.train_step)
        model.fit(
            recipes.batches(self.data, config, self.teacher),
            initial_epoch=first,
            epochs=last or epochs,
            callbacks=list(callbacks),
            verbose=0,
        )


def score(function: Callable[[np.ndarray], np.ndarray], held: feature_set.FeatureSet, size: int | None) -> dict:
    result = evaluate.evaluate(function, held, batch_size=len(held))
    curve = result.pooled
    return {
        "accuracy": 100 * result.accuracy,
        "fdr5": 100 * curve.fdr_at_frr(0.05),
        "fdr10": 100 * curve.fdr_at_frr(0.10),
        "area": 1000 * curve.area(),
        "bytes": size,
    }


def keras_function(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: model.predict(x, batch_size=1024, verbose=0)


def exported(model: keras.Model, held: feature_set.FeatureSet) -> dict:
    """Scores of the exported file; refuses to report where Keras says anything else."""
    data = tflite_export.convert(model)
    try:
        runner = tflite_export.Interpreter(data, runtime="tflm")
    except ImportError:
        runner = tflite_export.Interpreter(data, runtime="reference")
    outputs = runner.run(held.x)
    step = runner.outputs[0].scale
    apart = np.abs(outputs - keras_function(model)(held.x)).max() / step
    if apart > 1.001:
        raise AssertionError(f"Keras and the exported file are {apart:.3f} LSB apart")
    return score(lambda x: outputs, held, len(data))


def train_two_stages(
    trainer: Trainer, quantized: keras.Model, bits: int, args, between: Callable[[keras.Model], None] | None = None
) -> None:
    """Both stages at the rates of a width; ``between`` sees the model after the first."""
    rates = STAGE_RATES.get(bits, (MORE_RATE, MORE_RATE / 2))
    stages = [(rates[0], args.stage1), (rates[1], args.stage2)]
    schedule = [train.TwoStageSchedule(args.stage1)]
    trainer.fit(quantized, stages, schedule, last=args.stage1)
    if between is not None:
        between(quantized)
    trainer.fit(quantized, stages, schedule, first=args.stage1)


def float_more(args) -> Callable:
    """The method float+: the float model, trained as many epochs more as the others."""

    def run(trainer, model, held):
        model = keras.models.clone_model(model)
        model.set_weights(trainer.float_weights)
        trainer.fit(model, [(MORE_RATE, args.stage1 + args.stage2)])
        return {"float+": score(keras_function(model), held, 4 * model.count_params())}

    return run


def methods(args) -> dict[str, Callable]:
    """Name -> function(trainer, float model, held-out data) -> {row name: scores}."""
    more = args.stage1 + args.stage2
    table: dict[str, Callable] = {}

    def ours(bits):
        def run(trainer, model, held):
            quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits))
            label, found = f"{bits} bit{'s' if bits > 1 else ''}", {}

            def between(model):
                found[f"ours, {label}, stage 1"] = score(keras_function(model), held, None)

            train_two_stages(trainer, quantized, bits, args, between)
            return {**found, f"ours, {label}": exported(quantized, held)}

        return run

    def naive(bits):
        def run(trainer, model, held):
            quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits))
            train.calibrate(quantized, trainer.data.x[:4096])
            return {f"naive rounding, {bits} bits": exported(quantized, held)}

        return run

    def peer(name, make, rate=MORE_RATE):
        def run(trainer, model, held):
            other = make(model, trainer.data.x[:4096])
            trainer.fit(other, [(rate, more)])
            return {name: score(keras_function(other), held, None)}

        return run

    table["float+"] = float_more(args)
    for bits in args.bits:
        table[f"ours {bits}"] = ours(bits)
    for bits in (b for b in args.bits if b > 1):
        table[f"naive {bits}"] = naive(bits)
    if not args.widths_only:
        table["tfmot"] = peer("TFMOT default, 8 bits", peers.tfmot_default)
        for bits in (4, 3, 2):
            table[f"last value {bits}"] = peer(f"TFMOT LastValue per axis, {bits} bits", peers.last_value(bits))
        if peers.has_qkeras():
            for kind, bits, label in (
                ("bits", 4, "quantized_bits, 4 bits"),
                ("bits", 2, "quantized_bits, 2 bits"),
                ("ternary", 0, "ternary (1.6 bits)"),
                ("binary", 0, "binary, 1 bit"),
            ):
                key = f"{kind} {bits}" if bits else kind
                table[f"qkeras {key}"] = peer(
                    f"QKeras {label}", peers.qkeras(kind, bits), PEER_RATES.get(key, MORE_RATE)
                )
    return table


def summary(runs: list[dict[str, dict]]) -> list[dict]:
    """Means over seeds, and standard deviations of accuracy and of the area relative to float+."""
    rows = []
    for name in runs[0]:
        per_seed = [run[name] for run in runs if name in run]
        row: dict = {"method": name}
        for key in ("accuracy", "fdr5", "fdr10", "area"):
            row[key] = float(np.mean([s[key] for s in per_seed]))
        relative = [s["area"] / run["float+"]["area"] for s, run in zip(per_seed, runs)]
        row["relative"] = row["area"] / float(np.mean([run["float+"]["area"] for run in runs]))
        row["relative_spread"] = float(np.std(relative, ddof=1)) if len(runs) > 1 else None
        row["spread"] = float(np.std([s["accuracy"] for s in per_seed], ddof=1)) if len(runs) > 1 else None
        row["bytes"] = per_seed[0]["bytes"]
        row["seeds"] = per_seed
        rows.append(row)
    return rows


def run_seed(
    seed: int,
    args,
    training: feature_set.FeatureSet,
    held: feature_set.FeatureSet,
    table: dict[str, Callable] | None = None,
    make: Callable[[], keras.Model] | None = None,
) -> dict[str, dict]:
    """Row name -> scores of every method for one seed; each method is kept in a file for ``--resume``.

    table: the methods, None for those of ``methods``.
    make: a network with fresh weights, None for the spotter of ``args.width``.
    """
    begin = time.time()
    kept = RUNS / "accuracy" / f"{args.name}_{args.epochs}_{args.stage1}_{args.stage2}" / f"seed{seed}"
    kept.mkdir(parents=True, exist_ok=True)
    if make is None:
        make = functools.partial(
            models.build, models.ModelConfig(len(held.classes), *training.x.shape[1:], width=args.width)
        )
    keras.utils.set_random_seed(seed)
    trainer, model = Trainer(training, seed), make()
    weights = kept / "float.npz"
    if args.resume and weights.is_file():
        with np.load(weights) as stored:
            model.set_weights([stored[name] for name in stored.files])
    else:
        trainer.fit(model, [(FLOAT_RATE, args.epochs)])
        np.savez(weights, *model.get_weights())
    trainer.float_weights = model.get_weights()
    run = {"float": score(keras_function(model), held, 4 * model.count_params())}
    for key, method in (methods(args) if table is None else table).items():
        file = kept / f"{key}.json"
        if not (args.resume and file.is_file()):
            keras.utils.set_random_seed(seed)
            model = make()
            model.set_weights(trainer.float_weights)
            file.write_text(json.dumps(method(trainer, model, held)), encoding="utf-8")
            keras.backend.clear_session()
        rows = json.loads(file.read_text(encoding="utf-8"))
        run.update(rows)
        for row, scores in rows.items():
            print(
                f"seed {seed} {time.time() - begin:5.0f}s {row:34} accuracy {scores['accuracy']:.2f} "
                f"fdr5 {scores['fdr5']:.2f} fdr10 {scores['fdr10']:.2f} area {scores['area']:.3f}",
                flush=True,
            )
    return run


def add_options(parser: argparse.ArgumentParser, seeds: int = 3) -> None:
    """The options that ``run_seed`` and ``train_two_stages`` read, the same in every script with such rows."""
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--epochs", type=int, default=24, help="of the float model")
    parser.add_argument("--stage1", type=int, default=12, help="epochs of stage 1")
    parser.add_argument("--stage2", type=int, default=8, help="epochs of stage 2; float+ and peers train both longer")
    parser.add_argument("--cache", type=pathlib.Path, default=RUNS / "cache")
    parser.add_argument("--only", type=int, help="trains this seed and writes no table")
    parser.add_argument("--resume", action="store_true", help="takes what an earlier run of the same length trained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path, help="folder with manifest.csv, or with a folder per word")
    parser.add_argument("--width", type=int, default=18, help="hidden units: 18 is 15K parameters, 128 is 250K")
    parser.add_argument("--name", default="accuracy_15k", help="results/NAME.json")
    parser.add_argument("--bits", type=int, nargs="+", default=(8, 5, 4, 3, 2, 1), help="widths to train")
    parser.add_argument("--widths-only", action="store_true", help="no peers")
    add_options(parser)
    args = parser.parse_args()
    training, held = load(args.data, args.cache)
    print(f"{len(training)} training examples, {len(held)} held out, classes {', '.join(held.classes)}", flush=True)
    runs: list[dict[str, dict]] = []
    for seed in range(args.seeds) if args.only is None else [args.only]:
        runs.append(run_seed(seed, args, training, held))
    if args.only is not None:
        return
    parameters = models.build(
        models.ModelConfig(len(held.classes), *training.x.shape[1:], width=args.width)
    ).count_params()
    common.write(
        args.name,
        f"Accuracy, {parameters:,} parameters, real speech, {len(runs)} seed{'s' if len(runs) > 1 else ''}",
        COLUMNS,
        summary(runs),
        [
            f"{len(held.classes)} classes ({', '.join(held.classes)}); {len(training):,} training examples, "
            f"{len(held):,} held out (each clip as it is and three times in noise).",
            f"Every row but float and naive rounding trains {args.stage1 + args.stage2} epochs more from the same "
            f"float weights of {args.epochs} epochs (ours: {args.stage1} in stage 1, {args.stage2} in stage 2).",
            "Area is that of the pooled DET curve; ± is the standard deviation over seeds.",
        ],
    )


if __name__ == "__main__":
    main()
