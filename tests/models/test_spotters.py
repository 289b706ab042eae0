"""The keyword spotters: size, cost, shape, no state."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models

L = keras.layers


@pytest.mark.tf221
@pytest.mark.parametrize("classes", [2, 12, 35])
@pytest.mark.slow
def test_wakeword_has_250k_parameters(classes: int) -> None:
    model = models.wakeword_250k(classes)
    assert abs(model.count_params() - 250_000) < 0.02 * 250_000
    assert model.output_shape == (None, classes)
    small = models.wakeword_250k(2, width=18)
    assert abs(small.count_params() - 15_000) < 0.03 * 15_000


def test_cost_of_the_wakeword_by_hand() -> None:
    """49 frames -> 12 windows of 16 at a stride of 3 -> 5 of 4 at 2 -> 1 of 3 two apart -> three dense layers."""
    cost = models.cost(models.wakeword_250k(2))
    kernels = [16 * 40 * 128, 4 * 128 * 128, 3 * 128 * 128, *[128 * 128] * 3, 128 * 2]
    positions = [12, 5, 1, 1, 1, 1, 1]
    stride = [3, 6, 6, 6, 6, 6, 6]
    assert cost.macs_per_clip == sum(k * p for k, p in zip(kernels, positions))
    assert cost.macs_per_hop == pytest.approx(sum(k / s for k, s in zip(kernels, stride)))
    # a bias and the four vectors of a batch norm for each of the six hidden layers
    assert cost.parameters == sum(kernels) + 6 * 5 * 128 + 2
    rows = {row.name: row for row in cost.layers}
    assert rows["dense_1"].output_shape == (12, 128)
    assert rows["dense_1"].macs_per_clip == 12 * 16 * 40 * 128
    assert rows["dense_1"].macs_per_hop == 16 * 40 * 128 / 3
    assert rows["window_1"].macs_per_clip == rows["relu_1"].parameters == 0
    total = str(cost).splitlines()[-1].split()
    assert total == ["total", f"{cost.parameters:,}", f"{cost.macs_per_clip:,}", f"{cost.macs_per_hop:,.0f}"]
    assert len({len(line) for line in str(cost).splitlines()}) == 1


def test_cost_of_convolutions_by_hand() -> None:
    model = keras.Sequential(
        [
            keras.Input((20, 6)),
            L.Conv1D(8, 3, strides=2, padding="same"),
            L.DepthwiseConv1D(5, padding="same", use_bias=False),
            L.SeparableConv1D(10, 3, padding="same"),
            L.GlobalAveragePooling1D(),
            L.Dense(4),
        ]
    )
    rows = models.cost(model).layers
    assert [r.macs_per_clip for r in rows] == [10 * 3 * 6 * 8, 10 * 5 * 8, 10 * (3 * 8 + 8 * 10), 0, 8 * 5]
    assert [r.macs_per_hop for r in rows] == [3 * 6 * 8 / 2, 5 * 8 / 2, (3 * 8 + 8 * 10) / 2, 0, 40 / 2]
    assert [r.parameters for r in rows] == [152, 40, 24 + 80 + 10, 0, 44]


def test_cost_of_a_picture() -> None:
    model = keras.Sequential([keras.Input((9, 8, 3)), L.Conv2D(5, (3, 2), strides=(2, 1)), L.Flatten(), L.Dense(2)])
    conv = models.cost(model).layers[0]
    assert conv.output_shape == (4, 7, 5)
    assert conv.macs_per_clip == 4 * 7 * 3 * 2 * 3 * 5
    assert conv.macs_per_hop == 7 * 3 * 2 * 3 * 5 / 2


@pytest.mark.tf221
def test_streaming_needs_no_state(rng: np.random.Generator) -> None:
    """The posteriors of a clip depend on its own 49 frames alone: a sliding window gives what a longer clip gives."""
    model = models.wakeword_250k(3, width=12)
    assert not any(getattr(layer, "stateful", False) for layer in model.layers)
    frames = rng.normal(0, 1, (1, 55, 40)).astype(np.float32)
    clips = np.concatenate([frames[:, i : i + 49] for i in range(7)])
    together = model(clips, training=False).numpy()
    for i in (0, 6, 3):
        np.testing.assert_allclose(model(clips[i : i + 1], training=False), together[i : i + 1], atol=1e-5)
    # 55 frames are two positions, 6 frames apart, joined by their mean
    longer = models.wakeword_250k(3, frames=55, width=12)
    assert longer.get_layer("logits").output_shape == (None, 2, 3)
    longer.set_weights(model.get_weights())
    np.testing.assert_allclose(longer(frames, training=False)[0], (together[0] + together[6]) / 2, atol=1e-5)


def test_every_frame_of_a_clip_counts(rng: np.random.Generator) -> None:
    model = models.build(models.ModelConfig(2, width=16, batch_norm=False))
    x = tf.constant(rng.normal(0, 1, (4, 49, 40)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    assert (np.abs(tape.gradient(y, x)).max(axis=(0, 2)) > 0).all()


@pytest.mark.tf221
def test_variants() -> None:
    windows = (models.WindowSpec(3, 2), models.WindowSpec(2, 1, 3))
    model = models.build(models.ModelConfig(4, 20, 5, 8, windows, dense=0, batch_norm=False))
    assert [type(layer).__name__ for layer in model.layers[1:]] == [
        "TimeWindow", "Dense", "ReLU", "TimeWindow", "Dense", "ReLU", "Dense", "GlobalAveragePooling1D",
    ]  # fmt: skip
    assert model.input_shape == (None, 20, 5) and model.output_shape == (None, 4)


@pytest.mark.parametrize("name", ["num_classes", "frames", "mel_bins", "width"])
def test_config_errors_name_the_field(name: str) -> None:
    with pytest.raises(ValueError, match=f"ModelConfig: {name} must be at least 1, found 0"):
        models.ModelConfig(**{"num_classes": 2, name: 0})


def test_a_width_that_no_machine_has_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be at most 8,192, found 100,000,000"):
        models.ModelConfig(2, width=100_000_000)


def test_config_needs_windows() -> None:
    for bad in ({"windows": ()}, {"dense": -1}):
        with pytest.raises(ValueError, match="at least one window and no negative number of dense layers"):
            models.ModelConfig(2, **bad)


def test_too_few_frames() -> None:
    with pytest.raises(ValueError, match="layer 'window_1': a window spans 16 frames but the clip has 15"):
        models.wakeword_250k(2, frames=15)


def test_mixed_net_costs_one_row_of_each_layer() -> None:
    """As many parameters as its docstring says, and no multiplication that its kernels do not ask for."""
    model = models.mixed_net()
    assert model.input_shape == (None, 59, 40) and model.output_shape == (None, 2)
    assert model.count_params() == 27522
    cost = models.cost(model)
    blocks = ((25, 5), (19, 7), (11, 9), (1, 11))  # rows that are left, and the kernel that leaves them
    rows = [29 * 120 * 64, *(n * 64 * (k + 64) for n, k in blocks), 128]
    assert cost.macs_per_clip == sum(rows)
    longer = models.mixed_net(frames=75)
    assert longer.layers[-1].__class__.__name__ == "GlobalAveragePooling1D"
    for options, message in (
        ({"frames": 58}, "span 59 frames but the clip has 58"),
        ({"filters": 0}, "filters must be at least 1"),
        ({"kernels": ()}, "at least one length"),
    ):
        with pytest.raises(ValueError, match=message):
            models.mixed_net(**options)


def test_ds_cnn_stream_is_shaped_as_mlperf_tinys() -> None:
    """Kernels 3, 5, 10 and 15 span 30 frames; a hop costs one row of each layer, at least 15 times less than a clip."""
    model = models.ds_cnn_stream()
    assert model.input_shape == (None, 30, 40) and model.output_shape == (None, 3)
    cost = models.cost(model)
    rows = [28 * (40 * 3 + 40 * 128), 24 * 128 * (5 + 128), 15 * 128 * (10 + 128), 128 * (15 + 32), 32 * 3]
    assert cost.macs_per_clip == sum(rows)
    assert cost.macs_per_hop == sum(r / n for r, n in zip(rows, (28, 24, 15, 1, 1)))
    assert cost.macs_per_clip >= 15 * cost.macs_per_hop
    assert models.ds_cnn_stream(frames=49).layers[-1].__class__.__name__ == "GlobalAveragePooling1D"
    for options, message in (
        ({"frames": 29}, "span 30 frames but the clip has 29"),
        ({"filters": (8,)}, "1 filters but 4 kernels"),
    ):
        with pytest.raises(ValueError, match=message):
            models.ds_cnn_stream(**options)
