# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks as descriptions: a list of blocks that a search chooses, or a person writes, and its model.

Blocks are the dense and depthwise-separable convolutions of small keyword spotters and the inverted bottlenecks of
Sandler et al. 2018 (arXiv 1801.04381), with or without squeeze and excite (Hu et al. 2018, arXiv 1709.01507). All of
them look back only (zeros ahead of the first frame), so that whatever is described here can be quantized, exported and
streamed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tfmot_kws.frontend.waveform import SincConv
from tfmot_kws.keras import keras
from tfmot_kws.models.spotters import SincSpec
from tfmot_kws.models.time_layers import CausalConv1D, CausalDepthwiseConv1D

L = keras.layers
KINDS = ("dense", "separable", "bottleneck")
"""dense: one convolution. separable: a depthwise one and a dense layer of each place. bottleneck: a dense layer to
``expansion`` times the inputs, a depthwise convolution, and a dense layer back without a ReLU."""
OVER = ("time", "time and band")
_SQUEEZE_SHARE, _LEAST_SQUEEZE = 4, 8


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """One block; where it changes neither the number of channels nor of places, its input is added to its output.

    Attributes:
      kind: one of ``KINDS``.
      outputs: channels.
      kernel: frames of the convolution, the last of which is the present one.
      stride: frames from one row to the next.
      band_stride: bands likewise, over (time, band).
      expansion: of a bottleneck.
      squeeze: whether channels are scaled by what they were like in the last ``NetworkConfig.squeeze_frames`` rows.
      bits: of its weights, 1..8; None where the scheme says it.

    Raises:
      ValueError: a value is out of its range; the message names it.
    """

    kind: str
    outputs: int
    kernel: int = 3
    stride: int = 1
    band_stride: int = 1
    expansion: int = 1
    squeeze: bool = False
    bits: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"BlockSpec.kind={self.kind!r}: must be one of {', '.join(KINDS)}")
        for name in ("outputs", "kernel", "stride", "band_stride", "expansion"):
            _check_count(f"BlockSpec.{name}", getattr(self, name))
        if self.expansion > 1 and self.kind != "bottleneck":
            raise ValueError(f"BlockSpec.expansion={self.expansion}: goes with kind 'bottleneck', found {self.kind!r}")
        if not isinstance(self.squeeze, bool):
            raise ValueError(f"BlockSpec.squeeze={self.squeeze!r}: must be true or false")
        if self.bits is not None and (isinstance(self.bits, bool) or self.bits not in range(1, 9)):
            raise ValueError(f"BlockSpec.bits={self.bits!r}: must be 1..8, or None")

    def hidden(self, inputs: int) -> int:
        """Channels that a squeeze scales."""
        return {"dense": self.outputs, "separable": inputs, "bottleneck": self.expansion * inputs}[self.kind]

    def adds(self, inputs: int) -> bool:
        """Whether the input is added to the output."""
        return self.stride == self.band_stride == 1 and inputs == self.outputs


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """A network of blocks: features or samples [frames, mel_bins] -> logits [num_classes].

    A linear layer of each row follows the blocks, and the mean over time. Over (time, band) the mean over bands is
    taken first.

    Attributes:
      num_classes: logits.
      frames: of a clip.
      mel_bins: features of a frame; with ``sinc`` samples of a row.
      blocks: first to last.
      over: "time" (bands are channels of the first block) or "time and band".
      band_kernel: bands of each convolution, over (time, band); an odd number.
      squeeze_frames: rows whose mean a squeeze takes.
      sinc: filters that make features of samples; None where frames are features.

    Raises:
      ValueError: a value is out of its range, or options do not go together; the message names it.
    """

    num_classes: int
    frames: int
    mel_bins: int
    blocks: tuple[BlockSpec, ...]
    over: str = "time"
    band_kernel: int = 3
    squeeze_frames: int = 8
    sinc: SincSpec | None = None

    def __post_init__(self) -> None:
        for name in ("num_classes", "frames", "mel_bins", "band_kernel", "squeeze_frames"):
            _check_count(f"NetworkConfig.{name}", getattr(self, name))
        if self.over not in OVER:
            raise ValueError(f"NetworkConfig.over={self.over!r}: must be one of {', '.join(OVER)}")
        if not self.blocks:
            raise ValueError("NetworkConfig.blocks: none; a network has at least one")
        if self.over == "time" and any(block.band_stride != 1 for block in self.blocks):
            raise ValueError("NetworkConfig.blocks: a band_stride goes with over='time and band'")
        for number, block in enumerate(self.blocks, 1):
            if self.over != "time" and block.kind != "dense" and block.stride != block.band_stride:
                raise ValueError(
                    f"NetworkConfig.blocks: block {number} has stride {block.stride} and band_stride "
                    f"{block.band_stride}; the depthwise convolution of a {block.kind} block needs them equal"
                )
        if self.band_kernel % 2 == 0:
            raise ValueError(f"NetworkConfig.band_kernel={self.band_kernel}: must be odd")
        if self.sinc is not None and self.mel_bins % self.sinc.average:
            raise ValueError(
                f"NetworkConfig: a row of {self.mel_bins} samples is no whole number of strides for sinc.average="
                f"{self.sinc.average}"
            )

    @property
    def bands(self) -> int:
        """Features of a frame, whatever they are made of."""
        return self.mel_bins if self.sinc is None else self.sinc.filters

    def to_json(self) -> str:
        """Readable text, the same for equal networks."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> NetworkConfig:
        """What ``to_json`` wrote.

        Raises:
          ValueError: it is no such description; the message says what is wrong.
        """
        table = read_table(text, "network", "blocks", BlockSpec)
        if table.get("sinc") is not None:
            table["sinc"] = from_table(SincSpec, table["sinc"], "network: sinc")
        return from_table(cls, table, "network")


def read_table(text: str, what: str, rows: str, kind: type) -> dict[str, Any]:
    """A table of JSON with a list, whose entries become frozen dataclasses; ValueError where it is none."""
    try:
        table = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what}: is no JSON ({error})") from error
    if not isinstance(table, dict) or not isinstance(table.get(rows), list):
        raise ValueError(f"{what}: must be a table with a list {rows!r}")
    return table | {rows: tuple(from_table(kind, row, f"{what}: {rows}") for row in table[rows])}


def from_table(kind: type, table: Any, where: str) -> Any:
    """A frozen dataclass of a table; ValueError where the table has other keys, ``where`` begins its message."""
    known = [field.name for field in dataclasses.fields(kind)]
    needed = [field.name for field in dataclasses.fields(kind) if _needed(field)]
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: must be a table, found {table!r}")
    wrong = [name for name in table if name not in known] or [name for name in needed if name not in table]
    if wrong:
        raise ValueError(f"{where}: {wrong[0]!r} is {'missing' if wrong[0] in known else 'not known'}; it has {known}")
    return kind(**table)


def _needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least 1")


def squeezed(hidden: int) -> int:
    """Outputs of the first layer of a squeeze over so many channels."""
    return max(_LEAST_SQUEEZE, hidden // _SQUEEZE_SHARE)


def build(config: NetworkConfig) -> keras.Model:
    """The functional tf_keras model of a description, with fresh weights."""
    x = inputs = keras.Input((config.frames, config.mel_bins), name="features")
    if config.sinc is not None:
        x = filtered(x, config.sinc)
    if config.over != "time":
        x = L.Reshape((*x.shape[1:], 1), name="bands")(x)
    for number, block in enumerate(config.blocks, 1):
        x = _block(x, block, config, f"block_{number}")
    if config.over != "time":
        x = L.AveragePooling2D((1, x.shape[2]), name="mean_of_bands")(x)
        x = L.Reshape((x.shape[1], x.shape[3]), name="rows")(x)
    x = L.Dense(config.num_classes, name="logits")(x)
    join = L.Flatten if x.shape[1] == 1 else L.GlobalAveragePooling1D
    return keras.Model(inputs, join(name="posteriors")(x), name="network")


def filtered(x, sinc: SincSpec):
    """Features [batch, frames, filters], normalized, of rows of samples; zeros ahead make it as many frames as rows."""
    frames, row = x.shape[1:]
    stride = row // sinc.average
    made = SincConv(
        sinc.filters, sinc.taps, stride, sinc.average, sample_rate=sinc.sample_rate, upper_hz=0.475 * sinc.sample_rate,
        name="sinc",
    )  # fmt: skip
    x = L.Reshape((frames * row, 1), name="samples")(x)
    ahead = max(0, made.span - made.hop)
    x = L.ZeroPadding1D((ahead, 0), name="zeros")(x) if ahead else x
    return L.BatchNormalization(name="norm_sinc")(made(x))


def _block(x, block: BlockSpec, config: NetworkConfig, name: str):
    begin, hidden = x, block.hidden(x.shape[-1])
    strides = (block.stride, block.band_stride)
    if block.kind == "dense":
        x = _convolution(x, block, config, strides, f"{name}_conv")
        x = _normalized(x, f"{name}_norm")
        x = _squeeze(x, hidden, config, name) if block.squeeze else x
    else:
        if block.kind == "bottleneck":
            x = _normalized(_pointwise(x, hidden, config, f"{name}_expand"), f"{name}_expand_norm")
        x = _normalized(_depthwise(x, block, config, strides, f"{name}_depthwise"), f"{name}_depthwise_norm")
        x = _squeeze(x, hidden, config, name) if block.squeeze else x
        x = _pointwise(x, block.outputs, config, f"{name}_project")
        x = _normalized(x, f"{name}_norm", relu=block.kind == "separable")
    return L.Add(name=f"{name}_add")([begin, x]) if block.adds(begin.shape[-1]) else x


def _normalized(x, name: str, relu: bool = True):
    x = L.BatchNormalization(name=name)(x)
    return L.ReLU(name=f"{name}_relu")(x) if relu else x


def _pointwise(x, outputs: int, config: NetworkConfig, name: str):
    layer = L.Conv1D if config.over == "time" else L.Conv2D
    return layer(outputs, 1, use_bias=False, name=name)(x)


def _padded(x, block: BlockSpec, config: NetworkConfig, name: str):
    """Zeros ahead in time, and around the bands."""
    side = config.band_kernel // 2
    return L.ZeroPadding2D(((block.kernel - 1, 0), (side, side)), name=f"{name}_zeros")(x)


def _convolution(x, block: BlockSpec, config: NetworkConfig, strides: tuple[int, int], name: str):
    if config.over == "time":
        return CausalConv1D(block.outputs, block.kernel, strides=block.stride, use_bias=False, name=name)(x)
    kernel = (block.kernel, config.band_kernel)
    x = _padded(x, block, config, name)
    return L.Conv2D(block.outputs, kernel, strides, use_bias=False, name=name)(x)


def _depthwise(x, block: BlockSpec, config: NetworkConfig, strides: tuple[int, int], name: str):
    if config.over == "time":
        return CausalDepthwiseConv1D(block.kernel, strides=block.stride, use_bias=False, name=name)(x)
    x = _padded(x, block, config, name)
    return L.DepthwiseConv2D((block.kernel, config.band_kernel), strides, use_bias=False, name=name)(x)


def _squeeze(x, hidden: int, config: NetworkConfig, name: str):
    """Scales channels by a function of their mean over the last rows and all bands."""
    ahead, flat = config.squeeze_frames - 1, config.over == "time"
    pad, pool = (L.ZeroPadding1D, L.AveragePooling1D) if flat else (L.ZeroPadding2D, L.AveragePooling2D)
    mean = pad((ahead, 0) if flat else ((ahead, 0), (0, 0)), name=f"{name}_squeeze_zeros")(x)
    size = config.squeeze_frames if flat else (config.squeeze_frames, x.shape[2])
    mean = pool(size, strides=1, name=f"{name}_squeeze")(mean)
    gate = L.Dense(squeezed(hidden), activation="relu", name=f"{name}_squeeze_1")(mean)
    gate = L.Dense(hidden, activation="hard_sigmoid", name=f"{name}_squeeze_2")(gate)
    return L.Multiply(name=f"{name}_excite")([x, gate])
