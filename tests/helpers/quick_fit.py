"""A short ``fit`` that spends its time on training, not on tracing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras

L = keras.layers


def two_layers() -> keras.Model:
    """The least model that has widths to choose from, of flat features [16] and three classes."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,), name="features")
    x = L.Dense(16, activation="relu", name="first")(inputs)
    return keras.Model(inputs, L.Dense(3, name="logits")(x), name="two_layers")


def flat_clips(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of `two_layers`."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 16)).astype(np.float32)
    return x, (x @ rng.normal(size=(16, 3))).argmax(1)


def compiled(model: keras.Model, rate: float = 2e-3) -> keras.Model:
    """Compiled for labels as numbers; traced once, and without AutoGraph, as ``recipes`` does it."""
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(True))
    model.optimizer.build(model.trainable_variables)
    model.train_step = tf.autograph.experimental.do_not_convert(model.train_step)
    return model


def quick_fit(
    model: keras.Model,
    clips: tuple[np.ndarray, np.ndarray],
    epochs: int,
    batch_size: int,
    callbacks: Sequence[keras.callbacks.Callback],
    **options,
) -> None:
    """Trains on clips and leaves the model as it came, but for its weights."""
    compiled(model).fit(*clips, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=list(callbacks), **options)
    del model.train_step
