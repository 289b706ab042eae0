"""Quantized recurrent layers: LSTM, GRU and the simple recurrent layer.

Both kernels are trained through tanh like those of dense layers. The state is carried from row to row in real numbers,
and from stage 2 on in the device's integers (``recurrent_math``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmot_kws.keras import keras
from tfmot_kws.quantize import activation_bits, integer_math, recurrent_math
from tfmot_kws.quantize.layer_bits import LayerBits
from tfmot_kws.quantize.layer_parts import TanhKernel
from tfmot_kws.quantize.layers import LayerIntegers, QuantizedAffine
from tfmot_kws.quantize.ops import QuantizedOp
from tfmot_kws.quantize.output_grid import FixedGrid
from tfmot_kws.quantize.quantizers import straight_through

_WIDE = 2.0**15


class GateKernel(TanhKernel, QuantizedAffine):
    """One of the two kernels of a recurrent layer: [inputs, gates * units], to int16 pre-activations.

    Gain and bias have 16 bits where ``bits`` leaves them open, as what they make has.
    """

    _OWN_BITS = 16

    def __init__(self, outputs: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.outputs = outputs
        self._other: GateKernel | None = None

    def share_width(self, other: GateKernel) -> None:
        """Learns no width of its own, but that of another kernel, which is built first: a device has one of both."""
        self.__dict__["_other"] = other  # past Keras, which would save it twice

    def _make_width(self):
        return super()._make_width() if self._other is None else self._other.learned_width

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "outputs": self.outputs}

    def build(self, input_shape) -> None:
        """Makes the variables for inputs [..., channels]; its layer has the stage and the output's grid."""
        self._build_folded(self._build_kernel(tuple(input_shape)))
        self.built = True

    def _kernel_shape(self, input_shape):
        return (input_shape[-1], self.outputs)

    def constants(self, in_scale):
        """(levels, real gain and bias, integers): what does not change from row to row."""
        gain, bias = self._gain_and_bias(tf.zeros((1, self.outputs)), in_scale, False)
        return self._levels(), gain, bias, self._integers(gain, bias, recurrent_math.SCALE)

    def product(self, steps, constants, second, columns: slice = slice(None)):
        """Real pre-activations [..., outputs] of steps [..., channels]; whole steps of ``SCALE`` in stage 2."""
        levels, gain, bias, (gain_steps, bias_steps, unit, multiplier, f, shift) = constants
        gain, bias, gain_steps, bias_steps = (v[columns] for v in (gain, bias, gain_steps, bias_steps))
        bias_unit = tf.cast(recurrent_math.SCALE * integer_math.exp2(f - shift), tf.float32)
        acc = tf.matmul(steps, levels[:, columns])
        real = acc * tf.where(second, gain_steps * unit, gain) + tf.where(second, bias_steps * bias_unit, bias)
        whole = (tf.stop_gradient(v) for v in (acc, gain_steps, bias_steps))
        exact = tf.clip_by_value(integer_math.requantize(*whole, multiplier, f, shift), -_WIDE, _WIDE - 1.0)
        return straight_through(real, tf.where(second, exact * recurrent_math.SCALE, real))

    def gate_integers(self, in_scale: float) -> LayerIntegers:
        """The device's integers for an input of that scale."""
        _, _, _, (gain, bias, _, *rest) = self.constants(tf.constant(in_scale))
        return LayerIntegers.of(self._codes(), gain, bias, *rest, (-_WIDE, _WIDE - 1.0))


