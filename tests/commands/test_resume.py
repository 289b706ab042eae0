# SPDX-License-Identifier: Apache-2.0
"""Training that is stopped and goes on: the same weights as without a stop, and what else --resume may find."""

from __future__ import annotations

import json
import pathlib
import shutil

import kept
import numpy as np
import pytest
import rich.console
import speech_files
import typer
from command_line import error, run

from tfmot_kws.commands.parts import console as consoles
from tfmot_kws.commands.parts import progress, unfinished
from tfmot_kws.quantize import saving

TRAIN = ("--copies", 1, "--batch-size", 16, "--keywords", "low,high", "--width", 8, "--epochs", 4)
QUANTIZE = ("--copies", 1, "--batch-size", 16, "--stage1-epochs", 2, "--stage2-epochs", 2)


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> pathlib.Path:
    return kept.once(tmp_path_factory, "resume-words", lambda folder: speech_files.make_words(folder / "words"))


def weights(path: pathlib.Path) -> list[np.ndarray]:
    return saving.load_model(path).get_weights()


def stop_after(monkeypatch, epochs: int, error: BaseException) -> None:
    def stop(self, epoch, logs=None):
        if epoch + 1 == epochs:
            raise error

    monkeypatch.setattr(progress.Epochs, "on_epoch_end", stop)


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_weights(words, tmp_path, monkeypatch) -> None:
    common = ("--data", words / "words", "--cache", tmp_path / "cache")
    straight = run("train", *common, *TRAIN, "--out", tmp_path / "a.keras").stdout
    assert "training: 1/4, loss " in straight and "accuracy" in straight and "s left" in straight
    out = tmp_path / "b.keras"
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt())
        stopped = run("train", *common, *TRAIN, "--out", out, status=130)
    assert "stopped; go on from the last whole epoch by the same command and --resume" in stopped.stdout
    assert not out.exists() and unfinished.folder_of(out).is_dir()
    assert "b.keras.run: holds an unfinished run" in error("train", *common, *TRAIN, "--out", out)
    assert "--epochs was 4, now 5" in error("train", *common, *TRAIN[:-1], 5, "--out", out, "--resume")
    resumed = run("train", *common, *TRAIN, "--out", out, "--resume").stdout
    assert "training: 3/4, loss " in resumed and "1/4" not in resumed
    assert not unfinished.folder_of(out).exists()
    for left, right in zip(weights(tmp_path / "a.keras"), weights(out), strict=True):
        np.testing.assert_array_equal(left, right)

    model = ("--model", tmp_path / "a.keras")
    run("quantize", *model, *common, *QUANTIZE, "--out", tmp_path / "qa.keras")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, RuntimeError("killed"))  # in stage 2
        assert "killed" in error("quantize", *model, *common, *QUANTIZE, "--out", tmp_path / "qb.keras")
    run("quantize", *model, *common, *QUANTIZE, "--out", tmp_path / "qb.keras", "--resume")
    for left, right in zip(weights(tmp_path / "qa.keras"), weights(tmp_path / "qb.keras"), strict=True):
        np.testing.assert_array_equal(left, right)
    assert "--out" in error("quantize", *model, *common, "--out", tmp_path / "a.keras")


def test_what_cannot_go_on(tmp_path) -> None:
    out, console = tmp_path / "x.keras", rich.console.Console()
    folder = unfinished.folder_of(out)
    unfinished.check(out, False, {})
    with pytest.raises(ValueError, match=r"--resume: there is no unfinished run for .*x\.keras"):
        unfinished.check(out, True, {})
    with pytest.raises(typer.Exit), unfinished.kept(console, out, {"bits": 4}) as run_folder:
        assert run_folder == folder and json.loads((folder / "options.json").read_text()) == {"bits": 4}
        raise KeyboardInterrupt
    assert not folder.exists()  # there was no epoch to keep
    with pytest.raises(OSError, match="full"), unfinished.kept(console, out, {"bits": 4}):
        (folder / "float").mkdir()
        (folder / "float" / "checkpoint").write_text("")
        raise OSError("full")
    unfinished.check(out, True, {"bits": 4})
    with pytest.raises(ValueError, match=r"--bits was 4, now 2; --seed was None, now 1"):
        unfinished.check(out, True, {"bits": 2, "seed": 1})
    for text in ("{", "[1]", "null"):
        (folder / "options.json").write_text(text)
        with pytest.raises(ValueError, match=r"options.json is damaged .*; remove .*x\.keras\.run to begin anew"):
            unfinished.check(out, True, {"bits": 4})
    shutil.rmtree(folder)


def test_time_that_is_left_follows_from_this_run(monkeypatch) -> None:
    now, lines = [100.0], []
    monkeypatch.setattr(consoles.time, "monotonic", lambda: now[0])
    advance = consoles._Lines(lines.append, "training")
    now[0] = 107.0
    advance.begin(10)
    now[0] = 109.0
    advance(11, 30, "loss 0.5000")
    advance(12, 30, "loss 0.4000")  # too soon for another line
    now[0] = 149.0
    advance(21, 30, "loss 0.3000")
    advance(30, 30, "loss 0.1000")
    assert lines == [
        "training: 11/30, loss 0.5000, about 38 s left",
        "training: 21/30, loss 0.3000, about 34 s left",
    ]


def test_time_that_is_left_is_not_guessed_from_nothing(monkeypatch) -> None:
    """With one batch an epoch, the first epoch is where the count begins."""
    now = [0.0]
    monkeypatch.setattr(consoles.time, "monotonic", lambda: now[0])
    left = consoles._Left()
    left.begin(1)
    now[0] = 2.0
    assert left(1, 5) == "time left is not known yet"
    assert left(2, 5) == "about 6 s left"


def test_the_float_model_by_another_path_is_not_written_over(tmp_path) -> None:
    (tmp_path / "m").mkdir()
    model = tmp_path / "m" / "f.keras"
    model.write_bytes(b"a model")
    for out in (tmp_path / "m" / ".." / "m" / "f.keras", tmp_path / "link.keras"):
        if not out.exists():
            out.symlink_to(model)
        assert "is the float model itself" in error("quantize", "--model", model, "--data", tmp_path, "--out", out)
    assert model.read_bytes() == b"a model"
