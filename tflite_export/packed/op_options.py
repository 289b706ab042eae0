"""Options of our custom ops: a fixed, versioned byte layout.

``kernels/core/options.h`` shows it byte by byte; this is its twin. Fields that a kind of op does not use are zero, so
that a later version may give them a meaning.
"""

from __future__ import annotations

import dataclasses
import enum
import struct

from tflite_export import ir
from tflite_export.packed import packing

VERSION = 2
MODE_STATIC, MODE_DYNAMIC = 0, 1
"""int8 in and out, quantized with constants; or float32 in and out, and integers inside of dense layers only."""

_LAYOUT = struct.Struct("<4B5b7BIIII10H4B")
_FLOAT, _WORD = struct.Struct("<f"), struct.Struct("<I")
LENGTH = _LAYOUT.size
assert LENGTH == 56

RING_HEAD = 2
"""Bytes of a ring's state ahead of its frames; see ``kernels/include/packed_kernels.h``."""
GRIDS = ("mid-rise", "mid-tread", "linear")


class OptionsError(ValueError):
    """Options bytes that are not ours, or not of this version."""


class Kind(enum.IntEnum):
    """Kinds of custom ops; the numbers are part of the format."""

    PACKED_DENSE = 1
    DEPTHWISE = 2
    LOOKUP = 3
    SOFTMAX = 4
    ADD = 5
    MULTIPLY = 6
    AVERAGE_POOL = 7
    MAX_POOL = 8
    RING = 9
    RECURRENT = 10
    WAVEFORM = 11


CUSTOM_CODES: dict[Kind, str] = {
    Kind.PACKED_DENSE: "TfmotKwsPackedDense",
    Kind.DEPTHWISE: "TfmotKwsDepthwise",
    Kind.LOOKUP: "TfmotKwsLookup",
    Kind.SOFTMAX: "TfmotKwsSoftmax",
    Kind.ADD: "TfmotKwsAdd",
    Kind.MULTIPLY: "TfmotKwsMultiply",
    Kind.AVERAGE_POOL: "TfmotKwsAveragePool",
    Kind.MAX_POOL: "TfmotKwsMaxPool",
    Kind.RING: "TfmotKwsRing",
    Kind.RECURRENT: "TfmotKwsRecurrent",
    Kind.WAVEFORM: "TfmotKwsWaveform",
}
KINDS: dict[str, Kind] = {code: kind for kind, code in CUSTOM_CODES.items()}


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """What a recurrent layer has in the place of a window: ``cell`` counts ``ir.CELLS`` from 1, the shifts are those of
    the recurrent kernel, ``external`` says that the state goes in and out."""

    cell: int
    sequences: bool
    skip: int
    bias_shift: int
    shift: int
    external: bool = False


@dataclasses.dataclass(frozen=True)
class Framing:
    """What filters over samples have in the place of a window: samples between two sums, and sums in a frame."""

    stride: int
    average: int


@dataclasses.dataclass(frozen=True)
class Options:
    """Fields in the order of the layout. ``grid`` is an index into GRIDS, ``inputs`` are those of one output,
    ``outputs`` the frames that a ring keeps,
    ``layout`` is a packing.Layout and ``sum_bytes`` the width of a channel's sum of weights.

    ``dynamic`` says that the tensors are float32. Then ``units`` are those of gain and bias, and take the places of the
    multipliers, ``input_bits`` is the width of quantized inputs and ``function`` an index into ir.FUNCTIONS."""

    kind: Kind
    activation_min: int = 0
    activation_max: int = 0
    input_zero_points: tuple[int, int] = (0, 0)
    output_zero_point: int = 0
    bits: int = 0
    grid: int = 0
    gain_bytes: int = 0
    bias_bytes: int = 0
    bias_shift: int = 0
    shift: int = 0
    multipliers: tuple[int, int] = (0, 0)
    outputs: int = 0
    inputs: int = 0
    window: ir.Window | None = None
    layout: int = 0
    sum_bytes: int = 0
    dynamic: bool = False
    units: tuple[float, float] = (0.0, 0.0)
    input_bits: int = 0
    function: int = 0
    recurrence: Recurrence | None = None
    framing: Framing | None = None


def encode(options: Options) -> bytes:
    """56 bytes; raises OptionsError where a field does not fit its place."""
    w = options.window
    window = (*w.size, *w.stride, *w.dilation, *w.padding) if w else (0,) * 10
    if options.recurrence is not None:
        window = (*map(int, dataclasses.astuple(options.recurrence)), *(0,) * 4)
    if options.framing is not None:
        window = (options.framing.stride, options.framing.average, *(0,) * 8)
    try:
        return _LAYOUT.pack(
            VERSION,
            options.kind,
            MODE_DYNAMIC if options.dynamic else MODE_STATIC,
            LENGTH,
            options.activation_min,
            options.activation_max,
            *options.input_zero_points,
            options.output_zero_point,
            options.bits,
            options.grid,
            options.gain_bytes,
            options.bias_bytes,
            options.bias_shift,
            options.shift,
            int(w is not None),
            *(map(_bits_of, options.units) if options.dynamic else options.multipliers),
            options.outputs,
            options.inputs,
            *window,
            options.layout,
            options.sum_bytes,
            options.input_bits,
            options.function,
        )
    except struct.error as error:
        raise OptionsError(f"{options.kind.name}: a field does not fit the layout ({error}): {options}") from None


