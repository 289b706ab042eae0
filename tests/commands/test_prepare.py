# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws prepare``, and the commands that take what it wrote."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from command_line import error, run
from corpus_files import make_folder

from tfmot_kws.commands.parts import sidecar
from tfmot_kws.data import shard_writer, shards

pytestmark = pytest.mark.slow
SMALL = ("--epochs", 2, "--width", 8, "--batch-size", 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("prepare")
    make_folder(folder)
    words = ("--data", folder / "words", "--keywords", "yes,no", "--speakers", "clip")
    shown = run("prepare", *words, "--out", folder / "shards", "--per-shard", 20, "--copies", 2, "--verify").stdout
    (folder / "shown.txt").write_text(shown)
    run("train", "--data", folder / "shards", *SMALL, "--out", folder / "float.keras")
    return folder


def test_it_says_what_it_wrote(folder) -> None:
    shown = (folder / "shown.txt").read_text()
    assert "keywords: no, yes" in shown or "keywords: yes, no" in shown
    assert "train: " in shown and " shards, " in shown and "x real time" in shown
    again = run("prepare", "--data", folder / "words", "--keywords", "yes,no", "--speakers", "clip", "--out",
                folder / "shards", "--per-shard", 20, "--copies", 2).stdout  # fmt: skip
    count = len(list((folder / "shards").glob("*.tfrecord")))
    assert f"{count} of {count} shards are there already" in again and "x real time" not in again


def test_training_from_shards_is_whole_and_goes_on(folder, tmp_path) -> None:
    data = ("--data", folder / "shards")
    about = sidecar.read(folder / "float.keras")
    assert about.task == shards.open_place(folder / "shards").task
    assert about.options["data"][0]["folder"] == "words" and about.options["copies"] == 2
    stages = ("--stage1-epochs", 1, "--stage2-epochs", 1, "--batch-size", 8)
    run("quantize", "--model", folder / "float.keras", *data, *stages, "--out", tmp_path / "q.keras")
    shown = run("evaluate", "--model", tmp_path / "q.keras", *data).stdout
    words = ("--data", folder / "words", "--speakers", "clip", "--cache", tmp_path / "cache")
    plain = run("evaluate", "--model", tmp_path / "q.keras", *words).stdout
    rows = [[line for line in text.splitlines() if "accuracy" in line or "│" in line] for text in (shown, plain)]
    assert rows[0] == rows[1] and rows[0]


def test_epochs_of_shards_can_be_resumed(folder, tmp_path) -> None:
    """Two epochs at once, and one after the other in two processes' worth of calls: the same weights."""
    from tfmot_kws.models import spotters
    from tfmot_kws.training import recipes

    found = shards.open_place(folder / "shards").split("train")
    shape = spotters.ModelConfig(len(found.classes), *found.shape, 8)
    config = recipes.TrainConfig(epochs=3, batch_size=8, class_weights=True)
    whole = recipes.train_float(found, shape, config)

    class Stop(Exception):
        pass

    class Killer(recipes.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise Stop

    with pytest.raises(Stop):
        recipes.train_float(found, shape, config, [Killer()], checkpoints=tmp_path)
    resumed = recipes.train_float(found, shape, config, checkpoints=tmp_path)
    for one, other in zip(whole.get_weights(), resumed.get_weights()):
        np.testing.assert_array_equal(one, other)
    calibrated = recipes.train_quantized(whole, None, found, config, 0, 0)
    assert calibrated.count_params() > 0


def test_a_shard_that_is_damaged(folder, tmp_path) -> None:
    half = tmp_path / "half"
    shutil.copytree(folder / "shards", half)
    path = next(half.glob("train-00001*.tfrecord"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = error("train", "--data", half, *SMALL, "--out", tmp_path / "x.keras")
    assert f"{half}: a shard has a record that is damaged" in said
    assert not (tmp_path / "x.keras").exists()


def test_options_that_were_settled_are_refused(folder, tmp_path) -> None:
    data, out = ("--data", folder / "shards"), ("--out", tmp_path / "x.keras")
    for option in (("--backend", "lfbe"), ("--copies", 5), ("--keywords", "yes"), ("--no-pcan",), ("--mine", folder)):
        said = error("train", *data, *out, *option)
        assert option[0] in said and "is prepared already; leave the option out" in said
    assert "is prepared already; this takes recordings" in error("low-rank", *data, *out)
    assert "no shards there" in error("train", "--data", "ram://nothing/here", *out)
    half = tmp_path / "half"
    shutil.copytree(folder / "shards", half)
    (half / "index.json").unlink()
    assert "not all shards are there; let 'tfmot-kws prepare' go on" in error("train", "--data", half, *out)


def test_a_model_of_other_words_or_another_front_end(folder, tmp_path) -> None:
    model = folder / "float.keras"
    path = sidecar.path_of(model)
    for change in ({"hop_ms": 10}, {"backend": "lfbe"}):
        value = json.loads(path.read_text())
        value["frontend"] |= change
        (tmp_path / "b.keras").write_bytes(model.read_bytes())
        sidecar.path_of(tmp_path / "b.keras").write_text(json.dumps(value))
        said = error("evaluate", "--model", tmp_path / "b.keras", "--data", folder / "shards")
        assert "was prepared with front end" in said


def test_what_prepare_refuses(folder, tmp_path) -> None:
    words = ("--data", folder / "words", "--speakers", "clip", "--keywords", "yes,no")
    (tmp_path / "file").write_text("")
    assert "is a file; name a folder" in error("prepare", *words, "--out", tmp_path / "file")
    assert "holds shards of other recordings or options" in error("prepare", *words, "--out", folder / "shards")
    assert "option of Beam" in error("prepare", *words, "--out", tmp_path / "x", "--beam", "runner")
    assert not (tmp_path / "x").exists()
    assert "purple: no such word" in error("prepare", *words[:4], "--keywords", "purple", "--out", tmp_path / "x")


def test_errors_of_other_processes_are_one_line(folder, tmp_path) -> None:
    words = ("--data", folder / "words", "--speakers", "clip", "--keywords", "yes,no")
    place = tmp_path / "shards"
    run("prepare", *words, "--out", place, "--per-shard", 16)
    (place / "index.json").unlink()
    for path in place.glob("train-*.json"):
        path.unlink()
    lists = sorted((place / "plan").glob("train-*"))
    lists[0].write_text("{}\n")
    said = error("prepare", *words, "--out", place, "--per-shard", 16, "--workers", 2)
    assert "plan.json: is damaged" in said and os.path.basename(place) in said
    assert not shards.is_place(place) and shard_writer.PLAN in os.listdir(place)
