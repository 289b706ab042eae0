"""Layers that know time."""

from __future__ import annotations

import tensorflow as tf

from tfmot_kws.keras import keras


class TimeWindow(keras.layers.Layer):
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
        if padding not in ("valid", "causal"):
            raise ValueError(f"layer {self.name!r}: padding must be 'valid' or 'causal', found {padding!r}")
        self.size, self.stride, self.dilation, self.padding = size, stride, dilation, padding

    @property
    def span(self) -> int:
        """Frames from a window's first to its last, both counted."""
        return (self.size - 1) * self.dilation + 1

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
        super().build(input_shape)

    def get_config(self):
        """Constructor arguments."""
        own = {"size": self.size, "stride": self.stride, "dilation": self.dilation, "padding": self.padding}
        return {**super().get_config(), **own}
