"""Random integer graphs over time: the same layers for a clip and for any longer recording."""

from __future__ import annotations

import dataclasses

import numpy as np
from export_graphs import quantization, requantization, softmax_table, weights
from hypothesis import strategies as st

from tflite_export import ir


@dataclasses.dataclass(frozen=True)
class Layer:
    """kind: conv, depthwise, max, average, lookup, taps (slices over time, joined), pad (then conv) or skip (a sum)."""

    kind: str
    size: int = 1
    stride: int = 1
    dilation: int = 1
    causal: bool = False

    @property
    def span(self) -> int:
        return (self.size - 1) * self.dilation + 1


@dataclasses.dataclass(frozen=True)
class Spec:
    """layers, then ``final``: rows, mean or flatten over ``joined`` rows, softmax last. mel > 0: pictures, 3 wide."""

    layers: tuple[Layer, ...]
    final: str = "rows"
    joined: int = 1
    channels: int = 3
    mel: int = 0
    seed: int = 0

    @property
    def valid(self) -> bool:
        return not any(layer.causal for layer in self.layers)


class _Maker:
    def __init__(self, spec: Spec, frames: int) -> None:
        self.spec = spec
        self.rng = np.random.default_rng(spec.seed)
        shape = (frames, spec.mel, spec.channels) if spec.mel else (frames, spec.channels)
        self.tensors = {"x": ir.Tensor("x", shape, quantization(self.rng))}
        self.ops: list[ir.Op] = []
        self.last = "x"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensors[self.last].shape

    def add(self, shape, make, keep: bool = False, q: ir.Quantization | None = None) -> str:
        name = f"t{len(self.ops)}"
        same = self.tensors[self.last].quantization
        self.tensors[name] = ir.Tensor(name, tuple(shape), q or (same if keep else quantization(self.rng)))
        self.ops.append(make(name))
        self.last = name
        return name

    def window(self, layer: Layer) -> ir.Window:
        across = (2, 1) if self.spec.mel else (1, 1)
        before = layer.span - 1 if layer.causal else 0
        right = 1 if self.spec.mel else 0
        return ir.Window((layer.size, across[0]), (layer.stride, 1), (layer.dilation, 1), (before, 0, 0, right))

    def conv(self, window: ir.Window | None, outputs: int) -> None:
        source, shape = self.last, self.shape
        w = weights(self.rng, outputs, shape[-1] * (window.taps if window else 1), 4, "mid-rise")
        rq = requantization(self.rng, outputs, int(np.abs(w.levels).sum(axis=1).max()) * 255, w.codes.shape[1])
        out = ir.windowed_shape(shape, window, outputs, "conv") if window else (*shape[:-1], outputs)
        self.add(out, lambda name: ir.PackedDense(name, source, name, w, rq, window))

    def depthwise(self, window: ir.Window) -> None:
        source, shape = self.last, self.shape
        levels = self.rng.integers(-128, 128, (window.taps, shape[-1])).astype(np.int8)
        bound = max(1, int(np.abs(levels.astype(np.int64)).sum(axis=0).max()) * 255)
        rq = requantization(self.rng, shape[-1], bound, window.taps)
        out = ir.windowed_shape(shape, window, shape[-1], "depthwise")
        self.add(out, lambda name: ir.Depthwise(name, source, name, levels, rq, window))

    def pool(self, window: ir.Window, kind: str) -> None:
        source, shape = self.last, self.shape
        out = ir.windowed_shape(shape, window, shape[-1], kind)
        if kind == "max":
            self.add(out, lambda name: ir.MaxPool(name, source, name, window), keep=True)
        else:
            m = int(self.rng.integers(1 << 13, 1 << 15))
            self.add(out, lambda name: ir.AveragePool(name, source, name, window, m, 14))

    def layer(self, layer: Layer) -> None:
        source, shape, rest = self.last, self.shape, self.shape[1:]
        if layer.kind == "conv":
            self.conv(self.window(layer), 4)
        elif layer.kind == "depthwise":
            self.depthwise(self.window(layer))
        elif layer.kind in ("max", "average"):
            plain = ir.Window((layer.size, 1), (layer.stride, 1))
            self.pool(plain, layer.kind)
        elif layer.kind == "lookup":
            table = self.rng.integers(-128, 128, 256).astype(np.int8)
            self.add(shape, lambda name: ir.Lookup(name, source, name, table))
        elif layer.kind in ("taps", "pad"):
            before = layer.span - 1 if layer.causal else 0
            across = ((0, 0),) * (len(shape) - 1)
            if before:
                self.add(
                    (shape[0] + before, *rest), lambda name: ir.Pad(name, source, name, ((before, 0), *across)), True
                )
            if layer.kind == "pad":
                window = self.window(dataclasses.replace(layer, causal=False))
                self.conv(window, 4)
                return
            padded, names = self.last, []
            count = (self.shape[0] - layer.span) // layer.stride + 1
            for i in range(layer.size):
                begin = i * layer.dilation
                end = begin + (count - 1) * layer.stride + 1
                self.last = padded
                make = lambda name, b=begin, e=end: ir.Slice(name, padded, name, b, e, layer.stride)  # noqa: E731
                names.append(self.add((count, *rest), make, keep=True))
            axis = len(shape) - 1
            joined = (count, *shape[1:-1], shape[-1] * layer.size)
            self.add(joined, lambda name: ir.Concatenate(name, tuple(names), name, axis), keep=True)
        else:  # skip: a convolution, and a slice of its input, added
            self.conv(self.window(layer), shape[-1])
            new = self.last
            self.last = source
            begin = 0 if layer.causal else self.spec.seed % layer.span
            end = begin + (self.tensors[new].shape[0] - 1) * layer.stride + 1
            self.add(
                self.tensors[new].shape,
                lambda name: ir.Slice(name, source, name, begin, end, layer.stride),
                q=self.tensors[source].quantization,
            )
            cut = self.last
            self.add(self.shape, lambda name: ir.Add(name, (new, cut), name, (9000, 12000), 14))

    def finish(self, whole: bool) -> ir.Graph:
        """whole: the last layers as a clip has them; else as windows over a recording."""
        spec = self.spec
        if spec.final == "mean":
            window = ir.Window((spec.joined, self.shape[1] if spec.mel else 1))
            self.pool(window, "average")
            if whole:
                source, channels = self.last, self.shape[-1]
                self.add((channels,), lambda name: ir.Reshape(name, source, name), keep=True)
        elif spec.final == "flatten":
            shape = self.shape
            if whole:
                source = self.last
                self.add((int(np.prod(shape)),), lambda name: ir.Reshape(name, source, name), keep=True)
                self.conv(None, 5)
            else:
                window = ir.Window((spec.joined, shape[1] if spec.mel else 1))
                self.conv(window, 5)
        if spec.final != "rows" and not (spec.mel and not whole):
            source, scale = self.last, self.tensors[self.last].quantization.scale
            table = softmax_table(scale)
            self.add(self.shape, lambda name: ir.Softmax(name, source, name, table), q=ir.Quantization(1 / 256, -128))
        return ir.Graph(self.tensors, tuple(self.ops), ("x",), (self.last,))


