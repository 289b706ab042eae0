"""How far each stock op is from the integer reference, in each runtime: writes docs/builtin_rounding.md.

    python -m benchmarks.builtin_rounding

Every case is a graph around one kind of op with random weights, scales and zero points, run on random int8 inputs.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Callable, Sequence

import numpy as np

from tflite_export import ir
from tflite_export.builtin import writer as builtin_writer
from tflite_export.reference import run as reference
from tflite_export.runtimes import interpreter

ROOT = pathlib.Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "builtin_rounding.md"
RUNTIMES = {"tflite": "TFLite", "litert": "LiteRT", "tflm": "TFLM"}
PACKAGES = {"tflite": "tensorflow", "litert": "ai-edge-litert", "tflm": "tflite-micro"}
GRAPHS, SAMPLES = 12, 24

Make = Callable[[np.random.Generator], ir.Graph]
SOFTMAX_OUTPUT = ir.Quantization(1 / 256, -128)


def quantization(rng: np.random.Generator, scale: float = 0.05) -> ir.Quantization:
    return ir.Quantization(float(np.float32(scale * rng.uniform(0.5, 2))), int(rng.integers(-100, 100)))


def single(op_of: Callable[[str], ir.Op], shapes, output, quantizations, result) -> ir.Graph:
    """A graph of one op that reads ``x0``, ``x1``, ... and writes ``y``."""
    tensors = {f"x{i}": ir.Tensor(f"x{i}", shape, q) for i, (shape, q) in enumerate(zip(shapes, quantizations))}
    inputs = tuple(tensors)
    tensors["y"] = ir.Tensor("y", output, result)
    return ir.Graph(tensors, (op_of("op"),), inputs, ("y",))


def requantization(rng, outputs, acc_std, low=-128, high=127) -> ir.Requantization:
    """Constants that spread accumulators of this deviation over the output's range, a few negative and zero gains."""
    gain = rng.integers(20, 128, outputs) * rng.choice([1, 1, 1, -1], outputs)
    gain[rng.integers(outputs)] = 0
    shift = 40
    multiplier = int(2.0**shift * 45 / (acc_std * 90))
    bias_shift = shift - 4
    bias = rng.integers(-500, 500, outputs)
    return ir.Requantization(gain.astype(np.int16), bias.astype(np.int16), multiplier, bias_shift, shift, low, high)


def codes(rng, outputs, inputs, bits, grid) -> ir.Weights:
    low = 0 if grid == "mid-rise" else 1
    return ir.Weights(rng.integers(low, 1 << bits, (outputs, inputs)).astype(np.uint8), bits, grid)


def dense(rng, shape=(40,), outputs=24, window=None, bits=4, grid="mid-rise", clipped=False, equal=False) -> ir.Graph:
    x, y = quantization(rng), quantization(rng)
    inputs = shape[-1] * (window.taps if window else 1)
    weights = codes(rng, outputs, inputs, bits, grid)
    low, high = (y.zero_point - 20, min(127, y.zero_point + 60)) if clipped else (max(-128, y.zero_point), 127)
    rq = requantization(rng, outputs, weights.levels.std() * 80 * inputs**0.5, max(low, -128), high)
    if equal:
        gain = np.full(outputs, 99, np.int16)
        rq = ir.Requantization(gain, rq.bias, rq.multiplier, rq.bias_shift, rq.shift, rq.activation_min, 127)
    out = ir.windowed_shape(shape, window, outputs, "op") if window else (*shape[:-1], outputs)
    return single(lambda n: ir.PackedDense(n, "x0", "y", weights, rq, window), [shape], out, [x], y)


def depthwise(rng, shape, multiple=1, window=None) -> ir.Graph:
    outputs = shape[-1] * multiple
    levels = rng.integers(-127, 128, (window.taps if window else 1, outputs)).astype(np.int8)
    rq = requantization(rng, outputs, 74 * 80 * len(levels) ** 0.5)
    out = ir.windowed_shape(shape, window, outputs, "op") if window else (*shape[:-1], outputs)
    x, y = quantization(rng), quantization(rng)
    return single(lambda n: ir.Depthwise(n, "x0", "y", levels, rq, window), [shape], out, [x], y)


