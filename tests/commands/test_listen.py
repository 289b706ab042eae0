"""Sound in, detections out: a spotter against its parts one by one, and the command."""

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import shutil
import threading

import command_line
import kept
import numpy as np
import pytest
import rich.console
import soundfile
import speech_files
import typer.testing
from spotter_files import FRONTEND, TASK, speech, write_spotter

from tflite_export import Interpreter
from tfmot_kws import cli
from tfmot_kws.commands import listen
from tfmot_kws.commands.parts import sidecar, spotter
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.evaluation import detector
from tfmot_kws.frontend import features


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    made = kept.once(tmp_path_factory, "spotter", write_spotter)
    return shutil.copytree(made, tmp_path_factory.mktemp("listen"), dirs_exist_ok=True)


def open_spotter(folder: pathlib.Path, **options) -> spotter.Spotter:
    return spotter.open_spotter(folder / "stream.tflite", **{"threshold": 0.1, "refractory": 0.3, **options})


def test_pieces_give_what_the_whole_recording_gives(folder, rng) -> None:
    """Features of the whole recording, clips that slide, and the detector once over everything."""
    sound = speech()
    ear = open_spotter(folder)
    clip = Interpreter((folder / "clip.tflite").read_bytes())
    frames = features.extract(FRONTEND, sound)
    outputs = clip.run(np.stack([frames[i : i + 17] for i in range(0, len(frames) - 16, 6)]))
    q = clip.outputs[0].quantization
    whole = np.round(outputs / q.scale + q.zero_point).astype(np.int8)
    expected = detector.Detector(ear.config).run(whole)
    assert 3 < len(expected) < len(whole) / 2
    for _ in range(2):
        heard = []
        for part in np.split(sound, np.sort(rng.integers(0, len(sound), 40))):
            heard += ear.step(part)
        assert [(h.keyword, h.score) for h in heard] == [
            (TASK.keywords[e.keyword], ear.config.real_score(e.score)) for e in expected
        ]
        # the last frame of clip i is frame 6 i + 16, of 30 ms each 20 ms
        wanted = [((6 * e.step + 16) * FRONTEND.hop_ms + FRONTEND.window_ms) / 1000 for e in expected]
        assert [h.seconds for h in heard] == pytest.approx(wanted)
        assert ear.scores.shape == (2,)
        ear.reset()
        assert ear.scores is None


@pytest.mark.parametrize("runtime", ["reference", "litert", "tflm"])
def test_every_runtime_hears_the_same(folder, runtime: str, require_module) -> None:
    for module in {"litert": ["ai_edge_litert"], "tflm": ["tflite_micro"]}.get(runtime, []):
        require_module(module)
    sound = speech(4.0)
    assert open_spotter(folder, runtime=runtime).step(sound) == open_spotter(folder).step(sound)


def run(*arguments, status: int = 0, **options) -> str:
    done = typer.testing.CliRunner().invoke(cli.app, ["listen", *map(str, arguments)], **options)
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done.output


def lines(output: str) -> list[str]:
    return re.findall(r"^\d\d:\d\d\.\d\d  \w+  -?\d+\.\d\d$", output, re.M)


def test_command_prints_detections(folder) -> None:
    model = ("--model", folder / "stream.tflite", "--threshold", 0.1)
    shown = run(*model, "--wav", folder / "speech.wav")
    found = lines(shown)
    assert len(found) > 3 and f"{len(found)} detections in 12.0 s of sound" in shown
    assert found == [
        f"{listen._clock(h.seconds)}  {h.keyword}  {h.score:.2f}"
        for h in open_spotter(folder, refractory=1.0).step(speech())
    ]
    piped = run(*model, "--wav", "-", input=(folder / "speech.wav").read_bytes())
    assert lines(piped) == found
    stereo = np.repeat(soundfile.read(folder / "speech.wav")[0][:, None], 2, axis=1)
    soundfile.write(folder / "stereo.flac", stereo, 16000, subtype="PCM_16")
    assert lines(run(*model, "--wav", folder / "stereo.flac")) == found


def test_command_hears_much_the_same_at_another_rate(folder) -> None:
    import soxr

    sound = soxr.resample(speech().astype(np.float32) / 32768, 16000, 44100)
    soundfile.write(folder / "fast.wav", np.stack([sound, sound], 1), 44100, subtype="PCM_16")
    model = ("--model", folder / "stream.tflite", "--threshold", 0.1)
    a, b = (lines(run(*model, "--wav", folder / name)) for name in ("fast.wav", "speech.wav"))
    assert abs(len(a) - len(b)) <= len(b) // 4 + 1


def test_threshold_is_where_a_keyword_is_likelier_by_default(folder) -> None:
    shown = run("--model", folder / "stream.tflite", "--wav", folder / "speech.wav")
    assert "--threshold 0: where a keyword is likelier than all else" in shown


def test_help_names_the_extra_in_its_brackets() -> None:
    assert 'pip install "tfmot-kws[microphone]"' in run("--help", env={"COLUMNS": "200"})


