"""One of several workers, or the only one: trains a toy spotter by the recipes and writes what it found.

``python workers_run.py OUT.json OPTIONS`` with OPTIONS as JSON: see ``run``. Worker i writes OUT.i.json, the chief also
the weights of the quantized model, OUT.npz.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize import budget, scheme
from tfmot_kws.training import distributed, recipes

CLASSES = ("_silence_", "_unknown_", "yes")


def toy(examples: int = 96):
    """Clips whose class is the band that is loud."""
    from tfmot_kws.data.datasets import FeatureSet, LoadReport

    rng = np.random.default_rng(0)
    y = (np.arange(examples) % 3).astype(np.int32)
    x = rng.random((examples, 20, 8)).astype(np.float32)
    for i, label in enumerate(y):
        x[i, 5:15, 2 * label : 2 * label + 2] += 4.0
    return FeatureSet(x, y, CLASSES, LoadReport(examples, {}), np.zeros(examples, np.int32), ("a.wav",))


class Losses(keras.callbacks.Callback):
    """Of every epoch; and kills its process once, in the middle of one."""

    def __init__(self, kill: dict | None, index: int):
        super().__init__()
        self.found: list[float] = []
        self.batches: list[float] = []
        self._kill = kill if kill and kill["worker"] == index and not os.path.exists(kill["once"]) else None
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(float(logs["loss"]))
        if self._kill and (self._epoch, batch) == (self._kill["epoch"], self._kill["batch"]):
            pathlib.Path(self._kill["once"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(float(logs["loss"]))


def run(
    out: str, learned: bool = False, checkpoints: str | None = None, kill: dict | None = None, epochs: int = 2,
    bits: int = 4, extra: dict | None = None,
) -> None:  # fmt: skip
    """Both trainings, within the cluster of TF_CONFIG where there is one."""
    from tfmot_kws.models import spotters as models

    strategy = distributed.connect() if os.environ.get("TF_CONFIG") else None
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"] if strategy else 0
    shape = models.ModelConfig(3, 20, 8, 8, (models.WindowSpec(4, 2), models.WindowSpec(3, 2)), 1)
    config = recipes.TrainConfig(epochs=epochs, batch_size=32, learning_rate=1e-2, **(extra or {}))
    first, second = Losses(None, index), Losses(kill, index)
    folders = [None, None] if checkpoints is None else [os.path.join(checkpoints, one) for one in ("a", "b")]
    model = recipes.train_float(toy(), shape, config, [first], checkpoints=folders[0], strategy=strategy)
    chosen = scheme.kws_scheme(
        "learned" if learned else bits, budget=budget.Budget(average_bits=3.0) if learned else None
    )
    quantized = recipes.train_quantized(
        model, chosen, toy(), config, 2, 2, [second], checkpoints=folders[1], strategy=strategy
    )
    found = {
        "float": first.found,
        "quantized": second.found,
        "batches": second.batches,
        "chief": distributed.is_chief(strategy),
    }
    found["weights"] = [float(np.abs(w).sum()) for w in quantized.get_weights()]
    pathlib.Path(f"{out}.{index}.json").write_text(json.dumps(found))
    np.savez(f"{out}.{index}.npz", *model.get_weights(), *quantized.get_weights())


if __name__ == "__main__":
    run(sys.argv[1], **json.loads(sys.argv[2]))