def lookup(rng, function: Callable[[np.ndarray], np.ndarray], alpha=0.0, y=None) -> ir.Graph:
    x, y = quantization(rng), y or quantization(rng)
    if y.scale == 1.0:
        y = x
    real = x.scale * (np.arange(-128, 128) - x.zero_point)
    table = np.clip(np.floor(function(real) / y.scale + 0.5) + y.zero_point, -128, 127).astype(np.int8)
    return single(lambda n: ir.Lookup(n, "x0", "y", table, alpha=alpha), [(9, 7)], (9, 7), [x], y)


def softmax(rng) -> ir.Graph:
    x = quantization(rng)
    table = np.floor(2.0**15 * np.exp(-x.scale * np.arange(256)) + 0.5).astype(np.uint16)
    return single(lambda n: ir.Softmax(n, "x0", "y", table), [(12,)], (12,), [x], SOFTMAX_OUTPUT)


def pointwise(rng, kind, second=(9, 7), clipped=False) -> ir.Graph:
    x0, x1, y = quantization(rng), quantization(rng), quantization(rng, 0.08 if kind is ir.Add else 0.2)
    ratios = [x0.scale / y.scale, x1.scale / y.scale] if kind is ir.Add else [x0.scale * x1.scale / y.scale]
    shift = 24
    ms = [int(np.floor(r * 2.0**shift + 0.5)) for r in ratios]
    low, high = (-77, 66) if clipped else (-128, 127)
    factors = tuple(ms) if kind is ir.Add else ms[0]
    op = kind("op", ("x0", "x1"), "y", factors, shift, low, high)
    return single(lambda n: op, [(9, 7), second], (9, 7), [x0, x1], y)


def average(rng, window, rescale, shape=(12, 8)) -> ir.Graph:
    x = quantization(rng)
    y = ir.Quantization(float(np.float32(x.scale * 0.6)), int(rng.integers(-90, 90))) if rescale else x
    m = int(np.floor(x.scale / y.scale * 2.0**24 + 0.5))
    out = ir.windowed_shape(shape, window, shape[-1], "op")
    return single(lambda n: ir.AveragePool(n, "x0", "y", window, m, 24), [shape], out, [x], y)


def move(rng, shapes, output, op_of) -> ir.Graph:
    q = quantization(rng)
    return single(op_of, shapes, output, [q] * len(shapes), q)


def max_pool(rng, shape, window) -> ir.Graph:
    out = ir.windowed_shape(shape, window, shape[-1], "op")
    return move(rng, [shape], out, lambda n: ir.MaxPool(n, "x0", "y", window))


def int4(rng, **others) -> ir.Graph:
    """A graph whose weights fit INT4 tensors."""
    return dense(rng, bits=4, grid="mid-tread", **others)


