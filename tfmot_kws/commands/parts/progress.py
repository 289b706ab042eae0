# SPDX-License-Identifier: Apache-2.0
"""Progress of ``model.fit`` for the commands."""

from __future__ import annotations

from tfmot_kws.commands.parts.console import Advance
from tfmot_kws.keras import keras


class Epochs(keras.callbacks.Callback):
    """Tells how many epochs are done."""

    def __init__(self, advance: Advance):
        super().__init__()
        self._advance = advance

    def on_epoch_end(self, epoch, logs=None):
        """Called by Keras."""
        self._advance(epoch + 1, self.params["epochs"])
