# SPDX-License-Identifier: Apache-2.0
"""The twelve classes of Google Speech Commands (Warden 2018, arXiv 1804.03209), for anyone who has the set.

    python -m benchmarks.speech_commands FOLDER --network network.json
    python -m benchmarks.speech_commands FOLDER --test TEST_FOLDER --network "like TC-ResNet8" --input raw

FOLDER is the unpacked set, with ``validation_list.txt`` and ``testing_list.txt``, which say what is trained on, chosen
by and tested on. TEST_FOLDER is the unpacked canonical test set: a folder for each of the twelve classes,
``_silence_`` and ``_unknown_`` among them; without it the words of ``testing_list.txt`` are the test, all other words
as unknown. For training other words and noise have as many examples as a word has in the mean.

The network is a description that ``tfmot-kws search`` wrote, or one of the fixed ones by name. It is trained in float,
then to each width and to learned ones.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import pathlib

import numpy as np

from benchmarks import common, search, search_networks
from tfmot_kws.data import corpus, datasets, feature_set
from tfmot_kws.data.task import SILENCE, UNKNOWN
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import networks, spotters
from tfmot_kws.quantize.scheme import kws_scheme
from tfmot_kws.search import run as searches
from tfmot_kws.sound import augment
from tfmot_kws.sound import files as sound_files
from tfmot_kws.training import recipes

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_LISTS = ("validation_list.txt", "testing_list.txt")


def canonical_test(folder: pathlib.Path) -> corpus.Corpus:
    """The clips of the canonical test set.

    Raises:
        ValueError: a class has no folder, or no clips.
    """
    clips = []
    for name in (SILENCE, UNKNOWN, *WORDS):
        files = sorted(p for p in (folder / name).glob("*") if p.suffix.lower() in sound_files.EXTENSIONS)
        if not files:
            raise ValueError(f"{folder}: the canonical test set has a folder for each class; {name} has no clips here")
        kind = "noise" if name == SILENCE else ""
        clips += [corpus.Clip(str(path), name, split="test", kind=kind) for path in files]
    return corpus.Corpus(tuple(clips))


def official(folder: pathlib.Path) -> corpus.Corpus:
    """The set's clips with its own split; of other words as many train as a word has in the mean.

    Raises:
        ValueError: a list or a word is missing.
    """
    missing = [name for name in _LISTS if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: {missing[0]} is missing; FOLDER is the unpacked set as it was published")
    clips = datasets.open_corpus(folder)
    missing = [word for word in WORDS if word not in clips.words()]
    if missing:
        raise ValueError(f"{folder}: no clips of {', '.join(missing)}")
    trained = [clip for clip in clips if clip.split == "train" and clip.word in WORDS]
    others = [clip for clip in clips if clip.split == "train" and clip.word not in WORDS and not clip.is_noise]
    # The order is that of a hash of the name, and so the same on every machine.
    others.sort(key=lambda clip: hashlib.sha1("/".join(pathlib.Path(clip.path).parts[-2:]).encode()).hexdigest())
    kept = {clip.path for clip in others[: round(len(trained) / len(WORDS))]}
    return clips.filter(lambda clip: clip.split != "train" or clip.word in WORDS or clip.is_noise or clip.path in kept)


def load(args: argparse.Namespace) -> tuple[feature_set.FeatureSet, feature_set.FeatureSet, features.FrontendConfig]:
    """Training and test examples, and the front end."""
    clips = official(args.folder)
    test = canonical_test(args.test) if args.test else clips
    frontend = features.FrontendConfig(backend=search.INPUTS[args.input])
    mean = sum(clip.split == "train" and clip.word in WORDS for clip in clips) / len(WORDS)
    noises = [clip for clip in clips.split("train") if clip.is_noise]
    windows = max(1, round(mean / max(1, len(noises))))
    task = datasets.TaskConfig(WORDS, windows=windows)
    held = datasets.TaskConfig(WORDS)
    noise = clips.split("train").filter(kinds=("noise",)) if noises else None
    cut = functools.partial(datasets.load_features, frontend=frontend, cache_dir=args.runs / "cache")
    training = cut(clips, "train", task, augment=augment.AugmentConfig(), copies=args.copies, seed=0, noise=noise)
    return training, cut(test, "test", held), frontend


def chosen(name: str, training: feature_set.FeatureSet, frontend: features.FrontendConfig) -> keras.Model:
    """The network of ``--network``, with fresh weights.

    Raises:
        ValueError: there is none of that name.
    """
    sinc = spotters.SincSpec(sample_rate=frontend.sample_rate) if frontend.backend == "raw" else None
    task = searches.task_of(training, sinc)
    if name in search_networks.FIXED:
        return search_networks.FIXED[name](task, 1.0)
    path = pathlib.Path(name)
    if path.suffix != ".json":
        raise ValueError(f"--network {name}: must be a .json file, or one of {', '.join(search_networks.FIXED)}")
    table = json.loads(path.read_text(encoding="utf-8"))
    table |= {"num_classes": task.num_classes, "frames": task.frames, "mel_bins": task.mel_bins}
    table["sinc"] = None if sinc is None else table.get("sinc") or {}
    return networks.build(networks.NetworkConfig.from_json(json.dumps(table)))


def run_seed(seed: int, args: argparse.Namespace, loaded: tuple) -> dict[str, dict]:
    """All rows of a seed."""
    training, held, frontend = loaded
    trials = search.Trials(args, seed)
    changes = recipes.augment_of(frontend)

    def trained() -> dict:
        recipe = recipes.TrainConfig(args.epochs, seed=seed, augment=changes)
        model = recipes.train_on(chosen(args.network, training, frontend), training, recipe)
        np.savez(trials.folder / "float.npz", *model.get_weights())
        return search.score(model, held)

    best = trials.row("float", trained)

    def quantized(scheme) -> dict:
        model = chosen(args.network, training, frontend)
        with np.load(trials.folder / "float.npz") as stored:
            model.set_weights([stored[name] for name in stored.files])
        recipe = recipes.TrainConfig(seed=seed, augment=changes)
        made = recipes.train_quantized(model, scheme, training, recipe, args.stage1, args.stage2)
        return search.score_file(made, held, best)

    filters = {"sinc": 8} if frontend.backend == "raw" else {}
    for bits in args.bits:
        trials.row(f"{bits} bit{'s' * (bits > 1)}", functools.partial(quantized, kws_scheme(bits, filters)))
    return trials.rows


def main() -> None:
    """Trains the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="the unpacked set")
    parser.add_argument("--test", type=pathlib.Path, help="the unpacked canonical test set")
    parser.add_argument("--network", required=True, help="network.json, or the name of a fixed network")
    parser.add_argument("--input", choices=tuple(search.INPUTS), default="mel")
    parser.add_argument("--name", default="speech_commands", help="results/NAME.json")
    search.add_options(parser, copies=1)
    args = parser.parse_args()
    loaded = load(args)
    training, held, _ = loaded
    print(f"{len(training)} training examples, {len(held)} of the test, {', '.join(held.classes)}", flush=True)
    runs = [run_seed(seed, args, loaded) for seed in (range(args.seeds) if args.only is None else [args.only])]
    if args.only is not None:
        return
    keys = [key for key, _, spec in search.COLUMNS if spec and not key.endswith("_spread")]
    test = "the canonical test set" if args.test else "testing_list.txt, all other words as unknown"
    notes = [
        f"{len(training):,} training examples; {len(held):,} of {test}. Network: {pathlib.Path(args.network).name}.",
        f"{args.epochs} epochs in float, {args.stage1} and {args.stage2} in the two stages.",
    ]
    rows = common.over_seeds(runs, keys, ("accuracy",))
    print(common.write(args.name, "Google Speech Commands, 12 classes", search.COLUMNS, rows, notes))


if __name__ == "__main__":
    main()
