# SPDX-License-Identifier: Apache-2.0
"""Makes golden.npz: what the library of TensorFlow Lite Micro's front end gives, compiled from its own sources.

python tests/frontend/library/make_golden.py TFLM_DIR KISSFFT_DIR

TFLM_DIR is a tree of github.com/tensorflow/tflite-micro, KISSFFT_DIR the Kiss FFT that it is built with, version 130.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE / "golden.npz"
CONFIGS = (
    (16000, 30, 10, 40, 125.0, 7500.0),
    (16000, 30, 20, 40, 125.0, 7500.0),
    (16000, 25, 20, 64, 60.0, 7800.0),
    (8000, 30, 20, 20, 125.0, 3500.0),
)
"""Rate, window and hop in ms, mel channels, lower and upper Hz."""
_PARTS = (
    "bits", "fft_util", "fft", "filterbank", "filterbank_util", "frontend", "frontend_util", "kiss_fft_int16",
    "log_lut", "log_scale", "log_scale_util", "noise_reduction", "noise_reduction_util", "pcan_gain_control",
    "pcan_gain_control_util", "window", "window_util",
)  # fmt: skip


def sound() -> np.ndarray:
    """int16 [20000], the same on every machine: silence, noise of four levels, clicks, a square wave, faint noise."""
    state, numbers = 1, np.empty(20000, np.int64)
    for index in range(len(numbers)):
        state = (1664525 * state + 1013904223) % 2**32
        numbers[index] = (state >> 16) - 32768
    parts = np.split(numbers, range(2500, 20000, 2500))
    parts[0][:] = 0
    for part, shift in zip(parts[1:5], (12, 8, 4, 0)):
        part >>= shift
    parts[5][:] = np.where(np.arange(2500) % 401 == 0, 32767, 0)
    parts[6][:] = np.where(np.arange(2500) // 20 % 2, 32767, -32768)
    parts[7][:] >>= 14
    return np.concatenate(parts).astype(np.int16)


def name(config: tuple, pcan: bool) -> str:
    """Of the array of a configuration."""
    return "_".join(f"{value:g}" for value in (*config, pcan))


def main(tflm: pathlib.Path, kissfft: pathlib.Path) -> None:
    """Compiles the library and asks it."""
    library = tflm / "tensorflow/lite/experimental/microfrontend/lib"
    sources = [path for part in _PARTS for path in library.glob(f"{part}.c*")]
    flags = ["-O1", "-DFIXED_POINT=16", f"-I{tflm}", f"-I{kissfft}"]
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for source in (*sources, HERE / "library_frames.c"):
            objects.append(f"{scratch}/{source.stem}.o")
            compiler = "gcc" if source.suffix == ".c" else "g++"
            subprocess.run([compiler, *flags, "-c", source, "-o", objects[-1]], check=True)
        program = f"{scratch}/frames"
        subprocess.run(["g++", *objects, "-lm", "-o", program], check=True)
        arrays = {}
        for config in CONFIGS:
            for pcan in (False, True):
                command = [program, *map(str, config), str(int(pcan))]
                made = subprocess.run(command, input=sound().tobytes(), capture_output=True, check=True).stdout
                arrays[name(config, pcan)] = np.frombuffer(made, np.uint16).reshape(-1, config[3])
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:3]))
