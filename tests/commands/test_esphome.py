"""``export --for esphome``: its files in every runtime, its manifest, and pymicro-wakeword on the same sound."""

from __future__ import annotations

import json
import math
import pathlib
import shutil

import esphome_files
import kept
import numpy as np
import pytest
import soundfile
import typer.testing
from spotter_files import speech

from tfmot_kws import cli
from tfmot_kws.commands.parts import esphome, esphome_manifest, sidecar, spotter, stream_files
from tfmot_kws.data.task import TaskConfig
from tfmot_kws.frontend import features


def run(*arguments, status: int = 0) -> str:
    done = typer.testing.CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return " ".join(done.output.split())


def _write(folder: pathlib.Path) -> pathlib.Path:
    """q.keras, what the command makes of it before and after streams are evaluated, and what it printed."""
    path = esphome_files.write(folder)
    soundfile.write(folder / "a.wav", speech(), 16000, subtype="PCM_16")
    words = "".join(f"a,keyword,low,{t},{t + 0.5}\n" for t in (2.0, 5.0, 8.0))
    (folder / "streams_labels.csv").write_text(f"stream,event,word,start,end\n{words}")
    export = ("export", "--model", path, "--for", "esphome", "--keyword", "low", "--out", folder / "low.tflite")
    first = run(*export)
    assert not (folder / "low.json").exists()
    evaluate = ("evaluate", "--model", folder / "low.tflite", "--streams", folder / "a.wav", "--smooth", 0.15)
    run(*evaluate, "--refractory", 0.3, "--fa-per-hour", 1000, "--json", folder / "numbers.json")
    second = run(*export, "--threshold", folder / "numbers.json", "--author", "me", "--languages", "en,de")
    (folder / "said.json").write_text(json.dumps([first, second]))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return kept.once(tmp_path_factory, "esphome", _write)


def test_manifest_has_what_the_detector_chose(folder) -> None:
    first, second = json.loads((folder / "said.json").read_text())
    assert "no manifest: it needs a threshold" in first and "fires where the mean of 5 outputs (0.15 s)" in second
    found = json.loads((folder / "low.json").read_text())
    detector = json.loads((folder / "numbers.json").read_text())["streams"]["detector"]
    assert detector["mode"] == "value" and detector["zero_point"] == 0 and detector["smooth_steps"] == 5
    assert {name: found[name] for name in ("type", "version", "wake_word", "model", "author", "trained_languages")} == {
        "type": "micro", "version": 2, "wake_word": "low", "model": "low.tflite", "author": "me",
        "trained_languages": ["en", "de"],
    }  # fmt: skip
    text = (folder / "low.md").read_text()
    assert (
        "A keyword spotter for **low**" in text
        and f"probability_cutoff {found['micro']['probability_cutoff']:g}" in text
    )
    assert "hours of `a.wav`, thresholds chosen on these recordings" in text  # the same file: its numbers hold
    assert "not of this very file" not in second
    micro = found["micro"]
    assert micro["sliding_window_size"] == 5 and micro["feature_step_size"] == 10
    assert micro["minimum_esphome_version"] == "2024.7.0" and 0.0 < micro["probability_cutoff"] < 1.0
    assert int(micro["probability_cutoff"] * 255) * 5 + 1 == detector["sum_thresholds"]["low"]  # not rounded


def test_what_was_measured_is_what_the_device_does(folder, tmp_path) -> None:
    """The chosen threshold and all of its curve are such as ESPHome can tell; numbers of others stay off the card."""
    streams = json.loads((folder / "numbers.json").read_text())["streams"]
    tried = np.array(streams["curves"]["low"]["thresholds"]) * 255 * 5
    np.testing.assert_allclose(tried % 5, 1.0, atol=1e-3)
    chosen = streams["detector"]["thresholds"]["low"]
    assert esphome_manifest.cutoff(chosen, 5).threshold == pytest.approx(chosen, rel=1e-6)
    text = (folder / "low.md").read_text()
    assert f"| low | {chosen:.4g} |" in text and f"threshold {chosen:.6g}: fires where the mean" in text
    assert "the next that ESPHome can tell" not in text

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    model, numbers = tmp_path / "low.tflite", tmp_path / "between.json"
    evaluate = ("evaluate", "--model", model, "--streams", tmp_path / "a.wav")
    between = chosen - 0.001
    said = run(*evaluate, "--threshold", between, "--smooth", 0.15, "--json", numbers)
    assert f"low.md keeps its numbers of long recordings: these numbers are of threshold {between:.6g}" in said
    export = ("export", "--model", tmp_path / "q.keras", "--for", "esphome", "--keyword", "low", "--out", model)
    said = run(*export, "--threshold", numbers)
    assert "between.json: these numbers are of threshold" in said and "the next that ESPHome can tell" in said
    assert "Not measured on long recordings" in (tmp_path / "low.md").read_text()
    again = said.partition("evaluate with ")[2].split()[:2]
    assert float(again[1]) == esphome_manifest.cutoff(chosen, 5).threshold
    assert "wrote the numbers into" in run(*evaluate, *again, "--smooth", 0.15)
    assert "Not measured on long recordings" not in (tmp_path / "low.md").read_text()


