# SPDX-License-Identifier: Apache-2.0
"""The 50,000-parameter spotter on its way: with a second head for phones, at full or at low rank.

Features are normalized by fixed numbers, stacked, and go through sigmoid layers, one row for each frame that is judged;
``phones`` gives a row's logits of phones, ``posteriors`` the mean over rows of the logits of keywords. A head may be
missing. At the end ``keyword_model`` takes away what only training needs.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.models import low_rank
from tfmot_kws.models import spotters as models
from tfmot_kws.models.time_layers import TimeWindow

L = keras.layers
KEYWORDS, PHONES = "posteriors", "phones"
"""Names of the outputs: float [clips, classes] and [clips, rows, phones], both logits."""
NORMALIZE, STACK = "normalize", "stack"


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a spotter.

    Attributes:
        frames, mel_bins: shape of the features of a clip.
        mean, deviation: of the features of each band; a model works on (x - mean) / deviation.
        context: frames that are stacked.
        width: outputs of each sigmoid layer.
        layers: how many sigmoid layers there are.
        rank: outputs of the linear layer ahead of each; None has none.
        classes: logits of keywords; 0 has no such head.
        phones: logits of phones; 0 has no such head.

    Raises:
        ValueError: a size is below 1 (0 for heads), or mean and deviation do not suit the bands; the message names it.
    """

    frames: int
    mel_bins: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    context: int = 31
    width: int = 128
    layers: int = 3
    rank: int | None = None
    classes: int = 0
    phones: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("frames", 1), ("mel_bins", 1), ("context", 1), ("width", 1), ("layers", 1), ("classes", 0), ("phones", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"Shape.{name}={getattr(self, name)!r}: must be at least {least}")
        if self.context > self.frames:
            raise ValueError(f"Shape.context={self.context!r}: a clip has {self.frames} frames only")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"Shape.rank={self.rank!r}: must be at least 1")
        for name in ("mean", "deviation"):
            if len(getattr(self, name)) != self.mel_bins:
                raise ValueError(f"Shape.{name}: has {len(getattr(self, name))} values for {self.mel_bins} bands")
        if not min(self.deviation) > 0:
            raise ValueError("Shape.deviation: must be above 0 in every band")
        if not self.classes and not self.phones:
            raise ValueError("Shape: neither classes nor phones; a model needs a head")

    @property
    def rows(self) -> int:
        """Frames of a clip that are judged: those with their whole context in it."""
        return self.frames - self.context + 1


def build(shape: Shape) -> keras.Model:
    """A model with random weights; its outputs are called ``posteriors`` and ``phones``."""
    inputs = keras.Input((shape.frames, shape.mel_bins), name="features")
    variance = [d * d for d in shape.deviation]
    x = L.Normalization(mean=list(shape.mean), variance=variance, name=NORMALIZE)(inputs)
    x = TimeWindow(shape.context, name=STACK)(x)
    for i in range(1, shape.layers + 1):
        if shape.rank is not None:
            x = L.Dense(shape.rank, use_bias=False, name=f"linear_{i}")(x)
        x = L.Dense(shape.width, activation="sigmoid", name=f"sigmoid_{i}")(x)
    outputs = []
    if shape.classes:
        logits = L.Dense(shape.classes, name="logits")(x)
        outputs.append((L.Flatten if shape.rows == 1 else L.GlobalAveragePooling1D)(name=KEYWORDS)(logits))
    if shape.phones:
        outputs.append(L.Dense(shape.phones, name=PHONES)(x))
    return keras.Model(inputs, outputs, name="multitask")


def shape_of(model: keras.Model) -> Shape:
    """The sizes of a model that ``build`` made.

    Raises:
        ValueError: another model; the message says what it lacks.
    """
    layers = {layer.name: layer for layer in model.layers}
    missing = [name for name in (NORMALIZE, STACK, "sigmoid_1") if name not in layers]
    if missing:
        raise ValueError(f"model {model.name!r} is not one of low_rank_recipes: it has no layer {missing[0]!r}")
    units = {name: layer.units for name, layer in layers.items() if isinstance(layer, L.Dense)}
    normalize = layers[NORMALIZE]
    return Shape(
        *model.input_shape[1:],
        tuple(np.ravel(normalize.mean).tolist()),
        tuple(np.sqrt(np.ravel(normalize.variance)).tolist()),
        layers[STACK].size,
        units["sigmoid_1"],
        sum(name.startswith("sigmoid_") for name in units),
        units.get("linear_1"),
        units.get("logits", 0),
        units.get(PHONES, 0),
    )


