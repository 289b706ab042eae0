"""Keras 3 models rebuilt as tf_keras models, weights and all."""

from __future__ import annotations

import sys
from typing import Any

from tfmot_kws.keras import keras


def is_model(model: Any) -> bool:
    """Whether it is a model of Keras 3; Keras 3 is not imported for the question."""
    module = sys.modules.get("keras")
    return (
        module is not None
        and hasattr(module, "Model")
        and isinstance(model, module.Model)
        and (not isinstance(model, keras.Model))
    )


def rebuilt(model: Any) -> keras.Model:
    raise TypeError("later")
