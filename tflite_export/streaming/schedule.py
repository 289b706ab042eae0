"""When a streaming model takes frames and gives rows: what a caller of its .tflite file must know.

It is kept in the file as JSON, in the metadata entry ``tfmot_kws_stream``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

METADATA = "tfmot_kws_stream"
_MOST = 1 << 40


class ScheduleError(ValueError):
    """A file without a schedule, or with a damaged one."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a step gives of a tensor.

    rows: new rows of a step. lag: after step j (from 0) the newest row is ``(j + 1) * rows - 1 - lag``; rows below 0
    are of no use. timed: whether the first axis is time; else the tensor has one value a step.
    """

    rows: int
    lag: int
    timed: bool = True


@dataclasses.dataclass(frozen=True)
class Clip:
    """The clip model that the stream was made of: frames, multiply-accumulates, bytes of arena."""

    frames: int
    macs: int
    arena: int


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Of a model that is run once for every ``hop`` frames.

    lead: frames ahead of the first one that fill up the first step (their values never reach an output); the first
    step takes ``hop - lead`` frames. outputs: rows of each output. states: (input, output) tensors that a caller
    carries from step to step, first real zeros; empty where the model keeps its state. clip: to compare with.
    ahead: frames that the outputs wait for because a layer looks ahead (padding="same"); 0 where none does.
    """

    hop: int
    lead: int
    outputs: tuple[Rows, ...]
    clip: Clip
    states: tuple[tuple[str, str], ...] = ()
    ahead: int = 0

    @property
    def receptive(self) -> int:
        """Frames of a stream until the first row of the first output is there."""
        first = self.outputs[0]
        return (first.lag // first.rows + 1) * self.hop - self.lead

    def to_metadata(self) -> dict[str, bytes]:
        """The entry for a file."""
        return {METADATA: json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()}


def from_metadata(metadata: Mapping[str, bytes]) -> Schedule:
    """The schedule of a file; raises ScheduleError where there is none or it is damaged."""
    if METADATA not in metadata:
        raise ScheduleError(
            'the file has no stream: export it with convert(model, streaming="internal") or streaming="external"'
        )
    try:
        found = json.loads(metadata[METADATA])
        outputs = tuple(Rows(_number(v["rows"], 1), _number(v["lag"], 0), bool(v["timed"])) for v in found["outputs"])
        states = tuple((str(before), str(after)) for before, after in found["states"])
        hop = _number(found["hop"], 1)
        lead = _number(found["lead"], 0)
        ahead = _number(found.get("ahead", 0), 0)
        clip = Clip(*(_number(found["clip"][name], 0) for name in ("frames", "macs", "arena")))
    except (ValueError, KeyError, TypeError) as error:
        raise ScheduleError(f"metadata {METADATA!r} is damaged: {error!r}") from error
    if lead >= hop or not outputs:
        raise ScheduleError(f"metadata {METADATA!r} is damaged: hop {hop}, lead {lead}, {len(outputs)} outputs")
    return Schedule(hop, lead, outputs, clip, states, ahead)


def _number(value: object, least: int) -> int:
    if not isinstance(value, int) or not least <= value < _MOST:
        raise ValueError(f"number {value!r} out of {least}..{_MOST - 1}")
    return value
