# SPDX-License-Identifier: Apache-2.0
"""Budgets of every kind, from the scheme through fit to the file: RAM, instructions, costs of one's own, streams."""

from __future__ import annotations

import numpy as np
import pytest
from quick_fit import flat_clips, quick_fit, two_layers

import tflite_export
import tfmot_kws
from tflite_export import from_keras
from tflite_export.streaming import cost
from tflite_export.streaming import graph as streams
from tfmot_kws.keras import keras
from tfmot_kws.quantize import device_facts, model_costs
from tfmot_kws.quantize.budget import Budget

pytestmark = pytest.mark.slow

L = keras.layers


def spotter(recurrent: str = "") -> keras.Model:
    """A small model that can stream."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 8), name="features")
    x = tfmot_kws.CausalConv1D(16, 3, use_bias=False, name="conv")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    if recurrent:
        x = {"gru": L.GRU, "lstm": L.LSTM}[recurrent](6, name="gates")(x)
    else:
        x = tfmot_kws.CausalDepthwiseConv1D(3, name="depthwise")(x)
        x = L.Conv1D(24, 1, activation="relu", name="pointwise")(x)
        x = L.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(inputs, L.Dense(3, name="logits")(x))


def clips(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 12, 8)).astype(np.float32)
    return x, (x.reshape(count, -1) @ rng.normal(size=(96, 3))).argmax(1)


def quantized(limits: Budget, recurrent: str = "") -> keras.Model:
    return tfmot_kws.quantize_apply(spotter(recurrent), tfmot_kws.kws_scheme("learned", budget=limits))


def small(limits: Budget) -> keras.Model:
    return tfmot_kws.quantize_apply(two_layers(), tfmot_kws.kws_scheme("learned", budget=limits))


def fit(model: keras.Model, data=None) -> None:
    quick_fit(model, data or flat_clips(), 5, 16, [tfmot_kws.TwoStageSchedule(4)])


@pytest.mark.parametrize("recurrent", ["", "lstm"])
def test_ram_and_places_are_those_of_the_file(recurrent: str) -> None:
    """Asked of a model that has seen nothing, and left as it was."""
    model = quantized(Budget(average_bits=4), recurrent)
    before = model.get_weights()
    needed = [device_facts.ram_bytes(model, streaming) for streaming in (False, True)]
    places = device_facts.places_of_step(model)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    tfmot_kws.calibrate(model, clips()[0])
    clip = from_keras.to_graph(model)
    step = streams.to_stream(clip).graph
    layers = model_costs.costs_of(model).layers
    assert [cost.of_graph(graph).arena for graph in (clip, step)] == needed
    assert cost.of_graph(clip).macs == sum(layer.places * layer.weights for layer in layers)
    assert cost.of_graph(step).macs == sum(places[layer.name] * layer.weights for layer in layers)
    for streaming, graph in ((False, clip), (True, step)):
        most = cost.of_graph(graph).macs
        model_costs.check_fixed(model, Budget(macs=most, streaming=streaming))
        with pytest.raises(ValueError, match=f"at most {most - 1:,} multiply-accumulates, but .* have {most:,}"):
            model_costs.check_fixed(model, Budget(macs=most - 1, streaming=streaming))
    parameters = sum(layer.weights + layer.outputs for layer in layers)
    model_costs.check_fixed(model, Budget(parameters=f"{parameters / 1000}K"))
    with pytest.raises(ValueError, match=f"{parameters:,}, whatever the widths"):
        model_costs.check_fixed(model, Budget(parameters=parameters - 1))
    for streaming, most in zip((False, True), needed):
        model_costs.check_fixed(model, Budget(ram=most, streaming=streaming))
        with pytest.raises(ValueError, match=f"at most {most - 1:,} bytes of RAM, but the activations of .* {most:,}"):
            model_costs.check_fixed(model, Budget(ram=most - 1, streaming=streaming))


def test_what_cannot_be_met_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="bytes of RAM"):
        quantized(Budget(average_bits=4, ram=50))
    with pytest.raises(ValueError, match="at most 1,000 instructions on cortex-m4, but the least"):
        quantized(Budget(instructions=1000, core="cortex-m4", streaming=True))


def test_a_layer_called_twice_computes_twice_and_lies_in_flash_once() -> None:
    x = inputs = keras.Input((16,), name="features")
    shared = L.Dense(16, activation="relu", name="shared")
    model = keras.Model(inputs, L.Dense(3, name="logits")(shared(shared(x))))
    made = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme("learned", budget=Budget(flash=300)))
    costs = model_costs.costs_of(made)
    assert [layer.places for layer in costs.layers] == [2, 1]
    assert costs.of({"shared": 8, "logits": 8})["flash"] == 16 * 16 + 8 * 16
    assert [layer.learned_width.uses for layer in model_costs.learning(made)] == [2, 1]


def test_instructions_flash_and_ram_are_kept_at_once() -> None:
    limits = Budget(flash=900, instructions=52000, core="cortex-m4", target="cortex-m4", ram="1KB")
    model = quantized(limits)
    costs = model_costs.costs_of(model)
    assert set(costs.limits) == {"flash", "instructions"} and costs.fullest(dict.fromkeys(costs.names, 8)) > 1.1
    fit(model, clips())
    widths = {layer.name: layer.weight_bits for layer in model_costs.learning(model)}
    assert costs.fullest(widths) <= 1.0
    for name in widths:  # nothing is left that a bit more could use
        if widths[name] < 8:
            assert costs.fullest({**widths, name: widths[name] + 1}) > 1.0
    data = tflite_export.convert(model, target="cortex-m4")
    from tflite_export.packed import packing

    layout = {bits: packing.layout_for("cortex-m4", bits) for bits in range(1, 9)}
    sizes = {layer.name: (layer.outputs, layer.inputs) for layer in costs.layers if layer.kind == "dense"}
    packed = sum(packing.packed_size(*sizes[name], bits, layout[bits]) for name, bits in widths.items())
    assert costs.of(widths)["flash"] == packed + 48 and len(data) > packed


def gates(bits: int | None = None) -> keras.Model:
    """A recurrent layer and nothing else that learns."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 8), name="features")
    x = L.GRU(6, reset_after=False, name="gates")(inputs)
    model = keras.Model(inputs, L.Dense(3, name="logits")(x), name="recurrent")
    if bits is not None:
        return tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(8, {"gates": bits}))
    return tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme("learned", budget=Budget(average_bits=3.5)))


