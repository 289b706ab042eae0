"""The packed layout, written out by hand, and its inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite_export import ir, packing


def pack(codes: list[list[int]], bits: int) -> bytes:
    return packing.pack(ir.Weights(np.array(codes, np.uint8), bits, "mid-rise"))


def test_examples_of_the_header() -> None:
    """The examples in kernels/packed_kernels.h."""
    assert pack([[1, 2], [3, 4], [5, 6]], 4) == bytes.fromhex("31 42 05 06")
    assert pack([[1, 2], [3, 4], [5, 6]], 3) == bytes.fromhex("24 39 07 00")


ONE_HOT = {  # 9 outputs, 2 inputs; only code [row 8][input 1] and [row 5][input 0] differ from zero: all bits set
    1: "20 00 | 00 01",
    2: "00 00 | 0C 00 | 00 03",
    4: "00 00 | 00 00 | F0 00 | 00 00 | 00 0F",
    8: "00 00 | 00 00 | 00 00 | 00 00 | 00 00 | FF 00 | 00 00 | 00 00 | 00 FF",
}


@pytest.mark.parametrize("bits", range(1, 9))
def test_one_hot(bits: int) -> None:
    """Planes from the top: every plane of this input looks like the width of its own."""
    codes = np.zeros((9, 2), int)
    codes[8, 1] = codes[5, 0] = (1 << bits) - 1
    expected = "".join(ONE_HOT[plane] for plane in (8, 4, 2, 1) if bits & plane)
    assert pack(codes.tolist(), bits) == bytes.fromhex(expected.replace("|", ""))


@pytest.mark.parametrize(
    ("bits", "planes"), [(3, [(2, 1), (1, 0)]), (5, [(4, 1), (1, 0)]), (7, [(4, 3), (2, 1), (1, 0)]), (8, [(8, 0)])]
)
def test_planes(bits: int, planes: list[tuple[int, int]]) -> None:
    assert packing.planes(bits) == planes


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
def test_unpack_is_the_inverse(seed: int, outputs: int, inputs: int, bits: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (outputs, inputs)).astype(np.uint8)
    data = packing.pack(ir.Weights(codes, bits, "mid-rise"))
    assert len(data) == packing.packed_size(outputs, inputs, bits)
    np.testing.assert_array_equal(packing.unpack(data, outputs, inputs, bits), codes)


@given(st.integers(1, 8), st.integers(1, 500))
def test_full_groups_waste_nothing(bits: int, inputs: int) -> None:
    assert packing.packed_size(64, inputs, bits) * 8 == 64 * inputs * bits


def test_refuses_wrong_sizes() -> None:
    with pytest.raises(packing.PackingError, match="12 bytes, found 11"):
        packing.unpack(bytes(11), 4, 6, 4)
    for bits in (0, 9):
        with pytest.raises(packing.PackingError, match=rf"1\.\.8, found {bits}"):
            packing.packed_size(1, 1, bits)
