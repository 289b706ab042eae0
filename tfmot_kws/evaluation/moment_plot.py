# SPDX-License-Identifier: Apache-2.0
"""A stretch of a recording as a picture: what the model hears, what it says, and what the detector makes of that."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np

from tfmot_kws.data.stream_labels import Target
from tfmot_kws.evaluation.moments import Moment
from tfmot_kws.evaluation.stream_results import FALSE_ACCEPT, HIT, REPEAT, Found, Missed

MISS = "missed"
COLORS = {HIT: "#009e73", REPEAT: "#56b4e9", FALSE_ACCEPT: "#d55e00", MISS: "#cc79a7"}
"""Of Okabe and Ito's palette, which people tell apart whatever colours they see; shapes and words say it as well."""
MARKERS = {HIT: "o", REPEAT: "D", FALSE_ACCEPT: "X", MISS: "v"}
_WORD, _SCORE, _INK = "#f0e442", "#0b3c6f", "#333333"
_STYLES = ("-", "--", "-.", ":")
_SIZE, _DPI = (4.6, 2.75), 170
LEFT, RIGHT = 0.105, 0.985
"""Where the first and the last moment are, as shares of the width: a page moves a line there while it plays."""
_BOTTOM, _TOP = 0.165, 0.86


@dataclasses.dataclass(frozen=True)
class Heard:
    """A recording as a detector heard it.

    Attributes:
        features: float32 [frames, bands], low bands first.
        frame_seconds: from one frame to the next, above 0.
        first_frame: middle of the first frame, in seconds.
        times: float64 [steps], rising: when each mean score is known, in seconds.
        scores: float64 [steps, keywords], in the units of ``thresholds``.
        thresholds: of each keyword by its word, in the order of ``scores``.
        targets: the words in the recording, of these keywords.
        events: everything that fired in it.
        misses: the words in it that nothing found.
    """

    features: np.ndarray
    frame_seconds: float
    first_frame: float
    times: np.ndarray
    scores: np.ndarray
    thresholds: Mapping[str, float]
    targets: Sequence[Target] = ()
    events: Sequence[Found] = ()
    misses: Sequence[Missed] = ()


