"""Shared by the tests of training and export: train a model for a moment, compare Keras with the reference."""

import numpy as np
import tensorflow as tf

import tflite_export
from tflite_export import from_keras
from tflite_export.reference import arithmetic
from tflite_export.reference import run as reference
from tfmot_kws.keras import keras
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train


def features(shape, clips=32, seed=0):
    """Random features [clips, *shape], some below zero."""
    return np.random.default_rng(seed).normal(0.3, 1.0, (clips, *shape)).astype(np.float32)


def shake(model, seed=0):
    """Gives every variable of a float model a value that training could have given it."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        noise = rng.normal(0, 0.2, v.shape).astype(np.float32)
        v.assign(np.abs(v.numpy() + noise) + 0.1 if "variance" in v.name else v.numpy() + noise)
    return model


def trained(model, x, options=None, steps=1, learning_rate=1e-2):
    """Quantizes, takes ``steps`` in each of both stages towards random targets; returns the model in stage 2."""
    quantized = apply.quantize_apply(model, scheme.kws_scheme(**(options or {})))
    optimizer = keras.optimizers.legacy.SGD(learning_rate)
    outputs = tf.nest.flatten(quantized(x, training=False))
    rng = np.random.default_rng(1)
    targets = [rng.normal(0.2, 1.0, o.shape).astype(np.float32) for o in outputs]

    def step():  # eager: tracing would take far longer than the few steps
        with tf.GradientTape() as tape:
            y = tf.nest.flatten(quantized(x, training=True))
            loss = tf.add_n([tf.reduce_mean((a - b) ** 2) for a, b in zip(y, targets)])
        variables = quantized.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients((tf.clip_by_norm(g, 1.0), v) for g, v in zip(gradients, variables) if g is not None)
        return loss

    for stage in (1, 2):
        train.set_stage(quantized, stage)
        for _ in range(steps):
            assert np.isfinite(step().numpy())
    return quantized


def worst_lsb(quantized, x):
    """Largest difference between Keras and the reference over all outputs, in steps of the output's scale."""
    graph = from_keras.to_graph(quantized)
    xs = x if isinstance(x, list) else [x]
    feeds = {n: arithmetic.quantize(v, graph.tensors[n].quantization) for n, v in zip(graph.inputs, xs)}
    device = reference.run(graph, feeds)
    expected = tf.nest.flatten(quantized(x, training=False))
    worst = 0.0
    for name, keras_output in zip(graph.outputs, expected):
        quantization = graph.tensors[name].quantization
        real = arithmetic.dequantize(device[name], quantization)
        keras_output = keras_output.numpy()
        assert real.size == keras_output.size
        assert len(np.unique(device[name])) > 1, f"output {name} says nothing"
        worst = max(worst, float(np.abs(real.reshape(keras_output.shape) - keras_output).max() / quantization.scale))
    return worst


def quick(model):
    """The model, with a training step that AutoGraph leaves alone: it has no Python loops, and traces ten times faster.

    For compiled models, before ``fit``. The optimizer's variables are made here: otherwise Keras makes them in a first
    trace and needs a second.
    """
    if hasattr(model.optimizer, "build"):  # one of today's, not keras.optimizers.legacy
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    model.train_step = tf.autograph.experimental.do_not_convert(model.train_step)
    return model


def same_everywhere(quantized, x):
    """The exported model's outputs: near to Keras by a step, with the same bits in every runtime."""
    file, graph = tflite_export.convert(quantized), from_keras.to_graph(quantized)
    found = tflite_export.Interpreter(file, "reference").run(x)
    apart = np.abs(found - quantized(x, training=False).numpy()).max()
    assert apart < 1.01 * graph.tensors[graph.outputs[0]].quantization.scale
    for runtime in ("tflite", "litert", "tflm"):
        np.testing.assert_array_equal(tflite_export.Interpreter(file, runtime).run(x), found, runtime)
    return found
