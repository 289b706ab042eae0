"""A trained quantized Keras model -> ``ir.Graph``. All of this package that knows TensorFlow is in this folder.

Which converter serves a model is decided here: ``integers`` those of ``kws_scheme``, ``dynamic`` those of
``dynamic_scheme``.
"""

from __future__ import annotations

from tflite_export import ir
from tflite_export.from_keras import dynamic
from tflite_export.from_keras.integers import Converter, ExportError
from tfmot_kws.keras import keras
from tfmot_kws.quantize import activation_costs, apply, model_costs
from tfmot_kws.training import stages

__all__ = ["ExportError", "to_graph"]


def to_graph(model: keras.Model) -> ir.Graph:
    """The graph of a model that ``quantize_apply`` made, in stage 2 if it has stages.

    Raises:
      ExportError: the model is not quantized, is in stage 1, holds a float layer, has no fixed input shape, or a layer
        has seen no data.
    """
    if not isinstance(model, keras.Model):
        raise ExportError(
            f"convert needs a quantized tf_keras model, found {type(model).__module__}.{type(model).__name__}"
        )
    inner = next((layer for layer in model.layers if isinstance(layer, keras.Model)), None)
    if inner is not None and apply.is_quantized_model(inner):
        raise ExportError(
            f"model {model.name!r} holds model {inner.name!r}: export that one by itself, convert(model.get_layer("
            f"{inner.name!r})); what stands around it does not run on the device"
        )
    if dynamic.has_dynamic_layers(model):
        _check_settled(model)
        return dynamic.DynamicConverter(model).run()
    try:
        stage = stages.get_stage(model)
    except ValueError as error:
        raise ExportError(f"{error}, then train the model and convert it") from error
    if stage != 2:
        raise ExportError(
            f"model {model.name!r} is in stage 1: train it with TwoStageSchedule, or enter stage 2 by "
            "tfmot_kws.calibrate(model, features), so that what is exported is what was evaluated; EarlyStopping and "
            "checkpoints of the best model may go back to stage 1, see TwoStageSchedule"
        )
    _check_settled(model)
    return Converter(model).run()


def _check_settled(model: keras.Model) -> None:
    """ExportError where widths are learned still: nothing was measured with those that they would come to."""
    moving = [one.name for one in activation_costs.learning(model) if not one.learned_width.settled]
    what, way = "activations", "train to the end of fit, or set_stage(model, 2) makes them whole"
    if dynamic.has_dynamic_layers(model):
        moving = [layer.name for layer in model_costs.learning(model) if not layer.learned_width.settled]
        what, way = "weights", "train with tfmot_kws.WidthSchedule, which makes them whole"
    if moving:
        raise ExportError(
            f"model {model.name!r}: {what} of layers {', '.join(map(repr, moving[:3]))} still learn their widths: {way}"
        )
