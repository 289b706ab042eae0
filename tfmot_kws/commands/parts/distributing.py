# SPDX-License-Identifier: Apache-2.0
"""``--distribute``: several workers run one command; the first of them, the chief, speaks and writes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import rich.console
import typer

from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import mlflow_runs, unfinished, watching
from tfmot_kws.training import local_workers

if TYPE_CHECKING:
    import tensorflow as tf

_LOCAL = re.compile(r"local:(\d+)")


@dataclasses.dataclass(frozen=True)
class Workers:
    """Who runs a command.

    Attributes:
        strategy: what they train under; None of one process.
        chief: whether this one speaks and writes.
    """

    strategy: tf.distribute.Strategy | None = None
    chief: bool = True

    def console(self) -> rich.console.Console:
        """Where this worker prints."""
        return consoles.stdout() if self.chief else rich.console.Console(quiet=True)

    def check(self, out: pathlib.Path, resume: bool, options: Mapping[str, Any]) -> None:
        """``unfinished.check``; several workers go on from what there is, as each start of them is the same command.

        Raises:
            ValueError: as there.
        """
        if self.chief:
            unfinished.check(out, resume or (self.strategy is not None and unfinished.begun(out)), options)

    def check_batch(self, size: int) -> None:
        """Whether the batches can be shared out.

        Raises:
            ValueError: they cannot; the message names the option.
        """
        if self.strategy is not None and size % self.strategy.num_replicas_in_sync:
            raise ValueError(
                f"--batch-size {size}: must be a multiple of {self.strategy.num_replicas_in_sync}, the number of "
                "replicas that share it"
            )

    def watchers(self, tensorboard: pathlib.Path | None, mlflow: str | None) -> watching.Watchers:
        """Who is told of the training: by the chief."""
        return watching.Watchers(tensorboard, mlflow) if self.chief else _Mute(tensorboard, mlflow)

    @contextlib.contextmanager
    def kept(
        self, console: rich.console.Console, out: pathlib.Path, options: Mapping[str, Any]
    ) -> Iterator[pathlib.Path]:
        """``unfinished.kept``; all workers but the chief leave the folder as it is."""
        if not self.chief:
            yield unfinished.folder_of(out)
            return
        with unfinished.kept(console, out, options) as folder:
            yield folder


class _Nobody(mlflow_runs.Run):
    """A run that keeps nothing."""

    def __init__(self) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        pass


class _Mute(watching.Watchers):
    """Reads what the chief's watchers read, because ranges are read on all workers or on none, and tells nobody."""

    def __init__(self, *options: Any) -> None:
        self._readers = sum(one is not None for one in options)

    @contextlib.contextmanager
    def opened(self, *_: Any) -> Iterator[_Mute]:
        yield self

    def callbacks(self, part: str) -> list:
        if not self._readers:
            return []
        from tfmot_kws.commands.parts import mlflow_epochs

        return [mlflow_epochs.MlflowEpochs(_Nobody(), part) for _ in range(self._readers)]


ALONE = Workers()
"""One process."""


@contextlib.contextmanager
def joined(distribute: str | None) -> Iterator[Workers]:
    """The workers that ``--distribute`` asks for, until all are done.

    Args:
        distribute: the option: None; local:N starts N workers on this machine with this program's own arguments;
            others are those of ``distributed.connect``.

    Raises:
        ValueError: another value, or there are no such workers; the message names the option.
        typer.Exit: with local:N, once all are done.
    """
    if distribute is None:
        yield ALONE
        return
    local = _LOCAL.fullmatch(distribute)
    if local is not None:
        if int(local[1]) < 1:
            raise ValueError(f"--distribute {distribute}: must be 1 or more workers")
        raise typer.Exit(local_workers.launch(_as_worker(sys.argv[1:]), int(local[1])))

    # Warnings of TensorFlow would come from every worker.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tfmot_kws.training import distributed

    try:
        distributed.check_kind(distribute)
        strategy = distributed.connect(distribute)
    except ValueError as error:
        raise ValueError(f"--distribute {error}") from error
    with distributed.together(strategy):
        yield Workers(strategy, distributed.is_chief(strategy))


def _as_worker(arguments: Sequence[str]) -> list[str]:
    """This program's command, for a worker that has TF_CONFIG."""
    changed, given = [], False
    for one in arguments:
        if given or one.startswith("--distribute="):
            one = "tf-config" if given else "--distribute=tf-config"
        given = one == "--distribute"
        changed.append(one)
    return [sys.executable, "-m", "tfmot_kws.cli", *changed]
