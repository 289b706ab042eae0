"""Optional parts of an installation: which extra brings a package that is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util

EXTRAS = {
    "tensorflow": "train",
    "tf_keras": "train",
    "tensorflow_model_optimization": "train",
    "matplotlib": "train",
    "jinja2": "train",
    "pooch": "train",
    "requests": "train",
    "ai_edge_litert": "runtime",
    "tflite_micro": "tflm",
    "sounddevice": "microphone",
    "espeakng_loader": "synthetic",
}
"""Package as it is imported -> extra of tfmot-kws."""
_KERAS = ("tensorflow", "tf_keras", "tensorflow_model_optimization")


def require(package: str, what: str) -> None:
    """ImportError that says what to install where ``package`` is missing, before work is spent on ``what``."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{what} needs {package}: {install(package)}")


def install(package: str) -> str:
    """The command that brings a package of :data:`EXTRAS`.

    Where TensorFlow is there already, it asks for the tf_keras that goes with it: pip would otherwise take the newest
    tf_keras, and with it another TensorFlow.
    """
    extra = EXTRAS[package]
    if package in _KERAS:
        try:
            major, minor = importlib.metadata.version("tensorflow").split(".")[:2]
            return f"pip install 'tfmot-kws[{extra},tf{major}{minor}]', which leaves this TensorFlow as it is"
        except importlib.metadata.PackageNotFoundError:
            pass
    return f"pip install 'tfmot-kws[{extra}]'"


def explained(error: ImportError) -> ImportError:
    """The error itself, or one that says what to install where a package of :data:`EXTRAS` is missing."""
    package = (error.name or "").split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package not in EXTRAS:
        return error
    what = "training, quantizing and Keras models need it; " if package in _KERAS else ""
    return ImportError(f"{package} is not installed; {what}{install(package)}", name=package)
