# SPDX-License-Identifier: Apache-2.0
"""Flash, SRAM and cycles of spotters on Arm's Ethos-U, as Vela estimates them, over widths and grids of weights.

    python -m benchmarks.npu
    python -m benchmarks.npu --accuracy DATA --width 18 --name npu_accuracy_15k

The first makes results/npu.json. Its weights are fresh, random ones as ``quantize_apply`` makes levels of them, which
fill every level; rows with zeros have the smallest levels set to zero afterwards, a study of sizes only.

The second trains, the setting b of Zeng et al. 2022 (arXiv 2207.06920): accuracy of every width as TFLite runs the file
that Vela compiles, and the memory and cycles of the compiled stream. DATA, batches and float+ are those of
benchmarks/accuracy.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

import tflite_export
from benchmarks import accuracy, common
from tflite_export import from_keras, ir, npu
from tflite_export.streaming import graph as streaming
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, quantizers, scheme
from tfmot_kws.training import stages as train

ACCELERATORS = {"u55": "ethos-u55-128", "u65": "ethos-u65-256", "u85": "ethos-u85-256"}
WIDTHS = {"250K": 128, "15K": 18}
CLASSES = 8
ZEROS = {8: (0.5, 0.8), 4: (0.5, 0.8), 2: (0.5, 0.8)}
FRAME = features.FrontendConfig().hop_ms / 1000
COLUMNS = (
    ("model", "model", ""), ("bits", "bits", "d"), ("grid", "grid", ""), ("zeros", "zeros", ".0%"),
    ("u55_flash", "U55: flash", ",d"), ("of_float", "of float32", ".3f"), ("of_8", "of 8 bits", ".2f"),
    ("u55_sram", "U55: SRAM", ",d"), ("u55_cycles", "U55: cycles an inference", ",d"),
    ("u55_second", "U55: cycles a second of sound", ",.0f"), ("u65_flash", "U65: flash", ",d"),
    ("u65_cycles", "U65: cycles an inference", ",d"), ("u85_flash", "U85: flash", ",d"),
    ("u85_cycles", "U85: cycles an inference", ",d"),
)  # fmt: skip
ACCURACY = (
    ("method", "weights", ""), ("accuracy", "accuracy %", ".2f"), ("spread", "± (seeds)", ".2f"),
    ("fdr5", "FDR % at FRR 5 %", ".2f"), ("area", "DET area x 1000", ".2f"), ("relative", "area / float+", ".2f"),
    ("relative_spread", "± (seeds)", ".2f"), ("bytes", "flash", ",.0f"), ("of_float", "of float32", ".3f"),
    ("of_8", "of 8 bits", ".2f"), ("sram", "SRAM", ",.0f"), ("second", "cycles a second of sound", ",.0f"),
)  # fmt: skip


def grids(bits: int) -> tuple[str, ...]:
    """Grids of a width that stock ops can hold: 1 bit has no zero, 8 bits without one do not fit int8."""
    return {1: ("mid-rise",), 8: ("mid-tread",)}.get(bits, quantizers.GRIDS)


def files(graph: ir.Graph) -> dict[str, bytes]:
    """What is compiled of a clip's graph: itself, and the stream whose state goes in and out."""
    stream = streaming.externalize(streaming.to_stream(graph))
    step = tflite_export.write(stream.graph, "builtin", metadata=stream.schedule.to_metadata())
    return {"clip": tflite_export.write(graph, "builtin"), "stream": step}


def with_zeros(graph: ir.Graph, share: float) -> ir.Graph:
    """The graph with at least that share of each layer's weights at zero, the smallest first; mid-tread grids only."""
    ops = []
    for op in graph.ops:
        if isinstance(op, ir.PackedDense):
            levels = op.weights.levels
            order = np.argsort(np.abs(levels), axis=None, kind="stable")[: math.ceil(share * levels.size)]
            codes = op.weights.codes.copy()
            codes.flat[order] = 1 << (op.weights.bits - 1)  # the level 0
            op = dataclasses.replace(op, weights=dataclasses.replace(op.weights, codes=codes))
        ops.append(op)
    return dataclasses.replace(graph, ops=tuple(ops))


