# SPDX-License-Identifier: Apache-2.0
"""A wake word on long sound: what each step of the recipe is worth, and what fewer bits cost.

    python -m benchmarks.streaming DATA --seeds 3

DATA is a folder with a manifest and streams. Models hear its held-out streams, and long streams made of its held-out
clips: the word among sentences, other words and pauses, in noise and rooms. Quantized models run as streaming .tflite
files in TFLite, new frames only; float ones on clips that slide by the same hop.
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
from benchmarks import common
from tfmot_kws.commands.parts import data as data_files
from tfmot_kws.commands.parts import stream_runners
from tfmot_kws.data import corpus, datasets, feature_set, prepare, stream_labels
from tfmot_kws.evaluation import detector
from tfmot_kws.evaluation import streams as stream_evaluate
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import scheme
from tfmot_kws.sound import augment
from tfmot_kws.sound import files as audio
from tfmot_kws.training import mining, recipes

FRONTEND = features.FrontendConfig()
CLEAN = augment.AugmentConfig(noise_probability=0.0, reverb_probability=0.0, time_masks=0, freq_masks=0)
NOISY = dataclasses.replace(CLEAN, noise_probability=0.7, snr_db=(3.0, 25.0), reverb_probability=0.3)
CONFUSABLE = ("alexis", "alex", "election", "a lexus", "electric", "flexor", "relax", "alaska", "a taxi", "select a")
COPIES, CONTEXT = 3, 1.0
RATES = {1: (4e-3, 2e-3), 2: (3e-3, 1e-3)}
COLUMNS = (
    ("model", "model", ""), ("frr_low", "missed % at 0.5 FA/h", ".1f"), ("frr_low_spread", "± (seeds)", ".1f"),
    ("frr_high", "missed % at 2 FA/h", ".1f"), ("frr_high_spread", "± (seeds)", ".1f"),
    ("latency", "median latency s", ".2f"), ("late", "95 % s", ".2f"), ("bytes", "bytes", ",.0f"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sound:
    """A stream: its features and the words in it."""

    name: str
    x: np.ndarray
    seconds: float
    targets: tuple[stream_labels.Target, ...]


def long_stream(
    clips: corpus.Corpus, word: str, minutes: float, seed: int
) -> tuple[np.ndarray, tuple[stream_labels.Target, ...]]:
    """Held-out clips one after another, pauses between them, the word about every twelve seconds; noise throughout."""
    rng = np.random.default_rng(seed)
    rate = FRONTEND.sample_rate
    wanted = [c for c in clips if c.word == word]
    others = [c for c in clips if c.word != word and not c.is_noise and not c.is_stream]
    noises = [c for c in clips if c.is_noise]
    parts, targets, length, since = [], [], 0, 0.0
    while length < minutes * 60 * rate:
        pause = np.zeros(int(rng.uniform(0.2, 1.5) * rate), np.float32)
        parts.append(pause)
        length += len(pause)
        target = since > 12.0
        clip = (wanted if target else others)[int(rng.integers(len(wanted if target else others)))]
        sound = augment.change_speed(audio.read(clip.path, rate), float(rng.uniform(0.95, 1.05)))
        if rng.random() < 0.3:
            sound = augment.reverberate(sound, augment.room(rng, float(rng.uniform(0.1, 0.5)), rate))
        sound = augment.gain(sound, float(rng.uniform(-8, 4)))
        if target:
            start = length + int((clip.start or 0.0) * rate)
            end = length + int((clip.end or len(sound) / rate) * rate)
            targets.append(stream_labels.Target(word, start / rate, end / rate))
        since = 0.0 if target else since + len(sound) / rate
        parts.append(sound)
        length += len(sound)
    speech = np.concatenate(parts)
    noise = augment.take_noise(audio.read(noises[int(rng.integers(len(noises)))].path, rate), len(speech), rng)
    return np.clip(augment.add_noise(speech, noise, float(rng.uniform(8, 22))), -1, 1), tuple(targets)


def load_sounds(path: pathlib.Path, word: str, hours: float) -> list[Sound]:
    """Streams of the data and made ones."""
    clips = datasets.open_corpus(path)
    files = stream_labels.sounds(path / "streams")
    labels = stream_labels.find(path / "streams")
    found = []
    for file, targets in zip(files, stream_labels.of_files(files, stream_labels.read(labels), labels)):
        found.append((file.stem, audio.read(file, FRONTEND.sample_rate), targets))
    held = prepare.without_compounds(clips.split("dev"), (word,))
    for number in range(round(hours * 4)):
        samples, targets = long_stream(held, word, 15.0, 1000 + number)
        found.append((f"made {number}", samples, targets))
    return [Sound(n, features.extract(FRONTEND, s), len(s) / FRONTEND.sample_rate, t) for n, s, t in found]


def scores(runner: stream_runners.StreamRunner, sounds: list[Sound], task: datasets.TaskConfig, word: str) -> dict:
    """Misses and latency at 0.5 and 2 false accepts an hour, and the factor over real time of model and detector."""
    start = time.perf_counter()
    outputs = [runner(sound.x) for sound in sounds]
    values, scale, zero_point = stream_runners.on_one_grid([out.values for out in outputs], runner.grid)
    step_seconds = runner.hop * FRONTEND.hop_ms / 1000
    config = detector.DetectorConfig.in_seconds(
        step_seconds, 0.2, 1.0, classes=len(task.classes), keywords=(task.classes.index(word),), thresholds=0.0,
        scale=scale, zero_point=zero_point,
    )  # fmt: skip
    known = [(FRONTEND.window + (out.frames - 1) * FRONTEND.hop) / FRONTEND.sample_rate for out in outputs]
    streams = [stream_evaluate.Stream(s.name, v, t, s.targets) for s, v, t in zip(sounds, values, known)]
    result: dict = {}
    for name, rate in (("low", 0.5), ("high", 2.0)):
        done = stream_evaluate.evaluate(streams, config, (word,), step_seconds, fa_per_hour=rate)
        result[f"frr_{name}"] = 100 * done.pooled.frr
        if name == "high":
            result["latency"], result["late"] = done.pooled.latency(50), done.pooled.latency(95)
            result["targets"], result["hours"] = done.pooled.targets, done.pooled.hours
    result["times_real_time"] = sum(s.seconds for s in sounds) / (time.perf_counter() - start)
    return result


class Study:
    """One seed of everything."""

    def __init__(self, args: argparse.Namespace, seed: int, sounds: list[Sound]) -> None:
        self.args, self.seed, self.sounds = args, seed, sounds
        self.clips = prepare.without_compounds(datasets.open_corpus(args.data), (args.keyword,))
        self.path = args.runs / f"{args.name}_{seed}.json"
        self.rows: dict[str, dict] = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.config = recipes.TrainConfig(
            epochs=args.epochs, learning_rate=3e-3, seed=seed, class_weights=False,
            augment=recipes.FeatureAugment(0, 0, 0, 0, shift_frames=3),
        )  # fmt: skip

    def keep(self, name: str, row: dict) -> None:
        self.rows[name] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.rows))
        print(
            f"seed {self.seed} {name:<34} missed {row['frr_low']:5.1f} % at 0.5 FA/h, {row['frr_high']:5.1f} % at 2",
            flush=True,
        )

    def features(self, context: float, config: augment.AugmentConfig, more: corpus.Corpus | None = None):
        clips = self.clips if more is None else self.clips + more
        task = prepare.make_task(clips, (self.args.keyword,), 1.0, context)
        noise = clips.filter(kinds=("noise",))
        return task, datasets.load_features(
            clips, "train", task, FRONTEND, config, COPIES, 0, self.args.cache, noise if len(noise) else None
        )

    def float_model(self, task: datasets.TaskConfig, examples: feature_set.FeatureSet) -> keras.Model:
        shape = models.ModelConfig(len(task.classes), *examples.x.shape[1:], self.args.width)
        return recipes.train_float(examples, shape, self.config)

    def hear(self, model: keras.Model, task: datasets.TaskConfig) -> dict:
        runner = stream_runners.SlidingWindows(model.predict_on_batch, model.input_shape[1], self.args.hop)
        return {**scores(runner, self.sounds, task, self.args.keyword), "bytes": 4 * model.count_params()}

    def run(self) -> None:
        """The steps of the recipe, then the widths, from the last float model."""
        word = self.args.keyword
        steps = [("clips as they are", 0.0, CLEAN, None), ("+ sound before the clip", CONTEXT, CLEAN, None)]
        steps.append(("+ noise and rooms", CONTEXT, NOISY, None))
        spoken = data_files.speak_confusables((word,), CONFUSABLE, self.args.cache, 0)
        steps.append(("+ confusable words, synthetic", CONTEXT, NOISY, spoken))
        for name, context, config, more in steps:
            last = name == steps[-1][0]
            if name in self.rows and not last:
                continue
            task, examples = self.features(context, config, more)
            model = self.float_model(task, examples)
            if name not in self.rows:
                self.keep(name, self.hear(model, task))
        sound, _ = data_files.read_long(self.args.data / "negatives" / "train", FRONTEND.sample_rate)
        for _ in range(2):
            found = mining.mine(
                model.predict_on_batch, sound, FRONTEND, model.input_shape[1], (task.classes.index(word),)
            )
            examples = examples.with_examples(found.x, data_files.other_class(task), "mined")
            more_epochs = dataclasses.replace(self.config, epochs=max(1, self.args.epochs // 3), learning_rate=1.5e-3)
            model = recipes.train_on(model, examples, more_epochs)
        self.keep("+ mined hard negatives (float)", self.hear(model, task))
        weights = model.get_weights()
        plus = dataclasses.replace(self.config, epochs=self.args.stage1 + self.args.stage2, learning_rate=2e-3)
        self.keep("float+", self.hear(recipes.train_on(model, examples, plus), task))
        model.set_weights(weights)
        for bits in self.args.bits:
            rates = RATES.get(bits, (2e-3, 1e-3))
            recipe = dataclasses.replace(
                self.config, learning_rate=rates[0], stage2_learning_rate_factor=rates[1] / rates[0]
            )
            quantized = recipes.train_quantized(
                model, scheme.kws_scheme(bits=bits), examples, recipe, self.args.stage1, self.args.stage2
            )
            data = tflite_export.convert(quantized, streaming="internal")
            runner = stream_runners.Streaming(tflite_export.StreamInterpreter(data, "tflite"))
            row = {**scores(runner, self.sounds, task, word), "bytes": len(data)}
            self.keep(f"{bits} bit{'s' * (bits > 1)}", row)


def main() -> None:
    """Runs the seeds and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--keyword", default="alexa")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hours", type=float, default=5.0, help="of made streams")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--hop", type=int, default=6, help="frames between two windows of float models")
    parser.add_argument("--bits", type=int, nargs="*", default=[8, 5, 4, 2, 1])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--stage1", type=int, default=3)
    parser.add_argument("--stage2", type=int, default=2)
    parser.add_argument("--name", default="streaming")
    parser.add_argument("--cache", type=pathlib.Path, default=data_files.default_cache())
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs") / "streaming")
    args = parser.parse_args()
    sounds = load_sounds(args.data, args.keyword, args.hours)
    hours = sum(s.seconds for s in sounds) / 3600
    targets = sum(len(s.targets) for s in sounds)
    print(f"{len(sounds)} streams, {hours:.2f} h, {targets} targets", flush=True)
    studies = [Study(args, seed, sounds) for seed in range(args.seeds)]
    for study in studies:
        study.run()
    keys = ("frr_low", "frr_high", "latency", "late", "bytes", "times_real_time")
    rows = common.over_seeds([study.rows for study in studies], keys, ("frr_low", "frr_high"))
    factor = min(r["times_real_time"] for r in rows if "bit" in r["model"])
    notes = [
        f'The word "{args.keyword}" {targets} times in {hours:.1f} h: the data\'s streams, and streams made of its '
        "held-out clips in noise and rooms.",
        f"Mean of {args.seeds} seeds; width {args.width}. The widths start from the last float model of their seed and "
        f"train {args.stage1} + {args.stage2} epochs; float+ trains as many.",
        f"Quantized models run as streaming files in TFLite, with the detector {factor:,.0f} times faster than the "
        "sound lasts or more.",
    ]
    title = "A wake word on long sound, step by step and bit by bit"
    print(common.write(args.name, title, COLUMNS, rows, notes))


if __name__ == "__main__":
    main()
