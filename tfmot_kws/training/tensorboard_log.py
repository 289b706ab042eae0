# SPDX-License-Identifier: Apache-2.0
"""TensorBoard: everything that is learned, epoch by epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.training import learned_values

_Metadata = tf.compat.v1.SummaryMetadata
# As tf.summary.scalar and tf.summary.histogram write them; TensorFlow has those only where TensorBoard is installed.
_SCALAR, _HISTOGRAM = (
    _Metadata(plugin_data=_Metadata.PluginData(plugin_name=name), data_class=kind)
    for name, kind in (("scalars", 1), ("histograms", 2))  # DATA_CLASS_SCALAR, DATA_CLASS_TENSOR
)
_BINS = 30


def _histogram(values: np.ndarray) -> tf.Tensor:
    """Rows of (left, right, count), float64 [bins, 3]."""
    counts, edges = np.histogram(values, _BINS)
    return tf.constant(np.stack([edges[:-1], edges[1:], counts], axis=1), tf.float64)


def values_of(model: keras.Model, logs: Mapping[str, Any] | None, widths: learned_values.Widths) -> dict[str, float]:
    """All numbers of an epoch, by the names that ``TensorBoardLog`` has.

    Args:
        model: compiled.
        logs: as Keras gives them to a callback at the end of the epoch.
        widths: of the model.
    """
    found = {name if "/" in name else f"training/{name}": float(value) for name, value in (logs or {}).items()}
    found["training/learning_rate"] = float(tf.convert_to_tensor(model.optimizer.learning_rate))
    scales = {name: float(np.mean(each)) for name, each in learned_values.weight_scales(model).items()}
    return {**found, **learned_values.ranges(model), **scales, **widths.values()}


class TensorBoardLog(keras.callbacks.Callback):
    """Writes what is learned to a folder for TensorBoard, at the end of each epoch of plain ``model.fit``.

    The step is the number of the epoch, counted from 0, as Keras's own callback has it. Of any model:

    - ``training/loss``, ``training/accuracy`` and all else that ``fit`` reports; ``training/learning_rate``;
    - of a wake word's recipe ``streams/frr_at_0.5_fa_per_hour``, the share of the keywords (0..1) that are missed on
      the streams that the weights are chosen by, and ``streams/cost``, what the choice goes by.

    Of a quantized model:

    - ``ranges/LAYER/low`` and ``ranges/LAYER/high``: between which real values the layer's output lies;
    - ``scales/LAYER/output`` and ``scales/LAYER/weights``: what a step of them is worth, of weights the mean over the
      layer's outputs, with a histogram of all;
    - ``widths/LAYER``, ``activation_widths/LAYER``: widths that are learned, in bits;
    - ``budget/flash`` and ``budget/flash_share``: what they cost, and which share of the budget that is; of each cost
      that is limited.

    The file can be read while training goes on. A run that is taken up again goes on in a file of its own beside the
    first: the same folder shows both as one.

    Args:
      folder: for the event files; made where it does not exist.

    Raises:
      ValueError: in ``fit``, the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        self.folder = os.fspath(folder)
        self._supports_tf_logs = True  # nothing here reads those of batches
        self._writer: tf.summary.SummaryWriter | None = None
        self._widths: learned_values.Widths | None = None

    def on_train_begin(self, logs=None):
        """Opens a file."""
        try:
            os.makedirs(self.folder, exist_ok=True)
            self._writer = tf.summary.create_file_writer(self.folder)
        except (OSError, tf.errors.OpError) as error:
            raise ValueError(f"TensorBoardLog: {self.folder} cannot be written to: {error}") from error
        self._widths = learned_values.Widths(self.model)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the values of the epoch."""
        with self._writer.as_default(step=epoch):
            for name, value in values_of(self.model, logs, self._widths).items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=_SCALAR)
            for name, each in learned_values.weight_scales(self.model).items():
                tf.summary.write(f"{name}/by_output", _histogram(each), metadata=_HISTOGRAM)
        self._writer.flush()

    def on_train_end(self, logs=None):
        """Closes the file."""
        self._writer.close()
