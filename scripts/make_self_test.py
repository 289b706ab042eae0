"""Writes tflite_export/kernels/core/self_test.inc: what kws_self_test() expects, computed by the numpy reference.

python scripts/make_self_test.py
"""

from __future__ import annotations

import pathlib

import numpy as np

from tflite_export import ir
from tflite_export.packed import packing
from tflite_export.reference import run as reference

TARGET = pathlib.Path(__file__).resolve().parents[1] / "tflite_export" / "kernels" / "core" / "self_test.inc"
OUTPUTS, INPUTS, ZERO = 7, 40, -128
CHANNELS, TAPS = 19, 3
LAYOUTS = (packing.Layout.ROWS, packing.Layout.PAIRS, packing.Layout.DSP, packing.Layout.WORDS)
DSP_BYTES = {3: 0x77, 6: 0x3F, 7: 0x7F}
"""Bits of a byte that are used where codes lie in wider fields."""


def fill(count: int, seed: int) -> np.ndarray:
    """uint8 [count] of the generator in self_test.c."""
    out = np.zeros(count, np.uint8)
    for i in range(count):
        seed = (seed * 1664525 + 1013904223) % (1 << 32)
        out[i] = seed >> 24
    return out


def fnv(data: bytes) -> int:
    """FNV-1a, 32 bits."""
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 % (1 << 32)
    return value


def _run(op: ir.Op, x: np.ndarray, ends: tuple[ir.Tensor, ir.Tensor]) -> np.ndarray:
    graph = ir.Graph({end.name: end for end in ends}, (op,), ("x",), ("y",))
    return reference.run(graph, {"x": x[None]})["y"][0]


def _static(bits: int, layout: packing.Layout) -> np.ndarray:
    """int8 [OUTPUTS]."""
    weights = fill(packing.packed_size(OUTPUTS, INPUTS, bits, layout), bits)
    if layout is packing.Layout.DSP:
        weights &= DSP_BYTES.get(bits, 0xFF)
        if bits in DSP_BYTES:  # the topmost field holds the code less half of what would fit: negative
            weights[1::2] |= 0x80
        if bits == 5:  # a code of 5 bits, with its sign, in a field of 6
            weights[1::2] = (weights[1::2] & 0x7F) | (weights[1::2] & 0x40) << 1
    codes = packing.unpack(weights.tobytes(), OUTPUTS, INPUTS, bits, layout)
    gain, bias = fill(2 * OUTPUTS, 9).view(np.int8).astype(np.int16).reshape(2, OUTPUTS)
    rq = ir.Requantization(gain, bias, 1 << 20, 28 + bits, 29 + bits)
    op = ir.PackedDense("dense", "x", "y", ir.Weights(codes, bits, "mid-rise"), rq)
    ends = (
        ir.Tensor("x", (INPUTS,), ir.Quantization(1.0, ZERO)),
        ir.Tensor("y", (OUTPUTS,), ir.Quantization(1.0, 0)),
    )
    return _run(op, fill(INPUTS, 10).view(np.int8), ends)


def _dynamic(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [OUTPUTS], and the sums of the weights."""
    codes = packing.unpack_tight(fill(packing.tight_size(OUTPUTS, INPUTS, bits), bits).tobytes(), OUTPUTS, INPUTS, bits)
    gain, bias = fill(2 * OUTPUTS, 9).view(np.int8).astype(np.int16).reshape(2, OUTPUTS)
    weights = ir.ColumnWeights(codes, bits, "mid-rise")
    op = ir.DynamicDense("dense", "x", "y", weights, 8, gain, 2.0**-15, bias, 2.0**-7)
    x = fill(INPUTS, 10).view(np.int8).astype(np.float32) / 16
    ends = (ir.Tensor("x", (INPUTS,), None), ir.Tensor("y", (OUTPUTS,), None))
    return _run(op, x, ends), weights.levels.sum(axis=1)


def _depthwise() -> np.ndarray:
    """int8 [1, CHANNELS]."""
    x, levels = (fill(TAPS * CHANNELS, seed).view(np.int8).reshape(TAPS, CHANNELS) for seed in (11, 12))
    gain, bias = fill(2 * CHANNELS, 13).view(np.int8).astype(np.int16).reshape(2, CHANNELS)
    rq = ir.Requantization(gain, bias, 1 << 20, 33, 34)
    op = ir.Depthwise("depthwise", "x", "y", levels, rq, ir.Window((TAPS, 1)))
    ends = (
        ir.Tensor("x", (TAPS, CHANNELS), ir.Quantization(1.0, ZERO)),
        ir.Tensor("y", (1, CHANNELS), ir.Quantization(1.0, 0)),
    )
    return _run(op, x, ends)


def text() -> str:
    """The file; 0 where a width has no such layout."""
    lines = ["/* Written by scripts/make_self_test.py: hashes of outputs, one line a width and mode. */"]
    for bits in range(1, 9):
        hashes = [fnv(_static(bits, one).tobytes()) if bits in packing.widths(one) else 0 for one in LAYOUTS]
        lines.append(f"STATIC_MODE({', '.join(f'0x{value:08X}u' for value in hashes)})")
    for bits in range(1, 9):
        y, sums = _dynamic(bits)
        lines.append(f"DYNAMIC_MODE(0x{fnv(y.tobytes()):08X}u, {', '.join(str(int(value)) for value in sums)})")
    lines.append(f"DEPTHWISE(0x{fnv(_depthwise().tobytes()):08X}u)")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
