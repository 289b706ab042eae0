# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws phrase``: its steps, one after another; a step that is done is not done again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import rich.console

from tfmot_kws.commands.parts import card
from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.commands.parts.phrase import finish, gather, hours, render, speak, steps
from tfmot_kws.commands.parts.phrase.plan import OWN, Options
from tfmot_kws.data import long_features, pronouncing, stream_labels
from tfmot_kws.frontend import features

_PHASES = 9
SYNTHETIC = (
    "It knows the voices of synthesizers and made-up noise only: no recordings of people, music or rooms were given. "
    "Such a model will wake up by itself in a living room."
)
_FETCH = (
    "fetch some: tfmot-kws fetch-data musan librispeech-train-clean-100 mit-rooms --accept-licences --out data, then "
    "--negatives data/musan --negatives data/librispeech-train-clean-100 --rooms data/mit-rooms"
)
_TRAIN, _SELECTION, _TEST, _OWN_TRAIN, _OWN_TEST = range(5)
"""What seeds of scenes begin with, behind the seed of the run."""
_OWN_SHARE = 0.25
"""Hours of the user's own voice for each hour with the phrase."""
_OWN_TEST_SCENES = 3


def run(options: Options, console: rich.console.Console | None = None) -> None:
    """Does what is left to do, and prints the summary.

    Raises:
        ValueError, OSError, ImportError: an option cannot be met; before any work is done.
        RuntimeError: voices or a runtime failed; the same call goes on.
    """
    console = console or consoles.stdout()
    options = _with_voices(options)
    steps.check(options.out, options.what_matters())
    finish.check_packages()
    card.check(finish.model_of(options))
    dictionary = pronouncing.load()
    if speak.syllables(options, dictionary) < 2:
        console.print(
            f"note: {options.word!r} has one syllable; such words are in much that is said, and a spotter of one wakes "
            "up often. Three or four are better",
            markup=False,
        )
    recordings = gather.recorded(console, options)
    own = gather.own_clips(options)
    files = hours.files_of(options.negatives)
    gather.impulses(options.rooms)
    limits = [SYNTHETIC] if gather.is_synthetic(recordings, options) else []
    if limits:
        console.print(f"note: {SYNTHETIC} {_FETCH}", markup=False)
    if options.teacher is not None:
        from tfmot_kws.commands.parts.phrase import learn

        learn.check_teacher(options)
    with speak.opened(options, dictionary) as speakers:
        progress = steps.Steps(options.out, options.what_matters())
        with progress.alone():
            phases = Phases(console, _PHASES)
            with phases.phase(f"saying {options.word!r}: {', '.join(options.voices)}") as advance:
                said = progress.once("clips", lambda: speak.say(speakers, options, advance))
            with phases.phase("recordings") as advance:
                found = progress.once(
                    "material", lambda: gather.gather(speak.clips(options), recordings, own, options, advance)
                )
            _show_left_out(console, found["problems"])
            _Run(options, console, phases, progress).rest(said, found, files, limits)


def _with_voices(options: Options) -> Options:
    return options if options.voices else dataclasses.replace(options, voices=speak.installed())


def _show_left_out(console: rich.console.Console, lines: list[str]) -> None:
    for line in lines[:10]:
        console.print(f"left out: {line}", markup=False)
    if len(lines) > 10:
        console.print(f"left out: {len(lines) - 10} more files")


