# SPDX-License-Identifier: Apache-2.0
"""Descriptions of networks in files, as ``search`` writes them and ``train`` reads them."""

from __future__ import annotations

import dataclasses
import pathlib

from tfmot_kws.models.networks import NetworkConfig
from tfmot_kws.models.spotters import ModelConfig


def read(path: pathlib.Path, shape: ModelConfig) -> NetworkConfig:
    """The network of a file, for other classes and clips than those it was searched for.

    Args:
        path: a .json file.
        shape: whose classes, frames and features it gets.

    Raises:
        ValueError: it describes no network, or one of features where sound is given, or the other way round.
    """
    try:
        found = NetworkConfig.from_json(path.read_text(encoding="utf-8"))
        if (found.sinc is None) != (shape.sinc is None):
            needed = "micro or lfbe" if found.sinc is None else "raw"
            raise ValueError(f"it hears {'features' if found.sinc is None else 'samples'}: --backend {needed}")
        return dataclasses.replace(found, num_classes=shape.num_classes, frames=shape.frames, mel_bins=shape.mel_bins)
    except ValueError as error:
        raise ValueError(f"--network {path}: {error}") from error