def draw(heard: Heard, moment: Moment) -> bytes:
    """A .png of 780 x 470 points: features in grey, the keywords' scores as lines, thresholds dashed.

    Words to be found are shaded; marks above are detections (hit, repeat, false accept) and missed words. Time is that
    of the recording. Of several keywords those are drawn that are said, heard or missed there.

    Raises:
        ValueError: the stretch is empty.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not moment.end > moment.start:
        raise ValueError(f"moment from {moment.start} to {moment.end} s: it ends before it starts")
    figure = Figure(figsize=_SIZE, dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((LEFT, _BOTTOM, RIGHT - LEFT, _TOP - _BOTTOM))
    targets = [t for t in heard.targets if t.end > moment.start and t.start < moment.end]
    events = [e for e in heard.events if moment.start <= e.time <= moment.end]
    misses = [m for m in heard.misses if moment.start <= (m.start + m.end) / 2 <= moment.end]
    words = [word for word in heard.thresholds if word in {one.word for one in (*targets, *events, *misses)}]
    axes.set_xlim(moment.start, moment.end)
    low, high = _scores(axes, heard, moment, words)
    _features(axes, heard, moment, low, high)
    for target in targets:
        axes.axvspan(target.start, target.end, color=_WORD, alpha=0.30, linewidth=0, zorder=2)
        first, last = max(target.start, moment.start), min(target.end, moment.end)
        if last - first < 0.5 * (target.end - target.start):
            continue  # half a word at the border has no room for its name
        axes.text(
            (first + last) / 2, 0.03, target.word, transform=axes.get_xaxis_transform(), ha="center", fontsize=8,
            color=_INK, bbox={"facecolor": _WORD, "alpha": 0.75, "linewidth": 0, "pad": 1.2}, zorder=6, clip_on=True,
        )  # fmt: skip
    for event in events:
        axes.axvline(event.time, color=COLORS[event.outcome], linewidth=1.4, zorder=4)
    marks = [(event.time, event.outcome, event.word) for event in events]
    marks += [((miss.start + miss.end) / 2, MISS, miss.word) for miss in misses]
    _marks(axes, sorted(marks), several=len(heard.thresholds) > 1)
    _dress(axes, moment, low, high, words)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _scores(axes, heard: Heard, moment: Moment, words: Sequence[str]) -> tuple[float, float]:
    """Draws the lines; returns the lowest and highest value that must be seen."""
    from matplotlib import patheffects

    inside = np.flatnonzero((heard.times >= moment.start - 0.5) & (heard.times <= moment.end + 0.5))
    around = [patheffects.withStroke(linewidth=3.4, foreground="white")]
    seen = [limit for word, limit in heard.thresholds.items() if word in words and np.isfinite(limit)]
    for number, word in enumerate(words):
        column = list(heard.thresholds).index(word)
        values, style = heard.scores[inside, column], _STYLES[number % len(_STYLES)]
        axes.plot(
            heard.times[inside], values, style, color=_SCORE, linewidth=1.6, path_effects=around, zorder=5, label=word
        )
        seen += [*values.tolist()]
        if np.isfinite(heard.thresholds[word]):
            axes.axhline(heard.thresholds[word], color=_INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=4)
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    room = 0.1 * (high - low) or 0.5
    return low - 1.6 * room, high + room  # below them lie the words' names


def _features(axes, heard: Heard, moment: Moment, low: float, high: float) -> None:
    frame = heard.frame_seconds
    start = heard.first_frame - frame / 2
    first = max(0, int((moment.start - start) / frame))
    last = min(len(heard.features), int(np.ceil((moment.end - start) / frame)))
    if last <= first:
        return
    part = heard.features[first:last].T
    faint, loud = np.percentile(part, [5.0, 99.5])
    dark = loud + 0.5 * max(loud - faint, 1e-6)  # lines must stand out before the loudest
    place = (start + first * frame, start + last * frame, low, high)
    axes.imshow(
        part, cmap="Greys", vmin=faint, vmax=dark, extent=place, origin="lower", aspect="auto",
        interpolation="nearest", zorder=1,
    )  # fmt: skip


def _marks(axes, marks: Sequence[tuple[float, str, str]], several: bool) -> None:
    """Above the picture, (time, kind, word) of each; named where there is room before the next."""
    above = axes.get_xaxis_transform()
    left, right = axes.get_xlim()
    ends = [time for time, _, _ in marks[1:]] + [right]
    for (time, kind, word), end in zip(marks, ends):
        axes.plot(
            [time], [1.06], MARKERS[kind], color=COLORS[kind], markeredgecolor=_INK, markeredgewidth=0.6,
            markersize=6.5, transform=above, clip_on=False, zorder=7,
        )  # fmt: skip
        name = f"{kind}: {word}" if several else kind
        wide = (0.03 + 0.017 * len(name)) * (right - left)
        before = max((other for other, _, _ in marks if other < time), default=left)
        after = end - time >= wide
        if not after and (len(marks) > 1 and (time != marks[-1][0] or time - before < 2 * wide)):
            continue
        axes.annotate(
            name, (time, 1.06), xycoords=above, textcoords="offset points", fontsize=8, color=_INK, va="center",
            xytext=(6 if after else -6, 0), ha="left" if after else "right", annotation_clip=False,
        )  # fmt: skip


def _dress(axes, moment: Moment, low: float, high: float, words: Sequence[str]) -> None:
    axes.set_ylim(low, high)
    axes.set_xlim(moment.start, moment.end)
    axes.tick_params(labelsize=8, length=3, color="#999999")
    axes.ticklabel_format(useOffset=False)
    axes.set_xlabel("seconds", fontsize=8, labelpad=1)
    axes.yaxis.set_major_locator(_ticks())
    for side in axes.spines.values():
        side.set_color("#999999")
    if len(words) > 1:
        axes.legend(loc="lower right", fontsize=7, framealpha=0.85, edgecolor="#cccccc").set_zorder(8)


def _ticks():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)
