# SPDX-License-Identifier: Apache-2.0
"""Costs of layers: bytes are those that are packed; the table knows what it knows, and says what it does not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import recurrent_graphs as rg

from tflite_export.packed import packing, recurrent
from tfmot_kws.quantize import costs, recurrent_math


@pytest.mark.parametrize("target", packing.TARGETS)
@pytest.mark.parametrize("bits", costs.WIDTHS)
def test_flash_is_what_is_packed(bits: int, target: str) -> None:
    sizes = itertools.product((1, 4, 7, 8, 9, 31, 64, 65), (1, 8, 9, 15, 16, 17, 200), (1, 3, 4, 49))
    for outputs, inputs, places in sizes:
        layout = packing.layout_for(target, bits, places)
        layer = costs.Layer("layer", outputs, inputs, places=places)
        assert costs.flash_bytes(layer, bits, target) == packing.packed_size(outputs, inputs, bits, layout)
        tight = costs.Layer("layer", outputs, inputs, "dynamic")
        assert costs.flash_bytes(tight, bits, target) == packing.tight_size(outputs, inputs, bits)
    assert set(costs.BLOCKS) == set(packing.TARGETS)
    assert dict(costs.LEAST_PLACES) == {"aarch64-i8mm": packing.LEAST_PLACES[packing.Layout.PAIRS]}
    assert costs.flash_bytes(costs.Layer("layer", 64, 9, "depthwise"), bits, target) == 64 * 9
    assert costs.flash_bytes(costs.Layer("layer", 64, 9, "float depthwise"), bits, target) == 4 * 64 * 9


@pytest.mark.parametrize("cell", recurrent_math.GATES)
@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_flash_of_a_recurrent_layer_is_what_is_packed(cell: str, bits: int) -> None:
    units, channels = 9, 33
    case = rg.random_case(cell, bits, units=units, channels=channels, time=4)
    (op,) = case.graph.ops
    y = case.graph.tensors[op.output]
    for target in packing.TARGETS:
        layout = packing.layout_for(target, bits, places=1)
        data, options = recurrent.write(op, 0, y, layout)
        rows = len(op.kernel.codes)
        parameters = 2 * rows * (options.gain_bytes + options.bias_bytes)
        halves = [len(range(rows)[part]) for part in recurrent.parts(cell, units)]
        parts = ((rows, channels), *((half, units) for half in halves))
        layer = costs.Layer("layer", rows, channels + units, "recurrent", parts=parts, places=7)
        assert costs.flash_bytes(layer, bits, target) == len(data) - parameters


def test_a_layer_is_counted_by_its_sizes() -> None:
    layer = costs.Layer("layer", 64, 120, places=23)
    assert costs.weight_bits(layer, 3) == 64 * 120 * 3
    assert costs.macs(layer) == 23 * 64 * 120
    assert costs.parameters(layer) == 64 * 121
    few, many = (costs.instructions(layer, bits, "cortex-m0plus") for bits in (1, 7))
    assert 23 * 64 * 120 < few < many


def test_what_is_not_known_is_named() -> None:
    gates = costs.Layer("gates", 24, 14, "recurrent")
    with pytest.raises(ValueError, match="'gates': what a recurrent layer costs in instructions is not known"):
        costs.instructions(gates, 4, "cortex-m4")
    with pytest.raises(ValueError, match="'energy' is not known; there are flash, average_bits"):
        costs.cost_of("energy", gates, 4)


def test_every_cost_and_kind_gives_a_number() -> None:
    device = costs.Device(core="cortex-m55")
    for cost, kinds in costs.COSTS.items():
        for kind in kinds:
            found = [costs.cost_of(cost, costs.Layer("layer", 24, 40, kind), bits, device) for bits in costs.WIDTHS]
            assert np.isfinite(found).all() and min(found) > 0
