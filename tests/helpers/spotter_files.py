"""A small spotter as files, for a stream and for clips, and a sound."""

from __future__ import annotations

import pathlib

import numpy as np
import soundfile
from quantization_helpers import features as random_features
from quantization_helpers import shake, trained

import tflite_export
from tfmot_kws.commands.parts import sidecar
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features
from tfmot_kws.keras import keras
from tfmot_kws.models import spotters as models

FRONTEND = features.FrontendConfig()


TASK = TaskConfig(("low", "high"))


def write_spotter(folder: pathlib.Path) -> pathlib.Path:
    """A streaming file, the clip's, and a sound; what the model says is arbitrary but not constant."""
    windows = (models.WindowSpec(8, 3), models.WindowSpec(4, 2))
    config = models.ModelConfig(len(TASK.classes), 17, 40, 12, windows, 1)
    keras.utils.set_random_seed(1)  # a model that says both words
    sound = speech()
    x = features.extract(FRONTEND, sound)
    clips = np.stack([x[i : i + 17] for i in range(0, len(x) - 17, 9)])
    model = trained(shake(models.build(config)), clips * 0.2 + random_features((17, 40), len(clips)) * 0.1)
    (folder / "clip.tflite").write_bytes(tflite_export.convert(model))
    (folder / "stream.tflite").write_bytes(tflite_export.convert(model, streaming="internal"))
    for name in ("clip", "stream"):
        sidecar.write(folder / f"{name}.tflite", sidecar.Sidecar("tflite", FRONTEND, TASK))
    soundfile.write(folder / "speech.wav", sound, 16000, subtype="PCM_16")
    return folder


def speech(seconds: float = 12.0) -> np.ndarray:
    """Noise that comes and goes in many bands: int16."""
    rng = np.random.default_rng(3)
    t = np.arange(round(16000 * seconds)) / 16000
    wave = sum(
        np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) * np.sin(2 * np.pi * rng.uniform(0.2, 2) * t) ** 2
        for f in (200, 450, 900, 1700, 3200)
    )
    return np.clip(wave * 3000 + rng.normal(0, 300, len(t)), -32768, 32767).astype(np.int16)
