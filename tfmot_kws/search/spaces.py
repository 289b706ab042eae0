# SPDX-License-Identifier: Apache-2.0
"""Spaces to begin with: of some twenty to a hundred thousand parameters, for clips of a second."""

from __future__ import annotations

from tfmot_kws.search.space import Space, StageSpace


def over_time(bits: tuple[int, ...] = (8,)) -> Space:
    """Bands are channels: networks of few operations, after TC-ResNet (Choi et al. 2019, arXiv 1904.03814).

    Args:
      bits: widths of weights, several to search them too.
    """
    return Space(
        (
            StageSpace(1, (24, 32, 48), 1, kinds=("dense",), kernels=(3, 5), squeeze=(False,)),
            StageSpace(2, (24, 32, 48), 2),
            StageSpace(2, (32, 48, 64), 2),
            StageSpace(2, (48, 64, 96)),
        ),
        bits=bits,
    )


def over_time_and_band(bits: tuple[int, ...] = (8,)) -> Space:
    """Pictures of time and band: more operations for as many parameters.

    Args:
      bits: widths of weights, several to search them too.
    """
    return Space(
        (
            StageSpace(1, (8, 16, 24), 2, 2, kinds=("dense",), kernels=(3, 5), squeeze=(False,)),
            StageSpace(2, (16, 24, 32), 1, 1),
            StageSpace(2, (24, 32, 48), 2, 2),
            StageSpace(2, (32, 48, 64), 1, 1),
        ),
        over="time and band",
        bits=bits,
    )


SPACES = {"time": over_time, "time-band": over_time_and_band}
"""By the names that the command line has."""
