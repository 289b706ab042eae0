# SPDX-License-Identifier: Apache-2.0
"""Writes features.bin for the firmware, and expected.txt with the posteriors that it must print.

    python make_features.py model.tflite [features.npy]

features.npy holds float features [examples, frames, mel bins] as the model was trained on; random ones where it is
left out. Posteriors are the numpy reference's: every kernel gives the same bytes.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np

from tflite_export import Interpreter, arithmetic, ir


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("features", type=pathlib.Path, nargs="?")
    parser.add_argument("--examples", type=int, default=5, help="random examples, where no features are given")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    args = parser.parse_args()
    interpreter = Interpreter(args.model.read_bytes(), runtime="reference")
    (tensor,) = interpreter.inputs
    if args.features:
        quantization = ir.Quantization(tensor.scale, tensor.zero_point)
        x = arithmetic.quantize(np.load(args.features), quantization)
    else:
        x = np.random.default_rng(0).integers(-128, 128, (args.examples, *tensor.shape)).astype(np.int8)
    y = interpreter.run(x)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "features.bin").write_bytes(np.ascontiguousarray(x).tobytes())
    lines = [f"{i}: {' '.join(map(str, row))}" for i, row in enumerate(y.reshape(len(y), -1))]
    (args.out / "expected.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
