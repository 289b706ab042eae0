# SPDX-License-Identifier: Apache-2.0
"""HGQ2's learned widths on the spotter of ``benchmarks.learned_widths``, in an environment of its own.

    python benchmarks/hgq2_peer.py TASK.npz OUT.npz

HGQ2 (C. Sun, github.com/calad0i/HGQ2, LGPL-3) is built on Keras 3, which does not live beside this project's; so
``learned_widths --hgq2 PYTHON`` runs this file by an interpreter that has ``pip install HGQ2 jax`` and nothing of this
project. TASK holds features, labels, the float weights to start from, the learning rates and the cost to reach.

Each layer has one width for its weights, as here; HGQ2's own default is one for each weight, which no packed file of a
microcontroller holds. Inputs of layers have 8 bits, batch normalization stays in float. HGQ2's cost is EBOPs, bits of
weights times bits of inputs times multiplications; its controller ``BetaPID`` steers to what equal widths would cost.
OUT gets logits of the held-out features, the bits of each layer, and the share of the wanted cost that it came to.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys

import numpy as np

WARMUP = 2
"""Epochs before the controller begins; 10 by default, half of these trainings."""
GAIN = 0.3
"""Of the controller's integral; 0.002 by default, for trainings of thousands of epochs."""
FIRST_SHARE = 0.1
"""What the wanted cost adds to the loss at the start; HGQ2's own start is made for far smaller networks."""
SIGN = 1
"""Bits of weights that HGQ2 does not count."""


def _modules():
    os.environ.setdefault("KERAS_BACKEND", "jax")  # read where keras is imported
    names = ("keras", "hgq.layers", "hgq.config", "hgq.utils.sugar", "hgq.constraints")
    return [importlib.import_module(name) for name in names]


def moved(x: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    """Each clip up to so many frames earlier or later; zeros come in."""
    out = np.zeros_like(x)
    for number, by in enumerate(rng.integers(-most, most + 1, len(x))):
        if by >= 0:
            out[number, by:] = x[number, : len(x[number]) - by]
        else:
            out[number, :by] = x[number, -by:]
    return out


def build(keras, layers, config, constraints, task: dict, weights: list[np.ndarray]):
    """The network with HGQ2's layers, and those that learn widths; starts from float weights."""

    class Windows(keras.layers.Layer):
        """Joins frames, oldest first."""

        def __init__(self, size: int, stride: int, dilation: int, **kwargs):
            super().__init__(**kwargs)
            self.size, self.stride, self.dilation = size, stride, dilation

        def call(self, x):
            count = (x.shape[1] - (self.size - 1) * self.dilation - 1) // self.stride + 1
            first = [i * self.dilation for i in range(self.size)]
            pieces = [x[:, i : i + (count - 1) * self.stride + 1 : self.stride] for i in first]
            return keras.ops.concatenate(pieces, axis=-1)

    def quantized(units: int, name: str, kernel: np.ndarray, use_bias: bool):
        whole = math.ceil(math.log2(max(float(np.abs(kernel).max()), 1e-6)))
        one = {"homogeneous_axis": None, "heterogeneous_axis": ()}
        kq = config.QuantizerConfig("kbi", "weight", b0=7, i0=whole, bc=constraints.MinMax(0, 7), **one)
        iq = config.QuantizerConfig("kbi", "datalane", b0=8, bc=constraints.MinMax(8, 8), **one)
        return layers.QDense(units, use_bias=use_bias, kq_conf=kq, iq_conf=iq, name=name)

    left = [np.asarray(w) for w in weights]
    x = inputs = keras.Input(task["shape"])
    made = []
    for number in range(len(task["windows"]) + task["dense"]):
        if number < len(task["windows"]):
            x = Windows(*task["windows"][number])(x)
        layer = quantized(task["width"], f"dense_{number + 1}", left[0], True)
        x = layer(x)
        norm = keras.layers.BatchNormalization(name=f"norm_{number + 1}")
        x = norm(x)
        layer.kernel.assign(left.pop(0))
        layer.bias.assign(left.pop(0))
        for variable in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance):
            variable.assign(left.pop(0))
        made.append(layer)
        x = keras.layers.ReLU()(x)
    layer = quantized(task["classes"], "logits", left[0], True)
    x = layer(x)
    layer.kernel.assign(left.pop(0))
    layer.bias.assign(left.pop(0))
    made.append(layer)
    x = keras.layers.Flatten()(x) if x.shape[1] == 1 else keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, x), made


def main() -> None:
    """Trains and writes logits and bits."""
    with np.load(sys.argv[1]) as kept:
        task = json.loads(str(kept["task"]))
        x, y, held = kept["x"], kept["y"], kept["held"]
        weights = [kept[f"weight_{n}"] for n in range(task["weights"])]
    keras, layers, config, sugar, constraints = _modules()
    keras.utils.set_random_seed(task["seed"])
    model, made = build(keras, layers, config, constraints, task, weights)
    steps = len(x) // task["batch_size"]
    stages = [(rate, epochs * steps) for rate, epochs in task["stages"]]

    class Rates(keras.optimizers.schedules.LearningRateSchedule):
        """Cosine decays to a hundredth, one after another."""

        def __call__(self, step):
            ops, value, first = keras.ops, 0.0, 0.0
            step = ops.cast(step, "float32")
            for rate, count in stages:
                share = ops.clip((step - first) / count, 0.0, 1.0)
                here = rate * (0.01 + 0.99 * 0.5 * (1.0 + ops.cos(math.pi * share)))
                value = ops.where(step >= first, here, value)
                first += count
            return value

    def batches():
        rng = np.random.default_rng(task["seed"])
        while True:
            order = rng.permutation(len(x))
            for at in range(0, steps * task["batch_size"], task["batch_size"]):
                chosen = order[at : at + task["batch_size"]]
                yield moved(x[chosen], rng, task["shift"]), y[chosen]

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(Rates()), loss)
    # What equal widths cost: weight bits x input bits x multiplications.
    parts = [math.prod(layer.output.shape[1:]) * layer.kernel.shape[0] for layer in made]
    target = 8.0 * (task["bits"] - SIGN) * sum(parts)
    epochs = sum(count for _, count in task["stages"])
    steer = sugar.BetaPID(target, init_beta=FIRST_SHARE / target, i=GAIN, warmup=WARMUP)
    model.fit(batches(), steps_per_epoch=steps, epochs=epochs, callbacks=[steer], verbose=2)
    bits = [SIGN + float(np.mean(keras.ops.convert_to_numpy(layer.kq.bits))) for layer in made]
    sizes = [int(np.prod(layer.kernel.shape)) for layer in made]
    logits, used = model.predict(held, batch_size=1024, verbose=0), steer.get_ebops() / target
    np.savez(sys.argv[2], logits=logits, bits=bits, sizes=sizes, used=used)
    print(f"bits {bits}, mean {np.dot(bits, sizes) / sum(sizes):.2f}; {used:.2f} of {target:.0f} EBOPs")


if __name__ == "__main__":
    main()
