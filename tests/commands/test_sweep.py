"""``train --sweep``: a study that is stopped and goes on, its tables, and the model that train and quantize make."""

from __future__ import annotations

import csv
import json
import os
import pathlib

import event_files
import numpy as np
import pytest
import speech_files
from command_line import error, run

from tfmot_kws.commands.parts import mlflow_runs, progress, sidecar, sweeping
from tfmot_kws.data import shards
from tfmot_kws.models import networks
from tfmot_kws.quantize import saving
from tfmot_kws.training import sweeps

SWEEP = "bits=8,4 quantize_rate=1e-3"


def _stop(self, epoch, logs=None):
    """Between both epochs of the second trial, whose float model is that of the first."""
    if "trial 2" in self._advance._label and epoch == 1:
        raise KeyboardInterrupt
    self._epoch = epoch


@pytest.fixture(scope="module")
def made(tmp_path_factory, require_package) -> pathlib.Path:
    """A study that was stopped in its second trial and went on."""
    require_package("keras_tuner", "keras-tuner")
    require_package("mlflow", "mlflow-skinny")
    folder = tmp_path_factory.mktemp("sweep")
    speech_files.make_words(folder / "words", speakers=30)
    small = networks.NetworkConfig(4, 49, 40, (networks.BlockSpec("dense", 4, stride=2),))
    (folder / "network.json").write_text(small.to_json())
    command = (*study(folder), "--tensorboard", folder / "board", "--mlflow", folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.Epochs, "on_epoch_begin", _stop)
        stopped = run(*command, status=130).stdout
    assert "stopped; the same command goes on after the last whole epoch in" in stopped
    assert not (folder / "study" / "best.keras").exists() and list((folder / "study").rglob("checkpoint"))
    (folder / "shown.txt").write_text(run(*command).stdout)
    return folder


def common(folder: pathlib.Path) -> tuple:
    data = ("--data", folder / "words", "--cache", folder / "cache", "--copies", 1, "--batch-size", 16)
    return (*data, "--seed", 3)


def train(folder: pathlib.Path) -> tuple:
    network = ("--network", folder / "network.json")
    return ("train", *common(folder), *network, "--keywords", "low,high", "--epochs", 2, "--learning-rate", 5e-3)


def study(folder: pathlib.Path, text: str = SWEEP) -> tuple:
    grid = ("--sweep-method", "grid", "--sweep-stages", "1,1")
    return (*train(folder), "--out", folder / "study", "--sweep", text, *grid)


def test_it_says_what_it_does(made) -> None:
    shown = (made / "shown.txt").read_text()
    assert "trial 1: bits 8, quantize_rate 0.001: done before" in shown
    assert "trial 2: bits 4, quantize_rate 0.001 ..." in shown
    assert "2 trials, judged by dev" in shown and "clips of test" in shown and "DET area" in shown
    assert not list((made / "study").rglob("checkpoint"))


def test_tables_agree(made) -> None:
    out = made / "study"
    value = json.loads((out / "sweep.json").read_text())
    with open(out / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["bits"] for row in rows] == ["8", "4"] and value["judged_by"] == "dev"
    for row, trial in zip(rows, value["trials"]):
        assert {name: str(one) for name, one in trial.items()} == row
    best = min(value["trials"], key=lambda t: (t["det_area"], t["bytes"]))
    assert value["best"] == best["trial"]
    assert rows[0]["parameters"] == rows[1]["parameters"] and int(rows[0]["bytes"]) > int(rows[1]["bytes"])
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    run("export", "--model", out / "best.keras", "--out", made / "best.tflite")
    assert (made / "best.tflite").stat().st_size == best["bytes"]


def test_the_best_is_what_train_and_quantize_make(made) -> None:
    """To the last bit, although its trial may have been stopped; it is measured on test, which it was not judged by."""
    best = sidecar.read(made / "study" / "best.keras")
    bits = best.options["bits"]
    run(*train(made), "--out", made / "float.keras")
    stages = ("--stage1-epochs", 1, "--stage2-epochs", 1, "--learning-rate", 1e-3)
    run("quantize", *common(made), *stages, "--model", made / "float.keras", "--bits", bits, "--out", made / "q.keras")
    for own, name in (("q.keras", "best.keras"), ("float.keras", "best_float.keras")):
        wanted, found = saving.load_model(made / own), saving.load_model(made / "study" / name)
        for left, right in zip(wanted.get_weights(), found.get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)
        about, ours = sidecar.read(made / own), sidecar.read(made / "study" / name)
        assert about.kind == ours.kind and about.task == ours.task and about.metrics == ours.metrics
        assert about.metrics["splits"] == ["test"]
        assert set(about.options) == set(ours.options) - {"sweep"}
        same = set(about.options) - {"float_model", "width"}
        assert {k: about.options[k] for k in same} == {k: ours.options[k] for k in same}
    value = json.loads((made / "study" / "sweep.json").read_text())
    assert best.options["sweep"]["trial"] == value["best"] and best.options["sweep"]["judged_by"] == "dev"


