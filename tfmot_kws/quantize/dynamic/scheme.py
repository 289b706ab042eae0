"""The scheme of dynamic quantization: widths for a whole model, and what TFMOT asks of a scheme."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tfmot_kws.keras import keras, tfmot
from tfmot_kws.quantize import model_costs
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.configs import KwsQuantizeConfig, NothingToWrap
from tfmot_kws.quantize.dynamic import rewrite as dynamic_rewrite
from tfmot_kws.quantize.layer_bits import DynamicBits, check_dynamic_bits

_tfmot = tfmot.quantization.keras
L = keras.layers
HYBRID = "4-8"
_OTHERS = 8
"""Width of layers that no pattern names."""
LEARNED = "learned"
_START = 8
"""Width that learned ones start from."""


class _Layout(_tfmot.QuantizeLayoutTransform):
    """TFMOT's hook for the whole model: puts dynamic layers in the place of float ones."""

    def __init__(self, scheme: DynamicQuantizeScheme):
        self._scheme = scheme

    def apply(self, model, layer_quantize_map):
        """(quantized model, nothing left for TFMOT to wrap)."""
        for name, entry in layer_quantize_map.items():
            config = (entry or {}).get("quantize_config")
            if isinstance(config, KwsQuantizeConfig):
                raise ValueError(
                    f"layer {name!r} is annotated with a KwsQuantizeConfig, which has no widths for a dynamic scheme; "
                    f"annotate it without a config and use dynamic_scheme(bits={{{name!r}: {config.widths.bits}}})"
                )
            if config is not None:
                raise ValueError(
                    f"layer {name!r} is annotated with {type(config).__name__}, which a dynamic_scheme cannot export; "
                    "annotate it without a config"
                )
        return self._scheme.rewrite(model, layer_quantize_map), {}


@dataclasses.dataclass(frozen=True)
class DynamicQuantizeScheme(_tfmot.QuantizeScheme):
    """Widths for a whole model; made by ``dynamic_scheme``; one instance serves any number of models.

    Attributes:
      bits: one width, "learned", "4-8", or (pattern, width) pairs, of which the first that matches counts.
      weights, input_bits, grid, gain_bits, bias_bits: see ``DynamicBits``.
      budget: what learned widths may cost, and what RAM the model may take.
    """

    bits: int | str | tuple[tuple[str, int | str], ...] = 8
    weights: str = "linear"
    input_bits: int | None = None
    grid: str = "auto"
    gain_bits: int = 16
    bias_bits: int = 16
    budget: Budget | None = None

    def __post_init__(self):
        if self.bits == HYBRID:
            widths = {"4": 4, "8": 8}
        elif isinstance(self.bits, tuple):
            widths = {f"bits[{pattern!r}]": bits for pattern, bits in self.bits}
        else:
            widths = {"dynamic_scheme": self.bits}
        self._check_budget(LEARNED in widths.values())
        for what, bits in widths.items():
            if bits != LEARNED:
                check_dynamic_bits(bits, what)
            self.widths(bits)

    def _check_budget(self, learned: bool) -> None:
        allowed = self.budget
        if learned:
            if not isinstance(allowed, Budget) or not allowed.limits_weights:
                raise ValueError(
                    "dynamic_scheme: bits='learned' needs budget=Budget(...) that limits weights: flash, average_bits, "
                    f"instructions or a cost of your own; found {allowed!r}"
                )
            if self.grid != "auto":
                raise ValueError(f"dynamic_scheme: bits='learned' goes with grid='auto', found grid={self.grid!r}")
        elif allowed is not None and allowed.limits_weights:
            raise ValueError(f"dynamic_scheme: budget={allowed} goes with bits='learned', found bits={self.bits!r}")
        if allowed is not None and allowed.average_activation_bits is not None:
            raise ValueError(
                "dynamic_scheme: Budget(average_activation_bits=...) goes with kws_scheme; here activations are floats"
            )

    def widths(self, bits: int | str) -> DynamicBits:
        """A layer's widths for weights of that many bits; ValueError where they do not go together."""
        rest = (self.weights, self.grid, self.gain_bits, self.bias_bits)
        if bits == LEARNED:
            return DynamicBits(_START, self.input_bits, *rest, self.budget)
        return DynamicBits(bits, self.input_bits, *rest)

    def bits_of(self, model: keras.Model, names: Iterable[str]) -> Callable[[L.Layer], DynamicBits]:
        """Widths of the layers of one model.

        Args:
          model: a functional or built sequential float model.
          names: of the layers that may be quantized.

        Raises:
          ValueError: "4-8" and fewer than two low-rank pairs, or a pattern that matches no layer.
        """
        names = set(names)
        if self.bits == HYBRID:
            pairs = low_rank_pairs(model, names)
            if len(pairs) < 2:
                raise ValueError(
                    f"bits={HYBRID!r} needs a model of two or more low-rank pairs (a thin linear layer without bias, "
                    f"and a wider layer that alone reads it), found {pairs}; tfmot_kws.factorize makes pairs, "
                    "bits={name: width} names layers"
                )
            thin = {first for first, _ in pairs[1:]}
            return lambda layer: self.widths(4 if layer.name in thin else _OTHERS)
        if not isinstance(self.bits, tuple):
            return lambda layer: self.widths(self.bits)
        replaced = [v.name for v in model.layers if v.name in names and dynamic_rewrite.is_replaced(v)]
        for pattern, _ in self.bits:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in replaced):
                raise ValueError(
                    f"bits: {pattern!r} matches no layer that is quantized; there are {', '.join(replaced)}"
                )
        first = lambda name: next((bits for p, bits in self.bits if fnmatch.fnmatchcase(name, p)), _OTHERS)  # noqa: E731
        return lambda layer: self.widths(first(layer.name))

    def rewrite_plain(self, model: keras.Model) -> keras.Model:
        """The quantized form of a model without annotations."""
        return self.rewrite(model, [layer.name for layer in model.layers])

    def rewrite(self, model: keras.Model, names: Iterable[str]) -> keras.Model:
        """The quantized model; layers not in ``names`` stay in float.

        Raises:
          ValueError: there is no layer to quantize, and as ``bits_of``.
        """
        names = set(names)
        if not any(v.name in names and dynamic_rewrite.is_replaced(v) for v in model.layers):
            kinds = ", ".join(c.__name__ for c in dynamic_rewrite.REPLACED)
            raise ValueError(f"model {model.name!r} has no layer that a dynamic_scheme quantizes ({kinds})")
        return self.checked(dynamic_rewrite.rewrite(model, names, self.bits_of(model, names)))

    def checked(self, quantized: keras.Model) -> keras.Model:
        """The model; ValueError where it cannot meet the budget."""
        if self.budget is not None:
            if self.budget.limits_weights:
                model_costs.costs_of(quantized)
            model_costs.check_fixed(quantized, self.budget)
        return quantized

    def get_layout_transformer(self):
        """For TFMOT."""
        return _Layout(self)

    def get_quantize_registry(self):
        """For TFMOT."""
        return NothingToWrap()


