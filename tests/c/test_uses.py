"""Kernels that a list leaves all else out of: every kind of model still runs and gives the reference's bits."""

from __future__ import annotations

import pathlib
import subprocess
import zlib
from collections.abc import Sequence

import export_graphs as eg
import numpy as np
import pytest
from listed_models import MODELS, Listed

from benchmarks import emulation, kernel_sizes
from tflite_export import __main__ as tflite_export_main
from tflite_export.c import inference as inference_writer
from tflite_export.c import uses as uses_of
from tflite_export.c.uses import Uses
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.kernels import build_list
from tflite_export.packed import writer as tflite_writer
from tflite_export.streaming import graph as streaming

RUNNER = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "arm" / "run_inference.c"
CORES = ("cortex-m4", "cortex-m55", "host", "cortex-m4", "cortex-m0plus")
"""Cores that share the models, for building each for all would take minutes."""
LISTED_FOR = {
    "spotter for cortex-m4": "cortex-m4", "spotter for aarch64-i8mm": "armv8-i8mm", "long rows": "cortex-m4",
    "spotter for cortex-a53": "cortex-a53", "LSTM": "cortex-a53", "dynamic": "cortex-a53", "every op": "cortex-m4",
    "stream of samples": "cortex-a7",
}  # fmt: skip
"""Those that were packed for a core, and a few for the larger ones, whose kernels take long to compile."""


def model(name: str) -> Listed:
    return MODELS[name](np.random.default_rng(zlib.crc32(name.encode())))


def write(data: bytes, folder: pathlib.Path) -> Uses:
    """The model as C, and the list of it."""
    texts, used = inference_writer.inference_texts(data)
    for file, text in texts.items():
        (folder / file).write_text(text)
    uses_of.write_config(used, ["test"], folder)
    return used


def build(
    core: emulation.Core, folder: pathlib.Path, *flags: str, link_flags: Sequence[str] = ("-Wl,--gc-sections",)
) -> pathlib.Path:
    listed = (f"-I{folder}", "-include", f"{folder}/kws_config.h")
    flags = ("-O1", "-ffunction-sections", "-fdata-sections", *listed, *flags)
    sources = [RUNNER, folder / "kws_inference.c"]
    return emulation.build(core, sources, folder, flags, link_flags=link_flags)


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


@pytest.mark.parametrize(
    ("core", "name"),
    [(LISTED_FOR.get(name, CORES[number % len(CORES)]), name) for number, name in enumerate(MODELS)],
)
def test_what_is_listed_is_enough(core, name, tmp_path: pathlib.Path, require_tool) -> None:
    run(core, name, tmp_path, require_tool)


def test_optimized_by_the_linker(tmp_path: pathlib.Path, require_tool) -> None:
    """-flto, which sees through functions that are assembly and nothing else."""
    core = emulation.CORES["cortex-m4"]
    for tool in (core.compiler[0], *core.emulator[:1]):
        require_tool(tool)
    for number, name in enumerate(("spotter for cortex-m4", "dense 3 and 8 bits")):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = model(name)
        write(made.data, folder)
        (folder / "inputs.bin").write_bytes(made.inputs)
        program = build(core, folder, "-flto", link_flags=["-flto", "-O2", "-Wl,-u,_init,-u,_fini"])
        emulation.run(core, program)
        assert (folder / "outputs.bin").read_bytes() == made.outputs


RISC_V = """
#include <string.h>
#include "kws_inference.h"
#include "bytes.h"
static uint8_t arena[KWS_INFERENCE_ARENA_BYTES] __attribute__((aligned(16)));
void* memcpy(void* restrict to, const void* restrict from, size_t n) {
  for (size_t i = 0; i < n; ++i) ((char*)to)[i] = ((const char*)from)[i];
  return to;
}
void* memset(void* to, int value, size_t n) {
  for (size_t i = 0; i < n; ++i) ((char*)to)[i] = (char)value;
  return to;
}
static int wrong(void) {
  for (unsigned i = 0; i < sizeof inputs / KWS_INFERENCE_INPUT_0_BYTES; ++i) {
    memcpy(arena + KWS_INFERENCE_INPUT_0_OFFSET, inputs + i * KWS_INFERENCE_INPUT_0_BYTES,
           KWS_INFERENCE_INPUT_0_BYTES);
    if (!kws_inference_run(arena)) return 2;
    for (unsigned k = 0; k < KWS_INFERENCE_OUTPUT_0_BYTES; ++k)
      if (arena[KWS_INFERENCE_OUTPUT_0_OFFSET + k] != outputs[i * KWS_INFERENCE_OUTPUT_0_BYTES + k]) return 1;
  }
  return 0;
}
void _start(void) {
  register int status __asm__("a0") = wrong();
  register int leave __asm__("a7") = 93;
  __asm__ volatile("ecall" : : "r"(status), "r"(leave));
}
"""