def decode(data: bytes) -> Options:
    """The inverse of ``encode``; raises OptionsError that says what is unknown or out of place.

    Whether the values suit each other and the tensors is for the reader and for ``kernels/core/options.c`` to say.
    """
    if len(data) < 4:
        raise OptionsError(f"options need {LENGTH} bytes, found {len(data)}; the file is damaged")
    version, kind, mode, length = data[:4]
    if version != VERSION:
        raise OptionsError(f"options of version {version}, but this package reads {VERSION}; use a matching release")
    if kind not in Kind._value2member_map_:
        raise OptionsError(f"unknown kind of op {kind} (known: 1..{max(Kind)}); use a newer release")
    if mode not in (MODE_STATIC, MODE_DYNAMIC):
        raise OptionsError(f"{Kind(kind).name}: unknown mode {mode} (known: 0..{MODE_DYNAMIC}); use a newer release")
    if length != LENGTH or len(data) != LENGTH:
        raise OptionsError(
            f"{Kind(kind).name}: options say {length} bytes, have {len(data)}, wanted {LENGTH}; the file is damaged"
        )
    (*_, low, high, z0, z1, z, bits, grid, gain_bytes, bias_bytes, bias_shift, shift, has_window) = _LAYOUT.unpack(
        data
    )[:16]
    m0, m1, outputs, inputs, *places, layout, sum_bytes, input_bits, function = _LAYOUT.unpack(data)[16:]
    dynamic = mode == MODE_DYNAMIC
    if layout not in packing.Layout._value2member_map_:
        raise OptionsError(f"{Kind(kind).name}: unknown layout of weights {layout}; use a newer release")
    grids = len(GRIDS) if dynamic else GRIDS.index("linear")
    recurrence = framing = None
    if kind == Kind.RECURRENT:
        recurrence, places = _recurrence(places, mode), [0] * len(places)
    if kind == Kind.WAVEFORM:
        framing, places = _framing(places, mode), [0] * len(places)
    if has_window > 1 or (not has_window and any(places)) or grid >= grids:
        raise OptionsError(
            f"{Kind(kind).name}: window flag {has_window} or grid {grid} is unknown; the file is damaged"
        )
    if function >= len(ir.FUNCTIONS) or (not dynamic and (input_bits or function)):
        raise OptionsError(
            f"{Kind(kind).name}: {input_bits} bits of inputs and function {function}; the file is damaged"
        )
    window = None
    if has_window:
        try:
            window = ir.Window(tuple(places[0:2]), tuple(places[2:4]), tuple(places[4:6]), tuple(places[6:10]))
        except ir.GraphError as error:
            raise OptionsError(f"{Kind(kind).name}: {error}; the file is damaged") from None
    return Options(
        Kind(kind),
        low,
        high,
        (z0, z1),
        z,
        bits,
        grid,
        gain_bytes,
        bias_bytes,
        bias_shift,
        shift,
        (0, 0) if dynamic else (m0, m1),
        outputs,
        inputs,
        window,
        layout,
        sum_bytes,
        dynamic,
        (_float_of(m0), _float_of(m1)) if dynamic else (0.0, 0.0),
        input_bits,
        function,
        recurrence,
        framing,
    )


def _recurrence(places: list[int], mode: int) -> Recurrence:
    cell, sequences, skip, bias_shift, shift, external, *rest = places
    if not 1 <= cell <= len(ir.CELLS) or max(sequences, external) > 1 or any(rest) or mode != MODE_STATIC:
        raise OptionsError(f"RECURRENT: cell {cell}, mode {mode} or their options are unknown; use a newer release")
    return Recurrence(cell, bool(sequences), skip, bias_shift, shift, bool(external))


def _framing(places: list[int], mode: int) -> Framing:
    stride, average, *rest = places
    if not stride or not average or any(rest) or mode != MODE_STATIC:
        raise OptionsError(f"WAVEFORM: stride {stride}, {average} sums a frame or mode {mode}; the file is damaged")
    return Framing(stride, average)


def _bits_of(value: float) -> int:
    """The bits of a float32 as a whole number."""
    return _WORD.unpack(_FLOAT.pack(value))[0]


def _float_of(bits: int) -> float:
    return _FLOAT.unpack(_WORD.pack(bits))[0]
