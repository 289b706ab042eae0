# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws inspect``."""

from __future__ import annotations

import pathlib

import rich.console

from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.commands.parts.console import table
from tfmot_kws.frontend import features

_COLUMNS = (
    {"key": "name", "label": "layer", "format": ""},
    {"key": "kind", "label": "type", "format": ""},
    {"key": "shape", "label": "output", "format": ""},
    {"key": "bits", "label": "weight bits", "format": ""},
    {"key": "activation_bits", "label": "activation bits", "format": ""},
    {"key": "parameters", "label": "parameters", "format": ",d"},
)


def run(model: pathlib.Path) -> None:
    """Prints the layers of a .tflite or .keras file, and what its sidecar says where it has one."""
    console = consoles.stdout()
    if model.suffix == ".tflite":
        from tflite_export import inspect as inspect_model

        inspect_model.print_summary(inspect_model.inspect(model.read_bytes()))
    elif model.suffix == ".keras":
        if not model.is_file():
            raise FileNotFoundError(f"{model}: no such file")
        _keras(model, console)
    else:
        raise ValueError(f"{model}: must end in .tflite or .keras")
    if sidecar.path_of(model).is_file():
        about = sidecar.read(model)
        accuracy = about.metrics.get("accuracy")
        measured = f"; accuracy {accuracy:.1%}" if accuracy is not None else ""
        frontend = about.frontend
        console.print(
            f"{about.kind} model of {', '.join(about.task.classes)}; {features.described(frontend)}"
            f"{'' if frontend.pcan else ', without PCAN'}{measured}"
        )


def _keras(path: pathlib.Path, console: rich.console.Console) -> None:
    from tfmot_kws.models import spotters as models
    from tfmot_kws.quantize import activation_costs, apply, model_costs, saving
    from tfmot_kws.quantize.dynamic import layers as dynamic_layers
    from tfmot_kws.training import stages as train

    model = saving.load_model(path)
    dynamic = any(isinstance(layer, dynamic_layers.DynamicKernel) for layer in model.layers)
    if not dynamic and not any(apply.is_quantized(layer) for layer in model.layers):
        console.print(str(models.cost(model)), markup=False)
        return
    rows = []
    for layer in model.layers:
        shape = layer.output_shape
        shape = shape[0] if isinstance(shape, list) else shape
        bits = getattr(layer, "bits", None)
        rows.append(
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "shape": "x".join(str(d) for d in shape[1:] if d is not None),
                "bits": _bits(layer) + _zeros(layer) if hasattr(bits, "grid") and _has_kernel(layer) else None,
                "activation_bits": _activation_bits(layer),
                "parameters": layer.count_params(),
            }
        )
    state = "quantized as it runs" if dynamic else f"stage {train.get_stage(model)}"
    shown = [c for c in _COLUMNS if c["key"] != "activation_bits" or not dynamic]
    console.print(table(f"{path.name}: {state}", shown, rows))
    for costs in (model_costs, activation_costs):
        learned = costs.learning(model)
        if learned and not any(one.learned_width.settled for one in learned):
            console.print("widths are learned still; those shown are what the model computes with now", markup=False)
        if learned:
            console.print(_used(costs, model, {one.name: one.weight_bits for one in learned}), markup=False)


def _used(costs, model, widths: dict[str, int]) -> str:
    """What widths use of their budget."""
    try:
        return costs.costs_of(model).summary(widths)
    except ValueError as error:  # a cost of one's own whose function is not here
        return str(error)


def _has_kernel(layer) -> bool:
    return hasattr(layer, "kernel") or hasattr(layer, "kernel_part")


def _activation_bits(layer) -> str | None:
    """Width of the output, where the layer has a grid for it."""
    grid = getattr(layer, "output_grid", None)
    return None if grid is None else f"{grid.bits}{', learned' if grid.width is not None else ''}"


def _zeros(layer) -> str:
    """Share of zero weights, where they are kept."""
    mask = getattr(layer, "mask", None)
    return "" if mask is None else f", {(layer._levels().numpy() == 0).mean():.0%} zeros"


def _bits(layer) -> str:
    """Width and grid of weights, and of inputs where a layer quantizes them itself."""
    bits = layer.bits
    learned = ", learned" if bits.learned is not None else ""
    if not hasattr(bits, "input_bits"):
        return f"{layer.weight_bits} {layer.weight_grid}{learned}"
    grid = "linear" if bits.weights == "linear" else layer.weight_grid
    return f"{layer.weight_bits} {grid}, inputs {bits.input_bits}{learned}"
