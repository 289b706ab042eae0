"""Keras models as streams: the same integers as the clip model, packed and with stock ops, in every runtime."""

from __future__ import annotations

import numpy as np
import pytest
from quantization_helpers import features, shake, trained

import tflite_export
from tflite_export import Interpreter, StreamInterpreter, from_keras
from tflite_export.packed import writer as tflite_writer
from tflite_export.streaming import graph as streaming
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models
from tfmot_kws.models.time_layers import (
    CausalConv1D,
    CausalDepthwiseConv1D,
    TimeAveragePooling1D,
    TimeMaxPooling1D,
    TimeWindow,
)

pytestmark = pytest.mark.slow

L = keras.layers


def chain(shape, *layers) -> keras.Model:
    x = inputs = keras.Input(shape, name="x")
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


SMALL = models.ModelConfig(3, 25, 6, 8, (models.WindowSpec(5, 2), models.WindowSpec(3, 2), models.WindowSpec(3)), 1)
MODELS = {
    "windows": lambda: models.build(SMALL),
    "ds-cnn": lambda: models.ds_cnn_stream(3, 9, 5, (6, 4), (3, 4)),
    "mixed": lambda: models.mixed_net(3, mel_bins=5, filters=6, kernels=(3, 4)),
    "causal": lambda: chain(
        (12, 4),
        CausalConv1D(6, 3, strides=2),
        L.BatchNormalization(),
        L.ReLU(),
        CausalDepthwiseConv1D(3),
        L.ReLU(),
        TimeAveragePooling1D(6),
        L.Flatten(),
        L.Dense(3, activation="softmax"),
    ),
    "keras causal": lambda: chain(
        (11, 4), L.Conv1D(5, 3, padding="causal", dilation_rate=2, activation="relu"), L.Conv1D(3, 2, padding="causal")
    ),
    "pictures": lambda: chain(
        (16, 8, 1),
        L.Conv2D(4, (5, 3), (2, 2), padding="valid", activation="relu"),
        L.DepthwiseConv2D((3, 3), padding="valid"),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(6, 1, activation="relu"),
        L.GlobalAveragePooling2D(),
        L.Dense(3),
    ),
    "pictures, causal": lambda: chain(
        (9, 6, 2), L.ZeroPadding2D(((2, 0), (1, 1))), L.Conv2D(4, 3, activation="relu"), L.Reshape((9, 24)), L.Dense(3)
    ),
    "padded, then reshaped": lambda: chain(
        (10, 4),
        L.ZeroPadding1D((2, 0)),
        L.Reshape((12, 4, 1)),
        L.Permute((1, 3, 2)),
        L.ZeroPadding2D(((1, 0), (1, 1))),
        L.Conv2D(3, (4, 3), activation="relu"),
        L.Reshape((10, 3)),
        L.Dense(2),
    ),
    "delayed": lambda: _delayed(),
    "separable and pools": lambda: chain(
        (18, 4),
        L.SeparableConv1D(6, 3, activation="relu"),
        TimeMaxPooling1D(2, 2),
        TimeWindow(3),
        L.Flatten(),
        L.Dense(2),
    ),
}


def _delayed() -> keras.Model:
    x = keras.Input((9, 4), name="x")
    late = L.Conv1D(3, 1)(L.Cropping1D((0, 2))(L.ZeroPadding1D((2, 0))(x)))
    return keras.Model(x, L.Add()([L.Conv1D(3, 3, padding="causal")(x), late]))


@pytest.fixture(scope="module")
def made():
    cache: dict = {}

    def get(name: str):
        if name not in cache:
            model = MODELS[name]()
            cache[name] = trained(shake(model), features(model.input_shape[1:], clips=48), {"bits": 4})
        return cache[name]

    return get


@pytest.mark.parametrize("stride", [1, 2])
def test_zeros_that_reach_further_than_a_window_are_rows_of_the_clip_too(stride: int) -> None:
    """Rows that are known before the first frame are what the layer makes of zeros, which is not zero."""
    model = chain((10, 4), L.ZeroPadding1D((6, 0)), L.Conv1D(3, 2, stride), L.Conv1D(3, 2, activation="relu"))
    quantized, x = trained(shake(model), features((10, 4), clips=8), steps=1), features((10, 4), clips=1)[0]
    expected = Interpreter(tflite_export.convert(quantized), "tflite").run(x[None])[0]
    for mode in ("internal", "external"):
        stream = StreamInterpreter(tflite_export.convert(quantized, streaming=mode), "tflite")
        found = np.concatenate([stream.step(x), stream.step(np.zeros((6, 4), np.float32))])
        np.testing.assert_array_equal(found[: len(expected)], expected)


def test_names_are_unique_in_the_stream(made) -> None:
    graph = streaming.to_stream(from_keras.to_graph(made("windows"))).graph
    assert len({op.name for op in graph.ops}) == len(graph.ops)


