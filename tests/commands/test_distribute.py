"""``train`` and ``quantize --distribute``: the chief writes, errors are one line, a killed worker is started again."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
import typer
from command_line import error
from corpus_files import make_folder

from tfmot_kws.commands.parts import distributing, sidecar, unfinished
from tfmot_kws.quantize import saving


def train(data: pathlib.Path, out: pathlib.Path, *more) -> subprocess.CompletedProcess:
    options = ["--data", data, "--keywords", "yes,no", "--width", 8, "--epochs", 2, "--copies", 0, "--batch-size", 8]
    command = [sys.executable, "-m", "tfmot_kws.cli", "train", *options, "--out", out, "--cache", out.parent / "cache"]
    return subprocess.run([str(one) for one in [*command, *more]], capture_output=True, text=True)


@pytest.mark.slow
def test_two_workers_write_one_model(tmp_path) -> None:
    out = tmp_path / "made" / "float.keras"
    done = train(make_folder(tmp_path), out, "--distribute", "local:2", "--tensorboard", tmp_path / "board")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.parent.iterdir()} - {"cache"}
    assert names == {out.name, f"{out.name}.json"} and done.stdout.count(f"wrote {out}") == 1
    assert len(list((tmp_path / "board" / "float").iterdir())) == 1
    assert saving.load_model(out).output_shape[-1] == len(sidecar.read(out).task.classes)


def test_refusals(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    options = ["train", "--data", tmp_path, "--out", tmp_path / "x.keras", "--distribute"]
    assert "--distribute local:0: must be 1 or more workers" in error(*options, "local:0")
    assert "--distribute 'mpi': must be local:N or one of auto, tf-config, slurm" in error(*options, "mpi")
    assert "--distribute parameter-server: is not offered" in error(*options, "parameter-server")
    assert "--distribute auto: found neither TF_CONFIG nor SLURM_PROCID" in error(*options, "auto")
    assert "--distribute TF_CONFIG=''" in error(*options, "tf-config")
    assert "--distribute: goes without --sweep" in error(*options, "auto", "--sweep", "bits=2,4")


def test_workers_get_the_arguments_of_the_launcher(monkeypatch) -> None:
    launched = []

    def launch(command, workers):
        launched.append((command[3:], workers))
        return 7

    monkeypatch.setattr(distributing.local_workers, "launch", launch)
    for given in (["--distribute", "local:3"], ["--distribute=local:3"]):
        monkeypatch.setattr(sys, "argv", ["tfmot-kws", "train", *given, "--out", "local:3"])
        with pytest.raises(typer.Exit) as ended, distributing.joined("local:3"):
            raise AssertionError("the launcher trains nothing")
        assert ended.value.exit_code == 7
        command, workers = launched.pop()
        assert workers == 3 and " ".join(command).replace("=", " ") == "train --distribute tf-config --out local:3"


def test_workers_go_on_by_themselves_and_the_chief_alone_looks(tmp_path) -> None:
    out, options = tmp_path / "x.keras", {"epochs": 2}
    kept = unfinished.folder_of(out) / "float"
    kept.mkdir(parents=True)
    (kept / "checkpoint").touch()
    (kept.parent / "options.json").write_text('{"epochs": 2}')
    together = object()
    distributing.Workers(together).check(out, False, options)
    with pytest.raises(ValueError, match="--epochs was 2, now 3"):
        distributing.Workers(together).check(out, False, {"epochs": 3})
    distributing.Workers(together, chief=False).check(out, False, {"epochs": 3})
    with pytest.raises(ValueError, match="holds an unfinished run"):
        distributing.ALONE.check(out, False, options)
