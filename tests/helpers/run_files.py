"""Runs many .tflite files in one stock runtime, in a process of its own: a crash shows as its exit status.

``python run_files.py runtime files.pickle results.pickle``; the first holds a list of (file, inputs or None).
A result is the outputs, or the words of the refusal. With an input of None a file is only loaded. Our Python checks
are left out: only the runtime, the delegate and the kernels see the files.
"""

from __future__ import annotations

import pickle
import sys

import numpy as np

from tflite_export.runtimes import interpreter


def run(runtime: str, flatbuffer: bytes, x: np.ndarray | list[np.ndarray] | None) -> list[np.ndarray] | str:
    try:
        if runtime == "tflm":
            runner = interpreter._Tflm(flatbuffer)
        else:
            runner = interpreter._TfLite(flatbuffer, runtime, 1, True, False)
        return [] if x is None else runner.run(x if isinstance(x, list) else [x])
    except (RuntimeError, ValueError) as error:
        return str(error)


def main() -> None:
    runtime, source, target = sys.argv[1:]
    with open(source, "rb") as file:
        jobs = pickle.load(file)
    results = []
    for number, (flatbuffer, x) in enumerate(jobs):
        print(number, flush=True)  # the last number tells which file crashed
        results.append(run(runtime, flatbuffer, x))
    with open(target, "wb") as file:
        pickle.dump(results, file)


if __name__ == "__main__":
    main()
