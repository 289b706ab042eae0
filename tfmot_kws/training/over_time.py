# SPDX-License-Identifier: Apache-2.0
"""A model of windows on longer sound: all windows of it at once, each row of each layer computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.models.time_layers import CausalDepthwiseConv1D, TimeWindow
from tfmot_kws.quantize import elementwise, ops
from tfmot_kws.quantize import layers as quantized_layers

L = keras.layers
_MOVING = (
    TimeWindow, CausalDepthwiseConv1D, L.Conv1D, L.DepthwiseConv1D, L.SeparableConv1D,
    quantized_layers.QuantizedConv, quantized_layers.QuantizedDepthwise,
)  # fmt: skip
"""Layers that look at several rows, without padding."""
_ROWWISE = (
    L.Dense, L.BatchNormalization, L.ReLU, L.LeakyReLU, L.Activation, L.Dropout, L.Add, L.Average, L.Maximum, L.Minimum,
    L.Concatenate, quantized_layers.QuantizedDense, ops.QuantizeInput, ops.Dequantize, ops.QuantizedMerge,
    elementwise.QuantizedScale,
)  # fmt: skip
"""Layers that treat each row by itself."""


SPARSER = 3
"""``Ear.sparsely`` gives every third of the places that are heard."""
_LISTENING = 4.8
"""Seconds beyond a window that are listened to at once, where a model computes them at once."""
_MANY = 1024
"""Windows that are handed over together."""
_TOGETHER = 64
"""Blocks, or windows, that are computed together."""


class _NotOverTimeError(Exception):
    """A layer of which nothing is known, or which sees where the window begins or ends."""


class OverTime:
    """What a model says at every place of longer sound: float [n, longer, mel] -> [n, places, classes].

    Place i is the window that ends ``i * hop`` frames behind the first one, and has the numbers that the model gives of
    it. Convolutions over time and layers of single rows run over the whole; a model with any other layer, with padding,
    or that moves by other steps than ``hop`` divides into, is run on each window by itself: the same numbers (in
    training: but for what a batch normalization takes its mean over), in more time. Layers are called as they are, in
    training too; the model's graph stays as it is.

    Args:
      model: features [frames, mel] -> [classes], float or quantized; functional.
      hop: frames from one window to the next; None are the model's own strides, 1 where windows are run by themselves.

    Raises:
      ValueError: ``hop`` is below 1.

    Attributes:
      frames: of a window.
      hop: frames from one place to the next.
      at_once: whether the whole is computed at once.
    """

    def __init__(self, model: keras.Model, hop: int | None = None):
        if hop is not None and hop < 1:
            raise ValueError(f"hop={hop!r}: must be at least 1 frame")
        self._model, self.frames = model, int(model.input_shape[1])
        try:
            self._own = self._hop_of(model, 1)
            self.at_once = hop is None or hop % self._own == 0
        except _NotOverTimeError:
            self._own, self.at_once = 1, False
        self.hop = self._own if hop is None else hop

    def places(self, longer: int) -> int:
        """How many windows there are in so many frames."""
        return (longer - self.frames) // self.hop + 1

    def __call__(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """All places of float [n, longer, mel]; ``longer`` at least ``frames`` and known before it runs."""
        count = self.places(int(x.shape[1]))
        if count < 1:
            raise ValueError(f"model {self._model.name!r} takes {self.frames} frames, found {x.shape[1]}")
        x = x[:, : self.frames + (count - 1) * self.hop]
        if self.at_once:
            return _run(self._model, x, training)[:, :: self.hop // self._own]
        cut = tf.stack([x[:, at * self.hop : at * self.hop + self.frames] for at in range(count)], axis=1)
        out = self._model(tf.reshape(cut, [-1, *cut.shape[2:]]), training=training)
        return tf.reshape(out, [-1, count, out.shape[-1]])

    def _hop_of(self, model: keras.Model, hop: int) -> int:
        """Frames between two places; raises where the model cannot be run over time."""
        if len(model.inputs) != 1 or len(model.outputs) != 1 or not getattr(model, "_is_graph_network", False):
            raise _NotOverTimeError
        hops: dict[int, int] = {}
        joined: set[int] = set()  # tensors behind the layer that makes one row of the rows
        for node in _nodes(model):
            layer, found = node.layer, {hops[id(t)] for t in node.keras_inputs if len(t.shape) > 1}
            if node.is_input:
                own = hop
                if len(node.outputs.shape) != 3:
                    raise _NotOverTimeError
            elif len(found) != 1:
                raise _NotOverTimeError
            else:
                (own,) = found
            behind = any(id(t) in joined for t in node.keras_inputs)
            if isinstance(layer, keras.Model):
                own = self._hop_of(layer, own)
                behind = True
            elif type(layer) in _JOINS and not behind:
                behind = True
            elif type(layer) in _MOVING and not behind and layer.padding == "valid":
                own *= _stride(layer)
            elif not node.is_input and (type(layer) not in _ROWWISE or _crosses(layer)):
                raise _NotOverTimeError
            for tensor in tf.nest.flatten(node.outputs):
                hops[id(tensor)] = own
                joined |= {id(tensor)} if behind else set()
        (out,) = model.outputs
        if id(out) not in joined or len(out.shape) != 2:
            raise _NotOverTimeError
        return hops[id(out)]


def _nodes(model: keras.Model) -> list:
    return [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]


def _stride(layer: L.Layer) -> int:
    stride = layer.stride if isinstance(layer, TimeWindow) else layer.strides
    return int(stride[0]) if isinstance(stride, (tuple, list)) else int(stride)


def _crosses(layer: L.Layer) -> bool:
    """Whether a layer of single rows is set to another axis than the last of [n, rows, channels]."""
    axis = getattr(layer, "axis", -1)
    return (list(axis) if isinstance(axis, (tuple, list)) else [axis]) not in ([-1], [2])


def _framed(x: tf.Tensor, rows: int) -> tf.Tensor:
    """[n, longer, channels] -> [n, places, rows, channels]."""
    count = int(x.shape[1]) - rows + 1
    return tf.stack([x[:, row : row + count] for row in range(rows)], axis=2)


def _flat(x: tf.Tensor, rows: int) -> tf.Tensor:
    x = _framed(x, rows)
    return tf.reshape(x, [-1, x.shape[1], rows * x.shape[3]])


_JOINS = {
    L.Flatten: _flat,
    L.GlobalAveragePooling1D: lambda x, rows: tf.reduce_mean(_framed(x, rows), axis=2),
    L.GlobalMaxPooling1D: lambda x, rows: tf.reduce_max(_framed(x, rows), axis=2),
}
"""Layers that make one row of the rows of a window, and what they are over time."""


def _run(model: keras.Model, x: tf.Tensor, training: bool) -> tf.Tensor:
    """The model's layers, one after another, over time."""
    values: dict[int, Any] = {}
    for node in _nodes(model):
        if node.is_input:
            values[id(node.outputs)] = x
            continue
        layer, first = node.layer, node.keras_inputs[0]
        if isinstance(layer, keras.Model):
            out = _run(layer, values[id(first)], training)
        elif type(layer) in _JOINS:
            out = _JOINS[type(layer)](values[id(first)], int(first.shape[1]))
        else:
            given = (node.call_args, node.call_kwargs)
            args, kwargs = tf.nest.map_structure(lambda v: values.get(id(v), v), given)
            if layer._call_spec.expects_training_arg:
                kwargs = {"training": training} | kwargs
            out = layer(*args, **kwargs)
        for tensor, value in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(out)):
            values[id(tensor)] = value
    return values[id(model.outputs[0])]


