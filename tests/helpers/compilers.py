"""Compilers, what they are told, and programs by which they show that they compute the reference's bits.

tests/kernels/test_compilers.py takes a few of each, scripts/compilers.py all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib

import dynamic_cases
import dynamic_graphs as dg
import export_graphs as eg
import kernel_cases
import numpy as np

from benchmarks import emulation
from tflite_export import ir
from tflite_export.c import inference as inference_writer
from tflite_export.kernels import build_list
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import run as reference
from tflite_export.streaming import graph as streaming
from tfmot_kws.commands import firmware
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features

HELPERS = pathlib.Path(__file__).resolve().parent
RUN_INFERENCE = HELPERS / "arm" / "run_inference.c"
STRICT = (
    *("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wsign-conversion", "-Wshadow"),
    *(
        "-Wstrict-prototypes",
        "-Wmissing-prototypes",
        "-Wold-style-definition",
        "-Wundef",
        "-Wcast-align",
        "-Wcast-qual",
    ),
    *("-Wpointer-arith", "-Wwrite-strings", "-Wfloat-conversion", "-Wvla", "-Wformat=2", "-Wredundant-decls"),
)
"""What the kernels, the listener and generated C are compiled with, without a warning."""
STRICT_CPP = ("-pedantic", "-Wall", "-Wextra", "-Werror", "-fno-rtti", "-fno-exceptions", "-DTF_LITE_STATIC_MEMORY")
"""What shims and headers are compiled with in C++, as firmware does."""
FLAGS = {
    **{level: (f"-{level}",) for level in ("O0", "O1", "O2", "O3", "Os")},
    "c11": ("-O2", "-std=c11"),
    "c17": ("-O2", "-std=c17"),
    "c2x": ("-O2", "-std=c2x"),
    "gnu99": ("-O2", "-std=gnu99"),
    "unsigned char": ("-O2", "-funsigned-char"),
    "short enums": ("-O2", "-fshort-enums"),
    "frame pointer": ("-O2", "-fno-omit-frame-pointer"),
    "sections": ("-Os", "-ffunction-sections", "-fdata-sections", "-fno-common"),
    "pic": ("-O2", "-fPIC"),
}
"""Name -> what a compiler is told beside `STRICT`."""

_NEWLIB = ("-isystem", "/usr/include/newlib")
_CLANG_TARGETS = {
    "cortex-m0plus": ("--target=arm-arm-none-eabi", "-mthumb", "-mcpu=cortex-m0plus", *_NEWLIB),
    "cortex-m4": (
        *("--target=arm-arm-none-eabi", "-mthumb", "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
        *_NEWLIB,
    ),
    "cortex-m55": ("--target=arm-arm-none-eabi", "-mthumb", "-mcpu=cortex-m55", "-mfloat-abi=hard", *_NEWLIB),
    "armv8-i8mm": ("--target=aarch64-linux-gnu", "-march=armv8-a"),
    "cortex-a7": ("--target=arm-linux-gnueabihf", "-march=armv7-a", "-mfpu=neon-vfpv4", "-mfloat-abi=hard"),
}
"""What clang is told to make code for a core, as armclang is told; GCC's linker and libraries make programs of it."""
MODELS = {"integers": (), "floats": ("-DINPUT_BYTES=4", "-DOUTPUT_BYTES=4")}
"""Name of a generated model -> flags of run_inference.c."""
BIG_ENDIAN = {
    core.name: core
    for core in (
        emulation.Core("s390x", ("s390x-linux-gnu-gcc",), ("qemu-s390x",)),
        emulation.Core("mips", ("mips-linux-gnu-gcc",), ("qemu-mips",)),
        emulation.Core("powerpc64", ("powerpc64-linux-gnu-gcc",), ("qemu-ppc64",)),
    )
}
"""Machines whose numbers begin with the high byte: of 64 bits, of 32 and of 64. QEMU's mips takes no word at an odd
address."""


@dataclasses.dataclass(frozen=True)
class Build:
    """A compiler and the core that it makes code for."""

    compiler: tuple[str, ...]
    core: emulation.Core

    @property
    def name(self) -> str:
        return f"{self.compiler[0]} {self.core.name}"

    @property
    def strict(self) -> tuple[str, ...]:
        """`STRICT`, and what finds a double where a float was meant; on s390x GCC says so of every float."""
        return STRICT if self.core.name == "s390x" else (*STRICT, "-Wdouble-promotion")

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.compiler[0], *self.core.tools)))


def host(compiler: str) -> Build:
    """A compiler for this machine."""
    return Build((compiler,), emulation.Core(f"host-{compiler}", (compiler,)))


def by_clang(clang: str, core: str) -> Build:
    """Clang for a core that QEMU emulates."""
    return Build((clang, *_CLANG_TARGETS[core]), emulation.CORES[core])


def by_gcc(core: str) -> Build:
    """The GCC of a core, of any byte order."""
    found = BIG_ENDIAN.get(core) or emulation.CORES[core]
    return Build(found.compiler, found)


def every_build() -> list[Build]:
    """All that scripts/compilers.py tries; not all of them are there on a machine."""
    gccs, clangs = [f"gcc-{n}" for n in range(10, 16)], [f"clang-{n}" for n in range(13, 24)]
    cores = [name for name in emulation.CORES if name not in ("host", "x86-64", "cortex-a76", "cortex-m33")]
    return [
        *(host(compiler) for compiler in (*gccs, *clangs)),
        *(by_gcc(core) for core in (*cores, *BIG_ENDIAN)),
        *(by_clang(clang, core) for core in _CLANG_TARGETS for clang in clangs),
    ]


