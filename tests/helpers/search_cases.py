"""Small spaces, examples for them, and the weights that a network shares with the supernet."""

from __future__ import annotations

import numpy as np

from tfmot_kws.data.feature_set import FeatureSet, LoadReport
from tfmot_kws.keras import keras
from tfmot_kws.models.spotters import SincSpec
from tfmot_kws.search.space import Path, Space, StageSpace, Task
from tfmot_kws.search.supernet import Supernet

TASK = Task(3, 20, 8)
SOUND = Task(3, 6, 64, SincSpec(8, 80, 2))


def small(over: str = "time", bits: tuple[int, ...] = (8,)) -> Space:
    """Every kind of decision, and little of each."""
    flat = over == "time"
    return Space(
        (
            StageSpace(1, (4, 8), 2, kinds=("dense",), kernels=(3,), squeeze=(False,)),
            StageSpace(2, (8, 12), 1, kernels=(3, 5), expansions=(2, 3)),
            StageSpace(1, (8, 16), 2, 1 if flat else 2, kinds=("separable", "dense"), kernels=(5, 3)),
        ),
        over=over,
        squeeze_frames=4,
        bits=bits,
    )


def tiny(bits: tuple[int, ...] = (8,)) -> Space:
    """As little as a search can choose from: quick to trace."""
    stages = (
        StageSpace(1, (4, 8), 2, kinds=("dense",), kernels=(3,), squeeze=(False,)),
        StageSpace(2, (8, 12), 1, kinds=("separable",), kernels=(3, 5), squeeze=(False,)),
    )
    return Space(stages, bits=bits)


def examples(count: int = 240, task: Task = TASK, seed: int = 0) -> FeatureSet:
    """Two of three classes have a pattern somewhere; every file has two copies."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, task.num_classes, count).astype(np.int32)
    x = generator.normal(size=(count, task.frames, task.mel_bins)).astype(np.float32)
    patterns = 2.0 * np.random.default_rng(9).normal(size=(task.num_classes, 4, task.mel_bins))
    for row, kind in enumerate(y):
        first = int(generator.integers(0, task.frames - 4))
        x[row, first : first + 4] += patterns[kind] * (kind > 0)
    source = (np.arange(count) // 2).astype(np.int32)
    paths = tuple(f"{number}.wav" for number in range(count // 2 + count % 2))
    names = tuple("abcdefgh"[: task.num_classes])
    return FeatureSet(x, y, names, LoadReport(len(paths), {}), source, paths)


def inherit(supernet: Supernet, path: Path, model: keras.Model) -> None:
    """Gives a network the weights that its path has in the supernet."""
    space = supernet.space
    numbers = [n for n in range(len(space.places)) if not space.is_identity(n, path[space.of_block(n)[0]])]

    def put(layer: str, *names: str) -> None:
        for variable, name in zip(model.get_layer(layer).trainable_weights, names, strict=True):
            value = supernet.weight(name).numpy()
            if value.ndim == 4:  # kernels end with the present frame
                value = value[value.shape[0] - (variable.shape[0] if value.shape[0] > 1 else 1) :]
                value = value[:, 0] if len(variable.shape) == 3 else value
            variable.assign(value[tuple(slice(0, size) for size in variable.shape)])

    def norm(layer: str, name: str) -> None:
        put(layer, f"{name}/gamma", f"{name}/beta")

    for number, place in enumerate(numbers, 1):
        kind, _ = space.operations(space.places[place])[path[space.of_block(place)[0]]]
        shared, own = f"block_{place + 1}/{kind}", f"block_{number}"
        if kind == "dense":
            put(f"{own}_conv", f"{shared}/kernel")
        else:
            if kind == "bottleneck":
                put(f"{own}_expand", f"{shared}/expand")
                norm(f"{own}_expand_norm", f"{shared}/expand_norm")
            put(f"{own}_depthwise", f"{shared}/depthwise")
            norm(f"{own}_depthwise_norm", f"{shared}/depthwise_norm")
            put(f"{own}_project", f"{shared}/project")
        norm(f"{own}_norm", f"{shared}/norm")
        if space.stages[space.places[place][0]].squeeze[path[space.of_block(place)[2]]]:
            for layer in (1, 2):
                name = f"{shared}/squeeze_{layer}"
                put(f"{own}_squeeze_{layer}", f"{name}/kernel", f"{name}/bias")
    put("logits", "logits/kernel", "logits/bias")
    if supernet.task.sinc is not None:
        norm("norm_sinc", "norm_sinc")
