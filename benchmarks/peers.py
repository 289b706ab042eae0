# SPDX-License-Identifier: Apache-2.0
"""Other ways to quantize the same float model, trained by the same recipe: TFMOT's own schemes and QKeras.

Each function takes the float spotter and gives a model to be trained. Batch norm is folded into the dense layers first
and ReLU becomes their activation, because that is the form in which TFMOT's schemes quantize everything.
QKeras (``pip install --no-deps qkeras pyparser``) is optional.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from tfmot_kws.keras import keras, tfmot
from tfmot_kws.streaming import TimeWindow

Q = tfmot.quantization.keras
L = keras.layers


def folded(model: keras.Model, dense=None, between=None) -> keras.Model:
    """The float spotter with its batch norms folded into ``Dense(activation="relu")``, weights included.

    Args:
        model: windows, dense layers, batch norm, ReLU in sequence.
        dense: makes a hidden layer, ``dense(units, activation, name)``; plain Dense where None.
        between: makes a layer to put behind each hidden layer, or None.
    """
    dense = dense or (lambda units, activation, name: L.Dense(units, activation=activation, name=name))
    x = inputs = keras.Input(model.input_shape[1:], name="features")
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    layers = model.layers[1:]
    for i, layer in enumerate(layers):
        if isinstance(layer, L.Dense):
            norm = layers[i + 1] if i + 1 < len(layers) and isinstance(layers[i + 1], L.BatchNormalization) else None
            kernel, bias = (v.numpy() for v in (layer.kernel, layer.bias))
            if norm is not None:
                factor = (norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon)).numpy()
                bias = (bias - norm.moving_mean.numpy()) * factor + norm.beta.numpy()
                kernel = kernel * factor
            weights[layer.name] = (kernel, bias)
            x = dense(layer.units, "relu" if norm is not None else "linear", layer.name)(x)
            if between is not None and norm is not None:
                x = between(f"{layer.name}_out")(x)
        elif isinstance(layer, (TimeWindow, L.Flatten, L.GlobalAveragePooling1D)):
            x = type(layer).from_config(layer.get_config())(x)
    result = keras.Model(inputs, x, name=model.name)
    for name, (kernel, bias) in weights.items():
        layer = result.get_layer(name)
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
    return result


def _annotated(model: keras.Model, config=None) -> keras.Model:
    """Dense layers annotated for TFMOT; windows only move data."""

    def annotate(layer):
        if not isinstance(layer, L.Dense):
            return layer
        return Q.quantize_annotate_layer(layer, config() if config else None)

    return keras.models.clone_model(model, clone_function=annotate)


def calibrate(quantized: keras.Model, base: keras.Model, x: np.ndarray) -> keras.Model:
    """Sets the ranges that TFMOT's moving averages start from to those of the float model.

    They start at -6..6 and move by 1/1000 a step: wider activations would be cut for epochs, which breaks training.
    """
    for layer in quantized.layers:
        name = layer.name.removeprefix("quant_")
        if name == layer.name or name not in [inner.name for inner in base.layers]:
            continue
        values = keras.Model(base.input, base.get_layer(name).output).predict(x, batch_size=1024, verbose=0)
        for variable in layer.weights:
            if "kernel" in variable.name:
                continue
            if "_min" in variable.name:
                variable.assign(min(0.0, float(values.min())))
            elif "_max" in variable.name:
                variable.assign(float(values.max()))
    return quantized


def tfmot_default(model: keras.Model, x: np.ndarray) -> keras.Model:
    """TFMOT's default scheme: 8-bit weights per tensor, 8-bit activations."""
    with Q.quantize_scope({"TimeWindow": TimeWindow}):
        base = folded(model)
        annotated = _annotated(base)
        annotated.set_weights(base.get_weights())
        return calibrate(Q.quantize_apply(annotated), base, x)


class LastValueConfig(Q.QuantizeConfig):
    """Weights linear per output channel (TFMOT's LastValueQuantizer), activations 8 bits by moving average."""

    def __init__(self, bits: int = 4):
        self.bits = bits

    def get_config(self):
        return {"bits": self.bits}

    def get_weights_and_quantizers(self, layer):
        quantizer = Q.quantizers.LastValueQuantizer(self.bits, per_axis=True, symmetric=True, narrow_range=True)
        return [(layer.kernel, quantizer)]

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_weights(self, layer, quantize_weights):
        layer.kernel = quantize_weights[0]

    def set_quantize_activations(self, layer, quantize_activations):
        return None

    def get_output_quantizers(self, layer):
        return [Q.quantizers.MovingAverageQuantizer(8, per_axis=False, symmetric=False, narrow_range=False)]


def last_value(bits: int):
    """TFMOT's LastValueQuantizer, per output channel."""

    def make(model: keras.Model, x: np.ndarray) -> keras.Model:
        with Q.quantize_scope({"TimeWindow": TimeWindow, "LastValueConfig": LastValueConfig}):
            base = folded(model)
            annotated = _annotated(base, lambda: LastValueConfig(bits))
            annotated.set_weights(base.get_weights())
            return calibrate(Q.quantize_apply(annotated), base, x)

    return make


def has_qkeras() -> bool:
    """Whether QKeras is installed."""
    return importlib.util.find_spec("qkeras") is not None


def qkeras(kind: str, bits: int = 0):
    """QKeras: "bits" (quantized_bits, scale per channel), "ternary" or "binary" weights, 8-bit bias and activations."""

    def make(model: keras.Model, x: np.ndarray) -> keras.Model:
        q = importlib.import_module("qkeras")
        quantizer = {
            "bits": lambda: q.quantized_bits(bits, 0, 1, alpha="auto"),
            "ternary": lambda: q.ternary(alpha="auto"),
            "binary": lambda: q.binary(alpha="auto"),
        }[kind]

        def dense(units, activation, name):
            return q.QDense(
                units,
                kernel_quantizer=quantizer(),
                bias_quantizer=q.quantized_bits(8, 3, 1),
                activation=q.quantized_relu(8, 4) if activation == "relu" else None,
                name=name,
            )

        return folded(model, dense)

    return make