def write_cases(folder: pathlib.Path) -> int:
    """A few cases of every kernel in cases.bin; how many there are."""
    rng = np.random.default_rng(0)
    makers = (kernel_cases.depthwise_cases, kernel_cases.recurrent_cases, kernel_cases.waveform_cases)
    chosen = [*kernel_cases.cases(rng, 1)]
    for graph, values in dynamic_cases.all_cases(rng, 1):
        chosen.append((graph, {name: _quiet(x) for name, x in values.items()}))
    chosen += [case for make in makers for case in make(rng)[::3]]
    return kernel_cases.write_cases(folder / "cases.bin", rng, chosen)


def _quiet(x: np.ndarray) -> np.ndarray:
    """Without signalling NaNs, which some compilers let pass an activation: see docs/kernels.md."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return np.where(np.isnan(x), bits | np.uint32(1 << 22), bits).view(np.float32)


def write_models(folder: pathlib.Path) -> None:
    """Models as C, each in a folder of its name with what it must give: all ops of either kind of quantization."""
    rng = np.random.default_rng(0)
    graphs = {"integers": eg.every_op(rng), "floats": dg.between(rng)}
    for name, graph in graphs.items():
        inner = folder / name
        inference_writer.write_inference(tflite_writer.write(graph), inner)
        feeds = eg.feeds(rng, graph, 5) if name == "integers" else dg.feed(rng, graph, 5)
        rows = [feeds[one][i].tobytes() for i in range(5) for one in graph.inputs]
        (inner / "inputs.bin").write_bytes(b"".join(rows))
        expected = reference.run(graph, feeds)
        rows = [np.concatenate([expected[one][i].ravel() for one in graph.outputs]).tobytes() for i in range(5)]
        (inner / "expected.bin").write_bytes(b"".join(rows))


def write_listener(folder: pathlib.Path) -> None:
    """What 'tfmot-kws firmware' writes of a small spotter."""
    task = TaskConfig(("low", "high"))
    m = eg.Maker(np.random.default_rng(0))
    x = m.dense(m.input(17, 40), 8, 4, window=ir.Window((8, 1)))
    x = m.dense(x, len(task.classes), 4, window=ir.Window((10, 1)))
    stream = streaming.to_stream(m.graph(x))
    path = folder / "stream.tflite"
    path.write_bytes(tflite_writer.write(stream.graph, metadata=stream.schedule.to_metadata()))
    sidecar.write(path, sidecar.Sidecar("tflite", features.FrontendConfig(), task))
    with contextlib.redirect_stdout(None):  # names of files
        firmware.run(path, folder, 0.5, None, None)


def prepare(folder: pathlib.Path) -> None:
    """Makes what programs read and are made of, for `compile_kernels`, `compile_rest` and `run`."""
    (folder / "listener").mkdir()
    write_cases(folder)
    write_models(folder)
    write_listener(folder / "listener")


def _include(*folders: pathlib.Path) -> tuple[str, ...]:
    return tuple(f"-I{folder}" for folder in folders)


def compile_kernels(build: Build, flags: tuple[str, ...], folder: pathlib.Path) -> list[pathlib.Path]:
    """Objects of all kernels; raises EmulationError, with what the compiler said, where it warns."""
    return emulation.compile_kernels(build.core, folder, (*build.strict, *flags), compiler=build.compiler)


def compile_rest(build: Build, flags: tuple[str, ...], made: pathlib.Path, folder: pathlib.Path) -> None:
    """The detector, the listener, the external stream and a generated model; raises as `compile_kernels`."""
    generated = made / "listener"
    names = [
        *build_list.STREAM_SOURCES,
        *(name for name in (*build_list.LISTENER, *build_list.EXTERNAL) if name[-1] == "c"),
    ]
    emulation.compile_kernels(
        build.core,
        folder,
        (*build.strict, *flags, *_include(generated)),
        compiler=build.compiler,
        names=[*names, str(generated / "kws_inference.c")],
    )


def run_cases(
    build: Build, flags: tuple[str, ...], objects: list[pathlib.Path], made: pathlib.Path, folder: pathlib.Path
) -> dict[str, int]:
    """Cases that each kernel ran; raises EmulationError where one of them is not the reference's."""
    (folder / "cases.bin").symlink_to(made / "cases.bin")
    program = _program(build, flags, [kernel_cases.RUNNER], objects, folder)
    said = emulation.run(build.core, program).splitlines()
    if not said[-1].startswith("done "):
        raise emulation.EmulationError(f"{program.name} stopped: {said[-1]}")
    return {name: int(count) for name, count, _ in map(str.split, said[:-1])}


def run_models(
    build: Build, flags: tuple[str, ...], objects: list[pathlib.Path], made: pathlib.Path, folder: pathlib.Path
) -> None:
    """Runs generated models; raises EmulationError where an output byte is not the reference's."""
    for name, widths in MODELS.items():
        inner = folder / name
        inner.mkdir()
        (inner / "inputs.bin").symlink_to(made / name / "inputs.bin")
        sources = [RUN_INFERENCE, made / name / "kws_inference.c"]
        emulation.run(build.core, _program(build, (*flags, *widths, *_include(made / name)), sources, objects, inner))
        if (inner / "outputs.bin").read_bytes() != (made / name / "expected.bin").read_bytes():
            raise emulation.EmulationError(f"the model {name} gives other outputs than the reference")


def _program(
    build: Build, flags: tuple[str, ...], sources: list[pathlib.Path], objects: list[pathlib.Path], folder: pathlib.Path
) -> pathlib.Path:
    return emulation.build(
        build.core,
        sources,
        folder,
        flags,
        compiler=build.compiler,
        link_flags=tuple(flag for flag in flags if flag.startswith("-flto")),
        kernel_objects=objects,
    )