def test_silence_short_and_broken_sound(folder) -> None:
    model = ("--model", folder / "stream.tflite", "--threshold", 99)
    for name, sound in (
        ("empty", np.zeros(0)),
        ("short", np.zeros(50)),
        ("silent", np.zeros(32000)),
        ("clipped", np.where(np.arange(32000) % 90 < 45, 1.0, -1.0)),
    ):
        soundfile.write(folder / f"{name}.wav", sound, 16000, subtype="PCM_16")
        assert f"0 detections in {len(sound) / 16000:.1f} s" in run(*model, "--wav", folder / f"{name}.wav")
    (folder / "text.wav").write_text("not sound")
    assert "text.wav: unreadable" in run(*model, "--wav", folder / "text.wav", status=1)
    assert "no such file" in run(*model, "--wav", folder / "nothing.wav", status=1)
    assert "--threshold nan: must be one number" in run(
        *model[:2], "--threshold", "nan", "--wav", folder / "silent.wav", status=1
    )


def test_models_that_do_not_suit(folder) -> None:
    sound = ("--wav", folder / "speech.wav")
    shown = " ".join(run("--model", folder / "clip.tflite", *sound, status=1).split())
    assert "clip.tflite: the file has no stream" in shown and "tfmot-kws export --streaming internal" in shown
    (folder / "other.tflite").write_bytes((folder / "stream.tflite").read_bytes())
    sidecar.write(folder / "other.tflite", sidecar.Sidecar("tflite", FRONTEND, TaskConfig(("low",))))
    assert "its sidecar has 3 classes" in " ".join(run("--model", folder / "other.tflite", *sound, status=1).split())
    (folder / "model.keras").write_bytes(b"")
    assert "must be a .tflite file" in " ".join(run("--model", folder / "model.keras", *sound, status=1).split())


def test_view_shows_scores_and_threshold(folder) -> None:
    ear = open_spotter(folder, threshold=1.0)
    console = rich.console.Console(file=io.StringIO(), width=100, force_terminal=True)
    console.print(listen.picture(ear, 0.0))
    ear.step(speech(3.0))
    console.print(listen.picture(ear, 3661.25))
    shown = console.file.getvalue()
    assert "waiting" in shown and "low" in shown and "high" in shown and "│" in shown and "1:01:01.25" in shown


def test_thresholds_go_from_evaluate_to_listen_and_firmware_by_a_file(folder, tmp_path) -> None:
    speech_files.make_stream(tmp_path / "streams", "first", ["low", "rising", "high", "low"])
    model, numbers = ("--model", folder / "stream.tflite"), tmp_path / "numbers.json"
    streams = ("--streams", tmp_path / "streams", "--runtime", "reference")
    command_line.run("evaluate", *model, *streams, "--fa-per-hour", 2000, "--smooth", 0.4, "--json", numbers)
    chosen = json.loads(numbers.read_text())["streams"]["detector"]
    assert chosen["smooth_seconds"] == 0.4 and chosen["refractory_seconds"] == 1.0
    ear = spotter.open_spotter(folder / "stream.tflite", numbers)
    assert dict(zip(ear.keywords, ear.config.sum_thresholds)) == chosen["sum_thresholds"]
    assert ear.config.smooth == chosen["smooth_steps"] and ear.config.refractory == chosen["refractory_steps"]
    shown = run(*model, "--threshold", numbers, "--wav", tmp_path / "streams" / "deep" / "first.wav")
    limits = ", ".join(f"{word} {limit:g}" for word, limit in chosen["thresholds"].items())
    assert f"thresholds of {numbers}: {limits}" in shown.replace("\n", "") and "--threshold 0" not in shown
    again = tmp_path / "again.json"
    command_line.run("evaluate", *model, *streams, "--threshold", numbers, "--json", again)
    assert json.loads(again.read_text())["streams"]["detector"] == chosen
    command_line.run("firmware", *model, "--threshold", numbers, "--out", tmp_path / "c")
    sums = ", ".join(str(chosen["sum_thresholds"][word]) for word in ear.keywords)
    assert f"kws_spotter_thresholds[] = {{{sums}}}" in (tmp_path / "c" / "kws_spotter.h").read_text()
    assert "--smooth 0.2: the thresholds of" in command_line.error(
        "listen", *model, "--threshold", numbers, "--smooth", 0.2, "--wav", folder / "speech.wav"
    )


def test_a_streaming_file_is_not_measured_on_clips(folder) -> None:
    shown = command_line.error("evaluate", "--model", folder / "stream.tflite", "--data", folder)
    assert "stream.tflite is a streaming file" in shown and "--streams, --negatives" in shown


def test_a_named_pipe_is_heard_and_a_folder_is_none(tmp_path) -> None:
    sound, pipe = speech()[:16000], tmp_path / "pipe"
    soundfile.write(tmp_path / "sound.wav", sound, 16000, subtype="PCM_16")
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes((tmp_path / "sound.wav").read_bytes()))
    writer.start()
    heard = np.concatenate(list(listen._blocks(pipe, 16000)))
    writer.join()
    np.testing.assert_array_equal(heard, np.concatenate(list(listen._blocks(tmp_path / "sound.wav", 16000))))
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
        listen._blocks(tmp_path, 16000)
