# SPDX-License-Identifier: Apache-2.0
"""Other ways to quantize the same float model: TFMOT's own schemes and QKeras.

Each function takes the float spotter (windows, dense layers, batch norm, ReLU in sequence) and gives a model that
starts from its weights, to be trained on like any other. All keep batch norm, without which TFMOT's schemes ended at
chance here. What each gets:

- TFMOT default: the layers as they are, all annotated; TFMOT itself joins dense layer, batch norm and ReLU.
- TFMOT LastValue: weights of dense layers per output channel, activations 8 bits behind each ReLU and at the end.
- QKeras: weights with a scale per output channel (``alpha="auto"``), activations 8 bits behind each ReLU.

Bias and batch norm stay float in all of them, and so do the logits in QKeras: that is in their favour. Ranges of
activations start from those of the float model, because TFMOT's start at -6..6 and move by 1/1000 a step, which would
cut wider ones for epochs. QKeras (``pip install --no-deps qkeras pyparser``) is optional.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

import numpy as np

from tfmot_kws.keras import keras, tfmot
from tfmot_kws.models.time_layers import TimeWindow

Q = tfmot.quantization.keras
L = keras.layers
ACTIVATION_BITS = 8


def _rebuilt(model: keras.Model, replace: Callable[[L.Layer], L.Layer]) -> keras.Model:
    """The model with ``replace(layer)`` in the place of each layer, and its weights."""
    result = keras.models.clone_model(model, clone_function=replace)
    result.set_weights(model.get_weights())
    return result


def calibrate(quantized: keras.Model, base: keras.Model, x: np.ndarray) -> keras.Model:
    """Sets the ranges that TFMOT's moving averages start from to those of the float model."""
    names = {layer.name for layer in base.layers}
    for layer in quantized.layers:
        name = layer.name.removeprefix("quant_")
        if name == layer.name or name not in names:
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
    kinds = (L.Dense, L.BatchNormalization, L.ReLU)
    with Q.quantize_scope({"TimeWindow": TimeWindow}):
        annotated = _rebuilt(model, lambda a: Q.quantize_annotate_layer(a) if isinstance(a, kinds) else a)
        return calibrate(Q.quantize_apply(annotated), model, x)


class LastValueConfig(Q.QuantizeConfig):
    """Kernels linear per output channel (TFMOT's LastValueQuantizer), outputs 8 bits by moving average.

    Args:
      bits: of the kernel; 0 where the layer has none.
      output: whether to quantize what the layer gives.
    """

    def __init__(self, bits: int = 0, output: bool = True):
        self.bits, self.output = bits, output

    def get_config(self):
        return {"bits": self.bits, "output": self.output}

    def get_weights_and_quantizers(self, layer):
        if not self.bits:
            return []
        quantizer = Q.quantizers.LastValueQuantizer(self.bits, per_axis=True, symmetric=True, narrow_range=True)
        return [(layer.kernel, quantizer)]

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_weights(self, layer, quantize_weights):
        if self.bits:
            layer.kernel = quantize_weights[0]

    def set_quantize_activations(self, layer, quantize_activations):
        return None

    def get_output_quantizers(self, layer):
        if not self.output:
            return []
        moving = Q.quantizers.MovingAverageQuantizer
        return [moving(ACTIVATION_BITS, per_axis=False, symmetric=False, narrow_range=False)]


def last_value(bits: int) -> Callable[[keras.Model, np.ndarray], keras.Model]:
    """TFMOT's LastValueQuantizer, per output channel."""

    def make(model: keras.Model, x: np.ndarray) -> keras.Model:
        last = [layer.name for layer in model.layers if isinstance(layer, L.Dense)][-1]

        def annotate(layer):
            if isinstance(layer, L.Dense):
                return Q.quantize_annotate_layer(layer, LastValueConfig(bits, layer.name == last))
            return Q.quantize_annotate_layer(layer, LastValueConfig()) if isinstance(layer, L.ReLU) else layer

        with Q.quantize_scope({"TimeWindow": TimeWindow, "LastValueConfig": LastValueConfig}):
            return calibrate(Q.quantize_apply(_rebuilt(model, annotate)), model, x)

    return make


def has_qkeras() -> bool:
    """Whether QKeras is installed."""
    return importlib.util.find_spec("qkeras") is not None


def qkeras(kind: str, bits: int = 0) -> Callable[[keras.Model, np.ndarray], keras.Model]:
    """QKeras: "bits" (quantized_bits), "ternary" or "binary" weights with a scale per output channel."""

    def make(model: keras.Model, x: np.ndarray) -> keras.Model:
        q = importlib.import_module("qkeras")
        quantizer = {
            "bits": lambda: q.quantized_bits(bits, 0, 1, alpha="auto"),
            "ternary": lambda: q.ternary(alpha="auto"),
            "binary": lambda: q.binary(alpha="auto"),
        }[kind]

        def replace(layer):
            if isinstance(layer, L.Dense):
                return q.QDense(layer.units, kernel_quantizer=quantizer(), name=layer.name)
            if isinstance(layer, L.ReLU):
                outputs = keras.Model(model.input, layer.output).predict(x, batch_size=1024, verbose=0)
                whole = max(0, math.ceil(math.log2(float(outputs.max()))))
                return q.QActivation(q.quantized_relu(ACTIVATION_BITS, whole), name=layer.name)
            return type(layer).from_config(layer.get_config())

        return _rebuilt(model, replace)

    return make
