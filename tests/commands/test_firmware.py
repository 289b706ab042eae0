"""``tfmot-kws firmware``: what it refuses, and what it says to do instead."""

from __future__ import annotations

import pathlib

import command_line
import dynamic_graphs
import esphome_files
import kept
import numpy as np
import pytest

from tflite_export import __main__ as tflite_export_main
from tflite_export.flatbuffer import reader
from tflite_export.packed import writer
from tflite_export.streaming import graph as streaming
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.data import task
from tfmot_kws.frontend import features


def _write(folder: pathlib.Path) -> pathlib.Path:
    """A file for ESPHome, and one of stock ops for clips."""
    path = esphome_files.write(folder)
    command_line.run("export", "--model", path, "--for", "esphome", "--keyword", "low", "--out", folder / "low.tflite")
    command_line.run("export", "--model", path, "--ops", "builtin", "--out", folder / "stock.tflite")
    command_line.run("export", "--model", path, "--out", folder / "clip.tflite")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return kept.once(tmp_path_factory, "firmware-refused", _write)


@pytest.mark.parametrize("options", [(), ("--package", "cmake")])
def test_a_file_for_esphome_is_no_firmware_of_ours(folder, tmp_path, options) -> None:
    said = command_line.error("firmware", "--model", folder / "low.tflite", "--out", tmp_path / "c", *options)
    assert f"{folder / 'low.tflite'}: a stream of stock ops with its state inside" in said
    assert "'tfmot-kws export --streaming internal' writes, without --for" in said and "features/" not in said
    assert not list(tmp_path.iterdir())


def test_a_file_of_stock_ops_is_named(folder, tmp_path) -> None:
    said = command_line.error("firmware", "--model", folder / "stock.tflite", "--out", tmp_path / "c")
    assert f"{folder / 'stock.tflite'}: " in said and "export --streaming internal" in said
    assert not list(tmp_path.iterdir())
    assert "'python -m tflite_export c' writes the file as an array for TensorFlow Lite Micro" in said
    assert tflite_export_main.main(["c", str(folder / "stock.tflite"), str(tmp_path)]) == 0


@pytest.mark.parametrize("options", [(), ("--package", "cmake"), ("--name", "nova")])
def test_a_model_with_float_features_is_told_how_it_becomes_c(options, tmp_path) -> None:
    """A stream of dynamic quantization; what the message says to run does run."""
    graph = dynamic_graphs.spotter(np.random.default_rng(0), 4, 4, frames=34, mean=False)
    stream = streaming.to_stream(graph)
    path = tmp_path / "s.tflite"
    path.write_bytes(writer.write(stream.graph, metadata=stream.schedule.to_metadata()))
    front_end = features.FrontendConfig(mel_bins=20)
    sidecar.write(path, sidecar.Sidecar("tflite", front_end, task.TaskConfig(("low",), silence=False)))
    out = tmp_path / "c"
    said = command_line.error("firmware", "--model", path, "--out", out, "--threshold", 1, *options)
    for command in ("inference", "config"):
        assert f"python -m tflite_export {command} {path} {out}" in said
    assert "takes float features (dynamic quantization)" in said and not out.exists()
    for command in ("inference", "config"):
        assert tflite_export_main.main([command, str(path), str(out)]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["kws_config.h", "kws_inference.c", "kws_inference.h"]


def test_a_clip_model_is_told_to_be_exported_as_a_stream(folder, tmp_path) -> None:
    said = command_line.error("firmware", "--model", folder / "clip.tflite", "--out", tmp_path / "c")
    assert "tfmot-kws export --streaming internal" in said and not list(tmp_path.iterdir())


def test_the_reference_runtime_says_the_same(folder) -> None:
    said = command_line.error("listen", "--model", folder / "low.tflite", "--wav", "-", "--runtime", "reference")
    assert "a stream of stock ops with its state inside" in said
    assert reader.parse((folder / "low.tflite").read_bytes()).resources
