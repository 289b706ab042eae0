"""Keyword spotters of 1 to 8 bits: quantization-aware training for TensorFlow Model Optimization.

model = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits=4))
model.fit(..., callbacks=[tfmot_kws.TwoStageSchedule(stage2_epoch=10)])
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "CausalConv1D": "streaming",
    "CausalDepthwiseConv1D": "streaming",
    "FrontendConfig": "features",
    "KwsQuantizeConfig": "quantize_configs",
    "TimeAveragePooling1D": "streaming",
    "TimeMaxPooling1D": "streaming",
    "TimeWindow": "streaming",
    "TwoStageSchedule": "train",
    "calibrate": "train",
    "ds_cnn_stream": "models",
    "dynamic_scheme": "dynamic_schemes",
    "factorize": "low_rank",
    "kws_scheme": "scheme",
    "load_model": "scheme",
    "quantize_apply": "scheme",
    "quantize_scope": "scheme",
    "set_stage": "train",
    "svd_50k": "models",
    "wakeword_250k": "models",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    """Imports TensorFlow only when something that needs it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tfmot_kws' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"tfmot_kws.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