def test_a_recurrent_layer_learns_one_width_for_both_kernels(tmp_path) -> None:
    model = gates()
    layer = model.get_layer("gates")
    assert layer in model_costs.learning(model)
    assert layer.recurrent_part.learned_width is layer.kernel_part.learned_width
    costs = model_costs.costs_of(model)
    assert layer.learned_width.uses == 2
    x, y = clips(64)
    fit(model, (x[:, :4], y))
    widths = {one.name: one.weight_bits for one in model_costs.learning(model)}
    assert costs.fullest(widths) <= 1.0 and layer.recurrent_part.weight_bits == widths["gates"]
    expected = model(x[:, :4]).numpy()
    data = tflite_export.convert(model)
    np.testing.assert_allclose(tflite_export.Interpreter(data, "reference").run(x[:, :4]), expected, atol=1e-5)
    model.save(tmp_path / "m.keras")
    loaded = tfmot_kws.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x[:, :4]).numpy(), expected)
    assert tflite_export.convert(loaded) == data


def test_another_width_of_a_recurrent_layer_starts_as_near_as_it_can() -> None:
    model, x = gates(), clips(16)[0][:, :4]
    model.get_layer("gates").take_width(5)
    np.testing.assert_allclose(model(x), gates(5)(x), atol=0.02)


def test_instructions_of_a_recurrent_layer_are_not_known() -> None:
    with pytest.raises(ValueError, match="'gates': what a recurrent layer costs in instructions is not known"):
        quantized(Budget(instructions=1e6, core="cortex-m4"), "gru")


def energy(layer, bits: int) -> float:
    """Picojoules, say."""
    return layer.places * layer.weights * (0.2 + 0.05 * bits)


def test_a_cost_of_ones_own_is_met_and_saved(tmp_path) -> None:
    model = small(Budget(own={"energy": (energy, 120)}))
    with pytest.raises(ValueError, match="its budget's 'energy' is computed by 'energy', which would not be found"):
        model.save(tmp_path / "early.keras")
    costs = model_costs.costs_of(model)
    assert costs.of(dict.fromkeys(costs.names, 8))["energy"] > 180
    fit(model)
    widths = {layer.name: layer.weight_bits for layer in model_costs.learning(model)}
    assert costs.of(widths)["energy"] <= 120 and max(widths.values()) > 1
    model.save(tmp_path / "m.keras")  # its widths stay, so that nothing asks for the function
    loaded = tfmot_kws.load_model(tmp_path / "m.keras")
    assert tflite_export.convert(loaded) == tflite_export.convert(model)
    with pytest.raises(ValueError, match="computed by a function that was not saved"):
        model_costs.costs_of(loaded)


def test_a_registered_cost_of_ones_own_is_found_again(tmp_path) -> None:
    named = keras.saving.register_keras_serializable("test_budgets", "energy")(energy)
    small(Budget(own={"energy": (named, 120)})).save(tmp_path / "m.keras")
    loaded = tfmot_kws.load_model(tmp_path / "m.keras")
    keras.saving.get_custom_objects().pop("test_budgets>energy")
    assert model_costs.costs_of(loaded).limits == {"energy": 120.0}
    widths = model_costs.settle(loaded)
    assert model_costs.costs_of(loaded).fullest(widths) <= 1.0
    unknown = tfmot_kws.load_model(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="function 'test_budgets>energy', which is not known here"):
        model_costs.settle(unknown)


def test_a_budget_without_a_limit_of_weights_learns_none() -> None:
    with pytest.raises(ValueError, match="needs a budget that limits weights"):
        tfmot_kws.kws_scheme("learned", budget=Budget(ram="8KB"))
