"""Spaces: decisions, networks, counts, files, refusals."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import search_cases

from tfmot_kws.search.space import Space, StageSpace
from tfmot_kws.search.spaces import SPACES


@pytest.mark.parametrize("over", ["time", "time and band"])
def test_there_are_as_many_networks_as_it_says(over: str) -> None:
    """Every path of a small space makes a network; equal networks have one canonical path, others have others."""
    space = search_cases.small(over)
    space = dataclasses.replace(space, stages=(space.stages[0], dataclasses.replace(space.stages[1], kernels=(3,))))
    networks: dict = {}
    for path in itertools.product(*(range(len(d.options)) for d in space.decisions)):
        canonical, network = space.canonical(path), space.network(path, search_cases.TASK)
        assert space.canonical(canonical) == canonical
        assert space.network(canonical, search_cases.TASK) == network
        networks.setdefault(network.to_json(), set()).add(canonical)
    assert all(len(paths) == 1 for paths in networks.values())
    assert len(networks) == space.count


def test_what_a_block_left_out_would_have_been_does_not_count() -> None:
    space = search_cases.small()
    operation, kernel, squeeze, _ = space.of_block(1)
    path = list(space.smallest())
    path[space.of_block(2)[0]] = 2
    other = list(path)
    assert not space.is_identity(2, 2) and space.is_identity(2, 0)
    path[space.of_block(2)[0]], other[space.of_block(2)[0]] = 0, 0
    other[space.of_block(2)[1]] = 1
    assert space.canonical(path) == space.canonical(other)
    path[operation], path[kernel], path[squeeze] = 3, 1, 1
    block = space.network(path, search_cases.TASK).blocks[1]
    assert (block.kind, block.expansion, block.kernel, block.squeeze) == ("bottleneck", 3, 5, True)


@pytest.mark.parametrize("name", SPACES)
def test_ready_spaces_read_and_write(name: str) -> None:
    for bits in ((8,), (8, 4, 2)):
        space = SPACES[name](bits)
        assert Space.from_json(space.to_json()) == space
        blocks = space.network(space.random(np.random.default_rng(0)), search_cases.TASK).blocks
        assert all((block.bits is None) == (len(bits) == 1) for block in blocks)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StageSpace(0, (8,)), "StageSpace.blocks=0"),
        (lambda: StageSpace(1, ()), "StageSpace.widths.*found none"),
        (lambda: StageSpace(1, (8, 8)), "StageSpace.widths.*found one twice"),
        (lambda: StageSpace(1, (8,), kinds=("conv",)), "StageSpace.kinds.*found 'conv'"),
        (lambda: StageSpace(1, (8,), kernels=(0,)), "StageSpace.kernels.*found 0"),
        (lambda: StageSpace(1, (8,), squeeze=(1,)), "StageSpace.squeeze.*found 1"),
        (lambda: Space(()), "Space.stages: needs at least one"),
        (lambda: Space((StageSpace(1, (8,)),), bits=(9,)), "Space.bits.*found 9"),
        (lambda: Space((StageSpace(1, (8,)),), over="band"), "Space.over='band'"),
        (lambda: Space((StageSpace(1, (8,), 1, 2),)), "band_stride goes with"),
        (lambda: Space((StageSpace(1, (8,), 1, 2),), "time and band"), "stride 1 and band_stride 2"),
        (lambda: Space((StageSpace(1, (8,)),), "time and band", 2), "band_kernel=2: must be odd"),
        (lambda: Space.from_json("["), "is no JSON"),
        (lambda: Space.from_json("[]"), "must be a table with a list 'stages'"),
        (lambda: Space.from_json('{"stages": [{"blocks": 1}]}'), "'widths' is missing"),
        (lambda: Space.from_json('{"stages": [{"blocks": 1, "widths": [8], "size": 3}]}'), "'size' is not known"),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_paths_are_checked() -> None:
    space = search_cases.small()
    with pytest.raises(ValueError, match="has 1 choices, the space"):
        space.network((0,), search_cases.TASK)
    with pytest.raises(ValueError, match="stage_1/width has 2 options, found number 2"):
        space.network((2, *space.smallest()[1:]), search_cases.TASK)
