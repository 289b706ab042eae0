# SPDX-License-Identifier: Apache-2.0
"""Widths that are learned within a budget against one width for all layers, at equal flash and equal instructions.

    python -m benchmarks.learned_widths DATA [DATA ...] --network 15k
    python -m benchmarks.learned_widths DATA [DATA ...] --network ds_cnn

DATA, the trainings, the rates of every width and what is counted are those of ``benchmarks.accuracy``: every row
starts from the same float weights of a seed and trains as many epochs more. A budget is what a fixed width costs: a
learned row may use as much as the fixed row that it names. Rows of a softmax over widths learn them the way of
``benchmarks.width_softmax``, ``--hgq2`` those of ``benchmarks.hgq2_peer``.

Seeds can run side by side, ``--only 0`` and so on; ``--resume`` then trains what is left and makes the table, and the
picture beside it.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks import accuracy, common, width_softmax
from tfmot_kws import atomic
from tfmot_kws.evaluation import det_plot
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import activation_costs, apply, budget, costs, model_costs, scheme

CORES = {"m4": "cortex-m4", "a53": "cortex-a53"}
COLUMNS = (
    ("method", "method", ""), ("accuracy", "accuracy %", ".2f"), ("spread", "± (seeds)", ".2f"),
    ("area", "DET area x 1000", ".2f"), ("relative", "area / float+", ".2f"), ("relative_spread", "± (seeds)", ".2f"),
    ("flash", "bytes of weights", ",.0f"), ("average", "bits a weight", ".2f"),
    ("activations", "bits an activation", ".2f"), ("m4", "instructions, Cortex-M4", ",.0f"),
    ("a53", "Cortex-A53", ",.0f"), ("used", "of the budget", ".1%"), ("bytes", "file", ",.0f"),
)  # fmt: skip
_WITHOUT_END = 1e15


def network(name: str, classes: int, frames: int, mel_bins: int) -> Callable[[], keras.Model]:
    """Makes a network with fresh weights."""
    if name == "ds_cnn":
        return functools.partial(models.ds_cnn_stream, classes, frames, mel_bins)
    width = {"15k": 18, "250k": 128}[name]
    return functools.partial(models.wakeword_250k, classes, frames, mel_bins, width)


class Prices:
    """What widths of a network cost: bytes of weights, bits, and instructions on two cores."""

    def __init__(self, model: keras.Model) -> None:
        self.costs = {}
        for key, core in CORES.items():
            free = budget.Budget(flash=int(_WITHOUT_END), average_bits=8, instructions=_WITHOUT_END, core=core)
            self.costs[key] = model_costs.costs_of(
                apply.quantize_apply(model, scheme.kws_scheme("learned", budget=free))
            )
        self.names = self.costs["m4"].names

    def of(self, widths: Mapping[str, int]) -> dict[str, float]:
        """Of whole widths by layer."""
        found = self.costs["m4"].of(widths)
        weights = sum(layer.weights for layer in self.costs["m4"].layers if layer.kind in costs.COSTS["average_bits"])
        row = {"flash": found["flash"], "average": found["average_bits"] / weights}
        return row | {key: self.costs[key].of(widths)["instructions"] for key in CORES}

    def of_all(self, bits: int) -> dict[str, float]:
        """Of one width for all layers."""
        return self.of(dict.fromkeys(self.names, bits))


def _activation_bits(model: keras.Model) -> float:
    """Mean width of the activations: 8 where it is not learned."""
    learned = activation_costs.learning(model)
    if not learned:
        return 8.0
    found = activation_costs.costs_of(model)
    total = found.of({one.name: one.weight_bits for one in learned})["average_activation_bits"]
    return total / sum(layer.weights for layer in found.layers)


def fixed(bits: int, prices: Prices, args: argparse.Namespace) -> Callable:
    """One width for all layers."""

    def run(trainer, model, held):
        quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits))
        accuracy.train_two_stages(trainer, quantized, bits, args)
        row = accuracy.exported(quantized, held) | prices.of_all(bits) | {"activations": 8.0}
        return {f"{bits} bit{'s' * (bits > 1)}": row | {"widths": dict.fromkeys(prices.names, bits)}}

    return run


def learned(
    name: str, limits: budget.Budget, rates_of: int, prices: Prices, args: argparse.Namespace, soft: bool = False
) -> Callable:
    """Widths within a budget; rates are those of the fixed width that costs as much."""

    def run(trainer, model, held):
        activation_bits = 8 if limits.average_activation_bits is None else "learned"
        with width_softmax.instead() if soft else width_softmax.unchanged():
            quantized = apply.quantize_apply(
                model, scheme.kws_scheme("learned", activation_bits=activation_bits, budget=limits)
            )
            accuracy.train_two_stages(trainer, quantized, rates_of, args)
        used = model_costs.costs_of(quantized)
        widths = {layer.name: layer.weight_bits for layer in model_costs.learning(quantized)}
        row = accuracy.exported(quantized, held) | prices.of(widths)
        row |= {"activations": _activation_bits(quantized), "used": used.fullest(widths), "widths": widths}
        if row["used"] > 1.0:
            raise AssertionError(f"{name}: {row['used']:.3f} of the budget is used")
        return {name: row}

    return run


def by_hgq2(bits: int, args: argparse.Namespace) -> Callable:
    """HGQ2's learned widths at the cost of equal ones, trained by ``benchmarks.hgq2_peer``."""

    def run(trainer, model, held):
        shape = models.ModelConfig(model.output_shape[-1], *model.input_shape[1:])
        weights = model.get_weights()
        task = {
            "seed": trainer.seed, "shape": list(model.input_shape[1:]), "width": int(weights[1].shape[0]),
            "windows": [[w.size, w.stride, w.dilation] for w in shape.windows], "dense": shape.dense,
            "classes": model.output_shape[-1], "weights": len(weights), "batch_size": trainer.batches.batch_size,
            "stages": [[accuracy.MORE_RATE, args.stage1 + args.stage2]], "bits": bits,
            "shift": trainer.batches.augment.shift_frames,
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            given, found = (str(pathlib.Path(folder) / name) for name in ("task.npz", "out.npz"))
            arrays = {f"weight_{number}": array for number, array in enumerate(weights)}
            np.savez(given, task=json.dumps(task), x=trainer.data.x, y=trainer.data.y, held=held.x, **arrays)
            script = pathlib.Path(__file__).with_name("hgq2_peer.py")
            subprocess.run([args.hgq2, script, given, found], check=True)
            with np.load(found) as out:
                logits, widths, sizes, used = (out[name] for name in ("logits", "bits", "sizes", "used"))
        row = accuracy.score(lambda x: logits, held, None)
        row |= {"average": float(np.dot(widths, sizes) / sizes.sum()), "activations": 8.0}
        row |= {"flash": float(np.dot(widths, sizes) / 8), "widths": widths.tolist(), "used": float(used)}
        return {f"HGQ2, learned, its cost of {bits} bits": row}

    return run


def methods(prices: Prices, args: argparse.Namespace) -> dict[str, Callable]:
    """Name -> a function that trains and scores, for ``accuracy.run_seed``."""
    table: dict[str, Callable] = {"float+": accuracy.float_more(args)}
    for bits in args.bits:
        table[f"fixed {bits}"] = fixed(bits, prices, args)
    for bits in args.as_much_as:
        cost = prices.of_all(bits)
        flash = budget.Budget(flash=int(cost["flash"]))
        table[f"flash {bits}"] = learned(f"learned, bytes of {bits} bits", flash, bits, prices, args)
        if args.softmax:
            name = f"softmax over widths, bytes of {bits} bits"
            table[f"softmax {bits}"] = learned(name, flash, bits, prices, args, soft=True)
        for key, core in CORES.items() if args.instructions else ():
            both = budget.Budget(flash=int(cost["flash"]), instructions=cost[key], core=core)
            name = f"learned, bytes and {core}'s instructions of {bits} bits"
            table[f"{key} {bits}"] = learned(name, both, bits, prices, args)
    for bits in args.as_much_as if args.hgq2 else ():
        table[f"hgq2 {bits}"] = by_hgq2(bits, args)
    if args.paper:
        both = budget.Budget(average_bits=2.5, average_activation_bits=2.9)
        table["paper"] = learned("learned, 2.5 bits a weight and 2.9 an activation", both, 2, prices, args)
    return table


def rows_of(runs: Sequence[dict[str, dict]]) -> list[dict]:
    """Means over seeds."""
    rows = accuracy.summary(list(runs))
    for row in rows:
        for key in ("flash", "average", "activations", *CORES, "used"):
            known = [seed[key] for seed in row["seeds"] if seed.get(key) is not None]
            row[key] = float(np.mean(known)) if known else None
    return rows


_GROUPS = (
    # what the rows' names begin with, the legend, marker
    ("softmax", "softmax over widths", "s"), ("HGQ2", "HGQ2", "D"), ("learned", "learned", "o"), ("", "one width", "^"),
)  # fmt: skip


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, area) those that no other beats in both, the cheapest first."""
    best: list[tuple[float, float]] = []
    for cost, area in sorted(points):
        if not best or area < best[-1][1]:
            best.append((cost, area))
    return best


def plot(rows: Sequence[dict], path: pathlib.Path, title: str) -> pathlib.Path:
    """DET area against bytes of weights and against instructions: each row a point, the front of all a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    columns = (("flash", "bytes of weights"), ("m4", "instructions of a clip, Cortex-M4"))
    for axes, (key, label) in zip(figure.subplots(1, 2, sharey=True), columns):
        known = [row for row in rows if row.get(key) is not None]
        line = front([(row[key], row["area"]) for row in known])
        axes.step(*zip(*line), where="post", color="#999999", linewidth=1.2, label="Pareto front")
        left = list(known)
        for color, (begin, name, marker) in zip(det_plot.COLORS, _GROUPS):
            group = [row for row in left if row["method"].startswith(begin)]
            left = [row for row in left if row not in group]
            if not group:
                continue
            spread = [np.std([seed["area"] for seed in row["seeds"]], ddof=len(row["seeds"]) > 1) for row in group]
            axes.errorbar(
                [row[key] for row in group], [row["area"] for row in group], spread, fmt=marker, color=color,
                markersize=5, linewidth=0.8, capsize=2, label=name,
            )  # fmt: skip
            for row in group if not begin else ():
                axes.annotate(row["method"], (row[key], row["area"]), (4, 5), textcoords="offset points", fontsize=7)
        more = next((row["area"] for row in rows if row["method"] == "float+"), None)
        if more is not None:
            axes.axhline(more, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), label="float+")
        axes.set_xlabel(label)
        axes.tick_params(labelsize=8, length=3, color="#999999")
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.legend(fontsize=7, framealpha=0.95, edgecolor="#cccccc")
        if key == "flash":
            axes.set_ylabel("DET area x 1000")
    figure.suptitle(title, fontsize=10)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="svg", bbox_inches="tight", pad_inches=0.1)
    return path


