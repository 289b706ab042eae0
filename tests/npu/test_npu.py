"""Files of stock ops compiled by Vela: memory, cycles, what stays on the CPU, and what is refused before it runs."""

from __future__ import annotations

import pathlib
import re

import export_graphs as eg
import numpy as np
import pytest
import stream_graphs
from stream_graphs import Layer, Spec

import tflite_export
from tflite_export import ir, npu
from tflite_export.flatbuffer import model as flatbuffer_model
from tflite_export.flatbuffer import reader
from tflite_export.npu import vela
from tflite_export.streaming import graph as streaming

ROOT = pathlib.Path(__file__).resolve().parents[2]
STREAM = Spec((Layer("conv", 4, 3), Layer("conv", 3, 2, 2)), "mean", 3, channels=8, seed=1)
CONFIG = """
[System_Config.Board]
core_clock=250e6
axi0_port=Sram
axi1_port=OffChipFlash
Sram_clock_scale=1.0
Sram_burst_length=32
Sram_read_latency=32
Sram_write_latency=32
OffChipFlash_clock_scale=0.125
OffChipFlash_burst_length=128
OffChipFlash_read_latency=64
OffChipFlash_write_latency=0
[Memory_Mode.Split]
const_mem_area=Axi1
arena_mem_area=Axi0
cache_mem_area=Axi0
"""


@pytest.fixture
def installed(require_package) -> None:
    require_package("ethosu", "'tfmot-kws[npu]'")


def stock(graph: ir.Graph) -> bytes:
    return tflite_export.write(graph, "builtin")


def dense(rng: np.random.Generator, bits: int, grid: ir.Grid = "mid-rise") -> bytes:
    return stock(eg.dense(rng, (1, 512), 128, bits, grid))


def stream_file(kind: str, ops: str = "builtin") -> bytes:
    stream = streaming.to_stream(stream_graphs.make(STREAM, stream_graphs.clip_frames(STREAM), whole=True))
    if kind == "external":
        stream = streaming.externalize(stream)
    return tflite_export.write(stream.graph, ops, metadata=stream.schedule.to_metadata())


def parts(data: bytes):
    """(model, main subgraph) as the schema's own classes read them."""
    schema = flatbuffer_model.schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    return model, model.subgraphs[0]


def names(graph, indices) -> list[str]:
    return [graph.tensors[i].name.decode() for i in indices]


@pytest.mark.slow
def test_accelerators_are_those_of_vela(installed) -> None:
    from ethosu.vela.architecture_features import Accelerator

    assert set(npu.ACCELERATORS) == set(Accelerator.member_list())


def test_versions_are_those_that_are_required() -> None:
    assert f'npu = ["{vela.PACKAGE}{vela.VERSIONS}"]' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("accelerator", ["ethos-u55-32", "ethos-u65-512", "ethos-u85-2048"])
def test_a_stream_runs_wholly_on_every_family(installed, accelerator: str, capfd) -> None:
    data = stream_file("external")
    found = npu.compile(data, accelerator)
    assert capfd.readouterr() == ("", "")
    assert (found.accelerator, found.npu_share, found.cpu_ops) == (accelerator, 1.0, ())
    assert found.system_config.lower().startswith(accelerator.rpartition("-")[0].replace("-", "_"))
    assert found.hop == 6 and found.cycles_a_second(0.02) == pytest.approx(found.cycles / 0.12)
    model = reader.parse(data)
    states = [model.tensors[i] for i in model.inputs[1:]]
    assert found.state == sum(np.prod(t.shape) for t in states) > 0
    assert 0 < found.flash < len(found.flatbuffer) and found.sram >= found.state and found.dram == 0
    compiled, graph = parts(found.flatbuffer)
    assert [code.customCode for code in compiled.operatorCodes] == [reader.ETHOS_U.encode()]
    # What a caller goes by is all there: names of the tensors, their scales, and the schedule.
    assert names(graph, graph.inputs) == [model.tensors[i].name for i in model.inputs]
    assert names(graph, graph.outputs) == [model.tensors[i].name for i in model.outputs]
    scales = {t.name.decode(): float(t.quantization.scale[0]) for t in (graph.tensors[i] for i in graph.inputs)}
    assert scales == {t.name: t.scales[0] for t in (model.tensors[i] for i in model.inputs)}
    (buffer,) = [m.buffer for m in compiled.metadata if m.name == b"tfmot_kws_stream"]
    assert bytes(compiled.buffers[buffer].data) == model.metadata["tfmot_kws_stream"]


@pytest.mark.slow
def test_fewer_levels_take_less_flash_and_fewer_cycles(installed, rng) -> None:
    found = {bits: npu.compile(dense(rng, bits, "mid-tread" if bits == 8 else "mid-rise")) for bits in (8, 4, 1)}
    weights = 512 * 128
    assert found[8].flash > weights > found[4].flash > weights / 2 > found[1].flash > weights / 8
    assert found[8].cycles > 1.5 * found[4].cycles > 3 * found[1].cycles
    assert found[4].hop is None and found[4].state == 0
    with pytest.raises(ValueError, match="this model takes whole clips"):
        found[4].cycles_a_second(0.02)
    values = found[4].to_dict()
    assert values["file_bytes"] == len(found[4].flatbuffer) and "flatbuffer" not in values


