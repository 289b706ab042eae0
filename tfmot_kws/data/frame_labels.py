# SPDX-License-Identifier: Apache-2.0
"""What is spoken in each frame of features: targets for training that follow the sound. Imports numpy, no TensorFlow.

An example may be a cut of its recording, moved and played at another speed (``FeatureSet.places``); its labels are read
at the times of the recording that its frames show.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np

from tfmot_kws.data.alignment import SILENCE, Alignment, Segment
from tfmot_kws.data.corpus import Clip, Corpus
from tfmot_kws.data.feature_set import FeatureSet
from tfmot_kws.frontend.features import FrontendConfig

UNKNOWN = -1
"""The label of frames of which nothing is known; no loss counts them."""
_STEADY = 1.0
"""Features whose level varies by less (natural logarithms: 4 dB) tell nothing about where speech is."""


@dataclasses.dataclass(frozen=True)
class FrameLabels:
    """Labels of the frames of a ``FeatureSet``.

    Attributes:
        y: int32 [examples, frames], index into ``names``; -1 where nothing is known.
        names: the labels; the first is silence.

    Raises:
        ValueError: another shape or type, an index that is no name, or other than silence first.
    """

    y: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.y.ndim != 2 or self.y.dtype != np.int32:
            raise ValueError(f"labels: expected int32 [examples, frames], found {self.y.dtype} {list(self.y.shape)}")
        if not self.names or self.names[0] != SILENCE or len(set(self.names)) < len(self.names):
            raise ValueError(f"names: must differ and begin with {SILENCE!r}, found {self.names}")
        if self.y.size and not UNKNOWN <= self.y.min() <= self.y.max() < len(self.names):
            raise ValueError(
                f"labels: must lie in {UNKNOWN}..{len(self.names) - 1}, found {self.y.min()}..{self.y.max()}"
            )

    def known(self) -> float:
        """Share of the frames that have a label, 0..1."""
        return float(np.mean(self.y != UNKNOWN)) if self.y.size else 0.0


def frame_times(frontend: FrontendConfig, frames: int) -> np.ndarray:
    """float64 [frames]: the middles of the windows, in seconds from the start of the clip."""
    return (np.arange(frames) * frontend.hop + frontend.window / 2) / frontend.sample_rate


def from_alignment(
    features: FeatureSet, frontend: FrontendConfig, alignment: Alignment, names: Sequence[str] | None = None
) -> FrameLabels:
    """Labels by a table of segments: that of the segment in which the middle of a frame's window lies.

    Between segments and outside of its recording an example is silent. Recordings that the table does not have, and
    examples of no recording, stay without labels.

    Args:
        features: the examples; they must know their places.
        frontend: how they were made.
        alignment: from ``tfmot_kws.alignment.read``.
        names: the labels to know, silence first, as those of a training set; others count as unknown. Silence and all
            labels of the alignment's recordings that take part, sorted, where None.

    Raises:
        ValueError: the features have no places, none of their recordings is in the alignment, or names make no sense.
    """
    paths = [os.path.abspath(path) for path in features.paths]
    segments = {i: alignment[path] for i, path in enumerate(paths) if path in alignment}
    if not segments:
        example = next(iter(alignment), "nothing")
        raise ValueError(
            f"alignment: has none of the {len(paths)} recordings; they are called {paths[:1]}, in it {example!r}"
        )
    return _labels(features, frontend, segments, names or _names(segments.values()))


def from_words(
    features: FeatureSet,
    frontend: FrontendConfig,
    corpus: Corpus,
    parts: int = 1,
    names: Sequence[str] | None = None,
) -> FrameLabels:
    """Labels for recordings without an alignment: the word where it is spoken, silence elsewhere.

    Where a clip says from when to when its word is spoken, that counts. Elsewhere frames whose mean level over the
    bands is above the middle between the 10th and the 95th percentile of their example's are the word, whole, not in
    parts; examples of a steady level stay without labels. Noise is silence.

    Args:
        features: the examples; they must know their places.
        frontend: how they were made.
        corpus: the clips they are made of.
        parts: equal parts in which a word is cut, ``word/1``, ``word/2`` and so on; 1 leaves it whole.
        names: as for ``from_alignment``.

    Raises:
        ValueError: the features have no places, their clips are not in the corpus, or ``parts`` is below 1.
    """
    if isinstance(parts, bool) or not isinstance(parts, int) or parts < 1:
        raise ValueError(f"parts={parts!r}: must be a whole number of at least 1")
    clips = {os.path.abspath(clip.path): clip for clip in corpus}
    own = {i: clips[path] for i, path in enumerate(map(os.path.abspath, features.paths)) if path in clips}
    if not own:
        raise ValueError(f"corpus: has none of the {len(features.paths)} recordings of the features")
    segments = {i: _segments(clip, parts) for i, clip in own.items() if clip.is_noise or clip.start is not None}
    heard = {i: clip.word for i, clip in own.items() if i not in segments}
    if names is None:
        names = _names([*segments.values(), [Segment(0.0, 1.0, word) for word in heard.values()]])
    labels = _labels(features, frontend, segments, names)
    number = {name: i for i, name in enumerate(names)}
    for example, source in enumerate(features.source):
        if source in heard:
            labels.y[example] = _by_level(features.x[example], number.get(heard[source], UNKNOWN))
    return labels


def _names(of: Iterable[Iterable[Segment]]) -> tuple[str, ...]:
    return (SILENCE, *sorted({segment.label for segments in of for segment in segments} - {SILENCE}))


def _segments(clip: Clip, parts: int) -> tuple[Segment, ...]:
    """A clip's word, cut into equal parts; nothing for noise."""
    if clip.is_noise:
        return ()
    edges = np.linspace(clip.start, clip.end, parts + 1).tolist()
    labels = [clip.word] if parts == 1 else [f"{clip.word}/{part}" for part in range(1, parts + 1)]
    return tuple(Segment(*edge, label) for edge, label in zip(zip(edges, edges[1:]), labels))


