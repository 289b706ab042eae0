# SPDX-License-Identifier: Apache-2.0
"""What five recordings of one's own voice buy a wake word that only synthesizers have said: ``phrase --own``.

    python -m benchmarks.own_voice DATA [DATA ...] --spoken SPOKEN --keyword computer

DATA are folders with manifests, SPOKEN are those of synthesizers. Nobody's recording of the keyword is trained on, and
nothing of the people with ten recordings of it or more. A float model is trained on the synthesizers' keyword; then,
for each of these people alone, it is trained on with five recordings of theirs, as ``tfmot-kws phrase --own`` does it.
All models hear the same streams: talk without the keyword, and for each person some with the other recordings of
theirs.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np

from benchmarks import common
from benchmarks import wake_word as recipe
from benchmarks import wake_word_hearing as hearing
from tfmot_kws.commands.parts import stream_runners
from tfmot_kws.commands.parts.phrase import plan, render
from tfmot_kws.data import corpus, datasets, long_features, prepare, scenes
from tfmot_kws.evaluation import detector
from tfmot_kws.evaluation import streams as stream_evaluation
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters
from tfmot_kws.quantize import saving
from tfmot_kws.sound import files as audio
from tfmot_kws.training import wake_word, windows

FA_PER_HOUR = 0.5
MINUTES = 20
"""Of streams with each person's keyword."""
SIZES = plan.Sizes()
COLUMNS = (
    ("who", "trained on five recordings of", ""), ("targets", "said", ",.0f"),
    ("own_before", "own voice: missed % before", ".1f"), ("own_after", "after", ".1f"),
    ("others_before", "other people: missed % before", ".1f"), ("others_after", "after", ".1f"),
)  # fmt: skip


def people_of(clips: corpus.Corpus, keyword: str, least: int, without: Sequence[str]) -> dict[str, list[corpus.Clip]]:
    """Who has so many recordings of the keyword, by name."""
    found: dict[str, list[corpus.Clip]] = collections.defaultdict(list)
    for clip in clips:
        if clip.word == keyword and clip.speaker and clip.speaker not in without:
            found[clip.speaker].append(clip)
    return {
        name: sorted(found[name], key=lambda clip: clip.path) for name in sorted(found) if len(found[name]) >= least
    }


def shared_out(clips: Sequence[corpus.Clip], own: int, seed: int) -> tuple[corpus.Corpus, corpus.Corpus]:
    """Some recordings to train on, and the others."""
    order = np.random.default_rng(seed).permutation(len(clips))
    return (
        corpus.Corpus(tuple(clips[i] for i in sorted(order[:own]))),
        corpus.Corpus(tuple(clips[i] for i in sorted(order[own:]))),
    )


@dataclasses.dataclass(frozen=True)
class Sound:
    """What is trained on and chosen by, and who is heard."""

    training: tuple[long_features.LongFeatures, ...]
    selection: tuple[long_features.LongFeatures, ...]
    own: Mapping[str, long_features.LongFeatures]
    talk: list[hearing.Sound]
    said: Mapping[str, list[hearing.Sound]]


