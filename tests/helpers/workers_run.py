# SPDX-License-Identifier: Apache-2.0
"""One of several workers, or the only one: trains a toy spotter by the recipes and writes what it found.

``python workers_run.py OUT OPTIONS`` with OPTIONS as JSON, see ``run``: worker i writes OUT.i.json and OUT.i.npz.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import signal
import sys
import time

import numpy as np
import tensorflow as tf

from tfmot_kws.data.datasets import FeatureSet, LoadReport
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import budget, scheme
from tfmot_kws.training import distributed, recipes

CLASSES = ("_silence_", "_unknown_", "yes")
SHAPE = models.ModelConfig(3, 20, 8, 8, (models.WindowSpec(4, 2),), 1)


def toy(examples: int = 96) -> FeatureSet:
    """Clips whose class is the band that is loud."""
    rng = np.random.default_rng(0)
    y = (np.arange(examples) % 3).astype(np.int32)
    x = rng.random((examples, 20, 8)).astype(np.float32)
    for i, label in enumerate(y):
        x[i, 5:15, 2 * label : 2 * label + 2] += 4.0
    return FeatureSet(x, y, CLASSES, LoadReport(examples, {}), np.zeros(examples, np.int32), ("a.wav",))


class Watch(keras.callbacks.Callback):
    """The loss of every epoch; and kills its process once, in the middle of one."""

    def __init__(self, kill: dict | None = None):
        super().__init__()
        self.found: list[float] = []
        self._kill, self._epoch = kill, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._kill and (self._epoch, batch) == (self._kill["epoch"], self._kill["batch"]):
            pathlib.Path(self._kill["once"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(float(logs["loss"]))


def delayed(make, seconds: float):
    """``recipes.batches`` whose examples come late."""

    def wait(x):
        time.sleep(seconds)
        return x

    def later(x, y):
        return tf.ensure_shape(tf.numpy_function(wait, [x], tf.float32), x.shape), y

    return lambda *args: make(*args).map(later)


def run(
    out: str, bits: int = 8, learned: bool = False, floats: int = 0, stages: tuple[int, int] = (2, 1),
    checkpoints: str | None = None, kill: dict | None = None, late: dict | None = None,
) -> None:  # fmt: skip
    """Trains, within the cluster of TF_CONFIG where there is one.

    Args:
        out: names of files begin so.
        bits: of weights.
        learned: whether widths are, within three bits a weight.
        floats: epochs of the float model; 0 quantizes a fresh one.
        stages: epochs.
        checkpoints: folder.
        kill: which worker dies in which epoch and batch, once: a file that says that it was done.
        late: whose examples come how many seconds late.
    """
    several = bool(os.environ.get("TF_CONFIG"))
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"] if several else 0
    strategy = distributed.connect() if several else None
    if kill and (kill["worker"] != index or os.path.exists(kill["once"])):
        kill = None
    if late and late["worker"] == index:
        recipes.batches = delayed(recipes.batches, late["seconds"])
    config = recipes.TrainConfig(epochs=max(1, floats), batch_size=32, learning_rate=1e-2, class_weights=True)
    chosen = scheme.kws_scheme("learned", budget=budget.Budget(average_bits=3)) if learned else scheme.kws_scheme(bits)
    first, second = Watch(), Watch(kill)
    with distributed.together(strategy) if several else contextlib.nullcontext():
        if floats:
            kept = checkpoints and f"{checkpoints}/float"
            model = recipes.train_float(toy(), SHAPE, config, [first], checkpoints=kept, strategy=strategy)
        else:
            keras.utils.set_random_seed(1)
            model = models.build(SHAPE)
        kept = checkpoints and f"{checkpoints}/quantized"
        quantized = recipes.train_quantized(
            model, chosen, toy(), config, *stages, [second], checkpoints=kept, strategy=strategy
        )
        found = {"float": first.found, "quantized": second.found, "chief": distributed.is_chief(strategy)}
        pathlib.Path(f"{out}.{index}.json").write_text(json.dumps(found))
        np.savez(f"{out}.{index}.npz", *model.get_weights(), *quantized.get_weights())


if __name__ == "__main__":
    # As in conftest.py: AutoGraph would take a quarter of the time.
    rules = importlib.import_module("tensorflow.python.autograph.core.config")
    rule = importlib.import_module("tensorflow.python.autograph.core.config_lib").DoNotConvert("tf_keras")
    rules.CONVERSION_RULES = (rule, *rules.CONVERSION_RULES)
    run(sys.argv[1], **json.loads(sys.argv[2]))
