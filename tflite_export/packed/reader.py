"""Turns a packed .tflite file back into the integer graph that it was written from.

Names of ops are not in a file: an op is called like its output.
"""

from __future__ import annotations

import numpy as np

from tflite_export import ir
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.flatbuffer.reader import FormatError, Model, Operator, Tensor
from tflite_export.packed import float_reader, op_options, packing, recurrent
from tflite_export.packed.op_options import CUSTOM_CODES, GRIDS, RING_HEAD, Kind, Options

INPUT_COUNTS = {
    Kind.PACKED_DENSE: (1, 2),
    Kind.DEPTHWISE: (1, 2),
    Kind.LOOKUP: (1, 1),
    Kind.SOFTMAX: (1, 1),
    Kind.ADD: (2, 0),
    Kind.MULTIPLY: (2, 0),
    Kind.AVERAGE_POOL: (1, 0),
    Kind.MAX_POOL: (1, 0),
    Kind.RING: (1, 0),
    Kind.WAVEFORM: (1, 2),
}
"""Activations and constants that an op of each kind reads."""


def read(data: bytes) -> ir.Graph:
    """The graph of a packed .tflite file.

    Raises FormatError for a damaged file and for one with ops that the integer graph does not have (a stock int8
    model, say); op_options.OptionsError and ir.GraphError, which are ValueErrors too, for options and values.
    """
    return graph_of(flatbuffer_reader.parse(data))


def graph_of(model: Model) -> ir.Graph:
    """The graph of a file that is parsed already."""
    if model.resources:  # before tensors are looked at: handles of variables look like damaged activations
        raise FormatError(
            "a stream of stock ops with its state inside, as ESPHome's micro_wake_word takes it; this is no packed "
            "model of ours"
        )
    activations = {i for i, tensor in enumerate(model.tensors) if tensor.data is None and not tensor.variable}
    states = [i for op in model.operators for i in op.inputs if i >= 0 and model.tensors[i].variable]
    if len(set(states)) != len(states):
        raise FormatError("two ops keep their frames in the same variable; the file is damaged")
    tensors: dict[str, ir.Tensor] = {}
    for i in sorted(activations):
        tensor = _activation(model.tensors[i])
        if tensor.name in tensors:
            raise FormatError(f"two activations are called {tensor.name!r}")
        tensors[tensor.name] = tensor
    ops = tuple(_op(op, model, tensors) for op in model.operators)
    names = [model.tensors[i].name for i in range(len(model.tensors))]
    return ir.Graph(
        tensors, ops, tuple(names[i] for i in model.inputs), tuple(names[i] for i in model.outputs), model.name
    )


def _activation(tensor: Tensor) -> ir.Tensor:
    where = f"tensor {tensor.name!r}"
    if tensor.type == float_reader.FLOAT32 and not tensor.scales and tensor.shape and tensor.shape[0] == 1:
        return ir.Tensor(tensor.name, tensor.shape[1:], None)
    wide = tensor.type == 7
    if not (wide or tensor.type == 9) or len(tensor.scales) != 1 or not tensor.shape or tensor.shape[0] != 1:
        raise FormatError(
            f"{where}: not an int8 or int16 activation [1, ...] with one scale; this is no packed model of ours"
        )
    if not ir.INT8_MIN <= tensor.zero_points[0] <= ir.INT8_MAX:
        raise FormatError(f"{where}: zero point {tensor.zero_points[0]} is no int8")
    return ir.Tensor(tensor.name, tensor.shape[1:], ir.Quantization(tensor.scales[0], tensor.zero_points[0]), wide)


def _op(op: Operator, model: Model, tensors: dict[str, ir.Tensor]) -> ir.Op:
    if len(op.outputs) != 1:
        raise FormatError(f"{op.name}: {len(op.outputs)} outputs, should have one")
    if min(op.inputs, default=0) < 0:
        raise FormatError(f"{op.name}: an input is left out; this is no packed model of ours")
    operands = [model.tensors[i] for i in op.inputs]
    state = operands.pop() if operands and operands[-1].variable else None
    ring, cell = (op.custom and op.name == CUSTOM_CODES[kind] for kind in (Kind.RING, Kind.RECURRENT))
    if any(t.variable for t in operands) or (ring if state is None else not (ring or cell)):
        raise FormatError(
            f"{op.name}: only rings and recurrent layers have a variable, as their last input; the file is damaged"
        )
    x = [t.name for t in operands if t.data is None]
    constants = [t for t in operands if t.data is not None]
    y = model.tensors[op.outputs[0]].name
    if cell and x and operands[0].data is None:
        return recurrent.read(op, x, constants, state, y, tensors)
    if not x or any(t.data is not None for t in operands[: len(x)]):
        raise FormatError(f"{y}: {op.name} reads a constant before an activation")
    if state is not None:
        return _ring(op, x, state, y, tensors)
    if op.custom:
        return _custom(op, x, constants, y, tensors)
    return _stock(op, x, constants, y, tensors)


