# SPDX-License-Identifier: Apache-2.0
"""Steps a second of 1, 2 and 4 workers on this machine: ``python -m benchmarks.distributed``.

The global batch is the same, so that all compute the same; each worker has one core (``index % cores``), and workers
beyond the number of cores share them. Clusters of all sizes run in turns, round by round, so that whatever else the
machine does meets all; a rate is the median over all steps but those of the first epoch of each run.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

WORKERS, BATCH, STEPS, EPOCHS = (1, 2, 4), 256, 16, 3
COLUMNS = (
    ("part", "training", ""), ("workers", "workers", "d"), ("share", "examples of each a step", "d"),
    ("rate", "steps a second", ".2f"), ("speedup", "times one worker", ".2f"), ("efficiency", "efficiency", ".0%"),
)  # fmt: skip


def work(out: str) -> None:
    """One worker: trains, and the chief writes the seconds of its steps."""
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})

    from tfmot_kws.data.datasets import FeatureSet, LoadReport
    from tfmot_kws.keras import keras
    from tfmot_kws.quantize import scheme
    from tfmot_kws.training import distributed, recipes

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds: list[float] = []
            self._epoch, self._last = 0, None

        def on_epoch_begin(self, epoch, logs=None):
            self._epoch, self._last = epoch, None

        def on_train_batch_end(self, batch, logs=None):
            now = time.perf_counter()
            if self._epoch and self._last is not None:
                self.seconds.append(now - self._last)
            self._last = now

    strategy = distributed.connect()
    rng = np.random.default_rng(0)
    count, classes = BATCH * STEPS, tuple("abcdefgh")
    x, y = rng.uniform(0, 26, (count, 49, 40)).astype(np.float32), rng.integers(0, 8, count).astype(np.int32)
    features = FeatureSet(x, y, classes, LoadReport(count, {}), np.zeros(count, np.int32), ("a.wav",))
    config, clocks = recipes.TrainConfig(epochs=EPOCHS, batch_size=BATCH), (Clock(), Clock())
    with distributed.together(strategy):
        model = recipes.train_float(features, None, config, [clocks[0]], strategy=strategy)
        recipes.train_quantized(
            model, scheme.kws_scheme(4), features, config, EPOCHS, 0, [clocks[1]], strategy=strategy
        )
        if distributed.is_chief(strategy):
            pathlib.Path(out).write_text(json.dumps([clock.seconds for clock in clocks]))


def measure(workers: int) -> list[list[float]]:
    """Seconds of steps, of float training and of stage 1."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "seconds.json")
        own = [sys.executable, "-m", "benchmarks.distributed", "--worker", out]
        launcher = [sys.executable, "-m", "tfmot_kws.training.local_workers", str(workers), "--restarts", "0", "--"]
        subprocess.run([*launcher, *own], check=True, stdout=subprocess.DEVNULL)
        return json.loads(pathlib.Path(out).read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker)
        return

    from benchmarks import common

    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    seconds = {(part, workers): [] for part in range(2) for workers in WORKERS}
    for _ in range(args.rounds):
        for workers in WORKERS:
            for part, found in enumerate(measure(workers)):
                seconds[part, workers] += found
            print(workers, [float(np.median(seconds[part, workers])) for part in range(2)], flush=True)
    rows = []
    for part, name in enumerate(("float", "quantized, 4 bits, stage 1")):
        for workers in WORKERS:
            rate = 1.0 / float(np.median(seconds[part, workers]))
            speedup = rate * float(np.median(seconds[part, 1]))
            rows.append(
                {
                    "part": name, "workers": workers, "share": BATCH // workers, "rate": rate, "speedup": speedup,
                    "efficiency": speedup / workers,
                }
            )  # fmt: skip
    beyond = [str(n) for n in WORKERS if n > cores]
    shared = (
        f"; {' and '.join(beyond)} workers share {cores} cores, and cannot be faster than {cores}" if beyond else ""
    )
    notes = [
        f"Spotter of 250,000 parameters, a global batch of {BATCH}, workers on one machine that talk over loopback, a "
        f"core each{shared}. Medians over {args.rounds} runs of each, in turns."
    ]
    if busy > cores / 4:
        notes.append(
            f"Other programs ran beside them (load {busy:.1f} at the start): measure again on an idle machine."
        )
    common.write("distributed", "Workers that train one model", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
