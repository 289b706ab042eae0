"""Which widths a layer gets, as a TensorFlow Model Optimization QuantizeConfig."""

from __future__ import annotations

import dataclasses

from tfmot_kws.keras import tfmot
from tfmot_kws.quantize.layer_bits import LayerBits
from tfmot_kws.quantize.quantizers import LinearQuantizer, TanhWeightQuantizer

_quantizers = tfmot.quantization.keras.quantizers


class KwsQuantizeConfig(tfmot.quantization.keras.QuantizeConfig):
    """Widths of one layer, for ``tfmot.quantization.keras.quantize_annotate_layer(layer, KwsQuantizeConfig(bits=2))``.

    Under a ``kws_scheme`` it overrides the scheme's widths for that layer. Under another scheme it fulfils TFMOT's own
    contract: the kernel through tanh with a learned gain, the bias linear, the output by a moving average.

    Args:
      bits: of the weights, 1..8.
      activation_bits: of the output, 2..8.
      bias_bits: 2..16, or None as for ``kws_scheme``; under another scheme None is 8.
      gain_bits: 2..16, or None as for ``kws_scheme``.
      grid: levels of the weights, as for ``kws_scheme``.
      keep_zeros: as for ``kws_scheme``, under which alone it counts.
    """

    def __init__(
        self,
        bits: int = 4,
        activation_bits: int = 8,
        bias_bits: int | None = None,
        gain_bits: int | None = None,
        grid: str = "auto",
        keep_zeros: bool = False,
    ):
        self.widths = LayerBits(bits, activation_bits, bias_bits, gain_bits, grid, keep_zeros)

    def get_config(self):
        """Constructor arguments."""
        config = dataclasses.asdict(self.widths)
        del config["learned"]  # of the scheme alone: a budget is the whole model's
        return config

    def __eq__(self, other):
        return isinstance(other, KwsQuantizeConfig) and self.widths == other.widths

    def __hash__(self):
        return hash(self.widths)

    def get_weights_and_quantizers(self, layer):
        """The kernel and the bias, where the layer has them."""
        pairs = []
        name = _kernel_name(layer)
        if name:
            pairs.append((getattr(layer, name), TanhWeightQuantizer(self.widths.bits, self.widths.grid)))
        if getattr(layer, "bias", None) is not None:
            pairs.append((layer.bias, LinearQuantizer(self.widths.bias_bits or 8)))
        return pairs

    def set_quantize_weights(self, layer, quantize_weights):
        """Puts the quantized kernel and bias in the place of the layer's own for one call."""
        weights = list(quantize_weights)
        name = _kernel_name(layer)
        if name:
            setattr(layer, name, weights.pop(0))
        if weights:
            layer.bias = weights.pop(0)

    def get_activations_and_quantizers(self, layer):
        """None: the output is quantized after the activation."""
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        """Nothing to set."""

    def get_output_quantizers(self, layer):
        """One linear quantizer."""
        return [
            _quantizers.MovingAverageQuantizer(
                num_bits=self.widths.activation_bits, per_axis=False, symmetric=False, narrow_range=False
            )
        ]


def _kernel_name(layer) -> str | None:
    for name in ("depthwise_kernel", "kernel"):
        if getattr(layer, name, None) is not None:
            return name
    return None


class NothingToWrap(tfmot.quantization.keras.QuantizeRegistry):
    """TFMOT's question "how do I wrap this layer?": not at all, the layout has put in quantized layers already.

    TFMOT asks for float layers too where an annotated layer reads them; those stay as they are.
    """

    def supports(self, layer):
        """False."""
        return False

    def get_quantize_config(self, layer):
        """None."""
        return None
