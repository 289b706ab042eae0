"""The C loop that carries a stream's state from run to run, every runtime behind it, and the C++ that is written."""

from __future__ import annotations

import ctypes
import pathlib
import subprocess
from collections.abc import Callable

import export_graphs as eg
import numpy as np
import pytest
import stream_graphs
from export_graphs import feeds
from stream_graphs import Layer, Spec

import tflite_export
from benchmarks import emulation
from tflite_export.c import external
from tflite_export.flatbuffer import reader
from tflite_export.kernels import build_list
from tflite_export.runtimes import interpreter as runtimes
from tflite_export.streaming import graph as streaming

LISTENER = build_list.PACKAGE / "c" / "listener"
TFLM = pathlib.Path(__file__).resolve().parents[1] / "helpers" / "tflm" / "include"
SPECS = {
    "windows": Spec((Layer("conv", 4, 3), Layer("conv", 3, 2, 2)), "mean", 3, channels=5, seed=1),
    "rows": Spec((Layer("conv", 3, 1, 2, True), Layer("depthwise", 4, 2, 1, True)), "rows", seed=2),
    "late": Spec((Layer("skip", 3), Layer("conv", 2)), "rows", seed=3),
}
INPUT = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
RUN = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
GLUE = """
#include "kws_external.h"
#include "kws_npu.h"
const kws_external_config* config(void) { return &kws_npu_stream; }
size_t memory_bytes(void) { return KWS_NPU_MEMORY_BYTES; }
size_t stream_bytes(void) { return sizeof(kws_external); }
int32_t numbers(int32_t i) { return i ? kws_npu_stream.row_bytes : kws_npu_stream.frame_bytes; }
"""


class Network(ctypes.Structure):
    """kws_external_network."""

    _fields_ = [("context", ctypes.c_void_p), ("input", INPUT), ("output", INPUT), ("run", RUN)]


def files(spec: Spec, ops: str) -> bytes:
    graph = stream_graphs.make(spec, stream_graphs.clip_frames(spec), whole=True)
    stream = streaming.externalize(streaming.to_stream(graph))
    return tflite_export.write(stream.graph, ops, metadata=stream.schedule.to_metadata())


def written(data: bytes, folder: pathlib.Path, name: str = external.NAME) -> pathlib.Path:
    external.write_external(data, b"compiled", [reader.ETHOS_U], folder, name)
    return folder


@pytest.fixture
def library(require_tool, tmp_path) -> Callable[[bytes], ctypes.CDLL]:
    """The loop and the constants of a file, as a shared library."""

    def build(data: bytes) -> ctypes.CDLL:
        written(data, tmp_path)
        (tmp_path / "glue.c").write_text(GLUE)
        flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wno-sign-conversion", "-shared", "-fPIC"]
        sources = [str(tmp_path / "glue.c"), str(LISTENER / "kws_external.c")]
        made = tmp_path / "external.so"
        command = [require_tool("gcc"), *flags, f"-I{tmp_path}", f"-I{LISTENER}", *sources, "-o", str(made)]
        subprocess.run(command, check=True)
        loaded = ctypes.CDLL(str(made))
        for name in ("memory_bytes", "stream_bytes", "kws_external_bytes"):
            getattr(loaded, name).restype = ctypes.c_size_t
        loaded.config.restype, loaded.kws_external_begin.restype = ctypes.c_void_p, ctypes.c_bool
        return loaded

    return build