@pytest.mark.slow
def test_a_grid_without_a_zero_pays_where_layers_are_filled_up(installed, rng) -> None:
    """To 8 outputs and 16 inputs: with zeros, which are then one more level."""

    def bits_a_weight(inputs: int, outputs: int, grid: ir.Grid) -> float:
        return 8 * npu.compile(stock(eg.dense(rng, (1, inputs), outputs, 2, grid))).flash / (outputs * inputs)

    assert bits_a_weight(512, 24, "mid-rise") < 2.3 < 2.6 < bits_a_weight(504, 24, "mid-rise")
    assert bits_a_weight(504, 24, "mid-tread") < 1.9


@pytest.mark.slow
def test_the_same_file_makes_the_same_bytes_and_is_known_everywhere(installed, rng, tmp_path) -> None:
    data = dense(rng, 3)
    (tmp_path / "a name.tflite").write_bytes(data)
    compiled = npu.compile(data)
    assert compiled == npu.compile(tmp_path / "a name.tflite")
    for use in (npu.compile, tflite_export.Interpreter):
        with pytest.raises(ValueError, match="compiled for an Ethos-U .*give the file of stock ops"):
            use(compiled.flatbuffer)


@pytest.mark.slow
def test_what_runs_on_the_npu(installed, rng) -> None:
    """The ops that docs/how-to/npu.md names, in one model."""
    m = eg.Maker(rng)
    x = m.dense(m.input(20, 8), 12, 3, window=ir.Window((5, 1), (2, 1), (1, 1), (2, 1, 0, 0)))
    x = m.depthwise(x, 1, ir.Window((3, 1), padding=(1, 1, 0, 0)))
    x = m.average_pool(m.max_pool(x, ir.Window((2, 1))), ir.Window((2, 1), (2, 1)))
    x = m.multiply(m.add(x, x), x)
    x = m.concatenate(0, m.slice(x, 0, 4, 2), m.pad(m.slice(x, 1, 3, 1), (1, 0), (0, 0)))
    x = m.dense(m.reshape(x, m.tensors[x].size), 5, 1)
    graph = m.graph(m.softmax(x))
    kinds = {reader_op.name for reader_op in reader.parse(stock(graph)).operators}
    assert kinds >= {"ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    assert kinds >= {"MAX_POOL_2D", "MUL", "PAD", "SOFTMAX", "STRIDED_SLICE"}
    for accelerator in ("ethos-u55-64", "ethos-u85-256"):
        assert npu.compile(stock(graph), accelerator).cpu_ops == ()


@pytest.mark.slow
def test_a_function_by_table_stays_on_the_cpu_and_is_named(installed, rng) -> None:
    maker = eg.Maker(rng)
    last = maker.dense(maker.lookup(maker.dense(maker.input(32), 16, 4)), 4, 4)
    data = stock(maker.graph(last))
    assert npu.compile(data, "ethos-u85-128").cpu_ops == ()
    found = npu.compile(data)
    assert [op.op for op in found.cpu_ops] == ["CAST", "GATHER"]
    assert [op.reason for op in found.cpu_ops] == ["Unsupported opType"] * 2 and all(op.output for op in found.cpu_ops)
    assert found.npu_ops == len(reader.parse(data).operators) - 2 == found.npu_share * (found.npu_ops + 2)


@pytest.mark.slow
def test_a_vela_ini_of_ones_own(installed, rng, tmp_path) -> None:
    path = tmp_path / "board.ini"
    path.write_text(CONFIG)
    chosen = {"system_config": "Board", "memory_mode": "Split", "config": path}
    found = npu.compile(dense(rng, 4), **chosen, optimise="size")
    assert (found.clock_hz, found.system_config, found.memory_mode) == (250e6, "Board", "Split")
    path.write_text(CONFIG.replace("250e6", "fast"))
    with pytest.raises(npu.NpuError, match="does not compile this model for ethos-u55-128: .*'fast'"):
        npu.compile(dense(rng, 4), **chosen)


@pytest.mark.slow
def test_floats_run_nowhere_on_an_npu(installed) -> None:
    """Vela leaves them all to the CPU and calls that a success."""
    schema = flatbuffer_model.schema()
    builder = flatbuffer_model.ModelBuilder("float", "test")
    x, y = (builder.add_activation(name, (8,), None) for name in "xy")
    builder.add_builtin("RELU", [x], [y], None)
    assert schema.TensorType.FLOAT32 == 0
    with pytest.raises(npu.NpuError, match="ethos-u55-128 runs nothing of this model, .*: RELU 'y': "):
        npu.compile(builder.finish({"x": x}, {"y": y}))


@pytest.mark.slow
def test_why_a_state_inside_is_refused(installed) -> None:
    """Where a Vela puts CALL_ONCE first, such files may be let through."""
    data = stream_file("internal")
    ops = [name for name, _, _ in npu._ops(vela.run(data, vela.target("ethos-u55-128")).flatbuffer)]
    assert ops.index("CALL_ONCE") > ops.index("READ_VARIABLE")
    with pytest.raises(ValueError, match="keeps a stream's state inside .*CALL_ONCE.*streaming='external'"):
        npu.compile(data)


def test_files_that_are_refused_before_vela_runs(installed, rng, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(vela.subprocess, "run", None)
    data = dense(rng, 4)
    for bad, said in (
        (stream_file("external", "packed"), r"has packed ops \(TfmotKws.*ops='builtin'"),
        (data[: len(data) // 2], "past the end|damaged"),
        (b"hello", "no .tflite file: 5 bytes"),
    ):
        path = tmp_path / "model.tflite"
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=said):
            npu.compile(bad)
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*(?:{said})"):
            npu.compile(path)
    with pytest.raises(FileNotFoundError):
        npu.compile(tmp_path / "none.tflite")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accelerator": "ethos-u55"}, "accelerator 'ethos-u55': must be one of ethos-u55-32, .*, ethos-u85-2048"),
        ({"optimise": "Speed"}, "optimise 'Speed': must be performance or size"),
        ({"memory_mode": "Fast"}, "memory_mode 'Fast': for ethos-u55-128 vela.ini has Sram_Only, Shared_Sram"),
        ({"system_config": "Ethos_U85_SYS_Flash_High"}, "has Ethos_U55_Deep_Embedded, Ethos_U55_High_End_Embedded$"),
        ({"config": "board.ini"}, "board.ini: needs system_config as well, one of Board"),
        ({"config": "board.ini", "system_config": "Board"}, "needs memory_mode as well, one of Split"),
        ({"config": "board.ini", "system_config": "Bord", "memory_mode": "Split"}, "'Bord': .*board.ini has Board"),
        ({"config": "board.txt", "system_config": "Board", "memory_mode": "Split"}, "board.txt: must end in .ini"),
        ({"config": "bad.ini", "system_config": "Board", "memory_mode": "Split"}, "bad.ini: is no vela.ini"),
    ],
)
def test_options_that_are_refused(installed, options, said: str, tmp_path) -> None:
    (tmp_path / "board.ini").write_text(CONFIG)
    (tmp_path / "board.txt").write_text(CONFIG)
    (tmp_path / "bad.ini").write_bytes(b"\xff\xfe no sections")
    options = dict(options)
    if "config" in options:
        options["config"] = tmp_path / options["config"]
    with pytest.raises(ValueError, match=said):
        npu.check(options.pop("accelerator", "ethos-u55-128"), **options)


def test_a_config_that_is_not_there(installed, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.ini"):
        npu.check("ethos-u55-128", config=tmp_path / "none.ini", system_config="A", memory_mode="B")


def test_without_vela(monkeypatch, rng) -> None:
    def version(name: str) -> str:
        raise vela.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(vela.importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=r"needs ethos-u-vela: pip install 'tfmot-kws\[npu\]'"):
        npu.compile(dense(rng, 4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -SEGV $$", "it was ended by SIGSEGV"),
        ("echo 'Traceback'; echo 'x.VelaError: Error: no such thing' >&2; exit 1", "ethos-u55-128: no such thing$"),
        ("exit 3", "it ended with status 3$"),
        ("exit 0", "writes other files than ethos-u-vela>=5.1,<6"),
        (
            'mkdir out; touch out/model_vela.tflite; printf "core_clock\\n1\\n" >out/model_summary_a.csv',
            "writes other files .*on_chip_flash_memory_used",
        ),
    ],
)
def test_a_vela_that_fails(installed, script: str, said: str, tmp_path, monkeypatch, rng) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(vela.sys, "executable", str(program))
    with pytest.raises(npu.NpuError, match=said):
        npu.compile(dense(rng, 4))


def test_reasons_are_read_in_both_forms_of_vela() -> None:
    text = (
        "Tensor 'x' has a dynamic signature in axis 0. Setting shape axis 0 to 1 and proceeding.\n\n"
        "Warning (supported operators) operator: GATHER, ofm: 'a b/c'\nReason: Unsupported opType\n\n"
        "Warning (supported operators) operator:CAST ofm:wide\nReason: Must be INT8\nReason: Must have 2 inputs\n\n"
        "Warning (supported operators) operator: GATHER, ofm: 'a b/c'\nReason: Unsupported opType\n\n"
        "Warning: something else\nReason: none\n\n"
        "Warning (supported operators) operator: PACK, ofm: 'c'\nTensor 'c' has a dynamic signature\nReason: No\n"
        "Warning: Consider accessing the configuration by --config Arm/vela.ini\n"
    )
    reasons = {"a b/c": "Unsupported opType", "wide": "Must be INT8; Must have 2 inputs", "c": "No"}
    assert vela._reasons(text) == reasons