def with_keywords(model: keras.Model, classes: int) -> keras.Model:
    """The same with a keyword head of random weights; the model itself stays as it is.

    Raises:
        ValueError: not a model of this module, or one that has the head already.
    """
    shape = shape_of(model)
    if shape.classes:
        raise ValueError(f"model {model.name!r} has a keyword head already, of {shape.classes} classes")
    return _filled(dataclasses.replace(shape, classes=classes), _weights(model))


def with_bottlenecks(model: keras.Model, rank: int = 39) -> tuple[keras.Model, low_rank.Report]:
    """The same with each sigmoid layer's kernel as the product of two, by singular values; the model stays as it is.

    Raises:
        ValueError: not a model of this module, one with bottlenecks, or a rank above what a kernel has.
    """
    shape = shape_of(model)
    if shape.rank is not None:
        raise ValueError(f"model {model.name!r} has bottlenecks already, of rank {shape.rank}")
    names = [f"sigmoid_{i}" for i in range(1, shape.layers + 1)]
    split, report = low_rank.factorize(model, rank=dict.fromkeys(names, rank))
    weights = _weights(split)
    for i, name in enumerate(names, 1):
        weights[f"linear_{i}"] = weights.pop(name + low_rank.SUFFIX)
    return _filled(dataclasses.replace(shape, rank=rank), weights), report


def keyword_model(model: keras.Model, fold: bool = False) -> keras.Model:
    """The plain spotter: features as they are -> logits [classes], the layers and names of ``models.svd_50k``.

    The phone head is dropped. A model of full rank gives the like without linear layers.

    Args:
        model: with a keyword head.
        fold: makes the normalization part of the first kernel and, as the first linear layer has no bias, of the first
            sigmoid layer's bias: S (x - m) K + b = x (S K) + (b - m S K). Logits change by rounding only. Such a model
            is for use, not for more training: at the raw features' mean and range a step of Adam moves its first sums
            so far that it falls apart. Else a layer of fixed numbers, ``normalize``, stays ahead of the rest.

    Raises:
        ValueError: not a model of this module, or one without a keyword head.
    """
    shape = shape_of(model)
    if not shape.classes:
        raise ValueError(f"model {model.name!r} has no keyword head; train it in the second stage first")
    weights = _weights(model)
    if not fold:
        return _normalized(shape, weights)
    mean, scale = (np.tile(v, shape.context) for v in (shape.mean, 1.0 / np.asarray(shape.deviation)))
    first = "sigmoid_1" if shape.rank is None else "linear_1"
    kernel = scale[:, None] * weights[first][0].astype(np.float64)
    shift = mean @ kernel
    if shape.rank is not None:
        shift = shift @ weights["sigmoid_1"][0].astype(np.float64)
    weights[first] = [kernel.astype(np.float32), *weights[first][1:]]
    weights["sigmoid_1"] = [weights["sigmoid_1"][0], (weights["sigmoid_1"][1] - shift).astype(np.float32)]
    if shape.rank is not None:
        plain = models.svd_50k(
            shape.classes, shape.frames, shape.mel_bins, shape.context, shape.width, shape.rank, shape.layers
        )
    else:
        made = build(dataclasses.replace(shape, phones=0))
        x = made.inputs[0]
        for layer in made.layers[1:]:
            x = x if layer.name == NORMALIZE else layer(x)
        plain = keras.Model(made.inputs, x, name="full_rank")
    for layer in plain.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    return plain


def _normalized(shape: Shape, weights: dict[str, list[np.ndarray]]) -> keras.Model:
    """The spotter with its normalization as a frozen batch normalization, which every export knows."""
    made = build(dataclasses.replace(shape, phones=0))
    x = made.inputs[0]
    for layer in made.layers[1:]:
        if layer.name == NORMALIZE:
            layer = L.BatchNormalization(center=False, scale=False, epsilon=0.0, trainable=False, name=NORMALIZE)
        x = layer(x)
    plain = keras.Model(made.inputs, x, name="svd" if shape.rank is not None else "full_rank")
    weights = {**weights, NORMALIZE: [np.asarray(shape.mean, np.float32), np.square(shape.deviation, dtype=np.float32)]}
    for layer in plain.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    return plain


def _weights(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if isinstance(layer, L.Dense)}


def _filled(shape: Shape, weights: dict[str, list[np.ndarray]]) -> keras.Model:
    """A new model with these weights where it has such a layer."""
    model = build(shape)
    for layer in model.layers:
        if layer.name in weights:
            layer.set_weights(weights[layer.name])
    return model
