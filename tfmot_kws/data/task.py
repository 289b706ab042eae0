# SPDX-License-Identifier: Apache-2.0
"""What is to be told apart: keywords, other speech and silence. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses

from tfmot_kws.data.corpus import Clip

SILENCE, UNKNOWN = "_silence_", "_unknown_"


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What a model tells apart.

    Attributes:
        keywords: the words, in the order of their classes.
        clip_seconds: length of an example in seconds.
        unknown: whether other speech is a class; if not, such clips are left out.
        silence: whether noise without speech is a class; if not, it counts as unknown.
        windows: at most so many examples are cut from one long negative recording.
        min_seconds: shorter files are left out.
        context_seconds: sound ahead of an example that the front end hears, but the model does not: what a recording
            has there, else silence, with the example's noise. A front end that follows the noise then gives features
            as it does in the middle of a stream; 0 starts it anew for every example.

    Raises:
        ValueError: an option is outside of what is allowed; the message names it.
    """

    keywords: tuple[str, ...]
    clip_seconds: float = 1.0
    unknown: bool = True
    silence: bool = True
    windows: int = 8
    min_seconds: float = 0.1
    context_seconds: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.keywords, str):
            raise ValueError(f"TaskConfig.keywords={self.keywords!r}: must be a list of words")
        object.__setattr__(self, "keywords", tuple(self.keywords))
        reserved = set(self.keywords) & {SILENCE, UNKNOWN}
        if not self.keywords or len(set(self.keywords)) < len(self.keywords) or reserved:
            raise ValueError(
                f"TaskConfig.keywords={self.keywords!r}: must be one or more different words, "
                f"none of them {SILENCE} or {UNKNOWN}"
            )
        if not 0.1 <= self.clip_seconds <= 60.0:
            raise ValueError(f"TaskConfig.clip_seconds={self.clip_seconds!r}: must be between 0.1 and 60")
        if not 0.0 <= self.min_seconds <= self.clip_seconds:
            raise ValueError(f"TaskConfig.min_seconds={self.min_seconds!r}: must be between 0 and clip_seconds")
        if not 0.0 <= self.context_seconds <= 60.0:
            raise ValueError(f"TaskConfig.context_seconds={self.context_seconds!r}: must be between 0 and 60")
        if self.windows < 1:
            raise ValueError(f"TaskConfig.windows={self.windows!r}: must be 1 or more")
        if len(self.classes) < 2:
            raise ValueError("TaskConfig: one keyword alone leaves nothing to tell apart; use unknown=True")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; their positions are the labels."""
        head = (SILENCE,) * self.silence + (UNKNOWN,) * self.unknown
        return head + self.keywords

    def label(self, clip: Clip) -> int | None:
        """The class of a clip, or None if it takes no part."""
        if clip.is_stream:
            return None
        if clip.word in self.keywords:
            return self.classes.index(clip.word)
        if clip.is_noise and self.silence:
            return self.classes.index(SILENCE)
        return self.classes.index(UNKNOWN) if self.unknown else None
