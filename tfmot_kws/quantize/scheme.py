"""The two-stage scheme: widths for a whole model, and what TFMOT asks of a scheme."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping

from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize import activation_costs, model_costs, quantizers, rewrite
from tfmot_kws.quantize.activation_bits import LearnedActivations
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.configs import KwsQuantizeConfig, NothingToWrap
from tfmot_kws.quantize.layer_bits import LayerBits, grid_of

_tfmot = tfmot.quantization.keras
_LEARN = (
    keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D, keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.RNN,
)  # fmt: skip
"""And their subclasses: layers that can learn their width."""
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


class _Layout(_tfmot.QuantizeLayoutTransform):
    """TFMOT's hook for the whole model: puts quantized layers in the place of float ones."""

    def __init__(self, scheme: KwsQuantizeScheme):
        self._scheme = scheme

    def apply(self, model, layer_quantize_map):
        """(quantized model, nothing left for TFMOT to wrap)."""
        configs = {name: (entry or {}).get("quantize_config") for name, entry in layer_quantize_map.items()}

        def bits_of(layer, depthwise=False):
            config = configs.get(layer.name)
            if config is None:
                return self._scheme.bits_of(layer, depthwise)
            if not isinstance(config, KwsQuantizeConfig):
                raise ValueError(
                    f"layer {layer.name!r} is annotated with {type(config).__name__}, which a kws_scheme cannot "
                    "export; annotate it with tfmot_kws.KwsQuantizeConfig or without a config"
                )
            return config.widths

        self._scheme.check_names([layer.name for layer in model.layers])
        return self._scheme.checked(rewrite.rewrite(model, set(configs), bits_of)), {}


@dataclasses.dataclass(frozen=True)
class KwsQuantizeScheme(_tfmot.QuantizeScheme):
    """Widths for a whole model; made by ``kws_scheme``; one instance serves any number of models."""

    default: LayerBits
    layer_bits: tuple[tuple[str, int], ...] = ()
    depthwise_bits: int = 8
    grid: str = "auto"
    target: str = "any"
    budget: Budget | None = None

    def bits_of(self, layer: keras.layers.Layer, depthwise: bool = False) -> LayerBits:
        """The layer's widths; the first matching entry of ``layer_bits`` counts."""
        for pattern, bits in self.layer_bits:
            if fnmatch.fnmatchcase(layer.name, pattern):
                return dataclasses.replace(self.default, bits=bits, grid=self._grid(bits, self.grid), learned=None)
        if self.default.learned is not None and not isinstance(layer, _LEARN):
            return dataclasses.replace(self.default, learned=None)
        if depthwise or isinstance(layer, _DEPTHWISE):
            bits = self.depthwise_bits
            return dataclasses.replace(self.default, bits=bits, grid=self._grid(bits, "auto"))
        return self.default

    def _grid(self, bits: int, grid: str) -> str:
        """Of a layer whose width is not the default one."""
        return grid_of(grid, bits, self.default.keep_zeros, target=self.target)

    def check_names(self, names: list[str]) -> None:
        """ValueError where an entry of ``layer_bits`` matches no layer."""
        for pattern, _ in self.layer_bits:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"layer_bits: {pattern!r} matches no layer; the model has {', '.join(names)}")

    def rewrite_plain(self, model: keras.Model) -> keras.Model:
        """The quantized form of a model without annotations.

        Raises:
          UnsupportedLayerError: it names all layers that cannot be quantized.
        """
        names = [layer.name for layer in model.layers]
        self.check_names(names)
        return self.checked(rewrite.rewrite(model, set(names), self.bits_of))

    def checked(self, quantized: keras.Model) -> keras.Model:
        """The model; ValueError where it cannot meet the budget."""
        if self.default.learned is not None:
            model_costs.costs_of(quantized)
        if isinstance(self.default.activation_bits, LearnedActivations):
            activation_costs.costs_of(quantized)
        if self.budget is not None:
            model_costs.check_fixed(quantized, self.budget)
        return quantized

    def get_layout_transformer(self):
        """For TFMOT."""
        return _Layout(self)

    def get_quantize_registry(self):
        """For TFMOT."""
        return NothingToWrap()


