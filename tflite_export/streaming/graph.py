"""Turns the integer graph of a clip into one that takes only the new frames of a stream.

The first axis of a tensor is time. A window over time needs frames that came before: a ring keeps them, so that nothing
is computed twice and nothing differs: row p of an output of the stream is row p of the clip model's output on all
frames since the reset, to the bit. A model that joins all its rows (global pooling, flatten) is taken as a window over
as many rows, which moves on: output i of the stream is the clip model on frames ``i * hop ..``. A recurrent layer
keeps its state: it has seen all frames since the reset, and where it gives its last state only, an output is that of
the clip model on all of them.

How far a tensor has come is counted in rows. After step j (from 0) of ``rows`` rows each, its newest row is
``(j + 1) * rows - 1 - lag``. A window of ``span`` rows, with ``before`` zeros ahead of the first, moved on by
``stride``, covers rows ``p * stride - before`` to ``p * stride - before + span - 1``, so

    lag of the output  = ceil((lag + span - before) / stride) - 1
    rows to keep       = lag of the output * stride - lag + before

A window that is padded behind the last row too (padding="same") looks ahead: a stream has no last row, so it waits for
the rows that come, by the same formula. The first and last rows of a clip, which see zeros there, then have other
numbers in a stream; ``Schedule.ahead`` says how many frames it waits, and a ``StreamWarning`` that it does.
"""

from __future__ import annotations

import dataclasses
import math
import warnings

from tflite_export import ir
from tflite_export.streaming import cost
from tflite_export.streaming.schedule import Clip, Rows, Schedule

_POOLS = (ir.AveragePool, ir.MaxPool, ir.FloatAverage)
_WINDOWED = (ir.PackedDense, ir.Depthwise, ir.Waveform, ir.DynamicDense, ir.FloatDepthwise, *_POOLS)


_AHEAD_OF_VALID = (
    "let all layers before it have zeros ahead as well (padding='causal' of Conv1D and of this package's layers, "
    "ZeroPadding1D or ZeroPadding2D of time ahead of others with padding='valid'), or padding='valid' here"
)


class StreamError(ValueError):
    """A model that cannot stream; the message names the layer and the way out."""