def fresh(width: int, bits: int, grid: str) -> tuple[ir.Graph, int]:
    """An untrained spotter's graph, and the parameters of its float model."""
    keras.utils.set_random_seed(0)
    model = models.wakeword_250k(CLASSES, width=width)
    quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits, grid=grid))
    x = np.random.default_rng(0).uniform(0, 26, (64, *model.input_shape[1:])).astype(np.float32)
    train.calibrate(quantized, x)
    return from_keras.to_graph(quantized), model.count_params()


def measure(data: bytes) -> dict[str, float | None]:
    """The columns of one file on each accelerator; raises AssertionError where an op stays on the CPU."""
    row: dict[str, float | None] = {}
    for key, accelerator in ACCELERATORS.items():
        found = npu.compile(data, accelerator)
        if found.cpu_ops:
            raise AssertionError(f"{accelerator}: these ops stay on the CPU: {found.cpu_ops}")
        row |= {f"{key}_flash": found.flash, f"{key}_sram": found.sram, f"{key}_cycles": found.cycles}
        row |= {f"{key}_file": len(found.flatbuffer)}
        row[f"{key}_second"] = found.cycles_a_second(FRAME) if found.hop else None
    return row


def rows_of(name: str, width: int, widths: Sequence[int], zeros: dict[int, tuple[float, ...]]) -> list[dict]:
    """Rows of one spotter: clip and stream at every width and grid, then the stream with zeros."""
    rows: list[dict] = []
    for bits in widths:
        for grid in grids(bits):
            graph, parameters = fresh(width, bits, grid)
            made = [(f"{name}, {kind}", None, data) for kind, data in files(graph).items()]
            if grid == "mid-tread":
                for share in zeros.get(bits, ()):
                    made.append((f"{name}, stream", share, files(with_zeros(graph, share))["stream"]))
            for model, share, data in made:
                found = measure(data)
                found |= {"of_float": found["u55_flash"] / (4 * parameters), "parameters": parameters}
                rows.append({"model": model, "bits": bits, "grid": grid, "zeros": share, **found})
                print(rows[-1], flush=True)
    rows.sort(key=lambda row: (row["zeros"] is not None, row["model"]))
    return against_8_bits(rows, "u55_flash", lambda row: row["model"])


def against_8_bits(rows: list[dict], key: str, group: Callable[[dict], str]) -> list[dict]:
    """The rows with ``of_8``: ``key`` beside that of 8 bits in the same group."""
    full = {group(row): row[key] for row in rows if row.get("bits") == 8 and row.get("zeros") is None}
    for row in rows:
        row["of_8"] = row[key] / full[group(row)] if group(row) in full and row.get(key) else None
    return rows


def trained(args, bits: int, grid: str) -> Callable:
    """The method of one width and grid: accuracy as TFLite runs the clip's file, and the compiled stream."""

    def run(trainer, model, held):
        quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits, grid=grid))
        accuracy.train_two_stages(trainer, quantized, bits, args)
        made = files(from_keras.to_graph(quantized))
        outputs = tflite_export.Interpreter(made["clip"], runtime="tflite").run(held.x)
        found = npu.compile(made["stream"], args.accelerator)
        scores = accuracy.score(lambda x: outputs, held, found.flash)
        return {label(bits, grid): {**scores, "sram": found.sram, "second": found.cycles_a_second(FRAME)}}

    return run


def label(bits: int, grid: str) -> str:
    """What a row is called."""
    return f"{bits} bit{'s' if bits > 1 else ''}, {grid}"


