# SPDX-License-Identifier: Apache-2.0
"""All sound of a run: features to train on, streams to choose by and streams to test on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfmot_kws.commands.parts.console import Phases
from tfmot_kws.commands.parts.phrase import gather, hours, render
from tfmot_kws.commands.parts.phrase.plan import OWN, OWN_SHARE, OWN_STREAMS, SELECTION, STREAMS, Options
from tfmot_kws.commands.parts.phrase.steps import Steps
from tfmot_kws.data import long_features, stream_labels
from tfmot_kws.data.long_features import LongFeatures
from tfmot_kws.frontend import features
from tfmot_kws.sound.problems import Problem

_TRAIN, _SELECTION, _TEST, _OWN_TRAIN, _OWN_TEST = range(5)
"""What seeds of scenes begin with, behind the seed of the run."""
_OWN_TEST_SCENES = 3


@dataclasses.dataclass(frozen=True)
class Sounds:
    """What is trained on; the streams of the test are sound only.

    Attributes:
        training: features of scenes and of long sound.
        own: features of scenes in which only the user says the phrase; none without ``--own``.
        selection: features of the streams by which epochs are chosen.
        problems: files that are left out, as lines.
    """

    training: tuple[LongFeatures, ...]
    own: tuple[LongFeatures, ...]
    selection: tuple[LongFeatures, ...]
    problems: tuple[str, ...] = ()


def make(options: Options, long: hours.Found, steps: Steps, phases: Phases) -> Sounds:
    """Renders what is not rendered yet, and opens it.

    Args:
        options: of the command.
        long: what ``--negatives`` has.
        steps: of the run.
        phases: told of the progress.
    """
    frontend = features.FrontendConfig(hop_ms=options.hop)
    places = _Places(options, frontend)
    with render.Workers(options.jobs) as workers:
        with phases.phase(f"scenes to train on, {options.sizes.hours:g} h") as advance:
            trained = steps.once("scenes", lambda: places.training(workers, advance))
        more, unread = (), ()
        if options.negatives:
            with phases.phase("long sound without the phrase") as advance:
                more, unread = hours.training(long, frontend, places.features, advance)
        with phases.phase("streams to choose by and to test on") as advance:
            streams = steps.once("streams", lambda: places.streams(long, workers, advance))
    opened = [
        tuple(long_features.read(options.out / name) for name in names)
        for names in (trained["train"], trained[OWN], streams["selection"])
    ]
    return Sounds((*opened[0], *more), opened[1], opened[2], (*lines(unread), *streams["problems"]))


def lines(problems: Sequence[Problem]) -> list[str]:
    """A line for each file that is left out."""
    return [f"{one.path}: {one.problem}: {one.detail}" for one in problems]


class _Places:
    """Where everything of a run lies, and what it is rendered from."""

    def __init__(self, options: Options, frontend: features.FrontendConfig) -> None:
        self._options, self._frontend = options, frontend
        self.features = options.work / "features"

    def _jobs(self, material: str, hours_: float, first: int, config: render.Config) -> list[render.Job]:
        own = material.startswith(OWN)
        if own and self._options.own is None:
            return []
        folder = gather.material_of(self._options, material)
        kinds = (render.WITH,) if own else render.KINDS
        return render.plan(
            folder, hours_, self._options.sizes.scene_seconds, (self._options.seed, first), config, kinds
        )

    def training(self, workers: render.Workers, advance) -> dict[str, Any]:
        """Folders of features of scenes."""
        sizes = self._options.sizes
        jobs = {
            "train": self._jobs("train", sizes.hours, _TRAIN, render.training),
            OWN: self._jobs("own_train", sizes.hours * 0.5 * OWN_SHARE, _OWN_TRAIN, render.training),
        }
        total, before, found = sum(map(len, jobs.values())), 0, {}
        for name, scenes in jobs.items():
            paths = render.shards(
                self.features / name, scenes, self._frontend, workers,
                lambda done, _: advance(before + done, total),  # noqa: B023
            )  # fmt: skip
            before += len(scenes)
            found[name] = self._names(paths)
        return found

    def streams(self, long: hours.Found, workers: render.Workers, advance) -> dict[str, Any]:
        """Sound to choose by and to test on, and features of the former."""
        options, sizes = self._options, self._options.sizes
        own_hours = _OWN_TEST_SCENES * sizes.scene_seconds / 3600.0
        wanted = (
            (self._work(SELECTION), self._jobs("dev", sizes.selection_hours, _SELECTION, render.listening), "dev"),
            (options.out / STREAMS, self._jobs("test", sizes.test_hours, _TEST, render.listening), "test"),
            (options.out / OWN_STREAMS, self._jobs("own_test", own_hours, _OWN_TEST, render.listening), None),
        )
        most = {"dev": sizes.selection_hours, "test": sizes.test_hours}
        total, before, problems = sum(len(jobs) for _, jobs, _ in wanted), 0, []
        for folder, jobs, split in wanted:
            if not jobs:
                continue
            named = [(f"scene_{number:04}", job) for number, job in enumerate(jobs)]
            words = render.streams(folder, named, workers, lambda done, _: advance(before + done, total))  # noqa: B023
            before += len(jobs)
            if split is not None:
                names, wrong = hours.streams(folder, long.files[split], "long", most[split])
                words += [(name, ()) for name in names]
                problems += wrong
            _only(folder, {f"{name}.flac" for name, _ in words})
            render.write_labels(folder, words)
        selection = render.features_of(self._work(SELECTION), self._frontend)
        path = long_features.write(self.features / SELECTION, selection)
        return {"selection": self._names([path]), "problems": lines(problems)}

    def _work(self, name: str) -> Path:
        return self._options.work / name

    def _names(self, paths: list[Path]) -> list[str]:
        """Within the folder of the run, which may be moved."""
        return [path.relative_to(self._options.out).as_posix() for path in paths]


def _only(folder: Path, names: set[str]) -> None:
    """Removes what an earlier, killed run wrote there, or half wrote."""
    for path in folder.iterdir():
        if path.is_file() and path.name not in (*names, stream_labels.LABELS):
            path.unlink()
