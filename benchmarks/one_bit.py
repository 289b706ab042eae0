# SPDX-License-Identifier: Apache-2.0
"""What helps a network with weights of one and two bits, over seeds, on real speech.

    python -m benchmarks.one_bit DATA --seeds 5

DATA, batches, rates and float+ are those of ``benchmarks.accuracy``, and so is the training length: every row starts
from float weights of as many epochs and trains as many more. Rows with a teacher learn half from its answers
(``recipes.train_quantized(teacher=)``): the float model itself, or three float models as one. Wider rows have as many
units in every layer as the file of the named width has room for at one bit or two.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np

import tflite_export
from benchmarks import accuracy, common
from tfmot_kws.data import feature_set
from tfmot_kws.keras import keras
from tfmot_kws.models import ensemble
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, budget, scheme
from tfmot_kws.training import stages as train

COLUMNS = (
    ("method", "method", ""), ("width", "units", "d"), ("bytes", "bytes", ",.0f"), ("accuracy", "accuracy %", ".2f"),
    ("spread", "± (seeds)", ".2f"), ("fdr5", "FDR % at FRR 5 %", ".2f"), ("area", "DET area x 1000", ".2f"),
    ("relative", "area / float+", ".2f"), ("relative_spread", "± (seeds)", ".2f"),
    ("fitted", "training accuracy %", ".1f"),
)  # fmt: skip
TEACHERS = 3
_FITTED = 8192


def file_bytes(shape: models.ModelConfig, bits: int) -> int:
    """Of the exported file of a network; weights do not change it."""
    model = apply.quantize_apply(models.build(shape), scheme.kws_scheme(bits=bits))
    train.calibrate(model, np.zeros((1, shape.frames, shape.mel_bins), np.float32))
    return len(tflite_export.convert(model))


def widest(shape: models.ModelConfig, bits: int, most: int) -> int:
    """The most units a layer with which a file of that width has at most so many bytes."""
    low, high = shape.width, shape.width * 8
    while high - low > 1:
        middle = (low + high) // 2
        fits = file_bytes(dataclasses.replace(shape, width=middle), bits) <= most
        low, high = (middle, high) if fits else (low, middle)
    return low


class Study:
    """The rows of one seed."""

    def __init__(self, args: argparse.Namespace, shape: models.ModelConfig) -> None:
        self.args, self.shape = args, shape
        self._floats: dict[tuple[int, int, int], keras.Model] = {}

    def float_model(self, trainer: accuracy.Trainer, width: int, number: int) -> keras.Model:
        """A float model of a width, trained as that of the seed; ``number`` tells those of a seed apart."""
        key = (width, trainer.seed, number)
        if key not in self._floats:
            seed = trainer.seed + 1000 * number
            keras.utils.set_random_seed(seed)
            model = models.build(dataclasses.replace(self.shape, width=width))
            accuracy.Trainer(trainer.data, seed).fit(model, [(accuracy.FLOAT_RATE, self.args.epochs)])
            self._floats[key] = model
        return self._floats[key]

    def teacher(self, trainer: accuracy.Trainer, model: keras.Model, count: int) -> keras.Model | None:
        """No one, the float model of the seed, or several as one."""
        if not count:
            return None
        more = [self.float_model(trainer, self.shape.width, number) for number in range(1, count)]
        return ensemble.mean_of([model, *more]) if more else model

    def row(self, name: str, bits: int, teachers: int = 0, width: int = 0, shifts: bool = True, falling: bool = False):
        """A method for ``accuracy.run_seed``.

        Args:
            name: of the row.
            bits: of the weights.
            teachers: float models whose mean is learnt from.
            width: units, 0 for those of the study.
            shifts: whether training clips are moved in time.
            falling: whether widths begin at 8 bits and fall in stage 1, as learned ones do within a budget.
        """

        def run(trainer, model, held):
            taught = self.teacher(trainer, model, teachers)
            if width:
                model = self.float_model(trainer, width, 0)
            keras.utils.set_random_seed(trainer.seed)  # whether or not float models were trained just now
            batches = accuracy.BATCHES if shifts else dataclasses.replace(accuracy.BATCHES, augment=None)
            own = accuracy.Trainer(trainer.data, trainer.seed, batches, taught)
            chosen = scheme.kws_scheme(bits=bits)
            if falling:
                chosen = scheme.kws_scheme("learned", budget=budget.Budget(average_bits=bits))
            quantized = apply.quantize_apply(model, chosen)
            accuracy.train_two_stages(own, quantized, bits, self.args)
            row = accuracy.exported(quantized, held) | {"width": width or self.shape.width}
            return {name: row | {"fitted": fitted(quantized, trainer.data)}}

        return run


def fitted(model: keras.Model, data: feature_set.FeatureSet) -> float:
    """Accuracy on training examples, %."""
    chosen = np.random.default_rng(0).permutation(len(data))[:_FITTED]
    found = accuracy.keras_function(model)(data.x[chosen]).argmax(axis=1)
    return 100 * float(np.mean(found == data.y[chosen]))


def methods(study: Study) -> dict[str, Callable]:
    """Name -> a function that trains and scores."""
    bytes_of = functools.partial(file_bytes, study.shape)
    at_2, at_4 = widest(study.shape, 1, bytes_of(2)), widest(study.shape, 1, bytes_of(4))
    two_at_4 = widest(study.shape, 2, bytes_of(4))
    row = study.row
    return {
        "float+": accuracy.float_more(study.args),
        "4": row("4 bits", 4),
        "2": row("2 bits", 2),
        "2 taught by 1": row("2 bits, its float model as teacher", 2, 1),
        "2 taught by 3": row(f"2 bits, {TEACHERS} float models as teacher", 2, TEACHERS),
        "1": row("1 bit", 1),
        "1 taught by 1": row("1 bit, its float model as teacher", 1, 1),
        "1 taught by 3": row(f"1 bit, {TEACHERS} float models as teacher", 1, TEACHERS),
        "1 falling": row("1 bit, widths fall from 8", 1, falling=True),
        "1 as it is": row("1 bit, clips not moved", 1, shifts=False),
        "1 as it is taught": row(f"1 bit, clips not moved, {TEACHERS} as teacher", 1, TEACHERS, shifts=False),
        "2 at 4": row("2 bits, wider: bytes of 4 bits", 2, width=two_at_4),
        "1 at 2": row("1 bit, wider: bytes of 2 bits", 1, width=at_2),
        "1 at 4": row("1 bit, wider: bytes of 4 bits", 1, width=at_4),
        "1 at 2 taught": row(f"1 bit, wider: bytes of 2 bits, {TEACHERS} as teacher", 1, TEACHERS, at_2),
        "1 at 4 taught": row(f"1 bit, wider: bytes of 4 bits, {TEACHERS} as teacher", 1, TEACHERS, at_4),
    }


def main() -> None:
    """Trains the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, help="folder with manifest.csv, or with a folder per word")
    parser.add_argument("--width", type=int, default=18, help="hidden units: 18 is 15K parameters")
    parser.add_argument("--name", default="one_bit_15k", help="results/NAME.json")
    accuracy.add_options(parser, seeds=5)
    args = parser.parse_args()
    training, held = accuracy.load(args.data, args.cache)
    print(f"{len(training)} training examples, {len(held)} held out, classes {', '.join(held.classes)}", flush=True)
    shape = models.ModelConfig(len(held.classes), *training.x.shape[1:], width=args.width)
    table = methods(Study(args, shape))
    seeds = range(args.seeds) if args.only is None else [args.only]
    runs = [accuracy.run_seed(seed, args, training, held, table) for seed in seeds]
    if args.only is not None:
        return
    rows = accuracy.summary(runs)
    for row in rows:
        row["width"] = row["seeds"][0].get("width", args.width)
        known = [seed["fitted"] for seed in row["seeds"] if "fitted" in seed]
        row["fitted"] = float(np.mean(known)) if known else None
    notes = [
        f"{len(held.classes)} classes ({', '.join(held.classes)}); {len(training):,} training examples, "
        f"{len(held):,} held out (each clip as it is and three times in noise).",
        f"Every row but float trains {args.stage1 + args.stage2} epochs more from float weights of {args.epochs} "
        f"epochs ({args.stage1} in stage 1, {args.stage2} in stage 2). Training accuracy: of {_FITTED:,} examples.",
        "Area is that of the pooled DET curve; ± is the standard deviation over seeds.",
    ]
    title = f"One and two bits, real speech, {len(runs)} seeds"
    print(common.write(args.name, title, COLUMNS, rows, notes))


if __name__ == "__main__":
    main()
