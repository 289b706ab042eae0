# SPDX-License-Identifier: Apache-2.0
"""Speech Commands from a server of our own: resumed, checked, unpacked."""

from __future__ import annotations

import hashlib
import io
import tarfile

import loopback
import pytest
import requests
from corpus_files import make_folder

from tfmot_kws.data import datasets
from tfmot_kws.frontend import features

FRONTEND = features.FrontendConfig(mel_bins=20)
TASK = datasets.TaskConfig(("yes", "no"))


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.fixture
def archive(folder):
    (folder / "validation_list.txt").write_text("yes/00000000_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("no/00000001_nohash_0.flac\n")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for item in sorted(folder.iterdir()):
            tar.add(item, f"./{item.name}")
    return stream.getvalue()


def test_speech_commands_are_downloaded_once(tmp_path, archive):
    with loopback.serve(archive) as (url, state):
        corpus = datasets.speech_commands(tmp_path / "sc", url, _sha256(archive))
        assert corpus.words()["yes"] == 12 and len(corpus.split("dev").filter(words=["yes"])) == 1
        assert datasets.speech_commands(tmp_path / "sc", url, _sha256(archive)) == corpus
        assert len(state["ranges"]) == 1
    unpacked = tmp_path / "sc" / "speech_commands_tiny"
    assert datasets.speech_commands(unpacked, "http://127.0.0.1:9/none").words() == corpus.words()
    assert sorted(item.name for item in (tmp_path / "sc").iterdir()) == [
        "speech_commands_tiny",
        "speech_commands_tiny.tar.gz",
    ]


def test_interrupted_download_goes_on(tmp_path, archive):
    third = len(archive) // 3
    with loopback.serve(archive, hang_up_at=[third, 2 * third]) as (url, state):
        for _ in range(2):
            with pytest.raises(requests.RequestException):
                datasets.speech_commands(tmp_path / "sc", url, _sha256(archive))
        assert datasets.speech_commands(tmp_path / "sc", url, _sha256(archive)).words()["no"] == 12
    first, *resumed = state["ranges"]
    assert first is None
    for asked, arrived in zip(resumed, (third, 2 * third), strict=True):
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        assert arrived - (1 << 14) <= start <= arrived


def test_server_without_ranges_is_read_from_the_start(tmp_path, archive):
    with loopback.serve(archive, hang_up_at=[100_000], resumes=False) as (url, state):
        with pytest.raises(requests.RequestException):
            datasets.speech_commands(tmp_path / "sc", url, _sha256(archive))
        assert datasets.speech_commands(tmp_path / "sc", url, _sha256(archive)).words()["no"] == 12
    assert state["ranges"][0] is None and state["ranges"][1].startswith("bytes=")


def test_complete_part_is_used(tmp_path, archive):
    (tmp_path / "sc").mkdir()
    (tmp_path / "sc" / "speech_commands_tiny.tar.gz.part").write_bytes(archive)
    with loopback.serve(archive) as (url, _):
        assert datasets.speech_commands(tmp_path / "sc", url, _sha256(archive)).words()["no"] == 12


def test_wrong_checksum_keeps_nothing(tmp_path, archive):
    with loopback.serve(archive) as (url, _):
        with pytest.raises(ValueError, match="hash"):
            datasets.speech_commands(tmp_path / "sc", url, "sha256:" + "0" * 64)
    assert not (tmp_path / "sc").exists()


def test_missing_and_damaged_archives(tmp_path, archive):
    with loopback.serve(b"not an archive") as (url, _):
        with pytest.raises(ValueError, match="cannot be unpacked"):
            datasets.speech_commands(tmp_path / "bad", url, None)
    assert [item.name for item in (tmp_path / "bad").iterdir()] == ["speech_commands_tiny.tar.gz"]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo("../outside.txt")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    with loopback.serve(stream.getvalue()) as (url, _):
        with pytest.raises(ValueError, match="cannot be unpacked"):
            datasets.speech_commands(tmp_path / "evil", url, None)
    assert not (tmp_path / "outside.txt").exists() and not (tmp_path / "evil" / "outside.txt").exists()
