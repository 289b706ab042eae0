"""Filters over samples: as float layers, quantized, trained, saved, exported, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tflite_export
import tfmot_kws
from tflite_export import ir
from tflite_export.from_keras import to_graph
from tflite_export.reference import run as reference
from tflite_export.reference import waveform as reference_waveform
from tfmot_kws.frontend import waveform
from tfmot_kws.keras import keras
from tfmot_kws.quantize import model_costs, waveform_math
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.unsupported import UnsupportedLayerError
from tfmot_kws.training import stages

L = keras.layers
SAMPLES = 700
FRONTS = {
    "sinc": lambda **kw: waveform.SincConv(6, 48, 16, 2, **kw),
    "mel": lambda **kw: waveform.SincConv(6, 47, 16, 2, trainable=False, **kw),
    "free": lambda **kw: waveform.WaveformConv(6, 33, 10, 3, **kw),
}


def network(front, norm: bool = True, flat: bool = False) -> keras.Model:
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((SAMPLES,) if flat else (SAMPLES, 1), name="sound")
    if flat:
        x = L.Reshape((SAMPLES, 1))(x)
    x = front(x)
    if norm:
        x = L.BatchNormalization()(x)
        x = L.ReLU()(x)
    x = L.Conv1D(5, 3)(x)
    x = L.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, L.Dense(3, name="logits")(x))
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([np.abs(w) + np.linspace(0.2, 0.9, len(w)) for w in layer.get_weights()])
    return model


def sound(count: int = 24, flat: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Tones of three pitches at many loudnesses, in noise."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    t = np.arange(SAMPLES) / 16000
    tones = np.sin(2 * np.pi * 600.0 * 2.0 ** y[:, None] * rng.uniform(0.9, 1.1, (count, 1)) * t)
    x = 10 ** rng.uniform(-3, -0.2, (count, 1)) * tones + rng.normal(size=(count, SAMPLES)) * 3e-4
    return (x if flat else x[..., None]).astype(np.float32), y


def quantized(model: keras.Model, bits: int = 4, **options) -> keras.Model:
    made = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits=bits, **options))
    stages.calibrate(made, sound()[0].reshape(-1, *model.input_shape[1:]))
    return made


def test_logarithm_is_that_of_the_reference(rng: np.random.Generator) -> None:
    x = np.unique(np.concatenate([np.arange(1, 3000), rng.integers(1, 1 << 47, 3000), 1 << np.arange(48)]))
    found = waveform_math.log2_steps(tf.constant(x, tf.float64))
    np.testing.assert_array_equal(found.numpy(), reference_waveform.log2(x))
    compiled = tf.function(waveform_math.log2_steps, jit_compile=True)(tf.constant(x, tf.float64))
    np.testing.assert_array_equal(compiled.numpy(), found.numpy())


def test_features_are_those_of_the_formula() -> None:
    layer = waveform.WaveformConv(2, 5, 3, 2, floor=0.01)
    x = np.random.default_rng(0).normal(size=(1, 30, 1)).astype(np.float32)
    y = layer(x).numpy()
    kernel = layer.kernel.numpy() / np.abs(layer.kernel.numpy()).max(axis=0)
    assert y.shape == layer.compute_output_shape(x.shape) == (1, 4, 2)
    for t, c in np.ndindex(4, 2):
        mean = np.mean([abs(kernel[:, c] @ x[0, t * 6 + i * 3 : t * 6 + i * 3 + 5, 0]) for i in range(2)])
        assert y[0, t, c] == pytest.approx(np.log2(1 + mean / 0.01), rel=1e-4)
    assert not layer(np.zeros_like(x)).numpy().any()


def test_sinc_filters_hear_their_band_and_move() -> None:
    layer = waveform.SincConv(8, 400, 160, 1)
    edges = waveform.mel_edges(8, 60.0, 7600.0)
    t = np.arange(1600) / 16000
    tones = [np.sin(2 * np.pi * f * t) for f in np.sqrt(edges[1:] * edges[:-1])]
    y = layer(np.array(tones, np.float32)[..., None]).numpy().mean(axis=1)
    assert (y.argmax(axis=1) == np.arange(8)).all()
    low, high = layer.edges_khz()
    np.testing.assert_allclose(1000 * low.numpy(), edges[:-1], rtol=1e-5)
    np.testing.assert_allclose(1000 * high.numpy(), edges[1:], rtol=1e-5)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(np.array(tones, np.float32)[..., None]) ** 2)
    assert all(np.abs(g).min() > 0 for g in tape.gradient(value, layer.trainable_variables))
    layer.band_khz.assign(layer.band_khz + 100.0)
    assert layer.edges_khz()[1].numpy().max() == 8.0 and np.isfinite(layer.filter_kernel()).all()
    assert not waveform.SincConv(8, trainable=False)(np.zeros((1, 600, 1), np.float32)).numpy().any()


@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_device_computes_what_keras_does(name: str, bits: int) -> None:
    model = quantized(network(FRONTS[name](), norm=bits != 4), bits)
    x, _ = sound()
    graph = to_graph(model)
    (op,) = (op for op in graph.ops if isinstance(op, ir.Waveform))
    assert op.weights.bits == bits and graph.tensors["sound"].wide and op.output not in graph.inputs
    features = keras.Model(model.input, [layer.output for layer in model.layers if "waveform" in str(type(layer))][-1])
    steps, _ = features.predict(x, verbose=0)
    zero = graph.tensors[op.output].zero
    exact = reference.run(graph, {"sound": np.floor(x * 32768 + 0.5).astype(np.int16)}, all_tensors=True)[op.output]
    np.testing.assert_array_equal(exact.astype(np.float32) - zero, steps)
    assert len(np.unique(steps)) > (15 if bits == 1 else 40)
    outputs = tflite_export.Interpreter(tflite_export.convert(model)).run(x)
    apart = np.abs(outputs - model.predict(x, verbose=0)).max()
    assert apart <= 1.001 * graph.tensors[graph.outputs[0]].quantization.scale


def test_stage_1_is_near_the_float_model_at_8_bits() -> None:
    for name, front in FRONTS.items():
        model = network(front())
        made = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits=8))
        x, _ = sound()
        layer = next(layer for layer in model.layers if isinstance(layer, L.ReLU))
        inner = next(layer for layer in made.layers if "QuantizedWaveform" in str(type(layer)))
        wanted = keras.Model(model.input, layer.output).predict(x, verbose=0)
        found = keras.Model(made.input, inner.output[0]).predict(x, verbose=0)
        # Far from a tone, where a filter lets through a thousandth, eight bits let through more.
        assert np.median(np.abs(found - wanted)) < 0.02 * np.abs(wanted).max(), name
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.97, name


@pytest.mark.slow
@pytest.mark.parametrize("name", FRONTS)
def test_both_stages_train_and_models_are_saved(name: str, tmp_path) -> None:
    x, y = sound(96, flat=True)
    float_model = network(FRONTS[name](), flat=True)
    model = tfmot_kws.quantize_apply(float_model, tfmot_kws.kws_scheme(bits=4))
    before = [w.numpy() for w in model.trainable_weights]
    trained = [w.name for w in model.trainable_weights if "khz" in w.name or "filters" in w.name]
    assert bool(trained) == (name != "mel")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    seen = model.fit(x, y, epochs=8, batch_size=16, verbose=0, callbacks=[tfmot_kws.TwoStageSchedule(stage2_epoch=4)])
    assert seen.history["loss"][-1] < seen.history["loss"][0]
    assert all((w.numpy() != old).any() for w, old in zip(model.trainable_weights, before))
    model.save(tmp_path / "model.keras")
    again = tfmot_kws.load_model(tmp_path / "model.keras")
    data = tflite_export.convert(model)
    assert tflite_export.convert(again) == data
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    stream = tflite_export.StreamInterpreter(tflite_export.convert(model, streaming="internal"))
    rows = np.concatenate([stream.step(part) for part in np.split(x[0][:, None], (50, 333))])
    np.testing.assert_allclose(rows[-1], tflite_export.Interpreter(data).run(x[:1])[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sinc", "free"])
def test_every_format_keeps_the_device_numbers(name: str, tmp_path) -> None:
    model = quantized(network(FRONTS[name]()), 4)
    data = tflite_export.convert(model)
    for file in ("model.keras", "model.h5", "saved"):
        model.save(tmp_path / file)
        assert tflite_export.convert(tfmot_kws.load_model(tmp_path / file)) == data
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    assert tflite_export.convert(copied) == data


def test_quiet_sound_needs_sixteen_bits() -> None:
    """A tone at -50 dB: heard with samples of 16 bits, silence with those of 8."""
    x = (10 ** (-50 / 20) * np.sin(2 * np.pi * 800 * np.arange(SAMPLES) / 16000)).astype(np.float32)[None, :, None]
    graph = to_graph(quantized(network(FRONTS["mel"](), norm=False), 8))
    (op,) = (op for op in graph.ops if isinstance(op, ir.Waveform))
    levels = [reference_waveform.levels(op, np.rint(x * one).astype(np.int16) * (32768 // one)) for one in (32768, 128)]
    assert levels[0].max() > 4 << 15 and not levels[1].any()


def test_fixed_filters_stay(rng: np.random.Generator) -> None:
    model = tfmot_kws.quantize_apply(network(FRONTS["mel"]()))
    assert not any("khz" in w.name for w in model.trainable_weights)
    model.trainable = True
    assert any("khz" in w.name for w in model.trainable_weights)


def test_what_filters_cost() -> None:
    budget = Budget(flash=2000)
    made = tfmot_kws.quantize_apply(network(FRONTS["free"]()), tfmot_kws.kws_scheme("learned", budget=budget))
    found = model_costs.costs_of(made)
    layer = next(layer for layer in found.layers if layer.kind == "waveform")
    frames = (SAMPLES - 53) // 30 + 1
    assert (layer.outputs, layer.inputs, layer.bits, layer.places) == (6, 33, 8, frames * 3)
    with pytest.raises(ValueError, match="what a waveform layer costs in instructions is not known"):
        counted = tfmot_kws.kws_scheme("learned", budget=Budget(instructions=1e9, core="cortex-m4"))
        tfmot_kws.quantize_apply(network(FRONTS["free"]()), counted)
    pinned = tfmot_kws.quantize_apply(network(FRONTS["free"]()), tfmot_kws.kws_scheme(4, layer_bits={"waveform*": 2}))
    assert [layer.weight_bits for layer in pinned.layers if hasattr(layer, "floor_steps")] == [2]


def test_samples_that_others_read_are_refused() -> None:
    inputs = keras.Input((SAMPLES, 1))
    heard = L.GlobalAveragePooling1D()(FRONTS["free"]()(inputs))
    model = keras.Model(inputs, L.Concatenate()([heard, L.GlobalAveragePooling1D(name="loud")(inputs)]))
    with pytest.raises(UnsupportedLayerError, match="'loud'.*the samples that filters over sound read too"):
        tfmot_kws.quantize_apply(model)
    inputs = keras.Input((SAMPLES, 1))
    behind = keras.Model(inputs, FRONTS["free"]()(L.Conv1D(1, 3, name="first")(inputs)))
    with pytest.raises(UnsupportedLayerError, match="the output of layer 'first'"):
        tfmot_kws.quantize_apply(behind)


@pytest.mark.parametrize(
    ("layer", "bits", "message"),
    [
        (lambda: waveform.WaveformConv(2, 517, 16, 1), 8, "517 taps, a device takes at most 516 at 8 bits"),
        (lambda: waveform.WaveformConv(2, 4370, 16, 1), 4, "4,370 taps, a device takes at most 4,369 at 4 bits"),
        (lambda: waveform.WaveformConv(2, 9, 300, 220), 4, "65,709 samples of a frame, a device takes at most 65,535"),
        (lambda: waveform.WaveformConv(2, 9, 9, 2, floor=1e4), 8, "steps of its floor, a device takes at most"),
    ],
)
def test_sizes_that_no_device_takes_are_refused_before_training(layer, bits: int, message: str) -> None:
    inputs = keras.Input((70000, 1))
    model = keras.Model(inputs, L.GlobalAveragePooling1D()(layer()(inputs)))
    with pytest.raises(ValueError, match=message):
        tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits=bits))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: waveform.SincConv(0), "filters must be a whole number of at least 1, found 0"),
        (lambda: waveform.SincConv(stride=2.5), "stride must be a whole number"),
        (lambda: waveform.SincConv(floor=0.0), "floor must be above 0"),
        (lambda: waveform.SincConv(lower_hz=9000), "edges must be in order"),
        (lambda: waveform.SincConv()(np.zeros((1, 999, 2), np.float32)), r"needs samples \[batch, samples, 1\]"),
        (lambda: waveform.SincConv()(np.zeros((1, 479, 1), np.float32)), "a frame spans 480 samples but the clip has"),
        (lambda: waveform.WaveformLayer().filter_kernel(), "WaveformLayer has no filters of its own"),
    ],
)
def test_sizes_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()
