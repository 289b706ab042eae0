"""The packed layouts, written out by hand, and their inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite_export import ir
from tflite_export.packed import packing
from tflite_export.packed.packing import Layout

WIDTHS = range(1, 9)
TILED = [Layout.ROWS, Layout.PAIRS]
PACKED = [(bits, layout) for layout in Layout for bits in packing.widths(layout)]


def pack(codes: list[list[int]] | np.ndarray, bits: int, layout: Layout = Layout.ROWS) -> np.ndarray:
    return np.frombuffer(packing.pack(ir.Weights(np.array(codes, np.uint8), bits, "mid-rise"), layout), np.uint8)


def test_example_of_the_header() -> None:
    """The example in kernels/core/weight_layout.h."""
    codes = [[1, 2], [0, 0], [0, 0], [0, 0], [3, 4], [0, 0], [0, 0], [0, 0]]
    data = pack(codes, 4)
    assert data.size == 64 and data[:2].tobytes() == bytes.fromhex("B1 C2")
    assert (data[2:] == 0x80).all()  # code 0 of a row whose top bit is flipped


def test_example_of_lanes() -> None:
    """The example of the layout DSP in kernels/core/weight_layout.h."""
    data = pack([[1, 2, 5], [3, 4, 6]], 4, Layout.DSP)
    assert data.size == 32 and data[:8].tobytes() == bytes.fromhex("31 80 65 80 42 80 00 80")


def test_example_of_words() -> None:
    """The example of the layout WORDS in kernels/core/weight_layout.h."""
    data = pack([[1, 1, 0, 1, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]], 1, Layout.WORDS)
    assert data.size == 64 and data[:4].tobytes() == bytes.fromhex("0B 01 10 02") and not data[4:].any()


def test_one_hot_words() -> None:
    for row in range(35):
        for column in range(33):
            codes = np.zeros((35, 33), int)
            codes[row, column] = 1
            expected = np.zeros(2 * 3 * 32, "<u2")
            expected[(row // 32 * 3 + column // 16) * 32 + row % 32] = 1 << column % 16
            np.testing.assert_array_equal(pack(codes, 1, Layout.WORDS), expected.view(np.uint8))


@pytest.mark.parametrize("bits", WIDTHS)
def test_lanes_multiply_as_kernels_do(bits: int, rng: np.random.Generator) -> None:
    """Fields of 16-bit lanes, found by masks and rotations alone, times two inputs."""
    lanes = packing.LANES[bits]
    codes = rng.integers(0, 1 << bits, (lanes.rows, 16))
    x = rng.integers(-128, 128, 16)
    words = pack(codes, bits, Layout.DSP).view("<u4").astype(np.int64)
    dots = np.zeros(lanes.rows, int)

    def signed(lane: np.ndarray) -> np.ndarray:
        return (lane & 0xFFFF ^ 0x8000) - 0x8000

    for pair in range(8):
        first = pair // 2 * 4 + pair % 2
        for group in range(lanes.rows // lanes.fields):
            if lanes.shared:
                turn = 2 * lanes.stored * (pair % 2 * lanes.rows // 2 + group)
                word = words[pair // 2] << 32 | words[pair // 2]
                word = word >> turn & 0xFFFFFFFF
            else:
                word = words[pair * (lanes.rows // lanes.fields) + group]
            for lane, column in ((word & 0xFFFF, first), (word >> 16, first + 2)):
                row, low = group * lanes.fields, 0
                for field in range(lanes.fields - 1):
                    value = lane >> field * lanes.stored & ((1 << lanes.stored) - 1)
                    dots[row + field] += value * x[column]
                    low += value << field * lanes.stored
                at = 16 - lanes.stored if lanes.shared else lanes.stored * (lanes.fields - 1)
                top = signed(lane & -(1 << at)) if lanes.shared else signed(lane) - low
                dots[row + lanes.fields - 1] += (top >> at) * x[column]
    expected = codes @ x
    expected[lanes.fields - 1 :: lanes.fields] -= (1 << (lanes.stored - 1)) * x.sum()
    np.testing.assert_array_equal(dots, expected)


@pytest.mark.parametrize("bits", WIDTHS)
def test_slots_fill_the_tile_and_every_code(bits: int) -> None:
    used = np.zeros((bits, 8), int)
    codes = np.zeros((packing.TILE, bits), int)
    for slot in packing.SLOTS[bits]:
        used[slot.byte, slot.shift : slot.shift + slot.width] += 1
        codes[slot.row, slot.low : slot.low + slot.width] += 1
    assert (used == 1).all() and (codes == 1).all()
    order = [(slot.byte, slot.shift) for slot in packing.SLOTS[bits]]
    assert order == sorted(order)  # kernels subtract the next slot of the same byte


SIGNED = {1: [7], 2: [6, 7], 3: [1, 3, 5], 4: [4, 5, 6, 7], 5: [*range(5)], 6: [0, 1, 2, 4, 5, 6], 7: [*range(7)],
          8: [*range(8)]}  # fmt: skip


@pytest.mark.parametrize("bits", WIDTHS)
def test_signed_rows(bits: int) -> None:
    assert list(packing.signed_rows(bits)) == SIGNED[bits]


@pytest.mark.parametrize("layout", TILED)
@pytest.mark.parametrize("bits", WIDTHS)
def test_one_hot(bits: int, layout: Layout) -> None:
    """One code with all bits set changes the bits of its slots and no others, where the layout says they are."""
    rows, columns = packing.block_shape(bits, layout)
    outputs, inputs = rows + 3, 2 * columns + 1
    nothing = pack(np.zeros((outputs, inputs), int), bits, layout)
    for row in range(outputs):
        for column in (0, 1, columns - 1, columns, inputs - 1):
            codes = np.zeros((outputs, inputs), int)
            codes[row, column] = (1 << bits) - 1
            changed = pack(codes, bits, layout) ^ nothing
            expected = np.zeros_like(changed)
            block = (row // rows) * 3 + column // columns
            lane = (row % 2) * 8 + column % 8 if layout is Layout.PAIRS else column % 16
            tile_row = row % 16 // 2 if layout is Layout.PAIRS else row % 8
            for slot in packing.SLOTS[bits]:
                if slot.row == tile_row:
                    expected[16 * (block * bits + slot.byte) + lane] |= ((1 << slot.width) - 1) << slot.shift
            np.testing.assert_array_equal(changed, expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from(PACKED))
def test_unpack_is_the_inverse(seed: int, outputs: int, inputs: int, packed: tuple[int, Layout]) -> None:
    bits, layout = packed
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (outputs, inputs)).astype(np.uint8)
    data = packing.pack(ir.Weights(codes, bits, "mid-rise"), layout)
    assert len(data) == packing.packed_size(outputs, inputs, bits, layout)
    np.testing.assert_array_equal(packing.unpack(data, outputs, inputs, bits, layout), codes)


@given(st.sampled_from(WIDTHS), st.integers(1, 50), st.sampled_from(TILED))
def test_full_blocks_waste_nothing(bits: int, blocks: int, layout: Layout) -> None:
    assert packing.packed_size(64, 16 * blocks, bits, layout) * 8 == 64 * 16 * blocks * bits


@pytest.mark.parametrize(
    ("bits", "size"), [(1, 96), (2, 192), (3, 384), (4, 384), (5, 512), (6, 768), (7, 768), (8, 768)]
)
def test_lanes_trade_bytes_for_speed(bits: int, size: int) -> None:
    assert packing.packed_size(24, 32, bits, Layout.DSP) == size


def test_refuses_wrong_sizes_and_targets() -> None:
    with pytest.raises(packing.PackingError, match="64 bytes, found 63"):
        packing.unpack(bytes(63), 4, 6, 4)
    for bits in (0, 9):
        with pytest.raises(packing.PackingError, match=rf"1\.\.8, found {bits}"):
            packing.packed_size(1, 1, bits)
    with pytest.raises(packing.PackingError, match="words is for one bit, found 2"):
        pack([[1]], 2, Layout.WORDS)
    assert packing.layout_for("cortex-a53", 1) is Layout.WORDS and packing.layout_for("cortex-a53", 2) is Layout.ROWS
    assert packing.layout_for("aarch64-i8mm", 4, 4) is Layout.PAIRS
    assert (
        packing.layout_for("aarch64-i8mm", 4, 3) is Layout.ROWS and packing.layout_for("cortex-m4", 4, 1) is Layout.DSP
    )
    with pytest.raises(ValueError, match="target must be one of any, .*found 'z80'"):
        packing.layout_for("z80", 4)
