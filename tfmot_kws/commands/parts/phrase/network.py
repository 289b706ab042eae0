# SPDX-License-Identifier: Apache-2.0
"""Networks of ``tfmot-kws phrase``, each about a second long: long enough to hear a phrase."""

from __future__ import annotations

from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters

_FIRST = {20: spotters.WindowSpec(3, 2), 10: spotters.WindowSpec(5, 4)}
"""First window of ``mixed_net`` by hop in ms: a step every 40 ms in either case."""
_KERNELS, _FILTERS = (5, 9, 11, 12, 12), (96, 96, 96, 96, 64)
"""Of ``ds_cnn_stream``, 45 frames: as it is by itself it hears 30, which is too short for most phrases."""


def build(name: str, classes: int, frontend: features.FrontendConfig) -> keras.Model:
    """A float model: features [frames, mel] -> logits [classes].

    Args:
        name: of ``plan.NETWORKS``.
        classes: outputs.
        frontend: whose features it takes; hops of 10 ms are for ``mixed_net`` only.
    """
    if name == "mixed_net":
        return spotters.mixed_net(classes, mel_bins=frontend.mel_bins, first=_FIRST[frontend.hop_ms])
    if name == "ds_cnn_stream":
        frames = sum(_KERNELS) - len(_KERNELS) + 1
        return spotters.ds_cnn_stream(classes, frames, frontend.mel_bins, _FILTERS, _KERNELS)
    return spotters.wakeword_250k(classes, 49, frontend.mel_bins)


def hop_of(name: str, frontend: features.FrontendConfig) -> int:
    """Frames from one output to the next while training listens: those of the stream that is exported.

    ``ds_cnn_stream`` gives one each frame there; every other one is enough to choose by.
    """
    return {"mixed_net": _FIRST[frontend.hop_ms].stride, "ds_cnn_stream": 2, "wakeword_250k": 6}[name]


def seconds_of(frames: int, frontend: features.FrontendConfig) -> float:
    """Of sound in so many frames."""
    return (frontend.window + (frames - 1) * frontend.hop) / frontend.sample_rate
