"""The commands of the low-rank spotter from end to end: train, quantize as it runs, export, evaluate, listen."""

from __future__ import annotations

import pathlib
import re

import event_files
import numpy as np
import pytest
import soundfile
import speech_files
import typer.testing

import tflite_export
from tfmot_kws import cli
from tfmot_kws.commands.parts import sidecar, spotter
from tfmot_kws.frontend import features


def run(*arguments, status: int = 0) -> typer.testing.Result:
    done = typer.testing.CliRunner().invoke(cli.app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done


def error(*arguments) -> str:
    return run(*arguments, status=1).stderr.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
    """A folder with words, the float spotter, two quantized ones, and files for clips and streams."""
    folder = tmp_path_factory.mktemp("low_rank")
    words = speech_files.make_words(folder / "words", speakers=10)
    common = ("--data", words, "--cache", folder / "cache", "--copies", 1, "--batch-size", 16)
    epochs = ("--phone-epochs", 1, "--multitask-epochs", 1, "--low-rank-epochs", 1)
    run(
        "low-rank",
        *common,
        *epochs,
        "--keywords",
        "low,high",
        "--out",
        folder / "svd.keras",
        "--checkpoints",
        folder / "kept",
        "--tensorboard",
        folder / "board",
    )
    q = ("quantize", "--model", folder / "svd.keras", *common)
    run(*q, "--dynamic", "4-8", "--stage1-epochs", 1, "--stage2-epochs", 0, "--out", folder / "hybrid.keras")
    run(
        *q,
        "--dynamic",
        3,
        "--weights",
        "tanh",
        "--stage1-epochs",
        0,
        "--stage2-epochs",
        0,
        "--out",
        folder / "tanh.keras",
    )
    run("export", "--model", folder / "hybrid.keras", "--out", folder / "clip.tflite", "--c-array")
    run("export", "--model", folder / "hybrid.keras", "--out", folder / "s.tflite", "--streaming", "internal", "--rows")
    run("export", "--model", folder / "tanh.keras", "--out", folder / "stock.tflite", "--ops", "builtin")
    return folder


def test_spotter_is_trained_in_three_stages(made) -> None:
    about = sidecar.read(made / "svd.keras")
    assert about.frontend == features.FrontendConfig(mel_bins=20, window_ms=25, hop_ms=10)
    assert about.options["epochs"] == [1, 1, 1] and about.options["architecture"] == "svd_50k"
    assert {path.name for path in (made / "kept").iterdir()} == {"phones", "multitask", "low_rank"}
    for name, losses in (("phones", 1), ("multitask", 3), ("low_rank", 3)):  # of both outputs, and their sum
        found = event_files.scalars(made / "board" / name)
        assert sum("loss" in each for each in found) == losses and "training/learning_rate" in found


def test_widths_are_shown(made) -> None:
    shown = run("inspect", made / "hybrid.keras").stdout
    assert "quantized as it runs" in shown
    assert re.search(r"linear_1 .*8 linear, inputs 8", shown) and re.search(r"linear_2 .*4 linear, inputs 4", shown)
    assert re.search(r"linear_2 .*3 mid-rise, inputs 8", run("inspect", made / "tanh.keras").stdout)
    shown = run("inspect", made / "clip.tflite").stdout
    assert re.search(r"PackedDense.*linear_3.*4 ", shown)


def test_keras_and_files_are_evaluated_alike(made) -> None:
    words = ("--data", made / "words", "--cache", made / "cache")
    said = [run("evaluate", "--model", made / name, *words).stdout for name in ("hybrid.keras", "clip.tflite")]
    first, second = (re.search(r"accuracy\D*([\d.]+)", text)[1] for text in said)
    assert abs(float(first) - float(second)) < 3  # per cent; a clip more or less
    run("evaluate", "--model", made / "stock.tflite", *words)


def test_listen_follows_sound(made, tmp_path) -> None:
    """A detection's time is that of the last frame heard, and rows come once 31 frames were."""
    sound = (0.1 * np.random.default_rng(0).standard_normal(32000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16000)
    said = run(
        "listen", "--model", made / "s.tflite", "--wav", tmp_path / "a.wav", "--threshold", -100, "--smooth", 0.1
    )
    first = re.search(r"00:(\d\d\.\d\d)", said.stdout)
    # 31 frames, then 9 more that are averaged: 39 hops of 10 ms and a window of 25 ms
    assert float(first[1]) == pytest.approx(0.415, abs=0.011)
    ear = spotter.open_spotter(made / "s.tflite")
    outputs = ear.outputs(sound)
    assert outputs.dtype == np.int16 and ear.config.mode == "margin"
    real = tflite_export.StreamInterpreter((made / "s.tflite").read_bytes()).step(features.extract(ear.frontend, sound))
    assert np.abs(outputs * ear.config.scale - real.reshape(outputs.shape)).max() <= ear.config.scale / 2


def test_mistakes_are_named(made) -> None:
    q = ("quantize", "--model", made / "svd.keras", "--data", made / "words", "--out", made / "x.keras")
    assert "--dynamic five: must be 16, 8, 4" in error(*q, "--dynamic", "five")
    assert "found 9" in error(*q, "--dynamic", "9")
    assert "16" in error(*q, "--dynamic", "16", "--weights", "tanh")
    assert "--weights tanh: goes with --dynamic" in error(*q, "--weights", "tanh")
    assert "--layer-bits" in error(*q, "--dynamic", "4-8", "--layer-bits", "logits=8")
    export = ("export", "--model", made / "hybrid.keras", "--out", made / "x.tflite")
    assert "--rows: goes with --streaming" in error(*export, "--rows")
    assert "linear_2" in error(*export, "--ops", "builtin") and not (made / "x.tflite").exists()
    assert "float features" in error("firmware", "--model", made / "s.tflite", "--out", made / "firmware")
