# SPDX-License-Identifier: Apache-2.0
"""What is checked before work begins, and the files that were left out."""

from __future__ import annotations

import io
import pathlib

import pytest
import rich.console

from tfmot_kws.commands.parts import results
from tfmot_kws.sound.problems import Problem


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("x.h5", ValueError, "--out .*x.h5: must end in .keras"),
        ("folder.keras", IsADirectoryError, "--out .*folder.keras: is a folder; name a file"),
        ("taken.keras", IsADirectoryError, "--out .*taken.keras.json: is a folder"),
        ("file/x.keras", NotADirectoryError, "--out .*: .*file is no folder"),
        ("file/deep/x.keras", NotADirectoryError, "file is no folder"),
        ("n" * 300 + ".keras", OSError, "cannot be written: File name too long"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path: pathlib.Path, name: str, error, said: str) -> None:
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "taken.keras.json").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=said):
        results.check_output(tmp_path / name, ".keras", "--out")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_without_permission(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(results.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(OSError, match=r"--out .*x\.keras: cannot be written: Permission denied"):
        results.check_output(tmp_path / "x.keras", ".keras", "--out")


def test_paths_that_can_be_written_leave_nothing(tmp_path: pathlib.Path) -> None:
    results.check_output(tmp_path / "new" / "deep" / "x.KERAS", ".keras", "--out")
    results.check_writable(tmp_path / "x.png", "--plot")
    assert not list(tmp_path.iterdir())


def test_files_that_were_left_out_are_named_once() -> None:
    console = rich.console.Console(file=io.StringIO(), width=200)
    problems = [Problem(f"{i}.wav", "unreadable", "no [bold]sound") for i in range(22)]
    results.show_left_out(console, [*problems, *problems, Problem("loud.wav", "clipped", "", dropped=False)])
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "left out: 0.wav: unreadable: no [bold]sound"
    assert len(lines) == 21 and lines[-1] == "left out: 2 more files"
