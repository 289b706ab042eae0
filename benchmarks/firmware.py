# SPDX-License-Identifier: Apache-2.0
"""Flash, RAM and instructions of the 250K spotter without an interpreter, on emulated boards.

    python -m benchmarks.firmware

The model is written as C (``tflite_export.c.inference``), built with the kernels that it uses and run once under
QEMU. Weights are not trained: they change neither sizes nor instructions.
"""

from __future__ import annotations

import pathlib
import re
import tempfile

import numpy as np

import tflite_export
from benchmarks import common, emulation
from benchmarks.arm_kernels import COMPILERS, compilers_of, tools_of
from tflite_export import inspect as inspect_model
from tflite_export.c import inference as inference_writer
from tflite_export.c import uses
from tflite_export.kernels import build_list
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

BOARDS = {"cortex-m4": ("any", "cortex-m4"), "cortex-m7": ("cortex-m4",), "cortex-m55": ("any",)}
"""Boards, and what the weights are packed for."""

COLUMNS = (
    ("core", "core", ""), ("target", "packed for", ""), ("bits", "bits", "d"), ("weights", "model in flash", ",d"),
    ("code", "kernels in flash", ",d"), ("arena", "arena (RAM)", ",d"), ("stack", "stack (RAM)", ",d"),
    ("instructions", "instructions a clip", ",d"), ("per_mac", "per multiply-accumulate", ".3f"),
)  # fmt: skip


def stack_bytes(folder: pathlib.Path) -> int:
    """A bound on the stack of one inference, from what gcc's -fstack-usage says of each function.

    Every chain of calls goes kws_inference_run -> kws_run_layers -> kws_invoke -> kws_invoke_kernel and from there into
    the checks (prepare.c and options.c, here as one) or one kernel's file. All frames of the largest such file are more
    than any chain in it.
    The depthwise kernels with vectors may call the plain C one, and that one the reference, instead of their own
    functions.
    """
    frames = {
        path.stem: {
            line.split("\t")[0].rsplit(":", 1)[1]: int(line.split("\t")[1]) for line in path.read_text().splitlines()
        }
        for path in folder.glob("*.su")
    }
    frames["prepare"] |= frames.pop("options")
    plain = frames["depthwise_c"]
    if "kws_depthwise_c" in plain:
        vectors = [own for own in (frames.get(f"depthwise_{isa}") for isa in ("dsp", "mve")) if own]
        for own in vectors:  # all depthwise kernels walk over their places by one function
            own["the walk"] = plain["kws_depthwise_places"]
        entries = sum(own.get(f"kws_depthwise_{isa}", 0) for own in vectors for isa in ("dsp", "mve"))
        frames["depthwise_ref"]["its callers"] = plain["kws_depthwise_c"] + entries
        plain["its caller"] = entries
    test = frames["self_test"]  # checks one layer or another, never both at once
    checks = [name for name in ("check", "check_depthwise") if name in test]
    if len(checks) == 2:
        test.pop(min(checks, key=test.__getitem__))
    chain = ("kws_inference_run", "kws_run_layers", "kws_invoke", "kws_invoke_kernel")
    above = sum(own.get(name, 0) for own in frames.values() for name in chain)
    outer = ("inference", "kws_inference", "layers", "dispatch")
    return above + max(sum(own.values()) for name, own in frames.items() if name not in outer)


def measure(name: str, target: str, bits: int, folder: pathlib.Path) -> dict:
    """One row."""
    model = models.wakeword_250k(2)
    quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits))
    x = np.random.default_rng(0).uniform(0, 26, (64, *model.input_shape[1:])).astype(np.float32)
    train.calibrate(quantized, x)
    data = tflite_export.convert(quantized, target=target)
    texts, used = inference_writer.inference_texts(data)
    for file, text in texts.items():
        (folder / file).write_text(text)
    listed = uses.write_config(used, [model.name], folder)
    macs = sum(layer.macs for layer in inspect_model.inspect(data).layers)
    core = emulation.CORES[name]
    flags = ["-O2", "-ffunction-sections", "-fdata-sections", "-include", str(listed), f"-I{folder}"]
    sources = [emulation.ROOT / "benchmarks" / "arm" / "inference.c", folder / "kws_inference.c"]
    compiler = COMPILERS.get(name, core.compiler)
    emulation.build(core, sources, folder, [*flags, "-fstack-usage"])  # gcc's, for the stack
    stack = stack_bytes(folder)
    link = ["-Wl,--gc-sections,-Map=program.map"]
    program = emulation.build(core, sources, folder, flags, compiler=compiler, link_flags=link)
    counts = folder / "counts.txt"
    said = emulation.run(core, program, f"{emulation.counter(folder)},out={counts}")
    instructions = int(counts.read_text().split()[2])
    flash = emulation.linked_bytes((folder / "program.map").read_text())
    kernels = {pathlib.Path(source).stem for source in build_list.KERNEL_SOURCES}
    return {
        "core": name, "target": target, "bits": bits, "weights": flash["kws_inference"],
        "code": sum(value for key, value in flash.items() if key in kernels),
        "arena": int(re.search(r"arena (\d+)", said).group(1)), "stack": stack,
        "instructions": instructions, "per_mac": instructions / macs,
    }  # fmt: skip


def main() -> None:
    """The command."""
    emulation.require_tools(tools_of(BOARDS))
    rows = []
    for name, targets in BOARDS.items():
        for target in targets:
            for bits in (8, 4, 2, 1):
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(measure(name, target, bits, pathlib.Path(folder)))
                print(rows[-1], flush=True)
    notes = [
        "Kernels in flash: those that the model uses (kws_config.h), as the linker keeps them (--gc-sections), at -O2. "
        "Instructions are exact, counted under QEMU.",
        "Stack: the frames of a kernel's whole file and of the functions above it, which no chain of calls exceeds; "
        "the C library's memcpy and memset are not counted.",
        compilers_of(BOARDS),
    ]
    common.write("firmware", "The 250K spotter on Cortex-M without an interpreter", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
