"""Public keyword spotters, layer by layer as their authors write them, with few channels.

Each builds a float model; "streams" names those that a stream can have.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import AsWritten, keras

L = keras.layers
FRAMES, BANDS = 24, 10


class Stream(AsWritten, L.Layer):
    """kws_streaming's wrapper of a cell, in training mode: zeros ahead of time where asked, then the cell."""

    def __init__(self, cell, pad_time_dim: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cell, self.pad_time_dim = cell, pad_time_dim

    def call(self, inputs):
        if self.pad_time_dim:
            pad = [[0, 0]] * inputs.shape.rank
            pad[1] = [self.pad_time_dim, 0]
            inputs = tf.pad(inputs, pad, "constant")
        return self.cell(inputs)


class SubSpectralNormalization(AsWritten, L.Layer):
    """Batch normalization of groups of bands (BC-ResNet)."""

    def __init__(self, sub_groups: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.sub_groups, self.norm = sub_groups, L.BatchNormalization()

    def call(self, inputs):
        _, time, bands, channels = inputs.shape
        x = tf.reshape(inputs, (-1, time, bands // self.sub_groups, channels * self.sub_groups))
        return tf.reshape(self.norm(x), (-1, time, bands, channels))


def _features():
    return L.Input((FRAMES, BANDS), name="features")


def _conv_bn(x, filters, kernel, strides=1, padding="same", activation="relu"):
    x = L.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False)(x)
    x = L.BatchNormalization(scale=False)(x)
    return L.Activation(activation)(x) if activation else x


def kws_streaming_dnn():
    x = i = _features()
    x = Stream(L.Flatten())(x)
    x = L.Dropout(0.1)(L.Dense(16, activation="relu")(x))
    return keras.Model(i, L.Dense(4)(x))


def kws_streaming_cnn():
    i = _features()
    x = tf.keras.backend.expand_dims(i) if tf.keras is keras else tf.expand_dims(i, -1)
    for filters, kernel in ((4, (3, 3)), (6, (5, 3))):
        x = Stream(L.Conv2D(filters, kernel, activation="relu"), pad_time_dim=kernel[0] - 1)(x)
    x = L.Dropout(0.1)(Stream(L.Flatten())(x))
    return keras.Model(i, L.Dense(4)(L.Dense(16, activation="linear")(x)))


def kws_streaming_svdf():
    x = i = _features()
    for units in (8, 8):
        x = L.Dense(units, use_bias=False)(x)
        x = Stream(L.DepthwiseConv1D(4), pad_time_dim=3)(x)
        x = L.Dense(units, activation="relu")(x)
    return keras.Model(i, L.Dense(4)(Stream(L.Flatten())(x)))


class TimeDepthwise(AsWritten, L.DepthwiseConv2D):
    """kws_streaming's DepthwiseConv1D: a picture's, over time alone."""

    def __init__(self, kernel_size: int, dilation_rate: int = 1, **kwargs) -> None:
        super().__init__((kernel_size, 1), dilation_rate=(dilation_rate, 1), **kwargs)
        self.input_spec = L.InputSpec(ndim=3)

    def build(self, shape) -> None:
        self.depthwise_kernel = self.add_weight("depthwise_kernel", (*self.kernel_size, shape[-1], 1))
        self.built = True

    def call(self, inputs):
        x = keras.backend.expand_dims(inputs, 2)
        x = keras.backend.depthwise_conv2d(x, self.depthwise_kernel, dilation_rate=self.dilation_rate)
        return keras.backend.squeeze(x, 2)

    def compute_output_shape(self, shape):
        rows = shape[1] - (self.kernel_size[0] - 1) * self.dilation_rate[0]
        return (shape[0], rows, shape[2])


class Delay(AsWritten, L.Layer):
    """kws_streaming's delay of a residual, which its training has too."""

    def __init__(self, delay: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.delay = delay

    def call(self, inputs):
        return tf.pad(inputs, [[0, 0], [self.delay, 0], [0, 0]])[:, : -self.delay]


def kws_streaming_ds_tc_resnet():
    x = i = _features()
    for kernel, dilation, residual in ((5, 1, False), (5, 1, True), (3, 2, True)):
        y = Stream(TimeDepthwise(kernel, dilation, use_bias=False), pad_time_dim=(kernel - 1) * dilation)(x)
        y = L.BatchNormalization()(L.Conv1D(6, 1, use_bias=False)(y))
        if residual:
            y = L.Add()([y, L.BatchNormalization()(L.Conv1D(6, 1, use_bias=False)(Delay(2)(x)))])
        x = L.Dropout(0.1)(L.Activation("relu")(y))
    return keras.Model(i, L.Dense(4)(Stream(L.GlobalAveragePooling1D())(x)))


def kws_streaming_mobilenet_v2():
    i = _features()
    x = _conv_bn(tf.expand_dims(i, -1), 4, (3, 3), activation="relu6")
    for _ in range(2):
        y = _conv_bn(x, 8, 1, activation="relu6")
        y = L.DepthwiseConv2D((3, 3), padding="same", use_bias=False)(y)
        y = L.Activation(tf.nn.relu6)(L.BatchNormalization()(y))
        x = L.Add()([x, _conv_bn(y, 4, 1, activation=None)])
    return keras.Model(i, L.Dense(4)(Stream(L.GlobalAveragePooling2D())(x)))


def kws_streaming_xception():
    i = _features()
    x = tf.expand_dims(i, axis=2)
    for _ in range(2):
        residual = L.BatchNormalization()(L.Conv2D(6, 1, use_bias=False)(x))
        y = L.SeparableConv2D(6, (3, 1), padding="same", use_bias=False)(x)
        x = tf.nn.relu(L.BatchNormalization()(y) + residual)
    return keras.Model(i, L.Dense(4)(L.Flatten()(tf.reduce_mean(x, axis=[1, 2]))))


def kws_streaming_inception():
    i = _features()
    x = tf.expand_dims(i, axis=2)
    x = Stream(L.Conv2D(6, (3, 1), use_bias=False))(x)
    a = _conv_bn(x, 4, 1, padding="valid")
    b = _conv_bn(_conv_bn(x, 4, 1, padding="valid"), 4, (3, 1), padding="valid")
    c = _conv_bn(_conv_bn(b, 4, 1, padding="valid"), 4, (5, 1), padding="valid")
    x = tf.concat([a[:, 6:], b[:, 4:], c], axis=3)
    return keras.Model(i, L.Dense(4)(L.Dropout(0.1)(L.GlobalAveragePooling2D()(x))))


def tc_resnet():
    i = _features()
    x = L.Conv2D(4, (3, 1), strides=1, padding="same", use_bias=False)(tf.expand_dims(i, 2))
    for filters, stride in ((6, 2), (6, 1)):
        residual = x
        if stride != 1:
            residual = _conv_bn(x, filters, 1, strides=(stride, 1))
        y = _conv_bn(x, filters, (9, 1), strides=(stride, 1))
        y = _conv_bn(y, filters, (9, 1), activation=None)
        x = L.Activation("relu")(L.Add()([y, residual]))
    x = L.AveragePooling2D(pool_size=(int(x.shape[1]), 1), strides=1)(x)
    x = L.Conv2D(4, 1, use_bias=False)(L.Dropout(0.5)(x))
    return keras.Model(i, L.Softmax()(tf.reshape(x, (-1, x.shape[3]))))


def bc_resnet():
    i = _features()
    x = tf.expand_dims(i, -1)
    x = tf.nn.relu(L.BatchNormalization()(L.Conv2D(4, (3, 5), strides=(1, 2), padding="same")(x)))
    for transition in (True, False):
        y = x
        if transition:
            y = tf.nn.relu(L.BatchNormalization()(L.Conv2D(6, 1, use_bias=False)(y)))
        f2 = SubSpectralNormalization(5)(L.DepthwiseConv2D((1, 3), padding="same", use_bias=False)(y))
        f1 = tf.reduce_mean(f2, axis=2, keepdims=True)
        f1 = L.BatchNormalization()(L.DepthwiseConv2D((3, 1), padding="same", use_bias=False)(f1))
        f1 = L.SpatialDropout2D(0.1)(L.Conv2D(6, 1, activation=tf.nn.silu)(f1))
        x = tf.nn.relu(f1 + f2 if transition else x + f1 + f2)
    x = tf.reduce_mean(L.Conv2D(8, 1)(x), axis=2, keepdims=True)
    x = L.Conv2D(4, 1)(tf.reduce_mean(x, axis=1, keepdims=True))
    return keras.Model(i, tf.squeeze(x, [1, 2]))


def mixednet():
    """microWakeWord: MixConv blocks over 'valid' convolutions, with residuals that are cropped."""
    i = _features()
    x = L.Conv2D(8, (3, 1), strides=(2, 1), padding="valid", use_bias=False, activation="relu")(tf.expand_dims(i, 2))
    for kernels in ((3,), (3, 5)):
        residual = L.BatchNormalization()(L.Conv2D(8, 1, use_bias=False, padding="same")(x))
        parts = tf.split(x, [8 // len(kernels)] * len(kernels), axis=3)
        made = [L.DepthwiseConv2D((k, 1), padding="valid")(v) for k, v in zip(kernels, parts)]
        shortest = min(v.shape[1] for v in made)
        made = [v[:, v.shape[1] - shortest :] for v in made]
        y = L.Concatenate(axis=3)(made) if len(made) > 1 else made[0]
        y = L.BatchNormalization()(L.Conv2D(8, 1, use_bias=False, padding="same")(y))
        x = L.Activation("relu")(y + residual[:, -y.shape[1] :, :, :])
    return keras.Model(i, L.Dense(1, activation="sigmoid")(Stream(L.Flatten())(x)))


def mlperf_ds_cnn():
    i = L.Input((25, 10, 1))
    x = L.Conv2D(8, (10, 4), strides=(2, 2), padding="same", kernel_regularizer=keras.regularizers.l2(1e-4))(i)
    x = L.Dropout(0.2)(L.Activation("relu")(L.BatchNormalization()(x)))
    for _ in range(2):
        x = L.Activation("relu")(L.BatchNormalization()(L.DepthwiseConv2D((3, 3), padding="same")(x)))
        x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(8, 1, padding="same")(x)))
    x = L.AveragePooling2D(pool_size=(x.shape[1], x.shape[2]))(L.Dropout(0.4)(x))
    return keras.Model(i, L.Dense(4, activation="softmax")(L.Flatten()(x)))


def mlperf_resnet():
    x = i = L.Input((12, 12, 3))

    def conv(x, filters, kernel, strides):
        l2 = keras.regularizers.l2(1e-4)
        return L.Conv2D(filters, kernel, strides=strides, padding="same", kernel_regularizer=l2)(x)

    x = L.Activation("relu")(L.BatchNormalization()(conv(x, 4, 3, 1)))
    for filters, strides in ((4, 1), (6, 2)):
        y = L.Activation("relu")(L.BatchNormalization()(conv(x, filters, 3, strides)))
        y = L.BatchNormalization()(conv(y, filters, 3, 1))
        x = L.Activation("relu")(L.add([conv(x, filters, 1, strides) if strides != 1 else x, y]))
    x = L.Flatten()(L.AveragePooling2D(pool_size=int(np.amin(x.shape[1:3])))(x))
    return keras.Model(i, L.Dense(4, activation="softmax")(x))


def mlperf_autoencoder():
    x = i = L.Input((40,))
    for units in (16, 4, 16):
        x = L.Activation("relu")(L.BatchNormalization()(L.Dense(units)(x)))
    return keras.Model(i, L.Dense(40)(x))


def micro_speech():
    """TFLM's tiny_conv, with its fingerprint as one row."""
    i = L.Input((FRAMES * BANDS,))
    x = tf.reshape(i, (-1, FRAMES, BANDS, 1))
    x = L.Dropout(0.5)(L.Conv2D(4, (10, 8), strides=(2, 2), padding="same", activation="relu")(x))
    return keras.Model(i, L.Dense(4, activation="softmax")(tf.reshape(x, (-1, 12 * 5 * 4))))


def openwakeword_head():
    x = i = L.Input((16, 24))
    x = L.Flatten()(x)
    for _ in range(2):
        x = L.ReLU()(L.LayerNormalization()(L.Dense(32)(x)))
    return keras.Model(i, L.Dense(1, activation="sigmoid")(x))


def hello_edge_ds_cnn():
    i = L.Input((FRAMES * BANDS,))
    x = _conv_bn(tf.reshape(i, (-1, FRAMES, BANDS, 1)), 6, (10, 4), strides=(2, 2))
    x = L.SeparableConv2D(6, 3, padding="same", activation="relu")(x)
    return keras.Model(i, L.Dense(4)(L.Flatten()(L.AveragePooling2D((12, 5))(x))))


def simple_audio():
    """TensorFlow's tutorial, behind its Resizing."""
    layers = [
        L.Normalization(mean=0.3, variance=1.5), L.Conv2D(4, 3, activation="relu"), L.Conv2D(6, 3, activation="relu"),
        L.MaxPooling2D(), L.Dropout(0.25), L.Flatten(), L.Dense(12, activation="relu"), L.Dropout(0.5), L.Dense(4),
    ]  # fmt: skip
    return keras.Sequential([L.Input((16, 16, 1)), *layers])


def edge_impulse():
    layers = [
        L.GaussianNoise(0.05), L.Reshape((FRAMES, BANDS)), L.Conv1D(6, 3, padding="same", activation="relu"),
        L.MaxPooling1D(2, 2, padding="same"), L.Dropout(0.25), L.Conv1D(8, 3, padding="same", activation="relu"),
        L.MaxPooling1D(2, 2, padding="same"), L.Flatten(), L.Dense(4, activation="softmax"),
    ]  # fmt: skip
    return keras.Sequential([L.Input((FRAMES * BANDS,)), *layers])


class Recurrent(AsWritten, L.Layer):
    """kws_streaming's GRU and LSTM, in training mode: one row where only the last state is given."""

    def __init__(self, kind, units: int, return_sequences: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.return_sequences = return_sequences
        self.cell = kind(units, return_sequences=return_sequences)

    def call(self, inputs):
        output = self.cell(inputs)
        return output if self.return_sequences else tf.expand_dims(output, axis=1)


def kws_streaming_gru():
    x = i = _features()
    x = Recurrent(L.GRU, 6, True)(x)
    x = Recurrent(L.GRU, 5)(x)
    x = L.Dropout(0.1)(Stream(L.Flatten())(x))
    return keras.Model(i, L.Dense(4)(L.Dense(8, activation="relu")(x)))


def kws_streaming_lstm():
    x = i = _features()
    x = Recurrent(L.LSTM, 6)(x)
    x = L.Dropout(0.1)(Stream(L.Flatten())(x))
    return keras.Model(i, L.Dense(4)(x))


def kws_streaming_crnn():
    x = tf.expand_dims(i := _features(), -1)
    for filters, kernel in ((4, (3, 3)), (4, (5, 3))):
        x = Stream(L.Conv2D(filters, kernel, activation="relu"))(x)
    x = L.Reshape((-1, x.shape[2] * x.shape[3]))(x)
    x = Recurrent(L.GRU, 8)(x)
    x = L.Dropout(0.1)(Stream(L.Flatten())(x))
    x = L.Dense(8, activation="relu")(L.Dense(6, activation="linear")(x))
    return keras.Model(i, L.Dense(4)(x))


def hello_edge_basic_lstm():
    """The fingerprint as one row; the last output of an LSTM."""
    i = L.Input((FRAMES * BANDS,))
    x = L.RNN(L.LSTMCell(6, unit_forget_bias=True))(tf.reshape(i, (-1, FRAMES, BANDS)))
    return keras.Model(i, L.Dense(4)(x))


def hello_edge_crnn():
    """Two GRU layers behind a convolution, which read its bands and channels as one row."""
    i = L.Input((FRAMES * BANDS,))
    x = L.Conv2D(4, (10, 4), strides=(2, 2), padding="valid")(tf.reshape(i, (-1, FRAMES, BANDS, 1)))
    x = tf.nn.relu(L.BatchNormalization()(x))
    x = tf.reshape(x, (-1, x.shape[1], x.shape[2] * x.shape[3]))
    x = L.GRU(5, reset_after=False)(L.GRU(6, reset_after=False, return_sequences=True)(x))
    return keras.Model(i, L.Dense(4)(L.Dense(6, activation="relu")(x)))


def kws_streaming_ds_cnn():
    """Its ds_cnn and mobilenet: a convolution, then depthwise and pointwise ones."""
    x = _conv_bn(tf.expand_dims(i := _features(), -1), 6, (3, 3), strides=(2, 2))
    for strides in ((1, 1), (2, 1)):
        x = L.DepthwiseConv2D((3, 3), strides=(1, 1), padding="same", use_bias=False)(x)
        x = _conv_bn(L.Activation("relu")(L.BatchNormalization()(x)), 6, 1, strides=strides)
    return keras.Model(i, L.Dense(4)(L.Dropout(0.1)(Stream(L.GlobalAveragePooling2D())(x))))


def kws_streaming_svdf_resnet():
    x = i = _features()
    for _ in range(2):
        residual = L.BatchNormalization()(L.Dense(8, use_bias=False)(x))
        for _ in range(2):
            y = L.BatchNormalization()(L.Dense(6, use_bias=False)(x))
            x = L.Dense(8, activation="relu")(Stream(L.DepthwiseConv1D(4), pad_time_dim=3)(y))
        x = L.Activation("relu")(L.Add()([x, residual]))
    return keras.Model(i, L.Dense(4)(L.Dropout(0.1)(Stream(L.Flatten())(x))))


def kws_streaming_inception_resnet():
    """Residuals that a Lambda with an argument makes smaller."""
    i = _features()
    x = _conv_bn(tf.expand_dims(i, axis=2), 6, (5, 1), padding="valid")
    for scale in (0.2, 0.5):
        parts = [_conv_bn(x, 4, 1), _conv_bn(_conv_bn(x, 4, 1), 4, (3, 1))]
        up = L.Conv2D(6, 1, padding="same")(L.Concatenate()(parts))
        x = L.Lambda(lambda pair, scale: pair[0] + pair[1] * scale, arguments={"scale": scale})([x, up])
        x = L.Activation("relu")(x)
    return keras.Model(i, L.Dense(4)(L.Dropout(0.2)(Stream(L.GlobalAveragePooling2D())(x))))


def wake_word_inception():
    """microWakeWord's: dilated branches over zeros ahead, one of them delayed."""
    i = _features()
    x = tf.expand_dims(i, 2)

    def conv(x, kernel, dilation=1):
        cell = L.Conv2D(4, (kernel, 1), dilation_rate=(dilation, 1), use_bias=False)
        x = Stream(cell, pad_time_dim=(kernel - 1) * dilation)(x)
        return L.Activation("relu")(L.BatchNormalization(scale=False)(x))

    x = conv(x, 5)
    for dilation in (1, 2):
        late = tf.pad(conv(x, 1), [[0, 0], [2, 0], [0, 0], [0, 0]])[:, :-2]
        x = conv(L.Concatenate()([late, conv(conv(x, 1), 3, dilation), conv(conv(x, 3, dilation), 3, dilation)]), 1)
    return keras.Model(i, L.Dense(1, activation="sigmoid")(Stream(L.GlobalAveragePooling2D())(x)))


def hello_edge_dnn():
    x = i = L.Input((FRAMES * BANDS,))
    for _ in range(3):
        x = L.Dense(12, activation="relu")(x)
    return keras.Model(i, L.Dense(4)(x))


def hello_edge_cnn():
    i = L.Input((FRAMES * BANDS,))
    x = tf.reshape(i, (-1, FRAMES, BANDS, 1))
    for kernel, strides in (((10, 4), (1, 1)), ((5, 4), (2, 1))):
        x = L.Dropout(0.1)(tf.nn.relu(L.BatchNormalization()(L.Conv2D(4, kernel, strides)(x))))
    return keras.Model(i, L.Dense(4)(L.Dense(8, activation="relu")(L.Dense(6)(L.Flatten()(x)))))


def hello_edge_gru():
    i = L.Input((FRAMES * BANDS,))
    return keras.Model(i, L.Dense(4)(L.GRU(6)(tf.reshape(i, (-1, FRAMES, BANDS)))))


SPOTTERS = {
    "kws_streaming ds_cnn": kws_streaming_ds_cnn,
    "kws_streaming svdf_resnet": kws_streaming_svdf_resnet,
    "kws_streaming inception_resnet": kws_streaming_inception_resnet,
    "wake word inception": wake_word_inception,
    "hello edge dnn": hello_edge_dnn,
    "hello edge cnn": hello_edge_cnn,
    "hello edge gru": hello_edge_gru,
    "kws_streaming dnn": kws_streaming_dnn,
    "kws_streaming cnn": kws_streaming_cnn,
    "kws_streaming svdf": kws_streaming_svdf,
    "kws_streaming ds_tc_resnet": kws_streaming_ds_tc_resnet,
    "kws_streaming mobilenet_v2": kws_streaming_mobilenet_v2,
    "kws_streaming xception": kws_streaming_xception,
    "kws_streaming inception": kws_streaming_inception,
    "kws_streaming gru": kws_streaming_gru,
    "kws_streaming lstm": kws_streaming_lstm,
    "kws_streaming crnn": kws_streaming_crnn,
    "tc_resnet": tc_resnet,
    "bc_resnet": bc_resnet,
    "mixednet": mixednet,
    "mlperf ds_cnn": mlperf_ds_cnn,
    "mlperf resnet": mlperf_resnet,
    "mlperf autoencoder": mlperf_autoencoder,
    "micro_speech": micro_speech,
    "openwakeword head": openwakeword_head,
    "hello edge ds_cnn": hello_edge_ds_cnn,
    "hello edge basic lstm": hello_edge_basic_lstm,
    "hello edge crnn": hello_edge_crnn,
    "simple audio": simple_audio,
    "edge impulse": edge_impulse,
}
NO_STREAM = ("mlperf autoencoder", "hello edge dnn")
"""They have no time axis."""
WITH_STATE = (
    "kws_streaming gru",
    "kws_streaming lstm",
    "kws_streaming crnn",
    "hello edge basic lstm",
    "hello edge gru",
    "hello edge crnn",
)
"""Recurrent ones: a row of their stream has seen all frames since the reset."""