def dynamic_scheme(
    bits: int | str | Mapping[str, int | str] = 8,
    weights: str = "linear",
    input_bits: int | None = None,
    grid: str = "auto",
    gain_bits: int = 16,
    bias_bits: int = 16,
    budget: Budget | None = None,
) -> DynamicQuantizeScheme:
    """The dynamic quantization of Mishchenko et al. 2019, for ``quantize_apply``.

    Weights by the range of their column, inputs by the range of every single row while the model runs: nothing is
    tracked or calibrated, and there are no stages. The model gives quantized values at once, and training it goes on
    from there. Dense layers, convolutions and the pointwise half of separable ones are quantized, together with the
    batch normalization and the activation (ReLU, ReLU6, sigmoid, tanh) that follow; everything else stays in float.

    Args:
      bits: width of weights: 1..8 or 16; "4-8", the paper's hybrid for a model of low-rank pairs (4 bits for the first
        layer of every pair but the first one, 8 for all else); or widths by layer name or pattern (``"linear_*"``), of
        which the first that matches counts, ``"*"`` last; layers without one have 8. "learned", for all layers or in
        the place of a width, lets layers learn their own, from 8 down, so that together they meet ``budget``: train
        with ``WidthSchedule``.
      weights: "linear", or "tanh": trained through tanh with a learned gain, as in ``kws_scheme`` (1..8 bits).
      input_bits: 2..8, or 16 with weights of 16 bits; None: as many as the weights (at least 2), 8 with "tanh".
      grid: levels of "tanh" weights, see ``kws_scheme``.
      gain_bits: 2..16.
      bias_bits: 2..16.
      budget: what learned widths may cost, and what RAM the model may take.

    Raises:
      ValueError: an option is out of its range or does not go with another; the message names it.
    """
    if isinstance(bits, str) and bits not in (HYBRID, LEARNED):
        raise ValueError(
            f"bits must be a number, {HYBRID!r}, {LEARNED!r} or a mapping of layer names to numbers, found {bits!r}"
        )
    if isinstance(bits, Mapping):
        if not bits:
            raise ValueError("bits: the mapping of layer names to numbers is empty")
        bits = tuple(sorted(bits.items(), key=lambda entry: entry[0] == "*"))  # a stable sort: "*" goes last
    return DynamicQuantizeScheme(bits, weights, input_bits, grid, gain_bits, bias_bits, budget)


def low_rank_pairs(model: keras.Model, names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of layers that stand for one dense layer, from the input on.

    The first is linear, without bias, and read by the second alone, which has more outputs.

    Args:
      model: a functional or built sequential float model.
      names: of the layers that count.

    Returns:
      Names (first, second).
    """
    names = set(names)
    nodes = [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]
    calls = Counter(id(node.layer) for node in nodes)
    outputs = {id(t) for t in model.outputs}
    readers: dict[int, list] = {}
    for node in nodes:
        for tensor in node.keras_inputs:
            readers.setdefault(id(tensor), []).append(node)

    def counts(layer) -> bool:
        return (
            layer.name in names
            and dynamic_rewrite.is_replaced(layer)
            and not isinstance(layer, dynamic_rewrite.SEPARABLE)
            and calls[id(layer)] == 1
        )

    pairs = []
    for node in nodes:
        reading = readers.get(id(node.outputs), [])
        if not counts(node.layer) or len(reading) != 1 or not counts(reading[0].layer) or id(node.outputs) in outputs:
            continue
        first, second = node.layer, reading[0].layer
        plain = not first.use_bias and first.activation is keras.activations.linear
        if plain and first.kernel.shape[-1] < second.kernel.shape[-1]:
            pairs.append((first.name, second.name))
    return pairs
