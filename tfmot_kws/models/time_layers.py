"""Layers that know time: ``call(clip)`` and ``step(frames, state)`` give the same rows.

A clip is [batch, time, features]. A step takes any number of new frames, none too, and gives the rows that they
complete; joined over all steps since ``reset()`` they are the rows of ``call`` on all frames, however these were cut.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tfmot_kws.keras import AsWritten, keras

L = keras.layers


@dataclasses.dataclass(frozen=True)
class TimeState:
    """What a layer keeps between two steps.

    Attributes:
        frames: [batch, n, features], those that rows to come will need.
        skip: frames to come that no row needs, where a stride is longer than a window.
    """

    frames: tf.Tensor
    skip: int = 0


class _TimeLayer(AsWritten):
    """Mixin for layers that have ``span`` (frames of a window), ``hop`` (from one to the next), and
    ``rows(x)``, what ``call`` gives of frames [batch, time, features], at least ``span``, without padding."""

    padding = "valid"

    def reset(self, batch: int = 1, features: int | None = None) -> TimeState:
        """The state before the first frame; ``features`` where the layer has not seen any yet."""
        axes = getattr(self.input_spec, "axes", None) or {}
        features = axes.get(-1, features)
        if features is None:
            raise ValueError(f"layer {self.name!r}: has seen no frames; say reset(batch, features=...)")
        ahead = self.span - 1 if self.padding == "causal" else 0
        return TimeState(tf.zeros([batch, ahead, features], self.compute_dtype))

    def step(self, frames, state: TimeState):
        """(rows [batch, rows, ...] that these frames [batch, n, features] complete, the next state)."""
        x = tf.convert_to_tensor(frames, state.frames.dtype)
        if x.shape.rank != 3 or x.shape[2] != state.frames.shape[2] or x.shape[0] != state.frames.shape[0]:
            wanted = f"[{state.frames.shape[0]}, frames, {state.frames.shape[2]}]"
            raise ValueError(f"layer {self.name!r}: step needs {wanted}, found shape {tuple(x.shape)}")
        x = tf.concat([state.frames, x], axis=1)
        skip = min(state.skip, x.shape[1])
        x, left = x[:, skip:], state.skip - skip
        count = max(0, (x.shape[1] - self.span) // self.hop + 1) if not left else 0
        if not count:
            width = self.compute_output_shape((x.shape[0], self.span, x.shape[2]))[2]
            return tf.zeros([x.shape[0], 0, width], x.dtype), TimeState(x, left)
        rows = self.rows(x[:, : (count - 1) * self.hop + self.span])
        done = count * self.hop
        return rows, TimeState(x[:, done:], max(0, done - x.shape[1]))


def _check_padding(layer: L.Layer, padding: str) -> None:
    if padding not in ("valid", "causal"):
        raise ValueError(
            f"layer {layer.name!r}: padding must be 'valid' or 'causal', found {padding!r}; others look ahead"
        )


class _TimeConvolution(_TimeLayer):
    @property
    def span(self) -> int:
        """Frames from a window's first to its last, both counted."""
        return (self.kernel_size[0] - 1) * self.dilation_rate[0] + 1

    @property
    def hop(self) -> int:
        """Frames from one window to the next."""
        return self.strides[0]


class CausalConv1D(_TimeConvolution, L.Conv1D):
    """Convolution over time; as ``tf_keras.layers.Conv1D``, of which it takes all arguments, with causal padding.

    Args:
        filters: outputs.
        kernel_size: frames of a window.
        padding: "causal", zeros ahead of the first frame so that row i ends at frame ``i * strides``, or "valid".
        **kwargs: as for ``Conv1D``.

    Raises:
        ValueError: another padding.
    """

    def __init__(self, filters: int, kernel_size: int, padding: str = "causal", **kwargs: Any):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        _check_padding(self, padding)

    def rows(self, x):
        """float [batch, time, channels] -> [batch, rows, filters]."""
        y = self.convolution_op(x, self.kernel)
        y = tf.nn.bias_add(y, self.bias) if self.use_bias else y
        return self.activation(y) if self.activation is not None else y


class CausalDepthwiseConv1D(_TimeConvolution, L.DepthwiseConv1D):
    """Convolution over time for each channel; as ``tf_keras.layers.DepthwiseConv1D``, with causal padding.

    Args:
        kernel_size: frames of a window.
        padding: "causal", zeros ahead of the first frame so that row i ends at frame ``i * strides``, or "valid".
        **kwargs: as for ``DepthwiseConv1D``.

    Raises:
        ValueError: another padding.
    """

    def __init__(self, kernel_size: int, padding: str = "causal", **kwargs: Any):
        super().__init__(kernel_size, padding="valid", **kwargs)
        _check_padding(self, padding)
        self.padding = padding

    def compute_output_shape(self, input_shape):
        """[batch, rows, channels * depth_multiplier]."""
        batch, frames, channels = input_shape
        ahead = self.span - 1 if self.padding == "causal" else 0
        rows = None if frames is None else (frames + ahead - self.span) // self.hop + 1
        return (batch, rows, channels * self.depth_multiplier)

    def call(self, inputs):
        """float [batch, time, channels] -> [batch, rows, channels * depth_multiplier]."""
        ahead = self.span - 1 if self.padding == "causal" else 0
        return self.rows(tf.pad(inputs, [[0, 0], [ahead, 0], [0, 0]]))

    def rows(self, x):
        """The same, without padding."""
        strides, dilation = (1, self.hop, self.hop, 1), (self.dilation_rate[0], 1)
        kernel = self.depthwise_kernel[:, None]
        y = tf.nn.depthwise_conv2d(x[:, :, None], kernel, strides, "VALID", dilations=dilation)[:, :, 0]
        y = tf.nn.bias_add(y, self.bias) if self.use_bias else y
        return self.activation(y) if self.activation is not None else y


