# SPDX-License-Identifier: Apache-2.0
"""Bytes of the exported files and TFLite Micro's arena: ``python -m benchmarks.sizes``.

Sizes do not depend on what the weights are, so the models are not trained; activations are calibrated on noise.
"""

from __future__ import annotations

import numpy as np

import tflite_export
from benchmarks import common
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

COLUMNS = (
    ("model", "model", ""), ("bits", "weights", ""), ("float_bytes", "float32 bytes", ",d"),
    ("bytes", "file bytes", ",d"),
    ("ratio", "of float32", ".4f"), ("arena", "TFLM arena bytes", ",d"), ("builtin", "stock ops: file bytes", ",d"),
    ("builtin_arena", "stock ops: arena", ",d"),
)  # fmt: skip


def three_dense(width: int = 256) -> keras.Model:
    layers = [keras.layers.Dense(width, activation="relu", name=f"dense_{i}") for i in range(3)]
    return keras.Sequential([keras.Input((width,), name="x"), *layers], name="three_dense")


def measure(name: str, model: keras.Model, bits: int) -> dict:
    """One row: both exports of a model at one width."""
    quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits))
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(64, *model.input_shape[1:]))).astype(np.float32)
    train.calibrate(quantized, x)
    packed, stock = tflite_export.convert(quantized), tflite_export.convert(quantized, ops="builtin")
    runners = [tflite_export.Interpreter(data, runtime="tflm") for data in (packed, stock)]
    expected = tflite_export.Interpreter(packed).run(x)
    if not np.array_equal(runners[0].run(x), expected):
        raise AssertionError(f"{name} at {bits} bits: TFLM and the reference differ")
    runners[1].run(x[:1])
    return {
        "model": name,
        "bits": f"{bits} bit{'s' if bits > 1 else ''}",
        "float_bytes": 4 * model.count_params(),
        "bytes": len(packed),
        "ratio": len(packed) / (4 * model.count_params()),
        "arena": runners[0].arena_bytes(),
        "builtin": len(stock),
        "builtin_arena": runners[1].arena_bytes(),
    }


def main() -> None:
    rows = []
    for name, model in (("250K spotter", models.wakeword_250k(2)), ("3 x 256 x 256", three_dense())):
        for bits in (8, 7, 6, 5, 4, 3, 2, 1):
            rows.append(measure(name, model, bits))
            print(rows[-1], flush=True)
    notes = [
        "float32 bytes: 4 a parameter. File bytes: the whole .tflite, 16-byte aligned. "
        "A channel costs 2 bytes beside its weights (gain, bias), and 2 more (their sum) behind a ReLU."
    ]
    common.write("sizes", "Bytes on the device", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
