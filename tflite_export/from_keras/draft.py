# SPDX-License-Identifier: Apache-2.0
"""The graph of a model whose numbers do not matter yet: its sizes are those of the file that it will be."""

from __future__ import annotations

from tflite_export import ir
from tflite_export.from_keras import dynamic
from tflite_export.from_keras.integers import Converter
from tfmot_kws.keras import keras


class _Draft(Converter):
    """Remembers which layer each op comes from; ranges of activations need not have been seen."""

    def __init__(self, model):
        super().__init__(model)
        self.sources: dict[str, str] = {}

    def _emit(self, node) -> None:
        first = len(self.ops)
        super()._emit(node)
        self.sources |= {op.output: node.layer.name for op in self.ops[first:]}

    def _grid(self, layer) -> ir.Quantization:
        return ir.Quantization(*layer.output_grid.quantization())

    def _renamed(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        return outputs  # names of tensors stay those that the sources have


class _DynamicDraft(_Draft, dynamic.DynamicConverter):
    """The same of a model of dynamic quantization."""


def graph_of(model: keras.Model) -> tuple[ir.Graph, dict[str, str]]:
    """The graph of a model that ``quantize_apply`` made, in any stage; nothing of the model changes.

    Returns:
      The graph, and the layer that each op comes from, by the op's output.

    Raises:
      ExportError: a layer that has no op; the message names it.
    """
    converter = _DynamicDraft(model) if dynamic.has_dynamic_layers(model) else _Draft(model)
    return converter.run(), converter.sources
