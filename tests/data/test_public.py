"""Public sets from a server of our own: cut connections, wrong checksums and sizes, no room, bad archives."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import shutil
import socket
import zipfile

import loopback
import pooch
import pytest
import requests

from tfmot_kws.data import public
from tfmot_kws.sound import download

NAME = "tiny.zip"


def _zip(members=(("tiny/a.wav", b"a" * 90_000), ("tiny/b.txt", b"b"))) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members:
            # The name alone would carry the time of day into the archive, and from its checksum into the tests' names.
            archive.writestr(zipfile.ZipInfo(name) if isinstance(name, str) else name, data)
    return stream.getvalue()


CONTENT = _zip()


def _set(url: str, content: bytes = CONTENT, checksum: str | None = "", **changed) -> public.PublicSet:
    checksum = f"md5:{hashlib.md5(content).hexdigest()}" if checksum == "" else checksum
    archive = dataclasses.replace(public.Archive(url, len(content), checksum), **changed)
    return public.PublicSet("tiny", "a set", "tests", "none", "http://127.0.0.1", (archive,), 100_000, "us")


@pytest.mark.parametrize(
    "checksum", ["", None, f"sha1:{hashlib.sha1(CONTENT).hexdigest()}"], ids=["md5", "none", "sha1"]
)
def test_a_set_is_fetched_once_and_recorded(tmp_path, checksum):
    steps = []
    with loopback.serve(CONTENT, name=NAME) as (url, state):
        for _ in range(2):
            folder = public.fetch(_set(url, checksum=checksum), tmp_path, progress=lambda *step: steps.append(step))
        assert len(state["ranges"]) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["fetched.json", "tiny"]
    assert (folder / "tiny" / "tiny" / "a.wav").stat().st_size == 90_000
    known = json.loads((folder / "fetched.json").read_text())[NAME]
    assert known == {"url": url, "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert steps[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("resumes", [True, False])
def test_a_cut_connection_goes_on(tmp_path, resumes):
    with loopback.serve(CONTENT, hang_up_at=[40_000], resumes=resumes, name=NAME) as (url, state):
        with pytest.raises(requests.RequestException) as found:
            public.fetch(_set(url), tmp_path)
        part = tmp_path / "tiny" / f"{NAME}.part"
        kept, said = part.stat().st_size, str(found.value)
        assert said == (
            f"{url}: the transfer failed (the connection was cut); {kept} of {len(CONTENT)} bytes are kept in {part}, "
            "and the same command goes on from there"
        )
        public.fetch(_set(url), tmp_path, keep_archives=True)
        assert state["ranges"][0] is None and state["ranges"][1].startswith("bytes=")
    assert (tmp_path / "tiny" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "changed", "says"),
    [
        (CONTENT, {"checksum": "md5:" + "0" * 32}, "hash"),
        (CONTENT, {"checksum": None, "size": 5}, "bytes came, expected 5"),
        (b"<html>not here</html>", {"checksum": None, "exact": False}, "cannot be unpacked"),
        (CONTENT[:-300], {"checksum": None, "exact": False}, "cannot be unpacked"),
        (_zip([("../out", b"x")]), {"checksum": None, "exact": False}, "../out, which may lead out"),
        (_zip([("/out", b"x")]), {"checksum": None, "exact": False}, "/out, which may lead out"),
        (_zip([("a\\..\\..\\out", b"x")]), {"checksum": None, "exact": False}, "which may lead out"),
    ],
)
def test_what_is_not_the_set_leaves_nothing(tmp_path, content, changed, says):
    with loopback.serve(content, name=NAME) as (url, _):
        with pytest.raises(ValueError, match=says):
            public.fetch(_set(url, content, **changed), tmp_path)
    assert not list(tmp_path.iterdir())


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_server_that_is_not_there_leaves_nothing(tmp_path):
    url = f"http://127.0.0.1:{_closed_port()}/{NAME}"
    with pytest.raises(requests.RequestException) as found:
        public.fetch(_set(url), tmp_path / "new" / "data")
    assert str(found.value) == (
        f"{url}: the transfer failed (Connection refused) and nothing came; look at the network, and give the same "
        "command again"
    )
    assert not list(tmp_path.iterdir())


def test_what_has_come_stays_when_the_server_goes(tmp_path):
    with loopback.serve(CONTENT, hang_up_at=[40_000], name=NAME) as (url, _):
        with pytest.raises(requests.RequestException):
            public.fetch(_set(url), tmp_path)
    with pytest.raises(requests.RequestException, match=r"Connection refused.*bytes are kept in .*, and the same"):
        public.fetch(_set(url), tmp_path)


def test_a_server_that_hangs_up_at_once_leaves_nothing(tmp_path):
    with loopback.serve(CONTENT, hang_up_at=[0], name=NAME) as (url, _):
        with pytest.raises(requests.RequestException, match="the connection was cut.* and nothing came"):
            public.fetch(_set(url), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "says"),
    [(404, "the server answered 404 Not Found; it may have moved: look at its page"), (503, "503 .*; give the same")],
)
def test_an_error_of_the_server_is_one_line(tmp_path, code, says):
    with loopback.serve(CONTENT, name=NAME, status=code) as (url, _):
        with pytest.raises(requests.RequestException, match=f"^{url}: .*{says}"):
            public.fetch(_set(url), tmp_path)
    assert not list(tmp_path.iterdir())


def test_folders_that_were_there_stay(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(requests.RequestException):
        public.fetch(_set(f"http://127.0.0.1:{_closed_port()}/{NAME}"), tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="file: is a file; name a folder"):
        public.fetch(_set("http://127.0.0.1/tiny.zip"), tmp_path / "file" / "data")


def test_hints_to_programmers_are_not_shown(tmp_path, capfd):
    """pooch's logger writes to where stderr was when it was imported."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    pooch.get_logger().addHandler(handler)
    try:
        with loopback.serve(CONTENT, name=NAME) as (url, _):
            public.fetch(_set(url, checksum=None), tmp_path)
    finally:
        pooch.get_logger().removeHandler(handler)
    assert not records and not pooch.get_logger().level
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", ["{broken", "[1]"])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "fetched.json").write_text(text)
    with loopback.serve(CONTENT, name=NAME) as (url, state):
        with pytest.raises(ValueError, match="fetched.json: is damaged .*; remove it, what was unpacked stays"):
            public.fetch(_set(url), tmp_path)
    assert state["ranges"] == []


def _marked(content: bytes, offset: int, value: int) -> bytes:
    """A .zip of one member with a field changed, in the member's own header and in the directory."""
    out = bytearray(content)
    for start, place in ((0, 6), (content.index(b"PK\1\2"), 8)):
        out[start + place + offset : start + place + offset + 2] = value.to_bytes(2, "little")
    return bytes(out)


@pytest.mark.parametrize(
    ("offset", "value", "says"), [(0, 1, "encrypted"), (2, 99, "compression method")], ids=["encrypted", "compressed"]
)
def test_a_zip_that_python_cannot_read_leaves_nothing(offset, value, says, tmp_path):
    """zipfile raises RuntimeError of one, NotImplementedError of the other."""
    (tmp_path / NAME).write_bytes(_marked(_zip([("a", b"x")]), offset, value))
    with pytest.raises(ValueError, match=f"{NAME}: cannot be unpacked: .*{says}"):
        download.unpack(tmp_path / NAME, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    content = _zip([(link, "/etc")])
    with loopback.serve(content, name=NAME) as (url, _), pytest.raises(ValueError, match="link is a link"):
        public.fetch(_set(url, content), tmp_path)


def test_the_disk_is_looked_at_before(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with loopback.serve(CONTENT, name=NAME) as (url, state):
        with pytest.raises(OSError, match="needs 0 MB, the disk has 0 MB; name a folder elsewhere"):
            public.fetch(_set(url), tmp_path)
    assert state["ranges"] == []


def test_the_table_says_what_there_is():
    assert {"speech-commands", "musan", "esc-50", "fma-small", "mit-rooms", "microwakeword"} < set(public.SETS)
    for name, item in public.SETS.items():
        assert item.name == name and item.licence and item.use and item.size > 0
        assert all(archive.url.startswith("https://") for archive in item.archives)
        assert bool(item.checked_by) == all(archive.checksum for archive in item.archives)
        text = item.statement()
        assert item.licence in text and all(archive.url in text for archive in item.archives)
    with pytest.raises(ValueError, match="no public set is called 'x'; known are speech-commands"):
        public.find(["x"])
