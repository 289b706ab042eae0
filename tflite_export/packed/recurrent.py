"""Recurrent layers in a .tflite file: one constant of both kernels and their channel parameters, and options.

``kernels/ops/recurrent.c`` is the twin that reads it; ``kernels/include/packed_kernels.h`` says what lies where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tflite_export import ir
from tflite_export.flatbuffer.reader import FormatError, Operator, Tensor
from tflite_export.ir.recurrent import output_one
from tflite_export.packed import op_options, packing
from tflite_export.packed.op_options import GRIDS, Kind, Options, Recurrence

_UINT8 = 3


def parts(cell: str, units: int) -> tuple[slice, ...]:
    """Rows of the recurrent kernel that are packed together: a GRU that resets first multiplies them apart."""
    return (slice(0, 2 * units), slice(2 * units, 3 * units)) if cell == "gru" else (slice(None),)


def write(op: ir.Recurrent, zero_point: int, y: ir.Tensor, layout: packing.Layout) -> tuple[np.ndarray, Options]:
    """The constant of a layer as uint8 [bytes], and its options.

    Args:
      op: the layer.
      zero_point: of its input.
      y: its output.
      layout: how weights lie.
    """
    pieces = [(op.kernel, op.kernel_requantization)]
    for rows in parts(op.cell, op.units):
        pieces.append((dataclasses.replace(op.recurrent, codes=op.recurrent.codes[rows]), _rows(op, rows)))
    everything = (op.kernel_requantization, op.recurrent_requantization)
    gain_bytes = max(_least_width(rq.gain) for rq in everything)
    bias_bytes = max(_least_width(rq.bias) for rq in everything)
    sums = op.kernel.levels.sum(axis=1, dtype=np.int64) if zero_point else None
    sum_bytes = 0 if sums is None else 2 * _least_width(sums, 2)
    data = [packing.pack(weights, layout) for weights, _ in pieces]
    for number, (_, rq) in enumerate(pieces):
        data += [rq.gain.astype(f"<i{gain_bytes}").tobytes(), rq.bias.astype(f"<i{bias_bytes}").tobytes()]
        if sums is not None and number == 0:
            data.append(sums.astype(f"<i{sum_bytes}").tobytes())
    one = output_one(y)
    kernel, recurrent = everything
    options = Options(
        Kind.RECURRENT,
        activation_min=-one,
        activation_max=one - 1,
        input_zero_points=(zero_point, 0),
        bits=op.kernel.bits,
        grid=GRIDS.index(op.kernel.grid),
        gain_bytes=gain_bytes,
        bias_bytes=bias_bytes,
        bias_shift=kernel.bias_shift,
        shift=kernel.shift,
        multipliers=(kernel.multiplier, recurrent.multiplier),
        outputs=len(op.kernel.codes),
        inputs=op.kernel.codes.shape[1],
        layout=layout,
        sum_bytes=sum_bytes,
        recurrence=Recurrence(
            list(ir.CELLS).index(op.cell) + 1,
            op.sequences,
            op.skip,
            recurrent.bias_shift,
            recurrent.shift,
            op.state is not None,
        ),
    )
    return np.frombuffer(b"".join(data), np.uint8), options


def _rows(op: ir.Recurrent, rows: slice) -> ir.Requantization:
    rq = op.recurrent_requantization
    return dataclasses.replace(rq, gain=rq.gain[rows], bias=rq.bias[rows])


def _least_width(values: np.ndarray, least: int = 1) -> int:
    """1 where all integers fit ``least`` bytes, else 2."""
    limit = 1 << (8 * least - 1)
    return 1 if values.min() >= -limit and values.max() < limit else 2


class _Bytes:
    """Takes pieces of the constant one after another."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where, self.at = data, where, 0

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) != size:
            raise FormatError(f"{self.where}: the constant ends after {len(self.data)} bytes, too soon")
        self.at += size
        return piece


