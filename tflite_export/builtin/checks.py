"""Whether the stock ops of a file are what they say: types, shapes, constants and options, op by op.

The stock interpreters check much of this, and abort, read past a constant or divide by zero where they do not. Checked
here are the ops that ``convert(ops="builtin")`` writes, and the same ops as TensorFlow's converter writes them. Any
other op is refused, because nothing here knows what would make it read out of bounds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tflite_export.flatbuffer.reader import TYPE_NAMES, FormatError, Model, Operator, Tensor

FLOAT32, INT32, UINT8, INT64, INT16, INT8, RESOURCE, INT4 = 0, 2, 3, 4, 7, 9, 13, 17
SAME, VALID = 0, 1
MAX_RANK = 6
_Rule = Callable[["_Op"], None]


def check(model: Model) -> None:
    """Checks every stock op of a file.

    Raises:
        FormatError: names the op and what is wrong with it, or an op that is not checked.
    """
    variables: dict[str, tuple[int, tuple[int, ...]]] = {}
    for part in (model.once, model):  # what fills the variables comes first
        handles: dict[int, str] = {}
        producers = {i: op for op in part.operators for i in op.outputs} if part else {}
        for number, op in enumerate(part.operators if part else ()):
            if not op.custom:
                _check_op(_Op(op, number, part, producers), handles, variables, filling=part is model.once)


class _Op:
    """An operator beside its tensors; ``fail`` raises FormatError."""

    def __init__(self, op: Operator, number: int, model: Model, producers: dict[int, Operator]) -> None:
        self.name, self.fields, self.op, self.model, self.producers = op.name, op.fields, op, model, producers
        self.where = f"operator {number} ({op.name})"
        self.x = [model.tensors[i] if i >= 0 else None for i in op.inputs]
        self.y = [model.tensors[i] for i in op.outputs]

    def fail(self, message: str) -> None:
        raise FormatError(f"{self.where}: {message}")

    def require(self, good: bool, message: str) -> None:
        if not good:
            self.fail(message)

    def count(self, least: int, most: int | None = None) -> None:
        """Numbers of inputs, of which the first ``least`` are there, and one output."""
        most = least if most is None else most
        good = least <= len(self.x) <= most and all(t is not None for t in self.x[:least]) and len(self.y) == 1
        self.require(good, f"has {len(self.x)} inputs and {len(self.y)} outputs, should have {least} to {most} and one")

    def types(self, *allowed: int) -> None:
        """All inputs and the output have one of these types, all the same."""
        found = {t.type for t in (*self.x, *self.y)}
        names = ", ".join(TYPE_NAMES.get(t, str(t)) for t in sorted(found))
        self.require(len(found) == 1 and found <= set(allowed), f"does not take {names}")

    def shape(self, wanted: tuple[int, ...]) -> None:
        found = self.y[0].shape
        self.require(found == tuple(wanted), f"gives {tuple(wanted)}, its output has shape {found}")

    def integers(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """A constant of int32 or int64 with a shape."""
        tensor = self.x[index]
        good = (
            tensor is not None and tensor.data is not None and tensor.type in (INT32, INT64) and tensor.shape == shape
        )
        self.require(good, f"input {index} should be constant integers of shape {shape}")
        return np.frombuffer(tensor.data, "<i4" if tensor.type == INT32 else "<i8").reshape(shape)

    def fused(self) -> None:
        self.require(self.fields.get("fused", 0) in (0, 1, 2, 3), f"has the fused function {self.fields.get('fused')}")


def _check_op(
    op: _Op, handles: dict[int, str], variables: dict[str, tuple[int, tuple[int, ...]]], filling: bool
) -> None:
    rule = _RULES.get(op.name)
    if rule is None:
        op.fail("is not an op that is checked; a file that you made yourself opens with Interpreter(..., trust=True)")
    op.require(op.op.known, "has options that are not checked")
    for tensor in (*op.x, *op.y):
        if tensor is not None:
            op.require(len(tensor.shape) <= MAX_RANK, f"tensor {tensor.name!r} has {len(tensor.shape)} axes")
            op.require(not tensor.variable, f"tensor {tensor.name!r} is a variable, which stock ops do not read")
            op.require(all(tensor.shape), f"tensor {tensor.name!r} has the empty shape {tensor.shape}")
            _check_scales(op, tensor)
    op.fused()
    rule(op)
    if op.name == "VAR_HANDLE":
        handles[op.op.outputs[0]] = op.fields["shared_name"]
    elif op.name in ("READ_VARIABLE", "ASSIGN_VARIABLE"):
        name = handles.get(op.op.inputs[0])
        value = op.y[0] if op.name == "READ_VARIABLE" else op.x[1]
        op.require(name is not None, "its variable has no handle")
        known = variables.setdefault(name, (value.type, value.shape)) if filling else variables.get(name)
        op.require(known == (value.type, value.shape), f"variable {name!r} is filled with {known}, here {value.shape}")


def _check_scales(op: _Op, tensor: Tensor) -> None:
    """Integers that are computed with need a scale, which interpreters read without asking."""
    if tensor.type in (INT8, INT4):
        op.require(len(tensor.scales) >= 1, f"tensor {tensor.name!r} has no scale")
        op.require(tensor.data is not None or len(tensor.scales) == 1, f"tensor {tensor.name!r} has several scales")
        op.require(all(-128 <= z <= 127 for z in tensor.zero_points), f"tensor {tensor.name!r}: zero point out of int8")
    elif tensor.type == UINT8:
        good = len(tensor.scales) == 1 and 0 <= tensor.zero_points[0] <= 255
        op.require(good, f"tensor {tensor.name!r}: a uint8 tensor needs one scale and a zero point in uint8")


def _weighted(op: _Op, outputs: int, axis: int) -> None:
    """Types of input, weights and bias, scales of the weights, and the shape of the bias."""
    x, weights, y = op.x[0], op.x[1], op.y[0]
    op.require(weights.data is not None, "its weights are no constant")
    good = (x.type, weights.type, y.type) in (
        *((INT8, kind, INT8) for kind in (INT8, INT4)),
        *((FLOAT32, kind, FLOAT32) for kind in (FLOAT32, INT8, INT4)),
    )
    op.require(good, f"does not multiply types {x.type} and {weights.type} to {y.type}")
    several = len(weights.scales) > 1
    op.require(not several or len(weights.scales) == outputs == weights.shape[axis], "its weights' scales do not suit")
    op.require(not any(weights.zero_points), "its weights have zero points")
    bias = op.x[2] if len(op.x) > 2 else None
    if bias is not None:
        wanted = INT32 if x.type == INT8 else FLOAT32
        op.require(bias.type == wanted and bias.shape == (outputs,), f"its bias has type {bias.type}, {bias.shape}")
        op.require(len(bias.scales) in (0, 1, outputs), "its bias has scales that do not suit")
    op.require(op.fields.get("bias_type", 0) in (0, INT32), "its bias has a type of its own")


def _places(op: _Op, sizes: tuple[int, int], dilations: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """Height and width of the output of a window."""
    op.require(len(op.x[0].shape) == 4, f"wants [batch, height, width, channels], found {op.x[0].shape}")
    op.require(op.fields["padding"] in (SAME, VALID), f"has padding {op.fields['padding']}")
    out = []
    strides = (op.fields["stride_h"], op.fields["stride_w"])
    for length, size, stride, dilation in zip(op.x[0].shape[1:3], sizes, strides, dilations):
        good = all(1 <= v < 1 << 15 for v in (size, stride, dilation))
        op.require(good, f"has a window of {size}, stride {stride} and dilation {dilation}")
        reach = (size - 1) * dilation + 1
        steps = -(-length // stride) if op.fields["padding"] == SAME else (length - reach) // stride + 1
        op.require(steps >= 1, f"a window of {reach} on {length} places gives no output")
        out.append(steps)
    return out[0], out[1]


def _dilations(op: _Op) -> tuple[int, int]:
    return op.fields["dilation_h"], op.fields["dilation_w"]


def _conv(op: _Op) -> None:
    op.count(2, 3)
    kernel = op.x[1].shape
    op.require(len(kernel) == 4, f"its weights have shape {kernel}")
    places = _places(op, kernel[1:3], _dilations(op))
    op.require(kernel[3] == op.x[0].shape[3], f"weights of {kernel[3]} channels on {op.x[0].shape[3]}")
    _weighted(op, kernel[0], 0)
    op.shape((op.x[0].shape[0], *places, kernel[0]))


def _depthwise(op: _Op) -> None:
    op.count(2, 3)
    kernel = op.x[1].shape
    op.require(len(kernel) == 4 and kernel[0] == 1, f"its weights have shape {kernel}")
    places = _places(op, kernel[1:3], _dilations(op))
    channels, multiplier = op.x[0].shape[3], op.fields["depth_multiplier"]
    op.require(kernel[3] == channels * multiplier, f"{channels} channels times {multiplier} are not {kernel[3]}")
    # Kernels of TFLite, LiteRT and TFLM read it without asking, and end the process; TensorFlow's converter writes one.
    op.require(len(op.x) == 3 and op.x[2] is not None, "has no bias, which interpreters read")
    _weighted(op, kernel[3], 3)
    op.shape((op.x[0].shape[0], *places, kernel[3]))


def _fully_connected(op: _Op) -> None:
    op.count(2, 3)
    x, kernel = op.x[0].shape, op.x[1].shape
    op.require(len(kernel) == 2 and len(x) >= 1, f"weights {kernel} on {x}")
    op.require(op.fields["weights_format"] == 0, "its weights are shuffled")
    outputs, inputs = kernel
    _weighted(op, outputs, 0)
    if op.fields["keep_dims"]:
        op.require(x[-1] == inputs, f"weights {kernel} on {x}")
        op.shape((*x[:-1], outputs))
    else:
        values = int(np.prod(x, dtype=np.int64))
        op.require(values % inputs == 0, f"weights {kernel} on {x}")
        op.shape((values // inputs, outputs))


def _pool(op: _Op) -> None:
    op.count(1)
    op.types(INT8, FLOAT32)
    places = _places(op, (op.fields["height"], op.fields["width"]))
    op.shape((op.x[0].shape[0], *places, op.x[0].shape[3]))


def _function(op: _Op) -> None:
    op.count(1)
    op.types(INT8, FLOAT32)
    op.require(np.isfinite(op.fields.get("beta", op.fields.get("alpha", 0.0))), "has a number that is not finite")
    op.require(len(op.x[0].shape) >= 1, "its input has no axis")
    if op.name == "SOFTMAX":
        # TFLM and TFLite make a multiplier of it that has to be above 1, and end the process where it is not.
        beta, x = op.fields["beta"], op.x[0]
        enough = beta > 0 if x.type == FLOAT32 else len(x.scales) == 1 and beta * x.scales[0] * 2.0**26 > 1
        op.require(enough, f"has beta {beta:g}, which is too small")
    op.shape(op.x[0].shape)


def _convert(op: _Op) -> None:
    op.count(1)
    found = (op.x[0].type, op.y[0].type)
    allowed = {
        "QUANTIZE": ((FLOAT32, INT8), (INT8, INT8), (INT8, UINT8)),
        "DEQUANTIZE": ((INT8, FLOAT32),),
        "CAST": ((INT8, INT32), (INT32, FLOAT32), (FLOAT32, INT32), (INT8, FLOAT32)),
    }[op.name]
    op.require(found in allowed, f"does not turn type {found[0]} into {found[1]}")
    if op.name == "CAST":
        stated = (op.fields["from_type"], op.fields["to_type"])
        op.require(stated in (found, (0, 0)), f"its options say types {stated}, its tensors {found}")
    op.shape(op.x[0].shape)


def _pair(op: _Op) -> None:
    op.count(2)
    op.types(INT8, FLOAT32, INT32)
    a, b = op.x[0].shape, op.x[1].shape
    try:
        wanted = np.broadcast_shapes(a, b)
    except ValueError:
        op.fail(f"shapes {a} and {b} do not suit each other")
    op.shape(wanted)


def _concatenate(op: _Op) -> None:
    op.require(len(op.x) >= 1 and None not in op.x and len(op.y) == 1, "has no inputs, or not one output")
    op.types(INT8, INT16, FLOAT32, INT32)
    rank, axis = len(op.x[0].shape), op.fields["axis"]
    op.require(-rank <= axis < rank, f"axis {axis} of {rank}")
    axis %= rank
    others = {(*t.shape[:axis], *t.shape[axis + 1 :]) for t in op.x}
    op.require(
        len(others) == 1 and all(len(t.shape) == rank for t in op.x), "its inputs' shapes do not suit each other"
    )
    joined = list(op.x[0].shape)
    joined[axis] = sum(t.shape[axis] for t in op.x)
    op.shape(tuple(joined))


def _reshape(op: _Op) -> None:
    op.count(1, 2)
    x, y = op.x[0], op.y[0]
    op.require(x.type == y.type and x.type in (INT8, INT16, FLOAT32, INT32), f"turns type {x.type} into {y.type}")
    new = tuple(op.fields["shape"])
    if len(op.x) == 2:
        op.require(op.x[1] is not None, "its new shape is left out")
        new = tuple(int(v) for v in op.integers(1, op.x[1].shape))
        op.require(len(op.x[1].shape) == 1, f"its new shape has shape {op.x[1].shape}")
    op.require(len(new) > 0 or len(op.x) == 2, "has no new shape")
    values, free = int(np.prod(x.shape, dtype=np.int64)), new.count(-1)
    rest = int(np.prod([v for v in new if v != -1], dtype=np.int64))
    good = free <= 1 and all(v == -1 or 0 < v <= values for v in new) and 0 < rest <= values and values % rest == 0
    op.require(good and (free or rest == values), f"cannot make {new} of {x.shape}")
    op.shape(tuple(values // rest if v == -1 else v for v in new))


def _one_axis(op: _Op) -> None:
    """EXPAND_DIMS and SQUEEZE: a reshape by axes of one place."""
    x, y = op.x[0], op.y[0]
    if op.name == "EXPAND_DIMS":
        op.count(2)
        op.require(op.x[1].shape in ((), (1,)), f"its axis has shape {op.x[1].shape}")
        axis, rank = int(op.integers(1, op.x[1].shape).reshape(-1)[0]), len(x.shape) + 1
        op.require(-rank <= axis < rank, f"axis {axis} of {rank}")
        axis %= rank
        wanted = (*x.shape[:axis], 1, *x.shape[axis:])
    else:
        op.count(1)
        rank = len(x.shape)
        axes = op.fields["axes"] or tuple(i for i, n in enumerate(x.shape) if n == 1)
        op.require(all(-rank <= a < rank and x.shape[a] == 1 for a in axes), f"axes {axes} of {x.shape}")
        axes = {a % rank for a in axes}
        wanted = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    op.require(x.type == y.type and x.type in (INT8, FLOAT32, INT32), f"turns type {x.type} into {y.type}")
    op.shape(wanted)


def _transpose(op: _Op) -> None:
    op.require(len(op.x) == 2 and len(op.y) == 1 and None not in op.x, "should have two inputs and one output")
    x = op.x[0]
    op.require(x.type == op.y[0].type and x.type in (INT8, FLOAT32, INT32), f"does not take type {x.type}")
    order = [int(v) for v in op.integers(1, (len(x.shape),))]
    op.require(sorted(order) == list(range(len(x.shape))), f"{order} is no order of {len(x.shape)} axes")
    op.shape(tuple(x.shape[i] for i in order))


def _pad(op: _Op) -> None:
    op.count(2 if op.name == "PAD" else 3)
    x = op.x[0]
    op.require(x.type == op.y[0].type and x.type in (INT8, INT16, FLOAT32), f"does not take type {x.type}")
    op.require(1 <= len(x.shape) <= 4, f"pads at most 4 axes, found {x.shape}")
    amounts = op.integers(1, (len(x.shape), 2))
    op.require(0 <= amounts.min() and amounts.max() < 1 << 20, f"pads by {amounts.tolist()}")
    if op.name == "PADV2":
        fill = op.x[2]
        good = fill.type == x.type and fill.data is not None and int(np.prod(fill.shape, dtype=np.int64)) == 1
        op.require(good, "its value is no constant of the input's type")
    op.shape(tuple(int(n + a + b) for n, (a, b) in zip(x.shape, amounts)))


def _reduce(op: _Op) -> None:
    op.count(2)
    x = op.x[0]
    op.require(x.type == op.y[0].type and x.type in (INT8, FLOAT32), f"does not take type {x.type}")
    rank = len(x.shape)
    op.require(len(op.x[1].shape) <= 1, f"its axes have shape {op.x[1].shape}")
    axes = [int(v) for v in op.integers(1, op.x[1].shape).reshape(-1)]
    op.require(all(-rank <= a < rank for a in axes), f"axes {axes} of {rank}")
    axes = [a % rank for a in axes]
    op.require(len(set(axes)) == len(axes), f"axes {axes} name one twice")
    keep = bool(op.fields["keep_dims"])
    op.shape(tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes))


def _slice(op: _Op) -> None:
    op.count(4)
    x = op.x[0]
    op.require(x.type == op.y[0].type and x.type in (INT8, INT16, FLOAT32, INT32), f"does not take type {x.type}")
    rank = len(x.shape)
    op.require(1 <= rank <= 5, f"slices at most 5 axes, found {rank}")
    begin, end, stride = (op.integers(i, (rank,)) for i in (1, 2, 3))
    masks = {name: op.fields[f"{name}_mask"] for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    op.require(not masks["ellipsis"] and not masks["new_axis"] and not op.fields["offset"], "adds axes or uses offsets")
    wanted = []
    for axis, length in enumerate(x.shape):
        step = int(stride[axis])
        op.require(step != 0 and abs(step) < 1 << 20, f"stride {step}")
        if masks["shrink_axis"] >> axis & 1:
            op.require(step == 1 and -length <= begin[axis] < length, f"place {begin[axis]} of {length}")
            continue
        start = None if masks["begin"] >> axis & 1 else int(begin[axis])
        stop = None if masks["end"] >> axis & 1 else int(end[axis])
        count = len(range(*slice(start, stop, step).indices(length)))
        op.require(count >= 1, f"leaves nothing of axis {axis}")
        wanted.append(count)
    op.shape(tuple(wanted))


def _split(op: _Op) -> None:
    """SPLIT_V: sizes of parts along an axis, both constants."""
    op.require(len(op.x) == 3 and None not in op.x and op.y, "should have three inputs and an output or more")
    x = op.x[0]
    same = all(y.type == x.type for y in op.y) and x.type in (INT8, FLOAT32)
    op.require(same, "does not take types that differ or are none of int8 and float32")
    op.require(op.x[2].shape in ((), (1,)), f"its axis has shape {op.x[2].shape}")
    axis, rank = int(op.integers(2, op.x[2].shape).reshape(-1)[0]), len(x.shape)
    op.require(-rank <= axis < rank, f"axis {axis} of {rank}")
    sizes = [int(v) for v in op.integers(1, (len(op.y),))]
    good = op.fields["parts"] == len(op.y) and min(sizes) >= 1 and sum(sizes) == x.shape[axis]
    op.require(good, f"splits {x.shape} into {sizes} along axis {axis}")
    axis %= rank
    for size, y in zip(sizes, op.y):
        wanted = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        op.require(y.shape == wanted, f"gives {wanted}, its output has shape {y.shape}")


def _gather(op: _Op) -> None:
    """A table of at least 256 entries, read at an int8 plus 128: an index that cannot lie outside."""
    op.count(2)
    table, index = op.x
    good = table.data is not None and table.type == op.y[0].type and table.type in (INT8, FLOAT32) and table.shape
    op.require(
        bool(good) and op.fields["axis"] == 0 and op.fields["batch_dims"] == 0, "is no table along its first axis"
    )
    add = op.producers.get(op.op.inputs[1])
    sources = [op.producers.get(i) for i in add.inputs] if add and add.name == "ADD" and len(add.inputs) == 2 else []
    offsets = [op.model.tensors[i] for i in add.inputs if op.model.tensors[i].data is not None] if sources else []
    casts = [s for s in sources if s is not None and s.name == "CAST" and op.model.tensors[s.inputs[0]].type == INT8]
    values = np.frombuffer(offsets[0].data, "<i4") if len(offsets) == 1 and offsets[0].type == INT32 else np.zeros(0)
    bounded = len(casts) == 1 and values.size > 0 and (values == 128).all() and index.type == INT32
    op.require(bounded and table.shape[0] >= 256 and not add.fields["fused"], "its indices may lie outside its table")
    op.shape((*index.shape, *table.shape[1:]))


def _handle(op: _Op) -> None:
    op.require(not op.x and len(op.y) == 1 and op.y[0].type == RESOURCE and op.y[0].shape in ((), (1,)), "is no handle")


def _read(op: _Op) -> None:
    op.require(len(op.x) == 1 and len(op.y) == 1 and op.x[0] is not None, "should have a handle and one output")
    op.require(op.x[0].type == RESOURCE and op.y[0].type in (INT8, FLOAT32), "does not read a variable")


def _assign(op: _Op) -> None:
    op.require(len(op.x) == 2 and not op.y and None not in op.x, "should have a handle and a value")
    op.require(op.x[0].type == RESOURCE and op.x[1].type in (INT8, FLOAT32), "does not write a variable")


def _once(op: _Op) -> None:
    op.require(not op.x and not op.y, "has inputs or outputs")


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("ADD", "MUL", "SUB", "MAXIMUM", "MINIMUM"), _pair),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pool),
    **dict.fromkeys(
        ("LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "HARD_SWISH", "SOFTMAX"), _function
    ),
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE", "CAST"), _convert),
    **dict.fromkeys(("PAD", "PADV2"), _pad),
    **dict.fromkeys(("MEAN", "SUM"), _reduce),
    **dict.fromkeys(("EXPAND_DIMS", "SQUEEZE"), _one_axis),
    "ASSIGN_VARIABLE": _assign,
    "CALL_ONCE": _once,
    "CONCATENATION": _concatenate,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "READ_VARIABLE": _read,
    "RESHAPE": _reshape,
    "SPLIT_V": _split,
    "STRIDED_SLICE": _slice,
    "TRANSPOSE": _transpose,
    "VAR_HANDLE": _handle,
}