def _ring(op: Operator, x: list[str], state: Tensor, y: str, tensors: dict[str, ir.Tensor]) -> ir.Ring:
    o = op_options.decode(op.custom_options)
    floats = tensors[y].quantization is None
    plain = Options(Kind.RING, output_zero_point=tensors[y].zero, outputs=o.outputs, dynamic=floats)
    if o != plain or len(x) != 1 or len(op.inputs) != 2:
        raise FormatError(f"{y}: a ring's options or inputs are not a ring's; the file is damaged")
    ring = ir.Ring(y, x[0], y, o.outputs)
    frame = int(np.prod(tensors[y].shape[1:], dtype=np.int64)) * tensors[y].dtype.itemsize
    if state.shape != (1, RING_HEAD + o.outputs * frame):
        raise FormatError(f"{y}: a ring's state of {o.outputs} frames of {frame} bytes has shape {state.shape}")
    return ring


def _custom(op: Operator, x: list[str], constants: list[Tensor], y: str, tensors: dict[str, ir.Tensor]) -> ir.Op:
    if op.name not in op_options.KINDS:
        raise FormatError(f"{y}: custom op {op.name!r} is none of ours ({', '.join(op_options.KINDS)})")
    o = op_options.decode(op.custom_options)
    if o.kind is not op_options.KINDS[op.name]:
        raise FormatError(f"{y}: {op.name} has the options of {o.kind.name}; the file is damaged")
    if any((tensors[name].quantization is None) != o.dynamic for name in (*x, y)):
        raise FormatError(f"{y}: the mode of {op.name} does not suit the types of its tensors; the file is damaged")
    if o.dynamic:
        return float_reader.read_op(o, x, constants, y)
    if (len(x), len(constants)) != INPUT_COUNTS[o.kind]:
        raise FormatError(f"{y}: {op.name} has {len(x)} activations and {len(constants)} constants")
    _check_used(o, y)
    if o.kind not in (Kind.LOOKUP, Kind.SOFTMAX, Kind.MAX_POOL):
        used = [tensors[name].zero for name in x] + [0]
        found = (*o.input_zero_points[: len(x)], o.output_zero_point)
        if found != (*used[: len(x)], tensors[y].zero):
            raise FormatError(f"{y}: zero points in the options {found} are not those of the tensors")
    if any(tensors[name].wide for name in (*x[o.kind is Kind.WAVEFORM :], y)):
        raise FormatError(f"{y}: {op.name} does not take int16; the file is damaged")
    if o.kind is Kind.WAVEFORM:
        weights = _weights(o, constants, y)
        framing = o.framing
        rq = _requantization(o, constants[1], y)
        return ir.Waveform(y, x[0], y, weights, rq, framing.stride, framing.average, o.multipliers[1])
    if o.kind is Kind.PACKED_DENSE:
        return ir.PackedDense(y, x[0], y, _weights(o, constants, y), _requantization(o, constants[1], y), o.window)
    if o.kind is Kind.DEPTHWISE:
        levels = np.frombuffer(_bytes(constants[0], 9, y), np.int8)
        if levels.size != o.inputs * o.outputs:
            raise FormatError(f"{y}: {o.inputs} x {o.outputs} levels take as many bytes, found {levels.size}")
        levels = levels.reshape(o.inputs, o.outputs)
        return ir.Depthwise(y, x[0], y, levels, _requantization(o, constants[1], y), o.window)
    if o.kind is Kind.LOOKUP:
        return ir.Lookup(y, x[0], y, np.frombuffer(_bytes(constants[0], 9, y), np.int8))
    if o.kind is Kind.SOFTMAX:
        table = _bytes(constants[0], 3, y)
        if len(table) != 512:
            raise FormatError(f"{y}: a softmax table has 512 bytes, found {len(table)}")
        return ir.Softmax(y, x[0], y, np.frombuffer(table, "<u2").astype(np.uint16))
    if o.kind is Kind.ADD:
        return ir.Add(y, (x[0], x[1]), y, o.multipliers, o.shift, o.activation_min, o.activation_max)
    if o.kind is Kind.MULTIPLY:
        return ir.Multiply(y, (x[0], x[1]), y, o.multipliers[0], o.shift, o.activation_min, o.activation_max)
    if o.kind is Kind.AVERAGE_POOL:
        return ir.AveragePool(y, x[0], y, o.window, o.multipliers[0], o.shift)
    return ir.MaxPool(y, x[0], y, o.window)


