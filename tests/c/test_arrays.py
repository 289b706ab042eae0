"""C++ arrays that compile and hold the file, and the ops that a firmware registers."""

from __future__ import annotations

import pathlib
import subprocess

import export_graphs as eg
import numpy as np
import pytest

from tflite_export.c import arrays as c_writer
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.packed import writer as tflite_writer

MAIN = """
#include <cstdint>
#include <cstdio>
#include "kws_model.h"
int main() {
  if (reinterpret_cast<std::uintptr_t>(kws_model) % 16) return 2;
  return std::fwrite(kws_model, 1, kws_model_len, stdout) != kws_model_len;
}
"""


@pytest.fixture
def flatbuffer(rng: np.random.Generator) -> bytes:
    return tflite_writer.write(eg.every_op(rng))


def test_compiles_and_holds_the_file(flatbuffer: bytes, tmp_path: pathlib.Path, require_tool) -> None:
    compiler = require_tool("g++")
    header, source = c_writer.write_c(flatbuffer, tmp_path / "new", "kws_model")
    assert (header.name, source.name) == ("kws_model.h", "kws_model.cc")
    main = tmp_path / "main.cc"
    main.write_text(MAIN)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{header.parent}"]
    subprocess.run([compiler, *flags, str(main), str(source), "-o", str(tmp_path / "a")], check=True)
    assert subprocess.run([str(tmp_path / "a")], capture_output=True, check=True).stdout == flatbuffer


@pytest.mark.parametrize(("prefix", "flags"), [("", ()), ("arm-none-eabi-", ("-mcpu=cortex-m4", "-mthumb"))])
def test_array_is_read_only_and_aligned(
    prefix: str, flags: tuple[str, ...], flatbuffer: bytes, tmp_path: pathlib.Path, require_tool
) -> None:
    """For the host and for a Cortex-M: the model lies in flash."""
    compiler = require_tool(f"{prefix}g++")
    _, source = c_writer.write_c(flatbuffer, tmp_path)
    made = tmp_path / "model.o"
    subprocess.run([compiler, *flags, "-std=c++17", "-c", str(source), "-o", str(made)], check=True)
    said = subprocess.run([f"{prefix}objdump", "-h", str(made)], capture_output=True, text=True, check=True).stdout
    sections = {row[1]: row for row in map(str.split, said.splitlines()) if len(row) == 7}
    assert int(sections[".rodata"][2], 16) >= len(flatbuffer) and sections[".rodata"][-1] == "2**4"
    assert int(sections[".data"][2], 16) == int(sections[".bss"][2], 16) == 0


def test_replaces_a_file_whole(flatbuffer: bytes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, source = c_writer.write_c(flatbuffer, tmp_path)
    before = source.read_text()

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(c_writer.os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        c_writer.write_c(flatbuffer, tmp_path)
    assert source.read_text() == before
    assert sorted(tmp_path.iterdir()) == sorted([header, source])


def test_resolver_lines(flatbuffer: bytes) -> None:
    lines = c_writer.op_resolver_lines(flatbuffer)
    ops = {op.name for op in flatbuffer_reader.parse(flatbuffer).operators}
    assert lines[0] == f"tflite::MicroMutableOpResolver<{len(ops)}> resolver;"
    assert len(lines) == len(ops) + 1
    assert 'resolver.AddCustom("TfmotKwsPackedDense", tfmot_kws::Register_TfmotKwsPackedDense());' in lines
    assert "resolver.AddStridedSlice();" in lines


def test_refuses(flatbuffer: bytes, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="C identifier, found 'a-b'"):
        c_writer.write_c(flatbuffer, tmp_path, "a-b")
    with pytest.raises(flatbuffer_reader.FormatError, match=r"no \.tflite file"):
        c_writer.write_c(b"no model", tmp_path)
    assert not list(tmp_path.iterdir())
