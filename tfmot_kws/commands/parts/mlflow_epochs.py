# SPDX-License-Identifier: Apache-2.0
"""Epochs of ``model.fit`` as metrics of a run in MLflow."""

from __future__ import annotations

from tfmot_kws.commands.parts.mlflow_runs import Run
from tfmot_kws.keras import keras
from tfmot_kws.training import learned_values, tensorboard_log


class MlflowEpochs(keras.callbacks.Callback):
    """What ``TensorBoardLog`` writes, by the same names behind that of a part of the run: ``float/training/loss``.

    Args:
      run: in MLflow.
      part: of the run.
    """

    def __init__(self, run: Run, part: str):
        super().__init__()
        self._run, self._part = run, part
        self._supports_tf_logs = True  # nothing here reads those of batches
        self._widths: learned_values.Widths | None = None

    def on_train_begin(self, logs=None):
        """Looks at what the model learns."""
        self._widths = learned_values.Widths(self.model)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the numbers of the epoch."""
        found = tensorboard_log.values_of(self.model, logs, self._widths)
        self._run.metrics({f"{self._part}/{name}": value for name, value in found.items()}, epoch)
