"""Integer keyword spotters: from a trained model to packed .tflite files, and running them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tflite_export.version import VERSION

if TYPE_CHECKING:
    from tflite_export.ir import Graph
    from tflite_export.runtimes.interpreter import Interpreter
    from tflite_export.runtimes.stream_interpreter import StreamInterpreter

__version__ = VERSION
__all__ = ["Interpreter", "StreamInterpreter", "__version__", "convert", "write"]


def convert(
    model: Any,
    ops: str = "packed",
    target: str = "any",
    streaming: str | None = None,
    rows: bool = False,
    prefer: str = "size",
) -> bytes:
    """A trained Keras model as the bytes of a .tflite file.

    Args:
        model: from ``tfmot_kws.quantize_apply``: in stage 2 (``kws_scheme``), or of a ``dynamic_scheme``.
        ops: "packed" for our custom ops, smallest in flash and RAM; "builtin" for stock ops only, weights in int8.
        target: "any" packs weights as every kernel reads them, so that one file runs everywhere; "aarch64-i8mm" packs
            them for processors with that extension, "cortex-m4" for Cortex-M4, M7 and M33, and "cortex-a53" one-bit
            weights for 64-bit processors without dot products, where it is faster. Files run on other chips too, but
            slowly.
        streaming: None for a model of whole clips; "internal" for one that takes the new frames of a stream and keeps
            what it needs of those before; "external" for one whose state goes in and out as further tensors. The
            integers are those of the clip model. StreamInterpreter runs such files; docs/streaming.md has the rules.
        rows: leaves out the mean over time that a model ends in, so that a stream gives each row at once.
        prefer: "size" stores weights in as many bits as they were trained at. "speed" stores 3 bits in 4, and 5, 6 and
            7 in 8: more flash, fewer instructions, the same outputs bit for bit. For packed ops.

    Returns:
        The file.

    Raises:
        ValueError: other ops, targets, kinds of streaming or preferences; "speed" with stock ops.
        tflite_export.from_keras.ExportError: a layer that is not quantized or not known; the message names it.
        tflite_export.streaming.graph.StreamError: a model that cannot stream.

    Warns:
        tflite_export.streaming.graph.StreamWarning: layers look ahead (padding="same"), so that the stream waits.
    """
    if streaming not in (None, "internal", "external"):
        raise ValueError(f"streaming must be None, 'internal' or 'external', found {streaming!r}")
    _check(ops, target, prefer)  # a wrong choice says so before the model is looked at
    try:
        from tflite_export import from_keras
    except ImportError as error:
        raise ImportError(f"convert takes a Keras model: pip install 'tfmot-kws[train]' ({error})") from error
    from tflite_export.streaming import graph as streams

    graph = from_keras.to_graph(model)
    if rows:
        graph = streams.without_mean(graph)
    if streaming is None:
        return write(graph, ops, target, prefer=prefer)
    stream = streams.to_stream(graph)
    if streaming == "external":
        stream = streams.externalize(stream)
    return write(stream.graph, ops, target, stream.schedule.to_metadata(), prefer)


def write(
    graph: Graph,
    ops: str = "packed",
    target: str = "any",
    metadata: Mapping[str, bytes] | None = None,
    prefer: str = "size",
) -> bytes:
    """A graph as the bytes of a .tflite file; the same graph makes the same bytes.

    Args:
        graph: from ``tflite_export.from_keras.to_graph``, or one of your own.
        ops: as for ``convert``.
        target: as for ``convert``; stock ops have one form for all targets.
        metadata: entries that the file carries, by name.
        prefer: as for ``convert``.

    Returns:
        The file.

    Raises:
        ValueError: other ops, targets or preferences; "speed" with stock ops.
        tflite_export.packed.writer.WriteError: a graph cannot be written so; the message names the op.
        tflite_export.ir.GraphError: a graph that contradicts itself.
    """
    _check(ops, target, prefer)
    if ops == "builtin":
        from tflite_export.builtin import writer as builtin_writer

        return builtin_writer.write(graph, metadata=metadata)
    from tflite_export.packed import stored_widths
    from tflite_export.packed import writer as packed_writer

    if prefer == "speed":
        graph = stored_widths.for_speed(graph)
    return packed_writer.write(graph, target, metadata)


def _check(ops: str, target: str, prefer: str) -> None:
    if ops not in ("packed", "builtin"):
        raise ValueError(f"ops must be 'packed' or 'builtin', found {ops!r}")
    from tflite_export.packed import packing, stored_widths

    packing.layout_for(target, 8)
    stored_widths.check(prefer, ops)


def __getattr__(name: str) -> Any:
    """Loads the interpreters when they are first asked for, so that importing the package costs nothing."""
    if name == "Interpreter":
        from tflite_export.runtimes.interpreter import Interpreter

        return Interpreter
    if name == "StreamInterpreter":
        from tflite_export.runtimes.stream_interpreter import StreamInterpreter

        return StreamInterpreter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