@pytest.mark.parametrize("ops", ["packed", "builtin"])
@pytest.mark.parametrize("name", MODELS)
def test_stream_gives_the_clip_models_numbers(name: str, ops: str, made, require_module) -> None:
    """In every runtime, internal and external: exactly what the clip file gives in that runtime."""
    require_module("ai_edge_litert"), require_module("tflite_micro")
    model = made(name)
    clip = tflite_export.convert(model, ops)
    frames = model.input_shape[1]
    runtimes = ("reference", "tflite", "litert", "tflm") if ops == "packed" else ("tflite", "litert", "tflm")
    first = features(model.input_shape[1:], clips=1, seed=5)[0]
    files = {mode: tflite_export.convert(model, ops, streaming=mode) for mode in ("internal", "external")}
    for runtime in runtimes:
        expected = Interpreter(clip, runtime).run(first[None])[0]
        for mode, file in files.items():
            stream = StreamInterpreter(file, runtime)
            for _ in range(2):
                rows = [stream.step(first[:3]), stream.step(first[3:4]), stream.step(first[4:])]
                # a clip may be longer than its last row needs: frames that a stream already uses for the next one
                padding = np.zeros((stream.hop - 1, *first.shape[1:]), np.float32)
                rows.append(stream.step(padding))
                found = np.concatenate(rows)
                wanted = expected if stream.schedule.outputs[0].timed else expected[None]
                np.testing.assert_array_equal(found[: len(wanted)], wanted, f"{runtime} {mode}")
                assert stream.frames == frames + stream.hop - 1
                stream.reset()


def test_long_recordings_equal_clips_that_slide(made) -> None:
    for name in ("windows", "ds-cnn", "pictures"):
        model = made(name)
        stream = StreamInterpreter(tflite_export.convert(model, streaming="internal"), "tflite")
        clip = Interpreter(tflite_export.convert(model), "tflite")
        x = features((100, *model.input_shape[2:]), clips=1, seed=6)[0]
        rows = np.concatenate([stream.step(part) for part in np.array_split(x, 7)])
        n = stream.receptive
        assert n <= model.input_shape[1]
        clips = np.stack(
            [x[i : i + model.input_shape[1]] for i in range(0, 100 - model.input_shape[1] + 1, stream.hop)]
        )
        np.testing.assert_array_equal(rows[: len(clips)], clip.run(clips))
        assert len(rows) == (100 - n) // stream.hop + 1


REFUSED = {
    "causal after valid": (
        lambda: chain((8, 3), L.Conv1D(4, 3), L.Conv1D(4, 3, padding="causal", name="second"), L.Flatten(), L.Dense(2)),
        r"second: puts zeros ahead of rows that a layer without padding makes; let all .* ZeroPadding1D or",
    ),
    "time moved": (lambda: chain((8, 3), L.Permute((2, 1), name="turn"), L.Dense(2)), "turn: moves the time axis"),
    "no time": (lambda: chain((8,), L.Dense(2)), "input 'x': needs .time, features."),
    "gate": (
        lambda: _gate(L.GlobalAveragePooling1D(), L.Reshape((1, 4))),
        r"gate: joins rows with a value of the whole clip .*\(1, 4\).* zeros ahead and AveragePooling1D",
    ),
    "gate without its axis": (
        lambda: _gate(L.GlobalAveragePooling1D(), merge=L.Add),
        r"gate: joins rows with a value of the whole clip .* \(4,\)",
    ),
    "pool over padding": (
        lambda: chain((8, 3), L.ZeroPadding1D((2, 0)), L.ReLU(name="alone"), L.Conv1D(4, 3), L.Flatten(), L.Dense(2)),
        "alone: reads zeros that were put ahead of the first frame",
    ),
}


def _gate(*layers, merge=L.Multiply) -> keras.Model:
    s = x = keras.Input((8, 4), name="x")
    for layer in layers:
        s = layer(s)
    s = L.Dense(4, activation="sigmoid")(s)
    return keras.Model(x, merge(name="gate")([L.Dense(4)(x), s]))


def test_a_gate_by_the_last_frames_streams() -> None:
    """The way out that the refusal of a gate by the whole clip names; stock averages round by their own rules."""
    model, x = _gate(L.ZeroPadding1D((2, 0)), L.AveragePooling1D(3, strides=1)), features((8, 4), clips=8)
    quantized = trained(shake(model), x, steps=1)
    rows = StreamInterpreter(tflite_export.convert(quantized, streaming="internal"), "tflite").step(x[0])
    np.testing.assert_array_equal(rows, Interpreter(tflite_export.convert(quantized), "tflite").run(x[:1])[0])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_stream_says_why(name: str) -> None:
    make, message = REFUSED[name]
    model = make()
    quantized = trained(shake(model), features(model.input_shape[1:], clips=8), steps=1)
    with pytest.raises(streaming.StreamError, match=message):
        tflite_export.convert(quantized, streaming="internal")
    tflite_export.convert(quantized)


