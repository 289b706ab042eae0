"""Graphs that begin with filters over samples of sound."""

from __future__ import annotations

import numpy as np

from tflite_export import ir


def requantization(rng: np.random.Generator, filters: int, floor: int) -> ir.Requantization:
    """Constants that spread levels of 0 .. 2^15 * 30 over the int8 range and a bit past it."""
    wide = rng.integers(0, 2, 2)
    gain = rng.integers(-32768 if wide[0] else -128, 32768 if wide[0] else 128, filters).astype(np.int16)
    bias = rng.integers(-32768 if wide[1] else -128, 32768 if wide[1] else 128, filters).astype(np.int16)
    multiplier = int(rng.integers(1, 1 << 14))
    largest = max(1, int(np.abs(gain.astype(np.int64)).max()))
    shift = int(np.clip(np.round(np.log2(15 * 2**15 * largest * multiplier / 200)), 1, 62))
    bias_shift = int(np.clip(shift + 6 - int(np.abs(bias.astype(np.int64)).max()).bit_length(), 0, 45))
    low, high = (-128, 127) if rng.integers(0, 2) else (int(rng.integers(-128, -40)), int(rng.integers(40, 128)))
    return ir.Requantization(gain, bias, multiplier, bias_shift, shift, low, high)


def op(
    rng: np.random.Generator,
    *,
    filters: int = 5,
    taps: int = 24,
    stride: int = 4,
    average: int = 3,
    bits: int = 8,
    grid: str | None = None,
    floor: int | None = None,
) -> ir.Waveform:
    """Random filters, from the tensor "x" to "y"."""
    grid = grid or ("mid-tread" if bits == 8 else "mid-rise")
    codes = rng.integers(grid == "mid-tread", 1 << bits, (filters, taps)).astype(np.uint8)
    floor = int(1 << rng.integers(0, 31)) if floor is None else floor
    weights = ir.Weights(codes, bits, grid)
    return ir.Waveform("y", "x", "y", weights, requantization(rng, filters, floor), stride, average, floor)


def graph(made: ir.Waveform, samples: int, zero_point: int = -128) -> ir.Graph:
    """The op alone, over a clip of so many samples."""
    tensors = {
        "x": ir.Tensor("x", (samples, 1), ir.Quantization(ir.SAMPLE_SCALE, 0), wide=True),
        "y": ir.Tensor(
            "y",
            ((samples - made.span) // made.hop + 1, len(made.weights.codes)),
            ir.Quantization(1 / 16, zero_point),
        ),
    }
    return ir.Graph(tensors, (made,), ("x",), ("y",))


def samples(rng: np.random.Generator, graph: ir.Graph, batch: int = 1) -> np.ndarray:
    """int16 [batch, samples, 1] for a graph that reads sound."""
    return noise(rng, (batch, *graph.tensors[graph.inputs[0]].shape))


def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """int16 [batch, samples, 1]: noise of any loudness, silence among it, and whole stretches at both ends."""
    batch = shape[0]
    loud = 2.0 ** rng.uniform(-3, 15, (batch, -(-shape[1] // 16), 1)).repeat(16, axis=1)[:, : shape[1]]
    x = np.clip(np.round(rng.normal(size=shape) * loud), -32768, 32767)
    ends = rng.choice([-32768, 32767], shape)
    x = np.where(rng.random((batch, shape[1], 1)) < 0.05, ends, x)
    x[:, : shape[1] // 8] = rng.choice([0, -32768, 32767])
    return x.astype(np.int16)


def network(rng: np.random.Generator, samples: int = 400, bits: int = 4, **fields: object) -> ir.Graph:
    """Filters, a convolution over their frames and a mean of its rows."""
    first = op(rng, bits=bits, **fields)
    frames, filters = (samples - first.span) // first.hop + 1, len(first.weights.codes)
    weights = ir.Weights(rng.integers(0, 1 << bits, (6, 3 * filters)).astype(np.uint8), bits, "mid-rise")
    if bits == 8:
        weights = ir.Weights(rng.integers(1, 1 << bits, (6, 3 * filters)).astype(np.uint8), bits, "mid-tread")
    gain, bias = rng.integers(40, 127, 6).astype(np.int16), rng.integers(-60, 60, 6).astype(np.int16)
    reach = 300 * np.sqrt(3 * filters) * float(np.abs(weights.levels).mean())
    rq = ir.Requantization(gain, bias, max(1, round(2.0**22 / (reach * 100))), 8, 16)
    tensors = {
        "x": ir.Tensor("x", (samples, 1), ir.Quantization(ir.SAMPLE_SCALE, 0), wide=True),
        "y": ir.Tensor("y", (frames, filters), ir.Quantization(1 / 16, -128)),
        "z": ir.Tensor("z", (frames - 2, 6), ir.Quantization(1 / 8, 0)),
        "mean": ir.Tensor("mean", (1, 6), ir.Quantization(1 / 8, 0)),
        "scores": ir.Tensor("scores", (6,), ir.Quantization(1 / 8, 0)),
    }
    ops = (
        first,
        ir.PackedDense("z", "y", "z", weights, rq, ir.Window((3, 1))),
        ir.AveragePool("mean", "z", "mean", ir.Window((frames - 2, 1)), 1 << 15, 15),
        ir.Reshape("scores", "mean", "scores"),
    )
    return ir.Graph(tensors, ops, ("x",), ("scores",))
