"""--tensorboard and --mlflow: what is read back is what the commands wrote beside the model."""

from __future__ import annotations

import json
import os
import pathlib

import event_files
import pytest
import speech_files
from command_line import error, run

from tfmot_kws.commands.parts import mlflow_runs, progress, sidecar, watching
from tfmot_kws.quantize import saving


@pytest.fixture(scope="module")
def client(require_module):
    """Opens what a folder holds, by MLflow's own client."""
    tracking = require_module("mlflow.tracking")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

    def of(folder: pathlib.Path):
        return tracking.MlflowClient(tracking_uri=folder.absolute().as_uri(), registry_uri=folder.absolute().as_uri())

    return of


def runs_of(client) -> dict:
    (experiment,) = [one for one in client.search_experiments() if one.name == mlflow_runs.EXPERIMENT]
    return {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}


@pytest.fixture(scope="module")
def made(tmp_path_factory, client) -> pathlib.Path:
    """A float model whose training was stopped once, and a quantized one."""
    folder = tmp_path_factory.mktemp("watching")
    words = speech_files.make_words(folder / "words", speakers=10)
    told = ("--tensorboard", folder / "board", "--mlflow", folder / "runs")
    common = ("--data", words, "--cache", folder / "cache", "--copies", 1, "--batch-size", 16, *told)
    train = ("train", *common, "--keywords", "low,high", "--epochs", 2, "--width", 8, "--out", folder / "float.keras")

    def stop(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.Epochs, "on_epoch_end", stop)
        run(*train, status=130)
    (stopped,) = runs_of(client(folder / "runs")).values()
    assert stopped.info.status == "KILLED"
    run(*train, "--resume")
    stages = ("--stage1-epochs", 1, "--stage2-epochs", 1, "--bits", 4)
    run("quantize", "--model", folder / "float.keras", *common, *stages, "--out", folder / "q.keras")
    return folder


def test_tensorboard_has_every_epoch(made) -> None:
    """The second epoch was done and kept before the run was stopped; its callbacks were not all called."""
    found = event_files.scalars(made / "board" / "float")
    assert [step for step, _ in found["training/loss"]] == [0]
    found = event_files.scalars(made / "board" / "quantized")
    assert [step for step, _ in found["training/accuracy"]] == [0, 1]
    model = saving.load_model(made / "q.keras")
    for layer in model.layers:
        if f"ranges/{layer.name}/low" in found:
            scale, _ = layer.output_grid.quantization()
            assert found[f"scales/{layer.name}/output"][-1] == (1, pytest.approx(scale, rel=1e-6))
    assert sum(name.startswith("ranges/") for name in found) > 10


def test_runs_hold_what_the_sidecars_hold(made, client) -> None:
    records = client(made / "runs")
    found = runs_of(records)
    assert set(found) == {"float", "q"}  # the run that was stopped went on as the same
    for name, command in (("float", "train"), ("q", "quantize")):
        one, about = found[name], sidecar.read(made / f"{name}.keras")
        assert one.info.status == "FINISHED" and one.data.tags["tfmot_kws.command"] == command
        assert one.data.metrics["accuracy"] == pytest.approx(about.metrics["accuracy"])
        assert one.data.metrics["keywords/low/det_area"] == pytest.approx(about.metrics["keywords"]["low"]["det_area"])
        assert one.data.params["seed"] == "0" and one.data.params["batch-size"] == "16"
        files = {each.path for each in records.list_artifacts(one.info.run_id)}
        assert files == {f"{name}.keras.json", f"{name}.md", "options.json"}
        local = records.download_artifacts(one.info.run_id, f"{name}.keras.json")
        assert json.loads(pathlib.Path(local).read_text()) == json.loads((made / f"{name}.keras.json").read_text())
        card = pathlib.Path(records.download_artifacts(one.info.run_id, f"{name}.md")).read_text()
        assert f"accuracy {about.metrics['accuracy']:.1%}".capitalize() in card and "**low**, **high**" in card
    assert found["float"].data.params["width"] == "8"
    spotter = saving.load_model(made / "float.keras")
    assert found["float"].data.metrics["parameters"] == spotter.count_params()


def test_epochs_are_metrics(made, client) -> None:
    """The same numbers as in TensorBoard."""
    records = client(made / "runs")
    board = event_files.scalars(made / "board" / "quantized")
    run_id = runs_of(records)["q"].info.run_id
    for name in ("training/loss", "training/learning_rate", "ranges/logits/high"):
        history = records.get_metric_history(run_id, f"quantized/{name}")
        assert [(one.step, pytest.approx(one.value, rel=1e-6)) for one in history] == board[name]


def test_what_fails_is_marked(made, client, tmp_path) -> None:
    watchers = watching.Watchers(mlflow=str(tmp_path / "runs"))
    with pytest.raises(ZeroDivisionError), watchers.opened("train", tmp_path / "x.keras", {"a": 1}, tmp_path) as watch:
        watch.run.metrics({"frr / of «é»": 0.5, "b": float("nan")})
        raise ZeroDivisionError
    (one,) = runs_of(client(tmp_path / "runs")).values()
    assert one.info.status == "FAILED" and one.data.metrics["frr / of _é_"] == 0.5


def test_long_options_are_cut_and_kept_whole(client, tmp_path) -> None:
    records = mlflow_runs.Records(str(tmp_path))
    run = records.begin("x", {"network": "n" * 9000, "list": [1, 2], "none": None}, {})
    parent = records.begin("y", {}, {}, parent=run, again="0" * 32)  # of an id that is not there
    found = runs_of(client(tmp_path))
    assert found["x"].data.params["network"].endswith("... (options.json)") and "none" not in found["x"].data.params
    assert found["x"].data.params["list"] == "[1, 2]" and parent.id != "0" * 32
    assert found["y"].data.tags["mlflow.parentRunId"] == run.id
    path = client(tmp_path).download_artifacts(run.id, "options.json")
    assert json.loads(pathlib.Path(path).read_text())["network"] == "n" * 9000


def test_addresses() -> None:
    assert mlflow_runs.uri_of("runs") == (pathlib.Path.cwd() / "runs").as_uri()
    for uri in ("http://server:5000", "sqlite:///runs.db", "file:///runs"):
        assert mlflow_runs.uri_of(uri) == uri


def test_numbers_of_a_sidecar() -> None:
    found = mlflow_runs.numbers_of({"a": 1, "b": {"c": 0.5, "d": {"e": 2}}, "f": "x", "g": [1], "h": True})
    assert found == {"a": 1.0, "b/c": 0.5, "b/d/e": 2.0}


def test_mistakes_are_named_before_work(client, tmp_path, monkeypatch) -> None:
    train = ("train", "--data", tmp_path / "nothing", "--out", tmp_path / "x.keras")
    (tmp_path / "file").write_text("")
    assert "--tensorboard" in error(*train, "--tensorboard", tmp_path / "file" / "board")
    assert f"--mlflow {tmp_path / 'file'}: " in error(*train, "--mlflow", tmp_path / "file")
    said = error(*train, "--mlflow", "http://127.0.0.1:9")
    assert "--mlflow http://127.0.0.1:9: " in said
    monkeypatch.setattr(mlflow_runs.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'tfmot-kws[mlflow]'" in error(*train, "--mlflow", tmp_path)
    monkeypatch.setattr(
        mlflow_runs.importlib.util, "find_spec", lambda name: None if name == "sqlalchemy" else object()
    )
    said = error(*train, "--mlflow", f"sqlite:///{tmp_path}/x.db")
    assert "databases only where all of it is installed: pip install mlflow" in said
