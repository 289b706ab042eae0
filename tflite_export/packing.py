"""Packs weight codes into bytes and back. ``kernels/packed_kernels.h`` shows the layout by example.

A width is split into planes of 8, 4, 2 and 1 bits from the top. In a plane of p bits, 8/p consecutive output rows
share bytes: byte j of their group holds their fields at input j, row r of the group in bits ``r * p`` and up. One
layout serves every instruction set.
"""

from __future__ import annotations

import numpy as np

from tflite_export import ir


class PackingError(ValueError):
    """Packed bytes and the sizes that they should have do not agree."""


def planes(bits: int) -> list[tuple[int, int]]:
    """(plane width, position of its lowest bit) from the top; 5 -> [(4, 1), (1, 0)]. Raises PackingError."""
    if not 1 <= bits <= 8:
        raise PackingError(f"bits must lie in 1..8, found {bits}")
    out, low = [], bits
    for width in (8, 4, 2, 1):
        if bits & width:
            low -= width
            out.append((width, low))
    return out


def packed_size(outputs: int, inputs: int, bits: int) -> int:
    """Bytes that ``pack`` makes of codes [outputs, inputs]."""
    return sum(-(-outputs // (8 // width)) * inputs for width, _ in planes(bits))


def pack(weights: ir.Weights) -> bytes:
    """The codes of a kernel as bytes, ``packed_size`` of them."""
    outputs, inputs = weights.codes.shape
    parts = []
    for width, low in planes(weights.bits):
        rows = 8 // width
        groups = -(-outputs // rows)
        fields = np.zeros((groups * rows, inputs), np.uint8)
        fields[:outputs] = (weights.codes >> low) & ((1 << width) - 1)
        shifts = (np.arange(rows) * width).astype(np.uint8)[None, :, None]
        packed = np.bitwise_or.reduce(fields.reshape(groups, rows, inputs) << shifts, axis=1)
        parts.append(packed.tobytes())
    return b"".join(parts)


def unpack(data: bytes, outputs: int, inputs: int, bits: int) -> np.ndarray:
    """uint8 codes [outputs, inputs]; raises PackingError where the bytes are not exactly as many as needed."""
    size = packed_size(outputs, inputs, bits)
    if len(data) != size:
        raise PackingError(f"{outputs} x {inputs} weights of {bits} bits take {size} bytes, found {len(data)}")
    codes = np.zeros((outputs, inputs), np.uint8)
    start = 0
    for width, low in planes(bits):
        rows = 8 // width
        groups = -(-outputs // rows)
        packed = np.frombuffer(data, np.uint8, groups * inputs, start).reshape(groups, 1, inputs)
        shifts = (np.arange(rows) * width).astype(np.uint8)[None, :, None]
        fields = (packed >> shifts) & np.uint8((1 << width) - 1)
        codes |= fields.reshape(groups * rows, inputs)[:outputs] << np.uint8(low)
        start += groups * inputs
    return codes
