# SPDX-License-Identifier: Apache-2.0
"""From recordings to features and labels: the one module to import for data.

A ``Corpus`` lists clips (from a folder of words, a manifest, Speech Commands or synthetic
speech), a ``TaskConfig`` says what is to be told apart, and ``load_features`` turns
both into arrays, cached on disk. ``prepare``, ``training_features`` and
``held_out_features`` do so with the choices of the command line.
"""

from __future__ import annotations

import os
from pathlib import Path

from tfmot_kws.data.corpus import SPLITS, Clip, Corpus, from_folder, from_manifest, hash_split
from tfmot_kws.data.feature_set import FeatureSet, LoadReport, load_features
from tfmot_kws.data.prepare import held_out_features, prepare, training_features
from tfmot_kws.data.task import SILENCE, UNKNOWN, TaskConfig
from tfmot_kws.sound import download
from tfmot_kws.sound.download import SPEECH_COMMANDS_HASH, SPEECH_COMMANDS_URL

__all__ = [
    "SILENCE",
    "SPEECH_COMMANDS_HASH",
    "SPEECH_COMMANDS_URL",
    "SPLITS",
    "UNKNOWN",
    "Clip",
    "Corpus",
    "FeatureSet",
    "LoadReport",
    "TaskConfig",
    "from_folder",
    "from_manifest",
    "hash_split",
    "held_out_features",
    "load_features",
    "open_corpus",
    "prepare",
    "speech_commands",
    "training_features",
]


def speech_commands(
    folder: str | os.PathLike,
    url: str = SPEECH_COMMANDS_URL,
    known_hash: str | None = SPEECH_COMMANDS_HASH,
) -> Corpus:
    """Google Speech Commands v2 (Warden, 2018), downloaded and unpacked where it is not yet.

    The archive (2.3 GB) is checked against its hash and an interrupted download goes on where
    it stopped. Its own lists make the split.

    Args:
        folder: archive and clips go here.
        url: another place for the archive.
        known_hash: ``"sha256:..."`` of the archive; None checks nothing.

    Returns:
        The corpus.

    Raises:
        ValueError: the hash differs or the archive is damaged.
        requests.RequestException: the transfer failed; call again to resume.
    """
    folder = Path(folder)
    if folder.is_dir() and _is_speech_commands(folder):
        return from_folder(folder)
    name = url.rsplit("/", 1)[-1].removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
    target = folder / (name or "speech_commands")
    if not target.is_dir():
        download.unpack(download.fetch(url, known_hash, folder), target)
    return from_folder(target)


def _is_speech_commands(folder: Path) -> bool:
    return (folder / "validation_list.txt").is_file() or (folder / "testing_list.txt").is_file()


def open_corpus(path: str | os.PathLike, speakers: str = "auto") -> Corpus:
    """Opens what is there: a manifest (file or folder), Speech Commands or a folder of words.

    Args:
        path: a ``.csv`` file, or a folder with ``manifest.csv``, with Speech Commands' lists,
            or with one folder per word.
        speakers: the rule that says who speaks, see ``from_folder``.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: nothing usable there, or the rule does not suit.
    """
    path = Path(path)
    if path.is_file() or (path / "manifest.csv").is_file():
        return from_manifest(path, speakers)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a folder of words (word/*.wav|flac|ogg) or a manifest.csv")
    return from_folder(path, speakers=speakers)
