"""Widths of one layer."""

from __future__ import annotations

import dataclasses

from tfmot_kws.quantizers import check_bits, resolve_grid


@dataclasses.dataclass(frozen=True)
class LayerBits:
    """Widths of one layer and the grid of its weights.

    Attributes:
      bits: weights, 1..8.
      activation_bits: the layer's output, 2..8.
      bias_bits, gain_bits: 2..16; one byte each on the device up to 8.
      grid: "mid-rise", "mid-tread" or "auto" (see ``quantizers.resolve_grid``); stored resolved.
    """

    bits: int = 4
    activation_bits: int = 8
    bias_bits: int = 8
    gain_bits: int = 8
    grid: str = "auto"

    def __post_init__(self):
        check_bits(self.bits, "bits")
        check_bits(self.activation_bits, "activation_bits", 2, 8)
        check_bits(self.bias_bits, "bias_bits", 2, 16)
        check_bits(self.gain_bits, "gain_bits", 2, 16)
        object.__setattr__(self, "grid", resolve_grid(self.grid, self.bits))