def _weights(o: Options, constants: list[Tensor], where: str) -> ir.Weights:
    """The packed weights of a layer, which must be as they are packed."""
    packed, layout = _bytes(constants[0], 3, where), packing.Layout(o.layout)
    weights = ir.Weights(packing.unpack(packed, o.outputs, o.inputs, o.bits, layout), o.bits, GRIDS[o.grid])
    _check_spare(packed, packing.pack(weights, layout), where)
    _check_sums(o, weights, constants[1], where)
    return weights


def _check_used(o: Options, where: str) -> None:
    """Fields that a kind does not use must be zero, as ``kernels/core/options.c`` demands too."""
    packed = o.kind in (Kind.PACKED_DENSE, Kind.WAVEFORM)
    weighted = packed or o.kind is Kind.DEPTHWISE
    pooled = o.kind in (Kind.AVERAGE_POOL, Kind.MAX_POOL)
    scaled = o.kind not in (Kind.LOOKUP, Kind.SOFTMAX, Kind.MAX_POOL)
    unused = [
        *(() if weighted else (o.gain_bytes, o.bias_bytes, o.bias_shift, o.outputs, o.inputs)),
        *(() if packed else (o.bits, o.grid, o.layout, o.sum_bytes)),
        *(() if scaled else (o.shift, o.multipliers[0], o.activation_min, o.activation_max, o.output_zero_point)),
        *(() if scaled else o.input_zero_points),
        *(() if o.kind in (Kind.ADD, Kind.MULTIPLY) else (o.input_zero_points[1],)),
        *(() if o.kind in (Kind.ADD, Kind.WAVEFORM) else (o.multipliers[1],)),
    ]
    if any(unused):
        raise FormatError(f"{where}: {o.kind.name} has values in fields that it does not use; the file is damaged")
    windowed = pooled or (weighted and o.kind is not Kind.WAVEFORM)
    if (o.window is not None and not windowed) or (pooled and o.window is None):
        raise FormatError(f"{where}: {o.kind.name} must {'' if pooled else 'not '}have a window; the file is damaged")
    if o.kind is Kind.AVERAGE_POOL and (o.activation_min, o.activation_max) != (ir.INT8_MIN, ir.INT8_MAX):
        raise FormatError(f"{where}: an average pool has no activation range; the file is damaged")
    if o.kind in (Kind.ADD, Kind.MULTIPLY) and o.activation_min > o.activation_max:
        raise FormatError(f"{where}: activation range {o.activation_min}..{o.activation_max} is empty")


def _bytes(tensor: Tensor, type_number: int, where: str) -> bytes:
    if tensor.type != type_number:
        wanted = flatbuffer_reader.TYPE_NAMES[type_number]
        raise FormatError(f"{where}: constant {tensor.name!r} has element type {tensor.type}, should be {wanted}")
    return tensor.data


def _check_spare(found: bytes, packed: bytes, where: str) -> None:
    """Bits that hold no code must be as they are packed: kernels multiply whole bytes and lanes."""
    if found != packed:
        at = next(i for i, (a, b) in enumerate(zip(found, packed)) if a != b)
        raise FormatError(f"{where}: byte {at} of the weights has a spare bit set; the file is damaged")


def _check_sums(o: Options, weights: ir.Weights, constant: Tensor, where: str) -> None:
    """The stored sums of weights must be those of the weights."""
    if o.sum_bytes not in ((2, 4) if o.input_zero_points[0] or o.kind is Kind.WAVEFORM else (0,)):
        raise FormatError(f"{where}: sums of weights of {o.sum_bytes} bytes do not suit the input's zero point")
    if o.sum_bytes:
        start = o.outputs * (o.gain_bytes + o.bias_bytes)
        data = _bytes(constant, 3, where)[start:]
        sums = weights.levels.sum(axis=1, dtype=np.int64)
        if len(data) != o.outputs * o.sum_bytes or (np.frombuffer(data, f"<i{o.sum_bytes}") != sums).any():
            raise FormatError(f"{where}: the sums of weights are not those of the weights; the file is damaged")


def _requantization(o: Options, constant: Tensor, where: str) -> ir.Requantization:
    data = _bytes(constant, 3, where)
    if o.gain_bytes not in (1, 2) or o.bias_bytes not in (1, 2):
        raise FormatError(f"{where}: gains of {o.gain_bytes} and biases of {o.bias_bytes} bytes, should be 1 or 2")
    if len(data) != o.outputs * (o.gain_bytes + o.bias_bytes + o.sum_bytes):
        raise FormatError(f"{where}: channel parameters of {o.outputs} outputs have {len(data)} bytes")
    split, end = o.outputs * o.gain_bytes, o.outputs * (o.gain_bytes + o.bias_bytes)
    gain = np.frombuffer(data[:split], f"<i{o.gain_bytes}").astype(np.int16)
    bias = np.frombuffer(data[split:end], f"<i{o.bias_bytes}").astype(np.int16)
    return ir.Requantization(gain, bias, o.multipliers[0], o.bias_shift, o.shift, o.activation_min, o.activation_max)