def make(spec: Spec, frames: int, whole: bool) -> ir.Graph:
    """The layers on that many frames; raises ir.GraphError where they are too few."""
    maker = _Maker(spec, frames)
    for layer in spec.layers:
        maker.layer(layer)
    return maker.finish(whole)


def clip_frames(spec: Spec) -> int:
    """The fewest frames that give one row, or the rows that the last layer joins."""
    rows = spec.joined if spec.final != "rows" else 1
    for layer in reversed(spec.layers):
        kind = layer.kind
        if kind == "lookup":
            continue
        span = layer.size if kind in ("max", "average") else layer.span
        rows = (rows - 1) * layer.stride + (1 if layer.causal else span)
    return rows


@st.composite
def specs(draw, causal: bool, mel: bool | None = None) -> Spec:
    """Streams of up to four layers, all padded in front or none."""
    layers = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["conv", "depthwise", "taps", "pad", "skip", "lookup", "max", "average"]))
        if kind in ("max", "average") and causal:
            kind = "conv"
        layers.append(
            Layer(
                kind,
                draw(st.integers(1, 4)),
                draw(st.sampled_from([1, 1, 2, 3, 5])),
                1 if kind in ("max", "average") else draw(st.integers(1, 3)),
                causal,
            )
        )
    final = draw(st.sampled_from(["rows", "mean", "flatten"]))
    return Spec(
        tuple(layers),
        final,
        draw(st.integers(1, 5)) if final != "rows" else 1,
        draw(st.integers(1, 3)),
        draw(st.sampled_from([0, 3])) if mel is None else 3 * mel,
        draw(st.integers(0, 2**31)),
    )