def test_pymicro_wakeword_finds_the_events_of_our_detector(folder, require_module) -> None:
    """The manifest and the file as they are, and other cutoffs, in the runtime of Home Assistant's satellites."""
    module, sound = require_module("pymicro_wakeword"), speech()
    theirs = module.MicroWakeWord.from_config(folder / "low.json")
    frames = list(module.MicroWakeWordFeatures().process_streaming(sound.tobytes()))
    counts = []
    for steps in (None, 100, 120, 140):
        p = theirs.probability_cutoff if steps is None else esphome_manifest.Cutoff(steps, 5).probability
        theirs.probability_cutoff = p
        theirs.reset()
        ear = spotter.open_spotter(folder / "low.tflite", esphome_manifest.cutoff(p, 5).threshold, 0.15, 0.3)
        ours = [heard.seconds for heard in ear.step(sound)]
        heard, quiet = [], 0
        for number, frame in enumerate(frames, 1):
            fired = theirs.process_streaming(frame)
            if number % theirs.stride:
                continue
            quiet -= 1
            if fired and quiet <= 0:  # pymicro-wakeword leaves the time after a detection to its caller
                heard.append(((number - 1) * 10 + 30) / 1000)
                quiet = ear.config.refractory + 1
        assert heard == pytest.approx(ours)
        counts.append(len(ours))
    assert theirs.stride == 3 and len(set(counts)) > 2 and max(counts) > 5


def test_evaluate_counts_the_events_that_pymicro_wakeword_finds(folder, tmp_path, require_module) -> None:
    module = require_module("pymicro_wakeword")
    cutoff = esphome_manifest.Cutoff(120, 5)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    evaluate = ("evaluate", "--model", tmp_path / "low.tflite", "--streams", tmp_path / "a.wav", "--smooth", 0.15)
    run(*evaluate, "--refractory", 0, "--threshold", cutoff.threshold, "--json", tmp_path / "n.json")
    found = json.loads((tmp_path / "n.json").read_text())["streams"]
    theirs = module.MicroWakeWord.from_config(folder / "low.json")
    theirs.probability_cutoff = cutoff.probability
    frames = module.MicroWakeWordFeatures().process_streaming(speech().tobytes())
    fired = [((n - 1) * 10 + 30) / 1000 for n, frame in enumerate(frames, 1) if theirs.process_streaming(frame)]
    assert found["detector"]["sum_thresholds"]["low"] == 120 * 5 + 1
    assert [event["time"] for event in found["events"]] == pytest.approx(fired) and len(fired) > 5


def test_pymicro_wakeword_hears_our_features_and_gives_our_bytes(folder, require_module) -> None:
    module = require_module("pymicro_wakeword")
    sound = speech(3.0)
    theirs = module.MicroWakeWord.from_config(folder / "low.json")
    theirs.sliding_window_size, theirs._probabilities = 1, type(theirs._probabilities)(maxlen=1)
    frames = list(module.MicroWakeWordFeatures().process_streaming(sound.tobytes()))
    found = [theirs.process_streaming_prob(frame) for frame in frames][2::3]
    runner = stream_files.open_stream((folder / "low.tflite").read_bytes(), "tflite")
    real = features.extract(esphome_files.FRONTEND, sound)
    np.testing.assert_allclose(np.concatenate(frames).reshape(-1, 40), real, rtol=1e-6)
    ours = runner.step(runner.inputs[0].to_tensor(real))[:, 0]
    np.testing.assert_array_equal(np.rint(np.array(found) * 255).astype(int), ours[: len(found)])


@pytest.mark.parametrize("runtime", ["litert", "tflm"])
def test_every_runtime_gives_the_same_within_rounding(folder, runtime: str, require_module) -> None:
    require_module({"litert": "ai_edge_litert", "tflm": "tflite_micro"}[runtime])
    flatbuffer, real = (folder / "low.tflite").read_bytes(), features.extract(esphome_files.FRONTEND, speech(3.0))
    outputs = []
    for name in ("tflite", runtime):
        stream = stream_files.open_stream(flatbuffer, name)
        outputs.append(stream.step(stream.inputs[0].to_tensor(real)).astype(int))
    assert len(set(outputs[0].ravel())) > 10 and np.abs(outputs[0] - outputs[1]).max() <= 4
    if runtime == "tflm":
        assert stream._interpreter.arena_bytes() <= esphome_manifest.read(folder / "low.json").tensor_arena_size


def test_numbers_of_another_file_are_named(folder, tmp_path) -> None:
    numbers = tmp_path / "numbers.json"
    numbers.write_text(json.dumps(json.loads((folder / "numbers.json").read_text()) | {"sha256": "0" * 64}))
    export = ("export", "--model", folder / "q.keras", "--for", "esphome", "--keyword", "low")
    assert "not of this very file" in run(*export, "--out", tmp_path / "x.tflite", "--threshold", numbers)
    assert "Not measured on long recordings" in (tmp_path / "x.md").read_text()


