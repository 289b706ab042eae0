"""Where the activations of a graph lie in one array, so that those needed at the same time do not overlap."""

from __future__ import annotations

import dataclasses

from tflite_export import ir

ALIGNMENT = 16


@dataclasses.dataclass(frozen=True)
class Plan:
    """Offsets by tensor name and the size of the whole array, in bytes; ``aliases`` share another tensor's place."""

    offsets: dict[str, int]
    size: int
    aliases: dict[str, str]


def plan(graph: ir.Graph) -> Plan:
    """Greedy by size, the rule of TFLite's planners: large tensors first, each at the lowest place that is free.

    A reshaped tensor shares the place of its source.
    """
    aliases: dict[str, str] = {}
    for op in graph.ops:
        if isinstance(op, ir.Reshape):
            aliases[op.output] = aliases.get(op.input, op.input)
    first, last = {name: -1 for name in graph.inputs}, {}
    for number, op in enumerate(graph.ops):
        for name in ir.op_inputs(op):
            last[aliases.get(name, name)] = number
        home = aliases.get(op.output, op.output)
        first.setdefault(home, number)
        last[home] = max(last.get(home, number), number)
    for name in (*graph.inputs, *graph.outputs):
        home = aliases.get(name, name)
        last[home] = max(last.get(home, -1), len(graph.ops) if name in graph.outputs else -1)
    sizes = {name: -(-graph.tensors[name].bytes // ALIGNMENT) * ALIGNMENT for name in first}
    offsets: dict[str, int] = {}
    for name in sorted(first, key=lambda n: (-sizes[n], first[n])):
        together = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in offsets
            if first[other] <= last[name] and first[name] <= last[other]
        )
        place = 0
        for begin, end in together:
            if place + sizes[name] <= begin:
                break
            place = max(place, end)
        offsets[name] = place
    size = max(offsets[name] + sizes[name] for name in offsets)
    return Plan(offsets | {name: offsets[home] for name, home in aliases.items()}, size, aliases)
