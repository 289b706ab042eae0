"""``tfmot-kws phrase``: one tiny run, stopped once, whose files the tests look at; and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import json
import pathlib
import shlex
import subprocess
import sys
import time

import corpus_files
import event_files
import numpy as np
import pytest
import rich.console
import typer.testing

from tfmot_kws import cli
from tfmot_kws.commands.parts import sidecar, spoken_lines, thresholds
from tfmot_kws.commands.parts.phrase import finish, gather, plan, render, run, speak, steps
from tfmot_kws.data import long_features, material_store, pronouncing, stream_labels
from tfmot_kws.evaluation import detector
from tfmot_kws.frontend import features
from tfmot_kws.sound import files as audio

needs_espeak = pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="no espeakng_loader")
SIZES = plan.Sizes(
    count=40, chatter=12, hours=0.01, selection_hours=0.01, test_hours=0.01, scene_seconds=9.0, epochs=1,
    stage1_epochs=1, stage2_epochs=1, own_epochs=1, steps=2, batch_size=8,
)  # fmt: skip


def _noise(seed: int, seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(16000 * seconds))).astype(np.float32)


def _recordings(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """A corpus of tones and noise, long noise, a room, and a voice of one's own."""
    rows = [("path", "word", "speaker", "kind", "split")]
    for number in range(6):
        split = "train" if number < 4 else "dev"
        corpus_files.write(folder / "data" / f"{number}.wav", corpus_files.tone(number))
        corpus_files.write(folder / "data" / f"noise{number}.wav", _noise(number, 1.0))
        rows.append((f"{number}.wav", "Hey_Nova" if number % 2 else "lamp", f"s{number}", "word", split))
        rows.append((f"noise{number}.wav", "noise", "", "noise", split))
        corpus_files.write(folder / "own" / f"{number}.wav", corpus_files.tone(9, 0.6))
        corpus_files.write(folder / "long" / f"{number}.wav", _noise(10 + number, 3.0))
        corpus_files.write(folder / "music" / f"{number}.wav", _noise(20 + number, 12.0))
    corpus_files.write(folder / "own" / "silent.wav", np.zeros(8000, np.float32))
    with open(folder / "data" / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    corpus_files.write(folder / "rooms" / "hall.wav", np.exp(-np.arange(1600) / 300.0).astype(np.float32))
    return {name: folder / name for name in ("data", "own", "long", "rooms", "music")}


DICTIONARY = pronouncing.Dictionary(
    {
        word: [tuple(phones.split())]
        for word, phones in {
            "hey": "HH EY", "nova": "N OW V AH", "go": "G OW", "hay": "HH EY", "rover": "R OW V ER", "he": "HH IY",
            "over": "OW V ER", "lamp": "L AE M P", "table": "T EY B AH L", "seven": "S EH V AH N", "say": "S EY",
        }.items()
    }
)  # fmt: skip
"""CMU's takes seconds to be searched."""


@pytest.fixture(autouse=True)
def few_words(monkeypatch):
    monkeypatch.setattr(pronouncing, "load", lambda: DICTIONARY)


def _small(name, classes, frontend):
    from tfmot_kws.models import spotters

    return spotters.mixed_net(classes, filters=8, kernels=(3,), first=spotters.WindowSpec(5, 4))


def _run(options: plan.Options) -> str:
    text = io.StringIO()
    run.run(options, rich.console.Console(file=text, width=400))
    return text.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run that was stopped before its test and then went on, and what it printed the second time."""
    from tfmot_kws.commands.parts.phrase import network

    folder = tmp_path_factory.mktemp("phrase")
    given = _recordings(folder)
    options = plan.Options(
        "Hey Nova", folder / "out", voices=("espeak",), data=(given["data"],), negatives=(given["long"],),
        rooms=(given["rooms"],), noises=(given["music"],), own=given["own"], device="esphome", ensemble=2, bits=2,
        sizes=SIZES, tensorboard=folder / "board",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "build", _small)
        patch.setattr(pronouncing, "load", lambda: DICTIONARY)
        with patch.context() as killed:
            killed.setattr(finish, "test", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run.run(options)
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        said = _run(options)
        again = _run(options)
    return folder, options, before, said, again


@needs_espeak
@pytest.mark.slow
def test_it_ends_with_a_file_its_card_and_its_report(made):
    _, options, _, said, _ = made
    out = options.out
    about = sidecar.read(out / "hey_nova.tflite")
    assert about.task.keywords == ("hey nova",) and about.frontend.hop_ms == 10 and about.options["bits"] == 2
    assert json.loads((out / "hey_nova.json").read_text())["wake_word"] == "hey nova"
    numbers = json.loads((out / "numbers.json").read_text())["streams"]
    chosen = json.loads((out / "threshold.json").read_text())["streams"]
    assert numbers["detector"]["thresholds"] == chosen["detector"]["thresholds"]
    assert numbers["fa_per_hour_wanted"] is None and chosen["fa_per_hour_wanted"] == 0.5
    assert thresholds.choose(str(out / "numbers.json"), None, None, ("hey nova",)).mode == detector.MODES[0]
    card = (out / "hey_nova.md").read_text()
    assert f"{numbers['keywords']['hey nova']['targets']} |" in card and "the user's own voice" in card
    for name in ("report.html", "report_own.html", "fa.svg", "numbers_own.json"):
        assert (out / name).stat().st_size > 1000
    assert f"{(out / 'hey_nova.tflite').stat().st_size:,} bytes" in said and "your own voice" in said
    assert "will wake up by itself" not in said + card
    commands = typer.main.get_command(cli.app).commands
    shown = [shlex.split(line.split("tfmot-kws ")[1]) for line in said.splitlines() if "tfmot-kws " in line]
    assert {name for name, *_ in shown} >= {"listen", "serve"}
    for name, *arguments in shown:
        commands[name].make_context(name, list(arguments))  # ends where an option is not known


@needs_espeak
@pytest.mark.slow
def test_tensorboard_has_what_the_streams_said(made):
    folder, *_ = made
    for name, epochs in (("float_1", 1), ("float_2", 1), ("own", 1), ("quantized", 2)):
        found = event_files.scalars(folder / "board" / name)
        missed = found["streams/frr_at_0.5_fa_per_hour"]
        assert [step for step, _ in missed] == list(range(epochs)) and all(0 <= share <= 1 for _, share in missed)
    assert "ranges/quantize_features/high" in found


@needs_espeak
@pytest.mark.slow
def test_what_was_done_is_not_done_again(made):
    folder, options, before, _, again = made
    now = {path: path.stat().st_mtime_ns for path in before if path.exists()}
    touched = {path.name for path in before if now.get(path) != before[path]}
    # The test comes last: it fills in the card. Everything else is as the stopped run left it.
    assert touched <= {"hey_nova.md", "lock"}
    assert "hey_nova.tflite" in again and "threshold" in again


@needs_espeak
@pytest.mark.slow
def test_streams_of_the_test_are_of_voices_that_training_did_not_hear(made):
    _, options, *_ = made
    heard = {
        name: {said.speaker for said in material_store.read(gather.material_of(options, name)).keywords["hey nova"]}
        for name in ("train", "dev", "test", "own_train", "own_test")
    }
    assert heard["train"] and heard["dev"] and heard["test"]
    assert not heard["train"] & heard["dev"] and not heard["train"] & heard["test"] and not heard["dev"] & heard["test"]
    assert heard["own_train"] == heard["own_test"] == {"own"} and "s1" in heard["train"]
    words = stream_labels.read(options.out / "streams" / "streams_labels.csv")
    assert {t.speaker for targets in words.values() for t in targets} <= heard["test"]
    assert any(name.startswith("long_") and not targets for name, targets in words.items())
    assert len(material_store.read(gather.material_of(options, "own_test")).keywords["hey nova"]) == 1


@needs_espeak
@pytest.mark.slow
def test_several_networks_are_one_model(made):
    from tfmot_kws.commands.parts.phrase import learn
    from tfmot_kws.quantize import saving

    _, options, _, said, _ = made
    names = ("_float_1.keras", "_float_2.keras", learn.FLOAT)
    first, second, both = (saving.load_model(options.file(name)) for name in names)
    x = np.random.default_rng(0).uniform(0.0, 20.0, (5, *both.input_shape[1:])).astype(np.float32)
    assert not np.allclose(first(x), second(x))
    np.testing.assert_allclose(both(x), (first(x) + second(x)) / 2.0, rtol=1e-4, atol=1e-5)
    assert [sidecar.read(options.file(name)).options["seed"] for name in names] == [0, 1, 0]
    about = sidecar.read(options.file(".tflite")).options
    assert (about["ensemble"], about["layer_bits"]) == (2, {"logits*": 8})
    widths = {
        layer.name: layer.bits.bits
        for layer in saving.load_model(options.file(learn.QUANTIZED)).layers
        if hasattr(layer, "bits")
    }
    assert widths["logits"] == widths["logits_2"] == 8 and widths["dense_1"] == widths["dense_1_2"] == 2
    assert "training, float, 2 of 2" in said


@needs_espeak
@pytest.mark.slow
def test_one_network_is_the_float_model(made, tmp_path, monkeypatch):
    from tfmot_kws.commands.parts.phrase import learn, network, sounds
    from tfmot_kws.quantize import saving

    monkeypatch.setattr(network, "build", _small)
    _, options, *_ = made
    features_of = options.work / "features"
    heard = tuple(long_features.read(path) for path in sorted((features_of / "train").iterdir()))
    sound = sounds.Sounds(heard, (), (long_features.read(features_of / "selection"),))
    alone = dataclasses.replace(options, out=tmp_path, ensemble=1, own=None)
    assert len(learn.train_float(alone, sound, 0, None)) == 1 and learn.join_floats(alone) == []
    assert [path.name for path in sorted(tmp_path.glob("*.keras"))] == ["hey_nova_float.keras"]
    about = sidecar.read(alone.file(learn.FLOAT)).options
    assert (about["ensemble"], about["seed"]) == (1, 0)
    assert len(saving.load_model(alone.file(learn.FLOAT)).layers) == len(
        saving.load_model(options.file("_float_1.keras")).layers
    )


@needs_espeak
@pytest.mark.slow
def test_labels_lie_on_the_words_of_the_streams(made):
    _, options, *_ = made
    folder = options.out / "streams"
    words = stream_labels.read(folder / "streams_labels.csv")
    assert {path.stem for path in folder.glob("*.flac")} == set(words)
    for name, targets in words.items():
        seconds = len(audio.read(folder / f"{name}.flac")) / 16000
        assert all(target.end <= seconds for target in targets)


@needs_espeak
@pytest.mark.slow
def test_scenes_are_the_same_from_one_process_or_two_and_after_a_stop(made, tmp_path):
    _, options, *_ = made
    frontend = features.FrontendConfig(hop_ms=10)
    material = gather.material_of(options, "train")
    jobs = render.plan(material, 0.04, 9.0, (0, 0), render.training)
    assert len(jobs) == 16  # two shards
    made_before = options.work / "features" / "train" / "0000"
    with render.Workers(2) as workers:
        first, second = render.shards(tmp_path / "a", jobs, frontend, workers, None)
    scenes = [long_features.read(path) for path in (first, second)]
    one = render.render(dataclasses.replace(jobs[15], frontend=frontend))
    np.testing.assert_array_equal(scenes[1].x, one[0])
    assert len(scenes[0].targets) == 15 and scenes[1].targets[0] == tuple(
        stream_labels.Target(t.word, t.start, t.end) for t in one[1]
    )
    # A shard without its last file is none, and is made anew; a whole one is left alone.
    (second / "about.json").unlink()
    at = (first / "features.npy").stat().st_mtime_ns
    with render.Workers(1) as workers:
        render.shards(tmp_path / "a", jobs, frontend, workers, None)
    np.testing.assert_array_equal(long_features.read(second).x, scenes[1].x)
    assert (first / "features.npy").stat().st_mtime_ns == at
    assert render.is_whole(made_before)


@needs_espeak
@pytest.mark.slow
def test_a_teacher_of_other_words_or_another_window_is_refused(made):
    from tfmot_kws.commands.parts.phrase import learn

    _, options, *_ = made
    taught = dataclasses.replace(options, teacher=options.file(learn.FLOAT))
    with pytest.raises(ValueError, match="tells _unknown_, hey nova apart"):
        learn.check_teacher(dataclasses.replace(taught, phrase="go on"))
    with pytest.raises(ValueError, match="hears otherwise than the model: hop_ms 10 and not 20"):
        learn.check_teacher(dataclasses.replace(taught, device=None))
    with pytest.raises(ValueError, match="both must hear the same window"):  # that of the test is a small one
        learn.check_teacher(taught)


@needs_espeak
@pytest.mark.slow
def test_noise_and_music_lie_behind_other_sound_in_each_split(made):
    folder, options, *_ = made
    music = {name: audio.read(folder / "music" / f"{name}.wav", 16000) for name in range(6)}
    heard = {}
    for split in ("train", "dev", "test"):
        noises = material_store.read(gather.material_of(options, split)).noises
        heard[split] = {
            name for name, sound in music.items() if any(np.allclose(one / 32767, sound, atol=1e-4) for one in noises
            if len(one) == len(sound))
        }  # fmt: skip
    assert len(heard["train"]) >= 4 and heard["dev"] and heard["test"]
    assert sum(map(len, heard.values())) == 6 == len(set().union(*heard.values()))


@needs_espeak
@pytest.mark.slow
def test_recordings_that_cannot_be_the_phrase_are_left_out(made):
    _, options, *_, said, _ = made
    assert "left out: " in said and "silent.wav: empty: 8000 samples, all of them zero" in said
    assert len(gather.own_clips(options)) == 6


def test_an_option_that_came_later_takes_up_the_steps_that_it_has_a_part_in(tmp_path):
    begun = steps.Steps(tmp_path / "out", {"bits": 4, "own": None})
    for name in ("clips", "material", "float", "quantized", "test"):
        begun.once(name, lambda: 1)
    now = {"bits": 4, "own": "mine"}
    steps.check(tmp_path / "out", now)
    assert steps.added(tmp_path / "out", now) == ["own"]
    later = steps.Steps(tmp_path / "out", now)
    assert later.done("material") == 1  # another run may work there
    with later.alone():
        done = {name: later.done(name) for name in ("clips", "material", "float", "quantized", "test")}
    assert done == {"clips": 1, "material": None, "float": 1, "quantized": None, "test": None}
    assert steps.added(tmp_path / "out", now) == []
    for other in (None, "another"):
        with pytest.raises(ValueError, match="begun with other options .own was mine"):
            steps.check(tmp_path / "out", {"bits": 4, "own": other})
    with pytest.raises(ValueError, match="bits was 4, now 2"):
        steps.check(tmp_path / "out", {"bits": 2, "own": "mine"})


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with steps.Steps(tmp_path / "out", {"bits": 4}).alone():
        with (
            pytest.raises(ValueError, match="another run works there"),
            steps.Steps(tmp_path / "out", {"bits": 4}).alone(),
        ):
            pass


@needs_espeak
@pytest.mark.slow
def test_other_options_for_the_same_folder_are_refused(made):
    _, options, *_ = made
    with pytest.raises(ValueError, match=r"begun with other options \(bits was 2, now 4\)"):
        run.run(dataclasses.replace(options, bits=4))
    (options.work / "test.done.json").rename(options.work / "kept")
    (options.work / "test.done.json").write_text('{"found"')
    with pytest.raises(ValueError, match="is damaged"):
        steps.Steps(options.out, options.what_matters()).done("test")
    (options.work / "kept").rename(options.work / "test.done.json")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "hop_ms"), [("mixed_net", 10), ("wakeword_250k", 20)])
def test_training_listens_at_the_steps_of_the_exported_stream(name, hop_ms):
    import tflite_export
    import tfmot_kws
    from tfmot_kws.commands.parts.phrase import network

    frontend = features.FrontendConfig(hop_ms=hop_ms)
    model = network.build(name, 2, frontend)
    assert 0.9 < network.seconds_of(model.input_shape[1], frontend) < 1.3
    quantized = tfmot_kws.quantize_apply(model, tfmot_kws.kws_scheme(bits=4))
    tfmot_kws.calibrate(quantized, np.random.default_rng(0).uniform(0, 20, (8, *model.input_shape[1:])))
    stream = tflite_export.StreamInterpreter(tflite_export.convert(quantized, streaming="internal"), "reference")
    assert stream.schedule.hop == network.hop_of(name, frontend)


def _error(*arguments: str) -> str:
    done = typer.testing.CliRunner().invoke(cli.app, ["phrase", *arguments], env={"COLUMNS": "400"})
    assert done.exit_code != 0, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["123"], "has no letters"),
        (["hey nova", "--bits", "9"], "--bits 9: must be between 1 and 8"),
        (["hey nova", "--ensemble", "0"], "--ensemble 0: must be between 1 and 8"),
        (["hey nova", "--network", "big"], "--network big: must be one of mixed_net"),
        (["hey nova", "--voices", "nobody"], "--voices nobody: must be one of espeak, kokoro, piper, flite"),
        (["hey nova", "--data", "missing"], "--data missing: no such folder"),
        (["hey nova", "--negatives", "missing"], "--negatives missing: no such folder"),
        (["hey nova", "--own", "missing"], "--own missing: no such folder"),
        (["hey nova", "--teacher", "t.keras"], "--teacher t.keras: no such file"),
        (["hey nova", "--for", "toaster"], "--for toaster: must be esphome"),
        (["hey nova", "--for", "esphome", "--hop-ms", "20"], "take --hop-ms 10"),
        (["hey nova", "--for", "esphome", "--network", "wakeword_250k"], "take mixed_net for hops of 10 ms"),
        (["hey nova", "--fa-per-hour", "0"], "--fa-per-hour 0.0: must be above 0"),
        (["hey nova", "--hours", "-1"], "--hours -1.0: must be above 0"),
        (["hey nova", "--styles", ".", "--voices", "espeak"], "--styles: goes with --voices kokoro"),
        (["hey zyxquaba", "--voices", "espeak"], "'zyxquaba' is not in the pronouncing dictionary"),
        (["hey nova", "--voices", "espeak", "--count", "2"], "no clip of the phrase would be left for"),
    ],
)
def test_what_is_refused_leaves_nothing(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in _error(*arguments, "--out", "out")
    assert not list(tmp_path.iterdir())


def test_folders_that_hold_something_else_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    assert "holds something else" in _error("hey nova", "--voices", "espeak", "--out", str(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    common = ["hey nova", "--voices", "espeak", "--out", str(tmp_path / "out")]
    assert "0 recordings" in _error(*common, "--own", str(empty))
    assert "0 sound files" in _error(*common, "--negatives", str(empty))
    assert "no sound files" in _error(*common, "--rooms", str(empty))
    inside = str(tmp_path / "empty" / "out")
    assert "lies in --data" in _error("hey nova", "--voices", "espeak", "--out", inside, "--data", str(empty))
    assert "is also in --data" in _error(*common, "--data", str(empty), "--negatives", str(empty))


def test_what_is_all_but_the_phrase_is_not_said_against_it():
    """Neither by itself nor in a sentence; without such words there is no line of none."""
    entries = {
        "hey": "HH EY",
        "he": "HH IY",
        "nova": "N OW V AH",
        "noah": "N OW AH",
        "over": "OW V ER",
        "dinner": "D IH N ER",
    }
    words = pronouncing.Dictionary({word: [tuple(phones.split())] for word, phones in entries.items()})
    near = spoken_lines.of_phrase("hey nova", 5, 40, dictionary=words)
    clear = spoken_lines.of_phrase("hey nova", 5, 40, dictionary=words, least_distance=1.0)
    assert any(line.text == "he nova" for line, _ in near)
    assert sum(count for line, count in clear if line.kind != "wake") == 40
    assert {line.kind for line, _ in clear} >= {"near", "sentence"}
    assert not any("he nova" in line.text for line, _ in clear)
    assert [
        line.kind for line, _ in spoken_lines.of_phrase("hey nova", 5, 40, dictionary=words, least_distance=99.0)
    ] == ["wake"]


def test_a_phrase_of_one_syllable_and_sound_of_synthesizers_alone_are_warned_of(tmp_path, monkeypatch):
    def stop(*_):
        raise RuntimeError("enough")

    monkeypatch.setattr(speak, "opened", stop)
    text = io.StringIO()
    options = plan.Options("go", tmp_path / "out", voices=("espeak",), sizes=SIZES)
    with pytest.raises(RuntimeError, match="enough"):
        run.run(options, rich.console.Console(file=text, width=400))
    said = text.getvalue()
    assert "'go' has one syllable" in said and "will wake up by itself in a living room" in said
    assert "fetch-data musan" in said


def test_a_killed_parent_takes_its_workers_with_it(tmp_path):
    code = (
        "import os, multiprocessing, sys\n"
        "from tfmot_kws.commands.parts.phrase import render\n"
        "if __name__ == '__main__':\n"
        "    workers = render.Workers(2)\n"
        "    print(workers._pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    script = tmp_path / "killed.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    child = int(done.stdout)
    for _ in range(100):
        status = pathlib.Path(f"/proc/{child}/status")
        if not status.exists() or "\nState:\tZ" in status.read_text():
            return
        time.sleep(0.1)
    pytest.fail(f"worker {child} lives on")


def test_what_is_measured_pauses_around_the_phrase_and_talks_on_without_it() -> None:
    with_phrase, without, sparse = (
        render.listening(kind, 60.0) for kind in (render.WITH, render.WITHOUT, render.SPARSE)
    )
    assert (with_phrase.joined, with_phrase.pause) == (0.0, render.APART) and render.APART[0] >= 0.4
    assert (without.joined, without.keywords, sparse.keywords) == (1 / 3, 0.0, 0.0) and without.pause[0] < 0.1
    assert render.training(render.WITH, 60.0).joined == 1 / 3  # trained on both
