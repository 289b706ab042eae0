"""What is in a .tflite file: a row for each layer, and totals."""

from __future__ import annotations

import dataclasses

import numpy as np

from tflite_export import ir
from tflite_export.flatbuffer import reader as flatbuffer_reader
from tflite_export.flatbuffer.reader import FormatError, Model, Operator
from tflite_export.packed import op_options
from tflite_export.packed import reader as tflite_reader
from tflite_export.streaming import cost
from tflite_export.streaming import schedule as stream_schedule

WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")
"""Stock ops with a weight tensor as their second input, output channels first (depthwise: last)."""

_SPARSE = 0.1  # the table shows zeros where a layer has at least that share of them


@dataclasses.dataclass(frozen=True)
class Layer:
    """One op. weight_bits is None where there are no weights; constant_bytes counts everything that it reads.

    zeros is the share (0..1) of weights that are zero, None where that is not known.
    """

    op: str
    name: str
    shape: tuple[int, ...]
    weight_bits: int | None
    constant_bytes: int
    scale: float | None
    zero_point: int | None
    macs: int
    zeros: float | None = None


@dataclasses.dataclass(frozen=True)
class Stream:
    """A step of a stream beside a run of the clip model. ``step`` is None where the file has stock ops only."""

    schedule: stream_schedule.Schedule
    step: cost.Cost | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """A whole file; ``weights`` counts single weights."""

    name: str
    description: str
    layers: tuple[Layer, ...]
    file_bytes: int
    weights: int
    stream: Stream | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run: of a clip, or of a step of a stream."""
        return sum(layer.macs for layer in self.layers)


def inspect(flatbuffer: bytes) -> Summary:
    """Reads a .tflite file of either kind; raises FormatError (a ValueError) where it is damaged."""
    model = flatbuffer_reader.parse(flatbuffer)
    if any(op.custom for op in model.operators):
        tflite_reader.graph_of(model)  # reads and so checks every op
    rows = [_layer(op, model) for op in model.operators]
    zeros = _zeros(model)
    return Summary(
        model.name,
        model.description,
        tuple(dataclasses.replace(layer, zeros=zeros.get(layer.name)) for layer, _ in rows),
        len(flatbuffer),
        sum(n for _, n in rows),
        _stream(model),
    )


def _zeros(model: Model) -> dict[str, float]:
    """Share of zero weights of each of our ops, by its output."""
    if not any(op.custom for op in model.operators):
        return {}
    shares = {}
    for op in tflite_reader.graph_of(model).ops:
        weights = getattr(op, "weights", None)
        if isinstance(weights, ir.Weights):
            shares[op.output] = float((weights.levels == 0).mean())
        elif isinstance(op, ir.Recurrent):
            levels = (op.kernel.levels, op.recurrent.levels)
            shares[op.output] = sum(int((v == 0).sum()) for v in levels) / sum(v.size for v in levels)
        elif isinstance(op, ir.Depthwise):
            shares[op.output] = float((op.levels == 0).mean())
    return shares


def _stream(model: Model) -> Stream | None:
    if stream_schedule.METADATA not in model.metadata:
        return None
    schedule = stream_schedule.from_metadata(model.metadata)
    for names, ends in zip(zip(*schedule.states), (model.inputs, model.outputs)):
        missing = sorted(set(names) - {model.tensors[i].name for i in ends})
        if missing:
            raise FormatError(f"the stream's states {missing} are no inputs or outputs of the file; it is damaged")
    if not any(op.custom for op in model.operators):
        return Stream(schedule, None)
    graph = tflite_reader.graph_of(model)
    step = cost.of_graph(graph)
    return Stream(schedule, dataclasses.replace(step, moved=step.moved + cost.of_states(graph, schedule.states)))


def _layer(op: Operator, model: Model) -> tuple[Layer, int]:
    if not op.outputs:  # it only fills a variable
        return Layer(op.name, "", (), None, 0, None, None, 0), 0
    output = model.tensors[op.outputs[0]]
    constants = [model.tensors[i] for i in op.inputs if i >= 0 and model.tensors[i].data is not None]
    places = int(np.prod(output.shape, dtype=np.int64)) // max(1, output.shape[-1] if output.shape else 1)
    bits, weights, macs = None, 0, 0
    if op.custom and op.name in op_options.KINDS:
        o = op_options.decode(op.custom_options)
        if o.inputs:
            bits, weights = o.bits or 8, o.outputs * o.inputs
            if o.recurrence is not None:
                weights += o.outputs * (o.outputs // ir.CELLS[list(ir.CELLS)[o.recurrence.cell - 1]])
                places = model.tensors[op.inputs[0]].shape[1]
            if o.framing is not None:
                places *= o.framing.average
            macs = places * weights
    elif op.name in WEIGHTED and constants:
        kernel = constants[0]
        weights = int(np.prod(kernel.shape, dtype=np.int64))
        bits, macs = flatbuffer_reader.TYPE_BITS[kernel.type], places * weights
        if op.name == "FULLY_CONNECTED" and kernel.shape and output.shape:
            macs = int(np.prod(output.shape, dtype=np.int64)) * kernel.shape[-1]
    layer = Layer(
        op.name.removeprefix("TfmotKws") if op.custom else op.name,
        output.name,
        output.shape[1:],
        bits,
        sum(len(t.data) for t in constants),
        output.scales[0] if output.scales else None,
        output.zero_points[0] if output.zero_points else None,
        macs,
    )
    return layer, weights


def _stream_table(stream: Stream):
    """A step of the stream beside computing the whole window again."""
    from rich.table import Table

    schedule, step = stream.schedule, stream.step
    frames = f"{schedule.hop} frame{'s' * (schedule.hop > 1)}"
    state = "in and out" if schedule.states else "inside"
    table = Table(title=f"a stream: a step takes {frames}, needs {schedule.receptive} for the first; state {state}")
    table.add_column("for each step")
    for name in ("stream", "whole window again", "times less"):
        table.add_column(name, justify="right")
    clip = schedule.clip
    if step is not None:
        rows = [
            ("multiply-accumulates", step.macs, clip.macs),
            ("arena, bytes", step.arena, clip.arena),
            ("bytes moved for the state", step.moved, None),
        ]
        for name, ours, theirs in rows:
            ratio = "" if theirs is None else f"{theirs / ours:.1f}"
            table.add_row(name, f"{ours:,}", "" if theirs is None else f"{theirs:,}", ratio)
    else:
        table.add_row("multiply-accumulates", "", f"{clip.macs:,}", "")
    return table


def print_summary(summary: Summary) -> None:
    """Prints the table to standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{summary.name} ({summary.description})", show_footer=True)
    constants = sum(layer.constant_bytes for layer in summary.layers)
    columns = [
        ("op", "total", "left"),
        ("output", "", "left"),
        ("shape", "", "left"),
        ("bits", "", "right"),
        ("bytes", f"{constants:,}", "right"),
        ("scale", "", "right"),
        ("zero point", "", "right"),
        ("MACs a step" if summary.stream else "MACs a clip", f"{summary.macs:,}", "right"),
    ]
    sparse = any(layer.zeros is not None and layer.zeros >= _SPARSE for layer in summary.layers)
    if sparse:
        columns.insert(4, ("zeros", "", "right"))
    for header, footer, justify in columns:
        table.add_column(header, footer=footer, justify=justify, overflow="fold")
    for layer in summary.layers:
        table.add_row(
            layer.op,
            layer.name,
            " x ".join(map(str, layer.shape)),
            "" if layer.weight_bits is None else str(layer.weight_bits),
            *(["" if layer.zeros is None else f"{layer.zeros:.0%}"] if sparse else []),
            f"{layer.constant_bytes:,}",
            "" if layer.scale is None else f"{layer.scale:.6g}",
            "" if layer.zero_point is None else str(layer.zero_point),
            f"{layer.macs:,}" if layer.macs else "",
        )
    console = Console()
    console.print(table)
    if summary.stream:
        console.print(_stream_table(summary.stream))
    if summary.weights:
        share = summary.file_bytes / (4 * summary.weights)
        console.print(
            f"{summary.file_bytes:,} bytes, {summary.weights:,} weights: {share:.3f} of the weights in float32"
        )
    else:
        console.print(f"{summary.file_bytes:,} bytes, no weights")
