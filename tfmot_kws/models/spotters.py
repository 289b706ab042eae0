"""Keras models: the 250K-parameter streaming, state-free spotter and its relatives."""

from __future__ import annotations

import dataclasses

from tfmot_kws.frontend.waveform import SincConv
from tfmot_kws.keras import keras
from tfmot_kws.models.time_layers import CausalDepthwiseConv1D, TimeWindow

# Depthwise layers here are CausalDepthwiseConv1D without padding, not Keras's DepthwiseConv1D: that hands TensorFlow a
# picture one row high, for which oneDNN of TensorFlow 2.16 ends the process on processors with AMX once a kernel has 13
# frames. A picture one column wide is computed.
MOST_WIDTH = 8192
"""Outputs of a hidden layer: more than 600 million parameters, which train in some 10 GB."""


@dataclasses.dataclass(frozen=True)
class WindowSpec:
    """One windowed layer: ``size`` frames, ``stride`` and ``dilation`` in frames of its input."""

    size: int
    stride: int = 1
    dilation: int = 1


@dataclasses.dataclass(frozen=True)
class SincSpec:
    """Filters over samples ahead of a spotter whose frames are rows of samples (``FrontendConfig(backend="raw")``).

    Attributes:
      filters: features of a frame, of which there is one for each row.
      taps: samples of a filter.
      average: sums whose magnitudes have one mean; a row is as many strides.
      sample_rate: Hz.
    """

    filters: int = 40
    taps: int = 400
    average: int = 2
    sample_rate: int = 16000


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of a feed-forward spotter.

    ``windows`` layers look at ever longer stretches of time, ``dense`` layers of the same width follow, a linear layer
    gives one logit per class and, where several positions are left, the mean over time joins them.

    Attributes:
      num_classes: logits.
      frames: of a clip.
      mel_bins: features of a frame; with ``sinc`` samples of a row.
      width: outputs of every hidden layer.
      windows: the windowed layers, first to last.
      dense: how many dense layers follow them.
      batch_norm: batch normalization after every hidden layer.
      sinc: filters that make features of samples; None where frames are features.
    """

    num_classes: int
    frames: int = 49
    mel_bins: int = 40
    width: int = 128
    windows: tuple[WindowSpec, ...] = (WindowSpec(16, 3), WindowSpec(4, 2), WindowSpec(3, 1, 2))
    dense: int = 3
    batch_norm: bool = True
    sinc: SincSpec | None = None

    def __post_init__(self):
        for name in ("num_classes", "frames", "mel_bins", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"ModelConfig: {name} must be at least 1, found {getattr(self, name)}")
        if self.width > MOST_WIDTH:
            raise ValueError(f"ModelConfig: width must be at most {MOST_WIDTH:,}, found {self.width:,}")
        if self.dense < 0 or not self.windows:
            raise ValueError("ModelConfig: needs at least one window and no negative number of dense layers")
        if self.sinc is not None and self.mel_bins % self.sinc.average:
            raise ValueError(
                f"ModelConfig: a row of {self.mel_bins} samples is no whole number of strides for sinc.average="
                f"{self.sinc.average}"
            )


def build(config: ModelConfig) -> keras.Model:
    """A functional tf_keras model: features [frames, mel_bins] -> logits [num_classes]."""
    x = inputs = keras.Input((config.frames, config.mel_bins), name="features")
    if config.sinc is not None:
        x = _filtered(x, config.sinc)
    for i in range(len(config.windows) + config.dense):
        if i < len(config.windows):
            w = config.windows[i]
            x = TimeWindow(w.size, w.stride, w.dilation, name=f"window_{i + 1}")(x)
        x = keras.layers.Dense(config.width, name=f"dense_{i + 1}")(x)
        if config.batch_norm:
            x = keras.layers.BatchNormalization(name=f"norm_{i + 1}")(x)
        x = keras.layers.ReLU(name=f"relu_{i + 1}")(x)
    x = keras.layers.Dense(config.num_classes, name="logits")(x)
    if x.shape[1] == 1:
        x = keras.layers.Flatten(name="posteriors")(x)
    else:
        x = keras.layers.GlobalAveragePooling1D(name="posteriors")(x)
    return keras.Model(inputs, x, name="wakeword")


def _filtered(x, sinc: SincSpec):
    """Features of rows of samples, normalized."""
    frames, row = x.shape[1:]
    x = keras.layers.Reshape((frames * row, 1), name="samples")(x)
    made = SincConv(
        sinc.filters, sinc.taps, row // sinc.average, sinc.average, sample_rate=sinc.sample_rate,
        upper_hz=0.475 * sinc.sample_rate, name="sinc",
    )  # fmt: skip
    return keras.layers.BatchNormalization(name="norm_sinc")(made(x))


def wakeword_250k(num_classes: int = 2, frames: int = 49, mel_bins: int = 40, width: int = 128) -> keras.Model:
    """The 250,000-parameter spotter (within 2 % at 40 bands and up to 35 classes).

    Windows of 16 x 40 features, then 4 and 3 hidden frames, then three dense layers, as a feed-forward network
    without state (after Zeng et al. 2022). ``width=18`` makes its 15,000-parameter sister.

    The three windows together span 49 frames: about one second at hops of 20 ms.

    Args:
      num_classes: logits.
      frames: of a clip, at least 49.
      mel_bins: features of a frame.
      width: outputs of every hidden layer.
    """
    return build(ModelConfig(num_classes, frames, mel_bins, width))


def ds_cnn_stream(
    num_classes: int = 3,
    frames: int = 30,
    mel_bins: int = 40,
    filters: tuple[int, ...] = (128, 128, 128, 32),
    kernels: tuple[int, ...] = (3, 5, 10, 15),
) -> keras.Model:
    """A 1-D depthwise-separable network, shaped as the streaming wake word of MLPerf Tiny.

    Blocks of a depthwise convolution over time and a dense layer of each frame, then one linear layer; nothing is
    padded, so that every new frame costs one row of each layer. 30 frames give one row; the mean over time joins more.

    Args:
      num_classes: logits.
      frames: of a clip.
      mel_bins: features of a frame.
      filters: outputs of each block's dense layer.
      kernels: frames of each block's window.

    Raises:
      ValueError: as many filters as kernels are needed, and a clip of at least ``sum(kernels) - len(kernels) + 1``.
    """
    least = sum(kernels) - len(kernels) + 1
    if len(filters) != len(kernels) or not kernels:
        raise ValueError(
            f"ds_cnn_stream: {len(filters)} filters but {len(kernels)} kernels; each block has one of both"
        )
    if frames < least:
        raise ValueError(f"ds_cnn_stream: kernels {kernels} span {least} frames but the clip has {frames}")
    x = inputs = keras.Input((frames, mel_bins), name="features")
    for i, (count, size) in enumerate(zip(filters, kernels), 1):
        x = CausalDepthwiseConv1D(size, "valid", use_bias=False, name=f"depthwise_{i}")(x)
        x = keras.layers.Conv1D(count, 1, use_bias=False, name=f"pointwise_{i}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{i}")(x)
        x = keras.layers.ReLU(name=f"relu_{i}")(x)
    x = keras.layers.Dense(num_classes, name="logits")(x)
    join = keras.layers.Flatten if frames == least else keras.layers.GlobalAveragePooling1D
    return keras.Model(inputs, join(name="posteriors")(x), name="ds_cnn_stream")


def mixed_net(
    num_classes: int = 2,
    frames: int | None = None,
    mel_bins: int = 40,
    filters: int = 64,
    kernels: tuple[int, ...] = (5, 7, 9, 11),
    first: WindowSpec = WindowSpec(3, 2),
) -> keras.Model:
    """A small convolutional wake word for streams, after microWakeWord's MixedNet (K. Ahrendt, 2024).

    One dense layer over a few frames that moves by more than one, then blocks of a depthwise convolution over time and
    a dense layer of each step, with ever longer kernels. A mixed convolution has kernels of several lengths side by
    side; here each channel has the longest of them and learns which part of it is not zero. Nothing is padded: a new
    step of a stream costs one row of each layer. 27,522 parameters as it is.

    Args:
      num_classes: logits.
      frames: of a clip; None is one row, 59 frames as it is. The mean over time joins more.
      mel_bins: features of a frame.
      filters: outputs of every layer but the last.
      kernels: steps of each block's window.
      first: frames of the first layer's window, and by how many it moves.

    Raises:
      ValueError: a size is below 1, there are no kernels, or the clip is too short.
    """
    for name, value in (("num_classes", num_classes), ("mel_bins", mel_bins), ("filters", filters)):
        if value < 1:
            raise ValueError(f"mixed_net: {name} must be at least 1, found {value}")
    if not kernels or min(kernels) < 1:
        raise ValueError(f"mixed_net: kernels {kernels}: must be at least one length, each of at least 1")
    reach = (first.size - 1) * first.dilation + 1
    least = reach + first.stride * (sum(kernels) - len(kernels))
    frames = least if frames is None else frames
    if frames < least:
        raise ValueError(f"mixed_net: kernels {kernels} span {least} frames but the clip has {frames}")
    x = inputs = keras.Input((frames, mel_bins), name="features")
    x = TimeWindow(first.size, first.stride, first.dilation, name="window_1")(x)
    x = keras.layers.Dense(filters, use_bias=False, name="dense_1")(x)
    x = keras.layers.BatchNormalization(name="norm_1")(x)
    x = keras.layers.ReLU(name="relu_1")(x)
    for i, size in enumerate(kernels, 2):
        x = CausalDepthwiseConv1D(size, "valid", use_bias=False, name=f"depthwise_{i}")(x)
        x = keras.layers.Conv1D(filters, 1, use_bias=False, name=f"pointwise_{i}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{i}")(x)
        x = keras.layers.ReLU(name=f"relu_{i}")(x)
    x = keras.layers.Dense(num_classes, name="logits")(x)
    join = keras.layers.Flatten if x.shape[1] == 1 else keras.layers.GlobalAveragePooling1D
    return keras.Model(inputs, join(name="posteriors")(x), name="mixed_net")


def svd_50k(
    num_classes: int = 2,
    frames: int = 31,
    mel_bins: int = 20,
    context: int = 31,
    width: int = 128,
    rank: int = 39,
    pairs: int = 3,
) -> keras.Model:
    """The 50,000-parameter low-rank spotter of Mishchenko et al. 2019.

    31 frames of 20 bands (20 behind, 10 ahead of the one that is judged: a delay of 10 frames) go through three pairs
    of a linear layer of 39 and a sigmoid layer of 128, each pair the low-rank form of one dense layer.

    Args:
      num_classes: logits.
      frames: of a clip; of more than ``context`` the mean over rows is taken.
      mel_bins: features of a frame.
      context: frames that are stacked.
      width: outputs of the sigmoid layers.
      rank: outputs of the linear layers.
      pairs: how many pairs there are.

    Raises:
      ValueError: a clip is shorter than the context, or a size is below 1.
    """
    for name, value in (("num_classes", num_classes), ("width", width), ("rank", rank), ("pairs", pairs)):
        if value < 1:
            raise ValueError(f"svd_50k: {name} must be at least 1, found {value}")
    if not 1 <= context <= frames:
        raise ValueError(f"svd_50k: context must lie in 1..{frames}, the frames of a clip, found {context}")
    inputs = keras.Input((frames, mel_bins), name="features")
    x = TimeWindow(context, name="stack")(inputs)
    for i in range(1, pairs + 1):
        x = keras.layers.Dense(rank, use_bias=False, name=f"linear_{i}")(x)
        x = keras.layers.Dense(width, activation="sigmoid", name=f"sigmoid_{i}")(x)
    x = keras.layers.Dense(num_classes, name="logits")(x)
    join = keras.layers.Flatten if frames == context else keras.layers.GlobalAveragePooling1D
    return keras.Model(inputs, join(name="posteriors")(x), name="svd")


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """Cost of one layer: parameters, and multiply-accumulates for a clip and for one more hop of a stream."""

    name: str
    output_shape: tuple[int, ...]
    parameters: int
    macs_per_clip: int
    macs_per_hop: float


@dataclasses.dataclass(frozen=True)
class ModelCost:
    """Costs of all layers; ``str()`` gives a table."""

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """Parameters of the model."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs_per_clip(self) -> int:
        """Multiply-accumulates for one clip."""
        return sum(layer.macs_per_clip for layer in self.layers)

    @property
    def macs_per_hop(self) -> float:
        """Multiply-accumulates for one more frame of features, averaged where a stride skips frames."""
        return sum(layer.macs_per_hop for layer in self.layers)

    def __str__(self) -> str:
        rows = [f"{'layer':<16}{'output':<16}{'parameters':>12}{'MAC/clip':>12}{'MAC/hop':>12}"]
        rows += [
            f"{c.name:<16}{'x'.join(map(str, c.output_shape)):<16}{c.parameters:>12,}{c.macs_per_clip:>12,}"
            f"{c.macs_per_hop:>12,.0f}"
            for c in self.layers
        ]
        rows.append(f"{'total':<32}{self.parameters:>12,}{self.macs_per_clip:>12,}{self.macs_per_hop:>12,.0f}")
        return "\n".join(rows)


