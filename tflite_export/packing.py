"""Packs weight codes into bytes and back. ``kernels/weight_layout.h`` is the C twin and shows the layouts by example.

Eight output rows that share the inputs make a *tile*: at one input, their codes fill exactly ``bits`` bytes, cut into
slots as ``SLOTS`` says. The slots of a byte belong to different rows, so a kernel multiplies whole bytes (as they are,
and shifted right) with one input and separates the rows at the end. For that, a code that ends at a byte's top bit is
stored as a signed number: with its own top bit flipped.

A vector is one byte of the tile for 16 places. A layout says what the places are: 16 inputs of one row per code
("rows", for every chip), or 8 inputs of two rows ("pairs", for matrix instructions of Arm's i8mm).
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np

from tflite_export import ir

TILE = 8
VECTOR = 16


class PackingError(ValueError):
    """Packed bytes and the sizes that they should have do not agree."""


class Layout(enum.IntEnum):
    """How packed weights lie in a file; the numbers are part of the format."""

    ROWS = 0
    PAIRS = 1


ROWS_PER_CODE: dict[Layout, int] = {Layout.ROWS: 1, Layout.PAIRS: 2}
"""Output rows that a vector holds for each row of a tile; 16 / this many inputs."""

TARGETS: dict[str, dict[int, Layout]] = {
    "any": {},
    "aarch64-i8mm": {bits: Layout.PAIRS for bits in range(1, 9)},
}
"""Layout of each width by target; ROWS, which every kernel reads, for widths that are not listed."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """``width`` bits at bit ``shift`` of byte ``byte`` of a tile: bits ``low`` and up of the code of row ``row``."""

    byte: int
    shift: int
    width: int
    row: int
    low: int = 0


def _even(bits: int) -> tuple[Slot, ...]:
    """Whole codes only: neighbours in a byte are ``bits`` rows apart."""
    return tuple(Slot(byte, f * bits, bits, f * bits + byte) for byte in range(bits) for f in range(8 // bits))


def _slots(*rows: tuple[int, int, int, int, int]) -> tuple[Slot, ...]:
    return tuple(Slot(byte, shift, width, row, low) for byte, shift, width, row, low in rows)


SLOTS: dict[int, tuple[Slot, ...]] = {
    1: _even(1),
    2: _even(2),
    3: _slots(
        (0, 0, 2, 6, 0), (0, 2, 3, 0, 0), (0, 5, 3, 1, 0), (1, 0, 2, 7, 0), (1, 2, 3, 2, 0),
        (1, 5, 3, 3, 0), (2, 0, 1, 6, 2), (2, 1, 1, 7, 2), (2, 2, 3, 4, 0), (2, 5, 3, 5, 0),
    ),
    4: _even(4),
    5: _slots(
        (0, 0, 3, 5, 0), (0, 3, 5, 0, 0), (1, 0, 3, 6, 0), (1, 3, 5, 1, 0), (2, 0, 3, 7, 0), (2, 3, 5, 2, 0),
        (3, 0, 2, 5, 3), (3, 2, 1, 7, 3), (3, 3, 5, 3, 0), (4, 0, 2, 6, 3), (4, 2, 1, 7, 4), (4, 3, 5, 4, 0),
    ),
    6: _slots(
        (0, 0, 2, 3, 0), (0, 2, 6, 0, 0), (1, 0, 2, 3, 2), (1, 2, 6, 1, 0), (2, 0, 2, 3, 4), (2, 2, 6, 2, 0),
        (3, 0, 2, 7, 0), (3, 2, 6, 4, 0), (4, 0, 2, 7, 2), (4, 2, 6, 5, 0), (5, 0, 2, 7, 4), (5, 2, 6, 6, 0),
    ),
    7: _slots(
        *(slot for byte in range(7) for slot in ((byte, 0, 1, 7, byte), (byte, 1, 7, byte, 0))),
    ),
    8: _even(8),
}  # fmt: skip
"""Slots of each width, from the lowest bit of the first byte. A row's parts add up to its code."""


def layout_for(target: str, bits: int) -> Layout:
    """The layout of a width for one of TARGETS; raises ValueError for another target."""
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, found {target!r}")
    return TARGETS[target].get(bits, Layout.ROWS)


def signed_rows(bits: int) -> tuple[int, ...]:
    """Rows of a tile whose codes are stored with the top bit flipped: those with a whole code at the top of a byte."""
    _check_bits(bits)
    return tuple(sorted(s.row for s in SLOTS[bits] if s.shift + s.width == 8 and s.width == bits))


def block_shape(layout: Layout) -> tuple[int, int]:
    """(output rows, inputs) of a block, the unit that is padded."""
    rows = ROWS_PER_CODE[layout]
    return TILE * rows, VECTOR // rows


def packed_size(outputs: int, inputs: int, bits: int, layout: Layout = Layout.ROWS) -> int:
    """Bytes that ``pack`` makes of codes [outputs, inputs]."""
    _check_bits(bits)
    rows, columns = block_shape(layout)
    return -(-outputs // rows) * -(-inputs // columns) * VECTOR * bits


def pack(weights: ir.Weights, layout: Layout = Layout.ROWS) -> bytes:
    """The codes of a kernel as bytes, ``packed_size`` of them.

    Blocks follow each other along the inputs, then along the rows. In a block, byte 0 of the tile comes first, for
    its 16 places (row by row, inputs within), then byte 1. Rows and inputs that the last block lacks are zero bits,
    which are the smallest code.
    """
    bits, per_code = weights.bits, ROWS_PER_CODE[layout]
    rows, columns = block_shape(layout)
    outputs, inputs = weights.codes.shape
    down, across = -(-outputs // rows), -(-inputs // columns)
    codes = np.zeros((down * rows, across * columns), np.uint8)
    codes[:outputs, :inputs] = weights.codes
    tiles = codes.reshape(down, TILE, per_code, across, columns)
    flipped = tiles.copy()
    flipped[:, list(signed_rows(bits))] ^= np.uint8(1 << (bits - 1))
    out = np.zeros((down, across, bits, per_code, columns), np.uint8)
    for slot in SLOTS[bits]:
        field = (flipped[:, slot.row] >> slot.low) & ((1 << slot.width) - 1)
        out[:, :, slot.byte] |= (field << slot.shift).astype(np.uint8).transpose(0, 2, 1, 3)
    return out.tobytes()


def unpack(data: bytes, outputs: int, inputs: int, bits: int, layout: Layout = Layout.ROWS) -> np.ndarray:
    """uint8 codes [outputs, inputs]; raises PackingError where the bytes are not exactly as many as needed."""
    size = packed_size(outputs, inputs, bits, layout)
    if len(data) != size:
        raise PackingError(f"{outputs} x {inputs} weights of {bits} bits take {size} bytes, found {len(data)}")
    rows, columns = block_shape(layout)
    down, across = -(-outputs // rows), -(-inputs // columns)
    packed = np.frombuffer(data, np.uint8).reshape(down, across, bits, rows // TILE, columns)
    tiles = np.zeros((down, TILE, rows // TILE, across, columns), np.uint8)
    for slot in SLOTS[bits]:
        field = (packed[:, :, slot.byte] >> slot.shift) & np.uint8((1 << slot.width) - 1)
        tiles[:, slot.row] |= (field << slot.low).transpose(0, 2, 1, 3)
    tiles[:, list(signed_rows(bits))] ^= np.uint8(1 << (bits - 1))
    return tiles.reshape(down * rows, across * columns)[:outputs, :inputs].copy()


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise PackingError(f"bits must lie in 1..8, found {bits}")