class Loop:
    """The C loop around an interpreter whose inputs and outputs lie in the same bytes."""

    def __init__(self, library: ctypes.CDLL, data: bytes, runtime: str) -> None:
        self.library, self.interpreter = library, runtimes.Interpreter(data, runtime)
        self.fails = False
        sizes = [[int(np.prod(d.shape)) for d in ends] for ends in (self.interpreter.inputs, self.interpreter.outputs)]
        self.shared = np.zeros(max(map(sum, sizes)), np.int8)
        # The first output and the last input at the start, each other behind the one before.
        self.places = [sum(sizes[0]) - np.cumsum(sizes[0]), np.cumsum([0, *sizes[1]])[:-1]]
        self.sizes = sizes
        address = self.shared.ctypes.data
        self.network = Network(
            None,
            INPUT(lambda _, i: address + int(self.places[0][i])),
            INPUT(lambda _, i: address + int(self.places[1][i])),
            RUN(self.run),
        )
        self.memory = np.full(library.memory_bytes(), 77, np.int8)
        self.stream = ctypes.create_string_buffer(library.stream_bytes())
        self.config = ctypes.c_void_p(library.config())
        self.frame_bytes, self.row_bytes = library.numbers(0), library.numbers(1)

    def run(self, _) -> bool:
        if self.fails:
            return False
        ends = zip(self.places[0], self.sizes[0], self.interpreter.inputs)
        inputs = [self.shared[p : p + n].reshape(1, *d.shape).copy() for p, n, d in ends]
        self.shared[:] = -99
        for place, value in zip(self.places[1], self.interpreter.invoke(inputs)):
            self.shared[place : place + value.size] = np.asarray(value).ravel()
        return True

    def begin(self, bytes_less: int = 0) -> bool:
        size = ctypes.c_size_t(len(self.memory) - bytes_less)
        return self.library.kws_external_begin(self.stream, self.config, ctypes.c_void_p(self.memory.ctypes.data), size)

    def frame(self, frame: np.ndarray) -> np.ndarray | None:
        """int8 [rows, bytes of a row]; None where the network does not run."""
        rows = ctypes.POINTER(ctypes.c_int8)()
        frame = np.ascontiguousarray(frame)
        count = self.library.kws_external_frame(
            self.stream, ctypes.byref(self.network), ctypes.c_void_p(frame.ctypes.data), ctypes.byref(rows)
        )
        if count < 0:
            return None
        return np.array(rows[: count * self.row_bytes], np.int8).reshape(count, self.row_bytes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ops", "runtime"), [("packed", "reference"), ("builtin", "tflite"), ("builtin", "tflm"), ("builtin", "litert")]
)
@pytest.mark.parametrize("name", SPECS)
def test_rows_are_those_of_the_stream_interpreter(name, ops, runtime, library, require_module) -> None:
    for module in {"litert": ["ai_edge_litert"], "tflm": ["tflite_micro"]}.get(runtime, []):
        require_module(module)
    data = files(SPECS[name], ops)
    loop, stream = Loop(library(data), data, runtime), tflite_export.StreamInterpreter(data, runtime)
    assert loop.library.kws_external_bytes(loop.config) == len(loop.memory)
    assert not loop.begin(bytes_less=1)
    spec = SPECS[name]
    long = stream_graphs.make(spec, max(60, stream_graphs.clip_frames(spec)), whole=False)
    x = feeds(np.random.default_rng(4), long, 1)["x"][0]
    assert loop.frame_bytes == x[0].size
    for _ in range(2):  # and once more from the start
        assert loop.begin()
        found = np.concatenate([loop.frame(frame) for frame in x])
        wanted = stream.step(x)
        assert len(wanted) > 3 and len(np.unique(wanted)) > 3
        np.testing.assert_array_equal(found, wanted.reshape(len(wanted), -1))
        stream.reset()
    loop.fails = True
    assert None in [loop.frame(frame) for frame in x[: stream.hop]]


