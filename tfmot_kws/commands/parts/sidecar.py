# SPDX-License-Identifier: Apache-2.0
"""What belongs to a model file but has no place in it: front end, task, metrics. ``x.keras`` has ``x.keras.json``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import tfmot_kws
from tfmot_kws import atomic
from tfmot_kws.commands.parts import esphome_manifest
from tfmot_kws.data import task
from tfmot_kws.frontend import features

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """Next to a model.

    Attributes:
        kind: ``"float"``, ``"quantized"`` or ``"tflite"``.
        frontend: how sound becomes its features.
        task: its classes and clip length.
        options: what it was made with, plain values.
        metrics: what was measured, plain values.
    """

    kind: str
    frontend: features.FrontendConfig
    task: task.TaskConfig
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


def path_of(model: Path) -> Path:
    """Where the sidecar of a model lies."""
    return model.with_name(model.name + ".json")


def write(model: Path, sidecar: Sidecar) -> Path:
    """Writes the sidecar of a model; returns its path."""
    value = {
        "version": VERSION,
        "tfmot_kws": tfmot_kws.__version__,
        "kind": sidecar.kind,
        "frontend": sidecar.frontend.to_dict(),
        "task": dataclasses.asdict(sidecar.task),
        "classes": sidecar.task.classes,
        "options": sidecar.options,
        "metrics": sidecar.metrics,
    }
    return atomic.write_json(path_of(model), value)


def read(model: Path) -> Sidecar:
    """The sidecar of a model; that of one of microWakeWord's is made of its manifest, ``x.json``.

    Raises:
        FileNotFoundError: the model or its sidecar is not there.
        ValueError: it is damaged or of another version.
    """
    if not model.is_file():
        raise FileNotFoundError(f"{model}: no such model file")
    path = path_of(model)
    if not path.is_file() and esphome_manifest.path_of(model).is_file():
        return _of_manifest(esphome_manifest.read(esphome_manifest.path_of(model)))
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: not found; it says which features {model.name} needs and is written next to it by "
            "'tfmot-kws train', 'quantize' and 'export': keep the two together"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["version"] != VERSION:
            raise ValueError(f"version {value['version']!r}, this release reads {VERSION}")
        for name in ("options", "metrics"):
            if not isinstance(value[name], dict):
                raise TypeError(f"{name}: found {type(value[name]).__name__}, expected a table")
        return Sidecar(
            kind=value["kind"],
            frontend=features.FrontendConfig.from_dict(value["frontend"]),
            task=task.TaskConfig(**value["task"]),
            options=value["options"],
            metrics=value["metrics"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a sidecar of this release ({error}); make the model again") from error


def _of_manifest(manifest: esphome_manifest.Manifest) -> Sidecar:
    """What a manifest says: ESPHome's front end, and one keyword, in lower case and without blanks."""
    word = "_".join(manifest.wake_word.lower().split())
    return Sidecar(
        "tflite",
        features.FrontendConfig(hop_ms=manifest.feature_step_size),
        task.TaskConfig((word,)),
        {"streaming": "internal", "for": "esphome"},
    )
