# SPDX-License-Identifier: Apache-2.0
"""Models whose answers another one learns: what they must have in common, checked before any work."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from tfmot_kws.commands.parts import sidecar
from tfmot_kws.frontend import features


def check(path: pathlib.Path, classes: Sequence[str], frontend: features.FrontendConfig) -> None:
    """Raises ValueError where a teacher answers or hears otherwise than the model that is to be trained.

    Args:
        path: of ``--teacher``.
        classes: of the model.
        frontend: of the model.
    """
    if path.suffix != ".keras":
        raise ValueError(f"--teacher {path}: must be a .keras file with its .json")
    its = sidecar.read(path)
    if its.task.classes != tuple(classes):
        raise ValueError(
            f"--teacher {path}: tells {', '.join(its.task.classes)} apart, the model {', '.join(classes)}; both must "
            "know the same classes in the same order"
        )
    own, asked = its.frontend.to_dict(), frontend.to_dict()
    differ = [f"{name} {own.get(name)!r} and not {value!r}" for name, value in asked.items() if own.get(name) != value]
    if differ:
        raise ValueError(f"--teacher {path}: hears otherwise than the model: {', '.join(differ)}")


def check_shape(path: pathlib.Path, found: Sequence[int | None], wanted: Sequence[int | None]) -> None:
    """Raises ValueError where a teacher takes another window.

    Args:
        path: of ``--teacher``.
        found: its input shape [batch, frames, mel].
        wanted: that of the model.
    """
    if tuple(found) != tuple(wanted):
        raise ValueError(
            f"--teacher {path}: takes {list(found[1:])}, the model {list(wanted[1:])} (frames, mel); both must "
            "hear the same window"
        )