W = ir.Window
# name -> (stock ops, maker of one graph)
CASES: dict[str, tuple[str, Make]] = {
    "dense": ("FULLY_CONNECTED", lambda r: dense(r)),
    "dense, 8 bits": ("FULLY_CONNECTED", lambda r: dense(r, bits=8, grid="mid-tread")),
    "dense over frames": ("FULLY_CONNECTED", lambda r: dense(r, (5, 16))),
    "dense, clipped": ("FULLY_CONNECTED, MAXIMUM, MINIMUM", lambda r: dense(r, clipped=True)),
    "dense, INT4": ("RESHAPE, CONV_2D", lambda r: int4(r, shape=(5, 39), outputs=23)),
    "convolution, INT4": ("RESHAPE, CONV_2D", lambda r: int4(r, shape=(20, 7), window=W((3, 1), (2, 1)))),
    "convolution over time": ("RESHAPE, CONV_2D", lambda r: dense(r, (20, 8), window=W((3, 1), (2, 1)))),
    "convolution, SAME": ("RESHAPE, CONV_2D", lambda r: dense(r, (20, 8), window=W((3, 1), padding=(1, 1, 0, 0)))),
    "convolution, causal": (
        "RESHAPE, PAD, CONV_2D",
        lambda r: dense(r, (20, 8), window=W((3, 1), dilation=(2, 1), padding=(4, 0, 0, 0))),
    ),
    "convolution of a picture": (
        "CONV_2D",
        lambda r: dense(r, (10, 9, 4), window=W((3, 3), (2, 1), padding=(0, 1, 1, 1))),
    ),
    "depthwise": ("RESHAPE, DEPTHWISE_CONV_2D", lambda r: depthwise(r, (20, 8), window=W((5, 1)))),
    "depthwise, causal": (
        "RESHAPE, PAD, DEPTHWISE_CONV_2D",
        lambda r: depthwise(r, (20, 8), 2, W((3, 1), dilation=(2, 1), padding=(4, 0, 0, 0))),
    ),
    "affine per channel": ("RESHAPE, DEPTHWISE_CONV_2D", lambda r: depthwise(r, (6, 8))),
    "requantize": ("QUANTIZE", lambda r: lookup(r, lambda v: v)),
    "relu": ("RELU", lambda r: lookup(r, lambda v: np.maximum(v, 0))),
    "relu6, one scale": (
        "MAXIMUM, MINIMUM",
        lambda r: lookup(r, lambda v: np.clip(v, 0, 6), y=ir.Quantization(1.0, 0)),
    ),
    "leaky relu": ("LEAKY_RELU", lambda r: lookup(r, lambda v: np.where(v < 0, 0.2 * v, v), alpha=0.2)),
    "sigmoid": ("LOGISTIC", lambda r: lookup(r, lambda v: 1 / (1 + np.exp(-v)), y=SOFTMAX_OUTPUT)),
    "sigmoid, own scale": (
        "LOGISTIC, QUANTIZE",
        lambda r: lookup(r, lambda v: 1 / (1 + np.exp(-v)), y=ir.Quantization(1 / 128, -100)),
    ),
    "tanh": ("TANH", lambda r: lookup(r, np.tanh, y=ir.Quantization(1 / 128, 0))),
    "any function": ("CAST, ADD, GATHER", lambda r: lookup(r, lambda v: v * np.sin(2 * v))),
    "softmax": ("SOFTMAX", softmax),
    "add": ("ADD", lambda r: pointwise(r, ir.Add)),
    "add, broadcast, clipped": (
        "RESHAPE, ADD, MAXIMUM, MINIMUM",
        lambda r: pointwise(r, ir.Add, (7,), True),
    ),
    "multiply": ("MUL", lambda r: pointwise(r, ir.Multiply)),
    "average pool": ("RESHAPE, AVERAGE_POOL_2D", lambda r: average(r, W((4, 1), (2, 1)), False)),
    "average pool, SAME": ("RESHAPE, AVERAGE_POOL_2D", lambda r: average(r, W((3, 1), padding=(1, 1, 0, 0)), False)),
    "average pool, rescaled": ("RESHAPE, AVERAGE_POOL_2D, QUANTIZE", lambda r: average(r, W((4, 1), (4, 1)), True)),
    "global average, rescaled": ("RESHAPE, MEAN", lambda r: average(r, W((12, 1)), True)),
    "max pool": ("RESHAPE, MAX_POOL_2D", lambda r: max_pool(r, (12, 8), W((3, 1), (2, 1)))),
    "max pool, causal": (
        "RESHAPE, PADV2, MAX_POOL_2D",
        lambda r: max_pool(r, (12, 8), W((3, 1), padding=(2, 0, 0, 0))),
    ),
    "concatenate": (
        "CONCATENATION",
        lambda r: move(r, [(4, 3), (4, 5)], (4, 8), lambda n: ir.Concatenate(n, ("x0", "x1"), "y", 1)),
    ),
    "reshape": ("RESHAPE", lambda r: move(r, [(4, 6)], (2, 12), lambda n: ir.Reshape(n, "x0", "y"))),
    "transpose": ("TRANSPOSE", lambda r: move(r, [(4, 6)], (6, 4), lambda n: ir.Transpose(n, "x0", "y", (1, 0)))),
    "pad": ("PAD", lambda r: move(r, [(4, 6)], (7, 6), lambda n: ir.Pad(n, "x0", "y", ((2, 1), (0, 0))))),
    "slice": ("STRIDED_SLICE", lambda r: move(r, [(9, 6)], (3, 6), lambda n: ir.Slice(n, "x0", "y", 2, 8, 2))),
    "slice, backwards": (
        "STRIDED_SLICE",
        lambda r: move(r, [(9, 6)], (9, 6), lambda n: ir.Slice(n, "x0", "y", 8, -10, -1)),
    ),
}


