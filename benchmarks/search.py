# SPDX-License-Identifier: Apache-2.0
"""Searched networks on ten words: from samples and from mel features, beside random search and fixed networks.

    python -m benchmarks.search DATA [DATA ...] --seeds 3

Words are left, right, up, down, go, zero, one, two, three, four, with a class for other words and one for noise where
DATA has any. Every network is trained from scratch by the same recipe, and measured on the speakers that DATA holds
out. Fixed networks are as wide as the limits allow. The best searched network is quantized to each width, and to
learned ones of 2.5 bits a weight and 2.9 an activation; filters over samples have 8 bits beside them.

Seeds can run side by side, ``--only 0`` and so on; ``--resume`` then trains what is left and makes the table.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import time
from collections.abc import Callable, Mapping

import numpy as np

import tflite_export
from benchmarks import common, search_networks
from tfmot_kws.commands import search as command
from tfmot_kws.data import corpus, datasets, prepare
from tfmot_kws.data.feature_set import FeatureSet
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import networks, spotters
from tfmot_kws.quantize import activation_costs
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.layers import QuantizedKernel
from tfmot_kws.quantize.scheme import kws_scheme
from tfmot_kws.quantize.waveform import QuantizedWaveform
from tfmot_kws.search import baseline, spaces
from tfmot_kws.search import run as searches
from tfmot_kws.search.tables import layers_of
from tfmot_kws.training import recipes

WORDS = ("left", "right", "up", "down", "go", "zero", "one", "two", "three", "four")
INPUTS = {"mel": "micro", "raw": "raw"}
COLUMNS = (
    ("model", "network", ""), ("accuracy", "accuracy %", ".2f"), ("accuracy_spread", "± (seeds)", ".2f"),
    ("parameters", "parameters", ",.0f"), ("operations", "operations", ",.0f"), ("weight_bits", "bits a weight", ".2f"),
    ("activation_bits", "bits an activation", ".2f"), ("memory", "kB of weights", ",.1f"),
    ("file", "file, bytes", ",.0f"),
)  # fmt: skip
PAPER = (
    # Peter, Roth, Pernkopf 2021, arXiv 2104.06666, and their companion of 2020, arXiv 2012.10138: another data set
    # (35 words of Google Speech Commands v2, 12 classes).
    {"model": "Peter et al. 2021, raw sound*", "accuracy": 95.55, "parameters": 75_700, "operations": 13.6e6},
    {"model": "Peter et al. 2021, raw sound, trained widths*", "accuracy": 93.76, "parameters": 75_700,
     "operations": 13.6e6, "weight_bits": 2.51, "activation_bits": 2.91},
    {"model": "Peter et al. 2020, MFCC*", "accuracy": 95.4, "operations": 19.6e6, "memory": 494.8},
    {"model": "Peter et al. 2020, 20 MFCC*", "accuracy": 96.3, "operations": 27.1e6, "memory": 340.1},
)  # fmt: skip


def load(paths: list[pathlib.Path], kind: str, cache: pathlib.Path, copies: int):
    """Training and held-out examples, the speakers of the training ones, and the front end."""
    parts = [datasets.open_corpus(path) for path in paths]
    clips = corpus.join_apart(parts) if len(parts) > 1 else parts[0]
    clips, task = prepare.prepare(clips, WORDS)
    frontend = features.FrontendConfig(backend=INPUTS[kind])
    training = prepare.training_features(clips, task, frontend, copies, 0, cache)
    held = prepare.held_out_features(clips, task, frontend, None, cache)
    return training, held, command.speakers_of(training, clips), frontend


def score(model: keras.Model, held: FeatureSet) -> dict:
    """Of a float model; operations are multiplications and additions of a clip."""
    found = evaluate.evaluate(lambda x: model.predict(x, batch_size=512, verbose=0), held, batch_size=len(held))
    return {
        "accuracy": 100 * found.accuracy, "parameters": search_networks.parameters(model), "weight_bits": 32.0,
        "operations": 2 * search_networks.macs(model), "activation_bits": 32.0,
        "memory": 4e-3 * search_networks.parameters(model),
    }  # fmt: skip


def score_file(quantized: keras.Model, held: FeatureSet, like: Mapping[str, float]) -> dict:
    """Of a quantized model as its exported file says it."""
    data = tflite_export.convert(quantized)
    runner = tflite_export.Interpreter(data, runtime="tflite")
    found = evaluate.evaluate(runner.run, held, batch_size=len(held))
    row = {name: like[name] for name in ("parameters", "operations")}
    row |= {"accuracy": 100 * found.accuracy, "file": len(data), "activation_bits": 8.0}
    weighted = [layer for layer in quantized.layers if isinstance(layer, (QuantizedKernel, QuantizedWaveform))]
    counts = [layer.filters.filters * layer.filters.taps if isinstance(layer, QuantizedWaveform)
              else int(np.prod(layer.kernel.shape)) for layer in weighted]  # fmt: skip
    bits = [layer.bits.bits if layer.learned_width is None else layer.weight_bits for layer in weighted]
    row["weight_bits"] = float(np.dot(bits, counts) / sum(counts))
    row["memory"] = float(np.dot(bits, counts)) / 8e3
    learned = activation_costs.learning(quantized)
    if learned:
        costs = activation_costs.costs_of(quantized)
        used = costs.of({one.name: one.weight_bits for one in learned})["average_activation_bits"]
        row["activation_bits"] = used / sum(layer.weights for layer in costs.layers)
    return row


class Trials:
    """The rows of a seed; each is kept in a file."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self.args, self.seed, self.start = args, seed, time.time()
        self.folder = args.runs / args.name / f"seed{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, dict] = {}

    def row(self, name: str, make: Callable[[], dict]) -> dict:
        """A row, made anew or read."""
        file = self.folder / f"{name.replace(' ', '_').replace(',', '')}.json"
        if not (self.args.resume and file.is_file()):
            keras.utils.set_random_seed(self.seed)
            file.write_text(json.dumps(make()), encoding="utf-8")
            keras.backend.clear_session()
        self.rows[name] = json.loads(file.read_text(encoding="utf-8"))
        print(
            f"seed {self.seed} {time.time() - self.start:5.0f}s {name:44} accuracy {self.rows[name]['accuracy']:.2f}",
            flush=True,
        )
        return self.rows[name]


