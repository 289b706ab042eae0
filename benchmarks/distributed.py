# SPDX-License-Identifier: Apache-2.0
"""Steps a second of one, two and four workers that train one model: ``python -m benchmarks.distributed``.

The same global batches for all numbers of workers, each a process with one thread, on this machine. Workers take turns
being measured, one number after another, in one run; a figure is the median of the last epochs. More workers than cores
share them: their figure says what the workers cost each other, not what a machine more would bring.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

import numpy as np

from benchmarks import common
from tfmot_kws.training import local_workers

WIDTHS = {"15K": 18, "250K": 128}
BATCH, EXAMPLES, EPOCHS = 512, 8192, 4
COUNTS = (1, 2, 4)
COLUMNS = (
    ("model", "model", ""), ("workers", "workers", "d"), ("steps", "steps a second", ".1f"),
    ("efficiency", "of what as many cores would give", ".0%"), ("loss", "loss after the last epoch", ".4f"),
)  # fmt: skip


def worker(width: int, out: pathlib.Path) -> None:
    """Trains as one of several; the chief writes what it took."""
    from tfmot_kws.data.feature_set import FeatureSet, LoadReport
    from tfmot_kws.keras import keras
    from tfmot_kws.models import spotters
    from tfmot_kws.training import distributed, recipes

    strategy = distributed.connect("tf-config")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, EXAMPLES).astype(np.int32)
    x = (rng.random((EXAMPLES, 49, 40)) * 26 + y[:, None, None]).astype(np.float32)
    classes = ("_silence_", "_unknown_", "yes", "no")
    found = FeatureSet(x, y, classes, LoadReport(EXAMPLES, {}), np.zeros(EXAMPLES, np.int32), ("made",))

    class Watch(keras.callbacks.Callback):
        """Seconds of each epoch, and its loss."""

        def __init__(self) -> None:
            super().__init__()
            self.begun = 0.0
            self.seconds: list[float] = []
            self.losses: list[float] = []

        def on_epoch_begin(self, epoch, logs=None):
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.begun)
            self.losses.append(float(logs["loss"]))

    watch = Watch()
    shape = spotters.ModelConfig(len(classes), 49, 40, width)
    recipes.train_float(found, shape, recipes.TrainConfig(EPOCHS, BATCH), [watch], strategy=strategy)
    if distributed.is_chief(strategy):
        seconds = float(np.median(watch.seconds[1:]))  # the first one compiles
        out.write_text(json.dumps({"steps": EXAMPLES // BATCH / seconds, "loss": watch.losses[-1]}))


def measure(name: str, count: int) -> dict:
    """A row of the table, but for its efficiency."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.distributed", "--width", str(WIDTHS[name]), "--out", str(out)]
        if local_workers.launch(command, count, restarts=0):
            raise RuntimeError(f"{count} workers failed")
        row = {"model": name, "workers": count, **json.loads(out.read_text())}
    print(row, flush=True)
    return row


def main() -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.out is not None:
        worker(options.width, options.out)
        return
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    rows = [measure(name, count) for name in WIDTHS for count in COUNTS]
    alone = {row["model"]: row["steps"] for row in rows if row["workers"] == 1}
    cores = os.cpu_count() or 1
    for row in rows:
        row["efficiency"] = row["steps"] / (alone[row["model"]] * min(row["workers"], cores))
    path = common.write(
        "distributed", "Several workers on one machine", COLUMNS, rows,
        [
            f"Global batches of {BATCH}, float training, one thread a worker, gradients added over loopback. The "
            f"machine has {cores} cores: more workers share them, and {cores} cores are what they are compared with.",
        ],
    )  # fmt: skip
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
