"""Which Keras ``tf.keras`` is. TensorFlow Model Optimization works with tf_keras, which is Keras 2; TensorFlow itself
takes Keras 3, unless ``TF_USE_LEGACY_KERAS`` says otherwise when ``tf.keras`` is first used.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
import warnings

SWITCH = "TF_USE_LEGACY_KERAS"
TOO_LATE = (
    "tf.keras is Keras 3 in this program, because it was used before tfmot_kws was imported; quantize_apply rebuilds "
    "models made with it as tf_keras models, which tf.keras' own callbacks, optimizers and losses do not train. "
    f"Import tfmot_kws first, or set {SWITCH}=1 before Python starts, or build models with "
    "`from tfmot_kws.keras import keras`."
)


def prefer() -> None:
    """Makes ``tf.keras`` tf_keras where that is installed and not yet decided; warns where it is Keras 3 already.

    TensorFlow is not imported for this.
    """
    if importlib.util.find_spec("tf_keras") is None:
        return
    os.environ.setdefault(SWITCH, "1")
    keras = vars(sys.modules.get("tensorflow", types.ModuleType(""))).get("keras")
    # Before its first use it is a loader, a subclass of ModuleType that would load at any question.
    if type(keras) is types.ModuleType and keras.__name__.split(".")[0] == "keras":
        warnings.warn(TOO_LATE, UserWarning, stacklevel=3)
