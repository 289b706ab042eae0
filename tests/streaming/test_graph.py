"""The stream of a graph gives the integers of the clip's graph, for random layers, strides, paddings and lengths."""

from __future__ import annotations

import numpy as np
import pytest
import stream_graphs
from export_graphs import feeds
from hypothesis import given
from hypothesis import strategies as st
from stream_graphs import Spec

from tflite_export import ir
from tflite_export.reference import run as reference
from tflite_export.streaming import graph as streaming

pytestmark = pytest.mark.slow


def run_stream(stream: streaming.Stream, x: np.ndarray) -> np.ndarray:
    """All rows [rows, ...] of the output for frames [frames, ...]: step by step, by the rule in Stream's docstring."""
    garbage = np.random.default_rng(0).integers(-128, 128, (stream.schedule.lead, *x.shape[1:])).astype(np.int8)
    x = np.concatenate([garbage, x])
    out, state, external = [], {}, {}
    for name, _ in stream.schedule.states:
        t = stream.graph.tensors[name]
        external[name] = np.full((1, *t.shape), t.quantization.zero_point, np.int8)
    first = stream.graph.inputs[0]
    for start in range(0, len(x) - stream.schedule.hop + 1, stream.schedule.hop):
        frames = x[None, start : start + stream.schedule.hop]
        y = reference.run(stream.graph, {first: frames, **external}, state=state)
        external = {before: y[after] for before, after in stream.schedule.states}
        rows = y[stream.graph.outputs[0]]
        out.append(rows[0] if stream.schedule.outputs[0].timed else rows)
    shape = stream.graph.tensors[stream.graph.outputs[0]].shape
    none = np.zeros((0, *(shape[1:] if stream.schedule.outputs[0].timed else shape)), np.int8)
    return np.concatenate([none, *out])[stream.schedule.outputs[0].lag :]


def check(spec: Spec, longer: int) -> None:
    least = stream_graphs.clip_frames(spec)
    clip = stream_graphs.make(spec, least, whole=True)
    stream = streaming.to_stream(clip)
    frames = least + longer
    long = stream_graphs.make(spec, frames, whole=False)
    x = feeds(np.random.default_rng(spec.seed + 1), long, 1)["x"][0]
    found = run_stream(stream, x)
    external = streaming.externalize(stream)
    np.testing.assert_array_equal(run_stream(external, x), found)
    if spec.mel and spec.final != "rows":  # the softmax is over one axis there, of the clip's form only
        expected = [_clip(clip, x[i : i + least]) for i in range(0, len(x) - least + 1, stream.schedule.hop)]
        if spec.valid:
            np.testing.assert_array_equal(found[: len(expected)], expected[: len(found)])
        return
    expected = reference.run(long, {"x": x[None]})[long.outputs[0]][0]
    assert len(expected) - stream.schedule.hop <= len(found) <= len(expected)
    np.testing.assert_array_equal(found, expected[: len(found)])
    assert (
        len(found)
        >= (len(x) + stream.schedule.lead) // stream.schedule.hop * stream.schedule.outputs[0].rows
        - stream.schedule.outputs[0].lag
    )
    if spec.valid and spec.final != "rows":
        clips = [_clip(clip, x[i : i + least]) for i in range(0, len(x) - least + 1, stream.schedule.hop)]
        np.testing.assert_array_equal(found, clips[: len(found)])
        # nothing waits: the output is there as soon as the clip's last frame is
        assert stream.schedule.receptive == least and len(found) == len(clips)


def _clip(graph: ir.Graph, x: np.ndarray) -> np.ndarray:
    return reference.run(graph, {"x": x[None]})[graph.outputs[0]][0]


@given(spec=stream_graphs.specs(causal=False), longer=st.integers(0, 60))
def test_without_padding(spec: Spec, longer: int) -> None:
    check(spec, longer)


@given(spec=stream_graphs.specs(causal=True), longer=st.integers(0, 60))
def test_padded_in_front(spec: Spec, longer: int) -> None:
    check(spec, longer)
