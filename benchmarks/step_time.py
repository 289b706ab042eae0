# SPDX-License-Identifier: Apache-2.0
"""Cost of a training step against the float step, side by side in one run: ``python -m benchmarks.step_time``.

Steps of the two models take turns, so that whatever else the machine does meets both; the ratio is the median over
pairs. Both are compiled tf.functions: forward, backward, Adam.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import tensorflow as tf

from benchmarks import common
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

COLUMNS = (
    ("model", "model", ""), ("mode", "compiled by", ""), ("stage", "stage", ""), ("float_ms", "float step, ms", ".2f"),
    ("step_ms", "quantized step, ms", ".2f"), ("ratio", "ratio (median of pairs)", ".2f"),
)  # fmt: skip


def step_function(model: keras.Model, x: tf.Tensor, y: tf.Tensor, jit: bool):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.legacy.Adam(1e-3)

    @tf.function(jit_compile=jit, autograph=False)
    def step():
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables))
        return value

    return step


def compare(width: int, batch: int, jit: bool, pairs: int) -> list[dict]:
    rng = np.random.default_rng(0)
    x = tf.constant(rng.uniform(0, 26, (batch, 49, 40)).astype(np.float32))
    y = tf.constant(rng.integers(0, 8, batch))
    model = models.wakeword_250k(8, width=width)
    quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=4))
    steps = [step_function(m, x, y, jit) for m in (model, quantized)]
    rows = []
    for stage in (1, 2):
        train.set_stage(quantized, stage)
        for step in steps:
            for _ in range(5):
                step().numpy()
        times = np.zeros((pairs, 2))
        for i in range(pairs):
            for j, step in enumerate(steps):
                begin = time.perf_counter()
                step().numpy()
                times[i, j] = time.perf_counter() - begin
        rows.append(
            {
                "model": f"{model.count_params():,} parameters, batch {batch}",
                "mode": "XLA" if jit else "tf.function",
                "stage": stage,
                "float_ms": 1e3 * float(np.median(times[:, 0])),
                "step_ms": 1e3 * float(np.median(times[:, 1])),
                "ratio": float(np.median(times[:, 1] / times[:, 0])),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    args = parser.parse_args()
    rows = [r for width in (128, 18) for jit in (False, True) for r in compare(width, 128, jit, args.pairs)]
    common.write("step_time", "A training step at 4 bits", COLUMNS, rows, [f"{args.pairs} pairs of steps a row."])


if __name__ == "__main__":
    main()
