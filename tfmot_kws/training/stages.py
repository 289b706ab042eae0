"""Two-stage training: weights first, then everything."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize import layers as quantized_layers
from tfmot_kws.quantize import ops as quantized_ops
from tfmot_kws.quantize.dynamic import layers as dynamic_layers

_STAGED = (quantized_layers.QuantizedAffine, quantized_ops.QuantizedOp, quantized_ops.QuantizedSoftmax)


def staged_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The model's quantized layers; ValueError where it has none."""
    layers = [layer for layer in model.layers if isinstance(layer, _STAGED)]
    if not layers:
        if any(isinstance(layer, dynamic_layers.DynamicKernel) for layer in model.layers):
            raise ValueError(
                f"model {model.name!r} is quantized by a dynamic_scheme, which has no stages: train it as it is"
            )
        raise ValueError(f"model {model.name!r} has no quantized layers: call tfmot_kws.quantize_apply first")
    return layers


def set_stage(model: keras.Model, stage: int) -> None:
    """Stage 1 quantizes weights, stage 2 bias, gain, batch norm, inputs and activations too.

    Only assigns variables: compiled training and evaluation functions go on without a retrace, and the stage is saved
    with the model.

    Args:
      model: from ``quantize_apply`` with a ``kws_scheme``.
      stage: 1 or 2.

    Raises:
      ValueError: another stage, or a model without stages.
    """
    if stage not in (1, 2):
        raise ValueError(f"stage must be 1 or 2, found {stage!r}")
    for layer in staged_layers(model):
        layer.stage.assign(float(stage))


def get_stage(model: keras.Model) -> int:
    """The model's stage, 1 or 2."""
    return int(round(float(staged_layers(model)[0].stage.numpy())))


def calibrate(model: keras.Model, data: np.ndarray | Iterable[np.ndarray]) -> None:
    """Tracks the ranges of activations without training anything, then enters stage 2.

    For a model that is to be exported without training ("naive rounding"). Batch norm statistics are put back.

    Args:
      model: from ``quantize_apply`` with a ``kws_scheme``.
      data: features [clips, ...], or an iterable of batches (of features, or of (features, labels)).

    Raises:
      ValueError: a model without stages.
    """
    set_stage(model, 1)
    kept = {
        id(layer): (layer.moving_mean.numpy(), layer.moving_variance.numpy())
        for layer in model.layers
        if isinstance(layer, quantized_layers.QuantizedAffine) and layer.batch_norm is not None
    }
    batches = [data[i : i + 256] for i in range(0, len(data), 256)] if isinstance(data, np.ndarray) else data
    for batch in batches:
        model(batch[0] if isinstance(batch, (tuple, list)) else batch, training=True)
    for layer in model.layers:
        if id(layer) in kept:
            layer.moving_mean.assign(kept[id(layer)][0])
            layer.moving_variance.assign(kept[id(layer)][1])
    set_stage(model, 2)


class TwoStageSchedule(keras.callbacks.Callback):
    """Enters stage 2 at the beginning of an epoch of plain ``model.fit``.

    Args:
      stage2_epoch: first epoch (counted from 0) of stage 2. A run that is resumed later starts in the right stage.
      verbose: prints the change.
    """

    def __init__(self, stage2_epoch: int, verbose: int = 0):
        super().__init__()
        if not isinstance(stage2_epoch, int) or stage2_epoch < 0:
            raise ValueError(f"stage2_epoch must be a whole number of at least 0, found {stage2_epoch!r}")
        self.stage2_epoch, self.verbose = stage2_epoch, verbose

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the stage of this epoch."""
        stage = 2 if epoch >= self.stage2_epoch else 1
        if stage != get_stage(self.model):
            set_stage(self.model, stage)
            if self.verbose:
                print(f"epoch {epoch + 1}: stage {stage}")