class _Run:
    """What comes behind the material, whose voices need no process any more."""

    def __init__(self, options: Options, console: rich.console.Console, phases: Phases, progress: steps.Steps) -> None:
        self._options, self._console, self._phases, self._steps = options, console, phases, progress
        self._frontend = features.FrontendConfig(hop_ms=options.hop)
        self._features = options.work / "features"

    def rest(
        self, said: dict[str, int], found: dict[str, Any], files: dict[str, list[Path]], limits: list[str]
    ) -> None:
        """All other steps."""
        options, once = self._options, self._steps.once
        rendered = self._scenes(files)
        _show_left_out(self._console, rendered["problems"])
        from tfmot_kws.commands.parts.phrase import learn

        self._check_window(found["seconds"])
        sounds = learn.read(*([Path(options.out) / one for one in rendered[n]] for n in ("train", "own", "selection")))
        with self._phases.phase("training, float") as advance:
            once("float", lambda: learn.train_float(options, sounds, advance))
        if options.own is not None:
            with self._phases.phase("training, your own voice") as advance:
                once("own", lambda: learn.add_own(options, sounds, advance))
        data = gather.data_of(options, said)
        with self._phases.phase(f"training, {options.bits} bits") as advance:
            once("quantized", lambda: learn.train_quantized(options, sounds, data, limits, advance))
        size = self._printed("export", lambda: finish.write_model(options))["bytes"]
        chosen = self._printed("threshold", lambda: finish.choose_threshold(options))
        heard = self._printed("test", lambda: finish.test(options))
        finish.show(self._console, options, finish.model_of(options).stat().st_size or size, chosen, heard, limits)

    def _printed(self, name: str, make) -> Any:
        """A step whose parts show themselves what they do."""
        labels = {"export": "the file", "threshold": "threshold, on the selection streams", "test": "report"}
        with self._phases.phase(labels[name]):
            return self._steps.once(name, make)

    def _check_window(self, seconds: float) -> None:
        from tfmot_kws.commands.parts.phrase import network

        frames = network.build(self._options.network, 2, self._frontend).input_shape[1]
        window = network.seconds_of(frames, self._frontend)
        if seconds > window:
            self._console.print(
                f"note: one of ten clips of the phrase is longer than {seconds:.2f} s, and {self._options.network} "
                f"hears {window:.2f} s at once: it will know the end of the phrase only. A shorter phrase is better",
                markup=False,
            )

    def _scenes(self, files: dict[str, list[Path]]) -> dict[str, Any]:
        options, sizes = self._options, self._options.sizes
        own = options.own is not None
        material = {
            name: gather.material_of(options, name) for name in ("train", "dev", "test", "own_train", "own_test")
        }
        seconds, seed = sizes.scene_seconds, options.seed
        train = render.plan(material["train"], sizes.hours, seconds, (seed, _TRAIN), render.training)
        mine = render.plan(
            material["own_train"], sizes.hours * 0.5 * _OWN_SHARE, seconds, (seed, _OWN_TRAIN), render.training,
            (render.WITH,),
        )  # fmt: skip
        select = render.plan(material["dev"], sizes.selection_hours, seconds, (seed, _SELECTION), render.listening)
        test = render.plan(material["test"], sizes.test_hours, seconds, (seed, _TEST), render.listening)
        heard = render.plan(
            material["own_test"], _OWN_TEST_SCENES * seconds / 3600.0, seconds, (seed, _OWN_TEST), render.listening,
            (render.WITH,),
        )  # fmt: skip
        with render.Workers(options.jobs) as workers:
            with self._phases.phase(f"scenes to train on, {sizes.hours:g} h") as advance:
                trained = self._steps.once(
                    "scenes", lambda: self._training(train, mine if own else [], files["train"], workers, advance)
                )
            with self._phases.phase("streams to choose by and to test on") as advance:
                streams = self._steps.once(
                    "streams", lambda: self._streams(select, test, heard if own else [], files, workers, advance)
                )
        return {**trained, "selection": streams["selection"], "problems": trained["problems"] + streams["problems"]}

    def _training(self, train, mine, files: list[Path], workers: render.Workers, advance) -> dict[str, Any]:
        folder, total = self._features, len(train) + len(mine)
        paths = render.shards(folder / "train", train, self._frontend, workers, lambda done, _: advance(done, total))
        own = render.shards(
            folder / OWN, mine, self._frontend, workers, lambda done, _: advance(len(train) + done, total)
        )
        problems = []
        if files:
            more, problems = hours.training(folder / "negatives", files, self._frontend, advance)
            paths += more
        return {"train": self._names(paths), "own": self._names(own), "problems": _lines(problems)}

    def _streams(self, select, test, own, files, workers: render.Workers, advance) -> dict[str, Any]:
        options, problems = self._options, []
        total, before = len(select) + len(test) + len(own), 0
        for folder, jobs, split, most in (
            (options.work / finish.SELECTION, select, "dev", options.sizes.selection_hours),
            (options.out / finish.STREAMS, test, "test", options.sizes.test_hours),
            (options.out / finish.OWN_STREAMS, own, None, 0.0),
        ):
            if not jobs:
                continue
            named = [(f"scene_{number:04}", job) for number, job in enumerate(jobs)]
            words = render.streams(folder, named, workers, lambda done, _: advance(before + done, total))  # noqa: B023
            before += len(jobs)
            if split is not None and files[split]:
                names, wrong = hours.streams(folder, files[split], "long", most)
                words += [(name, ()) for name in names]
                problems += wrong
            render.write_labels(folder, words)
            _only(folder, {f"{name}.flac" for name, _ in words})
        selection = long_features.write(
            self._features / "selection", render.features_of(options.work / finish.SELECTION, self._frontend)
        )
        return {"selection": self._names([selection]), "problems": _lines(problems)}

    def _names(self, paths: list[Path]) -> list[str]:
        """Within the folder of the run, which may be moved."""
        return [path.relative_to(self._options.out).as_posix() for path in paths]


def _only(folder: Path, names: set[str]) -> None:
    """Removes sound that an earlier, killed run began to write there."""
    for path in stream_labels.sounds(folder):
        if path.name not in names:
            path.unlink()


def _lines(problems) -> list[str]:
    return [f"{one.path}: {one.problem}: {one.detail}" for one in problems]