LOOK_AHEAD = {
    "same": (
        lambda: [L.Conv1D(4, 3, padding="same"), L.Conv1D(3, 5, 2, padding="same", activation="relu")], (12, 3), 3
    ),
    "pools": (
        lambda: [L.Conv1D(4, 3), L.MaxPooling1D(3, 2, "same"), L.AveragePooling1D(3, 1, "same")], (13, 3), 3
    ),
    "zeros behind": (lambda: [L.ZeroPadding1D((1, 2)), L.Conv1D(4, 3), L.Dense(3)], (12, 3), 2),
    "pictures": (
        lambda: [L.Conv2D(3, 3, padding="same"), L.DepthwiseConv2D((5, 3), padding="same")], (12, 4, 1), 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOK_AHEAD)
def test_layers_that_look_ahead_wait(name: str) -> None:
    """A row is that of a clip which has no end near it, as soon as the frames that it looks at are there."""
    make, shape, ahead = LOOK_AHEAD[name]
    long = (shape[0] + 48, *shape[1:])  # even more: "same" begins at the same frame
    model = trained(shake(chain(shape, *make())), features(shape, clips=8), steps=1)
    slow = trained(shake(chain(long, *make())), features(long, clips=2), steps=1)
    slow.set_weights(model.get_weights())
    with pytest.warns(streaming.StreamWarning, match=rf"look ahead .*The stream waits {ahead} frames for"):
        data = tflite_export.convert(model, streaming="internal")
    stream = StreamInterpreter(data, "tflite")
    assert stream.schedule.ahead == ahead
    x = features(long, clips=1, seed=5)[0]
    found = np.concatenate([stream.step(part) for part in np.array_split(x, 7)])
    wanted = Interpreter(tflite_export.convert(slow), "tflite").run(x[None])[0]
    assert len(wanted) - ahead - 1 <= len(found) <= len(wanted)
    np.testing.assert_array_equal(found[8:], wanted[8 : len(found)])


def test_flat_features_become_frames() -> None:
    """A clip as one row of numbers, reshaped by the model: the stream takes frames."""
    layers = [L.Conv1D(4, 3, activation="relu"), L.MaxPooling1D(2), L.Flatten(), L.Dense(2)]
    model = trained(shake(chain((36,), L.Reshape((12, 3)), *layers)), features((36,), clips=8), steps=1)
    clip = Interpreter(tflite_export.convert(model), "tflite")
    x = features((36,), clips=1)
    for mode in ("internal", "external"):
        stream = StreamInterpreter(tflite_export.convert(model, streaming=mode), "tflite")
        np.testing.assert_array_equal(stream.step(x.reshape(12, 3)), clip.run(x))


def test_two_inputs_cannot_stream() -> None:
    a, b = keras.Input((4, 3), name="a"), keras.Input((4, 3), name="b")
    model = keras.Model([a, b], L.Add()([L.Dense(3)(a), L.Dense(3)(b)]))
    x = [features((4, 3)), features((4, 3), seed=1)]
    with pytest.raises(streaming.StreamError, match="a stream has one input, this model has 2: a, b"):
        tflite_export.convert(trained(shake(model), x, steps=1), streaming="internal")


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="streaming must be None, 'internal' or 'external', found 'yes'"):
        tflite_export.convert(None, streaming="yes")


def test_a_stream_cannot_be_streamed(made) -> None:
    stream = streaming.to_stream(from_keras.to_graph(made("windows")))
    with pytest.raises(streaming.StreamError, match="streams already"):
        streaming.to_stream(stream.graph)


def test_clip_files_are_no_streams(made) -> None:
    data = tflite_export.convert(made("windows"))
    with pytest.raises(ValueError, match='the file has no stream: export it with convert.model, streaming="internal"'):
        StreamInterpreter(data)


def test_state_takes_one_sample_a_call(made) -> None:
    stream = tflite_export.convert(made("windows"), streaming="internal")
    interpreter = Interpreter(stream, "tflite")
    x = np.zeros((2, *interpreter.inputs[0].shape), np.int8)
    with pytest.raises(ValueError, match="one sample a call, found 2"):
        interpreter.run(x)
    with pytest.raises(ValueError, match=r"input 'features' needs shape \[frames, 6\], found \[3, 5\]"):
        StreamInterpreter(stream).step(np.zeros((3, 5), np.int8))


def test_schedule_survives_the_file(made) -> None:
    stream = streaming.externalize(streaming.to_stream(from_keras.to_graph(made("ds-cnn"))))
    data = tflite_writer.write(stream.graph, metadata=stream.schedule.to_metadata())
    assert StreamInterpreter(data).schedule == stream.schedule
