# SPDX-License-Identifier: Apache-2.0
"""Runs in MLflow, written by MLflow's own client. Imports no TensorFlow, and MLflow only where it is asked for.

A folder is what MLflow calls its file store. Its newer versions ask for a consent to that, which naming a folder is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import tfmot_kws
from tfmot_kws import extras

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "tfmot-kws"
"""Where MLFLOW_EXPERIMENT_NAME names no other."""
_DATABASES = ("sqlite", "mysql", "postgresql", "mssql")
_ALLOW_FOLDERS, _TELEMETRY, _RETRIES = (
    "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
)  # fmt: skip
_LONGEST = 500
"""Of a parameter, in characters: what every version takes. ``options.json`` beside it has all of it."""
_MOST_AT_ONCE = 500
"""Metrics of a call; a server takes 1000."""
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"


def uri_of(where: str) -> str:
    """The address that MLflow takes: a URI as it is, else that of a folder."""
    return where if re.match(r"[a-z][a-z0-9+.-]+:", where) else pathlib.Path(where).absolute().as_uri()


@contextlib.contextmanager
def _patiently(retries: str) -> Iterator[None]:
    """Asks a server that does not answer so many times again."""
    before = os.environ.get(_RETRIES)
    os.environ.setdefault(_RETRIES, retries)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_RETRIES, None)


class Records:
    """Where runs are written.

    Args:
        where: ``--mlflow``: a folder, or a URI that MLflow knows: http://server:5000, sqlite:///runs.db, file:///runs.

    Raises:
        ImportError: MLflow is not installed, or not the part of it that opens databases; the message says what to do.
        ValueError: nothing can be written there.
    """

    def __init__(self, where: str) -> None:
        extras.require("mlflow", "--mlflow")
        uri = uri_of(where)
        scheme = uri.split(":", 1)[0]
        if scheme.split("+")[0] in _DATABASES and importlib.util.find_spec("sqlalchemy") is None:
            raise ImportError(
                f"--mlflow {where}: MLflow opens databases only where all of it is installed: pip install mlflow. A "
                "folder or a server needs no more than what is there"
            )
        if scheme == "file":
            os.environ.setdefault(_ALLOW_FOLDERS, "true")
        os.environ.setdefault(_TELEMETRY, "true")  # whoever wants to be counted sets it to false
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.where, self._error = where, MlflowException
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        try:
            with _patiently("1"):
                self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                found = self.client.get_experiment_by_name(name)
                self._experiment = found.experiment_id if found else self._create(name, scheme, uri)
        except (MlflowException, OSError) as error:
            raise ValueError(f"--mlflow {where}: {_first_line(error)}") from error

    def _create(self, name: str, scheme: str, uri: str) -> str:
        if scheme != "sqlite":
            return self.client.create_experiment(name)
        # MLflow would put files into a folder of wherever this runs.
        path = pathlib.Path(uri.split("///", 1)[-1]).absolute()
        return self.client.create_experiment(name, artifact_location=(path.parent / "mlartifacts").as_uri())

    def begin(
        self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], parent: Run | None = None,
        again: str | None = None,
    ) -> Run:  # fmt: skip
        """Begins a run, or goes on with one.

        Args:
            name: of the run.
            parameters: all that it depends on; long ones are cut, and whole in ``options.json``.
            tags: what else it is found by.
            parent: the run that it is a part of.
            again: the id of a run that was stopped; where MLflow does not know it any more, another one is begun.

        Raises:
            ValueError: it cannot be written.
        """
        tags = {"tfmot_kws.version": tfmot_kws.__version__, **tags}
        tags |= {_PARENT: parent.id} if parent else {}
        try:
            if again is not None:
                with contextlib.suppress(self._error):
                    self.client.update_run(again, status="RUNNING")
                    return Run(self.client, again, self.where)
            made = self.client.create_run(self._experiment, run_name=name, tags=tags)
            run = Run(self.client, made.info.run_id, self.where)
            for key, value in parameters.items():
                if value is not None:
                    self.client.log_param(run.id, _key(key), _cut(value))
            self.client.log_dict(run.id, dict(parameters), "options.json")
        except (self._error, OSError) as error:
            raise ValueError(f"--mlflow {self.where}: {_first_line(error)}") from error
        return run


class Run:
    """One run.

    Args:
        client: of MLflow.
        id: of the run.
        where: ``--mlflow``, for messages.
    """

    def __init__(self, client: MlflowClient, id: str, where: str) -> None:
        self._client, self.id, self._where = client, id, where

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            raise ValueError(f"--mlflow {self._where}: {_first_line(error)}") from error

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers by name, at an epoch."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        found = [Metric(_key(name), float(value), now, step) for name, value in values.items()]
        with self._said():
            for first in range(0, len(found), _MOST_AT_ONCE):
                self._client.log_batch(self.id, metrics=found[first : first + _MOST_AT_ONCE])

    def file(self, path: pathlib.Path) -> None:
        """A copy of a file."""
        with self._said():
            self._client.log_artifact(self.id, str(path))

    def text(self, text: str, name: str) -> None:
        """A text as a file of that name."""
        with self._said():
            self._client.log_text(self.id, text, name)

    def end(self, status: str = "FINISHED") -> None:
        """Ends it: FINISHED, FAILED or KILLED."""
        with self._said():
            self._client.set_terminated(self.id, status)


def numbers_of(value: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """The numbers of nested tables, by their names with slashes between; lists and texts are left out."""
    found: dict[str, float] = {}
    for name, one in value.items():
        if isinstance(one, Mapping):
            found |= numbers_of(one, f"{before}{name}/")
        elif isinstance(one, (int, float)) and not isinstance(one, bool):
            found[f"{before}{name}"] = float(one)
    return found


def _key(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w.\- :/]", "_", name)


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}... (options.json)"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