def test_the_same_command_has_nothing_left_to_do(made, monkeypatch) -> None:
    monkeypatch.setattr(sweeps.Trainer, "__call__", lambda self, trial: 1 / 0)
    before = (made / "study" / "best.keras.json").read_bytes(), (made / "study" / "sweep.csv").read_bytes()
    assert run(*study(made)).stdout.count("done before") == 2
    assert before == ((made / "study" / "best.keras.json").read_bytes(), (made / "study" / "sweep.csv").read_bytes())
    assert "--sweep: " in (said := error(*study(made), "--epochs", 3)) and "epochs was 2, now 3" in said
    assert "sweep was" in error(*study(made, "bits=8,4,2"))


def test_tensorboard_and_mlflow_have_every_trial(made) -> None:
    found = event_files.scalars(made / "board" / "trial_02" / "quantized")
    assert {step for step, _ in found["training/loss"]} == {0, 1} and "ranges/logits/high" in found
    assert (made / "board" / "trial_01" / "float").is_dir() and not (made / "board" / "trial_02" / "float").exists()
    from mlflow.tracking import MlflowClient

    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (made / "runs").as_uri()
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(mlflow_runs.EXPERIMENT)
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"study", "trial_01", "trial_02"}
    value = json.loads((made / "study" / "sweep.json").read_text())
    for name, trial in zip(("trial_01", "trial_02"), value["trials"]):
        one = runs[name]
        assert one.info.status == "FINISHED" and one.data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
        assert one.data.params == {"bits": str(trial["bits"]), "quantize_rate": "0.001"}
        assert one.data.metrics["det_area"] == trial["det_area"] and one.data.metrics["bytes"] == trial["bytes"]
    whole = runs["study"]
    assert whole.data.params["sweep"] == SWEEP and whole.data.tags["tfmot_kws.command"] == "train --sweep"
    files = {each.path for each in client.list_artifacts(whole.info.run_id)}
    assert files >= {"sweep.csv", "sweep.json", "sweep.png", "best.keras.json", "best.md"}


def test_a_table_of_hyperband_and_of_failures() -> None:
    trials = [
        sweeps.Trial(1, {"width": 8}, 2, {"det_area": 0.5, "accuracy": 0.5, "fdr": 0.1, "parameters": 10, "bytes": 40}),
        sweeps.Trial(2, {"width": 9}, 2, failed="the loss is nan after epoch 1"),
    ]
    space = sweeping._space("width=8,9")
    table = sweeping._table(space, trials, trials[0], 4)
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["epochs"] == ["2", "2"] and cells[""] == ["best", "the loss is nan after epoch 1"]
    assert cells["DET area"] == ["0.5000", "–"] and "2 trials, 4 proposed" in table.title


def test_mistakes_are_named_before_work(tmp_path, require_package) -> None:
    require_package("keras_tuner", "keras-tuner")
    words = speech_files.make_words(tmp_path / "words", speakers=4)
    fixed = ("train", "--data", words, "--cache", tmp_path / "cache", "--out", tmp_path / "study")
    fixed = (*fixed, "--keywords", "low")
    sweep = ("--sweep", "bits=8,4")
    for options, message in (
        (("--sweep", "bits=8,9"), "--sweep: bits=8,9: 9 is not between 1 and 8"),
        (("--sweep", "bits=8,4", "--sweep-method", "luck"), "--sweep-method luck: must be one of random"),
        (("--sweep", "bits=8,4", "--sweep-objective", "speed"), "--sweep-objective speed: must be det-area"),
        (("--sweep", "bits=8,4", "--sweep-stages", "12"), "--sweep-stages 12: must be two whole numbers"),
        (("--sweep", "width=8:16", "--sweep-method", "grid"), "--sweep: grid: width is a range; say how many"),
        ((*sweep, "--mine", words), "--mine: goes without --sweep"),
        ((*sweep, "--resume"), "--resume: goes without --sweep; the same command goes on by itself"),
        (("--trials", 4), "--trials: goes with --sweep"),
        (("--sweep-method", "grid"), "--sweep-method: goes with --sweep"),
        ((*sweep, "--out", tmp_path / "x.keras"), "with --sweep it is a folder"),
    ):
        assert message in error(*fixed, *options), options
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / shards.INDEX).write_text(json.dumps({"format": shards.FORMAT}))
    for place in (tmp_path / "shards", "gs://bucket/words"):
        assert f"--data {place}: is prepared; --sweep takes recordings" in error(*fixed, *sweep, "--data", place)
    rows = ["path,word,speaker,split"]
    for word in ("low", "high"):
        rows += [f"{word}/s{n:02d}_nohash_0.wav,{word},s{n},{'train' if n < 3 else 'test'}" for n in range(4)]
    (words / "manifest.csv").write_text("\n".join(rows) + "\n")
    said = error(*fixed, *sweep)
    assert "--sweep: trials are judged by split dev, apart from" in said and "no clips in split dev" in said
    assert not (tmp_path / "study" / "study.json").exists()
