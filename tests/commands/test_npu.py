"""``tfmot-kws npu``: files, table and report of a clip model and of a stream, and what is refused."""

from __future__ import annotations

import json
import pathlib

import command_line
import esphome_files
import export_graphs as eg
import kept
import numpy as np
import pytest
from quantization_helpers import features as random_features

import tflite_export
from tflite_export import npu
from tflite_export.flatbuffer import reader
from tfmot_kws.commands.parts import quantizing, sidecar

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, require_package) -> pathlib.Path:
    require_package("ethosu", "'tfmot-kws[npu]'")
    return kept.once(tmp_path_factory, "npu-model", esphome_files.write)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_becomes_files_and_a_table(folder, tmp_path, stream: bool) -> None:
    out = tmp_path / "new" / "npu"
    options = ("--accelerator", "ethos-u65-256", *(["--stream"] if stream else []))
    said = command_line.run("npu", folder / "q.keras", "--out", out, *options).output
    name = "q_stream" if stream else "q"
    names = {f"{name}_ethos-u65-256{end}" for end in (".tflite", ".report.json")}
    assert {path.name for path in out.iterdir()} == names | {f"{name}_stock.tflite", f"{name}_stock.tflite.json"}
    stock = (out / f"{name}_stock.tflite").read_bytes()
    found = npu.compile(stock, "ethos-u65-256")
    assert found.flatbuffer == (out / f"{name}_ethos-u65-256.tflite").read_bytes()
    report = json.loads((out / f"{name}_ethos-u65-256.report.json").read_text())
    assert report | json.loads(json.dumps(found.to_dict())) == report
    assert report["frame_seconds"] == 0.01 and report["npu_share"] == 1.0
    assert report["cycles_a_second"] == (found.cycles_a_second(0.01) if stream else None)
    for value in (found.flash, found.sram, found.cycles, len(found.flatbuffer)):
        assert f"{value:,}" in said
    assert ("a second of sound" in said) == ("RAM of the caller" in said) == stream
    about = sidecar.read(out / f"{name}_stock.tflite")
    assert (about.kind, about.task, about.options["streaming"]) == (
        "tflite", esphome_files.TASK, "external" if stream else None,
    )  # fmt: skip
    layers = sum(hasattr(layer, "kernel") for layer in esphome_files.model().layers)
    # The file that was compiled is the model: TFLite gives what the packed file does, within a rounding a layer.
    x = random_features((60, 40), 1)[0]
    packed = tflite_export.convert(esphome_files.model(), streaming="internal" if stream else None)
    if stream:
        ours, theirs = (tflite_export.StreamInterpreter(data, "tflite") for data in (packed, stock))
        rows = [ours.step(x), theirs.step(x)]
    else:
        ours, theirs = (tflite_export.Interpreter(data, "tflite") for data in (packed, stock))
        rows = [interpreter.run(x[None, : esphome_files.FRAMES]) for interpreter in (ours, theirs)]
    assert rows[0].shape == rows[1].shape and len(rows[0])
    assert np.abs(rows[0] - rows[1]).max() <= layers * ours.outputs[0].scale


def test_a_file_of_stock_ops(folder, tmp_path) -> None:
    """Without a sidecar there is no front end, and no second of sound; with one there is."""
    model = esphome_files.model()
    path = tmp_path / "mine.tflite"
    path.write_bytes(tflite_export.convert(model, "builtin", streaming="external"))
    said = command_line.run("npu", path, "--out", tmp_path / "a").output
    assert "3 (no front end is known, so no time)" in said
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "mine_ethos-u55-128.tflite", "mine_ethos-u55-128.report.json",
    }  # fmt: skip
    sidecar.write(path, sidecar.Sidecar("tflite", esphome_files.FRONTEND, esphome_files.TASK))
    assert "cycles a second of sound" in command_line.run("npu", path, "--out", tmp_path / "a").output
    said = command_line.error("npu", path, "--out", tmp_path / "b", "--stream")
    assert f"{path}: is exported already" in said and not (tmp_path / "b").exists()


def test_cpp_for_firmware(folder, tmp_path) -> None:
    """A clip has no schedule and no detector; a stream has both, and takes the detector's settings."""
    command_line.run("npu", folder / "q.keras", "--out", tmp_path / "clip", "--c-array")
    made = {path.name for path in (tmp_path / "clip").iterdir()}
    assert made >= {"kws_npu_model.h", "kws_npu_model.cc", "kws_npu_ops.inc"}
    assert not made & {"kws_npu.h", "kws_spotter.h"}
    options = ("--stream", "--c-array", "--threshold", 0.5, "--smooth", 0.3)
    command_line.run("npu", folder / "q.keras", "--out", tmp_path / "stream", *options)
    texts = {path.name: path.read_text() for path in (tmp_path / "stream").glob("kws_*")}
    assert "kws_external_config kws_npu_stream = {3, " in texts["kws_npu.h"]
    assert "of the mean over 10 steps" in texts["kws_spotter.h"]
    assert texts["kws_npu_ops.inc"].startswith("#ifdef KWS_ETHOS_U\ntflite::MicroMutableOpResolver<1> resolver;")


