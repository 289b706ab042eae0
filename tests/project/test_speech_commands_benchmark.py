"""The benchmark of the official twelve classes, on a folder that is laid out like the set."""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np
import pytest

from benchmarks import common
from benchmarks import speech_commands as benchmark
from tfmot_kws.models import networks
from tfmot_kws.sound import files as audio

OTHERS = ("cat", "tree")
NETWORK = networks.NetworkConfig(2, 9, 9, (networks.BlockSpec("dense", 8, 3, stride=4),))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> pathlib.Path:
    """Five speakers say every word; one is in each list; noise; and a canonical test set."""
    folder, rng = tmp_path_factory.mktemp("commands"), np.random.default_rng(0)
    root, test = folder / "set", folder / "test"

    def write(path: pathlib.Path, seconds: float = 1.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, (0.1 * rng.standard_normal(round(16000 * seconds))).astype(np.float32), 16000)

    for number, word in enumerate((*benchmark.WORDS, *OTHERS)):
        for speaker in range(5):
            write(root / word / f"s{speaker}_nohash_0.wav")
        name = word if word in benchmark.WORDS else "_unknown_"
        write(test / name / f"t{number}_nohash_0.wav")
    write(test / "_silence_" / "quiet.wav")
    write(root / "_background_noise_" / "hum.wav", 6.0)
    write(root / "_background_noise_" / "wind.wav", 6.0)
    words = (*benchmark.WORDS, *OTHERS)
    (root / "validation_list.txt").write_text("\n".join(f"{word}/s3_nohash_0.wav" for word in words))
    (root / "testing_list.txt").write_text("\n".join(f"{word}/s4_nohash_0.wav" for word in words))
    (folder / "network.json").write_text(NETWORK.to_json())
    return folder


def test_the_sets_own_split_and_as_many_other_words_as_a_word_has(published: pathlib.Path) -> None:
    clips = benchmark.official(published / "set")
    count = {name: sum(clip.word == name and clip.split == "train" for clip in clips) for name in clips.words()}
    assert [count[word] for word in benchmark.WORDS] == [3] * 10
    assert sum(count.get(word, 0) for word in OTHERS) == 3
    assert {clip.path.split("/")[-1][:2] for clip in clips.split("test")} >= {"s4"}
    again = benchmark.official(published / "set")
    assert [clip.path for clip in again] == [clip.path for clip in clips]


@pytest.mark.slow
def test_the_canonical_test_set_has_all_classes(published: pathlib.Path) -> None:
    args = argparse.Namespace(
        folder=published / "set", test=published / "test", input="mel", copies=1, runs=published / "runs"
    )
    training, held, _ = benchmark.load(args)
    assert held.classes == training.classes == ("_silence_", "_unknown_", *benchmark.WORDS)
    assert np.bincount(held.y).tolist() == [1, 2] + [1] * 10
    counts = np.bincount(training.y)
    assert counts[1:].tolist() == [3] * 11 and 1 <= counts[0] <= 6
    args.test = None
    _, listed, _ = benchmark.load(args)
    assert np.bincount(listed.y, minlength=12)[1:].tolist() == [2] + [1] * 10


@pytest.mark.parametrize(("kind", "name"), [("mel", "network.json"), ("raw", "like TC-ResNet8")])
@pytest.mark.slow
def test_a_small_run_makes_its_table(published, tmp_path, monkeypatch, kind: str, name: str) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    network = str(published / name) if name.endswith(".json") else name
    short = "--epochs 1 --stage1 1 --stage2 1 --bits 2 --seeds 1".split()
    arguments = ["x", str(published / "set"), "--network", network, "--input", kind, "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", [*arguments, *short, "--test", str(published / "test")])
    benchmark.main()
    table = json.loads((tmp_path / "speech_commands.json").read_text())
    assert [row["model"] for row in table["rows"]] == ["float", "2 bits"]
    assert table["rows"][1]["file"] > 0 and "canonical test set" in table["notes"][0]


def test_what_is_missing_is_named(published: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="validation_list.txt is missing"):
        benchmark.official(published / "test")
    with pytest.raises(ValueError, match="_silence_ has no clips here"):
        benchmark.canonical_test(tmp_path)
    for name in benchmark._LISTS:
        (tmp_path / name).write_text("cat/s0_nohash_0.wav")
    for word in ("yes", "cat"):
        (tmp_path / word).mkdir()
        audio.write(tmp_path / word / "s0_nohash_0.wav", np.zeros(16000, np.float32), 16000)
    with pytest.raises(ValueError, match="no clips of no, up, down"):
        benchmark.official(tmp_path)
    with pytest.raises(ValueError, match="--network best: must be a .json file, or one of DS-CNN"):
        training, _, frontend = benchmark.load(
            argparse.Namespace(folder=published / "set", test=None, input="mel", copies=1, runs=published / "runs")
        )
        benchmark.chosen("best", training, frontend)