def sound_of(args: argparse.Namespace, frontend: features.FrontendConfig) -> Sound:
    """Renders all of it; features are kept."""
    words = (args.keyword,)

    def opened(folders: Sequence[pathlib.Path]) -> corpus.Corpus:
        found = corpus.join_apart([prepare.without_compounds(datasets.open_corpus(one), words) for one in folders])
        return dataclasses.replace(found, clips=tuple(recipe.as_heard(clip) for clip in found if not clip.is_stream))

    clips, made = opened(args.data), opened(args.spoken)
    people = people_of(clips, args.keyword, args.own + 5, args.without)
    if not people:
        raise ValueError(f"--keyword {args.keyword}: nobody has {args.own + 5} recordings of it")
    others = clips.filter(lambda clip: clip.word != args.keyword and (clip.speaker or "") not in people)
    parts = {
        "train": others.filter(lambda clip: clip.split == "train" and not recipe.held_out(clip))
        + made.filter(lambda clip: clip.split == "train")
        + recipe.spoken_words(words, args.words, args.runs / "words"),
        "select": others.filter(lambda clip: clip.split == "train" and recipe.held_out(clip))
        + made.filter(lambda clip: clip.split != "train"),
    }
    material = {name: scenes.material(part, words, (), recipe.RATE) for name, part in parts.items()}
    heard = others.filter(lambda clip: clip.split != "train") + corpus.Corpus(
        tuple(c for p in people.values() for c in p)
    )
    test = scenes.material(heard, words, (), recipe.RATE)

    def kept(name: str, of: scenes.Material, config: scenes.SceneConfig, hours: float, seed: int):
        count = max(2, round(hours * 3600 / config.seconds))
        return recipe.rendered(of, config, count, seed, frontend, args.runs / name)

    def saying(of: scenes.Material, clips: corpus.Corpus) -> scenes.Material:
        read = ((np.rint(audio.read(clip.path, recipe.RATE) * 32767.0).astype(np.int16), clip) for clip in clips)
        said = (scenes.utterance(samples, clip, recipe.RATE, words) for samples, clip in read)
        return dataclasses.replace(of, keywords={args.keyword: tuple(one for one in said if one is not None)})

    def streams(name: str, of: scenes.Material, kind: str, minutes: float, seed: int) -> list[hearing.Sound]:
        made = [scenes.render(of, render.listening(kind, 60.0), [seed, n]) for n in range(round(minutes))]
        return [hearing.Sound(f"{name}_{n:03}", s.samples, s.targets, s.snr_db) for n, s in enumerate(made)]

    with_, without = (render.training(kind, 60.0) for kind in (render.WITH, render.WITHOUT))
    training = tuple(
        kept(f"train_{n}", material["train"], config, args.hours / 2, n) for n, config in ((1, with_), (2, without))
    )
    selection = tuple(
        kept(f"select_{n}", material["select"], render.listening(kind, 60.0), 1.0, n)
        for n, kind in ((3, render.WITH), (4, render.WITHOUT))
    )
    own, said = {}, {}
    for number, (name, recordings) in enumerate(people.items()):
        mine, rest = shared_out(recordings, args.own, args.seed)
        own_hours = args.hours / 2 * plan.OWN_SHARE
        own[name] = kept(f"own_{name}", saying(material["train"], mine), with_, own_hours, 10 + number)
        said[name] = streams(name, saying(test, rest), render.WITH, MINUTES, 30 + number)
    return Sound(training, selection, own, streams("talk", test, render.WITHOUT, args.test_hours * 60, 5), said)


def misses(listener: hearing.Listener, sound: Sound, word: str) -> dict[str, float]:
    """Of each person the words missed, in percent, at the threshold of 0.5 false accepts an hour of all sound."""
    streams = [*sound.talk, *(one for found in sound.said.values() for one in found)]
    heard = [listener.hear(one.samples) for one in streams]
    values, unit, zero = stream_runners.on_one_grid([out.values for out in heard], listener.grid)
    config = detector.DetectorConfig.in_seconds(
        listener.step, listener.smooth, 1.0, classes=values[0].shape[1], keywords=listener.classes, thresholds=0.0,
        scale=unit, zero_point=zero, mode=listener.mode,
    )  # fmt: skip
    found = {
        one.name: stream_evaluation.Stream(one.name, part, out.times, one.targets)
        for one, part, out in zip(streams, values, heard)
    }

    def evaluated(names: Sequence[str], config: detector.DetectorConfig, rate: float | None):
        chosen = [found[name] for name in names]
        return stream_evaluation.evaluate(chosen, config, (word,), listener.step, fa_per_hour=rate)

    curve = evaluated(list(found), config, FA_PER_HOUR).pooled_curve
    config = dataclasses.replace(config, thresholds=(float(curve.thresholds[curve.index_at(FA_PER_HOUR)]),))
    return {
        name: 100 * evaluated([one.name for one in said], config, None).pooled.frr for name, said in sound.said.items()
    }


