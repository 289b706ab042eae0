"""Small float models of every kind that ``quantize_apply`` takes apart, as people write them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import AsWritten, keras

L = keras.layers
SHAPE = (12, 4)


def _head(x, outputs: int = 3):
    return L.Dense(outputs)(L.Flatten()(x))


def behind_conv(function: Callable) -> Callable[[], keras.Model]:
    """A model of a convolution, a function of its output, and a dense layer."""

    def build() -> keras.Model:
        x = keras.Input(SHAPE)
        return keras.Model(x, _head(function(L.Conv1D(6, 3)(x))))

    return build


def chain(*layers: Callable, shape: tuple[int, ...] = SHAPE) -> Callable[[], keras.Model]:
    """A sequential model that ends in a dense layer."""
    return lambda: keras.Sequential([keras.Input(shape), *(v() for v in layers), L.Flatten(), L.Dense(3)])


class Stream(AsWritten, L.Layer):
    """A wrapper of one layer."""

    def __init__(self, cell: L.Layer, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cell = cell

    def call(self, x):
        return self.cell(x)


class Projection(AsWritten, L.Layer):
    """Variables of its own, and functions of tensors."""

    def build(self, shape) -> None:
        self.kernel = self.add_weight("kernel", (shape[-1], 5))
        self.shift = self.add_weight("shift", (5,))

    def call(self, x):
        return tf.nn.relu(tf.matmul(x, self.kernel) + self.shift)


class Gate(AsWritten, L.Layer):
    """Two inputs."""

    def call(self, inputs):
        values, gates = inputs
        return values * tf.sigmoid(gates)


class OwnDense(L.Dense):
    """A class of somebody's own that does what Keras' does."""


class Louder(AsWritten, L.Layer):
    """Makes features louder while it trains, and does nothing else."""

    def call(self, x, training=None):
        return x * 1.1 if training else x


class Subclassed(AsWritten, keras.Model):
    """A model of layers and functions, without a graph."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.first, self.norm, self.last = L.Dense(5), L.BatchNormalization(), L.Dense(3)

    def call(self, x):
        return self.last(tf.nn.relu(self.norm(self.first(x))))


def _subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, *SHAPE), np.float32))
    return model


def _mixconv() -> keras.Model:
    x = keras.Input((12, 1, 8))
    a, b = L.DepthwiseConv2D((3, 1))(x[..., :4]), L.DepthwiseConv2D((5, 1))(x[..., 4:])
    return keras.Model(x, _head(L.Concatenate()([L.Cropping2D(((2, 0), (0, 0)))(a), b])))


def _nested() -> keras.Model:
    layers = [L.Conv1D(6, 3), L.BatchNormalization(), L.ReLU(), L.GlobalAveragePooling1D()]
    inner = keras.Sequential([keras.Input(SHAPE), *layers], name="encoder")
    x = keras.Input(SHAPE)
    return keras.Model(x, L.Dense(3)(keras.Model(inner.input, inner(inner.input) * 2.0, name="twice")(x)))


def _expand_dims() -> keras.Model:
    x = keras.Input(SHAPE)
    return keras.Model(x, _head(L.Conv2D(3, 3)(tf.expand_dims(x, -1))))


def _like(x):
    return L.Conv1D(6, 1)(x)


def _arithmetic(x):
    y = (3.0 - x * 2.0) / 4.0 + 1.0
    y = y * np.float32([1, 2, 3, 1, 2, 3]) + np.float32([0, 1, 0, 1, 0, 1])
    return tf.nn.relu(tf.clip_by_value(y, -0.5, 2.7)) - (-(_like(x) ** 2))


def _slices(x):
    parts = [x[:, 2:, 1:5:2], *tf.split(x[:, :-2], 3, axis=-1), x[:, 2:, 3, None]]
    return tf.concat([*parts, tf.pad(x, [[0, 0], [0, 0], [1, 2]])[:, 1:-1]], -1)


def _reductions(x):
    over_time = tf.reduce_mean(x, 1) + tf.reduce_sum(x, 1) + tf.reduce_max(x, 1)
    return tf.concat([over_time, x[:, -1], tf.reduce_mean(x, [1, 2], keepdims=True)[:, 0]], -1)


def _functions(x):
    y = tf.nn.swish(x, beta=1.5) + tf.math.erf(x) ** 3 - 1.0 / (tf.math.log1p(tf.nn.relu(x)) + 1.0)
    y = tf.add_n([y, tf.math.atan(x), tf.math.squared_difference(x, _like(x))])
    return tf.gather(tf.slice(y, [0, 1, 0], [-1, -1, 5]), [4, 0, 2], axis=2)


def _norms(x):
    whole = tf.math.reduce_std(x, 1, keepdims=True) * tf.math.l2_normalize(x, -1)
    return whole - tf.reduce_min(x, -1, keepdims=True)


