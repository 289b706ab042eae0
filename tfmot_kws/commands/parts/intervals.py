# SPDX-License-Identifier: Apache-2.0
"""Rates with their 95 % intervals, as tables, cards and pages write them. Imports nothing."""

from __future__ import annotations

from collections.abc import Sequence


def rate(value: float, interval: Sequence[float], hours: float) -> str:
    """False accepts an hour: "0.5 FA/h (95 %: 0.2..1.1 in 5.0 h)"; minutes where there is less than an hour."""
    heard = f"{hours:.1f} h" if hours >= 1.0 else f"{60.0 * hours:.1f} minutes"
    return f"{digits(value)} FA/h (95 %: {digits(interval[0])}..{digits(interval[1])} in {heard})"


def with_ends(value: float, interval: Sequence[float], between: str = " ") -> str:
    """A rate in a table that says elsewhere what it is: "0.5 (0.2..1.1)"."""
    return f"{digits(value)}{between}({digits(interval[0])}..{digits(interval[1])})"


def share(value: float, interval: Sequence[float], between: str = " ") -> str:
    """A share 0..1 in percent: "8.3% (3.6..18.1)"."""
    return f"{value:.1%}{between}({100.0 * interval[0]:.1f}..{100.0 * interval[1]:.1f})"


def digits(value: float) -> str:
    """A number of 0 or more to two digits, and whole from 10 on."""
    return f"{value:.0f}" if value >= 9.95 or value < 1e-3 else f"{value:.2g}"