def main() -> None:
    """Trains the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", type=pathlib.Path, nargs="+", help="folder with manifest.csv, or with a folder per word"
    )
    parser.add_argument("--network", choices=("15k", "250k", "ds_cnn"), default="15k")
    parser.add_argument("--name", help="results/NAME.json; learned_widths_NETWORK where not given")
    parser.add_argument("--bits", type=int, nargs="*", default=(8, 5, 4, 3, 2, 1), help="fixed widths")
    parser.add_argument("--as-much-as", type=int, nargs="*", default=(3, 2), help="fixed widths whose cost is allowed")
    parser.add_argument("--no-instructions", dest="instructions", action="store_false", help="budgets of flash only")
    parser.add_argument("--no-softmax", dest="softmax", action="store_false", help="leaves out the second way")
    parser.add_argument("--hgq2", help="a Python that has HGQ2 and jax: its learned widths too, of 15k and 250k")
    parser.add_argument("--no-paper", dest="paper", action="store_false", help="leaves out learned activations")
    accuracy.add_options(parser)
    args = parser.parse_args()
    if args.hgq2 and args.network == "ds_cnn":
        parser.error("--hgq2: goes with --network 15k or 250k")
    args.name = args.name or f"learned_widths_{args.network}"
    training, held = accuracy.load(args.data, args.cache)
    print(f"{len(training)} training examples, {len(held)} held out, classes {', '.join(held.classes)}", flush=True)
    make = network(args.network, len(held.classes), *training.x.shape[1:])
    prices = Prices(make())
    table = methods(prices, args)
    seeds = range(args.seeds) if args.only is None else [args.only]
    runs = [accuracy.run_seed(seed, args, training, held, table, make) for seed in seeds]
    if args.only is not None:
        return
    notes = [
        f"{len(held.classes)} classes ({', '.join(held.classes)}); {len(training):,} training examples, "
        f"{len(held):,} held out (each clip as it is and three times in noise).",
        f"Every row but float trains {args.stage1 + args.stage2} epochs more from the same float weights of "
        f"{args.epochs} epochs ({args.stage1} in stage 1, {args.stage2} in stage 2), at the rates of the width whose "
        "cost is allowed.",
        "Instructions of all layers with weights, of a clip, by the table of costs; area is that of the pooled DET "
        "curve; ± is the standard deviation over seeds.",
    ]
    if args.hgq2:
        notes.append(
            "HGQ2: one width a layer, one cosine decay over all epochs; what it uses is a share of its own cost."
        )
    parameters = make().count_params()
    title = f"Learned widths, {args.network}, {parameters:,} parameters, real speech, {len(runs)} seeds"
    rows = rows_of(runs)
    print(common.write(args.name, title, COLUMNS, rows, notes))
    print(plot(rows, common.RESULTS / f"{args.name}.svg", title))


if __name__ == "__main__":
    main()
