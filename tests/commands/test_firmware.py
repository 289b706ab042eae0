"""``tfmot-kws firmware``: what it refuses, and what it says to do instead."""

from __future__ import annotations

import pathlib

import command_line
import esphome_files
import kept
import pytest

from tflite_export.flatbuffer import reader


def _write(folder: pathlib.Path) -> pathlib.Path:
    """A file for ESPHome, and one of stock ops for clips."""
    path = esphome_files.write(folder)
    command_line.run("export", "--model", path, "--for", "esphome", "--keyword", "low", "--out", folder / "low.tflite")
    command_line.run("export", "--model", path, "--ops", "builtin", "--out", folder / "stock.tflite")
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


def test_the_reference_runtime_says_the_same(folder) -> None:
    said = command_line.error("listen", "--model", folder / "low.tflite", "--wav", "-", "--runtime", "reference")
    assert "a stream of stock ops with its state inside" in said
    assert reader.parse((folder / "low.tflite").read_bytes()).resources