class QuantizedRecurrent(QuantizedOp):
    """A recurrent layer over [batch, time, channels]; every call begins with a state of zeros.

    Args:
      units: numbers of the state.
      cell: "lstm", "gru", "gru_reset_after" or "simple".
      sequences: whether each row is an output, or the last one only.
      use_bias: whether the layer has a bias; "gru_reset_after" has two.
      bits: widths; the output has ``activation_bits`` on a fixed grid of -1 .. 1.
      regularizers: of "kernel", "recurrent" and "bias", where there are some.
      dropout, recurrent_dropout: shares of channels and units that training leaves out, the same at each row of a clip.
    """

    def __init__(
        self,
        units: int,
        cell: str = "lstm",
        sequences: bool = False,
        use_bias: bool = True,
        bits: LayerBits | dict[str, Any] | None = None,
        regularizers: dict[str, Any] | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        **kwargs: Any,
    ):
        self.bits = bits if isinstance(bits, LayerBits) else LayerBits(**(bits or {}))
        # The state, which every row multiplies again, learns no width of its own.
        super().__init__(**{**kwargs, "activation_bits": activation_bits.fixed(self.bits.activation_bits)})
        if cell not in recurrent_math.GATES:
            raise ValueError(f"layer {self.name!r}: cell must be one of {tuple(recurrent_math.GATES)}, found {cell!r}")
        self.units, self.cell, self.sequences, self.use_bias = int(units), cell, bool(sequences), bool(use_bias)
        self.dropout, self.recurrent_dropout = float(dropout), float(recurrent_dropout)
        self.regularizers = {name: keras.regularizers.get(v) for name, v in (regularizers or {}).items()}
        outputs = self.units * recurrent_math.GATES[cell]
        self.kernel_part, self.recurrent_part = (
            GateKernel(
                outputs,
                bits=self.bits,
                use_bias=self.use_bias and biased,
                kernel_regularizer=self.regularizers.get(role),
                vector_regularizers={"bias": self.regularizers["bias"]} if "bias" in self.regularizers else None,
                name=role,
            )
            for role, biased in (("kernel", True), ("recurrent", cell == "gru_reset_after"))
        )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        own = {
            name: getattr(self, name)
            for name in ("units", "cell", "sequences", "use_bias", "dropout", "recurrent_dropout")
        }
        config = {**super().get_config(), **own, "bits": self.kernel_part.get_config()["bits"]}
        del config["activation_bits"]
        kept = {name: keras.regularizers.serialize(value) for name, value in self.regularizers.items()}
        return {**config, "regularizers": kept}

    def build(self, input_shape) -> None:
        """Makes the variables; ``input_shape`` is [shape of the values, shape of the scale]."""
        self.recurrent_part.share_width(self.kernel_part)
        for part, channels in ((self.kernel_part, tuple(input_shape[0])[-1]), (self.recurrent_part, self.units)):
            with tf.name_scope(part.name):
                part.build((channels,))
        super().build(input_shape)

    @property
    def learned_width(self):
        """The width of both kernels, where it is learned."""
        return self.kernel_part.learned_width

    @property
    def weight_bits(self) -> int:
        """Width of both kernels."""
        return self.kernel_part.weight_bits

    @property
    def weight_grid(self) -> str:
        """Grid of both kernels."""
        return self.kernel_part.weight_grid

    def take_width(self, bits: int) -> None:
        """Computes with another whole width from now on, starting as near as it can to what the weights are.

        Args:
            bits: 1..8, of a layer whose width is learned.
        """
        if bits == self.weight_bits:
            return
        parts = (self.kernel_part, self.recurrent_part)
        real = [part._real_weights() for part in parts]
        self.learned_width.take(bits)
        for part, weights in zip(parts, real):
            part._start_from(weights)

    def _make_grid(self):
        return FixedGrid(self.activation_bits, signed=True)

    def integers(self, in_scale: float) -> tuple[LayerIntegers, LayerIntegers]:
        """The device's integers of both kernels, for an input of that scale."""
        own = 2.0 ** (1 - self.activation_bits)
        return self.kernel_part.gate_integers(in_scale), self.recurrent_part.gate_integers(own)

    def load_float(self, layer: keras.layers.Layer) -> None:
        """Starts from the trained weights of a Keras layer of the same cell."""
        kernel, recurrent = layer.cell.kernel.numpy(), layer.cell.recurrent_kernel.numpy()
        biases: list[np.ndarray | None] = [None, None]
        if self.use_bias:
            bias = layer.cell.bias.numpy()
            biases = [bias[0], bias[1]] if bias.ndim == 2 else [bias, None]
        self.kernel_part.load_float_kernel(kernel, biases[0])
        self.recurrent_part.load_float_kernel(recurrent, biases[1])

    def call(self, inputs, training=None):
        """(steps, scale) -> (steps, scale)."""
        return self._forward(inputs, training)

    @tf.autograph.experimental.do_not_convert
    def _forward(self, inputs, training):
        steps, in_scale = inputs
        second = self.stage > 1.5
        one = 2.0 ** (self.activation_bits - 1)
        rounding = recurrent_math.Rounding(second, one)
        kernel = self.kernel_part.constants(in_scale)
        recurrent = self.recurrent_part.constants(tf.constant(1.0 / one))
        time, channels = steps.shape[1:]
        batch = tf.shape(steps)[0]
        training = keras.backend.learning_phase() if training is None else training
        steps = steps * _kept(self.dropout, (batch, 1, channels), training)
        kept = _kept(self.recurrent_dropout, (batch, self.units), training) * one
        flat = self.kernel_part.product(tf.reshape(steps, (-1, channels)), kernel, second)
        rows = tf.reshape(flat, (-1, time, flat.shape[-1]))

        def product(columns):
            return lambda h: self.recurrent_part.product(h * kept, recurrent, second, columns)

        split = 2 * self.units if self.cell == "gru" else None
        of_h, of_reset = product(slice(split)), product(slice(split, None))
        zeros = tf.zeros((batch, self.units))

        def step(state, row):
            return recurrent_math.step(self.cell, rounding, row, *state, of_h, of_reset)

        outputs, _ = tf.scan(step, tf.transpose(rows, (1, 0, 2)), (zeros, zeros))
        real = tf.transpose(outputs, (1, 0, 2)) if self.sequences else outputs[-1]
        real = tf.ensure_shape(real, self.compute_output_shape([steps.shape, ()])[0])
        return [tf.where(second, real * one, real), tf.where(second, 1.0 / one, 1.0)]

    def compute_output_shape(self, input_shape):
        """[shape of the values, ()]."""
        batch, time, _ = tuple(input_shape[0])
        return [(batch, time, self.units) if self.sequences else (batch, self.units), ()]


def _kept(rate: float, shape, training) -> tf.Tensor:
    """What dropout multiplies with: 1 where nothing trains."""
    if not rate or training is None or training is False:
        return tf.constant(1.0)
    return tf.where(tf.cast(training, tf.bool), tf.nn.dropout(tf.ones(shape), rate), 1.0)
