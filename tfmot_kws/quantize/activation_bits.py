# SPDX-License-Identifier: Apache-2.0
"""Widths of activations: a number, or learned, so that all of a model have a mean width."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfmot_kws.quantize.quantizers import check_bits

LEAST, MOST = 2, 8


@dataclasses.dataclass(frozen=True)
class LearnedActivations:
    """An activation whose width is learned, from 8 bits down.

    Attributes:
      average: mean width over all elements of such activations of the model, 2..8.
    """

    average: float


ActivationBits = int | LearnedActivations


def checked(bits: Any, what: str) -> ActivationBits:
    """Widths as they are meant; those of a file, a mapping, become what they were.

    Raises:
      ValueError: neither 2..8 nor learned; the message names ``what``.
    """
    if isinstance(bits, Mapping):
        return LearnedActivations(**bits)
    return bits if isinstance(bits, LearnedActivations) else check_bits(bits, what, LEAST, MOST)


def fixed(bits: ActivationBits) -> int:
    """The width, or where a learned one starts: what an activation has that cannot learn it."""
    return MOST if isinstance(bits, LearnedActivations) else bits


def config_of(bits: ActivationBits) -> int | dict[str, float]:
    """As a value that a file can hold."""
    return dataclasses.asdict(bits) if isinstance(bits, LearnedActivations) else bits