def test_listen_runs_the_file(folder) -> None:
    shown = run("listen", "--model", folder / "low.tflite", "--wav", folder / "a.wav", "--threshold", "0.7")
    assert "detections in 12.0 s of sound" in shown


@pytest.mark.parametrize("window", [1, 2, 5, 33])
def test_cutoff_means_the_same_in_integers_and_in_floats(window: int) -> None:
    """ESPHome in integers, ESPHome before in floats, and pymicro-wakeword, at the sums on both sides of each cutoff."""
    for steps in range(255):
        cutoff = esphome_manifest.Cutoff(steps, window)
        p, last = cutoff.probability, steps * window
        for total, fires in ((last, False), (last + 1, True)):
            assert (total > int(p * 255) * window) == fires
            assert (np.float32(total) / np.float32(255 * window) > np.float32(p)) == fires
            mean = sum([np.float32(total / window) * np.float32(1 / 255)] * window) / window
            assert (float(mean) > p) == fires
            assert (total / (255 * window) >= cutoff.threshold - 1e-12) == fires


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.7371, 0.99])
@pytest.mark.parametrize("window", [1, 5, 12])
def test_cutoff_is_the_lowest_above_a_threshold(threshold: float, window: int) -> None:
    found = esphome_manifest.cutoff(threshold, window)
    least = math.ceil(threshold * 255 * window - 1e-9)
    assert found.steps * window + 1 >= least and (found.steps == 0 or (found.steps - 1) * window + 1 < least)


@pytest.mark.parametrize("window", [1, 2, 5, 33])
def test_cutoffs_of_thresholds_that_evaluate_writes_are_those(window: int) -> None:
    """A file's scale is the float32 nearest to 1/255, which is above it: no threshold moves to the next cutoff."""
    sums = esphome_manifest.sums(window)
    for steps, total in enumerate(sums[:-1]):
        found = esphome_manifest.cutoff(total * float(np.float32(1 / 255)) / window, window)
        assert found == esphome_manifest.Cutoff(steps, window)


def test_a_threshold_that_nothing_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match="no mean of 5 outputs is above it"):
        esphome_manifest.cutoff(1.0, 5)
    with pytest.raises(ValueError, match="no mean of 5 outputs is above it"):  # where evaluate found none
        esphome_manifest.cutoff(esphome_manifest.sums(5)[-1] / (255 * 5), 5)
    assert esphome_manifest.cutoff(1.0, 1).steps == 254


def test_features_are_the_integers_that_esphome_makes() -> None:
    """``((256 * raw) + 333) / 666 - 128``, clipped, at every raw value that the front end gives."""
    from tflite_export.builtin import micro_wake_word
    from tflite_export.reference import arithmetic

    raw = np.arange(701)
    real = raw.astype(np.float32) * np.float32(features.MICRO_SCALE)
    expected = np.clip((256 * raw + 333) // 666 - 128, -128, 127)
    np.testing.assert_array_equal(arithmetic.quantize(real, micro_wake_word.FEATURES), expected)


def test_what_cannot_be_is_refused_before_the_model_is_loaded(tmp_path) -> None:
    """A broken model file shows that it was not looked at."""
    path = tmp_path / "q.keras"
    path.write_bytes(b"no model")
    export = ("export", "--model", path, "--for", "esphome", "--out", tmp_path / "x.tflite")

    def about(task=esphome_files.TASK, **frontend) -> None:
        sidecar.write(path, sidecar.Sidecar("quantized", features.FrontendConfig(**{"hop_ms": 10, **frontend}), task))

    about()
    assert "a file for each keyword: name one by --keyword" in run(*export, status=1)
    assert "--keyword no: the model spots low, high" in run(*export, "--keyword", "no", status=1)
    low = (*export, "--keyword", "low")
    assert "compares a probability" in run(*low, "--threshold", "2.5", status=1)
    numbers = tmp_path / "numbers.json"
    numbers.write_text(json.dumps({"thresholds": {"low": 0.5}, "mode": "margin"}))
    assert "ESPHome averages probabilities" in run(*low, "--threshold", numbers, status=1)
    assert "leave --streaming" in run(*low, "--streaming", "external", status=1)
    assert "--for toaster: must be esphome" in run(*low[:3], "--for", "toaster", *low[5:], status=1)
    assert "go with --for esphome" in run(*export[:3], *low[5:], status=1)
    about(TaskConfig(("low",)), mel_bins=20, upper_hz=7000.0, backend="lfbe")
    said = run(*export, status=1)
    assert "mel_bins 20 instead of 40" in said and "upper_hz 7000.0" in said and "backend 'lfbe'" in said
    about(TaskConfig(("low",)), pcan=False)
    assert "than ESPHome computes: pcan False instead of True" in run(*export, status=1)
    assert [p.name for p in tmp_path.glob("x.*")] == []


def test_options_name_a_keyword() -> None:
    one = sidecar.Sidecar("quantized", esphome_files.FRONTEND, TaskConfig(("low",)))
    assert esphome.keyword_of(one, None) == "low"
