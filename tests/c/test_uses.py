"""Kernels that a list leaves all else out of: every kind of model still runs and gives the reference's bits."""

from __future__ import annotations

import pathlib
import zlib

import numpy as np
import pytest
from listed_models import MODELS, Listed

from benchmarks import emulation
from tflite_export.c import inference as inference_writer
from tflite_export.c import uses as uses_of
from tflite_export.c.uses import Uses

RUNNER = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "arm" / "run_inference.c"
OTHERS = ("host", "cortex-m0plus", "cortex-m55", "cortex-a53", "armv8-i8mm", "cortex-a7")
"""Cores that share the models; all of these run on a Cortex-M4."""
LISTED_FOR = {"spotter for aarch64-i8mm": "armv8-i8mm", "spotter for cortex-a53": "cortex-a53", "long rows": "host"}


def model(name: str) -> Listed:
    return MODELS[name](np.random.default_rng(zlib.crc32(name.encode())))


def write(data: bytes, folder: pathlib.Path) -> Uses:
    """The model as C, and the list of it."""
    texts, used = inference_writer.inference_texts(data)
    for file, text in texts.items():
        (folder / file).write_text(text)
    uses_of.write_config(used, ["test"], folder)
    return used


def build(core: emulation.Core, folder: pathlib.Path, *flags: str) -> pathlib.Path:
    listed = (f"-I{folder}", "-include", f"{folder}/kws_config.h")
    flags = ("-O1", "-ffunction-sections", "-fdata-sections", *listed, *flags)
    sources = [RUNNER, folder / "kws_inference.c"]
    return emulation.build(core, sources, folder, flags, link_flags=["-Wl,--gc-sections"])


def run(core_name: str, name: str, folder: pathlib.Path, require_tool) -> None:
    core = emulation.CORES[core_name]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    made = model(name)
    write(made.data, folder)
    (folder / "inputs.bin").write_bytes(made.inputs)
    program = build(core, folder)
    said = emulation.run(core, program)
    assert said.startswith("examples"), said
    assert (folder / "outputs.bin").read_bytes() == made.outputs


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LISTED_FOR])
def test_what_is_listed_is_enough_on_a_cortex_m4(name: str, tmp_path: pathlib.Path, require_tool) -> None:
    run("cortex-m4", name, tmp_path, require_tool)


@pytest.mark.parametrize(
    ("core", "name"),
    [(LISTED_FOR.get(name, OTHERS[number % len(OTHERS)]), name) for number, name in enumerate(MODELS)],
)
def test_what_is_listed_is_enough_on_another_core(core, name, tmp_path: pathlib.Path, require_tool) -> None:
    run(core, name, tmp_path, require_tool)
