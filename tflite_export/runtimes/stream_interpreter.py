"""Runs a streaming .tflite file on frames as they come, in any runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from tflite_export import ir
from tflite_export.runtimes.interpreter import Interpreter, TensorDetails
from tflite_export.streaming import schedule as stream_schedule


class StreamInterpreter:
    """A streaming model, its state and the frames that wait for a whole hop.

    Row i of the output is the clip model's output on frames ``i * hop .. i * hop + receptive - 1`` where no layer pads
    time; layers padded in front (causal) see zeros ahead of the first frame since the reset.

    Args:
        flatbuffer: what ``convert(model, streaming=...)`` gave.
        runtime: as for Interpreter.
        graph: as for Interpreter.
        threads: as for Interpreter.
        schedule: when it takes frames; None for what the file itself says.

    Raises:
        ScheduleError: a ValueError, the file does not stream; and what Interpreter raises.
    """

    def __init__(
        self,
        flatbuffer: bytes,
        runtime: str = "reference",
        graph: ir.Graph | None = None,
        threads: int = 1,
        schedule: stream_schedule.Schedule | None = None,
    ) -> None:
        self._interpreter = Interpreter(flatbuffer, runtime, graph, threads)
        self.schedule = schedule or stream_schedule.from_metadata(self._interpreter.metadata)
        carried = {name for pair in self.schedule.states for name in pair}
        inputs, outputs = self._interpreter.inputs, self._interpreter.outputs
        self.inputs: list[TensorDetails] = [d for d in inputs if d.name not in carried]
        self.outputs: list[TensorDetails] = [d for d in outputs if d.name not in carried]
        self._states = [(_named(inputs, before), _named(outputs, after)) for before, after in self.schedule.states]
        suits = len(self.inputs) == 1 and len(self.outputs) == len(self.schedule.outputs)
        if not suits or self.inputs[0].shape[0] != self.schedule.hop or inputs[0] != self.inputs[0]:
            raise stream_schedule.ScheduleError("the schedule does not suit the file's inputs and outputs")
        self.reset()

    @property
    def runtime(self) -> str:
        """Name of the runtime."""
        return self._interpreter.runtime

    @property
    def hop(self) -> int:
        """Frames from one row of the output to the next (where a step gives one row)."""
        return self.schedule.hop

    @property
    def receptive(self) -> int:
        """Frames that the first row of the output needs."""
        return self.schedule.receptive

    @property
    def frames(self) -> int:
        """Frames since the reset."""
        return self._steps * self.hop - self.schedule.lead + len(self._waiting)

    def reset(self) -> None:
        """Forgets all frames."""
        self._interpreter.reset()
        zeros = (self.schedule.lead, *self.inputs[0].shape[1:])
        # Frames ahead of the first one take part in rows that are dropped, so their value is of no matter.
        self._waiting = np.full(zeros, self.inputs[0].zero_point, self.inputs[0].dtype)
        self._steps = 0
        self._carried = [np.full((1, *before.shape), before.zero_point, before.dtype) for before, _ in self._states]

    def step(self, frames: np.ndarray) -> Any:
        """Takes frames, however many, and returns the rows that they complete.

        Args:
            frames: [n, features...]; int8 (int16 for a model that takes samples) gives int8, any other type is
                quantized with the input's scale and gives float32 real values. A model of dynamic quantization takes
                float32 and gives it.

        Returns:
            [rows, ...], rows 0 or more; a list of such arrays where the model has several outputs.

        Raises:
            ValueError: another shape, or int8 for a model that takes samples.
        """
        frames = np.asarray(frames)
        details = self.inputs[0]
        if frames.shape[1:] != details.shape[1:] or frames.ndim != len(details.shape):
            wanted = ", ".join(map(str, ("frames", *details.shape[1:])))
            raise ValueError(f"input {details.name!r} needs shape [{wanted}], found {list(frames.shape)}")
        exact = details.is_exact(frames)
        new = details.to_tensor(frames)
        waiting = np.concatenate([self._waiting, new])
        whole = len(waiting) // self.hop
        rows: list[list[np.ndarray]] = [[] for _ in self.outputs]
        for i in range(whole):
            made = self._interpreter.invoke([waiting[None, i * self.hop : (i + 1) * self.hop], *self._carried])
            self._take(made, rows)
        # A copy: a view would keep everything that was ever given in one call alive.
        self._waiting = waiting[whole * self.hop :].copy()
        results = [self._joined(parts, d, timing.timed) for parts, d, timing in self._per_output(rows)]
        if not exact:
            results = [d.to_real(r) for r, d in zip(results, self.outputs)]
        return results[0] if len(results) == 1 else results

    def _per_output(self, rows: list[list[np.ndarray]]):
        return zip(rows, self.outputs, self.schedule.outputs)

    def _take(self, made: list[np.ndarray], rows: list[list[np.ndarray]]) -> None:
        names = [d.name for d in self._interpreter.outputs]
        by_name = dict(zip(names, made))
        self._carried = [by_name[after.name] for _, after in self._states]
        for parts, details, timing in self._per_output(rows):
            value = np.array(by_name[details.name])
            value = value.reshape(details.shape) if timing.timed else value.reshape(1, *details.shape)
            early = timing.lag - self._steps * timing.rows  # rows that begin before the first frame
            if early < timing.rows:
                parts.append(value[max(0, early) :])
        self._steps += 1

    def _joined(self, parts: list[np.ndarray], details: TensorDetails, timed: bool) -> np.ndarray:
        shape = details.shape[1:] if timed else details.shape
        return np.concatenate([np.zeros((0, *shape), details.dtype), *parts])


def _named(details: list[TensorDetails], name: str) -> TensorDetails:
    for d in details:
        if d.name == name:
            return d
    raise stream_schedule.ScheduleError(f"the schedule names a tensor {name!r} that is no input or output")
