"""Integer keyword spotters: from a trained model to packed .tflite files, and running them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tflite_export.interpreter import Interpreter

__version__ = "0.1.0"
__all__ = ["Interpreter", "__version__", "convert"]


def convert(model: Any, ops: str = "packed", target: str = "any") -> bytes:
    """A trained Keras model as the bytes of a .tflite file.

    ops: "packed" for our custom ops, smallest in flash and RAM; "builtin" for stock ops only, weights in int8.
    target: "any" packs weights as every kernel reads them, so that one file runs everywhere; "aarch64-i8mm" packs them
    for processors with that extension, "cortex-m4" for Cortex-M4, M7 and M33, and "cortex-a53" one-bit weights for
    64-bit processors without dot products, where it is faster. Files run on other chips too, but slowly.
    Raises ValueError for other ops, and what ``from_keras.to_graph`` says about layers that it does not know.
    """
    if ops not in ("packed", "builtin"):
        raise ValueError(f"ops must be 'packed' or 'builtin', found {ops!r}")
    from tflite_export import from_keras, packing, tflite_writer

    packing.layout_for(target, 8)  # a wrong target says so before the model is looked at

    return tflite_writer.write(from_keras.to_graph(model), ops, target)


def __getattr__(name: str) -> Any:
    """Loads Interpreter when it is first asked for, so that importing the package costs nothing."""
    if name == "Interpreter":
        from tflite_export.interpreter import Interpreter

        return Interpreter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