def run_kind(trials: Trials, kind: str, loaded: tuple) -> None:
    """The rows of a seed from one kind of input."""
    args, seed = trials.args, trials.seed
    training, held, speakers, frontend = loaded
    budget, space = Budget(macs=args.macs, parameters=args.parameters), spaces.SPACES[args.space]()
    sinc = spotters.SincSpec(sample_rate=frontend.sample_rate) if kind == "raw" else None
    task, augment = searches.task_of(training, sinc), recipes.augment_of(frontend)
    recipe = recipes.TrainConfig(args.epochs, seed=seed, augment=augment)

    def searched():
        settings = searches.SearchConfig(args.search_epochs, args.search_epochs // 4, seed=seed)
        folder = trials.folder / f"search_{kind}"
        found = searches.search(training, space, budget, settings, sinc, speakers, augment, folder)
        model = recipes.train_float(training, found.network, recipe)
        np.savez(trials.folder / f"{kind}.npz", *model.get_weights())
        return score(model, held) | {"network": json.loads(found.network.to_json())}

    def drawn():
        """As many epochs in all as the supernet had."""
        short = recipes.TrainConfig(max(2, args.search_epochs // args.random), seed=seed, augment=augment)
        heard = baseline.random_search(training, space, budget, args.random, short, 0.3, sinc, speakers)
        return score(recipes.train_float(training, space.network(heard[0].path, task), recipe), held)

    best = trials.row(f"{kind}, searched", searched)
    trials.row(f"{kind}, random search", drawn)

    def fixed(make):
        model = search_networks.within(make, task, best["operations"] / 2, budget.parameters)
        return score(recipes.train_on(model, training, recipe), held)

    for name, make in search_networks.FIXED.items():
        trials.row(f"{kind}, {name}", functools.partial(fixed, make))

    found = networks.NetworkConfig.from_json(json.dumps(best["network"]))

    def quantized(scheme):
        model = networks.build(found)
        with np.load(trials.folder / f"{kind}.npz") as stored:
            model.set_weights([stored[name] for name in stored.files])
        more = recipes.TrainConfig(seed=seed, augment=augment)
        return score_file(recipes.train_quantized(model, scheme, training, more, args.stage1, args.stage2), held, best)

    filters = {"sinc": 8} if kind == "raw" else {}
    for bits in args.bits:
        trials.row(f"{kind}, searched, {bits} bits", functools.partial(quantized, kws_scheme(bits, filters)))
    sizes = [(layer.kind, layer.weights) for layer in layers_of(found)]
    mean = sum(count * (8.0 if of == "waveform" else 2.5) for of, count in sizes) / sum(n for _, n in sizes)
    both = Budget(average_bits=mean, average_activation_bits=2.9)
    scheme = kws_scheme("learned", filters, activation_bits="learned", budget=both)
    trials.row(f"{kind}, searched, learned widths", functools.partial(quantized, scheme))


def run_seed(seed: int, args: argparse.Namespace, data: Mapping[str, tuple]) -> dict[str, dict]:
    """All rows of a seed."""
    trials = Trials(args, seed)
    for kind, loaded in data.items():
        run_kind(trials, kind, loaded)
    return trials.rows


def add_options(parser: argparse.ArgumentParser, copies: int) -> None:
    """The options that ``Trials`` and both benchmarks of its rows read."""
    parser.add_argument("--copies", type=int, default=copies, help="augmented versions of each clip")
    parser.add_argument("--epochs", type=int, default=40, help="of every network, from scratch")
    parser.add_argument("--stage1", type=int, default=20)
    parser.add_argument("--stage2", type=int, default=10)
    parser.add_argument("--bits", type=int, nargs="*", default=(8, 4, 3, 2, 1))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", type=int, help="trains this seed and writes no table")
    parser.add_argument("--resume", action="store_true", help="takes what an earlier run trained")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))


def main() -> None:
    """Trains the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, nargs="+", help="folders with the words")
    parser.add_argument("--name", default="search", help="results/NAME.json")
    parser.add_argument("--inputs", nargs="+", choices=tuple(INPUTS), default=tuple(INPUTS))
    parser.add_argument("--space", choices=tuple(spaces.SPACES), default="time")
    parser.add_argument("--macs", default="7M", help="of a network, filters over samples counted")
    parser.add_argument(
        "--parameters", default="76K", help="of a network, filters over samples counted as they are stored"
    )
    parser.add_argument("--search-epochs", type=int, default=40)
    parser.add_argument("--random", type=int, default=8, help="networks that random search trains")
    add_options(parser, copies=3)
    args = parser.parse_args()
    data = {kind: load(args.data, kind, args.runs / "cache", args.copies) for kind in args.inputs}
    first = next(iter(data.values()))
    print(f"{len(first[0])} training examples, {len(first[1])} held out, {', '.join(first[1].classes)}", flush=True)
    runs = [run_seed(seed, args, data) for seed in (range(args.seeds) if args.only is None else [args.only])]
    if args.only is not None:
        return
    keys = [key for key, _, spec in COLUMNS if spec and not key.endswith("_spread")]
    rows = common.over_seeds(runs, keys, ("accuracy",))
    notes = [
        f"{', '.join(WORDS)}, other words{' and noise' if len(first[1].classes) > 11 else ''}; {len(first[0]):,} "
        f"training examples ({args.copies} versions of each clip), {len(first[1]):,} held out, of other speakers.",
        f"Searches: {args.search_epochs} epochs of the supernet, at most {args.macs} multiply-accumulates and "
        f"{args.parameters} weights and biases, filters over samples counted as they are stored. Random "
        f"search trains {args.random} networks for as many epochs in all. All networks are then trained from scratch "
        f"for {args.epochs} epochs, fixed ones as wide as the searched one has operations.",
        "Filters over samples have 8 bits, which bits a weight and kB count too; learned widths come to 2.5 bits "
        "without them.",
        "Operations are multiplications and additions of a clip, filters over samples counted.",
        "* As published: on other data (Google Speech Commands v2, 12 classes).",
    ]
    print(common.write(args.name, "Networks by search, ten words", COLUMNS, [*rows, *PAPER], notes))


if __name__ == "__main__":
    main()