def inputs_of(graph: ir.Graph, rng: np.random.Generator, samples: int = SAMPLES) -> dict[str, np.ndarray]:
    """Random int8 inputs [samples, ...] by name."""
    shapes = {name: graph.tensors[name].shape for name in graph.inputs}
    return {name: rng.integers(-128, 128, (samples, *shape), dtype=np.int8) for name, shape in shapes.items()}


def outputs(name: str, seed: int, runtimes: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """(reference, one for each runtime), int, of random graph number ``seed`` of a case."""
    rng = np.random.default_rng(seed)
    graph = CASES[name][1](rng)
    feeds = inputs_of(graph, rng)
    flatbuffer = builtin_writer.write(graph, int4="INT4" in name)
    found = [interpreter.Interpreter(flatbuffer, runtime).run(feeds)["y"] for runtime in runtimes]
    return reference.run(graph, feeds)["y"].astype(int), [y.astype(int) for y in found]


def measure(name: str, runtime: str, graphs: int = GRAPHS) -> tuple[int, float]:
    """(largest difference to the reference in output steps, share of outputs that differ) over all graphs of a case."""
    pairs = [outputs(name, seed, [runtime]) for seed in range(graphs)]
    gap = np.concatenate([np.abs(found[0] - expected).ravel() for expected, found in pairs])
    return int(gap.max()), float((gap > 0).mean())


def apart(name: str, graphs: int = GRAPHS) -> int:
    """The largest difference between any two runtimes."""
    found = [np.stack(outputs(name, seed, list(RUNTIMES))[1]) for seed in range(graphs)]
    return max(int(np.ptp(y, axis=0).max()) for y in found)


def table() -> list[str]:
    """Rows of the Markdown table."""
    rows = [f"| op | stock ops | {' | '.join(RUNTIMES.values())} | apart |", "|---|---|" + "---|" * (len(RUNTIMES) + 1)]
    for name, (stock, _) in CASES.items():
        cells = []
        for runtime in RUNTIMES:
            largest, share = measure(name, runtime)
            cells.append(f"{largest} ({100 * share:.2g} %)" if largest else "0")
        rows.append(f"| {name} | {stock} | {' | '.join(cells)} | {apart(name)} |")
    return rows


def main() -> None:
    """Measures everything and replaces the report."""
    versions = ", ".join(f"{RUNTIMES[key]} ({p} {importlib.metadata.version(p)})" for key, p in PACKAGES.items())
    text = f"""# Rounding of stock ops

`ops="builtin"` writes stock ops only. Their kernels round in ways of their own: TFLite's reference kernels double,
XNNPACK in float32, half to even or half away from zero, where this project rounds once, half up. The table has the
largest difference to the integer reference in output steps (LSB) and the share of outputs that differ; "apart" is the
largest difference between two of the runtimes. Over the layers of a model the differences add up. The packed op has 0
everywhere, always.

Made by `python -m benchmarks.builtin_rounding` on {platform.machine()} with
{versions}:
{GRAPHS} random graphs of each kind on {SAMPLES} random inputs each, every runtime with its default settings (TFLite and
LiteRT use XNNPACK).
`tests/builtin/test_writer.py` measures the first graphs of each row again and holds them to these numbers.

""" + "\n".join(table())
    unfinished = REPORT.with_suffix(".tmp")
    unfinished.write_text(text + "\n")
    os.replace(unfinished, REPORT)
    print(text)


if __name__ == "__main__":
    main()