def rows_of(before: Mapping[str, float], after: Mapping[str, Mapping[str, float]], said: Mapping[str, int]) -> list:
    """A row for each person and one of their means.

    Args:
        before: misses of each person by the model that no person has spoken to, in percent.
        after: of each person, misses of everybody by the model that was trained on with that person's recordings.
        said: how often each person says the keyword.
    """
    rows = []
    for number, name in enumerate(after, 1):
        others = [other for other in before if other != name]
        row = {"who": f"person {number}", "targets": said[name]}
        row |= {"own_before": before[name], "own_after": after[name][name]}
        row["others_before"] = float(np.mean([before[other] for other in others]))
        row["others_after"] = float(np.mean([after[name][other] for other in others]))
        rows.append(row)
    mean = {key: float(np.mean([row[key] for row in rows])) for key, *_ in COLUMNS[2:]}
    return [*rows, {"who": "mean", "targets": sum(row["targets"] for row in rows), **mean}]


def main() -> None:
    """Trains, listens and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, nargs="+")
    parser.add_argument("--spoken", type=pathlib.Path, action="append", required=True, help="by synthesizers, as DATA")
    parser.add_argument("--keyword", default="computer")
    parser.add_argument("--without", action="append", default=[], help="speakers who are several people")
    parser.add_argument("--own", type=int, default=5, help="recordings of each person that are trained on")
    parser.add_argument("--hours", type=float, default=10.0, help="of scenes that are trained on")
    parser.add_argument("--test-hours", type=float, default=3.0, help="of talk without the keyword")
    parser.add_argument("--words", type=int, default=4000, help="of a dictionary, said by espeak-ng, for training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs") / "own_voice")
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    frontend = features.FrontendConfig(hop_ms=20)
    sound = sound_of(args, frontend)
    said = {name: sum(len(one.targets) for one in found) for name, found in sound.said.items()}
    print(f"{len(said)} people say {args.keyword!r} {sum(said.values())} times", flush=True)
    streams = wake_word.Streams(sound.selection, (args.keyword,), hop=4)
    config = wake_word.WakeWordConfig(
        epochs=SIZES.epochs, steps=SIZES.steps, batch_size=SIZES.batch_size, seed=args.seed
    )
    path = args.runs / "float.keras"
    if not path.is_file():
        keras.utils.set_random_seed(args.seed)
        model = spotters.mixed_net(2)
        drawn = windows.Windows(sound.training, (args.keyword,), model.input_shape[1])
        wake_word.train_float(model, drawn, streams, config)
        model.save(path)

    def heard(model: keras.Model) -> dict[str, float]:
        runner = stream_runners.SlidingWindows(model.predict_on_batch, model.input_shape[1], streams.hop)
        return misses(hearing.of_runner(runner, frontend, (1,)), sound, args.keyword)

    before = heard(saving.load_model(path))
    print(f"before: {before}", flush=True)
    after = {}
    for name, own in sound.own.items():
        kept = args.runs / f"after_{name}.json"
        if not kept.is_file():
            model = saving.load_model(path)
            drawn = windows.Windows((*sound.training, own), (args.keyword,), model.input_shape[1])
            wake_word.train_float(model, drawn, streams, wake_word.refinement(config, SIZES.own_epochs))
            kept.write_text(json.dumps(heard(model)))
        after[name] = json.loads(kept.read_text())
        print(f"{name}: own voice {before[name]:.1f} -> {after[name][name]:.1f} % missed", flush=True)
    notes = [
        f"{args.keyword!r}, trained on {args.hours:g} h of scenes in which only synthesizers say it, then "
        f"{SIZES.own_epochs} epochs more with {args.own} recordings of one person; float models. Nothing else of these "
        "people is trained on.",
        f"At {FA_PER_HOUR:g} false accepts an hour: {args.test_hours:g} h of talk, and {MINUTES} minutes with each "
        "person's other recordings, speech at 5 to 20 dB above noise, in rooms.",
    ]
    title = "What five recordings of one's own voice buy"
    print(common.write("own_voice", title, COLUMNS, rows_of(before, after, said), notes))


if __name__ == "__main__":
    main()