def _by_level(x: np.ndarray, label: int) -> np.ndarray:
    """int32 [frames] of one example [frames, mel]: the label where it is loud, silence elsewhere."""
    level = x.mean(axis=1)
    low, high = np.percentile(level, (10, 95))
    if high - low < _STEADY:
        return np.full(len(x), UNKNOWN, np.int32)
    return np.where(level > (low + high) / 2, label, 0).astype(np.int32)


def _labels(
    features: FeatureSet, frontend: FrontendConfig, segments: dict[int, Sequence[Segment]], names: Sequence[str]
) -> FrameLabels:
    """By segments of the recordings ``features.paths[i]``."""
    if features.places is None:
        raise ValueError("features: do not say where in their recordings they lie; make them by load_features")
    names = tuple(names)
    number = {name: i for i, name in enumerate(names)}
    times = frame_times(frontend, features.x.shape[1])
    y = np.full(features.x.shape[:2], UNKNOWN, np.int32)
    tables = {}
    for i, own in segments.items():
        # A segment that never ends nor begins ahead of all saves the search its edge.
        own = sorted(own)
        starts = np.array([-np.inf, *(s.start for s in own)])
        ends = np.array([-np.inf, *(s.end for s in own)])
        labels = np.array([0, *(number.get(s.label, UNKNOWN) for s in own)], np.int32)
        tables[i] = starts, ends, labels
    for example, (source, (begin, speed)) in enumerate(zip(features.source, features.places)):
        if source not in tables or not np.isfinite(begin):
            continue
        starts, ends, labels = tables[source]
        there = begin + speed * times
        last = np.searchsorted(starts, there, side="right") - 1
        y[example] = np.where(there < ends[last], labels[last], 0)
    return FrameLabels(y, names)
