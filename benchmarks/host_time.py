# SPDX-License-Identifier: Apache-2.0
"""Wall time of the packed 250K model on this machine against TensorFlow Lite: ``python -m benchmarks.host_time``.

One clip, one thread, TensorFlow Lite's interpreter for all: the float32 and the int8 model with XNNPACK, ours with our
delegate. The models take turns, so that whatever else the machine does meets all; ratios are medians over the turns.
Weights are not trained: they do not change the time.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import tensorflow as tf

import tflite_export
from benchmarks import common
from tflite_export.runtimes import native
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

COLUMNS = (
    ("model", "model", ""), ("bytes", "file bytes", ",d"), ("micros", "us a clip", ".1f"),
    ("of_float", "of TFLite float32", ".2f"), ("of_int8", "of TFLite int8", ".2f"),
)  # fmt: skip
INVOKES = 50


def stock(model: keras.Model, x: np.ndarray, int8: bool) -> bytes:
    """TFLite's own converter: float32, or full-integer post-training quantization."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in x)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def interpreter(data: bytes, ours: bool) -> tf.lite.Interpreter:
    """TensorFlow Lite's, one thread, with an input in place."""
    delegates = [tf.lite.experimental.load_delegate(str(native.library_path()))] if ours else []
    runner = tf.lite.Interpreter(model_content=data, num_threads=1, experimental_delegates=delegates)
    runner.allocate_tensors()
    details = runner.get_input_details()[0]
    rng = np.random.default_rng(0)
    whole = details["dtype"] == np.int8
    x = rng.integers(-128, 128, details["shape"]) if whole else rng.uniform(0, 26, details["shape"])
    runner.set_tensor(details["index"], x.astype(details["dtype"]))
    return runner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=200)
    args = parser.parse_args()
    model = models.wakeword_250k(2)
    x = np.random.default_rng(0).uniform(0, 26, (64, *model.input_shape[1:])).astype(np.float32)
    files = {"TFLite float32": stock(model, x, False), "TFLite int8": stock(model, x, True)}
    for bits in range(8, 0, -1):
        quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits))
        train.calibrate(quantized, x)
        files[f"ours, {bits} bit{'s' if bits > 1 else ''}"] = tflite_export.convert(quantized)
    runners = {name: interpreter(data, name.startswith("ours")) for name, data in files.items()}
    times = {name: np.zeros(args.turns) for name in runners}
    for turn in range(-5, args.turns):
        for name, runner in runners.items():
            begin = time.perf_counter()
            for _ in range(INVOKES):
                runner.invoke()
            if turn >= 0:
                times[name][turn] = (time.perf_counter() - begin) / INVOKES
    rows = [
        {
            "model": name,
            "bytes": len(files[name]),
            "micros": 1e6 * float(np.median(seconds)),
            "of_float": float(np.median(seconds / times["TFLite float32"])),
            "of_int8": float(np.median(seconds / times["TFLite int8"])),
        }
        for name, seconds in times.items()
    ]
    for row in rows:
        print(row, flush=True)
    common.write(
        "host_time", "The 250K model on one core of this machine", COLUMNS, rows,
        [f"{args.turns} turns of {INVOKES} runs each, one thread, XNNPACK for TFLite's own models."],
    )  # fmt: skip


if __name__ == "__main__":
    main()
