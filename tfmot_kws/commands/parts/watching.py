# SPDX-License-Identifier: Apache-2.0
"""``--tensorboard`` and ``--mlflow``: who else is told what training comes to. Without them nobody is."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tfmot_kws import atomic
from tfmot_kws.commands.parts import card, mlflow_runs, results, sidecar

if TYPE_CHECKING:
    from tfmot_kws.keras import keras

_KEPT = "mlflow.json"


class Watch:
    """What is told of one run.

    Args:
        board: folder for TensorBoard.
        run: in MLflow.
    """

    def __init__(self, board: pathlib.Path | None = None, run: mlflow_runs.Run | None = None) -> None:
        self.board, self.run = board, run

    def callbacks(self, part: str) -> list[keras.callbacks.Callback]:
        """For ``model.fit`` of a part of the run: a folder of its own in TensorBoard, names that begin so in MLflow."""
        found: list = []
        if self.board is not None:
            from tfmot_kws.training import tensorboard_log

            found.append(tensorboard_log.TensorBoardLog(self.board / part))
        if self.run is not None:
            from tfmot_kws.commands.parts import mlflow_epochs

            found.append(mlflow_epochs.MlflowEpochs(self.run, part))
        return found

    def measured(self, values: Mapping[str, float]) -> None:
        """Tells MLflow of numbers at the end."""
        if self.run is not None:
            self.run.metrics(values)

    def file(self, path: pathlib.Path) -> None:
        """Gives MLflow a copy of a file."""
        if self.run is not None:
            self.run.file(path)

    def written(self, model: pathlib.Path, parameters: int, more: Mapping[str, float] | None = None) -> None:
        """Tells MLflow of a model that was written: what was measured, its sidecar, its card, and its pictures.

        Args:
            model: .keras, with its sidecar.
            parameters: how many it has.
            more: other numbers.
        """
        if self.run is None:
            return
        about = sidecar.read(model)
        numbers = mlflow_runs.numbers_of(about.metrics) | {"parameters": parameters, **(more or {})}
        self.run.metrics(numbers)
        self.run.file(sidecar.path_of(model))
        self.run.text(card.of_keras(model, about, parameters), f"{model.stem}.md")
        for picture in sorted(model.parent.glob(f"{model.stem}.*.png")):
            self.run.file(picture)


class Watchers:
    """The two options, looked at before any work is done.

    Args:
        tensorboard: the option.
        mlflow: the option.

    Raises:
        OSError: nothing can be written to the folder of ``--tensorboard``.
        ImportError, ValueError: nothing can be written to MLflow, as ``mlflow_runs.Records`` says.
    """

    def __init__(self, tensorboard: pathlib.Path | None = None, mlflow: str | None = None) -> None:
        if tensorboard is not None:
            results.check_writable(tensorboard / "events", "--tensorboard")
        self.board = tensorboard
        self.records = None if mlflow is None else mlflow_runs.Records(mlflow)

    @contextlib.contextmanager
    def opened(
        self, command: str, out: pathlib.Path, options: Mapping[str, Any], kept: pathlib.Path
    ) -> Iterator[Watch]:
        """One run of a command, from its training to its end.

        Args:
            command: its name.
            out: the model or the folder that it is to write.
            options: of the command, by their names.
            kept: folder of a run that can go on: it goes on as the same run in MLflow.

        Raises:
            ValueError: nothing can be written to MLflow.
        """
        if self.records is None:
            yield Watch(self.board)
            return
        run = self._begun(out.stem, options, {"tfmot_kws.command": command, "tfmot_kws.out": out.name}, kept)
        with ended(run):
            yield Watch(self.board, run)

    @contextlib.contextmanager
    def part(self, whole: Watch, name: str, options: Mapping[str, Any], kept: pathlib.Path) -> Iterator[Watch]:
        """A run that is a part of another, such as a trial: a run below it in MLflow, a folder for TensorBoard.

        Args:
            whole: from ``opened``.
            name: of the part.
            options: what it alone depends on, by their names.
            kept: its folder; where it was stopped it goes on as the same run.

        Raises:
            ValueError: nothing can be written to MLflow.
        """
        board = None if self.board is None else self.board / name
        if self.records is None:
            yield Watch(board)
            return
        run = self._begun(name, options, {}, kept, whole.run)
        with ended(run):
            yield Watch(board, run)

    def _begun(self, name, options, tags, kept: pathlib.Path, parent=None) -> mlflow_runs.Run:
        file = kept / _KEPT
        again = atomic.read_table(file, "remove it")["run"] if file.is_file() else None
        run = self.records.begin(name, options, tags, parent, again)
        atomic.write_json(file, {"run": run.id})
        return run


@contextlib.contextmanager
def ended(run: mlflow_runs.Run) -> Iterator[None]:
    """Ends a run as its block does."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(ValueError):  # what went wrong first is what is said
            run.end("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    run.end()
