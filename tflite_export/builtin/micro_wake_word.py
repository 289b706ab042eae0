"""Writes a stream's graph as ESPHome's ``micro_wake_word`` runs it: stock ops, int8 features in, one uint8 out.

What that component does was read in its sources (github.com/esphome/esphome, ``esphome/components/micro_wake_word``,
at commits 33fdbbe30 and cbd7709ec): ``streaming_model.cpp`` has the list of ops, the checks of both tensors and the 20
variables, ``micro_wake_word.cpp`` how a feature becomes an int8: ``(256 * feature + 333) / 666 - 128``.

A probability is a sigmoid: the resolver has no SOFTMAX. Of two classes the sigmoid of the difference of their logits is
their softmax; of more it is that of the margin, the keyword's logit minus the largest other one, which is what our
detector compares with a threshold where a model ends in logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tflite_export import ir
from tflite_export.builtin import writer
from tflite_export.flatbuffer import reader

OPS = frozenset((
    "CALL_ONCE", "VAR_HANDLE", "RESHAPE", "READ_VARIABLE", "STRIDED_SLICE", "CONCATENATION", "ASSIGN_VARIABLE",
    "CONV_2D", "MUL", "ADD", "MEAN", "FULLY_CONNECTED", "LOGISTIC", "QUANTIZE", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D",
    "MAX_POOL_2D", "PAD", "PACK", "SPLIT_V",
))  # fmt: skip
"""What ``StreamingModel::register_streaming_ops_`` registers."""
MAX_VARIABLES = 20
"""``MicroResourceVariables::Create(this->ma_, 20)``."""
MEL_BINS = 40
"""``PREPROCESSOR_FEATURE_SIZE``."""
FEATURES = ir.Quantization(float(np.float32(666 / 256 / 25.6)), -128)
"""int8 of our features (raw integers / 25.6) at this scale are ESPHome's integers, for each raw value up to 700."""
PROBABILITY = 1.0 / 255.0
"""What one step of the output is worth: ESPHome reads 255 as 1."""
_SIGMOID = ir.Quantization(1 / 256, -128)
_MOST_MARGIN = 8.0
"""A sigmoid's uint8 does not move beyond."""


class MicroWakeWordError(ir.GraphError):
    """A model that ESPHome cannot run; the message names what it lacks and the way out."""


def write(graph: ir.Graph, keyword: int, metadata: Mapping[str, bytes] | None = None) -> bytes:
    """The file of a stream's graph whose first input is [frames, 40] and whose output has a value for each class.

    Args:
        graph: with rings, from ``streaming.graph.to_stream``.
        keyword: the class whose probability is written.
        metadata: entries that the file carries.

    Raises:
        MicroWakeWordError: an op, a size or a number of variables that the component does not take.
        ir.GraphError: an op without a stock equivalent.
    """
    flatbuffer = _Writer(graph, keyword).write(metadata)
    check(flatbuffer)
    return flatbuffer


def check(flatbuffer: bytes) -> None:
    """Raises MicroWakeWordError where ESPHome would refuse a file, FormatError where it is damaged."""
    model = reader.parse(flatbuffer)
    for part in (model, model.once):
        for op in part.operators if part else ():
            if op.name not in OPS:
                tensor = part.tensors[op.outputs[0]].name if op.outputs else op.name
                raise MicroWakeWordError(
                    f"{tensor}: is computed by {op.name}, which ESPHome's micro_wake_word has not; it has "
                    f"{', '.join(sorted(OPS))}"
                )
    if model.resources > MAX_VARIABLES:
        raise MicroWakeWordError(
            f"the stream keeps {model.resources} tensors from step to step, ESPHome's micro_wake_word at most "
            f"{MAX_VARIABLES}: take layers with windows over time out"
        )
    tensors = [model.tensors[i] for i in (*model.inputs, *model.outputs)]
    found = [(t.shape, reader.TYPE_NAMES.get(t.type, str(t.type))) for t in tensors]
    good = len(found) == 2 and found[0][1] == "int8" and found[1] == ((1, 1), "uint8")
    if not good or len(found[0][0]) != 3 or found[0][0][0] != 1 or found[0][0][2] != MEL_BINS:
        raise MicroWakeWordError(
            f"its inputs and outputs are {found}; ESPHome's micro_wake_word takes int8 (1, stride, {MEL_BINS}) and "
            "uint8 (1, 1)"
        )


