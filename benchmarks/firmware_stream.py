# SPDX-License-Identifier: Apache-2.0
"""RAM, flash and instructions of a hop of streaming spotters without an interpreter, on emulated boards.

    python -m benchmarks.firmware_stream

Flash is that of examples/firmware/main_stream.c. Instructions are those of a hop in the middle of a stream, layer by
layer, of the detector, and of the clip model that would have to run once a hop instead. Weights are not trained: they
change no sizes, and instructions by a few.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import tempfile
from collections import defaultdict

import numpy as np

import tflite_export
from benchmarks import common, emulation
from benchmarks.arm_kernels import COMPILERS, compilers_of, tools_of
from benchmarks.firmware import stack_bytes
from tflite_export.c import inference as inference_writer
from tflite_export.c import uses
from tflite_export.kernels import build_list
from tflite_export.packed import reader as tflite_reader
from tflite_export.streaming import cost
from tfmot_kws.commands import firmware
from tfmot_kws.commands.parts import sidecar, spotter
from tfmot_kws.data import task
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

BOARDS = {"cortex-m4": "cortex-m4", "cortex-m55": "any"}
"""Boards, and what the weights are packed for."""

MODELS = {"wakeword_250k": models.wakeword_250k, "ds_cnn_stream": models.ds_cnn_stream}
WORDS = ("marvin",)
HOPS = 32
KINDS = {1: "dense", 2: "depthwise", 9: "rings"}
"""Numbers of kws_kind in packed_kernels.h."""

_HEAD = (("model", "model", ""), ("core", "core", ""), ("bits", "bits", "d"))
INSTRUCTIONS = (
    *_HEAD, ("rings", "rings", ",d"), ("dense", "dense", ",d"), ("depthwise", "depthwise", ",d"),
    ("other", "other", ",d"), ("detector", "detector", ",d"), ("hop", "a hop", ",d"), ("share", "rings' share", ".1%"),
    ("moved", "bytes moved", ",d"), ("clip", "a clip", ",d"), ("ratio", "clip / hop", ".1f"),
)  # fmt: skip
MEMORY = (
    *_HEAD, ("activations", "activations", ",d"), ("state", "rings", ",d"), ("scratch", "scratch", ",d"),
    ("detector_ram", "detector", ",d"), ("stack", "stack", ",d"), ("ram", "RAM", ",d"), ("model_flash", "model", ",d"),
    ("kernels_flash", "kernels", ",d"), ("detector_flash", "detector", ",d"), ("rest_flash", "rest", ",d"),
    ("flash", "flash", ",d"),
)  # fmt: skip


_PARTS = {"kws_inference": "model", "detector": "detector", "kws_listener": "detector"}


def flash_by_part(link_map: str) -> dict[str, int]:
    """Bytes of what the linker kept, by part, from its map."""
    kernels = {pathlib.Path(name).stem for name in build_list.KERNEL_SOURCES}
    sizes: dict[str, int] = defaultdict(int)
    for stem, size in emulation.linked_bytes(link_map).items():
        sizes["kernels" if stem in kernels else _PARTS.get(stem, "rest")] += size
    return sizes


def regions(core: emulation.Core, program: pathlib.Path, folder: pathlib.Path) -> tuple[list[int], str]:
    """Instructions of each region, and what the program said."""
    counts = folder / "counts.txt"
    said = emulation.run(core, program, f"{emulation.counter(folder)},out={counts}")
    return [int(line.split()[2]) for line in counts.read_text().splitlines()], said


def measure(name: str, core_name: str, bits: int, folder: pathlib.Path) -> dict:
    """One row of both tables."""
    keras.utils.set_random_seed(0)
    model = MODELS[name](len(task.TaskConfig(WORDS).classes))
    quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=bits))
    x = np.random.default_rng(0).uniform(0, 26, (64, *model.input_shape[1:])).astype(np.float32)
    train.calibrate(quantized, x)
    target = BOARDS[core_name]
    data = tflite_export.convert(quantized, target=target, streaming="internal")
    inference_writer.write_inference(data, folder)
    clip = folder / "clip"
    inference_writer.write_inference(tflite_export.convert(quantized, target=target), clip)
    about = sidecar.Sidecar("tflite", features.FrontendConfig(), task.TaskConfig(WORDS))
    firmware.write_header(spotter.Spotter(data, about, runtime="reference"), folder)

    core = emulation.CORES[core_name]
    compiler = COMPILERS.get(core_name, core.compiler)
    detector, arm = emulation.KERNELS / "ops" / "detector.c", emulation.ROOT / "benchmarks" / "arm"
    plain = ["-O2", "-ffunction-sections", "-fdata-sections", f"-DKWS_WIDTHS=(1 << {bits})"]
    flags = [*plain, f"-I{folder}"]
    stacks = folder / "stacks"
    stacks.mkdir()
    own = [folder / "kws_inference.c", detector]
    emulation.build(core, [arm / "inference.c", *own], stacks, [*flags, "-fstack-usage"])  # gcc's

    example = emulation.ROOT / "examples" / "firmware"
    link = ["-lm", "-Wl,--gc-sections,-Map=stream.map"]
    listener = build_list.PACKAGE / "c" / "listener"
    sources = [*(example / f"{part}.c" for part in ("main_stream", "detections", "frames_file")), *own]
    sources.append(listener / "kws_listener.c")
    used = inference_writer.inference_texts(data)[1]
    listed = ["-include", str(uses.write_config(used, [name], folder))]
    emulation.build(core, sources, folder, [*flags, *listed, f"-I{listener}"], compiler=compiler, link_flags=link)
    flash = flash_by_part((folder / "stream.map").read_text())

    sources = [arm / "inference.c", clip / "kws_inference.c"]
    (recomputed,), _ = regions(
        core, emulation.build(core, sources, clip, [*plain, f"-I{clip}"], compiler=compiler), clip
    )
    program = [arm / "stream.c", *own]
    counted, said = regions(core, emulation.build(core, program, folder, flags, compiler=compiler), folder)
    whole, steps = np.mean(counted[::2]), np.mean(counted[1::2])
    by_layer = emulation.build(
        core,
        program,
        folder,
        [*flags, "-DBY_LAYER"],
        compiler=compiler,
        link_flags=["-Wl,--wrap=kws_invoke,--wrap=kws_ring_step"],
    )
    counted, kinds = regions(core, by_layer, folder)
    part: dict[str, float] = defaultdict(float)
    for kind, count in zip(kinds.split()[1:], counted, strict=True):
        part[KINDS.get(int(kind), "other kind")] += count / HOPS
    sizes = {key: int(value) for key, value in re.findall(r"(\w+) (\d+)", said)}
    row = {
        "model": name, "core": core_name, "bits": bits,
        **{key: round(part[key]) for key in ("rings", "dense", "depthwise")},
        "other": round(whole - part["rings"] - part["dense"] - part["depthwise"]), "detector": round(steps),
        "hop": round(whole + steps), "share": part["rings"] / (whole + steps),
        "moved": cost.of_graph(tflite_reader.read(data)).moved, "clip": recomputed,
        "ratio": (recomputed + steps) / (whole + steps),
        "activations": sizes["arena"] - sizes["state"] - sizes["scratch"], "state": sizes["state"],
        "scratch": sizes["scratch"], "detector_ram": sizes["detector"], "stack": stack_bytes(stacks),
        **{f"{key}_flash": flash[key] for key in ("model", "kernels", "detector", "rest")},
        "flash": sum(flash.values()),
    }  # fmt: skip
    row["ram"] = sizes["arena"] + sizes["detector"] + row["stack"]
    return row


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, nargs="*", default=[8, 4, 1])
    options = parser.parse_args()
    emulation.require_tools(tools_of(BOARDS))
    rows = []
    for name in MODELS:
        for core in BOARDS:
            for bits in options.bits:
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(measure(name, core, bits, pathlib.Path(folder)))
                print(rows[-1], flush=True)
    notes = [
        "Instructions: exact, counted under QEMU, means over 32 hops in the middle of a stream. A hop of "
        "wakeword_250k is 6 frames of 20 ms, one of ds_cnn_stream is 1. Rings: what keeps and gives the frames of the "
        "past; other: the table of layers. A clip: the clip model, which would have to run once a hop instead.",
        compilers_of(BOARDS),
    ]
    common.write("firmware_stream", "Instructions of a hop of a stream on Cortex-M", INSTRUCTIONS, rows, notes)
    notes = [
        "Bytes: five parts of RAM, then four of flash, of examples/firmware/main_stream.c with the kernels that the "
        "model uses. Rest: start-up, the C library with printf and files, the loop. Stack: a bound for inference.",
        compilers_of(BOARDS),
    ]
    common.write("firmware_stream_memory", "Memory of a stream on Cortex-M", MEMORY, rows, notes)


if __name__ == "__main__":
    main()