def read(
    op: Operator,
    x: Sequence[str],
    constants: Sequence[Tensor],
    state: Tensor | None,
    y: str,
    tensors: dict[str, ir.Tensor],
) -> ir.Recurrent:
    """The layer of a file; FormatError, OptionsError or GraphError where anything does not suit.

    Args:
      op: operator.
      x: names of the activations that it reads.
      constants: that it reads.
      state: the variable that it reads last, or None.
      y: name of its output.
      tensors: activations by name.
    """
    o = op_options.decode(op.custom_options)
    if o.kind is not Kind.RECURRENT or len(constants) != 1 or constants[0].type != _UINT8:
        raise FormatError(f"{y}: {op.name} needs its own options, one activation and one uint8 constant")
    if len(x) != 1 + o.recurrence.external or (o.recurrence.external and state is not None):
        raise FormatError(f"{y}: {op.name} reads {len(x)} activations, which its options do not say")
    if any(tensors[name].quantization is None for name in (*x, y)):
        raise FormatError(f"{y}: {op.name} needs int8 tensors; the file is damaged")
    cell = list(ir.CELLS)[o.recurrence.cell - 1]
    gates, one = ir.CELLS[cell], output_one(tensors[y])
    found = (o.input_zero_points, o.output_zero_point, o.activation_min, o.activation_max)
    if one is None or found != ((tensors[x[0]].zero, 0), 0, -one, one - 1) or o.outputs % gates or not o.outputs:
        raise FormatError(f"{y}: the options of {op.name} are not those of its tensors; the file is damaged")
    if o.gain_bytes not in (1, 2) or o.bias_bytes not in (1, 2) or o.window is not None:
        raise FormatError(f"{y}: {op.name} has widths or a window that it cannot have; the file is damaged")
    if o.sum_bytes not in ((2, 4) if tensors[x[0]].zero else (0,)):
        raise FormatError(f"{y}: sums of weights of {o.sum_bytes} bytes do not suit the input's zero point")
    units, layout = o.outputs // gates, packing.Layout(o.layout)
    shapes = [(o.outputs, o.inputs), *((len(range(o.outputs)[rows]), units) for rows in parts(cell, units))]
    data = _Bytes(constants[0].data, y)
    weights = []
    for rows, inputs in shapes:
        piece = data.take(packing.packed_size(rows, inputs, o.bits, layout))
        made = ir.Weights(packing.unpack(piece, rows, inputs, o.bits, layout), o.bits, GRIDS[o.grid])
        if packing.pack(made, layout) != piece:
            raise FormatError(f"{y}: a spare bit of the weights is set; the file is damaged")
        weights.append(made)
    channels: list[tuple[np.ndarray, np.ndarray]] = []
    for rows, _ in shapes:
        pair = [np.frombuffer(data.take(rows * n), f"<i{n}").astype(np.int16) for n in (o.gain_bytes, o.bias_bytes)]
        if not channels and o.sum_bytes:
            sums = np.frombuffer(data.take(rows * o.sum_bytes), f"<i{o.sum_bytes}")
            if (sums != weights[0].levels.sum(axis=1, dtype=np.int64)).any():
                raise FormatError(f"{y}: the sums of weights are not those of the weights; the file is damaged")
        channels.append((pair[0], pair[1]))
    if data.at != len(data.data):
        raise FormatError(f"{y}: {len(data.data) - data.at} bytes too many in the constant; the file is damaged")
    r = o.recurrence
    made = ir.Recurrent(
        y,
        x[0],
        y,
        cell,
        weights[0],
        ir.Requantization(*channels[0], o.multipliers[0], o.bias_shift, o.shift),
        dataclasses.replace(weights[1], codes=np.concatenate([w.codes for w in weights[1:]])),
        ir.Requantization(
            *(np.concatenate(column) for column in zip(*channels[1:])), o.multipliers[1], r.bias_shift, r.shift
        ),
        r.sequences,
        state is not None,
        r.skip,
        x[1] if r.external else None,
    )
    if state is not None and state.shape != (1, made.state_bytes):
        raise FormatError(f"{y}: a state of {units} units has shape {state.shape}, should be {(1, made.state_bytes)}")
    return made
