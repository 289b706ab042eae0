# SPDX-License-Identifier: Apache-2.0
"""Progress of ``model.fit`` for the commands."""

from __future__ import annotations

from tfmot_kws.commands.parts.console import Advance
from tfmot_kws.keras import keras


class Epochs(keras.callbacks.Callback):
    """Tells how many epochs are done, and the loss and accuracy of the last."""

    def __init__(self, advance: Advance):
        super().__init__()
        self._advance, self._begun = advance, False

    def on_epoch_begin(self, epoch, logs=None):
        """Called by Keras."""
        if not self._begun and epoch:  # a run that is resumed
            self._advance.begin(epoch)
        self._begun = True

    def on_epoch_end(self, epoch, logs=None):
        """Called by Keras."""
        logs = logs or {}
        said = [f"loss {logs['loss']:.4f}"] if "loss" in logs else []
        said += [f"accuracy {logs['accuracy']:.1%}"] if "accuracy" in logs else []
        self._advance(epoch + 1, self.params["epochs"], ", ".join(said))