@pytest.mark.parametrize("compiler", ["g++", "arm-none-eabi-g++"])
def test_the_files_compile_with_and_without_an_npu(compiler: str, require_tool, tmp_path) -> None:
    data = files(SPECS["windows"], "builtin")
    external.write_external(data, bytes(range(256)), [reader.ETHOS_U, "GATHER"], tmp_path)
    (tmp_path / "main.cc").write_text(
        '#include "kws_npu.h"\n#include "kws_npu_model.h"\nstatic_assert(KWS_NPU_MEMORY_BYTES > 0, "");\n'
        "int main() { return kws_npu_stream.hop + kws_npu_model[0]; }\n"
    )
    core = ["-mthumb", "-mcpu=cortex-m55", "-mfloat-abi=hard"] if compiler.startswith("arm") else []
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", f"-I{LISTENER}", f"-I{TFLM}"]
    for more, held in (([], data), ([f"-D{external.MACRO}"], bytes(range(256)))):
        for source in ("main.cc", "kws_npu_model.cc"):
            made = tmp_path / f"{source}.o"
            command = [require_tool(compiler), *core, *flags, *more, "-c", str(tmp_path / source), "-o", str(made)]
            subprocess.run(command, check=True)
        assert held in (tmp_path / "kws_npu_model.cc.o").read_bytes()
    lines = (tmp_path / "kws_npu_ops.inc").read_text().splitlines()
    assert lines[:4] == [
        "#ifdef KWS_ETHOS_U",
        "tflite::MicroMutableOpResolver<2> resolver;",
        "resolver.AddGather();",
        "resolver.AddEthosU();",
    ]
    assert "resolver.AddConv2D();" in lines[lines.index("#else") :]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-DKWS_ETHOS_U", "-DKWS_ETHOS_U_BASE=0x48102000", "-DKWS_ETHOS_U_HANDLER=Npu")])
def test_the_program_compiles_for_a_cortex_m55(flags, require_tool, tmp_path) -> None:
    """Without the package of Vela; tests/shims/test_npu_firmware.py links and runs it."""
    written(files(SPECS["windows"], "builtin"), tmp_path)
    (tmp_path / "kws_npu_ops.inc").write_text("tflite::MicroMutableOpResolver<1> resolver;\nresolver.AddEthosU();\n")
    example = emulation.ROOT / "examples" / "firmware"
    include = [f"-I{path}" for path in (tmp_path, LISTENER, TFLM, example)]
    core = ["-mthumb", "-mcpu=cortex-m55", "-mfloat-abi=hard", "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    source = str(example / "main_npu.cc")
    subprocess.run([require_tool("arm-none-eabi-g++"), *core, *flags, *include, "-fsyntax-only", source], check=True)
    if flags:
        done = subprocess.run(
            [require_tool("arm-none-eabi-g++"), *core, flags[0], *include, "-fsyntax-only", source],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode and "define KWS_ETHOS_U_BASE" in done.stderr


def test_a_clip_has_no_schedule(tmp_path, rng) -> None:
    data = tflite_export.write(eg.dense(rng, (1, 8), 4, 4), "builtin")
    names = {path.name for path in external.write_external(data, b"x", [reader.ETHOS_U], tmp_path, "clip")}
    assert names == {"clip_model.h", "clip_model.cc", "clip_ops.inc"}


def test_what_is_refused(tmp_path, rng) -> None:
    good = files(SPECS["windows"], "builtin")
    stream = streaming.to_stream(stream_graphs.make(SPECS["rows"], stream_graphs.clip_frames(SPECS["rows"]), True))
    inside = tflite_export.write(stream.graph, "packed", metadata=stream.schedule.to_metadata())
    for arguments, said in (
        ((good, b"x", ["ethos-u"], tmp_path / "out", "no-name"), "name must be a C identifier, found 'no-name'"),
        ((b"nothing", b"x", ["ethos-u"], tmp_path / "out"), "no .tflite file"),
        ((good, b"x", ["ethos-u", "SPACE_TO_DEPTH"], tmp_path / "out"), "no TFLM method is known for SPACE_TO_DEPTH"),
        ((inside, b"x", ["ethos-u"], tmp_path / "out"), "keeps its state inside"),
    ):
        with pytest.raises(ValueError, match=said):
            external.write_external(*arguments)
        assert not (tmp_path / "out").exists()
