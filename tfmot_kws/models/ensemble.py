# SPDX-License-Identifier: Apache-2.0
"""Several models as one."""

from __future__ import annotations

from collections.abc import Sequence

from tfmot_kws.keras import keras


def mean_of(models: Sequence[keras.Model], name: str = "mean_of_models") -> keras.Model:
    """One model whose outputs are the means of those of several, each with its own weights.

    Models that were trained from other seeds err at other moments; their mean mostly errs less often than one of them
    (Hansen and Salamon 1990, "Neural network ensembles"). It costs what all of them cost. Quantize, train, export and
    stream it like any other.

    Args:
      models: float, of one input and one output each, of the same shapes; they are copied.
      name: of the model.

    Raises:
      ValueError: there are none, a model has several inputs or outputs, or their shapes differ.
    """
    if not models:
        raise ValueError("mean_of: no models given")
    for number, model in enumerate(models):
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(
                f"mean_of: model {number} ({model.name!r}) has {len(model.inputs)} inputs and {len(model.outputs)} "
                "outputs; expected one of each"
            )
        shapes = [(tuple(one.input_shape[1:]), tuple(one.output_shape[1:])) for one in (models[0], model)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"mean_of: model {number} ({model.name!r}) takes {list(shapes[1][0])} and gives {list(shapes[1][1])}, "
                f"model 0 takes {list(shapes[0][0])} and gives {list(shapes[0][1])}: must be the same"
            )
    inputs = keras.Input(models[0].input_shape[1:], name="features")
    outputs = []
    for number, model in enumerate(models, 1):
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        # A name of its own, or Keras refuses models of one kind.
        outputs.append(keras.Model(copy.inputs, copy.outputs, name=f"{model.name}_{number}")(inputs))
    mean = keras.layers.Average(name="mean")(outputs) if len(outputs) > 1 else outputs[0]
    return keras.Model(inputs, mean, name=name)
