"""The options of custom ops byte by byte, and what is refused."""

from __future__ import annotations

import dataclasses

import dynamic_cases as dg
import export_graphs as eg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite_export import ir
from tflite_export.packed import op_options, packing
from tflite_export.packed.op_options import Kind, Options, OptionsError, decode, encode

INT8, U8, U16, U32 = (
    st.integers(-128, 127),
    st.integers(0, 255),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
)
ONE_UP = st.integers(1, 65535)
WINDOWS = st.builds(
    ir.Window, st.tuples(ONE_UP, ONE_UP), st.tuples(ONE_UP, ONE_UP), st.tuples(ONE_UP, ONE_UP), st.tuples(*[U16] * 4)
)
UNITS = st.floats(width=32, allow_nan=False)
STATIC = st.builds(
    Options,
    kind=st.sampled_from([kind for kind in Kind if kind not in (Kind.RECURRENT, Kind.WAVEFORM)]),
    activation_min=INT8,
    activation_max=INT8,
    input_zero_points=st.tuples(INT8, INT8),
    output_zero_point=INT8,
    bits=U8,
    grid=st.integers(0, 1),
    gain_bytes=U8,
    bias_bytes=U8,
    bias_shift=U8,
    shift=U8,
    multipliers=st.tuples(U32, U32),
    outputs=U32,
    inputs=U32,
    window=st.none() | WINDOWS,
    layout=st.sampled_from([int(layout) for layout in packing.Layout]),
    sum_bytes=U8,
)
DYNAMIC = st.builds(
    dataclasses.replace,
    STATIC,
    dynamic=st.just(True),
    multipliers=st.just((0, 0)),
    units=st.tuples(UNITS, UNITS),
    grid=st.integers(0, 2),
    input_bits=U8,
    function=st.integers(0, len(ir.FUNCTIONS) - 1),
)
RECURRENCES = st.builds(
    op_options.Recurrence, st.integers(1, len(ir.CELLS)), st.booleans(), U16, U16, U16, st.booleans()
)
RECURRENT = st.builds(
    dataclasses.replace, STATIC, kind=st.just(Kind.RECURRENT), window=st.none(), recurrence=RECURRENCES
)
FRAMINGS = st.builds(op_options.Framing, ONE_UP, ONE_UP)
WAVEFORM = st.builds(dataclasses.replace, STATIC, kind=st.just(Kind.WAVEFORM), window=st.none(), framing=FRAMINGS)
OPTIONS = STATIC | DYNAMIC | RECURRENT | WAVEFORM

DENSE = Options(
    Kind.PACKED_DENSE,
    activation_min=-128,
    activation_max=127,
    input_zero_points=(-3, 0),
    output_zero_point=-128,
    bits=4,
    gain_bytes=1,
    bias_bytes=2,
    bias_shift=12,
    shift=32,
    multipliers=(65536, 0),
    outputs=128,
    inputs=256,
    sum_bytes=2,
)
DENSE_BYTES = bytes.fromhex(
    "02 01 00 38  80 7F FD 00 80  04 00 01 02 0C 20 00  00 00 01 00 00 00 00 00  80 00 00 00 00 01 00 00"
    + "00" * 20
    + "00 02 00 00"
)
"""The example of kernels/core/options.h."""


def test_golden_dense() -> None:
    assert encode(DENSE) == DENSE_BYTES
    assert decode(DENSE_BYTES) == DENSE


def test_golden_window() -> None:
    window = ir.Window((10, 4), (2, 1), (1, 3), (300, 5, 6, 7))
    data = encode(Options(Kind.AVERAGE_POOL, shift=3, multipliers=(0x01020304, 0), window=window))
    assert data == bytes.fromhex(
        "02 07 00 38  00 00 00 00 00  00 00 00 00 00 03 01  04 03 02 01 00 00 00 00  00 00 00 00 00 00 00 00"
        "0A 00 04 00  02 00 01 00  01 00 03 00  2C 01 05 00 06 00 07 00  00 00 00 00"
    )


def test_golden_add() -> None:
    data = encode(Options(Kind.ADD, -5, 6, (-128, 127), 1, shift=46, multipliers=(1, 2**31 - 1)))
    assert data == bytes.fromhex("02 05 00 38 FB 06 80 7F 01 00 00 00 00 00 2E 00 01 00 00 00 FF FF FF 7F" + "00" * 32)


def test_golden_recurrent() -> None:
    options = dataclasses.replace(
        DENSE,
        kind=Kind.RECURRENT,
        output_zero_point=0,
        multipliers=(65536, 3),
        outputs=256,
        recurrence=op_options.Recurrence(1, True, 300, 20, 33, False),
    )
    data = bytes.fromhex(
        "02 0A 00 38  80 7F FD 00 00  04 00 01 02 0C 20 00  00 00 01 00 03 00 00 00  00 01 00 00 00 01 00 00"
        "01 00 01 00 2C 01 14 00 21 00 00 00" + "00" * 8 + "00 02 00 00"
    )
    assert encode(options) == data and decode(data) == options
    for at, value in ((32, 5), (34, 2), (42, 2), (44, 1), (2, 1)):
        changed = bytearray(data)
        changed[at] = value
        with pytest.raises(OptionsError, match="use a newer release"):
            decode(bytes(changed))


