# SPDX-License-Identifier: Apache-2.0
"""What several commands say about a model. Imports no TensorFlow."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import rich.console
import rich.text

from tfmot_kws.commands.parts import sidecar
from tfmot_kws.commands.parts.console import table
from tfmot_kws.evaluation import clips as evaluate
from tfmot_kws.sound.problems import Problem

_MOST_NAMED = 20

_COLUMNS = (
    {"key": "keyword", "label": "keyword", "format": ""},
    {"key": "clips", "label": "clips", "format": ",d"},
    {"key": "fdr", "label": "false detections", "format": ".2%"},
    {"key": "area", "label": "DET area", "format": ".5f"},
    {"key": "eer", "label": "equal error rate", "format": ".2%"},
)


def check_suffix(path: pathlib.Path, suffix: str, option: str) -> None:
    """Raises ValueError where a path ends otherwise; before any work is done."""
    if path.suffix.lower() != suffix:
        raise ValueError(f"{option} {path}: must end in {suffix}")


def check_output(path: pathlib.Path, suffix: str, option: str) -> None:
    """Raises where a file of this name cannot be written, or its sidecar; before any work is done, and leaves nothing.

    Raises:
        ValueError: the path ends otherwise.
        OSError: it is a folder, or the folder it is in cannot be made or written to.
    """
    check_suffix(path, suffix, option)
    for file in (path, sidecar.path_of(path)):
        check_writable(file, option)


def check_writable(path: pathlib.Path, option: str) -> None:
    """Raises OSError where a file cannot be written; before any work is done, and leaves nothing."""
    folder = path.parent
    try:  # permissions do not tell all: the file system may be read-only or full, the name too long
        if path.is_dir():
            raise IsADirectoryError(f"{option} {path}: is a folder; name a file")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(f"{option} {path}: {folder} is no folder")
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.stem}.", suffix=path.suffix) as file:
            file.write(b" ")
    except OSError as error:
        if error.errno is None:  # one of the above
            raise
        raise OSError(f"{option} {path}: cannot be written: {error.strerror} ({folder})") from error


def show_left_out(console: rich.console.Console, problems: Sequence[Problem]) -> None:
    """Names the files that were left out, each once; only counts those behind the first ``_MOST_NAMED``."""
    lines = list(dict.fromkeys(f"left out: {p.path}: {p.problem}: {p.detail}" for p in problems if p.dropped))
    for line in lines[:_MOST_NAMED]:
        console.print(rich.text.Text(line))
    if len(lines) > _MOST_NAMED:
        console.print(f"left out: {len(lines) - _MOST_NAMED} more files")


def keras_function(model) -> Callable[[np.ndarray], np.ndarray]:
    """A Keras model as ``tfmot_kws.evaluation.clips.evaluate`` wants it."""
    return lambda x: model(x, training=False).numpy()


def metrics(evaluation: evaluate.Evaluation, splits: Sequence[str], frr: float = 0.05) -> dict:
    """Plain values for a sidecar or JSON; rates are shares 0..1, false detections those at ``frr`` misses."""
    return {
        "splits": list(splits),
        "clips": len(evaluation),
        "accuracy": evaluation.accuracy,
        "frr": frr,
        "fdr": evaluation.pooled.fdr_at_frr(frr),
        "det_area": evaluation.pooled.area(),
        "keywords": {
            name: {
                "clips": curve.positives,
                "fdr": curve.fdr_at_frr(frr),
                "det_area": curve.area(),
                "eer": curve.eer(),
            }
            for name, curve in evaluation.curves.items()
        },
        "confusion": evaluation.confusion().tolist(),
        "classes": list(evaluation.classes),
    }


def show(
    console: rich.console.Console,
    title: str,
    evaluation: evaluate.Evaluation,
    splits: Sequence[str],
    frr: float = 0.05,
) -> None:
    """Prints a table with a row per keyword and one for all."""
    curves = dict(evaluation.curves)
    if len(curves) > 1:
        curves["all"] = evaluation.pooled
    rows = [
        {
            "keyword": name,
            "clips": curve.positives,
            "fdr": curve.fdr_at_frr(frr),
            "area": curve.area(),
            "eer": curve.eer(),
        }
        for name, curve in curves.items()
    ]
    console.print(table(title, _COLUMNS, rows))
    console.print(
        f"accuracy {evaluation.accuracy:.1%} on {len(evaluation)} clips of {' and '.join(splits)}; "
        f"false detections where {frr:.1%} of the keywords are missed"
    )
