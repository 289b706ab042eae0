"""The classes that saved models of this package consist of, by name, and Keras's knowledge of them.

Importing this module imports no TensorFlow: Keras can know the names before anything of ours is loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

_HOMES = {
    "frontend.waveform": ("SincConv", "WaveformConv"),
    "models.time_layers": (
        "TimeWindow", "CausalConv1D", "CausalDepthwiseConv1D", "TimeAveragePooling1D", "TimeMaxPooling1D",
    ),
    "quantize.layers": ("QuantizedAffine", "QuantizedDense", "QuantizedConv", "QuantizedDepthwise"),
    "quantize.ops": (
        "QuantizeInput", "Dequantize", "QuantizedFunction", "QuantizedSoftmax", "QuantizedMerge",
        "QuantizedConcatenate", "QuantizedAveragePool",
    ),
    "quantize.elementwise": ("QuantizedScale", "QuantizedChannelAffine", "QuantizedExtreme"),
    "quantize.recurrent": ("QuantizedRecurrent", "GateKernel"),
    "quantize.waveform": ("QuantizeSamples", "QuantizedWaveform"),
    "quantize.plain.layers": (
        "Scale", "ChannelAffine", "Function", "SliceAxis", "PadAxes", "Penalty", "TrainingOnly",
    ),
    "quantize.dynamic.layers": ("DynamicDense", "DynamicConv"),
    "quantize.configs": ("KwsQuantizeConfig",),
    "quantize.quantizers": ("TanhWeightQuantizer", "LinearQuantizer"),
}  # fmt: skip
"""Modules of this package, and those of their classes that a saved model names."""


def custom_objects() -> dict[str, type]:
    """Classes that ``keras.models.load_model`` needs for a saved model of this package."""
    return {
        name: getattr(importlib.import_module(f"tfmot_kws.{home}"), name)
        for home, names in _HOMES.items()
        for name in names
    }


def make_known_to(keras: Any) -> None:
    """Tells ``keras`` the package's classes for the rest of the process, without importing them.

    What it is told stands for a class until a saved model names it: Keras's own ``load_model``, ``copy.deepcopy``,
    ``pickle`` and ``clone_model`` then take models of this package without a scope.
    """
    known = keras.utils.get_custom_objects()
    for name in (name for names in _HOMES.values() for name in names):
        known.setdefault(name, type(name, (_Loaded,), {}))  # a user's class of that name stays


def make_known_when_imported() -> None:
    """Does so at once where tf_keras is imported already, as soon as it is where it will be, never where it is not."""
    if importlib.util.find_spec("tf_keras") is None:
        return
    import wrapt  # TensorFlow brings it: a device without TensorFlow has none

    wrapt.register_post_import_hook(make_known_to, "tf_keras")


class _Loaded:
    """Stands for the class of its name."""

    @classmethod
    def from_config(cls, config: dict) -> Any:
        """That of the class."""
        return custom_objects()[cls.__name__].from_config(config)
