"""A file that lies gets an error, never a crash, and what is let through gives the same bits everywhere."""

from __future__ import annotations

import os
import pathlib
import pickle
import re
import struct
import subprocess
import sys
import warnings

import export_graphs as eg
import numpy as np
import pytest
from fuzz import run as fuzz

from benchmarks import emulation
from tflite_export import ir
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.flatbuffer.reader import FormatError
from tflite_export.packed import op_options
from tflite_export.packed import reader as tflite_reader
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import run as reference
from tflite_export.runtimes import interpreter

MODULES = {
    "tflite": "tensorflow.lite.python.interpreter",
    "litert": "ai_edge_litert.interpreter",
    "tflm": "tflite_micro.python.tflite_micro.runtime",
}
HERE = pathlib.Path(__file__).resolve().parents[1] / "helpers"


@pytest.fixture(params=MODULES)
def runtime(request: pytest.FixtureRequest, require_module) -> str:
    require_module(MODULES[request.param])
    return request.param


def in_own_process(
    runtime: str, jobs: list[tuple[bytes, np.ndarray | None]], folder: pathlib.Path
) -> list[list[np.ndarray] | str]:
    """Outputs or refusals; fails the test, and keeps the file, where the runtime crashes."""
    source, target = folder / "jobs.pickle", folder / "results.pickle"
    source.write_bytes(pickle.dumps(jobs))
    command = [sys.executable, str(HERE / "run_files.py"), runtime, str(source), str(target)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode:
        started = re.findall(r"^\d+$", done.stdout, re.M)
        number = int(started[-1]) if started else 0
        (folder / "crash.tflite").write_bytes(jobs[number][0])
        pytest.fail(f"{runtime}: status {done.returncode} at file {number}, kept in {folder}\n{done.stderr[-2000:]}")
    return pickle.loads(target.read_bytes())


def model(rng: np.random.Generator) -> ir.Graph:
    """Small, with every custom op but the second pool."""
    m = eg.Maker(rng)
    x = m.ring(m.input(4, 4), 2)
    y = m.dense(x, 5, 3, window=ir.Window((3, 1), padding=(1, 1, 0, 0)))
    y = m.depthwise(y, 1, ir.Window((2, 1)))
    y = m.average_pool(m.max_pool(m.add(y, m.lookup(y)), ir.Window((2, 1))), ir.Window((2, 1)))
    y = m.multiply(y, y)
    y = m.reshape(y, 15)
    return m.graph(m.softmax(m.dense(y, 4, 5, "mid-tread")))


def test_truncated_files(rng: np.random.Generator) -> None:
    data = tflite_writer.write(model(rng))
    tflite_reader.read(data)
    ends = [*range(0, 64), *range(64, len(data), 7)]
    for end in ends:
        with pytest.raises(FormatError):
            tflite_reader.read(data[:end])
    for name in interpreter.RUNTIMES:
        with pytest.raises(FormatError):
            interpreter.Interpreter(data[: len(data) // 2], name)


def changed(data: bytes, places: list[int], values: list[int]) -> bytes:
    out = bytearray(data)
    for place, value in zip(places, values):
        out[place] = value
    return bytes(out)


@pytest.mark.slow
def test_changed_bytes(rng: np.random.Generator, runtime: str, tmp_path: pathlib.Path) -> None:
    """Anything that our reader lets through runs, and gives the bits of its own reading, or is refused."""
    graph = model(rng)
    data = tflite_writer.write(graph)
    jobs, expected = [], []
    refused = 0
    for _ in range(3500):
        count = int(rng.integers(1, 4))
        places = rng.integers(0, len(data), count).tolist()
        values = [
            int(rng.integers(0, 256)) if rng.integers(0, 2) else data[p] ^ (1 << int(rng.integers(0, 8)))
            for p in places
        ]
        file = changed(data, places, values)
        try:
            found = tflite_reader.read(file)
        except ValueError:
            refused += 1
            continue
        shape = found.tensors[found.inputs[0]].shape
        if len(found.inputs) != 1 or np.prod(shape) > 10000:
            continue
        x = rng.integers(-128, 128, (1, *shape)).astype(np.int8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected.append(list(reference.run(found, {found.inputs[0]: x}).values()))
        jobs.append((file, x))
    assert refused > 300 and len(jobs) > 300
    ran = 0
    for (_, x), result, wanted in zip(jobs, in_own_process(runtime, jobs, tmp_path), expected):
        if isinstance(result, str):
            continue
        ran += 1
        for a, b in zip(result, wanted):
            np.testing.assert_array_equal(a.reshape(len(x), -1), b.reshape(len(x), -1))
    assert ran > len(jobs) // 2


@pytest.mark.slow
def test_changed_options(rng: np.random.Generator, runtime: str, tmp_path: pathlib.Path) -> None:
    """Each byte of each op's options, seen by nothing but the runtime and our kernels."""
    data = tflite_writer.write(model(rng))
    jobs = []
    x = rng.integers(-128, 128, (1, 6, 4)).astype(np.int8)
    for op in flatbuffer_reader.parse(data).operators:
        if not op.custom:
            continue
        start = data.find(op.custom_options)
        assert data.count(op.custom_options) == 1
        for place in range(start, start + op_options.LENGTH):
            for value in {0, 1, 255, int(rng.integers(0, 256))} - {data[place]}:
                jobs.append((changed(data, [place], [value]), x))
    results = in_own_process(runtime, jobs, tmp_path)
    refusals = [r for r in results if isinstance(r, str)]
    assert len(refusals) > len(jobs) // 2
    assert any("found" in r and "wanted" in r for r in refusals)


def lies(graph: ir.Graph) -> dict[str, bytes]:
    """Files that are sound flatbuffers, but whose options and tensors do not agree."""
    data = tflite_writer.write(graph)
    (op,) = flatbuffer_reader.parse(data).operators
    o = op_options.decode(op.custom_options)

    def options(**changes: object) -> bytes:
        fields = {name: getattr(o, name) for name in o.__dataclass_fields__} | changes
        return data.replace(op.custom_options, op_options.encode(op_options.Options(**fields)))

    return {
        "more bits than there are": options(bits=o.bits + 1),
        "fewer bits": options(bits=o.bits - 1),
        "more outputs": options(outputs=o.outputs + 8),
        "more inputs": options(inputs=o.inputs + 1),
        "huge": options(outputs=2**31 - 1, inputs=2**31 - 1),
        "wider biases": options(bias_bytes=3 - o.bias_bytes),
        "no gain": options(gain_bytes=0),
        "shift": options(shift=63),
        "sums or none": options(sum_bytes=0 if o.sum_bytes else 2),  # there are none where the zero point is 0
        "sums of three bytes": options(sum_bytes=3),
        "window": options(window=ir.Window((2, 2))),
        "huge window": options(window=ir.Window((65535, 65535), padding=(65535,) * 4)),
        "version": data.replace(op.custom_options, b"\x01" + op.custom_options[1:]),
        "mode": data.replace(op.custom_options, op.custom_options[:2] + b"\x01" + op.custom_options[3:]),
        "other op": data.replace(b"TfmotKwsPackedDense", b"TfmotKwsDepthwise\0\0"),
    }


@pytest.mark.slow
def test_lies_are_refused_by_the_reader_and_by_the_kernels(
    rng: np.random.Generator, runtime: str, tmp_path: pathlib.Path
) -> None:
    files = lies(eg.dense(rng, (6,), 8, 4))
    assert all(len(f) == len(next(iter(files.values()))) for f in files.values())
    for name, data in files.items():
        with pytest.raises(ValueError):
            tflite_reader.read(data)
            print(f"{name!r} was read")
    results = in_own_process(runtime, [(data, None) for data in files.values()], tmp_path)
    assert [name for name, result in zip(files, results) if not isinstance(result, str)] == []


def vector_of(data: bytes, values: list[int]) -> int:
    """Where a flatbuffers vector of these int32 starts."""
    start = data.find(struct.pack(f"<{len(values) + 1}i", len(values), *values))
    assert start > 0
    return start + 4


# The writer puts both activations first: tensors 0 and 1, then weights 2 and channel parameters 3.
@pytest.mark.parametrize(
    ("vector", "index", "value", "says"),
    [
        ([0, 2, 3], 1, 77, r"tensor indices \(0, 77, 3\) of 4"),
        ([0, 2, 3], 1, -1, "an input is left out"),
        ([0, 2, 3], 1, -2, r"tensor indices \(0, -2, 3\) of 4"),
        ([0, 2, 3], 0, 1, "reads what nothing has written"),
        ([1, 6], 1, 2**27, "has 6 weights a row for 1 x 134217728 inputs"),
        ([1, 6], 0, 2**30, r"tensor 0 \('x0'\): shape \(1073741824, 6\) is too large"),
        ([1, 6], 1, -5, "negative size"),
    ],
)
def test_indices_and_shapes(vector: list[int], index: int, value: int, says: str, rng: np.random.Generator) -> None:
    data = bytearray(tflite_writer.write(eg.dense(rng, (6,), 5, 4)))
    struct.pack_into("<i", data, vector_of(data, vector) + 4 * index, value)
    with pytest.raises(ValueError, match=says):
        tflite_reader.read(bytes(data))


def test_constants_must_have_their_bytes(rng: np.random.Generator) -> None:
    """TFLM never compares a constant's bytes with its shape: we do, before it sees the file."""
    data = tflite_writer.write(eg.dense(rng, (6,), 5, 4))
    weights = flatbuffer_reader.parse(data).tensors[2]
    out = bytearray(data)
    struct.pack_into("<I", out, weights.data_offset - 4, len(weights.data) - 1)
    with pytest.raises(FormatError, match="its buffer has 63"):
        interpreter.Interpreter(bytes(out), "tflm")


def test_fuzz(require_tool, tmp_path: pathlib.Path) -> None:
    """libFuzzer with the address and undefined behaviour sanitizers, from one input for each kind on."""
    compiler = require_tool(emulation.CLANG)
    target = fuzz.build(tmp_path, compiler)
    status, executions, said = fuzz.run(target, tmp_path / "corpus", "-runs=8000")
    assert status == 0, said[-3000:]
    assert executions >= 8_000, said[-3000:]
    reached = dict(re.findall(r"^reached kind (\d+): (\d+)$", said, re.MULTILINE))
    never = [kind.name for kind in op_options.Kind if not int(reached.get(str(kind.value), 0))]
    assert not never, f"no input got as far as the kernels of {never}"
