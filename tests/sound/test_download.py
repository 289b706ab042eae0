"""Unpacking of downloads: nothing is written outside of the folder, on every Python."""

from __future__ import annotations

import io
import os
import re
import tarfile

import pytest

from tfmot_kws.sound import download


@pytest.fixture(params=["with the data filter", "without it"])
def unpack(request, monkeypatch):
    """``download.unpack`` on this Python, and as on those whose tarfile knows no filters."""
    if request.param == "without it":
        extractall = tarfile.TarFile.extractall

        def of_old(self, path=".", members=None, *, numeric_owner=False):
            extractall(self, path, members, numeric_owner=numeric_owner)

        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        monkeypatch.setattr(tarfile.TarFile, "extractall", of_old)
    return download.unpack


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    info.uid = info.gid = 12345
    info.size = 3 if kind == tarfile.REGTYPE else 0
    return info


def _tar(path, members):
    with tarfile.open(path, "w") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"abc"))
    return path


def test_unpack_keeps_files_folders_and_links(unpack, tmp_path):
    members = [
        _member("./yes", tarfile.DIRTYPE, mode=0o555),
        _member("./yes/a.wav", mode=0o6777),
        _member("./yes/b..wav", mode=0o000),
        _member("./link", tarfile.SYMTYPE, "yes/a.wav"),
        _member("./hard", tarfile.LNKTYPE, "./yes/a.wav", mode=0o6777),
    ]
    folder = unpack(_tar(tmp_path / "a.tar", members), tmp_path / "new")
    made = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert made == ["hard", "link", "yes", "yes/a.wav", "yes/b..wav"]
    assert (folder / "link").read_text() == (folder / "hard").read_text() == "abc"
    assert (folder / "yes" / "a.wav").stat().st_mode & 0o7777 == 0o755
    assert (folder / "yes" / "b..wav").stat().st_mode & 0o7777 == 0o600
    assert (folder / "yes" / "a.wav").stat().st_uid == os.getuid()
    (folder / "yes" / "c.wav").write_text("folders can be written to")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([_member("/outside")], "/outside, which may lead out"),
        ([_member("../outside")], "../outside, which may lead out"),
        ([_member("yes/../../outside")], "yes/../../outside, which may lead out"),
        ([_member("link", tarfile.SYMTYPE, "/etc")], "link is a link to /etc"),
        ([_member("link", tarfile.SYMTYPE, "../outside")], "link is a link to ../outside"),
        ([_member("link", tarfile.LNKTYPE, "../outside")], "link is a link to ../outside"),
        # Each link is harmless alone, until the second one makes the first one's ".." climb.
        ([_member("a", tarfile.SYMTYPE, "b/.."), _member("b", tarfile.SYMTYPE, ".")], "a is a link to b/.."),
        ([_member("disk", tarfile.BLKTYPE)], "disk is a device"),
        ([_member("null", tarfile.CHRTYPE)], "null is a device"),
        ([_member("pipe", tarfile.FIFOTYPE)], "pipe is a device or a pipe"),
    ],
)
def test_unpack_refuses_what_leads_out(unpack, members, says, tmp_path):
    (tmp_path / "outside").write_text("as it was")
    archive = _tar(tmp_path / "a.tar", [_member("first"), *members, _member("last")])
    with pytest.raises(ValueError, match=f"a.tar: cannot be unpacked: {re.escape(says)}"):
        unpack(archive, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "outside"]
    assert (tmp_path / "outside").read_text() == "as it was"
