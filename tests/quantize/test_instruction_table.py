# SPDX-License-Identifier: Apache-2.0
"""Instructions of layers: what the package carries is made of the counts, and gives them."""

from __future__ import annotations

import json
import pathlib
import runpy

import numpy as np
import pytest

from tfmot_kws.quantize import costs, instruction_table

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTED = json.loads((ROOT / "benchmarks" / "results" / "layer_instructions.json").read_text())["rows"]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "make_instruction_table.py"))
CARRIED = json.loads((ROOT / "tfmot_kws" / "quantize" / "instructions.json").read_text())["rows"]
MOST = 0.16
"""How far off the model may be for any layer, as a share; most are within 3 %."""


def layer_of(row: dict, cell: str) -> costs.Layer:
    inputs, outputs, places = map(int, cell.split("x"))
    return costs.Layer("layer", outputs, inputs, row["op"], places=places, function=row["function"])


def modelled(layer: costs.Layer, row: dict) -> float:
    """Instructions by the kernel that was counted, which fewer places than a file's layout is for may have too."""
    if "depthwise" in layer.kind:
        return costs.instructions(layer, row["bits"], row["core"], row["target"])
    rows = costs.BLOCKS["any" if layer.kind == "dynamic" else row["target"]][row["bits"]][0]
    shape = (layer.outputs, layer.inputs, layer.places)
    return instruction_table.dense(row["core"], layer.kind, row["target"], row["bits"], layer.function, shape, rows)


def errors(row: dict) -> np.ndarray:
    """Relative errors of a row's cells."""
    found = [modelled(layer_of(row, cell), row) / count - 1.0 for cell, count in row["cells"].items()]
    return np.array(found)


def test_what_is_carried_is_made_of_the_counts() -> None:
    assert len(CARRIED) == len(COUNTED)
    for carried, counted in zip(CARRIED, COUNTED):
        made = SCRIPT["fit"](counted)
        assert {**made, "factors": 0, "alone": 0} == {**carried, "factors": 0, "alone": 0}
        for cell, count in counted["cells"].items():  # the factors themselves may differ by how a machine adds
            terms = SCRIPT["terms"](counted, cell)
            ours, theirs = (np.array([*v["factors"], *v["alone"][:-1]]) @ terms for v in (made, carried))
            assert abs(ours - theirs) < 1e-3 * count


@pytest.mark.parametrize("core", instruction_table.cores())
def test_every_count_is_given(core: str) -> None:
    rows = [row for row in COUNTED if row["core"] == core]
    assert {row["bits"] for row in rows if row["op"] == "dense" and row["target"] == "any"} == set(range(1, 9))
    assert {row["op"] for row in rows} == {"dense", "dynamic", "depthwise", "float depthwise"}
    everything = []
    for row in rows:
        found = errors(row)
        assert np.abs(found).max() < MOST, (row["op"], row["target"], row["bits"], row["function"])
        everything.append(found)
    assert np.sqrt(np.mean(np.concatenate(everything) ** 2)) < 0.03


@pytest.mark.parametrize("core", instruction_table.cores())
def test_larger_layers_take_more(core: str) -> None:
    """Between sizes that were counted, and beyond: no less for more, but for what the model is off."""
    for bits in range(1, 9):
        for target in instruction_table.targets_of(core):
            last = 0.0
            for size in (8, 32, 64, 128, 256, 512):
                found = costs.instructions(costs.Layer("layer", size, size), bits, core, target)
                assert found > 0.95 * last
                more = costs.instructions(costs.Layer("layer", size, size, places=7), bits, core, target)
                assert 1.5 * found < more < 7.01 * found
                last = found


def test_unknown_cores_and_targets_are_named() -> None:
    layer = costs.Layer("layer", 8, 8)
    with pytest.raises(ValueError, match="'cortex-m99': no instructions were counted there; there are cortex-a53, "):
        costs.instructions(layer, 4, "cortex-m99")
    with pytest.raises(ValueError, match="cortex-m55 has no fast kernel for such files; it has for any"):
        costs.instructions(layer, 4, "cortex-m55", "cortex-m4")


def results(name: str) -> list[dict]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["rows"]


def test_counts_of_bare_kernels_are_given_too() -> None:
    """Of other programs, at other sizes, without what a layer does around its kernel: at most 2,000 instructions, and a
    few for each output to subtract a zero point."""
    kernels = {(row["core"], row["op"], row["target"], row["bits"]): row["kernel"] for row in COUNTED}
    cells = []
    for row in results("arm_kernels"):
        if kernels.get((row["core"], "dense", row["target"], row["bits"])) == f"kws_packed_dense_{row['kernel']}":
            for size in ("640x128", "256x256", "512x128", "128x128"):
                inputs, outputs = map(int, size.split("x"))
                layer = costs.Layer("layer", outputs, inputs, places=row["batch"])
                cells.append((layer, row, row[size] * inputs * outputs * row["batch"]))
    for row in results("dynamic_kernels"):
        if row["bits"] <= 8:
            assert kernels[row["core"], "dynamic", "any", row["bits"]] == f"kws_dynamic_dense_{row['kernel']}"
            inputs, outputs = map(int, row["size"].split(" x "))
            function = "linear" if outputs == 39 else "sigmoid"
            layer = costs.Layer("layer", outputs, inputs, "dynamic", function=function)
            cells.append((layer, {"target": "any", **row}, row["all"]))
    assert len(cells) > 900
    for layer, row, count in cells:
        found = modelled(layer, row)
        around = 2000 + 4 * layer.outputs * layer.places
        where = (row["core"], row["kernel"], row["bits"], layer, count, found)
        assert 0.9 * count < found < 1.1 * count + around, where
