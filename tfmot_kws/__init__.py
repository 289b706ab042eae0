"""Keyword spotters of 1 to 8 bits: quantization-aware training for TensorFlow Model Optimization.

model = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits=4))
model.fit(..., callbacks=[tfmot_kws.TwoStageSchedule(stage2_epoch=10)])
"""

from __future__ import annotations

import importlib
from typing import Any

from tfmot_kws import extras, legacy_keras, saved_classes

legacy_keras.prefer()
saved_classes.make_known_when_imported()

__version__ = "0.1.0"

_NAMES = {
    "Budget": "quantize.budget",
    "CausalConv1D": "models.time_layers",
    "CausalDepthwiseConv1D": "models.time_layers",
    "FrontendConfig": "frontend.features",
    "KwsQuantizeConfig": "quantize.configs",
    "SincConv": "frontend.waveform",
    "StageCheckpoint": "training.stages",
    "TensorBoardLog": "training.tensorboard_log",
    "TimeAveragePooling1D": "models.time_layers",
    "TimeMaxPooling1D": "models.time_layers",
    "TimeWindow": "models.time_layers",
    "TwoStageSchedule": "training.stages",
    "WakeWord": "commands.parts.wake_word",
    "WaveformConv": "frontend.waveform",
    "WidthSchedule": "training.width_schedule",
    "calibrate": "training.stages",
    "ds_cnn_stream": "models.spotters",
    "dynamic_scheme": "quantize.dynamic.scheme",
    "factorize": "models.low_rank",
    "kws_scheme": "quantize.scheme",
    "load_model": "quantize.saving",
    "mean_of": "models.ensemble",
    "mixed_net": "models.spotters",
    "quantize_apply": "quantize.apply",
    "quantize_scope": "quantize.saving",
    "reset_ranges": "training.stages",
    "set_stage": "training.stages",
    "svd_50k": "models.spotters",
    "wakeword_250k": "models.spotters",
}
"""Classes and functions, and the modules that they live in."""

_MODULES = {
    "alignment": "data.alignment",
    "audio": "sound.files",
    "audio_stream": "sound.stream",
    "augment": "sound.augment",
    "confidence": "evaluation.confidence",
    "confusables": "data.confusables",
    "corpus": "data.corpus",
    "costs": "quantize.costs",
    "datasets": "data.datasets",
    "det": "evaluation.det",
    "det_plot": "evaluation.det_plot",
    "detector": "evaluation.detector",
    "distributed": "training.distributed",
    "effects": "sound.effects",
    "evaluate": "evaluation.clips",
    "features": "frontend.features",
    "frame_labels": "data.frame_labels",
    "long_features": "data.long_features",
    "low_rank": "models.low_rank",
    "low_rank_recipes": "training.low_rank_recipes",
    "mining": "training.mining",
    "negatives": "data.negatives",
    "network_search": "search.run",
    "networks": "models.networks",
    "public": "data.public",
    "random_search": "search.baseline",
    "recipes": "training.recipes",
    "scenes": "data.scenes",
    "search_space": "search.space",
    "search_spaces": "search.spaces",
    "shard_writer": "data.shard_writer",
    "shards": "data.shards",
    "spoken": "data.spoken",
    "stream_evaluate": "evaluation.streams",
    "sweeps": "training.sweeps",
    "synthetic": "data.synthetic",
    "voices": "sound.voices",
    "wake_word": "training.wake_word",
    "windows": "training.windows",
}
"""Modules that users import from here: ``from tfmot_kws import datasets``."""

__all__ = ["__version__", *sorted(_NAMES), *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    """Imports TensorFlow only when something that needs it is asked for."""
    home = _NAMES.get(name) or _MODULES.get(name)
    if home:
        try:
            module = importlib.import_module(f"tfmot_kws.{home}")
        except ImportError as error:
            raise extras.explained(error) from error
        return getattr(module, name) if name in _NAMES else module
    raise AttributeError(f"module 'tfmot_kws' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
