# SPDX-License-Identifier: Apache-2.0
"""A wake word on long sound that training never saw: misses at fixed false accepts an hour, bit by bit.

    python -m benchmarks.wake_word DATA [DATA ...] --seeds 3 --peer peer.tflite

DATA are folders with manifests. What their manifests call dev or test is heard only at the very end: streams of it are
rendered for the table. Of what they call train, every eighth speaker is left out of training and serves to choose
between epochs. Quantized models run as streaming .tflite files, float ones on sliding windows. A peer is a .tflite file
of microWakeWord with its manifest beside it, or an .onnx file of openWakeWord with the two models that it needs; peers
hear the same sound and are counted alike.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from concurrent import futures

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import soundfile

import tflite_export
from benchmarks import common
from benchmarks import wake_word_hearing as hearing
from tfmot_kws.commands.parts import stream_runners
from tfmot_kws.commands.parts.phrase import render
from tfmot_kws.data import confusables, corpus, datasets, long_features, prepare, scenes, spoken
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import ensemble, spotters
from tfmot_kws.quantize import saving, scheme
from tfmot_kws.sound import files as audio
from tfmot_kws.sound import voices
from tfmot_kws.training import over_time, wake_word, windows

RATE = 16000
TRAIN = scenes.SceneConfig()
HEARD = scenes.SceneConfig(
    seconds=600.0, keywords=0.1, like=0.0, parts=0.0, sentences=0.5, pause=render.APART, joined=0.0, speed=(0.95, 1.05),
    gain_db=(-3.0, 3.0), rooms=0.3, room_seconds=(0.1, 0.5), quiet=0.0, snr_db=(8.0, 17.0), talk=0.1,
    level_db=(-10.0, 4.0), cut=0.0,
)  # fmt: skip
"""Speech at 5 to 20 dB above noise, near the microphone and in rooms; pauses before and after a keyword."""
UNBROKEN = dataclasses.replace(HEARD, pause=(0.05, 1.6), joined=1 / 3)
"""Others talk right up to a keyword, and on right behind it."""
TALK = dataclasses.replace(UNBROKEN, keywords=0.0)
UNSEEN = ("five", "eight", "left", "three", "go")
"""Words that are left out of training and selection: what of them is taken for a keyword, clip by clip."""
COLUMNS = (
    ("model", "model", ""), ("bytes", "bytes", ",.0f"), ("low", "missed % at 0.5 FA/h", ".1f"),
    ("low_spread", "± (seeds)", ".1f"), ("high", "at 2 FA/h", ".1f"), ("high_spread", "±", ".1f"),
    ("unbroken", "in unbroken talk", ".1f"),
    ("snr_0", "5-10 dB", ".1f"), ("snr_1", "10-15 dB", ".1f"), ("snr_2", "15-20 dB", ".1f"),
    ("unseen", "% of unseen words accepted", ".2f"), ("unseen_each", "with a threshold each", ".2f"),
    ("latency", "median latency s", ".2f"),
)  # fmt: skip


def held_out(clip: corpus.Clip, one_of: int = 8) -> bool:
    """Whether a training speaker (or a recording without one) serves to choose between epochs."""
    name = clip.speaker or os.path.basename(clip.path)
    if clip.is_noise:
        name = os.path.basename(clip.path)
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % one_of == 0


def who(clip: corpus.Clip) -> str:
    """Who speaks; a recording by nobody who is known stands for itself."""
    return clip.speaker or clip.path


def held_for(clips: corpus.Corpus, words: Sequence[str]) -> set[str]:
    """Training speakers to choose by beside those of ``held_out``, who do not say all of the words.

    For a word that none of those says, it is whoever says it least often, five times or more, and not alone.
    """
    found: set[str] = set()
    for word in words:
        sayings = [clip for clip in clips if clip.split == "train" and clip.word == word]
        if any(who(clip) in found or held_out(clip) for clip in sayings):
            continue
        said = collections.Counter(who(clip) for clip in sayings)
        enough = [name for name in said if said[name] >= 5] or list(said)
        if len(said) > 1:
            found.add(min(enough, key=lambda name: (said[name], name)))
    return found


def as_heard(clip: corpus.Clip) -> corpus.Clip:
    """Without the times of a word that fills its recording: found by level, they are late where there is noise."""
    return dataclasses.replace(clip, start=None, end=None)


def parts_of(
    data: Sequence[pathlib.Path], spoken_by_voices: Sequence[pathlib.Path], words: Sequence[str]
) -> dict[str, corpus.Corpus]:
    """Clips to train on, to choose by, to measure on, and of unseen words; synthesizers are trained on only."""

    def opened(folders: Sequence[pathlib.Path]) -> corpus.Corpus:
        found = corpus.join_apart(
            [prepare.without_compounds(datasets.open_corpus(folder), words) for folder in folders]
        )
        return dataclasses.replace(found, clips=tuple(as_heard(clip) for clip in found if not clip.is_stream))

    clips, made = opened(data), opened(spoken_by_voices)
    known = clips.filter(lambda clip: clip.word not in UNSEEN)
    more = held_for(known, words)
    held = {id(clip) for clip in known if held_out(clip) or who(clip) in more}
    return {
        "train": known.filter(lambda clip: clip.split == "train" and id(clip) not in held)
        + made.filter(lambda clip: clip.split == "train"),
        "select": known.filter(lambda clip: clip.split == "train" and id(clip) in held),
        "heard": known.filter(lambda clip: clip.split != "train"),
        "unseen": clips.filter(lambda clip: clip.word in UNSEEN),
    }


def spoken_words(keywords: Sequence[str], count: int, folder: pathlib.Path, said: int = 0) -> corpus.Corpus:
    """Words of the dictionary, none of them a keyword, like one, or among the unseen; all for training.

    Args:
        keywords: the word list.
        count: words.
        folder: where clips are kept.
        said: clips of each keyword beside them: where the synthesizer says none, its voice alone tells other words.
    """
    phrases = [word.replace("_", " ") for word in keywords]
    lines = [(spoken.Line(word, word, "other"), 1) for word in confusables.others(phrases, count, without=UNSEEN)]
    if said:
        lines += [(spoken.Line(text, word, "wake"), said) for text, word in zip(phrases, keywords)]
    with contextlib.closing(voices.open("espeak")) as voice:
        made = spoken.say(folder, voice, lines, seed=1)
    return corpus.Corpus(tuple(dataclasses.replace(clip, split="train") for clip in made))


_MATERIAL: scenes.Material | None = None


def _keep(material: scenes.Material) -> None:
    global _MATERIAL  # of a worker process, which renders many scenes of it
    _MATERIAL = material


def _render(job: tuple) -> scenes.Scene:
    assert _MATERIAL is not None
    return scenes.render(_MATERIAL, *job)


def _features(job: tuple) -> long_features.LongFeatures:
    scene = _render(job[:2])
    return long_features.of_sound([(scene.samples, scene.targets)], job[2])


def rendered(
    material: scenes.Material, config: scenes.SceneConfig, count: int, seed: int, frontend, cache: pathlib.Path
) -> long_features.LongFeatures:
    """Features of so many scenes, kept in a folder."""
    if (cache / "about.json").is_file():
        return long_features.read(cache)
    with futures.ProcessPoolExecutor(initializer=_keep, initargs=(material,)) as pool:
        jobs = [(config, [seed, number], frontend) for number in range(count)]
        made = list(pool.map(_features, jobs, chunksize=4))
    long_features.write(cache, long_features.join(made))
    return long_features.read(cache)


def test_streams(
    material: scenes.Material, hours: float, seed: int, folder: pathlib.Path
) -> tuple[list[hearing.Sound], list[hearing.Sound]]:
    """Streams for the table, also written as sound with labels, for peers.

    Returns:
        So many hours, a third with the keywords, the rest talk without; and as much as that third with the keywords in
        unbroken talk.
    """
    count = max(3, round(hours * 3600 / HEARD.seconds))
    jobs = [(HEARD if number % 3 == 0 else TALK, [seed, number]) for number in range(count)]
    jobs += [(UNBROKEN, [seed, number]) for number in range(0, count, 3)]
    with futures.ProcessPoolExecutor(initializer=_keep, initargs=(material,)) as pool:
        made = list(pool.map(_render, jobs))
    names = [f"made_{n:03}" if n < count else f"unbroken_{n - count:03}" for n in range(len(jobs))]
    sounds = [hearing.Sound(name, s.samples, s.targets, s.snr_db) for name, s in zip(names, made)]
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["stream,event,word,start,end,snr_db"]
    for sound in sounds:
        soundfile.write(folder / f"{sound.name}.flac", sound.samples, RATE)
        lines += [
            f"{sound.name},keyword,{t.word},{t.start:.3f},{t.end:.3f},{snr:.1f}"
            for t, snr in zip(sound.targets, sound.snr_db)
        ]
    (folder / "streams_labels.csv").write_text("\n".join(lines) + "\n")
    return sounds[:count], sounds[count:]


def single_clips(clips: corpus.Corpus, keep, most: int) -> list[tuple[str, np.ndarray]]:
    """Clips by themselves: the word, and int16 with 1.5 s of faint noise before it and half a second behind."""
    rng = np.random.default_rng(7)
    chosen = [clip for clip in clips if not clip.is_noise and keep(clip)]
    chosen = [chosen[i] for i in sorted(rng.permutation(len(chosen))[:most])]
    out = []
    for clip in chosen:
        sound = audio.read(clip.path, RATE) * 32767.0
        padded = np.concatenate([np.zeros(RATE * 3 // 2), sound, np.zeros(RATE // 2)])
        padded += rng.normal(0, 8, len(padded))
        out.append((clip.word, np.clip(padded, -32768, 32767).astype(np.int16)))
    return out


class Study:
    """One seed of one word list on one choice of data."""

    label = ""

    def __init__(self, args: argparse.Namespace, seed: int, parts: dict, measured: hearing.Measured) -> None:
        self.args, self.seed, self.parts, self.measured = args, seed, parts, measured
        self.words = tuple(args.keywords)
        self.folder = args.runs / f"{args.name}_{self.label or seed}"
        self.path = self.folder / "rows.json"
        self.rows: dict[str, dict] = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.frontend = features.FrontendConfig(hop_ms=20)
        self.config = wake_word.WakeWordConfig(
            epochs=args.epochs, stage1_epochs=args.stage1, stage2_epochs=args.stage2, steps=args.steps, seed=seed,
            mine_every=args.mine_every, tempo=args.tempo, reach=args.reach, batch_size=args.batch_size,
        )  # fmt: skip
        masks = dataclasses.replace(self.config.masks, warp=args.warp)
        self.config = dataclasses.replace(self.config, masks=masks)

    def keep(self, name: str, row: dict) -> None:
        self.rows[name] = row
        self.path.write_text(json.dumps(self.rows))
        print(
            f"seed {self.label or self.seed} {name:<8} missed {row['low']:5.1f} % at 0.5 FA/h, "
            f"{row['high']:5.1f} % at 2; {row['unseen']:.2f} % of unseen words accepted",
            flush=True,
        )

    def names(self) -> list[str]:
        """Of the rows that are wanted, in their order: float, then widths as they were asked for."""
        return ["float", *(f"{bits} bit{'s' * (bits > 1)}" for bits in self.args.bits)]

    def run(self) -> None:
        """The float model, then the widths, each from it and with it as teacher."""
        wanted = self.names()
        if set(wanted) <= set(self.rows):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        model, trained = self.first_model()
        drawn, streams = self._sound(model.input_shape[1])
        classes = range(1, 1 + len(self.words))
        if not trained:
            self._say(wake_word.train_float(model, drawn, streams, self.config))
            model.save(self.folder / "float.keras")
        if "float" not in self.rows:
            ear = over_time.Ear(model, streams.hop, self.frontend.hop_ms / 1000.0)
            runner = stream_runners.InBlocks(ear)
            row = self.measured.row(hearing.of_runner(runner, self.frontend, classes))
            self.keep("float", row | {"bytes": 4 * model.count_params()})
        for bits, name in zip(self.args.bits, wanted[1:]):
            if name in self.rows:
                continue
            quantized, heard = wake_word.train_quantized(
                model, scheme.kws_scheme(bits=bits), drawn, streams, self.config, teacher=model
            )
            self._say(heard)
            data = tflite_export.convert(quantized, streaming="internal")
            (self.folder / f"{bits}.tflite").write_bytes(data)
            runner = stream_runners.Streaming(tflite_export.StreamInterpreter(data, "tflite"))
            row = self.measured.row(hearing.of_runner(runner, self.frontend, classes))
            self.keep(name, row | {"bytes": len(data)})

    def first_model(self) -> tuple[keras.Model, bool]:
        """The float model, and whether it is trained already."""
        kept = self.folder / "float.keras"
        if kept.is_file():
            return saving.load_model(kept), True
        keras.utils.set_random_seed(self.seed)  # of the first weights; the recipe seeds all that follows
        return spotters.mixed_net(1 + len(self.words), filters=self.args.filters), False

    def _sound(self, frames: int) -> tuple[windows.Windows, wake_word.Streams]:
        args, cache = self.args, self.args.runs / f"{self.args.name}_sound"
        made = {}
        other = dataclasses.replace(TRAIN, keywords=0.0)
        for part, config, hours, seed in (
            ("train", TRAIN, args.hours * 0.4, 1), ("train", other, args.hours * 0.6, 2),
            ("words", scenes.SINGLE_WORDS, args.word_hours, 6), ("words", scenes.WORDS_ALONE, args.alone_hours, 7),
            ("select", HEARD, 1.0, 3), ("select", TALK, 2.0, 4),
        ):  # fmt: skip
            if not hours:
                continue
            folder = cache / f"{part}_{seed}"
            material = None
            if not (folder / "about.json").is_file():
                material = scenes.material(self.parts[part], self.words, (), RATE)
            count = max(2, round(hours * 3600 / config.seconds))
            made[seed] = rendered(material, config, count, seed, self.frontend, folder)
        drawn = windows.Windows([long_features.join([made[n]]) for n in (1, 2, 6, 7) if n in made], self.words, frames)
        return drawn, wake_word.Streams((made[3], made[4]), self.words, hop=4)

    def _say(self, heard: Sequence[wake_word.Heard]) -> None:
        for one in heard:
            print(
                f"seed {self.label or self.seed} epoch {one.epoch}: loss {one.loss:.4f}, missed {100 * one.frr:.1f} %",
                flush=True,
            )


class Joined(Study):
    """The float models of all seeds as one, and the widths trained from it."""

    label = "joined"

    def first_model(self) -> tuple[keras.Model, bool]:
        """The mean of what the seeds trained."""
        folders = [self.args.runs / f"{self.args.name}_{seed}" for seed in range(self.args.seeds)]
        return ensemble.mean_of([saving.load_model(folder / "float.keras") for folder in folders]), True


def main() -> None:
    """Runs the seeds and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, nargs="+")
    parser.add_argument("--spoken", type=pathlib.Path, action="append", default=[], help="by synthesizers, as DATA")
    parser.add_argument("--keywords", nargs="+", default=["alexa"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", type=int, help="trains this seed and writes no table; several may run at once")
    parser.add_argument("--bits", type=int, nargs="*", default=[8, 4, 2, 1])
    parser.add_argument("--joined", type=int, nargs="*", help="widths of one model that is the mean of all seeds'")
    parser.add_argument("--hours", type=float, default=20.0, help="of training sound that is rendered")
    parser.add_argument("--word-hours", type=float, default=0.0, help="more of it: single words in noise")
    parser.add_argument("--alone-hours", type=float, default=0.0, help="more of it: single words in quiet")
    parser.add_argument("--test-hours", type=float, default=10.0)
    parser.add_argument("--words", type=int, default=4000, help="of a dictionary, said by espeak-ng, for training")
    parser.add_argument("--say-keywords", type=int, default=0, help="clips of each keyword, said by espeak-ng too")
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--stage1", type=int, default=5)
    parser.add_argument("--stage2", type=int, default=3)
    parser.add_argument("--steps", type=int, default=800)
    default = wake_word.WakeWordConfig()
    parser.add_argument("--mine-every", type=int, default=default.mine_every, help="epochs from one mining to the next")
    parser.add_argument(
        "--tempo", type=float, default=default.tempo, help="windows are played so much faster or slower"
    )
    parser.add_argument(
        "--reach", type=float, default=default.reach, help="seconds by which a stretch is longer than a window"
    )
    parser.add_argument("--batch-size", type=int, default=default.batch_size, help="stretches of a batch")
    parser.add_argument("--warp", type=float, default=default.masks.warp, help="how far the mel axis is bent")
    parser.add_argument("--name", default="wake_word")
    parser.add_argument(
        "--peer", type=pathlib.Path, action="append", default=[], help="microWakeWord's .tflite, openWakeWord's .onnx"
    )
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs") / "wake_word")
    args = parser.parse_args()
    parts = parts_of(args.data, args.spoken, args.keywords)
    parts["words"] = parts["train"]
    if args.words:
        said = spoken_words(args.keywords, args.words, args.runs / f"{args.name}_words", args.say_keywords)
        parts["train"] = parts["train"] + said
        # One synthesizer's words would be most of the words by themselves; people's are few.
        parts["words"] = parts["words"] + dataclasses.replace(said, clips=said.clips[::4])
    heard = scenes.material(parts["heard"], args.keywords, (), RATE)
    sounds, unbroken = test_streams(heard, args.test_hours, 5, args.runs / f"{args.name}_streams")
    said = single_clips(parts["heard"], lambda clip: clip.word in args.keywords, 600)
    unseen = single_clips(parts["unseen"], lambda clip: True, 1500)
    measured = hearing.Measured(sounds, unbroken, said, unseen, args.keywords)
    targets = sum(len(sound.targets) for sound in sounds)
    print(f"{measured.hours:.2f} h, {targets} targets; {len(unseen)} unseen words", flush=True)
    if args.only is not None:
        Study(args, args.only, parts, measured).run()
        return
    studies = [Study(args, seed, parts, measured) for seed in range(args.seeds)]
    for study in studies:
        study.run()
    keys = [key for key, *_ in COLUMNS[1:] if "spread" not in key]
    found = [{name: study.rows[name] for name in study.names()} for study in studies]
    rows = common.over_seeds(found, keys, ("low", "high"))
    if args.joined is not None:
        args.bits = args.joined
        joined = Joined(args, 0, parts, measured)
        joined.run()
        rows += [{"model": f"{args.seeds} joined, {name}", **joined.rows[name]} for name in joined.names()]
    for path in args.peer:
        row = measured.row(hearing.of_peer(path))
        rows.append({"model": f"{hearing.maker_of(path)}: {path.stem}", "bytes": hearing.size_of_peer(path), **row})
        print(path.stem, {key: rows[-1][key] for key in ("low", "high", "unseen")}, flush=True)
    notes = [
        f"{', '.join(args.keywords)}: said {targets} times in {measured.hours:.1f} h that are rendered from clips, "
        "speakers and noises that neither training nor the choice between epochs heard; speech at 5 to 20 dB, 0.4 s or "
        "more of pause before and after the word. In unbroken talk: others talk right up to the word and on behind it, "
        "at the threshold of 0.5 FA/h.",
        f"Mean of {args.seeds} seed{'s' * (args.seeds > 1)}; {args.hours:g} h of training sound"
        f"{f', {args.word_hours:g} h of single words in noise' if args.word_hours else ''}"
        f"{f', {args.alone_hours:g} h of single words in quiet' if args.alone_hours else ''}; "
        f"{f'stretches of {args.reach:g} s more than a window; ' if args.reach else ''}{args.epochs} epochs "
        f"of {args.steps} batches for float, {args.stage1} + {args.stage2} for each width, the float model as teacher.",
        f"{args.words:,} words of a pronouncing dictionary"
        f"{f', and each keyword {args.say_keywords} times' if args.say_keywords else ''}, said by espeak-ng, are among "
        "the training sound.",
        f"Unseen words: {', '.join(UNSEEN)}, clip by clip, taken for any keyword at the threshold at which 5 % of the "
        "keywords' clips are missed"
        f"{', or with a threshold each at which 5 % of its own are' if len(args.keywords) > 1 else ''}.",
    ]
    print(common.write(args.name, "A wake word on long sound that training never saw", COLUMNS, rows, notes))


if __name__ == "__main__":
    main()
