"""Trains on two logical CPU devices, which must be made before TensorFlow starts: hence a process of its own.

``python distribution.py`` prints a line of JSON with what it found without XLA, and one with XLA.
"""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf
from quantization_helpers import features, quick, worst_lsb

import tflite_export
import tfmot_kws
from tfmot_kws.keras import keras
from tfmot_kws.training import stages as train

L = keras.layers


def model() -> keras.Model:
    layers = [L.Conv1D(6, 3), L.BatchNormalization(), L.ReLU(), L.GlobalAveragePooling1D(), L.Dense(3)]
    return keras.Sequential([keras.Input((8, 4)), *layers])


def fit(spotter: keras.Model, jit: bool, callbacks: list) -> list[float]:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    spotter.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=jit)
    x, labels = features((8, 4), clips=64), np.arange(64) % 3
    return quick(spotter).fit(x, labels, batch_size=16, epochs=4, verbose=0, callbacks=callbacks).history["loss"]


class Watch(keras.callbacks.Callback):
    """The stage and the learned range of each epoch, and whether the replicas hold the same numbers."""

    def __init__(self):
        super().__init__()
        self.stages, self.ranges, self.agree = [], [], True

    def on_epoch_end(self, epoch, logs=None):
        self.stages.append(train.get_stage(self.model))
        self.ranges.append(float(self.model.layers[2].output_grid._offset.numpy()))
        # Each replica has seen clips of its own, and all quantize by the extremes of all clips.
        seen = [self.model.layers[2].output_grid._least, self.model.layers[2].output_grid._largest]
        for variable in [*self.model.trainable_variables, *seen]:
            copies = [v.numpy() for v in variable.values]
            assert len(copies) == 2
            self.agree = self.agree and all((copies[0] == c).all() for c in copies)


def main() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for jit in (False, True):
        print(json.dumps(run(strategy, jit)), flush=True)


def run(strategy: tf.distribute.Strategy, jit: bool) -> dict:
    """What a quantized model did, and with XLA a float one."""
    found = {"replicas": strategy.num_replicas_in_sync, "float": "runs", "quantized": "runs"}
    with strategy.scope():
        quantized = tfmot_kws.quantize_apply(model(), tfmot_kws.kws_scheme(4))
        plain = model() if jit else None
    watch = Watch()
    runs = [("quantized", quantized, [tfmot_kws.TwoStageSchedule(2), watch])]
    if jit:
        runs.append(("float", plain, []))
    for name, spotter, callbacks in runs:
        try:
            with strategy.scope():
                found[f"{name} loss"] = fit(spotter, jit, callbacks)
        except (tf.errors.OpError, RuntimeError, ValueError) as error:
            found[name] = type(error).__name__
            found[f"{name} message"] = str(error)[-1500:]
    if found["quantized"] == "runs":
        found |= {"stages": watch.stages, "ranges": watch.ranges, "agree": watch.agree}
        found["lsb"] = worst_lsb(quantized, features((8, 4), seed=3))
        found["bytes"] = len(tflite_export.convert(quantized))
    return found


if __name__ == "__main__":
    main()
