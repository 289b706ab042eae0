# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws inspect``."""

from __future__ import annotations

import pathlib

import rich.console

from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.commands.parts.console import table

_COLUMNS = (
    {"key": "name", "label": "layer", "format": ""},
    {"key": "kind", "label": "type", "format": ""},
    {"key": "shape", "label": "output", "format": ""},
    {"key": "bits", "label": "weight bits", "format": ""},
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
            f"{about.kind} model of {', '.join(about.task.classes)}; {frontend.backend} front end, "
            f"{frontend.mel_bins} mel bands, {frontend.window_ms}/{frontend.hop_ms} ms at {frontend.sample_rate} Hz"
            f"{'' if frontend.pcan else ', without PCAN'}{measured}"
        )


def _keras(path: pathlib.Path, console: rich.console.Console) -> None:
    from tfmot_kws.models import spotters as models
    from tfmot_kws.quantize import apply, saving
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
                "bits": _bits(layer) + _zeros(layer) if hasattr(bits, "grid") and hasattr(layer, "kernel") else None,
                "parameters": layer.count_params(),
            }
        )
    state = "quantized as it runs" if dynamic else f"stage {train.get_stage(model)}"
    console.print(table(f"{path.name}: {state}", _COLUMNS, rows))


def _zeros(layer) -> str:
    """Share of zero weights, where they are kept."""
    mask = getattr(layer, "mask", None)
    return "" if mask is None else f", {(layer._levels().numpy() == 0).mean():.0%} zeros"


def _bits(layer) -> str:
    """Width and grid of weights, and of inputs where a layer quantizes them itself."""
    bits = layer.bits
    if not hasattr(bits, "input_bits"):
        return f"{layer.weight_bits} {layer.weight_grid}" + (", learned" if bits.learned is not None else "")
    grid = "linear" if bits.weights == "linear" else bits.grid
    return f"{bits.bits} {grid}, inputs {bits.input_bits}"
