"""Packs weight codes into bytes and back. ``kernels/core/weight_layout.h``, the C twin, shows the layouts by example.

Eight output rows that share the inputs make a *tile*: at one input, their codes fill exactly ``bits`` bytes, cut into
slots as ``SLOTS`` says. The slots of a byte belong to different rows, so a kernel multiplies whole bytes (as they are,
and shifted right) with one input and separates the rows at the end. For that, a code that ends at a byte's top bit is
stored as a signed number: with its own top bit flipped.

A vector is one byte of the tile for 16 places. A layout says what the places are: 16 inputs of one row per code
("rows", for every chip), or 8 inputs of two rows ("pairs", for matrix instructions of Arm's i8mm).

The layout "dsp" has no tiles: it is for Cortex-M4, M7 and M33, whose SMLAD multiplies the two 16-bit *lanes* of a word
with two inputs. There, a code takes 1, 2, 4, 5 or 8 bits; widths 3, 6 and 7 are stored in 4 and 8, which trades bytes
for speed, and six rows of 5 bits take 32.

The layout "words" is for one bit: 16 inputs of a row side by side, for kernels that look up sums of a few inputs.

Weights of dynamic quantization lie "tight": as in "rows", but the last block of a tile has only the inputs that there
are, so that thin layers are not padded. Codes of 16 bits follow each other row by row, as signed numbers.
"""

from __future__ import annotations

import dataclasses
import enum
import sys

import numpy as np

from tflite_export import ir

TILE = 8
VECTOR = 16
WORD_ROWS = 32
"""Output rows of a block of the layout "words"."""


class PackingError(ValueError):
    """Packed bytes and the sizes that they should have do not agree."""


class Layout(enum.IntEnum):
    """How packed weights lie in a file; the numbers are part of the format."""

    ROWS = 0
    PAIRS = 1
    DSP = 2
    WORDS = 3


ROWS_PER_CODE: dict[Layout, int] = {Layout.ROWS: 1, Layout.PAIRS: 2}
"""Output rows that a vector holds for each row of a tile; 16 / this many inputs."""

TARGETS: dict[str, dict[int, Layout]] = {
    "any": {},
    "aarch64-i8mm": {bits: Layout.PAIRS for bits in range(1, 9)},
    "cortex-m4": {bits: Layout.DSP for bits in range(1, 9)},
    "cortex-a53": {1: Layout.WORDS},
}
"""Layout of each width by target; ROWS, which every kernel reads, for widths that are not listed."""
LEAST_PLACES: dict[Layout, int] = {Layout.PAIRS: 4}
"""Places that a kernel has to take at once for the layout to pay: with fewer, ROWS is the faster one."""


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


@dataclasses.dataclass(frozen=True)
class Lanes:
    """Words of two 16-bit lanes: a block of the layout "dsp" has ``rows`` output rows and 16 inputs.

    The ``fields`` of a lane hold rows of the same input, from the lowest bit, the topmost as a signed number. Inputs
    i and i + 2 of each four share a word. Where ``shared``, a code has one or two bits and a lane only the lowest and
    the topmost bits: word q holds the lanes of inputs 4q .. 4q + 3, each pair of rows rotated to the left by two fields
    more than the last.
    """

    stored: int
    rows: int
    fields: int
    words: int

    @property
    def shared(self) -> bool:
        """Whether several lanes lie in the same 16 bits."""
        return self.stored < 4


LANES: dict[int, Lanes] = {
    1: Lanes(1, 8, 2, 4),
    2: Lanes(2, 4, 2, 4),
    3: Lanes(4, 4, 4, 8),
    4: Lanes(4, 4, 4, 8),
    5: Lanes(5, 6, 3, 16),
    6: Lanes(8, 4, 2, 16),
    7: Lanes(8, 4, 2, 16),
    8: Lanes(8, 4, 2, 16),
}
"""How each width lies in the layout "dsp"; words of 16 inputs."""


