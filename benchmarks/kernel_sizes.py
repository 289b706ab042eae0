# SPDX-License-Identifier: Apache-2.0
"""Bytes of kernels that a linker keeps, by build and by part: ``python -m benchmarks.kernel_sizes``.

A program that runs a streaming spotter and does nothing else is linked with --gc-sections; the linker's map says what
is left. Weights are not trained: they change no code.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections import defaultdict

import numpy as np

import tflite_export
from benchmarks import common, emulation
from tflite_export.c import inference as inference_writer
from tflite_export.c import uses
from tflite_export.kernels import build_list
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

CORES = {"cortex-m4": "cortex-m4", "cortex-m55": "any", "cortex-m0plus": "any", "cortex-a53": "any"}
"""Cores, and what the weights are packed for."""
BITS = 4
MODELS = {"250K spotter": models.wakeword_250k, "DS-CNN": models.ds_cnn_stream}
LEVELS = ("-Os", "-O2")
COLUMNS = (
    ("core", "core", ""), ("build", "kernels for", ""), ("options", "options", ",d"), ("prepare", "checks", ",d"),
    ("dense", "dense", ",d"), ("other", "other", ",d"), ("small", "all, -Os", ",d"), ("fast", "all, -O2", ",d"),
)  # fmt: skip
MAIN = """
#include "kws_inference.h"
static uint8_t arena[KWS_INFERENCE_ARENA_BYTES] __attribute__((aligned(16)));
int main(void) { return kws_inference_run(arena); }
void _start(void) {
  main();
  for (;;) {
  }
}
"""


def parts_of(link_map: str) -> dict[str, int]:
    """Bytes of what a linker kept of the kernels, by part, from its map."""
    part = {name: "dense" if "/dense/" in name else "other" for name in build_list.KERNEL_SOURCES}
    part |= {"kernels/core/options.c": "options", "kernels/core/prepare.c": "prepare"}
    stems = {pathlib.Path(name).stem: where for name, where in part.items()}
    sizes: dict[str, int] = defaultdict(int, dict.fromkeys(part.values(), 0))
    for stem, size in emulation.linked_bytes(link_map).items():
        if stem in stems:
            sizes[stems[stem]] += size
    return dict(sizes)


def link(core: emulation.Core, folder: pathlib.Path, *flags: str) -> dict[str, int]:
    """Builds the model in ``folder`` with all kernels; bytes of these by part."""
    (folder / "main.c").write_text(MAIN)
    flags = (*flags, "-ffunction-sections", "-fdata-sections", f"-I{folder}")
    kernels = emulation.compile_kernels(core, folder, flags)
    sources = [folder / "main.c", folder / "kws_inference.c"]
    return parts_of(emulation.link_map(core, sources, folder, flags, kernels))


def write_model(name: str, target: str, folder: pathlib.Path) -> None:
    """The model as C, and the list of what it uses."""
    keras.utils.set_random_seed(0)
    model = MODELS[name](2)
    quantized = apply.quantize_apply(model, scheme.kws_scheme(bits=BITS))
    x = np.random.default_rng(0).uniform(0, 26, (64, *model.input_shape[1:])).astype(np.float32)
    train.calibrate(quantized, x)
    texts, used = inference_writer.inference_texts(
        tflite_export.convert(quantized, target=target, streaming="internal")
    )
    folder.mkdir(parents=True)
    for file, text in texts.items():
        (folder / file).write_text(text)
    uses.write_config(used, [name], folder)


def builds(folders: dict[str, pathlib.Path]) -> dict[str, tuple[pathlib.Path, tuple[str, ...]]]:
    """Of each build: the model's folder and flags."""
    first, width = next(iter(folders.values())), f"-DKWS_WIDTHS=(1<<{BITS})"
    named = {
        "any model": (first, ()),
        "one width": (first, (width,)),
        "one width, no dynamic mode": (first, (width, "-DKWS_DYNAMIC=0")),
    }
    for name, folder in folders.items():
        listed = ("-include", str(folder / uses.CONFIG))
        named[f"the {name}"] = (folder, listed)
        named[f"the {name}, with messages"] = (folder, (*listed, "-DKWS_MESSAGES=1"))
    return named


def measure(core_name: str, folder: pathlib.Path) -> list[dict]:
    """Rows of a core."""
    core = emulation.CORES[core_name]
    folders = {name: folder / str(number) for number, name in enumerate(MODELS)}
    for name, place in folders.items():
        write_model(name, CORES[core_name], place)
    rows = []
    for name, (place, flags) in builds(folders).items():
        small, fast = (link(core, place, level, *flags) for level in LEVELS)
        rows.append(
            {"core": core_name, "build": name, **small, "small": sum(small.values()), "fast": sum(fast.values())}
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """The command."""
    emulation.require_tools({emulation.CORES[name].compiler[0] for name in CORES})
    rows = []
    for name in CORES:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, pathlib.Path(folder))
    compilers = {emulation.version(emulation.CORES[name].compiler[0]) for name in CORES}
    notes = [
        "Code and constants of tflite_export/kernels in a program that runs a streaming spotter of "
        f"{BITS}-bit weights, as the linker keeps them (--gc-sections), without the model, the detector and the C "
        "library. Parts are those of -Os: reading the options of ops, checks of tensors, dense layers, and all else. "
        "Packed for cortex-m4 on the Cortex-M4, for any chip elsewhere.",
        f"Compiled by {'; '.join(sorted(compilers))}.",
    ]
    common.write("kernel_sizes", "Kernels in flash, by what they are built for", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
