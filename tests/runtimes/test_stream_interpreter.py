"""Packed streaming files in every runtime: the integers of the clip's graph, for any chunking, with resets."""

from __future__ import annotations

import numpy as np
import pytest
import stream_graphs
from export_graphs import feeds
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_graphs import Layer, Spec

from tflite_export import StreamInterpreter
from tflite_export.packed import writer as tflite_writer
from tflite_export.reference import run as reference
from tflite_export.streaming import graph as streaming

RUNTIMES = ("reference", "tflite", "litert", "tflm")
SPECS = {
    "windows": Spec((Layer("conv", 4, 3), Layer("conv", 3, 2, 2)), "mean", 3, channels=5, seed=1),
    "causal": Spec((Layer("conv", 3, 1, 2, True), Layer("depthwise", 4, 2, 1, True)), "rows", seed=2),
    "skip": Spec((Layer("skip", 3), Layer("lookup"), Layer("skip", 2)), "flatten", 2, seed=3),
    "pictures": Spec((Layer("conv", 3, 2), Layer("max", 2)), "flatten", 2, mel=3, seed=4),
    "sparse": Spec((Layer("conv", 2, 5), Layer("taps", 2, 1, 3)), "mean", 2, seed=5),
}


def files(spec: Spec, mode: str) -> tuple[bytes, streaming.Stream]:
    stream = streaming.to_stream(stream_graphs.make(spec, stream_graphs.clip_frames(spec), whole=True))
    if mode == "external":
        stream = streaming.externalize(stream)
    return tflite_writer.write(stream.graph, metadata=stream.schedule.to_metadata()), stream


def expected(spec: Spec, x: np.ndarray) -> np.ndarray:
    if spec.mel and spec.final != "rows":
        clip = stream_graphs.make(spec, stream_graphs.clip_frames(spec), whole=True)
        hop, least = streaming.to_stream(clip).schedule.hop, clip.tensors["x"].shape[0]
        clips = [x[i : i + least] for i in range(0, len(x) - least + 1, hop)]
        return reference.run(clip, {"x": np.stack(clips)})[clip.outputs[0]]
    long = stream_graphs.make(spec, len(x), whole=False)
    return reference.run(long, {"x": x[None]})[long.outputs[0]][0]


def recording(spec: Spec, frames: int, seed: int) -> np.ndarray:
    long = stream_graphs.make(spec, max(frames, stream_graphs.clip_frames(spec)), whole=False)
    return feeds(np.random.default_rng(seed), long, 1)["x"][0]


def chunks(rng: np.random.Generator, x: np.ndarray):
    while len(x):
        n = int(rng.integers(0, 9))
        yield x[:n]
        x = x[n:]


@pytest.mark.tf221
@pytest.mark.parametrize("mode", ["internal", "external"])
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", SPECS)
def test_packed_files_in_every_runtime(name: str, runtime: str, mode: str, require_module, rng) -> None:
    for module in {"litert": ["ai_edge_litert"], "tflm": ["tflite_micro"]}.get(runtime, []):
        require_module(module)
    spec = SPECS[name]
    data, stream = files(spec, mode)
    interpreter = StreamInterpreter(data, runtime)
    for seed in range(3):
        x = recording(spec, 70, seed)
        wanted = expected(spec, x)
        found = np.concatenate([interpreter.step(part) for part in chunks(rng, x)])
        assert interpreter.frames == len(x) and len(found) > 3
        np.testing.assert_array_equal(found, wanted[: len(found)])
        assert len(wanted) - len(found) <= interpreter.hop
        interpreter.reset()
        assert interpreter.frames == 0


@settings(max_examples=30)
@given(
    spec=st.booleans().flatmap(lambda causal: stream_graphs.specs(causal=causal, mel=False)),
    mode=st.sampled_from(["internal", "external"]),
    cuts=st.lists(st.integers(0, 80), max_size=8),
    reset=st.integers(0, 30),
)
def test_any_model_any_cuts_any_reset(spec: Spec, mode: str, cuts: list[int], reset: int) -> None:
    """Through the file and TFLite: random layers and strides, cut anywhere, after a reset at any frame."""
    data, _ = files(spec, mode)
    interpreter = StreamInterpreter(data, "tflite")
    x = recording(spec, 80, spec.seed % 1000)
    wanted = expected(spec, x)
    interpreter.step(x[:reset])
    interpreter.reset()
    found = np.concatenate([interpreter.step(part) for part in np.split(x, sorted(min(c, len(x)) for c in cuts))])
    np.testing.assert_array_equal(found, wanted[: len(found)])
    rows = interpreter.schedule.outputs[0].rows
    assert len(wanted) - len(found) <= rows
