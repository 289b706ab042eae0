"""What TensorBoard would show of a folder."""

from __future__ import annotations

import os

from tensorboard.backend.event_processing import event_accumulator
from tensorflow import make_ndarray


def read(folder: str | os.PathLike) -> event_accumulator.EventAccumulator:
    """All event files of a folder, nothing left out."""
    kinds = (event_accumulator.TENSORS, event_accumulator.SCALARS, event_accumulator.HISTOGRAMS)
    found = event_accumulator.EventAccumulator(os.fspath(folder), dict.fromkeys(kinds, 0))
    found.Reload()
    return found


def scalars(folder: str | os.PathLike) -> dict[str, list[tuple[int, float]]]:
    """Of each name (step, value), in the order in which they were written."""
    events = read(folder)
    found = {}
    for name in events.Tags()["tensors"]:
        values = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(name)]
        if all(value.ndim == 0 for _, value in values):
            found[name] = [(step, float(value)) for step, value in values]
    return found