def accuracy_rows(runs: list[dict[str, dict]], made: Sequence[tuple[int, str]]) -> list[dict]:
    """Means over seeds, with memory beside float and beside 8 bits."""
    rows = accuracy.summary(runs)
    bits_of = {label(bits, grid): bits for bits, grid in made}
    for row in rows:
        row["bits"] = bits_of.get(row["method"])
        for key in ("bytes", "sram", "second"):
            found = [seed[key] for seed in row["seeds"] if seed.get(key) is not None]
            row[key] = float(np.mean(found)) if found else None
    whole = next(row["bytes"] for row in rows if row["method"] == "float+")
    for row in rows:
        row["of_float"] = row["bytes"] / whole
    return against_8_bits(rows, "bytes", lambda row: "")


def run_accuracy(args) -> None:
    """Trains every width and grid and writes the table."""
    training, held = accuracy.load(args.accuracy, args.cache)
    print(f"{len(training)} training examples, {len(held)} held out, classes {', '.join(held.classes)}", flush=True)
    made = [(bits, grid) for bits in args.bits for grid in grids(bits)]
    table = {"float+": accuracy.float_more(args)} | {f"{b} {grid}": trained(args, b, grid) for b, grid in made}
    seeds = range(args.seeds) if args.only is None else [args.only]
    runs = [accuracy.run_seed(seed, args, training, held, table) for seed in seeds]
    if args.only is not None:
        return
    config = models.ModelConfig(len(held.classes), *training.x.shape[1:], width=args.width)
    common.write(
        args.name,
        f"Accuracy on {args.accelerator}, {models.build(config).count_params():,} parameters, {len(runs)} "
        f"seed{'s' if len(runs) > 1 else ''}",
        ACCURACY,
        accuracy_rows(runs, made),
        [
            f"{len(held.classes)} classes ({', '.join(held.classes)}); {len(training):,} training examples, "
            f"{len(held):,} held out (each clip as it is and three times in noise).",
            f"Every row but float trains {args.stage1 + args.stage2} epochs more from the same float weights of "
            f"{args.epochs} epochs (stage 1: {args.stage1}, stage 2: {args.stage2}).",
            "Accuracy: the file of stock ops as TFLite runs it, on clips. Flash, SRAM and cycles: the stream whose "
            f"state goes in and out, mean over seeds, estimates of Vela {npu.vela.version()}; no Ethos-U was run. "
            "Float: 4 bytes a parameter.",
        ],
    )


def run_sizes(args) -> None:
    """Compiles every width and grid with fresh weights and writes the table."""
    rows = [row for name, width in WIDTHS.items() for row in rows_of(name, width, args.bits, ZEROS)]
    systems = [npu.vela.target(accelerator) for accelerator in ACCELERATORS.values()]
    named = "; ".join(f"{t.accelerator}: {t.system_config}, {t.memory_mode}" for t in systems)
    common.write(
        args.name,
        "Spotters compiled for Ethos-U",
        COLUMNS,
        rows,
        [
            f"Estimates of Vela {npu.vela.version()} ({named}); no Ethos-U was run. All ops run on the NPU.",
            "Flash: bytes of weights, biases and scales, compressed. SRAM: activations at their peak; the caller of a "
            f"stream keeps its state beside it. Weights are fresh, {CLASSES} classes, frames of {1000 * FRAME:.0f} ms.",
            "Zeros: the smallest levels of each layer set to zero; sizes only, nothing was trained for it.",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accuracy", type=pathlib.Path, metavar="DATA", help="train on this folder as well as compile")
    parser.add_argument("--name", help="results/NAME.json (default: npu, or npu_accuracy_15k with --accuracy)")
    parser.add_argument("--bits", type=int, nargs="+", default=(8, 7, 6, 5, 4, 3, 2, 1), help="widths of the weights")
    parser.add_argument("--accelerator", default="ethos-u55-128", help="with --accuracy")
    parser.add_argument("--width", type=int, default=18, help="hidden units: 18 is 15K parameters, 128 is 250K")
    accuracy.add_options(parser)
    args = parser.parse_args()
    args.name = args.name or ("npu_accuracy_15k" if args.accuracy else "npu")
    npu.check(args.accelerator)
    if args.accuracy is None:
        run_sizes(args)
    else:
        run_accuracy(args)


if __name__ == "__main__":
    main()