def in_blocks(
    function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, frames: int, hop: int, reach: int
) -> np.ndarray:
    """What a model says at all places of a recording that it hears in blocks.

    Args:
      function: float32 [n, frames + reach, mel] -> [n, 1 + reach // hop, classes]; without a reach [n, classes].
      x: float32 [longer, mel], at least ``frames`` long.
      frames: of a window.
      hop: frames from one place to the next.
      reach: frames by which a block is longer than a window, a multiple of ``hop``.

    Returns:
      [places, classes].
    """
    wanted, count = (len(x) - frames) // hop + 1, 1 + reach // hop
    x = np.pad(x, ((0, reach), (0, 0)), "edge")  # the last block is whole
    view = np.lib.stride_tricks.sliding_window_view(x, frames + reach, axis=0)
    view = view[:: count * hop][: -(-wanted // count)].swapaxes(1, 2)
    at_once = max(1, _MANY // count)
    parts = [np.ascontiguousarray(view[at : at + at_once]) for at in range(0, len(view), at_once)]
    out = np.concatenate([np.asarray(function(part)) for part in parts])
    return out.reshape(-1, out.shape[-1])[:wanted]


class Ear:
    """A model that listens to blocks of sound, at places that are ``hop`` frames apart.

    Args:
      model: features [frames, mel] -> [classes], float or quantized; functional.
      hop: frames from one place to the next.
      seconds_of_frame: time from one frame to the next.

    Attributes:
      frames: of a window.
      reach: frames by which a block is longer, a multiple of three hops; 0 where the model computes windows only.
    """

    def __init__(self, model: keras.Model, hop: int, seconds_of_frame: float) -> None:
        over, self.reach, self.hop = OverTime(model, hop), 0, hop
        self.frames = over.frames
        if over.at_once:
            self.reach = max(1, round(_LISTENING / seconds_of_frame / hop / SPARSER)) * hop * SPARSER
        run = over if self.reach else (lambda x: model(x, training=False))
        run = tf.autograph.experimental.do_not_convert(run)  # else AutoGraph goes through every layer
        # One trace for batches of every size.
        signature = [tf.TensorSpec((None, over.frames + self.reach, *model.input_shape[2:]), tf.float32)]
        self._traced = tf.function(run, input_signature=signature, autograph=False)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Float32 [n, frames + reach, mel] -> [n, 1 + reach // hop, classes]; without a reach [n, classes]."""
        parts = [x[at : at + _TOGETHER] for at in range(0, len(x), _TOGETHER)]
        return np.concatenate([self._traced(tf.constant(part)).numpy() for part in parts])

    def whole(self, x: np.ndarray) -> np.ndarray:
        """All places of one recording: float32 [n, mel], at least ``frames`` long, -> [places, classes]."""
        return in_blocks(self, x, self.frames, self.hop, self.reach)

    def sparsely(self, x: np.ndarray) -> np.ndarray:
        """Of every third place."""
        return self(x)[:, ::SPARSER] if self.reach else self(x)
