"""Windows of Keras layers as the graph has them."""

from __future__ import annotations

from tflite_export import ir
from tfmot_kws.keras import keras
from tfmot_kws.quantize import layers as ql
from tfmot_kws.quantize import ops as qo

L = keras.layers


def _tuple(value) -> tuple[int, ...] | None:
    return tuple(value) if isinstance(value, (tuple, list)) else None if value is None else (value,)


def _window(size, stride, dilation, pads) -> ir.Window:
    """An IR window from one or two axes."""
    pair = lambda v: (int(v[0]), int(v[1]) if len(v) > 1 else 1)  # noqa: E731
    pads = [*pads, (0, 0)][:2]
    return ir.Window(pair(size), pair(stride), pair(dilation), (*map(int, pads[0]), *map(int, pads[1])))


def pool_window(layer: L.Layer, rank: int, shape: tuple[int, ...]) -> ir.Window:
    """The window of a pooling layer of that many axes over an input without the batch axis."""
    pooling = qo.QuantizedAveragePool(
        rank=rank,
        pool_size=_tuple(getattr(layer, "pool_size", None)),
        strides=_tuple(getattr(layer, "strides", None)),
        padding=getattr(layer, "padding", "valid"),
    )
    return sliding_pool(shape, *pooling.geometry(shape[:rank]))


def sliding_pool(shape: tuple[int, ...], size, stride, pads) -> ir.Window:
    """The window of a pool; where one takes a whole axis it moves by one place, so that a stream gives every row."""
    moved = zip(shape, size, stride, pads)
    stride = [1 if n + sum(pad) == k else s for n, k, s, pad in moved]
    return _window(size, stride, (1,) * len(size), pads)


def conv_window(layer: L.Layer, shape: tuple[int, ...]) -> ir.Window:
    """The window of a convolution, quantized or Keras's own, over an input [..., channels]."""
    pads = ql.QuantizedConv.explicit_padding(layer, shape[:-1])
    return _window(layer.kernel_size, layer.strides, layer.dilation_rate, pads)
