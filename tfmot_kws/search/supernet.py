# SPDX-License-Identifier: Apache-2.0
"""One model that holds all networks of a space, and the probabilities of its choices.

Networks share weights: a shorter kernel is the end of the longest one, a narrower layer the first channels of the
widest. Two things are trained in turns, after Cai et al. 2019 (ProxylessNAS, arXiv 1812.00332): weights, of one path
that is drawn anew for every batch; and the structure, on other examples. A choice is a gate of 0 or 1, and the
gradient of its probability ``p`` is that of the gates, straight through the draw:

    d loss / d alpha_i = sum_j d loss / d gate_j  p_j (delta_ij - p_i)

Every batch normalization works with the statistics of its batch, because those of a mean over paths fit none of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfmot_kws.frontend.waveform import SincConv
from tfmot_kws.keras import keras
from tfmot_kws.models.networks import squeezed
from tfmot_kws.quantize.quantizers import grid_constants, levels, resolve_grid
from tfmot_kws.search.space import IDENTITY, Path, Space, Task

_EPSILON = 1e-3
"""That of Keras' batch normalization."""
Gates = Sequence[tf.Tensor]
"""Of each decision, float32 [options]: 1 for the option that is chosen, 0 for the others."""


class Supernet(keras.Model):
    """All networks of a space.

    Args:
      space: of networks.
      task: what they are for.

    Attributes:
      alpha: of each decision, float32 [options]: its probabilities are the softmax.
    """

    def __init__(self, space: Space, task: Task) -> None:
        super().__init__(name="supernet")
        self.space, self.task = space, task
        self.alpha = [
            self.add_weight(
                name=f"{decision.name}/alpha", shape=(len(decision.options),), initializer="zeros", trainable=False
            )
            for decision in space.decisions
        ]
        self._flat = space.over == "time"
        self._sinc = None
        if task.sinc is not None:
            sinc, stride = task.sinc, task.mel_bins // task.sinc.average
            rate = sinc.sample_rate
            self._sinc = SincConv(
                sinc.filters, sinc.taps, stride, sinc.average, sample_rate=rate, upper_hz=0.475 * rate, name="sinc"
            )
            self._sinc.build((None, None, 1))
            self._norm_weights("norm_sinc", sinc.filters)
        self._inputs = task.bands if self._flat else 1
        for number, (stage, _) in enumerate(space.places):
            self._block_weights(number, stage)
        widest = max(space.stages[-1].widths)
        self._add("logits/kernel", (widest, task.num_classes), widest)
        self._add("logits/bias", (task.num_classes,), None)

    # Weights ---------------------------------------------------------------------------------------------------------

    def _add(self, name: str, shape: tuple[int, ...], fan_in: int | None, start: float = 0.0) -> None:
        """A trainable variable: normal by the size of its inputs, or a constant."""
        made = keras.initializers.Constant(start)
        if fan_in is not None:
            made = keras.initializers.RandomNormal(stddev=(2.0 / fan_in) ** 0.5)
        self._named()[name] = self.add_weight(name=name, shape=shape, initializer=made, trainable=True)

    def _named(self) -> dict[str, tf.Variable]:
        """Variables by name; in no attribute that Keras sees, which would count them a second time."""
        return self.__dict__.setdefault("_of_name", {})

    def weight(self, name: str) -> tf.Variable:
        """A variable by its name, such as "block_2/dense/kernel"."""
        return self._named()[name]

    def _norm_weights(self, name: str, channels: int) -> None:
        self._add(f"{name}/gamma", (channels,), None, 1.0)
        self._add(f"{name}/beta", (channels,), None)

    def _widths_ahead(self, number: int) -> tuple[int | None, tuple[int, ...]]:
        """The decision about the channels that a block hears, None where it is none, and its options."""
        stage, first = self.space.places[number][0], self.space.places[number][1] == 0
        ahead = stage - 1 if first else stage
        return (None, (self._inputs,)) if ahead < 0 else (ahead, self.space.stages[ahead].widths)

    def _block_weights(self, number: int, stage_number: int) -> None:
        stage, name = self.space.stages[stage_number], f"block_{number + 1}"
        inputs, outputs = max(self._widths_ahead(number)[1]), max(stage.widths)
        time, band = max(stage.kernels), 1 if self._flat else self.space.band_kernel
        for kind in stage.kinds:
            expansion = max(stage.expansions) if kind == "bottleneck" else 1
            hidden = {"dense": outputs, "separable": inputs, "bottleneck": expansion * inputs}[kind]
            if kind == "dense":
                self._add(f"{name}/dense/kernel", (time, band, inputs, outputs), time * band * inputs)
            else:
                if kind == "bottleneck":
                    self._add(f"{name}/bottleneck/expand", (1, 1, inputs, hidden), inputs)
                    self._norm_weights(f"{name}/bottleneck/expand_norm", hidden)
                self._add(f"{name}/{kind}/depthwise", (time, band, hidden, 1), time * band)
                self._norm_weights(f"{name}/{kind}/depthwise_norm", hidden)
                self._add(f"{name}/{kind}/project", (1, 1, hidden, outputs), hidden)
            self._norm_weights(f"{name}/{kind}/norm", outputs)
            if True in stage.squeeze:
                middle = squeezed(hidden)
                self._add(f"{name}/{kind}/squeeze_1/kernel", (hidden, middle), hidden)
                self._add(f"{name}/{kind}/squeeze_1/bias", (middle,), None)
                self._add(f"{name}/{kind}/squeeze_2/kernel", (middle, hidden), middle)
                self._add(f"{name}/{kind}/squeeze_2/bias", (hidden,), None)

    # Choices ---------------------------------------------------------------------------------------------------------

    def probabilities(self) -> list[tf.Tensor]:
        """Of each decision, float32 [options]."""
        return [tf.nn.softmax(alpha) for alpha in self.alpha]

    def drawn(self, seed: tf.Tensor) -> tf.Tensor:
        """A path by the probabilities: int32 [decisions]; the same for the same seed, int64 [2]."""
        seeds = tf.random.experimental.stateless_split(seed, len(self.alpha))
        draws = [
            tf.random.stateless_categorical(alpha[None], 1, seeds[i], tf.int32)[0, 0]
            for i, alpha in enumerate(self.alpha)
        ]
        return tf.stack(draws)

    def gates_of(self, path: tf.Tensor) -> list[tf.Tensor]:
        """One-hot gates of a path, int32 [decisions]."""
        return [tf.one_hot(path[i], alpha.shape[0]) for i, alpha in enumerate(self.alpha)]

    def binary_gates(self, path: tf.Tensor) -> list[tf.Tensor]:
        """The same, with the gradient of the probabilities."""
        return [gate + p - tf.stop_gradient(p) for gate, p in zip(self.gates_of(path), self.probabilities())]

    def sample(self, generator: np.random.Generator) -> Path:
        """A path by the probabilities, outside of a graph."""
        found = []
        for probabilities in self.probabilities():
            p = probabilities.numpy().astype(np.float64)
            found.append(int(generator.choice(len(p), p=p / p.sum())))
        return tuple(found)

    def likeliest(self) -> Path:
        """The path of the most probable options."""
        return tuple(int(np.argmax(alpha.numpy())) for alpha in self.alpha)

    # Computing -------------------------------------------------------------------------------------------------------

    def logits(self, x, gates: Gates, path: tf.Tensor | None = None):
        """Logits [batch, classes] of features or samples.

        Args:
          x: float32 [batch, frames, mel].
          gates: of each decision.
          path: int32 [decisions], the path that the gates stand for: only its operations are computed. None computes
            all of them, so that gates without a path have gradients.
        """
        if self._sinc is not None:
            x = self._filtered(x)
        x = x[:, :, None, :] if self._flat else x[..., None]
        for number in range(len(self.space.places)):
            x = self._block(x, number, gates, path)
        x = tf.reduce_mean(x, axis=2)
        return tf.reduce_mean(tf.matmul(x, self.weight("logits/kernel")), axis=1) + self.weight("logits/bias")

    def _filtered(self, x):
        ahead = max(0, self._sinc.span - self._sinc.hop)
        samples = tf.reshape(x, (-1, self.task.frames * self.task.mel_bins, 1))
        return self._normalized(self._sinc(tf.pad(samples, [[0, 0], [ahead, 0], [0, 0]])), "norm_sinc")

    def _normalized(self, x, name: str):
        shape, gamma, beta = tf.shape(x), self.weight(f"{name}/gamma"), self.weight(f"{name}/beta")
        x = x if len(x.shape) == 4 else x[:, :, None]
        y = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=_EPSILON, is_training=True)[0]
        return tf.reshape(y, shape)

    @staticmethod
    def _channels(decision: int | None, widths: Sequence[int], gates: Gates, most: int):
        """1 for the channels that there are, 0 beyond, where each option of a decision has a width: float32 [most]."""
        rows = np.array([np.arange(most) < width for width in widths], np.float32)
        return tf.constant(rows[0]) if decision is None else tf.linalg.matvec(rows, gates[decision], transpose_a=True)

    def _block(self, x, number: int, gates: Gates, path: tf.Tensor | None):
        operations = self.space.operations(self.space.places[number])
        decision = self.space.of_block(number)[0]

        def branch(kind: str, expansion: int):
            return lambda: x if kind == IDENTITY else self._operation(x, number, kind, expansion, gates)

        branches = [branch(*operation) for operation in operations]
        if len(branches) == 1:
            return branches[0]()
        if path is not None:
            return tf.switch_case(path[decision], branches)
        return tf.add_n([gates[decision][i] * one() for i, one in enumerate(branches)])

    def _operation(self, x, number: int, kind: str, expansion: int, gates: Gates):
        stage_number, place = self.space.places[number]
        stage, name = self.space.stages[stage_number], f"block_{number + 1}/{kind}"
        strides = (stage.stride, stage.band_stride) if place == 0 else (1, 1)
        outputs = self._channels(stage_number, stage.widths, gates, max(stage.widths))
        begin = x
        if kind == "dense":
            x = self._convolution(x, f"{name}/kernel", number, gates, strides)
            x = tf.nn.relu(self._normalized(x, f"{name}/norm")) * outputs
            x = self._squeezed(x, name, number, gates, stage_number, stage.widths)
        else:
            decision, ahead = self._widths_ahead(number)
            widths = [expansion * width for width in ahead]
            hidden = self._channels(decision, widths, gates, int(self.weight(f"{name}/depthwise").shape[2]))
            if kind == "bottleneck":
                x = self._convolution(x, f"{name}/expand", number, gates)
                x = tf.nn.relu(self._normalized(x, f"{name}/expand_norm")) * hidden
            x = self._convolution(x, f"{name}/depthwise", number, gates, strides, depthwise=True)
            x = tf.nn.relu(self._normalized(x, f"{name}/depthwise_norm")) * hidden
            x = self._squeezed(x, name, number, gates, decision, widths)
            x = self._normalized(self._convolution(x, f"{name}/project", number, gates), f"{name}/norm")
            x = (tf.nn.relu(x) if kind == "separable" else x) * outputs
        return self._added(begin, x, number, gates) if strides == (1, 1) else x

    def _convolution(self, x, name: str, number: int, gates: Gates, strides=(1, 1), depthwise: bool = False):
        """Of the chosen kernel size and width, with zeros ahead in time and around the bands."""
        kernel = self.weight(name)
        time, band = kernel.shape[:2]
        _, size, _, bits = self.space.of_block(number)
        if len(self.space.bits) > 1:
            kernel = tf.add_n([gates[bits][i] * _rounded(kernel, b) for i, b in enumerate(self.space.bits)])
        if time > 1 or band > 1:
            sizes = self.space.stages[self.space.places[number][0]].kernels
            rows = np.array([np.arange(time) >= time - kept for kept in sizes], np.float32)
            kernel = kernel * tf.linalg.matvec(rows, gates[size], transpose_a=True)[:, None, None, None]
            x = tf.pad(x, [[0, 0], [time - 1, 0], [band // 2, band // 2], [0, 0]])
        if not depthwise:
            return tf.nn.conv2d(x, kernel, strides, "VALID")
        down, across = strides[0], strides[0 if self._flat else 1]  # TensorFlow wants both alike; of one column any do
        return tf.nn.depthwise_conv2d(x, kernel, (1, down, across, 1), "VALID")

    def _squeezed(self, x, name: str, number: int, gates: Gates, decision: int | None, widths: Sequence[int]):
        """Channels scaled where that is chosen; ``widths`` are how many there are, by the options of ``decision``."""
        options = self.space.stages[self.space.places[number][0]].squeeze
        if True not in options:
            return x
        first, second = (
            [self.weight(f"{name}/squeeze_{layer}/{part}") for part in ("kernel", "bias")] for layer in (1, 2)
        )
        ahead, bands = self.space.squeeze_frames - 1, x.shape[2]
        mean = tf.pad(x, [[0, 0], [ahead, 0], [0, 0], [0, 0]])
        mean = tf.nn.avg_pool2d(mean, (ahead + 1, bands), 1, "VALID")
        middle = self._channels(decision, [squeezed(width) for width in widths], gates, int(first[1].shape[0]))
        gate = tf.nn.relu(tf.tensordot(mean, first[0], 1) + first[1]) * middle
        gate = keras.activations.hard_sigmoid(tf.tensordot(gate, second[0], 1) + second[1])
        chosen = gates[self.space.of_block(number)[2]][options.index(True)]
        return x * (1.0 - chosen + chosen * gate)

    def _added(self, begin, x, number: int, gates: Gates):
        """The input added where the block has as many channels as it hears."""
        stage, place = self.space.places[number]
        if place:
            return x + begin
        decision, ahead = self._widths_ahead(number)
        alike = np.array([[a == b for b in self.space.stages[stage].widths] for a in ahead], np.float32)
        if not alike.any():
            return x
        rows = tf.constant(alike[0]) if decision is None else tf.linalg.matvec(alike, gates[decision], transpose_a=True)
        equal = tf.reduce_sum(rows * gates[stage])
        most, found = x.shape[3], begin.shape[3]
        begin = begin[..., :most] if found > most else tf.pad(begin, [[0, 0], [0, 0], [0, 0], [0, most - found]])
        return x + equal * begin


def _rounded(theta: tf.Tensor, bits: int) -> tf.Tensor:
    """Weights of that width: the levels of ``quantize``, times what one is worth."""
    grid = resolve_grid("auto", bits)
    return levels(theta, bits, grid) * grid_constants(bits, grid)[2]
