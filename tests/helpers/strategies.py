"""Strategies of hypothesis for windows and the tensors that they fit."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from tflite_export import ir

SEEDS = st.integers(0, 2**32 - 1)


def windows(time_only: bool = False) -> st.SearchStrategy[ir.Window]:
    small, one = st.integers(1, 4), st.just(1)
    across = one if time_only else small
    pad = st.integers(0, 3)
    side = st.just(0) if time_only else pad
    return st.builds(
        ir.Window,
        st.tuples(small, across),
        st.tuples(small, across),
        st.tuples(small, across),
        st.tuples(pad, pad, side, side),
    )


@st.composite
def pictures(draw: st.DrawFn, most_channels: int = 9) -> tuple[tuple[int, ...], ir.Window]:
    """A [time, channels] or [height, width, channels] shape, and a window that fits it."""
    time_only = draw(st.booleans())
    window = draw(windows(time_only))
    height, width = draw(st.integers(1, 12)), 1 if time_only else draw(st.integers(1, 9))
    try:
        window.output_size(height, width)
    except ir.GraphError:
        hypothesis.reject()
    channels = draw(st.integers(1, most_channels))
    return ((height, channels) if time_only else (height, width, channels)), window