class StreamWarning(UserWarning):
    """A stream that gives other numbers than the clip model near both ends of a clip; the message names the layers."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """A graph that is run once for every hop, and when; its first input takes the frames [hop, ...]."""

    graph: ir.Graph
    schedule: Schedule


@dataclasses.dataclass(frozen=True)
class _Rows(Rows):
    """before: zeros of a padding ahead of the first row that were not written yet."""

    before: int = 0


def to_stream(graph: ir.Graph) -> Stream:
    """The streaming form of a clip's graph, with rings.

    Raises:
      StreamError: an op looks ahead, moves or joins the time axis in a way that a stream has not, or reads tensors of
        different rates.
    """
    if len(graph.inputs) != 1:
        raise StreamError(f"a stream has one input, this model has {len(graph.inputs)}: {', '.join(graph.inputs)}")
    graph, row = _with_time(graph)
    shape = graph.tensors[graph.inputs[0]].shape
    if len(shape) < 2:
        raise StreamError(
            f"input {graph.inputs[0]!r}: needs [time, features], found {shape} and no Reshape to [time, features] "
            "as the only layer that reads it"
        )
    if any(isinstance(op, ir.Ring) or getattr(op, "keeps", False) for op in graph.ops):
        raise StreamError("the graph streams already")
    strides = _strides(graph)
    hop = math.lcm(row, *strides.values())
    padded = _pads(graph)
    leads = range(0, 1 if padded else hop, row)
    # Where no layer pads, the first step may begin early, so that a step ends where a window of the output ends.
    candidates = [(_Plan(graph, hop, strides, lead), lead) for lead in leads]
    plan, lead = min(candidates, key=lambda c: (c[0].receptive() - c[1], c[1]))
    outputs = [plan.known[name] for name in graph.outputs]
    whole = cost.of_graph(graph)
    clip = Clip(graph.tensors[graph.inputs[0]].shape[0] // row, whole.macs, whole.arena)
    rows = tuple(Rows(v.rows, v.lag, v.timed) for v in outputs)
    ahead = _frames_ahead(graph, strides)
    waits = max(ahead[name] for name in graph.outputs)
    if waits:
        names = ", ".join(op.name for op in graph.ops if _rows_ahead(op))
        message = (
            f"these layers look ahead (padding='same', or zeros behind the clip): {names}. The stream waits {waits} "
            "frames for what they look at, and the first and last rows of a clip, which see zeros there, have other "
            "numbers in it; padding='valid' or zeros ahead only (docs/streaming.md) give those of the clip model"
        )
        warnings.warn(message, StreamWarning, stacklevel=3)
    schedule = Schedule(hop // row, lead // row, rows, clip, ahead=-(-waits // row))
    return Stream(_in_rows(plan.build(), row), schedule)


def _in_rows(graph: ir.Graph, row: int) -> ir.Graph:
    """The graph of a step whose input has so many samples in a row, as the clip's has."""
    if row == 1:
        return graph
    (name,) = graph.inputs
    x = graph.tensors[name]
    flat = dataclasses.replace(x, name=f"{name}/samples")
    tensors = {**graph.tensors, name: dataclasses.replace(x, shape=(x.size // row, row)), flat.name: flat}
    moved = [_renamed(op, {name: flat.name}) for op in graph.ops]
    return ir.Graph(tensors, (ir.Reshape(flat.name, name, flat.name), *moved), graph.inputs, graph.outputs, graph.name)


def _renamed(op: ir.Op, names: dict[str, str]) -> ir.Op:
    """The op, reading tensors of other names."""
    if hasattr(op, "inputs"):
        return dataclasses.replace(op, inputs=tuple(names.get(v, v) for v in op.inputs))
    return dataclasses.replace(op, input=names.get(op.input, op.input))


def _with_time(graph: ir.Graph) -> tuple[ir.Graph, int]:
    """The graph whose input has the shape that a reshape gives it at once, and how many samples a row of it had.

    Flat features become [time, ...]. Samples that lie in rows become [samples, 1], and are to be given in rows again;
    others have one in a row.
    """
    (name,) = graph.inputs
    readers = [op for op in graph.ops if name in ir.op_inputs(op)]
    shapes = {graph.tensors[op.output].shape for op in readers if isinstance(op, ir.Reshape)}
    x = graph.tensors[name]
    if len(shapes) != 1 or not all(isinstance(op, ir.Reshape) for op in readers):
        return graph, 1
    (shape,) = shapes
    in_rows = x.wide and len(x.shape) == 2 and shape == (x.size, 1)
    if len(shape) < 2 or (len(x.shape) > 1 and x.shape[0] > 1 and not in_rows):
        return graph, 1
    same = {op.output: name for op in readers}
    if set(same) & set(graph.outputs):
        return graph, 1
    ops = tuple(_renamed(op, same) for op in graph.ops if op.output not in same)
    tensors = {key: t for key, t in graph.tensors.items() if key not in same}
    tensors[name] = dataclasses.replace(x, shape=shape)
    made = ir.Graph(tensors, ops, graph.inputs, graph.outputs, graph.name)
    return made, x.shape[1] if in_rows and x.shape[0] > 1 else 1


def _rows_ahead(op: ir.Op) -> int:
    """Rows of padding behind the last one."""
    window = _time_window(op)
    return window.padding[1] if window else op.padding[0][1] if isinstance(op, ir.Pad) and op.padding else 0


def _frames_ahead(graph: ir.Graph, strides: dict[str, int]) -> dict[str, int]:
    """Frames that each tensor waits for because of such padding."""
    ahead = {name: 0 for name in graph.inputs}
    for op in graph.ops:
        names = ir.op_inputs(op)
        own = _rows_ahead(op) * strides[names[0]] if names[0] in strides else 0
        ahead[op.output] = max(ahead[name] for name in names) + own
    return ahead


def without_mean(graph: ir.Graph) -> ir.Graph:
    """The graph of a clip up to the mean over time that it ends in: its rows become the output.

    A stream then gives each row as soon as it is known, instead of a mean that moves over as many rows as a clip has;
    smoothing is left to the detector.

    Raises:
      StreamError: the graph has several outputs, or does not end in a mean over all of its time.
    """
    producers = {op.output: op for op in graph.ops}
    (name,) = graph.outputs if len(graph.outputs) == 1 else ("",)
    dropped = set()
    while isinstance(producers.get(name), ir.Reshape):
        dropped.add(name)
        name = producers[name].input
    op = producers.get(name)
    shape = graph.tensors[op.input].shape if isinstance(op, (ir.AveragePool, ir.FloatAverage)) else ()
    if len(shape) != 2 or op.window.size[0] != shape[0]:
        raise StreamError(
            "only a model of one output that is a mean over all rows of a clip can give its rows instead; this one "
            f"ends in {type(op).__name__ if op else 'several outputs'}"
        )
    dropped.add(name)
    ops = tuple(v for v in graph.ops if v.output not in dropped)
    tensors = {key: t for key, t in graph.tensors.items() if key not in dropped}
    return ir.Graph(tensors, ops, graph.inputs, (op.input,), graph.name)


def externalize(stream: Stream) -> Stream:
    """The same stream without rings: states are inputs and outputs of the graph, <tensor>/state and <tensor>/next."""
    graph = stream.graph
    tensors, ops, states = dict(graph.tensors), [], []
    for op in graph.ops:
        y = tensors[op.output]
        before, after = f"{op.output}/state", f"{op.output}/next"
        if isinstance(op, ir.Recurrent):
            made = _with_state(op, y, before, after, tensors)
            ops += made
            states.append((before, after))
            continue
        if not isinstance(op, ir.Ring):
            ops.append(op)
            continue
        for name in (before, after):
            tensors[name] = dataclasses.replace(y, name=name, shape=(op.history, *y.shape[1:]))
        ops.append(ir.Concatenate(op.output, (before, op.input), op.output, 0))
        ops.append(ir.Slice(after, op.output, after, y.shape[0] - op.history, y.shape[0], 1))
        states.append((before, after))
    inputs = (*graph.inputs, *(name for name, _ in states))
    outputs = (*graph.outputs, *(name for _, name in states))
    made = ir.Graph(tensors, tuple(ops), inputs, outputs, graph.name)
    return Stream(made, dataclasses.replace(stream.schedule, states=tuple(states)))


def _with_state(op: ir.Recurrent, y: ir.Tensor, before: str, after: str, tensors: dict[str, ir.Tensor]) -> list[ir.Op]:
    """A recurrent layer that is given its state and gives the next one behind its rows, and what takes them apart."""
    both, flat, n = f"{op.output}/both", f"{op.output}/flat", op.state_bytes
    for name, size in ((before, n), (both, y.size + n), (flat, y.size), (after, n)):
        tensors[name] = ir.Tensor(name, (size,), y.quantization)
    return [
        dataclasses.replace(op, output=both, keeps=False, state=before),
        ir.Slice(after, both, after, y.size, y.size + n, 1),
        ir.Slice(flat, both, flat, 0, y.size, 1),
        ir.Reshape(op.output, flat, op.output),
    ]


def _time_window(op: ir.Op) -> ir.Window | None:
    return op.window if isinstance(op, _WINDOWED) else None


def _slices_time(op: ir.Op) -> bool:
    return isinstance(op, ir.Slice) and op.axis == 0


def _joins_time(op: ir.Op, graph: ir.Graph) -> bool:
    """Whether a reshape ends the time axis."""
    x, y = graph.tensors[op.input].shape, graph.tensors[op.output].shape
    return len(y) < 2 or y[0] != x[0]


def _ends_time(op: ir.Op, graph: ir.Graph) -> bool:
    """Whether the output has no time axis: all rows joined, or a recurrent layer's last state alone."""
    if isinstance(op, ir.Recurrent):
        return not op.sequences
    return isinstance(op, ir.Reshape) and _joins_time(op, graph)


def _strides(graph: ir.Graph) -> dict[str, int]:
    """Frames from one row to the next, of every tensor that has a time axis."""
    strides = {graph.inputs[0]: 1}
    for op in graph.ops:
        found = [strides[name] for name in ir.op_inputs(op) if name in strides]
        if not found or _ends_time(op, graph):
            continue
        window = _time_window(op)
        step = window.stride[0] if window else op.stride if _slices_time(op) else 1
        if step < 1:
            raise StreamError(f"{op.name}: reverses time, which a stream cannot; take this layer out of the model")
        if len(set(found)) > 1:
            raise StreamError(f"{op.name}: its inputs have one row in {found} frames; give them the same strides")
        strides[op.output] = found[0] * step
    return strides


def _pads(graph: ir.Graph) -> bool:
    windows = [w for w in map(_time_window, graph.ops) if w]
    return any(w.padding[0] for w in windows) or any(isinstance(op, ir.Pad) and op.padding[0][0] for op in graph.ops)


def _one_value_for_all_time(op: ir.Op, shapes: list[tuple[int, ...]]) -> str:
    return (
        f"{op.name}: joins rows with a value of the whole clip (squeeze and excite, a mean taken away), shapes "
        f"{' and '.join(map(str, shapes))}: a stream would need frames to come for rows that it has given; take that "
        "value over the bands of each row, or over the last frames by zeros ahead and AveragePooling1D or "
        "AveragePooling2D with strides=1, or take it out"
    )


class _Plan:
    """The graph of a stream whose first step begins ``lead`` frames early."""

    def __init__(self, graph: ir.Graph, hop: int, strides: dict[str, int], lead: int) -> None:
        self.graph, self.hop, self.strides = graph, hop, strides
        self.ahead = any(_rows_ahead(op) for op in graph.ops if op.output in strides)
        self.known = {graph.inputs[0]: _Rows(hop, lead)}
        self.sources: dict[str, str] = {}  # a padded tensor -> the one that is padded
        self.history: dict[int, list[int]] = {}  # rows that op i keeps of each input
        for number, op in enumerate(graph.ops):
            self.known[op.output] = self._follow(op, number)
        for name in graph.outputs:
            if self.known[name].before:
                raise StreamError(f"{name}: zeros ahead of an output are none of a stream's; take the padding out")

    def receptive(self) -> int:
        """Frames until the last output's first row, those ahead of the first step included."""
        return max((self.known[name].lag // self.known[name].rows + 1) * self.hop for name in self.graph.outputs)

    # How rows and lags follow from op to op

    def _follow(self, op: ir.Op, number: int) -> _Rows:
        x = [self.known[name] for name in ir.op_inputs(op)]
        if not all(v.timed for v in x):
            return self._follow_joined(op, x)
        window = _time_window(op)
        if window is not None:
            if window.padding[0] and isinstance(op, _POOLS) and not self.ahead:
                raise StreamError(f"{op.name}: a pool over padded time cannot stream; use padding='valid'")
            span = (window.size[0] - 1) * window.dilation[0] + 1
            return self._window(op, number, x[0], span, window.padding[0], window.stride[0])
        if _slices_time(op):
            return self._window(op, number, x[0], 1, -op.begin, op.stride)
        if isinstance(op, ir.Pad):
            before = op.padding[0][0]
            if all(pair == (0, 0) for pair in op.padding[1:]):
                self.sources[op.output] = self.sources.get(op.input, op.input)
            return dataclasses.replace(x[0], before=x[0].before + before)
        if x[0].before and self._keeps_zeros(op):
            return x[0]  # as good as padded behind the op: a window still has to take the zeros in
        if any(v.before for v in x):
            raise StreamError(
                f"{op.name}: reads zeros that were put ahead of the first frame; only layers with a window over time "
                "may follow a padding of time"
            )
        return self._follow_rows(op, number, x)

    def _keeps_zeros(self, op: ir.Op) -> bool:
        """Whether an op moves values inside of a row, so that a row of zeros stays one."""
        if isinstance(op, ir.Reshape):
            return not _joins_time(op, self.graph)
        return isinstance(op, ir.Slice) or (isinstance(op, ir.Transpose) and op.permutation[0] == 0)

    def _follow_rows(self, op: ir.Op, number: int, x: list[_Rows]) -> _Rows:
        shapes = [self.graph.tensors[name].shape for name in ir.op_inputs(op)]
        if isinstance(op, ir.Reshape):
            if not _joins_time(op, self.graph):
                return x[0]
            if x[0].rows != 1:
                raise StreamError(
                    f"{op.name}: joins rows of which a hop of {self.hop} frames makes {x[0].rows}; "
                    "all branches need the same strides"
                )
            self.history[number] = [shapes[0][0] - 1]
            return _Rows(1, x[0].lag + shapes[0][0] - 1, timed=False)
        if isinstance(op, ir.Recurrent) and not op.sequences:
            return _Rows(1, x[0].lag // x[0].rows, timed=False)
        if isinstance(op, ir.Transpose) and op.permutation[0] != 0:
            raise StreamError(f"{op.name}: moves the time axis; keep it first")
        if isinstance(op, ir.Concatenate) and op.axis == 0:
            raise StreamError(f"{op.name}: joins pieces of time one after another, which a stream has not")
        pair = isinstance(op, (ir.Add, ir.Multiply, ir.FloatAdd, ir.FloatMultiply))
        if pair and (len(shapes[0]) != len(shapes[1]) or shapes[0][0] != shapes[1][0]):
            raise StreamError(_one_value_for_all_time(op, shapes))
        lag = max(v.lag for v in x)
        if any(v.lag != lag for v in x):
            self.history[number] = [lag - v.lag for v in x]
        return _Rows(x[0].rows, lag)

    def _follow_joined(self, op: ir.Op, x: list[_Rows]) -> _Rows:
        if any(v.timed for v in x) or len({v.lag for v in x}) > 1:
            if any(v.timed for v in x):
                raise StreamError(_one_value_for_all_time(op, [self.graph.tensors[n].shape for n in ir.op_inputs(op)]))
            raise StreamError(
                f"{op.name}: joins tensors that belong to different times; let its inputs come from the same rows"
            )
        return x[0]

    def _window(self, op: ir.Op, number: int, x: _Rows, span: int, before: int, stride: int) -> _Rows:
        before += x.before
        if before > 0 and x.lag and not self.ahead:
            raise StreamError(
                f"{op.name}: puts zeros ahead of rows that a layer without padding makes; {_AHEAD_OF_VALID}"
            )
        # Not below 0: rows that are known before the first frame are computed like all others, from zeros.
        lag = max(-(-(x.lag + span - before) // stride) - 1, 0)
        self.history[number] = [lag * stride - x.lag + before]
        return _Rows(x.rows // stride, lag)

    # The graph

    def build(self) -> ir.Graph:
        """The graph of a step."""
        self.tensors: dict[str, ir.Tensor] = {}
        self.ops: list[ir.Op] = []
        self.rings: dict[tuple[str, int], str] = {}
        self._add_rows(self.graph.inputs[0])
        longest = self._longest_slices()
        for number, op in enumerate(self.graph.ops):
            self._emit(op, number, longest)
        used = {name for op in self.ops for name in (*ir.op_inputs(op), op.output)} | set(self.graph.outputs)
        tensors = {name: t for name, t in self.tensors.items() if name in used or name in self.graph.inputs}
        return ir.Graph(tensors, tuple(self.ops), self.graph.inputs, self.graph.outputs, self.graph.name)

    def _add(self, name: str, shape: tuple[int, ...], like: str) -> str:
        self.tensors[name] = dataclasses.replace(self.graph.tensors[like], name=name, shape=shape)
        return name

    def _add_rows(self, name: str) -> None:
        shape, rows = self.graph.tensors[name].shape, self.known[name]
        self._add(name, (rows.rows, *shape[1:]) if rows.timed else shape, name)

    def _longest_slices(self) -> dict[str, int]:
        """Slices of one tensor share a ring: the longest history each source needs for them."""
        longest: dict[str, int] = {}
        for number, op in enumerate(self.graph.ops):
            if _slices_time(op) and self.known[op.input].timed:
                source = self.sources.get(op.input, op.input)
                longest[source] = max(longest.get(source, 0), self.history[number][0])
        return longest

    def _ring(self, source: str, history: int) -> str:
        """The tensor with ``history`` rows ahead of the new ones, or without the first new ones where negative."""
        if history == 0:
            return source
        if (source, history) not in self.rings:
            t = self.tensors[source]
            name = f"{source}/last{history}" if history > 0 else f"{source}/from{-history}"
            self._add(name, (t.shape[0] + history, *t.shape[1:]), source)
            make = ir.Ring(name, source, name, history) if history > 0 else None
            self.ops.append(make or ir.Slice(name, source, name, -history, t.shape[0], 1))
            self.rings[source, history] = name
        return self.rings[source, history]

    def _emit(self, op: ir.Op, number: int, longest: dict[str, int]) -> None:
        names = [self.sources.get(name, name) for name in ir.op_inputs(op)]
        if isinstance(op, ir.Pad) and self.known[op.output].timed:
            self._emit_pad(op)
            return
        self._add_rows(op.output)
        if _slices_time(op) and self.known[op.input].timed:
            history, rows = longest[names[0]], self.known[op.output].rows
            begin = history - self.history[number][0]
            end = begin + (rows - 1) * op.stride + 1
            self.ops.append(ir.Slice(op.name, self._ring(names[0], history), op.output, begin, end, op.stride))
            return
        kept = self.history.get(number, [0] * len(names))
        reads = [self._ring(name, history) for name, history in zip(names, kept)]
        if hasattr(op, "inputs"):  # the newer tensor waits for the older
            reads = [self._first_rows(read, self.known[op.output]) for read in reads]
            self.ops.append(dataclasses.replace(op, inputs=tuple(reads)))
            return
        if isinstance(op, ir.Recurrent):  # rows that begin before the first frame are none of a clip's
            op = dataclasses.replace(op, keeps=True, skip=self.known[op.input].lag)
        window = _time_window(op)
        if window is not None and self.known[op.input].timed:
            span = (window.size[0] - 1) * window.dilation[0] + 1
            reads[0] = self._head(
                reads[0], (self.known[op.output].rows - 1) * window.stride[0] + span, window.stride[0]
            )
            if any(window.padding[:2]):
                op = dataclasses.replace(op, window=dataclasses.replace(window, padding=(0, 0, *window.padding[2:])))
        self.ops.append(dataclasses.replace(op, input=reads[0]))

    def _first_rows(self, name: str, rows: _Rows) -> str:
        t = self.tensors[name]
        if not rows.timed or t.shape[0] == rows.rows:
            return name
        short = f"{name}/late"
        if short not in self.tensors:
            self.tensors[short] = dataclasses.replace(t, name=short, shape=(rows.rows, *t.shape[1:]))
            self.ops.append(ir.Slice(short, name, short, 0, rows.rows, 1))
        return short

    def _head(self, name: str, rows: int, stride: int) -> str:
        """The rows that windows of a step cover, where more zeros are ahead than windows reach back."""
        t = self.tensors[name]
        if t.shape[0] - rows < stride:
            return name
        short = f"{name}/first{rows}"
        if short not in self.tensors:
            self.tensors[short] = dataclasses.replace(t, name=short, shape=(rows, *t.shape[1:]))
            self.ops.append(ir.Slice(short, name, short, 0, rows, 1))
        return short

    def _emit_pad(self, op: ir.Pad) -> None:
        """Padding of time is what rings begin with; that of other axes stays."""
        if op.output not in self.sources:
            self._add_rows(op.output)
            source = self.sources.get(op.input, op.input)
            self.ops.append(dataclasses.replace(op, input=source, padding=((0, 0), *op.padding[1:])))
