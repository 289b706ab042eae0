# SPDX-License-Identifier: Apache-2.0
"""Files of folders and of addresses are read and written alike."""

from __future__ import annotations

import sys

import pytest

from tfmot_kws import parallel
from tfmot_kws.data import places


@pytest.fixture(params=["folder", "address"])
def root(request, tmp_path) -> str:
    return str(tmp_path / "root") if request.param == "folder" else f"ram://places/{tmp_path.name}"


def test_a_file_is_whole_or_not_there(root) -> None:
    path = places.join(root, "deep/er.bin")
    assert not places.exists(path) and places.names(root) == []
    with pytest.raises(OSError, match="er.bin"):
        places.read_bytes(path)
    with pytest.raises(OSError):
        places.size(path)
    places.write_bytes(path, b"one")
    places.write_bytes(path, b"another")
    assert places.read_bytes(path) == b"another" and places.size(path) == 7
    assert places.names(places.join(root, "deep")) == ["er.bin"] and places.names(root) == ["deep"]


def test_what_is_an_address() -> None:
    assert [places.is_address(place) for place in ("gs://a/b", "s3://a", "a/b", "/a", "C:/a", "a://")] == [
        True, True, False, False, False, True,
    ]  # fmt: skip
    assert places.join("gs://a/b/", "c") == "gs://a/b/c"


def test_an_address_that_nothing_opens(monkeypatch) -> None:
    for call in (places.exists, places.size, places.read_bytes, lambda place: places.write_bytes(place, b"")):
        with pytest.raises((ValueError, OSError), match="nothing://here/x: "):
            call("nothing://here/x")
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(ValueError, match="s3://a/b: s3:// needs tensorflow-io"):
        places.read_bytes("s3://a/b")


def test_work_in_this_process() -> None:
    done, seen = [], []
    parallel.run(done.append, [3, 1, 2], progress=lambda number, count: seen.append((number, count)))
    assert done == [3, 1, 2] and seen == [(1, 3), (2, 3), (3, 3)]
    parallel.run(done.append, [])

    def broken(item):
        raise OSError(f"{item}: no space")

    with pytest.raises(OSError, match="7: no space"):
        parallel.run(broken, [7])


def test_options_that_make_no_sense(monkeypatch) -> None:
    with pytest.raises(ValueError, match="workers=0"):
        parallel.check(0)
    with pytest.raises(ValueError, match="must begin with --"):
        parallel.check(1, ["runner=x"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    parallel.check(1)
    for asked in ((2, ()), (1, ("--runner=FlinkRunner",))):
        with pytest.raises(ImportError, match=r"needs apache_beam: pip install 'tfmot-kws\[scale\]'"):
            parallel.check(*asked)
