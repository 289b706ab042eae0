"""Keras' recurrent layers: which cell each has, what no device computes of them, and their quantized form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize.layer_bits import LayerBits
from tfmot_kws.quantize.recurrent import QuantizedRecurrent
from tfmot_kws.quantize.unsupported import UnsupportedLayerError

L = keras.layers

_TANH = (keras.activations.tanh, tf.tanh, tf.nn.tanh)
_SIGMOID = (keras.activations.sigmoid, tf.sigmoid, tf.nn.sigmoid)
_FUNCTIONS = {"activation": ("tanh", _TANH), "recurrent_activation": ("sigmoid", _SIGMOID)}
_CELLS = {L.LSTMCell: "lstm", L.GRUCell: "gru", L.SimpleRNNCell: "simple"}
_WAYS_OUT = {
    "go_backwards": "leave it out: a device hears time run forwards",
    "stateful": "leave it out: convert(streaming=...) makes a model that keeps its state from step to step",
    "return_state": "read the last row of its output, or all of them (return_sequences=True)",
    "time_major": "put the batch axis first",
}


def cell_of(layer: L.Layer) -> str:
    """The cell of an LSTM, GRU, SimpleRNN or RNN, as ``QuantizedRecurrent`` calls it."""
    cell = _CELLS[type(layer.cell)]
    return "gru_reset_after" if cell == "gru" and layer.cell.reset_after else cell


def check_call(layer: L.Layer, args: tuple = (), kwargs: Mapping[str, Any] | None = None) -> None:
    """Refuses options and calls that no device computes, or that the quantized layer would not keep.

    Args:
      layer: an LSTM, GRU, SimpleRNN or RNN.
      args, kwargs: of a call.

    Raises:
      UnsupportedLayerError: it names the layer, what was found and the way out.
    """
    if type(layer.cell) not in _CELLS:
        kinds = ", ".join(kind.__name__ for kind in _CELLS)
        raise UnsupportedLayerError(layer, f"a cell of class {type(layer.cell).__name__}", f"use one of {kinds}")
    for name, (wanted, same) in _FUNCTIONS.items():
        function = getattr(layer.cell, name, None)
        if function is None and name == "activation":
            function = keras.activations.linear
        if function is not None and not any(function is known for known in same):
            found = getattr(function, "__name__", type(function).__name__)
            raise UnsupportedLayerError(
                layer, f"{name} {found!r}", f"use {name}={wanted!r}, Keras' own, of which the device has a table"
            )
    for name, way_out in _WAYS_OUT.items():
        if getattr(layer, name, False):
            raise UnsupportedLayerError(layer, f"{name}=True", way_out)
    for name, value in vars(layer.cell).items():
        if name.endswith("_constraint") and value is not None:
            raise UnsupportedLayerError(
                layer, f"{name}={type(value).__name__}",
                "take it away: it would hold the numbers that training moves, which are not the weights",
            )  # fmt: skip
    given = [v for v in tf.nest.flatten((args[1:], dict(kwargs or {}))) if v is not None and not isinstance(v, bool)]
    if given or len(tf.nest.flatten(args[:1])) > 1:
        raise UnsupportedLayerError(
            layer, "a mask or an initial state", "leave it out: a clip begins with zeros, and all of its frames count"
        )


def quantized_form(layer: L.Layer, bits: LayerBits, name: str) -> QuantizedRecurrent:
    """The quantized layer, without the float layer's weights."""
    cell = layer.cell
    roles = {
        "kernel": cell.kernel_regularizer,
        "recurrent": cell.recurrent_regularizer,
        "bias": cell.bias_regularizer,
    }
    return QuantizedRecurrent(
        cell.units,
        cell_of(layer),
        layer.return_sequences,
        cell.use_bias,
        bits,
        {role: value for role, value in roles.items() if value is not None},
        float(cell.dropout or 0.0),
        float(cell.recurrent_dropout or 0.0),
        name=name,
    )