def _integers(constants: list[Tensor], count: int, y: str) -> list[np.ndarray]:
    if len(constants) != count:
        raise FormatError(f"{y}: {len(constants)} constants, should have {count}")
    return [np.frombuffer(_bytes(t, 2, y), "<i4").reshape(t.shape) for t in constants]


def _stock(op: Operator, x: list[str], constants: list[Tensor], y: str, tensors: dict[str, ir.Tensor]) -> ir.Op:
    shape = tensors[x[0]].shape
    if not op.known or op.fields.get("fused"):
        raise FormatError(f"{y}: {op.name} has options that packed models do not have: {dict(op.fields)}")
    if op.name == "CONCATENATION" and not constants:
        axis = op.fields["axis"]
        axis += len(shape) + 1 if axis < 0 else 0
        if not 1 <= axis <= len(shape) or any(len(tensors[name].shape) != len(shape) for name in x):
            raise FormatError(f"{y}: cannot concatenate along axis {axis}")
        return ir.Concatenate(y, tuple(x), y, axis - 1)
    if len(x) != 1:
        raise FormatError(f"{y}: {op.name} with {len(x)} activations is not an op of packed models")
    if op.name == "MAX_POOL_2D" and not constants:
        return _max_pool(op, x[0], y, shape)
    if op.name == "RESHAPE":
        (new,) = _integers(constants, 1, y)
        if new.tolist() != [-1, *tensors[y].shape] or op.fields["shape"] not in ((), tuple(new.tolist())):
            raise FormatError(f"{y}: reshapes to {new.tolist()}, its output has {tensors[y].shape}")
        return ir.Reshape(y, x[0], y)
    if op.name == "TRANSPOSE":
        (permutation,) = _integers(constants, 1, y)
        if permutation.ndim != 1 or permutation.tolist()[:1] != [0]:
            raise FormatError(f"{y}: permutation {permutation.tolist()} moves the batch axis")
        return ir.Transpose(y, x[0], y, tuple(int(p) - 1 for p in permutation[1:]))
    if op.name == "PAD":
        (padding,) = _integers(constants, 1, y)
        if padding.shape != (len(shape) + 1, 2) or padding[0].any() or padding.min() < 0:
            raise FormatError(f"{y}: padding {padding.tolist()} does not suit shape {shape}")
        return ir.Pad(y, x[0], y, tuple((int(a), int(b)) for a, b in padding[1:]))
    if op.name == "STRIDED_SLICE":
        return _slice(op, x[0], constants, y, shape)
    raise FormatError(f"{y}: {op.name} is not an op of packed models")


def _max_pool(op: Operator, x: str, y: str, shape: tuple[int, ...]) -> ir.MaxPool:
    padding, stride_w, stride_h, width, height = (
        op.fields[name] for name in ("padding", "stride_w", "stride_h", "width", "height")
    )
    if len(shape) != 3 or padding not in (0, 1):
        raise FormatError(f"{y}: MAX_POOL_2D over {shape} with padding {padding}")
    window = ir.Window((height, width), (stride_h, stride_w))
    if padding == 0:  # SAME
        places = []
        for length, size, stride in zip(shape, window.size, window.stride):
            total = max(0, (-(-length // stride) - 1) * stride + size - length)
            places += [total // 2, total - total // 2]
        window = ir.Window(window.size, window.stride, padding=tuple(places))
    return ir.MaxPool(y, x, y, window)


def _slice(op: Operator, x: str, constants: list[Tensor], y: str, shape: tuple[int, ...]) -> ir.Slice:
    begin, end, stride = _integers(constants, 3, y)
    names = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    masks, count = [op.fields[f"{name}_mask"] for name in names], len(shape) + 1
    cut = ((1 << count) - 1) & ~masks[0]  # the one axis that is not taken whole
    axis = cut.bit_length() - 1
    good = all(v.shape == (count,) for v in (begin, end, stride)) and 1 <= axis < count and cut == 1 << axis
    if not good or masks[0] >> count or masks[1] & ~cut != masks[0] or any(masks[2:]) or op.fields["offset"]:
        raise FormatError(f"{y}: a strided slice of other than one axis behind the batch")
    if any(stride[i] != 1 for i in range(count) if i != axis) or stride[axis] == 0 or (axis > 1 and stride[axis] < 0):
        raise FormatError(f"{y}: a strided slice of other than one axis behind the batch")
    # An end mask stands for "down to and including place 0", which -length - 1 says in Python.
    stop = -shape[axis - 1] - 1 if masks[1] & cut else int(end[axis])
    return ir.Slice(y, x, y, int(begin[axis]), stop, int(stride[axis]), axis - 1)
