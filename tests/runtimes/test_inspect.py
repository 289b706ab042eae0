"""``python -m tflite_export``: the table of layers, and its command line."""

from __future__ import annotations

import pathlib

import export_graphs as eg
import numpy as np
import pytest

from tflite_export import __main__ as command
from tflite_export import inspect as inspect_model
from tflite_export import ir
from tflite_export.flatbuffer import model as flatbuffer_model
from tflite_export.packed import packing
from tflite_export.packed import writer as tflite_writer


def test_counts_by_hand(rng: np.random.Generator) -> None:
    m = eg.Maker(rng)
    x = m.input(20, 6)
    x = m.dense(x, 16, 3, window=ir.Window((5, 1), (2, 1)))  # 8 places
    x = m.depthwise(x, 1, ir.Window((3, 1)))  # 6 places
    x = m.reshape(x, 96)
    x = m.dense(x, 10, 4)
    data = tflite_writer.write(m.graph(x))
    summary = inspect_model.inspect(data)
    assert [layer.op for layer in summary.layers] == ["PackedDense", "Depthwise", "RESHAPE", "PackedDense"]
    assert [layer.macs for layer in summary.layers] == [8 * 16 * 30, 6 * 16 * 3, 0, 960]
    assert [layer.weight_bits for layer in summary.layers] == [3, 8, None, 4]
    assert [layer.shape for layer in summary.layers] == [(8, 16), (6, 16), (96,), (10,)]
    assert summary.macs == 8 * 16 * 30 + 6 * 16 * 3 + 960
    assert summary.weights == 16 * 30 + 16 * 3 + 960
    assert summary.file_bytes == len(data)
    last = summary.layers[-1]
    q = m.tensors[x].quantization
    assert (last.scale, last.zero_point, last.name) == (q.scale, q.zero_point, x)
    packed = packing.packed_size(10, 96, 4)
    assert packed + 4 * 10 <= last.constant_bytes <= packed + 6 * 10  # gain, bias, and sums of two bytes


def test_stock_models_too() -> None:
    s = flatbuffer_model.schema()
    b = flatbuffer_model.ModelBuilder("stock", "by hand")
    q = ir.Quantization(0.5, 0)
    x, y = b.add_activation("x", (8,), q), b.add_activation("y", (3,), q)
    w = b.add_constant("w", np.zeros((3, 8), np.int8), scales=[0.1] * 3)
    b.add_builtin("FULLY_CONNECTED", [x, w], [y], s.FullyConnectedOptionsT())
    (layer,) = inspect_model.inspect(b.finish({"x": x}, {"y": y})).layers
    assert (layer.op, layer.macs, layer.weight_bits, layer.constant_bytes) == ("FULLY_CONNECTED", 24, 8, 24)


def test_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch, rng) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite_writer.write(eg.dense(rng, (64,), 32, 5)))
    assert command.main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    for word in ("PackedDense", "2,048", "zero point", "weights in float32", "packed"):
        assert word in said
    assert command.main(["c", str(path), str(tmp_path / "out"), "--name", "net"]) == 0
    assert "MicroMutableOpResolver<1>" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["net.cc", "net.h"]


def test_command_says_what_is_wrong(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.tflite"
    assert command.main(["inspect", str(path)]) == 1
    assert "No such file" in capsys.readouterr().err
    path.write_bytes(b"something else entirely")
    assert command.main(["inspect", str(path)]) == 1
    assert "no .tflite file" in capsys.readouterr().err
