"""Changes whole .tflite files at random, and runs those that our reader takes: no runtime may end by a signal.

    python tests/helpers/fuzz/files.py --files 20000

Files of every op, packed and stock, and of streams are changed anywhere: bytes, numbers, blocks. What the reader and
the checks of stock ops refuse is counted; the rest runs in each runtime, in processes of their own.
"""

from __future__ import annotations

import argparse
import collections
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

HERE = pathlib.Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import export_graphs as eg  # noqa: E402

from benchmarks import builtin_rounding  # noqa: E402
from tflite_export.builtin import checks  # noqa: E402
from tflite_export.builtin import writer as builtin_writer  # noqa: E402
from tflite_export.flatbuffer import reader as flatbuffer_reader  # noqa: E402
from tflite_export.packed import reader as packed_reader  # noqa: E402
from tflite_export.packed import writer as packed_writer  # noqa: E402

RUNTIMES = ("tflite", "litert", "tflm")
NUMBERS = (-(1 << 31), -1, 0, 1, 2, 3, 7, 255, 1 << 16, (1 << 31) - 1)
MOST_VALUES = 1 << 16
"""Of an input: larger ones are counted as refused, so that a run does not take all day."""


def streams(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """A stream that keeps its frames inside, with our ops and with stock ops."""
    m = eg.Maker(rng)
    x = m.ring(m.input(1, 6), 2)
    y = m.ring(m.max_pool(x, eg.ir.Window((3, 1))), 3)
    graph = m.graph(m.max_pool(y, eg.ir.Window((4, 1))))
    yield "stream, packed", packed_writer.write(graph)
    yield "stream, stock", builtin_writer.write(graph)


def bases(rng: np.random.Generator) -> dict[str, bytes]:
    """Whole files, by what they are."""
    found = {"every op": packed_writer.write(eg.every_op(rng)), "spotter": packed_writer.write(eg.spotter(rng, 2))}
    for target in ("cortex-m4", "aarch64-i8mm"):
        found[f"dense, {target}"] = packed_writer.write(eg.dense(rng, (33,), 9, 5), target=target)
    for name, (_, make) in builtin_rounding.CASES.items():
        found[f"stock {name}"] = builtin_writer.write(make(rng), int4="INT4" in name)
    return found | dict(streams(rng))


def mutate(rng: np.random.Generator, data: bytes) -> bytes:
    """The file with one to three changes."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        kind, place = int(rng.integers(0, 4)), int(rng.integers(8, len(out)))
        if kind == 0:
            out[place] = int(rng.integers(0, 256))
        elif kind == 1:
            out[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            place = min(place // 4 * 4, len(out) - 4)
            out[place : place + 4] = int(rng.choice(NUMBERS)).to_bytes(4, "little", signed=True)
        else:
            size, other = int(rng.integers(1, 33)), int(rng.integers(8, len(out)))
            block = bytes(out[other : other + size])[: len(out) - place]
            out[place : place + len(block)] = block
    return bytes(out)


def feeds(rng: np.random.Generator, file: bytes) -> list[np.ndarray]:
    """Inputs for a file that is taken; raises ValueError for one that is not, as Interpreter does."""
    model = flatbuffer_reader.parse(file)
    if any(op.custom for op in model.operators):
        packed_reader.graph_of(model)
    checks.check(model)
    made = []
    for tensor in (model.tensors[i] for i in model.inputs):
        if tensor.type not in (0, 7, 9) or not tensor.shape or tensor.shape[0] != 1:
            raise ValueError("no int8, int16 or float32 input [1, ...]")
        if np.prod(tensor.shape, dtype=np.int64) > MOST_VALUES:
            raise ValueError("a large input")
        values = rng.integers(-128, 128, tensor.shape).astype(np.int8)
        samples = rng.integers(-32768, 32768, tensor.shape).astype(np.int16)
        made.append({0: values.astype(np.float32) / 16, 7: samples, 9: values}[tensor.type])
    return made


def run(runtime: str, jobs: list[tuple[bytes, list[np.ndarray]]], folder: pathlib.Path) -> tuple[int, str]:
    """(number of the file that ended the process, or -1; what it said)."""
    source = folder / "jobs.pickle"
    source.write_bytes(pickle.dumps(jobs))
    command = [sys.executable, str(HERE / "run_files.py"), runtime, str(source), str(folder / "results.pickle")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode == 0:
        return -1, ""
    started = re.findall(r"^\d+$", done.stdout, re.M)
    return int(started[-1]) if started else 0, f"status {done.returncode}\n{done.stderr[-2000:]}"


def make_jobs(rng: np.random.Generator, count: int) -> tuple[list[tuple[bytes, list[np.ndarray]]], collections.Counter]:
    """Of ``count`` changed files those that are taken, with inputs, and how many of each base they are."""
    files, jobs, taken = bases(rng), [], collections.Counter()
    for number in range(count):
        name = list(files)[number % len(files)]
        file = mutate(rng, files[name])
        try:
            jobs.append((file, feeds(rng, file)))
        except ValueError:
            continue
        taken[name] += 1
    return jobs, taken


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runtimes", nargs="+", default=RUNTIMES, choices=RUNTIMES)
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("runs"), help="folder for files that crash")
    options = parser.parse_args()
    crashes, ran = 0, 0
    for start in range(0, options.files, 2000):
        jobs, _ = make_jobs(np.random.default_rng(options.seed + start), min(2000, options.files - start))
        ran += len(jobs)
        for runtime in options.runtimes:
            left = jobs
            while left:
                with tempfile.TemporaryDirectory() as folder:
                    number, said = run(runtime, left, pathlib.Path(folder))
                if number < 0:
                    break
                crashes += 1
                options.keep.mkdir(parents=True, exist_ok=True)
                path = options.keep / f"crash_{runtime}_{crashes}.tflite"
                path.write_bytes(left[number][0])
                print(f"{runtime}: {said.splitlines()[0]}, kept as {path}", flush=True)
                left = left[number + 1 :]
        print(f"{start + 2000:,} files changed, {ran:,} taken and run, {crashes} crashes", flush=True)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