def test_golden_dynamic() -> None:
    options = Options(
        Kind.PACKED_DENSE,
        bits=4,
        grid=2,
        gain_bytes=2,
        bias_bytes=1,
        outputs=128,
        inputs=39,
        sum_bytes=2,
        dynamic=True,
        units=(0.5, -2.0),
        input_bits=8,
        function=3,
    )
    data = bytes.fromhex(
        "02 01 01 38  00 00 00 00 00  04 02 02 01 00 00 00  00 00 00 3F 00 00 00 C0  80 00 00 00 27 00 00 00"
        + "00" * 20
        + "00 02 08 03"
    )
    assert encode(options) == data and decode(data) == options


@given(OPTIONS)
def test_decode_is_the_inverse(options: Options) -> None:
    data = encode(options)
    assert len(data) == op_options.LENGTH
    assert decode(data) == options


@given(st.binary(max_size=80))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        options = decode(data)
    except OptionsError:
        return
    assert encode(options) == data


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (0, 1, "version 1"),
        (1, 0, "kind of op 0"),
        (1, 12, "kind of op 12"),
        (2, 2, "mode 2"),
        (3, 55, "55 bytes"),
        (10, 2, "grid 2"),
        (15, 2, "flag 2"),
        (15, 1, "out of 1..65535"),
        (40, 1, "flag 0"),
        (52, 9, "layout of weights 9"),
        (54, 1, "damaged"),
    ],
)
def test_refuses(place: int, value: int, says: str) -> None:
    data = bytearray(DENSE_BYTES)
    data[place] = value
    with pytest.raises(OptionsError, match=says):
        decode(bytes(data))


@pytest.mark.parametrize("size", [0, 3, 4, 52, 55, 57])
def test_refuses_other_lengths(size: int) -> None:
    with pytest.raises(OptionsError, match="bytes"):
        decode((DENSE_BYTES + b"\0")[:size])


@pytest.mark.parametrize(("field", "value"), [("shift", 256), ("multipliers", (-1, 0)), ("activation_min", -129)])
def test_encode_refuses_what_does_not_fit(field: str, value: object) -> None:
    with pytest.raises(OptionsError, match="PACKED_DENSE"):
        encode(dataclasses.replace(DENSE, **{field: value}))


def refusal(call: eg.Call) -> str:
    with pytest.raises(eg.Refused) as caught:
        call.run()
    return str(caught.value)


@pytest.fixture
def call(rng: np.random.Generator) -> eg.Call:
    """A good call of a 4-bit dense layer, 6 -> 5."""
    graph = eg.dense(rng, (6,), 5, 4)
    return eg.call_of(graph, eg.feeds(rng, graph, 2))


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (0, 1, "unknown version"),
        (1, 77, "unknown kind"),
        (1, 2, "unused field"),
        (2, 2, "unknown mode"),
        (3, 50, "wrong length"),
        (7, 1, "unused field"),
        (9, 0, "bits out of 1..8"),
        (9, 9, "bits out of 1..8"),
        (9, 5, "wrong size in bytes"),
        (10, 2, "unknown grid"),
        (11, 0, "one or two bytes"),
        (12, 3, "one or two bytes"),
        (13, 63, "bias_shift"),
        (14, 0, "shift out of range"),
        (14, 63, "shift out of range"),
        (15, 1, "zero"),
        (15, 2, "window flag"),
        (19, 128, "multiplier out of range"),
        (20, 1, "multiplier out of range"),
        (24, 7, "wrong size in bytes"),
        (27, 255, "outputs out of range"),
        (28, 7, "inputs do not suit"),
        (32, 1, "without a window"),
        (52, 9, "unknown layout"),
        (53, 3, "sum of weights"),
        (54, 1, "unused field"),
    ],
)
def test_kernels_refuse_options(call: eg.Call, place: int, value: int, says: str) -> None:
    call.run()
    data = bytearray(call.options)
    data[place] = value
    call.options = bytes(data)
    if (place, value) == (1, 2):
        call.kind = 2  # options of a dense under the name of a depthwise
    assert says in refusal(call)


def test_kernels_refuse_options_of_another_op(call: eg.Call) -> None:
    call.kind = int(Kind.DEPTHWISE)
    assert "another op" in refusal(call)


@pytest.mark.parametrize("size", [0, 3, 51, 53])
def test_kernels_refuse_truncated_options(call: eg.Call, size: int) -> None:
    call.options = (call.options + b"\0")[:size]
    assert "options" in refusal(call)


