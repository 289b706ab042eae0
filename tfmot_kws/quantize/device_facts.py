# SPDX-License-Identifier: Apache-2.0
"""What only the exported graph of a model knows: the memory of its activations, and what a step of a stream computes.

The one place where training asks for the export, and only where a budget limits such things.
"""

from __future__ import annotations

import warnings

from tfmot_kws.keras import keras


def _graph(model: keras.Model, streaming: bool):
    """The graph of a model that need not be trained, and the layer that each op comes from, by the op's output."""
    from tflite_export.from_keras import draft
    from tflite_export.streaming import graph as streams

    graph, sources = draft.graph_of(model)
    if streaming:
        with warnings.catch_warnings():  # the export says it again
            warnings.simplefilter("ignore", streams.StreamWarning)
            graph = streams.to_stream(graph).graph
    return graph, sources


def ram_bytes(model: keras.Model, streaming: bool = False) -> int:
    """Bytes of activations in one run of a clip, or in a step of a stream with what it keeps: the file's arena.

    Args:
      model: from ``quantize_apply``, trained or not.
      streaming: whether it is to be exported as a stream that keeps its state.

    Raises:
      tflite_export.from_keras.ExportError, tflite_export.streaming.graph.StreamError: it has no such form.
    """
    from tflite_export.streaming import cost

    return cost.of_graph(_graph(model, streaming)[0]).arena


def places_of_step(model: keras.Model) -> dict[str, int]:
    """Rows of inputs that each layer with weights multiplies in a step of a stream, all of its calls together.

    Args:
      model: from ``quantize_apply``, trained or not.

    Raises:
      tflite_export.from_keras.ExportError, tflite_export.streaming.graph.StreamError: it has no such form.
    """
    from tflite_export import ir

    graph, sources = _graph(model, streaming=True)
    found: dict[str, int] = {}
    for op in graph.ops:
        y = graph.tensors[op.output]
        if isinstance(op, (ir.PackedDense, ir.DynamicDense, ir.Depthwise, ir.FloatDepthwise)):
            rows = y.size // y.shape[-1]
        elif isinstance(op, ir.Waveform):
            rows = y.shape[0] * op.average
        elif isinstance(op, ir.Recurrent):
            rows = graph.tensors[op.input].shape[0]
        else:
            continue
        found[sources[op.output]] = found.get(sources[op.output], 0) + rows
    return found