def arena_bytes(flatbuffer: bytes) -> int:
    """Bytes of arena that are enough for a file: no activation shares a place with another one.

    The sum of all activations and variables, of what TFLM keeps for each op, tensor and channel, and of the largest
    scratch of a convolution: ESP-NN takes 16-bit copies of its input and weights.
    """
    model = reader.parse(flatbuffer)
    parts = [part for part in (model, model.once) if part]
    activations = sum(-(-t.bytes // 16) * 16 for part in parts for t in part.tensors if t.data is None)
    bookkeeping = sum(32 * len(part.tensors) + 256 * len(part.operators) for part in parts)
    channels = scratch = kept = 0
    for part in parts:
        for op in part.operators:
            if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                x, weights = (part.tensors[i] for i in op.inputs[:2])
                channels += len(weights.scales)
                if op.name != "FULLY_CONNECTED":
                    scratch = max(scratch, 2 * (x.bytes + weights.bytes) + 1024)
            elif op.name == "READ_VARIABLE":
                kept += -(-part.tensors[op.outputs[0]].bytes // 16) * 16
    return -(-(activations + bookkeeping + 8 * channels + scratch + kept + 2048) // 1024) * 1024


class _Writer(writer.Writer):
    """The writer of stock ops, with the component's own input and output."""

    def __init__(self, graph: ir.Graph, keyword: int) -> None:
        super().__init__(graph, int4=False)
        self.keyword = keyword

    def write(self, metadata: Mapping[str, bytes] | None) -> bytes:
        """See the module's ``write``."""
        self.begin_states()
        source = self.features()
        last = self.graph.ops[-1]
        (output,) = self.graph.outputs
        softmax = last if isinstance(last, ir.Softmax) and last.output == output else None
        for op in self.graph.ops:
            if op is not softmax:
                self.write_op(op)
        logits, beta = output, 1.0
        if softmax:
            logits = softmax.input
            beta = writer.softmax_beta(softmax, self.graph.tensors[logits].quantization.scale)
        return self.model.finish(
            {self.graph.inputs[0]: source}, {"probability": self.probability(logits, beta)}, metadata
        )

    def features(self) -> int:
        """int8 [1, stride, 40] as ESPHome makes them, then what the graph takes."""
        (name,) = self.graph.inputs
        tensor = self.graph.tensors[name]
        frames = tensor.shape[0]
        if tensor.quantization is None or tensor.shape not in ((frames, MEL_BINS), (frames, MEL_BINS, 1)):
            kind = "float32" if tensor.quantization is None else "int8"
            raise MicroWakeWordError(
                f"input {name!r}: takes {kind} {list(tensor.shape)} a step; ESPHome's micro_wake_word gives int8 "
                f"[stride, {MEL_BINS}]"
            )
        source = index = self.model.add_activation(name, (frames, MEL_BINS), FEATURES)
        if tensor.quantization != FEATURES:
            index = self.model.add_activation(f"{name}/own_scale", (frames, MEL_BINS), tensor.quantization)
            self.emit("QUANTIZE", [source], [index], "QuantizeOptions")
        if len(tensor.shape) == 3:
            flat, index = index, self.model.add_activation(f"{name}/picture", tensor.shape, tensor.quantization)
            self.reshape(flat, index, tensor.shape)
        self.plain[name] = index
        return source

    def probability(self, logits: str, beta: float) -> int:
        """uint8 [1, 1] of the newest row of a tensor of logits, or of one that holds probabilities already."""
        tensor = self.graph.tensors[logits]
        index, shape, q = self.as_plain(logits), tensor.shape, tensor.quantization
        if q is None:
            raise MicroWakeWordError(f"{logits}: is float32; ESPHome's micro_wake_word runs int8 models")
        if len(shape) > 1:
            newest = self.model.add_activation(f"{logits}/newest", (1, *shape[1:]), q)
            self.slice_axis(index, newest, f"{logits}/newest", range(shape[0] - 1, shape[0]), shape)
            index = newest
        classes = int(np.prod(shape[-1:] if len(shape) > 1 else shape, dtype=np.int64))
        if int(np.prod(shape[1:] if len(shape) > 1 else shape, dtype=np.int64)) != classes:
            raise MicroWakeWordError(f"{logits}: has shape {list(shape)}; needed is one value for each class")
        if not 0 <= self.keyword < classes:
            raise MicroWakeWordError(f"{logits}: has {classes} classes, no class {self.keyword}")
        flat = self.model.add_activation(f"{logits}/classes", (classes,), q)
        self.reshape(index, flat, (classes,))
        own = self.some(flat, classes, range(self.keyword, self.keyword + 1), "keyword", q)
        if q == _SIGMOID:
            sigmoid = own
        elif classes == 1:
            raise MicroWakeWordError(f"{logits}: one class that is no probability; end the model in a sigmoid")
        else:
            sigmoid = self.sigmoid(self.margin(flat, own, classes, q, beta))
        # The same byte at the scale that ESPHome reads it at, so that QUANTIZE only moves the zero point.
        stated = self.model.add_activation(
            "probability/stated", (1,), ir.Quantization(float(np.float32(PROBABILITY)), -128)
        )
        self.reshape(sigmoid, stated, (1,))
        out = self.model.add_unsigned("probability", (1,), PROBABILITY)
        self.emit("QUANTIZE", [stated], [out], "QuantizeOptions")
        return out

    def some(self, source: int, classes: int, taken: range, name: str, q: ir.Quantization) -> int:
        """Some of the classes."""
        if len(taken) == classes:
            return source
        to = self.model.add_activation(f"probability/{name}", (len(taken),), q)
        self.slice_axis(source, to, f"probability/{name}", taken, (classes,))
        return to

    def margin(self, flat: int, own: int, classes: int, q: ir.Quantization, beta: float) -> int:
        """The keyword's logit minus the largest of the others."""
        ranges = [r for r in (range(self.keyword), range(self.keyword + 1, classes)) if len(r)]
        parts = [self.some(flat, classes, taken, f"others_{i}", q) for i, taken in enumerate(ranges)]
        none = self.activation("NONE")
        others = parts[0]
        if len(parts) > 1:
            others = self.model.add_activation("probability/others", (classes - 1,), q)
            self.emit("CONCATENATION", parts, [others], "ConcatenationOptions", axis=1, fusedActivationFunction=none)
        if classes > 2:
            line = self.model.add_activation("probability/line", (1, classes - 1, 1), q)
            self.reshape(others, line, (1, classes - 1, 1))
            most = self.model.add_activation("probability/most", (1, 1, 1), q)
            fields = {"strideH": 1, "strideW": 1, "filterHeight": 1, "filterWidth": classes - 1}
            fields |= {"padding": self.schema.Padding.VALID, "fusedActivationFunction": none}
            self.emit("MAX_POOL_2D", [line], [most], "Pool2DOptions", **fields)
            others = self.model.add_activation("probability/other", (1,), q)
            self.reshape(most, others, (1,))
        both = self.model.add_activation("probability/both", (2,), q)
        self.emit("CONCATENATION", [own, others], [both], "ConcatenationOptions", axis=1, fusedActivationFunction=none)
        scale = float(np.float32(beta / ir.INT8_MAX))
        signs = np.array([[ir.INT8_MAX, -ir.INT8_MAX]], np.int8)
        weights = self.model.add_constant("probability/signs", signs, scales=[scale])
        bias = self.model.add_constant("probability/bias", np.zeros(1, np.int32), scales=[np.float32(scale * q.scale)])
        widest = min(_MOST_MARGIN, 255 * q.scale * beta)
        to = self.model.add_activation("probability/margin", (1,), ir.Quantization(float(np.float32(widest / 128)), 0))
        fields = {"fusedActivationFunction": none, "keepNumDims": False}
        self.emit("FULLY_CONNECTED", [both, weights, bias], [to], "FullyConnectedOptions", **fields)
        return to

    def sigmoid(self, source: int) -> int:
        """LOGISTIC of one value."""
        to = self.model.add_activation("probability/sigmoid", (1,), _SIGMOID)
        self.emit("LOGISTIC", [source], [to])
        return to