def _reshapes(x):
    y = tf.stack(tf.unstack(x, axis=2), axis=-1)
    y = tf.reshape(tf.expand_dims(y, -1), (tf.shape(x)[0], 20, 3))
    y = tf.transpose(tf.squeeze(y[:, :, tf.newaxis], 2), [0, 2, 1])
    return tf.stack([y, y], 1)


def _branches(layers):
    return lambda x: L.Concatenate()([layer(x) for layer in layers()])


FUNCTIONS = {
    "expand_dims": _expand_dims,
    "x + y": behind_conv(lambda x: (x + _like(x)) * _like(x)),
    "arithmetic": behind_conv(_arithmetic),
    "pad": behind_conv(lambda x: L.Conv1D(4, 3)(tf.pad(x, [[0, 0], [2, 0], [0, 0]]))),
    "slices": behind_conv(_slices),
    "reductions": behind_conv(_reductions),
    "reshapes": behind_conv(_reshapes),
    "functions of TensorFlow": behind_conv(_functions),
    "norms": behind_conv(_norms),
    "mean of channels": behind_conv(lambda x: tf.reduce_mean(x, -1)),
    "pools, tiles": behind_conv(
        lambda x: tf.tile(tf.nn.max_pool1d(tf.nn.avg_pool(x, 3, 1, "SAME"), 2, 2, "VALID"), [1, 1, 2])
    ),
    "minimum, maximum": behind_conv(lambda x: tf.minimum(tf.maximum(x, -0.2), _like(x))),
}
LAYERS = {
    "Rescaling": chain(lambda: L.Rescaling(0.25), lambda: L.MaxPooling1D(2), lambda: L.Conv1D(6, 3)),
    "Normalization": chain(lambda: L.Normalization(mean=0.5, variance=2.0), lambda: L.Conv1D(6, 3)),
    "Normalization of channels": chain(
        lambda: L.Normalization(mean=[0.0, 0.5, 1.0, -1.0], variance=[1.0, 2.0, 0.5, 1.0]), lambda: L.Conv1D(6, 3)
    ),
    "scale at the end": lambda: keras.Sequential([keras.Input(SHAPE), L.Conv1D(3, 3), L.Rescaling(3.0)]),
    "noise": chain(lambda: L.GaussianNoise(0.1), lambda: L.Conv1D(6, 3), lambda: L.GaussianDropout(0.1)),
    "own augmentation": chain(Louder, lambda: L.Conv1D(6, 3)),
    "Cropping1D": behind_conv(lambda x: L.Add()([L.Conv1D(6, 5)(x), L.Cropping1D((4, 0))(x)])),
    "MixConv": _mixconv,
    "UpSampling2D": chain(lambda: L.UpSampling2D((2, 3)), lambda: L.Conv2D(3, 3), shape=(4, 3, 2)),
    "Average": behind_conv(lambda x: L.Average()([L.UpSampling1D(2)(v) for v in (x, _like(x), _like(x))])),
    "Subtract": behind_conv(lambda x: L.Subtract()([L.Maximum()([x, _like(x), _like(x)]), _like(x)])),
    "PReLU": behind_conv(lambda x: L.PReLU(shared_axes=[1])(x)),
    "activation layers": behind_conv(
        _branches(lambda: [L.ThresholdedReLU(0.2), L.ReLU(1.0), L.ELU(0.5), L.Activation("relu6"), L.LeakyReLU(0.1)])
    ),
    "activations": behind_conv(
        _branches(
            lambda: [
                L.Conv1D(2, 1, activation=name)
                for name in ("swish", "gelu", "elu", "selu", "softplus", "softsign", "exponential", "mish")
            ]
        )
    ),
    "own activation": chain(
        lambda: L.Conv1D(6, 3, activation=lambda x: tf.minimum(tf.nn.relu(x), 2.0)),
        lambda: L.Dense(6, activation=L.LeakyReLU(0.3)),
    ),
}
WRAPPERS = {
    "nested": _nested,
    "TimeDistributed": chain(
        lambda: L.TimeDistributed(L.Conv1D(4, 3)),
        lambda: L.TimeDistributed(L.MaxPooling1D(2)),
        lambda: L.TimeDistributed(L.Flatten()),
        lambda: L.TimeDistributed(L.Dense(5, activation="relu")),
        shape=(6, 8, 2),
    ),
    "Stream": chain(lambda: Stream(L.Conv1D(6, 3)), Projection),
    "Lambda": chain(lambda: L.Conv1D(6, 3), lambda: L.Lambda(lambda x: keras.backend.mean(x * 2.0, axis=1))),
    "subclassed": _subclassed,
    "own classes": behind_conv(lambda x: OwnDense(5, activation="relu")(Gate()([x, _like(x)]))),
    "TimeDistributed chain": chain(
        lambda: L.TimeDistributed(L.BatchNormalization()),
        lambda: L.TimeDistributed(keras.Sequential([L.Input((4,)), L.Dense(5), L.ReLU()])),
    ),
}
KINDS = {**FUNCTIONS, **LAYERS, **WRAPPERS}
