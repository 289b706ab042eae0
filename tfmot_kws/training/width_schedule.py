# SPDX-License-Identifier: Apache-2.0
"""Learned widths of a model without stages, that of a ``dynamic_scheme``."""

from __future__ import annotations

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize import model_costs
from tfmot_kws.quantize.dynamic.layers import DynamicKernel
from tfmot_kws.training.width_history import WidthHistory
from tfmot_kws.training.width_steering import WidthSteering, batches_of_an_epoch


class _Whole(WidthSteering):
    """Widths move in all of the time that there is."""

    SHARE = 1.0


class WidthSchedule(keras.callbacks.Callback):
    """Steers learned widths into their budget in the first epochs of plain ``model.fit``, then they stay.

    For models of ``dynamic_scheme(bits="learned", budget=...)``; those of ``kws_scheme`` have ``TwoStageSchedule``.

    Args:
      epochs: in which widths move, at least 1. They are whole at the end of them; the epochs that follow train what is
        around them.
      verbose: prints each epoch what widths have come to.
      history: as for ``TwoStageSchedule``.

    Raises:
      ValueError: ``epochs`` is no whole number of at least 1; in ``fit``, no layer learns its width, the model has
        stages, or an epoch's number of batches is not known.
    """

    def __init__(self, epochs: int, verbose: int = 0, history: WidthHistory | None = None):
        super().__init__()
        whole = isinstance(epochs, (int, np.integer)) and not isinstance(epochs, bool)
        if not whole or epochs < 1:
            raise ValueError(f"WidthSchedule: epochs must be a whole number of at least 1, found {epochs!r}")
        self.epochs, self.verbose = int(epochs), verbose
        self.history = history if history is not None else WidthHistory()
        self._epoch = 0
        self.steering: WidthSteering | None = None
        self._supports_tf_logs = True  # nothing here reads those of batches

    def on_epoch_begin(self, epoch, logs=None):
        """Begins to steer, or goes on; settles where a run is taken up behind the epochs of learning."""
        self._epoch = epoch
        if self.steering is None:
            self._check()
            self.history.begin(epoch)
            self.steering = _Whole(self.model, self.epochs * self._batches())
        if epoch >= self.epochs:
            model_costs.settle(self.model, self.steering.costs)

    def _check(self) -> None:
        staged = [layer.name for layer in model_costs.learning(self.model) if not isinstance(layer, DynamicKernel)]
        if staged:
            raise ValueError(
                f"layer {staged[0]!r} is that of a kws_scheme, which has stages: TwoStageSchedule steers its width"
            )

    def _batches(self) -> int:
        return batches_of_an_epoch(self.params)

    def on_train_batch_end(self, batch, logs=None):
        """Steers."""
        if self._epoch >= self.epochs:
            return
        done, looks = self._epoch * self._batches() + batch + 1, len(self.steering.history)
        self.steering.after_batch(done)
        if len(self.steering.history) > looks:
            self.history.look("weights", done / self._batches(), self.steering)

    def on_epoch_end(self, epoch, logs=None):
        """Takes down what widths have come to, and says it."""
        self.history.epoch_ended("weights", epoch, self.steering, logs)
        if self.verbose:
            print(f"epoch {epoch + 1}: {self.history.said}")

    def on_train_end(self, logs=None):
        """Makes the widths whole, so that the model can be exported, where training was shorter than the learning."""
        model_costs.settle(self.model)
