# SPDX-License-Identifier: Apache-2.0
"""A space of networks as a value: what a search may choose, and the network of a choice."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmot_kws.models.networks import KINDS, OVER, BlockSpec, NetworkConfig, from_table, read_table
from tfmot_kws.models.spotters import SincSpec

IDENTITY = "identity"
Path = tuple[int, ...]
"""Of every decision of a space, which option was chosen."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What every network of a search has in common.

    Attributes:
      num_classes: logits.
      frames: of a clip.
      mel_bins: features of a frame; with ``sinc`` samples of a row.
      sinc: filters over samples; None where frames are features.
    """

    num_classes: int
    frames: int
    mel_bins: int
    sinc: SincSpec | None = None

    @property
    def bands(self) -> int:
        """Features of a frame, whatever they are made of."""
        return self.mel_bins if self.sinc is None else self.sinc.filters


@dataclasses.dataclass(frozen=True)
class StageSpace:
    """Blocks of one width; the first may have strides, all others may be left out.

    Attributes:
      blocks: how many there are at most.
      widths: channels of all blocks of the stage.
      stride, band_stride: of its first block.
      kinds: kinds of blocks, of ``models.networks.KINDS``.
      kernels: frames of a convolution.
      expansions: of bottlenecks.
      squeeze: with, without, or both.

    Raises:
      ValueError: a value is out of its range; the message names it.
    """

    blocks: int
    widths: tuple[int, ...]
    stride: int = 1
    band_stride: int = 1
    kinds: tuple[str, ...] = KINDS
    kernels: tuple[int, ...] = (3, 5, 7, 9)
    expansions: tuple[int, ...] = (2, 4)
    squeeze: tuple[bool, ...] = (False, True)

    def __post_init__(self) -> None:
        for name in ("blocks", "stride", "band_stride"):
            if not _is_count(getattr(self, name)):
                raise ValueError(f"StageSpace.{name}={getattr(self, name)!r}: must be a whole number of at least 1")
        for name in ("widths", "kernels", "expansions"):
            object.__setattr__(self, name, _options(f"StageSpace.{name}", getattr(self, name), _is_count))
        object.__setattr__(self, "kinds", _options("StageSpace.kinds", self.kinds, KINDS.__contains__))
        is_bool = functools.partial(lambda kind, value: isinstance(value, kind), bool)
        object.__setattr__(self, "squeeze", _options("StageSpace.squeeze", self.squeeze, is_bool))

    @property
    def operations(self) -> tuple[tuple[str, int], ...]:
        """(kind, expansion) of what a block can be."""
        plain = [(kind, 1) for kind in self.kinds if kind != "bottleneck"]
        return (*plain, *((("bottleneck", e) for e in self.expansions) if "bottleneck" in self.kinds else ()))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _options(name: str, values: Any, good) -> tuple:
    values = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    wrong = [value for value in values if not good(value)]
    if not values or wrong or len(set(values)) < len(values):
        found = f"found {wrong[0]!r}" if wrong else "found one twice" if values else "found none"
        raise ValueError(f"{name}={values!r}: must be one or several options, each once and in its range; {found}")
    return values


@dataclasses.dataclass(frozen=True)
class Decision:
    """One choice of a search.

    Attributes:
      name: such as "block_3/kernel".
      options: what it may be.
    """

    name: str
    options: tuple


@dataclasses.dataclass(frozen=True)
class Space:
    """All networks that a search may find.

    Attributes:
      stages: first to last; the first is the stem.
      over: "time" (bands are channels) or "time and band".
      band_kernel: bands of each convolution, over (time, band); odd.
      squeeze_frames: rows whose mean a squeeze takes.
      bits: widths of the weights of a block. One: a search of structure, whose costs are those of that width. Several:
        each block's width is searched with it.

    Raises:
      ValueError: a value is out of its range, or options do not go together; the message names it.
    """

    stages: tuple[StageSpace, ...]
    over: str = "time"
    band_kernel: int = 3
    squeeze_frames: int = 8
    bits: tuple[int, ...] = (8,)

    def __post_init__(self) -> None:
        if not self.stages or not all(isinstance(stage, StageSpace) for stage in self.stages):
            raise ValueError("Space.stages: needs at least one StageSpace")
        object.__setattr__(self, "stages", tuple(self.stages))
        good = range(1, 9)
        object.__setattr__(self, "bits", _options("Space.bits", self.bits, lambda b: _is_count(b) and b in good))
        if self.over not in OVER:
            raise ValueError(f"Space.over={self.over!r}: must be one of {', '.join(OVER)}")
        for name in ("band_kernel", "squeeze_frames"):
            if not _is_count(getattr(self, name)):
                raise ValueError(f"Space.{name}={getattr(self, name)!r}: must be a whole number of at least 1")
        for decision, options in enumerate(d.options for d in self.decisions):
            for choice in range(len(options)):  # refuses what no network can have
                path = list(self.smallest())
                path[decision] = choice
                self.network(path, Task(1, 1, 1))

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """(stage, number in it) of each block."""
        return tuple((s, b) for s, stage in enumerate(self.stages) for b in range(stage.blocks))

    def operations(self, place: tuple[int, int]) -> tuple[tuple[str, int], ...]:
        """(kind, expansion) of what the block of a place can be; ``IDENTITY`` is none at all."""
        stage, number = place
        found = self.stages[stage].operations
        return ((IDENTITY, 1), *found) if number else found

    @functools.cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """All choices: the widths of the stages first, then four of each block."""
        found = [Decision(f"stage_{s}/width", stage.widths) for s, stage in enumerate(self.stages, 1)]
        for number, place in enumerate(self.places, 1):
            stage = self.stages[place[0]]
            found += [
                Decision(f"block_{number}/operation", self.operations(place)),
                Decision(f"block_{number}/kernel", stage.kernels),
                Decision(f"block_{number}/squeeze", stage.squeeze),
                Decision(f"block_{number}/bits", self.bits),
            ]
        return tuple(found)

    def of_block(self, number: int) -> tuple[int, int, int, int]:
        """Which decisions are the operation, kernel, squeeze and bits of a block, counted from 0."""
        first = len(self.stages) + 4 * number
        return first, first + 1, first + 2, first + 3

    def check(self, path: Sequence[int]) -> Path:
        """The path as a tuple of ints.

        Raises:
          ValueError: it has another length, or names an option that there is not.
        """
        if len(path) != len(self.decisions):
            raise ValueError(f"path: has {len(path)} choices, the space {len(self.decisions)} decisions")
        for choice, decision in zip(path, self.decisions):
            if not 0 <= int(choice) < len(decision.options):
                raise ValueError(f"path: {decision.name} has {len(decision.options)} options, found number {choice}")
        return tuple(int(choice) for choice in path)

    def canonical(self, path: Sequence[int]) -> Path:
        """The path that all paths of the same network share: blocks left out come last in their stage, as 0."""
        path = list(self.check(path))
        for stage in range(len(self.stages)):
            numbers = [number for number, place in enumerate(self.places) if place[0] == stage]
            chosen = [[path[i] for i in self.of_block(number)] for number in numbers]
            kept = [c for c, number in zip(chosen, numbers) if not self.is_identity(number, c[0])]
            for number, choices in zip(numbers, kept + [[0] * 4] * (len(numbers) - len(kept))):
                for i, choice in zip(self.of_block(number), choices):
                    path[i] = choice
        return tuple(path)

    def is_identity(self, number: int, operation: int) -> bool:
        """Whether that operation leaves a block out, counted from 0."""
        return self.operations(self.places[number])[operation][0] == IDENTITY

    def network(self, path: Sequence[int], task: Task) -> NetworkConfig:
        """The network of a path."""
        path, blocks = self.check(path), []
        for number, place in enumerate(self.places):
            stage = self.stages[place[0]]
            operation, kernel, squeeze, bits = (path[i] for i in self.of_block(number))
            kind, expansion = self.operations(place)[operation]
            if kind == IDENTITY:
                continue
            first = place[1] == 0
            blocks.append(
                BlockSpec(
                    kind, stage.widths[path[place[0]]], stage.kernels[kernel], stage.stride if first else 1,
                    stage.band_stride if first else 1, expansion, stage.squeeze[squeeze],
                    self.bits[bits] if len(self.bits) > 1 else None,
                )
            )  # fmt: skip
        return NetworkConfig(
            task.num_classes, task.frames, task.mel_bins, tuple(blocks), self.over, self.band_kernel,
            self.squeeze_frames, task.sinc,
        )  # fmt: skip

    def smallest(self) -> Path:
        """The path of the first options."""
        return (0,) * len(self.decisions)

    def random(self, generator: np.random.Generator) -> Path:
        """A path, each option of a decision as likely as any other."""
        return tuple(int(generator.integers(len(decision.options))) for decision in self.decisions)

    @property
    def count(self) -> int:
        """How many different networks there are."""
        total = 1
        for stage in self.stages:
            options = len(stage.operations) * len(stage.kernels) * len(stage.squeeze) * len(self.bits)
            total *= len(stage.widths) * sum(options**blocks for blocks in range(1, stage.blocks + 1))
        return total

    def to_json(self) -> str:
        """Readable text, the same for equal spaces."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Space:
        """What ``to_json`` wrote, or a person.

        Raises:
          ValueError: it is no such description; the message says what is wrong.
        """
        return from_table(cls, read_table(text, "space", "stages", StageSpace), "space")
