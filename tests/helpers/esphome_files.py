"""A small spotter of one or two words on ESPHome's features, trained for a moment, and its files."""

from __future__ import annotations

import functools
import pathlib

import numpy as np
from quantization_helpers import features as random_features
from quantization_helpers import shake, trained
from spotter_files import speech

from tfmot_kws.commands.parts import sidecar
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models

FRONTEND = features.FrontendConfig(hop_ms=10)
TASK = TaskConfig(("low", "high"))
FRAMES = 30


@functools.cache
def model():
    """A quantized model of four classes, a step of three frames; what it says is arbitrary but not constant."""
    windows = (models.WindowSpec(8, 3), models.WindowSpec(4, 1))
    config = models.ModelConfig(len(TASK.classes), FRAMES, 40, 12, windows, 1)
    keras.utils.set_random_seed(1)
    x = features.extract(FRONTEND, speech())
    clips = np.stack([x[i : i + FRAMES] for i in range(0, len(x) - FRAMES, 19)])
    return trained(shake(models.build(config)), clips * 0.2 + random_features((FRAMES, 40), len(clips)) * 0.1)


def write(folder: pathlib.Path) -> pathlib.Path:
    """q.keras with its sidecar."""
    path = folder / "q.keras"
    model().save(path)
    sidecar.write(path, sidecar.Sidecar("quantized", FRONTEND, TASK))
    return path
