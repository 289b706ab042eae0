# SPDX-License-Identifier: Apache-2.0
"""What the networks of a space cost: the tables of ``quantize.costs``, one entry for each choice of a block."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tfmot_kws.models.networks import BlockSpec, NetworkConfig, squeezed
from tfmot_kws.quantize.budget import Budget
from tfmot_kws.quantize.costs import Layer
from tfmot_kws.search.space import Path, Space, Task

_BITS = 8
"""Of the layers that no decision is about: the last one, and filters over samples."""
RAM = "ram"


@dataclasses.dataclass(frozen=True)
class Where:
    """What a block hears.

    Attributes:
      inputs: channels.
      rows: of a clip, or of a step of a stream.
      bands: of a row.
    """

    inputs: int
    rows: int
    bands: int

    def behind(self, block: BlockSpec, streaming: bool) -> Where:
        """What the next block hears."""
        rows = self.rows // block.stride if streaming else -(-self.rows // block.stride)
        return Where(block.outputs, rows, -(-self.bands // block.band_stride))


def layers_of_block(block: BlockSpec, where: Where, network: NetworkConfig, streaming: bool, name: str) -> list[Layer]:
    """The layers with weights of a block, as ``quantize.costs`` knows them."""
    after, bits = where.behind(block, streaming), block.bits or _BITS
    taps = block.kernel * (network.band_kernel if network.over != "time" else 1)
    places, hidden = after.rows * after.bands, block.hidden(where.inputs)
    if block.kind == "dense":
        found = [Layer(f"{name}_conv", block.outputs, taps * where.inputs, bits=bits, places=places)]
    else:
        found = [
            Layer(f"{name}_depthwise", hidden, taps, "depthwise", bits, places),
            Layer(f"{name}_project", block.outputs, hidden, bits=bits, places=places),
        ]
        if block.kind == "bottleneck":
            expand = Layer(f"{name}_expand", hidden, where.inputs, bits=bits, places=where.rows * where.bands)
            found.insert(0, expand)
    if block.squeeze:
        found += [
            Layer(f"{name}_squeeze_1", squeezed(hidden), hidden, bits=bits, places=after.rows),
            Layer(f"{name}_squeeze_2", hidden, squeezed(hidden), bits=bits, places=after.rows),
        ]
    return found


def memory_of_block(block: BlockSpec, where: Where, network: NetworkConfig, streaming: bool) -> tuple[int, int]:
    """Bytes that a stream keeps for a block, and bytes that it works on: an estimate, by which a search is steered."""
    after, hidden = where.behind(block, streaming), block.hidden(where.inputs)
    inside = where.inputs if block.kind == "dense" else hidden
    read, written = where.rows * where.bands * where.inputs, after.rows * after.bands * block.outputs
    middle = 0 if block.kind == "dense" else where.rows * where.bands * hidden
    kept = 0
    if streaming:
        kept = max(0, block.kernel - block.stride) * where.bands * inside
        if block.squeeze:
            kept += (network.squeeze_frames - 1) * after.bands * hidden
    worked = max(read + middle, middle + written) + (read if block.adds(where.inputs) else 0)
    if block.squeeze:
        worked += 2 * after.rows * after.bands * hidden
    return kept, worked


def layers_of(network: NetworkConfig, streaming: bool = False) -> list[Layer]:
    """All layers with weights of a network, first to last; of filters over samples the whole clip's."""
    found, where = [], first_of(network, streaming)
    if network.sinc is not None:
        sinc = network.sinc
        found.append(Layer("sinc", sinc.filters, sinc.taps, "waveform", _BITS, where.rows * sinc.average))
    for number, block in enumerate(network.blocks, 1):
        found += layers_of_block(block, where, network, streaming, f"block_{number}")
        where = where.behind(block, streaming)
    return [*found, Layer("logits", network.num_classes, where.inputs, bits=_BITS, places=where.rows)]


def first_of(network: NetworkConfig, streaming: bool) -> Where:
    """What the first block hears."""
    rows = math.prod(block.stride for block in network.blocks) if streaming else network.frames
    flat = network.over == "time"
    return Where(network.bands if flat else 1, rows, 1 if flat else network.bands)


