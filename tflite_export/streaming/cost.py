"""What one run of an integer graph costs: multiply-accumulates, bytes that only move, and memory for activations."""

from __future__ import annotations

import dataclasses

from tflite_export import ir
from tflite_export.packed import op_options
from tflite_export.streaming import memory_plan


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one run.

    macs: multiply-accumulates of layers with weights. moved: bytes that are copied to carry frames from run to run.
    arena: bytes of activations, where those that are never needed together share a place, and of what rings and
    recurrent layers keep.
    """

    macs: int
    moved: int
    arena: int


def of_graph(graph: ir.Graph) -> Cost:
    """The cost of a clip's graph, or of a step of a stream's."""
    macs = moved = kept = 0
    for op in graph.ops:
        y = graph.tensors[op.output]
        if isinstance(op, (ir.PackedDense, ir.DynamicDense)):
            macs += y.size * op.weights.codes.shape[1]
        elif isinstance(op, ir.Waveform):
            macs += y.size * op.average * op.taps
        elif isinstance(op, (ir.Depthwise, ir.FloatDepthwise)):
            macs += y.size * (op.window.taps if op.window else 1)
        elif isinstance(op, ir.Recurrent):
            rows = graph.tensors[op.input].shape[0]
            macs += rows * (op.kernel.codes.size + op.recurrent.codes.size)
            kept += op.state_bytes if op.keeps else 0
        elif isinstance(op, ir.Ring):
            new = graph.tensors[op.input]
            moved += y.bytes + min(new.bytes, y.bytes - new.bytes)  # all of y is written, and what is new is kept
            kept += op_options.RING_HEAD + y.bytes // y.shape[0] * op.history
    return Cost(macs, moved, memory_plan.plan(graph).size + kept)


def of_states(graph: ir.Graph, states: tuple[tuple[str, str], ...]) -> int:
    """Bytes that a stream moves whose states are inputs and outputs: joined with the new frames, and cut off again."""
    readers = {name: op for op in graph.ops for name in ir.op_inputs(op)}
    return sum(graph.tensors[readers[before].output].bytes + graph.tensors[after].bytes for before, after in states)