def layout_for(target: str, bits: int, places: int = sys.maxsize) -> Layout:
    """The layout of weights for one of TARGETS; raises ValueError for another target.

    bits: of a weight.
    places: rows of inputs that a run multiplies with them, the batch aside.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, found {target!r}")
    layout = TARGETS[target].get(bits, Layout.ROWS)
    return layout if places >= LEAST_PLACES.get(layout, 1) else Layout.ROWS


def tight_size(outputs: int, inputs: int, bits: int) -> int:
    """Bytes that ``pack_tight`` makes of codes [outputs, inputs] of 1..8 or 16 bits."""
    if bits == 16:
        return 2 * outputs * inputs
    _check_bits(bits)
    return -(-outputs // TILE) * inputs * bits


def pack_tight(codes: np.ndarray, bits: int) -> bytes:
    """Codes uint16 [outputs, inputs] of dynamic quantization as ``tight_size`` bytes."""
    if bits == 16:
        return (codes.astype(np.int32) - (1 << 15)).astype("<i2").tobytes()
    _check_bits(bits)
    inputs = codes.shape[1]
    blocks = _tiles(_blocks(codes.astype(np.uint8), bits, Layout.ROWS), bits, Layout.ROWS)
    last = inputs - (blocks.shape[1] - 1) * VECTOR
    return b"".join(tile[:-1].tobytes() + tile[-1, :, :, :last].tobytes() for tile in blocks)


def unpack_tight(data: bytes, outputs: int, inputs: int, bits: int) -> np.ndarray:
    """uint16 codes [outputs, inputs]; raises PackingError where the bytes are not exactly as many as needed."""
    size = tight_size(outputs, inputs, bits)
    if len(data) != size:
        raise PackingError(f"{outputs} x {inputs} weights of {bits} bits take {size} bytes, found {len(data)}")
    if bits == 16:
        return (np.frombuffer(data, "<i2").astype(np.int32) + (1 << 15)).astype(np.uint16).reshape(outputs, inputs)
    down, across = -(-outputs // TILE), -(-inputs // VECTOR)
    last = inputs - (across - 1) * VECTOR
    tiles = np.frombuffer(data, np.uint8).reshape(down, inputs * bits)
    whole = (across - 1) * VECTOR * bits
    blocks = np.zeros((down, across, bits, VECTOR), np.uint8)
    blocks[:, :-1] = tiles[:, :whole].reshape(down, across - 1, bits, VECTOR)
    blocks[:, -1, :, :last] = tiles[:, whole:].reshape(down, bits, last)
    return unpack(blocks.tobytes(), outputs, inputs, bits).astype(np.uint16)


def different_targets(bits: int) -> list[str]:
    """A target for each layout that a width may have."""
    return list({layout_for(target, bits): target for target in reversed(TARGETS)}.values())


def widths(layout: Layout) -> range:
    """Widths that may have a layout."""
    return range(1, 2 if layout is Layout.WORDS else 9)


def signed_rows(bits: int) -> tuple[int, ...]:
    """Rows of a tile whose codes are stored with the top bit flipped: those with a whole code at the top of a byte."""
    _check_bits(bits)
    return tuple(sorted(s.row for s in SLOTS[bits] if s.shift + s.width == 8 and s.width == bits))


def block_shape(bits: int, layout: Layout) -> tuple[int, int]:
    """(output rows, inputs) of a block, the unit that is padded."""
    if layout is Layout.DSP:
        return LANES[bits].rows, VECTOR
    if layout is Layout.WORDS:
        return WORD_ROWS, VECTOR
    rows = ROWS_PER_CODE[layout]
    return TILE * rows, VECTOR // rows


def block_bytes(bits: int, layout: Layout) -> int:
    """Bytes of a block."""
    if layout is Layout.WORDS:
        return WORD_ROWS * VECTOR // 8
    return 4 * LANES[bits].words if layout is Layout.DSP else VECTOR * bits


def packed_size(outputs: int, inputs: int, bits: int, layout: Layout = Layout.ROWS) -> int:
    """Bytes that ``pack`` makes of codes [outputs, inputs]."""
    _check_bits(bits, layout)
    rows, columns = block_shape(bits, layout)
    return -(-outputs // rows) * -(-inputs // columns) * block_bytes(bits, layout)


def pack(weights: ir.Weights, layout: Layout = Layout.ROWS) -> bytes:
    """The codes of a kernel as bytes, ``packed_size`` of them.

    Blocks follow each other along the inputs, then along the rows. In a block, byte 0 of the tile comes first, for
    its 16 places (row by row, inputs within), then byte 1. Rows and inputs that the last block lacks are the smallest
    code.
    """
    bits = weights.bits
    _check_bits(bits, layout)
    blocks = _blocks(weights.codes, bits, layout)
    if layout is Layout.DSP:
        return _pack_lanes(blocks, LANES[bits])
    if layout is Layout.WORDS:
        words = np.packbits(blocks, axis=3, bitorder="little")
        return words.transpose(0, 2, 1, 3).tobytes()
    return _tiles(blocks, bits, layout).tobytes()


def _blocks(codes: np.ndarray, bits: int, layout: Layout) -> np.ndarray:
    """uint8 [blocks down, rows, blocks across, inputs] of codes [outputs, inputs]; zeros fill up the last ones."""
    rows, columns = block_shape(bits, layout)
    outputs, inputs = codes.shape
    down, across = -(-outputs // rows), -(-inputs // columns)
    padded = np.zeros((down * rows, across * columns), np.uint8)
    padded[:outputs, :inputs] = codes
    return padded.reshape(down, rows, across, columns)


def _tiles(blocks: np.ndarray, bits: int, layout: Layout) -> np.ndarray:
    """uint8 [tiles, blocks across, bytes of a tile, rows per code, inputs] of ``_blocks``."""
    per_code = ROWS_PER_CODE[layout]
    down, _, across, columns = blocks.shape
    flipped = blocks.reshape(down, TILE, per_code, across, columns).copy()
    flipped[:, list(signed_rows(bits))] ^= np.uint8(1 << (bits - 1))
    out = np.zeros((down, across, bits, per_code, columns), np.uint8)
    for slot in SLOTS[bits]:
        field = (flipped[:, slot.row] >> slot.low) & ((1 << slot.width) - 1)
        out[:, :, slot.byte] |= (field << slot.shift).astype(np.uint8).transpose(0, 2, 1, 3)
    return out


def unpack(data: bytes, outputs: int, inputs: int, bits: int, layout: Layout = Layout.ROWS) -> np.ndarray:
    """uint8 codes [outputs, inputs]; raises PackingError where the bytes are not exactly as many as needed."""
    size = packed_size(outputs, inputs, bits, layout)
    if len(data) != size:
        raise PackingError(f"{outputs} x {inputs} weights of {bits} bits take {size} bytes, found {len(data)}")
    rows, columns = block_shape(bits, layout)
    down, across = -(-outputs // rows), -(-inputs // columns)
    if layout is Layout.DSP:
        codes = _unpack_lanes(data, down, across, LANES[bits])
        return codes.reshape(down * rows, across * columns)[:outputs, :inputs].copy()
    if layout is Layout.WORDS:
        words = np.frombuffer(data, np.uint8).reshape(down, across, rows, columns // 8).transpose(0, 2, 1, 3)
        codes = np.unpackbits(words.reshape(down * rows, -1), axis=1, bitorder="little")
        return codes[:outputs, :inputs].copy()
    packed = np.frombuffer(data, np.uint8).reshape(down, across, bits, rows // TILE, columns)
    tiles = np.zeros((down, TILE, rows // TILE, across, columns), np.uint8)
    for slot in SLOTS[bits]:
        field = (packed[:, :, slot.byte] >> slot.shift) & np.uint8((1 << slot.width) - 1)
        tiles[:, slot.row] |= (field << slot.low).transpose(0, 2, 1, 3)
    tiles[:, list(signed_rows(bits))] ^= np.uint8(1 << (bits - 1))
    return tiles.reshape(down * rows, across * columns)[:outputs, :inputs].copy()


def _lane_place(lanes: Lanes, row: int, column: int) -> tuple[int, int]:
    """Word and lowest bit of a code in its block."""
    lane, pair = column >> 1 & 1, column // 4 * 2 + (column & 1)
    field = row % lanes.fields
    if lanes.shared:
        turn = 2 * lanes.stored * (pair % 2 * lanes.rows // 2 + row // 2)
        return pair // 2, (16 * lane + (16 - lanes.stored if field else 0) + turn) % 32
    return pair * (lanes.rows // lanes.fields) + row // lanes.fields, 16 * lane + lanes.stored * field


def _pack_lanes(codes: np.ndarray, lanes: Lanes) -> bytes:
    """Blocks [down, rows, across, 16] of codes as words."""
    down, rows, across, columns = codes.shape
    words = np.zeros((down, across, lanes.words), np.uint32)
    for row in range(rows):
        top = row % lanes.fields == lanes.fields - 1
        width = 16 - lanes.stored * (lanes.fields - 1) if top and not lanes.shared else lanes.stored
        for column in range(columns):
            field = codes[:, row, :, column].astype(np.int64) - (1 << (lanes.stored - 1) if top else 0)
            word, shift = _lane_place(lanes, row, column)
            words[:, :, word] |= ((field & ((1 << width) - 1)) << shift).astype(np.uint32)
    return words.astype("<u4").tobytes()


def _unpack_lanes(data: bytes, down: int, across: int, lanes: Lanes) -> np.ndarray:
    words = np.frombuffer(data, "<u4").reshape(down, across, lanes.words)
    codes = np.zeros((down, lanes.rows, across, VECTOR), np.uint8)
    for row in range(lanes.rows):
        flipped = 1 << (lanes.stored - 1) if row % lanes.fields == lanes.fields - 1 else 0
        for column in range(VECTOR):
            word, shift = _lane_place(lanes, row, column)
            codes[:, row, :, column] = (words[:, :, word] >> shift & ((1 << lanes.stored) - 1)) ^ flipped
    return codes


def _check_bits(bits: int, layout: Layout = Layout.ROWS) -> None:
    if not 1 <= bits <= 8:
        raise PackingError(f"bits must lie in 1..8, found {bits}")
    if bits not in widths(layout):
        raise PackingError(f"the layout {layout.name.lower()} is for one bit, found {bits}")
