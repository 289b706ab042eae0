"""What the event files hold is what the model has."""

from __future__ import annotations

import event_files
import numpy as np
import pytest
from quick_fit import flat_clips, quick_fit, two_layers

import tfmot_kws
from tfmot_kws.keras import keras
from tfmot_kws.training import learned_values, tensorboard_log

L = keras.layers


class Watch(keras.callbacks.Callback):
    """Takes down what layers say of themselves, by other ways than the log takes."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        seen = {"training/loss": logs["loss"], "training/learning_rate": self.model.optimizer.learning_rate.numpy()}
        for layer in self.model.layers:
            grid = getattr(layer, "output_grid", None)
            if grid is not None:
                scale, zero_point = grid.quantization()
                steps = 2**grid.bits
                low = -steps // 2 if zero_point == 0 else 0
                seen[f"ranges/{layer.name}/low"] = scale * low
                seen[f"ranges/{layer.name}/high"] = scale * (low + steps - 1)
                seen[f"scales/{layer.name}/output"] = scale
            if getattr(layer, "learned_width", None):
                for name, width in (("widths", layer.learned_width), ("activation_widths", grid.width)):
                    seen[f"{name}/{layer.name}"] = width.bits if width.settled else width.width
        self.epochs.append(seen)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model that learned widths of both kinds, its log, and what was seen of it epoch by epoch."""
    folder, watch = tmp_path_factory.mktemp("board"), Watch()
    budget = tfmot_kws.Budget(average_bits=3.5, average_activation_bits=5)
    learned = tfmot_kws.kws_scheme("learned", activation_bits="learned", budget=budget)
    model = tfmot_kws.quantize_apply(two_layers(), learned)
    schedule = tfmot_kws.TwoStageSchedule(2)
    quick_fit(model, flat_clips(), 4, 16, [schedule, watch, tfmot_kws.TensorBoardLog(folder / "first")])
    return model, folder / "first", watch, schedule.history


def test_epochs_are_those_of_the_model(made) -> None:
    model, folder, watch, _ = made
    found = event_files.scalars(folder)
    assert len(watch.epochs) == 4 and {"widths/first", "activation_widths/logits"} <= set(watch.epochs[0])
    for name in watch.epochs[0]:
        assert [step for step, _ in found[name]] == [0, 1, 2, 3], name
        for (_, value), seen in zip(found[name], watch.epochs):
            assert value == pytest.approx(seen[name], rel=1e-6), name
    low, high = (found[f"ranges/first/{end}"][-1][1] for end in ("low", "high"))
    steps = model.get_layer("first")
    assert low == 0.0 < high and high == pytest.approx((2**steps.output_grid.bits - 1) * steps.output_grid.grid().scale)


def test_costs_are_those_of_the_budget(made) -> None:
    """Points of the history have whole widths; after stage 1 those that are logged are whole too."""
    _, folder, _, history = made
    found = event_files.scalars(folder)
    weights = [point.used for point in history.points if point.kind == "weights"]
    assert found["budget/average_bits_share"][1][1] == pytest.approx(weights[1], rel=1e-6)
    assert found["budget/average_bits"][1][1] == pytest.approx(3.5 * weights[1], rel=1e-6)
    activations = [point.used for point in history.points if point.kind == "activations"]
    assert found["budget/average_activation_bits_share"][-1][1] == pytest.approx(activations[-1], rel=1e-6)
    assert found["budget/average_bits_share"][0][1] > found["budget/average_bits_share"][1][1]


def test_scales_of_weights(made) -> None:
    """Times a level they are the weights that the layer computes with."""
    model, folder, _, _ = made
    layer = model.get_layer("first")
    scales = layer.weight_scales
    levels = layer._levels().numpy()
    gain, _ = layer._gain_and_bias(np.zeros((1, 16), np.float32), 1.0, False)
    np.testing.assert_allclose(levels * scales, levels * np.abs(gain.numpy()), rtol=1e-6)
    found = event_files.scalars(folder)["scales/first/weights"]
    assert found[-1][1] == pytest.approx(scales.mean(), rel=1e-5)
    histograms = event_files.read(folder, "histograms")["scales/first/weights/by_output"]
    assert [step for step, _ in histograms] == [0, 1, 2, 3]
    left, right, counts = histograms[-1][1].T
    assert counts.sum() == len(scales) == 16
    assert (left[0], right[-1]) == (pytest.approx(scales.min()), pytest.approx(scales.max()))


def test_tensorboard_reads_it_as_its_own(made, require_module) -> None:
    """As tf.summary.scalar and tf.summary.histogram would have written it."""
    accumulator = require_module("tensorboard.backend.event_processing.event_accumulator")
    _, folder, _, _ = made
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    for plugin, name in (("scalars", "ranges/first/high"), ("histograms", "scales/first/weights/by_output")):
        assert set(events.PluginTagToContent(plugin)) >= {name} and len(events.Tensors(name)) == 4
        data = events.SummaryMetadata(name)
        assert data.data_class == {"scalars": 1, "histograms": 2}[plugin] and not data.plugin_data.content


def test_a_run_that_goes_on_is_one_with_the_first(tmp_path) -> None:
    """Of a float model, which has a loss, a rate and an accuracy."""
    model, log = two_layers(), tfmot_kws.TensorBoardLog(tmp_path)
    quick_fit(model, flat_clips(), 2, 32, [log])
    quick_fit(model, flat_clips(), 3, 32, [log], initial_epoch=2)
    found = event_files.scalars(tmp_path)
    assert set(found) == {"training/loss", "training/learning_rate"}
    assert [step for step, _ in found["training/loss"]] == [0, 1, 2]
    assert found["training/learning_rate"][0][1] == pytest.approx(2e-3)


def test_recurrent_and_dynamic_layers() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6), name="features")
    x = L.GRU(8, name="gru", reset_after=True)(inputs)
    model = keras.Model(inputs, L.Dense(3, name="logits")(x))
    names = set(learned_values.weight_scales(tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(4))))
    assert names == {"scales/gru/kernel", "scales/gru/recurrent", "scales/logits/weights"}
    dynamic = tfmot_kws.quantize_apply(two_layers(), tfmot_kws.dynamic_scheme(4))
    scales = learned_values.weight_scales(dynamic)["scales/first/weights"]
    kernel = dynamic.get_layer("first").kernel.numpy()
    spread = (kernel.max(0) - kernel.min(0)) / 15
    np.testing.assert_allclose(scales, spread, rtol=0.3)
    assert learned_values.ranges(dynamic) == {} == learned_values.Widths(dynamic).values()


def test_folder_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    log = tensorboard_log.TensorBoardLog(tmp_path / "file" / "board")
    with pytest.raises(ValueError, match="TensorBoardLog: .*board cannot be written to"):
        log.on_train_begin()
