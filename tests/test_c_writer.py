"""C++ arrays that compile and hold the file, and the ops that a firmware registers."""

from __future__ import annotations

import pathlib
import subprocess

import export_graphs as eg
import numpy as np
import pytest

from tflite_export import c_writer, flatbuffer_reader, tflite_writer

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


def test_array_lies_in_flash(flatbuffer: bytes, tmp_path: pathlib.Path, require_tool) -> None:
    """On a Cortex-M the array is read-only data, 16-byte aligned, under a C++ name of its own."""
    compiler = require_tool("arm-none-eabi-g++")
    _, source = c_writer.write_c(flatbuffer, tmp_path)
    made = tmp_path / "model.o"
    subprocess.run(
        [compiler, "-mcpu=cortex-m4", "-mthumb", "-std=c++17", "-c", str(source), "-o", str(made)], check=True
    )
    said = subprocess.run(
        [require_tool("arm-none-eabi-objdump"), "-h", str(made)], capture_output=True, text=True, check=True
    ).stdout
    (rodata,) = [line.split() for line in said.splitlines() if " .rodata" in line]
    assert int(rodata[2], 16) >= len(flatbuffer) and rodata[-1] == "2**4"
    assert all(int(line.split()[2], 16) == 0 for line in said.splitlines() if " .data " in line or " .bss " in line)


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
