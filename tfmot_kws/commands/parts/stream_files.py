# SPDX-License-Identifier: Apache-2.0
"""Streaming files of both kinds: ours, which say when they take frames, and those of ESPHome's ``micro_wake_word``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tflite_export import StreamInterpreter


def streams(flatbuffer: bytes) -> bool:
    """Whether a file takes the new frames of a stream.

    Raises:
        ValueError: a damaged file.
    """
    from tflite_export.flatbuffer import reader
    from tflite_export.streaming import schedule

    return schedule.METADATA in reader.parse(flatbuffer).metadata or _stride(flatbuffer) is not None


def open_stream(flatbuffer: bytes, runtime: str) -> StreamInterpreter:
    """An interpreter of a streaming file.

    microWakeWord's own models get the integers that ESPHome gives them, whatever scale they state.

    Raises:
        ValueError, ImportError, RuntimeError: as ``tflite_export.StreamInterpreter``.
    """
    import tflite_export
    from tflite_export.builtin import micro_wake_word
    from tflite_export.streaming import micro_wake_word as stream_micro_wake_word

    stride = _stride(flatbuffer)
    if stride is None:
        return tflite_export.StreamInterpreter(flatbuffer, runtime)
    schedule = stream_micro_wake_word.schedule_of(stride)
    made = tflite_export.StreamInterpreter(flatbuffer, runtime, schedule=schedule)
    grid = micro_wake_word.FEATURES
    made.inputs[0] = dataclasses.replace(made.inputs[0], scale=grid.scale, zero_point=grid.zero_point)
    return made


def _stride(flatbuffer: bytes) -> int | None:
    """Frames of a step of a file as ``micro_wake_word`` runs it that says nothing of itself; None for all others."""
    from tflite_export.builtin import micro_wake_word
    from tflite_export.flatbuffer import reader
    from tflite_export.streaming import schedule

    model = reader.parse(flatbuffer)
    if schedule.METADATA in model.metadata:
        return None
    try:
        micro_wake_word.check(flatbuffer)
    except micro_wake_word.MicroWakeWordError:
        return None
    return model.tensors[model.inputs[0]].shape[1]
