# SPDX-License-Identifier: Apache-2.0
"""Progress of ``model.fit`` for the commands."""

from __future__ import annotations

from tfmot_kws.commands.parts.console import Advance
from tfmot_kws.keras import keras
from tfmot_kws.training.width_history import WidthHistory


class Epochs(keras.callbacks.Callback):
    """Tells how many epochs are done, the loss and accuracy of the last, and what widths that are learned cost."""

    def __init__(self, advance: Advance, history: WidthHistory | None = None):
        super().__init__()
        self._advance, self._epoch, self._begun = advance, 0, False
        self._history = history or WidthHistory()
        self._supports_tf_logs = True  # Keras would else wait for the numbers of every batch

    def on_epoch_begin(self, epoch, logs=None):
        """Called by Keras."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Called by Keras. The first batch takes far longer than others: it is traced."""
        if not self._begun:
            self._begun = True
            self._advance.begin(self._epoch + (batch + 1) / (self.params["steps"] or 1))

    def on_epoch_end(self, epoch, logs=None):
        """Called by Keras."""
        logs = logs or {}
        said = [f"loss {float(logs['loss']):.4f}"] if "loss" in logs else []
        said += [f"accuracy {float(logs['accuracy']):.1%}"] if "accuracy" in logs else []
        said += [self._history.said] if self._history.said else []
        self._advance(epoch + 1, self.params["epochs"], ", ".join(said))