def test_cpp_that_cannot_be_made(folder, tmp_path) -> None:
    out = tmp_path / "out"
    said = command_line.error("npu", folder / "q.keras", "--out", out, "--threshold", 2)
    assert "--threshold, --smooth, --refractory: " in said and "go with --c-array" in said
    said = command_line.error("npu", folder / "q.keras", "--out", out, "--stream", "--c-array", "--threshold", "loud")
    assert "loud" in said
    path = tmp_path / "mine.tflite"
    path.write_bytes(tflite_export.convert(esphome_files.model(), "builtin", streaming="external"))
    said = command_line.error("npu", path, "--out", out, "--c-array")
    assert f"{path}.json: not found; --c-array of a stream needs it" in said
    assert not out.exists()


def test_ops_on_the_cpu_are_named(folder, tmp_path, rng) -> None:
    maker = eg.Maker(rng)
    last = maker.dense(maker.lookup(maker.dense(maker.input(32), 16, 4)), 4, 4)
    path = tmp_path / "table.tflite"
    path.write_bytes(tflite_export.write(maker.graph(last), "builtin"))
    said = command_line.run("npu", path, "--out", tmp_path / "a").output
    count = len(reader.parse(path.read_bytes()).operators)
    assert f"{count - 2} of {count} (" in said and "2 ops stay on the CPU" in said
    assert "GATHER" in said and "CAST" in said and "Unsupported opType" in said


def test_what_is_refused(folder, tmp_path) -> None:
    model, out = folder / "q.keras", tmp_path / "out"
    packed = tmp_path / "packed.tflite"
    packed.write_bytes(tflite_export.convert(esphome_files.model()))
    for arguments, said in (
        ((packed,), f"{packed}: has packed ops"),
        ((packed,), "'tfmot-kws npu MODEL.keras' does"),
        ((model, "--accelerator", "ethos-u56"), "accelerator 'ethos-u56': must be one of ethos-u55-32"),
        ((model, "--memory-mode", "none"), "memory_mode 'none'"),
        ((model, "--optimise", "fast"), "optimise 'fast': must be performance or size"),
        ((tmp_path / "x.h5",), "x.h5: must end in .keras or .tflite"),
        ((tmp_path / "x.keras",), "x.keras: no such model file"),
        ((tmp_path / "x.tflite",), "x.tflite: No such file"),
    ):
        assert said in command_line.error("npu", *arguments, "--out", out)
        assert not out.exists()
    for kind, options, said in (
        ("float", {}, "is float; an NPU needs a quantized model"),
        ("quantized", {"dynamic": "8"}, "is quantized while it runs (--dynamic), with float tensors"),
    ):
        other = tmp_path / f"{kind}.keras"
        other.write_bytes(model.read_bytes())
        sidecar.write(other, sidecar.Sidecar(kind, esphome_files.FRONTEND, esphome_files.TASK, options))
        assert f"{other}: {said}" in command_line.error("npu", other, "--out", out)
    out.write_text("a file")
    assert f"{out} is no folder" in command_line.error("npu", model, "--out", out)
    assert out.read_text() == "a file"


def test_a_vela_that_fails_leaves_no_file(folder, tmp_path, monkeypatch) -> None:
    def fail(*arguments):
        raise npu.NpuError("no room")

    monkeypatch.setattr(npu.vela, "run", fail)
    said = command_line.error("npu", folder / "q.keras", "--out", tmp_path / "out")
    assert f"{folder / 'q.keras'}: no room" in said and not (tmp_path / "out").exists()


def test_without_vela(folder, tmp_path, monkeypatch) -> None:
    from tfmot_kws import extras

    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name, package=None: None)
    said = command_line.error("npu", folder / "q.keras", "--out", tmp_path / "out")
    assert said == "error: compiling for an Ethos-U needs ethosu: pip install 'tfmot-kws[npu]'"


def test_quantize_for_an_ethos_u() -> None:
    for target, grid, label in (("any", "mid-rise", "6 bits"), ("ethos-u", "mid-tread", "6 bits for ethos-u")):
        made, said = quantizing.choose(6, {"logits": 7}, None, "linear", target=target)
        assert (made.default.grid, made.target, said) == (grid, target, label)
    for options, said in (
        ({"target": "npu"}, "--target npu: must be any or ethos-u"),
        ({"target": "ethos-u", "dynamic": "8"}, "--target ethos-u: goes with --bits, not with --dynamic"),
        ({"target": "ethos-u", "limits": quantizing.Limits(flash="12KB")}, "--target ethos-u: goes with --bits"),
    ):
        with pytest.raises(ValueError, match=said):
            quantizing.choose(None, {}, **{"dynamic": None, "weights": "linear", **options})
