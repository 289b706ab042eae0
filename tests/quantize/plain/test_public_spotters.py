"""Public spotters as their authors write them: quantized, trained, exported, the same bits everywhere, streamed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from public_spotters import NO_STREAM, SPOTTERS, WITH_STATE
from quantization_helpers import features, same_everywhere, shake, trained

import tflite_export
from tflite_export import StreamInterpreter, from_keras
from tflite_export.streaming import graph as streams
from tfmot_kws.keras import keras

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", SPOTTERS)
def test_public_spotters(name: str, require_module) -> None:
    require_module("ai_edge_litert.interpreter"), require_module("tflite_micro.python.tflite_micro.runtime")
    model = SPOTTERS[name]()
    kept = [v for layer in model.layers if isinstance(layer, keras.layers.Normalization) for v in layer.weights]
    values = [v.numpy() for v in kept]
    shake(model)
    for v, value in zip(kept, values):
        v.assign(value)
    x = features(model.input_shape[1:], clips=8)
    quantized = trained(model, x, steps=1)
    assert len(np.unique(same_everywhere(quantized, x))) > 2
    if name in NO_STREAM:
        return
    graph = from_keras.to_graph(quantized)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", streams.StreamWarning)
        stream = StreamInterpreter(tflite_export.convert(quantized, streaming="internal"), "tflite")
        shape = streams.to_stream(graph).graph.tensors[graph.inputs[0]].shape[1:]
    frames = features((90, *shape), clips=1)[0]
    rows = stream.step(frames)
    assert len(rows) >= 2 and np.isfinite(rows).all()
    if not stream.schedule.ahead:
        size = stream.schedule.clip.frames
        clip = frames[:size].reshape(1, *x.shape[1:])
        seen = (size - stream.receptive) // stream.hop if name in WITH_STATE else 0
        np.testing.assert_array_equal(
            rows[seen], tflite_export.Interpreter(tflite_export.convert(quantized), "tflite").run(clip)[0]
        )
