# SPDX-License-Identifier: Apache-2.0
"""Fixed networks beside those that are searched, made as wide as a limit of operations allows."""

from __future__ import annotations

from collections.abc import Callable

from tfmot_kws.frontend.waveform import SincConv
from tfmot_kws.keras import keras
from tfmot_kws.models import networks, spotters
from tfmot_kws.models.networks import BlockSpec, NetworkConfig
from tfmot_kws.models.time_layers import CausalDepthwiseConv1D, TimeWindow
from tfmot_kws.search.space import Task

L = keras.layers
_MOST = 40
"""Widths are tried in steps of an eighth, up to five times those of the papers."""


def macs(model: keras.Model) -> int:
    """Multiply-accumulates of a clip: of all layers with kernels, filters over samples too."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, SincConv):
            total += layer.output_shape[1] * layer.average * layer.taps * layer.filters
            continue
        kernel = getattr(layer, "depthwise_kernel", getattr(layer, "kernel", None))
        if kernel is None:
            continue
        places = 1
        for size in layer.output_shape[1:-1]:
            places *= size
        total += places * int(kernel.shape.num_elements())
    return total


def parameters(model: keras.Model) -> int:
    """Weights and biases as a device stores them: the samples of filters, not the edges that are learned."""
    found = model.count_params()
    for layer in model.layers:
        if isinstance(layer, SincConv):
            found += layer.filters * (layer.taps + 1) - layer.count_params()
    return found


def _begin(task: Task):
    """The input and the features."""
    x = inputs = keras.Input((task.frames, task.mel_bins), name="features")
    return inputs, x if task.sinc is None else networks.filtered(x, task.sinc)


def _end(inputs, x, task: Task, name: str) -> keras.Model:
    x = L.Dense(task.num_classes, name="logits")(x)
    join = L.Flatten if x.shape[1] == 1 else L.GlobalAveragePooling1D
    return keras.Model(inputs, join(name="posteriors")(x), name=name)


def _normalized(x):
    return L.ReLU()(L.BatchNormalization()(x))


def spotter_250k(task: Task, width: float) -> keras.Model:
    """The feed-forward spotter of Zeng et al. 2022, narrower or wider."""
    units = max(4, round(128 * width))
    frames = _begin(task)[1].shape[1]
    shape = spotters.ModelConfig(task.num_classes, frames, task.bands, units)
    inputs, x = _begin(task)
    for number in range(len(shape.windows) + shape.dense):
        if number < len(shape.windows):
            window = shape.windows[number]
            x = TimeWindow(window.size, window.stride, window.dilation)(x)
        x = _normalized(L.Dense(units)(x))
    return _end(inputs, x, task, "spotter_250k")


def ds_cnn(task: Task, width: float) -> keras.Model:
    """The streaming wake word of MLPerf Tiny: ``spotters.ds_cnn_stream``."""
    inputs, x = _begin(task)
    for filters, size in zip((128, 128, 128, 32), (3, 5, 10, 15)):
        x = CausalDepthwiseConv1D(size, "valid", use_bias=False)(x)
        x = _normalized(L.Conv1D(max(4, round(filters * width)), 1, use_bias=False)(x))
    return _end(inputs, x, task, "ds_cnn")


def tc_resnet(task: Task, width: float) -> keras.Model:
    """Like TC-ResNet8 (Choi et al. 2019, arXiv 1904.03814): bands are channels, kernels of 9 frames, residual sums."""
    stem, *stages = (max(4, round(width * channels)) for channels in (16, 24, 32, 48))
    blocks = [BlockSpec("dense", stem, 3)]
    for channels in stages:
        blocks += [BlockSpec("dense", channels, 9, stride=2), BlockSpec("dense", channels, 9)]
    return networks.build(NetworkConfig(task.num_classes, task.frames, task.mel_bins, tuple(blocks), sinc=task.sinc))


def bc_resnet(task: Task, width: float) -> keras.Model:
    """Like BC-ResNet (Kim et al. 2021, arXiv 2106.04140): depthwise convolutions over bands, and over time on the mean
    of the bands, which is added to every band again. ReLU in the place of swish, no sub-spectral normalization, zeros
    ahead in time, means of two bands in the place of strides."""
    inputs, x = _begin(task)
    x = L.Reshape((*x.shape[1:], 1))(x)
    stem, *stages = (max(4, round(width * channels)) for channels in (16, 8, 12, 16, 20))
    x = L.ZeroPadding2D(((4, 0), (2, 2)))(x)
    x = _normalized(L.Conv2D(stem, 5, (2, 2), use_bias=False)(x))
    for stage, (channels, blocks) in enumerate(zip(stages, (2, 2, 4, 4))):
        for block in range(blocks):
            begin = x
            if block == 0:
                x = L.AveragePooling2D((1, 2))(x) if stage in (1, 2) else x
                x = _normalized(L.Conv2D(channels, 1, use_bias=False)(x))
            x = L.DepthwiseConv2D((1, 3), use_bias=False)(L.ZeroPadding2D(((0, 0), (1, 1)))(x))
            x = L.BatchNormalization()(x)
            over_time = L.AveragePooling2D((1, x.shape[2]))(x)
            over_time = L.ZeroPadding2D(((2 * 2**stage, 0), (0, 0)))(over_time)
            over_time = L.DepthwiseConv2D((3, 1), dilation_rate=(2**stage, 1), use_bias=False)(over_time)
            over_time = L.Conv2D(channels, 1)(_normalized(over_time))
            x = L.Add()([x, over_time])
            x = L.ReLU()(x if block == 0 else L.Add()([begin, x]))
    x = L.AveragePooling2D((1, x.shape[2]))(x)
    return _end(inputs, L.Reshape((x.shape[1], x.shape[3]))(x), task, "bc_resnet")


FIXED: dict[str, Callable[[Task, float], keras.Model]] = {
    "DS-CNN of MLPerf Tiny": ds_cnn, "spotter of Zeng et al.": spotter_250k, "like TC-ResNet8": tc_resnet,
    "like BC-ResNet": bc_resnet,
}  # fmt: skip


def within(make: Callable[[Task, float], keras.Model], task: Task, most_macs: float, most_parameters: float):
    """The widest of such networks that keeps to both limits.

    Raises:
        ValueError: none does.
    """
    found, below, above = None, 0, _MOST + 1  # in eighths of the papers' widths; wider is dearer
    while above - below > 1:
        middle = (below + above) // 2
        model = make(task, middle / 8)
        if macs(model) > most_macs or parameters(model) > most_parameters:
            above = middle
        else:
            found, below = model, middle
    if found is None:
        raise ValueError(f"{make.__name__}: no width keeps to {most_macs:,.0f} MACs and {most_parameters:,.0f} weights")
    return found
