"""The graph of a clip as a file for ESPHome's ``micro_wake_word``, and when its probabilities come."""

from __future__ import annotations

import dataclasses

from tflite_export import ir
from tflite_export.builtin import micro_wake_word as files
from tflite_export.streaming import graph as streams
from tflite_export.streaming.schedule import Clip, Rows, Schedule


@dataclasses.dataclass(frozen=True)
class MicroWakeWord:
    """flatbuffer: the file. stride: frames of a step. arena: bytes of arena that are enough for it."""

    flatbuffer: bytes
    stride: int
    arena: int


def from_graph(graph: ir.Graph, keyword: int) -> MicroWakeWord:
    """The file of a clip's graph.

    A step takes as many frames as the model's strides ask for, and gives a probability from the first step on, as the
    component runs it: early ones have seen zeros ahead of the first frame.

    Args:
        graph: from ``tflite_export.from_keras.to_graph``.
        keyword: the class whose probability is written.

    Raises:
        StreamError: a model that cannot stream.
        MicroWakeWordError: one that the component cannot run.
        ir.GraphError: an op without a stock equivalent.
    """
    if len(graph.outputs) != 1:
        raise files.MicroWakeWordError(f"the model has {len(graph.outputs)} outputs, ESPHome takes one")
    stream = streams.to_stream(graph)
    found = stream.schedule
    # The component knows no frames ahead of the first one and drops no row.
    schedule = Schedule(found.hop, 0, (Rows(1, 0, timed=False),), found.clip, ahead=found.ahead)
    flatbuffer = files.write(stream.graph, keyword, schedule.to_metadata())
    return MicroWakeWord(flatbuffer, found.hop, files.arena_bytes(flatbuffer))


def schedule_of(stride: int) -> Schedule:
    """When a file that says nothing of it takes frames: microWakeWord's own models."""
    return Schedule(stride, 0, (Rows(1, 0, timed=False),), Clip(0, 0, 0))