def kws_scheme(
    bits: int | str = 4,
    layer_bits: Mapping[str, int] | None = None,
    activation_bits: int | str = 8,
    bias_bits: int | None = None,
    gain_bits: int | None = None,
    grid: str = "auto",
    depthwise_bits: int = 8,
    keep_zeros: bool = False,
    budget: Budget | None = None,
    target: str = "any",
) -> KwsQuantizeScheme:
    """The two-stage scheme of Zeng et al. 2022 (arXiv 2207.06920).

    Args:
      bits: width of dense and convolution weights, 1..8. "learned": each layer learns its own in stage 1, from 8 down,
        so that together they meet ``budget``; they are whole numbers, and stay, before stage 2 begins.
      layer_bits: other widths by layer name or pattern (``"dense_*"``); the first match counts. Such widths are not
        learned, but what they cost counts.
      activation_bits: inputs and activations, 2..8. "learned": each activation learns its own at the start of stage 2,
        in which activations are quantized, from 8 down, so that all have the mean ``budget.average_activation_bits``.
        Inputs and the states of recurrent layers keep 8. A device stores a byte whatever the width.
      bias_bits: 2..16. None: 8 in layers with a kernel, for which the fast kernels of the device are made, and 16 where
        8 would be coarser than 16 steps of the output (features far from zero); 16 in a batch normalization of its own.
      gain_bits: 2..16. None: 8, and 16 in a batch normalization of its own.
      grid: weight levels: "mid-rise" (2^bits odd levels, no zero), "mid-tread" (2^bits - 1 levels with a zero) or
        "auto" (mid-rise up to 7 bits, mid-tread at 8, which fits int8).
      depthwise_bits: width of depthwise kernels not named in ``layer_bits``.
      keep_zeros: weights that are zero in the float model, of a pruned one say, stay zero in both stages; in a layer of
        zeros alone, a new head say, they learn. The grid is then mid-tread, at 2 bits and more. It saves no byte of the
        packed weights; a compressed file gets smaller.
      budget: what learned widths may cost, and what RAM the model may take.
      target: what the model is for. "any": packed weights, where a width takes its bits whatever the levels. "ethos-u":
        Arm's NPU, whose compiler compresses weights (``tflite_export.npu``); "auto" is then mid-tread from 6 bits on,
        which compresses better for a step that is hardly wider (docs/how-to/npu.md).

    Raises:
      ValueError: an option is out of its range, or two do not go together; the message names it.
    """
    if target not in quantizers.MOST_RISE:
        raise ValueError(f"kws_scheme: target must be {' or '.join(map(repr, quantizers.MOST_RISE))}, found {target!r}")
    if bits == "learned" and target != "any":
        raise ValueError(
            f"kws_scheme: bits='learned' goes with target='any', found {target!r}: widths are learned on the grids of "
            "'any', and what they cost is counted in packed bits"
        )
    activations = _learned_activations(activation_bits, budget)
    learned = bits == "learned"
    _check_budget(bits, activation_bits, budget)
    if learned and (grid != "auto" or keep_zeros):
        raise ValueError("kws_scheme: bits='learned' goes with grid='auto' and keep_zeros=False only")
    bits = quantizers.check_bits(8 if learned else bits, "kws_scheme")
    widths = (
        bits,
        activations,
        bias_bits,
        gain_bits,
        grid_of(grid, bits, keep_zeros, "kws_scheme", target),
        keep_zeros,
    )
    default = LayerBits(*widths, budget if learned else None)
    entries = tuple((layer_bits or {}).items())
    for name, width in entries:
        what = f"layer_bits[{name!r}]"
        grid_of(grid, quantizers.check_bits(width, what), keep_zeros, what, target)
    depthwise = quantizers.check_bits(depthwise_bits, "depthwise_bits")
    return KwsQuantizeScheme(default, entries, depthwise, grid, target, budget)


def _learned_activations(bits: int | str, budget: Budget | None) -> int | LearnedActivations:
    if bits != "learned":
        return bits
    average = budget.average_activation_bits if isinstance(budget, Budget) else None
    if average is None:
        raise ValueError(
            "kws_scheme: activation_bits='learned' needs budget=Budget(average_activation_bits=...), found "
            f"budget={budget!r}"
        )
    return LearnedActivations(float(average))


def _check_budget(bits: int | str, activation_bits: int | str, budget: Budget | None) -> None:
    """Each limit belongs to something that is learned; the one of RAM to all."""
    if bits == "learned":
        if not isinstance(budget, Budget):
            raise ValueError(f"kws_scheme: bits='learned' needs budget=Budget(...), found {budget!r}")
        if not budget.limits_weights:
            raise ValueError(
                "kws_scheme: bits='learned' needs a budget that limits weights: flash, average_bits, instructions or a "
                "cost of your own"
            )
    elif budget is not None and budget.limits_weights:
        raise ValueError(f"kws_scheme: budget={budget} goes with bits='learned', found bits={bits!r}")
    if budget is not None and budget.average_activation_bits is not None and activation_bits != "learned":
        raise ValueError(
            f"kws_scheme: budget={budget} goes with activation_bits='learned', found activation_bits="
            f"{activation_bits!r}"
        )