def cost(model: keras.Model) -> ModelCost:
    """Parameters and multiply-accumulates of a float model made of windows, dense and convolution layers.

    Per hop counts what a stream needs for one more frame when nothing is computed twice: a layer that runs at every
    n-th frame costs 1/n of a run. Layers behind a reduction over time run once per clip and hop alike.
    """
    rows, stride = [], 1
    for layer in model.layers:
        shape = layer.output_shape[0] if isinstance(layer.output_shape, list) else layer.output_shape
        shape = tuple(d for d in shape[1:] if d is not None)
        stride *= _time_stride(layer)
        kernel = getattr(layer, "kernel", getattr(layer, "depthwise_kernel", None))
        positions = 1
        for d in shape[:-1]:
            positions *= d
        macs = 0 if kernel is None else positions * _kernel_macs(layer, kernel)
        time_positions = shape[0] if len(shape) > 1 else 1
        rows.append(LayerCost(layer.name, shape, layer.count_params(), macs, macs / time_positions / stride))
    return ModelCost(tuple(rows))


def _time_stride(layer: keras.layers.Layer) -> int:
    stride = getattr(layer, "stride", None) or getattr(layer, "strides", 1)
    return int(stride[0]) if isinstance(stride, (tuple, list)) else int(stride)


def _kernel_macs(layer: keras.layers.Layer, kernel) -> int:
    pointwise = getattr(layer, "pointwise_kernel", None)
    size = int(kernel.shape.num_elements())
    return size + (int(pointwise.shape.num_elements()) if pointwise is not None else 0)
