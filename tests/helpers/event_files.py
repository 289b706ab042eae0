"""What the event files of a folder hold, by TensorFlow's own reader."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import tensorflow as tf


def read(folder: str | os.PathLike, plugin: str) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Of each name (step, value), in the order in which they were written; of a plugin of TensorBoard."""
    found: dict[str, list[tuple[int, np.ndarray]]] = {}
    names: dict[str, str] = {}
    for path in sorted(pathlib.Path(folder).glob("events.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                # A file names the plugin of each tag once.
                names.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
                if names[value.tag] == plugin:
                    found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    return found


def scalars(folder: str | os.PathLike) -> dict[str, list[tuple[int, float]]]:
    """Of each number (step, value)."""
    return {name: [(step, float(value)) for step, value in rows] for name, rows in read(folder, "scalars").items()}