def test_risc_v_gives_the_reference(tmp_path: pathlib.Path, require_tool) -> None:
    """The plain C kernels as an ESP32-C3 runs them, without a C library but for its headers."""
    gcc, qemu = require_tool("riscv64-unknown-elf-gcc"), require_tool("qemu-riscv32")
    made = model("spotter")
    write(made.data, tmp_path)
    arrays = {"inputs": made.inputs, "outputs": made.outputs}
    text = "".join(
        f"static const unsigned char {key}[] = {{{','.join(map(str, data))}}};\n" for key, data in arrays.items()
    )
    (tmp_path / "bytes.h").write_text(text)
    (tmp_path / "main.c").write_text(RISC_V)
    kernels = [build_list.PACKAGE / name for name in build_list.KERNEL_SOURCES]
    machine = [gcc, "-march=rv32imc", "-mabi=ilp32"]
    flags = ["--specs=picolibc.specs", "-Os", "-std=gnu99", "-ffunction-sections", *emulation.WARNINGS]
    flags += ["-include", tmp_path / "kws_config.h", f"-I{tmp_path}", *emulation.include_flags(), "-c"]
    flags += ["-fno-tree-loop-distribute-patterns"]  # or memcpy() would be made of itself
    sources = [tmp_path / "main.c", tmp_path / "kws_inference.c", *kernels]
    subprocess.run([*machine, *flags, *sources], cwd=tmp_path, check=True)
    program = tmp_path / "program"
    link = ["-nostdlib", "-Wl,--gc-sections", *tmp_path.glob("*.o"), "-lgcc", "-o", program]
    subprocess.run([*machine, *link], check=True)
    assert subprocess.run([qemu, program]).returncode == 0


PARSE = """
#include <stdio.h>
#include "kernels/core/options.h"
#include "layers.h"
int main(void) {
  uint8_t bytes[KWS_OPTIONS_BYTES], arena[16] = {0};
  kws_options options;
  kws_error error = {0, 0, 0};
  size_t failed;
  FILE* file = fopen("options.bin", "rb");
  while (fread(bytes, 1, sizeof bytes, file) == sizeof bytes)
    printf("%s\\n", kws_parse_options(&options, bytes, sizeof bytes, &error) ? "good" : error.message);
  const kws_layer layers[2] = {{.kind = KWS_RING}, {.kind = 0}};
  for (int i = 0; i < 2; ++i)
    printf("%s\\n", kws_run_layers(layers + i, 1, arena, 0, 0, &failed, &error) ? "good" : error.message);
  return 0;
}
"""
REFUSED = {
    "dense": "good",
    "dense 3 and 8 bits": "weights of a width that this build leaves out (KWS_WIDTHS)",
    "spotter for cortex-m4": "a window, which this build leaves out (KWS_WINDOWS)",
    "GRU": "an op that this build leaves out (KWS_KINDS)",
    "softmax": "an op that this build leaves out (KWS_KINDS)",
    "dynamic": "dynamic quantization, which this build leaves out (KWS_DYNAMIC)",
}


def options_of(name: str) -> bytes:
    """Those of a model's first op of ours."""
    operators = flatbuffer_reader.parse(model(name).data).operators
    return next(operator.custom_options for operator in operators if operator.custom)


def test_what_is_left_out_is_refused_by_name(tmp_path: pathlib.Path, require_tool) -> None:
    require_tool("gcc")
    write(model("dense").data, tmp_path)
    (tmp_path / "parse.c").write_text(PARSE)
    layout = bytearray(options_of("dense"))
    layout[52] = 2
    damaged = bytearray(options_of("dense"))
    damaged[11] = 3
    blobs = [*map(options_of, REFUSED), bytes(layout), bytes(damaged)]
    (tmp_path / "options.bin").write_bytes(b"".join(blobs))
    flags = ("-O1", "-include", str(tmp_path / "kws_config.h"))
    program = emulation.build(emulation.CORES["host"], [tmp_path / "parse.c"], tmp_path, flags)
    assert emulation.run(emulation.CORES["host"], program).splitlines() == [
        *REFUSED.values(),
        "weights of a layout that this build leaves out (KWS_LAYOUTS)",
        "a check failed, and this build does not say which: compile with -DKWS_MESSAGES=1",
        "a ring, which this build leaves out (KWS_RINGS)",
        "a copy, which this build leaves out (KWS_COPIES)",
    ]


@pytest.mark.parametrize(("core", "most"), [("cortex-m4", 12 << 10), ("cortex-m55", 10 << 10)])
def test_a_spotter_needs_few_kernels(core: str, most: int, tmp_path: pathlib.Path, require_tool) -> None:
    """Layers of the 250K spotter as a stream: windows over time, dense layers, a ring and a softmax. At -O2."""
    require_tool(emulation.CORES[core].compiler[0])
    graph = streaming.to_stream(eg.spotter(np.random.default_rng(0))).graph
    write(tflite_writer.write(graph, target="cortex-m4" if core == "cortex-m4" else "any"), tmp_path)
    sizes = kernel_sizes.link(emulation.CORES[core], tmp_path, "-O2", "-include", str(tmp_path / "kws_config.h"))
    assert 0 < sizes["options"] < 3 << 10 and sizes["dense"] > 1000 and sum(sizes.values()) < most


def test_lists_of_models_add_up(tmp_path: pathlib.Path, capsys) -> None:
    for name in ("dense", "GRU"):
        (tmp_path / f"{name}.tflite").write_bytes(model(name).data)
    files = [str(tmp_path / f"{name}.tflite") for name in ("dense", "GRU")]
    assert tflite_export_main.main(["config", *files, str(tmp_path)]) == 0
    text = (tmp_path / "kws_config.h").read_text()
    assert "used by: dense.tflite, GRU.tflite." in text and "#define KWS_KINDS 0x402\n" in text
    assert "#define KWS_WIDTHS 0x30\n" in text and "#define KWS_LAYOUTS 0x5\n" in text
    assert tflite_export_main.main(["config", files[0], str(tmp_path / "none.tflite"), str(tmp_path)]) == 1
    assert "none.tflite" in capsys.readouterr().err
    assert Uses(widths=1) | Uses(widths=4, rings=1) == Uses(widths=5, rings=1)