@dataclasses.dataclass(frozen=True)
class _Table:
    """Costs [options of each decision, ...] of one part of a network."""

    decisions: tuple[int, ...]
    costs: np.ndarray

    def of(self, path: Sequence[int]) -> float:
        return float(self.costs[tuple(path[decision] for decision in self.decisions)])


class CostTables:
    """The costs of all networks of a space that a budget limits.

    Args:
      space: of networks.
      task: what they are for.
      budget: what they may cost; instructions do not count filters over samples, which no choice changes.

    Attributes:
      limits: by name of a cost; "ram" is an estimate here, and asked of the exported graph at last.

    Raises:
      ValueError: a limit that is none of a network as such, or no network of the space meets it.
    """

    def __init__(self, space: Space, task: Task, budget: Budget) -> None:
        if budget.average_bits is not None or budget.average_activation_bits is not None:
            raise ValueError("budget: mean widths belong to one network, whose widths are learned; limit flash instead")
        self.space, self.task, self.budget = space, task, budget
        self.limits = {name: float(limit) for name, limit in (budget.limits([]) | budget.fixed_limits).items()}
        self._functions = {name: functools.cache(budget.function(name)) for name in self.limits if name != RAM}
        self._fixed = dict.fromkeys(self._functions, 0.0)
        self._tables: dict[str, list[_Table]] = {name: [] for name in self._functions}
        self._kept: list[_Table] = []
        self._worked: list[_Table] = []
        self._build()
        self._check()

    def _of(self, layers: Sequence[Layer], name: str) -> float:
        function, skipped = self._functions[name], name == "instructions"
        return sum(function(layer, layer.bits) for layer in layers if not (skipped and layer.kind == "waveform"))

    def _network(self, path: Path) -> NetworkConfig:
        return self.space.network(path, self.task)

    def _last(self, path: Path) -> list[Layer]:
        return layers_of(self._network(path), self.budget.streaming)[-1:]

    def _build(self) -> None:
        space, streaming = self.space, self.budget.streaming
        smallest = list(space.smallest())
        network = self._network(space.smallest())
        if self.task.sinc is not None:
            filters = layers_of(network, streaming)[:1]
            for name in self._functions:
                self._fixed[name] += self._of(filters, name)
        for number, place in enumerate(space.places):
            decisions = tuple(dict.fromkeys((*self._widths(place), *space.of_block(number))))
            shape = tuple(len(space.decisions[d].options) for d in decisions)
            found = {name: np.zeros(shape) for name in self._functions}
            kept, worked = np.zeros(shape), np.zeros(shape)
            for choices in itertools.product(*map(range, shape)):
                path = list(smallest)
                for decision, choice in zip(decisions, choices):
                    path[decision] = choice
                if space.is_identity(number, path[space.of_block(number)[0]]):
                    continue
                block, where = self._at(path, number, network)
                layers = layers_of_block(block, where, network, streaming, "block")
                for name in self._functions:
                    found[name][choices] = self._of(layers, name)
                kept[choices], worked[choices] = memory_of_block(block, where, network, streaming)
            for name in self._functions:
                self._tables[name].append(_Table(decisions, found[name]))
            self._kept.append(_Table(decisions, kept))
            self._worked.append(_Table(decisions, worked))
        last = len(space.stages) - 1
        for name in self._functions:
            costs = []
            for choice in range(len(space.decisions[last].options)):
                path = list(smallest)
                path[last] = choice
                costs.append(self._of(self._last(tuple(path)), name))
            self._tables[name].append(_Table((last,), np.array(costs)))

    def _widths(self, place: tuple[int, int]) -> tuple[int, ...]:
        """The decisions about the widths that a block hears and gives."""
        stage, number = place
        return (stage - 1, stage) if number == 0 and stage else (stage,)

    def _at(self, path: Sequence[int], number: int, network: NetworkConfig) -> tuple[BlockSpec, Where]:
        """A block of a path, and what it hears, whatever is left out ahead of it."""
        space, streaming = self.space, self.budget.streaming
        stage, first = space.places[number][0], space.places[number][1] == 0
        where = first_of(network, streaming)
        for before in space.stages[: stage + (not first)]:
            where = where.behind(BlockSpec("dense", 1, 1, before.stride, before.band_stride), streaming)
        if stage or not first:
            ahead = stage if not first else stage - 1
            where = dataclasses.replace(where, inputs=space.stages[ahead].widths[path[ahead]])
        full = list(space.smallest())
        for index in (*range(len(space.stages)), *space.of_block(number)):
            full[index] = path[index]
        blocks = self._network(tuple(full)).blocks
        block = blocks[stage if first else stage + 1]  # the smallest path has one block in every stage
        bits = space.bits[path[space.of_block(number)[3]]]
        return dataclasses.replace(block, bits=bits), where

    def of(self, path: Path) -> dict[str, float]:
        """Each cost of a path by name."""
        found = {name: self._fixed[name] + sum(t.of(path) for t in tables) for name, tables in self._tables.items()}
        if RAM in self.limits:
            found[RAM] = sum(t.of(path) for t in self._kept) + max(t.of(path) for t in self._worked)
        return {name: found[name] for name in self.limits}

    def fullest(self, path: Path) -> float:
        """The largest share of a limit; above 1 the budget is not met."""
        return max(value / self.limits[name] for name, value in self.of(path).items())

    def expected(self, probabilities: Sequence) -> Iterator[tuple[str, object]]:
        """(name, share of its limit that is used in the mean) where each decision is drawn by itself.

        Args:
          probabilities: of each decision, float32 [options]; tensors, whose gradients pass.
        """
        import tensorflow as tf

        def mean(table: _Table):
            found = tf.constant(table.costs, tf.float32)
            for decision in reversed(table.decisions):
                found = tf.tensordot(found, probabilities[decision], 1)
            return found

        for name, tables in self._tables.items():
            yield name, (self._fixed[name] + tf.add_n([mean(table) for table in tables])) / self.limits[name]
        if RAM in self.limits:
            kept = tf.add_n([mean(table) for table in self._kept])
            yield RAM, (kept + tf.reduce_max([mean(table) for table in self._worked])) / self.limits[RAM]

    def fitted(self, path: Path, likelihood: Sequence[np.ndarray] | None = None) -> Path:
        """The path, with cheaper options where it does not meet the budget: those that cost least likelihood for what
        they save.

        Args:
          path: of a network.
          likelihood: of each decision, the logarithms of the probabilities of its options; None takes all as likely.
        """
        path = list(path)
        while self.fullest(tuple(path)) > 1.0:
            before, changes = self.fullest(tuple(path)), []
            for decision, options in enumerate(d.options for d in self.space.decisions):
                for choice in range(len(options)):
                    if choice == path[decision]:
                        continue
                    saved = before - self.fullest((*path[:decision], choice, *path[decision + 1 :]))
                    if saved > 1e-9:
                        lost = 1.0
                        if likelihood is not None:
                            lost += max(0.0, float(likelihood[decision][path[decision]] - likelihood[decision][choice]))
                        changes.append((saved / lost, decision, choice))
            if not changes:  # no single change helps
                return self.cheapest()
            _, decision, choice = max(changes)
            path[decision] = choice
        return tuple(path)

    def cheapest(self) -> Path:
        """A path that no change of one decision makes use less of its fullest limit."""
        path = list(self.space.smallest())
        while True:
            tried = [
                (self.fullest((*path[:decision], choice, *path[decision + 1 :])), decision, choice)
                for decision, found in enumerate(self.space.decisions)
                for choice in range(len(found.options))
            ]
            least, decision, choice = min(tried)
            if least >= self.fullest(tuple(path)) - 1e-12:
                return tuple(path)
            path[decision] = choice

    def _check(self) -> None:
        least = self.of(self.cheapest())
        for name, limit in self.limits.items():
            if least[name] > limit:
                raise ValueError(
                    f"budget: {self.budget} is met by no network of the space: the least {name} found is "
                    f"{least[name]:,.0f}, allowed are {limit:,.0f}; allow more, or give narrower stages"
                )

    def said(self, path: Path) -> Mapping[str, str]:
        """Each cost of a path in words, with the share of its limit."""
        return {name: f"{value:,.0f} ({value / self.limits[name]:.0%})" for name, value in self.of(path).items()}