class _TimePooling(_TimeLayer):
    @property
    def span(self) -> int:
        """Frames of a window."""
        return self.pool_size[0] if isinstance(self.pool_size, (tuple, list)) else self.pool_size

    @property
    def hop(self) -> int:
        """Frames from one window to the next."""
        return self.strides[0] if isinstance(self.strides, (tuple, list)) else self.strides

    def rows(self, x):
        """float [batch, time, channels] -> [batch, rows, channels]."""
        return self.call(x)


class TimeAveragePooling1D(_TimePooling, L.AveragePooling1D):
    """Mean over windows of ``size`` frames, ``stride`` frames (default 1) from one to the next.

    With ``size`` the length of the clip it is global pooling, as a stream can have it.
    """

    def __init__(self, size: int, stride: int = 1, **kwargs):
        super().__init__(size, stride, padding="valid", **kwargs)

    def get_config(self):
        """Constructor arguments."""
        return {**L.Layer.get_config(self), "size": self.span, "stride": self.hop}


class TimeMaxPooling1D(_TimePooling, L.MaxPooling1D):
    """Maximum over windows of ``size`` frames, ``stride`` frames (default 1) from one to the next."""

    def __init__(self, size: int, stride: int = 1, **kwargs):
        super().__init__(size, stride, padding="valid", **kwargs)

    def get_config(self):
        """Constructor arguments."""
        return {**L.Layer.get_config(self), "size": self.span, "stride": self.hop}


class TimeWindow(_TimeLayer, L.Layer):
    """Joins ``size`` frames into one: the feed-forward way to look at a stretch of time.

    [batch, time, features] -> [batch, windows, size * features], oldest frame first. A dense layer after it is a
    convolution over time, and is exported as one.

    Args:
      size: frames in a window.
      stride: frames from one window to the next.
      dilation: frames from one frame of a window to the next.
      padding: "valid", or "causal": zeros ahead of the first frame, so that window i ends at frame i * stride.
    """

    def __init__(self, size: int, stride: int = 1, dilation: int = 1, padding: str = "valid", **kwargs):
        super().__init__(**kwargs)
        for name, value in (("size", size), ("stride", stride), ("dilation", dilation)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"layer {self.name!r}: {name} must be a whole number of at least 1, found {value!r}")
        _check_padding(self, padding)
        self.size, self.stride, self.dilation, self.padding = size, stride, dilation, padding

    @property
    def span(self) -> int:
        """Frames from a window's first to its last, both counted."""
        return (self.size - 1) * self.dilation + 1

    @property
    def hop(self) -> int:
        """Frames from one window to the next."""
        return self.stride

    def windows(self, frames: int) -> int:
        """How many windows a clip of that many frames gives."""
        return (frames + (self.span - 1) * (self.padding == "causal") - self.span) // self.stride + 1

    def compute_output_shape(self, input_shape):
        """[batch, windows, size * features]."""
        batch, frames, features = input_shape
        return (batch, None if frames is None else self.windows(frames), self.size * features)

    def call(self, x):
        """float [batch, time, features] -> [batch, windows, size * features]."""
        if self.padding == "causal":
            x = tf.pad(x, [[0, 0], [self.span - 1, 0], [0, 0]])
        return self.rows(x)

    def rows(self, x):
        """The same, without padding."""
        frames = x.shape[1] if x.shape[1] is not None else tf.shape(x)[1]
        count = (frames - self.span) // self.stride + 1
        taps = [
            x[:, i * self.dilation : i * self.dilation + (count - 1) * self.stride + 1 : self.stride]
            for i in range(self.size)
        ]
        return tf.concat(taps, axis=-1)

    def build(self, input_shape):
        """Refuses clips shorter than one window."""
        if len(input_shape) != 3:
            raise ValueError(f"layer {self.name!r}: needs [batch, time, features], found shape {tuple(input_shape)}")
        if input_shape[1] is not None and self.windows(input_shape[1]) < 1:
            raise ValueError(
                f"layer {self.name!r}: a window spans {self.span} frames but the clip has {input_shape[1]}; "
                "use a smaller size or dilation, or padding='causal'"
            )
        self.input_spec = L.InputSpec(ndim=3, axes={-1: input_shape[2]})
        super().build(input_shape)

    def get_config(self):
        """Constructor arguments."""
        own = {"size": self.size, "stride": self.stride, "dilation": self.dilation, "padding": self.padding}
        return {**super().get_config(), **own}