def test_kernels_refuse_tensors_that_lie(call: eg.Call) -> None:
    x, w, c = call.inputs
    lies = [
        ([x, w], "number of inputs"),
        ([(3, x[1], x[2]), w, c], "not the type"),
        ([(9, (2, 7), x[2]), w, c], "bytes do not suit"),
        ([(9, (2, 0), x[2]), w, c], "empty axis"),
        ([(9, (2, -6), x[2]), w, c], "empty axis"),
        ([(9, (), x[2]), w, c], "too few or too many axes"),
        ([(9, (1,) * 7, x[2]), w, c], "too few or too many axes"),
        ([(9, (1 << 20, 1 << 20), x[2]), w, c], "too large"),
        ([x, (w[0], w[1], w[2][:-1]), c], "packed weights"),
        ([x, (9, w[1], w[2]), c], "packed weights"),
        ([x, w, (c[0], c[1], c[2][:-1])], "channel parameters"),
    ]
    for inputs, says in lies:
        assert says in refusal(dataclasses.replace(call, inputs=inputs))
    assert "output" in refusal(dataclasses.replace(call, output_shape=(2, 4)))


@pytest.fixture
def dynamic_call(rng: np.random.Generator) -> eg.Call:
    """A good call of a 4-bit dense layer of dynamic quantization, 6 -> 5, with two bytes each of gain and bias."""
    w = dg.weights(rng, 5, 6, 4, "linear")
    parts = [rng.integers(300, 3000, 5).astype(np.int16) for _ in range(2)]
    graph = dg.single(ir.DynamicDense("d", "x0", "y", w, 8, parts[0], 0.5, parts[1], 0.25, "tanh"), (6,))
    return eg.call_of(graph, {"x0": dg.rows(rng, (2, 6))})


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (2, 0, "unknown or unused function"),
        (2, 2, "unknown mode"),
        (4, 1, "unused field"),
        (8, 1, "unused field"),
        (9, 0, "bits out of 1..8"),
        (9, 9, "bits out of 1..8"),
        (9, 16, "16-bit weights need 16-bit inputs"),
        (9, 5, "wrong size in bytes"),
        (10, 3, "unknown grid"),
        (10, 0, "channel parameters"),
        (11, 0, "gain has one or two bytes"),
        (11, 1, "channel parameters"),
        (12, 3, "bias has at most two bytes"),
        (13, 1, "unused field"),
        (14, 1, "unused field"),
        (15, 1, "zero"),
        (19, 0xBF, "a unit is not a number of at least 0"),
        (19, 0x7F, "a unit is not a number of at least 0"),
        (23, 0xFF, "a unit is not a number of at least 0"),
        (24, 9, "wrong size in bytes"),
        (27, 255, "outputs out of range"),
        (28, 7, "inputs do not suit"),
        (31, 100, "too many inputs for sums of 32 bits"),
        (52, 1, "unknown layout"),
        (53, 0, "sum of weights"),
        (53, 3, "sum of weights"),
        (54, 0, "bits of inputs out of 2..8"),
        (54, 1, "bits of inputs out of 2..8"),
        (54, 9, "bits of inputs out of 2..8"),
        (54, 16, "bits of inputs out of 2..8"),
        (55, 5, "unknown or unused function"),
    ],
)
def test_kernels_refuse_dynamic_options(dynamic_call: eg.Call, place: int, value: int, says: str) -> None:
    dynamic_call.run()
    data = bytearray(dynamic_call.options)
    data[place] = value
    dynamic_call.options = bytes(data)
    assert says in refusal(dynamic_call)


def test_kernels_refuse_dynamic_tensors_that_lie(dynamic_call: eg.Call) -> None:
    x, w, c = dynamic_call.inputs
    lies = [
        ([(9, (2, 24), x[2]), w, c], "not the type"),
        ([x, (w[0], w[1], w[2][:-1]), c], "packed weights"),
        ([x, w, (c[0], c[1], c[2][:-1])], "channel parameters"),
        ([x, w, (1, c[1], c[2])], "channel parameters"),
    ]
    for inputs, says in lies:
        assert says in refusal(dataclasses.replace(dynamic_call, inputs=inputs))
    assert "output" in refusal(dataclasses.replace(dynamic_call, output_type=eg.INT8))
    assert "too little scratch" in refusal(dataclasses.replace(dynamic_call, scratch_bytes=15))
    askew = np.zeros(49, np.uint8)[1:].view(np.uint8)[: 4 * 12]
    assert "multiple of its elements' size" in refusal(
        dataclasses.replace(dynamic_call, inputs=[(x[0], x[1], askew), w, c])
    )


@pytest.mark.parametrize(
    ("op", "place", "value", "says"),
    [
        (ir.FloatFunction("f", "x0", "y", "relu"), 9, 1, "unused field"),
        (ir.FloatFunction("f", "x0", "y", "relu"), 16, 1, "unused field"),
        (ir.FloatFunction("f", "x0", "y", "relu"), 54, 8, "unused field"),
        (ir.FloatFunction("f", "x0", "y", "relu"), 55, 9, "unknown or unused function"),
        (ir.FloatSoftmax("f", "x0", "y"), 55, 1, "unknown or unused function"),
    ],
)
def test_kernels_refuse_options_of_float_ops(op: ir.Op, place: int, value: int, says: str) -> None:
    call = eg.call_of(dg.single(op, (8,)), {"x0": np.zeros((1, 8), np.float32)})
    call.run()
    data = bytearray(call.options)
    data[place] = value
    call.options = bytes(data)
    assert says in refusal(call)
