"""The table of where words are in long recordings."""

from __future__ import annotations

import pathlib

import pytest

from tfmot_kws.data import stream_labels
from tfmot_kws.data.stream_labels import Target

HEADER = "stream,event,word,start,end,snr_db,background,source\n"


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_labels_are_read(tmp_path: pathlib.Path) -> None:
    rows = "a,keyword,go,3.5,4,9,noise,x\na,negative,,1,2,,,\na,keyword,go,0,0.5,,,\nb,negative,,1,2,,,\n"
    path = write(tmp_path / stream_labels.LABELS, "\ufeff" + HEADER + rows)
    assert stream_labels.read(path) == {"a": (Target("go", 0.0, 0.5), Target("go", 3.5, 4.0)), "b": ()}
    write(path, "stream,event,word,start,end,speaker\na,keyword,go,1,2,ann \na,keyword,go,3,4\n")
    assert [target.speaker for target in stream_labels.read(path)["a"]] == ["ann", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stream,word,start\n", "columns .'event', 'end'. missing"),
        (HEADER + "a,keyword,,1,2,,,\n", "line 2: word=''"),
        (HEADER + "a,keyword,go,2,1,,,\n", "line 2: .*0 <= start < end"),
        (HEADER + "a,keyword,go,x,1,,,\n", "line 2: .*start='x'"),
        (HEADER + "a,keyword,go,nan,1,,,\n", "line 2"),
        (HEADER + "a,keyword,go\n", "line 2"),
        (HEADER + ",keyword,go,1,2,,,\n", "line 2: no stream"),
    ],
)
def test_labels_that_make_no_sense(text: str, message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=message):
        stream_labels.read(write(tmp_path / "x.csv", text))


def test_labels_are_looked_for_two_folders_up(tmp_path: pathlib.Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="not found in .*a/b/c, .*a/b, .*a;"):
        stream_labels.find(deep)
    write(tmp_path / stream_labels.LABELS, HEADER)
    with pytest.raises(FileNotFoundError):
        stream_labels.find(deep)
    top = write(tmp_path / "a" / stream_labels.LABELS, HEADER)
    assert stream_labels.find(deep) == top
    near = write(deep / stream_labels.LABELS, HEADER)
    assert stream_labels.find(deep) == near == stream_labels.find(write(deep / "x.wav", ""))


def test_recordings_of_a_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        stream_labels.sounds(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no recordings"):
        stream_labels.sounds(tmp_path)
    files = tuple(write(tmp_path / name, "") for name in ("a.flac", "deep/b.wav", "deep/c.WAV"))
    write(tmp_path / "deep" / "d.txt", "")
    write(tmp_path / ".hidden.wav", "")
    assert stream_labels.sounds(tmp_path) == files
    assert stream_labels.sounds(files[1]) == files[1:2]
    manifest = write(tmp_path / "manifest.csv", "path,word,kind\na.flac,go,word\n")
    with pytest.raises(ValueError, match="kind 'streams'"):
        stream_labels.sounds(tmp_path)
    write(manifest, "path,word,kind\na.flac,go,word\ndeep/b.wav,,streams\n")
    assert stream_labels.sounds(tmp_path) == files[1:2]


def test_every_stream_needs_its_labels() -> None:
    a, b = pathlib.Path("x/a.wav"), pathlib.Path("y/b.wav")
    labels = {"a": (Target("go", 0.0, 1.0),), "c": ()}
    table = pathlib.Path("labels.csv")
    assert stream_labels.of_files((a,), labels, table) == [labels["a"]]
    with pytest.raises(ValueError, match="no line for 1 of 2 recordings .b.*--negatives"):
        stream_labels.of_files((a, b), labels, table)
    with pytest.raises(ValueError, match="'a'.*this name"):
        stream_labels.of_files((a, pathlib.Path("y/a.wav")), labels, table)
