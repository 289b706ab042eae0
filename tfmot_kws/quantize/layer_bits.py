"""Widths of one layer: with fixed ranges of activations (LayerBits), or with dynamic ones (DynamicBits)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmot_kws.keras import keras
from tfmot_kws.quantize import activation_bits
from tfmot_kws.quantize.activation_bits import ActivationBits
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.quantizers import check_bits, resolve_grid


@dataclasses.dataclass(frozen=True)
class LayerBits:
    """Widths of one layer and the grid of its weights.

    Attributes:
      bits: weights, 1..8.
      activation_bits: the layer's output, 2..8, or learned.
      bias_bits, gain_bits: 2..16; one byte each on the device up to 8. None: what the layer needs, see ``kws_scheme``.
      grid: "mid-rise", "mid-tread" or "auto" (see ``quantizers.resolve_grid``); stored resolved.
      keep_zeros: weights that are zero stay zero; needs a mid-tread grid, which "auto" then is.
      learned: what the widths of the model may cost, where the layer learns its width; ``bits`` is where it starts.
    """

    bits: int = 4
    activation_bits: ActivationBits = 8
    bias_bits: int | None = None
    gain_bits: int | None = None
    grid: str = "auto"
    keep_zeros: bool = False
    learned: Budget | None = None

    def __post_init__(self):
        check_bits(self.bits, "bits")
        object.__setattr__(self, "activation_bits", activation_bits.checked(self.activation_bits, "activation_bits"))
        for name in ("bias_bits", "gain_bits"):
            if getattr(self, name) is not None:
                check_bits(getattr(self, name), name, 2, 16)
        object.__setattr__(self, "grid", grid_of(self.grid, self.bits, self.keep_zeros))
        if isinstance(self.learned, Mapping):  # a saved layer's
            object.__setattr__(self, "learned", _loaded(self.learned))


def config_of(bits: LayerBits | DynamicBits, settled: bool) -> dict[str, Any]:
    """Widths as values that a file can hold.

    Args:
      bits: of a layer.
      settled: whether its width is learned no longer, so that nothing asks for costs of one's own any more.

    Raises:
      ValueError: a cost of one's own is computed by a function that could not be found again.
    """
    config = dataclasses.asdict(bits)
    if config.get("learned") is not None:
        own = [[name, _name_of(name, function, settled), limit] for name, function, limit in bits.learned.own]
        config["learned"]["own"] = own
    return config


def _name_of(cost: str, function: Any, settled: bool) -> str | None:
    """The name under which Keras knows a function."""
    if not callable(function):
        return function
    name = keras.saving.get_registered_name(function)
    if keras.saving.get_registered_object(name) is function:
        return name
    if settled:
        return None
    raise ValueError(
        f"a model whose widths are still learned cannot be saved: its budget's {cost!r} is computed by {name!r}, which "
        "would not be found again; put @keras.saving.register_keras_serializable() ahead of that function, or save the "
        "model when its widths stay (after stage 1)"
    )


def _loaded(config: Mapping[str, Any]) -> Budget:
    """A budget from a file; functions that are not registered here stay names, of which costs speak when asked."""
    own = [
        (name, keras.saving.get_registered_object(function) or function if function else function, limit)
        for name, function, limit in config.get("own", ())
    ]
    return Budget(**{**config, "own": own})


def grid_of(grid: str, bits: int, keep_zeros: bool, what: str = "grid", target: str = "any") -> str:
    """The grid of a width, see ``quantizers.resolve_grid``; ValueError where zeros are to be kept and it has none."""
    if not keep_zeros:
        return resolve_grid(grid, bits, what, target)
    if bits == 1:
        raise ValueError(f"{what}: keep_zeros=True needs 2 bits or more; 1 bit has two levels, neither of them zero")
    if resolve_grid(grid, bits, what) == "mid-rise" and grid != "auto":
        raise ValueError(
            f"{what}: keep_zeros=True needs grid='mid-tread' (or 'auto'), found 'mid-rise', without a zero"
        )
    return "mid-tread"


WEIGHTS = ("linear", "tanh")


@dataclasses.dataclass(frozen=True)
class DynamicBits:
    """Widths of one layer whose inputs are quantized by their own range, row by row.

    Attributes:
      bits: weights, 1..8 or 16.
      input_bits: inputs, 2..8, or 16 with weights of 16 bits; None: as many as the weights (at least 2), or 8 where
        ``weights`` is "tanh". Stored resolved.
      weights: "linear" (a grid from a column's least to its largest weight) or "tanh" (trained through tanh with a
        learned gain, 1..8 bits).
      grid: levels of "tanh" weights, see ``quantizers.resolve_grid``; stored resolved. "linear" ones know "auto" only.
      gain_bits, bias_bits: 2..16.
      learned: what the widths of the model may cost, where the layer learns its width; ``bits`` is where it starts.

    Raises:
      ValueError: a width out of its range, or two that no kernel multiplies; the message names what was found.
    """

    bits: int = 8
    input_bits: int | None = None
    weights: str = "linear"
    grid: str = "auto"
    gain_bits: int = 16
    bias_bits: int = 16
    learned: Budget | None = None

    def __post_init__(self):
        if isinstance(self.learned, Mapping):  # a saved layer's
            object.__setattr__(self, "learned", _loaded(self.learned))
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights must be 'linear' or 'tanh', found {self.weights!r}")
        wide = _is_16(self.bits)
        if wide and self.weights == "tanh":
            raise ValueError("bits=16 needs weights='linear', found weights='tanh', which has 1 to 8 bits")
        if not wide:
            check_dynamic_bits(self.bits, "bits")
        if self.input_bits is None:
            least = 8 if self.weights == "tanh" else max(int(self.bits), 2)
            object.__setattr__(self, "input_bits", least)
        if wide != _is_16(self.input_bits):
            raise ValueError(
                f"bits={self.bits!r} and input_bits={self.input_bits!r}: weights of 16 bits go with inputs of 16 bits, "
                "weights of 1 to 8 bits with inputs of 2 to 8"
            )
        if not wide:
            check_bits(self.input_bits, "input_bits", 2, 8)
        check_bits(self.gain_bits, "gain_bits", 2, 16)
        check_bits(self.bias_bits, "bias_bits", 2, 16)
        if self.weights == "tanh":
            object.__setattr__(self, "grid", resolve_grid(self.grid, self.bits))
        elif self.grid != "auto":
            raise ValueError(f"grid={self.grid!r} needs weights='tanh'; linear weights have one grid, 'auto'")


def check_dynamic_bits(bits: int, what: str) -> int:
    """Returns ``bits``; ValueError names ``what`` where it is neither 16 nor a whole number in 1..8."""
    if _is_16(bits):
        return 16
    try:
        return check_bits(bits, what)
    except ValueError:
        raise ValueError(f"{what}: bits must be 16 or a whole number from 1 to 8, found {bits!r}") from None


def _is_16(bits) -> bool:
    return isinstance(bits, (int, np.integer)) and bits == 16
