# SPDX-License-Identifier: Apache-2.0
"""Dense layers as pairs of thin ones: a low-rank form by singular value decomposition.

A kernel W [inputs, outputs] becomes U [inputs, rank] and V [rank, outputs] with the least squared error there is for
that rank (Eckart and Young 1936): the largest singular values and their vectors, each half carrying the square root of
the values. Mishchenko et al. 2019 quantize a spotter of such pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras

L = keras.layers
POINTWISE = (L.Dense, L.Conv1D, L.Conv2D)
SUFFIX = "_thin"
"""Of the name of a pair's first layer; the second keeps the name of the layer that was split."""


@dataclasses.dataclass(frozen=True)
class Split:
    """One layer that became a pair.

    Attributes:
        name: of the layer.
        inputs: of the pair's first kernel, [inputs, rank].
        outputs: of its second kernel, [rank, outputs].
        rank: what lies between them.
        error: relative Frobenius norm of what is lost, 0..1.
        places: how often the layer runs on one clip.
    """

    name: str
    inputs: int
    outputs: int
    rank: int
    error: float
    places: int

    @property
    def parameters(self) -> tuple[int, int]:
        """Weights before and after, biases not counted."""
        return self.inputs * self.outputs, self.rank * (self.inputs + self.outputs)

    @property
    def macs(self) -> tuple[int, int]:
        """Multiply-accumulates for one clip, before and after."""
        return self.places * self.parameters[0], self.places * self.parameters[1]


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``factorize`` did; ``str()`` gives a table."""

    splits: tuple[Split, ...]

    def __str__(self) -> str:
        rows = [f"{'layer':<16}{'kernel':>12}{'rank':>6}{'parameters':>22}{'MAC/clip':>28}{'error':>8}"]
        for s in self.splits:
            kernel = f"{s.inputs}x{s.outputs}"
            weights, macs = (f"{a:,} -> {b:,}" for a, b in (s.parameters, s.macs))
            rows.append(f"{s.name:<16}{kernel:>12}{s.rank:>6}{weights:>22}{macs:>28}{s.error:>8.3f}")
        return "\n".join(rows)


def factorize(
    model: keras.Model, rank: int | Mapping[str, int] | None = None, energy: float | None = None
) -> tuple[keras.Model, Report]:
    """A model whose dense layers and 1x1 convolutions are pairs of thin layers, ready for training on.

    A first layer without bias and activation makes ``rank`` values, a second one, with the name, bias and activation of
    the layer, its outputs. All other layers and weights are copied.

    Args:
        model: a functional or sequential float model; left as it is.
        rank: of every pair; or by the name of a layer, and only these are split.
        energy: instead of a rank, the share (0..1] of the squared singular values to keep; each layer gets the smallest
            rank that does. Layers that would not get smaller stay whole.

    Returns:
        The model, and what became of each layer that was split.

    Raises:
        ValueError: both or none of rank and energy, a number out of range, a name that is no dense layer, or nothing to
            split; the message names it.
        TypeError: no functional tf_keras model.
    """
    if (rank is None) == (energy is None):
        raise ValueError("factorize: give either rank or energy")
    if energy is not None and not 0.0 < energy <= 1.0:
        raise ValueError(f"energy={energy!r}: must be above 0 and at most 1")
    if not isinstance(model, keras.Model) or not getattr(model, "_is_graph_network", False):
        raise TypeError(f"factorize needs a functional or sequential tf_keras model, found {type(model).__name__}")
    kernels = {layer.name: _matrix(layer) for layer in model.layers if _splits(layer)}
    ranks = _ranks(kernels, rank, energy)
    if not ranks:
        raise ValueError("factorize: no layer would get smaller; use a smaller rank or energy")
    halves, splits = {}, []
    for layer in model.layers:
        if layer.name in ranks:
            halves[layer.name], error = _halves(kernels[layer.name], ranks[layer.name])
            places = int(np.prod(layer.output_shape[1:-1], dtype=np.int64))
            splits.append(Split(layer.name, *kernels[layer.name].shape, ranks[layer.name], error, places))
    return _rebuild(model, halves), Report(tuple(splits))


def _splits(layer: L.Layer) -> bool:
    """Whether a layer multiplies the last axis by a matrix and does nothing else over the others."""
    if type(layer) not in POINTWISE:
        return False
    if isinstance(layer, L.Dense):
        return True
    plain = all(v == 1 for v in (*layer.kernel_size, *layer.strides, layer.groups))
    return plain and layer.data_format == "channels_last"


def _matrix(layer: L.Layer) -> np.ndarray:
    kernel = layer.kernel.numpy()
    return kernel.reshape(-1, kernel.shape[-1])


def _ranks(kernels: Mapping[str, np.ndarray], rank, energy: float | None) -> dict[str, int]:
    if isinstance(rank, Mapping):
        unknown = sorted(set(rank) - set(kernels))
        if unknown:
            raise ValueError(f"rank: no dense layer or 1x1 convolution is called {unknown}; there are {list(kernels)}")
        wanted = dict(rank)
    elif rank is not None:
        # One rank for all: a layer that is thin already stays.
        wanted = {n: rank for n, w in kernels.items() if not isinstance(rank, int) or _smaller(w, rank)}
    else:
        wanted = {n: r for n, w in kernels.items() if _smaller(w, r := _rank_of(w, energy))}
    for name, value in wanted.items():
        most = min(kernels[name].shape)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
            raise ValueError(f"rank of layer {name!r}: must be a whole number between 1 and {most}, found {value!r}")
    return wanted


def _smaller(kernel: np.ndarray, rank: int) -> bool:
    return rank * sum(kernel.shape) < kernel.size


def _rank_of(kernel: np.ndarray, energy: float) -> int:
    """The smallest rank that keeps the share of the squared singular values."""
    values = np.linalg.svd(kernel.astype(np.float64), compute_uv=False) ** 2
    if not values.sum():
        return 1
    kept = np.cumsum(values) / values.sum()
    return int(np.searchsorted(kept, energy - 1e-12) + 1)


def _halves(kernel: np.ndarray, rank: int) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """(first, second) kernels and the relative error."""
    u, values, v = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
    root = np.sqrt(values[:rank])
    total = float(np.sum(values**2))
    error = float(np.sqrt(np.sum(values[rank:] ** 2) / total)) if total else 0.0
    return ((u[:, :rank] * root).astype(np.float32), (root[:, None] * v[:rank]).astype(np.float32)), error


def _rebuild(model: keras.Model, halves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> keras.Model:
    """The same graph with two layers in the place of one; shared layers stay shared."""
    tensors, copies = {}, {}
    inputs = []
    for tensor in model.inputs:
        source = tensor._keras_history.layer
        fresh = keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=source.name)
        inputs.append(fresh)
        tensors[id(tensor)] = fresh
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            layer = node.layer
            if layer.name not in copies:
                copies[layer.name] = _copies(layer, halves.get(layer.name))
            swap = lambda v: tensors.get(id(v), v)  # noqa: E731
            args, kwargs = (tf.nest.map_structure(swap, part) for part in (node.call_args, node.call_kwargs))
            first, *second = copies[layer.name]
            out = first(*args, **kwargs)
            for more in second:
                out = more(out)
            for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(out)):
                tensors[id(old)] = new
    made = keras.Model(inputs, [tensors[id(t)] for t in model.outputs], name=model.name)
    for name, layers in copies.items():
        old = model.get_layer(name)
        if name in halves:
            first, second = halves[name]
            biases = [old.bias.numpy()] if old.use_bias else []
            layers[0].set_weights([first.reshape(layers[0].kernel.shape)])
            layers[1].set_weights([second.reshape(layers[1].kernel.shape), *biases])
        else:
            layers[0].set_weights(old.get_weights())
    return made if len(model.outputs) > 1 else keras.Model(made.inputs, made.outputs[0], name=model.name)


def _copies(layer: L.Layer, halves: tuple[np.ndarray, np.ndarray] | None) -> list[L.Layer]:
    config = layer.get_config()
    if halves is None:
        return [type(layer).from_config(config)]
    size = "units" if isinstance(layer, L.Dense) else "filters"
    thin = {
        **config,
        "name": config["name"] + SUFFIX,
        size: halves[0].shape[1],
        "use_bias": False,
        "activation": "linear",
        "activity_regularizer": None,
        "bias_regularizer": None,
        "bias_constraint": None,
    }
    return [type(layer).from_config(thin), type(layer).from_config(config)]
