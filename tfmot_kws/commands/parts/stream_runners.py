# SPDX-License-Identifier: Apache-2.0
"""Models over the features of long recordings, step by step, whatever kind of file they are."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from tfmot_kws.commands.parts.sidecar import Sidecar

_BATCH = 256
_CHUNK = 500


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model says about one recording.

    Attributes:
        values: int8, int16 or float32 [steps, classes]; [steps, 1] where a file gives one probability.
        frames: int64 [steps], how many frames of features were needed for each.
    """

    values: np.ndarray
    frames: np.ndarray


class StreamRunner(Protocol):
    """A model that follows a recording.

    Attributes:
        hop: frames from one output to the next.
        grid: (scale, zero point) of int8 outputs; None for float32 ones.
    """

    hop: int
    grid: tuple[float, int] | None

    def __call__(self, features: np.ndarray) -> Outputs:
        """Outputs for the features of one recording, float32 [frames, mel]; none where it is too short."""
        ...


class SlidingWindows:
    """A model of whole clips, run on a clip that moves on by ``hop`` frames at a time.

    Args:
        function: [windows, frames, mel] -> [windows, classes].
        frames: length of the clips, in frames.
        hop: frames between two of them.
        grid: (scale, zero point) of int8 outputs.
        prepare: what is done to the features, float32 [frames, mel], before they are cut: quantizing, say.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        frames: int,
        hop: int,
        grid: tuple[float, int] | None = None,
        prepare: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ) -> None:
        if hop < 1:
            raise ValueError(f"--hop {hop}: must be 1 frame or more")
        self.hop, self.grid = hop, grid
        self._function, self._frames, self._prepare = function, frames, prepare

    def __call__(self, features: np.ndarray) -> Outputs:
        """See StreamRunner."""
        if len(features) < self._frames:
            return Outputs(self._function(np.zeros((1, self._frames, features.shape[1]), np.float32))[:0], _no_steps())
        prepared = self._prepare(features)
        windows = np.lib.stride_tricks.sliding_window_view(prepared, self._frames, axis=0)[:: self.hop].swapaxes(1, 2)
        parts = []
        for first in range(0, len(windows), _BATCH):
            part = np.ascontiguousarray(windows[first : first + _BATCH])
            # A last batch of another length would make TensorFlow prepare itself anew for every recording.
            short = min(len(windows), _BATCH) - len(part) if first else 0
            part = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
            out = np.asarray(self._function(part))
            parts.append(out[: len(out) - short])
        return Outputs(np.concatenate(parts), self._frames + self.hop * np.arange(len(windows), dtype=np.int64))


class InBlocks:
    """A Keras model that hears all windows of a block of sound at once: ``over_time.Ear``.

    Args:
        ear: the model, and the hop of its windows.
    """

    grid = None

    def __init__(self, ear: Any) -> None:
        self._ear, self.hop = ear, int(ear.hop)

    def __call__(self, features: np.ndarray) -> Outputs:
        """See StreamRunner."""
        frames = self._ear.frames
        if len(features) < frames:
            return Outputs(self._ear.whole(np.zeros((frames, features.shape[1]), np.float32))[:0], _no_steps())
        values = self._ear.whole(features)
        return Outputs(values, frames + self.hop * np.arange(len(values), dtype=np.int64))


class Streaming:
    """A streaming .tflite file, which gets new frames only.

    Args:
        interpreter: ``tflite_export.StreamInterpreter`` or what has its ``hop``, ``receptive``, ``outputs``, ``step``
            and ``reset``: output i is known once ``receptive + i * hop`` frames have been seen.
    """

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self.hop = int(interpreter.hop)
        details = interpreter.outputs[0]
        self.grid = None if details.scale is None else (float(details.scale), int(details.zero_point))
        input_details = interpreter.inputs[0]
        self._input = None if input_details.scale is None else (float(input_details.scale), input_details.zero_point)

    def __call__(self, features: np.ndarray) -> Outputs:
        """See StreamRunner."""
        self._interpreter.reset()
        # int8 frames give int8 outputs; a model with float inputs has float outputs as well.
        feed = features if self._input is None else _quantized(features, *self._input)
        parts = [self._interpreter.step(feed[first : first + _CHUNK]) for first in range(0, max(len(feed), 1), _CHUNK)]
        values = np.concatenate(parts)
        values = values.astype(np.int16) if values.dtype == np.uint8 else values  # as the detector takes them
        return Outputs(values, self._interpreter.receptive + self.hop * np.arange(len(values), dtype=np.int64))


def _no_steps() -> np.ndarray:
    return np.zeros(0, np.int64)


def _quantized(features: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    from tflite_export import ir
    from tflite_export.reference import arithmetic

    return arithmetic.quantize(features, ir.Quantization(scale, zero_point))


def open_runner(model: pathlib.Path, about: Sidecar, runtime: str, hop: int) -> StreamRunner:
    """The runner of a model file.

    Args:
        model: .keras, or .tflite for whole clips or for streams.
        about: its sidecar.
        runtime: of .tflite files, one of ``tflite_export.interpreter.RUNTIMES``.
        hop: frames between two outputs; a streaming file has its own.

    Raises:
        ValueError, RuntimeError, ImportError: the file cannot be run so.
    """
    frames = about.frontend.num_frames(round(about.task.clip_seconds * about.frontend.sample_rate))
    if model.suffix == ".keras":
        import tensorflow as tf

        from tfmot_kws.quantize import saving

        loaded = saving.load_model(model)
        traced = tf.function(lambda x: loaded(x, training=False), autograph=False)
        grid = _output_grid(loaded) if about.kind == "quantized" else None

        def outputs(x: np.ndarray) -> np.ndarray:
            real = traced(tf.convert_to_tensor(x)).numpy()
            return real if grid is None else _quantized(real, *grid)

        return SlidingWindows(outputs, frames, hop, grid)
    import tflite_export
    from tfmot_kws.commands.parts import measure, stream_files

    flatbuffer = model.read_bytes()
    with measure.quiet():
        if stream_files.streams(flatbuffer):
            return Streaming(stream_files.open_stream(flatbuffer, runtime))
        runner = tflite_export.Interpreter(flatbuffer, runtime)
    if len(runner.inputs) != 1 or len(runner.outputs) != 1:
        raise ValueError(
            f"{model}: has {len(runner.inputs)} inputs and {len(runner.outputs)} outputs; needed is one each"
        )
    taken, given = runner.inputs[0], runner.outputs[0]
    if taken.shape != (frames, about.frontend.mel_bins):
        wanted = [frames, about.frontend.mel_bins]
        raise ValueError(f"{model}: its input is {list(taken.shape)}, clips of its sidecar are {wanted}")
    grid = None if given.scale is None else (given.scale, given.zero_point)
    if taken.scale is None:
        return SlidingWindows(runner.run, frames, hop, grid)
    return SlidingWindows(
        lambda x: runner.run(x.astype(taken.dtype, copy=False)),
        frames,
        hop,
        grid,
        taken.to_tensor,
    )


def _output_grid(model: Any) -> tuple[float, int] | None:
    """(scale, zero point) of the int8 outputs that a quantized Keras model has once it is exported; None for floats.

    Its values are multiples of that scale. On any other grid, equal sums of them would differ by rounding, and the
    detector would find thresholds between them that the exported model has not.
    """
    from tflite_export import from_keras

    graph = from_keras.to_graph(model)
    quantization = graph.tensors[graph.outputs[0]].quantization
    return None if quantization is None else (quantization.scale, quantization.zero_point)


def on_one_grid(outputs: list[np.ndarray], grid: tuple[float, int] | None) -> tuple[list[np.ndarray], float, int]:
    """Outputs as whole numbers for the detector, their scale and their zero point.

    int8 outputs stay as they are. float32 ones go to 16 bits, all recordings to the same scale.

    Raises:
        ValueError: values that are not finite.
    """
    if grid is not None:
        return outputs, *grid
    most = max((float(np.abs(values).max(initial=0.0)) for values in outputs), default=0.0)
    if not np.isfinite(most):
        raise ValueError("the model's outputs are not finite")
    scale = most / 32767 if most else 1.0
    return [np.rint(values / scale).astype(np.int16) for values in outputs], scale, 0


def are_posteriors(outputs: list[np.ndarray], scale: float, zero_point: int) -> bool:
    """Whether these are of a softmax: in each step between 0 and 1, and 1 in sum but for rounding."""
    return all(_sum_to_one((values.astype(np.float64) - zero_point) * scale, scale) for values in outputs)


def _sum_to_one(real: np.ndarray, scale: float) -> bool:
    slack = 0.02 + scale * real.shape[1]
    near = np.abs(real.sum(axis=1) - 1.0).max(initial=0.0) <= slack
    return bool(near and real.min(initial=0.0) >= 0.0 and real.max(initial=1.0) <= 1.0 + slack)


def batches(lengths: list[int], most: int) -> Iterator[list[int]]:
    """Indices of recordings that go through the front end together: of like length, ``most`` samples with padding."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and lengths[index] * (len(group) + 1) > most:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
